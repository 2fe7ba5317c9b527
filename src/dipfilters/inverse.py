"""Twicing behind a measurement: gradient descent of a wide network on ½ ‖A z − y‖², for all numbers of steps.

A linear map A takes the picture x to what was measured, y = A x + σ n. Let z be the output of a wide network,
less its random start, and Theta its tangent kernel. Gradient descent moves the picture by

::

    z⁰ = 0,   z^{k+1} = z^k + η Theta Aᵀ (y − A z^k)

Both sides multiplied by A, that is twicing of y with the filter W = η A Theta Aᵀ between measurements. Its
residuals y − A z^j = (I − W)^j y add up to the picture::

    z^k = η Theta Aᵀ c^k,   c^k = Σ_{j<k} (I − W)^j y

Whatever y is, z^k lies in the range of Theta Aᵀ: what A does not see is filled in by Theta.

Source: Landweber (1951) [landweber1951] for Theta = I; Radhakrishnan, Stefanakis, Belkin and Uhler (2022)
[radhakrishnan2022] for the tangent kernel, inpainting and k → ∞.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dipfilters.decoding import PictureError
from dipfilters.filters import Filter, Normalize
from dipfilters.images import check_pixels, check_shape, pixel_numbers
from dipfilters.lanczos import LanczosTwicing
from dipfilters.parameters import check_choice, check_whole
from dipfilters.twicing import SpectralTwicing, Steps, check_steps

Border = Literal["wrapped", "unseen"]

_SMALL = 0.5  # below this eigenvalue the sum of residuals is computed through logarithms


class Operator(ABC):
    """A linear map A of pictures, the same for each channel, and its adjoint.

    ::

        ⟨A v, u⟩ = ⟨v, Aᵀ u⟩

    Both keep dtype, device and gradients of what they are given.

    Attributes:
        shape: (H, W) of a picture.
        measured: (h, w) of what is measured of it.
    """

    def __init__(self, shape: Sequence[int], measured: Sequence[int]) -> None:
        height, width = (check_whole("each side of shape", side, 1) for side in shape)
        self.shape, self.measured = (height, width), (measured[0], measured[1])

    def apply(self, picture: Float[Tensor, "*batch H W"]) -> Float[Tensor, "*batch h w"]:
        """A times a picture, or a stack of them.

        Raises:
            PictureError: Pictures of another size, of whole numbers, or with values that are not finite.
        """
        check_pixels(picture, "picture")
        check_shape("picture", picture.shape[-2:], self.shape, "the operator's pictures")
        return self._apply(picture)

    def adjoint(self, measured: Float[Tensor, "*batch h w"]) -> Float[Tensor, "*batch H W"]:
        """Aᵀ times a measurement, or a stack of them: a picture.

        Raises:
            PictureError: As :meth:`apply`.
        """
        check_pixels(measured, "measured")
        check_shape("measured", measured.shape[-2:], self.measured, "the operator's measurements")
        return self._adjoint(measured)

    @abstractmethod
    def _apply(self, picture: Tensor) -> Tensor:
        """A, of what was checked."""

    @abstractmethod
    def _adjoint(self, measured: Tensor) -> Tensor:
        """Aᵀ, of what was checked."""


class Masking(Operator):
    """Some of the pixels and no others, in the order of the picture: inpainting.

    ::

        A v = (v_i for all i in the mask)        (C, 1, M) for M pixels

    Args:
        mask: True at the pixels that are measured.

    Raises:
        PictureError: No mask of the shape (H, W), or one without any pixel.
    """

    def __init__(self, mask: Bool[Tensor, "H W"]) -> None:
        kind = f"{mask.dtype}, {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.ndim != 2 or not mask.any():
            raise PictureError(
                f"mask must be a tensor of booleans of shape (H, W), some of them True, got {kind}; a "
                f"comparison makes one, such as torch.rand(H, W) < 0.5"
            )
        self.mask = mask.clone()
        super().__init__(mask.shape, (1, int(mask.sum())))

    def _apply(self, picture: Tensor) -> Tensor:
        return picture[..., self.mask][..., None, :]

    def _adjoint(self, measured: Tensor) -> Tensor:
        picture = measured.new_zeros(*measured.shape[:-2], *self.shape)
        picture[..., self.mask] = measured[..., 0, :]
        return picture


class Averaging(Operator):
    """The mean over blocks of ``factor`` × ``factor`` pixels: super-resolution.

    ::

        A v = P v Qᵀ        P, Q: the means along columns and rows

    At the lower and right border, blocks are as small as what is left of the picture.

    Args:
        shape: (H, W) of the picture.
        factor: The side of a block.

    Raises:
        ValueError: A side of the picture or a factor that is not a whole number from 1 on.
    """

    def __init__(self, shape: Sequence[int], factor: int) -> None:
        factor = check_whole("factor", factor, 1)
        super().__init__(shape, [-(-side // factor) for side in shape])
        self._means = []
        for side, blocks in zip(self.shape, self.measured, strict=True):
            member = (torch.arange(side) // factor == torch.arange(blocks)[:, None]).double()
            self._means.append(member / member.sum(1, keepdim=True))

    def _apply(self, picture: Tensor) -> Tensor:
        down, across = (mean.to(picture) for mean in self._means)
        return down @ picture @ across.T

    def _adjoint(self, measured: Tensor) -> Tensor:
        down, across = (mean.to(measured) for mean in self._means)
        return down.T @ measured @ across


class Blur(Operator):
    """The convolution with a point spread function: deblurring.

    ::

        (A v)_i = Σ_δ h_δ v_{i−δ}        for all i, or those with all i − δ in the picture

    Args:
        shape: (H, W) of the picture.
        spread: h, with odd sides and δ = 0 in its middle.
        border: ``"wrapped"`` continues the picture periodically, and measures (H, W). With ``"unseen"`` only
            pixels are measured whose value needs nothing beyond the border: (H − h + 1, W − w + 1) of them.

    Raises:
        PictureError: A spread that is even-sided, larger than the picture, or not finite.
        ValueError: Another border.
    """

    def __init__(
        self, shape: Sequence[int], spread: Float[Tensor, "h w"], border: Border = "wrapped"
    ) -> None:
        check_choice("border", border, Border)
        check_pixels(spread, "spread")
        sides = tuple(spread.shape)
        if len(sides) != 2 or any(a % 2 == 0 or a > b for a, b in zip(sides, shape, strict=True)):
            raise PictureError(
                f"spread must have two odd sides within the picture's {tuple(shape)}, got {sides}; pad it "
                f"with zeros, or cut it"
            )
        cut = [side // 2 if border == "unseen" else 0 for side in sides]
        self._window: Any = (..., *(slice(c, side - c) for c, side in zip(cut, shape, strict=True)))
        super().__init__(shape, [side - 2 * c for c, side in zip(cut, shape, strict=True)])
        whole = spread.new_zeros(self.shape, dtype=torch.float64)
        whole[: sides[0], : sides[1]] = spread
        self.transfer = torch.fft.fft2(whole.roll([-(side // 2) for side in sides], (0, 1)))

    def _apply(self, picture: Tensor) -> Tensor:
        return _filtered(picture, self.transfer)[self._window]

    def _adjoint(self, measured: Tensor) -> Tensor:
        whole = measured.new_zeros(*measured.shape[:-2], *self.shape)
        whole[self._window] = measured
        return _filtered(whole, self.transfer.conj())


class Sampling(Masking):
    """Some of the Fourier coefficients, in a real form with orthonormal rows: compressed measurements.

    ::

        v̂_f = Σ_r v_r exp(−2πi f·r) / √N,   (A v)_f = Re v̂_f − Im v̂_f

    This is Hartley's transform, which is its own inverse. Since v̂_{−f} is the conjugate of v̂_f, the values at
    f and −f hold both parts of v̂_f; so a mask must hold −f with f.

    Args:
        mask: True at the frequencies that are measured, laid out as by :func:`torch.fft.fft2`.

    Raises:
        PictureError: No mask of the shape (H, W), one without any frequency, or one that holds f and not −f.

    Source: Hartley (1942) [hartley1942].
    """

    def __init__(self, mask: Bool[Tensor, "H W"]) -> None:
        super().__init__(mask)
        mirrored = mask.flip(0, 1).roll((1, 1), (0, 1))
        if not torch.equal(mask, mirrored):
            raise PictureError(
                f"mask holds {int((mask & ~mirrored).sum())} frequencies f without −f; give "
                f"mask | mask.flip(0, 1).roll((1, 1), (0, 1))"
            )

    def _apply(self, picture: Tensor) -> Tensor:
        return super()._apply(_hartley(picture))

    def _adjoint(self, measured: Tensor) -> Tensor:
        return _hartley(super()._adjoint(measured))


class MeasuredFilter(Filter):
    """The filter between measurements that a filter between pixels makes behind an operator.

    ::

        W = η A Theta Aᵀ        normalize="spectral": η = 1/λ_max(A Theta Aᵀ); or the number η

    Args:
        filter: Theta is its kernel matrix, whatever its ``normalize`` says.
        operator: A.
        normalize: As above.

    Raises:
        PictureError: A filter for pictures of another size than the operator's.
        ValueError: ``normalize="rows"``, with which no gradient descent goes; an unknown ``normalize``.

    Cost: of a product, that of the filter, A and Aᵀ; the dense matrix applies A to all N columns of Theta.
    """

    def __init__(self, filter: Filter, operator: Operator, *, normalize: Normalize = "spectral") -> None:
        check_shape("filter", filter.shape, operator.shape, "the operator's pictures")
        if normalize == "rows":
            raise ValueError("normalize must be 'spectral' or a number behind an operator, got 'rows'")
        super().__init__(operator.measured, normalize, filter.weights.device)
        self._filter, self.operator = filter, operator

    def filled_in(self, residuals: Float[Tensor, "*batch h w"]) -> Float[Tensor, "*batch H W"]:
        """η Theta Aᵀ times a measurement, or a stack of them: the picture that it stands for."""
        return self._times_theta(self.operator.adjoint(residuals.to(self._ones))) * self.scale

    def seen(self, pictures: Float[Tensor, "*batch H W"]) -> Float[Tensor, "*batch h w"]:
        """η A Theta times a picture, or a stack of them: the transpose of :meth:`filled_in`."""
        return self.operator.apply(self._times_theta(pictures.to(self._ones)) * self.scale)

    def _times_theta(self, pictures: Tensor) -> Tensor:
        columns = pictures.reshape(-1, math.prod(self.operator.shape)).T
        return self._filter.times_kernel(columns).T.reshape(pictures.shape)

    def _reference_product(self, columns: Tensor) -> Tensor:
        lifted = self.operator.adjoint(columns.T.reshape(-1, *self.shape))
        return self.operator.apply(self._times_theta(lifted)).flatten(1).T

    @cached_property
    def _kept_matrix(self) -> Tensor:
        once = self.operator.apply(self._filter._dense_kernel(4.0).reshape(-1, *self.operator.shape))
        return self.operator.apply(once.flatten(1).T.reshape(-1, *self.operator.shape)).flatten(1)

    def _reference_matrix(self) -> Tensor:
        return self._kept_matrix

    def _kernel_diagonal(self) -> Tensor:
        return self._kept_matrix.diagonal()


class SpectralInverse(SpectralTwicing):
    """Gradient descent behind an operator for all numbers of steps at once, from one eigendecomposition.

    ::

        W = U diag(λ) Uᵀ,   z^k = η Theta Aᵀ U diag((1 − (1 − λ)^k) / λ) Uᵀ y

    What is inherited speaks of measurements: the degrees of freedom are those of A z^k, bias and variance its
    errors.

    Args:
        filter: Theta, see :class:`MeasuredFilter`.
        operator: A, with M = h w measurements a channel.
        normalize: As for :class:`MeasuredFilter`.
        budget_gb: Refuse a decomposition that takes more memory than this.

    Raises:
        PictureError, ValueError: As :class:`MeasuredFilter`.
        MemoryBudgetError, DivergenceError: As :class:`dipfilters.SpectralTwicing`.

    Cost: the N×N matrix of the filter, A applied to its columns, and 10 M³ operations once; then 2 M²
    operations and a product with Theta for each channel and number of steps. For half of 48×48 pixels that is
    a second on one thread of an Intel Xeon.

    Source: As this module.
    """

    def __init__(
        self,
        filter: Filter,
        operator: Operator,
        *,
        normalize: Normalize = "spectral",
        budget_gb: float = 4.0,
    ) -> None:
        self.filter = MeasuredFilter(filter, operator, normalize=normalize)
        super().__init__(self.filter, budget_gb=budget_gb)

    def estimate(self, noisy: Float[Tensor, "C h w"], steps: Steps) -> Float[Tensor, "*steps C H W"]:
        """The pictures z^k, from a measurement: for one number of steps or a stack for several."""
        parts = self._pixels(noisy, "noisy") @ self._left
        gains = self.gains(steps)  # refuses what diverges
        sums = _sums(self.eigenvalues, steps)
        residuals = (sums.reshape(*gains.shape[:-1], 1, -1) * parts) @ self._left.T
        return self.filter.filled_in(residuals.reshape(*residuals.shape[:-1], *self.shape)).to(noisy.dtype)

    def predicted(self, noisy: Float[Tensor, "C h w"], steps: Steps) -> Float[Tensor, "*steps C h w"]:
        """A z^k, what the estimates would measure, for the discrepancy principle and Stein's estimate."""
        return super().estimate(noisy, steps)

    def row(self, pixel: tuple[int, int], steps: int) -> Float[Tensor, "h w"]:
        """How much each measurement gives to one pixel (row, column) of z^k.

        Raises:
            IndexError: A pixel outside the picture.
        """
        height, width = self.filter.operator.shape
        (i,) = pixel_numbers([pixel], (height, width))
        unit = self.eigenvalues.new_zeros(height * width)
        unit[i] = 1.0
        seen = self.filter.seen(unit.reshape(height, width)).flatten()
        return (self._left @ (_sums(self.eigenvalues, steps)[0] * (seen @ self._left))).reshape(self.shape)


