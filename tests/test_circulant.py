"""Noise-fed filters against dense kernels of a white input, many channels of noise and wide networks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from dipfilters import (
    CirculantTwicing,
    LanczosTwicing,
    NoiseFedFilter,
    PictureError,
    SpectralTwicing,
    TangentFilter,
    add_noise,
    autoencoder,
    build,
    discrepancy_stop,
    empirical_tangent_kernel,
    skip,
    step_grid,
    sure,
    tangent_kernel,
    vanilla,
)
from dipfilters.filters import MemoryBudgetError
from dipfilters.networks import (
    Activation,
    Architecture,
    ArchitectureError,
    Convolution,
    Pooling,
    Resampled,
    hour_glass,
)
from dipfilters.twicing import DivergenceError
from tests.engines.test_products import Held
from tests.filter_contract import FilterContract
from tests.samples import flat_and_textured, generator, picture, refused

C, A = Convolution, Activation(0.1)


def white(height: int, width: int) -> torch.Tensor:
    """An input of as many channels as pixels, √N times the identity: its covariance is the identity."""
    n = height * width
    return math.sqrt(n) * torch.eye(n, dtype=torch.float64).reshape(n, height, width)


class TestNoiseFed(FilterContract):
    """Blocks of 2×2 pixels, five by four of them, of which the dense kernel knows nothing."""

    image, architecture = picture(1, 10, 8), autoencoder(1, 3)
    kind: Any = "tangent"

    def make(self, normalize):
        shape = (self.image.shape[1], self.image.shape[2])
        return NoiseFedFilter(shape, self.architecture, normalize=normalize, parametrization=self.kind)

    def kernel(self):
        return tangent_kernel(
            self.architecture, white(*self.image.shape[1:]), parametrization=self.kind
        ).numpy()


class TestStrides(TestNoiseFed):
    """Blocks of 4×4 pixels, two by three; strides look from one side, so that K is no mirror image."""

    image, kind = picture(1, 8, 12), "standard"
    architecture = skip(2, 3, slope=0.2, down="stride", up="nearest", side_channels=0.25)


class TestNoResampling(TestNoiseFed):
    """Blocks of a pixel each: a constant and the identity, by a Fourier transform of the whole picture."""

    architecture = vanilla(2, 3, padding="circular")


# ----------------------------------------------------------------------------------- the dense kernel


@pytest.mark.parametrize("down", ["pool", "stride"])
@pytest.mark.parametrize("up", ["bilinear", "nearest"])
@pytest.mark.parametrize("merge", [None, "concatenate", "sum"])
def test_the_kernel_of_a_white_input_is_the_dense_one(down, up, merge):
    """Required is 1e-10; both are sums of the same numbers in nearly the same order."""
    options: dict[str, Any] = {"down": down, "up": up, "slope": 0.1}
    if merge is not None:
        options |= {"merge": merge, "side_channels": 1.0}
    for scales, size in ((2, 3), (1, 5)):
        network = autoencoder(scales, size, **options)
        for kind in ("tangent", "standard"):
            expected = tangent_kernel(network, white(16, 16), parametrization=kind)
            found = NoiseFedFilter((16, 16), network, normalize=1.0, parametrization=kind).dense()
            assert float((found - expected).abs().max()) < 1e-13 * float(expected.max())


TWO_WAYS = Architecture(
    (
        *(C(3), A),
        Resampled((C(5, 2), A, Resampled((Pooling(), C(3), A), "nearest"), C(1), A), "bilinear", (C(3), A)),
        *(C(1), A, C(1)),
    ),
    "circular",
)
DOWN = (Pooling(), C(3), A)
TWICE = Architecture(
    (*(C(3), A), Resampled(DOWN, "bilinear"), *(C(3), A), Resampled(DOWN, "bilinear"), C(1)), "circular"
)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (autoencoder(2, 3), (32, 32)),
        (autoencoder(3, 3), (88, 8)),
        (autoencoder(1, 3), (12, 18)),
        (autoencoder(1, 3, down="stride", up="nearest"), (20, 6)),
        (autoencoder(2, 3, up="nearest"), (36, 20)),
        (TWO_WAYS, (44, 12)),
        (TWICE, (24, 10)),
        (vanilla(2, 7, padding="circular"), (7, 31)),
    ],
)
def test_what_lies_beyond_the_tile_is_filled_in_without_an_error(network, shape):
    """Pictures larger than the tile along both axes or one, and one as large as its own tile."""
    filter = NoiseFedFilter(shape, network, normalize=1.0)
    expected = tangent_kernel(network, white(*shape))
    assert float((filter.dense() - expected).abs().max()) < 1e-13 * float(expected.max())
    y = picture(1, *shape)
    product = (expected @ y.flatten()).reshape(y.shape)
    assert float((filter.apply(y) - product).abs().max()) < 1e-13 * float(product.max())


# ---------------------------------------------------------------------------------- chance: what it limits


def test_noise_of_more_and_more_channels_comes_as_close_as_one_over_their_root():
    """Sixteenfold channels, a fourth of the error: over six draws of each the ratio was 3.84 to 4.09.

    Without row and column means: what is constant has one degree of freedom, and much luck.
    """
    network, mean_free = autoencoder(1, 3), torch.eye(144, dtype=torch.float64) - 1 / 144
    limit = mean_free @ NoiseFedFilter((12, 12), network, normalize=1.0).dense() @ mean_free
    errors = []
    for channels in (100, 1600):
        draws = torch.randn(6, channels, 12, 12, generator=generator(channels), dtype=torch.float64)
        kernels = torch.stack([tangent_kernel(network, noise) for noise in draws])
        errors.append(float((mean_free @ kernels @ mean_free - limit).norm() / limit.norm()) / 6**0.5)
    assert 3.5 < errors[0] / errors[1] < 4.5
    assert errors[1] < 0.02


@pytest.mark.parametrize("network", [autoencoder(1, 3), skip(1, 3, up="nearest", down="stride")])
def test_the_mean_kernel_of_many_wide_networks_with_their_own_noise(network):
    """48 networks of width 96 on 256 channels, between three pixels of two phases.

    Four standard errors of the mean, and 3/96 + 3/256 of the entry for the bias of finite widths.
    """
    pixels, numbers = [(0, 0), (0, 1), (5, 6)], [0, 1, 46]
    grams = []
    for seed in range(48):
        chance = generator(seed)
        noise = torch.randn(256, 8, 8, generator=chance)
        built = build(network, channels=256, width=96, outputs=1, generator=chance)
        grams.append(empirical_tangent_kernel(built, noise, pixels=pixels)[numbers].double())
    mean, error = torch.stack(grams).mean(0), torch.stack(grams).std(0) / math.sqrt(48)
    expected = NoiseFedFilter((8, 8), network, normalize=1.0).columns(pixels)[numbers]
    allowed = 4 * error + (3 / 96 + 3 / 256) * expected
    assert bool(((mean - expected).abs() < allowed).all())
    assert float((allowed / expected).max()) < 0.3


# --------------------------------------------------------------------------------------------- twicing

STEPS = [0, 1, 2, 30, 1000, 10**5, 10**7]


@pytest.mark.parametrize("shape", [(12, 16), (16, 12), (8, 12)])
def test_all_stopping_times_are_those_of_the_dense_decomposition(shape):
    """Blocks three by four, four by three, two by one: with frequencies that are their own mirror image.

    An eigenvalue is right to 1e-15, and k steps make k times that of it where they still change anything.
    """
    network = skip(2, 3, side_channels=0.5)
    blocks = CirculantTwicing(NoiseFedFilter(shape, network))
    dense = SpectralTwicing(TangentFilter(white(*shape), network))
    assert torch.allclose(blocks.eigenvalues, dense.eigenvalues, rtol=0, atol=1e-14)
    y = picture(3, *shape)
    found, expected = blocks.estimate(y, STEPS), dense.estimate(y, STEPS)
    assert found.shape == (7, 3, *shape)
    assert float((found - expected).abs().max()) < 1e-8
    assert float((found[:5] - expected[:5]).abs().max()) < 1e-11
    assert torch.equal(blocks.estimate(y, 30), blocks.estimate(y, [30])[0])
    assert blocks.estimate(y.float(), 30).dtype == torch.float32
    for pixel in ((0, 0), (5, 2), (shape[0] - 1, shape[1] - 1)):
        assert float((blocks.row(pixel, 300) - dense.row(pixel, 300)).abs().max()) < 1e-12
    assert torch.allclose(blocks.degrees_of_freedom(STEPS), dense.degrees_of_freedom(STEPS), rtol=1e-8)
    assert torch.allclose(blocks.gains(30), dense.gains(30), rtol=0, atol=1e-12)
    assert torch.allclose(blocks.bias_squared(y, STEPS), dense.bias_squared(y, STEPS), rtol=1e-6, atol=1e-16)
    assert torch.allclose(blocks.variance(0.1, STEPS), dense.variance(0.1, STEPS), rtol=1e-8)


def test_the_largest_eigenvalue_belongs_to_the_blocks_sum():
    """The filter's own scale, from one small matrix, against the search of the general filter."""
    filter = NoiseFedFilter((24, 16), autoencoder(2, 3, up="nearest"))
    largest = float(
        CirculantTwicing(NoiseFedFilter((24, 16), filter.architecture, normalize=1.0)).eigenvalues[0]
    )
    assert filter.scale == pytest.approx(1 / largest, rel=1e-13)


