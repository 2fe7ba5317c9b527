"""The course kit: nbgrader's whole cycle, and submissions of every kind.

The masters are in the instructors' repository only; in the public tree what needs them is skipped.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import nbformat
import psutil
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dipfilters import checks
from tools import course, grade, notebooks
from tools.errors import BadSubmissions, CourseMissing
from tools.notebooks import ROOT

HERE = (ROOT / course.INSTRUCTOR).is_dir()
private = pytest.mark.skipif(not HERE, reason="the masters are in the instructors' repository only")
MASTERS = course.masters(ROOT) if HERE else []
NAMES = [path.stem for path in MASTERS]


def tool(name: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """A tool in a process of its own: nbgrader's libraries warn of things that are not ours."""
    done = subprocess.run(
        [sys.executable, "-m", f"tools.{name}", *map(str, words)],
        cwd=ROOT,
        # A teacher's shell does not know the environment's programs.
        env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def rows(root: Path) -> dict[tuple[str, str], dict[str, str]]:
    """grades.csv by student and assignment."""
    with (root / "_build" / "course" / "grades.csv").open(encoding="utf-8", newline="") as file:
        return {(row["student"], row["assignment"]): row for row in csv.DictReader(file)}


def digests(paths: list[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


# ------------------------------------------------------------------------------- the masters, as written


@private
def test_there_is_a_master_for_each_part_and_a_capstone() -> None:
    assert NAMES == ["capstone", "part-1", "part-2", "part-3"]


@private
@pytest.mark.parametrize("path", MASTERS, ids=NAMES)
def test_a_master_tells_what_it_builds_on_and_what_it_gives(path: Path) -> None:
    master = notebooks.read(path)
    given = course.tasks(master, path.stem)
    tests = sum(row["points"] for row in given if row["kind"] == "tests")
    written = sum(row["points"] for row in given if row["kind"] == "written")
    first = master.cells[0].source
    assert f"| points | {tests + written}: {tests} by tests, {written} for written answers |" in first
    assert "| builds on | " in first
    assert "| takes about | " in first
    assert f"/course/student/{path.name})" in first
    assert master.metadata.accelerator == "GPU"
    assert master.metadata.colab == {"gpuType": "T4", "provenance": []}
    assert tests > 0
    assert written > 0


@private
@pytest.mark.parametrize("path", MASTERS, ids=NAMES)
def test_every_task_has_two_hints_and_says_what_a_good_answer_shows(path: Path) -> None:
    master = notebooks.read(path)
    answers = [cell for cell in master.cells if "BEGIN SOLUTION" in cell.source]
    assert answers
    for cell in answers:
        before = master.cells[: master.cells.index(cell)]
        text = "\n".join(c.source for c in before if c.cell_type == "markdown")
        task = text[text.rindex("## ") :]
        assert "*A good answer*" in task, cell.id
        if cell.cell_type == "code":
            assert task.index("<summary>First hint</summary>") < task.index("<summary>Second hint</summary>")
        else:
            assert "**Rubric**" in cell.source
            marks = cell.source.partition("**Rubric** (")[2]
            total, _, parts = marks.partition("):")
            points = [int(word) for word in parts.replace("for each of three", "").split() if word.isdigit()]
            several = 3 * points[0] + sum(points[1:]) if "for each of three" in parts else sum(points)
            assert int(total) == cell.metadata.nbgrader["points"] == several, cell.id


@private
def test_the_install_cell_is_that_of_the_chapters() -> None:
    chapter = notebooks.read(notebooks.chapters(ROOT)[0])
    (wanted,) = (cell.source for cell in chapter.cells if "install" in notebooks.tags(cell))
    for path in MASTERS:
        (found,) = (cell.source for cell in notebooks.read(path).cells if "install" in notebooks.tags(cell))
        assert found == wanted


# ------------------------------------------------------------------------------------ stubs and references


def namespace(notebook: NotebookNode, name: str) -> dict[str, Any]:
    """What the cells up to the tests define: imports and the student's functions."""
    found: dict[str, Any] = {}
    for cell in notebook.cells:
        defines = cell.id == "imports" or course.grading(cell).get("solution")
        if cell.cell_type == "code" and defines:
            exec(compile(cell.source, f"{name}:{cell.id}", "exec"), found)
    return found


def checking_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.id.endswith("-check")]


@private
@pytest.mark.parametrize("path", MASTERS, ids=NAMES)
def test_every_reference_passes_its_check_on_ten_seeds(path: Path) -> None:
    master = notebooks.read(path)
    known = namespace(master, path.stem)
    for cell in checking_cells(master):
        called = cell.source.partition("(")[0]
        with redirect_stdout(io.StringIO()):
            if called.startswith("check_"):
                answer = cell.source.partition("(")[2].rstrip(")")
                for seed in range(10):
                    getattr(checks, called)(known[answer], seed=seed)
            else:
                exec(cell.source, dict(known))


@private
@pytest.mark.parametrize("path", MASTERS, ids=NAMES)
def test_every_reference_passes_the_hidden_tests(path: Path) -> None:
    master = notebooks.read(path)
    known = namespace(master, path.stem)
    with redirect_stdout(io.StringIO()):
        for cell in master.cells:
            if course.grading(cell).get("grade") and cell.cell_type == "code":
                exec(cell.source, known)


@private
@pytest.mark.parametrize("path", MASTERS, ids=NAMES)
def test_every_stub_fails_its_check(path: Path, full: Cycle) -> None:
    release = notebooks.read(full.release(path.stem))
    known = namespace(release, path.stem)
    for cell in checking_cells(release):
        with pytest.raises((checks.CheckFailed, NotImplementedError)):
            exec(cell.source, dict(known))


# ------------------------------------------------------------------------------------------ the full cycle


@dataclass
class Cycle:
    """A course that was made and graded, and what it printed."""

    root: Path
    submissions: Path
    printed: str

    def release(self, name: str) -> Path:
        return self.root / "_build" / "course" / "release" / f"{name}.ipynb"

    def row(self, student: str, assignment: str) -> dict[str, str]:
        return rows(self.root)[student, assignment]

    def feedback(self, student: str) -> str:
        (page,) = (self.root / "_build" / "course" / "feedback" / student).glob("*.html")
        return page.read_text("utf-8")


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Cycle:
    """The book's own masters, generated; the first one answered by itself, by nobody, in part, and graded."""
    root = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / course.INSTRUCTOR, root / course.INSTRUCTOR)
    tool("course", "--root", root)
    handed_in = root / "submissions"
    notebooks.write(
        notebooks.read(root / course.INSTRUCTOR / "part-1.ipynb"), handed_in / "reference" / "part-1.ipynb"
    )
    release = notebooks.read(root / "_build" / "course" / "release" / "part-1.ipynb")
    notebooks.write(release, handed_in / "empty" / "part-1.ipynb")
    answers = {
        cell.id: cell.source for cell in notebooks.read(root / course.INSTRUCTOR / "part-1.ipynb").cells
    }
    partly = copy.deepcopy(release)
    for cell in partly.cells:
        if cell.id in ("patches", "kernel"):
            cell.source = answers[cell.id]
        if cell.id == "weights":  # a usual mistake
            cell.source = (
                "def weights(p, h):\n    return torch.exp(-(p[:, None] - p).square().mean(-1) / h**2)"
            )
        if cell.id == "rows-answer":
            cell.source = "In the even part many patches are alike."
    notebooks.write(partly, handed_in / "partly" / "part-1.ipynb")
    before = digests(course.masters(root))
    done = tool("grade", handed_in, "--root", root, "--jobs", "2")
    assert digests(course.masters(root)) == before, "grading changed a master"
    return Cycle(root, handed_in, done.stdout)


def assert_all_points(row: dict[str, str], path: Path) -> None:
    given = course.tasks(notebooks.read(path), path.stem)
    assert row["state"] == "graded", row
    assert float(row["points"]) == sum(task["points"] for task in given if task["kind"] == "tests"), row
    assert float(row["by_hand"]) == sum(task["points"] for task in given if task["kind"] == "written")


@private
@pytest.mark.slow
def test_the_reference_gets_all_points_of_the_tests(full: Cycle) -> None:
    assert_all_points(full.row("reference", "part-1"), full.root / course.INSTRUCTOR / "part-1.ipynb")


@private
@pytest.mark.long
def test_every_reference_gets_all_points_of_its_tests(tmp_path: Path) -> None:
    shutil.copytree(ROOT / course.INSTRUCTOR, tmp_path / course.INSTRUCTOR)
    handed_in = tmp_path / "submissions" / "reference"
    handed_in.mkdir(parents=True)
    for path in MASTERS:
        shutil.copy(path, handed_in)
    tool("grade", handed_in.parent, "--root", tmp_path)
    for path in MASTERS:
        assert_all_points(rows(tmp_path)["reference", path.stem], path)


@private
@pytest.mark.slow
def test_an_empty_submission_gets_none(full: Cycle) -> None:
    row = full.row("empty", "part-1")
    assert (row["state"], float(row["points"]), float(row["of"])) == ("graded", 0.0, 40.0)
    assert float(row["by_hand"]) == 0.0, "an answer that was not written needs no reader"


@private
@pytest.mark.slow
def test_a_partly_right_one_gets_its_part(full: Cycle) -> None:
    row = full.row("partly", "part-1")
    assert float(row["points"]) == 20.0, "patches and kernel"
    assert float(row["by_hand"]) == 10.0, "one of three written answers"
    assert row["note"] == "no points: weights-check, weights-hidden, twicing-check, twicing-hidden"


@private
@pytest.mark.slow
def test_feedback_says_what_is_wrong_and_shows_no_hidden_test(full: Cycle) -> None:
    page = full.feedback("partly")
    assert "every row sums to one: the sum of row" in page
    assert "BEGIN HIDDEN TESTS" not in page
    assert "expected_patches" not in page
    assert page.count("<html") == 1


@private
def test_the_student_notebooks_hold_stubs_and_no_marks(full: Cycle) -> None:
    for path in MASTERS:
        text = full.release(path.stem).read_text("utf-8")
        master = notebooks.read(path)
        assert "BEGIN" not in text
        assert "Rubric" not in text
        assert text.count("raise NotImplementedError") == sum(
            cell.source.count("### BEGIN SOLUTION") for cell in master.cells if cell.cell_type == "code"
        )
        release = notebooks.read(full.release(path.stem))
        assert [cell.id for cell in release.cells] == [cell.id for cell in master.cells]
        assert release.metadata.accelerator == "GPU"
        assert release.metadata.colab == {"gpuType": "T4", "provenance": []}


@private
def test_instructors_copies_hold_the_answers_without_marks(full: Cycle) -> None:
    for path in MASTERS:
        text = (full.root / "_build" / "course" / "instructor" / path.name).read_text("utf-8")
        assert "BEGIN SOLUTION" not in text
        assert "**Rubric**" in text
        assert "NotImplementedError" not in text


@private
def test_the_table_of_points_adds_up(full: Cycle) -> None:
    with (full.root / "_build" / "course" / "points.csv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    for name in NAMES:
        for kind in ("tests", "written"):
            own = [row for row in found if (row["assignment"], row["kind"]) == (name, kind)]
            (total,) = (int(row["points"]) for row in own if row["task"] == "all")
            assert total == sum(int(row["points"]) for row in own if row["task"] != "all")


# --------------------------------------------------------------------- submissions of every kind, small


def graded(ident: str, source: str, points: int, **flags: bool) -> NotebookNode:
    facts = {"grade": True, "grade_id": ident, "locked": True, "points": points, "solution": False}
    facts |= {"schema_version": 3, "task": False, "cell_type": "code"} | flags
    cell: NotebookNode = new_code_cell(source, id=ident, metadata={"nbgrader": facts})
    return cell


def plain(ident: str, source: str, **flags: bool) -> NotebookNode:
    facts = {"grade": False, "grade_id": ident, "locked": True, "solution": False, "task": False}
    facts |= {"schema_version": 3, "cell_type": "code"} | flags
    cell: NotebookNode = new_code_cell(source, id=ident, metadata={"nbgrader": facts})
    return cell


MINI = [
    new_markdown_cell("# A small assignment", id="title"),
    plain("imports", "import math"),
    plain(
        "square",
        "def square(x):\n    ### BEGIN SOLUTION\n    return x * x\n    ### END SOLUTION",
        solution=True,
        locked=False,
    ),
    graded("square-check", "assert square(3) == 9, 'the square of 3 is 9'", 2),
    graded(
        "square-hidden",
        "# hidden\n### BEGIN HIDDEN TESTS\nassert [square(x) for x in (-2, 0.5)] == [4, 0.25]\n"
        "### END HIDDEN TESTS",
        3,
    ),
    plain(
        "cube",
        "def cube(x):\n    ### BEGIN SOLUTION\n    return x**3\n    ### END SOLUTION",
        solution=True,
        locked=False,
    ),
    graded("cube-check", "assert cube(2) == 8", 4),
]


def answer(notebook: NotebookNode, **sources: str) -> NotebookNode:
    for cell in notebook.cells:
        if cell.id in sources:
            cell.source = sources[cell.id]
    return notebook


SQUARE = "def square(x):\n    return x * x"
CUBE = "def cube(x):\n    return x * x * x"


def without(notebook: NotebookNode, *names: str) -> NotebookNode:
    notebook.cells = [cell for cell in notebook.cells if cell.id not in names]
    return notebook


def more(notebook: NotebookNode, sources: list[str]) -> NotebookNode:
    notebook.cells[2:2] = [new_code_cell(source) for source in sources]
    return notebook


def cheating(notebook: NotebookNode) -> NotebookNode:
    """Tests made easy, points raised, and a test cell handed in as one that is none."""
    for cell in notebook.cells:
        if cell.id == "square-check":
            cell.source = "pass"
            cell.metadata.nbgrader["points"] = 1000
        if cell.id == "cube-check":
            cell.source = "pass"
            cell.metadata.nbgrader |= {"grade": False, "locked": False, "solution": True}
    return notebook


# What each of them does to the release, and what it must get: state, points of 9, and words of the note.
KINDS: dict[str, tuple[Callable[[NotebookNode], NotebookNode], str, float, str]] = {
    "deleted tests": (
        lambda nb: without(answer(nb, square=SQUARE), "square-check", "square-hidden", "cube", "cube-check"),
        "graded",
        5,
        "put back: square-check, square-hidden, cube, cube-check",
    ),
    "endless loop": (
        lambda nb: answer(nb, square="while True:\n    pass", cube=CUBE),
        "graded",
        4,
        "square-check",
    ),
    "loop after loop": (
        lambda nb: more(answer(nb, square=SQUARE), ["import time\ntime.sleep(1000)"] * 12),
        "stopped",
        0,
        "more than 40 s",
    ),
    # The names that the limit of output has for its own things.
    "names like ours": (
        lambda nb: more(
            answer(nb, square=SQUARE, cube=CUBE), ["left = limit = refill = write = len = 3.0\nprint(left)"]
        ),
        "graded",
        9,
        "",
    ),
    "huge output": (
        lambda nb: answer(nb, square=SQUARE + "\nwhile True:\n    print('x' * 1000)", cube=CUBE),
        "graded",
        9,
        "",
    ),
    "dead kernel": (lambda nb: answer(nb, square="import os\nos._exit(1)"), "failed", 0, "kernel|Kernel"),
    "cheating": (
        cheating,
        "graded",
        0,
        "changed and put back: square-check, cube-check; no points: square-check",
    ),
    "memory": (
        lambda nb: answer(nb, square=SQUARE + "\ntry:\n    bytearray(10**11)\nexcept MemoryError:\n    pass"),
        "graded",
        5,
        "cube-check",
    ),
}


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Cycle:
    """A course of one small assignment, and submissions of every kind to it."""
    root = tmp_path_factory.mktemp("small course")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    master = new_notebook(cells=copy.deepcopy(MINI), metadata=kernel)
    notebooks.write(master, root / course.INSTRUCTOR / "mini.ipynb")
    tool("course", "--root", root)
    release = notebooks.read(root / "_build" / "course" / "release" / "mini.ipynb")
    handed_in = root / "submissions"
    for name, (change, *_) in KINDS.items():
        notebooks.write(change(copy.deepcopy(release)), handed_in / name / "mini.ipynb")
    right = answer(copy.deepcopy(release), square=SQUARE, cube=CUBE)
    notebooks.write(right, handed_in / "loose.ipynb")

    def raw(name: str, text: str, file: str = "mini.ipynb") -> None:
        (handed_in / name).mkdir()
        (handed_in / name / file).write_text(text, "utf-8")

    raw("broken", json.dumps(right)[:-40])
    raw("void", "")
    raw("a list", "[1, 2]")
    raw("foreign", nbformat.writes(new_notebook(cells=[new_code_cell("1 + 1")])), "other.ipynb")
    raw("=cmd()", "{}")
    raw("no notebook", "I could not open it", "mini.txt")
    older = copy.deepcopy(right)
    for cell in older.cells:
        cell.metadata["id"] = cell.pop("id")
        if cell.metadata["id"] != "cube":
            cell.metadata.pop("nbgrader", None)  # what a program that knows nothing of nbgrader may do
    raw("older", json.dumps({**older, "nbformat": 4, "nbformat_minor": 2}), "final FINAL (2).ipynb")
    (handed_in / "link").mkdir()
    (handed_in / "link" / "mini.ipynb").symlink_to(root / course.INSTRUCTOR / "mini.ipynb")
    before = digests(course.masters(root))
    done = tool("grade", handed_in, "--root", root, "--cell-seconds", "6", "--seconds", "40", "--jobs", "4")
    assert digests(course.masters(root)) == before, "grading changed a master"
    return Cycle(root, handed_in, done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_submission_gets_its_line_whatever_it_does(name: str, small: Cycle) -> None:
    _, state, points, note = KINDS[name]
    row = small.row(name, "mini")
    assert (row["state"], float(row["points"])) == (state, points), row
    assert any(word in row["note"] for word in note.split("|")), row
    assert float(row["of"]) == (9.0 if state == "graded" else 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "assignment", "state", "points", "note"),
    [
        ("loose", "mini", "graded", 9, ""),
        ("older", "mini", "graded", 9, "renamed from mini.ipynb"),
        ("broken", "mini", "unreadable", 0, "no notebook"),
        ("void", "mini", "empty", 0, "empty"),
        ("a list", "mini", "unreadable", 0, "no notebook"),
        ("link", "mini", "unreadable", 0, "no plain file"),
        ("foreign", "", "unknown", 0, "the cells of no assignment"),
        ("'=cmd()", "mini", "unreadable", 0, "no notebook"),
        ("no notebook", "", "no notebook", 0, "no .ipynb"),
    ],
)
def test_a_broken_submission_gets_a_clear_entry(
    name: str, assignment: str, state: str, points: float, note: str, small: Cycle
) -> None:
    row = small.row(name, assignment)
    assert (row["state"], float(row["points"])) == (state, points), row
    assert note in row["note"]


@pytest.mark.slow
def test_every_student_gets_a_page_of_feedback(small: Cycle) -> None:
    folder = small.root / "_build" / "course" / "feedback"
    assert {path.name for path in folder.iterdir()} == {
        grade.safe(row["student"].lstrip("'")) for row in rows(small.root).values()
    }
    assert "Not graded: stopped" in small.feedback(grade.safe("loop after loop"))
    assert "this cell prints more than" in small.feedback(grade.safe("huge output"))
    assert all(page.stat().st_size < 2_000_000 for page in folder.rglob("*.html"))
    ElementTree.fromstring(small.feedback("void").partition("\n")[2])


@pytest.mark.slow
def test_the_command_says_what_it_does(small: Cycle) -> None:
    assert small.printed.count("Grading runs the students' code as you") == 1
    assert "container or a virtual machine" in small.printed


@pytest.mark.slow
def test_no_kernel_outlives_the_grading(small: Cycle) -> None:
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in commands if str(small.root).encode() in line]


def test_what_was_done_to_tests_is_noted_and_an_answer_is_not() -> None:
    release = new_notebook(cells=copy.deepcopy(MINI))
    handed_in = answer(copy.deepcopy(release), square=SQUARE, imports="import math, json")
    assert grade.restored(handed_in, release) == ([], [])
    answer(handed_in, **{"cube-check": "assert True"})
    handed_in = without(handed_in, "square-check")
    assert grade.restored(handed_in, release) == (["square-check"], ["cube-check"])


@pytest.fixture
def worked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Grade five submissions, each by a worker that is this shell script; the folder of grades."""

    def generate(_root: Path, folder: Path) -> None:
        release = new_notebook(cells=copy.deepcopy(MINI))
        for kind in ("release", "source"):
            notebooks.write(release, folder / kind / "mini" / "mini.ipynb")
            notebooks.write(release, tmp_path / "in" / f"{kind}.ipynb")
        for name in "abc":
            notebooks.write(release, tmp_path / "in" / name / "mini.ipynb")
        (folder / "gradebook.db").touch()

    def run(script: str) -> Path:
        worker = tmp_path / "worker"
        worker.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        worker.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(worker))
        monkeypatch.setattr(course, "generate", generate)
        generate(tmp_path, tmp_path / "first")
        done = tmp_path / "_build" / "course"
        (done / "feedback").mkdir(parents=True)
        (done / "feedback" / "old.html").touch()
        grade.main([str(tmp_path / "in"), "--root", str(tmp_path), "--jobs", "2"])
        return done

    return run


def test_grades_are_written_where_nbgrader_wrote_no_feedback(worked: Callable[[str], Path]) -> None:
    facts = {"points": 9, "of": 9, "by_hand": 0, "failed": [], "error": ""}
    done = worked(f"echo '{json.dumps(facts)}' > result.json")
    with (done / "grades.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["points"] for row in found] == ["9"] * 5
    assert all("nbgrader wrote no feedback" in row["note"] for row in found)
    assert list((done / "feedback").iterdir()) == [], "pages of an earlier grading"


def test_an_interruption_ends_what_runs_and_begins_nothing_more(
    worked: Callable[[str], Path], tmp_path: Path
) -> None:
    def interrupt() -> None:
        deadline = time.monotonic() + 30
        while len(list(tmp_path.glob("_build/*/runs/*/began"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=interrupt, daemon=True).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        worked("touch began; exec sleep 47")
    assert time.monotonic() - begun < 30
    assert len(list(tmp_path.glob("_build/*/runs/*/began"))) < 5
    sleeping = [p.cwd() for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]
    assert not [folder for folder in sleeping if folder.startswith(str(tmp_path))]
    assert not (tmp_path / "_build" / "course" / "grades.csv").exists()
    assert (tmp_path / "_build" / "course" / "feedback" / "old.html").exists()


class Printing(io.StringIO):
    """A kernel's stream; its `write` can be replaced."""


def test_the_limit_of_output_keeps_out_of_the_students_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start-up text among names that a student may choose, of its own and of what it calls."""
    refills: list[Callable[[], None]] = []
    events = SimpleNamespace(register=lambda _, call: refills.append(call))
    shell = SimpleNamespace(events=events, run_line_magic=lambda *_: None)
    scope: dict[str, Any] = {"get_ipython": lambda: shell}
    before = set(scope) | {"__builtins__"}
    out = Printing()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", Printing())
    exec(grade.LIMIT_OUTPUT, scope)
    assert set(scope) == before, "names are left behind"
    own = "left = limit = limited = refill = write = name = stream = sys = len = dict = RuntimeError = 3.0"
    exec(f"{own}\nprint(left)", scope)
    (refill,) = refills
    refill()
    assert out.getvalue() == "3.0\n"
    with pytest.raises(RuntimeError, match="prints more than 200000 characters"):
        exec("while True:\n    print('x' * 1000)", scope)
    assert len(out.getvalue()) < 200_100
    refill()
    exec("print('the next cell')", scope)
    assert out.getvalue().endswith("the next cell\n")


def test_no_feedback_is_written_over_another_s() -> None:
    found = [
        ("Ana María", Path("a/x.ipynb")),
        ("Ana María", Path("b/x.ipynb")),
        ("Ana_María", Path("x.ipynb")),
    ]
    made = grade.pages([*found, ("Bo", None)])
    assert len(set(made)) == 4
    assert made[0].parent == made[1].parent != made[2].parent


def test_what_is_no_folder_of_submissions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSubmissions, match="no such folder"):
        grade.main([str(tmp_path / "nowhere")])
    with pytest.raises(BadSubmissions, match="no notebook in it"):
        grade.main([str(tmp_path)])


def test_without_masters_the_tools_say_why(tmp_path: Path) -> None:
    with pytest.raises(CourseMissing, match="this is the public tree"):
        course.main(["--root", str(tmp_path)])
