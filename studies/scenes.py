"""What the points of several studies begin with, and how they judge an estimate or a kernel."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dipfilters import (
    ExponentialAverage,
    SpectralTwicing,
    WindowedVariance,
    add_noise,
    load_image,
    psnr,
    step_grid,
)
from dipfilters.empirical import JacobianFilter, krylov_filter
from dipfilters.filters import Filter
from dipfilters.images import PICTURES
from dipfilters.provenance import digest
from dipfilters.shift_invariant import CosineFilter, gaussian_blur, wiener
from dipfilters.training import Measure, TrainingStep
from dipfilters.twicing import DivergenceError
from studies.learners import zero_shot

SIGMA = 25 / 255
LAST = 10**12  # steps of twicing: the best of a narrow network's own filter come after 1e8
EPOCHS = 2000  # of the network that learns from the noisy picture alone, as published
SPREADS = [float(s) for s in np.geomspace(0.3, 3.0, 40)]  # of the blur, among which an oracle chooses

# Powers of the width c in the steps of the first, the hidden and the last convolutions; see own_kernel.
LAWS = {"features": (-1.0, -1.0, -1.0), "kernel": (-0.5, -1.5, -1.0)}


Numbers = dict[str, float]
Curves = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Scene:
    """Pictures in float32 on one device.

    Attributes:
        clean, noisy: x and y.
        fresh: x with noise that no training sees.
        other_clean, other: Another picture, and that with noise.
        fed: The noise that the network is fed with.
        sigma: σ of the noise.
    """

    clean: Tensor
    noisy: Tensor
    fresh: Tensor
    other_clean: Tensor
    other: Tensor
    fed: Tensor
    sigma: float


def picture_names(folder: str | None, own: list[str]) -> list[str]:
    """The names of a reader's pictures in a folder, or those given."""
    if folder is None:
        return own
    kinds = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
    names = sorted(path.name for path in Path(folder).iterdir() if path.suffix.lower() in kinds)
    if not names:
        raise ValueError(f"{folder} holds no picture; use PNG, JPEG or TIFF files")
    return names


def picture(name: str, folder: str | None, **options: Any) -> Tensor:
    """A picture by its name, from the reader's folder if it is not one of the book's."""
    found = load_image(name if name in PICTURES or folder is None else Path(folder) / name, **options)
    return found if options.get("gray") else found.expand(3, -1, -1).clone()  # a grey file beside others


def chance(*what: object) -> torch.Generator:
    """A source of chance of its own for everything that is drawn: the same for the same words."""
    return torch.Generator().manual_seed(int(digest(" ".join(map(str, what))), 16) % 2**63)


def scene(
    name: str,
    other: str,
    draw: int,
    *,
    side: int,
    sigma: float,
    device: str,
    folder: str | None,
    channels: int = 32,
    gray: bool = True,
) -> Scene:
    """A picture, its noise and the network's input, drawn for this picture and draw alone."""
    clean, other_clean = (picture(n, folder, size=side, gray=gray) for n in (name, other))
    noises = [chance(name, draw, side, what) for what in ("noise", "fresh noise", "other noise")]
    noisy, fresh, beside = (
        add_noise(x, sigma, generator=noise)
        for x, noise in zip((clean, clean, other_clean), noises, strict=True)
    )
    fed = torch.randn(channels, side, side, generator=chance(name, draw, side, "input"))
    clean, noisy, fresh, other_clean, beside, fed = (
        x.to(device) for x in (clean, noisy, fresh, other_clean, beside, fed)
    )
    return Scene(clean, noisy, fresh, other_clean, beside, fed, sigma)


def first_below(misfits: np.ndarray, sigma: float) -> int:
    """Where the mean squared residual first falls to σ²; the last place if nowhere."""
    below = np.flatnonzero(misfits <= sigma**2)
    return int(below[0]) if len(below) else len(misfits) - 1