def test_it_is_a_filter_for_lanczos_too():
    filter, y = NoiseFedFilter((16, 24), autoencoder(2, 3)), picture(2, 16, 24)
    fast = LanczosTwicing(filter, y, last=300, tolerance=1e-8)
    expected = CirculantTwicing(filter).estimate(y, [3, 300])
    assert float((fast.estimate([3, 300]) - expected).norm() / expected.norm()) < 1e-8


def test_steins_estimate_with_the_exact_trace_has_the_error_for_its_mean():
    """400 draws: four standard errors at each of five numbers of steps, and a stop without the picture."""
    twice = CirculantTwicing(NoiseFedFilter((16, 16), autoencoder(2, 3)))
    clean, sigma, steps = flat_and_textured(3, 16, 16), 0.1, [1, 30, 1000, 10**4, 10**6]
    trace, chance, misses = 3 * twice.degrees_of_freedom(steps), generator(0), []
    for _ in range(400):
        noisy = add_noise(clean, sigma, generator=chance)
        estimates = twice.estimate(noisy, steps)
        error = (estimates - clean).square().mean((1, 2, 3))
        misses.append(sure(estimates, noisy, sigma, trace) - error)
    missed = torch.stack(misses)
    assert bool((missed.mean(0).abs() < 4 * missed.std(0) / 20).all())
    assert bool((missed.std(0) < sigma**2).all())
    assert 0 < discrepancy_stop(estimates, noisy, sigma) < 4


