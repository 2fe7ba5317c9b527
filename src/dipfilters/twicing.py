"""Twicing: filter the residual and add it back, again and again; its closed form, errors, and when to stop.

Here z⁰ = 0 and z^{k+1} = z^k + W (y − z^k), so that z^k = (I − R_k) y with R_k = (I − W)^k.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dipfilters.filters import Filter
from dipfilters.images import check_picture, check_pixels, check_shape, check_sigma, pixel_numbers
from dipfilters.parameters import check_positive, check_whole

Steps = int | np.integer | Sequence[int]


class DivergenceError(ArithmeticError):
    """Twicing whose residual grows: an eigenvalue of the filter lies below 0 or above 2."""


# Rounding of products in float32 may leave an eigenvalue of 0 this far below it.
NEGLIGIBLE = 1e-6


def check_spectrum(least: float, largest: float) -> None:
    """Refuse eigenvalues with which twicing does not converge.

    Raises:
        DivergenceError: They reach beyond [0, 2], by more than rounding.
    """
    if least < -NEGLIGIBLE or largest > 2.0:
        raise DivergenceError(
            f"the filter's eigenvalues reach from {least:.3g} to {largest:.3g} at least, and twicing "
            f"diverges outside [0, 2]; use a smaller factor than the present one"
        )


def step_grid(last: int, count: int = 60) -> list[int]:
    """Whole numbers from 1 to ``last``, about ``count`` of them, evenly spaced on a logarithmic axis."""
    last, count = check_whole("last", last, 1), check_whole("count", count, 1)
    return [int(k) for k in np.unique(np.geomspace(1, last, count).round())]


def twicing(filter: Filter, noisy: Float[Tensor, "C H W"], *, steps: Steps) -> Float[Tensor, "*steps C H W"]:
    """Iterate the filter on the residual.

    ::

        z⁰ = 0,   z^{k+1} = z^k + W (y − z^k)

    Args:
        filter: W.
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
    stops = check_steps(steps)
    limit = 1e3 * float(noisy.detach().norm())
    estimate = torch.zeros_like(noisy)
    kept = []
    for k in range(max(stops, default=0) + 1):
        if k > 0:
            residual = noisy - estimate
            if not float(residual.detach().norm()) <= limit:
                raise DivergenceError(
                    f"twicing diverged by step {k}: an eigenvalue of the filter lies outside [0, 2]; "
                    f"use a smaller factor than the present one"
                )
            estimate = estimate + filter.apply(residual)
        if k in stops:
            kept.append(estimate)
    return kept[0] if isinstance(steps, int | np.integer) else torch.stack(kept)


