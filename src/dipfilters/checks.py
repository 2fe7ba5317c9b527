"""Checks of what a student wrote: properties on random inputs, in words, without the answers.

::

    from dipfilters.checks import check_twicing
    check_twicing(my_twicing)  # one line if all is well, else CheckFailed says what is wrong

Each check calls a function of the student's on random inputs, and asks for what the right one has:
symmetries, limits, values that can be looked up, a mean over draws. None computes what the student is to
compute. The functions take and give tensors; NumPy arrays and lists are taken as results too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Function = Callable[..., object]

_NEAR = 1e-5  # float64 comes far below this, float32 nearly always


class CheckFailed(AssertionError):
    """A property that the function lacks; the text says which one, and by which values it shows."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of the way through this module, which is no use to a student."""
        return [f"Not yet: {self}"]


class _Trial:
    """A function under test, called on copies; each result is looked at before it is compared."""

    def __init__(self, function: Function, seed: int) -> None:
        self.function = function
        self.chance = torch.Generator().manual_seed(seed)
        self.properties = 0

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.chance, dtype=torch.float64)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.chance, dtype=torch.float64)

    def run(self, *given: object) -> object:
        """What the function gives for copies of ``given``, which it must leave as they are."""
        copies = [value.clone() if isinstance(value, Tensor) else value for value in given]
        called = ", ".join(
            f"{tuple(value.shape)}" if isinstance(value, Tensor) else f"{value:.4g}" for value in given
        )
        try:
            result = self.function(*copies)
        except NotImplementedError:
            raise CheckFailed("nothing is written yet: the function raises NotImplementedError") from None
        except Exception as error:
            kind = type(error).__name__
            raise CheckFailed(f"called with {called}, your function raised {kind}: {error}") from error
        for before, after in zip(given, copies, strict=True):
            if isinstance(before, Tensor) and not torch.equal(before, torch.as_tensor(after)):
                raise CheckFailed("your function changes what it is given; work on a copy, as x = x.clone()")
        if result is None:
            raise CheckFailed("your function gives None; does its last line `return` the result?")
        return result

    def __call__(self, *given: object, shape: tuple[int, ...]) -> Tensor:
        """The result as a float64 tensor, if it has that shape and is finite."""
        found = self.run(*given)
        try:
            result = torch.as_tensor(found).detach().double()
        except (TypeError, ValueError, RuntimeError):
            raise CheckFailed(f"your function gives a {type(found).__name__}, and no tensor") from None
        if tuple(result.shape) != shape:
            raise CheckFailed(f"the result must have the shape {shape}, yours has {tuple(result.shape)}")
        if not bool(torch.isfinite(result).all()):
            count = int((~torch.isfinite(result)).sum())
            sizes = [tuple(value.shape) for value in given if isinstance(value, Tensor)]
            raise CheckFailed(
                f"{count} of {result.numel()} values are NaN or infinite, for inputs of shapes {sizes}: is a "
                f"number divided by 0, or a cosine a rounding step above 1 before its arc cosine is taken?"
            )
        return result

    def same(
        self, got: Tensor, wanted: Tensor, left: str, right: str, why: str, tolerance: float | Tensor = _NEAR
    ) -> None:
        """Refuse the largest difference; in ``left`` and ``right``, {0} and {1} stand for its place."""
        self.properties += 1
        wanted = wanted.expand_as(got)
        excess = (got - wanted).abs() - tolerance * (1.0 + wanted.abs())
        if float(excess.max()) > 0:
            at = _place(excess)
            values = (
                f"{left.format(*at)} = {float(got[at]):.5g}, {right.format(*at)} = {float(wanted[at]):.5g}"
            )
            raise CheckFailed(f"{why}: {values}")

    def least(self, got: Tensor, name: str, why: str, bound: float = -_NEAR) -> None:
        """Refuse the smallest value if it lies below the bound."""
        self.properties += 1
        if float(got.min()) < bound:
            at = _place(-got)
            raise CheckFailed(f"{why}: {name.format(*at)} = {float(got[at]):.5g}")

    def passed(self, what: str) -> None:
        print(f"{what}: all {self.properties} properties hold")


