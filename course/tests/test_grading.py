"""Points for submissions of every kind: the book's own masters, cheats, what breaks or is a little wrong."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from course import ROOT, BookError, assignments, grade, read, sandbox, worker, write
from course.collect import Submission
from course.tests.samples import CUBE, SQUARE, answered, mini, sources
from course.tests.test_sandbox import running

try:
    KIND = sandbox.kind()
except BookError:  # macOS, or a system that forbids it
    KIND = sandbox.NONE
sandboxed = pytest.mark.skipif(KIND == sandbox.NONE, reason="no sandbox works here")


@pytest.fixture(scope="module")
def handed_out(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Master and student's notebook of each assignment, and of a small one."""
    root = tmp_path_factory.mktemp("made")
    paths = {path.stem: path for path in assignments.masters(ROOT)}
    write(mini(), root / "mini.ipynb")
    assignments.generate_from([*paths.values(), root / "mini.ipynb"], root / "nb")
    releases = assignments.for_students(root / "nb")
    return {name: (paths.get(name, root / "mini.ipynb"), releases[name]) for name in releases}


def graded(
    pair: tuple[Path, Path], notebook: NotebookNode, folder: Path, seconds: int = 60, gigabytes: float = 4.0
) -> dict[str, Any]:
    """What the worker makes of a notebook, put in order as `grade` does."""
    master, release = pair
    grade.restore(notebook, read(release))
    write(notebook, folder / "notebook.ipynb")
    plan: dict[str, Any] = {"notebook": folder / "notebook.ipynb", "master": master, "release": release}
    plan["beside"] = str(folder / "beside") if (folder / "beside").is_dir() else ""
    return worker.grade(plan | {"sandbox": KIND, "cell_seconds": seconds, "memory_gb": gigabytes})


def points(found: dict[str, Any]) -> float:
    return float(sum(one["points"] for one in found["cells"].values()))


# ---------------------------------------------------------------------------------- the book's own masters


@pytest.mark.parametrize("name", ["part-1", "part-2", "part-3", "capstone"])
def test_the_reference_gets_all_points(name: str, handed_out: dict[str, Any], tmp_path: Path) -> None:
    found = graded(handed_out[name], read(handed_out[name][0]), tmp_path)
    assert {task: one["said"] for task, one in found["cells"].items() if one["said"]} == {}
    assert not any(one.get("with") for one in found["cells"].values())


def test_a_wrong_function_costs_its_own_points(handed_out: dict[str, Any], tmp_path: Path) -> None:
    """`average` does not average; the recursion that calls it is right."""
    master, release = (read(path) for path in handed_out["part-2"])
    answers = sources(master)
    wrong = "def average(S, variances):\n    return S * 9.0"
    notebook = answered(release, average=wrong, deep=answers["deep"])
    found = graded(handed_out["part-2"], notebook, tmp_path)
    assert points(found) == 10.0
    assert found["cells"]["deep-hidden"]["with"] == ["descend", "tangent", "average"]
    assert "a constant is multiplied" in found["cells"]["average-check"]["said"]


def test_a_part_of_a_hidden_test_gives_a_part_of_its_points(
    handed_out: dict[str, Any], tmp_path: Path
) -> None:
    """Right for size 3 alone: the check and three of four hidden cases fail."""
    master, release = (read(path) for path in handed_out["part-1"])
    only = sources(master)["patches"].replace("size // 2", "1").replace("range(size)", "range(3)")
    found = graded(handed_out["part-1"], answered(release, patches=only.replace("size**2", "9")), tmp_path)
    assert found["cells"]["patches-check"]["points"] == 0.0
    assert found["cells"]["patches-hidden"]["points"] == 1.25
    assert "wrong for a picture of shape (3, 8, 11) and size 5" in found["cells"]["patches-hidden"]["said"]


def test_what_checks_accept_hidden_tests_accept(handed_out: dict[str, Any], tmp_path: Path) -> None:
    """float32, NumPy and lists as results, and a guard of 1e-8 in a divisor."""
    master, release = (read(path) for path in handed_out["part-1"])
    answers = sources(master)
    own = {name: answers[name].replace(f"def {function}(", "def inner(") for name, function in NAMES.items()}
    own["patches"] += "\n\ndef patches(image, size):\n    return inner(image, size).float()"
    own["weights"] += "\n\ndef weights(p, h):\n    return inner(p, h).tolist()"
    own["twicing"] += "\n\ndef twice(W, y, steps):\n    return inner(W, y, steps).numpy()"
    own["kernel"] = answers["kernel"].replace("/ safe_lengths)", "/ (both_lengths + 1e-8))")
    for name, function in list(NAMES.items())[:3]:
        own[name] = own[name].replace("inner(", f"inner_{function}(")
    found = graded(handed_out["part-1"], answered(release, **own), tmp_path)
    assert {task: one["said"] for task, one in found["cells"].items() if one["said"]} == {}


