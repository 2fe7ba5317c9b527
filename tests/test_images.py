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
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from dipfilters import (
    Adam,
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
    jittered,
    load_image,
    masked,
    one_layer_tangent_kernel,
    psnr,
    sure,
    tangent_kernel,
    train,
    twicing,
    typical_pixels,
    vanilla,
)
from dipfilters.filters import MemoryBudgetError
from dipfilters.images import PICTURES, picture_path
from tests.samples import DEVICES, generator, picture, refused, repeatable, within

# ---------------------------------------------------------------------------------------------- files


@pytest.fixture
def grey():
    """5×7 levels, no two alike."""
    return (np.arange(35).reshape(5, 7) * 7).astype(np.uint8)


@pytest.fixture
def colour():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def assert_loads(path, expected, tolerance=0.0):
    """A float32 picture in [0, 1] with the expected values, (H, W) or (H, W, C) in the unit of the file."""
    image = load_image(path)
    expected = np.asarray(expected, dtype=np.float64)
    expected = expected[None] if expected.ndim == 2 else expected.transpose(2, 0, 1)
    assert image.dtype == torch.float32
    assert image.shape == expected.shape
    assert float(image.min()) >= 0.0
    assert float(image.max()) <= 1.0
    # A float32 of a value up to 1 is right to 2^-25; twice that where it was divided in float32.
    assert np.abs(image.double().numpy() - expected).max() <= tolerance + 2**-24


def test_grey_of_8_bits(tmp_path, grey):
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert_loads(tmp_path / "grey.png", grey / 255)


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_grey_of_16_bits(tmp_path, name):
    levels = np.arange(0, 65536, 1911, dtype=np.uint16)[:35].reshape(5, 7)
    Image.fromarray(levels).save(tmp_path / name)
    assert levels.max() > 60000
    assert_loads(tmp_path / name, levels / 65535)


@pytest.mark.parametrize("name", ["colour.png", "colour.tif"])
def test_colour(tmp_path, colour, name):
    Image.fromarray(colour).save(tmp_path / name)
    assert_loads(tmp_path / name, colour / 255)


@pytest.mark.parametrize("name", ["flat.jpg", "flat.jpeg"])
def test_a_jpeg_of_one_colour(tmp_path, name):
    Image.new("RGB", (9, 6), (200, 120, 40)).save(tmp_path / name, quality=100, subsampling=0)
    # The turn to luminance and back rounds each component once: 2 levels at most.
    assert_loads(tmp_path / name, np.full((6, 9, 3), (200, 120, 40)) / 255, tolerance=2 / 255)


def test_alpha_is_laid_on_white(tmp_path, colour):
    alpha = np.random.default_rng(1).integers(0, 256, (5, 7, 1), dtype=np.uint8)
    Image.fromarray(np.concatenate([colour, alpha], axis=2)).save(tmp_path / "alpha.png")
    share = alpha / 255
    # Laying one picture on another rounds to whole levels.
    assert_loads(tmp_path / "alpha.png", share * colour / 255 + (1 - share), tolerance=1 / 255)


def test_grey_with_alpha_stays_grey(tmp_path, grey):
    alpha = np.flip(grey).copy()
    Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha))).save(tmp_path / "la.png")
    share = alpha / 255
    assert_loads(tmp_path / "la.png", share * grey / 255 + (1 - share), tolerance=1 / 255)


def test_a_transparent_grey_level_is_white(tmp_path, grey):
    Image.fromarray(grey).save(tmp_path / "hole.png", transparency=14)
    assert_loads(tmp_path / "hole.png", np.where(grey == 14, 255, grey) / 255)


def paletted(colours):
    indices = np.arange(35).reshape(5, 7) % len(colours)
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette([level for colour in colours for level in colour])
    assert image.mode == "P"
    return image, indices


