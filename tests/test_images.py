"""Pictures in, noise on, and what is left of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import jaxtyping
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from dipfilters import (
    Adam,
    ExponentialAverage,
    KernelFilter,
    LanczosTwicing,
    PictureError,
    SpectralTwicing,
    TangentFilter,
    WindowedVariance,
    add_noise,
    build,
    denoise,
    discrepancy_stop,
    empirical_tangent_kernel,
    extract_patches,
    jittered,
    load_image,
    masked,
    masked_estimate,
    one_layer_tangent_kernel,
    psnr,
    sure,
    tangent_kernel,
    train,
    twicing,
    typical_pixels,
    vanilla,
)
from dipfilters.empirical import tangent_product
from dipfilters.filters import MemoryBudgetError
from dipfilters.images import PICTURES, picture_path
from tests.samples import generator, picture, refused, within

# ---------------------------------------------------------------------------------------------- files

GREY = (np.arange(35).reshape(5, 7) * 7).astype(np.uint8)  # no two levels alike
DEEP = np.arange(0, 65536, 1911, dtype=np.uint16)[:35].reshape(5, 7)
COLOUR = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
ALPHA = np.random.default_rng(1).integers(0, 256, (5, 7), dtype=np.uint8)
BITS = np.random.default_rng(2).random((5, 7)) < 0.5
INDICES = (np.arange(35).reshape(5, 7) % 4).astype(np.uint8)
COLOURS = np.array([(255, 0, 0), (0, 128, 255), (10, 20, 30), (255, 255, 255)], dtype=np.uint8)
PALETTE = Image.fromarray(INDICES)
PALETTE.putpalette(COLOURS.flatten().tolist())
ON_WHITE = np.where(INDICES[..., None] == 2, 255, COLOURS[INDICES]) / 255
FLAT = (200, 120, 40)
INKS = np.array([40, 100, 160, 25]) / 255
TURNED = Image.Exif()
TURNED[274] = 6  # the camera was held upright: a quarter turn clockwise puts the picture right


def on_white(values, alpha):
    return alpha / 255 * values / 255 + (1 - alpha / 255)


# What is saved, Pillow's options, the values to be read in [0, 1], and by how many levels of 255 they may
# miss: a JPEG rounds each component on the way to luminance and back, 2 levels; alpha rounds once, 1.
FILES: dict[str, tuple[Image.Image, dict[str, Any], Any, int]] = {
    "grey.png": (Image.fromarray(GREY), {}, GREY / 255, 0),
    "deep.png": (Image.fromarray(DEEP), {}, DEEP / 65535, 0),
    "deep.tif": (Image.fromarray(DEEP), {}, DEEP / 65535, 0),
    "bits.png": (Image.fromarray(BITS), {}, BITS, 0),
    "dot.png": (Image.new("L", (1, 1), 51), {}, [[0.2]], 0),
    "colour.png": (Image.fromarray(COLOUR), {}, COLOUR / 255, 0),
    "colour.tif": (Image.fromarray(COLOUR), {}, COLOUR / 255, 0),
    "flat.jpg": (
        Image.new("RGB", (9, 6), FLAT),
        {"quality": 100},
        np.tile(np.divide(FLAT, 255), (6, 9, 1)),
        2,
    ),
    # An ink of c lets through 1 − c, and black 1 − k of that.
    "print.jpg": (
        Image.fromarray(np.tile((INKS * 255).round().astype(np.uint8), (8, 8, 1)), "CMYK"),
        {"quality": 100},
        np.tile((1 - INKS[:3]) * (1 - INKS[3]), (8, 8, 1)),
        3,
    ),
    "turned.png": (Image.fromarray(GREY), {"exif": TURNED}, np.rot90(GREY, -1) / 255, 0),
    "turned.tif": (Image.fromarray(GREY), {"exif": TURNED}, np.rot90(GREY, -1) / 255, 0),
    "turned-deep.tif": (Image.fromarray(DEEP), {"exif": TURNED}, np.rot90(DEEP, -1) / 65535, 0),
    "alpha.png": (
        Image.fromarray(np.dstack([COLOUR, ALPHA])),
        {},
        on_white(COLOUR, ALPHA[..., None]),
        1,
    ),
    "grey-alpha.png": (
        Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(ALPHA))),
        {},
        on_white(GREY, ALPHA),
        1,
    ),
    "grey-hole.png": (Image.fromarray(GREY), {"transparency": 14}, np.where(GREY == 14, 255, GREY) / 255, 0),
    "palette.png": (PALETTE, {}, COLOURS[INDICES] / 255, 0),
    "palette-hole.png": (PALETTE, {"transparency": 2}, ON_WHITE, 0),
    "palette-alpha.png": (PALETTE, {"transparency": bytes([255, 255, 0])}, ON_WHITE, 0),
}


def assert_loads(path, expected, levels=0):
    """A float32 picture in [0, 1] with the expected values, (H, W) or (H, W, C)."""
    image = load_image(path)
    expected = np.asarray(expected, dtype=np.float64)
    expected = expected[None] if expected.ndim == 2 else expected.transpose(2, 0, 1)
    assert image.dtype == torch.float32
    assert image.shape == expected.shape
    assert float(image.min()) >= 0.0
    assert float(image.max()) <= 1.0
    # A float32 of a value up to 1 is right to 2^-25; twice that where it was divided in float32.
    assert np.abs(image.double().numpy() - expected).max() <= levels / 255 + 2**-24


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_any_common_kind_is_read(tmp_path, name):
    image, options, expected, levels = FILES[name]
    image.save(tmp_path / name, **options)
    assert_loads(tmp_path / name, expected, levels)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_floats_that_are_not_finite_are_refused(tmp_path, bad):
    values = np.full((5, 7), bad, dtype=np.float32)
    tifffile.imwrite(tmp_path / "nan.tif", values)
    with refused(PictureError, r"nan.tif' holds pixels that are not finite; repair it"):
        load_image(tmp_path / "nan.tif")


def test_a_path_as_text_with_spaces_and_umlauts_and_from_the_home_folder(tmp_path, monkeypatch):
    path = tmp_path / "Über uns, 2 Äpfel & 'mehr'" / "Bild ß ü.png"
    path.parent.mkdir()
    Image.fromarray(GREY).save(path)
    monkeypatch.setenv("HOME", str(path.parent))
    assert picture_path(f"~/{path.name}") == path
    assert_loads(str(path), GREY / 255)
    path.write_bytes(b"")
    with refused(PictureError, 'Bild ß ü.png" cannot be read as a picture'):
        load_image(path)


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.tif"])
def test_a_truncated_file_is_refused_wherever_it_is_cut(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(np.tile(COLOUR, (5, 5, 1))).save(path)
    whole = path.read_bytes()
    # Behind a PNG's last pixel stand checksums of 8 bytes and an empty chunk of 12, which no decoder misses.
    last = len(whole) - (21 if name == "cut.png" else 1)
    for length in np.linspace(0, last, 25).astype(int):
        path.write_bytes(whole[:length])
        with warnings.catch_warnings():  # Pillow warns of what it then refuses
            warnings.simplefilter("ignore")
            with refused(PictureError, rf"{name}' cannot be read as a picture \(.+\); try a PNG of it"):
                load_image(path)


def test_a_missing_file_is_refused_with_the_known_names(tmp_path):
    for name in ("lena", tmp_path / "gone.png", tmp_path):
        with refused(PictureError, "no picture '.*': give the path of a file, or one of astronaut, brick"):
            load_image(name)


# ------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((5, 7), (0, 0, 7, 5)),
        (3, (1, 0, 6, 5)),
        ((2, 7), (0, 1, 7, 3)),
        ((13, 9), (2, 0, 5, 5)),
    ],
)
def test_sizes_are_those_of_a_centred_part_scaled_by_pillow(tmp_path, size, box):
    """Pillow's triangle filter widens with the scale, as anti-aliasing must; it rounds a float32 twice."""
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    rows, columns = (size, size) if isinstance(size, int) else size
    values = Image.fromarray(GREY.astype(np.float32) / 255)
    expected = np.asarray(values.crop(box).resize((columns, rows), Image.Resampling.BILINEAR))
    image = load_image(tmp_path / "grey.png", size=size)
    assert image.shape == (1, rows, columns)
    assert np.abs(image[0].numpy() - expected).max() < 2e-6


