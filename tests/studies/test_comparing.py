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


def test_only_what_has_all_of_them_is_compared_and_a_missing_library_is_left_out():
    frame = paired(ROWS, PLAN)
    assert list(frame) == ["start", "Adam"]
    known = {(draw, name) for draw in range(3) for name in ("camera", "coffee")} - {(2, "coffee")}
    assert set(frame.index) == known
    apart = ROWS[(ROWS["arm"] == "kernel") == (ROWS["draw"] == 0)]
    with pytest.raises(ValueError, match="run the study further"):
        paired(apart, PLAN)


def test_a_lead_is_that_of_the_draws_in_pairs():
    frame = paired(ROWS[ROWS["picture"] == "camera"], PLAN)
    start, adam = by_picture(frame, "start")
    leads = interval(np.array([1.0, 2.0, 0.0]))
    assert adam["less start"].mean == leads.mean == 1.0
    assert adam["less start"].half == pytest.approx(leads.half)
    assert adam["mean"].half > 1.2 * leads.half  # that of the means is wider
    assert "less start" not in start
    assert adam["PSNR in dB, 3 draws"] == "Adam"


def test_the_blurs_are_of_the_scenes_that_the_kernels_were_judged_on():
    frame = judged(ROWS, {"at the start": ("kernel", "")})
    row = ROWS[(ROWS["picture"] == "camera") & (ROWS["draw"] == 1)].iloc[0]
    blurs, at = frame.loc[(1, "camera")], scene_of(row)
    assert blurs["Gaussian blur", "same noise"] == best_blur(at)[2] > psnr(at.noisy, at.clean)
    assert (frame["blur of both copies", "fresh noise"] > frame["Gaussian blur", "fresh noise"]).all()
    start, blur, _ = by_scene(frame, "at the start")
    assert start["fresh noise"].mean == 22.0
    assert blur["another picture, less at the start"].draws == 3
