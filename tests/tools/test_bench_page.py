"""The page of benchmarks, made from stored results."""

import json
from pathlib import Path
from typing import Any

import pytest

from tools import bench_page


def results(**changes: Any) -> dict[str, Any]:
    """One met bar, one missed, one without."""
    row = {
        "name": "a",
        "work": "work",
        "peer": "peer",
        "unit": "s",
        "ours": 0.1,
        "theirs": 0.7,
        "ratio": 7.0,
        "smallest": 6.5,
        "largest": 7.5,
        "bar": 5.0,
        "at_most": False,
        "error": 1e-6,
        "note": "",
        "met": True,
    }
    missed = row | {"name": "b", "work": "slow work", "ratio": 2.0, "bar": 5.0, "met": False}
    share = row | {"name": "c", "unit": "bytes", "ours": 4e8, "theirs": 1.7e10, "at_most": True, "met": True}
    return {
        "provenance": {
            "commit": "abc1234",
            "date": "2026-11-24T07:00:00+00:00",
            "hardware": "A processor, 2 cores",
            "threads": 2,
            "python": "3.11.7",
            "versions": {"torch": "2.13.0"},
        },
        "rows": [row, missed, share],
        "curves": {
            "patch_sizes": [3, 11],
            "by_patch_size": [0.3, 0.4],
            "depths": [1, 2],
            "by_depth": [0.3, 0.5],
            "sides": [64, 128],
            "exact": [0.1, 1.6],
            "low_rank": [0.1, 0.8],
            "slope_exact": 2.0,
            "slope_low_rank": 1.5,
        },
        "limits": {"gflops": 300.0, "copy_gb_per_s": 20.0},
    } | changes


def denoisers() -> dict[str, Any]:
    """Two methods on two pictures with two seeds."""
    rows = [
        {"picture": p, "seed": s, "method": m, "psnr": 24.0 + s, "seconds": 1.0}
        for p in ("x", "y")
        for s in (0, 1)
        for m in ("A", "B")
    ]
    return {"provenance": results()["provenance"] | {"commit": "def5678"}, "rows": rows}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "book").mkdir()
    return tmp_path


def test_the_newest_results_are_shown_with_their_bars(root: Path) -> None:
    folder = root / "benchmarks" / "results"
    old = results(provenance=results()["provenance"] | {"commit": "0000000"})
    old["rows"][0]["ratio"] = 6.25
    data = root / "src" / "dipfilters" / "data"
    data.mkdir(parents=True)
    (data / "denoisers.json").write_text(json.dumps(denoisers()), "utf-8")
    (folder / "2026-11-23T070000.json").write_text(json.dumps(old), "utf-8")
    (folder / "2026-11-24T070000.json").write_text(json.dumps(results()), "utf-8")
    bench_page.write(root, root / "book")
    page = (root / "book" / "benchmarks.md").read_text("utf-8")
    assert "abc1234" in page
    assert "0000000" not in page
    assert "| work | peer | 0.1 s | 0.7 s | 7 [6.5, 7.5] | 6.25, 7 | ≥ 5 | met |" in page
    assert "| slow work | peer | 0.1 s | 0.7 s | 2 [6.5, 7.5] | 2, 2 | ≥ 5 | **missed** |" in page
    assert "400 MB | 17,000 MB" in page
    assert "| A | 24.50 (1 s) | 24.50 (1 s) |" in page
    assert "commit def5678" in page
    assert page.count(":alt:") == len(bench_page.FIGURES)
    for name in bench_page.FIGURES:
        assert (root / "book" / name).stat().st_size > 1000
        assert f"```{{figure}} {name}" in page


def test_without_results_the_page_says_so(root: Path) -> None:
    bench_page.write(root, root / "book")
    assert "Nothing was measured yet" in (root / "book" / "benchmarks.md").read_text("utf-8")


def test_the_one_large_picture_has_its_paragraph(root: Path) -> None:
    folder = root / "benchmarks" / "results"
    large = {
        "provenance": results()["provenance"],
        "work": "the work",
        "products": 9,
        "bound": 5e-5,
        "wall_seconds": 3600.0,
        "processor_seconds": 6480.0,
        "threads": 2,
        "peak_bytes": 1.2e9,
        "noisy_psnr": 20.0,
        "best_step": 500,
        "best_psnr": 28.125,
    }
    (folder / "2026-11-24T070000.json").write_text(json.dumps(results()), "utf-8")
    (folder / "megapixel.json").write_text(json.dumps(large), "utf-8")
    bench_page.write(root, root / "book")
    page = (root / "book" / "benchmarks.md").read_text("utf-8")
    assert "1.8 hours of\nprocessor time (60 minutes" in page
    assert "to 28.12 dB at step 500" in page
