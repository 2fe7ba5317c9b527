"""What files and other libraries hold: bytes, deep colours, floats, pages, turned, with alpha."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dipfilters.parameters import check_whole


class PictureError(ValueError):
    """A picture that cannot be found, read or used; the message names it and the remedy."""


Levels = tuple[int | float, int | float]
"""The values of black and of white."""


def as_picture(array: Any, *, scale: Levels | None = None) -> Float[Tensor, "C H W"]:
    """What other libraries hold, as a float32 tensor of shape (C, H, W) with values in [0, 1].

    Args:
        array: A Pillow image; or an array or tensor of shape (H, W), (H, W, 1 or 3), or (1 or 3, H, W), of
            bytes, 16-bit whole numbers, or floats.
        scale: As for :func:`load_image`.

    Raises:
        PictureError: Another shape; values whose black and white no one knows, floats outside [0, 1], without
            a scale.
        ValueError: A scale without extent.
    """
    from PIL import Image

    if isinstance(array, Image.Image):
        return of_pillow(array, "array", scale)
    values = array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)
    shape = values.shape
    if values.ndim == 2:
        values = values[None]
    elif values.ndim == 3 and shape[2] in (1, 3):
        values = values.transpose(2, 0, 1)
    if values.ndim != 3 or len(values) not in (1, 3) or 0 in shape:
        remedy = "take its alpha channel off by array[..., :3]" if shape[2:] == (4,) else "give a picture"
        raise PictureError(
            f"array must have shape (H, W), (H, W, C) or (C, H, W) with C = 1 or 3, got {shape}; {remedy}"
        )
    return scaled("array", values, scale)


def decode(path: Path, page: int | None, scale: Levels | None) -> Float[Tensor, "C H W"]:
    """Read a file of any common mode (8 or 16 bits, floats, palette, alpha, CMYK) into C×H×W in [0, 1]."""
    with path.open("rb") as stream:
        is_tiff = stream.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    if is_tiff and (values := _deep_tiff(path, page)) is not None:
        return scaled(str(path), values, scale)
    with opened(path, page) as file:
        return of_pillow(file, str(path), scale)


def _deep_tiff(path: Path, page: int | None) -> np.ndarray | None:
    """The values (C, H, W) of a TIFF of floats, signed numbers or deep colours, which Pillow would change."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            if len(file.pages) == 0:
                raise ValueError("no page in it")
            number = _page(path, page, len(file.pages))
            sheet = file.pages[number].aspage()
            bits, kind = sheet.bitspersample, sheet.dtype.kind if sheet.dtype is not None else "u"
            if kind == "u" and (bits <= 8 or (bits == 16 and sheet.samplesperpixel == 1)):
                return None
            if sheet.photometric not in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB):
                raise PictureError(f"{str(path)!r} has colours of another kind than RGB; convert it")
            values = sheet.asarray()
            orientation = int(sheet.tags.valueof(274, default=1))
            axes = sheet.axes
    except PictureError:
        raise
    except Exception as error:  # damaged files raise what they like; compressed ones may need a decoder
        remedy = "save it without compression" if "imagecodecs" in str(error) else "try a PNG of it"
        raise PictureError(f"{str(path)!r} cannot be read as a picture ({error}); {remedy}") from error
    values = values.reshape(-1, *values.shape[-2:]) if axes[-2:] == "YX" else values
    values = values if axes[-2:] == "YX" else np.moveaxis(values, -1, 0)
    values = _turned(values, orientation)
    if len(values) in (2, 4):  # alpha: on white
        kept, white = values.dtype, np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1.0
        share = values[-1:] / white
        values = values[:-1] * share + white * (1 - share)
        values = values.round().astype(kept) if white != 1.0 else values
    return values


def _turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """(C, H, W) as a camera's note says: 5 to 8 exchange rows and columns, the others mirror."""
    if orientation in (2, 3, 7, 6):
        values = values[:, :, ::-1] if orientation in (2, 3) else values[:, ::-1]
    if orientation in (4, 3, 7, 8):
        values = values[:, ::-1] if orientation in (4, 3) else values[:, :, ::-1]
    return values.swapaxes(1, 2) if orientation >= 5 else values


