"""Pictures whose bytes were changed at random: a result, or the package's own error."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dipfilters import PictureError, load_image
from dipfilters.images import picture_path
from tests.samples import annotations_off, changed

SOME = settings(
    max_examples=300, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
# Others at every run of `make test-long`; one that fails is printed as a line to put above the test.
MANY = settings(SOME, max_examples=12_000, derandomize=False, print_blob=True)


# ------------------------------------------------------------------------------------------ pictures


def pictures() -> dict[str, bytes]:
    """Small parts of bundled pictures, in many formats and modes that a reader may come with."""
    colour = Image.open(picture_path("astronaut")).convert("RGB").crop((150, 60, 173, 77))
    grey = Image.open(picture_path("camera")).convert("L").crop((200, 90, 223, 107))
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    alpha = colour.copy()
    alpha.putalpha(grey)
    exif = Image.Exif()
    exif[274] = 6
    wanted: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "grey.png": (grey, {}),
        "deep.png": (deep, {}),
        "alpha.png": (alpha, {}),
        "palette.png": (colour.quantize(16), {"transparency": 3}),
        "bits.png": (grey.convert("1"), {}),
        "photo.jpg": (colour, {"exif": exif}),
        "print.jpg": (colour.convert("CMYK"), {}),
        "zipped.tif": (deep, {"compression": "tiff_adobe_deflate"}),
        "old.bmp": (colour, {}),
        "old.gif": (colour.quantize(16), {}),
        "new.webp": (colour, {}),
        "wavelets.jp2": (colour, {}),
    }
    found = {}
    for name, (picture, options) in wanted.items():
        file = io.BytesIO()
        picture.save(file, Image.registered_extensions()[Path(name).suffix], **options)
        found[name] = file.getvalue()
    floats = io.BytesIO()
    tifffile.imwrite(floats, np.asarray(grey, np.float32) / 255)
    found["float.tif"] = floats.getvalue()
    return found


PICTURES = pictures()


def with_checksums(content: bytes) -> bytes:
    """A PNG whose chunks have right checksums again, so that more than those is put to the test."""
    out, place = content[:8], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        if place + 12 + length > len(content):
            break
        body = content[place + 4 : place + 8 + length]
        out += content[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return out + content[place:]


@st.composite
def picture_files(draw) -> tuple[str, bytes]:
    name = draw(st.sampled_from(sorted(PICTURES)))
    content = draw(changed(PICTURES[name]))
    return name, with_checksums(content) if name.endswith(".png") and draw(st.booleans()) else content


def check_picture(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    path.write_bytes(content)
    with warnings.catch_warnings(), annotations_off():
        warnings.simplefilter("ignore")  # Pillow warns of much that it then reads
        try:
            image = load_image(path)
        except PictureError as error:
            if name in str(error):
                return
            raise
    assert image.ndim == 3
    assert image.shape[0] in (1, 3)
    assert image.dtype == torch.float32
    assert bool(((image >= 0) & (image <= 1)).all())


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_the_files_are_pictures_before_they_are_changed(tmp_path, name):
    (tmp_path / name).write_bytes(PICTURES[name])
    assert load_image(tmp_path / name).shape[1:] in ((17, 23), (23, 17), (12, 16))


@SOME
@given(picture_files())
def test_a_changed_picture_is_read_or_refused(tmp_path_factory, case):
    check_picture(tmp_path_factory.getbasetemp(), *case)


@pytest.mark.long
@MANY
@given(picture_files())
def test_a_changed_picture_is_read_or_refused_many_times(tmp_path_factory, case):
    check_picture(tmp_path_factory.getbasetemp(), *case)
