"""Tables of filters side by side: what is compared was measured on the same draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dipfilters import psnr
from studies import interval
from studies.comparing import by_picture, by_scene, judged, paired, scene_of
from studies.scenes import best_blur

ROWS = pd.DataFrame(
    [
        {"arm": arm, "picture": picture, "other": other, "draw": draw, "side": 16, "noisy best": value}
        for arm, lead in (("kernel", 0.0), ("taught", 1.0))
        for draw, value in enumerate((20.0 + lead, 24.0 + 2 * lead, 25.0))
        for picture, other in (("camera", "coffee"), ("coffee", "camera"))
        if (arm, draw, picture) != ("taught", 2, "coffee")
    ]
).assign(**{"fresh best": 22.0, "other best": 21.0, "BM3D": float("nan")})

PLAN = {"start": ("kernel", "noisy best"), "Adam": ("taught", "noisy best"), "BM3D": ("kernel", "BM3D")}


def test_a_draw_that_lacks_something_and_a_library_that_is_missing_are_left_out():
    frame = paired(ROWS, PLAN)
    assert list(frame) == ["start", "Adam"]
    assert set(frame.index) == {(draw, name) for draw in (0, 1) for name in ("camera", "coffee")}
    apart = ROWS[(ROWS["arm"] == "kernel") == (ROWS["draw"] == 0)]
    with pytest.raises(ValueError, match="run the study further"):
        paired(apart, PLAN)


def test_a_lead_is_that_of_the_draws_in_pairs():
    start, adam = by_picture(paired(ROWS, PLAN), "start")
    assert adam["less start"] == interval(np.array([1.0, 2.0]))  # of the means the interval is far wider
    assert "less start" not in start
    assert adam["coffee"] == 23.5


def test_the_blurs_are_of_the_scenes_that_the_kernels_were_judged_on():
    frame = judged(ROWS, {"at the start": ("kernel", "")})
    row = ROWS[(ROWS["picture"] == "camera") & (ROWS["draw"] == 1)].iloc[0]
    blurs, at = frame.loc[(1, "camera")], scene_of(row)
    assert blurs["Gaussian blur", "same noise"] == best_blur(at)[2] > psnr(at.noisy, at.clean)
    assert (frame["blur of both copies", "fresh noise"] > frame["Gaussian blur", "fresh noise"]).all()
    start, blur, _ = by_scene(frame, "at the start")
    assert start["fresh noise"].mean == 22.0
    assert blur["another picture, less at the start"].draws == 3
