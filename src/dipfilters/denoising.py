"""Denoise a picture of one's own, with one call."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dipfilters.decoding import PictureError
from dipfilters.filters import Engine, Filter, Normalize, check_memory, device_memory
from dipfilters.images import check_detached, check_picture, check_sigma
from dipfilters.lanczos import LanczosTwicing
from dipfilters.networks import Architecture, vanilla
from dipfilters.ntk import TangentFilter
from dipfilters.parameters import check_positive
from dipfilters.twicing import step_grid, sure

_LAST_STEPS = (2_000, 20_000, 200_000)  # the last step looked at, and again if the best one comes later
_STOPS = 40  # steps that are compared, evenly on a logarithmic axis
_TOLERANCE = 1e-4  # of Lanczos: an error in no special direction, of which the random probe sees little
_TILE, _OVERLAP = 48, 16  # pixels a side, and shared by two neighbours at least
_BUDGET_S = 180.0  # where none is given, but for the exact filter
_TRIAL_SIDE = 96  # the exact filter is timed on a part of so many pixels a side
_TRIALS = 5  # tiles that are timed, where there are many
_CORRELATED = 0.05  # of neighbours in what was removed: 0.00 to −0.04 for white noise of a known σ, seen
_FAR = 1.25  # times σ, or less than that share of it: an estimate of σ that speaks against it
_CLIPPED = 0.01  # of the values: more of them at 0 or 1 exactly are no chance
_LARGEST_VALUE = 10.0  # no noise takes a picture in [0, 1] so far
_RUN_BYTES = 2_500  # a value of a tile, 2200 measured: the estimates of both runs, the basis of Lanczos twice
_KEPT_BYTES = 64  # a value of the picture: the probe and the sums over tiles

Tile = tuple[slice, slice]


class TimeBudgetError(RuntimeError):
    """More time than the stated budget; the message says what would fit."""


def check_time(spent: float, seconds: float, shape: Sequence[int], budget_s: float, power: int) -> None:
    """Refuse work on H×W pixels that takes longer than a budget, and grows as a power of their sides.

    Args:
        spent: What was spent on the trial, compiling included.
        seconds: What the work itself takes.

    Raises:
        TimeBudgetError: With a budget that is enough, and the size of a part that fits.
    """
    if spent + seconds > budget_s:
        left = 0.8 * budget_s - spent
        height, width = (int((max(left, 0) / seconds) ** (1 / power) * side) for side in shape)
        part = f", or take a part of {height}×{width} pixels" if min(height, width) > 0 else ""
        raise TimeBudgetError(
            f"this takes about {spent + seconds:.3g} s for {shape[0]}×{shape[1]} pixels here, over budget_s "
            f"= {budget_s:g}; allow budget_s = {math.ceil(1.25 * (spent + seconds))}{part}"
        )


def tiles(shape: Sequence[int], side: int) -> list[Tile]:
    """Tiles that cover H×W pixels, side×side or as large as the picture, row by row.

    They are spread evenly, and two neighbours share ``_OVERLAP`` pixels or more.
    """

    def along(length: int) -> list[slice]:
        count = max(1, math.ceil((length - _OVERLAP) / (side - _OVERLAP)))
        last = max(0, length - side)
        starts = [round(i * last / max(1, count - 1)) for i in range(count)]
        return [slice(start, min(start + side, length)) for start in starts]

    return [(rows, columns) for rows in along(shape[0]) for columns in along(shape[1])]


def _window(tile: Tensor) -> Float[Tensor, "h w"]:
    """The weight of each pixel of a tile: 1 inside, less towards its border, never 0."""
    height, width = (torch.arange(n, device=tile.device) + 0.5 for n in tile.shape[1:])
    down, right = (torch.minimum(r, r.flip(0)).clamp_max(_OVERLAP) / _OVERLAP for r in (height, width))
    return (down[:, None] * right).double()


@dataclass(frozen=True)
class Denoised:
    """What :func:`denoise` gives.

    Attributes:
        picture: The estimate, of the shape and dtype of the noisy picture; not clipped to [0, 1].
        steps: k of each tile, row by row: the number of steps of twicing, which stands for steps of gradient
            descent. One number if exact.
        tile: The size of the tiles in pixels, (height, width), or None if exact.
        sigma: σ, given or estimated.
        estimated: Whether it was estimated.
        finest: σ as the finest wavelets of the picture show it; of white noise where nothing is finer.
        correlation: Of neighbours in what was taken away; of white noise about 0.
        clipped: The share of values of the noisy picture that are 0 or 1 exactly.
        risk: Stein's estimate of the mean squared error per value.
        seconds: How long it took.
    """

    picture: Float[Tensor, "C H W"] = field(repr=False, compare=False)
    steps: tuple[int, ...]
    tile: tuple[int, int] | None
    sigma: float
    estimated: bool
    finest: float
    correlation: float
    clipped: float
    risk: float
    seconds: float

    def describe(self) -> str:
        """One line on how the picture was made, and what speaks against it."""
        least, most = min(self.steps), max(self.steps)
        way = f"{least} steps" if least == most else f"{least} to {most} steps"
        if self.tile is not None:
            way += f" in {len(self.steps)} tiles of {self.tile[0]}×{self.tile[1]} pixels"
        said = f"{way}, {'estimated ' * self.estimated}sigma = {255 * self.sigma:.1f}/255"
        show = f"the finest wavelets show {255 * self.finest:.1f}"
        if self.risk < 0:
            said += ", too large or of noise that is not white, since the estimated risk is negative"
        elif self.correlation > _CORRELATED or _FAR * self.finest < self.sigma:
            said += (
                f", too large or of noise that is not white, since {show}, and neighbours in what was taken "
                f"away correlate by {self.correlation:.2f}"
            )
        elif most == _LAST_STEPS[-1]:
            said += ", perhaps too small, since the last step looked at is the best"
        elif self.finest > _FAR * self.sigma:
            said += f", perhaps too small, since {show}, or the picture is of fine texture"
        if self.clipped > _CLIPPED:
            said += f", {self.clipped:.0%} of the values are clipped to 0 or 1"
        return f"{said}, in {self.seconds:.0f} s"


class _Stopped(NamedTuple):
    """z^k of a tile at its best k, and the terms of its divergence, one for each value."""

    estimate: Float[Tensor, "C h w"]
    spread: Float[Tensor, "C h w"]
    steps: int


def denoise(
    noisy: Float[Tensor, "C H W"],
    sigma: float | None = None,
    *,
    architecture: Architecture | None = None,
    exact: bool = False,
    budget_s: float | None = None,
    memory_gb: float = 8.0,
    seed: int = 0,
    progress: bool = True,
) -> Denoised:
    """Denoise a picture by the filter of an infinitely wide network, stopped without the clean picture.

    ::

        z^k = (I − (I − W)^k) y,   W = Theta(y) / λ_max,   k = argmin SURE

    as gradient descent would, on a network fed with the picture itself. SURE is Stein's estimate of the
    error, with the divergence of the whole map y → z^k(y), the making of the kernel included, by one random
    probe b: div ≈ bᵀ(z^k(y + εb) − z^k(y))/ε.

    Each tile of 48×48 pixels is denoised by a network of its own, with its own k, and neighbours that overlap
    are blended. That takes time in proportion to the pixels, where one filter for the whole picture takes the
    square, and lets a texture stop later than a sky.

    Args:
        noisy: y, values about [0, 1]; grey or colour.
        sigma: The standard deviation of the noise, in the unit of the pixels: 25/255, not 25. None estimates
            it from the finest wavelets of the picture, which takes white noise for granted.
        architecture: The network; one hidden layer of 11×11 convolutions if None.
        exact: Take the one filter of the whole picture.
        budget_s: How many seconds there are, the trial on a part that estimates the time included. None is
            180, or as long as it takes if exact.
        memory_gb: How much memory may be used, in GB.
        seed: Of the probe.
        progress: Show a bar, and the time left.

    Raises:
        PictureError: Not a picture, too small for the network, far outside [0, 1], or one that requires a
            gradient.
        ValueError: sigma outside (0, 1], or estimated as 0; a budget that is not positive and finite.
        TimeBudgetError: The picture takes longer than ``budget_s``.
        MemoryBudgetError: The picture is too large for ``memory_gb``, or for what is free on its graphics
            card.

    On a graphics card whose memory runs out, the work is done again in smaller pieces.

    Cost: two runs of twicing a tile, each a dozen or two products with its kernel of 2304² values.

    Source: Tachella, Tang and Davies (2021) [tachella2021]; Ramani, Blu and Unser (2008) [ramani2008]; Donoho
    and Johnstone (1994) for the estimate of sigma.
    """
    begun = perf_counter()
    check_picture(noisy, "noisy")
    check_detached(noisy, "noisy")
    least, most = map(float, noisy.aminmax())
    if max(-least, most) > _LARGEST_VALUE:
        raise PictureError(f"noisy must lie about [0, 1], got {least:g} to {most:g}; divide bytes by 255")
    budget = (math.inf if exact else _BUDGET_S) if budget_s is None else budget_s
    check_positive("budget_s", 1.0 if budget_s is None else budget_s)
    check_positive("memory_gb", memory_gb)
    from tqdm import tqdm

    network, shape = architecture or vanilla(1, 11), noisy.shape[1:]
    side = max(shape) if exact else _TILE
    values = len(noisy) * math.prod(min(n, side) for n in shape)
    kept, run = _KEPT_BYTES * noisy.numel(), _RUN_BYTES * values
    check_memory(kept + run, shape, memory_gb, "memory_gb")
    left_gb = memory_gb - (kept + run) / 1e9
    finest = _finest_wavelets(noisy)
    level = finest if sigma is None else sigma
    if sigma is None and not 1e-6 < level <= 1:  # rounding, where a picture is flat
        raise ValueError(
            f"sigma was estimated as {level:.2g}, of a picture without noise perhaps; give sigma"
        )
    check_sigma(level)
    if level == 0:
        raise ValueError("sigma must be positive, got 0; a picture without noise needs no denoising")
    side_by_side = 1
    if len(tiles(shape, side)) > 1 and noisy.device.type == "cpu":
        side_by_side = min(torch.get_num_threads(), int((1e9 * memory_gb - kept) / run))
    options: Any = {"device": "cpu", "dtype": torch.float64}  # whatever the defaults are
    # Noise drawn with this very seed must not be the probe: what depends on it has another divergence.
    chance = torch.Generator().manual_seed((seed * 2_654_435_761 + 1_013_904_223) % 2**32)
    probe = torch.randn(noisy.shape, generator=chance, **options)
    probe = probe.to(noisy.device)

    def stopped(tile: Tile) -> _Stopped:
        part = (slice(None), *tile)
        return _stopped(noisy[part].double(), probe[part], level, network, memory_gb, left_gb)

    with device_memory(shape, noisy.device), _threads(side_by_side) as pool:
        while True:
            parts = tiles(shape, side)
            trials, share = _trials(noisy, parts, max(_TRIAL_SIDE, network.radius + 1), side_by_side)
            try:
                if budget < math.inf:
                    stopped(trials[0])  # the first call compiles
                break
            except PictureError:  # a tile may be too small for the network where the picture is not
                if len(parts) == 1:
                    raise
                side *= 2
        if budget < math.inf:
            compiled = perf_counter()
            list(pool.map(stopped, trials))
            now = perf_counter()
            check_time(now - begun, (now - compiled) / share, shape, budget, power=4 if exact else 2)
        picture, spread = torch.zeros_like(probe), torch.zeros_like(probe)
        weights, steps = torch.zeros_like(probe[0]), []
        done = tqdm(pool.map(stopped, parts), "denoising", len(parts), unit="tile", disable=not progress)
        for tile, found in zip(parts, done, strict=True):
            window = _window(found.estimate)
            picture[:, *tile] += window * found.estimate
            spread[:, *tile] += window * found.spread
            weights[tile] += window
            steps.append(found.steps)
    picture, divergence = picture / weights, (spread / weights).sum()
    return Denoised(
        picture=picture.to(noisy.dtype),
        steps=tuple(steps),
        tile=None if exact or len(parts) == 1 else (min(shape[0], side), min(shape[1], side)),
        sigma=level,
        estimated=sigma is None,
        finest=finest,
        correlation=_correlation(noisy.double() - picture),
        clipped=float(((noisy == 0) | (noisy == 1)).double().mean()),
        risk=float(sure(picture, noisy.double(), level, divergence)),
        seconds=perf_counter() - begun,
    )


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """So many threads for work side by side, if more than one with one thread of libraries each.

    Two threads in one product of small matrices spend most of their time on waiting for each other, and more
    where another process holds a core. What one thread finds does not depend on how many there are.
    """
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    with ThreadPoolExecutor(count) as pool, threadpool_limits(1 if count > 1 else None):
        torch.set_num_threads(1 if count > 1 else before)
        try:
            yield pool
        finally:
            torch.set_num_threads(before)


def _trials(noisy: Tensor, parts: list[Tile], side: int, side_by_side: int) -> tuple[list[Tile], float]:
    """Tiles to time, and their share of the whole work; of one filter a part, up to side×side pixels."""
    shape = noisy.shape[1:]
    if len(parts) > 1:
        parts = [part for part in parts if bool(noisy[:, *part].any())] or parts  # black ones take no time
        count = min(_TRIALS, 1 + len(parts) // 16)
        count = min(len(parts), -(-count // side_by_side) * side_by_side)
        return [parts[(2 * i + 1) * len(parts) // (2 * count)] for i in range(count)], count / len(parts)
    height, width = (min(n, side) for n in shape)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    # The kernel has as many entries as there are pairs of pixels.
    share = (height * width / math.prod(shape)) ** 2
    return [(slice(top, top + height), slice(left, left + width))], share


def _finest_wavelets(noisy: Tensor) -> float:
    """The standard deviation of white noise, from the finest wavelet coefficients, the mean over channels."""
    from skimage.restoration import estimate_sigma

    with warnings.catch_warnings():  # of a channel without any detail
        warnings.simplefilter("ignore")
        found = estimate_sigma(noisy.cpu().double().numpy(), average_sigmas=True, channel_axis=0)
    return 0.0 if math.isnan(found) else float(found)


def _correlation(residual: Tensor) -> float:
    """The correlation of pixels with their neighbours to the right and below, the mean of both; 0 if flat."""
    rest = residual - residual.mean((1, 2), keepdim=True)
    both = (rest[:, 1:] * rest[:, :-1]).mean() + (rest[..., 1:] * rest[..., :-1]).mean()
    return float(both.nan_to_num() / (2 * rest.square().mean()).clamp_min(1e-300))


def _stopped(
    part: Tensor,
    probe: Tensor,
    sigma: float,
    network: Architecture,
    memory_gb: float,
    left_gb: float,
) -> _Stopped:
    """Twicing of a tile up to the step that SURE chooses."""
    if not bool(part.any()):  # black: it stays so, and its kernel is 0
        return _Stopped(part, torch.zeros_like(part), 1)
    epsilon = sigma / 20

    def run(picture: Tensor, normalize: Normalize, steps: list[int]) -> tuple[Tensor, float]:
        """The whole map y → z^k(y), the making of the kernel included, and the step size η that was taken."""
        filter: Filter = _filter(picture, network, normalize, memory_gb)
        last, tolerance = steps[-1], _TOLERANCE
        twicing = LanczosTwicing(filter, picture, last=last, tolerance=tolerance, budget_gb=left_gb)
        return twicing.estimate(steps), filter.scale

    for last in _LAST_STEPS:
        steps = step_grid(last, _STOPS)
        estimates, scale = run(part, "spectral", steps)
        spread = run(part + epsilon * probe, scale, steps)[0].sub_(estimates).mul_(probe / epsilon)
        best = int(sure(estimates, part, sigma, spread.sum(dim=(1, 2, 3))).argmin())
        if best < len(steps) - 1:
            break
    return _Stopped(estimates[best], spread[best], steps[best])


def _filter(picture: Tensor, network: Architecture, normalize: Normalize, memory_gb: float) -> TangentFilter:
    by_displacements: Engine = "batched" if picture.device.type == "cuda" else "cpu"
    engine: Engine = by_displacements if network.pad_once else "reference"
    return TangentFilter(picture, network, normalize=normalize, engine=engine, budget_gb=memory_gb)
