"""The polynomials of the compiled loops against the functions they stand for."""

from __future__ import annotations

import numpy as np
from numpy.polynomial import Polynomial

from dipfilters.engines.cpu import ARC_SINE, COSINE_ARC_SINE, POWER_OF_TWO

ANGLES = np.concatenate([np.linspace(0, np.pi, 20001), np.geomspace(1e-9, 1e-2, 200)])


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
