"""The stored runs of chapters 6 and 7: by the code of now, small, and the same when computed twice."""

from __future__ import annotations

import ast
import json
import linecache
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tools import notebooks, recheck
from tools.book import Book
from tools.notebooks import ROOT

RUNS = ROOT / "notebooks" / "runs"
DATA = ROOT / "src" / "dipfilters" / "data"


def definitions(stem: str) -> dict[str, Any]:
    """What the notebook imports and defines, nothing of it run but assignments of plain values."""
    scope: dict[str, Any] = {"__name__": stem, "device": torch.device("cpu")}
    for number, cell in enumerate(notebooks.code_cells(notebooks.read(ROOT / "notebooks" / f"{stem}.ipynb"))):
        if {"install", "parameters"} & set(notebooks.tags(cell)):
            continue
        kept: list[ast.stmt] = []
        for node in ast.parse(cell.source).body:
            plain = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
            capital = plain and node.targets[0].id.isupper()
            if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef) or capital:
                kept.append(node)
        name = f"<{stem}, cell {number}>"
        linecache.cache[name] = (len(cell.source), None, cell.source.splitlines(keepends=True), name)
        exec(compile(ast.Module(kept, []), name, "exec"), scope)
    return scope


SHORT = {"picture": "camera", "sigma": 0.1, "seed": 3, "width": 8}
TRAINED = SHORT | {"side": 32, "steps": 6}
FOLLOWED = TRAINED | {"scales": 2, "looks": [0, 3, 6], "step": 1e-3, "batch": 100, "source": "noise"}
CLOSED = {"side": 24, "sigma": 0.1, "last": 1000, "names": ["camera"], "seed": 3, "source": "noise"}
SMALL: dict[tuple[str, str], dict[str, Any]] = {
    ("06-sgd-versus-adam", "follow"): FOLLOWED | {"method": "minibatches"},
    ("06-sgd-versus-adam", "compare"): SHORT
    | {"side": 16, "scales": 1, "steps": 8, "descent": 0.1, "adam": 0.064},
    ("08-deep-image-prior", "train_one"): TRAINED
    | {"adam": 1e-3, "network": "skips", "source": "jittered", "method": "Adam"},
    ("08-deep-image-prior", "closed_form"): CLOSED | {"network": "autoencoder", "only": ""},
}


@pytest.mark.parametrize(("stem", "function"), SMALL)
def test_the_same_run_twice_gives_identical_numbers(stem: str, function: str) -> None:
    compute, values = definitions(stem)[function], SMALL[stem, function]
    first, second = ({k: np.asarray(v) for k, v in compute(**values).items()} for _ in range(2))
    assert first.keys() == second.keys()
    for key, array in first.items():
        assert array.tobytes() == second[key].tobytes(), key


def stored() -> list[Path]:
    return sorted(RUNS.glob("*.npz"))


def test_the_notebooks_that_store_runs_have_them() -> None:
    chapters = {path.stem[:2] for path in recheck.storing(Book(ROOT))}
    assert chapters == {path.name[:2] for path in stored()} == {"06", "07"}


@pytest.mark.parametrize("path", stored(), ids=lambda path: path.stem)
def test_a_stored_run_is_small_says_how_it_was_made_and_holds_finite_numbers(path: Path) -> None:
    assert path.stat().st_size < 5_000_000
    with np.load(path, allow_pickle=False) as numbers:
        for done in json.loads(str(numbers["text"]))["settings"]:
            assert done["stamp"]["hardware"]
            assert done["stamp"]["date"].startswith("20")
            assert "with changes" not in done["stamp"]["commit"]
        for name in numbers.files:
            if numbers[name].dtype.kind == "f":
                assert np.isfinite(numbers[name]).all(), name


@pytest.mark.parametrize("stem", ["06-sgd-versus-adam", "08-deep-image-prior"])
def test_the_notebook_shows_stored_runs_of_the_code_of_now(stem: str) -> None:
    text = (ROOT / "notebooks" / f"{stem}.ipynb").read_text("utf-8")
    assert re.search(r"settings loaded, made in", text)
    assert "THE CODE CHANGED" not in text


def test_published_figures_are_data_with_their_source() -> None:
    """Against theirs on the page: as many values as channels, and slopes that the poster's own axes show."""
    published = json.loads((DATA / "published.json").read_text("utf-8"))
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
        assert math.isclose(np.polyfit(x, np.log(weights[name]), 1)[0], slope, abs_tol=0.02)
    assert len(published["psnr"]["picture"]) == len(published["psnr"]["columns"]) == 5


def test_other_denoisers_are_stored_with_provenance_and_licence() -> None:
    stored = json.loads((DATA / "denoisers.json").read_text("utf-8"))
    assert "non-commercial" in stored["licence"]
    assert stored["provenance"]["versions"]["bm3d"]
    assert {(row["picture"], row["seed"]) for row in stored["rows"]} == {
        (p, s) for p in ("camera", "astronaut", "chelsea", "coffee", "brick") for s in (0, 1)
    }
