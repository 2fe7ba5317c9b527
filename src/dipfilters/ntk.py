"""The kernels of an infinitely wide network, in closed form, from its description.

Two matrices are carried through the layers: the covariance Sigma of what a layer puts out at two pixels,
over the random weights, and the tangent kernel Theta, the inner product of its gradients there::

    input x         Sigma = xᵀx / C,                   Theta = 0
    convolution     Sigma ← A(Sigma),                  Theta ← A(Theta) + Sigma if it is trained
    activation      Theta ← V'(Sigma) ∘ Theta,         Sigma ← V(Sigma)
    resampling D    Sigma ← D Sigma Dᵀ,                Theta ← D Theta Dᵀ
    two branches    the sum; if concatenated, the mean weighted by their channels

A is the mean over the k² offsets of a convolution, applied to both pixels at once, and for a leaky ReLU of
slope α, with φ the angle between the pixels, cos φ = Sigma_ij / √(Sigma_ii Sigma_jj),

    V(Sigma)_ij  = ( 2α Sigma_ij + (1−α)² √(Sigma_ii Sigma_jj) κ₁(φ) ) / (1+α²)
    V'(Sigma)_ij = ( 2α + (1−α)² κ₀(φ) ) / (1+α²)

A network that pads once has a kernel between two pixels that depends on their surroundings alone. Its
recursion is then a program that an engine goes through, one displacement of the pixels after the other.

Source: Jacot, Gabriel and Hongler (2018) [jacot2018]; Arora and others (2019) [arora2019]; Novak and others
(2020) [novak2020].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dipfilters.engines.program import ActivationStage, KernelProgram, MeanStage, box_mean
from dipfilters.filters import Engine, Filter, KernelJob, Normalize, check_memory
from dipfilters.images import check_detached, check_picture
from dipfilters.kernels import cosine_of_angle, kappa0, kappa1, leaky_relu_weights
from dipfilters.networks import (
    Activation,
    Architecture,
    ArchitectureError,
    Convolution,
    Layer,
    Merge,
    Parametrization,
    Pooling,
    Resampled,
    Upsampling,
    pool,
    upsample,
    with_gains,
)
from dipfilters.parameters import check_choice, check_positive
from dipfilters.patches import Padding, pad

_ENTRIES_AT_ONCE = 2**22  # of columns that are computed together: 34 MB, twice


def tangent_kernel(
    architecture: Architecture,
    image: Float[Tensor, "C H W"],
    *,
    parametrization: Parametrization = "tangent",
    budget_gb: float = 8.0,
) -> Float[Tensor, "N N"]:
    """The tangent kernel of the infinitely wide network between all pixels of its input: Theta, in float64.

    ::

        Theta_ij = Σ over the weights w of  ∂z_i/∂w ∂z_j/∂w,    for width → ∞

    where z is one channel of the output; different channels have no kernel between them. The recursion is
    that of this module. If only the last convolution is trained, Theta is the output's covariance Sigma.

    Args:
        architecture: The network.
        image: Its input, (C, H, W): a picture, or noise.
        parametrization: That of :func:`dipfilters.build`. The tangent kernel of the ``"standard"`` one grows
            with the width, which a step of the order of 1/width makes up for: given is the limit of
            Theta/width. A convolution's part in it is fan-in/(gain² width) times as large as in
            ``"tangent"``, so that the first one, whose fan-in does not grow, has none.
        budget_gb: Refuse work that takes more memory than this.

    Raises:
        PictureError: Not a picture, or too small for the padding or the scales.
        ValueError: An unknown parametrisation.
        MemoryBudgetError: The matrices would take more.

    Cost: five N×N matrices of float64 for networks that pad once, N the pixels of the padded input (1 GB
    for 64×64 pixels and three hidden 3×3 layers), eight for others (1.1 GB for 64×64, 17 GB for 128×128);
    about 60 operations on each entry a layer: 4 to 7 s for 64×64 pixels on one core.

    Source: Arora and others (2019) [arora2019]; Tachella, Tang and Davies (2021) [tachella2021]; Lee and
    others (2019) [lee2019] for Sigma; Sohl-Dickstein and others (2020) [sohldickstein2020] for the two
    parametrisations.
    """
    check_choice("parametrization", parametrization, Parametrization)
    padded, n = _padded(architecture, image), image[0].numel()
    copies = 5 if architecture.pad_once else 8  # before a layer and after it; padding and skips hold others
    check_memory(8 * copies * padded[0].numel() ** 2, image.shape[1:], budget_gb)
    padding = None if architecture.pad_once else architecture.padding
    # The first state has no name here, so that its two matrices go when the first layer is done with them.
    return _through(architecture.layers, _inputs(padded), padding, parametrization).theta.reshape(n, n)


def white_noise_kernel(
    architecture: Architecture, period: int, shape: tuple[int, int], parametrization: Parametrization
) -> Float[Tensor, "q q H W"]:
    """Theta(a, j) of a network fed with infinitely many channels of white noise, Sigma = I, in float64.

    The first pixel a lies in one block of ``period`` × ``period`` pixels: where all paddings wrap, and the
    period is a multiple of all strides together, Theta(a + period·t, j + period·t) = Theta(a, j).
    """
    ones = torch.ones(shape, dtype=torch.float64, device="cpu")
    sigma = ones.new_zeros(period, period, *shape)
    sigma[:, :, :period, :period] = torch.eye(period**2, device="cpu").reshape([period] * 4)
    state = _State(sigma, torch.zeros_like(sigma), ones[:period, :period], ones, 0.0)
    return _through(architecture.layers, state, "circular", parametrization).theta


class TangentFilter(Filter):
    """The filter matrix W of an infinitely wide network: its tangent kernel over the pixels of its input.

    ::

        W = Theta / λ_max(Theta)     normalize="spectral", the step 1/λ_max of gradient descent
        W = η Theta                  normalize=η
        W = D⁻¹ Theta                normalize="rows"

    Twicing with W on a picture y is what gradient descent on y does to the output of the network, apart
    from its random start.

    Args:
        image: The input of the network, a picture or noise: (C, H, W).
        architecture: The network.
        normalize: As above.
        parametrization: As for :func:`tangent_kernel`.
        engine: What computes products and the dense matrix of a network that pads once; see
            :class:`dipfilters.filters.Filter`. Other networks know the reference alone.
        budget_gb: Refuse a kernel that takes more memory to form than this.

    Raises:
        PictureError, ValueError: As :func:`tangent_kernel`; an unknown ``normalize``; an engine that does not
            know the network.

    Cost: nothing at first. The first product by the reference forms the kernel by :func:`tangent_kernel`, and
    keeps it; the engine ``"cpu"`` takes about 0.3 ns for each of N² pairs and hidden layer on two cores. A
    row or a column of a network that pads once costs N·(2R+1)² entries, with R the radius that the layers
    after the first one see: 10 ms for 64×64 pixels and three hidden 3×3 layers.

    Source: Tachella, Tang and Davies (2021) [tachella2021].
    """

    def __init__(
        self,
        image: Float[Tensor, "C H W"],
        architecture: Architecture,
        *,
        normalize: Normalize = "spectral",
        parametrization: Parametrization = "tangent",
        engine: Engine = "auto",
        budget_gb: float = 8.0,
    ) -> None:
        check_positive("budget_gb", budget_gb)
        check_choice("parametrization", parametrization, Parametrization)
        padded, once = _padded(architecture, image), architecture.pad_once
        job = KernelJob(kernel_program(architecture, parametrization), padded) if once else None
        super().__init__((image.shape[1], image.shape[2]), normalize, image.device, engine=engine, job=job)
        self.architecture = architecture
        self.parametrization = parametrization
        self._image, self._budget_gb = image, budget_gb

    @cached_property
    def _kernel(self) -> Tensor:
        kind, budget_gb = self.parametrization, self._budget_gb
        return tangent_kernel(self.architecture, self._image, parametrization=kind, budget_gb=budget_gb)

    def _kernel_columns(self, pixels: Sequence[int]) -> Tensor:
        """Those of a network that pads once from the surroundings of their pixels, which is all it sees.

        Sigma after the first convolution is an inner product of patches.
        """
        if self._job is None or "_kernel" in vars(self):
            return self._kernel[:, list(pixels)]
        (first, gain), *_ = with_gains(self.architecture.layers)
        assert isinstance(first, Convolution)
        padded, (height, width) = self._job.padded, self.shape
        reach = (
            2 * (self.architecture.radius - first.size // 2) + 1
        )  # what the layers after the first one see
        seen = padded[0].numel()
        size = 8 * (height * width * len(pixels) + seen * len(padded) * first.size**2 + 9 * seen * reach**2)
        check_memory(size, self.shape, self._budget_gb)
        patches = F.unfold(padded[None], first.size)[0]  # (d, N')
        beyond = (padded.shape[1] - first.size + 1, padded.shape[2] - first.size + 1)
        powers = patches.square().mean(0).reshape(beyond)
        part = _part(first, gain, 0.0, self.parametrization)
        patches_at = patches.reshape(len(patches), *beyond)
        columns = padded.new_empty(height * width, len(pixels))
        # Where the later layers see one pixel, several columns go through them together, as rows of a window.
        together = max(1, _ENTRIES_AT_ONCE // seen) if reach == 1 else 1
        around = torch.arange(reach, device=padded.device)
        for start in range(0, len(pixels), together):
            some = torch.tensor(pixels[start : start + together], device=padded.device)
            rows = ((some // width)[:, None] + around).reshape(-1, 1)
            places = ((some % width)[:, None] + around).repeat_interleave(reach, 0)
            near = patches_at[:, rows, places]  # (d, reach, reach), or (d, columns, 1)
            sigma = (near.reshape(len(near), -1).T @ patches / len(near)).reshape(*near.shape[1:], *beyond)
            state = _State(sigma, part * sigma, powers[rows, places], powers, first.channels)
            theta = _through(self.architecture.layers[1:], state, None, self.parametrization).theta
            columns[:, start : start + len(some)] = theta.reshape(len(some), -1).T
        return columns

    def _kernel_diagonal(self) -> Tensor:
        return self._kernel.diagonal() if self._job is None else self._job.program.diagonal(self._job.padded)

    def _reference_matrix(self) -> Tensor:
        return self._kernel


class _State(NamedTuple):
    """The kernels between the pixels of two pictures, here the padded input and a part of it, or all.

    Attributes:
        sigma, theta: Of shape (h, w, H, W).
        first, second: Sigma of each pixel with itself, (h, w) and (H, W).
        channels: How many there are, as a multiple of the width; those of the input do not grow and are 0.
    """

    sigma: Tensor
    theta: Tensor
    first: Tensor
    second: Tensor
    channels: float


def kernel_program(architecture: Architecture, parametrization: Parametrization) -> KernelProgram:
    """The tangent kernel of a network that pads once as an engine's program, for its padded input."""
    stages: list[MeanStage | ActivationStage] = []
    channels = 0.0
    for layer, gain in with_gains(architecture.layers):
        if isinstance(layer, Convolution):
            stages.append(MeanStage(layer.size, _part(layer, gain, channels, parametrization)))
            channels = layer.channels
        elif isinstance(layer, Activation):
            stages.append(ActivationStage(layer.slope))
    return KernelProgram(tuple(stages), "theta")


