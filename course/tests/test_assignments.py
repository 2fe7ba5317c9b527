"""The masters as they are written, and what nbgrader makes of them."""

from __future__ import annotations

import csv
import io
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode

from course import INSTRUCTOR, ROOT, BookError, assignments, read, tags
from course.tests.samples import tool
from dipfilters import checks

MASTERS = assignments.masters(ROOT)
each_master = pytest.mark.parametrize("path", MASTERS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / INSTRUCTOR, root / INSTRUCTOR)
    tool("assignments", "--root", root)
    assert [path.read_bytes() for path in assignments.masters(root)] == [
        path.read_bytes() for path in MASTERS
    ]
    return root / "_build" / "assignments"


def test_there_is_a_master_for_each_part_and_a_capstone() -> None:
    assert [path.stem for path in MASTERS] == ["capstone", "part-1", "part-2", "part-3"]


@each_master
def test_a_master_says_what_it_builds_on_and_what_it_gives(path: Path) -> None:
    master = read(path)
    tests, written = (row["points"] for row in assignments.tasks(path) if row["task"] == "all")
    first = master.cells[0].source
    assert f"| points | {tests + written}: {tests} by tests, {written} for written answers |" in first
    assert "| builds on | " in first
    assert "| takes about | " in first
    assert f"/course/student/{path.name})" in first
    assert master.metadata.accelerator == "GPU"
    assert tests > 0
    assert written > 0


@each_master
def test_every_task_has_two_hints_and_says_what_a_good_answer_shows(path: Path) -> None:
    text, answers = "", 0
    for cell in read(path).cells:
        if "BEGIN SOLUTION" not in cell.source:
            text += cell.source if cell.cell_type == "markdown" else ""
            continue
        answers += 1
        task = text[text.rindex("## ") :]
        assert "*A good answer*" in task, cell.id
        if cell.cell_type == "code":
            assert task.index("<summary>First hint</summary>") < task.index("<summary>Second hint</summary>")
        else:
            marks = cell.source.partition("**Rubric** (")[2]
            total, _, parts = marks.partition("):")
            points = [int(word) for word in parts.replace("for each of three", "").split() if word.isdigit()]
            several = 3 * points[0] + sum(points[1:]) if "for each of three" in parts else sum(points)
            assert int(total) == cell.metadata.nbgrader["points"] == several, cell.id
    assert answers


@each_master
def test_the_install_cell_is_that_of_the_chapters(path: Path) -> None:
    found, wanted = (
        [cell.source for cell in read(notebook).cells if "install" in tags(cell)]
        for notebook in (path, ROOT / "notebooks" / "02-twicing.ipynb")
    )
    assert found == wanted
    assert len(found) == 1


def namespace(notebook: NotebookNode) -> dict[str, Any]:
    """What the cells up to the tests define: imports and the student's functions."""
    found: dict[str, Any] = {}
    for cell in notebook.cells:
        if cell.cell_type == "code" and (cell.id == "imports" or assignments.grading(cell).get("solution")):
            exec(compile(cell.source, cell.id, "exec"), found)
    return found


@each_master
def test_every_reference_passes_its_check_and_every_stub_fails_it(path: Path, made: Path) -> None:
    master = read(path)
    right, stubs = namespace(master), namespace(read(made / "release" / path.name))
    for cell in master.cells:
        if not cell.id.endswith("-check"):
            continue
        with pytest.raises((checks.CheckFailed, NotImplementedError)):
            exec(cell.source, dict(stubs))
        with redirect_stdout(io.StringIO()):
            exec(cell.source, dict(right))
            if cell.source.startswith("check_"):
                check, _, answer = cell.source.partition("(")
                for seed in (1, 2):
                    getattr(checks, check)(right[answer.rstrip(")")], seed=seed)


@each_master
def test_the_students_notebook_holds_stubs_and_the_instructors_answers(path: Path, made: Path) -> None:
    master, release = read(path), read(made / "release" / path.name)
    text = (made / "release" / path.name).read_text("utf-8")
    assert "BEGIN" not in text
    assert "Rubric" not in text
    assert text.count("raise NotImplementedError") == sum(
        cell.source.count("### BEGIN SOLUTION") for cell in master.cells if cell.cell_type == "code"
    )
    assert [cell.id for cell in release.cells] == [cell.id for cell in master.cells]
    assert release.metadata.colab == {"gpuType": "T4", "provenance": []}
    text = (made / "instructor" / path.name).read_text("utf-8")
    assert "BEGIN SOLUTION" not in text
    assert "**Rubric**" in text
    assert "NotImplementedError" not in text


def test_the_table_of_points_adds_up(made: Path) -> None:
    with (made / "points.csv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    for path in MASTERS:
        for kind in ("tests", "written"):
            own = [row for row in found if (row["assignment"], row["kind"]) == (path.stem, kind)]
            (total,) = (int(row["points"]) for row in own if row["task"] == "all")
            assert total == sum(int(row["points"]) for row in own if row["task"] != "all")


def test_without_masters_the_command_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BookError, match=r"no masters in .*; restore them"):
        assignments.main(["--root", str(tmp_path)])
