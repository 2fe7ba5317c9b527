"""A training run as an iterator, and how far it moves the weights.

The network's output f is trained to be the noisy picture y, with the loss ½ ‖f − f₀ − y‖². Where the tangent
kernel Theta stays as it is, gradient descent with the step η is twicing with the filter W = η Theta.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dipfilters.empirical import largest_eigenvalue
from dipfilters.images import check_picture, check_shape
from dipfilters.networks import ScaledConvolution
from dipfilters.parameters import check_choice, check_positive, check_share, check_whole
from dipfilters.step_inputs import StepInput, StepInputs
from dipfilters.twicing import DivergenceError

Shared = Literal["none", "layer", "all"]


@dataclass(frozen=True)
class GradientDescent:
    """Gradient descent, with a momentum μ if that is not 0.

    ::

        v ← μ v + ∂loss/∂w,   w ← w − η v

    The step η is 1/λ_max of the tangent kernel at the start if it is None. Under a
    constant gradient each step ends up as η/(1 − μ) times it. ``factors`` as for :class:`Adam`.
    """

    step: float | None = None
    momentum: float = 0.0
    factors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _check_step(self.step)
        check_share("momentum", self.momentum)
        _check_factors(self.factors)


@dataclass(frozen=True)
class StochasticGradientDescent:
    """Gradient descent where each step looks at ``batch`` pixels, drawn anew without repetition.

    Their part of the loss counts N/batch times, so that its mean over the draws is the whole loss. The step
    is as for :class:`GradientDescent`; a batch of a few pixels may need a smaller one.
    """

    batch: int
    step: float | None = None

    def __post_init__(self) -> None:
        _check_step(self.step)
        check_whole("batch", self.batch, 1)


@dataclass(frozen=True)
class Adam:
    """Adam with a fixed step η, as PyTorch has it, and what is left of it with parts switched off.

    ::

        g = ∂loss/∂w,   m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²
        w ← w − η m̂ / (√v̂ + 1e-8),   m̂ = m/(1 − β₁ᵏ),   v̂ = v/(1 − β₂ᵏ)

    β₁ = 0 leaves the second moment only, β₁ = β₂ = 0 the sign of the gradient: w ← w − η sign(g). Momentum
    only, without the division, is :class:`GradientDescent` with a momentum.

    The second moment may be shared: v ← β₂ v + (1 − β₂) mean g², the mean over one tensor of weights with
    ``shared="layer"``, and over all weights with ``"all"``. Then the step has the direction of m layer by
    layer, or as a whole, and its length alone is adapted: with β₁ = β₂ = 0, gradient descent normalised so
    that weights move by η in the root mean square, w ← w − η g/√(mean g²).

    Attributes:
        step: η.
        first_moment: β₁.
        second_moment: β₂, which cannot be 0 alone: ``m/|g|`` has no bound.
        shared: Over which weights the second moment is averaged; ``"none"`` is Adam.
        factors: What η is multiplied by, for each tensor of trained weights in the network's order, such as
            :func:`width_factors` gives; none is 1 for all.

    Source: Kingma and Ba (2015) [kingma2015].
    """

    step: float = 1e-3
    first_moment: float = 0.9
    second_moment: float = 0.999
    shared: Shared = "none"
    factors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_positive("step", self.step)
        check_share("first_moment", self.first_moment)
        check_share("second_moment", self.second_moment)
        check_choice("shared", self.shared, Shared)
        _check_factors(self.factors)
        if self.second_moment == 0 < self.first_moment:
            raise ValueError(
                f"second_moment must not be 0 beside first_moment={self.first_moment:g}, which leaves steps "
                f"without bound; use GradientDescent(momentum={self.first_moment:g}), or first_moment=0"
            )


Optimizer = GradientDescent | StochasticGradientDescent | Adam


def _check_step(step: float | None) -> None:
    if step is not None:
        check_positive("step", step)


def _check_factors(factors: tuple[float, ...]) -> None:
    for factor in factors:
        check_positive("each of factors", factor)


def width_factors(
    network: nn.Module, width: int, powers: tuple[float, float, float], *, base: int = 32
) -> tuple[float, ...]:
    """Factors of the step by which a law in the width holds: 1 at the width ``base``.

    ::

        (c/c₀)^a for the first convolution, (c/c₀)^b for those between, (c/c₀)^d for the last

    In the standard parametrisation, with (−1, −1, −1) Adam moves the features equally at every width; with
    (−1/2, −3/2, −1) it moves the output equally, and the features less and less.

    Args:
        network: From :func:`dipfilters.build`.
        width: c.
        powers: a, b, d.
        base: c₀.

    Raises:
        ValueError: A width or base below 1; fewer than two trained convolutions; other trained weights, such
            as those of batch normalisation, whose law is another.

    Source: Yang and Littwin (2023) [yang2023].
    """
    ratio = check_whole("width", width, 1) / check_whole("base", base, 1)
    layers = [layer for layer in network.modules() if isinstance(layer, ScaledConvolution)]
    count = sum(layer.weight.requires_grad for layer in layers)
    others = sum(weight.requires_grad for weight in network.parameters()) - count
    if count < 2 or others:
        raise ValueError(
            f"the network must have two trained convolutions at least and no other trained weights, got "
            f"{count} and {others} of others; train convolutions alone"
        )
    first, hidden, last = (ratio**power for power in powers)
    return (first, *[hidden] * (count - 2), last)


@dataclass(frozen=True)
class TrainingStep:
    """Where a training run stands.

    Attributes:
        number: k, how many times the weights have been changed.
        loss: ½ ‖z − y‖² over all pixels, or those of the step's input, for the weights of now.
        estimate: z = f − f₀, the picture that the network makes now of what it is given now: (O, H, W).
    """

    number: int
    loss: float
    estimate: Float[Tensor, "O H W"] = field(repr=False, compare=False)


def train(
    network: nn.Module,
    input: Float[Tensor, "C H W"],
    target: Float[Tensor, "O H W"],
    *,
    optimizer: Optimizer,
    steps: int,
    subtract_start: bool = True,
    generator: torch.Generator | None = None,
    step_inputs: StepInputs | None = None,
) -> Iterator[TrainingStep]:
    """Train a network on one picture, and stop at every step to let the caller look.

    ::

        loss = ½ ‖f − f₀ − y‖²

    Args:
        network: Takes (1, C, H, W), gives (1, O, H, W). Its weights are changed in place.
        input: What it is given, a picture or noise.
        target: y, what it is to make of that.
        optimizer: A :class:`GradientDescent`, :class:`StochasticGradientDescent` or :class:`Adam`.
        steps: How many changes of the weights.
        subtract_start: Take the output f₀ at the start off, as the closed form does; else f₀ = 0 above.
        generator: The source of the minibatches, on any device.
        step_inputs: Gives for step k the input of that step, and the pixels where its loss counts, such as
            :func:`dipfilters.jittered` and :func:`dipfilters.masked`; asked once a step. ``input`` then
            serves for the default step only. No start can be subtracted, since f₀ belongs to one input.

    Yields:
        Step 0, 1, … ``steps``. While the caller holds step k, the weights are those after k changes.

    Raises:
        PictureError: An input or a target that is not a picture, or a target unlike the output.
        ValueError: Negative steps; a batch that exceeds the picture; minibatches without a generator;
            inputs that change of which the start is subtracted; a network made under inference_mode().
        RuntimeError: Gradients are switched off where this is called.
        DivergenceError: The loss is infinite or NaN.

    Cost: a forward and a backward pass a step, for minibatches too; the default step costs about ten
    products with the tangent kernel once.
    """
    check_picture(input, "input")
    check_picture(target, "target")
    steps = check_whole("steps", steps, 0)
    _check_gradients(network)
    if isinstance(optimizer, StochasticGradientDescent) and generator is None:
        raise ValueError("minibatches are drawn by chance: give a generator")
    if step_inputs is not None and subtract_start:
        raise ValueError("step_inputs change the input, and f₀ belongs to one: give subtract_start=False")

    def states() -> Iterator[TrainingStep]:
        with torch.no_grad():
            start = network(input[None])[0]
        check_shape("target", target.shape, start.shape, "the output")
        wanted = target.to(start) + (start if subtract_start else 0.0)
        updates = _updates(network, input, optimizer)
        for number in range(steps + 1):
            given = StepInput(input) if step_inputs is None else step_inputs(number)
            output = network(given.input[None])[0]
            residual = output - wanted if given.pixels is None else (output - wanted) * given.pixels
            loss = 0.5 * float(residual.detach().double().square().sum())
            if not math.isfinite(loss):
                raise DivergenceError(
                    f"the loss is {loss} after {number} steps of {optimizer}; use a smaller step than "
                    f"{updates.param_groups[0]['lr']:.3g}"
                )
            estimate = output.detach() - start if subtract_start else output.detach()
            yield TrainingStep(number, loss, estimate)
            if number < steps:
                _check_gradients(network)
                updates.zero_grad()
                _objective(residual, optimizer, generator).backward()  # type: ignore[no-untyped-call]
                updates.step()

    return states()


def _check_gradients(network: nn.Module) -> None:
    if not torch.is_grad_enabled():
        raise RuntimeError(
            "train() needs gradients, which torch.no_grad() or torch.inference_mode() switches off here; "
            "call it outside of that"
        )
    if any(weight.is_inference() for weight in network.parameters()):
        raise ValueError(
            "the network was made under torch.inference_mode(), and cannot be trained; make it outside"
        )


def _updates(network: nn.Module, input: Tensor, optimizer: Optimizer) -> torch.optim.Optimizer:
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    step = optimizer.step
    if step is None:
        step = 1.0 / largest_eigenvalue(network, input)
    factors = () if isinstance(optimizer, StochasticGradientDescent) else optimizer.factors
    if factors and len(factors) != len(weights):
        raise ValueError(f"factors must be one for each of {len(weights)} tensors, got {len(factors)}")
    groups: list[dict[str, Any]] = [{"params": weights}]
    if factors:
        groups = [{"params": [w], "lr": step * f} for w, f in zip(weights, factors, strict=True)]
    if isinstance(optimizer, Adam):
        moments = float(optimizer.first_moment), float(optimizer.second_moment)  # torch refuses a 0 for 0.0
        if optimizer.shared != "none":
            return _SharedAdam(groups, step, moments, optimizer.shared)
        return torch.optim.Adam(groups, lr=step, betas=moments)
    momentum = optimizer.momentum if isinstance(optimizer, GradientDescent) else 0.0
    return torch.optim.SGD(groups, lr=step, momentum=momentum)


class _SharedAdam(torch.optim.Optimizer):
    """Adam with one second moment for each tensor, or for all weights."""

    def __init__(
        self, groups: list[dict[str, Any]], step: float, moments: tuple[float, float], shared: Shared
    ) -> None:
        super().__init__(groups, {"lr": step})
        self._moments, self._shared, self._number = moments, shared, 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step, from the gradients of now."""
        self._number += 1
        first, second = self._moments
        groups = self.param_groups
        weights = [(w, group["lr"]) for group in groups for w in group["params"] if w.grad is not None]
        squares = [w.grad.square().sum() for w, _ in weights]
        counts = [w.numel() for w, _ in weights]
        if self._shared == "all":
            squares, counts = [sum(squares)] * len(weights), [sum(counts)] * len(weights)
        for (weight, step), square, count in zip(weights, squares, counts, strict=True):
            state = self.state[weight]
            state["m"] = first * state.get("m", 0.0) + (1 - first) * weight.grad
            state["v"] = second * state.get("v", 0.0) + (1 - second) * square / count
            scale = (state["v"] / (1 - second**self._number)).sqrt() + 1e-8
            weight -= step / (1 - first**self._number) * state["m"] / scale


