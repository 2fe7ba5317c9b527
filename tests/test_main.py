"""The shell command: what it keeps of a file, what it refuses, and that a reader sees no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from dipfilters import __main__ as command
from dipfilters import load_image
from dipfilters.denoising import Denoised

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
TURNED = Image.Exif()
TURNED[274], TURNED[271] = 6, "a camera"
CHANCE = np.random.default_rng(0)


def levels(*shape, deep=False):
    return CHANCE.integers(0, 65536 if deep else 256, shape, dtype=np.uint16 if deep else np.uint8)


@pytest.fixture
def negative(monkeypatch):
    """Work that takes no time, and changes every value: white less it."""
    asked = []

    def denoise(noisy, sigma, **options):
        asked.append((sigma, options))
        return Denoised(1 - noisy, (7,), None, sigma or 0.1, sigma is None, 0.1, 0.0, 0.0, 0.001, 2.0)

    monkeypatch.setattr(command, "denoise", denoise)
    return asked


FILES = {
    "grey.png": levels(5, 7),
    "grey.jpg": np.full((8, 8), 90, dtype=np.uint8),
    "deep grey.png": levels(5, 7, deep=True),
    "deep grey.tif": levels(5, 7, deep=True),
    "grey alpha.png": levels(5, 7, 2),
    "colour.png": levels(5, 7, 3),
    "colour.tiff": levels(5, 7, 3),
    "alpha.png": levels(5, 7, 4),
    "alpha.tif": levels(5, 7, 4),
    "deep colour.tif": levels(5, 7, 3, deep=True),
    "deep alpha.tif": levels(5, 7, 4, deep=True),
}


def stored(path):
    """The values of a file by the library that knows its kind, its orientation and its colour profile."""
    with Image.open(path) as file:
        about = (file.getexif().get(274), file.info.get("icc_profile"))
        pixels = np.asarray(file)
    return (tifffile.imread(path) if path.suffix in (".tif", ".tiff") else pixels), *about


@pytest.mark.parametrize("name", FILES)
def test_bits_alpha_orientation_and_profile_are_kept(tmp_path, capsys, negative, name):
    pixels, noisy, out = FILES[name], tmp_path / name, tmp_path / f"clean {name}"
    if name.startswith("deep") and pixels.ndim == 3:
        tags, alpha = [(274, "H", 1, 6, True)], ["unassalpha"] * (pixels.shape[2] == 4)
        options: Any = {"photometric": "rgb", "extrasamples": alpha, "extratags": tags}
        tifffile.imwrite(noisy, pixels, iccprofile=PROFILE, **options)
    else:
        Image.fromarray(pixels).save(noisy, exif=TURNED, icc_profile=PROFILE)
    assert command.main([str(noisy), "--sigma", "25", "--out", str(out)]) == 0
    expected = pixels.copy()
    colours = (
        expected[..., : expected.shape[2] - (expected.shape[2] + 1) % 2] if pixels.ndim == 3 else expected
    )
    colours[...] = np.iinfo(pixels.dtype).max - colours
    upright = noisy.suffix in (".tif", ".tiff") and not (name.startswith("deep") and pixels.ndim == 3)
    if upright:  # Pillow turns a TIFF while it reads the pixels
        expected = np.rot90(expected, -1)
    found, orientation, profile = stored(out)
    assert found.dtype == pixels.dtype
    assert np.array_equal(found, expected)
    assert (orientation, profile) == (1 if upright else 6, PROFILE)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, out.name])
    assert capsys.readouterr().out == f"{out}: 7 steps, sigma = 25.0/255, in 2 s\n"
    assert negative == [(25 / 255, {"exact": False, "budget_s": None, "memory_gb": 8.0})]


def test_a_cameras_notes_are_kept(tmp_path, negative):
    Image.fromarray(levels(8, 8, 3)).save(tmp_path / "photo.jpg", exif=TURNED)
    command.main([str(tmp_path / "photo.jpg"), "--out", str(tmp_path / "clean.png")])
    with Image.open(tmp_path / "clean.png") as file:
        assert dict(file.getexif()) == dict(TURNED)


def test_notes_on_the_size_of_a_camera_do_not_reach_a_tiff(tmp_path, negative):
    """A programme that scales a photograph may leave the camera's width and height in its notes."""
    noted = Image.Exif()
    noted[256], noted[257], noted[271] = 60, 40, "a camera"
    Image.fromarray(levels(20, 30, 3)).save(tmp_path / "photo.jpg", exif=noted)
    assert command.main([str(tmp_path / "photo.jpg"), "--out", str(tmp_path / "clean.tif")]) == 0
    with Image.open(tmp_path / "clean.tif") as file:
        assert (file.size, file.getexif()[271]) == ((30, 20), "a camera")
        file.load()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_comparison_lies_side_by_side_when_turned(tmp_path, negative, orientation):
    """As a viewer turns it: the noisy picture on the left, the result on the right, alpha with both."""
    noisy, side, exif = tmp_path / "noisy.png", tmp_path / "side.png", Image.Exif()
    exif[274] = orientation
    Image.fromarray(levels(5, 7, 4)).save(noisy, exif=exif)
    out = tmp_path / "clean.png"
    assert command.main([str(noisy), "--out", str(out), "--compare", str(side)]) == 0
    left, right = load_image(noisy), load_image(out)
    assert torch.equal(load_image(side), torch.cat([left, right], dim=2))


