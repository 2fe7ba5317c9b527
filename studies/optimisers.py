"""What moves the filter: five ways of training, and two laws for the step over the widths.

The arms:

* ``known``: detail over noise, how many times as soon a filter lets in the picture's fine detail as noise,
  of filters that are known: a blur, non-local means from the noisy and from the clean picture, infinitely
  wide networks fed with noise and with the clean picture;
* ``motion``: a training run of an autoencoder of two scales by gradient descent, momentum, Adam, its second
  moment alone, or the sign of the gradient, fed with the noisy picture or with noise. Detail over noise and
  the turn of the kernel are stored beside the distance ‖Δw‖₂ and the loss, so that methods can be compared
  at equal distance and at equal loss; momentum runs on to Adam's distance;
* ``width``: a network of one scale over widths 8 to 512, trained by gradient descent with a step ∝ 1/c and
  by Adam with two laws: all steps ∝ 1/c ("features"), and ∝ c^(−1/2), c^(−3/2), c^(−1) for the first, the
  hidden and the last convolutions ("kernel").

What theory predicts, in powers of the width c of a c → c layer in the standard parametrisation, written
before the run:

* Gradient descent, step ∝ 1/c: ‖Δw‖₂ −1/2, ‖Δw‖_∞ −3/2, up to √log c; kernel's motion −1/2.
* Adam, "features", at a fixed number of steps: ‖Δw‖₂ 0, ‖Δw‖_∞ −1; first-order move of the loss, η‖g‖₁,
  of the hidden layers +1/2, so that there is no limit and the loss is restless in wide networks; kernel's
  motion 0. At equal loss fewer steps are needed as c grows, and the kernel's motion falls.
* Adam, "kernel": ‖Δw‖₂ −1/2, ‖Δw‖_∞ −3/2 of the hidden layers; first-order move 0; kernel's motion −1/2.
* Gradient descent's first-order move, η‖g‖₂², 0.
* Motion: at equal distance the ways differ by the direction of their steps alone. If the division by √v bends
  the filter, Adam, second moment and sign have a larger turn than momentum at its distance; whether that turn
  is towards the picture's detail, theory does not say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dipfilters import (
    Adam,
    GradientDescent,
    KernelFilter,
    TangentFilter,
    autoencoder,
    build,
    effective_weights,
    empirical_tangent_kernel,
    gaussian_kernel,
    psnr,
    step_grid,
    train,
    weight_change,
)
from dipfilters.empirical import JacobianFilter, detail_over_noise, turn
from dipfilters.filters import Filter
from dipfilters.training import TrainingStep, follow, width_factors
from studies.scenes import LAWS, SIGMA, Scene, best_blur, chance, picture_names, scene, until_divergence
from studies.table import Outcome, Point

METHODS = ("gradient descent", "momentum", "Adam", "second moment", "sign")


def points(profile: str, folder: str | None = None) -> list[Point]:
    """The points of the study, draw by draw."""
    full = profile == "full"
    names = picture_names(folder, ["camera", "astronaut", "coffee"][: 3 if full else 1])
    side, width, steps = (48, 64, 600) if full else (16, 8, 6)
    # Columns of the kernel along each side, noises, and looks at the kernel.
    seen: Point = {"places": 4, "noises": 16, "looks": 14} if full else {"places": 1, "noises": 2, "looks": 2}
    widths: Sequence[int] = (8, 16, 32, 64, 128, 256, 512) if full else (4, 8)
    found: list[Point] = []
    for draw in range(5 if full else 1):
        for at, name in enumerate(names):
            own: Point = {"picture": name, "draw": draw, "sigma": SIGMA, "side": side}
            found.append({"arm": "known", **own})
            motion: Point = {"arm": "motion", **own, **seen, "width": width, "scales": 2}
            for source in ("picture", "noise"):
                for method in METHODS:
                    longer = 10 if method == "momentum" else 1
                    run: Point = {"source": source, "method": method, "steps": longer * steps}
                    found.append({**motion, **run, "step": 0.016 / width})
            if at == 0:
                small: Point = {**own, **seen, "side": side // 2, "scales": 1, "source": "noise"}
                for c in widths:
                    for law, method in (("features", "gradient descent"), *((law, "Adam") for law in LAWS)):
                        run = {"width": c, "method": method, "law": law, "steps": steps // 3}
                        found.append({"arm": "width", **small, **run})
    return found


def point(arm: str, *, device: str = "cpu", folder: str | None = None, **settings: Any) -> Outcome:
    """One training run, or the known filters of one picture."""
    name, draw, side, sigma = (settings.pop(n) for n in ("picture", "draw", "side", "sigma"))
    at = scene(name, name, draw, side=side, sigma=sigma, device=device, folder=folder)
    if arm == "known":
        return known(at)
    source, width, looks = settings.pop("source"), settings.pop("width"), settings.pop("looks")
    fed = at.noisy if source == "picture" else at.fed
    network = build(
        autoencoder(settings.pop("scales"), 3),
        channels=len(fed),
        outputs=1,
        width=width,
        generator=chance(name, draw, side, "weights"),
        parametrization="standard",
    ).to(device)
    brightness = 0.0 if arm == "motion" else float(at.noisy.mean())
    places, noises = settings.pop("places"), settings.pop("noises")
    watch = Watch(network, fed, at, places=places, noises=noises, brightness=brightness)
    if arm == "motion":
        return motion(watch, looks=looks, **settings)
    return over_widths(watch, width=width, looks=looks, **settings)


def known(at: Scene) -> Outcome:
    """Detail over noise of filters that are not trained; 1 would be a filter that lets all through alike."""
    similar = gaussian_kernel(0.1)
    filters: dict[str, Filter] = {
        "blur of oracle width": best_blur(at)[0],
        "non-local means": KernelFilter(at.noisy, similar, patch_size=5, normalize="rows"),
        "non-local means from the clean picture": KernelFilter(
            at.clean, similar, patch_size=5, normalize="rows"
        ),
        "infinite network, noise": TangentFilter(at.fed, autoencoder(2, 3), normalize=1.0),
        "infinite network, clean picture": TangentFilter(at.clean, autoencoder(2, 3), normalize=1.0),
    }
    return Outcome({name: _preference(filter, at, 16) for name, filter in filters.items()})


def _preference(filter: Filter, at: Scene, noises: int) -> float:
    """Detail over noise, always with the same noises."""
    return detail_over_noise(filter, at.clean, generator=torch.Generator().manual_seed(0), draws=noises)


def motion(watch: Watch, *, method: str, step: float, steps: int, looks: int) -> Outcome:
    """One way of training, and the kernel as it goes."""
    ways: dict[str, GradientDescent | Adam] = {
        "gradient descent": GradientDescent(),
        "momentum": GradientDescent(momentum=0.99),
        "Adam": Adam(step),
        "second moment": Adam(step, first_moment=0.0),
        "sign": Adam(step, first_moment=0.0, second_moment=0.0),
    }
    return watch.outcome(watch.at.noisy, ways[method], steps, looks)


def over_widths(watch: Watch, *, width: int, method: str, law: str, steps: int, looks: int) -> Outcome:
    """One width, one law; the brightness of the picture is taken off, so that its detail is learnt."""
    target = watch.at.noisy - watch.brightness
    optimizer: GradientDescent | Adam = Adam(2e-3, factors=width_factors(watch.network, width, LAWS[law]))
    if method == "gradient descent":
        optimizer = GradientDescent(0.1 / (target.numel() * width))
    moves = first_moves(watch.network, watch.fed, target, optimizer)
    outcome = watch.outcome(target, optimizer, steps, looks)
    return Outcome({**outcome.numbers, **moves}, outcome.curves)


def first_moves(
    network: nn.Module, fed: Tensor, target: Tensor, optimizer: GradientDescent | Adam
) -> dict[str, float]:
    """How much the first step lowers the loss to first order, as a share: η‖g‖₁ for Adam, else η‖g‖₂²."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    loss = 0.5 * target.square().sum()
    output = network(fed[None])[0]
    gradients = torch.autograd.grad(0.5 * (output - output.detach() - target).square().sum(), weights)
    factors = optimizer.factors or (1.0,) * len(weights)
    adam = isinstance(optimizer, Adam)
    norms = [float((g.abs() if adam else g.square()).double().sum()) for g in gradients]
    assert optimizer.step is not None
    moves = [optimizer.step * f * norm / float(loss) for f, norm in zip(factors, norms, strict=True)]
    kinds = {"first": moves[:1], "hidden": moves[1:-1], "last": moves[-1:], "all": moves}
    return {f"first move, {kind}": sum(part) for kind, part in kinds.items()}