@pytest.mark.parametrize("size", [0, (4, -3), math.nan])
def test_an_empty_size_is_refused(size):
    with refused(ValueError, "size must be a whole number and at least 1, got (0|-3|nan)"):
        load_image("camera", size=size)


def test_grey_is_the_luminance_of_the_standard(tmp_path):
    """The weights of ITU-R BT.709."""
    Image.fromarray(COLOUR).save(tmp_path / "colour.png")
    image = load_image(tmp_path / "colour.png", gray=True)
    assert image.shape == (1, 5, 7)
    expected = COLOUR @ [0.2125, 0.7154, 0.0721] / 255
    assert np.abs(image[0].numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("name", PICTURES)
def test_every_bundled_picture_loads(name):
    assert PICTURES[name].licence in ("CC0 1.0", "Public domain")
    image = load_image(name)
    assert image.shape[0] in (1, 3)
    assert 0.0 <= float(image.min()) < 0.5 < float(image.max()) <= 1.0
    assert load_image(name, size=(9, 11), gray=True).shape == (1, 9, 11)


# ------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_comes_from_the_seed_alone(dtype):
    image = picture(3, 20, 23, dtype=dtype)
    before, state = image.clone(), torch.get_rng_state()
    noisy = add_noise(image, 0.1, generator=generator(5))
    assert torch.equal(noisy, add_noise(image, 0.1, generator=generator(5)))
    assert not torch.equal(noisy, add_noise(image, 0.1, generator=generator(6)))
    assert noisy.dtype == image.dtype
    assert torch.equal(image, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_is_white_and_gaussian_and_of_its_level():
    """n = 196 608 values: the variance is measured to √(2/n) = 0.3 %, a correlation to n^(−1/2).

    Beyond 1, 2 and 3 σ lie 31.73, 4.55 and 0.27 % of Gaussian values: a binomial share of p has the standard
    error √(p(1 − p)/n).
    """
    image = picture(3, 256, 256)
    noise = (add_noise(image, 0.1, generator=generator(11)) - image) / 0.1
    n = noise.numel()
    assert within(float(noise.var()), 1.0, math.sqrt(2 / n))
    for reach in (1, 2, 3):
        share = math.erfc(reach / math.sqrt(2))
        measured = float((noise.abs() > reach).double().mean())
        assert within(measured, share, math.sqrt(share * (1 - share) / n)), reach
    pairs = {
        "rows": (noise[:, 1:], noise[:, :-1]),
        "columns": (noise[..., 1:], noise[..., :-1]),
        "channels": (noise[1:], noise[:-1]),
        "picture": (noise, image),
    }
    for name, (a, b) in pairs.items():
        correlation = float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])
        assert within(correlation, 0.0, a.numel() ** -0.5, times=4), name


