"""The page of benchmarks, made from stored results."""

import json
import shutil
from pathlib import Path

from tools import bench_page
from tools.notebooks import ROOT

RESULTS = Path("benchmarks", "results")


def test_the_newest_results_are_shown_with_their_bars(tmp_path: Path) -> None:
    shutil.copytree(ROOT / RESULTS, tmp_path / RESULTS)
    (tmp_path / "book").mkdir()
    old, newest = sorted((tmp_path / RESULTS).glob("20*.json"))[-2:]
    result = json.loads(newest.read_text("utf-8"))
    result["provenance"]["commit"] = "abc1234"
    seconds = {"unit": "s", "ours": 0.1, "theirs": 0.7, "smallest": 6.5, "largest": 7.5, "at_most": False}
    seconds |= {"work": "work", "peer": "peer", "note": "", "bar": 5.0}
    before = json.loads(old.read_text("utf-8"))
    for run in (before, result):
        run["rows"][1]["name"], run["rows"][2]["name"] = "first", "second"
    old.write_text(json.dumps(before), "utf-8")
    result["rows"][1] |= seconds | {"ratio": 7.0, "met": True, "floor": 0.04}
    result["rows"][2] |= seconds | {"ratio": 2.0, "met": False, "floor": None}
    newest.write_text(json.dumps(result), "utf-8")

    bench_page.write(tmp_path, tmp_path / "book")
    page = (tmp_path / "book" / "benchmarks.md").read_text("utf-8")
    assert "commit abc1234" in page
    assert json.loads(old.read_text("utf-8"))["provenance"]["commit"] not in page
    lines = [line for line in page.splitlines() if line.startswith("| work | peer | 0.1 s | ")]
    assert len(lines) == 2
    assert " | 0.1 s | 2.5× | 0.7 s | " in lines[0]
    assert " | 0.1 s |  | 0.7 s | " in lines[1]
    assert " | 7 [6.5, 7.5] | " in lines[0]
    assert lines[0].endswith(", 7 | ≥ 5 | met |"), "the medians of all runs, the newest last"
    assert lines[1].endswith(", 2 | ≥ 5 | **missed** |")
    for name in bench_page.FIGURES:
        assert (tmp_path / "book" / name).stat().st_size > 1000
        assert f"```{{figure}} {name}" in page
    large = json.loads((tmp_path / RESULTS / "megapixel.json").read_text("utf-8"))
    assert f"to {large['best_psnr']:.2f} dB at step {large['best_step']}" in page


def test_psnr_against_seconds_is_shown_as_measured(tmp_path: Path) -> None:
    """Draws one apart have a standard deviation of 1; Student's table has 4.3027 for three."""
    results = tmp_path / RESULTS
    results.mkdir(parents=True)
    (tmp_path / "book").mkdir()
    facts: dict[str, object] = {"date": "2026-01-02T03", "hardware": "a processor", "commit": "abc1234"}
    facts["versions"] = dict.fromkeys(("torch", "scikit-image", "bm3d"), "1.0")
    rows = [
        {"picture": name, "draw": draw, "method": "BM3D", "stop": "none", "seconds": 9.0, "psnr": psnr + draw}
        for draw in range(3)
        for name, psnr in (("coffee", 30.0), ("chelsea", 31.0))
    ]
    alone = {"picture": "coffee", "draw": 0, "method": "ZS-N2N", "stop": "25 epochs", "seconds": 1500.0}
    result = {"what": "a photograph", "provenance": facts, "rows": [*rows, alone | {"psnr": 28.123}]}
    (results / "reader.json").write_text(json.dumps(result), "utf-8")

    bench_page.write(tmp_path, tmp_path / "book")
    page = (tmp_path / "book" / "benchmarks.md").read_text("utf-8")
    assert f"| BM3D | none | 31.50 ± {4.3027 / 3**0.5:.2f} | 9 | 3 |" in page
    assert "| ZS-N2N | 25 epochs | 28.12 | 1,500 | 1 |" in page
    assert "means over coffee, chelsea." in page
    assert "2026-01-02 with a processor; torch 1.0, scikit-image 1.0, bm3d 1.0; commit abc1234." in page
    assert (tmp_path / "book" / bench_page.READER_FIGURE).stat().st_size > 1000


def test_the_page_says_whether_a_card_ran_the_code(tmp_path: Path) -> None:
    (tmp_path / RESULTS).mkdir(parents=True)
    page = tmp_path / "benchmarks.md"
    bench_page.write(tmp_path, tmp_path)
    assert "\nNo card has run this code yet" in page.read_text("utf-8")
    (tmp_path / RESULTS / "card.md").write_text("# What a graphics card does\n\nIt is there.\n", "utf-8")
    bench_page.write(tmp_path, tmp_path)
    assert page.read_text("utf-8").endswith("\n## What a graphics card does\n\nIt is there.\n")
