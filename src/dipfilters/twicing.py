"""Twicing: filter the residual and add it back, again and again; its closed form, errors, and when to stop.

Here z⁰ = 0 and z^{k+1} = z^k + W (y − z^k), so that z^k = (I − R_k) y with R_k = (I − W)^k.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dipfilters.filters import Decomposition
from dipfilters.images import PictureError, check_picture, check_sigma, pixel_numbers

Steps = int | Sequence[int]


class DivergenceError(ArithmeticError):
    """Twicing whose residual grows: an eigenvalue of the filter lies below 0 or above 2."""


class ConvergenceError(ArithmeticError):
    """An approximation that is not as good as was asked for within the products that were allowed."""


@runtime_checkable
class LinearFilter(Protocol):
    """What twicing needs of a filter: its product with a picture."""

    def apply(self, picture: Float[Tensor, "*batch H W"]) -> Float[Tensor, "*batch H W"]:
        """W times a picture."""


@runtime_checkable
class DecomposableFilter(LinearFilter, Protocol):
    """What the closed form needs besides: the picture's size and the filter's eigenvectors."""

    shape: tuple[int, int]

    def decomposition(self) -> Decomposition:
        """Eigenvalues of W, the largest first, and its left and right eigenvectors."""


@runtime_checkable
class SymmetricFilter(LinearFilter, Protocol):
    """What Lanczos needs besides the product: a W that is its own transpose, or :class:`RowNormalized`."""

    shape: tuple[int, int]

    @property
    def symmetric(self) -> bool:
        """Whether W is its own transpose; if not, it is D⁻¹ K with a symmetric K."""


class RowNormalized(Protocol):
    """W = D⁻¹ K. Apart from :class:`SymmetricFilter`, since looking whether D is there may compute it."""

    @property
    def row_sums(self) -> Float[Tensor, " N"]:
        """D, the sums of the rows of K."""


def step_grid(last: int, count: int = 60) -> list[int]:
    """Whole numbers from 1 to ``last``, about ``count`` of them, evenly spaced on a logarithmic axis."""
    if last < 1:
        raise ValueError(f"the last step must be at least 1, got {last}")
    return [int(k) for k in np.unique(np.geomspace(1, last, count).round())]


def twicing(
    filter: LinearFilter, noisy: Float[Tensor, "C H W"], *, steps: Steps
) -> Float[Tensor, "*steps C H W"]:
    """Iterate the filter on the residual.

    ::

        z⁰ = 0,   z^{k+1} = z^k + W (y − z^k)

    Args:
        filter: W, as anything with ``apply``.
        noisy: The picture y.
        steps: The number k of steps, giving z^k; or an increasing list of such numbers, giving a stack.

    Raises:
        PictureError: Not a picture.
        ValueError: Steps that are negative or do not increase.
        DivergenceError: The residual grows a thousandfold, which W with eigenvalues in [0, 2] cannot do.

    Cost: one product with W a step.

    Source: Tukey (1977) [tukey1977]; Milanfar (2013) [milanfar2013].
    """
    check_picture(noisy, "noisy")
    stops = _check_steps(steps)
    limit = 1e3 * float(noisy.norm())
    estimate = torch.zeros_like(noisy)
    kept = []
    for k in range(max(stops, default=0) + 1):
        if k > 0:
            residual = noisy - estimate
            if not float(residual.norm()) <= limit:
                raise DivergenceError(
                    f"twicing diverged by step {k}: an eigenvalue of the filter lies outside [0, 2]; "
                    f"use a smaller factor than the present one, or all pairs of pixels instead of a search "
                    f"window"
                )
            estimate = estimate + filter.apply(residual)
        if k in stops:
            kept.append(estimate)
    return kept[0] if isinstance(steps, int) else torch.stack(kept)


class SpectralTwicing:
    """Twicing for all numbers of steps at once, from one eigendecomposition of the filter.

    ::

        W = L⁻ᵀ diag(λ) Lᵀ,   z^k = L⁻ᵀ diag(1 − (1 − λ)^k) Lᵀ y

    For a symmetric W, L = L⁻ᵀ holds its orthonormal eigenvectors. For rows that sum to one, W = D⁻¹K has
    left eigenvectors D^(1/2) u and right ones D^(−1/2) u, with u those of D^(−1/2) K D^(−1/2). An eigenvector
    with λ = 0 lets nothing through at any k, so that a filter of low rank needs only the others.

    Args:
        filter: The filter, as anything with ``shape`` and ``decomposition``.

    Raises:
        MemoryBudgetError: The filter's matrix is too large.

    Cost: that of the filter's decomposition once, then 2 N m operations for each number of steps, with m the
    number of eigenvectors.

    Source: Milanfar (2013) [milanfar2013]; Talebi and Milanfar (2014) [talebi2014].
    """

    def __init__(self, filter: DecomposableFilter) -> None:
        self.shape = filter.shape
        self.eigenvalues: Float[Tensor, " m"]
        self.eigenvalues, self._left, self._right = filter.decomposition()

    def gains(self, steps: Steps) -> Float[Tensor, "*steps m"]:
        """1 − (1 − λ)^k: the share of each eigenvector that k steps let through."""
        powers = [(1.0 - self.eigenvalues).pow(k) for k in _check_steps(steps)]
        gains: Tensor = 1.0 - torch.stack(powers)
        return gains[0] if isinstance(steps, int) else gains

    def eigenpictures(self, count: int) -> Float[Tensor, "count H W"]:
        """The leading right eigenvectors of W as pictures, of unit length, their sum not negative."""
        vectors = self._right[:, :count]
        signs = torch.where(vectors.sum(0) < 0, -1.0, 1.0)
        return (vectors * signs / vectors.square().sum(0).sqrt()).T.reshape(-1, *self.shape)

    def estimate(self, noisy: Float[Tensor, "C H W"], steps: Steps) -> Float[Tensor, "*steps C H W"]:
        """z^k, for one number of steps or a stack for several; the dtype of ``noisy``."""
        pixels = self._pixels(noisy, "noisy")
        coefficients: Tensor = pixels @ self._left
        estimate: Tensor = (self.gains(steps)[..., None, :] * coefficients) @ self._right.T
        return estimate.reshape(*estimate.shape[:-1], *self.shape).to(noisy.dtype)

    def row(self, pixel: tuple[int, int], steps: int) -> Float[Tensor, "H W"]:
        """The row of I − R_k that computes one pixel after k steps: the filter that twicing amounts to."""
        (i,) = pixel_numbers([pixel], self.shape)
        return (self._left @ (self.gains(steps) * self._right[i])).reshape(self.shape)

    def degrees_of_freedom(self, steps: Steps) -> Float[Tensor, "*steps"]:
        """tr(I − R_k) = Σ 1 − (1 − λ)^k: how many numbers of the noisy picture the estimate follows."""
        return self.gains(steps).sum(-1)

    def bias_squared(self, clean: Float[Tensor, "C H W"], steps: Steps) -> Float[Tensor, "*steps"]:
        """‖R_k x‖² / CN: the mean squared error left without noise. W must not depend on the noise."""
        pixels = self._pixels(clean, "clean")
        coefficients = self.gains(steps)[..., None, :] * (pixels @ self._left)
        return (pixels - coefficients @ self._right.T).square().mean(dim=(-2, -1))

    @cached_property
    def _gram(self) -> Tensor:
        return (self._right.T @ self._right) * (self._left.T @ self._left)

    def _pixels(self, picture: Tensor, name: str) -> Tensor:
        """The (C, N) pixel matrix of a picture of the filter's size, in float64 on the filter's device."""
        check_picture(picture, name)
        if tuple(picture.shape[1:]) != self.shape:
            raise PictureError(
                f"{name} must be {self.shape} pixels like the filter's, got {tuple(picture.shape[1:])}"
            )
        return picture.reshape(len(picture), -1).to(self._left)

    def variance(self, sigma: float, steps: Steps) -> Float[Tensor, "*steps"]:
        """σ² ‖I − R_k‖_F² / N: the mean squared error that the noise brings. W must not depend on it."""
        check_sigma(sigma)
        gains = self.gains(steps)
        # ‖Σ g_a r_a l_aᵀ‖² = Σ_ab g_a g_b ⟨r_a, r_b⟩ ⟨l_a, l_b⟩, which is Σ g_a² for orthonormal vectors.
        coupled = gains if self._left is self._right else gains @ self._gram
        squared_norm = (coupled * gains).sum(-1)
        return sigma**2 * squared_norm / len(self._left)


class LanczosTwicing:
    """Twicing of one noisy picture for all numbers of steps up to a last one, from a few products with W.

    ::

        A = D^(1/2) W D^(−1/2),   b = D^(1/2) y                       D = I for a symmetric W
        A V = V T + β v e_mᵀ,     V e_1 = b/‖b‖                       m steps of Lanczos
        z^k ≈ ‖b‖ D^(−1/2) V (I − (I − T)^k) e_1

    The error obeys e^{k+1} = (I − A) e^k + β ‖b‖ (e_mᵀ (I − T)^k e_1) v from e⁰ = 0, so that, with
    eigenvalues of A in [0, 2],

        ‖e^k‖ ≤ β ‖b‖ Σ_{j<k} |e_mᵀ (I − T)^j e_1|

    New products are made until that bound is below ``tolerance`` times ‖b‖ ‖(I − (I − T)^k) e_1‖ for every k.
    Both are norms of D^(1/2) z, where rows are normalised, and take all channels together. Each channel has
    a Krylov space of its own, and all are multiplied by W in one call.

    Args:
        filter: W, symmetric or with normalised rows, its eigenvalues in [0, 2].
        noisy: The picture y.
        last: The largest number k of steps.
        tolerance: The largest relative error of an estimate, but for what the filter's products miss.
        max_products: How many products may be made.

    Attributes:
        products: How many products were made, m.
        ritz_values: The eigenvalues of T for each channel, which approach the outer ones of W.

    Raises:
        PictureError: Not a picture of the filter's size.
        ValueError: A last step, tolerance or number of products that is not positive.
        DivergenceError: An eigenvalue of T, and so of W, lies outside [0, 2].
        ConvergenceError: ``max_products`` were not enough.

    Cost: m products with W, 4 m² CN operations to keep V orthonormal and m·CN float64 numbers to hold it; for
    each product m·``last`` operations for the bound.
    """

    def __init__(
        self,
        filter: SymmetricFilter,
        noisy: Float[Tensor, "C H W"],
        *,
        last: int,
        tolerance: float = 1e-4,
        max_products: int = 200,
    ) -> None:
        check_picture(noisy, "noisy")
        if tuple(noisy.shape[1:]) != filter.shape:
            raise PictureError(
                f"noisy must be {filter.shape} pixels like the filter's, got {tuple(noisy.shape[1:])}"
            )
        for name, value in (("last", last), ("tolerance", tolerance), ("max_products", max_products)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        self.last = last
        self.shape = filter.shape
        self._dtype = noisy.dtype
        pixels = noisy.double().reshape(len(noisy), -1)
        root = _root(filter)
        self._krylov = _Krylov(filter, pixels if root is None else pixels * root.to(pixels), root)
        while True:
            self._krylov.extend()
            self._krylov.check_spectrum()
            bound, norm = self._bound_and_norm(np.arange(1, last + 1))
            # Where an estimate is 0 so is its error: b is 0, or W takes it to 0.
            relative = np.divide(bound, norm, out=np.zeros_like(bound), where=norm > 0)
            if relative.max() <= tolerance:
                break
            if self.products >= max_products:
                worst = int(relative.argmax())
                raise ConvergenceError(
                    f"after {self.products} products the error of step {worst + 1} may be "
                    f"{relative[worst]:.1e}, over the tolerance of {tolerance:g}; allow more than "
                    f"max_products = {max_products}, or ask for fewer steps than {last}"
                )

    @property
    def products(self) -> int:
        """How many products with the filter were made."""
        return self._krylov.size

    @property
    def ritz_values(self) -> Float[Tensor, "C m"]:
        """The eigenvalues of T for each channel, from the largest down."""
        return torch.from_numpy(self._krylov.decomposed()[0]).flip(-1)

    def estimate(self, steps: Steps) -> Float[Tensor, "*steps C H W"]:
        """z^k, for one number of steps or a stack for several; the dtype of ``noisy``.

        Raises:
            ValueError: Steps that do not increase, or beyond ``last``.
        """
        stops = self._check(steps)
        values, vectors = self._krylov.decomposed()
        gains = _gains(values, np.array(stops))  # (steps, C, m)
        coefficients = np.einsum("kcm,cm,cim->kci", gains, vectors[:, 0], vectors)
        estimate = self._krylov.combined(torch.from_numpy(coefficients))
        estimate = estimate.reshape(*estimate.shape[:-1], *self.shape).to(self._dtype)
        return estimate[0] if isinstance(steps, int) else estimate

    def error_bound(self, steps: Steps) -> Float[Tensor, "*steps"]:
        """The bound of the error of D^(1/2) z^k, relative to its norm; 0 where both are."""
        bound, norm = self._bound_and_norm(np.array(self._check(steps)))
        relative = torch.from_numpy(np.divide(bound, norm, out=np.zeros_like(bound), where=norm > 0))
        return relative[0] if isinstance(steps, int) else relative

    def _check(self, steps: Steps) -> list[int]:
        stops = _check_steps(steps)
        if stops[-1] > self.last:
            raise ValueError(
                f"steps must not go beyond last = {self.last}, got {stops[-1]}; ask for it at first"
            )
        return stops

    def _bound_and_norm(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The bound on ‖e^k‖, and ‖D^(1/2) z^k‖, for increasing k."""
        values, vectors = self._krylov.decomposed()
        norms, ends = self._krylov.norms, self._krylov.residual
        squares = np.zeros((2, len(steps)))
        for theta, q, norm, end in zip(values, vectors, norms, ends, strict=True):
            gains = _gains(theta, steps)
            squares[1] += norm**2 * (gains**2 @ q[0] ** 2)
            total, sums, weights = 0.0, np.zeros(len(steps)), q[-1] * q[0]
            for start in range(0, int(steps[-1]), _STEPS_AT_ONCE):
                stop = min(start + _STEPS_AT_ONCE, int(steps[-1]))
                sizes = np.abs((1.0 - theta) ** np.arange(start, stop)[:, None] @ weights)
                running = total + np.cumsum(sizes)  # up to j = start, start + 1, …, so k = start + 1, …
                inside = (steps > start) & (steps <= stop)
                sums[inside] = running[steps[inside] - start - 1]
                total = running[-1]
            squares[0] += (end * norm * sums) ** 2
        return np.sqrt(squares[0]), np.sqrt(squares[1])


