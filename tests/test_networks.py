"""Descriptions that check themselves, and the networks built from them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dipfilters import PictureError, autoencoder, build, skip, vanilla
from dipfilters.networks import (
    Activation,
    Architecture,
    Convolution,
    Pooling,
    Resampled,
    ScaledConvolution,
    hour_glass,
    upsample,
)
from tests.samples import generator, picture, refused

UNKNOWN: Any = "unknown"  # which the type checker would refuse before the package does
CONV = Convolution(3)

FAMILIES = {
    "vanilla": vanilla(2, 3),
    "vanilla-wide": vanilla(1, 5, slope=0.2, padding="zero"),
    "autoencoder": autoencoder(2, 3),
    "autoencoder-strides": autoencoder(2, 3, down="stride", up="nearest", padding="zero"),
    "skip": skip(2, 3, slope=0.1, side_channels=0.25),
    "skip-reflect": skip(1, 3, padding="reflect"),
}


def scaled(network: nn.Module) -> list[ScaledConvolution]:
    return [layer for layer in network.modules() if isinstance(layer, ScaledConvolution)]


# --------------------------------------------------------------------------------------- descriptions


def test_the_layers_of_each_family_written_out():
    conv, act = Convolution(3), Activation()
    assert vanilla(2, 3).layers == (conv, act, conv, act, Convolution(1))
    inner = (Pooling(), conv, act)
    assert autoencoder(1, 3).layers == (conv, act, Resampled(inner, "bilinear"), conv, act, Convolution(1))
    side = (Convolution(1, channels=0.5), act)
    deeper = (Pooling(), conv, act, Resampled(inner, "nearest", side), conv, act)
    two = skip(2, 3, up="nearest", side_channels=0.5).layers
    assert two == (conv, act, Resampled(deeper, "nearest", side), conv, act, Convolution(1))


def test_only_some_layers_trained():
    flags = [True, False, True, False, True]
    chosen = skip(1, 3).train_only(flags)
    assert [layer.trained for layer in chosen.convolutions()] == flags
    network = build(chosen, channels=1, width=4, generator=generator(0))
    assert [layer.weight.requires_grad for layer in scaled(network)] == flags


NO_BRANCH = "a skip branch is made of convolutions of stride 1 and activations"
NO_ENDS = "a network must begin and end with a convolution"
NOT_PLAIN = "pad_once is for networks without strides, pooling and skips"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vanilla(0, 3), "depth must be a whole number and at least 1, got 0"),
        (lambda: vanilla(1, 4), "kernel_size must be odd, got 4; use 5"),
        (lambda: vanilla(1, 3, slope=1.0), "slope must be at least 0 and below 1, got 1.0"),
        (lambda: vanilla(1, 3, padding=UNKNOWN), "padding must be one of 'reflect', .*, got 'unknown'"),
        (lambda: autoencoder(0, 3), "scales must be a whole number and at least 1, got 0"),
        (lambda: autoencoder(1, 3, down=UNKNOWN), "down must be one of 'pool', 'stride', got 'unknown'"),
        (lambda: autoencoder(1, 3, up=UNKNOWN), "up must be one of 'nearest', .*, got 'unknown'"),
        (lambda: skip(1, 3, side_channels=0.0), "channels must be positive and finite, got 0.0"),
        (lambda: skip(1, 3, side_channels=0.5, merge="sum"), "a branch that is added has side_channels = 1"),
        (lambda: Convolution(3, stride=3), "stride must be one of 1, 2, got 3"),
        (lambda: vanilla(1, 3).train_only([True]), "trained needs 2 flags, one a convolution, got 1"),
        (lambda: Resampled((Pooling(),), "nearest"), "the layers below must hold a convolution"),
        (lambda: Resampled((CONV,), "nearest", (Pooling(),)), NO_BRANCH),
        (lambda: Resampled((CONV,), "nearest", (Convolution(3, stride=2),)), NO_BRANCH),
        (lambda: Resampled((CONV,), "nearest", (CONV, Activation()), "sum"), "must end in a convolution"),
        (lambda: Architecture((), "zero"), NO_ENDS),
        (lambda: Architecture((CONV, Activation()), "zero"), NO_ENDS),
        (lambda: Architecture((CONV, Pooling(), Activation(), CONV), "zero"), "right after a convolution"),
        (lambda: Architecture((CONV, Pooling(), CONV), "zero", pad_once=True), NOT_PLAIN),
        (lambda: Architecture((Convolution(3, 2), CONV), "zero", pad_once=True), NOT_PLAIN),
    ],
)
def test_descriptions_that_make_no_network_are_refused(make, message):
    with refused(ValueError, message):
        make()


# -------------------------------------------------------------------------------------------- networks


def published(weights: Iterator[torch.Tensor], image: torch.Tensor, scales: int) -> torch.Tensor:
    """The hour-glass as its authors' code nests it, from its weights one after the other."""

    def block(x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight = next(weights)
        around = (weight.shape[-1] // 2,) * 4
        x = F.conv2d(F.pad(x, around, mode="reflect"), weight, stride=stride)
        return F.leaky_relu(F.batch_norm(x, None, None, next(weights), next(weights), training=True), 0.2)

    def level(x: torch.Tensor, scales: int) -> torch.Tensor:
        if scales == 0:
            return x
        deeper = level(block(block(x, 2)), scales - 1)
        deeper = F.interpolate(deeper, scale_factor=2, mode="bilinear", align_corners=False)
        both = torch.cat([deeper, block(x)], 1)
        both = F.batch_norm(both, None, None, next(weights), next(weights), training=True)
        return block(block(both))

    output = F.conv2d(level(image, scales), next(weights))
    return torch.sigmoid(output + next(weights))


def test_the_hour_glass_is_the_published_one():
    options: Any = {"channels": 4, "outputs": 3, "width": 32, "parametrization": "standard"}
    network = build(hour_glass(2), generator=generator(0), **options).double()
    for number, weight in enumerate(network.parameters()):  # those of the normalisation as well
        nn.init.normal_(weight, generator=generator(number))
    image = picture(4, 16, 24)[None]
    assert torch.allclose(network(image), published(network.parameters(), image, 2), rtol=0, atol=1e-12)
    plain = build(hour_glass(2, normalised=False, sigmoid=False), generator=generator(0), **options)
    kinds = {type(module) for module in plain.modules()}
    assert not any("Norm" in kind.__name__ or "Sigmoid" in kind.__name__ for kind in kinds)
    with refused(PictureError, "one pixel is left where batch normalisation takes .*; use a larger picture"):
        network(image[..., :4, :4])
    without = build(hour_glass(2, side_channels=None), generator=generator(0), **options)
    assert "side" not in " ".join(name for name, _ in without.named_parameters())


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [(8, 8), (13, 7)])
def test_the_output_has_the_size_of_the_input(name, size):
    network = build(FAMILIES[name], channels=2, width=4, outputs=3, generator=generator(0))
    assert network(picture(2, *size, dtype=torch.float32)[None]).shape == (1, 3, *size)


@pytest.mark.parametrize("name", FAMILIES)
def test_both_parametrisations_are_one_function_at_the_start(name):
    """The same product of scale and weight, rounded once at another place: float32 to 1e-5."""
    image = picture(1, 9, 11, dtype=torch.float32)[None]
    tangent, standard = (
        build(FAMILIES[name], channels=1, width=8, generator=generator(1), parametrization=p)
        for p in ("tangent", "standard")
    )
    assert torch.allclose(tangent(image), standard(image), rtol=1e-5, atol=1e-5)
    for one, other in zip(scaled(tangent), scaled(standard), strict=True):
        assert torch.allclose(one.effective_weight, other.effective_weight, rtol=1e-6, atol=0)
        assert torch.equal(other.effective_weight, other.weight)


def test_effective_weights_have_the_variance_of_he():
    """2/(1+α²)/fan-in before an activation, 1/fan-in at the end; 4 standard errors √(2/n) of a variance."""
    network = build(vanilla(2, 3, slope=0.2), channels=3, width=64, outputs=64, generator=generator(2))
    for layer, fan_in, gain in zip(scaled(network), (27, 576, 64), (2 / 1.04, 2 / 1.04, 1.0), strict=True):
        weights = layer.effective_weight.detach().double()
        error = math.sqrt(2 / weights.numel())
        assert float(weights.square().mean()) * fan_in / gain == pytest.approx(1.0, abs=4 * error)
        raw = float(layer.weight.detach().double().square().mean())
        assert raw == pytest.approx(1.0, abs=4 * error)


def test_the_generator_decides_and_no_global_seed():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    one, same, other = (
        build(skip(1, 3), channels=1, width=4, generator=generator(seed)).state_dict() for seed in (5, 5, 6)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_upsampling_treats_both_directions_alike():
    """Middles of pixels are compared, so a mirrored picture gives the mirrored result, at odd sizes too.

    (Of two equally near pixels, in the middle of an even picture brought to an odd size, one is taken.)
    """
    image = picture(1, 3, 5)[None]
    for up in ("nearest", "bilinear"):
        there = upsample(image, (7, 11), up)
        assert torch.allclose(upsample(image.flip(2, 3), (7, 11), up), there.flip(2, 3), rtol=1e-12, atol=0)
    assert torch.equal(
        upsample(image, (6, 10), "nearest"), image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    )


@pytest.mark.parametrize("up", ["nearest", "bilinear"])
def test_a_circular_network_moves_with_its_input_by_whole_blocks(up):
    """By 2^scales pixels; with the clamped border it does not."""
    image = picture(2, 8, 16)[None]

    def moves(up):
        network = build(skip(2, 3, up=up), channels=2, width=6, generator=generator(0)).double()
        there = [network(image.roll(by, (2, 3))).roll((-by[0], -by[1]), (2, 3)) for by in ((4, 8), (2, 0))]
        return [float((moved - network(image)).detach().abs().max()) for moved in there]

    whole, half = moves(up)
    assert whole < 1e-12 < 1e-3 < half
    assert moves("clamped")[0] > 1e-3


def test_networks_without_channels_and_unknown_ones_are_refused():
    options: dict[str, Any] = {"channels": 1, "width": 4, "generator": generator(0)}
    for name in ("channels", "width", "outputs"):
        with refused(ValueError, f"{name} must be a whole number and at least 1, got 0"):
            build(vanilla(1, 3), **options | {name: 0})
    with refused(ValueError, "parametrization must be one of 'tangent', 'standard', got 'unknown'"):
        build(vanilla(1, 3), **options, parametrization=UNKNOWN)