def _place(values: Tensor) -> tuple[int, ...]:
    """The place of the largest value."""
    return tuple(int(i) for i in torch.unravel_index(values.argmax(), values.shape))


def check_patches(function: Function, *, seed: int = 0) -> None:
    """Check ``function(image, size)``, the (H·W, C·size²) patches around the pixels of a (C, H, W) picture.

    Row r·W + s belongs to pixel (r, s); its entries are ordered by channel, row, column, and beyond the
    border the picture is mirrored at its outermost pixels, as :func:`dipfilters.extract_patches` does.

    Raises:
        CheckFailed: A property does not hold.
    """
    trial = _Trial(function, seed)
    for size in (3, 5):
        image, middle = trial.uniform(2, 6, 7), size // 2
        patches = trial(image, size, shape=(42, 2 * size**2)).reshape(6, 7, 2, size, size)
        trial.same(
            patches[..., middle, middle],
            image.permute(1, 2, 0),
            "the middle of patch ({0}, {1}), channel {2},",
            "that pixel",
            "the middle of a patch is its own pixel, in row r·W + s",
        )
        trial.same(
            patches[:, :-1, ..., 1:],
            patches[:, 1:, ..., :-1],
            "entry ({3}, {4} + 1) of the patch of pixel ({0}, {1})",
            "entry ({3}, {4}) of its right neighbour's",
            "patches of neighbours overlap",
        )
        for edge, side in ((patches[:, 0], "left"), (patches[:, -1], "right")):
            trial.same(
                edge,
                edge.flip(-1),
                "entry ({2}, {3}) in row {0}",
                "its mirror image",
                f"at the {side} border a patch is its own mirror image",
            )
        for edge, side in ((patches[0], "top"), (patches[-1], "bottom")):
            trial.same(
                edge,
                edge.flip(-2),
                "entry ({2}, {3}) in column {0}",
                "its mirror image",
                f"at the {side} border a patch is its own mirror image",
            )
        down, right = trial.normal(2, 1, 1), trial.normal(2, 1, 1)
        ramp = down * torch.arange(6.0)[:, None] + right * torch.arange(7.0)
        inner = trial(ramp, size, shape=(42, 2 * size**2)).reshape(6, 7, 2, size, size)[2:4, 2:5]
        offsets = torch.arange(size) - middle
        trial.same(
            inner - inner[..., middle : middle + 1, middle : middle + 1],
            down * offsets[:, None] + right * offsets,
            "entry ({3}, {4}) of channel {2} less the middle",
            "the rise of the picture",
            "where a picture rises evenly, every patch rises alike, down its rows and along its columns",
        )
    trial.passed("patches")


def check_weights(function: Function, *, seed: int = 0) -> None:
    """Check ``function(patches, bandwidth)``, the (N, N) weights of non-local means for (N, d) patches.

    Squared distances are means over the d entries, and every row of weights sums to one.

    Raises:
        CheckFailed: A property does not hold.
    """
    trial = _Trial(function, seed)
    patches = trial.uniform(9, 5)
    W = trial(patches, 0.4, shape=(9, 9))
    trial.least(W, "W[{0}, {1}]", "no weight is negative")
    trial.same(W.sum(1), torch.ones(9), "the sum of row {0}", "it should be", "every row sums to one")
    own = W.diagonal()
    trial.least(own[:, None] - W, "W[{0}, {0}] − W[{0}, {1}]", "no patch is more like i than i itself")
    likeness = W / own[:, None]
    trial.same(
        likeness,
        likeness.T,
        "W[{0}, {1}] / W[{0}, {0}]",
        "W[{1}, {0}] / W[{1}, {1}]",
        "patch i is as like j as j is like i, before the rows are divided by their sums",
    )
    base, sign = trial.normal(1, 4), torch.tensor([[1.0], [1.0], [1.0], [-1.0]])
    differing = (0.3 * sign).T * torch.tensor([[0.0], [1.0], [2.0]])
    one = torch.cat([base + differing, base + torch.tensor([[0.3, 0, 0, 0]])]).double()
    W = trial(one, 0.3, shape=(4, 4))
    trial.same(
        W[0] / W[0, 0],
        torch.exp(-torch.tensor([0.0, 1.0, 4.0, 0.25])),
        "patch 0 and patch {0}: their weight beside the largest",
        "it should be",
        "patches that differ by h in every entry have 1/e, by 2h 1/e⁴, by h in one entry of four 1/e^¼",
    )
    wide = trial(7.0 * patches, 7.0 * 0.4, shape=(9, 9))
    trial.same(
        wide,
        trial(patches, 0.4, shape=(9, 9)),
        "W[{0}, {1}] for patches and h seven times as large",
        "as they were",
        "a change of the unit of brightness changes no weight",
    )
    trial(patches, 1e-3, shape=(9, 9))
    trial.passed("weights")


