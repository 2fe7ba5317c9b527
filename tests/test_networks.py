"""Descriptions that check themselves, and the networks built from them."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from torch import nn

from dipfilters import PictureError, autoencoder, build, skip, vanilla
from dipfilters.networks import (
    Activation,
    Architecture,
    Convolution,
    Pooling,
    Resampled,
    ScaledConvolution,
    upsample,
    with_gains,
)
from dipfilters.patches import pad
from tests.samples import DEVICES, generator, picture, refused

# Names that the type checker would refuse before the package does.
NO_PADDING: Any = "same"
NO_DEPTH: Any = math.nan
NO_DOWN: Any = "max"
NO_UP: Any = "cubic"
NO_PARAMETRIZATION: Any = "ntk"

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


@pytest.mark.parametrize("name", FAMILIES)
def test_descriptions_are_frozen_values(name):
    architecture = FAMILIES[name]
    assert hash(architecture) == hash(
        architecture.train_only([True] * len(list(architecture.convolutions())))
    )
    with pytest.raises(FrozenInstanceError, match="padding"):
        architecture.padding = "zero"  # type: ignore[misc]


def test_the_layers_of_each_family_written_out():
    conv, act = Convolution(3), Activation()
    assert vanilla(2, 3).layers == (conv, act, conv, act, Convolution(1))
    inner = (Pooling(), conv, act)
    assert autoencoder(1, 3).layers == (conv, act, Resampled(inner, "bilinear"), conv, act, Convolution(1))
    side = (Convolution(1, channels=0.5), act)
    deeper = (Pooling(), conv, act, Resampled(inner, "nearest", side), conv, act)
    two = skip(2, 3, up="nearest", side_channels=0.5).layers
    assert two == (conv, act, Resampled(deeper, "nearest", side), conv, act, Convolution(1))


def test_the_receptive_radius():
    assert vanilla(3, 5).radius == 6
    assert autoencoder(1, 5).radius == 0


def test_only_some_layers_trained():
    flags = [True, False, True, False, True]
    chosen = skip(1, 3).train_only(flags)
    assert [layer.trained for layer in chosen.convolutions()] == flags
    network = build(chosen, channels=1, width=4, generator=generator(0))
    assert [layer.weight.requires_grad for layer in scaled(network)] == flags


def test_gains_stand_before_activations():
    layers = vanilla(1, 3, slope=0.5).layers
    assert [gain for _, gain in with_gains(layers)] == [math.sqrt(2 / 1.25), 1.0, 1.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vanilla(0, 3), "depth must be a whole number and at least 1, got 0"),
        (lambda: vanilla(NO_DEPTH, 3), "depth must be a whole number and at least 1, got nan"),
        (lambda: vanilla(True, 3), "depth must be a whole number and at least 1, got True"),
        (lambda: vanilla(1, 4), "kernel_size must be odd, got 4; use 5"),
        (lambda: vanilla(1, -1), "kernel_size must be a whole number and at least 1, got -1"),
        (lambda: vanilla(1, 3, slope=1.0), "slope must be at least 0 and below 1, got 1.0"),
        (lambda: vanilla(1, 3, slope=math.nan), "slope must be at least 0 and below 1, got nan"),
        (lambda: vanilla(1, 3, padding=NO_PADDING), "padding must be one of 'reflect', .*, got 'same'"),
        (lambda: autoencoder(0, 3), "scales must be a whole number and at least 1, got 0"),
        (lambda: autoencoder(1, 3, down=NO_DOWN), "down must be one of 'pool', 'stride', got 'max'"),
        (lambda: autoencoder(1, 3, up=NO_UP), "up must be one of 'nearest', 'bilinear', got 'cubic'"),
        (lambda: skip(1, 3, side_channels=0.0), "channels must be positive and finite, got 0.0"),
        (lambda: Convolution(3, stride=3), "stride must be one of 1, 2, got 3"),
        (lambda: vanilla(1, 3).train_only([True]), "trained needs 2 flags, one a convolution, got 1"),
        (lambda: Resampled((Pooling(),), "nearest"), "the layers below must hold a convolution"),
        (
            lambda: Resampled((Convolution(3),), "nearest", (Pooling(),)),
            "a skip branch is made of convolutions of stride 1 and activations",
        ),
        (
            lambda: Resampled((Convolution(3),), "nearest", (Convolution(3, stride=2),)),
            "a skip branch is made of convolutions of stride 1 and activations",
        ),
        (lambda: Architecture((), "zero"), "a network must begin and end with a convolution"),
        (
            lambda: Architecture((Convolution(3), Activation()), "zero"),
            "a network must begin and end with a convolution",
        ),
        (
            lambda: Architecture((Convolution(3), Pooling(), Activation(), Convolution(1)), "zero"),
            "an activation must stand right after a convolution",
        ),
        (
            lambda: Architecture((Convolution(3), Pooling(), Convolution(1)), "zero", pad_once=True),
            "pad_once is for networks without strides, pooling and skips",
        ),
        (
            lambda: Architecture((Convolution(3, 2), Convolution(1)), "zero", pad_once=True),
            "pad_once is for networks without strides, pooling and skips",
        ),
    ],
)
def test_descriptions_that_make_no_network_are_refused(make, message):
    with refused(ValueError, message):
        make()


# -------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [(8, 8), (9, 11), (13, 7)])
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


def test_a_skip_branch_has_its_share_of_the_channels():
    network = build(skip(1, 3, side_channels=0.25), channels=3, width=8, generator=generator(0))
    assert [tuple(layer.weight.shape) for layer in scaled(network)] == [
        (8, 3, 3, 3),
        (8, 8, 3, 3),
        (2, 8, 1, 1),
        (8, 10, 3, 3),
        (3, 8, 1, 1),
    ]


def test_the_generator_decides_and_no_global_seed():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    one, same, other = (
        build(skip(1, 3), channels=1, width=4, generator=generator(seed)).state_dict() for seed in (5, 5, 6)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_a_network_that_pads_once_sees_patches():
    """One hidden layer by hand: √(2/d) relu of patches, then 1/√M; reflected where the picture ends."""
    network = build(vanilla(1, 3), channels=1, width=5, generator=generator(3)).double()
    image = picture(1, 4, 6)
    first, last = scaled(network)
    patches = nn.functional.unfold(pad(image[None], 1, "reflect"), 3)[0]
    hidden = (math.sqrt(2 / 9) * first.weight.flatten(1) @ patches).clamp_min(0)
    expected = (last.weight.flatten(1) @ hidden / math.sqrt(5)).reshape(1, 1, 4, 6)
    assert torch.allclose(network(image[None]), expected, rtol=1e-12, atol=1e-12)


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


@pytest.mark.parametrize("device", DEVICES)
def test_a_network_lives_where_its_generator_does(device):
    chance = torch.Generator(device).manual_seed(0)
    network = build(skip(1, 3), channels=1, width=4, generator=chance)
    assert {p.device.type for p in network.parameters()} == {device}


@pytest.mark.parametrize("options", [{"channels": 0, "width": 4}, {"channels": 1, "width": 0}])
def test_networks_without_channels_are_refused(options):
    with refused(ValueError, "must be a whole number and at least 1, got 0"):
        build(vanilla(1, 3), generator=generator(0), **options)
    with refused(ValueError, "outputs must be a whole number and at least 1, got 0"):
        build(vanilla(1, 3), channels=1, width=1, outputs=0, generator=generator(0))


def test_an_unknown_parametrisation_is_refused():
    with refused(ValueError, "parametrization must be one of 'tangent', 'standard', got 'ntk'"):
        build(vanilla(1, 3), channels=1, width=1, generator=generator(0), parametrization=NO_PARAMETRIZATION)


def test_pictures_too_small_for_the_network_are_refused():
    network = build(vanilla(2, 5), channels=1, width=2, generator=generator(0))
    with refused(PictureError, "4×9 pixels are too few for reflect padding by 4, which needs 5 a side"):
        network(torch.ones(1, 1, 4, 9))
    network = build(autoencoder(2, 1), channels=1, width=2, generator=generator(0))
    with refused(PictureError, r"\(1, 2\) pixels cannot be halved; use fewer scales"):
        network(torch.ones(1, 1, 3, 5))
