"""Figures that answer: they compute in the reader's browser, with a kernel behind them or without.

Each is an anywidget class with one self-contained ES module. With a kernel behind it, what the reader chose
is in its traits, and setting them moves the figure; what was given at first is read-only.

* :class:`RowExplorer`: the filter rows of a pixel that you point at;
* :class:`TwicingPlayer`: twicing, step by step, and when to stop;
* :class:`ArcCosineLab`: random neurons and the kernel they agree on;
* :class:`TrainingFilm`: stored trainings, of :class:`FilmRun`, side by side;
* :class:`SpectrumExplorer`: eigenvalues, eigenvectors, degrees of freedom.
"""

from dipfilters.figures.film import FilmRun, TrainingFilm
from dipfilters.figures.lab import ArcCosineLab
from dipfilters.figures.player import TwicingPlayer
from dipfilters.figures.rows import RowExplorer
from dipfilters.figures.spectrum import SpectrumExplorer

__all__ = ["ArcCosineLab", "FilmRun", "RowExplorer", "SpectrumExplorer", "TrainingFilm", "TwicingPlayer"]
