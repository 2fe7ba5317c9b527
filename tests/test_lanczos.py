"""Lanczos twicing against the closed form, its bound against the error, and random traces against sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dipfilters.lanczos
import dipfilters.ntk
from dipfilters import (
    KernelFilter,
    PictureError,
    SpectralTwicing,
    TangentFilter,
    add_noise,
    arc_cosine_kernel,
    autoencoder,
    gaussian_kernel,
    one_layer_tangent_kernel,
    vanilla,
)
from dipfilters.filters import Filter
from dipfilters.lanczos import ConvergenceError, LanczosTwicing, estimated_degrees_of_freedom
from dipfilters.networks import Architecture
from dipfilters.twicing import DivergenceError
from tests.samples import Diagonal, flat_and_textured, generator, picture, refused, repeatable

STEPS = [0, 1, 2, 5, 30, 200, 1000]


@pytest.fixture(autouse=True, scope="module")
def guided():
    """A low rank guides the choice of vectors, where there is one, for pictures as small as these too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dipfilters.lanczos, "_LEAST", 1)
        yield


def make(image, normalize, kernel=None):
    return KernelFilter(image, kernel or gaussian_kernel(0.3), patch_size=3, normalize=normalize)


def noisy_picture(channels=1):
    return add_noise(flat_and_textured(channels, 17, 13), 25 / 255, generator=generator(2))


def relative(estimates, expected, weights):
    """‖D^(1/2)(z − ẑ)‖ / ‖D^(1/2) ẑ‖ for each of a stack; 0 where both are."""
    error, size = (((a * weights).flatten(1).norm(dim=1)) for a in (estimates - expected, expected))
    return torch.where(size > 0, error / size.clamp_min(1e-300), error)


@st.composite
def two_pictures(draw):
    """What a filter is made from and what it is applied to; some patches and channels are equal or black."""
    height, width = draw(st.integers(4, 14)), draw(st.integers(5, 14))
    channels, seeds = st.integers(1, 3), st.integers(0, 99)
    guide, target = (picture(draw(channels), height, width, seed=draw(seeds)) for _ in range(2))
    if draw(st.booleans()):
        guide = (guide * 3).round() / 3 + 0.1
    if draw(st.booleans()):
        target = torch.cat([target, 0 * target[:1], target[:1]])
    return guide, target - 0.1


@repeatable
@given(
    two_pictures(),
    st.sampled_from([gaussian_kernel(0.3), arc_cosine_kernel(), one_layer_tangent_kernel(), vanilla(2, 3)]),
    st.sampled_from(["rows", "spectral", 1e-3]),
    st.sampled_from([3, 70, 1000, 5000]),
    st.integers(1, 8),
    st.sampled_from([1e-9, 1.0]),
)
def test_the_estimates_are_those_of_the_closed_form_as_far_as_the_bound_says(
    pictures, kernel, normalize, last, digits, budget_gb
):
    guide, noisy = pictures
    if isinstance(kernel, Architecture):
        filter: Filter = TangentFilter(guide, kernel, normalize=normalize)
    else:
        filter = make(guide, normalize, kernel)
    steps, tolerance = [k for k in STEPS if k < last] + [last], 10.0**-digits
    fast = LanczosTwicing(filter, noisy, last=last, tolerance=tolerance, budget_gb=budget_gb)
    weights = filter.weights.sqrt().reshape(filter.shape)
    error = relative(fast.estimate(steps), SpectralTwicing(filter).estimate(noisy, steps), weights)
    bound = fast.error_bound(steps)
    # Steps of float64, each of an eigenvalue right to 1e-15, leave 1e-15 · last to the two closed forms.
    assert bool((error <= bound + 1e-11 + 1e-14 * last).all())
    assert float(bound.max()) <= tolerance


@pytest.mark.parametrize("normalize", ["rows", "spectral"])
def test_the_bound_is_not_far_above_the_error(normalize):
    """At most tenfold at the last step, where it decides: a looser one would cost products."""
    noisy = noisy_picture()
    filter = make(noisy, normalize)
    weights = filter.row_sums.sqrt().reshape(filter.shape) if normalize == "rows" else torch.ones(17, 13)
    fast = LanczosTwicing(filter, noisy, last=300, tolerance=1e-4)
    error = relative(fast.estimate([300]), SpectralTwicing(filter).estimate(noisy, [300]), weights)
    assert float(fast.error_bound(300)) < 10 * float(error[0])


