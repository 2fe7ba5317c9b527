"""The students' notebooks in an environment that nothing but their own install cell has filled."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from course import INSTRUCTOR, ROOT, assignments, read, tags, write
from course.tests.samples import sources, tool

RUN = """
import sys, nbformat
from nbclient import NotebookClient
for path in sys.argv[1:]:
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    nbformat.write(notebook, path)
"""


def wheel(folder: Path) -> Path:
    """The package as it is now, built in a copy."""
    copy = folder / "copy"
    shutil.copytree(ROOT / "src", copy / "src")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


def test_they_run_after_their_own_install_cell_alone(tmp_path: Path) -> None:
    """With the model answers put in; only the place that the package comes from is another, and torch, which
    pip would take with gigabytes of CUDA, is that of the lock.
    """
    address = wheel(tmp_path).as_uri()
    shutil.copytree(ROOT / INSTRUCTOR, tmp_path / INSTRUCTOR)
    tool("assignments", "--root", tmp_path)
    paths = sorted((tmp_path / "_build" / "assignments" / "release").iterdir())
    assert len(paths) == 4
    for path in paths:
        student, answers = read(path), sources(read(tmp_path / INSTRUCTOR / path.name))
        for cell in student.cells:
            if "install" in tags(cell):
                cell.source, count = re.subn(r"git\+https://[^\"]+", address, cell.source)
                assert count == 1
            elif assignments.grading(cell).get("solution"):
                cell.source = answers[cell.id]
        write(student, path)

    fresh = tmp_path / "fresh"
    subprocess.run([sys.executable, "-m", "venv", str(fresh)], check=True)
    python = fresh / "bin" / "python"
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    (tmp_path / "constraint.txt").write_text("".join(re.findall(r"^torch==.*\n", lock, re.MULTILINE)))
    told = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")} | {
        "PATH": f"{fresh / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PIP_CONSTRAINT": str(tmp_path / "constraint.txt"),
        "JUPYTER_PATH": str(fresh / "share" / "jupyter"),
    }
    # What stands for Colab: a kernel, and something to run a notebook in it. No library of the book.
    subprocess.run([python, "-m", "pip", "install", "-q", "ipykernel", "nbclient"], env=told, check=True)
    absent = subprocess.run([python, "-c", "import torch"], env=told, check=False, capture_output=True)
    assert absent.returncode != 0
    asked = [str(python), "-c", RUN, *map(str, paths)]
    done = subprocess.run(asked, cwd=tmp_path, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for path in paths:
        cells = [cell for cell in read(path).cells if cell.cell_type == "code" and cell.source.strip()]
        assert all(cell.execution_count for cell in cells)