def test_noise_is_not_clipped_and_none_is_the_picture():
    noisy = add_noise(torch.ones(1, 20, 20), 0.5, generator=generator(0))
    assert float(noisy.max()) > 1.5
    assert torch.equal(add_noise(noisy, 0.0, generator=generator(0)), noisy)


# -------------------------------------------------------------------------------------------- psnr


def test_psnr_is_that_of_scikit_image():
    """Both sum in float64: a few rounding steps of a figure near 20."""
    clean = picture(3, 37, 31)
    noisy = add_noise(clean, 0.1, generator=generator(4))
    expected = peak_signal_noise_ratio(clean.numpy(), noisy.numpy(), data_range=1.0)
    assert psnr(noisy, clean) == pytest.approx(expected, abs=1e-10)
    assert psnr(clean, clean.clone()) == math.inf
    with refused(
        PictureError, r"estimate must have the shape of reference, \(3, 37, 30\), got \(3, 37, 31\)"
    ):
        psnr(noisy, clean[..., :30])


# ------------------------------------------------------------------------------------------- doors


def test_shapes_in_signatures_are_executed():
    """The project's settings for pytest turn jaxtyping and beartype on: these never reach the function."""
    image = picture(1, 4, 4)
    with pytest.raises(jaxtyping.TypeCheckError, match=r"the parameters of dipfilters\.images\.psnr"):
        psnr(image[0], image[0])
    with pytest.raises(jaxtyping.TypeCheckError, match="H=4"):
        psnr(image, image[:, :3])