@pytest.mark.parametrize(("depth", "most"), [(1, 0.5), (2, 0.75)])
def test_the_low_rank_saves_products(monkeypatch, depth, most):
    """Calls are counted, and the estimates are those of the closed form."""
    noisy, calls = add_noise(flat_and_textured(1, 30, 30), 25 / 255, generator=generator(2)), []
    original = TangentFilter.times_kernel

    def counted(self, columns):
        calls.append(columns.shape[1])
        return original(self, columns)

    monkeypatch.setattr(TangentFilter, "times_kernel", counted)
    closed = SpectralTwicing(TangentFilter(noisy, vanilla(depth, 3))).estimate(noisy, [300])
    counts = []
    for budget_gb, columns in ((1e-9, 1), (1.0, 8)):
        calls.clear()
        fast = LanczosTwicing(TangentFilter(noisy, vanilla(depth, 3)), noisy, last=300, budget_gb=budget_gb)
        counts.append(len(calls))
        assert len(calls) == fast.products
        assert max(calls) <= columns
        assert float(relative(fast.estimate([300]), closed, torch.ones(30, 30))) < 1e-4
    assert counts[1] <= most * counts[0]
    monkeypatch.setattr(dipfilters.lanczos, "_LEAST", noisy.numel() + 1)  # small pictures do without
    calls.clear()
    LanczosTwicing(TangentFilter(noisy, vanilla(depth, 3)), noisy, last=300)
    assert set(calls) == {1}


def test_as_many_products_as_eigenvalues_in_the_picture_are_exact():
    """Three eigenvalues: the Krylov space ends after three products, and the error with it."""
    weights = torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64).repeat(4)[:, None].expand(12, 5)
    filter, noisy = Diagonal(weights), picture(2, 12, 5)
    fast = LanczosTwicing(filter, noisy, last=50, tolerance=1e-12)
    expected = (1 - (1 - weights) ** 7) * noisy
    assert float((fast.estimate(7) - expected).abs().max()) < 1e-13
    assert fast.products == filter.products == 3
    assert np.abs(fast._space.decomposed()[0] - np.repeat([0.2, 0.5, 1.0], 2)).max() < 1e-13


def test_channels_that_end_early_and_black_ones_wait_for_the_others():
    weights = torch.linspace(0.1, 1.0, 60, dtype=torch.float64).reshape(12, 5)
    noisy = torch.zeros(3, 12, 5, dtype=torch.float64)
    noisy[0], noisy[1, 3, 2] = picture(1, 12, 5)[0], 0.5
    fast = LanczosTwicing(Diagonal(weights), noisy, last=40, tolerance=1e-10)
    assert float((fast.estimate(9) - (1 - (1 - weights) ** 9) * noisy).abs().max()) < 1e-10


@pytest.mark.parametrize("channels", [1, 3])
def test_the_largest_eigenvalue_is_found_on_the_way(channels):
    """A filter that has not looked for it costs no product more, and knows it to the square of 1e-5 after."""
    noisy = noisy_picture(channels)
    fresh, asked = (make(noisy, "spectral", one_layer_tangent_kernel()) for _ in range(2))
    largest = float(torch.linalg.eigvalsh(asked.dense())[-1]) / asked.scale
    found = LanczosTwicing(fresh, noisy, last=300)
    known = LanczosTwicing(asked, noisy, last=300)
    assert found.products <= known.products + 1
    assert fresh.scale == pytest.approx(1 / largest, rel=1e-9)
    error = relative(found.estimate(STEPS[:6]), known.estimate(STEPS[:6]), torch.ones(17, 13))
    assert float(error.max()) < 2e-4


def test_the_kernel_is_formed_once_and_kept_by_the_filter(monkeypatch):
    formed = []
    original = dipfilters.ntk.tangent_kernel

    def counted(*given, **options):
        formed.append(given)
        return original(*given, **options)

    monkeypatch.setattr(dipfilters.ntk, "tangent_kernel", counted)
    noisy = noisy_picture()
    filter = TangentFilter(noisy, autoencoder(1, 3))
    LanczosTwicing(filter, noisy, last=9)
    filter.row((2, 3))
    filter.apply(noisy)
    assert len(formed) == 1


