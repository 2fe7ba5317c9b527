"""The student notebooks in an environment that nothing but their own install cell has filled."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import course, notebooks
from tools.notebooks import ROOT

RUN = """
import sys, nbformat
from nbclient import NotebookClient
for path in sys.argv[1:]:
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    nbformat.write(notebook, path)
"""


@pytest.mark.parametrize("which", ["part-1", pytest.param("", marks=pytest.mark.long)], ids=["one", "all"])
@pytest.mark.skipif(
    not (ROOT / course.INSTRUCTOR).is_dir(), reason="the masters are in the instructors' repository only"
)
def test_they_run_after_their_own_install_cell_alone(which: str, tmp_path: Path) -> None:
    """With the model answers put in; only the place that the package comes from is another, and torch, which
    pip would take with gigabytes of CUDA, is that of the lock.
    """
    copy, wheels = tmp_path / "copy", tmp_path / "wheels"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "src"):
        source = ROOT / name
        shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy(source, copy)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(wheels)!r})"
    wheels.mkdir()
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")

    root = tmp_path / "root"
    shutil.copytree(ROOT / course.INSTRUCTOR, root / course.INSTRUCTOR)
    made = [sys.executable, "-m", "tools.course", "--root", str(root)]
    subprocess.run(made, cwd=ROOT, check=True, capture_output=True)
    paths = []
    for master in course.masters(root):
        path = root / "_build" / "course" / "release" / master.name
        student, answers = notebooks.read(path), {c.id: c.source for c in notebooks.read(master).cells}
        for cell in student.cells:
            if "install" in notebooks.tags(cell):
                cell.source, count = re.subn(r"git\+https://[^\"]+", wheel.as_uri(), cell.source)
                assert count == 1
            elif course.grading(cell).get("solution"):
                cell.source = answers[cell.id]
        notebooks.write(student, path)
        if path.stem.startswith(which):
            paths.append(path)
    assert paths

    fresh = tmp_path / "fresh"
    subprocess.run([sys.executable, "-m", "venv", str(fresh)], check=True)
    python = fresh / "bin" / "python"
    told = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    told["PATH"] = f"{fresh / 'bin'}{os.pathsep}{told['PATH']}"
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    (tmp_path / "constraint.txt").write_text("".join(re.findall(r"^torch==.*\n", lock, re.MULTILINE)))
    told["PIP_CONSTRAINT"] = str(tmp_path / "constraint.txt")
    told["JUPYTER_PATH"] = str(fresh / "share" / "jupyter")
    # What stands for Colab: a kernel, and something to run a notebook in it. No library of the book.
    subprocess.run([python, "-m", "pip", "install", "-q", "ipykernel", "nbclient"], env=told, check=True)
    absent = subprocess.run([python, "-c", "import torch"], env=told, check=False, capture_output=True)
    assert absent.returncode != 0
    done = subprocess.run(
        [python, "-c", RUN, *map(str, paths)],
        cwd=tmp_path,
        env=told,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for path in paths:
        ran = [cell for cell in notebooks.code_cells(notebooks.read(path)) if cell.execution_count]
        assert len(ran) == len(notebooks.code_cells(notebooks.read(path)))
