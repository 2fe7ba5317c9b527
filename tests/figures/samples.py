"""One small figure of each kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from dipfilters import SpectralTwicing, TangentFilter, add_noise, load_image, vanilla
from dipfilters.figures import (
    ArcCosineLab,
    FilmRun,
    RowExplorer,
    SpectrumExplorer,
    TrainingFilm,
    TwicingPlayer,
)
from dipfilters.figures.base import ComputedFigure

SIGMA = 25 / 255


def pictures(height: int = 19, width: int = 23) -> tuple[torch.Tensor, torch.Tensor]:
    """A clean picture and a noisy one."""
    clean = load_image("camera", size=32, gray=True).double()[:, :height, :width]
    return clean, add_noise(clean, SIGMA, generator=torch.Generator().manual_seed(0))


def rows(**others: Any) -> RowExplorer:
    """A row explorer."""
    return RowExplorer(*pictures(), SIGMA, **{"pixel": (4, 7), **others})


def player(**others: Any) -> TwicingPlayer:
    """A twicing player."""
    return TwicingPlayer(pictures()[0], **others)


def run(method: str = "Adam", fed: str = "noise", **others: Any) -> FilmRun:
    """A training that never was: four looks, one pixel."""
    chance = np.random.default_rng(len(method + fed))
    given: dict[str, Any] = {
        "looks": [0, 1, 3, 9],
        "pictures": chance.integers(0, 256, (4, 6, 7)),
        "psnr": chance.uniform(5, 25, 10),
        "rows": chance.normal(size=(4, 1, 6, 7)),
    }
    return FilmRun(method, fed, **given | others)


def film() -> TrainingFilm:
    """Three runs, two of them fed alike."""
    runs = [run(), run("sign"), run("Adam", "the picture")]
    return TrainingFilm(runs, pixels={"edge": (3, 4)})


def twice(height: int = 12) -> SpectralTwicing:
    """Twicing with a network's filter."""
    return SpectralTwicing(TangentFilter(pictures(height, 11)[1], vanilla(1, 3)))


def spectrum() -> SpectrumExplorer:
    """Two networks, with two inputs each."""
    _, noisy = pictures(12, 11)
    fed = {"picture": noisy, "noise": torch.rand(noisy.shape, generator=torch.Generator().manual_seed(1))}
    networks = {"plain": vanilla(1, 3), "deep": vanilla(2, 3)}
    return SpectrumExplorer(
        {
            (name, given): SpectralTwicing(TangentFilter(x.double(), network))
            for name, network in networks.items()
            for given, x in fed.items()
        }
    )


FIGURES: dict[str, Callable[[], ComputedFigure]] = {
    "rows": rows,
    "player": player,
    "lab": ArcCosineLab,
    "film": film,
    "spectrum": spectrum,
}