NAMES = {"patches": "patches", "weights": "weights", "twicing": "twice", "kernel": "arc_cosine"}

CHEATS = {
    "patches": """
import inspect, dipfilters.patches
def patches(image, size):
    return dipfilters.patches.extract_patches(image, size)
exec(inspect.getsource(dipfilters.patches.extract_patches).replace("extract_patches", "patches"))
""",
    "weights": """
import json, os, pathlib
for top in ("/", os.getcwd(), os.path.dirname(os.getcwd())):
    for folder, _, files in os.walk(top):
        for file in files if not folder.startswith(("/proc", "/sys")) else ():
            if file.endswith((".ipynb", ".db")) and "HIDDEN" in (t := pathlib.Path(folder, file).read_text()):
                for cell in json.loads(t)["cells"]:
                    if "def weights" in "".join(cell["source"]):
                        exec("".join(cell["source"]))
""",
    "twicing": """
import builtins, gc, inspect, torch, dipfilters.checks
class Equal:
    shape = ()
    __eq__ = __le__ = __ge__ = lambda *_: True
torch.allclose = torch.equal = lambda *_, **__: True
for name in dir(dipfilters.checks):
    if name.startswith("check_"):
        globals()[name] = lambda *_, **__: None
        setattr(dipfilters.checks, name, globals()[name])
dipfilters.checks._Trial.same = dipfilters.checks._Trial.least = lambda *_, **__: None
def twice(W, y, steps):
    for frame in inspect.stack():
        for key, value in list(frame.frame.f_globals.items()):
            if key.startswith("expected"):
                return value
    return torch.zeros_like(y)
""",
    "kernel": """
import os, pathlib, subprocess, sys
code = '''
import json, pathlib, time
while True:
    for path in pathlib.Path("/").glob("tmp/**/result.json"):
        path.write_text(json.dumps({"cells": {}, "errors": {}}))
    for path in pathlib.Path("/").glob("**/tests.csv"):
        path.write_text("")
    time.sleep(0.01)
'''
subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
for number in range(3, 64):
    try:
        os.write(number, b'0' * 64)
    except OSError:
        pass
def arc_cosine(p, q):
    return torch.full((len(p), len(q)), float("nan"))
""",
}


@sandboxed
def test_the_four_cheats_earn_nothing(handed_out: dict[str, Any], tmp_path: Path) -> None:
    release = read(handed_out["part-1"][1])
    found = graded(handed_out["part-1"], answered(release, **CHEATS), tmp_path)
    assert points(found) == 0.0, found
    assert all(one["said"] for one in found["cells"].values())


# --------------------------------------------------------------------------- submissions of every kind, small


def without(notebook: NotebookNode, *names: str) -> NotebookNode:
    notebook.cells = [cell for cell in notebook.cells if cell.id not in names]
    return notebook


def changed_tests(notebook: NotebookNode) -> NotebookNode:
    """Tests made easy, points raised, and a test cell handed in as one that is none."""
    changed = answered(notebook, **{"square-check": "pass", "cube-check": "pass"})
    check, other = (cell for cell in changed.cells if cell.id in ("square-check", "cube-check"))
    check.metadata.nbgrader["points"] = 1000
    other.metadata.nbgrader |= {"grade": False, "locked": False, "solution": True}
    return changed


def split(notebook: NotebookNode) -> NotebookNode:
    """A check before its answer, and an answer over two cells, with a magic and a picture of its own."""
    changed = answered(notebook, square="%pip install something\nfactor = helper()", cube=CUBE)
    changed.cells.append(new_code_cell("def helper():\n    return 1"))
    changed.cells.append(new_code_cell("%matplotlib inline\ndef square(x):\n    return x * x * helper()"))
    return changed


def older(notebook: NotebookNode) -> NotebookNode:
    """What a program that knows nothing of nbgrader may do."""
    changed = answered(notebook, square=SQUARE, cube=CUBE)
    for cell in changed.cells:
        if cell.id != "cube":
            cell.metadata["id"] = cell.id
            cell.metadata.pop("nbgrader", None)
    return changed


