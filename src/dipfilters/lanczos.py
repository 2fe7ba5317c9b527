"""Twicing for all numbers of steps from a handful of products, where no matrix can be stored.

After k steps z^k is a polynomial in W, applied to y. Lanczos' method makes an orthonormal basis V of
y, W y, …, W^{m−1} y, in which W is a small matrix T = Vᵀ W V, and takes that polynomial of T instead.

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
from dipfilters.twicing import NEGLIGIBLE, Steps, check_spectrum, check_steps

_BOUND_EACH = 32  # so many products have their bound computed each, later ones one in eight
_STEPS_AT_ONCE = 2**14  # of the sums that bound the error
_LARGEST_MISSES = 1e-5  # how far the largest eigenvector may miss; its eigenvalue then misses by the square


class ConvergenceError(ArithmeticError):
    """An approximation that is not as good as was asked for within the products that were allowed."""


class LanczosTwicing:
    """Twicing of one noisy picture for all numbers of steps up to a last one, from a few products with W.

    ::

        A = D^(1/2) W D^(−1/2),   b = D^(1/2) y                       D = I for a symmetric W
        A V = V T + β v e_mᵀ,     V e_1 = b/‖b‖                       m steps of Lanczos
        z^k ≈ ‖b‖ D^(−1/2) V (I − (I − T)^k) e_1

    The error obeys e^{k+1} = (I − A) e^k + β ‖b‖ (e_mᵀ (I − T)^k e_1) v from e⁰ = 0, so that, with
    eigenvalues of A in [0, 2], ::

        ‖e^k‖ ≤ β ‖b‖ Σ_{j<k} |e_mᵀ (I − T)^j e_1|

    New products are made until that bound is below ``tolerance`` times ‖b‖ ‖(I − (I − T)^k) e_1‖ for every k.
    Both are norms of D^(1/2) z, where rows are normalised, and take all channels together. Each channel has
    a Krylov space of its own, and all are multiplied by W in one call.

    A filter with ``normalize="spectral"`` that does not know its largest eigenvalue yet learns it on the way:
    K has the Krylov space of W, and the largest eigenvalue of T is soon that of K.

    Args:
        filter: W, its eigenvalues in [0, 2].
        noisy: The picture y.
        last: The largest number k of steps.
        tolerance: The largest relative error of an estimate, but for what the filter's products miss.
        max_products: How many products may be made.

    Raises:
        PictureError: Not a picture of the filter's size, or one that requires a gradient.
        ValueError: A last step, tolerance or number of products that is not positive.
        DivergenceError: An eigenvalue of T, and so of W, lies outside [0, 2].
        ConvergenceError: ``max_products`` were not enough.

    Cost: m products with W, 4 m² CN operations to keep V orthonormal and 2 m·CN float64 numbers to do so;
    for each product m·``last`` operations for the bound.
    """

    def __init__(
        self,
        filter: Filter,
        noisy: Float[Tensor, "C H W"],
        *,
        last: int,
        tolerance: float = 1e-4,
        max_products: int = 200,
    ) -> None:
        check_picture(noisy, "noisy")
        check_shape("noisy", noisy.shape[1:], filter.shape, "the filter")
        check_detached(noisy, "noisy")
        check_positive("tolerance", tolerance)
        self.last = check_whole("last", last, 1)
        self.shape = filter.shape
        self._dtype = noisy.dtype
        rescale = not filter.knows_scale
        start = noisy.reshape(len(noisy), -1).to(filter.weights) * filter.weights.sqrt()
        self._krylov = _Krylov(filter, start, max_products, rescale=rescale)
        while True:
            self._krylov.extend()
            if self.products > _BOUND_EACH and self.products % 8 and self.products < max_products:
                continue  # the bound of many steps takes longer than a product then
            relative = self._relative_bound(np.arange(1, self.last + 1))
            settled = not rescale or self._krylov.largest_misses() <= _LARGEST_MISSES
            if relative.max() <= tolerance and settled:
                break

        if rescale and self._krylov.decomposed()[0].max() > 0:  # a black picture tells nothing
            filter.learn_scale(1.0 / self._krylov.unit)

    @property
    def products(self) -> int:
        """How many products with the filter were made."""
        return self._krylov.size

    def estimate(self, steps: Steps) -> Float[Tensor, "*steps C H W"]:
        """z^k, for one number of steps or a stack for several; the dtype of ``noisy``.

        Raises:
            ValueError: Steps that do not increase, or beyond ``last``.
        """
        stops = self._check(steps)
        values, vectors = self._krylov.decomposed()
        gains = _gains(values, np.array(stops))  # (steps, C, m)
        coefficients = np.einsum("kcm,cm,cim->kci", gains, vectors[:, 0], vectors)
        scaled = torch.from_numpy(coefficients * self._krylov.norms[:, None]).to(self._krylov.root)
        basis = torch.stack(self._krylov.basis[:-1], dim=1)  # ‖b‖ D^(−1/2) V times the coefficients
        estimate: Tensor = torch.einsum("kcm,cmn->kcn", scaled, basis) / self._krylov.root
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
        values, vectors = self._krylov.decomposed()
        norms, ends = self._krylov.norms, self._krylov.residual
        squares = np.zeros((2, len(steps)))
        for theta, q, length, end in zip(values, vectors, norms, ends, strict=True):
            total, sums, weights = 0.0, np.zeros(len(steps)), q[-1] * q[0]
            first = (1.0 - theta) ** np.arange(min(_STEPS_AT_ONCE, int(steps[-1])))[:, None]
            for start in range(0, int(steps[-1]), _STEPS_AT_ONCE):
                stop = min(start + _STEPS_AT_ONCE, int(steps[-1]))
                powers = first[: stop - start] * (1.0 - theta) ** start  # of j = start, start + 1, …
                running = total + np.cumsum(np.abs(powers @ weights))  # so that k = start + 1, …
                total = running[-1]
                inside = (steps > start) & (steps <= stop)
                place = steps[inside] - start - 1
                sums[inside] = running[place]
                gains = 1.0 - powers[place] * (1.0 - theta)
                squares[1, inside] += length**2 * (gains**2 @ q[0] ** 2)
            squares[0] += (end * length * sums) ** 2
        bound, norm = np.sqrt(squares)
        # Where an estimate is 0 so is its error: b is 0, or W takes it to 0.
        relative: np.ndarray = np.divide(bound, norm, out=np.zeros_like(bound), where=norm > 0)
        return relative


def _gains(values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """1 − (1 − λ)^k, the steps along a new first axis."""
    gains: np.ndarray = 1.0 - (1.0 - values) ** steps.reshape(-1, *[1] * values.ndim)
    return gains


class _Krylov:
    """Lanczos from several vectors b at once, each for itself, with full reorthogonalisation.

    Args:
        filter: W.
        start: b, for A = D^(1/2) W D^(−1/2).
        max_products: How many steps there may be.
        rescale: Give A, and so T, the factor that makes the largest eigenvalue of T one.

    Attributes:
        norms: ‖b‖ of each vector.
        root: The diagonal of D^(1/2).
        basis: The columns of V, (C, N) each, and one more.
        size: How many steps there were.
        unit: The largest eigenvalue of T before it was made one, with ``rescale``.
    """

    def __init__(
        self, filter: Filter, start: Float[Tensor, "C N"], max_products: int, *, rescale: bool = False
    ) -> None:
        self._max_products = check_whole("max_products", max_products, 1)
        self._filter, self._rescale, self.unit = filter, rescale, 1.0
        self.root = filter.weights.sqrt()
        norms = start.norm(dim=1)
        self.basis = [_unit(start, norms)]
        self._diagonal: list[np.ndarray] = []
        self._beside: list[np.ndarray] = []
        self.norms = norms.cpu().numpy()

    @property
    def size(self) -> int:
        return len(self._diagonal)

    @property
    def residual(self) -> np.ndarray:
        """β of each vector after the last step."""
        return self._beside[-1] / self.unit

    def largest_misses(self) -> float:
        """‖A u − θ u‖/θ for the largest eigenvalue θ of T and what V makes of its eigenvector."""
        values, vectors = self.decomposed()
        channel = int(values[:, -1].argmax())
        return float(self.residual[channel] * abs(vectors[channel, -1, -1]))

    def extend(self) -> None:
        """One more product, and one more vector of each basis.

        Raises:
            ConvergenceError: There were ``max_products`` before.
            DivergenceError: Eigenvalues with which twicing cannot converge.
        """
        if self.size == self._max_products:
            raise ConvergenceError(
                f"{self.size} products are not enough; allow more than max_products = {self.size}, a larger "
                f"tolerance or fewer steps"
            )
        last = self.basis[-1]
        product = self._times(last)
        self._diagonal.append((last * product).sum(1).cpu().numpy())
        before = product.norm(dim=1)
        basis = torch.stack(self.basis, dim=1)  # (C, m, N)
        for _ in range(2):  # once leaves a share of the rounding that grows with the steps
            product = product - (basis.transpose(1, 2) @ (basis @ product[:, :, None]))[:, :, 0]
        beta = product.norm(dim=1)
        # What is left of a product inside the span of the basis is rounding: there the channel is finished.
        beta = torch.where(beta > 1e-14 * before, beta, 0.0)
        self._beside.append(beta.cpu().numpy())
        self.basis.append(_unit(product, beta))
        if self._rescale:
            self.unit = 1.0
            self.unit = float(self.decomposed()[0].max()) or 1.0
        values = self.decomposed()[0]
        check_spectrum(float(values.min()), float(values.max()))

    def decomposed(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (C, m), from the smallest up, and eigenvectors (C, m, m) of T."""
        m = self.size
        matrices = np.zeros((len(self.norms), m, m))
        rows = np.arange(m)
        matrices[:, rows, rows] = np.stack(self._diagonal, axis=1)
        if m > 1:
            beside = np.stack(self._beside[:-1], axis=1)
            matrices[:, rows[1:], rows[:-1]] = matrices[:, rows[:-1], rows[1:]] = beside
        values, vectors = np.linalg.eigh(matrices / self.unit)
        return np.clip(values, 0.0, None) if values.min() >= -NEGLIGIBLE else values, vectors

    def decomposed_with_zero(self) -> tuple[np.ndarray, np.ndarray]:
        """The same for T with one row and column more, so chosen that 0 is an eigenvalue."""
        values, vectors = self.decomposed()
        m = self.size
        matrices = np.zeros((len(self.norms), m + 1, m + 1))
        matrices[:, :m, :m] = np.einsum("cij,cj,ckj->cik", vectors, values, vectors)
        matrices[:, m, m - 1] = matrices[:, m - 1, m] = self.residual
        inverse = (vectors[:, -1] ** 2 / values.clip(1e-300)).sum(1)
        matrices[:, m, m] = np.where(self.residual > 0, self.residual**2 * inverse, 0.0)
        extended, others = np.linalg.eigh(matrices)
        return extended.clip(0.0, values.max()), others

    def _times(self, vectors: Tensor) -> Tensor:
        """A v = D^(1/2) W D^(−1/2) v."""
        # A = K with ``rescale``, whose largest eigenvalue is found on the way.
        scale = 1.0 if self._rescale else self._filter.scale
        return self._filter.times_kernel((vectors / self.root).T).T * scale / self.root


