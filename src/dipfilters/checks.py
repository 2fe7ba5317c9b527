"""Checks of what a student wrote: properties on random inputs, in words, without the answers.

::

    from dipfilters.checks import check_twicing
    check_twicing(my_twicing)  # one line if all is well, else CheckFailed says what is wrong

Each check calls a function of the student's on random inputs, and asks for what the right one has:
symmetries, limits, values that can be looked up, a mean over draws. None computes what the student is to
compute. The functions take and give tensors; NumPy arrays and lists are taken as results too.
"""

from __future__ import annotations

import importlib
import math
import platform
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

Function = Callable[..., object]

_NEAR = 1e-5  # float64 comes far below this, float32 nearly always


class CheckFailed(AssertionError):
    """A property that the function lacks; the text says which one, and by which values it shows."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of the way through this module, which is no use to a student."""
        return [f"Not yet: {self}"]


def as_result(found: object) -> Tensor:
    """What a function gives, as a float64 tensor: a tensor or array of any kind, a list, a number.

    The checks and the tests that grade take every result through this one conversion.

    Raises:
        TypeError, ValueError, RuntimeError: It is nothing of the kind.
    """
    return torch.as_tensor(found).detach().cpu().double()


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
            result = as_result(found)
        except (TypeError, ValueError, RuntimeError):
            raise CheckFailed(f"your function gives a {type(found).__name__}, not a tensor") from None
        if tuple(result.shape) != shape:
            raise CheckFailed(
                f"the result must have the shape {tuple(shape)}, yours has {tuple(result.shape)}"
            )
        if not bool(torch.isfinite(result).all()):
            count = int((~torch.isfinite(result)).sum())
            sizes = [tuple(value.shape) for value in given if isinstance(value, Tensor)]
            raise CheckFailed(
                f"{count} of {result.numel()} values are NaN or infinite, for inputs of shapes {sizes}: is a "
                f"number divided by 0, or a cosine a rounding step above 1 before its arc cosine is taken?"
            )
        return result

    def same(
        self,
        got: Tensor,
        wanted: Tensor,
        what: str,
        why: str,
        beside: str = "it should be",
        tolerance: float | Tensor = _NEAR,
    ) -> None:
        """Refuse the largest difference; in ``what`` and ``beside``, {0} and {1} stand for its place."""
        self.properties += 1
        wanted = wanted.expand_as(got)
        excess = (got - wanted).abs() - tolerance * (1.0 + wanted.abs())
        if float(excess.max()) > 0:
            at = _place(excess)
            values = f"{float(got[at]):.5g}, {beside.format(*at)} = {float(wanted[at]):.5g}"
            raise CheckFailed(f"{why}: {what.format(*at)} = {values}")

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


def ready() -> None:
    """Say in one line that the set-up works: the package, its pictures, arithmetic, and the checks.

    Raises:
        CheckFailed: Something is missing, and what to do about it.

    Cost: about a second once the package is imported.
    """
    begun = time.perf_counter()
    again = (
        "run the notebook's first code cell once more, then restart the kernel (on Colab: Runtime, Restart)"
    )
    try:
        package = importlib.import_module("dipfilters")
        picture = package.load_image("camera", size=32, gray=True).double()
        noisy = package.add_noise(picture, 0.1, generator=torch.Generator().manual_seed(0))
        found = float(package.psnr(noisy, picture))
    except Exception as error:
        raise CheckFailed(
            f"the package does not work here ({type(error).__name__}: {error}); {again}"
        ) from error
    if not 19.0 < found < 21.0:
        raise CheckFailed(f"noise of 0.1 gives {found:.1f} dB here, and should give 20; {again}")

    def empty(*given: object) -> object:
        raise NotImplementedError

    try:
        check_twicing(empty)
    except CheckFailed as said:
        answer = str(said).partition(":")[0]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no graphics card, none is needed"
    print(
        f"ready in {time.perf_counter() - begun:.1f} s: Python {platform.python_version()}, torch "
        f"{torch.__version__}, {device}\nof an empty function a check says: Not yet: {answer}"
    )


