"""Pictures and stored runs whose bytes were changed at random: a picture or a run, or the package's own error."""

from __future__ import annotations

import io
import json
import os
import struct
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dipfilters import PictureError, RecordError, load_image, load_or_run, picture_path
from tests.samples import annotations_off

# Counted are cases, of which a few are alike. The longer target has another seed at every run, and says which.
SOME = settings(max_examples=150, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
MANY = settings(SOME, max_examples=12_000, derandomize=False, print_blob=True)


# --------------------------------------------------------------------------------------- real files


def pictures() -> dict[str, bytes]:
    """Small parts of bundled pictures, in every format and mode that a reader may come with."""
    colour = Image.open(picture_path("astronaut")).convert("RGB").crop((150, 60, 173, 77))
    grey = Image.open(picture_path("camera")).convert("L").crop((200, 90, 223, 107))
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    alpha = colour.copy()
    alpha.putalpha(grey)
    exif = Image.Exif()
    exif[274] = 6
    wanted = {
        "grey.png": (grey, {}),
        "deep.png": (deep, {}),
        "alpha.png": (alpha, {}),
        "palette.png": (colour.quantize(16), {"transparency": 3}),
        "hole.png": (grey, {"transparency": 14}),
        "bits.png": (grey.convert("1"), {}),
        "laced.png": (colour, {"exif": exif}),
        "photo.jpg": (colour, {"exif": exif}),
        "progressive.jpg": (grey, {"progressive": True}),
        "print.jpg": (colour.convert("CMYK"), {}),
        "plain.tif": (colour, {}),
        "packed.tif": (colour, {"compression": "tiff_lzw"}),
        "zipped.tif": (deep, {"compression": "tiff_adobe_deflate"}),
        "old.bmp": (colour, {}),
        "old.gif": (colour.quantize(16), {}),
        "new.webp": (colour, {}),
        "plain.ppm": (colour, {}),
        "old.tga": (colour, {"compression": "tga_rle"}),
        "old.pcx": (colour, {}),
        "icon.ico": (colour, {}),
        "wavelets.jp2": (colour, {}),
    }
    found = {}
    for name, (picture, options) in wanted.items():
        beside = io.BytesIO()
        picture.save(beside, Image.registered_extensions()[Path(name).suffix], **options)
        found[name] = beside.getvalue()
    floats = io.BytesIO()
    tifffile.imwrite(floats, np.asarray(grey, np.float32) / 255)
    found["float.tif"] = floats.getvalue()
    return found


PICTURES = pictures()


def with_checksums(content: bytes) -> bytes:
    """A PNG whose chunks have right checksums again, as far as its chunks can be followed."""
    out, place = content[:8], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        body = content[place + 4 : place + 8 + length]
        if place + 12 + length > len(content):
            break
        out += content[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return out + content[place:]


@st.composite
def changed(draw, content: bytes) -> bytes:
    """The bytes after one to six changes: another value, a part cut out, doubled, or put in; or cut short."""
    new = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(len(new) - 1, 0)))
        # Headers decide more than what follows.
        place = min(place, draw(st.sampled_from([40, 200, len(new)])))
        span = draw(st.integers(1, 8))
        kind = draw(st.sampled_from(["byte", "word", "cut", "double", "put in", "short"]))
        if kind == "byte" and place < len(new):
            new[place] = draw(st.integers(0, 255))
        elif kind == "word":
            new[place : place + 4] = draw(st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\x80\0"]))
        elif kind == "cut":
            del new[place : place + span]
        elif kind == "double":
            new[place:place] = new[place : place + 4 * span]
        elif kind == "put in":
            new[place:place] = draw(st.binary(min_size=span, max_size=span))
        elif kind == "short" and draw(st.booleans()):
            del new[place:]
    return bytes(new)


@st.composite
def picture_files(draw) -> tuple[str, bytes]:
    name = draw(st.sampled_from(sorted(PICTURES)))
    content = draw(changed(PICTURES[name]))
    return name, with_checksums(content) if name.endswith(".png") and draw(st.booleans()) else content


def check_picture_file(folder: Path, name: str, content: bytes) -> str:
    """A picture with values in [0, 1], or a PictureError that names the file."""
    path = folder / name
    path.write_bytes(content)
    with warnings.catch_warnings(), annotations_off():
        warnings.simplefilter("ignore")  # Pillow warns of much that it then reads
        try:
            image = load_image(path)
        except PictureError as error:
            assert name in str(error)
            return "refused"
    assert image.ndim == 3
    assert image.shape[0] in (1, 3)
    assert image.dtype == torch.float32
    assert bool(((image >= 0) & (image <= 1)).all())
    return "read"
