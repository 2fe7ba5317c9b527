"""Filters side by side, in the draws that all of them have: what a chapter's tables are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from studies.reading import over_draws
from studies.scenes import Scene, best_blur, scene

# The scenes on which a kernel is judged, and the columns of a study that hold its best.
JUDGED_ON = {"same noise": "noisy best", "fresh noise": "fresh best", "another picture": "other best"}


def scene_of(row: Mapping[str, Any], **options: Any) -> Scene:
    """The pictures and the noise of a row of a study, drawn again; ``options`` as for ``scene``."""
    names = str(row["picture"]), str(row["other"]), int(row["draw"])
    fixed = {"sigma": 25 / 255, "device": "cpu", "folder": None}
    return scene(*names, side=int(row["side"]), **{**fixed, **options})


def paired(rows: pd.DataFrame, plan: Mapping[Any, tuple[str, str]]) -> pd.DataFrame:
    """Columns of a study side by side, by draw and picture, where all of them are known.

    Args:
        rows: Of a study, one for each arm, draw and picture.
        plan: For each column of the result the arm, and the name of the column in its rows. One without any
            value is left out, such as that of a library which is not installed, or of an arm not yet run.

    Raises:
        ValueError: No draw of a picture has all of them.
    """
    columns = {
        label: rows[rows["arm"] == arm].set_index(["draw", "picture"]).reindex(columns=[name])[name]
        for label, (arm, name) in plan.items()
    }
    frame = pd.DataFrame(columns).astype(float).dropna(axis=1, how="all").dropna()
    if frame.empty:
        raise ValueError(f"no draw of a picture has all of {list(plan)}; run the study further")
    return frame


def by_picture(frame: pd.DataFrame, less: str) -> list[dict[str, Any]]:
    """A line for each column of :func:`paired`: its means, over draws, and its lead on one of them."""
    return [
        {f"PSNR in dB, {_draws(frame)}": name}
        | values.groupby("picture").mean().to_dict()
        | {"mean": over_draws(values)}
        | ({f"less {less}": over_draws(values - frame[less])} if less in frame and name != less else {})
        for name, values in frame.items()
    ]


def judged(rows: pd.DataFrame, filters: Mapping[str, tuple[str, str]], **options: Any) -> pd.DataFrame:
    """Each filter at its best step on each of the scenes, and Gaussian blurs of oracle width.

    ``"blur of both copies"`` is that of the mean of the noisy picture and the one with fresh noise: what a
    filter may gain that has seen the first and is given the second.

    Args:
        rows: Of a study.
        filters: For each filter its arm, and what stands before the names of its columns.
        options: As for :func:`scene_of`.
    """
    plan = {
        (name, on): (arm, prefix + column)
        for name, (arm, prefix) in filters.items()
        for on, column in JUDGED_ON.items()
    }
    frame = paired(rows, plan)
    for _, row in rows.drop_duplicates(["draw", "picture"]).iterrows():
        place = row["draw"], row["picture"]
        if place in frame.index:
            at = scene_of(row, **options)
            fresh, other = replace(at, noisy=at.fresh), replace(at, noisy=at.other, clean=at.other_clean)
            for on, one in zip(JUDGED_ON, (at, fresh, other), strict=True):
                frame.loc[place, ("Gaussian blur", on)] = best_blur(one)[2]
            both = replace(at, noisy=(at.noisy + at.fresh) / 2)
            frame.loc[place, ("blur of both copies", "fresh noise")] = best_blur(both)[2]
    return frame


def by_scene(frame: pd.DataFrame, less: str) -> list[dict[str, Any]]:
    """A line for each filter of :func:`judged`: on each scene its mean over draws, and its lead on one."""
    return [
        {f"best PSNR in dB, {_draws(frame)}": name}
        | {on: over_draws(frame[name, on]) for on in frame[name]}
        | {
            f"{on}, less {less}": over_draws(frame[name, on] - frame[less, on])
            for on in frame[name]
            if (less, on) in frame and name != less
        }
        for name in frame.columns.unique(0)
    ]


def _draws(frame: pd.DataFrame) -> str:
    """How many draws the pictures have, such as ``"3 draws"``, or ``"2 to 3 draws"`` where they differ."""
    counts = frame.groupby("picture").size()
    span = f"{counts.min()} to {counts.max()}" if counts.min() < counts.max() else str(counts.max())
    return f"{span} draw" if span == "1" else f"{span} draws"
