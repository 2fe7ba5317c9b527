"""Whose filter? A narrow network's own kernel at the start, the one that Adam left, and what lies between.

An autoencoder of three scales is fed with noise and trained on a noisy picture. A point is one arm for one
network: one picture, one draw of weights, input and noise. Draws are independent of each other, over
pictures too, so that intervals are over draws, paired between arms.

The arms, all from the same start and noise:

* ``baselines``: a Gaussian blur of oracle width, the Wiener filter, non-local means, a small network that
  learns from the noisy picture alone (ZS-N2N), BM3D where it is installed;
* ``infinite``: twicing with the kernel of the infinitely wide network;
* ``kernel``: the network's own kernel at the start, kept: twicing of the noisy picture, of the same picture
  with fresh noise, of another picture; momentum in the same kernel;
* ``train``: a training run, and after Adam on the network the kernel that it left, kept and judged in the
  same way.

Adam's lead over gradient descent in five rungs, each a formula for one step, with g = Jᵀ r and r = y − z:

1. gradient descent in the own kernel, r ← (I − η Θ) r, and momentum, which is a polynomial in the same Θ;
2. ``clock``: Adam on the linearised network with one second moment for all weights: the direction of the
   gradient's running mean, with a step whose length alone adapts;
3. ``blocks``: with one second moment for each layer, Σ_l η m_l/√v_l;
4. ``Adam``, linearised: with one for each weight; its converged form, for ever wider frozen networks, is
   the operator of Yang and Littwin (2023);
5. ``Adam`` on the network, whose features move: steps ∝ 1/c ("features"), or ∝ c^(−1/2), c^(−3/2), c^(−1)
   for the first, the hidden and the last convolutions ("kernel").

What theory predicts, written before the run:

* Rung 1. The noise-fed kernel has one large eigenvalue, that of the constant, and others many orders below.
  The best step of gradient descent lies far beyond what anyone runs (pilots: after 1e8), and within 1000
  steps its picture is a blur of little more than the mean. Momentum μ is ahead by 1/(1 − μ) in steps and no
  further: at 0.99 it stays below its best too.
* Rung 2. A clock that adapts one length is limited by the same largest eigenvalue: a normalised step grows
  until the constant begins to swing, at η = 2/λ_max, and the running mean allows 38/λ_max. It gains no more
  than momentum does: a factor of about twenty in steps, few decibels.
* Rung 3. Layers have different shares of the constant's eigenvalue, so that relative lengths change, but
  each block keeps its own spread spectrum: a small gain over rung 2.
* Rung 4. Weight by weight the second moment equalises directions, and high frequencies come in sooner; the
  largest gain of the fixed-feature rungs. It converges in the frozen width M, with differences of the order
  M^(−1/2).
* Rung 5. With steps of the law "kernel" the gap to rung 4 falls like c^(−1/2); with the law "features" it
  does not. If features matter for denoising, rung 5 stays ahead of rung 4 and more so with the size of the
  picture.
* The kernel that Adam left: if it only learnt the noise, it does no better than the start's on fresh noise;
  if it learnt the picture, better on fresh noise but not on another picture; if it learnt what pictures
  have in common, on both.
* The infinite kernel commutes with shifts by eight pixels, and nearly with all. So far as it does, it is a
  gain for each frequency, and the Wiener filter, whose gains are made from the clean picture, bounds it; what
  the place within a block of eight pixels adds should be worth tenths of a decibel at most. It should come
  out level with the blur, within half a decibel. Of Adam against blur and Wiener nothing is predicted.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dipfilters import (
    Adam,
    GradientDescent,
    LinearizedNetwork,
    TangentFilter,
    autoencoder,
    build,
    effective_weights,
    empirical_tangent_kernel,
    psnr,
    train,
    weight_change,
)
from dipfilters.empirical import JacobianFilter, detail_over_noise, krylov_filter, turn
from dipfilters.training import Shared, follow, width_factors
from studies.scenes import (
    EPOCHS,
    LAWS,
    SIGMA,
    Scene,
    Watch,
    baselines,
    chance,
    in_bytes,
    judged_filter,
    judged_kernel,
    picture_names,
    scene,
    thinned,
    until_divergence,
)
from studies.table import Outcome, Point

SCALES = 3
SHARED: dict[str, Shared] = {"clock": "all", "blocks": "layer", "Adam": "none"}
FULL = {"side": 48, "draws": 5, "pictures": ["camera", "astronaut", "coffee"]}
QUICK = {"side": 16, "draws": 2, "pictures": ["camera", "astronaut"]}


def points(profile: str, folder: str | None = None) -> list[Point]:
    """The points of the study, draw by draw, so that what is finished first is a small study of its own."""
    sizes: dict[str, Any] = FULL if profile == "full" else QUICK
    names = picture_names(folder, sizes["pictures"])
    found: list[Point] = []
    for draw in range(sizes["draws"]):
        for at, name in enumerate(names):
            first = at == 0
            for arm in _arms(profile, sizes["side"], first):
                other = names[(at + 1) % len(names)]
                found.append({"picture": name, "other": other, "draw": draw, "sigma": SIGMA, **arm})
    return found


def _arms(profile: str, side: int, first: bool) -> list[Point]:
    """The arms of one picture and draw; wider networks and other sizes for the first picture alone."""
    if profile == "quick":
        return [
            *_fixed(side, epochs=20),
            *(_network(side, 8, most=20, products=6, few=True) if first else []),
        ]
    arms = [*_fixed(side), *_network(side, 32)]
    if first:
        arms += _network(side, 64, few=True, laws=["features", "kernel"])
        arms += _network(side, 128, few=True, laws=["features", "kernel"], most=1500)
        arms += [*_fixed(32), *_network(32, 32, few=True)]
        arms += [*_fixed(96), *_network(96, 32, few=True)]
    return arms


def _fixed(side: int, epochs: int = EPOCHS) -> list[Point]:
    arms: list[Point] = [{"arm": "baselines", "side": side, "epochs": epochs}]
    if side <= 48:  # the matrix of the infinite network takes 17 GB at 128×128 pixels
        arms.append({"arm": "infinite", "side": side})
    return arms


def _network(
    side: int,
    width: int,
    *,
    few: bool = False,
    laws: Sequence[str] = ("features",),
    most: int = 2500,
    products: int = 48,
) -> list[Point]:
    """All arms of one network; with ``few``, one step for each rung."""
    own: Point = {"side": side, "width": width, "products": products}
    arms: list[Point] = [{"arm": "kernel", "steps": most, **own}]

    def run(method: str, step: float, linearised: bool, law: str = "features", steps: int = most) -> None:
        settings: Point = {"method": method, "step": step, "linearised": linearised, "law": law}
        arms.append({"arm": "train", **own, **settings, "steps": steps})

    run("gradient descent", 0.0, False, steps=min(800, most))
    # These two may end before, once they are well past their best.
    run("momentum", 0.99, False, steps=most if few else 4 * most)
    for law in laws:
        for step in [2e-3] if few else [5e-4, 2e-3, 8e-3]:
            run("Adam", step, False, law, steps=2 * most)
    for step in [2e-3] if few else [2e-3, 8e-3]:
        run("Adam", step, True, laws[-1], most if few else 2 * most)
    for step in [1e-3] if few else [3e-4, 3e-3]:
        run("blocks", step, True)
        run("clock", step, True)
    return arms


def point(arm: str, *, device: str = "cpu", folder: str | None = None, **settings: Any) -> Outcome:
    """One arm of one network."""
    names = ("picture", "other", "draw", "side", "sigma")
    name, other, draw, side, sigma = (settings.pop(n) for n in names)
    at = scene(name, other, draw, side=side, sigma=sigma, device=device, folder=folder)
    if arm == "baselines":
        return Outcome(baselines(at, settings["epochs"]))
    if arm == "infinite":
        return infinite(at)
    width, products = settings.pop("width"), settings.pop("products")
    network = build(
        autoencoder(SCALES, 3),
        channels=len(at.fed),
        outputs=1,
        width=width,
        generator=chance(name, draw, side, "weights"),
        parametrization="standard",
    ).to(device)
    if arm == "kernel":
        return own_kernel(network, at, products, settings["steps"])
    return trained(network, at, products, width=width, keep=draw == 0, **settings)


def infinite(at: Scene) -> Outcome:
    """Twicing with the kernel of the infinitely wide network, for all steps, from its matrix."""
    kernel = TangentFilter(at.fed.double(), autoencoder(SCALES, 3), parametrization="standard")
    stack = [x.double() for x in (at.noisy, at.fresh, at.other, at.clean, at.clean, at.other_clean)]
    return Outcome(*judged_filter(kernel, stack, at.sigma))


def own_kernel(network: nn.Module, at: Scene, products: int, steps: int) -> Outcome:
    """The network's own kernel at the start, kept."""
    noise = torch.Generator().manual_seed(0)
    kernel = JacobianFilter(network, at.fed, normalize=1.0)
    ratio = detail_over_noise(kernel, at.clean, generator=noise, draws=16)
    numbers, curves = judged_kernel(copy.deepcopy(network), at, products)
    own = JacobianFilter(network.double(), at.fed.double())
    low_rank = krylov_filter(own, at.noisy.double(), products)
    values, _, vectors = low_rank.decomposition()
    start = vectors.T @ at.noisy.double().flatten()
    for momentum in (0.9, 0.99, 0.999):
        numbers |= _heavy_ball(momentum, steps, values, vectors, start, at)
    return Outcome({**numbers, "detail over noise": ratio}, curves)


