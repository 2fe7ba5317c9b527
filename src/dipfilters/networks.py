"""One description of an architecture, two uses: a torch module of any width, and (in ``ntk``) its kernels.

A description is a tuple of layers. It says nothing of widths: those come in when a network is built.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dipfilters.decoding import PictureError
from dipfilters.parameters import check_choice, check_positive, check_share, check_whole
from dipfilters.patches import Padding, pad

Upsampling = Literal["nearest", "bilinear", "clamped"]
Merge = Literal["concatenate", "sum"]
Downsampling = Literal["pool", "stride"]
Parametrization = Literal["tangent", "standard"]


class ArchitectureError(ValueError):
    """A description that makes no network; the message says why."""


@dataclass(frozen=True)
class Convolution:
    """A ``size``×``size`` convolution without bias.

    Attributes:
        size: The side k of its kernel, odd.
        stride: 1, or 2 to keep every second pixel.
        channels: What it puts out, as a multiple of the network's width; the last one of a network puts out
            what :func:`build` is told.
        trained: Whether its weights are.
    """

    size: int
    stride: int = 1
    channels: float = 1.0
    trained: bool = True

    def __post_init__(self) -> None:
        if check_whole("kernel_size", self.size, 1) % 2 == 0:
            raise ArchitectureError(f"kernel_size must be odd, got {self.size}; use {self.size + 1}")
        check_choice("stride", self.stride, Literal[1, 2])
        check_positive("channels", self.channels)


@dataclass(frozen=True)
class Activation:
    """The leaky ReLU max(u, αu) with slope α, the ReLU for α = 0, after a convolution, normalised or not."""

    slope: float = 0.0

    def __post_init__(self) -> None:
        check_share("slope", self.slope)


@dataclass(frozen=True)
class Pooling:
    """The mean over 2×2 pixels; an odd last row or column is dropped."""


@dataclass(frozen=True)
class Normalisation:
    """Batch normalisation: each channel less its mean over the pixels, by their standard deviation, γ and β.

    No closed form knows it, since it ties each pixel to all others.
    """


@dataclass(frozen=True)
class Resampled:
    """Layers at half the size whose result is brought back up, with a skip branch beside them or none.

    Attributes:
        inner: The layers below; one of them halves the size.
        up: How the result is brought back to the size of the input.
        side: The layers of the skip branch, convolutions and activations, or None.
        merge: Whether its channels are set beside those from below, or added to them.
    """

    inner: tuple[Layer, ...]
    up: Upsampling
    side: tuple[Layer, ...] | None = None
    merge: Merge = "concatenate"

    def __post_init__(self) -> None:
        check_choice("up", self.up, Upsampling)
        check_choice("merge", self.merge, Merge)
        if not any(isinstance(layer, Convolution) for layer in self.inner):
            raise ArchitectureError("the layers below must hold a convolution")
        if self.side is not None and not (self.side and _is_plain(self.side)):
            raise ArchitectureError("a skip branch is made of convolutions of stride 1 and activations")
        if self.side is not None and self.merge == "sum" and not isinstance(self.side[-1], Convolution):
            raise ArchitectureError(
                "a skip branch that is added must end in a convolution: the mean product of two activations "
                "does not vanish, and the kernel of their sum is not the sum of their kernels"
            )


Layer = Convolution | Normalisation | Activation | Pooling | Resampled


@dataclass(frozen=True)
class Architecture:
    """A convolutional network without widths, as :func:`vanilla`, :func:`autoencoder`, :func:`skip` give it.

    Attributes:
        layers: The layers in their order, from a convolution to a convolution.
        padding: What convolutions see beyond the border.
        pad_once: Pad the input once by the whole receptive radius, and convolve without padding from there
            on; only for networks without strides, pooling or skips.
        sigmoid: Add a constant to each channel of the output, trained as well, and take the sigmoid.
    """

    layers: tuple[Layer, ...]
    padding: Padding
    pad_once: bool = False
    sigmoid: bool = False

    def __post_init__(self) -> None:
        _check_order(self.layers)
        first, last = (self.layers[0], self.layers[-1]) if self.layers else (None, None)
        if not (isinstance(first, Convolution | Resampled) and isinstance(last, Convolution)):
            raise ArchitectureError("a network must begin and end with a convolution")
        check_choice("padding", self.padding, Padding)
        if self.pad_once and not _is_plain(self.layers):
            raise ArchitectureError("pad_once is for networks without strides, pooling and skips")

    @property
    def radius(self) -> int:
        """How far the input is padded: the receptive radius of a network that pads once, else 0."""
        return sum(c.size // 2 for c in self.convolutions()) if self.pad_once else 0

    def convolutions(self) -> Iterator[Convolution]:
        """The convolutions, in the order in which a built network holds them."""
        return (layer for layer in _every(self.layers) if isinstance(layer, Convolution))

    @property
    def normalised(self) -> bool:
        """Whether there is batch normalisation anywhere."""
        return any(isinstance(layer, Normalisation) for layer in _every(self.layers))

    def train_only(self, trained: Sequence[bool]) -> Architecture:
        """The same network with only some of its convolutions trained, in the order of ``convolutions``.

        Raises:
            ArchitectureError: Not one flag for each convolution.
        """
        count = len(list(self.convolutions()))
        if len(trained) != count:
            raise ArchitectureError(f"trained needs {count} flags, one a convolution, got {len(trained)}")
        return replace(self, layers=_with_flags(self.layers, iter(trained)))


def vanilla(
    depth: int, kernel_size: int, *, slope: float = 0.0, padding: Padding = "reflect"
) -> Architecture:
    """A plain network: ``depth`` hidden layers of k×k convolutions with activations, and a 1×1 convolution.

    The input is padded once by the whole receptive radius, depth·(k−1)/2, and no layer pads after that.

    Raises:
        ValueError: A depth below 1, an even kernel size, a slope outside [0, 1), an unknown padding.
    """
    hidden = (Convolution(kernel_size), Activation(slope)) * check_whole("depth", depth, 1)
    return Architecture((*hidden, Convolution(1)), padding, pad_once=True)


def autoencoder(
    scales: int,
    kernel_size: int,
    *,
    slope: float = 0.0,
    down: Downsampling = "pool",
    up: Upsampling = "bilinear",
    padding: Padding = "circular",
    side_channels: float | None = None,
    merge: Merge = "concatenate",
) -> Architecture:
    """An encoder-decoder: a convolution at full size, one at each smaller one, one on the way up, and a 1×1.

    Args:
        scales: How often the size is halved.
        kernel_size: The side k of the convolutions, odd.
        slope: α of the leaky ReLU after each of them.
        down: Halve by 2×2 average pooling, or by the stride of the convolution.
        up: How the size is doubled, see :func:`upsample`.
        padding: Of each convolution.
        side_channels, merge: Of a skip branch around each scale, see :func:`skip`; None for no such branch.

    Raises:
        ValueError: Fewer than one scale, or what a layer refuses.
    """
    check_whole("scales", scales, 1)
    check_choice("down", down, Downsampling)
    if merge == "sum" and side_channels not in (None, 1.0):
        raise ArchitectureError(f"a branch that is added has side_channels = 1, got {side_channels}")
    block = (Convolution(kernel_size), Activation(slope))
    half = (Pooling(), *block) if down == "pool" else (Convolution(kernel_size, 2), Activation(slope))
    side: tuple[Layer, ...] | None = None
    if side_channels is not None:
        side = (Convolution(1, channels=side_channels), Activation(slope))[
            : 2 if merge == "concatenate" else 1
        ]
    inner: tuple[Layer, ...] = half
    for _ in range(scales - 1):
        inner = (*half, Resampled(inner, up, side, merge), *block)
    return Architecture((*block, Resampled(inner, up, side, merge), *block, Convolution(1)), padding)


def skip(scales: int, kernel_size: int, *, side_channels: float = 1.0, **options: Any) -> Architecture:
    """An :func:`autoencoder` with a skip branch around each scale, a 1×1 convolution.

    Args:
        side_channels: Channels of a skip branch, as a multiple of the network's width.

    With ``merge="concatenate"`` the branch has an activation, and its channels are set beside those from
    below; with ``"sum"`` it has none, and is added to them. The other arguments, ``slope``, ``down``, ``up``
    and ``padding``, are those of :func:`autoencoder`, and so are the errors.

    Source: Ulyanov, Vedaldi and Lempitsky (2018) [ulyanov2018], for the shape.
    """
    return autoencoder(scales, kernel_size, side_channels=side_channels, **options)


def hour_glass(
    scales: int = 5,
    *,
    side_channels: float | None = 4 / 128,
    normalised: bool = True,
    sigmoid: bool = True,
    up: Upsampling = "clamped",
) -> Architecture:
    """The network of the deep image prior as published, whose width is 128.

    At each scale a 1×1 skip branch; a 3×3 convolution of stride 2 and another one, the next scale, and
    bilinear upsampling; both set side by side, then a 3×3 and a 1×1 convolution. After each convolution but
    the last, and where branches meet, batch normalisation; leaky ReLUs of slope 0.2; each layer mirrors the
    border. Constants before a normalisation are left out, since it takes them away.

    Args:
        scales: How often the size is halved.
        side_channels: Channels of a skip branch as a multiple of the width; None for no branch.
        normalised: Batch normalisation, with which there is no closed form.
        sigmoid: At the end; with which there is none either.
        up: How the size is doubled.

    Raises:
        ValueError: As :func:`autoencoder`.

    Source: Ulyanov, Vedaldi and Lempitsky (2018) [ulyanov2018].
    """
    norm: tuple[Layer, ...] = (Normalisation(),) if normalised else ()

    def block(size: int, stride: int = 1, channels: float = 1.0) -> tuple[Layer, ...]:
        return Convolution(size, stride, channels), *norm, Activation(0.2)

    side = None if side_channels is None else block(1, channels=side_channels)
    layers: tuple[Layer, ...] = ()
    for _ in range(check_whole("scales", scales, 1)):
        inner = (*block(3, 2), *block(3), *layers)
        layers = (Resampled(inner, up, side), *norm, *block(3), *block(1))
    return Architecture((*layers, Convolution(1)), "reflect", sigmoid=sigmoid)


def _check_order(layers: tuple[Layer, ...]) -> None:
    for before, layer in zip((None, *layers), layers, strict=False):
        if isinstance(layer, Activation) and not isinstance(before, Convolution | Normalisation):
            raise ArchitectureError("an activation must stand right after a convolution")
        if isinstance(layer, Resampled):
            _check_order(layer.inner)
            _check_order(layer.side or ())


def _is_plain(layers: tuple[Layer, ...]) -> bool:
    """Whether there are only convolutions of stride 1 and what keeps each pixel in its place."""
    kept = Activation | Normalisation
    return all(isinstance(x, kept) or (isinstance(x, Convolution) and x.stride == 1) for x in layers)


def _every(layers: tuple[Layer, ...]) -> Iterator[Layer]:
    """The layers, and those inside them."""
    for layer in layers:
        yield layer
        if isinstance(layer, Resampled):
            yield from _every((*layer.inner, *(layer.side or ())))


def _with_flags(layers: tuple[Layer, ...], flags: Iterator[bool]) -> tuple[Layer, ...]:
    changed: list[Layer] = []
    for layer in layers:
        if isinstance(layer, Convolution):
            layer = replace(layer, trained=next(flags))
        elif isinstance(layer, Resampled):
            inner = _with_flags(layer.inner, flags)
            side = None if layer.side is None else _with_flags(layer.side, flags)
            layer = replace(layer, inner=inner, side=side)
        changed.append(layer)
    return tuple(changed)


def with_gains(layers: tuple[Layer, ...]) -> Iterator[tuple[Layer, float]]:
    """Each layer with the gain of its weights: √(2/(1+α²)) before an activation of slope α, else 1.

    That gain keeps the mean square of what passes through: on average an activation takes away the rest.

    Source: He and others (2015) [he2015].
    """
    for layer, after in zip_longest(layers, layers[1:]):
        yield layer, math.sqrt(2 / (1 + after.slope**2)) if isinstance(after, Activation) else 1.0


def pool(image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
    """The mean over 2×2 pixels.

    Raises:
        PictureError: Fewer than two rows or columns.
    """
    if min(image.shape[2:]) < 2:
        raise PictureError(f"{tuple(image.shape[2:])} pixels cannot be halved; use fewer scales")
    return F.avg_pool2d(image, 2)


def upsample(
    image: Float[Tensor, "B C h w"], size: tuple[int, int], up: Upsampling, padding: Padding | None = None
) -> Float[Tensor, "B C H W"]:
    """Bring a picture to ``size``, each channel by itself; pixels are squares, and their middles compared.

    ``"bilinear"`` sees the picture repeated beyond its border where the padding is circular and the size
    doubles, which makes it commute with shifts by two pixels; else, as ``"clamped"`` does always, the border
    repeated.
    """
    if up == "nearest":
        return F.interpolate(image, size=size, mode="nearest-exact")
    doubled = (2 * image.shape[2], 2 * image.shape[3])
    if up == "bilinear" and padding == "circular" and size == doubled:
        wrapped = pad(image, 1, "circular")
        return F.interpolate(wrapped, scale_factor=2.0, mode="bilinear", align_corners=False)[..., 2:-2, 2:-2]
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False)


class ScaledConvolution(nn.Module):
    """A convolution in one of two parametrisations: the same function at the start, another training.

    ::

        tangent:   effective weights = s·w,  w ~ N(0, 1)
        standard:  effective weights = w,    w ~ N(0, s²)        s = gain/√(fan in)

    Source: Jacot, Gabriel and Hongler (2018) [jacot2018]; He and others (2015) [he2015].
    """

    def __init__(
        self, weight: Tensor, layer: Convolution, gain: float, padding: Padding | None, tangent: bool
    ) -> None:
        super().__init__()
        scale = gain / math.sqrt(weight[0].numel())
        self.scale = scale if tangent else 1.0
        self.weight = nn.Parameter(weight if tangent else weight * scale, requires_grad=layer.trained)
        self.padding, self.stride = padding, layer.stride

    @property
    def effective_weight(self) -> Tensor:
        """The numbers that the input is convolved with, whatever the parametrisation."""
        return self.weight * self.scale

    def forward(self, image: Tensor) -> Tensor:
        """Pad if this layer does, and convolve."""
        if self.padding is not None:
            image = pad(image, self.weight.shape[-1] // 2, self.padding)
        return F.conv2d(image, self.effective_weight, stride=self.stride)


class _Function(nn.Module):
    """A fixed map of pictures as a module: padding or pooling."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, image: Tensor) -> Tensor:
        return self.function(image)