def test_a_palette(tmp_path):
    colours = [(255, 0, 0), (0, 128, 255), (10, 20, 30), (255, 255, 255)]
    image, indices = paletted(colours)
    image.save(tmp_path / "palette.png")
    assert_loads(tmp_path / "palette.png", np.array(colours)[indices] / 255)


@pytest.mark.parametrize("transparency", [2, bytes([255, 255, 0])], ids=["one index", "an alpha each"])
def test_a_palette_with_transparency(tmp_path, transparency):
    colours = [(255, 0, 0), (0, 128, 255), (10, 20, 30), (255, 255, 255)]
    image, indices = paletted(colours)
    image.save(tmp_path / "palette.png", transparency=transparency)
    colours[2] = (255, 255, 255)
    assert_loads(tmp_path / "palette.png", np.array(colours)[indices] / 255)


def test_cmyk(tmp_path):
    Image.new("CMYK", (8, 8), (40, 100, 160, 25)).save(tmp_path / "print.jpg", quality=100)
    # An ink of c lets through 1 − c, and black 1 − k of that; 2 levels for JPEG, 1 for rounding.
    light = (1 - np.array([40, 100, 160]) / 255) * (1 - 25 / 255)
    assert_loads(tmp_path / "print.jpg", np.tile(light, (8, 8, 1)), tolerance=3 / 255)


def test_one_bit(tmp_path):
    bits = np.random.default_rng(2).random((5, 7)) < 0.5
    Image.fromarray(bits).save(tmp_path / "bits.png")
    assert_loads(tmp_path / "bits.png", bits.astype(float))


# What must be done to the stored rows to see the picture upright, by the EXIF standard's tag 274.
UPRIGHT: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_the_orientation_a_camera_notes_is_applied(tmp_path, grey, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(grey).save(tmp_path / "turned.png", exif=exif)
    assert_loads(tmp_path / "turned.png", UPRIGHT[orientation](grey) / 255)


def test_floats_are_kept_and_clipped(tmp_path):
    values = np.linspace(-0.5, 1.5, 35, dtype=np.float32).reshape(5, 7)
    tifffile.imwrite(tmp_path / "float.tif", values)
    assert_loads(tmp_path / "float.tif", values.clip(0, 1))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_floats_that_are_not_finite_are_refused(tmp_path, bad):
    values = np.full((5, 7), bad, dtype=np.float32)
    tifffile.imwrite(tmp_path / "nan.tif", values)
    with refused(PictureError, r"nan.tif' holds pixels that are not finite; repair the file"):
        load_image(tmp_path / "nan.tif")


def test_one_pixel(tmp_path):
    Image.new("L", (1, 1), 51).save(tmp_path / "dot.png")
    assert_loads(tmp_path / "dot.png", [[0.2]])
    assert load_image(tmp_path / "dot.png", size=3).unique().tolist() == [pytest.approx(0.2)]


def test_a_path_as_text_with_spaces_and_umlauts_and_from_the_home_folder(tmp_path, grey, monkeypatch):
    path = tmp_path / "Über uns, 2 Äpfel & 'mehr'" / "Bild ß ü.png"
    path.parent.mkdir()
    Image.fromarray(grey).save(path)
    monkeypatch.setenv("HOME", str(path.parent))
    assert picture_path(f"~/{path.name}") == path
    assert_loads(str(path), grey / 255)
    path.write_bytes(b"")
    with refused(PictureError, 'Bild ß ü.png" cannot be read as a picture'):
        load_image(path)


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.tif"])
def test_a_truncated_file_is_refused_wherever_it_is_cut(tmp_path, colour, name):
    path = tmp_path / name
    Image.fromarray(np.tile(colour, (5, 5, 1))).save(path)
    whole = path.read_bytes()
    # Behind a PNG's last pixel stand checksums of 8 bytes and an empty chunk of 12, which no decoder misses.
    last = len(whole) - (21 if name == "cut.png" else 1)
    for length in np.linspace(0, last, 25).astype(int):
        path.write_bytes(whole[:length])
        with warnings.catch_warnings():  # Pillow warns of what it then refuses
            warnings.simplefilter("ignore")
            with refused(PictureError, rf"{name}' cannot be read as a picture \(.+\); try a PNG of it"):
                load_image(path)


def test_a_text_file_under_the_name_of_a_picture_is_refused(tmp_path):
    (tmp_path / "letter.png").write_text("Dear picture,")
    with refused(PictureError, r"letter.png' cannot be read as a picture \(.*\); try a PNG of it"):
        load_image(tmp_path / "letter.png")


@pytest.mark.parametrize("load", [load_image, picture_path])
def test_a_missing_file_is_refused_with_the_known_names(tmp_path, load):
    with refused(
        PictureError, "no picture 'lena': give the path of a file, or one of astronaut, brick, camera"
    ):
        load("lena")
    with refused(PictureError, r"no picture '.*gone.png': give the path of a file"):
        load(tmp_path / "gone.png")
    with refused(PictureError, "give the path of a file"):
        load(tmp_path)


# ------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((5, 7), (0, 0, 7, 5)),
        (5, (1, 0, 6, 5)),
        (3, (1, 0, 6, 5)),
        (11, (1, 0, 6, 5)),
        ((2, 7), (0, 1, 7, 3)),
        ((10, 2), (3, 0, 4, 5)),
        ((13, 9), (2, 0, 5, 5)),
        ((1, 1), (1, 0, 6, 5)),
    ],
)
def test_sizes_are_those_of_a_centred_part_scaled_by_pillow(tmp_path, grey, size, box):
    """Pillow's triangle filter widens with the scale, as anti-aliasing must; it rounds a float32 twice."""
    Image.fromarray(grey).save(tmp_path / "grey.png")
    rows, columns = (size, size) if isinstance(size, int) else size
    values = Image.fromarray(grey.astype(np.float32) / 255)
    expected = np.asarray(values.crop(box).resize((columns, rows), Image.Resampling.BILINEAR))
    image = load_image(tmp_path / "grey.png", size=size)
    assert image.shape == (1, rows, columns)
    assert np.abs(image[0].numpy() - expected).max() < 2e-6