def _unit(vectors: Tensor, norms: Tensor) -> Tensor:
    """Each vector divided by its norm; 0 where that is 0."""
    return torch.where(norms[:, None] > 0, vectors / norms.clamp_min(1e-300)[:, None], 0.0)


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

        tr f(A) ≈ mean over random b in {−1, 1}^N of bᵀ f(A) b
        bᵀ f(A) b ≈ ‖b‖² Σ_i (first entry of eigenvector i of T)² f(θ_i),     f(λ) = 1 − (1 − λ)^k

    with T and its eigenvalues θ from Lanczos started at b; A has the eigenvalues of W. The derivatives of f
    have alternating signs on [0, 1], so that this sum (Gauss) is never below the true one, and that with a
    further θ = 0 (Gauss and Radau) never above it: given is the middle of both.

    Args:
        filter: W, symmetric or with normalised rows.
        steps: The number k of steps, or an increasing list of such.
        generator: The source of b.
        probes: How many b, at least two; the standard error falls like 1/√probes.
        tolerance: Lanczos ends when both sums agree within this share of the trace, for all steps together.
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
    krylov = _Krylov(filter, 2.0 * signs.to(filter.weights) - 1.0, max_products)
    while True:
        krylov.extend()
        above, below = (
            (_gains(values, stops) * vectors[:, 0] ** 2).sum(-1) * krylov.norms**2
            for values, vectors in (krylov.decomposed(), krylov.decomposed_with_zero())
        )
        traces = (above + below) / 2
        if np.all(np.abs(above - below).mean(1) <= tolerance * traces.mean(1)):
            break
    value = torch.from_numpy(traces.mean(1))
    error = torch.from_numpy(traces.std(1, ddof=1) / probes**0.5)
    if isinstance(steps, int | np.integer):
        value, error = value[0], error[0]
    return TraceEstimate(value, error)
