"""`make recheck-runs`: stored runs are compared with the present code, and the notebooks left alone."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools import execute, notebooks, recheck
from tools.book import Book
from tools.errors import BookError
from tools.notebooks import ROOT
from tools.record import PACKAGE

CELL = """from dipfilters.records import load_or_run

def compute(a):
    return {"b": a + 1.0}

run = load_or_run("02-run", {}, compute, folder="runs", settings=[{"a": 1}, {"a": 2}], recompute=recompute)
print(run.describe())"""


@pytest.fixture
def storing(book: Path) -> Path:
    """A book whose second chapter stores a run."""
    for name in ("records.py", "provenance.py"):
        shutil.copy(ROOT / "src" / PACKAGE / name, book / "src" / PACKAGE / name)
    path = Book(book).chapters[1]
    notebook = notebooks.read(path)
    for cell in notebook.cells:
        if "parameters" in notebooks.tags(cell):
            cell.source += "\nrecompute = False"
    notebook.cells[-1].source = CELL
    notebooks.write(notebook, path)
    return path


def settings_of(path: Path) -> list[dict[str, Any]]:
    """What the one stored run beside a notebook says of its settings."""
    (stored,) = (path.parent / "runs").glob("*.npz")
    with np.load(stored) as arrays:
        settings: list[dict[str, Any]] = json.loads(str(arrays["text"]))["settings"]
    return settings


def test_runs_that_agree_get_a_new_stamp_and_no_notebook_changes(
    book: Path, storing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recheck.storing(Book(book)) == [storing]
    recheck.main(["--root", str(book)])  # nothing stored yet: computed
    before = storing.read_bytes()
    assert all("rechecked" not in done["stamp"] for done in settings_of(storing))
    recheck.main(["--root", str(book)])
    assert all(done["stamp"]["rechecked"].startswith("20") for done in settings_of(storing))
    assert storing.read_bytes() == before
    assert "02-two: its stored runs agree" in capsys.readouterr().out


def test_a_run_that_differs_is_named_and_keeps_its_stamp(book: Path, storing: Path) -> None:
    recheck.main(["--root", str(book)])
    notebook = notebooks.read(storing)
    notebook.cells[-1].source = CELL.replace("a + 1.0", "a + 2.0")
    notebooks.write(notebook, storing)
    with pytest.raises(BookError, match=r"02-run.*b is .* off what is stored"):
        recheck.main(["--root", str(book)])
    assert all("rechecked" not in done["stamp"] for done in settings_of(storing))


def test_a_run_with_settings_of_one_s_own_leaves_the_stored_runs_alone(book: Path, storing: Path) -> None:
    recheck.main(["--root", str(book)])
    before = {path.name: path.read_bytes() for path in (storing.parent / "runs").iterdir()}
    execute.main(["02", "--set", "seed=1", "--root", str(book)])
    shown = notebooks.read(book / "_build" / "runs" / "02-two-seed=1.ipynb").cells[-1].outputs[0].text
    assert "2 of 2 settings loaded" in shown, "it begins with what is stored"
    execute.main(["02", "--set", "recompute=True", "--root", str(book)])
    assert {path.name: path.read_bytes() for path in (storing.parent / "runs").iterdir()} == before
    (own,) = (book / "_build" / "runs" / "runs").glob("*.npz")
    assert own.read_bytes() != before[own.name]


def test_a_copy_of_stored_runs_is_renewed_with_the_book_s(tmp_path: Path) -> None:
    source, target = tmp_path / "runs", tmp_path / "own" / "runs"
    source.mkdir()
    for text, time in (("first", 1e9), ("second", 2e9)):
        (source / "a.npz").write_text(text)
        os.utime(source / "a.npz", (time, time))
        execute._copy_stored_runs(source, target)
        assert [path.read_text() for path in target.iterdir()] == [text]
