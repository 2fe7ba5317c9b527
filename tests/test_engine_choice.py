"""Filters on an engine of the reader's choice, against their reference in float64."""

from __future__ import annotations

from typing import Any

import pytest

from dipfilters import (
    Kernel,
    KernelFilter,
    LanczosTwicing,
    SpectralTwicing,
    TangentFilter,
    add_noise,
    autoencoder,
    filters,
    vanilla,
)
from tests.samples import DEVICES, KERNELS, flat_and_textured, generator, picture, refused

# Planes in float32: 6e-8 for each rounding, some ten of them, and the polynomials' 2e-8.
RELATIVE = 1e-5

UNKNOWN: Any = "gpu"


class InnerProduct(Kernel):
    """A kernel of the reader's own, which no engine knows."""

    def from_products(self, pp, pq, qq):
        return pq


def close(found, expected):
    return float((found - expected).norm()) <= RELATIVE * float(expected.norm())


@pytest.mark.parametrize("engine", ["cpu", "batched"])
@pytest.mark.parametrize("normalize", ["rows", "spectral", 0.01])
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_a_kernel_filter_is_the_same_by_a_walk(kernel, normalize, engine):
    """The walk for CUDA runs on any device of torch, so that a machine without a card tests it too."""
    image = picture(3, 13, 11)
    expected, found = (
        KernelFilter(image, kernel, patch_size=5, normalize=normalize, spatial=6.0, engine=which)
        for which in ("reference", engine)
    )
    assert found.engine == engine
    y = picture(2, 13, 11, seed=1)
    assert close(found.apply(y), expected.apply(y))
    assert close(found.dense(), expected.dense())
    assert close(found.row((3, 4)), expected.row((3, 4)))
    assert close(found.columns([(0, 0), (12, 10)]), expected.columns([(0, 0), (12, 10)]))
    assert found.scale == pytest.approx(expected.scale, rel=RELATIVE)


@pytest.mark.parametrize("engine", ["cpu", "batched"])
@pytest.mark.parametrize("padding", ["reflect", "circular", "zero"])
@pytest.mark.parametrize("depth", [1, 3])
def test_a_networks_filter_is_the_same_by_a_walk(depth, padding, engine):
    image, architecture = picture(1, 12, 9), vanilla(depth, 3, slope=0.2, padding=padding)
    for parametrization in ("tangent", "standard"):
        expected, found = (
            TangentFilter(image, architecture, parametrization=parametrization, engine=which)
            for which in ("reference", engine)
        )
        assert close(found.apply(image), expected.apply(image))
        assert close(found.dense(), expected.dense())


def test_the_engine_is_chosen_by_size_and_knowledge(monkeypatch):
    small = KernelFilter(picture(1, 8, 8), KERNELS["tangent"], patch_size=3, normalize=1.0)
    assert small.engine == "reference"
    monkeypatch.setattr(filters, "_KEPT_ENTRIES", 0)
    image = picture(1, 8, 8)
    assert KernelFilter(image, KERNELS["tangent"], patch_size=3, normalize=1.0).engine == "cpu"
    assert KernelFilter(image, InnerProduct(), patch_size=3, normalize=1.0).engine == "reference"
    assert TangentFilter(image, vanilla(2, 3)).engine == "cpu"
    assert TangentFilter(image, autoencoder(1, 3)).engine == "reference"


@pytest.mark.parametrize("device", DEVICES)
def test_the_whole_way_by_a_walk_is_the_closed_form(device):
    """Kernel, largest eigenvalue, Lanczos: with the tolerance of Lanczos and 200 steps of rounding."""
    noisy = add_noise(flat_and_textured(1, 19, 14), 0.1, generator=generator(0)).to(device)
    engine: Any = "batched" if device == "cuda" else "cpu"
    walk = KernelFilter(noisy, KERNELS["tangent"], patch_size=5, normalize="spectral", engine=engine)
    run = LanczosTwicing(walk, noisy, last=200)
    reference = KernelFilter(
        noisy.cpu(), KERNELS["tangent"], patch_size=5, normalize="spectral", engine="reference"
    )
    expected = SpectralTwicing(reference).estimate(noisy.cpu(), [1, 20, 200])
    error = (run.estimate([1, 20, 200]).cpu() - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(
        dim=1
    )
    assert float(error.max()) < 2e-4
    assert walk.scale == pytest.approx(reference.scale, rel=1e-6)


def test_engines_that_do_not_know_are_refused():
    image = picture(1, 8, 8)
    with refused(ValueError, 'engine must be "auto", "reference", "cpu" or "batched", got \'gpu\''):
        KernelFilter(image, KERNELS["tangent"], patch_size=3, normalize=1.0, engine=UNKNOWN)
    with refused(ValueError, "engine 'cpu' knows the package's own kernels and networks that pad once"):
        KernelFilter(image, InnerProduct(), patch_size=3, normalize=1.0, engine="cpu")
    with refused(ValueError, 'use engine="reference"'):
        TangentFilter(image, autoencoder(1, 3), engine="cpu")
