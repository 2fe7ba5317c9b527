"""Rules that stop a run without the clean picture: against numpy twins, and on a run whose best is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dipfilters import ExponentialAverage, PictureError, WindowedVariance
from tests.oracles import windowed_variance_by_numpy
from tests.samples import generator, picture, refused


def walk(count: int, *, scale: float = 0.1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Estimates that drift, and shake ever less and then more again."""
    steps = torch.randn(count, 2, 5, 4, generator=generator(2), dtype=torch.float64)
    shake = scale * (0.05 + (torch.linspace(-1, 1, count).double() ** 2))
    return (picture(2, 5, 4) + torch.cumsum(0.01 * scale * steps, 0) + shake[:, None, None, None] * steps).to(
        dtype
    )


# ----------------------------------------------------------------------------------------- average


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.99])
def test_the_average_is_the_weighted_sum_written_out(weight):
    """z̄^k = α^k z⁰ + (1 − α) Σ_{j=1..k} α^{k−j} z^j; forty sums in float64."""
    estimates, average = walk(40), ExponentialAverage(weight)
    averages = [average.update(z) for z in estimates]
    for k in (0, 1, 7, 39):
        shares = [(1 - weight) * weight ** (k - j) for j in range(1, k + 1)]
        expected = weight**k * estimates[0].numpy() + sum(
            (share * z.numpy() for share, z in zip(shares, estimates[1 : k + 1], strict=True)), np.zeros(1)
        )
        assert np.allclose(averages[k].numpy(), expected, rtol=0, atol=1e-14)


def test_the_average_keeps_dtype_and_leaves_estimates_as_they_are():
    average, estimates = ExponentialAverage(), walk(3, dtype=torch.float32)
    before = estimates.clone()
    results = [average.update(z) for z in estimates]
    assert all(result.dtype == torch.float32 for result in results)
    assert torch.equal(estimates, before)
    results[-1].zero_()
    assert float(results[0].abs().min()) > 0.0
    assert not average.update(estimates[0].requires_grad_()).requires_grad  # else every step would be kept


# ---------------------------------------------------------------------------------------- variance


@pytest.mark.parametrize("window", [2, 10, 60])
def test_the_windowed_variance_is_that_of_the_definition(window):
    """The sliding sum carries the rounding of 60 steps, 1e-16 each of the largest window's sum."""
    estimates = walk(60)
    rule = WindowedVariance(window=window, patience=1000)
    for z in estimates:
        rule.update(z)
    expected = windowed_variance_by_numpy(estimates.numpy(), window)
    assert np.allclose(rule.variances, expected, rtol=0, atol=60 * 1e-15 * expected.max())
    assert rule.best_step is not None
    assert rule.best_estimate is not None
    assert rule.best_step == window - 1 + int(expected.argmin())
    assert torch.equal(rule.best_estimate, estimates[rule.best_step])


def test_a_variance_far_below_the_pictures_keeps_its_digits():
    """Estimates near 1 with a spread of 1e-6 after a spread of 1e-1: a difference of sums of squares,
    1e-16 of 1 beside 1e-12, would keep four digits; required are nine.
    """
    estimates = torch.cat([walk(30), walk(60, scale=1e-5)])
    rule = WindowedVariance(window=10, patience=1000)
    for z in estimates:
        rule.update(z)
    expected = windowed_variance_by_numpy(estimates.numpy(), 10)
    assert expected[-20] < 1e-10
    assert rule.variances[-20] == pytest.approx(expected[-20], rel=1e-9 * 30)


def stop_by_hand(variances, window, patience):
    """(the step at which the rule says stop, the best step), or (None, best) if it never does."""
    least, best, waited = math.inf, None, 0
    for step, variance in enumerate(variances, start=window - 1):
        if variance < least:
            least, best, waited = variance, step, 0
        else:
            waited += 1
        if waited >= patience:
            return step, best
    return None, best


def test_twicing_is_never_stopped_and_a_variance_that_stays_is_not_smaller():
    """Along an eigenvector z^k = 1 − (1 − λ)^k: the variance of a window falls like (1 − λ)^{2k}."""
    eigenvalues = torch.tensor([0.5, 0.1, 0.01, 0.001], dtype=torch.float64)
    rule = WindowedVariance(window=5, patience=1)
    assert not any(rule.update((1 - (1 - eigenvalues) ** k)[None, None]) for k in range(300))
    rule = WindowedVariance(window=3, patience=4)
    assert [rule.update(picture(1, 4, 4)) for _ in range(8)] == [False] * 6 + [True] * 2
    assert rule.best_step == 2


@pytest.mark.parametrize("patience", [1, 12, 1000])
def test_it_stops_when_patience_is_over_and_stays_stopped(patience):
    estimates = walk(200)
    rule = WindowedVariance(window=8, patience=patience)
    answers = [rule.update(z) for z in estimates]
    stop, best = stop_by_hand(windowed_variance_by_numpy(estimates.numpy(), 8), 8, patience)
    assert (stop is None) == (patience == 1000)
    assert answers == [stop is not None and k >= stop for k in range(200)]
    assert rule.stopped == (stop is not None)
    assert rule.best_step == best


def test_it_keeps_copies_and_no_more_than_a_window():
    """A loop may reuse the memory of its estimate."""
    estimates, place = walk(50), torch.empty(2, 5, 4, dtype=torch.float64)
    rule = WindowedVariance(window=6)
    for z in estimates:
        place.copy_(z)
        rule.update(place)
    place.zero_()
    assert rule.best_step is not None
    assert rule.best_estimate is not None
    assert torch.equal(rule.best_estimate, estimates[rule.best_step])
    assert len(rule._kept) == 6


# ------------------------------------------------------------------------------------------- doors


def test_rules_that_cannot_be_are_refused():
    with refused(ValueError, "weight must be at least 0 and below 1, got 1.0"):
        ExponentialAverage(1.0)
    with refused(ValueError, "window must be a whole number and at least 2, got 1"):
        WindowedVariance(window=1)
    with refused(ValueError, "patience must be a whole number and at least 1, got 0"):
        WindowedVariance(patience=0)
    for rule in (ExponentialAverage(), WindowedVariance()):
        rule.update(picture(1, 4, 5))
        with refused(PictureError, r"shape of those before, \(1, 4, 5\), got \(1, 5, 4\)"):
            rule.update(picture(1, 5, 4))
