"""How alike two patches are: kernels as small frozen objects.

Every kernel here is a function of three inner products alone, ⟨p, p⟩, ⟨p, q⟩ and ⟨q, q⟩, where ⟨p, q⟩
is the **mean** of the products over the d entries of a patch. So ‖p‖ is a root mean square, in the unit
of the pixels whatever the size of the patch, and no formula needs to know d.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Products = Float[Tensor, "..."]  # inner products, of shapes that are broadcast

# Two equal patches have a cosine of 1, but their three inner products, summed in different orders, may give
# a few rounding steps less, which kappa0 turns into an error of 1e-8 or more: so many steps are taken for 1,
# and for −1 between opposite patches.
_ROUNDING_OF_ONE = 32 * torch.finfo(torch.float64).eps


def kappa0(cosine: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The arc-cosine kernel of order 0, as a function of the cosine of the angle φ.

    ::

        κ₀(φ) = (π − φ) / π

    It is twice the chance that both patches are on the active side of a random ReLU: 1 at φ = 0, 0 at φ = π.

    Source: Cho and Saul (2009) [cho2009].
    """
    return (math.pi - _angle(cosine)) / math.pi


def kappa1(cosine: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The arc-cosine kernel of order 1, as a function of the cosine of the angle φ.

    ::

        κ₁(φ) = ( sin φ + (π − φ) cos φ ) / π

    It is twice the mean product of two random ReLU features of unit patches: 1 at φ = 0, 1/π at a right
    angle, 0 at φ = π.

    Source: Cho and Saul (2009) [cho2009].
    """
    return (_sine(cosine) + (math.pi - _angle(cosine)) * cosine) / math.pi


def _sine(cosine: Tensor) -> Tensor:
    # A cosine one rounding step outside [-1, 1] belongs to a sine of 0, not to the root of a negative number.
    return torch.sqrt(((1 - cosine) * (1 + cosine)).clamp_min(0.0))


def _angle(cosine: Tensor) -> Tensor:
    return torch.atan2(_sine(cosine), cosine)


def cosine_of_angle(pp: Products, pq: Products, qq: Products) -> Products:
    """cos φ = ⟨p, q⟩ / (‖p‖ ‖q‖), kept within [−1, 1]; 0 where a patch is black and has no angle."""
    norms = torch.sqrt(pp * qq)
    cosine = torch.where(norms > 0, pq / norms.clamp_min(torch.finfo(norms.dtype).tiny), 0.0)
    cosine = cosine.clamp(-1.0, 1.0)
    return torch.where(1.0 - cosine.abs() <= _ROUNDING_OF_ONE, cosine.sign(), cosine)


def leaky_relu_weights(slope: float) -> tuple[float, float]:
    """2α/(1+α²) and (1−α)²/(1+α²): how much a leaky ReLU of slope α keeps as it is, and how much as a ReLU.

    With gain √(2/(1+α²)), it turns a covariance into the first times itself plus the second times that of a
    ReLU, and the derivative likewise, V and V′ of :mod:`dipfilters.ntk`. The weights sum to one.
    """
    return 2 * slope / (1 + slope**2), (1 - slope) ** 2 / (1 + slope**2)


class Kernel(ABC):
    """A similarity of two patches: symmetric, and positive semi-definite over any set of patches."""

    @abstractmethod
    def from_products(self, pp: Products, pq: Products, qq: Products) -> Products:
        """The kernel from the inner products ⟨p, p⟩, ⟨p, q⟩ and ⟨q, q⟩, which are broadcast.

        Each is a mean over the entries of the patch. The result has their dtype; give float64 where angles
        near zero matter (one rounding step of a float32 cosine below 1 moves kappa0 by 1e-4).
        """

    def __call__(self, p: Float[Tensor, "n d"], q: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """The kernel between each patch of p and each of q, in float64.

        Raises:
            ValueError: Patches of different lengths.

        Cost: n·m·d operations, and about five float64 matrices of n·m.
        """
        if p.shape[-1] != q.shape[-1]:
            raise ValueError(f"patches must be of one length, got {p.shape[-1]} and {q.shape[-1]} entries")
        same = p is q
        p, q = p.double(), q.double()
        pq = p @ q.T / p.shape[-1]
        pp = pq.diagonal() if same else torch.einsum("nd,nd->n", p, p) / p.shape[-1]
        qq = pq.diagonal() if same else torch.einsum("nd,nd->n", q, q) / q.shape[-1]
        return self.from_products(pp[:, None], pq, qq[None, :])


@dataclass(frozen=True)
class GaussianKernel(Kernel):
    """The kernel of non-local means; see :func:`gaussian_kernel`."""

    bandwidth: float

    def __post_init__(self) -> None:
        if not (self.bandwidth > 0 and self.bandwidth**2 > 0):  # the square of 1e-200 is 0
            raise ValueError(f"bandwidth must be positive, in grey levels of [0, 1], got {self.bandwidth}")

    def from_products(self, pp: Products, pq: Products, qq: Products) -> Products:
        """k(p, q) = exp(−(⟨p, p⟩ − 2⟨p, q⟩ + ⟨q, q⟩) / h²)."""
        squared_distance = (pp + qq - 2 * pq).clamp_min(0.0)
        return torch.exp(-squared_distance / self.bandwidth**2)


@dataclass(frozen=True)
class ArcCosineKernel(Kernel):
    """The kernel of random ReLU features; see :func:`arc_cosine_kernel`."""

    def from_products(self, pp: Products, pq: Products, qq: Products) -> Products:
        """k(p, q) = ‖p‖ ‖q‖ κ₁(φ)."""
        return torch.sqrt(pp * qq) * kappa1(cosine_of_angle(pp, pq, qq))


@dataclass(frozen=True)
class OneLayerTangentKernel(Kernel):
    """The tangent kernel of one hidden ReLU layer; see :func:`one_layer_tangent_kernel`."""

    def from_products(self, pp: Products, pq: Products, qq: Products) -> Products:
        """k(p, q) = ‖p‖ ‖q‖ κ₁(φ) + ⟨p, q⟩ κ₀(φ)."""
        cosine = cosine_of_angle(pp, pq, qq)
        return torch.sqrt(pp * qq) * kappa1(cosine) + pq * kappa0(cosine)


def gaussian_kernel(bandwidth: float) -> GaussianKernel:
    """The Gaussian kernel, which makes a filter non-local means.

    ::

        k(p, q) = exp(−‖p − q‖² / h²),   ‖p − q‖² = mean over the d entries of (p − q)²

    Args:
        bandwidth: h, in grey levels of [0, 1] and meaning the same for every patch size. Two patches that
            differ by noise of standard deviation σ alone have ‖p − q‖² ≈ 2σ². Infinity gives k = 1.

    Raises:
        ValueError: A bandwidth that is not positive.

    Source: Buades, Coll and Morel (2005) [buades2005].
    """
    return GaussianKernel(float(bandwidth))


def arc_cosine_kernel() -> ArcCosineKernel:
    """The arc-cosine kernel of order 1: the mean product of random ReLU features.

    ::

        k(p, q) = ‖p‖ ‖q‖ κ₁(φ) = ‖p‖ ‖q‖ ( sin φ + (π − φ) cos φ ) / π,   φ = angle(p, q)

    With norms that are sums over the patch instead of means it is larger by the factor d, which a step
    size takes up. It is the tangent kernel of one hidden layer when only the last layer is trained.

    Source: Cho and Saul (2009) [cho2009]; Tachella, Tang and Davies (2021) [tachella2021].
    """
    return ArcCosineKernel()


def one_layer_tangent_kernel() -> OneLayerTangentKernel:
    """The tangent kernel of one hidden ReLU layer, both of its layers trained.

    ::

        k(p, q) = ‖p‖ ‖q‖ κ₁(φ) + ⟨p, q⟩ κ₀(φ) = ‖p‖ ‖q‖ ( sin φ + 2 (π − φ) cos φ ) / π

    in the limit of infinite width, He scaling, no biases, tangent-kernel parametrisation.

    Source: Jacot, Gabriel and Hongler (2018) [jacot2018]; Tachella, Tang and Davies (2021) [tachella2021].
    """
    return OneLayerTangentKernel()
