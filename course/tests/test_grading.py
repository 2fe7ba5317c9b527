"""nbgrader's whole cycle on the book's own masters, and submissions of every kind to a small one."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from course import INSTRUCTOR, ROOT, BookError, assignments, grade, read, write
from course.tests import daemons
from course.tests.samples import CUBE, SQUARE, answered, mini, rows, sources, tool


@dataclass
class Cycle:
    """A course that was made and graded, and what was printed."""

    root: Path
    printed: str

    def row(self, student: str, assignment: str) -> dict[str, str]:
        return rows(self.root)[student, assignment]

    def feedback(self, page: str) -> str:
        return (self.root / "_build" / "grades" / "feedback" / f"{page}.html").read_text("utf-8")


def graded(root: Path, *limits: str) -> Cycle:
    before = [path.read_bytes() for path in assignments.masters(root)]
    printed = tool("grade", root / "submissions", "--root", root, *limits)
    assert [path.read_bytes() for path in assignments.masters(root)] == before, "grading changed a master"
    return Cycle(root, printed)


# ---------------------------------------------------------------------------------- the book's own masters


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Cycle:
    """Each master answered by itself; the first one by nobody, and in part."""
    root = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / INSTRUCTOR, root / INSTRUCTOR)
    tool("assignments", "--root", root)
    handed_in = root / "submissions"
    for path in assignments.masters(root):
        write(read(path), handed_in / "reference" / path.name)
    release = read(root / "_build" / "assignments" / "release" / "part-1.ipynb")
    write(release, handed_in / "empty" / "part-1.ipynb")
    answers = sources(read(root / INSTRUCTOR / "part-1.ipynb"))
    rows_not_divided = "def weights(p, h):\n    return torch.exp(-(p[:, None] - p).square().mean(-1) / h**2)"
    partly = {"patches": answers["patches"], "kernel": answers["kernel"], "weights": rows_not_divided}
    partly["rows-answer"] = "In the even part many patches are alike."
    write(answered(release, **partly), handed_in / "partly" / "part-1.ipynb")
    return graded(root)


@pytest.mark.parametrize("path", assignments.masters(ROOT), ids=lambda path: path.stem)
def test_the_reference_gets_all_points_of_the_tests(path: Path, full: Cycle) -> None:
    tests, written = (row["points"] for row in assignments.tasks(path) if row["task"] == "all")
    row = full.row("reference", path.stem)
    assert row["state"] == "graded", row
    assert (float(row["points"]), float(row["by_hand"])) == (tests, written), row


def test_an_empty_submission_gets_none(full: Cycle) -> None:
    row = full.row("empty", "part-1")
    assert (row["state"], float(row["points"]), float(row["of"])) == ("graded", 0.0, 40.0)
    assert float(row["by_hand"]) == 0.0, "an answer that was not written needs no reader"


def test_a_partly_right_one_gets_its_part(full: Cycle) -> None:
    row = full.row("partly", "part-1")
    assert float(row["points"]) == 20.0, "patches and kernel"
    assert float(row["by_hand"]) == 10.0, "one of three written answers"
    assert row["note"] == "no points: weights-check, weights-hidden, twicing-check, twicing-hidden"


def test_feedback_says_what_is_wrong_and_shows_no_hidden_test(full: Cycle) -> None:
    page = full.feedback("partly/part-1")
    assert "every row sums to one: the sum of row" in page
    assert "BEGIN HIDDEN TESTS" not in page
    assert "expected_patches" not in page
    assert page.count("<html") == 1


# --------------------------------------------------------------------- submissions of every kind, small


def without(notebook: NotebookNode, *names: str) -> NotebookNode:
    notebook.cells = [cell for cell in notebook.cells if cell.id not in names]
    return notebook


def right(notebook: NotebookNode) -> NotebookNode:
    """Solved, among names that the limit of output uses itself; no cell prints more than it may."""
    own = "left = limit = limited = refill = write = name = stream = len = dict = RuntimeError = 3.0"
    long = "print('x' * 150_000)"
    changed = answered(notebook, square=SQUARE, cube=CUBE, imports="import math, json")
    changed.cells[2:2] = [new_code_cell(source) for source in (f"{own}\nprint(left)", long, long)]
    return changed


def cheating(notebook: NotebookNode) -> NotebookNode:
    """Tests made easy, points raised, and a test cell handed in as one that is none."""
    changed = answered(notebook, **{"square-check": "pass", "cube-check": "pass"})
    check, other = (cell for cell in changed.cells if cell.id in ("square-check", "cube-check"))
    check.metadata.nbgrader["points"] = 1000
    other.metadata.nbgrader |= {"grade": False, "locked": False, "solution": True}
    return changed


def with_daemons(notebook: NotebookNode) -> NotebookNode:
    """Processes that detach themselves; each has put a file into its home when the cell ends."""
    begin = "import pathlib\nfrom course.tests import daemons\nplace = pathlib.Path.home() / 'began'\n"
    begin += f"place.mkdir()\ndaemons.start(place)\n{SQUARE}"
    return answered(notebook, square=begin, cube=CUBE)


# What each of them does to the release, and what it must get: state, points of 9, and words of the note.
KINDS: dict[str, tuple[Callable[[NotebookNode], NotebookNode], str, float, str]] = {
    "right": (right, "graded", 9, ""),
    "deleted tests": (
        lambda nb: without(
            answered(nb, square=SQUARE), "square-check", "square-hidden", "cube", "cube-check"
        ),
        "graded",
        5,
        "put back: square-check, square-hidden, cube, cube-check",
    ),
    "endless loop": (
        lambda nb: answered(nb, square="while True:\n    pass", cube=CUBE),
        "graded",
        4,
        "square-check",
    ),
    "huge output": (
        lambda nb: answered(nb, square=SQUARE + "\nwhile True:\n    print('x' * 1000)", cube=CUBE),
        "graded",
        9,
        "",
    ),
    "dead kernel": (
        lambda nb: answered(nb, square="import os\nos._exit(1)"),
        "failed",
        0,
        "[Kk]ernel",
    ),
    "cheating": (
        cheating,
        "graded",
        0,
        "changed and put back: square-check, cube-check; no points: square-check",
    ),
    "memory": (
        lambda nb: answered(
            nb, square=SQUARE + "\ntry:\n    bytearray(10**11)\nexcept MemoryError:\n    pass"
        ),
        "graded",
        5,
        "cube-check",
    ),
    "daemons": (with_daemons, "graded", 9, ""),
}
# Files that are no such notebook, by the student's name: the file, its text, and what the entry says.
BROKEN = {
    "broken": ("mini.ipynb", "{", ("mini", "unreadable", "not a notebook")),
    "void": ("mini.ipynb", "", ("mini", "empty", "empty")),
    "a list": ("mini.ipynb", "[1, 2]", ("mini", "unreadable", "not a notebook")),
    "=cmd()": ("mini.ipynb", "{}", ("mini", "unreadable", "not a notebook")),
    "no notebook": ("mini.txt", "I could not open it", ("", "no notebook", "no .ipynb")),
    "foreign": (
        "other.ipynb",
        nbformat.writes(new_notebook(cells=[new_code_cell("1 + 1")])),
        ("", "unknown", "not hold the cells of any assignment"),
    ),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Cycle:
    """A course of one small assignment, and submissions of every kind to it."""
    root = tmp_path_factory.mktemp("small course")
    write(mini(), root / INSTRUCTOR / "mini.ipynb")
    tool("assignments", "--root", root)
    release = read(root / "_build" / "assignments" / "release" / "mini.ipynb")
    handed_in = root / "submissions"
    for name, (change, *_) in KINDS.items():
        write(change(copy.deepcopy(release)), handed_in / name / "mini.ipynb")
    for name, (file, text, _) in BROKEN.items():
        (handed_in / name).mkdir()
        (handed_in / name / file).write_text(text, "utf-8")
    (handed_in / "link").mkdir()
    (handed_in / "link" / "mini.ipynb").symlink_to(root / INSTRUCTOR / "mini.ipynb")
    older = answered(release, square=SQUARE, cube=CUBE)
    for cell in older.cells:
        cell.metadata["id"] = cell.pop("id")
        if cell.metadata["id"] != "cube":
            cell.metadata.pop("nbgrader", None)  # what a program that knows nothing of nbgrader may do
    text = json.dumps({**older, "nbformat": 4, "nbformat_minor": 2})
    (handed_in / "final FINAL (2).ipynb").write_text(text, "utf-8")
    return graded(root, "--cell-seconds", "10", "--jobs", "2")


@pytest.mark.parametrize("name", KINDS)
def test_a_submission_gets_its_line_whatever_it_does(name: str, small: Cycle) -> None:
    _, state, points, note = KINDS[name]
    row = small.row(name, "mini")
    assert (row["state"], float(row["points"])) == (state, points), row
    assert re.search(note, row["note"]) if note else not row["note"], row
    assert float(row["of"]) == (9.0 if state == "graded" else 0.0)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_submission_gets_a_clear_entry(name: str, small: Cycle) -> None:
    assignment, state, note = BROKEN[name][2]
    row = small.row(f"'{name}" if name.startswith("=") else name, assignment)
    assert (row["state"], float(row["points"])) == (state, 0.0), row
    assert note in row["note"]


def test_an_older_loose_file_of_any_name_is_graded_and_a_link_is_not(small: Cycle) -> None:
    row = small.row("final FINAL (2)", "mini")
    assert (float(row["points"]), row["note"]) == (9.0, "renamed from mini.ipynb")
    row = small.row("link", "mini")
    assert (row["state"], row["note"]) == ("unreadable", "it is not a regular file")


def test_every_file_gets_a_page_of_feedback(small: Cycle) -> None:
    folder = small.root / "_build" / "grades" / "feedback"
    pages = sorted(folder.rglob("*.html"))
    assert len(pages) == len(rows(small.root)) == len(KINDS) + len(BROKEN) + 2
    assert all(page.stat().st_size < 2_000_000 for page in pages)
    assert "this cell prints more than" in small.feedback("huge output/mini")
    assert "Not graded: empty" in small.feedback("void/mini")
    ElementTree.fromstring(small.feedback("void/mini").partition("\n")[2])


def test_the_command_says_what_it_does(small: Cycle) -> None:
    assert small.printed.count("Grading runs the students' code as you") == 1
    assert "container or a virtual machine" in small.printed


def test_no_process_outlives_the_grading(small: Cycle) -> None:
    assert not daemons.running(small.root)


def test_what_is_no_folder_of_submissions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BookError, match="no such folder"):
        grade.main([str(tmp_path / "nowhere")])
    with pytest.raises(BookError, match="no notebook in it"):
        grade.main([str(tmp_path)])
