"""The worker of `make -C course grade`: one submission in a folder of its own, under limits; see grade.py."""

import json
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from course import assignments, processes

FILE_BYTES = 200_000_000  # the largest file that a submission may write


def limit(memory_gb: float) -> None:
    """Bound what this process and the kernels it starts may take."""
    size = int(memory_gb * 1e9)
    for kind, most in (
        (resource.RLIMIT_DATA, size),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard),) * 2)


def grade(folder: Path, name: str, cell_seconds: int) -> dict[str, Any]:
    """Run nbgrader on the one submission in `folder`, and add its points up."""
    grader = assignments.api(folder, cell_seconds)
    facts: dict[str, Any] = {"points": 0.0, "of": 0.0, "by_hand": 0.0, "failed": [], "error": ""}
    done = grader.autograde(name, "student", force=True)
    if not done["success"]:
        lines = [line for line in (done["log"] or "").splitlines() if "Error" in line] or ["unknown trouble"]
        return facts | {"error": f"nbgrader could not run it: {lines[-1].strip()[:200]}"}
    with grader.gradebook as book:
        for grade in book.find_submission_notebook(name, name, "student").grades:
            if grade.cell.cell_type != "code":
                facts["by_hand"] += grade.max_score if grade.needs_manual_grade else 0.0
                continue
            facts["of"] += grade.max_score
            facts["points"] += grade.auto_score or 0.0
            if (grade.auto_score or 0.0) < grade.max_score:
                facts["failed"].append(grade.name)
    grader.generate_feedback(name, "student", force=True)
    return facts


def main(arguments: Sequence[str]) -> None:
    """Grade, end what the submission has left behind, and write result.json."""
    folder, name, cell_seconds, memory_gb = arguments
    processes.adopt_orphans()
    limit(float(memory_gb))
    try:
        result = grade(Path(folder), name, int(cell_seconds))
    finally:
        processes.end_started(os.environ[processes.MARK], psutil.Process())
    (Path(folder) / "result.json").write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