def check_closed_form(architecture: Architecture) -> None:
    """Refuse a network whose kernel has no closed form.

    Raises:
        ArchitectureError: Batch normalisation or a sigmoid, with the reason.
    """
    if architecture.normalised:
        raise ArchitectureError(
            "batch normalisation divides by what all pixels have in common, and has no kernel in closed "
            "form; describe the network without, or take the kernel of one network by JacobianFilter"
        )
    if architecture.sigmoid:
        raise ArchitectureError(
            "the slope of a sigmoid changes with the output, and so does the tangent kernel; describe the "
            "network with sigmoid=False"
        )


def _padded(architecture: Architecture, image: Tensor) -> Tensor:
    check_closed_form(architecture)
    check_picture(image)
    check_detached(image, "image")
    return pad(image.double()[None], architecture.radius, architecture.padding)[0]


def _inputs(image: Tensor) -> _State:
    sigma = torch.einsum("cij,ckl->ijkl", image, image) / len(image)
    power = image.square().mean(0)
    return _State(sigma, torch.zeros_like(sigma), power, power, 0.0)


def _through(
    layers: tuple[Layer, ...], state: _State, padding: Padding | None, parametrization: Parametrization
) -> _State:
    """The kernels after ``layers``."""
    for layer, gain in with_gains(layers):
        if isinstance(layer, Convolution):
            state = _convolved(layer, state, padding, _part(layer, gain, state.channels, parametrization))
        elif isinstance(layer, Activation):
            state = _activated(layer.slope, state)
        elif isinstance(layer, Pooling):
            state = _resampled(pool, state)
        else:
            assert isinstance(layer, Resampled)  # batch normalisation was refused
            size = (state.sigma.shape[2], state.sigma.shape[3])
            below = _through(layer.inner, state, padding, parametrization)
            h, w = below.sigma.shape[2:]
            if padding == "circular" and layer.up != "clamped" and size == (2 * h, 2 * w):
                below = _resampled(partial(_doubled, up=layer.up), below, margin=1)
            else:
                below = _resampled(partial(upsample, size=size, up=layer.up), below)
            side = None if layer.side is None else _through(layer.side, state, padding, parametrization)
            state = below if side is None else _merged(layer.merge, below, side)
    return state