def check_twicing(function: Function, *, seed: int = 0) -> None:
    """Check ``function(W, noisy, steps)``, the estimate z^k of k steps of twicing from z⁰ = 0.

    W is (N, N), and symmetric or not; noisy and the result are (N,).

    Raises:
        CheckFailed: A property does not hold.
    """
    trial = _Trial(function, seed)
    y = trial.normal(6)
    W = trial.uniform(6, 6)
    W = W / W.sum(1, keepdim=True)
    _check_iteration(trial, lambda noisy, k: trial(W, noisy, k, shape=(6,)), y)
    even = torch.ones(6, dtype=torch.float64)
    trial.same(
        trial(W, even, 4, shape=(6,)),
        even,
        "pixel {0} after four steps",
        "it was",
        "rows that sum to one leave a constant picture as it is (rows, not columns)",
    )
    for share, steps, through in ((1.0, 1, 1.0), (1.0, 3, 1.0), (0.5, 2, 0.75), (0.5, 3, 0.875)):
        trial.same(
            trial(share * torch.eye(6, dtype=torch.float64), y, steps, shape=(6,)),
            through * y,
            "pixel {0}",
            f"{through:g} of it",
            f"if the filter lets {share:g} of everything through, {steps} steps let {through:g} through",
        )
    trial.passed("twicing")


def _check_iteration(trial: _Trial, run: Callable[[Tensor, int], Tensor], y: Tensor) -> None:
    """What any recursion on the residual has that is linear and starts from zero."""
    trial.same(run(y, 0), torch.zeros(len(y)), "pixel {0}", "it should be", "no step, no estimate: z⁰ = 0")
    left = y - run(y, 2)
    trial.same(
        y - run(y, 5),
        left - run(left, 3),
        "pixel {0} of the residual after five steps",
        "that of two steps, then three on what these left",
        "each step takes up the residual where the last one left it",
    )
    other = trial.normal(len(y))
    trial.same(
        run(2.0 * y + other, 3),
        2.0 * run(y, 3) + run(other, 3),
        "pixel {0} for 2y + u",
        "2z(y) + z(u)",
        "the estimate is linear in the picture",
    )


def check_arc_cosine(function: Function, *, seed: int = 0) -> None:
    """Check ``function(p, q)``, the (n, m) arc-cosine kernel of order 1 between (n, d) and (m, d) patches.

    Norms and inner products are means over the d entries, so that a patch has ‖p‖² with itself.

    Raises:
        CheckFailed: A property does not hold.
    """
    third = math.sqrt(3) / (2 * math.pi)
    trial = _Trial(function, seed)
    values = {60: third + 1 / 3, 90: 1 / math.pi, 120: third - 1 / 6, 180: 0.0}
    _check_kernel(trial, 1.0, values, last_layer_only=True)
    trial.passed("arc-cosine kernel")


def check_tangent_kernel(function: Function, *, seed: int = 0) -> None:
    """Check ``function(p, q)``, the (n, m) tangent kernel of one hidden ReLU layer with both layers trained.

    As :func:`check_arc_cosine`; a patch has 2‖p‖² with itself.

    Raises:
        CheckFailed: A property does not hold.
    """
    third = math.sqrt(3) / (2 * math.pi)
    trial = _Trial(function, seed)
    values = {60: third + 2 / 3, 90: 1 / math.pi, 120: third - 1 / 3, 180: 0.0}
    _check_kernel(trial, 2.0, values, last_layer_only=False)
    trial.passed("tangent kernel")


