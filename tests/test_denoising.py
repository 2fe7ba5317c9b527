"""The one call for a reader's own picture: its stop against the oracle's, its ways, and what it refuses."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from dipfilters import (
    KernelFilter,
    PictureError,
    SpectralTwicing,
    TangentFilter,
    add_noise,
    autoencoder,
    denoise,
    denoising,
    load_image,
    one_layer_tangent_kernel,
    psnr,
    step_grid,
    vanilla,
)
from dipfilters.denoising import TimeBudgetError, check_time, tiles
from dipfilters.engines import batched
from dipfilters.filters import MemoryBudgetError
from tests.samples import annotations_off, flat_and_textured, generator, picture, refused

SIGMA = 25 / 255


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """So that a small picture has several, and no limit on a busy machine."""
    monkeypatch.setattr(denoising, "_BUDGET_S", 1e6)
    monkeypatch.setattr(denoising, "_TILE", 32)
    monkeypatch.setattr(denoising, "_OVERLAP", 8)


def noisy_and_clean(name, size, gray=True):
    clean = load_image(name, size=size, gray=gray)
    return add_noise(clean, SIGMA, generator=generator(3)), clean


@pytest.mark.parametrize("name", ["camera", "astronaut"])
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "tiles"])
def test_the_stop_is_within_three_tenths_of_a_decibel_of_the_oracles(name, exact):
    """The oracle has the dense closed form of one hidden layer for the whole picture, and the clean one."""
    noisy, clean = noisy_and_clean(name, 40)
    found = denoise(noisy, SIGMA, architecture=vanilla(1, 7), exact=exact, progress=False)
    W = KernelFilter(noisy, one_layer_tangent_kernel(), patch_size=7, normalize="spectral")
    oracle = max(psnr(z, clean) for z in SpectralTwicing(W).estimate(noisy, step_grid(30_000, 60)))
    assert psnr(found.picture, clean) > oracle - 0.3
    assert (found.tile, len(found.steps)) == ((None, 1) if exact else ((32, 32), 4))


def test_an_exact_result_is_that_of_the_closed_form():
    noisy, clean = noisy_and_clean("camera", 32)
    found = denoise(noisy, SIGMA, architecture=vanilla(1, 5), exact=True, progress=False)
    W = KernelFilter(noisy, one_layer_tangent_kernel(), patch_size=5, normalize="spectral")
    closed = SpectralTwicing(W).estimate(noisy, found.steps[0])
    # 1e-4 of Lanczos; products in float32 are right to 1e-6 λ_max ‖v‖, times what k steps make of it.
    assert float((found.picture - closed).norm() / closed.norm()) < 2e-4
    error = float((found.picture - clean).square().mean())
    # SURE's own scatter, σ² √(2/N) for the noise and as much for the divergence: 4e-4 at N = 1024.
    assert abs(found.risk - error) < 3 * 2 * SIGMA**2 * (2 / 1024) ** 0.5


def test_colours_types_and_the_same_numbers_twice():
    noisy, clean = noisy_and_clean("coffee", 36, gray=False)
    first, again = (denoise(noisy, SIGMA, architecture=vanilla(1, 5), progress=False) for _ in range(2))
    assert first.picture.shape == noisy.shape
    assert first.picture.dtype == noisy.dtype
    assert torch.equal(first.picture, again.picture)
    assert first.steps == again.steps
    assert psnr(first.picture, clean) > psnr(noisy, clean) + 2
    error = float((first.picture - clean).square().mean())
    assert abs(first.risk - error) < 3 * 2 * SIGMA**2 * (2 / noisy.numel()) ** 0.5
    least, most = min(first.steps), max(first.steps)
    told = f"{least} to {most} steps in 4 tiles of 32×32 pixels, sigma = 25.0/255, in "
    assert first.describe().startswith(told)


def test_little_noise_is_given_more_steps():
    """At a tenth of the noise the best step comes later than the first list of steps reaches."""
    clean = load_image("camera", size=32, gray=True)
    noisy = add_noise(clean, SIGMA / 10, generator=generator(0))
    found = denoise(noisy, SIGMA / 10, architecture=vanilla(1, 5), exact=True, progress=False)
    assert found.steps[0] > 2_000
    assert psnr(found.picture, clean) > psnr(noisy, clean)


def test_networks_that_do_not_pad_once_are_taken_by_their_dense_kernel():
    noisy = add_noise(flat_and_textured(1, 16, 12), SIGMA, generator=generator(0))
    network = autoencoder(1, 3)
    found = denoise(noisy, SIGMA, architecture=network, progress=False)
    closed = SpectralTwicing(TangentFilter(noisy, network)).estimate(noisy, found.steps[0])
    assert float((found.picture - closed).norm() / closed.norm()) < 1e-4


def test_the_bar_speaks_to_stderr_only_when_asked(capsys):
    noisy, _ = noisy_and_clean("camera", 16)
    denoise(noisy, SIGMA, architecture=vanilla(1, 3), progress=False)
    assert capsys.readouterr().err == ""
    denoise(noisy, SIGMA, architecture=vanilla(1, 3))
    assert "denoising: 100%" in capsys.readouterr().err


def test_black_parts_stay_black():
    """As behind a planet, or on a scanner's margin: between them the kernel is 0, and makes no filter."""
    noisy = add_noise(flat_and_textured(1, 32, 80), SIGMA, generator=generator(0))
    noisy[:, :, 40:] = 0.0
    found = denoise(noisy, SIGMA, architecture=vanilla(1, 3), progress=False)
    assert len(found.steps) == 3
    assert bool(found.picture.isfinite().all())
    assert float(found.picture[:, :, 56:].abs().max()) == 0.0


