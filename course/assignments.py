"""`make course`: from the masters, student notebooks, instructors' copies and a table of points.

nbgrader does the stripping, in a course folder of its own below `_build/course/`; the masters are only read.
"""

import argparse
import csv
import io
import logging
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from tools import notebooks
from tools.errors import CourseFailed, CourseMissing, run_main

INSTRUCTOR = Path("course", "instructor")
MARKS = re.compile(r"^\s*(?:### )?(?:BEGIN|END) (?:SOLUTION|HIDDEN TESTS)\s*$")
COLUMNS = ("assignment", "task", "kind", "points")


def masters(root: Path) -> list[Path]:
    """The masters, by name; the public tree has none."""
    found = sorted((root / INSTRUCTOR).glob("*.ipynb"))
    if not found:
        raise CourseMissing(
            f"no masters in {INSTRUCTOR}: this is the public tree of the book; assignments are made and "
            f"graded in the instructors' repository"
        )
    return found


def grading(cell: NotebookNode) -> dict[str, Any]:
    """What nbgrader knows of a cell, or nothing."""
    return dict(cell.metadata.get("nbgrader", {}))


def tasks(master: NotebookNode, name: str) -> list[dict[str, Any]]:
    """The cells that give points, in their order."""
    rows = []
    for cell in master.cells:
        facts = grading(cell)
        if facts.get("grade"):
            kind = "written" if facts["solution"] else "tests"
            row = {"assignment": name, "task": facts["grade_id"], "kind": kind, "points": facts["points"]}
            rows.append(row)
    return rows


def api(folder: Path, cell_seconds: int = 60) -> Any:
    """nbgrader on the course in `folder`, silent but for what its results say."""
    from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor

    # nbgrader calls alembic, another program of this environment, by its name.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    from nbgrader.apps import NbGraderAPI  # two seconds that most need not spend
    from nbgrader.preprocessors import ClearHiddenTests, GetGrades
    from traitlets.config import Config

    config = Config()
    config.CourseDirectory.root = str(folder)
    config.Exchange.root = str(folder / "exchange")
    config.ExecutePreprocessor.timeout = cell_seconds
    config.Execute.timeout = cell_seconds
    config.LimitOutput.max_lines = 200
    # The feedback of nbgrader shows the tests that the student was not to see.
    config.GenerateFeedback.preprocessors = [GetGrades, ClearHiddenTests, CSSHTMLHeaderPreprocessor]
    config.ClearHiddenTests.enforce_metadata = False
    config.NbGraderAPI.log_level = logging.ERROR
    return NbGraderAPI(config=config)


def generate(root: Path, folder: Path) -> None:
    """Let nbgrader make the student notebooks and its gradebook from the masters, in `folder`."""
    for path in masters(root):
        place = folder / "source" / path.stem / path.name
        notebooks.write(notebooks.read(path), place)
    grader = api(folder)
    for path in masters(root):
        result = grader.generate_assignment(path.stem, force=True)
        if not result["success"]:
            raise CourseFailed(f"{path.name}: nbgrader made no student notebook:\n{result['log']}")


def with_solutions(master: NotebookNode) -> NotebookNode:
    """The instructor's copy: everything the master holds, without nbgrader's marks."""
    for cell in master.cells:
        kept = [line for line in cell.source.splitlines() if not MARKS.match(line)]
        cell.source = "\n".join(kept).strip("\n")
    return master


def points(root: Path) -> list[dict[str, Any]]:
    """All cells that give points."""
    return [row for path in masters(root) for row in tasks(notebooks.read(path), path.stem)]


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of points as CSV, with the sums."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for name in dict.fromkeys(row["assignment"] for row in rows):
        own = [row for row in rows if row["assignment"] == name]
        writer.writerows(own)
        for kind in ("tests", "written"):
            total = sum(row["points"] for row in own if row["kind"] == kind)
            writer.writerow({"assignment": name, "task": "all", "kind": kind, "points": total})
    return text.getvalue()


def main(arguments: Sequence[str]) -> None:
    """Make the course, and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m tools.course", description=__doc__)
    parser.add_argument("--root", type=Path, default=notebooks.ROOT)
    root = parser.parse_args(arguments).root.resolve()
    course, work = root / "_build" / "course", root / "_build" / "course.new"
    shutil.rmtree(work, ignore_errors=True)
    generate(root, work / "nbgrader")
    for path in masters(root):
        made = notebooks.read(work / "nbgrader" / "release" / path.stem / path.name)
        notebooks.write(made, work / "release" / path.name)
        notebooks.write(with_solutions(notebooks.read(path)), work / "instructor" / path.name)
    (work / "points.csv").write_text(table(points(root)), "utf-8")
    course.mkdir(parents=True, exist_ok=True)
    for name in ("nbgrader", "release", "instructor", "points.csv"):
        old = course / name
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        (work / name).replace(old)
    work.rmdir()
    print(f"{len(masters(root))} assignments: {course}")
    print("  release/     for students: on Colab or on their own machine, without nbgrader")
    print("  instructor/  with model answers and rubrics, not for students")
    print("  points.csv   what each task gives")


if __name__ == "__main__":
    run_main(main)
