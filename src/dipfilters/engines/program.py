"""What an engine computes: the stages that each displacement's plane goes through, and what is read off."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dipfilters.kernels import ArcCosineKernel, GaussianKernel, Kernel, OneLayerTangentKernel

Read = Literal["sigma", "theta", "gaussian"]


class ProgramError(ValueError):
    """A picture or columns that do not fit a program; the message says why."""


@dataclass(frozen=True)
class MeanStage:
    """The mean over common offsets of both pixels, without padding, and a part in the tangent kernel.

    ::

        S ← A(S),   Theta ← A(Theta) + part · S          A: the mean over size × size offsets

    Attributes:
        size: The side of the square of offsets.
        part: What this stage adds of its result to Theta.
    """

    size: int
    part: float = 0.0


@dataclass(frozen=True)
class ActivationStage:
    """An activation of slope α: Theta ← V'(S) ∘ Theta, S ← V(S), with V and V' of :mod:`dipfilters.ntk`."""

    slope: float = 0.0


@dataclass(frozen=True)
class KernelProgram:
    """A kernel between the pixels of a picture that was padded once.

    ::

        S_t(u) = mean_c x(c, u) x(c, u + t),   Theta_t = 0,   then stage after stage

        K(u, u + t) = f(t) · S, Theta or exp(−(pp − 2 S + qq)/h²)       pp, qq: S of each pixel with itself
        f(t) = exp(−‖t‖²/s²)

    The result is smaller than the padded picture by ``shrink`` rows and columns. K is symmetric.

    Attributes:
        stages: The chain.
        read: ``"sigma"`` for S, ``"theta"``, or ``"gaussian"``, whose chain is made of means alone.
        bandwidth: h of the Gaussian.
        spatial: s in pixels, or None for all displacements alike.
    """

    stages: tuple[MeanStage | ActivationStage, ...]
    read: Read
    bandwidth: float = math.inf
    spatial: float | None = None

    @property
    def shrink(self) -> int:
        """By how many rows and columns the result is smaller than the padded picture."""
        return sum(stage.size - 1 for stage in self.stages if isinstance(stage, MeanStage))

    def shape(self, padded: Float[Tensor, "C h w"]) -> tuple[int, int]:
        """Height and width of the result, whose product is N.

        Raises:
            ProgramError: The padded picture is too small.
        """
        height, width = (int(side) - self.shrink for side in padded.shape[1:])
        if min(height, width) < 1:
            raise ProgramError(
                f"a padded picture of {padded.shape[1]}×{padded.shape[2]} pixels is too small: the stages "
                f"take away {self.shrink} rows and columns; pad by {self.shrink // 2} on every side"
            )
        return height, width

    def check(self, padded: Float[Tensor, "C h w"], columns: Float[Tensor, "N m"]) -> tuple[int, int]:
        """The shape of the result, once the columns are found to fit it.

        Raises:
            ProgramError: The padded picture is too small, or the columns are of another length.
        """
        height, width = self.shape(padded)
        if columns.ndim != 2 or len(columns) != height * width:
            raise ProgramError(
                f"columns must be {height * width}×m for {height}×{width} pixels, got {tuple(columns.shape)}"
            )
        return height, width

    def factor(self, count: int) -> Float[Tensor, " count"]:
        """What one axis contributes to f(t) at the distances 0 … count − 1: f(t) is a product of two such."""
        distances = torch.arange(count, dtype=torch.float64, device="cpu")
        factor = torch.ones_like(distances)
        if self.spatial is not None:
            factor = torch.exp(-(distances**2) / self.spatial**2)
        return factor

    def powers(self, padded: Float[Tensor, "C h w"]) -> list[Float[Tensor, "_h _w"]]:
        """S of each pixel with itself before each activation, in float64: activations leave it as it is."""
        power, found = padded.double().square().mean(0), []
        for stage in self.stages:
            if isinstance(stage, ActivationStage):
                found.append(power)
            else:
                power = box_mean(power, stage.size)
        return found

    def diagonal(self, padded: Float[Tensor, "C h w"]) -> Float[Tensor, " N"]:
        """K of each pixel with itself, in float64; its cosine is 1, where V(S) = S and V' = 1."""
        height, width = self.shape(padded)
        sigma = padded.double().square().mean(0)
        theta = torch.zeros_like(sigma)
        for stage in self.stages:
            if isinstance(stage, MeanStage):
                sigma = box_mean(sigma, stage.size)
                theta = box_mean(theta, stage.size) + stage.part * sigma
        value = {"sigma": sigma, "theta": theta, "gaussian": torch.ones_like(sigma)}[self.read]
        return value.reshape(height * width)


def box_mean(
    values: Tensor, size: int, rows: tuple[int, ...] = (-2,), columns: tuple[int, ...] = (-1,)
) -> Tensor:
    """The mean over size × size offsets, without padding: of planes, or common ones of several axes.

    By slices, which read 2·size numbers for each where pooling reads size². Pooling would also wake torch's
    threads, which wait for each other longer than a small plane takes.
    """
    if size == 1:
        return values
    for axes in (rows, columns):
        total = _slice(values, axes, 0, size) + _slice(values, axes, 1, size)
        for offset in range(2, size):
            total += _slice(values, axes, offset, size)
        values = total
    return values.div_(size**2)


def _slice(values: Tensor, axes: tuple[int, ...], offset: int, size: int) -> Tensor:
    for axis in axes:
        values = values.narrow(axis, offset, values.shape[axis] - size + 1)
    return values


def program_of_kernel(kernel: Kernel, patch_size: int, spatial: float | None = None) -> KernelProgram | None:
    """The program of a kernel between patches, for a picture padded by ``patch_size // 2``.

    None for a kernel of the reader's own: its products are computed tile by tile.
    """
    if isinstance(kernel, GaussianKernel):
        return KernelProgram((MeanStage(patch_size),), "gaussian", kernel.bandwidth, spatial)
    if isinstance(kernel, ArcCosineKernel):
        stages = (MeanStage(patch_size), ActivationStage())
        return KernelProgram(stages, "sigma", spatial=spatial)
    if isinstance(kernel, OneLayerTangentKernel):
        both = (MeanStage(patch_size, part=1.0), ActivationStage(), MeanStage(1, part=1.0))
        return KernelProgram(both, "theta", spatial=spatial)
    return None
