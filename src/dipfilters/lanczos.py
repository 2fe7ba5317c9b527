"""Twicing for all numbers of steps from a handful of products, where no matrix can be stored.

After k steps z^k is a polynomial in W, applied to y. Lanczos' method makes an orthonormal basis V of
y, W y, …, W^{m−1} y, in which W is a small matrix T = Vᵀ W V, and takes that polynomial of T instead. V
may as well span another space that y lies in: the better it holds the z^k, the better they are.

Source: Lanczos (1950) [lanczos1950].
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dipfilters.filters import Filter
from dipfilters.images import check_detached, check_picture, check_shape
from dipfilters.parameters import check_positive, check_whole
from dipfilters.twicing import NEGLIGIBLE, Steps, check_spectrum, check_steps, step_grid

_BOUND_EACH = 32  # so many products have their bound computed each, later ones one in eight
_STEPS_AT_ONCE = 2**14  # of the sums that bound the error
_FIRST, _MOST = 6, 8  # vectors beside y in the first product, and at most in each later one
_LEFT_OUT = 0.2  # of the tolerance: expected errors that no vector of a product follows
_LONGEST = 10_000  # steps; beyond, the bound with the low rank's many vectors takes longer than it saves
_LEAST = 64**2  # pixels; below, a product takes less time than choosing its vectors
_GRID = 20  # so many numbers of steps have their errors expected
_ROUNDING = 1e-14  # of the largest eigenvalue: what is left of a product below that is rounding
_NOISE = 1e-10  # of the largest eigenvalue of the low rank: its own rounding
_ROWS = 4096  # of the low rank's vectors that are made together
_DEPENDENT = 1e-13  # of a unit vector: what is left of a column below that depends on others
_LARGEST_MISSES = 1e-5  # how far the largest eigenvector may miss; its eigenvalue then misses by the square


class ConvergenceError(ArithmeticError):
    """An approximation that is not as good as was asked for within the products that were allowed."""


class LanczosTwicing:
    """Twicing of one noisy picture for all numbers of steps up to a last one, from a few products with W.

    ::

        A = D^(1/2) W D^(−1/2),   b = D^(1/2) y                 D = I for a symmetric W
        T = Vᵀ A V,   R = A V − V T                             VᵀV = I, and b in the span of V
        z^k ≈ D^(−1/2) V (I − (I − T)^k) Vᵀ b

    With s = Vᵀ b, so that b = V s, what is left of b after k steps is V (I − T)^k s. A takes that to
    V T (I − T)^k s, which the next approximation adds, and R (I − T)^k s, which it misses. The error e^k of
    D^(1/2) z^k is 0 at first, and so e^{k+1} = (I − A) e^k + R (I − T)^k s. With eigenvalues of A in [0, 2],
    whatever V is, ::

        ‖e^k‖ ≤ Σ_{j<k} ‖R (I − T)^j s‖

    New products are made until that bound is below ``tolerance`` times the norm of D^(1/2) z^k for every k,
    both taken over all channels together.

    Each product is with a block of new vectors, at first b. Were nothing else known, the next ones would be
    those of R, and V a basis of the block Krylov space of b. Where the kernel has a linear part
    (:meth:`dipfilters.filters.Filter.linear_part`), from 64×64 pixels and up to 10,000 steps, a low rank Â of
    A is at hand, and with it the errors to be expected, ::

        ê^k = Σ_{j<k} (I − Â)^{k−1−j} R (I − T)^j s        at first (I − (I − Â)^k) b

    A block spans the largest principal components of these, and of what R adds to the bound, over many k.
    The part that Â expects is gone then, and what is left should be smaller by about the relative error of Â.

    A filter with ``normalize="spectral"`` that does not know its largest eigenvalue yet learns it on the way:
    the largest eigenvalue of T is soon that of K.

    Args:
        filter: W, its eigenvalues in [0, 2].
        noisy: The picture y.
        last: The largest number k of steps.
        tolerance: The largest relative error of an estimate, but for what the filter's products miss.
        max_products: How many products may be made.
        budget_gb: Do without the low rank, or with fewer columns, where it takes more memory than this.

    Raises:
        PictureError: Not a picture of the filter's size, or one that requires a gradient.
        ValueError: A last step, tolerance or number of products that is not positive.
        DivergenceError: An eigenvalue of T, and so of W, lies outside [0, 2].
        ConvergenceError: ``max_products`` were not enough.

    Cost: as a rule 3 to 5 products with W where the low rank is at hand, else a dozen or two, of up to 8
    columns each; 6 m² N operations to keep all m columns of V orthonormal, and 16 m N bytes;
    for each product m²·``last`` operations for the bound.
    """

    def __init__(
        self,
        filter: Filter,
        noisy: Float[Tensor, "C H W"],
        *,
        last: int,
        tolerance: float = 1e-4,
        max_products: int = 200,
        budget_gb: float = 2.0,
    ) -> None:
        check_picture(noisy, "noisy")
        check_shape("noisy", noisy.shape[1:], filter.shape, "the filter")
        check_detached(noisy, "noisy")
        check_positive("tolerance", tolerance)
        check_positive("budget_gb", budget_gb)
        self.last = check_whole("last", last, 1)
        self.shape = filter.shape
        self._dtype = noisy.dtype
        start = noisy.reshape(len(noisy), -1).to(filter.weights) * filter.weights.sqrt()
        helped = budget_gb if self.last <= _LONGEST and start.shape[1] >= _LEAST else 0.0
        self._space = _Space(filter, start.T, max_products, helped)
        reached = 1.0
        while True:
            self._space.extend(np.array(step_grid(self.last, _GRID)), _LEFT_OUT * tolerance / reached)
            if self.products > _BOUND_EACH and self.products % 8 and self.products < max_products:
                continue  # the bound of many steps takes longer than a product then
            relative = self._relative_bound(np.arange(1, self.last + 1))
            reached = max(relative.max(), tolerance)
            if relative.max() <= tolerance and self._space.settled():
                break

        if not filter.knows_scale and self._space.size > 0:  # a black picture tells nothing
            filter.learn_scale(1.0 / self._space.unit)

    @property
    def products(self) -> int:
        """How many products with the filter were made, of several columns each."""
        return self._space.size

    def estimate(self, steps: Steps) -> Float[Tensor, "*steps C H W"]:
        """z^k, for one number of steps or a stack for several; the dtype of ``noisy``.

        Raises:
            ValueError: Steps that do not increase, or beyond ``last``.
        """
        stops = self._check(steps)
        values, vectors, parts, _ = self._space.decomposed()
        coefficients = np.einsum("ij,kj,jc->kci", vectors, _gains(values, np.array(stops)), parts)
        scaled = torch.from_numpy(coefficients).to(self._space.basis)
        estimate: Tensor = (scaled @ self._space.basis.T).div_(self._space.root[:, 0])
        estimate = estimate.reshape(*estimate.shape[:-1], *self.shape).to(self._dtype)
        return estimate[0] if isinstance(steps, int | np.integer) else estimate

    def error_bound(self, steps: Steps) -> Float[Tensor, "*steps"]:
        """The bound of the error of D^(1/2) z^k, relative to its norm; 0 where both are."""
        relative = torch.from_numpy(self._relative_bound(np.array(self._check(steps))))
        return relative[0] if isinstance(steps, int | np.integer) else relative

    def _check(self, steps: Steps) -> list[int]:
        stops = check_steps(steps)
        if stops[-1] > self.last:
            raise ValueError(f"steps must not exceed last = {self.last}, got {stops[-1]}")
        return stops

    def _relative_bound(self, steps: np.ndarray) -> np.ndarray:
        """The bound on ‖e^k‖, relative to ‖D^(1/2) z^k‖, for increasing k."""
        bound, norm = np.linalg.norm(self._space.bounds(steps), axis=1), self._space.norms(steps)
        # Where an estimate is 0 so is its error: b is 0, or W takes it to 0.
        relative: np.ndarray = np.divide(bound, norm, out=np.zeros_like(bound), where=norm > 0)
        return relative


def _gains(values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """1 − (1 − λ)^k, the steps along a new first axis."""
    gains: np.ndarray = 1.0 - (1.0 - values) ** steps.reshape(-1, *[1] * values.ndim)
    return gains


class _Space:
    """The space of V, which grows by a block a product, and what A makes of it.

    Args:
        filter: W.
        start: b, a column for each channel.
        max_products: How many products there may be.

    Attributes:
        start, root: b, and the diagonal of D^(1/2).
        basis: V.
        beyond: Orthonormal columns Y with R = Y Yᵀ R.
        size: How many products there were.
        unit: The largest eigenvalue of T before it was made one, where the filter does not know its own.
    """

    def __init__(
        self, filter: Filter, start: Float[Tensor, "N C"], max_products: int, budget_gb: float = 0.0
    ) -> None:
        self._max_products = check_whole("max_products", max_products, 1)
        self._filter, self.start, self.root = filter, start, filter.weights.sqrt()[:, None]
        self._rescale, self.unit, self.size = not filter.knows_scale, 1.0, 0
        self.basis = self.beyond = start[:, :0]
        self._matrix, self._residual = np.empty((0, 0)), np.empty((0, 0))  # T and Yᵀ R, but for the unit
        self._decomposed: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None
        self._low_rank = _low_rank(filter, self.root, budget_gb)

    def extend(self, steps: np.ndarray, left_out: float) -> None:
        """One more product, with the errors after ``steps`` that are expected, but for a share of them.

        Raises:
            ConvergenceError: There were ``max_products`` before.
            DivergenceError: Eigenvalues with which twicing cannot converge.
        """
        if self.size == self._max_products:
            raise ConvergenceError(
                f"{self.size} products are not enough; allow more than max_products = {self.size}, a larger "
                f"tolerance or fewer steps"
            )
        block = self._orthonormal(self._expected(steps, left_out))
        if block.shape[1] == 0:  # b is 0
            return
        scale = 1.0 if self._rescale else self._filter.scale
        product = self._filter.times_kernel(block / self.root) * scale / self.root
        below = (block.T @ self.beyond).cpu().numpy() @ self._residual  # Xᵀ A V, as X is orthogonal to V
        corner = (block.T @ product).cpu().numpy()
        self._matrix = np.block([[self._matrix, below.T], [below, (corner + corner.T) / 2]])
        self.basis = torch.cat([self.basis, block], dim=1)
        for _ in range(2):  # once leaves a share of the rounding
            product = product - self.basis @ (self.basis.T @ product)
        rest = self.beyond - block @ (block.T @ self.beyond)
        beyond, mixed = torch.linalg.qr(torch.cat([rest, product], dim=1))
        del product, rest
        columns = mixed.cpu().numpy()
        old = self.beyond.shape[1]
        left, sizes, right = np.linalg.svd(np.hstack([columns[:, :old] @ self._residual, columns[:, old:]]))
        kept = sizes > _ROUNDING * np.abs(self._matrix).max()
        self.beyond = beyond @ torch.from_numpy(left[:, : len(sizes)][:, kept]).to(beyond)
        self._residual = sizes[kept, None] * right[: len(sizes)][kept]
        self.size += 1
        if self._rescale:
            self.unit = float(np.linalg.eigvalsh(self._matrix)[-1]) or 1.0
        self._decomposed = None
        values = self.decomposed()[0]
        check_spectrum(float(values.min()), float(values.max()))

    def decomposed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Eigenvalues of T, from the smallest up, its eigenvectors Q (m, m), Qᵀ s (m, C), and Yᵀ R Q."""
        if self._decomposed is None:
            values, vectors = np.linalg.eigh(self._matrix / self.unit)
            parts = vectors.T @ (self.basis.T @ self.start).cpu().numpy()
            if values.min(initial=0.0) >= -NEGLIGIBLE:
                values = values.clip(0.0)
            self._decomposed = values, vectors, parts, self._residual @ vectors / self.unit
        return self._decomposed

    def bounds(self, steps: np.ndarray) -> np.ndarray:
        """The bound on ‖e^k‖, (steps, C), for increasing k."""
        (values, _, parts, residual), last = self.decomposed(), int(steps[-1])
        first = (1.0 - values) ** np.arange(min(_STEPS_AT_ONCE, last))[:, None]
        total, bounds = np.zeros(parts.shape[1]), np.zeros((len(steps), parts.shape[1]))
        for start in range(0, last, _STEPS_AT_ONCE):
            powers = first[: last - start] * (1.0 - values) ** start  # of j = start, start + 1, …
            missed = [np.linalg.norm((powers * part) @ residual.T, axis=1) for part in parts.T]
            running = total + np.cumsum(np.stack(missed, axis=1), axis=0)  # so that k = start + 1, …
            total = running[-1]
            inside = (steps > start) & (steps <= start + len(powers))
            bounds[inside] = running[steps[inside] - start - 1]
        return bounds

    def norms(self, steps: np.ndarray) -> np.ndarray:
        """‖D^(1/2) z^k‖ over all channels."""
        values, _, parts, _ = self.decomposed()
        norms: np.ndarray = np.sqrt(_gains(values, steps) ** 2 @ np.square(parts).sum(1))
        return norms

    def settled(self) -> bool:
        """Whether the largest eigenvalue θ of T, where it is the unit, is that of A: ‖A u − θ u‖ ≤ 1e-5 θ."""
        missed = np.linalg.norm(self.decomposed()[3][:, -1:])
        return not self._rescale or bool(missed <= _LARGEST_MISSES)

    def _expected(self, steps: np.ndarray, left_out: float) -> Tensor:
        """Vectors whose span holds the expected errors after ``steps``, but for a share of ‖D^(1/2) z^k‖."""
        lambdas, vectors = self._low_rank  # in float32, which is good enough for what is only to be expected
        unit = self.unit if self.size or not self._rescale else lambdas.max(initial=0.0)
        lambdas = (lambdas / max(unit, 1e-300)).clip(0.0, 1.0)
        if self.size == 0:
            expected = _gains(lambdas, steps)[:, :, None] * (vectors.T @ self.start.to(vectors)).cpu().numpy()
            norms = np.sqrt(np.square(expected).sum((1, 2)))
            chosen = _principal(expected, norms, left_out, _FIRST).to(vectors)
            return torch.cat([self.start, (vectors @ chosen).to(self.start)], dim=1)
        values, _, parts, residual = self.decomposed()
        inner = vectors.T @ self.beyond.to(vectors)
        others, rest = torch.linalg.qr(self.beyond - vectors @ inner)
        residual = torch.cat([inner.to(rest), rest]).cpu().numpy() @ residual
        apart = np.append(lambdas, np.zeros(len(rest)))[:, None] - values
        apart[np.abs(apart) < 1e-7] = 1e-7
        left = 1.0 - values  # ((1 − θ)^k − (1 − λ)^k) / (λ − θ) is the sum of (1 − λ)^(k−1−j) (1 − θ)^j
        expected = np.stack([((left**k - (left - apart) ** k) / apart * residual) @ parts for k in steps])
        gaps = np.diff(steps, prepend=0)[:, None, None]  # the bound adds each residual over all of them
        added = gaps * np.stack([(residual * left ** max(k - 1, 0)) @ parts for k in steps])
        norms = self.norms(np.append(steps, np.full_like(steps, steps[-1])))
        most = max(_MOST, self.start.shape[1])
        chosen = _principal(np.concatenate([expected, added]), norms, left_out, most).to(others)
        block: Tensor = others @ chosen[len(lambdas) :] + vectors @ chosen[: len(lambdas)].to(vectors)
        return block

    def _orthonormal(self, block: Tensor) -> Tensor:
        """An orthonormal basis of what a block adds to the space, without what depends on other columns."""
        block = block / block.norm(dim=0).clamp_min(1e-300)
        for _ in range(2):
            block = block - self.basis @ (self.basis.T @ block)
        block, mixed = torch.linalg.qr(block)
        left, sizes, _ = torch.linalg.svd(mixed)
        block = block @ left[:, sizes > _DEPENDENT] if sizes.max() > _DEPENDENT else self.beyond[:, :1]
        basis: Tensor = torch.linalg.qr(block - self.basis @ (self.basis.T @ block))[0]
        return basis