# ----------------------------------------------------------------------------------------------- cost


@pytest.mark.parametrize("shape", [(128, 128), (64, 512)])
@pytest.mark.parametrize("network", [skip(2, 3), autoencoder(1, 5), vanilla(1, 3, padding="circular")])
def test_it_holds_no_more_than_it_asks_for_at_the_door_and_never_the_matrix(network, shape):
    """The matrix would take 2.1 and 8.6 GB. The door is found by knocking: at most twice what is held."""
    pixels = math.prod(shape)
    filter = NoiseFedFilter(shape, network)
    twice, y = CirculantTwicing(filter), picture(3, *shape)
    for make, used in (
        (lambda gb: NoiseFedFilter(shape, network, budget_gb=gb), lambda made: made.scale),
        (lambda gb: CirculantTwicing(filter, budget_gb=gb), lambda made: made),
    ):
        with Held() as held:
            used(make(8.0))
        make(1e-9 * max(2 * held.most, 60 * pixels))
        with refused(MemoryBudgetError, f"GB for {shape[0]}×{shape[1]} pixels, over budget_gb"):
            make(0.999e-9 * held.most)
    with Held() as held:
        twice.estimate(y, step_grid(10**7, 60))
    assert held.most < (8 * 60 * 3 + 20 * filter.period**2 + 1200) * pixels


