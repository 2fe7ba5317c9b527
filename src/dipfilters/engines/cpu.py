"""Products with a kernel matrix on the processor: compiled loops over the planes of all displacements."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from dipfilters.engines.program import ActivationStage, KernelProgram, MeanStage
from dipfilters.kernels import leaky_relu_weights
from dipfilters.parameters import check_whole

# κ₀ = 1/2 + cos φ · q(sin φ) for q(s) = asin(c)/(π c), c = √(1−s²), which is analytic on [0, 1] while κ₀
# itself has a root at c = 1. Of the interpolation of (q(s) − 1/2)/s in nine Chebyshev nodes: largest error
# of q 2e-8, of κ₀ and κ₁ 1.1e-8, none at φ = 0.
ARC_SINE = (
    0.5,
    -0.31830984988690747,
    0.24999408564796347,
    -0.2120442061454616,
    0.1857368723519919,
    -0.15982120084129042,
    0.12293734921400566,
    -0.07342560028163993,
    0.028320172998684993,
    -0.005077755575120523,
)

# cos φ asin(cos φ)/π as a polynomial in sin φ, found in the same way with eight nodes: largest error 2e-8.
# κ₁ = sin φ/π + cos φ/2 + this, and cos φ κ₀ = cos φ/2 + this.
COSINE_ARC_SINE = (
    0.5,
    -0.31830992335293584,
    -0.24999521230758454,
    0.10599951448015084,
    -0.06161675321413318,
    0.03858558334546913,
    -0.021418704029777302,
    0.008313100189809575,
    -0.0015576257815155259,
)

# 2^f for |f| ≤ 1/2, of the interpolation of (2^f − 1)/f in seven Chebyshev nodes.
POWER_OF_TWO = (
    1.0,
    0.6931471805599453,
    0.24022650922288763,
    0.05550410883910522,
    0.009618056678521874,
    0.0013333502384966778,
    0.00015461444699635,
    1.5297324125640444e-05,
)

# A slab takes about this many bytes: a few of them, and the rows that they are made from, stay in the first
# cache. Half as many for the Gaussian, which keeps a slab for each row of a patch.
_SLAB_BYTES = 2**13

# Rounding steps: a sine below their root is one of two parallel patches.
_ROUNDING = 16


def product(
    program: KernelProgram,
    padded: Float[Tensor, "C h w"],
    columns: Float[Tensor, "N m"],
    *,
    threads: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "N m"]:
    """K times columns, in float64.

    ::

        (K v)_i = Σ_j K_ij v_j,   j over all N pixels

    Args:
        program: What K is.
        padded: The picture, padded by half of ``program.shrink`` on every side.
        columns: v, one a column.
        threads: How many threads walk; None for as many as torch uses. One number gives the same bytes
            always, two numbers give sums in another order.
        dtype: The precision of the planes; for the error see :mod:`dipfilters.engines`. float64 takes twice
            the time.

    Raises:
        ProgramError: Columns that do not fit the picture, or a picture that is too small.
        ValueError: Fewer than one thread, or planes of another type.

    Cost: N² kernel values, half of them computed: about 0.2 ns each on two cores for one hidden layer, and
        hardly more for larger patches; a further column takes a sixth of a product. The C channels, two for
        each activation and the m columns are held twice, and each thread holds m planes in float64.
    """
    height, width = program.check(padded, columns)
    columns_here = columns.detach().to("cpu", torch.float64)
    v = columns_here.T.reshape(-1, height, width)
    outs = _walked(program, padded, v, np.empty((0, 0)), threads, dtype)
    product = outs.reshape(len(v), -1).T + program.diagonal(padded).cpu()[:, None] * columns_here
    return product.to(columns.device)


def dense(
    program: KernelProgram,
    padded: Float[Tensor, "C h w"],
    *,
    threads: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "N N"]:
    """The matrix K itself, in float64 and symmetric to the last digit.

    Arguments and errors are those of :func:`product`.

    Cost: 8 N² bytes, and for the most part the time to write them in the order of the displacements.
    """
    height, width = program.shape(padded)
    matrix = torch.zeros(height * width, height * width, dtype=torch.float64, device="cpu")
    none = matrix.new_zeros(0, height, width)
    _walked(program, padded, none, matrix.numpy(), threads, dtype)
    matrix.diagonal().copy_(program.diagonal(padded))
    return matrix.to(padded.device)


def _walked(
    program: KernelProgram,
    padded: Tensor,
    columns: Tensor,
    matrix: NDArray[np.float64],
    threads: int | None,
    dtype: torch.dtype,
) -> Tensor:
    """The products without the diagonal, (m, H, W); or ``matrix`` filled, if it has entries."""
    from dipfilters.engines import loops

    threads = check_whole("threads", torch.get_num_threads() if threads is None else threads, 1)
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    kind = np.float32 if dtype == torch.float32 else np.float64
    count, height, width = columns.shape
    stages, numbers, tail = _stages(program)
    x, grade = _scaled_picture(program, padded)
    scale = torch.ones(height, width, dtype=torch.float64, device="cpu")
    # The loops add where a mean divides too: what all of them divide by is taken from the picture at once.
    sizes = [stage.size if isinstance(stage, MeanStage) else 1 for stage in program.stages]
    divided = 1 / np.cumprod(sizes[::-1], dtype=np.float64)[::-1]
    after = [divided[k] for k, stage in enumerate(program.stages) if isinstance(stage, ActivationStage)]
    norms = np.zeros((len(after), *x.shape[1:]))
    for norm, power, factor in zip(norms, program.powers(x * math.sqrt(len(x))), after, strict=True):
        norm[: power.shape[0], : power.shape[1]] = np.sqrt(power.numpy()) * factor
    inverses = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    if tail and not matrix.size:
        scale = torch.from_numpy(norms[-1, :height, :width])
    period = x.shape[2]
    across, down = program.factor(period + 1), program.factor(height)
    shifts = np.flatnonzero((across + across.flip(0))[:period].numpy()).astype(np.uintp)
    read = {"sigma": 0, "theta": 1, "gaussian": 2}[program.read]
    shape = (len(x), count, x.shape[1], height, width, period)
    info = np.finfo(kind)
    constants = (0, 1, _ROUNDING * info.eps, 0.5, 1 / math.pi, info.minexp, 1.5 * 2.0**info.nmant)
    tuples = tuple(tuple(kind(a) for a in group) for group in (ARC_SINE, POWER_OF_TWO, constants))
    bits = np.array([kind(1).view(f"i{info.bits // 8}"), info.nmant], f"i{info.bits // 8}")
    planes = (x.numpy() * divided[0], (columns * scale).numpy(), inverses, norms)
    shared = [_twice(values, period, kind) for values in planes]
    weights = across.numpy() if program.spatial is not None else np.empty(0)

    def part(thread: int) -> NDArray[np.float64]:
        out = np.zeros((count, height, width))
        loops.walk(
            out.reshape(-1),
            matrix,
            *shared,
            shape,
            shifts,
            (thread, threads),
            weights.astype(kind),
            down.numpy().astype(kind),
            stages,
            numbers.astype(kind),
            read,
            tuples,
            bits,
            _SLAB_BYTES // (info.bits // 8) // (2 if program.read == "gaussian" else 1),
        )
        return out

    if threads == 1:
        outs = [part(0)]
    else:
        with ThreadPoolExecutor(threads) as pool:
            outs = list(pool.map(part, range(threads)))
    total = torch.from_numpy(sum(outs[1:], start=outs[0]))
    if matrix.size:
        matrix *= grade
    return total * scale * grade


def _stages(program: KernelProgram) -> tuple[NDArray[np.int64], NDArray[np.float64], bool]:
    """The stages as numbers (see ``loops.walk``), and whether the result is still to be given its norms."""
    from dipfilters.engines.loops import ACTIVATION, MEAN, TAIL

    activations = [k for k, stage in enumerate(program.stages) if isinstance(stage, ActivationStage)]
    after = program.stages[activations[-1] + 1 :] if activations else ()
    tail = bool(activations) and all(isinstance(stage, MeanStage) and stage.size == 1 for stage in after)
    last = activations[-1] if tail else len(program.stages)
    wanted, live, fresh = program.read == "theta", False, 0.0
    kinds: list[tuple[int, int, bool]] = []
    numbers: list[tuple[float, ...]] = []
    for k, stage in enumerate(program.stages[: last + 1]):
        if isinstance(stage, MeanStage):
            part = stage.part if wanted else 0.0
            fresh = part if tail and k + 1 == last and not live else 0.0  # the tail takes it: it is cos φ V'
            kinds.append((MEAN, stage.size, live))
            numbers.append((part - fresh,) + (0.0,) * 12)
            live = live or part > fresh
        else:
            tail_parts = sum(mean.part for mean in after if isinstance(mean, MeanStage))
            weight = tail_parts if wanted and k == last else 1.0
            kinds.append((TAIL if k == last else ACTIVATION, 1, live))
            kept, relu = leaky_relu_weights(stage.slope)
            both = weight + fresh
            polynomial = [both * relu * a for a in COSINE_ARC_SINE]
            polynomial[1] += weight * relu / math.pi
            numbers.append((kept, relu, weight, both * (kept + relu / 2), *polynomial))
            fresh = 0.0
    return np.array(kinds, np.int64).reshape(-1, 3), np.array(numbers).reshape(-1, 13), tail and not live


def _scaled_picture(program: KernelProgram, padded: Tensor) -> tuple[Tensor, float]:
    """The picture in a unit that suits the planes, and the factor that brings K back from it."""
    x = padded.detach().double().cpu() / math.sqrt(len(padded))
    if program.read == "gaussian":  # the box mean of squared differences is then the exponent of 1/2
        return x * (math.sqrt(1 / math.log(2)) / program.bandwidth), 1.0
    largest = float(x.abs().max()) or 1.0
    return x / largest, largest**2


def _twice(values: NDArray[np.float64], period: int, kind: DTypeLike) -> NDArray[np.floating]:
    """Rows of ``period`` numbers, zeros at their ends, twice in succession; flat."""
    row = np.zeros((*values.shape[:-1], 2, period), kind)
    row[..., : values.shape[-1]] = values[..., None, :]
    return row.reshape(-1)