class SpectralTwicing:
    """Twicing for all numbers of steps at once, from one eigendecomposition of the filter.

    ::

        W = L⁻ᵀ diag(λ) Lᵀ,   z^k = L⁻ᵀ diag(1 − (1 − λ)^k) Lᵀ y

    For a symmetric W, L = L⁻ᵀ holds its orthonormal eigenvectors. For rows that sum to one, W = D⁻¹K has
    left eigenvectors D^(1/2) u and right ones D^(−1/2) u, with u those of D^(−1/2) K D^(−1/2). An eigenvector
    with λ = 0 lets nothing through at any k, so that a filter of low rank needs only the others.

    Args:
        filter: The filter.
        budget_gb: Refuse a decomposition that takes more memory than this.

    Raises:
        MemoryBudgetError: It would.
        DivergenceError: More than one step is asked for, and an eigenvalue lies outside [0, 2].

    Cost: that of the filter's decomposition once, then 2 N m operations for each number of steps, with m the
    number of eigenvectors.

    Source: Milanfar (2013) [milanfar2013]; Talebi and Milanfar (2014) [talebi2014].
    """

    def __init__(self, filter: Filter, *, budget_gb: float = 4.0) -> None:
        self.shape = filter.shape
        values, self._left, self._right = filter.decomposition(budget_gb=budget_gb)
        rounding = (values < 0) & (values >= -NEGLIGIBLE)
        self.eigenvalues: Float[Tensor, " m"] = torch.where(rounding, 0.0, values)

    def gains(self, steps: Steps) -> Float[Tensor, "*steps m"]:
        """1 − (1 − λ)^k: the share of each eigenvector that k steps let through."""
        stops = check_steps(steps)
        if stops[-1] > 1:
            check_spectrum(float(self.eigenvalues.min()), float(self.eigenvalues.max()))
        gains: Tensor = 1.0 - torch.stack([(1.0 - self.eigenvalues).pow(k) for k in stops])
        return gains[0] if isinstance(steps, int | np.integer) else gains

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

    def _pixels(self, picture: Tensor, name: str) -> Tensor:
        """The (C, N) pixel matrix of a picture of the filter's size, in float64 on the filter's device."""
        check_picture(picture, name)
        check_shape(name, picture.shape[1:], self.shape, "the filter")
        return picture.reshape(len(picture), -1).to(self._left)

    def variance(self, sigma: float, steps: Steps) -> Float[Tensor, "*steps"]:
        """σ² ‖I − R_k‖_F² / N: the mean squared error that the noise brings. W must not depend on it."""
        check_sigma(sigma)
        gains = self.gains(steps)
        # ‖Σ g_a r_a l_aᵀ‖² = Σ_ab g_a g_b ⟨r_a, r_b⟩ ⟨l_a, l_b⟩, which is Σ g_a² for orthonormal vectors.
        left, right = self._left, self._right
        coupled = gains if left is right else gains @ ((right.T @ right) * (left.T @ left))
        squared_norm = (coupled * gains).sum(-1)
        return sigma**2 * squared_norm / len(self._left)


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
    draws = len(estimates) if estimates.ndim > 3 else 1
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
        PictureError: Estimates whose shape is not that of noisy; not one divergence for each of them.
        ValueError: sigma outside [0, 1].

    Source: Stein (1981) [stein1981].
    """
    check_sigma(sigma)
    residual = _mean_squared_residual(estimates, noisy)
    check_shape("divergence", divergence.shape, residual.shape, "the stack of estimates")
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

    Raises:
        PictureError: Not a picture.
        ValueError: A number of probes below 1, an epsilon that is not positive.

    Cost: 2·probes runs of the denoiser.

    Source: Ramani, Blu and Unser (2008) [ramani2008].
    """
    check_picture(noisy, "noisy")
    check_whole("probes", probes, 1)
    check_positive("epsilon", epsilon)
    noisy = noisy.double()
    total: Tensor | float = 0.0
    for _ in range(probes):
        probe = torch.randn(noisy.shape, generator=generator, dtype=noisy.dtype, device=generator.device)
        probe = probe.to(noisy.device)
        difference = denoiser(noisy + epsilon * probe) - denoiser(noisy - epsilon * probe)
        total = total + (probe * difference).sum(dim=(-3, -2, -1)) / (2 * epsilon)
    return torch.as_tensor(total) / probes


def discrepancy_stop(
    estimates: Float[Tensor, "steps C H W"], noisy: Float[Tensor, "C H W"], sigma: float
) -> int:
    """The index of the first estimate whose residual is no larger than the noise: ‖y − z‖² ≤ CN σ².

    Raises:
        PictureError: Estimates that are no stack of pictures of noisy's shape.
        ValueError: None of them is that close to y; more steps are needed.

    Source: Morozov (1966) [morozov1966].
    """
    check_sigma(sigma)
    residual = _mean_squared_residual(estimates, noisy)
    check_shape("estimates", estimates.shape, (len(estimates), *noisy.shape), "a stack of pictures")
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
    check_pixels(estimates, "estimates")
    check_shape("each of the estimates", estimates.shape[-3:], picture.shape, name)


def check_steps(steps: Steps) -> list[int]:
    """The numbers of steps as a list, if all are whole, none is negative, and they increase."""
    several = steps if isinstance(steps, Sequence) else [steps]
    stops = [check_whole("steps", step, 0) for step in several]
    if not stops or any(a >= b for a, b in pairwise(stops)):
        raise ValueError(f"steps must be a whole number or an increasing list of such, got {steps}")
    return stops
