"""The blur and the Wiener filter: against SciPy, and against all other filters of their kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter

from dipfilters import PictureError, SpectralTwicing, psnr, twicing
from dipfilters.shift_invariant import CosineFilter, gaussian_blur, wiener
from tests.samples import flat_and_textured, generator, picture, refused


def test_a_filter_multiplies_the_cosine_coefficients_and_is_symmetric():
    gains, image = picture(1, 6, 9, seed=3)[0], picture(2, 6, 9)
    filter = CosineFilter(gains)
    coefficients = dctn(image.numpy(), axes=(1, 2), norm="ortho") * gains.numpy()
    expected = torch.from_numpy(idctn(coefficients, axes=(1, 2), norm="ortho"))
    assert torch.allclose(filter.apply(image), expected, rtol=0, atol=1e-13)
    matrix = filter.dense()
    assert torch.allclose(matrix, matrix.T, rtol=0, atol=1e-13)
    assert torch.allclose(filter._kernel_diagonal(), matrix.diagonal(), rtol=0, atol=1e-13)
    eigenvalues = gains.flatten().sort(descending=True).values
    assert torch.allclose(filter.decomposition().eigenvalues, eigenvalues, rtol=0, atol=1e-12)
    path = SpectralTwicing(filter).estimate(image, [1, 7])
    assert torch.allclose(path, twicing(filter, image, steps=[1, 7]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("spread", [1.5, 3.0])
def test_the_blur_is_a_gaussian_with_a_mirrored_border(spread):
    """A Gaussian on the grid and one in frequency differ by what aliases: e^(−π²s²/2), 2e-5 at s = 1.5."""
    image = picture(2, 20, 31)
    expected = gaussian_filter(image.numpy(), (0, spread, spread), mode="reflect", truncate=8)
    found = gaussian_blur((20, 31), spread).apply(image).numpy()
    assert np.abs(found - expected).max() < 2e-5


def test_the_wiener_filter_is_the_best_whose_gain_is_that_of_a_ring():
    """On average over the noise, ‖(g − 1) X‖² + σ² ‖g‖² within one ring is least at its gain."""
    clean, sigma = flat_and_textured(1, 24, 18), 0.1
    filter = wiener(clean, sigma)
    coefficients = torch.from_numpy(dctn(clean[0].numpy(), norm="ortho"))
    down, across = torch.meshgrid(torch.arange(24) / 48, torch.arange(18) / 36, indexing="ij")
    rings = (48 * torch.hypot(down, across)).round()

    def risk(gains: torch.Tensor) -> float:
        return float(((gains - 1) * coefficients).square().sum() + sigma**2 * gains.square().sum())

    least = risk(filter.gains)
    for ring in rings.unique():
        inside = filter.gains[rings == ring]
        assert float(inside.max() - inside.min()) == 0
        for change in (-1e-3, 1e-3):
            assert risk(filter.gains + change * (rings == ring)) > least
    noisy = clean + sigma * torch.randn(clean.shape, generator=generator(0), dtype=torch.float64)
    blurs = [psnr(gaussian_blur((24, 18), s).apply(noisy), clean) for s in np.geomspace(0.3, 3, 20)]
    assert psnr(filter.apply(noisy), clean) > max(blurs)
    assert float(wiener(clean, 0.0).apply(noisy).sub(noisy).abs().max()) < 1e-12


def test_what_makes_no_filter_is_refused():
    with refused(ValueError, "spread must be positive and finite, got 0.0"):
        gaussian_blur((4, 4), 0.0)
    with refused(ValueError, "sigma must lie in .* got 25; for 25 write 25/255"):
        wiener(picture(1, 4, 4), 25)
    with refused(PictureError, "clean must have shape"):
        wiener(picture(1, 4, 4)[0], 0.1)
    with refused(PictureError, "clean requires a gradient"):
        wiener(picture(1, 4, 4).requires_grad_(), 0.1)
    with refused(PictureError, "gains requires a gradient"):
        CosineFilter(picture(1, 4, 4)[0].requires_grad_())