# ---------------------------------------------------------------------------------------------- doors


def test_networks_whose_kernel_does_not_repeat_are_refused_with_the_remedy():
    for padding in ("reflect", "zero"):
        with refused(
            ArchitectureError,
            "the kernel repeats only where borders wrap and the output has the size of the input, got "
            f"padding='{padding}' and 1/1 of the size; use padding='circular'",
        ):
            NoiseFedFilter((16, 16), vanilla(2, 3, padding=padding))
    with refused(ArchitectureError, "got padding='circular' and 1/2 of the size"):
        NoiseFedFilter((16, 16), Architecture((C(3, 2), A, C(1)), "circular"))
    once = (
        "the kernel repeats only where each scale halves the size once and doubles it with a border that "
        'wraps, got a factor of {} and up=\'{}\'; use up="bilinear" or "nearest"'
    )
    with refused(ArchitectureError, once.format(2, "clamped")):
        NoiseFedFilter((16, 16), autoencoder(2, 3, up="clamped"))
    for inner, factor in (((C(3),), 1), ((C(3, 2), A, Pooling()), 4)):
        network = Architecture((C(3), A, Resampled(inner, "bilinear"), C(1)), "circular")
        with refused(ArchitectureError, once.format(factor, "bilinear")):
            NoiseFedFilter((16, 16), network)
    with refused(ArchitectureError, "batch normalisation divides by what all pixels have in common"):
        NoiseFedFilter((64, 64), replace(hour_glass(), padding="circular"))


@pytest.mark.parametrize(
    ("shape", "following"), [((62, 64), "64×64"), ((64, 65), "64×72"), ((0, 8), "8×8"), ((-8, 1), "8×8")]
)
def test_sizes_that_do_not_repeat_are_refused_with_the_next_that_do(shape, following):
    with refused(
        PictureError,
        f"{shape[0]}×{shape[1]} pixels are no multiples of 8, the network's period; the next size that "
        f"works is {following}",
    ):
        NoiseFedFilter(shape, autoencoder(3, 3, down="stride"))


def test_what_else_does_not_fit_is_refused():
    wrong: Any = "ntk"
    with refused(ValueError, "parametrization must be one of 'tangent', 'standard', got 'ntk'"):
        NoiseFedFilter((8, 8), autoencoder(1, 3), parametrization=wrong)
    with refused(PictureError, "1×1 pixels are too few for circular padding by 2"):
        NoiseFedFilter((4, 4), autoencoder(2, 5)).row((0, 0))
    rows = NoiseFedFilter((8, 8), autoencoder(1, 3), normalize="rows")
    with refused(ValueError, 'CirculantTwicing needs a symmetric filter; use normalize="spectral"'):
        CirculantTwicing(rows)
    twice = CirculantTwicing(NoiseFedFilter((8, 8), autoencoder(1, 3), normalize=1.0))
    for call in (twice.gains, twice.degrees_of_freedom, lambda k: twice.estimate(picture(1, 8, 8), k)):
        call(1)
        with refused(DivergenceError, r"twicing diverges outside \[0, 2\]"):
            call(2)
        with refused(ValueError, "increasing list"):
            call([3, 2])
    with refused(PictureError, r"noisy must have the shape of the filter, \(8, 8\), got \(8, 4\)"):
        twice.estimate(picture(1, 8, 4), 1)
    with refused(IndexError, r"pixel \(8, 0\) lies outside the picture of 8×8 pixels"):
        twice.row((8, 0), 1)