def test_a_black_picture_leaves_the_step_to_the_filter():
    noisy = noisy_picture()
    filter = make(noisy, "spectral")
    assert float(LanczosTwicing(filter, 0 * noisy, last=9).estimate(9).abs().max()) == 0
    assert filter.scale == pytest.approx(make(noisy, "spectral").scale, rel=1e-9)
    black = torch.zeros(1, 64, 64, dtype=torch.float64)  # so large that a low rank would help
    twicing = LanczosTwicing(TangentFilter(black, vanilla(1, 3), engine="cpu"), black, last=9)
    assert float(twicing.estimate(9).abs().max()) == 0


def test_shapes_types_and_steps():
    noisy = noisy_picture(3)
    filter = make(noisy, "rows")
    fast = LanczosTwicing(filter, noisy.float(), last=20)
    assert fast.estimate(4).shape == noisy.shape
    assert fast.estimate(4).dtype == torch.float32
    assert fast.estimate([2, 4]).shape == (2, *noisy.shape)
    assert torch.equal(fast.estimate([2, 4])[1], fast.estimate(4))
    assert fast.error_bound(4).shape == ()
    with refused(ValueError, "steps must not exceed last = 20, got 21"):
        fast.estimate([3, 21])
    with refused(ValueError, "increasing list"):
        fast.error_bound([3, 2])


def test_what_cannot_converge_is_refused():
    noisy = picture(1, 12, 5)
    spread = torch.linspace(0.0, 1.0, 60, dtype=torch.float64).reshape(12, 5)
    with refused(ConvergenceError, r"3 products are not enough; allow more than max_products = 3"):
        LanczosTwicing(Diagonal(spread), noisy, last=1000, max_products=3)
    for outside in (spread - 0.1, 2.1 * spread):
        with refused(DivergenceError, r"twicing diverges outside \[0, 2\]"):
            LanczosTwicing(Diagonal(outside), noisy, last=10, tolerance=1e-12)
    with refused(PictureError, r"noisy must have the shape of the filter, \(12, 5\)"):
        LanczosTwicing(Diagonal(spread), picture(1, 5, 12), last=10)
    for name in ("last", "tolerance", "max_products", "budget_gb"):
        with refused(ValueError, f"{name} must be .*, got 0"):
            options: Any = {"last": 1} | {name: 0}
            LanczosTwicing(Diagonal(spread), noisy, **options)


# ------------------------------------------------------------------------------------ degrees of freedom


@pytest.mark.parametrize("normalize", ["rows", "spectral"])
def test_random_traces_are_those_of_the_eigenvalues(normalize):
    """64 probes: the mean lies within four of its own standard errors at each of the steps."""
    filter = make(noisy_picture(), normalize)
    steps = [1, 10, 100]
    found = estimated_degrees_of_freedom(filter, steps, generator=generator(1), probes=64)
    expected = SpectralTwicing(filter).degrees_of_freedom(steps)
    assert bool(((found.value - expected).abs() < 4 * found.standard_error).all())
    assert bool((found.standard_error < 0.1 * expected).all())


def test_the_standard_error_is_that_of_many_estimates():
    """Its mean square is the variance of the estimates: over 60 the ratio spreads by √(2/60) = 0.18."""
    filter = make(noisy_picture(), "spectral", one_layer_tangent_kernel())
    chance = generator(3)
    several = [estimated_degrees_of_freedom(filter, 20, generator=chance, probes=8) for _ in range(60)]
    variance = torch.stack([one.value for one in several]).var()
    stated = torch.stack([one.standard_error for one in several]).square().mean()
    assert 0.4 < float(variance / stated) < 1.6


def test_signs_find_the_trace_of_a_diagonal_filter_exactly():
    """bᵀ f(A) b = Σ f(a_i) for every vector of signs, so that nothing is left to chance."""
    weights = torch.linspace(0.0, 1.0, 60, dtype=torch.float64).reshape(12, 5)
    found = estimated_degrees_of_freedom(
        Diagonal(weights), [3, 50], generator=generator(1), probes=2, tolerance=1e-9
    )
    expected = torch.stack([(1 - (1 - weights) ** k).sum() for k in (3, 50)])
    assert float((found.value / expected - 1).abs().max()) < 1e-7
    assert float((found.standard_error / expected).max()) < 1e-7


def test_a_spread_needs_two_probes():
    with refused(ValueError, "probes must be a whole number and at least 2"):
        estimated_degrees_of_freedom(Diagonal(torch.ones(12, 5)), 3, generator=generator(1), probes=1)
