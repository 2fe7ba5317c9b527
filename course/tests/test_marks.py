"""No mark is lost: late notebooks, second assignments, Ctrl-C, `make clean`, readers' points and comments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from course import INSTRUCTOR, ROOT, BookError, assignments, grade, marks, read, roster, write
from course.tests.samples import SQUARE, answered, mini, written_cell


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course of two small assignments, as it is handed out."""
    root = tmp_path_factory.mktemp("course")
    for name in ("one", "two"):
        master = mini()
        master.cells.append(written_cell("why-answer", points=6))
        for cell in master.cells:
            if cell.id != "title":
                cell.id = cell.metadata.nbgrader["grade_id"] = (
                    f"{cell.id}-{name}" if name == "two" else cell.id
                )
        write(master, root / INSTRUCTOR / f"{name}.ipynb")
    assignments.main(["--root", str(root)])
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A course of its own for each test, whose tests give all points, and cost nothing."""
    monkeypatch.setattr(grade.Grader, "run", all_points)
    monkeypatch.setattr(assignments, "generate", lambda *_: None)  # made once, for all tests
    monkeypatch.setattr(assignments, "for_students", lambda _: handed_out(made))
    shutil.copytree(made / INSTRUCTOR, tmp_path / INSTRUCTOR)
    return tmp_path


def handed_out(made: Path) -> dict[str, Path]:
    return {path.stem: path for path in (made / "_build" / "assignments" / "release").iterdir()}


def all_points(self: grade.Grader, scratch: Path, job: grade.Job, name: str) -> dict[str, Any]:
    assert job.notebook is not None
    write(job.notebook, self.kept.folder / "notebooks" / name / f"{job.attempt['student']}-1.ipynb")
    tests = [task for task in self.course.headings[name] if task not in self.course.rubrics[name]]
    return {"cells": {task: {"points": 1.0, "of": 2.0, "said": ""} for task in tests}, "errors": {}}


def hand_in(
    root: Path, made: Path, batch: str, student: str, assignment: str = "one", said: str = "So."
) -> None:
    release = read(handed_out(made)[assignment])
    name = "why-answer" if assignment == "one" else "why-answer-two"
    write(answered(release, **{name: said}), root / batch / student / f"{assignment}.ipynb")


def run(root: Path, batch: str = "", *words: str) -> marks.Marks:
    grade.main([*([str(root / batch)] if batch else []), "--root", str(root), "--sandbox", "none", *words])
    return marks.Marks(root / "course" / "marks")


def mark(kept: marks.Marks, student: str, points: str, comment: str) -> None:
    """What a reader does in a spreadsheet, in a country of commas."""
    rows = kept.read("written")
    for row in rows:
        if row["student"] == student:
            row |= {"points": points, "comment": comment}
    text = [";".join(f'"{row[column]}"' for column in marks.COLUMNS["written"]) for row in rows]
    head = ";".join(marks.COLUMNS["written"])
    (kept.folder / "written.csv").write_text("\n".join([head, *text]), "cp1252")


def test_a_late_notebook_and_a_second_assignment_leave_all_marks(root: Path, made: Path) -> None:
    for student in ("alice", "bert"):
        hand_in(root, made, "first", student)
    kept = run(root, "first")
    mark(kept, "alice", "5,5", "Well argued")
    hand_in(root, made, "late", "carl")
    run(root, "late")
    hand_in(root, made, "second", "alice", "two")
    kept = run(root, "second")
    totals = kept.totals("one")
    assert set(totals) == {"alice", "bert", "carl"}
    assert (totals["alice"].points, totals["alice"].waiting) == (3 + 5.5, 0)
    assert totals["bert"].waiting == 1
    assert kept.totals("two")["alice"].points == 3
    (row,) = [row for row in kept.read("written") if row["student"] == "alice" and row["assignment"] == "one"]
    assert (row["points"], row["comment"], row["answer"]) == ("5,5", "Well argued", "So.")
    assert "**Rubric** (6): 6 reason." in row["rubric"]
    assert (kept.folder / row["page"]).exists()


def test_grading_again_leaves_what_readers_wrote(root: Path, made: Path) -> None:
    hand_in(root, made, "in", "alice")
    mark(run(root, "in"), "alice", "4", "Good")
    kept = run(root, "in", "--again")
    assert kept.totals("one")["alice"].points == 3 + 4
    assert len(kept.read("attempts")) == 1


def test_what_is_unchanged_is_not_graded_again(
    root: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hand_in(root, made, "in", "alice")
    run(root, "in")
    run(root, "in")
    assert "1 graded before, unchanged" in capsys.readouterr().out


@pytest.mark.parametrize(("counts", "points"), [("last", 3 + 1), ("first", 3 + 5), ("best", 3 + 5)])
def test_of_several_attempts_one_counts(root: Path, made: Path, counts: str, points: float) -> None:
    hand_in(root, made, "in", "alice", said="First.")
    mark(run(root, "in"), "alice", "5", "")
    hand_in(root, made, "in", "alice", said="Second.")
    kept = run(root, "in")
    rows = kept.read("written")
    assert [(row["attempt"], row["points"]) for row in rows] == [("1", "5"), ("2", "")]
    rows[1]["points"] = "1"
    kept.write("written", rows)
    (kept.folder / "course.toml").write_text(f'[one]\ncounts = "{counts}"\n', "utf-8")
    assert run(root).totals("one")["alice"].points == points


def test_two_versions_handed_in_together_are_two_attempts(root: Path, made: Path) -> None:
    for number in (1, 2):
        hand_in(root, made, "in", "alice", said=f"Version {number}.")
        (root / "in" / "alice" / "one.ipynb").rename(root / "in" / "alice" / f"version {number}.ipynb")
    kept = run(root, "in", "--jobs", "2")
    attempts = sorted(kept.read("attempts"), key=lambda row: row["attempt"])
    assert [(row["attempt"], row["file"]) for row in attempts] == [
        ("1", "version 1.ipynb"),
        ("2", "version 2.ipynb"),
    ]
    assert kept.totals("one")["alice"].attempt == "2"
    assert "one of several" in attempts[1]["note"]


def test_a_new_attempt_with_the_same_answer_takes_its_mark_along(root: Path, made: Path) -> None:
    hand_in(root, made, "in", "alice")
    mark(run(root, "in"), "alice", "6", "Yes")
    release = read(root / "in" / "alice" / "one.ipynb")
    write(answered(release, square=SQUARE), root / "in" / "alice" / "one.ipynb")
    kept = run(root, "in")
    assert [(row["attempt"], row["points"]) for row in kept.read("written")] == [("1", "6"), ("2", "6")]


def test_a_reader_may_overrule_a_test(root: Path, made: Path) -> None:
    hand_in(root, made, "in", "alice")
    kept = run(root, "in")
    row = kept.read("written")[0] | {"task": "square-check", "points": "2", "of": ""}
    kept.write("written", [*kept.read("written"), row])
    total = kept.totals("one")["alice"]
    assert total.tasks["square-check"] == 2.0


def test_a_penalty_is_that_of_the_rules_and_days_are_the_teachers(root: Path, made: Path) -> None:
    hand_in(root, made, "in", "alice", said="")
    kept = run(root, "in")
    kept.write("attempts", [kept.read("attempts")[0] | {"days_late": "2"}])
    (kept.folder / "course.toml").write_text("[one]\npercent_a_day = 10\n", "utf-8")
    kept = run(root, "in", "--again")
    total = kept.totals("one")["alice"]
    assert (total.days_late, total.penalty, total.points) == (2, 20.0, 2.4)
    assert "less 20 % for 2 days late" in (kept.folder / "feedback" / "one" / "alice.html").read_text("utf-8")


@pytest.mark.parametrize("points", ["seven", "7", "-1"])
def test_points_that_are_none_are_refused_by_name(root: Path, made: Path, points: str) -> None:
    hand_in(root, made, "in", "alice")
    kept = run(root, "in")
    mark(kept, "alice", points, "")
    with pytest.raises(BookError, match=rf"points of alice, one, why-answer is '{points}'.* from 0 to 6"):
        kept.totals("one")


def test_a_row_that_lost_its_student_is_named(root: Path, made: Path) -> None:
    hand_in(root, made, "in", "王小明")
    kept = run(root, "in")
    kept.write("written", [kept.read("written")[0] | {"student": "???", "points": "3"}])
    with pytest.raises(BookError, match=r"no attempt is that of \?\?\?, one, 1.*\n?.*CSV UTF-8"):
        run(root)


def test_an_empty_answer_needs_no_reader(root: Path, made: Path) -> None:
    write(read(handed_out(made)["one"]), root / "in" / "alice" / "one.ipynb")
    kept = run(root, "in")
    assert kept.read("written") == []
    assert kept.totals("one")["alice"].tasks["why-answer"] == 0.0


def test_a_second_grading_at_once_is_refused(tmp_path: Path) -> None:
    kept = marks.Marks(tmp_path)
    with (
        kept.alone(),
        pytest.raises(BookError, match="another grading writes there"),
        marks.Marks(tmp_path).alone(),
    ):
        pass


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("[one", "course.toml"),
        ("[one]\ndue = 'tomorrow'", "without quotes"),
        ("[one]\ncounts = 'none'", "last, first, best"),
        ("[one]\ndeu = 2027-01-01", "deu"),
    ],
)
def test_rules_that_are_none_are_refused(tmp_path: Path, said: str, why: str) -> None:
    (tmp_path / "course.toml").write_text(said, "utf-8")
    with pytest.raises(BookError, match=why):
        marks.Marks(tmp_path)


# The third of five notebooks sends Ctrl-C, as from the keyboard, and never ends.
INTERRUPTED = """
import os, signal, sys, threading, time
from pathlib import Path
from course import assignments, grade, run_main
from course.tests import test_marks
signal.signal(signal.SIGINT, signal.default_int_handler)
made, root, begun = Path(sys.argv[1]), Path(sys.argv[2]), []
def one(self, scratch, job, name):
    begun.append(name)
    if len(begun) < 3:
        return test_marks.all_points(self, scratch, job, name)
    os.kill(os.getpid(), signal.SIGINT)
    self.interrupted.wait()
    raise RuntimeError("interrupted")
