"""Denoise a picture of one's own, with one call."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from dipfilters.filters import Engine, Filter, Normalize, check_memory, device_memory
from dipfilters.images import check_detached, check_picture, check_sigma
from dipfilters.lanczos import LanczosTwicing
from dipfilters.networks import Architecture, vanilla
from dipfilters.ntk import TangentFilter
from dipfilters.parameters import check_positive
from dipfilters.twicing import SpectralTwicing, monte_carlo_divergence, step_grid, sure

_LAST_STEPS = (3_000, 30_000, 300_000)  # the last step looked at, and again if the best one comes later
_STOPS = 40  # steps that are compared, evenly on a logarithmic axis
_TOLERANCE = 1e-5  # of Lanczos, a tenth of what a picture needs: the divergence is a difference of two runs
_PRODUCTS_A_RUN = 14  # with the picture as input, as a rule
_TRIAL_SIDE = 96  # a product is timed on a part of so many pixels a side, or as many as can be padded
_FEWEST_COLUMNS = 200  # with fewer the low rank shows in the picture
_EXACT_BYTES = 2_500  # a value, 2200 measured: the estimates of three runs, the basis of Lanczos twice


@dataclass(frozen=True)
class Denoised:
    """What :func:`denoise` gives.

    Attributes:
        picture: z^k, of the shape and dtype of the noisy picture; not clipped to [0, 1].
        steps: k, the number of steps of twicing, which stands for steps of gradient descent.
        columns: From how many columns of the kernel it was approximated, by Nyström; None if exact.
        risk: Stein's estimate of the mean squared error per value, by which k was chosen.
        seconds: How long it took.
    """

    picture: Float[Tensor, "C H W"] = field(repr=False, compare=False)
    steps: int
    columns: int | None
    risk: float
    seconds: float

    def describe(self) -> str:
        """One line on how the picture was made."""
        way = "exactly" if self.columns is None else f"approximately, from {self.columns} columns"
        return f"{self.steps} steps of twicing, computed {way}, in {self.seconds:.0f} s"


def denoise(
    noisy: Float[Tensor, "C H W"],
    sigma: float,
    *,
    architecture: Architecture | None = None,
    budget_s: float = 60.0,
    memory_gb: float = 8.0,
    seed: int = 0,
    progress: bool = True,
) -> Denoised:
    """Denoise a picture by the filter of an infinitely wide network, stopped without the clean picture.

    ::

        z^k = (I − (I − W)^k) y,   W = Theta(y) / λ_max,   k = argmin SURE

    as gradient descent on the network would from the picture itself. SURE is Stein's estimate of the error,
    with the divergence of the whole map y → z^k(y), the making of the kernel included, by one random probe.

    Args:
        noisy: y, values about [0, 1]; grey or colour.
        sigma: The standard deviation of the noise, in the unit of the pixels: 25/255, not 25.
        architecture: The network; one hidden layer of 11×11 convolutions if None.
        budget_s: How many seconds an exact result may take, by a trial on a part of the picture. Where it
            would take more, as it always would with 1e-9, the kernel is approximated by
            :meth:`dipfilters.filters.Filter.low_rank`. A network that does not pad once has its kernel formed
            whole, whatever the time.
        memory_gb: How much memory may be used, in GB.
        seed: Of the probe, and of the columns.
        progress: Show a bar.

    Raises:
        PictureError: Not a picture, too small for the network, or one that requires a gradient.
        ValueError: sigma outside (0, 1], a budget that is not positive and finite.
        MemoryBudgetError: The picture is too large for ``memory_gb``, or for what is free on its graphics
            card.

    On a graphics card whose memory runs out, the work is done again in smaller pieces.

    Cost: three runs of twicing, each a dozen or two products with the kernel, N² values a product, if exact;
    N·m values and about 4 N m² operations for m columns if not: 1024×1024 pixels, grey, took 132 seconds of
    one core and 6.3 GB.

    Source: Tachella, Tang and Davies (2021) [tachella2021]; Ramani, Blu and Unser (2008) [ramani2008].
    """
    check_picture(noisy, "noisy")
    check_detached(noisy, "noisy")
    check_sigma(sigma)
    if sigma == 0:
        raise ValueError("sigma must be positive, got 0; a picture without noise needs no denoising")
    check_positive("budget_s", budget_s)
    check_positive("memory_gb", memory_gb)
    from tqdm import tqdm

    begun = time.perf_counter()
    architecture = architecture or vanilla(1, 11)
    columns = None
    if architecture.pad_once and 3 * _PRODUCTS_A_RUN * _seconds_of_product(noisy, architecture) > budget_s:
        columns = _affordable_columns(noisy, architecture, memory_gb)
    else:
        check_memory(_EXACT_BYTES * noisy.numel(), noisy.shape[1:], memory_gb, "memory_gb")
    bar = tqdm(total=3, desc="denoising", unit="run", disable=not progress)

    def run(picture: Tensor, normalize: Normalize, steps: list[int]) -> tuple[Tensor, float]:
        """The whole map y → z^k(y), the making of the kernel included, and the step size η that was taken."""
        filter: Filter = _filter(picture, architecture, normalize, memory_gb)
        if columns is None:
            estimates = LanczosTwicing(filter, picture, last=steps[-1], tolerance=_TOLERANCE).estimate(steps)
        else:
            same_columns = torch.Generator().manual_seed(seed)
            filter = filter.low_rank(columns, generator=same_columns, budget_gb=memory_gb)
            estimates = SpectralTwicing(filter, budget_gb=memory_gb).estimate(picture, steps)
        bar.update()
        return estimates, filter.scale

    with bar, device_memory(noisy.shape[1:], noisy.device):
        for last in _LAST_STEPS:
            steps = step_grid(last, _STOPS)
            estimates, scale = run(noisy.double(), "spectral", steps)
            divergence = monte_carlo_divergence(
                lambda y, scale=scale, steps=steps: run(y, scale, steps)[0],  # type: ignore[misc]
                noisy,
                generator=torch.Generator().manual_seed(seed),
                epsilon=sigma / 20,
            )
            risks = sure(estimates, noisy.double(), sigma, divergence)
            best = int(risks.argmin())
            if best < len(steps) - 1:
                break
            bar.total += 3
        bar.total = bar.n
    return Denoised(
        picture=estimates[best].to(noisy.dtype),
        steps=steps[best],
        columns=columns,
        risk=float(risks[best]),
        seconds=time.perf_counter() - begun,
    )


def _filter(picture: Tensor, network: Architecture, normalize: Normalize, memory_gb: float) -> TangentFilter:
    by_displacements: Engine = "batched" if picture.device.type == "cuda" else "cpu"
    engine: Engine = by_displacements if network.pad_once else "reference"
    return TangentFilter(picture, network, normalize=normalize, engine=engine, budget_gb=memory_gb)


def _seconds_of_product(noisy: Tensor, architecture: Architecture) -> float:
    """The time of one product, from that of a part of the picture: it grows with the square of the pixels."""
    side = max(_TRIAL_SIDE, architecture.radius + 1)
    part = noisy[:, :side, :side].double()
    filter = _filter(part, architecture, 1.0, 1.0)
    filter.apply(part)  # the first call compiles
    begun = time.perf_counter()
    filter.apply(part)
    return (time.perf_counter() - begun) * (noisy[0].numel() / part[0].numel()) ** 2


def _affordable_columns(noisy: Tensor, architecture: Architecture, memory_gb: float) -> int:
    """One pixel in a hundred, or as many as fit, with 32 bytes an entry for what is made of it."""
    pixels = noisy[0].numel()
    first = next(architecture.convolutions())
    patches = 8 * pixels * len(noisy) * first.size**2
    check_memory(patches + 32 * pixels * _FEWEST_COLUMNS, noisy.shape[1:], memory_gb, "memory_gb")
    affordable = int((1e9 * memory_gb - patches) / (32 * pixels))
    return min(pixels, max(_FEWEST_COLUMNS, min(pixels // 100, affordable)))