def test_a_colour_picture_is_scaled_channel_by_channel(tmp_path, colour):
    Image.fromarray(colour).save(tmp_path / "colour.png")
    whole = load_image(tmp_path / "colour.png", size=(9, 4))
    for channel in range(3):
        Image.fromarray(colour[..., channel]).save(tmp_path / "channel.png")
        assert torch.allclose(whole[channel], load_image(tmp_path / "channel.png", size=(9, 4))[0], atol=2e-7)


@pytest.mark.parametrize(("size", "shown"), [(0, 0), (-3, -3), ((4, 0), 0), (math.nan, "nan"), (True, True)])
def test_an_empty_size_is_refused(size, shown):
    with refused(ValueError, f"size must be a whole number and at least 1, got {shown}"):
        load_image("camera", size=size)


def test_grey_is_the_luminance_of_the_standard(tmp_path, colour):
    """The weights of ITU-R BT.709."""
    Image.fromarray(colour).save(tmp_path / "colour.png")
    image = load_image(tmp_path / "colour.png", gray=True)
    assert image.shape == (1, 5, 7)
    expected = colour @ [0.2125, 0.7154, 0.0721] / 255
    assert np.abs(image[0].numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("name", PICTURES)
def test_every_bundled_picture_loads(name):
    entry = PICTURES[name]
    assert entry.title
    assert entry.credit
    assert entry.licence in ("CC0 1.0", "Public domain")
    path = picture_path(name)
    assert path.name == entry.file
    with Image.open(path) as file:
        width, height = file.size
    image = load_image(name)
    assert image.shape in ((1, height, width), (3, height, width))
    assert image.dtype == torch.float32
    assert 0.0 <= float(image.min()) < 0.5 < float(image.max()) <= 1.0
    assert load_image(name, size=(9, 11), gray=True).shape == (1, 9, 11)


# ------------------------------------------------------------------------------------------- noise


@st.composite
def noise_case(draw):
    shape = (draw(st.integers(1, 3)), draw(st.integers(20, 40)), draw(st.integers(20, 40)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    image = picture(*shape, seed=draw(st.integers(0, 99)), dtype=dtype)
    return image, draw(st.floats(0.01, 1.0)), draw(st.integers(0, 2**31))


@repeatable
@given(noise_case())
def test_noise_comes_from_the_seed_alone(case):
    image, sigma, seed = case
    before, state = image.clone(), torch.get_rng_state()
    noisy = add_noise(image, sigma, generator=generator(seed))
    assert torch.equal(noisy, add_noise(image, sigma, generator=generator(seed)))
    assert not torch.equal(noisy, add_noise(image, sigma, generator=generator(seed + 1)))
    assert noisy.dtype == image.dtype
    assert noisy.shape == image.shape
    assert torch.equal(image, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_of_a_large_picture_tells_a_hundredth():
    """n = 196 608 values: the variance is measured to √(2/n) = 0.3 %.

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


def test_noise_is_white():
    """Neighbours, channels and picture are uncorrelated: a correlation has the standard error n^(−1/2)."""
    image = picture(3, 64, 65)
    noise = add_noise(image, 0.2, generator=generator(1)) - image
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
    assert float(noisy.min()) < 0.5
    assert torch.equal(add_noise(noisy, 0.0, generator=generator(0)), noisy)


@pytest.mark.parametrize("device", DEVICES)
def test_noise_is_the_generators_whatever_the_device(device):
    image = picture(1, 5, 6).to(device)
    noisy = add_noise(image, 0.1, generator=generator(3))
    assert noisy.device == image.device
    assert torch.equal(noisy.cpu(), add_noise(image.cpu(), 0.1, generator=generator(3)))


# -------------------------------------------------------------------------------------------- psnr


@pytest.mark.parametrize("shape", [(1, 37, 31), (3, 8, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_psnr_is_that_of_scikit_image(shape, dtype):
    clean = picture(*shape, dtype=dtype)
    noisy = add_noise(clean, 0.1, generator=generator(4))
    expected = peak_signal_noise_ratio(clean.double().numpy(), noisy.double().numpy(), data_range=1.0)
    # Both sum in float64: a few rounding steps of a figure near 20.
    assert psnr(noisy, clean) == pytest.approx(expected, abs=1e-10)
    assert psnr(clean, noisy) == psnr(noisy, clean)


def test_psnr_of_a_known_error():
    """An offset of 25/255 everywhere is 20 log10(255/25) = 20.17 dB; half of it 20 log10(2) = 6.02 more."""
    clean = torch.full((1, 4, 4), 0.25, dtype=torch.float64)
    assert psnr(clean + 25 / 255, clean) == pytest.approx(20.17, abs=0.005)
    assert psnr(clean, clean.clone()) == math.inf
    gained = psnr(clean + 12.5 / 255, clean) - psnr(clean + 25 / 255, clean)
    assert gained == pytest.approx(20 * math.log10(2), abs=1e-9)


# ------------------------------------------------------------------------------------------- doors


def test_what_is_no_picture_is_refused_by_name():
    image = picture(1, 4, 4)
    with refused(
        PictureError, r"estimate must have shape \(C, H, W\), got \(4, 4\); a grey picture is \(1, H, W\)"
    ):
        psnr(image[0], image)
    with refused(PictureError, r"reference must hold floats in \[0, 1\], got torch.int64; divide bytes"):
        psnr(image, image.long())
    with refused(PictureError, "estimate holds 16 values that are NaN or infinite; replace them first"):
        psnr(image * math.nan, image)
    with refused(PictureError, r"estimate must have the shape of reference, \(1, 4, 3\), got \(1, 4, 4\)"):
        psnr(image, image[..., :3])


def test_shapes_in_signatures_are_executed():
    """The project's settings for pytest turn jaxtyping and beartype on: these never reach the function."""
    image = picture(1, 4, 4)
    with pytest.raises(jaxtyping.TypeCheckError, match=r"the parameters of dipfilters\.images\.psnr"):
        psnr(image[0], image[0])
    with pytest.raises(jaxtyping.TypeCheckError, match="H=4"):
        psnr(image, image[:, :3])
    with pytest.raises(jaxtyping.TypeCheckError, match=r"dipfilters\.images\.add_noise"):
        add_noise(image.long(), 0.1, generator=generator(0))


# ---------------------------------------------------------------------------------- typical pixels


def test_typical_pixels_of_a_picture_made_of_them():
    """A dark square on a light ground, and a chequered part: each kind lies where it was drawn."""
    image = torch.full((1, 96, 96), 0.8)
    image[:, 16:40, 16:60] = 0.2
    checks = (torch.arange(96)[:, None] // 2 + torch.arange(96)[None] // 2) % 2
    image[:, 56:, 40:] = 0.3 + 0.4 * checks[56:, 40:].float()
    pixels = typical_pixels(image)
    assert sorted(pixels) == ["corner", "edge", "flat", "texture"]
    for r, c in pixels.values():
        assert 8 <= r < 88
        assert 8 <= c < 88
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
    with refused(ValueError, "margin must be a whole number and at least 0, got -3"):
        typical_pixels(picture(1, 16, 20), margin=-3)
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
    "psnr": lambda y: psnr(y, IMAGE),
    "SpectralTwicing": lambda y: SpectralTwicing(FILTER).estimate(y, [1]),
    "sure": lambda y: sure(IMAGE[None], y, 0.1, torch.zeros(1)),
    "TangentFilter": lambda y: TangentFilter(y, vanilla(1, 3)),
    "train": lambda y: train(NETWORK, IMAGE, y, optimizer=Adam(), steps=1),
    "twicing": lambda y: twicing(FILTER, y, steps=1),
    "WindowedVariance": lambda y: WindowedVariance().update(y),
}


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
@pytest.mark.parametrize("name", TAKES_A_PICTURE)
def test_a_pixel_that_is_not_finite_is_refused_by_all_that_take_a_picture(name, bad):
    broken = IMAGE.clone()
    broken[0, 3, 4] = bad
    with refused(PictureError, "holds 1 values that are NaN or infinite; replace them first"):
        TAKES_A_PICTURE[name](broken)


TAKES_SIGMA: dict[str, Callable[[float], object]] = {
    "add_noise": lambda sigma: add_noise(IMAGE, sigma, generator=generator(0)),
    "denoise": lambda sigma: denoise(IMAGE, sigma, progress=False),
    "discrepancy_stop": lambda sigma: discrepancy_stop(IMAGE[None], IMAGE, sigma),
    "jittered": lambda sigma: jittered(IMAGE, sigma, generator=generator(0)),
    "sure": lambda sigma: sure(IMAGE[None], IMAGE, sigma, torch.zeros(1)),
    "variance": lambda sigma: SpectralTwicing(FILTER).variance(sigma, 1),
}


@pytest.mark.parametrize("sigma", [25.0, 1.001, -0.1, math.nan, math.inf])
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
        denoise(torch.zeros(1, 1, 1).expand(1, 10_000, 10_000), 0.1, progress=False)
    with refused(MemoryBudgetError, "this takes .* GB for 10000×10000 pixels, over budget_gb"):
        tangent_kernel(vanilla(1, 3), torch.zeros(1, 1, 1).expand(1, 10_000, 10_000))


def test_a_picture_beyond_all_measure_is_refused(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    with refused(PictureError, r"bomb.png' cannot be read as a picture \(Image size \(400000000 pixels\)"):
        load_image(path, size=16)
