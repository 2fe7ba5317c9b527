"""No process of a submission outlives its grading: in place of nbgrader, a worker that starts daemons."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from course import ROOT, write
from course.tests import daemons
from course.tests.samples import mini, rows

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")

# In place of course.worker: the same, but for what it grades.
WORKER = """
import os, signal, sys, time
from pathlib import Path
from course import worker
from course.tests import daemons

def grade(folder, name, cell_seconds):
    how, began = sys.argv[1], Path(sys.argv[2], folder.name)
    began.mkdir(parents=True)
    daemons.start(began, daemons.KINDS[:2] if how == "kills its worker" else daemons.KINDS)
    if how == "kills its worker":
        os.kill(os.getpid(), signal.SIGKILL)
    if how != "ends":
        time.sleep(1000)
    return {"points": 9, "of": 9, "by_hand": 0, "failed": [], "error": ""}

worker.grade = grade
worker.main(sys.argv[5:])
"""
# In place of course.grade: where a submission is to be stopped, time passes once all daemons run.
GRADE = """
import signal, sys
from pathlib import Path
from types import SimpleNamespace
from course import assignments, grade, read, run_main, write

how, root = sys.argv[1], Path(sys.argv[2])
# What tests that were started with `&` start would ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

def generate(root, folder):
    for kind in ("release", "source"):
        write(read(root / "mini.ipynb"), folder / kind / "mini" / "mini.ipynb")
    (folder / "gradebook.db").touch()

def now():
    return 1000.0 * (how == "stopped" and len(list(root.glob("began/*/*"))) == 3)

assignments.generate = generate
grade.time = SimpleNamespace(monotonic=now)
sys.executable = str(root / "python")
run_main(lambda _: grade.main([str(root / "in"), "--root", str(root), "--jobs", "2"]))
"""


def grading(root: Path, how: str, students: int) -> subprocess.Popen[str]:
    """Begin to grade submissions that start daemons, and then behave as `how` says."""
    for number in range(students):
        write(mini(), root / "in" / f"{number}" / "mini.ipynb")
    write(mini(), root / "mini.ipynb")
    (root / "worker.py").write_text(WORKER, "utf-8")
    words = f"'{sys.executable}' '{root / 'worker.py'}' '{how}' '{root / 'began'}'"
    (root / "python").write_text(f'#!/bin/sh\nexec {words} "$@"\n', "utf-8")
    (root / "python").chmod(0o755)
    (root / "_build" / "grades").mkdir(parents=True)
    (root / "_build" / "grades" / "earlier").touch()
    return subprocess.Popen(
        [sys.executable, "-c", GRADE, how, str(root)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize(
    ("how", "state", "note"),
    [
        ("ends", "graded", "nbgrader wrote no feedback"),
        ("stopped", "stopped", "it ran for more than 600 s"),
        ("kills its worker", "failed", "the run broke off"),
    ],
)
def test_nothing_is_left_of_a_submission(how: str, state: str, note: str, tmp_path: Path) -> None:
    with grading(tmp_path, how, 1) as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    row = rows(tmp_path)["0", "mini"]
    assert row["state"] == state, said
    assert note in row["note"]
    assert len(list(tmp_path.glob("began/*/*"))) == (2 if how == "kills its worker" else 3)
    assert not daemons.running(tmp_path)
    assert not (tmp_path / "_build" / "grades" / "earlier").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_what_runs_and_begins_nothing_more(number: int, tmp_path: Path) -> None:
    with grading(tmp_path, "sleeps", 5) as process:
        while len(list(tmp_path.glob("began/*/*"))) < 6:
            assert process.poll() is None
            time.sleep(0.05)
        assert len(daemons.running(tmp_path / "began")) >= 6
        os.kill(process.pid, number)
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "interrupted; nothing of this grading is kept" in said
    assert len(list(tmp_path.glob("began/*"))) == 2
    assert not daemons.running(tmp_path)
    assert (tmp_path / "_build" / "grades" / "earlier").exists()