def check_patches(function: Function, *, seed: int = 0) -> None:
    """Check ``function(image, size)``, the (H·W, C·size²) patches around the pixels of a (C, H, W) picture.

    Row r·W + s belongs to pixel (r, s); its entries are ordered by channel, row, column, and beyond the
    border the picture is mirrored at its outermost pixels, as :func:`dipfilters.extract_patches` does.

    Raises:
        CheckFailed: A property does not hold.
    """
    trial = _Trial(function, seed)

    def run(image: Tensor, size: int) -> Tensor:
        return trial(image, size, shape=(42, 2 * size**2)).reshape(6, 7, 2, size, size)

    for size in (3, 5):
        image, middle = trial.uniform(2, 6, 7), size // 2
        patches = run(image, size)
        what = "the middle of patch ({0}, {1}), channel {2},"
        why = "the middle of a patch is its own pixel, in row r·W + s"
        trial.same(patches[..., middle, middle], image.permute(1, 2, 0), what, why, "that pixel")
        what = "entry ({3}, {4} + 1) of the patch of pixel ({0}, {1})"
        beside = "entry ({3}, {4}) of its right neighbour's"
        why = "patches of neighbours overlap"
        trial.same(patches[:, :-1, ..., 1:], patches[:, 1:, ..., :-1], what, why, beside)
        for edge, axis, side, line in (
            (patches[:, 0], -1, "left", "row"),
            (patches[:, -1], -1, "right", "row"),
            (patches[0], -2, "top", "column"),
            (patches[-1], -2, "bottom", "column"),
        ):
            why = f"at the {side} border a patch is its own mirror image"
            trial.same(
                edge, edge.flip(axis), f"entry ({{2}}, {{3}}) in {line} {{0}}", why, "its mirror image"
            )
        down, right = trial.normal(2, 1, 1), trial.normal(2, 1, 1)
        inner = run(down * torch.arange(6.0)[:, None] + right * torch.arange(7.0), size)[2:4, 2:5]
        offsets = torch.arange(size) - middle
        trial.same(
            inner - inner[..., middle : middle + 1, middle : middle + 1],
            down * offsets[:, None] + right * offsets,
            "entry ({3}, {4}) of channel {2} less the middle",
            "where a picture rises evenly, every patch rises alike, down its rows and along its columns",
            "the rise of the picture",
        )
    trial.passed("patches")


def check_weights(function: Function, *, seed: int = 0) -> None:
    """Check ``function(patches, bandwidth)``, the (N, N) weights of non-local means for (N, d) patches.

    Squared distances are means over the d entries, and every row of weights sums to one.

    Raises:
        CheckFailed: A property does not hold.
    """
    trial = _Trial(function, seed)

    def run(patches: Tensor, bandwidth: float) -> Tensor:
        return trial(patches, bandwidth, shape=(len(patches),) * 2)

    patches = trial.uniform(9, 5)
    W = run(patches, 0.4)
    trial.least(W, "W[{0}, {1}]", "no weight is negative")
    trial.same(W.sum(1), torch.ones(9), "the sum of row {0}", "every row sums to one")
    own = W.diagonal()
    trial.least(own[:, None] - W, "W[{0}, {0}] − W[{0}, {1}]", "no patch is more like i than i itself")
    likeness = W / own[:, None]
    why = "patch i is as like j as j is like i, before the rows are divided by their sums"
    trial.same(likeness, likeness.T, "W[{0}, {1}] / W[{0}, {0}]", why, "W[{1}, {0}] / W[{1}, {1}]")
    base, sign = trial.normal(1, 4), torch.tensor([[1.0], [1.0], [1.0], [-1.0]])
    differing = (0.3 * sign).T * torch.tensor([[0.0], [1.0], [2.0]])
    W = run(torch.cat([base + differing, base + torch.tensor([[0.3, 0, 0, 0]])]).double(), 0.3)
    shares = torch.exp(-torch.tensor([0.0, 1.0, 4.0, 0.25]))
    why = "patches that differ by h in every entry have 1/e, by 2h 1/e⁴, by h in one entry of four 1/e^¼"
    trial.same(W[0] / W[0, 0], shares, "patch 0 and patch {0}: their weight beside the largest", why)
    what = "W[{0}, {1}] for patches and h seven times as large"
    why = "a change of the unit of brightness changes no weight"
    trial.same(run(7.0 * patches, 7.0 * 0.4), run(patches, 0.4), what, why, "as they were")
    run(patches, 1e-3)
    trial.passed("weights")