# ------------------------------------------------------------------------------------------------ tiles


@pytest.mark.parametrize("shape", [(1, 1), (20, 32), (33, 32), (37, 1000), (512, 512), (2000, 3000)])
def test_tiles_cover_a_picture_and_overlap(shape):
    covered = torch.zeros(shape, dtype=torch.int)
    parts = tiles(shape, 32)
    for rows, columns in parts:
        assert covered[rows, columns].shape == (min(32, shape[0]), min(32, shape[1]))
        covered[rows, columns] += 1
    assert int(covered.min()) == 1
    for axis, length in enumerate(shape):
        starts = sorted({part[axis].start for part in parts})
        assert all(8 <= 32 - (after - before) < 32 for before, after in itertools.pairwise(starts))
        # No more than needed: one tile less could not overlap so far.
        assert (len(starts) - 1) * 24 + 8 < max(length, 9)


@pytest.mark.parametrize("padding", ["reflect", "circular", "zero"])
def test_a_network_that_sees_farther_than_a_tile_gets_larger_ones(monkeypatch, padding):
    """Of a tile no larger than the radius nothing could be padded, but of the picture it can."""
    monkeypatch.setattr(denoising, "_TILE", 12)
    monkeypatch.setattr(denoising, "_OVERLAP", 4)
    monkeypatch.setattr(denoising, "_TRIAL_SIDE", 4)
    noisy = add_noise(flat_and_textured(1, 20, 50), SIGMA, generator=generator(0))
    network = vanilla(1, 27, padding=padding)
    found = denoise(noisy, SIGMA, architecture=network, progress=False)
    assert found.tile == ((12, 12) if padding == "zero" else (20, 24))
    assert denoise(noisy, SIGMA, architecture=network, exact=True, budget_s=1e6, progress=False).tile is None


# ------------------------------------------------------------------------------------- seconds and sigma


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only in what stands for the work: it takes what the kernel's size says."""
    now, each = [0.0], [0.0]

    def stopped(part, probe, sigma, network, memory_gb, left_gb):
        now[0] += each[0] * float(part[0].numel()) ** 2
        return denoising._Stopped(part, torch.zeros_like(part), 1)

    monkeypatch.setattr(denoising, "perf_counter", lambda: now[0])
    monkeypatch.setattr(denoising, "_stopped", stopped)
    return each