def judged_path(estimates: Tensor, noisy: Tensor, clean: Tensor, sigma: float) -> Numbers:
    """The best PSNR on a path of estimates, that of the discrepancy stop, and where both are."""
    values = np.array([psnr(z, clean) for z in estimates])
    misfits = (noisy - estimates).double().square().mean((1, 2, 3)).cpu().numpy()
    best, stop = int(values.argmax()), first_below(misfits, sigma)
    return {"best": values[best], "at": best, "discrepancy": values[stop], "discrepancy at": stop}


def judged_kernel(network: nn.Module, at: Scene, products: int) -> tuple[Numbers, Curves]:
    """Twicing with a network's kernel as it is, of the noisy picture, of fresh noise, of another picture.

    The kernel is taken in float64, in the Krylov space of three pictures and so many products.
    """
    double = [x.double() for x in (at.noisy, at.fresh, at.other, at.clean, at.clean, at.other_clean)]
    channels = len(at.noisy)
    stacks = [x.reshape(1, channels * x.shape[1], x.shape[2]) for x in double]
    kernel = JacobianFilter(network.double(), at.fed.double())
    return judged_filter(krylov_filter(kernel, torch.cat(stacks[:3]), products), stacks, at.sigma)


def judged_filter(filter: Filter, pictures: list[Tensor], sigma: float) -> tuple[Numbers, Curves]:
    """The same for any symmetric filter: three noisy pictures, then three clean ones."""
    twicing, grid = SpectralTwicing(filter), step_grid(LAST, 160)
    numbers: Numbers = {"largest eigenvalue": 1.0 / filter.scale}
    curves: Curves = {"kernel steps": np.array(grid, np.float32)}
    for name, noisy, clean in zip(("noisy", "fresh", "other"), pictures[:3], pictures[3:], strict=True):
        path = twicing.estimate(noisy, grid)
        found = judged_path(path, noisy, clean, sigma)
        numbers |= {
            f"{name} best": found["best"],
            f"{name} best step": grid[int(found["at"])],
            f"{name} discrepancy": found["discrepancy"],
            f"{name} discrepancy step": grid[int(found["discrepancy at"])],
        }
        curves[f"{name} psnr"] = np.array([psnr(z, clean) for z in path])
    return numbers, curves


def until_divergence(run: Iterator[TrainingStep]) -> Iterator[TrainingStep]:
    """A run that ends without an error where its loss is infinite."""
    with contextlib.suppress(DivergenceError):
        yield from run


class Watch:
    """What is measured at every step of a run, its best step by the clean picture, and the weights there."""

    def __init__(self, model: nn.Module, at: Scene) -> None:
        self.model, self.at = model, at
        self.best, self.best_step = -math.inf, 0
        self.best_weights: dict[str, Tensor] = {}
        self.best_estimate = at.noisy
        self.rule, self.average = WindowedVariance(patience=10**9), ExponentialAverage()
        self._begun = time.perf_counter()

    def every(self) -> dict[str, Measure]:
        """The measures for :func:`dipfilters.training.follow`."""
        return {
            "psnr": self.psnr,
            "misfit": self.misfit,
            "averaged": self.averaged,
            "seconds": self.seconds,
        }

    def psnr(self, now: TrainingStep) -> float:
        value = psnr(now.estimate, self.at.clean)
        self.rule.update(now.estimate)
        if value > self.best:
            self.best, self.best_step, self.best_estimate = value, now.number, now.estimate
            self.best_weights = {n: w.clone() for n, w in self.model.state_dict().items()}
        return value

    def averaged(self, now: TrainingStep) -> float:
        return psnr(self.average.update(now.estimate), self.at.clean)

    def misfit(self, now: TrainingStep) -> float:
        return 2 * now.loss / self.at.noisy.numel()

    def seconds(self, now: TrainingStep) -> float:
        return time.perf_counter() - self._begun

    def judged(self, found: dict[str, np.ndarray], steps: int) -> tuple[Numbers, Curves]:
        """What a run of at most ``steps`` gave, from what :func:`dipfilters.training.follow` found."""
        last, stop = int(found["steps"][-1]), first_below(found["misfit"], self.at.sigma)
        quiet = self.rule.best_step
        numbers = {
            "best": self.best,
            "best step": self.best_step,
            "last step": last,
            "real maximum": self.best_step <= 0.9 * last,
            "diverged": last < steps and not self.is_past_its_best(last),
            "end": found["psnr"][-1],
            "averaged best": found["averaged"].max(),
            "averaged end": found["averaged"][-1],
            "discrepancy": found["psnr"][stop],
            "discrepancy step": stop,
            "reached discrepancy": found["misfit"][stop] <= self.at.sigma**2,
            "windowed variance": math.nan if quiet is None else found["psnr"][quiet],
            "windowed variance step": math.nan if quiet is None else quiet,
            "seconds of training": found["seconds"][-1],
        }
        looked, values = thinned(found["psnr"])
        curves = {"psnr steps": looked, "psnr": values}
        curves |= {name: found[name][looked] for name in ("averaged", "misfit")}
        return numbers, curves | {"seconds curve": found["seconds"][looked]}

    def is_past_its_best(self, number: int) -> bool:
        """Twice as many steps as to the best, and the window and patience of the rule."""
        return number > 2 * self.best_step + 400