def check_twicing(function: Function, *, seed: int = 0) -> None:
    """Check ``function(W, noisy, steps)``, the estimate z^k of k steps of twicing from z⁰ = 0.

    W is (N, N), and symmetric or not; noisy and the result are (N,).

    Raises:
        CheckFailed: A property does not hold.
    """
    trial = _Trial(function, seed)

    def run(W: Tensor, noisy: Tensor, steps: int) -> Tensor:
        return trial(W, noisy, steps, shape=(6,))

    y = trial.normal(6)
    W = trial.uniform(6, 6)
    W = W / W.sum(1, keepdim=True)
    _check_iteration(trial, partial(run, W), y)
    even = torch.ones(6, dtype=torch.float64)
    why = "rows that sum to one leave a constant picture as it is (rows, not columns)"
    trial.same(run(W, even, 4), even, "pixel {0} after four steps", why, "it was")
    for share, steps, through in ((1.0, 1, 1.0), (1.0, 3, 1.0), (0.5, 2, 0.75), (0.5, 3, 0.875)):
        even_filter = share * torch.eye(6, dtype=torch.float64)
        why = f"if the filter lets {share:g} of everything through, {steps} steps let {through:g} through"
        trial.same(run(even_filter, y, steps), through * y, "pixel {0}", why, f"{through:g} of it")
    trial.passed("twicing")


def _check_iteration(trial: _Trial, run: Callable[[Tensor, int], Tensor], y: Tensor) -> None:
    """What any recursion on the residual has that is linear and starts from zero."""
    trial.same(run(y, 0), torch.zeros(len(y)), "pixel {0}", "no step, no estimate: z⁰ = 0")
    left = y - run(y, 2)
    what = "pixel {0} of the residual after five steps"
    beside = "that of two steps, then three on what these left"
    why = "each step takes up the residual where the last one left it"
    trial.same(y - run(y, 5), left - run(left, 3), what, why, beside)
    other = trial.normal(len(y))
    both, apart = run(2.0 * y + other, 3), 2.0 * run(y, 3) + run(other, 3)
    trial.same(both, apart, "pixel {0} for 2y + u", "the estimate is linear in the picture", "2z(y) + z(u)")


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

    def run(p: Tensor, q: Tensor) -> Tensor:
        return trial(p, q, shape=(len(p), len(q)))

    p, q = trial.normal(7, 9), trial.normal(5, 9)
    K = run(p, q)
    trial.same(K, run(q, p).T, "K(p, q)[{0}, {1}]", "your kernel isn't symmetric", "K(q, p)[{1}, {0}]")
    why = "a patch of three times the contrast weighs three times as much"
    trial.same(run(3.0 * p, 0.5 * q), 1.5 * K, "K(3p, ½q)[{0}, {1}]", why, "3·½·K(p, q)[{0}, {1}]")
    square, norms = run(p, p), own * p.square().mean(1)
    why = "a patch with itself, where ‖p‖² is the mean of the squares of its entries"
    trial.same(square.diagonal(), norms, "K[{0}, {0}]", why, f"{own:g}·‖p‖²", 1e-3)
    near = p + 1e-9 * trial.normal(7, 9)
    run(near.repeat(20, 1), p * trial.uniform(7, 1))  # cosines one rounding step above 1
    black = run(torch.zeros(1, 9, dtype=torch.float64), q)
    trial.same(black, torch.zeros(1, 5), "K(0, q)[{1}]", "a black patch is like none")
    u, v = torch.linalg.qr(trial.normal(9, 2)).Q.T
    for degrees, value in values.items():
        turned = math.cos(math.radians(degrees)) * u + math.sin(math.radians(degrees)) * v
        why = "the kernel of two patches of norm 1 at an angle that is known"
        found = run(3.0 * u[None], 3.0 * turned[None])
        trial.same(found, torch.tensor([[value]]), f"K at {degrees}°", why)
    eigenvalues = torch.linalg.eigvalsh(square + square.T)
    trial.least(eigenvalues, "eigenvalue {0}", "no eigenvalue is negative", -1e-3)
    w = trial.normal(40_000, 9)
    on_p, on_q = (2 / 9) ** 0.5 * (w @ p[:5].T), (2 / 9) ** 0.5 * (w @ q.T)
    draws = on_p.relu() * on_q.relu()
    if not last_layer_only:
        draws = draws + 2 * (on_p > 0) * (on_q > 0) * (p[:5] * q).mean(1)
    error = 6 * draws.std(0) / len(w) ** 0.5
    why = "40000 random neurons disagree with your kernel by more than six standard errors"
    trial.same(K.diagonal(), draws.mean(0), "K[{0}, {0}]", why, "the crowd's mean", error)


