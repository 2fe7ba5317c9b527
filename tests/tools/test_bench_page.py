"""The page of benchmarks, made from stored results."""

import json
import shutil
from pathlib import Path

from tools import bench_page
from tools.notebooks import ROOT

RESULTS = Path("benchmarks", "results")
DENOISERS = Path("src", "dipfilters", "data", "denoisers.json")


def test_the_newest_results_are_shown_with_their_bars(tmp_path: Path) -> None:
    shutil.copytree(ROOT / RESULTS, tmp_path / RESULTS)
    (tmp_path / DENOISERS).parent.mkdir(parents=True)
    shutil.copy(ROOT / DENOISERS, tmp_path / DENOISERS)
    (tmp_path / "book").mkdir()
    old, newest = sorted((tmp_path / RESULTS).glob("20*.json"))[-2:]
    result = json.loads(newest.read_text("utf-8"))
    result["provenance"]["commit"] = "abc1234"
    seconds = {"unit": "s", "ours": 0.1, "theirs": 0.7, "smallest": 6.5, "largest": 7.5, "at_most": False}
    seconds |= {"work": "work", "peer": "peer", "note": "", "bar": 5.0}
    result["rows"][1] |= seconds | {"ratio": 7.0, "met": True}
    result["rows"][2] |= seconds | {"ratio": 2.0, "met": False}
    newest.write_text(json.dumps(result), "utf-8")

    bench_page.write(tmp_path, tmp_path / "book")
    page = (tmp_path / "book" / "benchmarks.md").read_text("utf-8")
    assert "commit abc1234" in page
    assert json.loads(old.read_text("utf-8"))["provenance"]["commit"] not in page
    lines = [line for line in page.splitlines() if line.startswith("| work | peer | 0.1 s | 0.7 s | ")]
    assert len(lines) == 2
    assert " | 7 [6.5, 7.5] | " in lines[0]
    assert lines[0].endswith(", 7 | ≥ 5 | met |"), "the medians of all runs, the newest last"
    assert lines[1].endswith(", 2 | ≥ 5 | **missed** |")
    for name in bench_page.FIGURES:
        assert (tmp_path / "book" / name).stat().st_size > 1000
        assert f"```{{figure}} {name}" in page
    large = json.loads((tmp_path / RESULTS / "megapixel.json").read_text("utf-8"))
    assert f"to {large['best_psnr']:.2f} dB at step {large['best_step']}" in page
