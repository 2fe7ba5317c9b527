"""Filters from some of their columns against the dense ones, and what Nyström must obey."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dipfilters import (
    KernelFilter,
    SpectralTwicing,
    TangentFilter,
    add_noise,
    autoencoder,
    gaussian_kernel,
    twicing,
    vanilla,
)
from tests.oracles import patches_by_loops, residual_matrix
from tests.samples import KERNELS, flat_and_textured, generator, picture, refused, repeatable

# Dropped eigenvalues lie below 1e-10 of the largest kernel value; over the N = 56 pixels here, each of them
# leaves at most that much, and the rest is rounding.
DROPPED = 56e-10

UNKNOWN: Any = "best"
SAMPLING: list[Any] = ["uniform", "adaptive"]


def make(normalize: Any = "spectral", kernel=None):
    return KernelFilter(picture(1, 8, 7), kernel or KERNELS["tangent"], patch_size=3, normalize=normalize)


def missed(filter, approximation):
    """K less its approximation, both with one factor."""
    return filter.dense() / filter.scale - approximation.dense() / approximation.scale


@pytest.mark.parametrize("sampling", SAMPLING)
@pytest.mark.parametrize("normalize", ["rows", "spectral"])
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_all_columns_give_the_filter_itself(kernel, normalize, sampling):
    filter = make(normalize, kernel)
    approximation = filter.low_rank(56, generator=generator(1), sampling=sampling)
    tolerance = DROPPED / min(1.0, float(filter.weights.min()))
    assert torch.allclose(approximation.dense(), filter.dense(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("sampling", SAMPLING)
@pytest.mark.parametrize("count", [1, 23])
def test_as_many_columns_as_were_drawn_are_exact_and_the_rest_is_positive(sampling, count):
    """C M⁺ Cᵀ has the columns of C, and K less it is a Schur complement: no negative eigenvalue."""
    filter = make(kernel=gaussian_kernel(0.3))
    approximation = filter.low_rank(count, generator=generator(2), sampling=sampling)
    assert approximation.factor.shape == (56, count)
    rest = missed(filter, approximation)
    assert int((rest.abs().amax(0) < DROPPED).sum()) == count
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


# ------------------------------------------------------------------------------------- the linear part


@pytest.mark.parametrize("kind", ["arc-cosine", "tangent"])
def test_the_linear_part_between_patches_is_that_of_the_formula(kind):
    filter = make(1.0, KERNELS[kind])
    patches = torch.from_numpy(patches_by_loops(picture(1, 8, 7).numpy(), 3, "reflect"))
    norms = patches.square().mean(1).sqrt()
    products = patches @ patches.T / 9
    expected = norms[:, None] * norms / math.pi + products * (0.5 if kind == "arc-cosine" else 1.0)
    linear = filter.linear_part()
    assert linear.shape == (56, 10)
    assert torch.allclose(linear @ linear.T, expected, rtol=0, atol=1e-14)


@repeatable
@given(
    st.integers(1, 3),
    st.sampled_from([0.0, 0.2, 0.7]),
    st.sampled_from(["reflect", "circular", "zero"]),
    st.sampled_from(["tangent", "standard"]),
    st.integers(0, 99),
)
def test_what_the_linear_part_leaves_is_positive(depth, slope, padding, kind, seed):
    """For every network that pads once; a linear one, whose last layer alone is trained, it gives whole."""
    image = picture(2, 6, 7, seed=seed)
    network = vanilla(depth, 3, slope=slope, padding=padding)
    filter = TangentFilter(image, network, parametrization=kind, normalize=1.0)
    K, linear = filter.dense(), filter.linear_part()
    left = torch.linalg.eigvalsh(K - linear @ linear.T)
    assert float(left[0]) > -1e-7 * float(K.diagonal().max())  # kappa0 near the angle 0
    assert float(left.sum()) < 0.9 * float(K.trace())


def test_kernels_without_a_linear_part_have_none():
    for filter in (
        make(1.0, KERNELS["gaussian"]),
        TangentFilter(picture(1, 8, 7), autoencoder(1, 3)),
        KernelFilter(picture(1, 8, 7), KERNELS["tangent"], patch_size=3, normalize=1.0, spatial=2.0),
    ):
        assert filter.linear_part().shape == (56, 0)


@pytest.mark.parametrize("textured", [True, False])
def test_the_linear_part_brings_a_low_rank_closer(monkeypatch, textured):
    """Twelve draws of 2 % of the columns, with it and without: the mean ratio, and twice its error."""
    image = flat_and_textured(1, 30, 30) if textured else picture(1, 30, 30)
    noisy = add_noise(image, 25 / 255, generator=generator(1))
    filter = KernelFilter(noisy, KERNELS["tangent"], patch_size=5, normalize=1.0)
    K = filter.dense()
    norms = []
    for windows in (filter._linear_windows(), []):
        monkeypatch.setattr(filter, "_linear_windows", lambda windows=windows: windows)
        several = [filter.low_rank(18, generator=generator(seed)).factor for seed in range(12)]
        norms.append(torch.stack([torch.linalg.matrix_norm(K - B @ B.T) for B in several]))
    ratios = norms[0] / norms[1]
    assert float(ratios.mean() + 2 * ratios.std() / 12**0.5) < 0.8


@pytest.mark.parametrize("sampling", SAMPLING)
def test_the_draw_is_decided_by_the_generator(sampling):
    first, again, other = (
        make().low_rank(12, generator=generator(seed), sampling=sampling).dense() for seed in (7, 7, 8)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_adaptive_columns_find_what_is_rare():
    """200 equal patches and 25 kinds of others: 30 uniform draws miss most kinds, adaptive ones few.

    The trace of what is missed is what the adaptive draws look at; three draws of each, no exception.
    """
    image = torch.full((1, 15, 15), 0.3, dtype=torch.float64)
    image[:, 10:, 10:] = picture(1, 5, 5)
    filter = KernelFilter(image, gaussian_kernel(0.1), patch_size=1, normalize=1.0)
    left = {
        sampling: [
            float(missed(filter, filter.low_rank(30, generator=generator(s), sampling=sampling)).trace())
            for s in range(3)
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
        assert approximation.factor.shape == (81, 2)
        assert torch.allclose(approximation.dense(), filter.dense(), rtol=0, atol=DROPPED)


@pytest.mark.parametrize("normalize", ["rows", "spectral"])
def test_the_closed_form_is_that_of_the_explicit_matrix(normalize):
    """Estimates, errors and freedom for all numbers of steps at once, from a few eigenvectors out of 56."""
    x, y, k = picture(1, 8, 7, seed=5), picture(2, 8, 7, seed=3), 9
    filter = make(normalize).low_rank(8, generator=generator(0))
    closed, steps = SpectralTwicing(filter), [0, 1, 7, 200]
    assert torch.allclose(closed.estimate(y, steps), twicing(filter, y, steps=steps), rtol=0, atol=1e-10)
    R = torch.from_numpy(residual_matrix(filter.dense().numpy(), k))
    through = torch.eye(56, dtype=torch.float64) - R
    bias = float((R @ x.flatten()).square().mean())
    assert float(closed.bias_squared(x, k)) == pytest.approx(bias, rel=1e-9)
    variance = 0.01 * float(through.square().sum()) / 56
    assert float(closed.variance(0.1, k)) == pytest.approx(variance, rel=1e-9)
    assert float(closed.degrees_of_freedom(k)) == pytest.approx(float(through.trace()), rel=1e-9)
    assert torch.allclose(closed.row((2, 3), k).flatten(), through[2 * 7 + 3], rtol=0, atol=1e-10)


# -------------------------------------------------------------------------------- the filter of a network


@pytest.mark.parametrize("architecture", [vanilla(3, 3), vanilla(2, 1), autoencoder(1, 3)], ids=str)
def test_a_networks_filter_from_all_columns_is_its_dense_one(architecture):
    """The columns one by one, the diagonal by itself and the dense matrix are three ways to one kernel."""
    filter = TangentFilter(picture(3, 8, 6), architecture)
    approximation = filter.low_rank(48, generator=generator(0), sampling="adaptive")
    assert torch.allclose(approximation.dense(), filter.dense(), rtol=0, atol=1e-7)


# ----------------------------------------------------------------------------------------------- doors


def test_columns_and_samplings_that_are_none_are_refused():
    for columns in (0, 57):
        with refused(ValueError, f"columns must (be .* at least 1|not exceed the 56 pixels), got {columns}"):
            make().low_rank(columns, generator=generator(0))
    with refused(ValueError, "sampling must be one of 'uniform', 'adaptive', got 'best'"):
        make().low_rank(3, generator=generator(0), sampling=UNKNOWN)
