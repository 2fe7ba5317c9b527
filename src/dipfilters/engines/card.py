"""Products with the kernel of one hidden layer on a CUDA card, in one loop of Triton's.

Imported only where there is Triton; :mod:`~dipfilters.engines.batched` does the same work without it.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from dipfilters.engines.cpu import COSINE_ARC_SINE
from dipfilters.engines.program import ActivationStage, KernelProgram, MeanStage
from dipfilters.kernels import leaky_relu_weights

_ROWS = 32  # of a strip: the running sums of the columns begin anew in each
_COLUMNS = 64  # of a block, those included that the horizontal sums take away
_SHIFTS = 16  # displacements of a block, side by side in registers
_WARPS = 4
_PARALLEL = 16 * torch.finfo(torch.float32).eps  # a squared sine below it is one of two parallel patches


class Coefficients(NamedTuple):
    """K = ‖p‖ ‖q‖ (linear · cos φ + sine · sin φ + even · e(φ)), with e = cos φ asin(cos φ)/π.

    Attributes:
        size: The side of a patch.
        linear, sine, even: The three factors.
    """

    size: int
    linear: float
    sine: float
    even: float


def one_layer(program: KernelProgram) -> Coefficients | None:
    """The coefficients of a program with one mean over patches and one activation after it, else None.

    None as well for patches so large that a block of columns would hold few of them.

    ::

        S ← V(S),  Theta ← first · S V'(S) + last · V(S)
        V(S) = ‖p‖ ‖q‖ (kept c + relu κ₁),   S V'(S) = ‖p‖ ‖q‖ c (kept + relu κ₀),   c = cos φ
        κ₁ = sin φ/π + c/2 + e,   c κ₀ = c/2 + e

    where ``first`` and ``last`` are the parts of the means before and after the activation.
    """
    activations = [stage for stage in program.stages if isinstance(stage, ActivationStage)]
    if program.read == "gaussian" or len(activations) != 1:
        return None
    where = program.stages.index(activations[0])
    before, after = program.stages[:where], program.stages[where + 1 :]
    sizes = [[stage.size for stage in part if isinstance(stage, MeanStage)] for part in (before, after)]
    if len(sizes[0]) != 1 or any(size != 1 for size in sizes[1]) or sizes[0][0] > _COLUMNS // 2:
        return None
    first, last = (sum(s.part for s in part if isinstance(s, MeanStage)) for part in (before, after))
    if program.read == "sigma":
        first, last = 0.0, 1.0
    kept, relu = leaky_relu_weights(activations[0].slope)
    both = first + last
    return Coefficients(sizes[0][0], both * (kept + relu / 2), last * relu / math.pi, both * relu)


@cache
def works(device: torch.device) -> bool:
    """Whether Triton's loops compile for a device; if not, a warning says why, once."""
    means = MeanStage(3, 0.0), ActivationStage(0.0), MeanStage(1, 1.0)
    program, padded = KernelProgram(means, "theta"), torch.ones(1, 4, 4, device=device)
    coefficients = one_layer(program)
    assert coefficients is not None
    try:
        product(program, coefficients, padded, torch.ones(1, 4, device=device))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # what a compiler may raise is its own affair
        reason = str(error).partition("\n")[0]
        warnings.warn(
            f"Triton cannot compile here ({type(error).__name__}: {reason}), so that products take torch's "
            f"slower path; it needs a C compiler, and version 3.2 at least",
            stacklevel=2,
        )
        return False
    return True


def product(
    program: KernelProgram,
    coefficients: Coefficients,
    padded: Float[Tensor, "C h w"],
    v: Float[Tensor, "m N"],
) -> Float[Tensor, "m N"]:
    """K times the rows of v but for the diagonal of K, in float64 on the device of the picture.

    A block holds the products of a strip of rows with several displacements. It goes down the strip with one
    running sum for each column and displacement, sums over the columns of a patch, takes the sums through the
    kernel, multiplies them with all columns, and adds over its displacements: only that leaves the
    multiprocessor. Sums are in float32 over a strip and a block's displacements, beyond that in float64.

    Args:
        program: What K is.
        coefficients: Those of :func:`one_layer`.
        padded: As in :func:`dipfilters.engines.batched.product`.
        v: On the same device.

    Cost: N² kernel values, those of both halves of K, so that a block adds to nothing but its own rows. No
    memory but that of the picture and of the columns.
    """
    height, width = program.shape(padded)
    size, device = coefficients.size, padded.device
    largest = float(padded.abs().max()) or 1.0
    x = padded.double() / largest
    (power,) = program.powers(x)
    norms = power.sqrt().float().contiguous()
    inverses = torch.where(norms > 0, 1.0 / norms, 0.0)
    across, below = (program.factor(side).float().to(device) for side in (width, height))
    out = torch.zeros(len(v), height * width, dtype=torch.float64, device=device)
    inner = _COLUMNS - size + 1
    reach = width + inner - 1  # so many displacements lead from one of a block's columns into the picture
    grid = (
        triton.cdiv(reach, _SHIFTS) * triton.cdiv(width, inner),
        2 * height - 1,
        triton.cdiv(height, _ROWS),
    )
    with torch.cuda.device_of(padded):  # Triton starts its loops on torch's current card
        _walk[grid](
            out, x.float().contiguous(), v.float().contiguous(), norms, inverses, across, below,
            height, width, height + size - 1, width + size - 1, triton.cdiv(reach, _SHIFTS),
            coefficients.linear, coefficients.sine, coefficients.even,
            CHANNELS=len(x), COUNT=len(v), SIZE=size, LEVELS=size.bit_length(),
            ROWS=_ROWS, COLUMNS=_COLUMNS, SHIFTS=_SHIFTS, PARALLEL=_PARALLEL, SERIES=COSINE_ARC_SINE,
            num_warps=_WARPS,
        )  # fmt: skip
    return out * largest**2