def _objective(residual: Tensor, optimizer: Optimizer, generator: torch.Generator | None) -> Tensor:
    """The loss, or an estimate of it from the pixels of a minibatch."""
    if not isinstance(optimizer, StochasticGradientDescent):
        return 0.5 * residual.square().sum()
    pixels = residual.flatten(1)
    count = pixels.shape[1]
    if optimizer.batch > count:
        raise ValueError(f"batch must not exceed the {count} pixels of the picture, got {optimizer.batch}")
    assert generator is not None
    order = torch.randperm(count, generator=generator, device=generator.device)
    batch = order[: optimizer.batch].to(residual.device)
    return 0.5 * count / optimizer.batch * pixels[:, batch].square().sum()


Measure = Callable[[TrainingStep], Any]


def follow(
    run: Iterable[TrainingStep],
    *,
    every: Mapping[str, Measure],
    at: Mapping[str, Measure] | None = None,
    looks: Collection[int] = (),
    until: Measure | None = None,
) -> dict[str, np.ndarray]:
    """Go through a run, and measure it as it goes.

    Args:
        run: What :func:`train` gives; measures may look at the network, whose weights are those of the step.
        every: Measures of every step, such as ``{"psnr": lambda step: psnr(step.estimate, clean)}``. Each
            gives a number, an array or a tensor, always of one shape.
        at: Measures that are taken at ``looks`` alone.
        looks: Numbers of steps.
        until: The run ends after the first step of which this is true.

    Returns:
        What each measure gave, one entry a step or look, as arrays; ``"steps"`` and ``"looks"`` hold the
        numbers of those.

    Raises:
        ValueError: A measure of one of these two names.

    Cost: that of the run and of the measures.
    """
    named = {**every, **(at or {})}
    if taken := {"steps", "looks"} & named.keys():
        raise ValueError(f"a measure must not be called {taken.pop()!r}, which holds the numbers of steps")
    seen: dict[str, list[Any]] = {name: [] for name in ("steps", "looks", *named)}
    for step in run:
        now = {"steps": lambda step: step.number, **every}
        if step.number in looks:
            now |= {"looks": lambda step: step.number, **(at or {})}
        for name, measure in now.items():
            value = measure(step)
            value = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
            seen[name].append(np.array(value))  # a copy, of what the measure may go on changing
        if until is not None and until(step):
            break
    return {name: np.array(values) for name, values in seen.items()}


