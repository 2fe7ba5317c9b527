"""Filters: the contract for each kind, then loops, and what a filter must obey."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dipfilters import (
    Kernel,
    KernelFilter,
    PictureError,
    SpectralTwicing,
    TangentFilter,
    arc_cosine_kernel,
    autoencoder,
    filters,
    gaussian_kernel,
    one_layer_tangent_kernel,
    tangent_kernel,
    vanilla,
)
from dipfilters.filters import LowRankFilter, MemoryBudgetError
from tests.filter_contract import FilterContract
from tests.oracles import non_local_means_by_loops, patches_by_loops
from tests.samples import KERNELS, generator, picture, refused, repeatable

# Sums of N ≤ 1147 products of float64 numbers up to 1: N·ε = 3e-13 at worst.
ROUNDING = 1e-12

# A tile computes ⟨p, p⟩ apart from ⟨p, q⟩. Where two patches are nearly parallel the last digit decides
# whether the cosine is taken for 1, which moves kappa0 by √(2·32ε)/π = 4e-8 and nothing else by that much.
ROUNDING_OF_KAPPA0 = 4e-8

# Engines in float32: entries as exact as sums of k² products divided by norms, products as dipfilters.engines
# promises where patches are not nearly parallel.
SINGLE = 1e-6


def rounding(kernel):
    return ROUNDING_OF_KAPPA0 if kernel == one_layer_tangent_kernel() else ROUNDING


# ---------------------------------------------------------------------------------------- the contract


class InnerProduct(Kernel):
    """A kernel of the reader's own, which no engine knows."""

    def from_products(self, pp, pq, qq):
        return pq


def likeness(name, pq, norms):
    """k(p, q) by its formula, from the mean products of patches and the products of their norms."""
    if name == "inner product":
        return pq
    if name == "gaussian":
        power = np.diag(pq)
        return np.exp(-(power[:, None] + power[None] - 2 * pq) / 0.3**2)
    phi = np.arccos(np.clip(pq / norms, -1, 1))
    np.fill_diagonal(phi, 0.0)  # arccos is off by 1e-8 beside 1
    one = norms * (np.sin(phi) + (math.pi - phi) * np.cos(phi)) / math.pi
    return one if name == "arc-cosine" else one + pq * (math.pi - phi) / math.pi


class OfAKernel(FilterContract):
    name, spatial, engine = "gaussian", 2.5, "reference"

    def make(self, normalize):
        kernel = {**KERNELS, "inner product": InnerProduct()}[self.name]
        options: dict[str, Any] = {"patch_size": 3, "spatial": self.spatial, "engine": self.engine}
        return KernelFilter(self.image, kernel, normalize=normalize, **options)

    def kernel(self):
        width = self.image.shape[2]
        patches = patches_by_loops(self.image.numpy(), 3, "reflect")
        pq = patches @ patches.T / patches.shape[1]
        norms = np.sqrt(np.outer(np.diag(pq), np.diag(pq)))
        places = np.array([divmod(i, width) for i in range(len(pq))])
        squared = ((places[:, None] - places[None]) ** 2).sum(-1)
        return likeness(self.name, pq, norms) * np.exp(-squared / self.spatial**2)


class TestGaussian(OfAKernel):
    pass


class TestArcCosine(OfAKernel):
    name = "arc-cosine"


class TestTangent(OfAKernel):
    name, tolerance = "tangent", ROUNDING_OF_KAPPA0


class TestOwnKernel(OfAKernel):
    name = "inner product"


class TestTiles(OfAKernel):
    """Tiles of 5 rows, the last one shorter, and no matrix kept."""

    @pytest.fixture(autouse=True)
    def _small_tiles(self, monkeypatch):
        monkeypatch.setattr(filters, "_TILE_ENTRIES", 5 * 72 + 3)
        monkeypatch.setattr(filters, "_LARGEST_KEPT", 0)


class TestCpu(OfAKernel):
    name, engine, tolerance = "tangent", "cpu", SINGLE


class TestCpuGaussian(OfAKernel):
    engine, tolerance = "cpu", SINGLE


class TestBatched(OfAKernel):
    """Made for a graphics card, it runs on any device, so that a machine without a card tests it too."""

    name, engine, tolerance = "tangent", "batched", SINGLE


class OfANetwork(FilterContract):
    architecture, engine = vanilla(2, 3, slope=0.2), "reference"
    kind: Any = "tangent"
    tolerance = ROUNDING_OF_KAPPA0

    def make(self, normalize):
        options: Any = {"parametrization": self.kind, "engine": self.engine}
        return TangentFilter(self.image, self.architecture, normalize=normalize, **options)

    def kernel(self):
        return tangent_kernel(self.architecture, self.image, parametrization=self.kind).numpy()


class TestPadOnce(OfANetwork):
    pass


class TestPadOnceStandard(OfANetwork):
    architecture, kind = vanilla(1, 5, padding="zero"), "standard"


class TestAutoencoder(OfANetwork):
    architecture = autoencoder(1, 3)


