"""What readers bring: files of cameras and microscopes, arrays of other libraries, torch in any mode.

Each case was tried by someone; what should happen stands here as a value.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter
from torch import nn

import dipfilters
from dipfilters import (
    Adam,
    KernelFilter,
    LanczosTwicing,
    LinearizedNetwork,
    PictureError,
    SpectralTwicing,
    TangentFilter,
    WindowedVariance,
    add_noise,
    as_picture,
    autoencoder,
    build,
    denoise,
    empirical_tangent_kernel,
    extract_patches,
    gaussian_kernel,
    jittered,
    largest_eigenvalue,
    load_image,
    masked,
    psnr,
    train,
    vanilla,
)
from dipfilters.networks import hour_glass
from tests.samples import annotations_off, generator, picture, refused

RAMP = np.linspace(0, 1, 35).reshape(5, 7)
SMALL: Any = {"architecture": vanilla(1, 3), "progress": False}

# ------------------------------------------------------------------------------------------------ files

TIFFS: dict[str, tuple[Any, dict[str, Any]]] = {
    "half floats": (RAMP.astype(np.float16), {}),
    "double floats": (RAMP, {}),
    "floats in colour": (np.stack([RAMP, RAMP**2, 1 - RAMP], -1).astype(np.float32), {"photometric": "rgb"}),
    "deep colours": (np.uint16(65535 * np.stack([RAMP] * 3, -1)), {"photometric": "rgb"}),
    "plane by plane": (
        np.uint16(65535 * np.stack([RAMP] * 3)),
        {"photometric": "rgb", "planarconfig": "separate"},
    ),
    "bytes": (np.uint8(255 * RAMP), {}),
}


@pytest.mark.parametrize("name", TIFFS)
def test_a_tiff_that_says_its_scale_is_read_without_loss(tmp_path, name):
    values, options = TIFFS[name]
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    planes = values if values.ndim == 2 or name == "plane by plane" else np.moveaxis(values, -1, 0)
    white = {"u1": 255, "u2": 65535}.get(values.dtype.str[1:], 1)
    expected = (planes.reshape(-1, 5, 7) / white).astype(np.float32)
    assert np.array_equal(load_image(tmp_path / "a.tif").numpy(), expected)


UNKNOWN: dict[str, tuple[Any, str]] = {
    "bytes as floats": (np.float32(255 * RAMP), "float32 from 0 to 255, .*; give scale=.*scale=\\(0, 255\\)"),
    "noisy floats": (
        np.float32(1.2 * RAMP - 0.1),
        r"float32 from -0.1 to 1.1, .*; scale=\(0, 1\) takes",
    ),
    "signed bytes": (np.int8(127 * RAMP), "int8 from 0 to 127, and no word on black and white; give scale="),
    "signed": (np.int16(1000 * RAMP), r"int16 from 0 to 1000, .* such as scale=\(0, 32767\)"),
    "counts": (np.uint32(7000 * RAMP), "uint32 from 0 to 7000"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_scale_that_no_one_knows_is_asked_for(tmp_path, name):
    values, told = UNKNOWN[name]
    tifffile.imwrite(tmp_path / "a.tif", values)
    with refused(PictureError, rf"a.tif' holds {told}"):
        load_image(tmp_path / "a.tif")
    with refused(PictureError, told):
        as_picture(values)
    low, high = float(values.min()), float(values.max())
    for found in (load_image(tmp_path / "a.tif", scale=(low, high)), as_picture(values, scale=(low, high))):
        assert np.allclose(found[0].numpy(), (values - low) / (high - low), rtol=0, atol=1e-6)
    if name == "noisy floats":  # what lies beyond stays
        assert float(load_image(tmp_path / "a.tif", scale=(0, 1)).min()) == pytest.approx(-0.1)


def test_a_scale_goes_for_whole_numbers_of_any_file(tmp_path):
    Image.fromarray(np.uint16(4095 * RAMP)).save(tmp_path / "twelve.png")
    found = load_image(tmp_path / "twelve.png", scale=(0, 4095))
    assert np.allclose(found[0].numpy(), RAMP, rtol=0, atol=1 / 4000)
    with refused(ValueError, r"scale must be two different numbers, black and white, got \(3, 3\)"):
        load_image(tmp_path / "twelve.png", scale=(3, 3))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_deep_picture_is_turned_as_a_shallow_one(tmp_path, orientation):
    tag = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", RAMP.astype(np.float64), extratags=tag)
    image = Image.fromarray(np.float32(RAMP))
    image.getexif()[274] = orientation
    expected = np.array(ImageOps.exif_transpose(image))
    assert np.array_equal(load_image(tmp_path / "a.tif")[0].numpy(), expected)


def test_alpha_of_deep_colours_is_laid_on_white(tmp_path):
    values = np.array([[[65535, 0, 0, 65535], [65535, 0, 0, 0]]], dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    assert load_image(tmp_path / "a.tif")[:, 0].T.tolist() == [[1, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize("name", ["a.tif", "deep.tif", "a.gif", "a.webp"])
def test_a_page_is_chosen_by_its_number(tmp_path, name):
    levels = [30, 200]
    if name == "deep.tif":
        tifffile.imwrite(tmp_path / name, np.stack([np.full((5, 7), level / 255) for level in levels]))
    else:
        pages = [Image.fromarray(np.full((5, 7), level, np.uint8)) for level in levels]
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:], lossless=True)
    with refused(PictureError, rf"{name}' holds 2 pictures; choose one by page=0 to page=1"):
        load_image(tmp_path / name)
    for page, level in enumerate(levels):
        found = load_image(tmp_path / name, page=page, gray=True)
        assert float((found - level / 255).abs().max()) < 1e-6
    with refused(PictureError, "has no page 2; it holds 2, counted from 0"):
        load_image(tmp_path / name, page=2)


def test_files_that_are_none_are_refused_in_our_words(tmp_path):
    with refused(PictureError, r"by its name or path, got BytesIO; use as_picture\(\) for pixels"):
        load_image(io.BytesIO(b"x"))  # type: ignore[arg-type]
    (tmp_path / "broken.tif").write_bytes(b"II*\0 and nothing that makes sense")
    with refused(PictureError, "broken.tif' cannot be read as a picture"):
        load_image(tmp_path / "broken.tif")
    tifffile.imwrite(tmp_path / "lab.tif", np.uint16(65535 * np.stack([RAMP] * 3, -1)), photometric="cielab")
    with refused(PictureError, "lab.tif' has colours of another kind than RGB; convert it"):
        load_image(tmp_path / "lab.tif")


# ----------------------------------------------------------------------------------------------- arrays

COLOUR = np.stack([RAMP, RAMP**2, 1 - RAMP], -1)
ARRAYS: dict[str, Any] = {
    "floats": COLOUR,
    "bytes": np.uint8((255 * COLOUR).round()),
    "deep": np.uint16((65535 * COLOUR).round()),
    "big end first": np.uint16((65535 * COLOUR).round()).astype(">u2"),
    "upside down and back": COLOUR[::-1][::-1],
    "channels first": np.moveaxis(COLOUR, -1, 0),
    "a tensor": torch.from_numpy(COLOUR).requires_grad_(),
    "of Pillow": Image.fromarray(np.uint8((255 * COLOUR).round())),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_what_other_libraries_hold_becomes_a_picture(name):
    found = as_picture(ARRAYS[name])
    assert (found.dtype, found.shape) == (torch.float32, (3, 5, 7))
    assert float((found.permute(1, 2, 0) - torch.from_numpy(COLOUR)).abs().max()) < 0.5001 / 255
    assert not found.requires_grad


def test_grey_arrays_have_one_channel():
    for array in (RAMP, RAMP[..., None], RAMP > 0.5, Image.fromarray(np.uint8(255 * RAMP))):
        assert as_picture(array).shape == (1, 5, 7)


def test_arrays_that_are_no_picture_are_refused():
    with refused(PictureError, r"got \(5, 7, 4\); take its alpha channel off by array\[..., :3\]"):
        as_picture(np.ones((5, 7, 4)))
    with refused(PictureError, r"got \(9, 5, 7\); give a picture"):
        as_picture(np.ones((9, 5, 7)))
    with refused(PictureError, "holds pixels that are not finite"):
        as_picture(np.full((5, 7), np.nan))


TAKERS: dict[str, Callable[[Any], object]] = {
    "denoise": lambda x: denoise(x, 0.1, **SMALL),
    "psnr": lambda x: psnr(x, x),
    "add_noise": lambda x: add_noise(x, 0.1, generator=generator(0)),
    "extract_patches": lambda x: extract_patches(x, 3),
    "KernelFilter": lambda x: KernelFilter(x, gaussian_kernel(0.1), patch_size=3, normalize="rows"),
    "TangentFilter": lambda x: TangentFilter(x, vanilla(1, 3)),
    "train": lambda x: train(
        build(vanilla(1, 3), channels=1, width=2, generator=generator(0)), x, x, optimizer=Adam(0.1), steps=1
    ),
}


@pytest.mark.parametrize("name", TAKERS)
def test_what_is_no_tensor_of_channels_first_is_refused_with_the_line_that_converts(name):
    take = TAKERS[name]
    with refused(PictureError, r"must be a tensor, got ndarray; use as_picture\("):
        take(RAMP)
    with refused(PictureError, r"must be a tensor, got Image; use as_picture\("):
        take(Image.new("L", (7, 5)))
    with refused(PictureError, r"must be a tensor, got str; use load_image\("):
        take("camera")
    with refused(
        PictureError, r"got \(20, 18, 3\), which looks like \(H, W, C\); give \w+.permute\(2, 0, 1\)"
    ):
        take(torch.rand(20, 18, 3))
    with refused(PictureError, r"must hold floats in \[0, 1\], got torch.uint8; divide bytes by 255"):
        take(torch.zeros(1, 9, 8, dtype=torch.uint8))


def test_a_narrow_picture_of_several_channels_is_one():
    assert psnr(torch.full((6, 15, 4), 0.6), torch.full((6, 15, 4), 0.5)) == pytest.approx(20)
    with refused(PictureError, r"got \(16, 16, 4\), which looks like \(H, W, C\); .*"):
        psnr(torch.rand(16, 16, 4), torch.rand(16, 16, 4))


@pytest.mark.parametrize("sigma", [[0.1, 0.2], torch.ones(3), "25"])
def test_one_sigma_is_one_number(sigma):
    with annotations_off(), pytest.raises(ValueError, match=r"sigma must be one number .* one by one"):
        denoise(picture(1, 8, 8), sigma, **SMALL)


# --------------------------------------------------------------------------------------------- contexts


def test_training_without_gradients_is_refused_with_the_remedy():
    image = picture(1, 6, 7, dtype=torch.float32)
    network = build(vanilla(1, 3), channels=1, width=2, generator=generator(0))
    for off in (torch.no_grad, torch.inference_mode):
        with off(), refused(RuntimeError, r"train\(\) needs gradients, which .* switches off here; call it"):
            train(network, image, image, optimizer=Adam(0.1), steps=1)
    states = train(network, image, image, optimizer=Adam(0.1), steps=1)
    next(states)
    with torch.no_grad(), refused(RuntimeError, "needs gradients"):
        next(states)
    with torch.inference_mode():
        made = build(vanilla(1, 3), channels=1, width=2, generator=generator(0))
    with refused(ValueError, r"made under torch.inference_mode\(\), and cannot be trained; make it outside"):
        train(made, image, image, optimizer=Adam(0.1), steps=1)


def test_layers_that_are_no_function_of_the_weights_are_refused():
    image = picture(1, 6, 7, dtype=torch.float32)
    for layer, told in (
        (
            nn.BatchNorm2d(2),
            r"'1' .* \(BatchNorm2d\) changes .* track_running_stats=False, or call",
        ),
        (nn.Dropout(0.5), r"'1' .* \(Dropout\) draws anew at each call, .*; call network.eval\(\)"),
    ):
        network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), layer, nn.Conv2d(2, 1, 1))
        for use in (lambda n: largest_eigenvalue(n, image), LinearizedNetwork):
            with refused(ValueError, told):
                use(network)
        assert largest_eigenvalue(network.eval(), image) > 0


@contextmanager
def default(dtype: torch.dtype | None = None, device: str | None = None) -> Iterator[None]:
    try:
        torch.set_default_dtype(dtype or torch.float32)
        torch.set_default_device(device)
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


def everything() -> list[torch.Tensor]:
    """What the package makes of a picture of float32 on the processor."""
    clean = load_image("camera", size=20)
    noisy = add_noise(clean, 0.1, generator=generator(0))
    found = [noisy, denoise(noisy, 0.1, **SMALL).picture, extract_patches(noisy, 3)]
    nlm = KernelFilter(noisy, gaussian_kernel(0.1), patch_size=3, normalize="rows")
    fast = TangentFilter(noisy, vanilla(2, 3), engine="cpu")
    found += [nlm.apply(noisy), fast.apply(noisy), TangentFilter(noisy, autoencoder(1, 3)).apply(noisy)]
    found += [LanczosTwicing(fast, noisy, last=9).estimate(3), SpectralTwicing(nlm).estimate(noisy, 2)]
    for architecture in (autoencoder(1, 3), hour_glass(1)):
        network = build(architecture, channels=1, width=32, generator=generator(0))
        found.append(empirical_tangent_kernel(network, noisy, pixels=[(0, 0)]))
        given: Any = {"optimizer": Adam(0.01), "steps": 2, "subtract_start": False}
        for inputs in (None, jittered(noisy, generator=generator(1)), masked(noisy)):
            rule = WindowedVariance(window=2)
            for state in train(network, noisy, noisy, step_inputs=inputs, **given):
                rule.update(state.estimate)
            found.append(state.estimate)
    return found


@pytest.mark.parametrize("kind", [{"dtype": torch.float64}, {"device": "meta"}], ids=["dtype", "device"])
def test_defaults_of_torch_are_nobodys_business(kind):
    expected = everything()
    with default(**kind):
        found = everything()
    for one, other in zip(found, expected, strict=True):
        assert (one.dtype, one.device) == (other.dtype, other.device)
        assert torch.allclose(one, other, rtol=0, atol=2e-3)  # training in float32 drifts


FORKED = """
import multiprocessing, torch
torch.set_num_threads(2)
from dipfilters import TangentFilter, load_image, vanilla
x = load_image("camera", size=96)
def work(_):
    return float(TangentFilter(x, vanilla(2, 3)).apply(x).sum()) + float((torch.ones(900, 900) * 2).sum())