def test_black_tiles_tell_nothing_of_the_time(clock):
    noisy = torch.zeros(1, 400, 400)
    noisy[:, :80, :80] = torch.rand(1, 80, 80, generator=generator(0))
    clock[0] = 1.0 / 48**4
    trials, share = denoising._trials(noisy, denoising.tiles((400, 400), 48), 96, 1)
    assert all(bool(noisy[:, *trial].any()) for trial in trials)
    assert share == len(trials) / 9


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "tiles"])
@pytest.mark.parametrize("shape", [(1, 37, 1000), (3, 512, 512), (3, 2000, 3000)])
def test_a_budget_holds_or_what_would_is_said_at_once(clock, shape, exact):
    noisy = torch.rand(shape, generator=generator(0))
    side = 96 if exact else 32
    clock[0] = 1.0 / (min(37, side) if shape[1] == 37 else side) ** 2 / side**2  # a trial takes a second
    options: Any = {"exact": exact, "memory_gb": 100.0, "progress": False}
    with annotations_off(), pytest.raises(TimeBudgetError) as error:
        denoise(noisy, 0.1, budget_s=40, **options)
    told = re.fullmatch(
        rf"this takes about \S+ s for {shape[1]}×{shape[2]} pixels here, over budget_s = 40; allow "
        r"budget_s = (\d+), or take a part of (\d+)×(\d+) pixels",
        str(error.value),
    )
    assert told is not None
    budget = float(told[1])
    found = denoise(noisy, 0.1, budget_s=budget, **options)
    assert budget / 1.5 < found.seconds <= budget
    assert torch.allclose(found.picture, noisy, rtol=1e-6, atol=0)  # the windows sum to one


def test_the_part_that_is_said_to_fit_does():
    for power, seconds in ((2, 200.0), (4, 3000.0)):
        with pytest.raises(TimeBudgetError, match="or take a part of") as error:
            check_time(2.0, seconds, (600, 900), 20.0, power)
        told = re.search(r"(\d+)×(\d+) pixels$", str(error.value))
        assert told is not None
        height, width = map(int, told.groups())
        assert 0.7 < (2.0 + seconds * (height * width / (600 * 900)) ** (power / 2)) / 20.0 < 0.81
    check_time(2.0, 18.0, (600, 900), 20.0, 2)
    with refused(TimeBudgetError, r"over budget_s = 19.9; allow budget_s = 25$"):
        check_time(17.0, 3.0, (600, 900), 19.9, 2)


def test_the_probe_is_not_the_noise_of_the_same_seed():
    """Who draws noise with the seed that denoise has by default gets the stop of any other seed."""
    clean = load_image("chelsea", size=64).double()
    noisy = add_noise(clean, SIGMA, generator=generator(0))
    values = [
        psnr(denoise(noisy, SIGMA, architecture=vanilla(1, 7), seed=seed, progress=False).picture, clean)
        for seed in (0, 1, 2)
    ]
    assert max(values) - min(values) < 0.1


def test_tiles_side_by_side_are_those_of_one_thread():
    """To the last bit, whatever the number of threads, which is as it was afterwards."""
    noisy, _ = noisy_and_clean("camera", 80)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            found.append(denoise(noisy, SIGMA, architecture=vanilla(1, 3), progress=False))
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(1)
    assert torch.equal(found[0].picture, found[1].picture)


def test_real_seconds_are_measured():
    """No clock is as fast as the one budget, nor as slow as the other."""
    noisy, _ = noisy_and_clean("camera", 24)
    for exact in (True, False):
        options: Any = {"architecture": vanilla(1, 3), "exact": exact, "progress": False}
        with refused(TimeBudgetError, "over budget_s = 1e-09; allow budget_s = "):
            denoise(noisy, SIGMA, budget_s=1e-9, **options)
        assert denoise(noisy, SIGMA, budget_s=1e6, **options).seconds > 0