def of_pillow(file: Any, name: str, scale: Levels | None) -> Float[Tensor, "C H W"]:
    """A picture that Pillow holds, turned as its file says and laid on white; ``name`` is for errors."""
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(file)
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.array(picture)[None]
        deep = picture.mode != "F" and values.min() >= 0 and values.max() <= 65535  # a file of 16 bits
        return scaled(name, values.astype(np.uint16) if deep else values, scale)
    grey = picture.mode in ("1", "L", "LA")
    if picture.mode in ("1", "L") and "transparency" not in picture.info:
        return scaled(name, np.array(picture.convert("L"))[None], scale)
    white = Image.new("RGBA", picture.size, "white")
    flat = Image.alpha_composite(white, picture.convert("RGBA")).convert("L" if grey else "RGB")
    values = np.array(flat)
    return scaled(name, values[None] if grey else values.transpose(2, 0, 1), scale)


def scaled(name: str, values: np.ndarray, scale: Levels | None) -> Float[Tensor, "C H W"]:
    """Values with black at 0 and white at 1.

    Raises:
        PictureError: Values that are not finite, or whose scale is not known, with what they are.
        ValueError: A scale without extent.
    """
    kind, least, most = values.dtype, values.min(), values.max()
    if not np.isfinite(np.asarray([least, most], dtype=np.float64)).all():
        raise PictureError(f"{name!r} holds pixels that are not finite; repair it")
    if scale is None:
        ends = {"uint8": (0, 255), "uint16": (0, 65535), "bool": (0, 1)}.get(kind.name)
        if ends is None and (kind.kind != "f" or least < 0 or most > 1):
            remedy = "scale=(0, 1) takes them as they are"
            if kind.kind != "f" or not -1 <= least <= most <= 2:
                white = 255 if most <= 255 else np.iinfo(kind).max if kind.kind in "iu" else most
                remedy = f"give scale=(black, white), such as scale=(0, {white:.10g})"
            raise PictureError(
                f"{name!r} holds {kind.name} from {least:g} to {most:g}, and no word on black and white; "
                f"{remedy}"
            )
        scale = ends or (0, 1)
    black, white = map(float, scale)
    if not abs(white - black) > 0:
        raise ValueError(f"scale must be two different numbers, black and white, got {scale}")
    levels = (values.astype(np.float64) - black) / (white - black)
    return torch.from_numpy(levels.astype(np.float32))


@contextmanager
def opened(path: Path, page: int | None = None) -> Iterator[Any]:
    """A picture of a file, by Pillow, whose own warnings and errors stay behind.

    Raises:
        PictureError: It cannot be read as a picture, or holds several and no page is named.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Large, and no bomb: one is refused from twice that size on. Metadata that are cut off.
            warnings.simplefilter("ignore")
            # Of a path, Pillow maps turned TIFF files into memory with height and width exchanged.
            with path.open("rb") as stream, Image.open(stream) as file:
                pages = getattr(file, "n_frames", 1)
                if file.format == "MPO":  # a camera's, with previews behind the photograph
                    pages = 1
                file.seek(_page(path, page, pages))
                yield file
    except PictureError:
        raise
    # Pillow has a bare ValueError for headers that are cut off or hold nonsense.
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PictureError(f"{str(path)!r} cannot be read as a picture ({error}); try a PNG of it") from error


def _page(path: Path, page: int | None, pages: int) -> int:
    """The page that is meant, of so many."""
    if page is None and pages > 1:
        raise PictureError(f"{str(path)!r} holds {pages} pictures; choose one by page=0 to page={pages - 1}")
    if not 0 <= (number := check_whole("page", page or 0, 0)) < pages:
        raise PictureError(f"{str(path)!r} has no page {number}; it holds {pages}, counted from 0")
    return number
