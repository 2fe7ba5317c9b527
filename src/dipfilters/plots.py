"""Figures of the book: one look, one grey scale. Every function takes axes and gives them back.

Text and lines are drawn in inks that read on a light page and on a dark one, on a transparent ground. The
colours are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

INK = "#757575"  # contrast 4.6 on white, and as much on the dark ground behind figures
BLUE, ORANGE, GREEN, PINK, SKY = "#2a86c7", "#d9730d", "#1a9e77", "#c566a0", "#56b4e9"


def use_style() -> None:
    """Give all figures of a notebook the look of the book; call it once, before the first figure."""
    plt.style.use(Path(__file__).parent / "data/book.mplstyle")
    styles = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))]
    plt.rcParams["axes.prop_cycle"] = cycler(color=[BLUE, ORANGE, GREEN, PINK, SKY], linestyle=styles)


def panels(
    count: int, *, columns: int | None = None, height: float = 2.6, width: float = 8.0
) -> tuple[Figure, list[Axes]]:
    """Make a figure with a row or a grid of axes: ``height`` inches a row, ``width`` inches in all."""
    columns = columns or count
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(width, rows * height), squeeze=False)
    flat = list(axes.flat)
    for spare in flat[count:]:
        spare.remove()
    return figure, flat[:count]


def show_picture(axes: Axes, image: Float[Tensor, "C H W"], title: str = "") -> Axes:
    """Draw a picture with values in [0, 1], grey or colour, on the scale that all pictures share."""
    axes.imshow(_pixels(image), vmin=0.0, vmax=1.0)
    return _bare(axes, title)


def show_pictures(axes: Sequence[Axes], pictures: dict[str, Tensor]) -> Sequence[Axes]:
    """Draw several pictures, each under its title."""
    for ax, (title, image) in zip(axes, pictures.items(), strict=True):
        show_picture(ax, image, title)
    return axes


def show_row(
    axes: Axes,
    image: Float[Tensor, "C H W"],
    row: Float[Tensor, "H W"],
    pixel: tuple[int, int],
    title: str = "",
    *,
    top: float | None = None,
    window: int | None = None,
) -> Axes:
    """Lay a filter row over its picture: orange weights, blue negative ones, a cross on the pixel.

    Args:
        axes: Where to draw.
        image: The picture, drawn pale in grey.
        row: The weights.
        pixel: (row, column) of the pixel that the filter row computes.
        title: The title.
        top: The weight drawn in full colour; the largest one besides the pixel's own if None. Opacity
            grows with the square root of the weight, so that small weights can be seen.
        window: Show only so many pixels to each side of the pixel; None shows the whole picture.
    """
    weights = row.detach().cpu().double().numpy()
    if top is None:
        others = np.abs(weights)
        others[pixel] = 0.0
        top = float(others.max()) or 1.0
    ground = 0.25 + 0.6 * _pixels(image.mean(0, keepdim=True))
    opacity = np.sqrt(np.clip(np.abs(weights) / top, 0.0, 1.0))[..., None]
    full = np.where(weights[..., None] >= 0, (0.90, 0.36, 0.0), (0.0, 0.30, 0.85))
    axes.imshow((1.0 - opacity) * ground[..., None] + opacity * full)
    axes.plot(pixel[1], pixel[0], marker="+", color="white", markersize=11, markeredgewidth=3.5)
    axes.plot(pixel[1], pixel[0], marker="+", color="black", markersize=10, markeredgewidth=1.8)
    if window is not None:
        height, width = weights.shape
        axes.set_xlim(max(pixel[1] - window, 0) - 0.5, min(pixel[1] + window, width - 1) + 0.5)
        axes.set_ylim(min(pixel[0] + window, height - 1) + 0.5, max(pixel[0] - window, 0) - 0.5)
    return _bare(axes, title)


def label_rows(axes: Sequence[Axes], columns: int, labels: Sequence[str]) -> Sequence[Axes]:
    """Write a label to the left of each row of a grid of pictures."""
    for ax, label in zip(axes[::columns], labels, strict=True):
        ax.text(-0.06, 0.5, label, rotation=90, ha="right", va="center", transform=ax.transAxes)
    return axes


def show_signed(
    axes: Axes, values: Float[Tensor, "H W"], title: str = "", *, top: float | None = None
) -> Axes:
    """Draw values of both signs, blue below zero and orange above, white at zero; ``top`` ends the scale."""
    pixels = values.detach().cpu().double().numpy()
    top = float(np.abs(pixels).max()) or 1.0 if top is None else top
    axes.imshow(pixels, cmap="PuOr_r", vmin=-top, vmax=top)
    return _bare(axes, title)


def table(rows: Sequence[Mapping[str, object]], *, digits: int = 2) -> pd.DataFrame:
    """A table that a notebook shows as one: a row for each mapping, headed by its first entry.

    Args:
        rows: Entries by the name of their column; a column that a row lacks stays empty.
        digits: Of a number that is not whole, behind the point.
    """

    def words(entry: object) -> str:
        missing = entry is None or (isinstance(entry, float) and math.isnan(entry))
        return "" if missing else f"{entry:.{digits}f}" if isinstance(entry, float) else str(entry)

    frame = pd.DataFrame([{name: words(entry) for name, entry in row.items()} for row in rows]).fillna("")
    return frame.set_index(frame.columns[0]).rename_axis(None)


def _pixels(image: Tensor) -> np.ndarray:
    pixels = image.detach().cpu().clamp(0.0, 1.0).numpy()
    return pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)


def _bare(axes: Axes, title: str) -> Axes:
    axes.set_title(title)
    axes.set_axis_off()
    return axes
