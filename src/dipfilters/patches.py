"""From a picture to the patches around its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dipfilters.decoding import PictureError
from dipfilters.images import check_picture
from dipfilters.parameters import check_choice, check_whole

Padding = Literal["reflect", "circular", "zero"]


def extract_patches(
    image: Float[Tensor, "C H W"], size: int, *, padding: Padding = "reflect"
) -> Float[Tensor, "N d"]:
    """Return the patch around every pixel, one a row.

    ::

        p_i = ( x[c, r_i + a, s_i + b] : c < C, |a| ≤ (k−1)/2, |b| ≤ (k−1)/2 )

    Row i = r·W + s belongs to the pixel (r, s); N = H·W, d = C·k².

    Args:
        image: The picture x.
        size: The side k of the patch in pixels: odd, so that a patch has a middle.
        padding: What lies beyond the border: the picture mirrored at its outermost pixels
            (``"reflect"``), its opposite side (``"circular"``), or zeros (``"zero"``).

    Raises:
        PictureError: Not a picture, or too small for the patch.
        ValueError: An even or non-positive size, an unknown padding.

    Cost: N·d values of memory.
    """
    check_patch_size(image, size, padding)
    return unfold(pad(image[None], size // 2, padding)[0], size)


def check_patch_size(image: Tensor, size: int, padding: Padding) -> None:
    """Refuse what :func:`extract_patches` cannot cut patches from."""
    check_picture(image)
    if check_whole("patch size", size, 1) % 2 == 0:
        raise ValueError(f"patch size must be odd, so that a patch has a middle, got {size}; use {size + 1}")
    check_room(image.shape[1:], size // 2, padding)


def check_room(shape: Sequence[int], radius: int, padding: Padding) -> None:
    """Refuse a picture of H×W pixels that cannot be padded by ``radius`` pixels.

    Raises:
        PictureError: It is too small.
        ValueError: An unknown padding.
    """
    check_choice("padding", padding, Padding)
    # Mirroring uses `radius` pixels besides the outermost, wrapping uses `radius` pixels in all.
    needed = {"reflect": radius + 1, "circular": radius, "zero": 1}[padding]
    if min(shape) < needed:
        raise PictureError(
            f"{shape[0]}×{shape[1]} pixels are too few for {padding} padding by {radius}, which needs "
            f"{needed} a side; use a larger picture, smaller patches, fewer layers or zero padding"
        )


def pad(image: Float[Tensor, "B C H W"], radius: int, padding: Padding) -> Float[Tensor, "B C h w"]:
    """Add ``radius`` pixels on every side.

    Raises:
        PictureError: The picture is too small to be mirrored or wrapped that far.
    """
    check_room(image.shape[2:], radius, padding)
    if radius == 0:
        return image
    return F.pad(image, (radius,) * 4, mode="constant" if padding == "zero" else padding)


def unfold(padded: Float[Tensor, "C h w"], size: int) -> Float[Tensor, "N d"]:
    """The patches that lie wholly inside a padded picture."""
    windows = padded.unfold(1, size, 1).unfold(2, size, 1)
    return windows.permute(1, 2, 0, 3, 4).reshape(-1, len(padded) * size**2)
