"""Pictures in, noise on: loading a picture, adding noise, measuring what is left of it.

A picture is a tensor of shape (C, H, W) with values in [0, 1]: C is 1 (grey) or 3 (colour).
A noise level is in the same unit, so that the "sigma = 25" of the literature is 25/255 here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from numbers import Real
from os import PathLike
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dipfilters.decoding import Levels, PictureError, decode
from dipfilters.parameters import check_whole


@dataclass(frozen=True)
class Picture:
    """A picture that travels with scikit-image: its file there, what it shows, its licence."""

    file: str
    title: str
    licence: str
    credit: str


_LIST = Path(__file__).parent / "data/pictures.json"
PICTURES = {name: Picture(**entry) for name, entry in json.loads(_LIST.read_text("utf-8")).items()}
"""The pictures known by name, all inside scikit-image's wheel, so that nothing is downloaded."""


def picture_path(name_or_path: str | PathLike[str]) -> Path:
    """Return the file behind the name of a bundled picture, or the path itself if it is a file.

    Raises:
        PictureError: Neither a known name nor an existing file.
    """
    if not isinstance(name_or_path, str | PathLike):
        raise PictureError(
            f"a picture is loaded by its name or path, got {type(name_or_path).__name__}; use as_picture() "
            f"for pixels that are already read"
        )
    if isinstance(name_or_path, str) and name_or_path in PICTURES:
        return Path(str(resources.files("skimage.data").joinpath(PICTURES[name_or_path].file)))
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        known = ", ".join(sorted(PICTURES))
        raise PictureError(f"no picture {str(name_or_path)!r}: give the path of a file, or one of {known}")
    return path


def load_image(
    name_or_path: str | PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    gray: bool = False,
    page: int | None = None,
    scale: Levels | None = None,
) -> Float[Tensor, "C H W"]:
    """Load a picture as a float32 tensor with values in [0, 1].

    Args:
        name_or_path: A key of :data:`PICTURES`, or the path of a PNG, JPEG or TIFF file.
        size: ``None`` keeps the size; an integer s gives s×s pixels, a pair (H, W) gives H×W. The
            largest centred part of the right proportions is cut out, then scaled with anti-aliasing.
        gray: Return one channel of luminance instead of three of colour. A grey file has one either way.
        page: Which picture of a file that holds several, from 0 on.
        scale: The file's values of black and white, ``(0, 4095)`` for 12 bits in a file of 16. None takes
            them from the kind of file: 0 and 255 or 65535, for floats 0 and 1. What lies outside is kept if
            a scale is given, and refused if not.

    An alpha channel is laid on white, and the orientation that a camera notes in the file is applied.

    Raises:
        PictureError: No such picture; a file that cannot be read as one, or holds several and no page is
            named; integers whose black and white no one knows, floats outside [0, 1], without a scale.
        ValueError: A size that is not a whole number of pixels from 1 on; a scale without extent.

    Cost: that of decoding the file.
    """
    image = decode(picture_path(name_or_path), page, scale)
    if gray and image.shape[0] == 3:
        from skimage.color import rgb2gray  # not at import time: dipfilters stays light to import

        image = torch.from_numpy(rgb2gray(image.numpy(), channel_axis=0)).float()[None]
    if size is not None:
        sides = size if isinstance(size, Sequence) else (size, size)
        image = _crop_and_scale(image, *(check_whole("size", side, 1) for side in sides))
    return image.clamp(0.0, 1.0) if scale is None else image


def _crop_and_scale(image: Float[Tensor, "C H W"], rows: int, columns: int) -> Float[Tensor, "C h w"]:
    """Cut the largest centred part with the proportions of rows and columns, and scale it to them."""
    height, width = image.shape[1:]
    scale = min(height / rows, width / columns)
    h, w = max(1, round(rows * scale)), max(1, round(columns * scale))
    top, left = (height - h) // 2, (width - w) // 2
    part = image[:, top : top + h, left : left + w]
    if (h, w) == (rows, columns):
        return part.clone()
    return F.interpolate(part[None], size=(rows, columns), mode="bilinear", antialias=True)[0]


def check_picture(image: Tensor, name: str = "image") -> None:
    """Refuse anything but a picture of shape (C, H, W) with finite floating-point values.

    Raises:
        PictureError: With the name, what it is, and what it should be.
    """
    _check_tensor(image, name)
    shape = tuple(image.shape)
    if len(shape) != 3 or 0 in shape:
        raise PictureError(f"{name} must have shape (C, H, W), got {shape}; a grey picture is (1, H, W)")
    if shape[2] in (1, 3, 4) and min(shape[:2]) >= 16:  # a narrow picture of many channels is one
        raise PictureError(
            f"{name} must have shape (C, H, W), got {shape}, which looks like (H, W, C); give "
            f"{name}.permute(2, 0, 1)"
        )
    check_pixels(image, name)


def _check_tensor(image: object, name: str) -> None:
    if not isinstance(image, Tensor):
        remedy = f"load_image({name})" if isinstance(image, str | PathLike) else f"as_picture({name})"
        raise PictureError(f"{name} must be a tensor, got {type(image).__name__}; use {remedy}")


def check_shape(name: str, found: Sequence[int], wanted: Sequence[int], whose: str) -> None:
    """Refuse a picture of another shape than something else has.

    Raises:
        PictureError: With both shapes.
    """
    if tuple(found) != tuple(wanted):
        raise PictureError(f"{name} must have the shape of {whose}, {tuple(wanted)}, got {tuple(found)}")


