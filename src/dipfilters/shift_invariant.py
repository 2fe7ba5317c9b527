"""Filters that know nothing of the picture's patches: a Gaussian blur, and the Wiener filter.

With the picture mirrored at its border, both multiply its cosine coefficients by gains. They
are the baselines for any claim about what another filter is worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from dipfilters.filters import Filter
from dipfilters.images import check_detached, check_picture, check_sigma
from dipfilters.parameters import check_positive


class CosineFilter(Filter):
    """The symmetric filter that multiplies a picture's cosine coefficients by gains.

    ::

        W x = Aᵀ ( g ∘ (A x Bᵀ) ) B        A, B: the orthonormal cosine transforms of columns and rows

    Args:
        gains: g, for the frequencies (k/2H, l/2W) in cycles a pixel, k < H and l < W.

    Cost: 4 HW (H + W) operations a product, 8 (H² + W²) bytes.
    """

    def __init__(self, gains: Float[Tensor, "H W"]) -> None:
        check_detached(gains, "gains")
        super().__init__((gains.shape[0], gains.shape[1]), 1.0, gains.device)
        self.gains = gains.double()

    @cached_property
    def _transforms(self) -> tuple[Tensor, Tensor]:
        return _cosines(self.shape[0], self.gains.device), _cosines(self.shape[1], self.gains.device)

    def _reference_product(self, columns: Tensor) -> Tensor:
        down, across = self._transforms
        coefficients = down @ columns.T.reshape(-1, *self.shape) @ across.T
        return (down.T @ (self.gains * coefficients) @ across).flatten(1).T

    def _kernel_diagonal(self) -> Tensor:
        down, across = (transform.square() for transform in self._transforms)
        return (down.T @ self.gains @ across).flatten()


def gaussian_blur(shape: Sequence[int], spread: float, *, device: torch.device | str = "cpu") -> CosineFilter:
    """A Gaussian blur of the standard deviation ``spread`` in pixels, the picture mirrored at its border.

    ::

        g(f) = exp(−2 (π s f)²)

    Raises:
        ValueError: A spread that is not positive.
    """
    check_positive("spread", spread)
    return CosineFilter(torch.exp(-2 * (math.pi * spread * _frequency(shape, device)) ** 2))


def wiener(clean: Float[Tensor, "C H W"], sigma: float) -> CosineFilter:
    """The best filter whose gain depends on the frequency's size alone, made from the clean picture.

    ::

        g(f) = P(f) / (P(f) + σ²),   P(f): the mean square of the clean coefficients within one ring of f

    No denoiser has the clean picture. On average over the noise, no filter of this kind, the same at all
    pixels and in all directions, does better.

    Raises:
        PictureError: Not a picture.
        ValueError: sigma outside [0, 1].

    Source: Wiener (1949) [wiener1949].
    """
    check_picture(clean, "clean")
    check_detached(clean, "clean")
    check_sigma(sigma)
    shape = (clean.shape[1], clean.shape[2])
    down, across = _cosines(shape[0], clean.device), _cosines(shape[1], clean.device)
    power = (down @ clean.double() @ across.T).square().mean(0).flatten()
    rings = (2 * max(shape) * _frequency(shape, clean.device)).round().long().flatten()
    total, count = (torch.zeros_like(power).index_add(0, rings, x) for x in (power, torch.ones_like(power)))
    mean = (total / count.clamp_min(1))[rings].reshape(shape)
    return CosineFilter(mean / (mean + sigma**2).clamp_min(1e-300))


def _cosines(n: int, device: torch.device) -> Tensor:
    """The orthonormal cosine transform (DCT-II) of n numbers, as a matrix."""
    k = torch.arange(n, dtype=torch.float64, device=device)
    matrix = torch.cos(math.pi / n * k[:, None] * (k + 0.5)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


def _frequency(shape: Sequence[int], device: torch.device | str) -> Float[Tensor, "H W"]:
    """The size of each coefficient's frequency, in cycles a pixel."""
    down, across = (torch.arange(n, dtype=torch.float64, device=device) / (2 * n) for n in shape)
    return torch.hypot(down[:, None], across)