def best_blur(at: Scene) -> tuple[CosineFilter, float, float]:
    """The Gaussian blur of the spread that an oracle chooses, that spread, and its PSNR."""
    shape, device = (at.noisy.shape[1], at.noisy.shape[2]), at.noisy.device
    blurs = [gaussian_blur(shape, spread, device=device) for spread in SPREADS]
    values = [psnr(blur.apply(at.noisy), at.clean) for blur in blurs]
    best = int(np.argmax(values))
    return blurs[best], SPREADS[best], values[best]


def baselines(at: Scene, epochs: int = EPOCHS) -> Numbers:
    """What is not the deep image prior; the strength of blur and non-local means by the clean picture.

    BM3D is that of the package bm3d, free for non-commercial use only; NaN where it is not installed.
    ZS-N2N is a small network that learns from the noisy picture alone, after so many epochs.
    """
    from skimage.restoration import denoise_nl_means

    _, spread, blurred = best_blur(at)
    learnt = next(zero_shot(at.noisy, [epochs]))
    noisy = at.noisy.double().permute(1, 2, 0).cpu().numpy()
    noisy, axis = (noisy[..., 0], None) if noisy.shape[2] == 1 else (noisy, 2)
    options = {"patch_size": 5, "patch_distance": 6, "sigma": at.sigma, "channel_axis": axis}
    means = [denoise_nl_means(noisy, h=h * at.sigma, **options) for h in (0.4, 0.6, 0.8, 1.0, 1.2)]
    return {
        "noisy": psnr(at.noisy, at.clean),
        "blur": blurred,
        "blur spread": spread,
        "wiener": psnr(wiener(at.clean, at.sigma).apply(at.noisy), at.clean),
        "non-local means": max(_psnr_of(picture, at) for picture in means),
        "BM3D": _bm3d(noisy, at),
        "ZS-N2N": psnr(learnt, at.clean),
    }


def _bm3d(noisy: np.ndarray, at: Scene) -> float:
    """Its PSNR to a thousandth: it adds up in an order of its own at each call."""
    try:
        from bm3d import bm3d, bm3d_rgb
    except ImportError:
        return math.nan
    return round(_psnr_of((bm3d if noisy.ndim == 2 else bm3d_rgb)(noisy, at.sigma), at), 3)


def _psnr_of(picture: np.ndarray, at: Scene) -> float:
    """The PSNR of an array (H, W) or (H, W, C)."""
    channels = torch.from_numpy(picture).reshape(*picture.shape[:2], -1).permute(2, 0, 1)
    return psnr(channels.to(at.clean), at.clean)


def in_bytes(estimate: Tensor) -> np.ndarray:
    """A picture as it is stored: (H, W) or (H, W, 3) bytes."""
    pixels = (255 * estimate.detach().clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy()
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def thinned(values: np.ndarray, count: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Where a curve is looked at, 0 and then evenly on a logarithmic axis, and its values there."""
    last = len(values) - 1
    at = np.array([0, *step_grid(last, count)] if last > 0 else [0])
    return at, values[at]