class _Normalised(nn.BatchNorm2d):
    """Batch normalisation, with a sentence where there is nothing to take statistics of."""

    def forward(self, image: Tensor) -> Tensor:
        if image[:, 0].numel() == 1:
            raise PictureError(
                "one pixel is left where batch normalisation takes its statistics, and it needs more; use a "
                "larger picture or fewer scales"
            )
        return super().forward(image)


class _Sigmoid(nn.Module):
    """The sigmoid of each channel and a constant of its own."""

    def __init__(self, channels: int, device: torch.device) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1, device=device, dtype=torch.float32))

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(image + self.bias)


class _Around(nn.Module):
    """The module of a :class:`Resampled`."""

    def __init__(
        self, layer: Resampled, inner: nn.Module, side: nn.Module | None, padding: Padding | None
    ) -> None:
        super().__init__()
        self.inner, self.side = inner, side
        self.up, self.merge, self.padding = layer.up, layer.merge, padding

    def forward(self, image: Tensor) -> Tensor:
        below = upsample(self.inner(image), (image.shape[-2], image.shape[-1]), self.up, self.padding)
        if self.side is None:
            return below
        beside = self.side(image)
        return below + beside if self.merge == "sum" else torch.cat([below, beside], dim=-3)


def build(
    architecture: Architecture,
    *,
    channels: int,
    width: int,
    generator: torch.Generator,
    parametrization: Parametrization = "tangent",
    outputs: int | None = None,
) -> nn.Sequential:
    """Make a network of this architecture, with random weights.

    Args:
        architecture: The description.
        channels: Channels of the input.
        width: Channels of each hidden layer.
        generator: The source of the weights, and the device on which the network is made.
        parametrization: ``"tangent"`` or ``"standard"``, see :class:`ScaledConvolution`: the same function
            for the same generator.
        outputs: Channels of the output; those of the input if None.

    Returns:
        A module from (B, channels, H, W) to (B, outputs, H, W), in float32. Weights of convolutions that are
        not trained have no gradient. Its forward raises PictureError for pictures too small for the padding
        or the scales.

    Raises:
        ValueError: A width or a number of channels below 1, an unknown parametrisation.

    Cost: about (k·width)² weights for each hidden layer after the first.
    """
    outputs = channels if outputs is None else outputs
    for name, value in (("channels", channels), ("width", width), ("outputs", outputs)):
        check_whole(name, value, 1)
    check_choice("parametrization", parametrization, Parametrization)
    padding = None if architecture.pad_once else architecture.padding

    def convolution(layer: Convolution, inputs: int, outputs: int, gain: float) -> ScaledConvolution:
        shape = (outputs, inputs, layer.size, layer.size)
        options: Any = {"generator": generator, "device": generator.device, "dtype": torch.float32}
        weight = torch.randn(shape, **options)
        return ScaledConvolution(weight, layer, gain, padding, parametrization == "tangent")

    def modules(layers: tuple[Layer, ...], channels: int) -> tuple[nn.Sequential, int]:
        """The modules of ``layers`` that take ``channels``, and how many they put out."""
        sequence = nn.Sequential()
        for layer, gain in with_gains(layers):
            if isinstance(layer, Convolution):
                outputs = max(1, round(layer.channels * width))
                sequence.append(convolution(layer, channels, outputs, gain))
                channels = outputs
            elif isinstance(layer, Normalisation):
                # With the statistics of the one picture, always: there is no other to learn them from.
                kind: Any = {"device": generator.device, "dtype": torch.float32}
                sequence.append(_Normalised(channels, track_running_stats=False, **kind))
            elif isinstance(layer, Activation):
                sequence.append(nn.LeakyReLU(layer.slope))
            elif isinstance(layer, Pooling):
                sequence.append(_Function(pool))
            else:
                inner, below = modules(layer.inner, channels)
                side, beside = (None, 0) if layer.side is None else modules(layer.side, channels)
                sequence.append(_Around(layer, inner, side, padding))
                channels = below if layer.merge == "sum" else below + beside
        return sequence, channels

    network, inputs = modules(architecture.layers[:-1], channels)
    *_, last = architecture.convolutions()
    network.append(convolution(last, inputs, outputs, gain=1.0))
    if architecture.sigmoid:
        network.append(_Sigmoid(outputs, generator.device))
    if architecture.pad_once:
        network.insert(0, _Function(partial(pad, radius=architecture.radius, padding=architecture.padding)))
    return network