def check_detached(image: Tensor, name: str) -> None:
    """Refuse what requires a gradient, where none could be passed on to it.

    Raises:
        PictureError: With the name and the remedy.
    """
    if image.requires_grad:
        raise PictureError(f"{name} requires a gradient, which is not computed here; give {name}.detach()")


def check_pixels(image: Tensor, name: str) -> None:
    """Refuse values, of whatever shape, that are whole numbers or not finite.

    Raises:
        PictureError: With the name, what they are, and the remedy.
    """
    _check_tensor(image, name)
    if not image.is_floating_point():
        raise PictureError(
            f"{name} must hold floats in [0, 1], got {image.dtype}; divide bytes by 255, or use as_picture()"
        )
    if not bool(torch.isfinite(image).all()):
        bad = int((~torch.isfinite(image)).sum())
        raise PictureError(f"{name} holds {bad} values that are NaN or infinite; replace them first")


def pixel_numbers(pixels: Sequence[tuple[int, int]], shape: tuple[int, int]) -> list[int]:
    """The numbers r·W + c of pixels (row, column) of a picture of ``shape`` (H, W).

    Raises:
        IndexError: A pixel outside the picture.
    """
    height, width = shape
    for r, c in pixels:
        if not (0 <= r < height and 0 <= c < width):
            raise IndexError(f"pixel {(r, c)} lies outside the picture of {height}×{width} pixels")
    return [r * width + c for r, c in pixels]


def check_sigma(sigma: float) -> None:
    """Refuse a noise level outside [0, 1].

    Raises:
        ValueError: With the remedy; a level above 1 is nearly always one meant for 0..255.
    """
    given: object = sigma
    if not isinstance(given, Real):
        raise ValueError(
            f"sigma must be one number in [0, 1], got {type(sigma).__name__}; denoise channels of unlike "
            f"noise one by one"
        )
    if not 0.0 <= sigma <= 1.0:
        raise ValueError(f"sigma must lie in [0, 1], as pixels do, got {sigma}; for 25 write 25/255")


def add_noise(
    image: Float[Tensor, "C H W"], sigma: float, *, generator: torch.Generator
) -> Float[Tensor, "C H W"]:
    """Add white Gaussian noise: y = x + σ n, with n drawn from N(0, 1) for each value by itself.

    The result is not clipped to [0, 1]: clipping would make the noise depend on the picture.

    Args:
        image: The picture x, values in [0, 1].
        sigma: The standard deviation σ of the noise, in the unit of the pixels: "25" is 25/255.
        generator: The source of chance; the same seed gives the same noise.

    Raises:
        PictureError: Not a picture, or not finite.
        ValueError: sigma outside [0, 1].
    """
    check_picture(image)
    check_sigma(sigma)
    noise = torch.randn(image.shape, generator=generator, dtype=image.dtype, device=generator.device)
    return image + sigma * noise.to(image.device)


def psnr(estimate: Float[Tensor, "C H W"], reference: Float[Tensor, "C H W"]) -> float:
    """Peak signal-to-noise ratio in decibels, for a peak of 1.

    ::

        PSNR = −10 log10( ‖ẑ − x‖² / CN )

    Higher is better: 6 dB halve the error, and 20.2 dB is a picture under noise of 25/255.
    The same picture twice gives infinity.

    Raises:
        PictureError: Not pictures, or of different shapes.
    """
    check_picture(estimate, "estimate")
    check_picture(reference, "reference")
    check_shape("estimate", estimate.shape, reference.shape, "reference")
    error = float((estimate.detach().double() - reference.detach().double()).square().mean())
    return math.inf if error == 0.0 else -10.0 * math.log10(error)


def typical_pixels(image: Float[Tensor, "C H W"], *, margin: int = 8) -> dict[str, tuple[int, int]]:
    """One pixel each of a flat part, an edge, a texture and a corner of a clean picture, as (row, column).

    They are the places where the eigenvalues of the structure tensor at two scales say so most clearly:
    small both (flat), one large (edge), two large over a wide area (texture), two large in a small one
    (corner).

    Args:
        image: The picture, without noise.
        margin: How far from the border to stay, in pixels.

    Raises:
        PictureError: Not a picture, or nothing of it lies inside the margin.
        ValueError: A negative margin.
    """
    from skimage.feature import structure_tensor, structure_tensor_eigenvalues

    check_picture(image)
    check_whole("margin", margin, 0)
    luminance = image.detach().mean(0).cpu().double().numpy()
    inside = np.zeros(luminance.shape, dtype=bool)
    inside[margin : luminance.shape[0] - margin, margin : luminance.shape[1] - margin] = True
    if not inside.any():
        raise PictureError(f"image of {luminance.shape} pixels has none inside a margin of {margin}")
    near, wide = (
        structure_tensor_eigenvalues(structure_tensor(luminance, sigma=sigma, mode="nearest"))
        for sigma in (1.5, 5.0)
    )
    scores = {
        "flat": -wide[0],
        "edge": near[0] - near[1] - 2 * wide[1],
        "texture": 1.5 * wide[1] - 0.5 * wide[0],
        "corner": near[1] - wide[1],
    }
    best = {kind: np.where(inside, score, -np.inf).argmax() for kind, score in scores.items()}
    return {kind: divmod(int(index), luminance.shape[1]) for kind, index in best.items()}
