"""The one call for a reader's own picture: its stop against the oracle's, its ways, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from dipfilters import (
    KernelFilter,
    PictureError,
    SpectralTwicing,
    add_noise,
    autoencoder,
    denoise,
    load_image,
    one_layer_tangent_kernel,
    psnr,
    step_grid,
    vanilla,
)
from dipfilters.filters import MemoryBudgetError
from tests.samples import flat_and_textured, generator, picture, refused

SIGMA = 25 / 255


def noisy_and_clean(name, size=48, gray=True):
    clean = load_image(name, size=size, gray=gray)
    return add_noise(clean, SIGMA, generator=generator(3)), clean


@pytest.mark.parametrize("name", ["camera", "astronaut", "chelsea"])
@pytest.mark.parametrize("budget_s", [1e9, 0.0], ids=["exact", "low rank"])
def test_the_stop_is_within_three_tenths_of_a_decibel_of_the_oracles(name, budget_s):
    """The oracle has the dense closed form of one hidden layer and the clean picture."""
    noisy, clean = noisy_and_clean(name)
    found = denoise(noisy, SIGMA, architecture=vanilla(1, 7), budget_s=budget_s, progress=False)
    W = KernelFilter(noisy, one_layer_tangent_kernel(), patch_size=7, normalize="spectral")
    oracle = max(psnr(z, clean) for z in SpectralTwicing(W).estimate(noisy, step_grid(30_000, 60)))
    assert psnr(found.picture, clean) > oracle - 0.3
    assert found.method == ("exact" if budget_s else "low rank")
    assert found.columns == (None if budget_s else 200)


def test_an_exact_result_is_that_of_the_closed_form():
    noisy, clean = noisy_and_clean("camera", 32)
    found = denoise(noisy, SIGMA, architecture=vanilla(1, 5), budget_s=1e9, progress=False)
    W = KernelFilter(noisy, one_layer_tangent_kernel(), patch_size=5, normalize="spectral")
    closed = SpectralTwicing(W).estimate(noisy, found.steps)
    # 1e-5 of Lanczos; products of the walk are right to 1e-6, times what k steps make of it.
    assert float((found.picture - closed).norm() / closed.norm()) < 1e-4
    error = float((found.picture - clean).square().mean())
    # SURE's own scatter, σ² √(2/N) for the noise and as much for the divergence: 4e-4 at N = 1024.
    assert abs(found.risk - error) < 3 * 2 * SIGMA**2 * (2 / 1024) ** 0.5


def test_colours_types_and_the_same_numbers_twice():
    noisy, clean = noisy_and_clean("coffee", 32, gray=False)
    first, again = (denoise(noisy, SIGMA, architecture=vanilla(1, 5), progress=False) for _ in range(2))
    assert first.picture.shape == noisy.shape
    assert first.picture.dtype == noisy.dtype
    assert torch.equal(first.picture, again.picture)
    assert first.steps == again.steps
    assert psnr(first.picture, clean) > psnr(noisy, clean) + 3
    assert f"{first.steps} steps of twicing, computed exactly" in first.describe()


def test_little_noise_is_given_more_steps():
    """At a tenth of the noise the best step comes later than the first list of steps reaches."""
    clean = load_image("camera", size=32, gray=True)
    noisy = add_noise(clean, SIGMA / 10, generator=generator(0))
    found = denoise(noisy, SIGMA / 10, architecture=vanilla(1, 5), budget_s=1e9, progress=False)
    assert found.steps > 3_000
    assert psnr(found.picture, clean) > psnr(noisy, clean)


def test_networks_that_do_not_pad_once_are_taken_by_their_dense_kernel():
    noisy = add_noise(flat_and_textured(1, 16, 12), SIGMA, generator=generator(0))
    found = denoise(noisy, SIGMA, architecture=autoencoder(1, 3), budget_s=0.0, progress=False)
    assert found.method == "exact"
    assert float((found.picture - noisy).norm()) > 0


def test_the_bar_speaks_to_stderr_only_when_asked(capsys):
    noisy, _ = noisy_and_clean("camera", 24)
    denoise(noisy, SIGMA, architecture=vanilla(1, 3), progress=False)
    assert capsys.readouterr().err == ""
    denoise(noisy, SIGMA, architecture=vanilla(1, 3))
    assert "denoising" in capsys.readouterr().err


def test_what_cannot_be_denoised_is_refused():
    noisy = picture(1, 16, 16)
    with refused(ValueError, r"sigma must lie in \[0, 1\], .* got 25; for 25 write 25/255"):
        denoise(noisy, 25)
    with refused(ValueError, "sigma must be positive, got 0"):
        denoise(noisy, 0.0)
    with refused(ValueError, "budget_s must be a number of seconds ≥ 0, got -1"):
        denoise(noisy, 0.1, budget_s=-1)
    with refused(PictureError, "noisy must have shape"):
        denoise(torch.zeros(16, 16), 0.1)
    with refused(PictureError, "too few for reflect padding by 20"):
        denoise(noisy, 0.1, architecture=vanilla(1, 41))


def test_a_picture_beyond_the_memory_is_refused_with_what_it_needs():
    """64²·9 patches of 8 bytes and 200 columns of 32 bytes: 0.0265 GB."""
    noisy = picture(1, 64, 64)
    with refused(MemoryBudgetError, "64×64 pixels need 0.0265 GB, over memory_gb = 0.001; denoise parts"):
        denoise(noisy, 0.1, architecture=vanilla(1, 3), budget_s=0.0, memory_gb=0.001)
