"""What a chapter reads of a study: its table, and means over draws with their intervals."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t as student
from tqdm import tqdm

from studies.run import Setting, computed, module_of
from studies.table import load


class Interval(NamedTuple):
    """A mean over independent draws, and half of its 95 % interval; NaN where there is one draw."""

    mean: float
    half: float
    draws: int

    def __str__(self) -> str:
        if math.isnan(self.half):
            return f"{self.mean:.2f}"
        return f"{self.mean:.2f} ± {self.half:.2f}"


def results(study: str, profile: str = "full", device: str = "cpu") -> pd.DataFrame:
    """The table of a study, a row for each point.

    That of the profile ``"full"`` is the one stored in ``studies/results``. For another profile the points
    are computed here, one after another, which takes seconds at ``"quick"``.

    Raises:
        TableError: No stored table.
        StudyError: No such study.
    """
    if profile == "full":
        return pd.DataFrame(load(study))
    points = module_of(study).points(profile)
    return pd.DataFrame([computed(study, p, Setting(device))[0] for p in tqdm(points, desc=study)])


def interval(values: np.ndarray) -> Interval:
    """Mean and half of the 95 % interval by Student's t, of values (n,), one for each draw."""
    values = np.asarray(values, dtype=float)
    draws = len(values)
    half = math.nan
    if draws > 1:
        half = float(student.ppf(0.975, draws - 1) * values.std(ddof=1) / math.sqrt(draws))
    return Interval(float(values.mean()), half, draws)


def over_draws(values: pd.Series) -> Interval:
    """The interval over draws of the mean over pictures.

    Draws of one picture are independent of those of the others, and its detail is the same in all of them: so
    pictures are averaged within a draw, and only then are draws compared.

    Args:
        values: Numbers with the index levels ``draw`` and ``picture``; a draw that lacks a picture is left
            out.

    Raises:
        ValueError: No draw that has all pictures.
    """
    by_draw = values.unstack("picture").dropna()
    if by_draw.empty:
        raise ValueError(f"no draw has all pictures of {values.name!r}; run the study further")
    return interval(by_draw.mean(axis=1).to_numpy())


def where_from(rows: pd.DataFrame) -> str:
    """One line on where rows come from: their number, draws, commits, hardware, hours, dates."""
    hours, dates = rows["seconds"].sum() / 3600, rows["date"].str[:10]
    span = dates.min() if dates.min() == dates.max() else f"{dates.min()} to {dates.max()}"
    machines = "; ".join(sorted(rows["hardware"].unique()))
    commits = ", ".join(sorted(rows["commit"].unique()))
    return (
        f"{len(rows)} points, {rows['draw'].nunique()} draws, {hours:.1f} hours of one core; "
        f"{machines}; commits {commits}; {span}"
    )
