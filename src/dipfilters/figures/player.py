"""The twicing player."""

from __future__ import annotations

from typing import Any

import torch
import traitlets
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from dipfilters.decoding import PictureError
from dipfilters.figures.base import (
    ComputedFigure,
    Seed,
    Whole,
    browser_normals,
    check_gray,
    quantised,
    script,
)
from dipfilters.filters import KernelFilter
from dipfilters.images import psnr
from dipfilters.kernels import gaussian_kernel, one_layer_tangent_kernel
from dipfilters.patches import check_patch_size
from dipfilters.twicing import SpectralTwicing

FILTERS = ("non-local means", "tangent kernel")
NOISES = (10, 25, 50)
LARGEST = 64 * 64  # a kernel matrix of 67 MB in the browser's memory


class TwicingPlayer(ComputedFigure):
    """Slide through the steps of twicing: estimate, residual, bias, variance, and when to stop.

    The browser draws the noise, makes the filter matrix of the noisy picture and gets all steps from some ten
    products with it by Lanczos' method. Non-local means compares 5×5 patches with bandwidth 2 σ and has rows
    that sum to one; the tangent kernel is that of one hidden layer on 7×7 patches, with largest eigenvalue
    one. Stein's estimate is the Monte-Carlo one of the whole map: the filter is made anew from the shaken
    picture.

    Args:
        clean: The clean picture, (1, H, W), at most 64×64 pixels, values in [0, 1].
        filter: ``"non-local means"`` or ``"tangent kernel"``.
        noise: 255 σ: 10, 25 or 50.
        seed: Of the noise, from 1.
        step: k at first, 1 to 1000; the browser shows the nearest of some forty.

    Raises:
        PictureError: A picture that is too large, too small for 7×7 patches, or not grey.
        traitlets.TraitError: Another filter or noise level, a step outside its range, also when set later.

    Cost: in the browser, two N×N matrices one after the other, and about forty products with them.
    """

    _esm = script("player.js")
    clean = traitlets.Bytes(read_only=True).tag(sync=True)
    filter = traitlets.Enum(FILTERS).tag(sync=True)
    noise = traitlets.Enum(NOISES).tag(sync=True)
    seed = Seed().tag(sync=True)
    step = Whole(min=1, max=1000).tag(sync=True)

    def __init__(
        self,
        clean: Float[Tensor, "C H W"],
        *,
        filter: str = FILTERS[0],
        noise: int = 25,
        seed: int = 1,
        step: int = 1,
        **others: Any,
    ) -> None:
        check_gray("clean", clean)
        if clean[0].numel() > LARGEST:
            raise PictureError(
                f"clean has {clean.shape[1]}×{clean.shape[2]} pixels; the browser can do with "
                f"{LARGEST}; load it smaller"
            )
        check_patch_size(clean, 7, "reflect")
        super().__init__(
            {"shape": list(clean.shape[1:]), "clean": quantised(clean)},
            filter=filter,
            noise=noise,
            seed=seed,
            step=step,
            **others,
        )

    def pictures(self) -> tuple[Float[Tensor, "1 H W"], Float[Tensor, "1 H W"]]:
        """Clean and noisy as the browser has them."""
        clean = torch.frombuffer(bytearray(self.clean), dtype=torch.uint8).double() / 255
        noise = self.noise / 255 * browser_normals(self.seed, len(clean))
        return clean.reshape(1, *self.shape), (clean + noise).reshape(1, *self.shape)

    def twicing(self, picture: Float[Tensor, "1 H W"]) -> SpectralTwicing:
        """Twicing with the filter of that picture, for the present settings."""
        if self.filter == FILTERS[0]:
            kernel = gaussian_kernel(2 * self.noise / 255)
            return SpectralTwicing(KernelFilter(picture, kernel, patch_size=5, normalize="rows"))
        return SpectralTwicing(
            KernelFilter(picture, one_layer_tangent_kernel(), patch_size=7, normalize="spectral")
        )

    def still(self) -> Figure:
        """The noisy picture, and the estimate and its residual at the present step."""
        from dipfilters.plots import panels, show_picture, show_signed

        clean, noisy = self.pictures()
        estimate = self.twicing(noisy).estimate(noisy, self.step)
        figure, axes = panels(3, height=2.9)
        show_picture(axes[0], noisy, f"noisy, {psnr(noisy, clean):.1f} dB")
        show_picture(axes[1], estimate, f"k = {self.step}, {psnr(estimate, clean):.1f} dB")
        show_signed(axes[2], (noisy - estimate)[0], "residual y − z", top=4 * self.noise / 255)
        return figure