def _principal(expected: np.ndarray, norms: np.ndarray, left_out: float, most: int) -> Tensor:
    """The least number of principal components of stacked (m, C) that leave out no more than a share."""
    columns = np.concatenate(list(expected / np.maximum(norms, 1e-300)[:, None, None]), axis=1)
    components, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    left = np.sqrt(np.cumsum(sizes[::-1] ** 2)[::-1])  # out, by each number of components
    return torch.from_numpy(components[:, : min(most, max(1, int((left > left_out * left[:1]).sum())))])


def _low_rank(filter: Filter, root: Tensor, budget_gb: float) -> tuple[np.ndarray, Tensor]:
    """Eigenvalues and orthonormal eigenvectors of the low rank of A, but for its scale; none if too large.

    An eighth of √N columns, with some 60 operations an entry in float64, and r² operations a pixel for all r
    vectors, against 40 N in float32 for a product: together a quarter of one with 11×11 patches at 256×256.
    The vectors are in float32.
    """
    most = int(budget_gb * 1e9 / (3 * 8 * len(root))) - filter.linear_width
    if filter.linear_width == 0 or most < 0:
        return np.empty(0), root[:, :0].float()
    columns = min(most, round(len(root) ** 0.5 / 8)) if filter.compares_patches else 0
    if not bool(filter.linear_part().any()):  # a black picture
        return np.empty(0), root[:, :0].float()
    if columns > 0:
        chance = torch.Generator().manual_seed(0)
        factor = filter.low_rank(columns, generator=chance, budget_gb=budget_gb).factor
    else:
        factor = filter.linear_part()
    factor /= root
    values, mixed = torch.linalg.eigh(factor.T @ factor)
    kept = values > _NOISE * values[-1]
    mixed = mixed[:, kept] / values[kept].sqrt()
    vectors = torch.empty(len(factor), mixed.shape[1], dtype=torch.float32, device=factor.device)
    for start in range(0, len(factor), _ROWS):
        vectors[start : start + _ROWS] = (factor[start : start + _ROWS] @ mixed).float()
    return values[kept].cpu().numpy(), vectors