@dataclass(frozen=True)
class WeightChange:
    """How far weights moved: ‖Δw‖₂ and ‖Δw‖_∞."""

    l2: float
    linf: float


def effective_weights(network: nn.Module) -> dict[str, Tensor]:
    """A copy of what each convolution's input is convolved with, by the layer's name, in their order.

    In the tangent-kernel parametrisation the parameters are not that: their scale is taken into account.

    Raises:
        ValueError: No layer of :func:`dipfilters.build` in the network.
    """
    layers = {
        name: layer.effective_weight.detach().clone()
        for name, layer in network.named_modules()
        if isinstance(layer, ScaledConvolution)
    }
    if not layers:
        raise ValueError("the network holds no convolution made by build()")
    return layers


def weight_change(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], *, relative: bool = False
) -> dict[str, WeightChange]:
    """How far the effective weights moved: for each layer, and under the name ``"all"`` for the whole.

    ::

        ‖Δw‖₂ = √(Σ Δw²),   ‖Δw‖_∞ = max |Δw|,   relative: divided by ‖w‖₂ and ‖w‖_∞ before

    Args:
        before: What :func:`effective_weights` gave before training.
        after: What it gives now.
        relative: Divide by the norms before.

    Raises:
        ValueError: Weights of two networks that are not alike; a change relative to weights that are all 0.

    Source: Tachella, Tang and Davies (2021) [tachella2021].
    """
    shapes = [{name: weight.shape for name, weight in weights.items()} for weights in (before, after)]
    if shapes[0] != shapes[1]:
        raise ValueError("before and after must come from one network, got weights of other names or shapes")

    def change(names: list[str]) -> WeightChange:
        old = torch.cat([before[name].flatten().double() for name in names])
        move = torch.cat([after[name].flatten().double() for name in names]) - old
        units = (float(old.norm()), float(old.abs().max())) if relative else (1.0, 1.0)
        if 0.0 in units:
            raise ValueError(f"the weights of {', '.join(names)} were all 0; leave out relative=True")
        return WeightChange(float(move.norm()) / units[0], float(move.abs().max()) / units[1])

    return {**{name: change([name]) for name in before}, "all": change(list(before))}