def _check_kernel(trial: _Trial, own: float, values: Mapping[int, float], *, last_layer_only: bool) -> None:
    """What a kernel of random ReLU neurons has, and its mean over a crowd of them."""
    p, q = trial.normal(7, 9), trial.normal(5, 9)
    K = trial(p, q, shape=(7, 5))
    trial.same(
        K,
        trial(q, p, shape=(5, 7)).T,
        "K(p, q)[{0}, {1}]",
        "K(q, p)[{1}, {0}]",
        "your kernel isn't symmetric",
    )
    trial.same(
        trial(3.0 * p, 0.5 * q, shape=(7, 5)),
        1.5 * K,
        "K(3p, ½q)[{0}, {1}]",
        "3·½·K(p, q)[{0}, {1}]",
        "a patch of three times the contrast weighs three times as much",
    )
    square = trial(p, p, shape=(7, 7))
    trial.same(
        square.diagonal(),
        own * p.square().mean(1),
        "K[{0}, {0}]",
        f"{own:g}·‖p‖²",
        "a patch with itself, where ‖p‖² is the mean of the squares of its entries",
        1e-3,
    )
    trial.least(
        torch.linalg.eigvalsh(square + square.T), "eigenvalue {0}", "no eigenvalue is negative", -1e-3
    )
    near = p + 1e-9 * trial.normal(7, 9)
    trial(near.repeat(20, 1), p * trial.uniform(7, 1), shape=(140, 7))  # cosines one rounding step above 1
    black = trial(torch.zeros(1, 9, dtype=torch.float64), q, shape=(1, 5))
    trial.same(black, torch.zeros(1, 5), "K(0, q)[{1}]", "it should be", "a black patch is like none")
    u, v = torch.linalg.qr(trial.normal(9, 2)).Q.T
    for degrees, value in values.items():
        turned = math.cos(math.radians(degrees)) * u + math.sin(math.radians(degrees)) * v
        trial.same(
            trial(3.0 * u[None], 3.0 * turned[None], shape=(1, 1)),
            torch.tensor([[value]]),
            f"K at {degrees}°",
            "it should be",
            "the kernel of two patches of norm 1 at an angle that is known",
        )
    w = trial.normal(40_000, 9)
    on_p, on_q = (2 / 9) ** 0.5 * (w @ p[:5].T), (2 / 9) ** 0.5 * (w @ q.T)
    draws = on_p.relu() * on_q.relu()
    if not last_layer_only:
        draws = draws + 2 * (on_p > 0) * (on_q > 0) * (p[:5] * q).mean(1)
    error = 6 * draws.std(0) / len(w) ** 0.5
    trial.same(
        K.diagonal(),
        draws.mean(0),
        "K[{0}, {0}]",
        "the crowd's mean",
        "40000 random neurons disagree with your kernel by more than six standard errors",
        error,
    )


def check_descent(function: Function, *, seed: int = 0) -> None:
    """Check ``function(J, noisy, step, steps)``, the output z = JΔ after k steps of gradient descent.

    ::

        loss = ½ ‖JΔ − y‖²,   from Δ = 0

    J is (N, P): N pixels, P weights; noisy and the result are (N,).

    Raises:
        CheckFailed: A property does not hold.
    """
    trial = _Trial(function, seed)
    J, y = trial.normal(6, 10), trial.normal(6)
    step = 0.5 / float(J.square().sum())
    _check_iteration(trial, lambda noisy, k: trial(J, noisy, step, k, shape=(6,)), y)
    turn = torch.linalg.qr(trial.normal(10, 10)).Q
    trial.same(
        trial(J @ turn, y, step, 4, shape=(6,)),
        trial(J, y, step, 4, shape=(6,)),
        "pixel {0} after the weights are turned into each other",
        "as it was",
        "only the inner products of the rows of J matter, not which weight is which",
    )
    ones = torch.ones(6, 10, dtype=torch.float64)
    trial.same(
        trial(ones, y, 0.01, 1, shape=(6,)),
        0.01 * 10 * y.sum(),
        "pixel {0}",
        "0.01·10·Σy",
        "if every weight moves every pixel alike, a step of 0.01 with ten weights puts the sum everywhere",
    )
    one = torch.tensor([[2.0]], dtype=torch.float64)
    trial.same(
        trial(one, torch.tensor([8.0], dtype=torch.float64), 0.125, 2, shape=(1,)),
        torch.tensor([6.0]),
        "z",
        "it should be",
        "one pixel, one weight, J = 2, y = 8, two steps of ⅛ (each halves the residual)",
    )
    trial.passed("gradient descent")


