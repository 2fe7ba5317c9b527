"""Means over draws with their intervals, and the table that a chapter reads."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from studies import Interval, interval, over_draws, results, where_from
from studies.run import STAMP
from studies.table import TableError
from tests.samples import refused


def drawn(counts: dict[str, int], seed: int = 0) -> pd.Series:
    """Numbers of so many draws of each picture, the pictures far apart."""
    chance = np.random.default_rng(seed)
    index = [(draw, name) for name, count in counts.items() for draw in range(count)]
    values = [10 * sum(map(ord, name)) + chance.normal() for _, name in index]
    return pd.Series(values, pd.MultiIndex.from_tuples(index, names=["draw", "picture"]), name="PSNR")


def test_the_interval_of_one_picture_is_student_s():
    values = drawn({"camera": 6})
    low, high = stats.t.interval(0.95, 5, values.mean(), stats.sem(values))
    for found in (interval(values.to_numpy()), over_draws(values)):
        assert found == pytest.approx(Interval(values.mean(), (high - low) / 2, 6))
    assert str(Interval(24.518, 0.306, 6)) == "24.52 ± 0.31"


def test_what_pictures_differ_by_is_no_chance():
    """Against least squares with a column for each picture, and the standard error of the mean of these."""
    values = drawn({"camera": 4, "coffee": 2, "astronaut": 3})
    names = values.index.get_level_values("picture")
    design = np.stack([names == name for name in ("camera", "coffee", "astronaut")], axis=1).astype(float)
    means, (squares,), *_ = np.linalg.lstsq(design, values.to_numpy(), rcond=None)
    weights = np.full(3, 1 / 3)
    error = math.sqrt(squares / 6 * weights @ np.linalg.inv(design.T @ design) @ weights)
    found = over_draws(values)
    assert found == pytest.approx(Interval(means.mean(), stats.t.ppf(0.975, 6) * error, 2))
    apart = values + pd.Series(names == "coffee", values.index) * 100.0
    assert over_draws(apart).half == pytest.approx(found.half)


def test_one_draw_has_no_interval_and_none_is_refused():
    one = over_draws(drawn({"camera": 1, "coffee": 1}))
    assert math.isnan(one.half)
    assert one.draws == 1
    assert "±" not in str(one)
    missing = drawn({"camera": 2, "coffee": 1})
    missing[(1, "camera")] = math.nan
    assert over_draws(missing).draws == 1
    with refused(ValueError, "no value of 'PSNR'; run the study further"):
        over_draws(missing * math.nan)


def test_a_stored_table_is_read_and_a_quick_one_computed():
    stored = results("own-kernel")
    assert {*STAMP, "picture", "draw", "arm", "best"} <= {*stored.columns}
    assert (stored["profile"] == "full").all()
    assert f"{len(stored)} points" in where_from(stored)
    computed = results("tests.studies.toy", "quick")
    assert computed["square"].tolist() == [number**2 for number in range(12)]
    with refused(TableError, "no table of 'tests.studies.toy' at the full profile in .*"):
        results("tests.studies.toy")


@pytest.fixture(autouse=True)
def log(tmp_path, monkeypatch):
    """Where the toy writes."""
    monkeypatch.setenv("TOY_STUDY_LOG", str(tmp_path / "log.txt"))
