"""The training film."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure

from dipfilters.figures.base import ComputedFigure, Whole, script
from dipfilters.images import pixel_numbers

LARGEST = 300_000  # bytes of packed frames; a third more in the page


@dataclass(frozen=True)
class FilmRun:
    """One way of training, as looked at after a few steps.

    Attributes:
        method: How it was trained, such as "Adam".
        fed: What the network was fed with, such as "noise".
        looks: The numbers of steps, ascending from 0 or more to 1 or more.
        pictures: (looks, H, W), bytes of 0 to 255.
        psnr: The PSNR in dB after 0, 1, 2, … steps, at least up to the last look.
        rows: (looks, pixels, H, W), a filter row for each pixel of the film, or None. Each is shown on
            a scale of its own.

    Raises:
        ValueError: Looks that do not ascend, pictures outside 0 to 255, a PSNR that is missing or
            not finite, rows that are not finite.
    """

    method: str
    fed: str
    looks: Sequence[int]
    pictures: np.ndarray
    psnr: np.ndarray
    rows: np.ndarray | None = None

    def __post_init__(self) -> None:
        looks = list(self.looks)
        if not looks or looks[0] < 0 or looks[-1] < 1 or any(a >= b for a, b in pairwise(looks)):
            raise ValueError(f"{self}: looks must ascend from 0 or more to 1 or more, got {looks}")
        if not ((self.pictures >= 0) & (self.pictures <= 255)).all():  # of NaN neither holds
            raise ValueError(f"{self}: pictures must hold 0 to 255; multiply by 255, cut off and round")
        if len(self.psnr) <= looks[-1] or not np.isfinite(self.psnr).all():
            raise ValueError(
                f"{self}: psnr must hold a finite value for each of the steps 0 to {looks[-1]}, "
                f"got {np.isfinite(self.psnr).sum()} of {looks[-1] + 1}"
            )
        if self.rows is not None and not np.isfinite(self.rows).all():
            raise ValueError(f"{self}: rows hold values that are NaN or infinite; replace them first")

    def __str__(self) -> str:
        return f"{self.method}, fed with {self.fed}"


class TrainingFilm(ComputedFigure):
    """Play stored trainings in step: outputs, PSNR, and the filter row of a pixel, which may change.

    Args:
        runs: Of one shape and with the same looks; at most four for one ``fed``.
        pixels: The name of each pixel whose row was kept, and its (row, column).
        step: The look at first, the last one if None.

    Raises:
        ValueError: Runs that do not fit each other, more than four for one ``fed``, rows without their
            pixels, more data than a page should carry.
        IndexError: A pixel outside the pictures.
        traitlets.TraitError: A step below 0, another ``fed`` or ``pixel`` than those of the film, also when
            set later.
    """

    _esm = script("film.js")
    runs = traitlets.List(traitlets.Dict(), read_only=True).tag(sync=True)
    pixels = traitlets.List(traitlets.Dict(), read_only=True).tag(sync=True)
    decibels = traitlets.List(traitlets.Float(), read_only=True).tag(sync=True)
    frames = traitlets.Bytes(read_only=True).tag(sync=True)
    fed = traitlets.Unicode().tag(sync=True)
    pixel = traitlets.Unicode().tag(sync=True)
    step = Whole(min=0).tag(sync=True)

    def __init__(
        self,
        runs: Sequence[FilmRun],
        *,
        pixels: dict[str, tuple[int, int]] | None = None,
        step: int | None = None,
        **others: Any,
    ) -> None:
        pixels = pixels or {}
        if not runs:
            raise ValueError("runs must not be empty; give at least one FilmRun")
        fed, most = Counter(run.fed for run in runs).most_common(1)[0]
        if most > 4:
            raise ValueError(
                f"{most} runs are fed with {fed}, and four at most can be told apart; give fewer"
            )
        looks = list(runs[0].looks)
        shape = (len(looks), *runs[0].pictures.shape[1:])
        pixel_numbers(list(pixels.values()), shape[1:])
        frames = []
        for run in runs:
            rows = run.rows
            if rows is None:
                rows = np.zeros((len(looks), len(pixels), *shape[1:]))
            if list(run.looks) != looks or run.pictures.shape != shape:
                raise ValueError(
                    f"{run}: looks {list(run.looks)} and pictures {run.pictures.shape} must be those of the "
                    f"first run, {looks} and {shape}"
                )
            if rows.shape != (len(looks), len(pixels), *shape[1:]):
                raise ValueError(
                    f"{run}: rows must be (looks, pixels, H, W) for the {len(pixels)} named pixels, "
                    f"got {rows.shape}"
                )
            # Sixty-three levels are enough for the eye, and pack better than 255.
            tops = np.abs(rows).max((2, 3), keepdims=True).clip(1e-30)
            levels = (4 * np.round(31 * (rows / tops))).astype(np.int8)
            for picture, row in zip(run.pictures.astype(np.uint8), levels, strict=True):
                frames += [picture.tobytes(), row.tobytes()]
        packed = zlib.compress(b"".join(frames), 9)
        if len(packed) > LARGEST:
            raise ValueError(
                f"the film takes {len(packed)} bytes, more than {LARGEST}; give fewer runs, looks or pixels, "
                f"or smaller pictures"
            )
        # The looks, and some steps between them for the curve.
        some = np.geomspace(1, looks[-1], 60).round().astype(int)
        steps = sorted({*looks, *some.tolist()})
        curves = [[round(float(run.psnr[k]), 3) for k in steps] for run in runs]
        later = [value for curve in curves for value, k in zip(curve, steps, strict=True) if k > 0]
        data = {
            "shape": list(shape[1:]),
            "runs": [
                {
                    "method": run.method,
                    "fed": run.fed,
                    "looks": looks,
                    "steps": steps,
                    "psnr": curve,
                    "rows": run.rows is not None,
                }
                for run, curve in zip(runs, curves, strict=True)
            ],
            "pixels": [{"name": name, "place": list(place)} for name, place in pixels.items()],
            "decibels": [np.floor(min(later)) - 0.5, np.ceil(max(later)) + 0.5],
            "frames": packed,
        }
        chosen = looks[-1] if step is None else step
        super().__init__(data, fed=runs[0].fed, pixel=next(iter(pixels), ""), step=chosen, **others)

    @traitlets.validate("fed")
    def _check_fed(self, proposal: Any) -> str:
        return self._check_choice(proposal, [run["fed"] for run in self.runs])

    @traitlets.validate("pixel")
    def _check_pixel(self, proposal: Any) -> str:
        return self._check_choice(proposal, [pixel["name"] for pixel in self.pixels] or [""])

    def still(self) -> Figure:
        """The outputs of all runs at the present step, and below each its filter row, if it has one."""
        from dipfilters.plots import label_rows, panels, show_picture, show_signed

        looks = self.runs[0]["looks"]
        look = min(range(len(looks)), key=lambda i: abs(np.log1p(looks[i]) - np.log1p(self.step)))
        frames = np.frombuffer(zlib.decompress(self.frames), np.int8)
        frames = frames.reshape(len(self.runs), len(looks), 1 + len(self.pixels), *self.shape)[:, look]
        fed = list(dict.fromkeys(run["fed"] for run in self.runs))
        groups = [[i for i, run in enumerate(self.runs) if run["fed"] == one] for one in fed]
        columns = max(map(len, groups))
        lines = 1 + bool(self.pixels)
        figure, axes = panels(lines * len(groups) * columns, columns=columns, height=2.3, width=2.1 * columns)
        free = set(axes)
        for line, group in enumerate(groups):
            for column, i in enumerate(group):
                run, at = self.runs[i], line * lines * columns + column
                value = run["psnr"][run["steps"].index(looks[look])]
                output = torch.from_numpy(frames[i, 0].view(np.uint8) / 255)[None]
                show_picture(axes[at], output, f"{run['method']}\n{value:.1f} dB")
                free.discard(axes[at])
                if run["rows"]:
                    place = [pixel["name"] for pixel in self.pixels].index(self.pixel)
                    show_signed(axes[at + columns], torch.tensor(frames[i, 1 + place]).float(), top=90.0)
                    free.discard(axes[at + columns])
        label_rows(
            axes,
            columns,
            [f"fed with {one}" if i == 0 else "filter row" for one in fed for i in range(lines)],
        )
        for ax in free:
            ax.remove()
        return figure