KINDS: dict[str, tuple[Callable[[NotebookNode], NotebookNode], float, str]] = {
    "right": (older, 9, ""),
    "deleted tests": (
        lambda nb: without(
            answered(nb, square=SQUARE), "square-check", "square-hidden", "cube", "cube-check"
        ),
        5,
        "",
    ),
    "changed tests": (changed_tests, 0, "NotImplementedError"),
    "split": (split, 9, ""),
    "endless loop": (lambda nb: answered(nb, square="while True:\n    pass", cube=CUBE), 4, "more than 3 s"),
    "endless call": (
        lambda nb: answered(nb, square="def square(x):\n    while True:\n        pass", cube=CUBE),
        4,
        "more than 3 s",
    ),
    "dead": (lambda nb: answered(nb, square="import os\nos._exit(1)", cube=CUBE), 4, "its process ended"),
    "memory": (
        lambda nb: answered(nb, square="bytearray(10**11)", cube=CUBE),
        4,
        "MemoryError",
    ),
    "endless output": (
        lambda nb: answered(nb, square=SQUARE + "\nfor _ in range(10**5):\n    print('x' * 1000)", cube=CUBE),
        9,
        "",
    ),
    "many processes": (
        lambda nb: answered(nb, square="import os\nwhile True:\n    os.fork()", cube=CUBE),
        4,
        "processes|process ended",
    ),
    "no number": (
        lambda nb: answered(nb, square="def square(x):\n    return 'nine'", cube="cube = 8"),
        0,
        "no function is called cube",
    ),
}


@pytest.mark.parametrize("name", [name for name in KINDS if KIND != sandbox.NONE or name != "many processes"])
def test_a_submission_gets_what_it_earned(name: str, handed_out: dict[str, Any], tmp_path: Path) -> None:
    change, earned, said = KINDS[name]
    release = read(handed_out["mini"][1])
    found = graded(handed_out["mini"], change(copy.deepcopy(release)), tmp_path, seconds=3, gigabytes=1.5)
    assert points(found) == earned, found
    assert said in "".join(one["said"] for one in found["cells"].values()) or "|" in said, found


def test_what_lies_beside_a_notebook_travels_with_it(handed_out: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "beside" / "data").mkdir(parents=True)
    (tmp_path / "beside" / "data" / "power.txt").write_text("2", "utf-8")
    notebook = answered(
        read(handed_out["mini"][1]),
        square="power = int(open('data/power.txt').read())\ndef square(x):\n    return x**power",
        cube=CUBE,
    )
    assert points(graded(handed_out["mini"], notebook, tmp_path)) == 9.0


def test_a_foreign_notebook_has_a_remedy_in_its_line(handed_out: dict[str, Any]) -> None:
    releases = {name: read(pair[1]) for name, pair in handed_out.items()}
    with pytest.raises(grade.Unusable, match="answers pasted into its cells"):
        grade.identify(nbformat.v4.new_notebook(cells=[new_code_cell("1 + 1")]), "x.ipynb", releases)


# A submission that never ends, with a process of its own; it says by a file that it has begun.
LASTING = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(999)", "{mark}"], start_new_session=True)
time.sleep(999)
"""


@sandboxed
def test_an_interruption_ends_worker_sandbox_and_all(handed_out: dict[str, Any], tmp_path: Path) -> None:
    mark = f"lasting-{tmp_path.name}"
    pair = handed_out["mini"]
    notebook = answered(read(pair[1]), square=LASTING.format(mark=mark))
    course = SimpleNamespace(masters={"mini": pair[0]}, paths={"mini": pair[1]})
    limits = SimpleNamespace(cell_seconds=999, memory_gb=2.0, seconds=999)
    grader = grade.Grader(course, SimpleNamespace(folder=tmp_path), limits, KIND)  # type: ignore[arg-type]
    job = grade.Job(Submission("a", None), {"student": "a", "attempt": "1"}, notebook, [])
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(grader.run, tmp_path / "run", job, "mini")
        while not running(mark):
            assert not run.done(), run.exception()
            time.sleep(0.2)
        grader.interrupted.set()
        assert isinstance(run.exception(), grade.Unusable)
    latest = time.monotonic() + 30  # how long the kernel may take
    while running(mark) and time.monotonic() < latest:
        time.sleep(0.1)
    assert not running(mark)