def _heavy_ball(
    momentum: float, steps: int, values: Tensor, vectors: Tensor, start: Tensor, at: Scene
) -> dict[str, float]:
    """The best of momentum in a fixed kernel, r ← (1 + μ − λ) r − μ r₋₁ on each eigenvector."""
    before, now = torch.ones_like(values), 1.0 - values
    best, step = -math.inf, 0
    for k in range(1, steps + 1):
        if k % 10 == 0:
            estimate = (vectors @ ((1.0 - now) * start)).reshape(at.clean.shape)
            value = psnr(estimate, at.clean.double())
            best, step = max((best, step), (value, k))
        before, now = now, (1.0 + momentum - values) * now - momentum * before
    return {f"momentum {momentum} best": best, f"momentum {momentum} step": step}


def trained(
    network: nn.Module,
    at: Scene,
    products: int,
    *,
    width: int,
    keep: bool,
    method: str,
    step: float,
    linearised: bool,
    law: str,
    steps: int,
) -> Outcome:
    """A training run to its best or its last step, and the kernel that it left."""
    factors = width_factors(network, width, LAWS[law])
    first = effective_weights(network)
    pixels = [(r, c) for r in _places(at) for c in _places(at)]
    columns = empirical_tangent_kernel(network, at.fed, pixels=pixels)
    model: nn.Module = LinearizedNetwork(network) if linearised else network
    optimizer: GradientDescent | Adam = GradientDescent(momentum=step if method == "momentum" else 0.0)
    if method in SHARED:
        optimizer = Adam(step, shared=SHARED[method], factors=factors)
    watch = Watch(model, at)
    looks = {0, *(int(k) for k in thinned(np.arange(steps + 1), 30)[0])}
    found = follow(
        until_divergence(train(model, at.fed, at.noisy, optimizer=optimizer, steps=steps)),
        every=watch.every(),
        at={"distance": lambda now: _distance(model, first)},
        looks=looks,
        until=lambda now: method != "gradient descent" and watch.is_past_its_best(now.number),
    )
    model.load_state_dict(watch.best_weights)
    numbers, curves = watch.judged(found, steps)
    for name, distance in zip(("first", "hidden", "last", "all"), _distance(model, first), strict=True):
        numbers[f"distance, {name}"] = distance
    curves |= {"distance steps": found["looks"], "distance": found["distance"][:, 3]}
    if not linearised:
        after = empirical_tangent_kernel(network, at.fed, pixels=pixels)
        numbers["turn"] = turn(columns, after)
        filter = JacobianFilter(network, at.fed, normalize=1.0)
        noise = torch.Generator().manual_seed(0)
        numbers["detail over noise"] = detail_over_noise(filter, at.clean, generator=noise, draws=16)
        if method == "Adam":
            judged, _ = judged_kernel(network, at, products)
            numbers |= {f"kept, {name}": value for name, value in judged.items()}
    pictures = {"best": in_bytes(watch.best_estimate)} if keep else {}
    return Outcome(numbers, curves, pictures)


def _places(at: Scene) -> list[int]:
    """Four rows or columns, evenly spaced."""
    return [round(at.clean.shape[1] * (a + 0.5) / 4) for a in range(4)]


def _distance(model: nn.Module, first: dict[str, Tensor]) -> list[float]:
    """‖Δw‖₂ of the first layer, the hidden ones, the last, and all."""
    if isinstance(model, LinearizedNetwork):
        squares = [float(move.detach().double().square().sum()) for move in model.moves]
    else:
        change = weight_change(first, effective_weights(model))
        squares = [one.l2**2 for name, one in change.items() if name != "all"]
    parts = [squares[0], sum(squares[1:-1]), squares[-1], sum(squares)]
    return [math.sqrt(part) for part in parts]