def test_one_line_and_no_traceback(tmp_path):
    """The command itself, once: it denoises a picture, and refuses to replace the noisy one."""
    start = [sys.executable, "-m", "dipfilters"]
    Image.fromarray(levels(12, 13, 3)).save(tmp_path / "noisy.png")

    def run(*words):
        return subprocess.run([*start, *words], cwd=tmp_path, capture_output=True, text=True)

    done = run("noisy.png", "--sigma", "10", "--out", "clean.png", "--exact", "--budget-s", "1e6")
    assert (done.returncode, load_image(tmp_path / "clean.png").shape) == (0, (3, 12, 13))
    assert done.stdout.startswith("clean.png: ")
    failed = run("noisy.png", "--sigma", "10", "--out", "./noisy.png")
    assert failed.returncode == 2
    assert (
        failed.stderr
        == "python -m dipfilters: 'noisy.png' is the noisy picture itself; choose another name\n"
    )


def deep_png(path: Path) -> None:
    """A PNG of 16-bit colours, which Pillow reads and cannot write: the specification's chunks, one pixel."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(bytes(7))), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


REFUSED = {
    "no such file": (["gone.png", "--out", "o.png"], "no picture 'gone.png': give the path of a file"),
    "linked": (["noisy.png", "--out", "link.png"], "'link.png' is the noisy picture itself"),
    "comparison": (["noisy.png", "--out", "o.png", "--compare", "noisy.png"], "is the noisy picture itself"),
    "same twice": (["noisy.png", "--out", "o.png", "--compare", "o.png"], "o.png' is named twice"),
    "folder": (["noisy.png", "--out", "gone/o.png"], "no file can be written in the folder 'gone'"),
    "kind": (["noisy.png", "--out", "o.xyz"], "a '.xyz' file cannot hold this picture"),
    "alpha": (
        ["noisy.png", "--out", "o.jpg"],
        "a '.jpg' file cannot hold this picture (cannot write mode RGBA",
    ),
    "16 bits": (["deep.tif", "--out", "o.png"], "(colours of 16 bits are written as TIFF alone)"),
    "16-bit PNG": (
        ["deep.png", "--out", "o.tif"],
        "has 16 bits in RGB in a PNG file, which cannot be written",
    ),
    "inks": (["inks.tif", "--out", "o.tif"], "has the mode CMYK, which cannot be written again; convert it"),
    "sigma": (["noisy.png", "--out", "o.png", "--sigma", "300"], "--sigma must lie between 0 and 255"),
    "a folder": (["noisy.png", "--out", "sub.png"], "'sub.png' is a folder; name the file to write in it"),
    "lossy kind": (["noisy.png", "--out", "o.gif"], "a '.gif' file cannot hold this picture (known are .png"),
    "planes": (["planes.tif", "--out", "o.tif"], "with interleaved colours"),
    "below black": (["below.tif", "--out", "o.tif"], "holds values from -5 to 9, where white is 65535"),
    "seconds": (
        ["noisy.png", "--out", "o.png", "--sigma", "9", "--budget-s", "1e-9"],
        "over budget_s = 1e-09",
    ),
    "memory": (
        ["noisy.png", "--out", "o.png", "--sigma", "9", "--memory-gb", "1e-5"],
        "over memory_gb = 1e-05",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_refused_leaves_the_folder_as_it_was(tmp_path, monkeypatch, capsys, why):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(levels(12, 13, 4)).save("noisy.png")
    Path("link.png").symlink_to("noisy.png")
    tifffile.imwrite("deep.tif", levels(5, 7, 3, deep=True), photometric="rgb")
    Image.new("CMYK", (4, 4)).save("inks.tif")
    deep_png(Path("deep.png"))
    planes: Any = {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite("planes.tif", levels(3, 5, 7, deep=True), **planes)
    tifffile.imwrite("below.tif", np.array([[-5, 9]] * 3, dtype=np.int16))
    before = {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    Path("sub.png").mkdir()
    words, told = REFUSED[why]
    assert command.main(words) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before
