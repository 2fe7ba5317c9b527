"""The real thing: the deep image prior as published, in colour, beside what else denoises the same picture.

The network has five scales, 128 channels and 4 in its skip branches, batch normalisation, leaky ReLUs of
slope 0.2, mirrored borders, bilinear upsampling and a sigmoid. It is fed with 32 channels of uniform noise
on [0, 0.1], to which fresh noise of 1/30 is added at each step, and trained by Adam with the step 0.01 on
½‖f − y‖²; its outputs are averaged with 0.99. The full profile is made for two processor cores: 64 channels
at 128×128 pixels. The published profile has 128 channels at 256×256, for a graphics card.

The arms:

* ``baselines``: a Gaussian blur of oracle width, the Wiener filter, non-local means, a small network that
  learns from the noisy picture alone (ZS-N2N), BM3D where it is installed;
* ``picture``: twicing with the filter of an infinitely wide network of one hidden layer fed with the noisy
  picture, stopped by Stein's estimate and at its best; and in tiles, each with a stop of its own;
* ``noise``: twicing with the filter of an infinitely wide autoencoder of three scales fed with noise, without
  batch normalisation and with borders that wrap, at its best stop and at Stein's;
* ``kernel``: the network's own kernel at the start, kept, with the batch statistics of its one input; no
  closed form knows batch normalisation;
* ``prior``: a run, and the kernel that Adam left, kept: twicing of the same noisy picture, of fresh noise
  on it, of another picture; and runs with one ingredient left out.

What theory predicts, written before the run:

* Published, over nine pictures of 512×512 pixels and more at σ = 25/255: non-local means 30.26 dB, the prior
  29.22 after 1800 steps and 30.43 averaged, BM3D 31.42; a blur of oracle width was measured there at
  27.85. At 128×128 pixels pictures have less to average over: all are lower, blur by the most. The prior must
  beat blur clearly, or the bench is not that of the deep image prior.
* The kernel at the start knows nothing of the picture, and denoises like a low-pass filter: about the blur.
* If Adam gains by the kernel that it learns, that kernel, kept, beats the one at the start on fresh noise;
  if it only gains by its order of directions, it does not.
* Left out: with one scale in place of five ("depth") least is left of the prior, since nothing then keeps
  coarse detail ahead of fine; nearest in place of bilinear upsampling costs tenths of a decibel, as blocks of
  two pixels enter early. Without averaging about 1 dB is lost, as published. Without batch normalisation or
  with gradient descent for Adam the run is slow, and behind at equal steps. Jitter and skips are details:
  tenths of a decibel.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from dipfilters import (
    Adam,
    GradientDescent,
    LanczosTwicing,
    TangentFilter,
    autoencoder,
    build,
    denoise,
    jittered,
    psnr,
    step_grid,
    sure,
    train,
    vanilla,
)
from dipfilters.circulant import CirculantTwicing, NoiseFedFilter
from dipfilters.networks import Architecture, hour_glass
from dipfilters.training import follow
from studies.scenes import (
    EPOCHS,
    LAST,
    Scene,
    Watch,
    baselines,
    chance,
    in_bytes,
    judged_kernel,
    judged_path,
    picture_names,
    scene,
    until_divergence,
)
from studies.table import Outcome, Point

PICTURES = ["astronaut", "chelsea", "coffee", "hubble"]
LEFT_OUT = ("batch normalisation", "bilinear upsampling", "depth", "skips", "jitter", "sigmoid", "Adam")
SIZES: dict[str, Point] = {
    "quick": {"side": 32, "width": 4, "scales": 2, "steps": 6, "products": 3},
    "full": {"side": 128, "width": 64, "scales": 5, "steps": 1800, "products": 32},
    "published": {"side": 256, "width": 128, "scales": 5, "steps": 1800, "products": 32},
}

PROFILES = tuple(SIZES)


def points(profile: str, folder: str | None = None) -> list[Point]:
    """The points, draw by draw; ingredients are left out for two pictures and the first draw."""
    size = SIZES[profile]
    names = picture_names(folder, PICTURES[:1] if profile == "quick" else PICTURES)
    found: list[Point] = []
    for draw in range(1 if profile == "quick" else 2):
        for at, name in enumerate(names):
            other = names[(at + 1) % len(names)]
            levels = (25, 15, 50) if draw == 0 and at < 2 and profile != "quick" else (25,)
            for level in levels:
                own: Point = {"picture": name, "other": other, "draw": draw, "level": level}
                small: Point = {**own, "side": size["side"]}
                found.append({"arm": "baselines", **small, "epochs": 20 if profile == "quick" else EPOCHS})
                found += [{"arm": "picture", **small}, {"arm": "noise", **small}]
                found.append({"arm": "prior", **own, **size, "left out": ""})
                if level != 25:
                    continue
                found.append({"arm": "kernel", **own, **size})
                if draw == 0 and at < 2:
                    found += [{"arm": "prior", **own, **size, "left out": part} for part in LEFT_OUT]
    return found


def point(arm: str, *, device: str = "cpu", folder: str | None = None, **settings: Any) -> Outcome:
    """One arm for one picture, draw and level of noise."""
    name, other, draw, side, level = (settings[n] for n in ("picture", "other", "draw", "side", "level"))
    options = {"side": side, "sigma": level / 255, "device": device, "folder": folder}
    at = scene(name, other, draw, gray=False, **options)
    if arm == "baselines":
        return Outcome(baselines(at, settings["epochs"]))
    if arm == "picture":
        return fed_with_picture(at)
    if arm == "noise":
        return fed_with_noise(at)
    # The scene's input is normal; the prior's is uniform on [0, 0.1], by the distribution function.
    at = replace(at, fed=0.05 * (1 + torch.erf(at.fed / math.sqrt(2))))
    left_out = settings.get("left out", "")
    network = build(
        architecture(settings["scales"], left_out),
        channels=len(at.fed),
        outputs=len(at.clean),
        width=settings["width"],
        generator=chance(name, draw, side, "weights"),
        parametrization="standard",
    ).to(device)
    if left_out != "batch normalisation":
        as_published(network)
    if arm == "kernel":
        return Outcome(*judged_kernel(network, at, settings["products"]))
    kept = settings["products"] if left_out == "" and level == 25 else 0
    return prior(
        network, at, left_out, settings["steps"], kept, chance(name, draw, side, "jitter"), draw == 0
    )


def architecture(scales: int, left_out: str) -> Architecture:
    """The network without one of its ingredients, or with the published ones all."""
    return hour_glass(
        1 if left_out == "depth" else scales,
        side_channels=None if left_out == "skips" else 4 / 128,
        normalised=left_out != "batch normalisation",
        sigmoid=left_out != "sigmoid",
        up="nearest" if left_out == "bilinear upsampling" else "clamped",
    )


def as_published(network: nn.Module) -> None:
    """Weights as small as PyTorch makes them, of the variance 1/3 of a fan-in.

    Batch normalisation takes their size away, but a step of Adam turns small weights further.
    """
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim == 4:
                weight.div_(weight.std() * math.sqrt(3 * weight[0].numel()))


def fed_with_picture(at: Scene) -> Outcome:
    """The closed form of one hidden layer of 11×11 patches: one filter, and in tiles as ``denoise`` works."""
    filter = TangentFilter(at.noisy.double(), vanilla(1, 11))
    grid = step_grid(3000, 60)
    path = LanczosTwicing(filter, at.noisy.double(), last=grid[-1], tolerance=1e-3).estimate(grid)
    found = judged_path(path, at.noisy.double(), at.clean.double(), at.sigma)
    one, tiles = (
        denoise(at.noisy, at.sigma, exact=exact, progress=False, budget_s=1e6) for exact in (True, False)
    )
    return Outcome(
        {
            "best": found["best"],
            "best step": grid[int(found["at"])],
            "discrepancy": found["discrepancy"],
            "Stein": psnr(one.picture, at.clean),
            "Stein step": one.steps[0],
            "tiles, Stein": psnr(tiles.picture, at.clean),
        }
    )


def fed_with_noise(at: Scene) -> Outcome:
    """The closed form of an autoencoder fed with white noise, for all steps; Stein's estimate is exact."""
    shape = (at.noisy.shape[1], at.noisy.shape[2])
    twicing, grid = CirculantTwicing(NoiseFedFilter(shape, autoencoder(3, 3))), step_grid(LAST, 160)
    noisy, clean = at.noisy.double().cpu(), at.clean.double().cpu()
    path = twicing.estimate(noisy, grid)
    found = judged_path(path, noisy, clean, at.sigma)
    risks = sure(path, noisy, at.sigma, len(noisy) * twicing.degrees_of_freedom(grid))
    stop = int(risks.argmin())
    return Outcome(
        {
            "best": found["best"],
            "best step": grid[int(found["at"])],
            "discrepancy": found["discrepancy"],
            "Stein": psnr(path[stop], clean),
            "Stein step": grid[stop],
        }
    )


def prior(
    network: nn.Module,
    at: Scene,
    left_out: str,
    steps: int,
    products: int,
    noise: torch.Generator,
    keep: bool,
) -> Outcome:
    """A run, and the kernel that it left at its best step, judged if ``products`` is not 0."""
    optimizer = GradientDescent(momentum=0.9) if left_out == "Adam" else Adam(0.01)
    inputs = None if left_out == "jitter" else jittered(at.fed, generator=noise)
    watch = Watch(network, at)
    run = train(
        network,
        at.fed,
        at.noisy,
        optimizer=optimizer,
        steps=steps,
        subtract_start=False,
        step_inputs=inputs,
    )
    found = follow(until_divergence(run), every=watch.every())
    numbers, curves = watch.judged(found, steps)
    pictures: dict[str, np.ndarray] = {"best": in_bytes(watch.best_estimate)} if keep else {}
    if products:
        network.load_state_dict(watch.best_weights)
        judged, _ = judged_kernel(network, at, products)
        numbers |= {f"kept, {name}": value for name, value in judged.items()}
    return Outcome(numbers, curves, pictures)