def _jit(function: Callable[..., Any]) -> Any:
    """Triton's compiler reads the source of a function itself, not of one that pytest's checks wrap."""
    return triton.jit(inspect.unwrap(function))


@_jit
def _column_products(x, row, partner, near, far, tall, wide, mask_near, mask_far, CHANNELS: tl.constexpr):
    """The mean over the channels of x(row, near) x(partner, far), for shifts × columns."""
    total = tl.zeros(far.shape, tl.float32)
    for channel in tl.static_range(CHANNELS):
        plane = x + channel * tall * wide
        here = tl.load(plane + row * wide + near, mask=mask_near, other=0.0)
        there = tl.load(plane + partner * wide + far, mask=mask_far, other=0.0)
        total += here[None, :] * there
    return total


@_jit
def _walk(
    out, x, v, norms, inverses, across, below, height, width, tall, wide, groups, linear, sine, even,
    CHANNELS: tl.constexpr, COUNT: tl.constexpr, SIZE: tl.constexpr, LEVELS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SHIFTS: tl.constexpr, PARALLEL: tl.constexpr,
    SERIES: tl.constexpr,
):  # fmt: skip
    """One strip of rows, one displacement down, ``SHIFTS`` displacements across, one block of columns."""
    inner: tl.constexpr = COLUMNS - SIZE + 1
    start = (tl.program_id(0) // groups) * inner
    first = -(start + inner - 1) + (tl.program_id(0) % groups) * SHIFTS
    down = tl.program_id(1) - (height - 1)
    begin = tl.maximum(tl.program_id(2) * ROWS, -down)
    end = tl.minimum(tl.minimum((tl.program_id(2) + 1) * ROWS, height), height - down)

    lanes = tl.arange(0, COLUMNS)
    near = start + lanes
    shifts = first + tl.arange(0, SHIFTS)
    far = near[None, :] + shifts[:, None]
    padded_near = near < wide
    padded_far = (far >= 0) & (far < wide)
    inside_near = (lanes < inner) & (near < width)
    inside = inside_near[None, :] & (far >= 0) & (far < width) & ((shifts[:, None] != 0) | (down != 0))
    weights = tl.load(across + tl.abs(shifts), mask=tl.abs(shifts) < width, other=0.0)
    weights = weights * tl.load(below + tl.abs(down))
    share = 1.0 / (CHANNELS * SIZE * SIZE)

    sums = tl.zeros((SHIFTS, COLUMNS), tl.float32)
    if begin < end:
        for offset in range(SIZE - 1):
            row = begin + offset
            sums += _column_products(
                x, row, row + down, near, far, tall, wide, padded_near, padded_far, CHANNELS
            )
    row = begin
    while row < end:  # Triton's interpreter cannot take such bounds into a range
        last = row + SIZE - 1
        sums += _column_products(
            x, last, last + down, near, far, tall, wide, padded_near, padded_far, CHANNELS
        )
        # The sum over SIZE columns from sums over 1, 2, 4, … of them: the bits of SIZE say which.
        powers = sums
        boxes = tl.zeros((SHIFTS, COLUMNS), tl.float32)
        for level in tl.static_range(LEVELS):
            if (SIZE >> level) & 1:
                moved = tl.minimum(lanes + SIZE % (1 << level), COLUMNS - 1)[None, :]
                boxes += tl.gather(powers, tl.broadcast_to(moved, (SHIFTS, COLUMNS)), 1)
            if level + 1 < LEVELS:
                beside = tl.minimum(lanes + (1 << level), COLUMNS - 1)[None, :]
                powers += tl.gather(powers, tl.broadcast_to(beside, (SHIFTS, COLUMNS)), 1)
        sums -= _column_products(x, row, row + down, near, far, tall, wide, padded_near, padded_far, CHANNELS)

        here, there = row * width + near, (row + down) * width + far
        scale = tl.load(inverses + here, mask=inside_near, other=0.0)[None, :]
        scale = scale * tl.load(inverses + there, mask=inside, other=0.0)
        cosine = tl.clamp(boxes * share * scale, -1.0, 1.0)
        squared = (1.0 - cosine) * (1.0 + cosine)
        parallel = squared <= PARALLEL
        cosine = tl.where(parallel, tl.where(cosine > 0.0, 1.0, -1.0), cosine)
        angle_sine = tl.where(parallel, 0.0, tl.sqrt(squared))
        series = tl.zeros((SHIFTS, COLUMNS), tl.float32) + SERIES[len(SERIES) - 1]
        for index in tl.static_range(1, len(SERIES)):
            series = series * angle_sine + SERIES[len(SERIES) - 1 - index]
        values = linear * cosine + sine * angle_sine + even * series
        norm = tl.load(norms + here, mask=inside_near, other=0.0)[None, :]
        values *= norm * tl.load(norms + there, mask=inside, other=0.0) * weights[:, None]
        for column in tl.static_range(COUNT):
            other = tl.load(v + column * height * width + there, mask=inside, other=0.0)
            total = tl.sum(values * other, 0).to(tl.float64)
            tl.atomic_add(out + column * height * width + here, total, mask=inside_near, sem="relaxed")
        row += 1
