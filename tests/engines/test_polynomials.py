"""The polynomials of the compiled loops against the functions they stand for, and where they come from."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.polynomial import Chebyshev, Polynomial

from dipfilters.engines.cpu import ARC_SINE, COSINE_ARC_SINE, POWER_OF_TWO

ANGLES = np.concatenate([np.linspace(0, np.pi, 20001), np.geomspace(1e-9, 1e-2, 200)])


def arc_sine(s):
    c = np.sqrt((1 - s) * (1 + s))
    return np.arctan2(c, s) / (np.pi * c)


def slope_of_powers(f):
    f = np.where(f == 0, 1e-300, f)
    return np.expm1(f * math.log(2)) / f


@pytest.mark.parametrize(
    ("stored", "quotient", "low", "high"),
    [
        (ARC_SINE, lambda s: (arc_sine(s) - 0.5) / s, 0.0, 1.0),
        (COSINE_ARC_SINE, lambda s: ((1 - s * s) * arc_sine(s) - 0.5) / s, 0.0, 1.0),
        (POWER_OF_TWO, slope_of_powers, -0.5, 0.5),
    ],
)
def test_the_coefficients_are_those_of_an_interpolation(stored, quotient, low, high):
    """The first one is the value at 0, exactly; the others interpolate (f(u) − f(0))/u in Chebyshev nodes."""
    series = Chebyshev.interpolate(quotient, len(stored) - 2, domain=np.array([low, high]))
    fresh = series.convert(kind=Polynomial, domain=[-1, 1], window=[-1, 1]).coef
    # Turning Chebyshev's polynomials into powers on [0, 1] multiplies rounding by up to 6⁹ = 1e7.
    assert np.abs(fresh - stored[1:]).max() < 1e7 * 2.2e-16


def test_both_arc_cosine_kernels_are_within_what_is_promised():
    """Against φ itself, from which no cosine has been taken."""
    c, s = np.cos(ANGLES), np.sin(ANGLES)
    kappa0 = 1 - ANGLES / np.pi
    kappa1 = (s + (np.pi - ANGLES) * c) / np.pi
    even = Polynomial(COSINE_ARC_SINE)(s)
    assert np.abs(0.5 + c * Polynomial(ARC_SINE)(s) - kappa0).max() < 1.2e-8
    assert np.abs(s / np.pi + c / 2 + even - kappa1).max() < 2.2e-8
    assert np.abs(c / 2 + even - c * kappa0).max() < 2.2e-8
    assert 0.5 + ARC_SINE[0] == 0.5 + COSINE_ARC_SINE[0] == 1.0  # exact between equal patches


def test_a_power_of_two_is_within_what_is_promised():
    f = np.linspace(-0.5, 0.5, 10001)
    assert np.abs(Polynomial(POWER_OF_TWO)(f) / np.exp2(f) - 1).max() < 1.2e-10
