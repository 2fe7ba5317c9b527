"""Which chapters an edit of the package makes stale: those that reach it, and no other."""

import re
import shutil
from functools import cache
from pathlib import Path

import pytest

from tools import notebooks, record
from tools.book import Book
from tools.notebooks import ROOT

CHAPTERS = Book().notebooks
SOURCE = ROOT / "src" / record.PACKAGE


@cache
def code() -> dict[str, dict[str, object]]:
    """What decides each chapter's outputs, as it stands."""
    return {
        path.stem: record.code(notebook, path.name, Book().package) for path, notebook in CHAPTERS.items()
    }


def made_stale(folder: Path, file: str, *edits: tuple[str, str]) -> set[str]:
    """The chapters that depend on what these edits change in a file of the package."""
    shutil.copytree(SOURCE, folder / "src" / record.PACKAGE)
    shutil.copytree(ROOT / "studies", folder / "studies")
    path = folder / "src" / record.PACKAGE / file
    text = path.read_text("utf-8")
    for pattern, new in edits:
        text, found = re.subn(pattern, new, text, count=1, flags=re.DOTALL)
        assert found == 1, pattern
    path.write_text(text, "utf-8")
    package = Book(folder).package
    return {
        path.stem
        for path, notebook in CHAPTERS.items()
        if record.code(notebook, path.name, package) != code()[path.stem]
    }


@pytest.mark.parametrize(
    ("names", "file", "pattern", "new"),
    [
        ("show_row|RowExplorer", "plots.py", r"(def show_row\(.*?markersize=)\d+", r"\g<1>99"),
        ("TrainingFilm", "figures/film.js", r"\Z", "\n"),
        ("twicing", "twicing.py", r"(def twicing\(.*? = noisy - estimate)\n", r"\1 + 0\n"),
    ],
)
def test_a_changed_piece_makes_those_chapters_stale_that_reach_it(
    tmp_path: Path, names: str, file: str, pattern: str, new: str
) -> None:
    """And no others: those whose cells call it, or the figure whose still is drawn with it."""
    reaching = {
        path.stem
        for path, notebook in CHAPTERS.items()
        if any(re.search(rf"\b({names})\(", cell.source) for cell in notebooks.computing_cells(notebook))
    }
    assert 0 < len(reaching) < len(CHAPTERS)
    assert made_stale(tmp_path, file, (pattern, new)) == reaching


def test_a_table_of_a_study_makes_those_chapters_stale_that_name_it(tmp_path: Path) -> None:
    folder = tmp_path / "studies" / "results"
    folder.mkdir(parents=True)
    for name in ("one", "other"):
        (folder / f"{name}.parquet").write_bytes(name.encode())
    (tmp_path / "studies" / "reading.py").write_text("# how tables are read\n")
    naming = ["from studies import results", 'results("one", profile)']
    before = record.studies(naming, tmp_path)
    assert before.keys() == {"studies/reading.py", "studies/results/one.parquet"}
    assert record.studies(naming[1:], tmp_path) == {}, "a name alone is no use of a study"
    (folder / "other.parquet").write_bytes(b"more")
    assert record.studies(naming, tmp_path) == before
    (folder / "one.parquet").write_bytes(b"more")
    assert record.studies(naming, tmp_path) != before
