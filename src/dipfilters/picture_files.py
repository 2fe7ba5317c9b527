"""A picture file from which another is made that keeps what is not its colours."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from dipfilters.decoding import PictureError, opened
from dipfilters.images import picture_path

_KINDS = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".webp")

# What EXIF may say of a picture's own pixels, which a TIFF of other pixels must not repeat.
_LAYOUT = {*range(254, 260), 262, 273, *range(277, 280), 284, 317, *range(322, 326), 338, 339, 513, 514}
_LAYOUT |= set(range(529, 533))


@dataclass(frozen=True)
class StoredPicture:
    """A picture as its file holds it, neither turned nor laid on white, and what is to be kept beside it.

    Attributes:
        values: Grey or colours, in [0, 1].
        alpha: (H, W) whole numbers up to ``white``, or None.
        white: 255 or 65535.
        orientation: The number of the EXIF standard by which a viewer turns the picture; 1 is upright.
        exif, icc_profile: Bytes for what a camera noted, and for what the colours mean, or None.
    """

    values: Float[Tensor, "C H W"]
    alpha: NDArray[np.integer] | None
    white: int
    orientation: int
    exif: bytes | None
    icc_profile: bytes | None


def open_picture(name_or_path: str | PathLike[str]) -> StoredPicture:
    """Read a picture of which another is to be made in its place, by :func:`encode_picture`.

    Args:
        name_or_path: As for :func:`load_image`: a PNG, JPEG or TIFF file of 8 bits, with or without alpha; 16
            bits in grey, and as TIFF in colour.

    Raises:
        PictureError: As :func:`load_image`; a file of another kind.
    """
    from PIL import Image

    path = picture_path(name_or_path)
    with opened(path) as file:
        # Pillow has no 16-bit colour: it would give the upper eight bits.
        tags = getattr(file, "tag_v2", {})
        deep = any(";16" in str(tile[-1]) for tile in file.tile) or file.mode.startswith("I;16")
        deep = deep or max(tags.get(258, (8,))) > 8  # of a TIFF stored plane by plane
        holes = "transparency" in file.info
        mode = {"1": "L", "P": "RGBA" if holes else "RGB"}.get(file.mode, file.mode + "A" * holes)
        plain = mode in ("L", "LA", "RGB", "RGBA") and tags.get(284, 1) == 1 and 1 not in tags.get(338, ())
        if deep and file.mode.startswith("I") and not holes and tags.get(262, 1) == 1:
            pixels = np.array(file)
            if pixels.min() < 0 or pixels.max() > 65535:
                raise PictureError(
                    f"{str(path)!r} holds values from {pixels.min()} to {pixels.max()}, where white is "
                    f"65535; scale them, black to 0 and white to 65535"
                )
            pixels = pixels.astype(np.uint16)
        elif deep and file.format == "TIFF" and plain and not file.mode.startswith("I"):
            import tifffile

            pixels = tifffile.imread(path)
        elif deep or mode not in ("L", "LA", "RGB", "RGBA"):
            kind = f"16 bits in {file.mode} in a {file.format} file" if deep else f"the mode {file.mode}"
            raise PictureError(
                f"{str(path)!r} has {kind}, which cannot be written again; convert it to an RGB picture of 8 "
                f"bits, or to a TIFF of 16 with interleaved colours, black as 0 and plain alpha"
            )
        else:
            pixels = np.array(file.convert(mode))
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        if set(pixels.shape[:2]) != set(file.size) or pixels.shape[2] > 4:
            raise PictureError(f"{str(path)!r} holds {pixels.shape}, no picture of 1 to 4 channels in a row")
        # Pillow turns a TIFF while it reads the pixels, and says 1 from then on.
        orientation = int(file.getexif().get(274, 1))
        turned = Image.Exif()
        turned[274] = orientation  # a TIFF's other tags are about its own layout
        exif, profile = file.info.get("exif", turned.tobytes()), file.info.get("icc_profile")
    colours = pixels.shape[2] - (pixels.shape[2] + 1) % 2
    white = 65535 if pixels.dtype == np.uint16 else 255
    values = torch.from_numpy(pixels[..., :colours].astype(np.float32) / white).permute(2, 0, 1)
    alpha = None if colours == pixels.shape[2] else pixels[..., -1]
    return StoredPicture(values.contiguous(), alpha, white, orientation, exif, profile)


def encode_picture(values: Float[Tensor, "C H W"], like: StoredPicture, suffix: str) -> bytes:
    """The bytes of a file that holds other values, clipped to [0, 1], and the rest as ``like`` has it.

    Args:
        values: As many channels as those of ``like``.
        like: What gives the alpha channel, the number of bits, the orientation and the colour profile.
        suffix: The kind of file: ".png", ".tif", ".jpg", …

    Raises:
        PictureError: The kind of file cannot hold that.
    """
    from PIL import Image

    kind = np.uint16 if like.white == 65535 else np.uint8
    levels = (values.detach().cpu().double().clamp(0.0, 1.0) * like.white).round()
    pixels = levels.permute(1, 2, 0).numpy().astype(kind)
    if like.alpha is not None:
        pixels = np.concatenate([pixels, like.alpha[..., None]], axis=2)
    file, suffix = BytesIO(), suffix.lower()
    try:
        if suffix not in _KINDS:  # others would drop the profile or the alpha channel, or change the pixels
            raise ValueError(f"known are {', '.join(_KINDS)}")
        if like.white == 65535 and pixels.shape[2] > 1:
            if suffix not in (".tif", ".tiff"):
                raise ValueError("colours of 16 bits are written as TIFF alone")
            import tifffile

            tifffile.imwrite(
                file,
                pixels,
                photometric="rgb" if pixels.shape[2] > 2 else "minisblack",
                extrasamples=None if like.alpha is None else ["unassalpha"],
                iccprofile=like.icc_profile,
                extratags=[(274, "H", 1, like.orientation, True)],
            )
        else:
            given = {"exif": like.exif, "icc_profile": like.icc_profile, "quality": 95}
            if suffix in (".tif", ".tiff") and like.exif is not None:
                given["exif"] = _without_layout(like.exif)
            kept: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
            image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
            image.save(file, format=Image.registered_extensions()[suffix], **kept)
    except (OSError, KeyError, ValueError) as error:
        raise PictureError(
            f"a {suffix!r} file cannot hold this picture ({error}); take .png or .tif"
        ) from error
    return file.getvalue()


def _without_layout(exif: bytes) -> bytes:
    from PIL import Image

    noted = Image.Exif()
    noted.load(exif)
    for tag in _LAYOUT & set(noted):
        del noted[tag]
    return noted.tobytes()
