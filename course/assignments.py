"""`make -C course assignments`: notebooks for students and for instructors, and a table of points.

They are made from the masters, which are only read; nbgrader does the stripping, in a folder of its own.
"""

import argparse
import csv
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nbformat import NotebookNode

from course import INSTRUCTOR, ROOT, BookError, put, read, run_main, write

HEADING = re.compile(r"#{2,3} (.*?)(?: \([^()]*points?[^()]*\))?\s*$", re.MULTILINE)
MARKS = re.compile(r"^\s*(?:### )?(?:BEGIN|END) (?:SOLUTION|HIDDEN TESTS)\s*$")


def masters(root: Path) -> list[Path]:
    """The masters, by name."""
    found = sorted((root / INSTRUCTOR).glob("*.ipynb"))
    if not found:
        raise BookError(f"no masters in {root / INSTRUCTOR}; restore them with `git checkout {INSTRUCTOR}`")
    return found


def grading(cell: NotebookNode) -> dict[str, Any]:
    """What nbgrader knows of a cell, or nothing."""
    return dict(cell.metadata.get("nbgrader", {}))


def tasks(master: Path) -> list[dict[str, Any]]:
    """The cells that give points, in their order, then the sums."""
    graded = [facts for cell in read(master).cells if (facts := grading(cell)).get("grade")]
    rows = [
        (facts["grade_id"], "written" if facts["solution"] else "tests", facts["points"]) for facts in graded
    ]
    for kind in ("tests", "written"):
        rows.append(("all", kind, sum(points for _, of_kind, points in rows if of_kind == kind)))
    columns = ("assignment", "task", "kind", "points")
    return [dict(zip(columns, (master.stem, *row), strict=True)) for row in rows]


def headings(notebook: NotebookNode) -> dict[str, str]:
    """The heading above each cell, without its points."""
    found, title = {}, ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (match := HEADING.match(unmarked(cell.source))):
            title = match[1]
        found[cell.id] = title
    return found


def unmarked(source: str) -> str:
    """A cell of a master without nbgrader's marks."""
    return "\n".join(line for line in source.splitlines() if not MARKS.match(line)).strip("\n")


def graded_headings(master: Path) -> dict[str, str]:
    """The heading above each cell that gives points; the cell's own name where there is none."""
    notebook = read(master)
    found = headings(notebook)
    return {
        cell.id: found[cell.id] or re.sub(r"-(check|hidden|answer)$", "", cell.id)
        for cell in notebook.cells
        if grading(cell).get("grade")
    }


def rubrics(master: Path) -> dict[str, tuple[str, float]]:
    """For each written answer its rubric, with the model answer before it, and its points."""
    return {
        cell.id: (
            "\n".join(line for line in cell.source.splitlines() if not MARKS.match(line)),
            facts["points"],
        )
        for cell in read(master).cells
        if cell.cell_type == "markdown" and (facts := grading(cell)).get("grade")
    }


def api(folder: Path) -> Any:
    """nbgrader on the course in `folder`, silent but for what its results say."""
    # nbgrader calls alembic, another program of this environment, by its name.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    from nbgrader.apps import NbGraderAPI  # two seconds that most need not spend
    from traitlets.config import Config

    config = Config()
    config.CourseDirectory.root = str(folder)
    config.Exchange.root = str(folder / "exchange")
    config.NbGraderAPI.log_level = logging.ERROR
    return NbGraderAPI(config=config)


def generate(root: Path, folder: Path) -> None:
    """Let nbgrader make the students' notebooks from the masters, in `folder`."""
    generate_from(masters(root), folder)


def generate_from(paths: Sequence[Path], folder: Path) -> None:
    """The same from these masters."""
    for path in paths:
        write(read(path), folder / "source" / path.stem / path.name)
    grader = api(folder)
    for path in paths:
        result = grader.generate_assignment(path.stem, force=True)
        if not result["success"]:
            raise BookError(f"{path.name}: nbgrader made no student's notebook of it:\n{result['log']}")


def for_students(folder: Path) -> dict[str, Path]:
    """The students' notebooks that `generate` made in `folder`, by assignment."""
    return {path.stem: path for path in sorted((folder / "release").glob("*/*.ipynb"))}


def with_solutions(master: NotebookNode) -> NotebookNode:
    """The instructor's copy: everything the master holds, without nbgrader's marks."""
    for cell in master.cells:
        cell.source = unmarked(cell.source)
    return master


def main(arguments: Sequence[str]) -> None:
    """Make the assignments, and say where they are."""
    parser = argparse.ArgumentParser(prog="python -m course.assignments", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT)
    root = parser.parse_args(arguments).root.resolve()
    place = root / "_build" / "assignments"
    place.parent.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="assignments.", dir=place.parent) as work:
        generate(root, Path(work, "nbgrader"))
        made = Path(work, "made")
        for path in for_students(Path(work, "nbgrader")).values():
            write(read(path), made / "release" / path.name)
        for path in masters(root):
            write(with_solutions(read(path)), made / "instructor" / path.name)
        rows = [row for path in masters(root) for row in tasks(path)]
        with (made / "points.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        put(made, place)
    print(f"{len(masters(root))} assignments: {place}")
    print("  release/     for students: on Colab or on their own machine, without nbgrader")
    print("  instructor/  with model answers and rubrics, not for students")
    print("  points.csv   what each task gives")


if __name__ == "__main__":
    run_main(main)
