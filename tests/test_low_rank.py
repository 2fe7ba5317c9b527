"""Filters from some of their columns against the dense ones, and what Nyström must obey."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from dipfilters import (
    KernelFilter,
    MemoryBudgetError,
    SpectralTwicing,
    TangentFilter,
    arc_cosine_kernel,
    autoencoder,
    gaussian_kernel,
    one_layer_tangent_kernel,
    twicing,
    vanilla,
)
from dipfilters.filters import LowRankFilter
from tests.oracles import residual_matrix
from tests.samples import KERNELS, generator, picture, refused

# Dropped eigenvalues lie below 1e-10 of the largest kernel value; over the N = 56 pixels here, each of them
# leaves at most that much, and the rest is rounding.
DROPPED = 56e-10

NORMALIZE: list[Any] = ["rows", "spectral", 0.01]
UNKNOWN: Any = "best"
SAMPLING: list[Any] = ["uniform", "adaptive"]


def make(normalize="spectral", kernel=None, image=None, **changes):
    image = picture(1, 8, 7) if image is None else image
    return KernelFilter(image, kernel or KERNELS["tangent"], patch_size=3, normalize=normalize, **changes)


def missed(filter, rank_filter):
    """K less its approximation, both with one factor."""
    return filter.dense() / filter.scale - rank_filter.dense() / rank_filter.scale


@pytest.mark.parametrize("sampling", SAMPLING)
@pytest.mark.parametrize("normalize", NORMALIZE)
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_all_columns_give_the_filter_itself(kernel, normalize, sampling):
    filter = make(normalize, kernel)
    approximation = filter.low_rank(56, generator=generator(1), sampling=sampling)
    tolerance = DROPPED / (float(filter.row_sums.min()) if normalize == "rows" else 1.0)
    assert torch.allclose(approximation.dense(), filter.dense(), rtol=0, atol=max(tolerance, DROPPED))
    y = picture(2, 8, 7, seed=3)
    assert torch.allclose(approximation.apply(y), filter.apply(y), rtol=0, atol=56 * DROPPED)


@pytest.mark.parametrize("sampling", SAMPLING)
@pytest.mark.parametrize("count", [1, 5, 23])
def test_as_many_columns_as_were_drawn_are_exact_and_the_rest_is_positive(sampling, count):
    """C M⁺ Cᵀ has the columns of C, and K less it is a Schur complement: no negative eigenvalue."""
    filter = make(kernel=gaussian_kernel(0.3))
    approximation = filter.low_rank(count, generator=generator(2), sampling=sampling)
    assert approximation.rank == count
    rest = missed(filter, approximation)
    exact = rest.abs().amax(0) < DROPPED
    assert int(exact.sum()) == count
    assert float(torch.linalg.eigvalsh(rest)[0]) > -DROPPED


def test_uniform_columns_give_what_the_formula_says():
    """The pixels drawn are read off as the exact columns, and numpy's pseudo-inverse does the rest."""
    filter = make(kernel=gaussian_kernel(0.3))
    approximation = filter.low_rank(9, generator=generator(4))
    K = filter.dense() / filter.scale
    drawn = torch.nonzero(missed(filter, approximation).abs().amax(0) < DROPPED)[:, 0]
    C, M = K[:, drawn], K[drawn][:, drawn]
    expected = C @ torch.linalg.pinv(M, hermitian=True) @ C.T
    assert torch.allclose(approximation.dense() / approximation.scale, expected, rtol=0, atol=DROPPED)