# ---------------------------------------------------------------------------------- typical pixels


def test_typical_pixels_of_a_picture_made_of_them():
    """A dark square on a light ground, and a chequered part: each kind lies where it was drawn."""
    image = torch.full((1, 96, 96), 0.8)
    image[:, 16:40, 16:60] = 0.2
    checks = (torch.arange(96)[:, None] // 2 + torch.arange(96)[None] // 2) % 2
    image[:, 56:, 40:] = 0.3 + 0.4 * checks[56:, 40:].float()
    pixels = typical_pixels(image)
    assert sorted(pixels) == ["corner", "edge", "flat", "texture"]
    r, c = pixels["flat"]
    assert float(image[0, r - 4 : r + 5, c - 4 : c + 5].std()) < 1e-6
    r, c = pixels["texture"]
    assert r >= 56
    assert c >= 40
    r, c = pixels["edge"]
    assert min(abs(r - 16), abs(r - 40), abs(c - 16), abs(c - 60)) <= 2
    r, c = pixels["corner"]
    assert min(math.hypot(r - a, c - b) for a in (16, 40) for b in (16, 60)) <= 4


def test_typical_pixels_need_a_picture_larger_than_the_margin():
    with refused(PictureError, r"image of \(16, 20\) pixels has none inside a margin of 8"):
        typical_pixels(picture(1, 16, 20))
    assert set(typical_pixels(picture(1, 17, 17)).values()) == {(8, 8)}


# ------------------------------------------------------------------- what all that take a picture refuse

IMAGE = picture(1, 12, 12)
NETWORK = build(vanilla(1, 3), channels=1, width=4, generator=generator(0)).double()
FILTER = KernelFilter(IMAGE, one_layer_tangent_kernel(), patch_size=3, normalize="spectral")
TAKES_A_PICTURE: dict[str, Callable[[torch.Tensor], object]] = {
    "add_noise": lambda y: add_noise(y, 0.1, generator=generator(0)),
    "denoise": lambda y: denoise(y, 0.1, progress=False),
    "discrepancy_stop": lambda y: discrepancy_stop(IMAGE[None], y, 0.1),
    "empirical_tangent_kernel": lambda y: empirical_tangent_kernel(NETWORK, y),
    "Filter.apply": FILTER.apply,
    "jittered": lambda y: jittered(y, generator=generator(0)),
    "KernelFilter": lambda y: KernelFilter(y, one_layer_tangent_kernel(), patch_size=3, normalize="rows"),
    "LanczosTwicing": lambda y: LanczosTwicing(FILTER, y, last=10),
    "masked": masked,
    "masked_estimate": lambda y: masked_estimate(NETWORK, y),
    "patches": lambda y: extract_patches(y, 3),
    "psnr": lambda y: psnr(y, IMAGE),
    "SpectralTwicing": lambda y: SpectralTwicing(FILTER).estimate(y, [1]),
    "sure": lambda y: sure(IMAGE[None], y, 0.1, torch.zeros(1)),
    "tangent_kernel": lambda y: tangent_kernel(vanilla(1, 3), y),
    "tangent_product": lambda y: tangent_product(NETWORK, y, IMAGE),
    "TangentFilter": lambda y: TangentFilter(y, vanilla(1, 3)),
    "train, input": lambda y: train(NETWORK, y, IMAGE, optimizer=Adam(), steps=1),
    "train, target": lambda y: train(NETWORK, IMAGE, y, optimizer=Adam(), steps=1),
    "ExponentialAverage": lambda y: ExponentialAverage().update(y),
    "twicing": lambda y: twicing(FILTER, y, steps=1),
    "WindowedVariance": lambda y: WindowedVariance().update(y),
}


@pytest.mark.parametrize("name", TAKES_A_PICTURE)
def test_what_is_no_picture_is_refused_by_all_that_take_one(name):
    for bad in (math.nan, -math.inf):
        broken = IMAGE.clone()
        broken[0, 3, 4] = bad
        with refused(PictureError, "holds 1 values that are NaN or infinite; replace them first"):
            TAKES_A_PICTURE[name](broken)
    with refused(PictureError, r"must hold floats in \[0, 1\], got torch.uint8; divide bytes by 255"):
        TAKES_A_PICTURE[name](torch.ones(1, 12, 12, dtype=torch.uint8))
    if name != "Filter.apply":  # takes a single plane as well
        with refused(
            PictureError, r"must have shape \(C, H, W\), got \(12, 12\); a grey picture is \(1, H, W\)"
        ):
            TAKES_A_PICTURE[name](IMAGE[0])


PASSES_NO_GRADIENT_ON = ["denoise", "empirical_tangent_kernel", "KernelFilter", "LanczosTwicing"]
PASSES_NO_GRADIENT_ON += ["masked_estimate", "tangent_kernel", "tangent_product", "TangentFilter"]


@pytest.mark.parametrize("name", PASSES_NO_GRADIENT_ON)
def test_a_picture_whose_gradient_would_be_lost_is_refused(name):
    with refused(PictureError, r"(image|input|noisy) requires a gradient, .* give \w+.detach\(\)"):
        TAKES_A_PICTURE[name](IMAGE.clone().requires_grad_())


TAKES_SIGMA: dict[str, Callable[[float], object]] = {
    "add_noise": lambda sigma: add_noise(IMAGE, sigma, generator=generator(0)),
    "denoise": lambda sigma: denoise(IMAGE, sigma, progress=False),
    "discrepancy_stop": lambda sigma: discrepancy_stop(IMAGE[None], IMAGE, sigma),
    "jittered": lambda sigma: jittered(IMAGE, sigma, generator=generator(0)),
    "sure": lambda sigma: sure(IMAGE[None], IMAGE, sigma, torch.zeros(1)),
    "variance": lambda sigma: SpectralTwicing(FILTER).variance(sigma, 1),
}


@pytest.mark.parametrize("sigma", [25.0, 1.001, -0.1, math.nan])
@pytest.mark.parametrize("name", TAKES_SIGMA)
def test_25_where_25_of_255_is_meant_is_refused_with_the_remedy(name, sigma):
    with refused(ValueError, rf"sigma must lie in \[0, 1\].*got {sigma}; for 25 write 25/255"):
        TAKES_SIGMA[name](sigma)


def test_ten_thousand_pixels_a_side_are_read_small_and_refused_where_they_are_too_many(tmp_path):
    path = tmp_path / "large.png"
    Image.linear_gradient("L").resize((10_000, 10_000)).save(path, compress_level=1)
    image = load_image(path, size=16)
    expected = (torch.arange(16) + 0.5) / 16
    assert float((image[0] - expected[:, None]).abs().max()) < 0.01
    with refused(MemoryBudgetError, r"this takes \d+ GB for 10000×10000 pixels, over memory_gb = 8"):
        denoise(torch.zeros(1, 1, 1).expand(1, 10_000, 10_000), 0.1, exact=True, progress=False)
    with refused(MemoryBudgetError, "this takes .* GB for 10000×10000 pixels, over budget_gb"):
        tangent_kernel(vanilla(1, 3), torch.zeros(1, 1, 1).expand(1, 10_000, 10_000))


def test_a_picture_beyond_all_measure_is_refused(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    with refused(PictureError, r"bomb.png' cannot be read as a picture \(Image size \(400000000 pixels\)"):
        load_image(path, size=16)
