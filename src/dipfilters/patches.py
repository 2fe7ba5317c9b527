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
    mode = "constant" if padding == "zero" else padding
    padded = F.pad(image[None], (radius, radius, radius, radius), mode=mode)
    return F.unfold(padded, kernel_size=size)[0].T.contiguous()