here = work(0)
with multiprocessing.get_context("fork").Pool(2) as pool:
    there = pool.map_async(work, [0, 1]).get(timeout=60)
print(max(abs(value / here - 1) for value in there) < 1e-5)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
def test_a_forked_worker_goes_on_after_its_parent_has_computed():
    source = str(Path(dipfilters.__file__).parents[1])
    words = [sys.executable, "-W", "ignore", "-c", f"import sys; sys.path.insert(0, {source!r})\n{FORKED}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.stdout == "True\n", done.stderr


# ---------------------------------------------------------------------------------------- what is assumed


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "hubble"])
def test_noise_that_is_not_white_and_a_wrong_sigma_are_said(name):
    clean = load_image(name, size=64)
    white = torch.randn(clean.shape, generator=generator(0))
    blurred = torch.from_numpy(gaussian_filter(white.numpy(), (0, 0.7, 0.7)))
    level = 25 / 255

    def said(noise: torch.Tensor, sigma: float) -> str:
        noisy = clean + level * noise / noise.std()
        return denoise(noisy, sigma, architecture=vanilla(1, 5), progress=False).describe()

    assert "too" not in said(white, level)
    assert "too large or of noise that is not white" in said(white, 1.6 * level)
    assert "perhaps too small" in said(white, 0.6 * level)
    assert "too large or of noise that is not white" in said(blurred, level)
    clipped = (clean + level * white).clamp(0, 1)
    told = denoise(clipped, level, architecture=vanilla(1, 5), progress=False).describe()
    assert ("of the values are clipped to 0 or 1" in told) == (
        float(((clipped == 0) | (clipped == 1)).double().mean()) > 0.01
    )