class TestCpuNetwork(OfANetwork):
    architecture, engine, kind, tolerance = vanilla(3, 3, padding="circular"), "cpu", "standard", SINGLE


class TestBatchedNetwork(OfANetwork):
    engine, tolerance = "batched", SINGLE


class TestLowRank(FilterContract):
    """K = B Bᵀ by itself, with entries that are not negative."""

    factor = torch.rand(42, 5, generator=generator(0), dtype=torch.float64)

    def make(self, normalize):
        return LowRankFilter(self.factor, (7, 6), normalize=normalize)

    def kernel(self):
        return (self.factor @ self.factor.T).numpy()


# ------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("side", [90, 91])
def test_the_gradient_is_there_on_both_sides_of_the_size_where_the_engine_changes(side):
    """W is symmetric: the gradient of ⟨c, W y⟩ is W c."""
    filter = KernelFilter(picture(1, side, side), gaussian_kernel(0.3), patch_size=1, normalize=1e-4)
    assert filter.engine == ("reference" if side == 90 else "cpu")
    y, c = picture(1, side, side, seed=1).requires_grad_(), picture(1, side, side, seed=2)
    (gradient,) = torch.autograd.grad((c * filter.apply(y)).sum(), y)
    expected = filter.apply(c)
    assert float((gradient - expected).abs().max()) <= 1e-6 * float(expected.max())


def test_a_factor_must_not_require_a_gradient():
    with refused(PictureError, r"factor requires a gradient, .* give factor.detach\(\)"):
        LowRankFilter(picture(1, 6, 7).reshape(42, 1).requires_grad_(), (6, 7), normalize="rows")


# ------------------------------------------------------------------------------------ outside oracles


@pytest.mark.parametrize(
    ("channels", "size", "spatial"), [(1, 3, math.inf), (3, 3, 2.0), (1, 5, 3.5), (1, 1, 1.5)]
)
@pytest.mark.parametrize("padding", ["reflect", "circular", "zero"])
def test_non_local_means_is_that_of_four_loops(channels, size, spatial, padding):
    image = picture(channels, 7, 6)
    settings: dict[str, Any] = {"patch_size": size, "spatial": spatial, "padding": padding}
    expected = non_local_means_by_loops(image.numpy(), size, 0.3, spatial, padding)
    for engine, error in (("reference", ROUNDING), ("cpu", 1e-6)):
        settings["engine"] = engine
        filter = KernelFilter(image, gaussian_kernel(0.3), normalize="rows", **settings)
        assert np.abs(filter.apply(image).numpy() - expected).max() < error


# ------------------------------------------------------------------------------------------ invariants


@st.composite
def filter_case(draw):
    image = picture(
        draw(st.sampled_from([1, 3])),
        draw(st.integers(3, 8)),
        draw(st.integers(3, 8)),
        seed=draw(st.integers(0, 99)),
    )
    if draw(st.booleans()):
        image = (image * 3).round() / 3 + 0.1  # many equal patches
    kernel = draw(
        st.one_of(
            st.floats(0.02, 3.0).map(gaussian_kernel),
            st.just(arc_cosine_kernel()),
            st.just(one_layer_tangent_kernel()),
        )
    )
    settings = {
        "patch_size": draw(st.sampled_from([1, 3, 5])),
        "spatial": draw(st.one_of(st.none(), st.floats(0.5, 10.0))),
        "padding": draw(st.sampled_from(["reflect", "circular"])),
    }
    return image, kernel, settings


@repeatable
@given(filter_case(), st.integers(0, 99))
def test_each_pixel_becomes_an_average_and_the_kernel_has_no_negative_eigenvalue(case, seed):
    """Rows sum to one, weights are not negative, min ≤ W x ≤ max for any x, and λ ≥ −1e-10 λ_max of K."""
    image, kernel, settings = case
    filter = KernelFilter(image, kernel, normalize="rows", **settings)
    matrix = filter.dense()
    assert float((matrix.sum(1) - 1).abs().max()) < ROUNDING
    assert float(matrix.min()) >= 0.0
    other = picture(1, *image.shape[1:], seed=seed)
    average = filter.apply(other)
    assert float(other.min()) - ROUNDING <= float(average.min())
    assert float(average.max()) <= float(other.max()) + ROUNDING
    matrix = KernelFilter(image, kernel, normalize=1.0, **settings).dense()
    assert float((matrix - matrix.T).abs().max()) <= rounding(kernel)
    eigenvalues = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
    assert float(eigenvalues[0]) >= -1e-10 * float(eigenvalues[-1])


def test_a_vanishing_bandwidth_leaves_the_picture_and_an_infinite_one_its_mean():
    image = picture(3, 13, 9)
    for bandwidth, expected in (
        (1e-6, image),
        (math.inf, image.mean(dim=(1, 2), keepdim=True).expand_as(image)),
    ):
        filter = KernelFilter(image, gaussian_kernel(bandwidth), patch_size=3, normalize="rows")
        assert torch.allclose(filter.apply(image), expected, rtol=0, atol=ROUNDING)


# --------------------------------------------------------------------------------------- the spectrum