class LanczosInverse(LanczosTwicing):
    """Gradient descent behind an operator up to a last number of steps, where no matrix can be stored.

    ::

        z^k ≈ η Theta Aᵀ V Σ_{j<k} (I − T)^j Vᵀ y

    with V and T as for :class:`dipfilters.LanczosTwicing`, of the filter between measurements. The tolerance
    and :meth:`error_bound` are those of A z^k; Theta Aᵀ carries both over to what A does not see.

    Args:
        filter, operator, normalize: As for :class:`SpectralInverse`.
        noisy: The measurement y.
        last, options: As for :class:`dipfilters.LanczosTwicing`, and so are the errors and the cost, with
            products of the :class:`MeasuredFilter`.

    Source: As this module; Lanczos (1950) [lanczos1950].
    """

    def __init__(
        self,
        filter: Filter,
        operator: Operator,
        noisy: Float[Tensor, "C h w"],
        *,
        last: int,
        normalize: Normalize = "spectral",
        **options: Any,
    ) -> None:
        self.filter = MeasuredFilter(filter, operator, normalize=normalize)
        super().__init__(self.filter, noisy, last=last, **options)

    def estimate(self, steps: Steps) -> Float[Tensor, "*steps C H W"]:
        """The pictures z^k, for one number of steps or a stack for several."""
        stops = self._check(steps)
        values, vectors, parts, _ = self._space.decomposed()
        sums = _sums(torch.from_numpy(values), stops).numpy()
        coefficients = torch.from_numpy(np.einsum("ij,kj,jc->kci", vectors, sums, parts))
        residuals = coefficients.to(self._space.basis) @ self._space.basis.T
        estimate = self.filter.filled_in(residuals.reshape(*residuals.shape[:-1], *self.shape)).to(
            self._dtype
        )
        return estimate[0] if isinstance(steps, int | np.integer) else estimate

    def predicted(self, steps: Steps) -> Float[Tensor, "*steps C h w"]:
        """A z^k, what the estimates would measure."""
        return super().estimate(steps)


def _sums(values: Float[Tensor, " m"], steps: Steps) -> Float[Tensor, "steps m"]:
    """Σ_{j<k} (1 − λ)^j = (1 − (1 − λ)^k) / λ, without loss of digits where λ is small.

    0 for λ = 0, whose eigenvector Theta Aᵀ takes to 0.
    """
    logs = torch.log1p(-values.clamp(max=_SMALL))
    rows = []
    for k in check_steps(steps):
        gains = torch.where(values <= _SMALL, -torch.expm1(k * logs), 1 - (1 - values).pow(k))
        rows.append(gains / values.clamp_min(1e-300))
    return torch.stack(rows)


def _filtered(picture: Tensor, transfer: Tensor) -> Tensor:
    """The circular convolution whose Fourier transform is given, in the precision of the picture."""
    precise = transfer.to(picture.device, torch.promote_types(picture.dtype, torch.complex64))
    filtered: Tensor = torch.fft.ifft2(torch.fft.fft2(picture) * precise).real
    return filtered


def _hartley(picture: Tensor) -> Tensor:
    spectrum: Tensor = torch.fft.fft2(picture, norm="ortho")
    return spectrum.real - spectrum.imag