@pytest.mark.parametrize("level", [5, 25, 50])
def test_sigma_is_estimated_where_it_is_not_given(level):
    """Fine texture counts as noise: up to 10 % at 25, as scikit-image's median of wavelets has it."""
    clean = load_image("chelsea", size=128)
    noisy = add_noise(clean[:, :64, :64], level / 255, generator=generator(1))
    found = denoise(noisy, architecture=vanilla(1, 3), progress=False)
    assert found.estimated
    assert 0.9 * level < 255 * found.sigma < 1.25 * level
    assert f"estimated sigma = {255 * found.sigma:.1f}/255" in found.describe()


def test_a_description_says_what_speaks_against_sigma():
    noisy, _ = noisy_and_clean("camera", 24)
    found = denoise(noisy, 4 * SIGMA, architecture=vanilla(1, 3), progress=False)
    plain = replace(found, risk=1.0, correlation=0.0, finest=found.sigma)
    assert replace(plain, risk=-1.0).describe().count("too large or of noise that is not white") == 1
    assert (
        "neighbours in what was taken away correlate by 0.06" in replace(plain, correlation=0.06).describe()
    )
    assert "perhaps too small" in replace(plain, steps=(3, 200_000)).describe()
    assert "perhaps too small" in replace(plain, finest=1.3 * found.sigma).describe()
    assert "2% of the values are clipped" in replace(plain, clipped=0.02).describe()
    assert "too" not in plain.describe()


def test_what_cannot_be_denoised_is_refused():
    noisy = picture(1, 16, 16)
    with refused(ValueError, "sigma must be positive, got 0"):
        denoise(noisy, 0.0)
    with refused(ValueError, "sigma was estimated as .*, of a picture without noise perhaps; give sigma"):
        denoise(torch.full((1, 16, 16), 0.5))
    with refused(PictureError, r"noisy must lie about \[0, 1\], got .* to 24\d.*; divide bytes by 255"):
        denoise(255 * noisy, 0.1)
    for budget in ("budget_s", "memory_gb"):
        with refused(ValueError, f"{budget} must be positive and finite, got nan"):
            options: Any = {budget: math.nan}
            denoise(noisy, 0.1, **options)
    with refused(PictureError, "16×16 pixels are too few for reflect padding by 20"):
        denoise(noisy, 0.1, architecture=vanilla(1, 41))


@pytest.mark.parametrize("architecture", [vanilla(1, 3), autoencoder(1, 3)], ids=["pads once", "does not"])
@pytest.mark.parametrize(("exact", "needed"), [(True, "0.0105"), (False, "0.00282")])
def test_a_picture_beyond_the_memory_is_refused_on_every_path(architecture, exact, needed):
    """64 bytes a pixel of the picture, 2500 a pixel of a tile."""
    noisy = picture(1, 64, 64)
    with refused(
        MemoryBudgetError, f"this takes {needed} GB for 64×64 pixels, over memory_gb = 0.001; .*raise memory"
    ):
        denoise(noisy, 0.1, architecture=architecture, exact=exact, memory_gb=0.001)
    if not architecture.pad_once:  # beside the rest, the kernel
        with refused(MemoryBudgetError, "over budget_gb = 0.05"):
            denoise(noisy, 0.1, architecture=architecture, exact=exact, memory_gb=0.05)


# ----------------------------------------------------------------------------------- a card's memory


@pytest.fixture
def card(monkeypatch):
    """The engine for a card, on the processor, with a memory for so many entries of a plane at a time."""
    asked: list[int] = []
    plain, original = batched._batches, denoising._filter

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

    monkeypatch.setattr(denoising, "_filter", on_card)
    return with_memory


def test_where_a_cards_memory_runs_out_pieces_get_smaller(card):
    noisy = add_noise(flat_and_textured(1, 20, 18), 0.1, generator=generator(0))
    options: Any = {"architecture": vanilla(1, 5), "exact": True, "progress": False}
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
        denoise(noisy, 0.1, architecture=vanilla(1, 5), exact=True, progress=False)
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