def test_the_spectral_filter_has_the_largest_eigenvalue_one():
    """Lanczos to a relative 1e-10, for spectra with and without a gap, and for N below and above 8."""
    for shape in [(1, 1, 1), (1, 2, 4), (1, 3, 3)]:
        image = picture(*shape)
        for kernel in (one_layer_tangent_kernel(), gaussian_kernel(0.01), gaussian_kernel(math.inf)):
            filter = KernelFilter(image, kernel, patch_size=1, normalize="spectral")
            largest = float(torch.linalg.eigvalsh(filter.dense())[-1])
            assert largest == pytest.approx(1.0, abs=1e-9), (shape, kernel)
            again = KernelFilter(image, kernel, patch_size=1, normalize="spectral")
            assert again.scale == filter.scale


def test_a_black_picture_has_no_largest_eigenvalue_and_no_low_rank():
    for image in (torch.zeros(1, 5, 5), torch.zeros(1, 2, 3)):
        filter = KernelFilter(image, one_layer_tangent_kernel(), patch_size=1, normalize="spectral")
        for work in (
            lambda filter=filter: filter.scale,
            lambda filter=filter: filter.low_rank(2, generator=generator(0)),
        ):
            with refused(ValueError, "the kernel is 0 between all pixels.*add a constant to the picture"):
                work()


# ------------------------------------------------------------------------------------------- engines


def test_the_engine_is_chosen_by_size_and_knowledge(monkeypatch):
    image = picture(1, 8, 8)
    assert KernelFilter(image, KERNELS["tangent"], patch_size=3, normalize=1.0).engine == "reference"
    monkeypatch.setattr(filters, "_LARGEST_KEPT", 0)
    assert KernelFilter(image, KERNELS["tangent"], patch_size=3, normalize=1.0).engine == "cpu"
    assert KernelFilter(image, InnerProduct(), patch_size=3, normalize=1.0).engine == "reference"
    assert TangentFilter(image, vanilla(2, 3)).engine == "cpu"
    assert TangentFilter(image, autoencoder(1, 3)).engine == "reference"


def test_engines_that_do_not_know_a_kernel_are_refused():
    image = picture(1, 8, 8)
    wrong: Any = "gpu"
    with refused(ValueError, "engine must be one of 'auto', 'reference', 'cpu', 'batched', got 'gpu'"):
        KernelFilter(image, KERNELS["tangent"], patch_size=3, normalize=1.0, engine=wrong)
    for make in (
        lambda: KernelFilter(image, InnerProduct(), patch_size=3, normalize=1.0, engine="cpu"),
        lambda: TangentFilter(image, autoencoder(1, 3), engine="cpu"),
    ):
        with refused(ValueError, "engine 'cpu' does not know this kernel; use engine=\"reference\""):
            make()


# ----------------------------------------------------------------------------------------------- doors


def rows_filter(image=None, **changes):
    settings: dict[str, Any] = {"patch_size": 3, "normalize": "rows"} | changes
    return KernelFilter(picture(1, 7, 6) if image is None else image, gaussian_kernel(0.3), **settings)


def test_a_decomposition_takes_four_matrices():
    filter = rows_filter(torch.zeros(1, 128, 128), patch_size=1)
    for call in (filter.decomposition, lambda: SpectralTwicing(filter)):
        with refused(
            MemoryBudgetError, "this takes 8.59 GB for 128×128 pixels, over budget_gb = 4; use apply"
        ):
            call()


@pytest.mark.parametrize("spatial", [0.0, math.nan, 1e-200])
def test_a_spatial_width_that_is_not_positive_is_refused(spatial):
    with refused(ValueError, f"spatial must be a positive number of pixels or None, got {spatial}"):
        rows_filter(spatial=spatial)


@pytest.mark.parametrize("kept", [True, False])
def test_a_black_patch_that_resembles_nothing_is_refused(monkeypatch, kept):
    """Its arc-cosine weights are all zero and cannot be scaled to a sum of one: refused, not NaN."""
    monkeypatch.setattr(filters, "_LARGEST_KEPT", 10**9 if kept else 0)
    image = picture(1, 7, 6)
    image[:, 2:, 3:] = 0.0
    filter = KernelFilter(image, arc_cosine_kernel(), patch_size=3, normalize="rows")
    message = r"the weights of pixel \(3, 4\) sum to 0: its patch.*use normalize=\"spectral\""
    for call in (
        filter.dense,
        filter.symmetric_form,
        lambda: filter.apply(image),
        lambda: filter.row((3, 4)),
    ):
        with refused(ValueError, message):
            call()
    assert bool(torch.isfinite(filter.row((0, 0))).all())
    kept_black = KernelFilter(image, arc_cosine_kernel(), patch_size=3, normalize="spectral").apply(image)
    assert kept_black[0, 3, 4].item() == 0.0


def test_a_filter_keeps_what_it_was_made_from():
    guide, y = picture(3, 7, 6), picture(1, 7, 6, seed=1)
    filter = rows_filter(guide)
    before = filter.apply(y)
    guide.zero_()
    assert torch.equal(filter.apply(y), before)