def check_average(function: Function, *, seed: int = 0) -> None:
    """Check ``function(S, size)``, the mean of S over the common offsets of a size×size convolution.

    S and the result are (H, W, H, W), a number for each pair of pixels; the picture goes on periodically.

    Raises:
        CheckFailed: A property does not hold.
    """
    trial = _Trial(function, seed)
    shape = (5, 7, 5, 7)
    S = trial.normal(*shape)
    A = trial(S, 3, shape=shape)
    trial.same(
        trial(S.permute(2, 3, 0, 1), 3, shape=shape).permute(2, 3, 0, 1),
        A,
        "the pair the other way round",
        "the pair",
        "the two pixels of a pair play the same part",
    )
    trial.same(
        trial(S.flip(0, 1, 2, 3), 3, shape=shape).flip(0, 1, 2, 3),
        A,
        "the pair in the picture upside down",
        "the pair",
        "offsets go as far up as down, and as far left as right",
    )
    trial.same(
        trial(torch.ones(shape, dtype=torch.float64), 3, shape=shape),
        torch.ones(shape),
        "a mean of ones",
        "it should be",
        "a constant stays as it is, at the border too",
    )
    pattern = trial.normal(5, 7)
    rows, columns = torch.arange(5), torch.arange(7)
    moved = pattern[(rows[None, :] - rows[:, None]) % 5][..., (columns[None, :] - columns[:, None]) % 7]
    displaced = moved.permute(0, 2, 1, 3).contiguous()
    trial.same(
        trial(displaced, 3, shape=shape),
        displaced,
        "the pair ({0}, {1}), ({2}, {3})",
        "it was",
        "where S depends on the displacement alone it does not change: both pixels move by the same offset",
    )
    for size in (1, 3, 5):
        single = torch.zeros(shape, dtype=torch.float64)
        single[2, 3, 0, 6] = 1.0
        spread = trial(single, size, shape=shape)
        trial.same(
            torch.stack([spread.sum(), spread[2, 3, 0, 6], spread.max()]),
            torch.tensor([1.0, size**-2, size**-2]),
            "number {0}",
            "it should be",
            f"a single pair is spread over {size**2}: the sum, its own share, the largest share",
        )
    trial.passed("average along common offsets")


def check_adam(function: Function, *, seed: int = 0) -> None:
    """Check ``function(gradients, step, beta1, beta2)``, the moves that Adam makes for a list of gradients.

    Gradients and result are (T, P): T steps, P weights. Row t of the result is what is added to the weights.

    Raises:
        CheckFailed: A property does not hold.
    """
    trial = _Trial(function, seed)
    g = trial.normal(6, 4)
    g = g + 0.1 * g.sign()
    moves = trial(g, 0.3, 0.9, 0.98, shape=(6, 4))
    first = "the first move is a step against the sign of the gradient, however large that is"
    trial.same(moves[0], -0.3 * g[0].sign(), "weight {0}", "−step·sign", first)
    scales = torch.exp(3 * trial.normal(1, 4))
    trial.same(
        trial(scales * g, 0.3, 0.9, 0.98, shape=(6, 4)),
        moves,
        "move {0} of weight {1} with its gradients scaled",
        "before",
        "the size of a weight's gradients does not matter, only how they change",
        1e-4,
    )
    trial.same(
        trial(g[:, 1:2], 0.3, 0.9, 0.98, shape=(6, 1)),
        moves[:, 1:2],
        "move {0} of a weight by itself",
        "beside others",
        "every weight moves as if it were alone",
    )
    trial.same(
        trial(g[:1].repeat(6, 1), 0.3, 0.9, 0.98, shape=(6, 4)),
        -0.3 * g[:1].sign(),
        "move {0} of weight {1}",
        "−step·sign",
        "while the gradient stays the same, so does the move",
    )
    trial.same(
        trial(g, 0.3, 0.0, 0.0, shape=(6, 4)),
        -0.3 * g.sign(),
        "move {0} of weight {1}",
        "−step·sign",
        "without memory, β₁ = β₂ = 0, every move is a step against the sign",
    )
    pulse = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    trial.same(
        trial(pulse, 1.0, 0.5, 0.75, shape=(2, 1)),
        torch.tensor([[-1.0], [-math.sqrt(7 / 27)]]),
        "move {0}",
        "it should be",
        "one gradient of 1, then 0, with β₁ = ½, β₂ = ¾",
    )
    trial.passed("Adam")


