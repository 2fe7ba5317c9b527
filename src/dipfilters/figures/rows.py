"""The row explorer."""

from __future__ import annotations

from typing import Any

import torch
import traitlets
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from dipfilters.decoding import PictureError
from dipfilters.figures.base import ComputedFigure, Number, Whole, check_gray, quantised, script
from dipfilters.filters import KernelFilter
from dipfilters.images import pixel_numbers
from dipfilters.kernels import gaussian_kernel, one_layer_tangent_kernel
from dipfilters.patches import check_patch_size

PATCH_SIZES = (1, 3, 5, 7, 9)


class RowExplorer(ComputedFigure):
    """Point at a pixel and see its filter rows, of non-local means and of the tangent kernel.

    Both rows are normalised to sum to one. Computed in the browser from ``noisy`` in 256 levels between its
    smallest and its largest value. With a kernel behind it, ``pixel``, ``patch_size``, ``bandwidth`` can be
    read and set from Python. Where a pixel has no row, as under a black patch, the figure says so.

    Args:
        clean: The clean picture, (1, H, W), at most 128×128 pixels, values in [0, 1].
        noisy: The noisy one, of the same shape.
        sigma: Standard deviation of the noise, in grey levels of [0, 1]; the unit of ``bandwidth``.
        pixel: (row, column) at first.
        patch_size: 1, 3, 5, 7 or 9.
        bandwidth: h / σ of non-local means, 0.5 to 4.

    Raises:
        PictureError: Pictures that do not fit each other, are too large, too small for the patches, or not
            grey.
        ValueError: A sigma that is not between 0 and 1.
        IndexError: A pixel outside the picture, also when set later.
        traitlets.TraitError: A patch size or a bandwidth outside its range, also when set later.

    Cost: in the browser, 2 N patch products a row: some ten milliseconds at 128×128.
    """

    _esm = script("rows.js")
    clean = traitlets.Bytes(read_only=True).tag(sync=True)
    noisy = traitlets.Bytes(read_only=True).tag(sync=True)
    range = traitlets.List(traitlets.Float(), read_only=True).tag(sync=True)
    sigma = traitlets.Float(read_only=True).tag(sync=True)
    pixel = traitlets.List(Whole(), minlen=2, maxlen=2).tag(sync=True)
    patch_size = Whole().tag(sync=True)
    bandwidth = Number(min=0.5, max=4.0).tag(sync=True)

    def __init__(
        self,
        clean: Float[Tensor, "C H W"],
        noisy: Float[Tensor, "c h w"],
        sigma: float,
        *,
        pixel: tuple[int, int],
        patch_size: int = 5,
        bandwidth: float = 2.0,
        **others: Any,
    ) -> None:
        check_gray("clean", clean)
        check_gray("noisy", noisy)
        if clean.shape != noisy.shape:
            raise PictureError(
                f"clean and noisy must be of one shape, got {tuple(clean.shape)}, {tuple(noisy.shape)}"
            )
        if not 0 < sigma < 1:
            raise ValueError(f"sigma must be in (0, 1), got {sigma}; divide a level of 0 to 255 by 255")
        gaussian_kernel(0.5 * sigma)  # the narrowest, which a sigma of next to nothing does not make
        low, high = float(noisy.min()), float(noisy.max())
        data = {
            "shape": list(clean.shape[1:]),
            "clean": quantised(clean),
            "noisy": quantised(noisy, low, high),
            "range": [low, high],
            "sigma": sigma,
        }
        super().__init__(data, pixel=list(pixel), patch_size=patch_size, bandwidth=bandwidth, **others)

    @traitlets.validate("pixel")
    def _check_pixel(self, proposal: Any) -> list[int]:
        row, column = proposal.value
        pixel_numbers([(row, column)], (self.shape[0], self.shape[1]))
        return [row, column]

    @traitlets.validate("patch_size")
    def _check_patch_size(self, proposal: Any) -> int:
        if proposal.value not in PATCH_SIZES:
            raise traitlets.TraitError(f"patch_size must be one of {PATCH_SIZES}, got {proposal.value}")
        check_patch_size(torch.zeros(1, *self.shape), proposal.value, "reflect")
        return int(proposal.value)

    def pictures(self) -> tuple[Float[Tensor, "1 H W"], Float[Tensor, "1 H W"]]:
        """Clean and noisy as the browser has them, in 256 levels."""
        low, high = self.range
        clean, noisy = (
            torch.frombuffer(bytearray(raw), dtype=torch.uint8).double().reshape(1, *self.shape) / 255
            for raw in (self.clean, self.noisy)
        )
        return clean, low + (high - low) * noisy

    def filters(self) -> dict[str, KernelFilter]:
        """The two filters of the present settings, made from the levels that the browser has."""
        _, noisy = self.pictures()
        kernels = {
            "non-local means": gaussian_kernel(self.bandwidth * self.sigma),
            "tangent kernel": one_layer_tangent_kernel(),
        }
        return {
            name: KernelFilter(noisy, kernel, patch_size=self.patch_size, normalize="rows")
            for name, kernel in kernels.items()
        }

    def still(self) -> Figure:
        """The noisy picture and the two rows of the present pixel."""
        from dipfilters.plots import panels, show_picture, show_row

        clean, noisy = self.pictures()
        row, column = self.pixel
        figure, axes = panels(3, height=2.9)
        show_picture(axes[0], noisy, "noisy picture")
        axes[0].plot(column, row, marker="+", color="#d9730d", markersize=10)
        for ax, (name, made) in zip(axes[1:], self.filters().items(), strict=True):
            try:
                weights = made.row((row, column))
            except ValueError:  # a pixel that has no row: the browser says why
                weights, name = torch.zeros_like(clean[0]), f"{name}: no row"
            show_row(ax, clean, weights, (row, column), name)
        return figure
