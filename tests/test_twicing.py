"""Twicing, its closed form, its errors, and its stops, against dense matrices, draws and differences."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from dipfilters import (
    KernelFilter,
    PictureError,
    SpectralTwicing,
    add_noise,
    arc_cosine_kernel,
    discrepancy_stop,
    gaussian_kernel,
    measured_bias_variance,
    monte_carlo_divergence,
    one_layer_tangent_kernel,
    step_grid,
    sure,
    twicing,
)
from dipfilters.twicing import DivergenceError
from tests.oracles import draw_bias_and_variance, residual_matrix, twicing_by_recursion
from tests.samples import Diagonal, flat_and_textured, generator, picture, refused

SIGMA = 25 / 255


def make(image, normalize, kernel=None, **changes):
    settings = {"patch_size": 3, "normalize": normalize} | changes
    return KernelFilter(image, kernel or gaussian_kernel(0.3), **settings)


def columns(image):
    """The (N, C) pixel matrix of a picture, as numpy has it."""
    return image.reshape(len(image), -1).T.numpy()


# --------------------------------------------------------------------------- the iteration, and its form

CASES = {
    "grey": (picture(1, 13, 9), gaussian_kernel(0.3)),
    "colour": (picture(3, 7, 11), gaussian_kernel(0.2)),
    "flat and textured": (flat_and_textured(1, 12, 11), gaussian_kernel(0.1)),
    "arc-cosine": (picture(1, 11, 13), arc_cosine_kernel()),
    "tangent": (picture(1, 11, 13), one_layer_tangent_kernel()),
}


@pytest.mark.parametrize("normalize", ["rows", "spectral", 0.004])
@pytest.mark.parametrize("case", CASES)
def test_iterated_spectral_and_dense_twicing_agree(case, normalize):
    """Absolutely to 1e-10, for pictures in [0, 1].

    A step of the iteration rounds N ≤ 143 products, 3e-14, and none of the steps enlarges what came before,
    since the residual operator has eigenvalues in [0, 1]: a hundred steps stay below 4e-12. For normalised
    rows the condition of D^(1/2), below 5 in these pictures, multiplies that.
    """
    image, kernel = CASES[case]
    filter = make(image, normalize, kernel)
    noisy = add_noise(image, 0.1, generator=generator(1))
    stops = [0, 1, 2, 7, 40, 100]
    iterated = twicing(filter, noisy, steps=stops)
    spectral = SpectralTwicing(filter).estimate(noisy, stops)
    assert iterated.shape == spectral.shape == (6, *image.shape)
    matrix = filter.dense().numpy()
    for k, first, second in zip(stops, iterated, spectral, strict=True):
        expected = twicing_by_recursion(matrix, columns(noisy), k)
        assert np.abs(columns(first) - expected).max() < 1e-10, k
        assert np.abs(columns(second) - expected).max() < 1e-10, k


@pytest.mark.parametrize(("steps", "products"), [(0, 0), (4, 4), ([0, 3, 7], 7)])
def test_a_step_costs_one_product(steps, products):
    filter = Diagonal(torch.full((4, 4), 0.5))
    twicing(filter, picture(1, 4, 4), steps=steps)
    assert filter.products == products


def test_a_number_gives_a_picture_and_a_list_a_stack():
    image = picture(1, 6, 7)
    filter = make(image, "rows")
    form = SpectralTwicing(filter)
    for run in (lambda steps: twicing(filter, image, steps=steps), lambda steps: form.estimate(image, steps)):
        assert run(3).shape == (1, 6, 7)
        assert run(range(1, 4)).shape == (3, 1, 6, 7)
        assert torch.allclose(run([1, 3])[1], run(3), rtol=0, atol=1e-13)


def test_the_dtype_is_kept_and_the_input_untouched():
    """float32 pictures: fifty roundings of values near 1 are 50·2^-24 = 3e-6."""
    image = picture(1, 9, 8, dtype=torch.float32)
    before = image.clone()
    filter = make(image, "rows")
    form = SpectralTwicing(filter)
    iterated, spectral = twicing(filter, image, steps=50), form.estimate(image, 50)
    assert iterated.dtype == spectral.dtype == torch.float32
    assert float((iterated - spectral).abs().max()) < 3e-6
    form.bias_squared(image, 3)
    assert torch.equal(image, before)


# ------------------------------------------------------------------------------- the closed form's parts


@pytest.mark.parametrize("normalize", ["rows", "spectral"])
def test_errors_freedom_and_rows_are_those_of_the_explicit_matrix(normalize):
    """R = (I − W)^k multiplied out: ‖R x‖²/n, σ²‖I − R‖_F²/N, tr(I − R) and a row of I − R."""
    image = picture(3, 9, 7)
    filter = make(image, normalize)
    form = SpectralTwicing(filter)
    matrix, identity = filter.dense().numpy(), np.eye(63)
    stops = [0, 1, 3, 20, 60]
    bias, variance = form.bias_squared(image, stops), form.variance(SIGMA, stops)
    freedom = form.degrees_of_freedom(stops)
    for i, k in enumerate(stops):
        residual = residual_matrix(matrix, k)
        expected = np.mean((residual @ columns(image)) ** 2)
        assert bias[i].item() == pytest.approx(expected, rel=1e-10, abs=1e-14)
        expected = SIGMA**2 * np.sum((identity - residual) ** 2) / 63
        assert variance[i].item() == pytest.approx(expected, rel=1e-10, abs=1e-14)
        assert freedom[i].item() == pytest.approx(np.trace(identity - residual), rel=1e-10, abs=1e-12)
        assert np.abs(form.row((8, 2), k).numpy().ravel() - (identity - residual)[58]).max() < 1e-11


@pytest.mark.parametrize("normalize", ["rows", "spectral"])
def test_eigenvalues_and_eigenpictures_are_those_of_the_matrix(normalize):
    """W v = λ v for the leading right eigenvectors, of unit length, the largest first, no sum negative."""
    image = picture(1, 9, 7)
    filter = make(image, normalize)
    form = SpectralTwicing(filter)
    matrix = filter.dense()
    expected = np.sort(np.linalg.eigvals(matrix.numpy()).real)[::-1]
    assert np.abs(form.eigenvalues.numpy() - expected).max() < 1e-10
    pictures = form.eigenpictures(5)
    assert pictures.shape == (5, 9, 7)
    for value, vector in zip(form.eigenvalues, pictures.reshape(5, -1), strict=False):
        assert float((matrix @ vector - value * vector).abs().max()) < 1e-12
        assert float(vector.norm()) == pytest.approx(1.0, abs=1e-12)
        assert float(vector.sum()) > -1e-12


# ----------------------------------------------------------------------------------- measured by drawing


def test_bias_and_variance_are_measured_as_the_oracle_does():
    """The same two sums in numpy, for one estimate a draw and for several."""
    clean = picture(3, 5, 4)
    estimates = torch.stack([picture(6, 5, 4, seed=seed).reshape(2, 3, 5, 4) for seed in range(7)])
    bias, variance = measured_bias_variance(estimates, clean)
    assert bias.shape == variance.shape == (2,)
    for i in range(2):
        expected = draw_bias_and_variance(estimates[:, i].numpy(), clean.numpy())
        assert (bias[i].item(), variance[i].item()) == pytest.approx(expected, rel=1e-12)
        alone = tuple(value.item() for value in measured_bias_variance(estimates[:, i], clean))
        assert alone == pytest.approx(expected, rel=1e-12)


def test_sure_written_out():
    noisy, estimate = picture(3, 4, 5), picture(3, 4, 5, seed=1)
    expected = float(((noisy - estimate) ** 2).sum()) / 60 - 0.01 + 2 * 0.01 * 7.5 / 60
    both = sure(torch.stack([estimate, noisy]), noisy, 0.1, torch.tensor([7.5, 60.0]))
    assert both.tolist() == pytest.approx([expected, 0.01], rel=1e-12)
    assert sure(estimate, noisy, 0.1, torch.tensor(7.5)).item() == pytest.approx(expected, rel=1e-12)


# -------------------------------------------------------------------------------------------- divergence


def test_the_differences_are_taken_both_ways_in_float64():
    """Of y² they are exact, 2 Σ y b²; to one side they would have ε Σ b³ besides."""
    image, chance = picture(1, 5, 4, dtype=torch.float32), generator(5)
    probes = torch.stack([torch.randn(image.shape, generator=chance, dtype=torch.float64) for _ in range(2)])

    def twice(y):
        return torch.stack([y.square(), y])

    measured = monte_carlo_divergence(twice, image, generator=generator(5), probes=2, epsilon=0.5)
    expected = [float((image.double() * probes.square()).sum()), float(probes.square().sum()) / 2]
    assert measured.tolist() == pytest.approx(expected, rel=1e-12)


# ------------------------------------------------------------------------------------------------- stops


@pytest.mark.parametrize("eigenvalue", [-0.1, 2.5, math.nan])
def test_a_filter_with_an_eigenvalue_outside_0_to_2_is_refused(eigenvalue):
    """Its residual grows by 1.1 or 1.5 a step, a thousandfold within 73 or 18 steps."""
    noisy = torch.ones(1, 4, 4, dtype=torch.float64)
    message = r"diverged by step \d+: an eigenvalue of the filter lies outside \[0, 2\]; use a smaller"
    with refused(DivergenceError, message):
        twicing(Diagonal(torch.full((4, 4), eigenvalue, dtype=torch.float64)), noisy, steps=100)


@pytest.mark.parametrize("factor", [-0.2, 2.3])
def test_the_closed_form_refuses_them_too_from_two_steps_on(factor):
    """One step, W y itself, is what it is with any W."""
    image = picture(1, 5, 4)
    filter = make(image, "spectral")
    filter.scale = factor * filter.scale
    form = SpectralTwicing(filter)
    assert float((form.estimate(image, 1) - filter.apply(image)).abs().max()) < 1e-12
    with refused(DivergenceError, r"eigenvalues reach from .* and twicing diverges outside \[0, 2\]"):
        form.estimate(image, 2)


@pytest.mark.parametrize("eigenvalue", [0.0, 0.01, 2.0])
def test_a_filter_with_its_eigenvalues_in_0_to_2_converges(eigenvalue):
    noisy = torch.ones(1, 2, 2, dtype=torch.float64)
    estimate = twicing(Diagonal(torch.full((2, 2), eigenvalue, dtype=torch.float64)), noisy, steps=500)
    assert torch.allclose(estimate, (1 - (1 - eigenvalue) ** 500) * noisy, rtol=0, atol=1e-12)


def test_the_discrepancy_stops_at_the_noise_level():
    """Residuals of 0.3, 0.2, 0.1, 0.05 of the same sign: the first not above σ."""
    noisy = picture(1, 5, 4)
    estimates = torch.stack([noisy - gap for gap in (0.3, 0.2, 0.1, 0.05)])
    for sigma, index in [(0.3001, 0), (0.2999, 1), (0.0999, 3)]:
        assert discrepancy_stop(estimates, noisy, sigma) == index
    with refused(ValueError, "the residual, 0.0500 at least, never falls to sigma = 0.0400; take more steps"):
        discrepancy_stop(estimates, noisy, 0.04)


@pytest.mark.parametrize(("last", "count"), [(1, 60), (37, 60), (5000, 7)])
def test_the_grid_of_steps(last, count):
    """Increasing whole numbers from 1 to the last, in about equal ratios."""
    grid = step_grid(last, count)
    assert grid[0] == 1
    assert grid[-1] == last
    assert all(isinstance(k, int) and a < k for a, k in zip([0, *grid], grid, strict=False))
    assert len(grid) <= count
    ratio = last ** (1 / (count - 1))
    # Rounding moves each of two neighbours by a half.
    assert all((b - 0.5) / (a + 0.5) <= ratio * (1 + 1e-9) for a, b in pairwise(grid))


# ------------------------------------------------------------------------------------------------- doors


@pytest.mark.parametrize("steps", [[1, 2.5], -1, [], [1, 1]])
def test_steps_that_do_not_increase_are_refused(steps):
    image = picture(1, 5, 4)
    filter = make(image, "rows")
    for call in (lambda: twicing(filter, image, steps=steps), lambda: SpectralTwicing(filter).gains(steps)):
        with refused(ValueError, "steps must be a whole number (and at least 0|or an increasing list)"):
            call()


def test_gradients_are_kept():
    """Of the iteration and of the closed form, whose filter does not depend on the picture."""
    filter = make(picture(1, 4, 5), "rows")
    y = picture(1, 4, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: twicing(filter, y, steps=3), y)
    assert torch.autograd.gradcheck(lambda y: SpectralTwicing(filter).estimate(y, 3), y)


def test_pictures_and_pixels_of_another_size_are_refused():
    image, other = picture(1, 5, 4), picture(1, 4, 5)
    form = SpectralTwicing(make(image, "rows"))
    for closed in (form.estimate, form.bias_squared):
        with refused(PictureError, r"must have the shape of the filter, \(5, 4\), got \(4, 5\)"):
            closed(other, 1)
    with refused(IndexError, r"pixel \(5, 0\) lies outside the picture of 5×4 pixels"):
        form.row((5, 0), 3)


def test_one_estimate_where_a_stack_is_wanted_is_refused():
    """Channels would be taken for steps or draws."""
    image = picture(3, 5, 4)
    for estimates in (image, image[None, None]):
        with refused(PictureError, r"estimates must have the shape of a stack of pictures, \(., 3, 5, 4\)"):
            discrepancy_stop(estimates, image, 0.1)
    for estimates in (image, image[None]):
        with refused(ValueError, "a variance needs at least two draws of the noise, got 1"):
            measured_bias_variance(estimates, image)
    for divergence in (torch.ones(3), torch.tensor(1.0)):
        with refused(PictureError, "divergence must have the shape of the stack of estimates"):
            sure(torch.stack([image, image]), image, 0.1, divergence)


def test_estimates_of_another_shape_or_not_finite_are_refused():
    image = picture(1, 5, 4)
    for call in (
        lambda estimates, y: sure(estimates, y, 0.1, torch.ones(2)),
        lambda estimates, y: discrepancy_stop(estimates, y, 0.1),
        measured_bias_variance,
    ):
        with refused(PictureError, r"each of the estimates .*shape of \w+, \(3, 5, 4\), got \(1, 5, 4\)"):
            call(torch.stack([image, image]), image.expand(3, 5, 4))
        with refused(PictureError, "estimates holds 20 values that are NaN or infinite"):
            call(torch.stack([image, math.nan * image]), image)


@pytest.mark.parametrize("option", [{"probes": 0}, {"epsilon": 0.0}])
def test_probes_and_steps_of_nothing_are_refused(option):
    (name,) = option
    with refused(ValueError, f"{name} must be"):
        monte_carlo_divergence(lambda y: y, picture(1, 5, 4), generator=generator(0), **option)
