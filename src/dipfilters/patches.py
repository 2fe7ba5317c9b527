"""From a picture to the patches around its pixels."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dipfilters.images import PictureError, check_picture

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
    radius = size // 2
    mode = "constant" if padding == "zero" else padding
    return unfold(F.pad(image[None], (radius,) * 4, mode=mode)[0], size)


def check_patch_size(image: Tensor, size: int, padding: Padding) -> None:
    """Refuse what :func:`extract_patches` cannot cut patches from."""
    check_picture(image)
    if size < 1 or size % 2 == 0:
        raise ValueError(f"patch size must be odd and positive, got {size}; use {max(1, size + 1)}")
    radius = size // 2
    smallest = min(image.shape[1:])
    # Mirroring uses `radius` pixels besides the outermost, wrapping uses `radius` pixels in all.
    needed = {"reflect": radius + 1, "circular": max(radius, 1), "zero": 1}.get(padding)
    if needed is None:
        raise ValueError(f'padding must be "reflect", "circular" or "zero", got {padding!r}')
    if smallest < needed:
        raise PictureError(
            f"image of {image.shape[1]}×{image.shape[2]} pixels is too small for {padding} padding of "
            f"{size}×{size} patches; it needs {needed} pixels a side, or a smaller patch size"
        )


def unfold(padded: Float[Tensor, "C h w"], size: int) -> Float[Tensor, "N d"]:
    """The patches that lie wholly inside a padded picture."""
    return F.unfold(padded[None], kernel_size=size)[0].T.contiguous()