class TraceEstimate(NamedTuple):
    """A random estimate of a trace, for several numbers of steps.

    Attributes:
        value: The mean over the probes.
        standard_error: Of that mean, from how far the probes lie apart.
    """

    value: Float[Tensor, "*steps"]
    standard_error: Float[Tensor, "*steps"]


def estimated_degrees_of_freedom(
    filter: Filter,
    steps: Steps,
    *,
    generator: torch.Generator,
    probes: int = 8,
    tolerance: float = 1e-3,
    max_products: int = 200,
) -> TraceEstimate:
    """An estimate of the degrees of freedom tr(I − R_k), from random vectors of signs.

    ::

        tr f(A) ≈ mean over random b in {−1, 1}^N of bᵀ f(A) b,     f(λ) = 1 − (1 − λ)^k
        bᵀ f(A) b ≈ sᵀ f(T) s

    with A, T and s as for :class:`LanczosTwicing`, V spanning a space that holds all b. With its R and e^k,
    the error is e^k · b. Since (I − A)^j b = V (I − T)^j s − e^j, and R is orthogonal to V, that is
    −Σ_{j<k} e^{k−1−j} · R (I − T)^j s: at most the square of the bound on ‖e^k‖.

    Args:
        filter: W, symmetric or with normalised rows.
        steps: The number k of steps, or an increasing list of such.
        generator: The source of b.
        probes: How many b, at least two; the standard error falls like 1/√probes.
        tolerance: The products end when the error of sᵀ f(T) s is below this share of the trace.
        max_products: How many products may be made, each with all probes.

    Raises:
        ValueError: Fewer than two probes; a tolerance or a number of products that is not positive.
        DivergenceError, ConvergenceError: As :class:`LanczosTwicing`.
    """
    stops = np.array(check_steps(steps))
    check_whole("probes", probes, 2)
    check_positive("tolerance", tolerance)
    height, width = filter.shape
    signs = torch.randint(0, 2, (probes, height * width), generator=generator, device=generator.device)
    start = 2.0 * signs.T.to(filter.weights) - 1.0
    space = _Space(filter, start, max_products)
    while True:
        space.extend(stops, tolerance)
        values, _, parts, _ = space.decomposed()
        traces = _gains(values, stops) @ parts**2
        if np.all(np.square(space.bounds(stops)).sum(1) <= tolerance * traces.sum(1)):
            break
    value = torch.from_numpy(traces.mean(1))
    error = torch.from_numpy(traces.std(1, ddof=1) / probes**0.5)
    if isinstance(steps, int | np.integer):
        value, error = value[0], error[0]
    return TraceEstimate(value, error)