def check_descent(function: Function, *, seed: int = 0) -> None:
    """Check ``function(J, noisy, step, steps)``, the output z = JΔ after k steps of gradient descent.

    ::

        loss = ½ ‖JΔ − y‖²,   from Δ = 0

    J is (N, P): N pixels, P weights; noisy and the result are (N,).

    Raises:
        CheckFailed: A property does not hold.
    """
    trial = _Trial(function, seed)

    def run(J: Tensor, noisy: Tensor, step: float, steps: int) -> Tensor:
        return trial(J, noisy, step, steps, shape=noisy.shape)

    J, y = trial.normal(6, 10), trial.normal(6)
    step = 0.5 / float(J.square().sum())
    _check_iteration(trial, lambda noisy, k: run(J, noisy, step, k), y)
    turn = torch.linalg.qr(trial.normal(10, 10)).Q
    what = "pixel {0} after the weights are turned into each other"
    why = "only the inner products of the rows of J matter, not which weight is which"
    trial.same(run(J @ turn, y, step, 4), run(J, y, step, 4), what, why, "as it was")
    ones = torch.ones(6, 10, dtype=torch.float64)
    why = "if every weight moves every pixel alike, a step of 0.01 with ten weights puts the sum everywhere"
    trial.same(run(ones, y, 0.01, 1), 0.01 * 10 * y.sum(), "pixel {0}", why, "0.01·10·Σy")
    two, eight = torch.tensor([[2.0]], dtype=torch.float64), torch.tensor([8.0], dtype=torch.float64)
    why = "one pixel, one weight, J = 2, y = 8, two steps of ⅛ (each halves the residual)"
    trial.same(run(two, eight, 0.125, 2), torch.tensor([6.0]), "z", why)
    trial.passed("gradient descent")


def check_average(function: Function, *, seed: int = 0) -> None:
    """Check ``function(S, variances)``, the sum of S over common offsets, each weighted by its variance.

    S and the result are (H, W, H, W), a number for each pair of pixels; the picture goes on periodically.
    Variances are (k, k), with that of the offset 0 in the middle.

    Raises:
        CheckFailed: A property does not hold.
    """
    trial = _Trial(function, seed)
    shape = (5, 7, 5, 7)

    def run(S: Tensor, variances: Tensor) -> Tensor:
        return trial(S, variances, shape=shape)

    v = trial.uniform(3, 3)
    ones = torch.ones(shape, dtype=torch.float64)
    why = "a constant is multiplied by the sum of the variances, at the border too"
    trial.same(run(ones, v), v.sum() * ones, "the pair ({0}, {1}), ({2}, {3})", why, "the sum")
    for size in (1, 3, 5):
        single, v = torch.zeros(shape, dtype=torch.float64), trial.uniform(size, size)
        single[2, 3, 0, 6] = 1.0
        spread, middle = run(single, v), size // 2
        found = torch.stack([spread.sum(), spread[2, 3, 0, 6], spread.max()])
        wanted = torch.stack([v.sum(), v[middle, middle], v.max()])
        why = f"a single pair is spread over {size**2}: the sum, its own share, the largest share"
        trial.same(found, wanted, "number {0}", why)
    S, v = trial.normal(*shape), trial.uniform(3, 3)
    A = run(S, v)
    swapped = run(S.permute(2, 3, 0, 1), v).permute(2, 3, 0, 1)
    why = "the two pixels of a pair play the same part"
    trial.same(swapped, A, "the pair the other way round", why, "the pair")
    turned = run(S.flip(0, 1, 2, 3), v.flip(0, 1)).flip(0, 1, 2, 3)
    why = "the picture upside down, and the variances with it, is the same upside down"
    trial.same(turned, A, "the pair in the picture upside down", why, "the pair")
    pattern = trial.normal(5, 7)
    rows, columns = torch.arange(5), torch.arange(7)
    moved = pattern[(rows[None, :] - rows[:, None]) % 5][..., (columns[None, :] - columns[:, None]) % 7]
    displaced = moved.permute(0, 2, 1, 3).contiguous()
    why = "where S depends on the displacement alone it keeps its form: both pixels move by the same offset"
    what, beside = "the pair ({0}, {1}), ({2}, {3})", "the sum of the variances times what it was"
    trial.same(run(displaced, v), v.sum() * displaced, what, why, beside)
    below = torch.zeros(3, 3, dtype=torch.float64)
    below[2, 1] = 1.0
    why = "with the offset one row down alone, a pair gets what stood one row below it"
    trial.same(run(S, below), S.roll((-1, -1), (0, 2)), what, why, "that")
    trial.passed("sum over common offsets")


