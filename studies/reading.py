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
    """The mean over pictures of the mean over draws, and its interval over draws.

    ::

        mean = 1/P Σ_p x̄_p,   s² = Σ_p Σ_d (x_pd − x̄_p)² / (n − P),   half = t(n − P) s √(Σ_p 1/n_p) / P

    Each draw of each picture has weights, input and noise of its own, so that all n values are independent.
    What pictures differ by is no chance, and does not count; within a picture draws are taken to spread
    alike.

    Args:
        values: Numbers with the index levels ``draw`` and ``picture``; those that are NaN are left out.

    Returns:
        The interval; its ``draws`` are those of the picture that has fewest.

    Raises:
        ValueError: No value.
    """
    kept = values.dropna()
    if kept.empty:
        raise ValueError(f"no value of {values.name!r}; run the study further")
    pictures = kept.groupby(level="picture")
    counts, spare = pictures.size(), len(kept) - pictures.ngroups
    half = math.nan
    if spare > 0:
        variance = float((kept - pictures.transform("mean")).pow(2).sum()) / spare
        half = float(student.ppf(0.975, spare)) * math.sqrt(variance * (1 / counts).sum()) / len(counts)
    return Interval(float(pictures.mean().mean()), half, int(counts.min()))


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
