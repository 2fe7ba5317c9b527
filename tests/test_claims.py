"""What the text of a chapter says of its tables holds in the stored notebook, on the book's own picture.

A reader's own picture may well do otherwise, so that none of this stands in the reader's way as an assert.
"""

from __future__ import annotations

import json
import re
from functools import cache
from html import unescape
from typing import Any

import numpy as np
import pytest

from tools.notebooks import ROOT

Table = dict[str, dict[str, str]]


@cache
def tables(chapter: str) -> list[Table]:
    """The tables in a chapter's outputs: rows by name, then entries by column."""
    (path,) = ROOT.glob(f"notebooks/{chapter}-*.ipynb")
    found = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            html = "".join(output.get("data", {}).get("text/html", ""))
            if 'class="dataframe"' in html:
                rows = re.findall(r"<tr[^>]*>(.*?)</tr>", html, re.DOTALL)
                cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
                names, *body = [[unescape(entry) for entry in row] for row in cells]
                found.append({row[0]: dict(zip(names[1:], row[1:], strict=True)) for row in body})
    return found


def table(chapter: str, row: str, column: str = "") -> Table:
    """The one table of a chapter that has this row and column."""
    chosen = [t for t in tables(chapter) if row in t and (not column or column in t[row])]
    assert len(chosen) == 1, (row, column)
    return chosen[0]


def first(entry: str) -> float:
    """The first number of an entry such as "25.97 (39)" or "−0.15 ± 0.01"."""
    (number,) = re.findall(r"^[-−+]?[\d.]+(?:e[-+]?\d+)?", entry)
    return float(number.replace("−", "-"))


def number(chapter: str, words: str) -> float:
    """The first number in a chapter's printed outputs that matches a pattern with one group."""
    (path,) = ROOT.glob(f"notebooks/{chapter}-*.ipynb")
    cells = json.loads(path.read_text("utf-8"))["cells"]
    printed = "".join("".join(o.get("text", "")) for cell in cells for o in cell.get("outputs", []))
    found = re.search(words, printed)
    assert found, words
    return float(found[1])


def test_chapters_0_to_3_stand_by_their_outputs():
    assert number("00", r"network and formula differ by ([\d.]+)%") < 5
    assert number("02", r"([\d.]+) times the true one") > 1.2
    ratios = table("02", "weights from the noisy picture", "smallest over k")
    assert first(ratios["weights from the noisy picture"]["smallest over k"]) > 2
    assert abs(first(ratios["weights from the clean picture"]["largest over k"]) - 1) < 0.2
    for row in table("02", "astronaut", "fixed-weight SURE").values():
        assert first(row["oracle"]) - first(row["Monte-Carlo SURE"]) < 0.5
        assert first(row["fixed-weight SURE"]) < first(row["Monte-Carlo SURE"]) - 1
    assert abs(number("03", r"like width to the power (-[\d.]+)") + 0.5) < 0.05
    assert number("03", r"one step, against the box blur: ([\d.]+)") > 0.999
    assert number("03", r"differs from the control's by ([\d.]+)%") < 10
    best = table("03", "Gaussian", "one step")
    for name in ("Gaussian", "arc-cosine"):
        stopped = number("03", rf"chosen by SURE: {name}, k = \d+: ([\d.]+) dB")
        assert first(best[name]["at the best step"]) - stopped < 0.5


def test_chapter_4_stands_by_its_tables():
    distance = table("04", "after training, from before")
    assert first(distance["after training, from before"]["distance in %"]) < 10
    assert first(distance["the network after training, from the formula"]["distance in %"]) < 25
    for name, row in table("04", "hidden neurons u²").items():
        for kind in ("tangent", "standard"):
            apart = first(row[f"{kind}, measured"]) - first(row[f"{kind}, predicted"])
            assert abs(apart) < (0.35 if name == "kernel, relative" else 0.2), (name, kind)
    for row in table("04", "100", "power of the width").values():
        assert abs(first(row["power of the width"]) + 0.5) < 0.1
    start = table("04", "start of the mirrored network")
    assert first(start["raw network from (I − R_k) y + R_k f₀"]["in % of the formula"]) < 20
    assert first(start["start of the mirrored network"]["in % of the formula"]) == 0
    for row in table("04", "4096", "d/2c").values():
        assert 0.5 < first(row["first / last"]) / first(row["d/2c"]) < 2
    peaks = {name: first(row["PSNR in dB"]) for name, row in table("04", "no ReLU (control)").items()}
    both = peaks["both layers, tangent"]
    assert both < peaks["no ReLU (control)"] < peaks["best Gaussian blur (oracle)"]


def test_chapter_5_stands_by_its_tables():
    top = table("05", "vanilla 6, no ReLU", "camera")
    for picture in top["vanilla 1"]:
        best: dict[str, Any] = {name: first(row[picture]) for name, row in top.items()}
        assert best["vanilla 1"] > best["vanilla 3"] > best["vanilla 6"]
        assert best["vanilla 6, no ReLU"] > best["vanilla 6"] + 0.5
        assert abs(best["vanilla 1, no ReLU"] - best["vanilla 1"]) < 0.3
        assert best["vanilla 1"] < best["Gaussian blur, applied once"] < best["Wiener filter"]
    for row in table("05", "vanilla 6", "standard less tangent, dB").values():
        assert abs(first(row["standard less tangent, dB"])) < 0.3
    trained = table("05", "autoencoder, no ReLU, best step")
    for picture in ("camera", "astronaut"):
        noise, blind, seen = (
            first(trained[f"{name}, best step"][picture])
            for name in ("autoencoder", "autoencoder, no ReLU", "picture into autoencoder")
        )
        assert noise > blind + 1
        assert abs(noise - seen) < 0.3
    photograph = table("05", "the filter less Gaussian blur")
    assert -0.3 < first(photograph["the filter less Gaussian blur"]["dB"]) < 0
    assert first(photograph["the filter less non-local means"]["dB"]) < -2
    some = table("05", "655 columns")
    few, more = (first(some[name]["PSNR in dB"]) for name in ("655 columns", "1311 columns"))
    assert abs(few - more) < 0.1


def test_published_figures_are_data_with_their_source() -> None:
    """Against theirs on the page: as many values as channels, and slopes that the poster's own axes show."""
    path = ROOT / "src" / "dipfilters" / "data" / "published.json"
    published = json.loads(path.read_text("utf-8"))
    assert all(entry["source"] for entry in published.values())
    weights = published["weights"]
    x = np.log(weights["channels"])
    for name, slope in {
        "l2 Adam": -0.12,
        "l2 gradient descent": -0.46,
        "linf Adam": -0.89,
        "linf gradient descent": -1.15,
    }.items():
        assert len(weights[name]) == len(x) == 7
        assert np.polyfit(x, np.log(weights[name]), 1)[0] == pytest.approx(slope, abs=0.02)
    assert len(published["psnr"]["picture"]) == len(published["psnr"]["columns"]) == 5