def check_adam(function: Function, *, seed: int = 0) -> None:
    """Check ``function(gradients, step, beta1, beta2)``, the moves that Adam makes for a list of gradients.

    Gradients and result are (T, P): T steps, P weights. Row t of the result is what is added to the weights.

    Raises:
        CheckFailed: A property does not hold.
    """
    trial = _Trial(function, seed)

    def run(gradients: Tensor, step: float = 0.3, beta1: float = 0.9, beta2: float = 0.98) -> Tensor:
        return trial(gradients, step, beta1, beta2, shape=gradients.shape)

    g = trial.normal(6, 4)
    g = g + 0.1 * g.sign()
    moves, against = run(g), -0.3 * g.sign()
    why = "the first move is a step against the sign of the gradient, however large that is"
    trial.same(moves[0], against[0], "weight {0}", why, "−step·sign")
    scaled = run(torch.exp(3 * trial.normal(1, 4)) * g)
    what = "move {0} of weight {1} with its gradients scaled"
    why = "the size of a weight's gradients does not matter, only how they change"
    trial.same(scaled, moves, what, why, "before", 1e-4)
    why = "every weight moves as if it were alone"
    trial.same(run(g[:, 1:2]), moves[:, 1:2], "move {0} of a weight by itself", why, "beside others")
    why = "while the gradient stays the same, so does the move"
    trial.same(run(g[:1].repeat(6, 1)), against[:1], "move {0} of weight {1}", why, "−step·sign")
    why = "without memory, β₁ = β₂ = 0, every move is a step against the sign"
    trial.same(run(g, 0.3, 0.0, 0.0), against, "move {0} of weight {1}", why, "−step·sign")
    pulse = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    second = torch.tensor([[-1.0], [-math.sqrt(7 / 27)]])
    trial.same(
        run(pulse, 1.0, 0.5, 0.75), second, "move {0}", "one gradient of 1, then 0, with β₁ = ½, β₂ = ¾"
    )
    trial.passed("Adam")


def check_hiding(function: Function, *, seed: int = 0) -> None:
    """Check ``function(noisy, mask)``: the (C, H, W) picture with the pixels of an (H, W) mask hidden.

    A hidden pixel is replaced by a weighted mean of the pixels that touch it; which weights is left open.

    Raises:
        CheckFailed: A property does not hold.
    """
    trial = _Trial(function, seed)

    def run(noisy: Tensor, mask: Tensor) -> Tensor:
        return trial(noisy, mask, shape=(2, 8, 9))

    for down, right in ((0, 0), (1, 2), (3, 0)):
        mask = (torch.arange(8)[:, None] % 4 == down) & (torch.arange(9) % 4 == right)
        y = trial.uniform(2, 8, 9)
        hidden = run(y, mask)
        what, why = "pixel ({1}, {2}), which is not in the mask,", "only the pixels of the mask are replaced"
        trial.same(hidden * ~mask, y * ~mask, what, why, "it was")
        other = run(torch.where(mask, 5.0 - y, y), mask)
        what = "pixel ({1}, {2}) after another value was hidden there"
        why = "what stands at a hidden pixel must not depend on what was hidden"
        trial.same(other * mask, hidden * mask, what, why, "before")
        even = torch.full((2, 8, 9), 0.7, dtype=torch.float64)
        why = "a constant picture stays as it is, at the border too"
        trial.same(run(even, mask), even, "pixel ({1}, {2})", why, "it was")
        touching = torch.nn.functional.max_pool2d(mask[None].double(), 3, stride=1, padding=1)[0] > 0
        other = run(torch.where(touching, y, y + 4.0), mask)
        what = "pixel ({1}, {2}) after others far away were changed"
        why = "only pixels that touch the hidden one count, none from the other side of the picture"
        trial.same(other * mask, hidden * mask, what, why, "before")
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