_STEPS_AT_ONCE = 2**14


def _root(filter: SymmetricFilter) -> Tensor | None:
    """The diagonal of D^(1/2), or None if W is symmetric."""
    return None if filter.symmetric else cast(RowNormalized, filter).row_sums.double().sqrt()


def _gains(values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """1 − (1 − λ)^k, the steps along a new first axis."""
    gains: np.ndarray = 1.0 - (1.0 - values) ** steps.reshape(-1, *[1] * values.ndim)
    return gains


class _Krylov:
    """Lanczos from several vectors b at once, each for itself, with full reorthogonalisation.

    Args:
        filter: W.
        start: b, for A = D^(1/2) W D^(−1/2).
        root: The diagonal of D^(1/2), or None for A = W.

    Attributes:
        norms: ‖b‖ of each vector.
        residual: β after the last step.
        size: How many steps there were.
    """

    def __init__(
        self, filter: SymmetricFilter, start: Float[Tensor, "C N"], root: Float[Tensor, " N"] | None
    ) -> None:
        self._filter, self._root = filter, root
        norms = start.norm(dim=1)
        self._basis = [_unit(start, norms)]
        self._diagonal: list[np.ndarray] = []
        self._beside: list[np.ndarray] = []
        self.norms = norms.cpu().numpy()

    @property
    def size(self) -> int:
        return len(self._diagonal)

    @property
    def residual(self) -> np.ndarray:
        return self._beside[-1]

    def extend(self) -> None:
        """One more product, and one more vector of each basis."""
        last = self._basis[-1]
        product = self._times(last)
        self._diagonal.append((last * product).sum(1).cpu().numpy())
        before = product.norm(dim=1)
        basis = torch.stack(self._basis, dim=1)  # (C, m, N)
        for _ in range(2):  # once leaves a share of the rounding that grows with the steps
            product = product - (basis.transpose(1, 2) @ (basis @ product[:, :, None]))[:, :, 0]
        beta = product.norm(dim=1)
        # What is left of a product inside the span of the basis is rounding: there the channel is finished.
        beta = torch.where(beta > 1e-14 * before, beta, 0.0)
        self._beside.append(beta.cpu().numpy())
        self._basis.append(_unit(product, beta))

    def decomposed(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (C, m), from the smallest up, and eigenvectors (C, m, m) of T."""
        m = self.size
        matrices = np.zeros((len(self.norms), m, m))
        rows = np.arange(m)
        matrices[:, rows, rows] = np.stack(self._diagonal, axis=1)
        if m > 1:
            beside = np.stack(self._beside[:-1], axis=1)
            matrices[:, rows[1:], rows[:-1]] = matrices[:, rows[:-1], rows[1:]] = beside
        values, vectors = np.linalg.eigh(matrices)
        return np.clip(values, 0.0, None) if values.min() >= -_NEGLIGIBLE else values, vectors

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

    def check_spectrum(self) -> None:
        """Refuse what twicing cannot converge with."""
        values = self.decomposed()[0]
        if values.min() < -_NEGLIGIBLE or values.max() > 2.0:
            raise DivergenceError(
                f"the filter's eigenvalues reach from {values.min():.3g} to {values.max():.3g} at least, and "
                f"twicing diverges outside [0, 2]; use a smaller factor than the present one, or all pairs "
                f"of pixels instead of a search window"
            )

    def combined(self, coefficients: Float[Tensor, "k C m"]) -> Float[Tensor, "k C N"]:
        """‖b‖ D^(−1/2) V c for several c."""
        basis = torch.stack(self._basis[:-1], dim=1)
        scaled = coefficients.to(basis) * torch.from_numpy(self.norms).to(basis)[:, None]
        sums: Tensor = torch.einsum("kcm,cmn->kcn", scaled, basis)
        return sums if self._root is None else sums / self._root

    def _times(self, vectors: Tensor) -> Tensor:
        """A v = D^(1/2) W D^(−1/2) v."""
        pictures = vectors if self._root is None else vectors / self._root
        product = self._filter.apply(pictures.reshape(-1, *self._filter.shape)).reshape(vectors.shape)
        return product if self._root is None else product * self._root


# Rounding of products in float32 may leave an eigenvalue of 0 this far below it.
_NEGLIGIBLE = 1e-6


def _unit(vectors: Tensor, norms: Tensor) -> Tensor:
    """Each vector divided by its norm; 0 where that is 0."""
    return torch.where(norms[:, None] > 0, vectors / norms.clamp_min(1e-300)[:, None], 0.0)


class TraceEstimate(NamedTuple):
    """A random estimate of a trace, for several numbers of steps.

    Attributes:
        value: The mean over the probes.
        standard_error: Of that mean, from how far the probes lie apart.
        products: How many products with stacks of all probes were made.
    """

    value: Float[Tensor, "*steps"]
    standard_error: Float[Tensor, "*steps"]
    products: int


def estimated_degrees_of_freedom(
    filter: SymmetricFilter,
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
        ValueError: Fewer than two probes.
        DivergenceError, ConvergenceError: As :class:`LanczosTwicing`.
    """
    stops = np.array(_check_steps(steps))
    if probes < 2:
        raise ValueError(f"probes must be at least 2 for a standard error, got {probes}")
    height, width = filter.shape
    signs = torch.randint(0, 2, (probes, height * width), generator=generator, device=generator.device)
    root = _root(filter)
    start = 2.0 * signs.double() - 1.0
    krylov = _Krylov(filter, start if root is None else start.to(root), root)
    while True:
        krylov.extend()
        krylov.check_spectrum()
        above, below = (
            (_gains(values, stops) * vectors[:, 0] ** 2).sum(-1) * krylov.norms**2
            for values, vectors in (krylov.decomposed(), krylov.decomposed_with_zero())
        )
        traces = (above + below) / 2
        if np.all(np.abs(above - below).mean(1) <= tolerance * traces.mean(1)):
            break
        if krylov.size >= max_products:
            raise ConvergenceError(
                f"after {krylov.size} products the trace is not known within {tolerance:g} of itself; "
                f"allow more than max_products = {max_products}, or ask for fewer steps than {stops[-1]}"
            )
    value = torch.from_numpy(traces.mean(1))
    error = torch.from_numpy(traces.std(1, ddof=1) / probes**0.5)
    if isinstance(steps, int):
        value, error = value[0], error[0]
    return TraceEstimate(value, error, krylov.size)


def measured_bias_variance(
    estimates: Float[Tensor, "draws *steps C H W"], clean: Float[Tensor, "C H W"]
) -> tuple[Float[Tensor, "*steps"], Float[Tensor, "*steps"]]:
    """Bias² and variance of any denoiser, measured on its estimates for many draws of the noise.

    ::

        variance = Σ_m ‖z_m − z̄‖² / ((M − 1) CN),   bias² = ‖z̄ − x‖² / CN − variance / M

    with z̄ the mean over the M draws. Both are unbiased; the measured bias² may come out slightly negative.

    Args:
        estimates: z_m, one stack of estimates for each draw.
        clean: x.

    Raises:
        PictureError: Estimates whose shape is not that of clean.
        ValueError: Fewer than two draws.
    """
    _check_estimates(estimates, clean, "clean")
    draws = len(estimates)
    if draws < 2:
        raise ValueError(f"a variance needs at least two draws of the noise, got {draws}")
    estimates = estimates.double()
    mean = estimates.mean(0)
    variance = (estimates - mean).square().sum(0).mean(dim=(-3, -2, -1)) / (draws - 1)
    return (mean - clean).square().mean(dim=(-3, -2, -1)) - variance / draws, variance


def sure(
    estimates: Float[Tensor, "*steps C H W"],
    noisy: Float[Tensor, "C H W"],
    sigma: float,
    divergence: Float[Tensor, "*steps"],
) -> Float[Tensor, "*steps"]:
    """Stein's unbiased estimate of the mean squared error, which needs no clean picture.

    ::

        SURE = ‖y − z‖² / CN − σ² + 2 σ² div / CN,   div = Σ_i ∂z_i/∂y_i

    Args:
        estimates: z, or a stack of them.
        noisy: y.
        sigma: σ, in the unit of the pixels.
        divergence: div for each estimate. If the filter does not depend on y it is C·tr(I − R_k);
            if it was built from y it is far larger: take :func:`monte_carlo_divergence`.

    Raises:
        PictureError: Estimates whose shape is not that of noisy.
        ValueError: sigma outside [0, 1].

    Source: Stein (1981) [stein1981].
    """
    check_sigma(sigma)
    residual = _mean_squared_residual(estimates, noisy)
    return residual - sigma**2 + 2 * sigma**2 * divergence.to(residual) / noisy.numel()


def monte_carlo_divergence(
    denoiser: Callable[[Tensor], Tensor],
    noisy: Float[Tensor, "C H W"],
    *,
    generator: torch.Generator,
    probes: int = 1,
    epsilon: float = 1e-3,
) -> Float[Tensor, "*steps"]:
    """The divergence of a whole denoiser y → z(y), by random differences.

    ::

        div ≈ mean over random b of  bᵀ ( z(y + ε b) − z(y − ε b) ) / (2 ε),   b ~ N(0, I)

    Args:
        denoiser: Takes a noisy picture (C, H, W) in float64, gives its estimate or a stack of them. It must
            do all that depends on y, building the filter included, and keep fixed what was chosen once.
        noisy: y.
        generator: The source of b.
        probes: How many b are drawn; the error falls like 1/√probes.
        epsilon: ε, small beside the noise, in the unit of the pixels.

    Cost: 2·probes runs of the denoiser.

    Source: Ramani, Blu and Unser (2008) [ramani2008].
    """
    check_picture(noisy, "noisy")
    if probes < 1:
        raise ValueError(f"probes must be at least 1, got {probes}")
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive and small beside the noise, such as 1e-3, got {epsilon}")
    noisy = noisy.double()
    total: Tensor | float = 0.0
    for _ in range(probes):
        probe = torch.randn(noisy.shape, generator=generator, dtype=noisy.dtype, device=generator.device).to(
            noisy
        )
        difference = denoiser(noisy + epsilon * probe) - denoiser(noisy - epsilon * probe)
        total = total + (probe * difference).sum(dim=(-3, -2, -1)) / (2 * epsilon)
    return torch.as_tensor(total) / probes


def discrepancy_stop(
    estimates: Float[Tensor, "steps C H W"], noisy: Float[Tensor, "C H W"], sigma: float
) -> int:
    """The index of the first estimate whose residual is no larger than the noise: ‖y − z‖² ≤ CN σ².

    Raises:
        PictureError: Estimates whose shape is not that of noisy.
        ValueError: None of them is that close to y; more steps are needed.

    Source: Morozov (1966) [morozov1966].
    """
    check_sigma(sigma)
    residual = _mean_squared_residual(estimates, noisy)
    close = torch.nonzero(residual <= sigma**2)
    if len(close) == 0:
        least = float(residual.min()) ** 0.5
        raise ValueError(
            f"the residual, {least:.4f} at least, never falls to sigma = {sigma:.4f}; take more steps"
        )
    return int(close[0])


def _mean_squared_residual(estimates: Tensor, noisy: Tensor) -> Tensor:
    """‖y − z‖² / CN for each estimate of a stack."""
    _check_estimates(estimates, noisy, "noisy")
    return (noisy - estimates).double().square().mean(dim=(-3, -2, -1))


def _check_estimates(estimates: Tensor, picture: Tensor, name: str) -> None:
    """Refuse estimates that a difference with the picture would broadcast."""
    check_picture(picture, name)
    if estimates.shape[-3:] != picture.shape:
        raise PictureError(
            f"estimates must have the shape of {name}, {tuple(picture.shape)}, or be a stack of such, "
            f"got {tuple(estimates.shape)}"
        )


def _check_steps(steps: Steps) -> list[int]:
    stops = [steps] if isinstance(steps, int) else list(steps)
    if not stops or stops[0] < 0 or any(a >= b for a, b in pairwise(stops)):
        raise ValueError(f"steps must be a number ≥ 0 or an increasing list of such, got {steps}")
    return stops
