"""Kernels against quadrature and written-out formulas, and what must hold of them."""

from __future__ import annotations

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dipfilters import arc_cosine_kernel, gaussian_kernel, kappa0, kappa1, one_layer_tangent_kernel
from dipfilters.kernels import cosine_of_angle
from tests.oracles import relu_moments
from tests.samples import KERNELS, generator, refused, repeatable

EPS = np.finfo(np.float64).eps

# Entries of a patch: zeros, duplicates and both signs, but none so small that its square underflows.
entries = st.floats(-2, 2).map(lambda value: 0.0 if abs(value) < 1e-6 else value)


patch_sets = hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 12)), elements=entries)


def float64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ------------------------------------------------------------------------------ kappa0 and kappa1


@pytest.mark.parametrize("angle", [0.02, 1.0, 2.0, 3.12])
def test_kappas_are_twice_the_moments_of_gaussian_variables(angle):
    """Quadrature to 1e-11, and a cosine whose rounding is magnified by 1/sin φ ≤ 50."""
    product, both_on = relu_moments(angle)
    cosine = float64(math.cos(angle))
    assert kappa1(cosine).item() == pytest.approx(2 * product, abs=1e-10)
    assert kappa0(cosine).item() == pytest.approx(2 * both_on, abs=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_cosine_one_rounding_step_too_large_is_no_nan(dtype):
    one = torch.ones(1, dtype=dtype)
    beyond = torch.nextafter(one, 2 * one)
    assert beyond.item() > 1.0
    for kappa in (kappa0, kappa1):
        assert kappa(beyond).item() == pytest.approx(1.0, abs=1e-6)
        assert kappa(-beyond).item() == pytest.approx(0.0, abs=1e-6)


# --------------------------------------------------------------------------------- against formulas


def test_the_kernels_written_out():
    """The formulas of the docstrings, with numpy's arccos; angles away from 0 and π keep 12 digits.

    The package subtracts ⟨p, p⟩ − 2⟨p, q⟩ + ⟨q, q⟩ ≤ 4, right to 4·d·ε; divided by h² that is 1e-12.
    """
    p, q = (torch.randn(n, 27, generator=generator(n), dtype=torch.float64) for n in (6, 4))
    dots = p.numpy() @ q.numpy().T / 27
    norms = np.sqrt(np.outer(np.mean(p.numpy() ** 2, 1), np.mean(q.numpy() ** 2, 1)))
    phi = np.arccos(dots / norms)
    one = norms * (np.sin(phi) + (math.pi - phi) * np.cos(phi)) / math.pi
    both = norms * (np.sin(phi) + 2 * (math.pi - phi) * np.cos(phi)) / math.pi
    near = [[math.exp(-np.mean((a - b) ** 2) / 0.7**2) for b in q.numpy()] for a in p.numpy()]
    for kernel, expected in (
        (gaussian_kernel(0.7), near),
        (arc_cosine_kernel(), one),
        (one_layer_tangent_kernel(), both),
    ):
        assert np.abs(kernel(p, q).numpy() - expected).max() < 1e-12


# -------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@repeatable
@given(patches=patch_sets)
def test_positive_semi_definite(kernel, patches):
    """No eigenvalue below −1e-10 of the largest; rounding of 36 entries alone is 1e-15."""
    matrix = kernel(*2 * [torch.from_numpy(patches)])
    assert torch.allclose(matrix, matrix.T, rtol=0, atol=1e-9)
    eigenvalues = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
    assert float(eigenvalues[0]) >= -1e-10 * max(float(eigenvalues[-1]), 1e-12)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_patches_of_float32_are_compared_in_float64(kernel):
    p, q = torch.randn(4, 9, generator=generator(0)), torch.randn(5, 9, generator=generator(1))
    before = p.clone()
    matrix = kernel(p, q)
    assert matrix.dtype == torch.float64
    assert torch.equal(matrix, kernel(p.double(), q.double()))
    assert torch.equal(p, before)


@pytest.mark.parametrize(
    "kernel", [arc_cosine_kernel(), one_layer_tangent_kernel()], ids=["arc-cosine", "tangent"]
)
@pytest.mark.parametrize("d", [9, 363, 3 * 21 * 21])
def test_equal_patches_have_the_angle_zero_exactly(kernel, d):
    """Whether p and q are one tensor or two: ‖p‖ ‖q‖ κ₁ needs κ₁ = κ₀ = 1 without the 5e-9 of rounding."""
    p = torch.rand(50, d, generator=generator(6), dtype=torch.float64)
    share = 2 if kernel == one_layer_tangent_kernel() else 1
    expected = share * p.square().mean(1)
    for q in (p, p.clone(), p * 1.0):
        assert torch.allclose(kernel(p, q).diagonal(), expected, rtol=d * EPS, atol=0)


def test_equal_patches_are_never_more_than_alike():
    """⟨p, p⟩ − 2⟨p, q⟩ + ⟨q, q⟩ may round to −1e-16; with h = 1e-8 that would be a likeness of e."""
    p = torch.rand(200, 363, generator=generator(6), dtype=torch.float64)
    assert float(gaussian_kernel(1e-8)(p, p.clone()).max()) <= 1.0


def test_the_cosine_of_the_angle():
    """Parallel 1, opposite −1, both exactly; orthogonal and black 0; never outside [−1, 1]."""
    p = torch.rand(300, 27, generator=generator(7), dtype=torch.float64) - 0.5
    own = p.square().mean(1)
    for factor in (1.0, 3.0, 0.1):
        assert bool((cosine_of_angle(own, factor * own, factor**2 * own) == 1.0).all())
        assert bool((cosine_of_angle(own, -factor * own, factor**2 * own) == -1.0).all())
    assert cosine_of_angle(
        float64(1.0, 0.0, 0.5), float64(0.0, 0.0, 0.25), float64(2.0, 1.0, 0.5)
    ).tolist() == [0.0, 0.0, 0.5]


def test_opposite_patches_have_the_angle_pi_exactly():
    """κ₁ = κ₀ = 0 there; an angle 1.5e-8 short of π made the matrix of these four indefinite by 3e-9."""
    p = float64(1.0, 0.6381, -1.0, -1.9375)[:, None]
    matrix = one_layer_tangent_kernel()(p, p)
    assert float(matrix[:2, 2:].abs().max()) == 0.0
    assert float(torch.linalg.eigvalsh(matrix)[0]) >= -1e-14


def test_a_black_patch_resembles_nothing():
    """Its norm is 0 and it has no angle: 0, and no NaN."""
    p = torch.zeros(2, 4, dtype=torch.float64)
    p[1] = 0.5
    for kernel in (arc_cosine_kernel(), one_layer_tangent_kernel()):
        matrix = kernel(p, p)
        assert matrix[0].tolist() == [0.0, 0.0]
        assert matrix[1, 0].item() == 0.0
        assert matrix[1, 1].item() > 0.0


def test_kernels_are_frozen_values():
    assert gaussian_kernel(0.1) == gaussian_kernel(0.1) != gaussian_kernel(0.2)
    with pytest.raises(AttributeError, match="bandwidth"):
        gaussian_kernel(0.1).bandwidth = 0.2  # type: ignore[misc]


# ------------------------------------------------------------------------------------------- doors


@pytest.mark.parametrize("bandwidth", [0.0, math.nan, 1e-200])
def test_a_bandwidth_that_is_not_positive_is_refused(bandwidth):
    with refused(ValueError, rf"bandwidth must be positive, in grey levels of \[0, 1\], got {bandwidth}"):
        gaussian_kernel(bandwidth)


def test_patches_of_two_lengths_are_refused():
    with refused(ValueError, "patches must be of one length, got 9 and 25 entries"):
        gaussian_kernel(0.1)(torch.ones(2, 9), torch.ones(2, 25))
