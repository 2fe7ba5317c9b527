"""Products with a kernel matrix in torch, on any device: batches of displacements at a time.

Products in float32 with the kernel of one hidden layer go to :mod:`~dipfilters.engines.card` where that can
be used. All others, and all matrices, stay here.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dipfilters.engines.program import ActivationStage, KernelProgram, MeanStage, box_mean
from dipfilters.kernels import kappa0, kappa1, leaky_relu_weights

_BATCH_ENTRIES = 2**24  # of one plane of a batch: 67 MB in float32, and up to nine such at a time
_LEAST_ENTRIES = 2**18  # smaller pieces would free next to nothing
_FOLD = 32  # so many products are added in their own precision before they join a float64 sum
_ROUNDING = 16  # rounding steps: a sine below their root is one of two parallel patches


class _Batch(NamedTuple):
    """The planes of K for the displacements (t, t_c) and (t, t_c − W), for one t and several t_c ≥ 0.

    Attributes:
        down: t.
        partners: (b, W): the column c + t_c, or c + t_c − W, of the other pixel.
        sources: (b, W): the column whose partner a column is.
        planes: (b, H − t, W): K between (r, c) and (r + t, partner of c).
    """

    down: int
    partners: Tensor
    sources: Tensor
    planes: Tensor


def product(
    program: KernelProgram,
    padded: Float[Tensor, "C h w"],
    columns: Float[Tensor, "N m"],
    *,
    dtype: torch.dtype = torch.float32,
    batch_entries: int = _BATCH_ENTRIES,
) -> Float[Tensor, "N m"]:
    """K times columns, in float64, on the device of the padded picture.

    ::

        (K v)_i = Σ_j K_ij v_j,   j over all N pixels

    Args:
        program: What K is.
        padded: The picture, padded by half of ``program.shrink`` on every side.
        columns: v, one a column.
        dtype: The precision of the planes; for the error see :mod:`dipfilters.engines`. No product of
            matrices is formed, so that TF32 plays no part.
        batch_entries: How many entries of planes are computed at a time; where the device's memory runs
            out, the work is done again with a quarter of them, a few times.

    Raises:
        ProgramError: Columns that do not fit the picture, or a picture that is too small.
        torch.OutOfMemoryError: Not even the smallest pieces fit.

    Cost: N² kernel values, half of them computed. Nine times ``batch_entries`` values of memory at most, by
    the count of a test; four times for a Gaussian.
    """
    program.check(padded, columns)
    return _in_pieces(lambda entries: _product(program, padded, columns, dtype, entries), batch_entries)


def _product(
    program: KernelProgram, padded: Tensor, columns: Tensor, dtype: torch.dtype, entries: int
) -> Tensor:
    height, width = program.shape(padded)
    device = padded.device
    v = columns.detach().to(device, torch.float64).T.reshape(-1, height, width)
    card = _card(device) if dtype == torch.float32 else None
    if card is not None and (coefficients := card.one_layer(program)) is not None:
        out: Tensor = card.product(program, coefficients, padded.detach(), v.reshape(len(v), -1))
        return (out + program.diagonal(padded) * v.reshape(len(v), -1)).T.to(columns.device)
    low, total = v.to(dtype), torch.zeros_like(v)
    for batch in _batches(program, padded, dtype, entries):
        _add_products(total, low, *batch)
        del batch  # before the next one is made
    result = total.reshape(len(v), -1).T + program.diagonal(padded)[:, None] * v.reshape(len(v), -1).T
    return result.to(columns.device)


def _card(device: torch.device) -> ModuleType | None:
    """The module of kernels in Triton, where Triton is installed and compiles for this device.

    With ``TRITON_INTERPRET=1`` in the environment, its interpreter runs them on the processor, for tests.
    """
    if device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1":
        try:
            card = importlib.import_module("dipfilters.engines.card")
            return card if card.works(device) else None
        except ModuleNotFoundError as error:
            if error.name != "triton":
                raise
    return None


def _add_products(
    out: Tensor, columns: Tensor, down: int, partners: Tensor, sources: Tensor, planes: Tensor
) -> None:
    """Add to out (m, H, W), in float64, what a batch contributes to the products with the columns."""
    rows = out.shape[1] - down
    moved = planes.gather(2, sources[:, None].expand_as(planes)) if down else planes
    for total, column in zip(out, columns, strict=True):
        _add_sums(total[:rows], column[down:, partners].transpose(0, 1).mul_(planes))
        if down:  # for t = 0 the displacements t_c and −t_c are both walked over
            _add_sums(total[down:], column[:rows, sources].transpose(0, 1).mul_(moved))


def _add_sums(total: Tensor, products: Tensor) -> None:
    """Add all planes of products to a float64 plane, a few at a time in their own precision.

    A float64 sum over all of them at once would copy them into float64 first, as torch does.
    """
    for few in torch.split(products, _FOLD):
        total += few.sum(0)


def dense(
    program: KernelProgram,
    padded: Float[Tensor, "C h w"],
    *,
    dtype: torch.dtype = torch.float32,
    batch_entries: int = _BATCH_ENTRIES,
) -> Float[Tensor, "N N"]:
    """The matrix K itself, in float64 and symmetric to the last digit, on the device of the picture.

    Arguments and errors are those of :func:`product`.

    Cost: 8 N² bytes, besides the memory of :func:`product`.
    """
    return _in_pieces(lambda entries: _dense(program, padded, dtype, entries), batch_entries)


def _dense(program: KernelProgram, padded: Tensor, dtype: torch.dtype, entries: int) -> Tensor:
    height, width = program.shape(padded)
    matrix = torch.zeros(height * width, height * width, dtype=torch.float64, device=padded.device)
    columns = torch.arange(width, device=padded.device)
    for down, partners, _, planes in _batches(program, padded, dtype, entries):
        rows = torch.arange(height - down, device=padded.device)[:, None]
        near = (rows * width + columns).expand_as(planes)
        far = ((rows + down) * width + partners[:, None]).expand_as(planes)
        if down == 0:  # there the displacements t_c and −t_c are both walked over, and one will do
            once = near < far
            near, far, planes = near[once], far[once], planes[once]
        values = planes.double()
        matrix[near, far] = matrix[far, near] = values
    matrix.diagonal().copy_(program.diagonal(padded))
    return matrix


def _in_pieces(work: Callable[[int], Tensor], entries: int) -> Tensor:
    """The work with so many entries at a time, or as many as the device's memory holds."""
    while True:
        try:
            return work(entries)
        except torch.OutOfMemoryError:
            entries //= 4
            if entries < _LEAST_ENTRIES:
                raise
        torch.cuda.empty_cache()  # here, where the error no longer holds what was allocated