def check_hiding(function: Function, *, seed: int = 0) -> None:
    """Check ``function(noisy, mask)``: the (C, H, W) picture with the pixels of an (H, W) mask hidden.

    A hidden pixel is replaced by a weighted mean of the pixels that touch it; which weights is left open.

    Raises:
        CheckFailed: A property does not hold.
    """
    trial = _Trial(function, seed)
    shape = (2, 8, 9)
    for down, right in ((0, 0), (1, 2), (3, 0)):
        mask = (torch.arange(8)[:, None] % 4 == down) & (torch.arange(9) % 4 == right)
        y = trial.uniform(*shape)
        hidden = trial(y, mask, shape=shape)
        trial.same(
            hidden * ~mask,
            y * ~mask,
            "pixel ({1}, {2}), which is not in the mask,",
            "it was",
            "only the pixels of the mask are replaced",
        )
        trial.same(
            trial(torch.where(mask, 5.0 - y, y), mask, shape=shape) * mask,
            hidden * mask,
            "pixel ({1}, {2}) after another value was hidden there",
            "before",
            "what stands at a hidden pixel must not depend on what was hidden",
        )
        trial.same(
            trial(torch.full(shape, 0.7, dtype=torch.float64), mask, shape=shape),
            torch.full(shape, 0.7),
            "pixel ({1}, {2})",
            "it was",
            "a constant picture stays as it is, at the border too",
        )
        touching = torch.nn.functional.max_pool2d(mask[None].double(), 3, stride=1, padding=1)[0] > 0
        trial.same(
            trial(torch.where(touching, y, y + 4.0), mask, shape=shape) * mask,
            hidden * mask,
            "pixel ({1}, {2}) after others far away were changed",
            "before",
            "only pixels that touch the hidden one count, none from the other side of the picture",
        )
    trial.passed("hidden pixels")


def check_discrepancy(function: Function, *, seed: int = 0) -> None:
    """Check ``function(estimates, noisy, sigma)``, the index where the discrepancy principle stops.

    Estimates are (K, C, H, W). It is the first of them whose residual is no larger than the noise,
    ‖y − z‖² ≤ CN σ²; if there is none, the function is to raise ``ValueError``.

    Raises:
        CheckFailed: A property does not hold.
    """
    trial = _Trial(function, seed)
    y = trial.uniform(1, 8, 9)
    away = trial.normal(*y.shape)
    away = away / away.square().mean().sqrt()
    lengths = torch.tensor([0.9, 0.41, 0.34, 0.26, 0.11, 0.31, 0.05, 0.2], dtype=torch.float64)
    stack = y + lengths[:, None, None, None] * away
    for sigma, first in {0.95: 0, 0.45: 1, 0.35: 2, 0.3: 3, 0.25: 4, 0.1: 6}.items():
        found = float(trial(stack, y, sigma, shape=()))
        trial.properties += 1
        if found != first:
            sizes = ", ".join(f"{length:.2f}" for length in lengths.tolist())
            raise CheckFailed(
                f"the estimates are {sizes} away from the noisy picture (root mean square), σ = {sigma:g}, "
                f"and your function stops at index {found:g}; which is the first that is no farther than σ?"
            )
    try:
        none = function(stack.clone(), y.clone(), 0.01)
    except ValueError:
        trial.passed("discrepancy principle")
    except Exception as error:
        raise CheckFailed(
            f"no estimate is as close as σ = 0.01, and your function fails with {type(error).__name__}: "
            f"{error}; raise ValueError, with a message that says what to do"
        ) from error
    else:
        raise CheckFailed(
            f"no estimate is as close as σ = 0.01, and your function gives {none}; raise ValueError"
        )