def _part(layer: Convolution, gain: float, channels: float, parametrization: Parametrization) -> float:
    """The convolution's own part in the tangent kernel, as a multiple of Sigma; ``channels`` come in."""
    part = 1.0 if parametrization == "tangent" else channels * layer.size**2 / gain**2
    return part * layer.trained


def _convolved(layer: Convolution, state: _State, padding: Padding | None, part: float) -> _State:
    """A, and the convolution's own ``part`` in the tangent kernel."""
    sigma, theta = (_averaged(kernel, layer, padding) for kernel in (state.sigma, state.theta))
    second, (h, w) = _averaged_power(state.second, layer, padding), sigma.shape[:2]
    first = _averaged_power(state.first, layer, None) if padding is None else second[:h, :w]
    return _State(sigma, theta.add_(sigma, alpha=part), first, second, layer.channels)


def _averaged(kernel: Tensor, layer: Convolution, padding: Padding | None) -> Tensor:
    """A: the mean over the k² offsets of a convolution, applied to both pixels at once."""
    size, step = layer.size, layer.stride
    if padding == "circular":
        kernel = _wrapped(kernel, size // 2)
    elif padding is not None:
        kernel = _along_both(kernel, partial(pad, radius=size // 2, padding=padding))
    result = kernel.new_empty([(length - size) // step + 1 for length in kernel.shape])
    # Row by row: a matrix over 30 MB is ten times slower for each of its entries.
    for i in range(len(result)):
        row = box_mean(kernel[i * step : i * step + size], size, (0, 2), (1, 3))
        result[i] = row[0, ::step, ::step, ::step]
    return result


def _averaged_power(power: Tensor, layer: Convolution, padding: Padding | None) -> Tensor:
    """The diagonal of A(Sigma) from that of Sigma."""
    if padding is not None:
        power = pad(power[None, None], layer.size // 2, padding)[0, 0]
    return box_mean(power, layer.size)[:: layer.stride, :: layer.stride]


def _activated(slope: float, state: _State) -> _State:
    """V and V' of the module's docstring, in place: a convolution has just made these matrices.

    At the angle 0, V changes nothing, so that the powers stay.
    """
    (kept, relu), qq = leaky_relu_weights(slope), state.second
    for sigma, theta, power in zip(state.sigma, state.theta, state.first, strict=True):
        pp = power[:, None, None]
        cosine = cosine_of_angle(pp, sigma, qq)
        theta *= kept + relu * kappa0(cosine)
        sigma.copy_(kept * sigma + relu * torch.sqrt(pp * qq) * kappa1(cosine))
    return state


def _wrapped(kernel: Tensor, radius: int) -> Tensor:
    """Circular padding of both pixels; the first ones may be a block that stands for all its shifts."""
    for axis in (0, 1) if radius else ():
        period = kernel.shape[axis]  # where the first pixel leaves its block, both move by whole blocks
        places = [(place % period, place // period * period) for place in range(-radius, period + radius)]
        parts = [kernel.narrow(axis, place, 1).roll(blocks, axis + 2) for place, blocks in places]
        kernel = torch.cat(parts, axis)
    return pad(kernel, radius, "circular")


def _doubled(wrapped: Tensor, up: Upsampling) -> Tensor:
    """Pictures of twice the size, from those padded by one pixel on every side."""
    height, width = wrapped.shape[2:]
    return upsample(wrapped, (2 * height, 2 * width), up)[..., 2:-2, 2:-2]


def _resampled(resample: Callable[[Tensor], Tensor], state: _State, margin: int = 0) -> _State:
    """Both kernels resampled along both pixels, after circular padding by ``margin`` pixels."""
    sigma, theta = (_along_both(_wrapped(kernel, margin), resample) for kernel in (state.sigma, state.theta))
    return _with_powers(sigma, theta, state.channels)


def _merged(merge: Merge, below: _State, beside: _State) -> _State:
    """Both branches together, in the matrices of the first, which upsampling has just made."""
    channels = below.channels + beside.channels
    p, q = (1.0, 1.0) if merge == "sum" else (below.channels / channels, beside.channels / channels)
    sigma = below.sigma.mul_(p).add_(beside.sigma, alpha=q)
    theta = below.theta.mul_(p).add_(beside.theta, alpha=q)
    return _with_powers(sigma, theta, below.channels if merge == "sum" else channels)


def _with_powers(sigma: Tensor, theta: Tensor, channels: float) -> _State:
    """The state of a network that does not pad once: the first pixels are all, or a block that repeats."""
    h, w, height, width = sigma.shape
    power = torch.einsum("ijij->ij", sigma[:, :, :h, :w])
    return _State(sigma, theta, power, power.repeat(height // h, width // w), channels)


def _along_both(kernel: Tensor, resample: Callable[[Tensor], Tensor]) -> Tensor:
    """D kernel Dᵀ for a linear map D of pictures, given as one of a stack (B, 1, h, w)."""
    for _ in range(2):  # along the second pixel; then the two change places
        h, w = kernel.shape[:2]
        mapped = resample(kernel.reshape(h * w, 1, *kernel.shape[2:]))
        kernel = mapped.reshape(h, w, *mapped.shape[2:]).permute(2, 3, 0, 1)
    return kernel
