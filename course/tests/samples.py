"""A small assignment, and what the tests do to it."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from course import ROOT


def tool(name: str, *words: str | Path) -> str:
    """What a command prints, run by itself: nbgrader's libraries warn of things that are not ours."""
    done = subprocess.run(
        [sys.executable, "-m", f"course.{name}", *map(str, words)],
        cwd=ROOT,
        # A teacher's shell does not know the environment's programs.
        env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sources(notebook: NotebookNode) -> dict[str, str]:
    return {cell.id: cell.source for cell in notebook.cells}


def cell(name: str, source: str, *, points: int = 0, answer: bool = False) -> NotebookNode:
    facts: dict[str, Any] = {
        "grade": bool(points),
        "grade_id": name,
        "locked": not answer,
        "solution": answer,
    }
    facts |= {"schema_version": 3, "task": False, "cell_type": "code"} | (
        {"points": points} if points else {}
    )
    made: NotebookNode = new_code_cell(source, id=name, metadata={"nbgrader": facts})
    return made


def mini() -> NotebookNode:
    """A master of nine points."""
    solved = "def {}(x):\n    ### BEGIN SOLUTION\n    return {}\n    ### END SOLUTION"
    test = "assert [square(x) for x in (-2, 0.5)] == [4, 0.25]"
    hidden = f"# hidden\n### BEGIN HIDDEN TESTS\n{test}\n### END HIDDEN TESTS"
    cells = [
        new_markdown_cell("# A small assignment", id="title"),
        cell("imports", "import math"),
        cell("square", solved.format("square", "x * x"), answer=True),
        cell("square-check", "assert square(3) == 9, 'the square of 3 is 9'", points=2),
        cell("square-hidden", hidden, points=3),
        cell("cube", solved.format("cube", "x**3"), answer=True),
        cell("cube-check", "assert cube(2) == 8", points=4),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    made: NotebookNode = new_notebook(cells=cells, metadata=kernel)
    return made


def written_cell(name: str, points: int) -> NotebookNode:
    """A written answer with its model answer and rubric."""
    text = "### BEGIN SOLUTION\n**Model answer.** Because.\n\n**Rubric** (6): 6 reason.\n### END SOLUTION"
    facts = {"grade": True, "grade_id": name, "locked": False, "points": points, "solution": True}
    facts |= {"schema_version": 3, "task": False, "cell_type": "markdown"}
    made: NotebookNode = new_markdown_cell(text, id=name, metadata={"nbgrader": facts})
    return made


SQUARE = "def square(x):\n    return x * x"
CUBE = "def cube(x):\n    return x * x * x"


def answered(notebook: NotebookNode, **answers: str) -> NotebookNode:
    """A copy with the cells of those names replaced."""
    changed = copy.deepcopy(notebook)
    for one in changed.cells:
        one.source = answers.get(one.id, one.source)
    return changed
