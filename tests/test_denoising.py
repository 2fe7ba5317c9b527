"""The one call for a reader's own picture: its stop against the oracle's, its ways, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import dipfilters
from dipfilters import (
    KernelFilter,
    PictureError,
    SpectralTwicing,
    TangentFilter,
    add_noise,
    autoencoder,
    denoise,
    load_image,
    one_layer_tangent_kernel,
    psnr,
    step_grid,
    vanilla,
)
from dipfilters.engines import batched
from dipfilters.filters import MemoryBudgetError
from tests.samples import flat_and_textured, generator, picture, refused

SIGMA = 25 / 255
EXACT, LOW_RANK = 1e9, 1e-9  # seconds allowed


def noisy_and_clean(name, size, gray=True):
    clean = load_image(name, size=size, gray=gray)
    return add_noise(clean, SIGMA, generator=generator(3)), clean


@pytest.mark.parametrize("name", ["camera", "astronaut"])
@pytest.mark.parametrize("budget_s", [EXACT, LOW_RANK], ids=["exact", "low rank"])
def test_the_stop_is_within_three_tenths_of_a_decibel_of_the_oracles(name, budget_s):
    """The oracle has the dense closed form of one hidden layer and the clean picture."""
    noisy, clean = noisy_and_clean(name, 40)
    found = denoise(noisy, SIGMA, architecture=vanilla(1, 7), budget_s=budget_s, progress=False)
    W = KernelFilter(noisy, one_layer_tangent_kernel(), patch_size=7, normalize="spectral")
    oracle = max(psnr(z, clean) for z in SpectralTwicing(W).estimate(noisy, step_grid(30_000, 60)))
    assert psnr(found.picture, clean) > oracle - 0.3
    assert found.columns == (None if budget_s == EXACT else 200)


def test_an_exact_result_is_that_of_the_closed_form():
    noisy, clean = noisy_and_clean("camera", 32)
    found = denoise(noisy, SIGMA, architecture=vanilla(1, 5), budget_s=EXACT, progress=False)
    W = KernelFilter(noisy, one_layer_tangent_kernel(), patch_size=5, normalize="spectral")
    closed = SpectralTwicing(W).estimate(noisy, found.steps)
    # 1e-5 of Lanczos; products in float32 are right to 1e-6 λ_max ‖v‖, times what k steps make of it.
    assert float((found.picture - closed).norm() / closed.norm()) < 1e-4
    error = float((found.picture - clean).square().mean())
    # SURE's own scatter, σ² √(2/N) for the noise and as much for the divergence: 4e-4 at N = 1024.
    assert abs(found.risk - error) < 3 * 2 * SIGMA**2 * (2 / 1024) ** 0.5


def test_colours_types_and_the_same_numbers_twice():
    noisy, clean = noisy_and_clean("coffee", 24, gray=False)
    first, again = (denoise(noisy, SIGMA, architecture=vanilla(1, 5), progress=False) for _ in range(2))
    assert first.picture.shape == noisy.shape
    assert first.picture.dtype == noisy.dtype
    assert torch.equal(first.picture, again.picture)
    assert first.steps == again.steps
    assert psnr(first.picture, clean) > psnr(noisy, clean) + 2
    assert f"{first.steps} steps of twicing, computed exactly" in first.describe()


def test_little_noise_is_given_more_steps():
    """At a tenth of the noise the best step comes later than the first list of steps reaches."""
    clean = load_image("camera", size=32, gray=True)
    noisy = add_noise(clean, SIGMA / 10, generator=generator(0))
    found = denoise(noisy, SIGMA / 10, architecture=vanilla(1, 5), budget_s=EXACT, progress=False)
    assert found.steps > 3_000
    assert psnr(found.picture, clean) > psnr(noisy, clean)


def test_networks_that_do_not_pad_once_are_taken_by_their_dense_kernel():
    noisy = add_noise(flat_and_textured(1, 16, 12), SIGMA, generator=generator(0))
    found = denoise(noisy, SIGMA, architecture=autoencoder(1, 3), budget_s=LOW_RANK, progress=False)
    assert found.columns is None
    assert float((found.picture - noisy).norm()) > 0


def test_the_bar_speaks_to_stderr_only_when_asked(capsys):
    noisy, _ = noisy_and_clean("camera", 16)
    denoise(noisy, SIGMA, architecture=vanilla(1, 3), progress=False)
    assert capsys.readouterr().err == ""
    denoise(noisy, SIGMA, architecture=vanilla(1, 3))
    assert "denoising" in capsys.readouterr().err


@pytest.mark.parametrize("padding", ["reflect", "circular", "zero"])
def test_the_trial_takes_what_the_work_takes(monkeypatch, padding):
    """Of a part smaller than the radius nothing could be padded, but of the picture itself it can."""
    monkeypatch.setattr(dipfilters.denoising, "_TRIAL_SIDE", 4)
    noisy = add_noise(flat_and_textured(1, 17, 20), SIGMA, generator=generator(0))
    network = vanilla(1, 31, padding=padding)
    assert denoise(noisy, SIGMA, architecture=network, progress=False).picture.shape == noisy.shape
    narrow = noisy[:, :9]
    TangentFilter(narrow, vanilla(1, 17, padding=padding))  # takes it
    denoise(narrow, SIGMA, architecture=vanilla(1, 17, padding=padding), progress=False)


def test_what_cannot_be_denoised_is_refused():
    noisy = picture(1, 16, 16)
    with refused(ValueError, "sigma must be positive, got 0"):
        denoise(noisy, 0.0)
    for budget in ("budget_s", "memory_gb"):
        with refused(ValueError, f"{budget} must be positive and finite, got nan"):
            options: Any = {budget: math.nan}
            denoise(noisy, 0.1, **options)
    with refused(PictureError, "too few for reflect padding by 20"):
        denoise(noisy, 0.1, architecture=vanilla(1, 41))


@pytest.mark.parametrize(
    ("architecture", "budget_s", "needed"),
    [
        (vanilla(1, 3), LOW_RANK, 0.0265),  # 64²·9 patches of 8 bytes and 200 columns of 32
        (vanilla(1, 3), EXACT, 0.0102),  # 2500 bytes a pixel
        (autoencoder(1, 3), EXACT, 0.0102),
    ],
)
def test_a_picture_beyond_the_memory_is_refused_on_every_path(architecture, budget_s, needed):
    noisy = picture(1, 64, 64)
    with refused(
        MemoryBudgetError, f"this takes {needed} GB for 64×64 pixels, over memory_gb = 0.001; .*raise memory"
    ):
        denoise(noisy, 0.1, architecture=architecture, budget_s=budget_s, memory_gb=0.001)
    if not architecture.pad_once:  # beside the rest, the kernel
        with refused(MemoryBudgetError, "this takes 1.07 GB for 64×64 pixels, over budget_gb = 0.5"):
            denoise(noisy, 0.1, architecture=architecture, memory_gb=0.5)


# ----------------------------------------------------------------------------------- a card's memory


@pytest.fixture
def card(monkeypatch):
    """The engine for a card, on the processor, with a memory for so many entries of a plane at a time."""
    asked: list[int] = []
    plain, original = batched._batches, dipfilters.denoising._filter

    def with_memory(held: int) -> list[int]:
        def batches(program, padded, dtype, entries):
            asked.append(entries)
            if entries > held:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return plain(program, padded, dtype, entries)

        monkeypatch.setattr(batched, "_batches", batches)
        return asked

    def on_card(picture, architecture, normalize, memory_gb):
        filter = original(picture, architecture, normalize, memory_gb)
        filter.engine = "batched"
        return filter

    monkeypatch.setattr(dipfilters.denoising, "_filter", on_card)
    return with_memory


def test_where_a_cards_memory_runs_out_pieces_get_smaller(card):
    noisy = add_noise(flat_and_textured(1, 20, 18), 0.1, generator=generator(0))
    options: Any = {"architecture": vanilla(1, 5), "budget_s": EXACT, "progress": False}
    card(2**30)
    expected = denoise(noisy, 0.1, **options)
    asked = card(2**20)
    asked.clear()
    found = denoise(noisy, 0.1, **options)
    assert sorted(set(asked), reverse=True) == [2**24, 2**22, 2**20]
    # Other pieces, and so other sums: the error of products in float32.
    assert float((found.picture - expected.picture).abs().max()) < 1e-5
    assert found.steps == expected.steps


def test_where_nothing_fits_a_cards_memory_the_remedy_is_said(card):
    card(0)
    noisy = flat_and_textured(1, 20, 18)
    told = r"the memory of cpu ran out at 20×18 pixels; end what else uses it, take a smaller picture or"
    with refused(MemoryBudgetError, told):
        denoise(noisy, 0.1, architecture=vanilla(1, 5), budget_s=EXACT, progress=False)
    filter = KernelFilter(noisy, one_layer_tangent_kernel(), patch_size=5, normalize="rows", engine="batched")
    for work in (lambda: filter.apply(noisy), filter.dense, filter.decomposition):
        with refused(MemoryBudgetError, told):
            work()


def test_a_filters_own_matrix_is_made_in_smaller_pieces_too(card):
    filter = TangentFilter(flat_and_textured(1, 20, 18), vanilla(1, 5), engine="batched", normalize=1.0)
    card(2**30)
    expected = filter.dense()
    asked = card(2**20)
    asked.clear()
    assert torch.allclose(filter.dense(), expected, rtol=1e-6, atol=0)
    assert asked == [2**24, 2**22, 2**20]