@pytest.mark.parametrize("sampling", SAMPLING)
def test_the_draw_is_decided_by_the_generator(sampling):
    first, again, other = (
        make().low_rank(12, generator=generator(seed), sampling=sampling).dense() for seed in (7, 7, 8)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_adaptive_columns_find_what_is_rare():
    """200 equal patches and 25 kinds of others: 30 uniform draws miss most kinds, adaptive ones few.

    The trace of what is missed is what the adaptive draws look at; 8 draws of each, no exception.
    """
    image = torch.full((1, 15, 15), 0.3, dtype=torch.float64)
    image[:, 10:, 10:] = picture(1, 5, 5)
    filter = KernelFilter(image, gaussian_kernel(0.1), patch_size=1, normalize=1.0)
    left = {
        sampling: [
            float(missed(filter, filter.low_rank(30, generator=generator(s), sampling=sampling)).trace())
            for s in range(8)
        ]
        for sampling in SAMPLING
    }
    assert max(left["adaptive"]) < 0.1 * min(left["uniform"])


def test_more_columns_than_there_are_kinds_of_patches_stop_at_the_rank():
    image = torch.full((1, 9, 9), 0.3, dtype=torch.float64)
    image[:, :4] = 0.7
    filter = KernelFilter(image, gaussian_kernel(0.2), patch_size=1, normalize=1.0)
    for sampling in SAMPLING:
        approximation = filter.low_rank(40, generator=generator(0), sampling=sampling)
        assert approximation.rank == 2
        assert torch.allclose(approximation.dense(), filter.dense(), rtol=0, atol=DROPPED)


def test_the_normalisation_is_that_of_the_approximation():
    ones = torch.ones(1, 8, 7, dtype=torch.float64)
    rows = make("rows").low_rank(6, generator=generator(0))
    assert torch.allclose(rows.apply(ones), ones, rtol=0, atol=1e-12)
    spectral = make("spectral").low_rank(6, generator=generator(0))
    assert float(torch.linalg.eigvalsh(spectral.dense())[-1]) == pytest.approx(1.0, abs=1e-10)
    number = make(0.01).low_rank(6, generator=generator(0))
    assert number.scale == 0.01


@pytest.mark.parametrize("normalize", NORMALIZE)
def test_rows_and_columns_are_those_of_the_matrix(normalize):
    for filter in (make(normalize), make(normalize).low_rank(11, generator=generator(0))):
        W, pixels = filter.dense(), [(0, 0), (7, 6), (3, 2)]
        numbers = [r * 7 + c for r, c in pixels]
        # kappa0 moves by 4e-8 where a rounding decides whether two patches are parallel; see test_filters.py
        assert torch.allclose(filter.columns(pixels), W[:, numbers], rtol=0, atol=5e-8)
        for pixel, number in zip(pixels, numbers, strict=True):
            assert torch.allclose(filter.row(pixel).flatten(), W[number], rtol=0, atol=5e-8)


@pytest.mark.parametrize("normalize", NORMALIZE)
def test_the_closed_form_is_the_iteration(normalize):
    """For all numbers of steps at once, with a few eigenvectors out of 56."""
    y = picture(2, 8, 7, seed=3)
    filter = make(normalize).low_rank(8, generator=generator(0))
    steps = [0, 1, 2, 7, 200]
    closed = SpectralTwicing(filter).estimate(y, steps)
    assert torch.allclose(closed, twicing(filter, y, steps=steps), rtol=0, atol=1e-10)


@pytest.mark.parametrize("normalize", NORMALIZE)
def test_errors_and_freedom_are_those_of_the_explicit_matrix(normalize):
    x, k = picture(1, 8, 7, seed=5), 9
    filter = make(normalize).low_rank(8, generator=generator(0))
    twice = SpectralTwicing(filter)
    R = torch.from_numpy(residual_matrix(filter.dense().numpy(), k))
    through = torch.eye(56, dtype=torch.float64) - R
    assert float(twice.bias_squared(x, k)) == pytest.approx(
        float((R @ x.flatten()).square().mean()), rel=1e-9
    )
    assert float(twice.variance(0.1, k)) == pytest.approx(0.01 * float(through.square().sum()) / 56, rel=1e-9)
    assert float(twice.degrees_of_freedom(k)) == pytest.approx(float(through.trace()), rel=1e-9)
    assert torch.allclose(twice.row((2, 3), k).flatten(), through[2 * 7 + 3], rtol=0, atol=1e-10)


# -------------------------------------------------------------------------------- the filter of a network


@pytest.mark.parametrize("parametrization", ["tangent", "standard"])
@pytest.mark.parametrize(
    "architecture", [vanilla(1, 3), vanilla(3, 3, slope=0.2), vanilla(2, 1), autoencoder(1, 3)], ids=str
)
def test_a_networks_filter_from_all_columns_is_its_dense_one(architecture, parametrization):
    """The columns one by one, the diagonal by itself and the dense matrix are three ways to one kernel."""
    image = picture(3, 8, 6)
    filter = TangentFilter(image, architecture, parametrization=parametrization)
    approximation = filter.low_rank(48, generator=generator(0), sampling="adaptive")
    pixels = [(0, 0), (7, 5), (2, 3)]
    # Before the dense matrix is there, columns and diagonal of a network that pads once are computed alone.
    columns = filter.columns(pixels)
    W = filter.dense()
    assert torch.allclose(columns, W[:, [0, 47, 15]], rtol=0, atol=1e-9)
    assert float(torch.linalg.eigvalsh(W)[-1]) == pytest.approx(1.0, abs=1e-9)
    assert torch.allclose(approximation.dense(), W, rtol=0, atol=1e-7)


def test_a_network_of_one_layer_is_the_filter_of_its_kernel():
    image = picture(1, 9, 7)
    network = TangentFilter(image, vanilla(1, 5), normalize=0.3)
    kernel = KernelFilter(image, one_layer_tangent_kernel(), patch_size=5, normalize=0.3)
    assert torch.allclose(network.dense(), kernel.dense(), rtol=0, atol=1e-7)
    last_only = TangentFilter(image, vanilla(1, 5), normalize=0.3, parametrization="standard")
    kernel = KernelFilter(image, arc_cosine_kernel(), patch_size=5, normalize=0.3)
    assert torch.allclose(last_only.dense(), kernel.dense(), rtol=0, atol=1e-9)


# ----------------------------------------------------------------------------------------------- doors


@pytest.mark.parametrize("columns", [0, -3, 57])
def test_a_number_of_columns_outside_the_picture_is_refused(columns):
    with refused(ValueError, f"columns must lie between 1 and the 56 pixels of the picture, got {columns}"):
        make().low_rank(columns, generator=generator(0))


def test_an_unknown_sampling_is_refused():
    with refused(ValueError, 'sampling must be "uniform" or "adaptive", got \'best\''):
        make().low_rank(3, generator=generator(0), sampling=UNKNOWN)


def test_columns_over_the_budget_are_refused():
    """24 bytes for each of 16384·1000 entries: columns, factor, and its copy beside the columns so far."""
    large = make(image=torch.zeros(1, 128, 128), kernel=gaussian_kernel(0.3))
    with refused(
        MemoryBudgetError, "1000 columns of 128×128 pixels take 0.393 GB, over the budget of 0.2 GB"
    ):
        large.low_rank(1000, generator=generator(0), budget_gb=0.2)


def test_a_kernel_too_large_to_form_is_refused():
    with refused(MemoryBudgetError, "over the budget of 0.001 GB"):
        TangentFilter(picture(1, 16, 16), vanilla(2, 3), budget_gb=0.001).dense()
    with refused(MemoryBudgetError, "the dense filter of 128×128 pixels takes 2.15 GB"):
        TangentFilter(picture(1, 128, 128), vanilla(2, 3)).dense(budget_gb=1.0)


def test_bad_arguments_of_a_networks_filter_are_refused():
    with refused(ValueError, 'normalize must be "rows", "spectral" or a number'):
        TangentFilter(picture(1, 8, 8), vanilla(1, 3), normalize=UNKNOWN)
    with refused(ValueError, 'parametrization must be "tangent" or "standard"'):
        TangentFilter(picture(1, 8, 8), vanilla(1, 3), parametrization=UNKNOWN)
    with refused(ValueError, "image must have shape"):
        TangentFilter(torch.zeros(8, 8), vanilla(1, 3))
    with refused(IndexError, r"pixel \(8, 0\) lies outside the picture of 8×8 pixels"):
        TangentFilter(picture(1, 8, 8), vanilla(1, 3)).row((8, 0))


def test_a_factor_by_itself_is_a_filter():
    B = torch.rand(12, 3, generator=generator(0), dtype=torch.float64)
    filter = LowRankFilter(B, (3, 4), normalize=0.5)
    assert torch.allclose(filter.dense(), 0.5 * B @ B.T)
    assert math.prod(filter.shape) == 12