grade.Grader.run = one
assignments.generate, assignments.for_students = (lambda *_: None), (lambda _: test_marks.handed_out(made))
run_main(lambda _: grade.main([str(root / "in"), "--root", str(root), "--sandbox", "none", "--jobs", "1"]))
"""


def test_ctrl_c_keeps_what_is_graded_and_the_next_run_goes_on(
    root: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        hand_in(root, made, "in", f"student {number}")
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(made), str(root)],
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "interrupted; 2 of 5 are graded and kept" in done.stderr
    graded = [row["student"] for row in marks.Marks(root / "course" / "marks").read("attempts")]
    assert graded == ["student 0", "student 1"]
    assert len(run(root, "in").totals("one")) == 5
    assert "3 graded, 2 graded before, unchanged" in capsys.readouterr().out


def test_make_clean_leaves_the_marks(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("course/marks/written.csv", "_build/x"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    subprocess.run(["make", "-s", "clean"], cwd=tmp_path, check=True)
    assert (tmp_path / "course" / "marks" / "written.csv").exists()
    assert not (tmp_path / "_build").exists()


def test_a_table_is_replaced_whole_and_nothing_in_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    values = ["=cmd()", "'quoted", "@SUM(A1)", "-1,5", "-", "- a list", "ordinary", "two\nlines", 'Ä; ö, "ü"']
    roster.write_table(path, ["value"], [{"value": value} for value in values])
    assert "'=cmd()" in path.read_text("utf-8-sig")
    assert [row["value"] for row in roster.read_table(path)[1]] == values
    assert [one.name for one in tmp_path.iterdir()] == ["table.csv"]
