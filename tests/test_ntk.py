"""Closed-form kernels against neural-tangents, formulas, many wide networks, and what must hold."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dipfilters import (
    PictureError,
    TangentFilter,
    arc_cosine_kernel,
    autoencoder,
    build,
    empirical_tangent_kernel,
    extract_patches,
    one_layer_tangent_kernel,
    skip,
    tangent_kernel,
    vanilla,
)
from dipfilters.filters import MemoryBudgetError
from dipfilters.networks import (
    Activation,
    Architecture,
    Convolution,
    Layer,
    Resampled,
    Upsampling,
    hour_glass,
)
from dipfilters.patches import Padding
from tests.samples import flat_and_textured, generator, picture, refused

ORACLE = Path(__file__).parent / "oracles_nt"
C, A = Convolution, Activation()


def two_layers(size: int, slope: float, padding: Padding) -> Architecture:
    hidden = (C(size), Activation(slope)) * 2
    return Architecture((*hidden, C(1)), padding)


def added(half: tuple[Layer, ...], up: Upsampling, *around: Layer) -> Resampled:
    """A scale whose two branches end in a 1×1 convolution and are added."""
    return Resampled((*half, *around, C(1)), up, (C(1),), "sum")


def last_only(network: Architecture) -> Architecture:
    """The tangent kernel of this network is Sigma, the covariance of the output."""
    count = len(list(network.convolutions()))
    return network.train_only([i == count - 1 for i in range(count)])


# The networks of oracles_nt/make.py in the package's words.
SAME_NETWORKS = {
    "vanilla-3": vanilla(3, 3),
    "vanilla-leaky": vanilla(2, 3, slope=0.2),
    "zero": two_layers(3, 0.0, "zero"),
    "circular": two_layers(5, 0.1, "circular"),
    "strides-nearest": autoencoder(2, 3, down="stride", up="nearest", padding="zero"),
    "pooling-bilinear": autoencoder(2, 3, up="clamped"),
    "skip-concatenate": skip(2, 3, slope=0.2, up="clamped"),
    "skip-sum": Architecture(
        (
            *(C(3), A),
            added((C(3, 2), A), "bilinear", added((C(3, 2), A), "bilinear"), C(3), A),
            *(C(3), A, C(1)),
        ),
        "zero",
    ),
}

# What neural-tangents cannot say: a border that wraps when the size is doubled, reflection in each layer, an
# added branch beside a ReLU, unlike widths.
OTHERS = {
    "bilinear-wraps": autoencoder(1, 3),
    "reflect-layers": two_layers(3, 0.0, "reflect"),
    "autoencoder-reflect": autoencoder(1, 3, padding="reflect"),
    "skip-sum-relu": skip(1, 3, merge="sum"),
    "skip-narrow": skip(1, 3, slope=0.1, side_channels=0.25, up="nearest", padding="zero"),
    "vanilla-zero": vanilla(2, 3, padding="zero"),
}

UNKNOWN: Any = "ntk"
NETWORKS: dict[str, Architecture] = {**SAME_NETWORKS, **OTHERS}


# ------------------------------------------------------------------------------------ neural-tangents


def test_every_case_of_neural_tangents_is_compared():
    provenance = json.loads((ORACLE / "provenance.json").read_text("utf-8"))
    assert set(provenance["cases"]) == set(SAME_NETWORKS) == {path.stem for path in ORACLE.glob("*.npz")}
    pinned = (line.split("==") for line in (ORACLE / "requirements.txt").read_text("utf-8").split())
    assert dict(pinned).items() <= provenance["versions"].items()


@pytest.mark.parametrize("name", SAME_NETWORKS)
def test_the_kernels_are_those_of_neural_tangents(name):
    """Required is 1e-5 of the largest entry; two float64 implementations agree to 3e-15."""
    with np.load(ORACLE / f"{name}.npz", allow_pickle=False) as stored:
        image, output, tangent = (stored[key] for key in ("image", "output", "tangent"))
    upper = np.triu_indices(image.shape[1] * image.shape[2])
    image = torch.from_numpy(image)
    network = SAME_NETWORKS[name]
    for trained, expected in ((last_only(network), output), (network, tangent)):
        found = tangent_kernel(trained, image).numpy()[upper]
        assert np.abs(found - expected).max() < 1e-12 * np.abs(expected).max()


# ---------------------------------------------------------------------- one hidden layer, by its formula


@pytest.mark.parametrize("padding", ["reflect", "circular", "zero"])
def test_one_hidden_layer_has_the_kernels_of_part_one(padding):
    """Sums of d terms in another order: a few rounding steps of values below 2."""
    image, network = picture(3, 7, 9), vanilla(1, 5, padding=padding)
    patches = extract_patches(image, 5, padding=padding)
    arc_cosine, both = (
        kernel(patches, patches) for kernel in (arc_cosine_kernel(), one_layer_tangent_kernel())
    )
    assert torch.allclose(tangent_kernel(last_only(network), image), arc_cosine, rtol=0, atol=4e-15)
    assert torch.allclose(tangent_kernel(network, image), both, rtol=0, atol=4e-15)
    standard = tangent_kernel(network, image, parametrization="standard")
    assert torch.allclose(standard, arc_cosine, rtol=0, atol=4e-15)


# ------------------------------------------------------------------------------------------- columns


@pytest.mark.parametrize("name", ["vanilla-3", "vanilla-leaky", "vanilla-zero", "skip-narrow"])
@pytest.mark.parametrize("parametrization", ["tangent", "standard"])
def test_columns_are_those_of_the_dense_kernel(name, parametrization):
    """Required is 1e-6; the same sums in the same order agree to rounding."""
    network, image = NETWORKS[name], flat_and_textured(2, 7, 9)
    pixels = [(0, 0), (6, 8), (3, 4), (0, 5), (3, 4)]
    dense = tangent_kernel(network, image, parametrization=parametrization)
    filter = TangentFilter(image, network, normalize=1.0, parametrization=parametrization)
    expected = dense[:, [r * 9 + c for r, c in pixels]]
    assert torch.allclose(filter.columns(pixels), expected, rtol=0, atol=1e-14 * float(dense.max()))
    assert filter.columns([]).shape == (63, 0)


# ------------------------------------------------------------------------------------- what must hold


@pytest.mark.parametrize(
    ("network", "shares"),
    [(vanilla(3, 3), (0, 4.5, 4.5, 1)), (skip(1, 3, side_channels=0.25), (0, 4.5, 0.5, 5.625, 1))],
)
def test_the_parts_of_single_layers_add_up(network, shares):
    """Alike, or by fan-in/(gain² width): 0 at first, 9/2 before a ReLU, 9/2·(1 + ¼) after a skip, 1 last."""
    image, count = picture(1, 6, 7), len(shares)
    parts = [tangent_kernel(network.train_only([i == j for j in range(count)]), image) for i in range(count)]
    assert torch.allclose(tangent_kernel(network, image), torch.stack(parts).sum(0), rtol=1e-12, atol=0)
    standard = tangent_kernel(network, image, parametrization="standard")
    expected = torch.stack([share * part for share, part in zip(shares, parts, strict=True)]).sum(0)
    assert torch.allclose(standard, expected, rtol=1e-12, atol=0)


# ------------------------------------------------------------------------------------- wide networks


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("parametrization", ["tangent", "standard"])
def test_the_mean_kernel_of_many_wide_networks(name, parametrization):
    """48 networks of width 96, between three pixels, two of them at the border.

    Four and a half standard errors of the mean (6 entries, 8 cases), and 3/96 of the entry for the bias of
    a finite width, which is of the order of 1/width for each hidden layer.
    """
    network, image, width = OTHERS[name], picture(1, 6, 7, seed=9), 96
    pixels, numbers = [(0, 0), (0, 6), (3, 3)], [0, 6, 24]
    grams, scale = [], width if parametrization == "standard" else 1
    for seed in range(48):
        built = build(
            network, channels=1, width=width, generator=generator(seed), parametrization=parametrization
        ).double()
        grams.append(empirical_tangent_kernel(built, image, pixels=pixels)[numbers] / scale)
    mean, error = torch.stack(grams).mean(0), torch.stack(grams).std(0) / math.sqrt(48)
    expected = tangent_kernel(network, image, parametrization=parametrization)[numbers][:, numbers]
    assert bool(((mean - expected).abs() < 4.5 * error + 3 / width * expected.abs()).all())
    assert float((error / expected).max()) < 0.15


# ------------------------------------------------------------------------------------------- doors


def test_matrices_over_the_budget_are_refused_and_a_budget_that_is_none():
    image = torch.ones(1, 300, 300)
    with refused(MemoryBudgetError, r"this takes \d+ GB for 300×300 pixels, over budget_gb = 8; use apply"):
        tangent_kernel(vanilla(1, 3), image)
    with refused(MemoryBudgetError, "over budget_gb = 0.1; use"):
        TangentFilter(image, vanilla(9, 9), budget_gb=0.1).columns([(0, 0)] * 10)
    for none in (0.0, math.nan, math.inf):
        for call in (tangent_kernel, lambda a, x, budget_gb: TangentFilter(x, a, budget_gb=budget_gb)):
            with refused(ValueError, f"budget_gb must be positive and finite, got {none}"):
                call(vanilla(1, 3), image, budget_gb=none)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (
            hour_glass(1),
            "batch normalisation divides by what all pixels have in common, and has no kernel in closed "
            "form; describe the network without, or take the kernel of one network by JacobianFilter",
        ),
        (
            hour_glass(1, normalised=False),
            "the slope of a sigmoid changes with the output, and so does the tangent kernel; describe the "
            "network with sigmoid=False",
        ),
    ],
)
def test_what_has_no_closed_form_is_refused_with_the_reason(architecture, message):
    for use in (tangent_kernel, lambda network, image: TangentFilter(image, network)):
        with refused(ValueError, f"^{message}$"):
            use(architecture, picture(2, 8, 8))


def test_an_hour_glass_without_them_has_one():
    """Its kernel is that of a network written out from other layers."""
    network = hour_glass(1, normalised=False, sigmoid=False, side_channels=None)
    conv, one, act = Convolution(3), Convolution(1), Activation(0.2)
    down = (Convolution(3, 2), act, conv, act)
    same = Architecture((Resampled(down, "clamped"), conv, act, one, act, one), "reflect")
    image = picture(2, 8, 8)
    assert torch.equal(tangent_kernel(network, image), tangent_kernel(same, image))
    assert network.layers == same.layers


def test_what_is_too_small_and_no_parametrisation_is_refused():
    for call in (tangent_kernel, lambda a, x, **kind: TangentFilter(x, a, **kind).dense()):
        with refused(PictureError, "5×6 pixels are too few for reflect padding by 5"):
            call(vanilla(5, 3), picture(1, 5, 6))
        with refused(PictureError, r"\(1, 1\) pixels cannot be halved"):
            call(autoencoder(3, 1), picture(1, 5, 6))
        with refused(ValueError, "parametrization must be one of 'tangent', 'standard', got 'ntk'"):
            call(vanilla(1, 3), picture(1, 5, 6), parametrization=UNKNOWN)