class Watch:
    """A network in training: its kernel, its weights and its estimate as they were, and as they are."""

    def __init__(
        self, network: nn.Module, fed: Tensor, at: Scene, *, places: int, noises: int, brightness: float
    ) -> None:
        self.network, self.fed, self.at = network, fed, at
        self.noises, self.brightness = noises, brightness
        lines = [round(at.clean.shape[1] * (a + 0.5) / places) for a in range(places)]
        self.pixels = [(r, c) for r in lines for c in lines]
        self.first = effective_weights(network)
        self.columns = self.kernel()

    def kernel(self) -> Tensor:
        return empirical_tangent_kernel(self.network, self.fed, pixels=self.pixels)

    def psnr(self, now: TrainingStep) -> float:
        return psnr(now.estimate + self.brightness, self.at.clean)

    def look(self, now: TrainingStep) -> list[float]:
        """The numbers of :data:`LOOK`, in their order."""
        kernel = self.kernel()
        change = weight_change(self.first, effective_weights(self.network))
        names = [name for name in change if name != "all"]
        groups = (names[:1], names[1:-1], names[-1:], ["all"])
        filter = JacobianFilter(self.network, self.fed, normalize=1.0)
        return [
            float((kernel - self.columns).norm() / self.columns.norm()),
            turn(self.columns, kernel),
            _preference(filter, self.at, self.noises),
            *(math.hypot(*(change[n].l2 for n in group)) for group in groups),
            *(max(change[n].linf for n in group) for group in groups),
        ]

    def outcome(self, target: Tensor, optimizer: GradientDescent | Adam, steps: int, looks: int) -> Outcome:
        """Train, and give the curves at looks and the end."""
        found = follow(
            until_divergence(train(self.network, self.fed, target, optimizer=optimizer, steps=steps)),
            every={"loss": lambda now: now.loss, "psnr": self.psnr},
            at={"look": self.look},
            looks={0, *step_grid(steps, looks)},
        )
        at, last = found["looks"].astype(int), int(found["steps"][-1])
        curves = {"look steps": at, "loss": found["loss"][at], "psnr": found["psnr"][at]}
        curves |= {name: found["look"][:, column] for column, name in enumerate(LOOK)}
        norm = math.sqrt(sum(float(w.double().square().sum()) for w in self.first.values()))
        numbers = {
            "best": found["psnr"].max(),
            "best step": found["psnr"].argmax(),
            "last step": last,
            "diverged": last < steps,
            "norm of the weights": norm,
        }
        return Outcome(numbers, curves)


KINDS = ("first", "hidden", "last", "all")
LOOK = (
    "kernel motion",
    "turn",
    "detail over noise",
    *(f"l2 {kind}" for kind in KINDS),
    *(f"linf {kind}" for kind in KINDS),
)