def _batches(program: KernelProgram, padded: Tensor, dtype: torch.dtype, entries: int) -> Iterator[_Batch]:
    """All planes of K but the diagonal.

    The displacements t_c and t_c − W overlap in W − t_c and t_c columns. Side by side, with a gap of the
    columns that the means take away, they fill rows of one length: see :mod:`~dipfilters.engines.loops`.
    """
    height, width = program.shape(padded)
    device, gap = padded.device, program.shrink
    x = padded.detach().double()
    if program.read == "gaussian":
        x, grade = x / program.bandwidth, 1.0
    else:
        largest = float(x.abs().max()) or 1.0
        x, grade = x / largest, largest**2
    norms = [power.sqrt().to(dtype) for power in program.powers(x)]
    x = x.to(dtype)
    across, below = program.factor(width + 1).to(device), program.factor(height).to(device)
    shifts = torch.nonzero((across + across.flip(0))[:width])[:, 0]
    column = torch.arange(width, device=device)
    position = torch.arange(width + 2 * gap, device=device)
    for down in torch.nonzero(below)[:, 0].tolist():
        rows = height - down + gap
        size = max(1, entries // (rows * len(position)))
        some = shifts[shifts > 0] if down == 0 else shifts
        for begin in range(0, len(some), size):
            shift = some[begin : begin + size, None]
            first = position < width + gap - shift
            near = torch.where(first, position, (position - gap).clamp_min(0))
            far = torch.where(first, position + shift, position - gap - width + shift)
            planes = _stages(program, x, norms, down, near, far)  # (b, H − t, W + gap)
            inside = column < width - shift
            planes = planes.gather(
                2, torch.where(inside, column, column + gap)[:, None].expand(-1, planes.shape[1], -1)
            )
            factor = torch.where(inside, across[shift], across[width - shift]) * (below[down] * grade)
            partners = (column + shift) % width
            yield _Batch(down, partners, (column - shift) % width, planes * factor.to(dtype)[:, None])


def _stages(
    program: KernelProgram, x: Tensor, norms: list[Tensor], down: int, near: Tensor, far: Tensor
) -> Tensor:
    """What is read off the planes of a batch, (b, rows, columns), whose gap holds finite numbers."""
    channels, tall = x.shape[:2]
    sigma: Tensor | None = None
    for channel in x:
        term = _at(channel[: tall - down], near)
        if program.read == "gaussian":
            term.sub_(_at(channel[down:], far)).square_()
        else:
            term.mul_(_at(channel[down:], far))
        sigma = term if sigma is None else sigma.add_(term)
    assert sigma is not None
    sigma = sigma.div_(channels)
    theta: Tensor | None = None  # zero
    lost, activations = 0, iter(norms)
    for stage in program.stages:
        if isinstance(stage, MeanStage):
            lost += stage.size - 1
            sigma = box_mean(sigma, stage.size)
            if theta is not None:
                theta = box_mean(theta, stage.size)
            if stage.part and program.read == "theta":
                theta = sigma * stage.part if theta is None else theta.add_(sigma, alpha=stage.part)
        else:
            norm = next(activations)
            keep = near.shape[1] - lost
            norms_of_pairs = _at(norm[: len(norm) - down], near[:, :keep])
            norms_of_pairs *= _at(norm[down:], far[:, :keep])
            sigma, theta = _activate(stage, sigma, theta, norms_of_pairs)
    if program.read == "gaussian":
        return sigma.neg_().exp_()
    if program.read == "sigma":
        return sigma
    return torch.zeros_like(sigma) if theta is None else theta


def _at(plane: Tensor, columns: Tensor) -> Tensor:
    """The columns of a plane for each displacement: (b, rows, columns)."""
    return plane[:, columns.clamp_max(plane.shape[1] - 1)].transpose(0, 1)


def _activate(
    stage: ActivationStage, sigma: Tensor, theta: Tensor | None, norms: Tensor
) -> tuple[Tensor, Tensor | None]:
    """V and V' of :mod:`dipfilters.ntk`, in the places of sigma and theta; ``norms`` is √(S_ii S_jj)."""
    kept, relu = leaky_relu_weights(stage.slope)
    tiny = torch.finfo(norms.dtype).tiny
    cosine = sigma.div_(norms.clamp_min(tiny)).clamp_(-1.0, 1.0).masked_fill_(norms == 0, 0.0)
    parallel = 1.0 - cosine.square() <= _ROUNDING * torch.finfo(norms.dtype).eps
    torch.where(parallel, cosine.sign(), cosine, out=cosine)
    if theta is not None:
        theta *= kappa0(cosine).mul_(relu).add_(kept)
    return norms.mul_(kappa1(cosine).mul_(relu).add_(cosine, alpha=kept)), theta
