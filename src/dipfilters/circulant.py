"""The filter of a network fed with noise, at the size of a photograph: block circulant, so an FFT splits it.

With infinitely many channels of white noise as the input, all that tells one pixel from another is its place
in the grid of halved pixels. After s halvings that grid repeats every q = 2^s pixels, and where borders wrap,

::

    K(i + q t, j + q t) = K(i, j)       for all displacements t

Number the pixels by their block and their phase, one of q², within it. Then K z is a convolution over the
blocks, with a q²×q² matrix at each displacement D, and a Fourier transform over the blocks makes products of
it, one for each frequency f::

    (K z)^(f) = K(f) ẑ(f),   K(f)_ab = Σ_D K(a, b + q D) exp(2πi f·D),   f = (u q/H, v q/W)

H W/q² Hermitian matrices of q²×q² in place of one of N×N, N = H W: their eigenvalues are those of K.

Further apart than some T pixels along an axis, the kernel of two pixels depends on their phases alone. T is 0
for white noise; a convolution moves both pixels alike and leaves it; resampling changes it, in pixels of the
size at hand, by

::

    stride T ← ⌊T/2⌋,   pooling T ← ⌊(T + 1)/2⌋,   upsampling T ← 2T + 3 (bilinear), 2T + 1 (nearest)

So K follows from that of a tile little wider than 2T, without any error.

Source: Radhakrishnan, Stefanakis, Belkin and Uhler (2022) [radhakrishnan2022], who expand the kernel of a
small picture to that of a large one, for inpainting; here for denoising, at all stopping times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from dipfilters.decoding import PictureError
from dipfilters.filters import Filter, Normalize, check_memory
from dipfilters.images import check_picture, check_shape, check_sigma, pixel_numbers
from dipfilters.networks import (
    Architecture,
    ArchitectureError,
    Convolution,
    Layer,
    Parametrization,
    Pooling,
    Resampled,
)
from dipfilters.ntk import check_closed_form, white_noise_kernel
from dipfilters.parameters import check_choice
from dipfilters.twicing import NEGLIGIBLE, Steps, check_spectrum, check_steps

_COLUMNS_AT_ONCE = 24  # pictures that are brought back from the frequencies together


class NoiseFedFilter(Filter):
    """The filter of an infinitely wide network that is fed with infinitely many channels of white noise.

    ::

        W = Theta / λ_max(Theta)     normalize="spectral", the step 1/λ_max of gradient descent
        W = η Theta                  normalize=η
        W = D⁻¹ Theta                normalize="rows"

    It is the limit of ``TangentFilter(noise, architecture)`` for noise of more and more channels with mean 0
    and variance 1, and knows nothing of the picture but its size. Noise of finitely many channels has a
    kernel that misses this one by the order of 1/√channels, and does not repeat.

    Args:
        shape: (H, W) of the picture, both multiples of :attr:`period`.
        architecture: The network: circular padding, and upsampling that is not ``"clamped"``.
        normalize: As above.
        parametrization: As for :func:`dipfilters.tangent_kernel`.
        device: Where it is computed.
        budget_gb: Refuse a kernel that takes more memory than this.

    Attributes:
        period: q = 2^s, with s how often the network halves the picture.

    Raises:
        ArchitectureError: A network with another padding, that does not repeat, or without a closed form;
            with the remedy.
        PictureError: A height or width that q does not divide, with the next ones that it does.
        ValueError: An unknown ``normalize`` or ``parametrization``.
        MemoryBudgetError: It would take more.

    Cost: the kernel between one block and a tile of about 2T + 2q pixels a side, 64×64 for autoencoder(3, 3),
    with 80 (q + k)² bytes a pixel of the tile; then 36 q² bytes a pixel of the picture, of which 16 q² are
    kept: 0.6 GB for 512×512 pixels and q = 8. A product takes two FFTs and 4 N q² operations.

    Source: Radhakrishnan, Stefanakis, Belkin and Uhler (2022) [radhakrishnan2022].
    """

    def __init__(
        self,
        shape: tuple[int, int],
        architecture: Architecture,
        *,
        normalize: Normalize = "spectral",
        parametrization: Parametrization = "tangent",
        device: torch.device | str = "cpu",
        budget_gb: float = 8.0,
    ) -> None:
        check_choice("parametrization", parametrization, Parametrization)
        check_closed_form(architecture)
        units, apart, radii = zip(*_extents(architecture.layers, 1, 0), strict=True)
        if architecture.padding != "circular" or units[-1] != 1:
            raise ArchitectureError(
                f"the kernel repeats only where borders wrap and the output has the size of the input, got "
                f"padding={architecture.padding!r} and 1/{units[-1]} of the size; use padding='circular'"
            )
        self.period: int = max(units)
        height, width = (max(1, -(-side // self.period)) * self.period for side in shape)
        if (height, width) != tuple(shape):
            raise PictureError(
                f"{shape[0]}×{shape[1]} pixels are no multiples of {self.period}, the network's period; the "
                f"next size that works is {height}×{width}"
            )
        super().__init__(shape, normalize, torch.device(device))
        self.architecture, self.parametrization = architecture, parametrization
        self._half = self.period * (-(-max(*apart, *radii) // self.period) + 1)
        self._tile_shape = (min(height, 2 * self._half), min(width, 2 * self._half))
        padded = (self.period + max(c.size for c in architecture.convolutions()) - 1) ** 2  # first pixels
        size = max(80 * padded * math.prod(self._tile_shape), 36 * self.period**2 * height * width)
        check_memory(size, shape, budget_gb)

    @cached_property
    def _kernel(self) -> Float[Tensor, "q q H W"]:
        """K between the pixels of the first block and all, from those of a tile around that block."""
        shape, q, half, places = self._tile_shape, self.period, self._half, []
        tile = white_noise_kernel(self.architecture, q, shape, self.parametrization).to(self._ones)
        for side, short in zip(self.shape, shape, strict=True):
            place = torch.arange(side, device=tile.device)
            near = torch.where(place < half, place, place - side + short)
            places.append(torch.where((half <= place) & (place < side - half), half + place % q, near))
        return tile[:, :, places[0]][:, :, :, places[1]]

    @cached_property
    def blocks(self) -> Complex[Tensor, "u v qq qq"]:
        """K(f), a Hermitian matrix for each frequency (u, v) of the module's docstring, v up to W/2q only.

        K is real, so that the matrices at f and −f are conjugate to each other.
        """
        q, (height, width) = self.period, self.shape
        kernel = self._kernel.reshape(q, q, height // q, q, width // q, q).permute(0, 1, 3, 5, 2, 4)
        spectrum = torch.fft.rfft2(kernel).conj().permute(4, 5, 0, 1, 2, 3)
        blocks: Tensor = spectrum.reshape(*spectrum.shape[:2], q**2, q**2).resolve_conj()
        return blocks

    @cached_property
    def scale(self) -> float:
        """The factor η of W = η K. No entry of K is negative, so that its largest eigenvalue is K(0)'s."""
        if self.normalize != "spectral":
            return super().scale
        return 1.0 / float(torch.linalg.eigvalsh(self.blocks[0, 0])[-1])

    def to_frequencies(self, pictures: Float[Tensor, "m H W"]) -> Complex[Tensor, "u v qq m"]:
        """The Fourier transform over the blocks of each phase; sums of squares stay."""
        q, (height, width) = self.period, self.shape
        phases = pictures.reshape(-1, height // q, q, width // q, q).permute(2, 4, 0, 1, 3)
        spectrum: Tensor = torch.fft.rfft2(phases, norm="ortho")
        return spectrum.permute(3, 4, 0, 1, 2).flatten(2, 3)

    def from_frequencies(self, spectrum: Complex[Tensor, "u v qq m"]) -> Float[Tensor, "m H W"]:
        """The pictures of which :meth:`to_frequencies` makes this."""
        q, (height, width) = self.period, self.shape
        phases = spectrum.reshape(*spectrum.shape[:2], q, q, -1).permute(4, 2, 3, 0, 1)
        pictures: Tensor = torch.fft.irfft2(phases, s=(height // q, width // q), norm="ortho")
        return pictures.permute(0, 3, 1, 4, 2).reshape(-1, height, width)

    def _reference_product(self, columns: Tensor) -> Tensor:
        spectrum = self.blocks @ self.to_frequencies(columns.T.reshape(-1, *self.shape))
        return self.from_frequencies(spectrum).flatten(1).T

    def _kernel_columns(self, pixels: Sequence[int]) -> Tensor:
        q, columns = self.period, self._ones.new_empty(len(self._ones), len(pixels))
        for m, (r, c) in enumerate(divmod(i, self.shape[1]) for i in pixels):
            columns[:, m] = self._kernel[r % q, c % q].roll((r // q * q, c // q * q), (0, 1)).flatten()
        return columns

    def _kernel_diagonal(self) -> Tensor:
        q, (height, width) = self.period, self.shape
        return torch.einsum("abab->ab", self._kernel[:, :, :q, :q]).repeat(height // q, width // q).flatten()


class CirculantTwicing:
    """Twicing with a :class:`NoiseFedFilter` for all numbers of steps at once, at the size of a photograph.

    ::

        W(f) = U(f) diag(λ(f)) U(f)ᴴ,   ẑ^k(f) = U(f) diag(1 − (1 − λ(f))^k) U(f)ᴴ ŷ(f)

    What :class:`dipfilters.SpectralTwicing` does with the N×N matrix this does with its blocks; both agree to
    rounding. As the filter does not depend on the noisy picture, Stein's estimate is exact with the degrees
    of freedom from here, ``sure(estimates, noisy, sigma, C · degrees_of_freedom(steps))``.

    Args:
        filter: The filter; not with ``normalize="rows"``.
        budget_gb: Refuse a decomposition that takes more memory than this.

    Attributes:
        shape: (H, W) of the picture.
        eigenvalues: All N of W, the largest first.

    Raises:
        ValueError: A filter whose rows are normalised.
        MemoryBudgetError: It would take more.
        DivergenceError: More than one step is asked for, and an eigenvalue lies outside [0, 2].

    Cost: of the order of N q⁴ operations once, then 4 N q² and two FFTs for each channel and number of steps.
    512×512 pixels in colour, q = 8 and 60 numbers of steps, the filter included, took 5 s of processor time
    and 1 GB on one thread of an Intel Xeon.

    Source: Milanfar (2013) [milanfar2013]; Radhakrishnan, Stefanakis, Belkin and Uhler (2022)
    [radhakrishnan2022].
    """

    def __init__(self, filter: NoiseFedFilter, *, budget_gb: float = 8.0) -> None:
        if not filter.symmetric:
            raise ValueError('CirculantTwicing needs a symmetric filter; use normalize="spectral"')
        self.shape, self._filter = filter.shape, filter
        check_memory((20 * filter.period**2 + 40) * math.prod(self.shape), self.shape, budget_gb)
        blocks = filter.blocks.flatten(0, 1)
        # In threads of ours LAPACK keeps to one core each: two of them on a matrix this small spend several
        # times the work on waiting for each other, and far more where another process holds one.
        with ThreadPoolExecutor(threads := torch.get_num_threads()) as pool:
            parts = list(pool.map(torch.linalg.eigh, blocks.chunk(threads)))
        values, vectors = (torch.cat(list(both)) for both in zip(*parts, strict=True))
        values = values.reshape(filter.blocks.shape[:3]) * filter.scale
        self._values = torch.where((values < 0) & (values >= -NEGLIGIBLE), 0.0, values)
        self._vectors = vectors.reshape(filter.blocks.shape)
        mirrored = self._values[:, 1 : (self.shape[1] // filter.period + 1) // 2]  # what is at f is at −f too
        every = torch.cat([self._values, mirrored], dim=1)
        self.eigenvalues: Float[Tensor, " N"] = every.flatten().sort(descending=True).values

    def gains(self, steps: Steps) -> Float[Tensor, "*steps N"]:
        """1 − (1 − λ)^k: the share of each eigenvector that k steps let through."""
        return self._gains(self.eigenvalues, steps)

    def _gains(self, values: Tensor, steps: Steps) -> Tensor:
        stops = check_steps(steps)
        if stops[-1] > 1:
            check_spectrum(float(self.eigenvalues[-1]), float(self.eigenvalues[0]))
        gains: Tensor = 1.0 - torch.stack([(1.0 - values).pow(k) for k in stops])
        return gains[0] if isinstance(steps, int | np.integer) else gains

    def estimate(self, noisy: Float[Tensor, "C H W"], steps: Steps) -> Float[Tensor, "*steps C H W"]:
        """z^k, for one number of steps or a stack for several; the dtype of ``noisy``."""
        check_picture(noisy, "noisy")
        check_shape("noisy", noisy.shape[1:], self.shape, "the filter")
        stops = check_steps(steps)
        coefficients = self._vectors.mH @ self._filter.to_frequencies(noisy.to(self._values))
        estimates = noisy.new_empty(len(stops), *noisy.shape)
        together = max(1, _COLUMNS_AT_ONCE // len(noisy))
        for start in range(0, len(stops), together):
            gains = self._gains(self._values, stops[start : start + together])
            passed = gains.permute(1, 2, 3, 0)[..., None] * coefficients[..., None, :]
            pictures = self._filter.from_frequencies(self._vectors @ passed.flatten(3))
            estimates[start : start + together] = pictures.reshape(-1, *noisy.shape)
        return estimates[0] if isinstance(steps, int | np.integer) else estimates

    def row(self, pixel: tuple[int, int], steps: int) -> Float[Tensor, "H W"]:
        """The row of I − R_k that computes one pixel after k steps: the filter that twicing amounts to."""
        (i,) = pixel_numbers([pixel], self.shape)
        unit = torch.zeros_like(self.eigenvalues)
        unit[i] = 1.0
        return self.estimate(unit.reshape(1, *self.shape), steps)[0]

    def degrees_of_freedom(self, steps: Steps) -> Float[Tensor, "*steps"]:
        """tr(I − R_k) = Σ 1 − (1 − λ)^k: how many numbers of the noisy picture the estimate follows."""
        return self.gains(steps).sum(-1)

    def bias_squared(self, clean: Float[Tensor, "C H W"], steps: Steps) -> Float[Tensor, "*steps"]:
        """‖R_k x‖² / CN: the mean squared error left without noise."""
        check_picture(clean, "clean")
        return (clean.double() - self.estimate(clean.double(), steps)).square().mean(dim=(-3, -2, -1))

    def variance(self, sigma: float, steps: Steps) -> Float[Tensor, "*steps"]:
        """σ² ‖I − R_k‖_F² / N: the mean squared error that the noise brings."""
        check_sigma(sigma)
        return sigma**2 * self.gains(steps).square().mean(-1)


def _extents(layers: tuple[Layer, ...], unit: int, apart: int) -> Iterator[tuple[int, int, int]]:
    """For each layer, in pixels of the picture, the spacing of its output, T, and the radius if it convolves.

    Args:
        layers: The layers.
        unit: The spacing before them.
        apart: T before them, counted in that spacing.

    Raises:
        ArchitectureError: A layer that does not commute with shifts by so many pixels.
    """
    for layer in layers:
        radius = 0
        if isinstance(layer, Convolution):
            radius, unit, apart = unit * (layer.size // 2), unit * layer.stride, apart // layer.stride
        elif isinstance(layer, Pooling):
            unit, apart = 2 * unit, (apart + 1) // 2
        elif isinstance(layer, Resampled):
            inner = list(_extents(layer.inner, unit, apart))
            if layer.up == "clamped" or inner[-1][0] != 2 * unit:
                raise ArchitectureError(
                    f"the kernel repeats only where each scale halves the size once and doubles it with a "
                    f"border that wraps, got a factor of {inner[-1][0] // unit} and up={layer.up!r}; use "
                    f'up="bilinear" or "nearest"'
                )
            yield from (*inner, *_extents(layer.side or (), unit, apart))
            apart = max(apart, inner[-1][1] // unit + (3 if layer.up == "bilinear" else 1))
        yield unit, unit * apart, radius
