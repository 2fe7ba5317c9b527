"""Which code made a result: what counts as a change, what code reaches, and where the numbers come from."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from dipfilters.provenance import Package, SourceError, code_of, commit, hardware, versions
from tests.samples import refused

FILES = {
    "__init__.py": '''
        """A package."""
        from dipfilters.shapes import area, side
        from dipfilters.sums import total
    ''',
    "shapes.py": '''
        """Shapes."""
        import numpy as np
        from dipfilters.sums import check

        UNIT = 2
        LIMIT: int = 5

        def area(x):
            """Square."""
            check(x, "side")
            return x * x * UNIT

        def side(x):
            check_size("side", x)
            if x < 0:
                raise ValueError(f"x must not be negative, got {x}; use {LIMIT}")
            return np.sqrt(x)
    ''',
    "sums.py": """
        def total(values):
            from dipfilters import shapes
            return sum(shapes.area(v) for v in values)

        def check(x, name):
            assert x >= 0, "negative"
    """,
    "plots.py": """
        import matplotlib
        matplotlib.use("agg")
        COLOUR = "#000000"

        def show(x, size=3):
            return x, size, COLOUR
    """,
    "figures/__init__.py": """
        from dipfilters.figures.film import Film
        from dipfilters.figures.rows import Rows
    """,
    "figures/base.py": "def script(name):\n    return name\n",
    "figures/film.py": """
        from dipfilters.figures.base import script
        class Film:
            code = script("film.js")
    """,
    "figures/rows.py": """
        from dipfilters.figures.base import script
        class Rows:
            code = script("rows.js")
    """,
    "figures/film.js": 'import { a } from "./ui.js";\nexport const film = a;\n',
    "figures/rows.js": 'import {\n  a,\n  b,\n} from "./ui.js";\n',
    "figures/ui.js": "export const a = 1, b = 2;\n",
    "figures/lonely.js": "1;\n",
    "data/published.json": "{}\n",
}

SHAPES, SUMS = {"shapes", "sums"}, {"shapes", "sums"}
ALL = {
    "plots",
    *SHAPES,
    "figures.base",
    "figures.film",
    "figures.rows",
    *(f"figures/{n}.js" for n in ("film", "rows", "ui")),
}
ROWS = {"figures.base", "figures.rows", "figures/rows.js", "figures/ui.js"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small package."""
    for name, text in FILES.items():
        path = tmp_path / "dipfilters" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), "utf-8")
    return tmp_path / "dipfilters"


@pytest.mark.parametrize(
    ("code", "reached"),
    [
        ("from dipfilters import area", set()),  # and never used
        ("from dipfilters import area\narea(1)", SHAPES),
        ("from dipfilters import total as t\nt([])", SUMS),
        ("from dipfilters import side\nside(1)", {"shapes"}),
        ("from dipfilters import plots\nplots.COLOUR", {"plots"}),
        ("import dipfilters\ndipfilters.side(1)", {"shapes"}),
        ("import dipfilters\ndipfilters.__name__", set()),
        ("import dipfilters\nhelp(dipfilters)", ALL),
        ("from dipfilters import *", ALL),
        ("from dipfilters import unheard_of\nunheard_of", ALL),
        ("import importlib\nimportlib.import_module('dipfilters.plots')", {"plots"}),
        ("from dipfilters.figures import Rows\nRows()", ROWS),
        ("[open(f'data/{name}.json') for name in names]", {"data/published.json"}),
    ],
)
def test_what_some_code_reaches(folder: Path, code: str, reached: set[str]) -> None:
    assert set(Package(folder).digests([code], "a.ipynb")) == reached


def changed(folder: Path, code: str, name: str, old: str, new: str) -> set[str]:
    """What of the digests of some code an edit changes."""
    before = Package(folder).digests([code], "")
    path = folder / name
    assert old in path.read_text("utf-8")
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    after = Package(folder).digests([code], "")
    return {name for name, _ in before.items() ^ after.items()}


@pytest.mark.parametrize(
    ("code", "name", "old", "new", "wanted"),
    [
        ("area", "shapes.py", "x * x", "x * x * 1", {"shapes"}),
        ("area", "shapes.py", "UNIT = 2", "UNIT = True", {"shapes"}),
        ("total", "shapes.py", "UNIT = 2", "UNIT = 3", {"shapes"}),
        ("area", "sums.py", "x >= 0", "x > 0", {"sums"}),
        ("area", "shapes.py", '"""Square."""', '"""The square\n    of x."""', set()),
        ("area", "shapes.py", "def area(x):", "def area(x: float) -> float:  # squared", set()),
        ("side", "shapes.py", "must not be negative", "must be positive", set()),
        ("area", "shapes.py", 'check(x, "side")', 'check(x, "length")', {"shapes"}),
        ("side", "shapes.py", 'check_size("side", x)', 'check_size("length", x)', set()),
        ("side", "shapes.py", 'check_size("side", x)', 'check_size("side", 2 * x)', {"shapes"}),
        ("side", "shapes.py", "raise ValueError", "raise TypeError", {"shapes"}),
        ("area", "sums.py", '"negative"', '"below zero"', set()),
        ("plots.COLOUR", "plots.py", '"agg"', '"svg"', {"plots"}),
        ("figures.Film", "figures/film.js", "= a", "= 2 * a", {"figures/film.js"}),
        ("figures.Rows", "figures/ui.js", "a = 1", "a = 3", {"figures/ui.js"}),
    ],
)
def test_what_an_edit_changes(
    folder: Path, code: str, name: str, old: str, new: str, wanted: set[str]
) -> None:
    assert changed(folder, f"import dipfilters\ndipfilters.{code}", name, old, new) == wanted


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("x = f'a' 'b{y}'", "x = f'ab' f'{{y}}'", True),
        ("async def f(x):\n    return x", "async def f(x: int) -> int:\n    return x", True),
        ("def f():\n    x = 1", "def f():\n    y: int\n    x = 1", True),
        ("x = lambda: None", "x = lambda: 0", False),
        ("class x:\n    y: int = 1", "class x:\n    y = 1", False),
        ("class x:\n    y: int\n    z: int", "class x:\n    z: int\n    y: int", False),
        ("class x:\n    y: int = 1", "class x:\n    y: ClassVar[int] = 1", False),
        ("x = {**y}", "x = {None: y}", False),
        ("def f():\n    if x:\n        a()\n        b()", "def f():\n    if x:\n        a()\n    b()", False),
    ],
)
def test_what_is_a_change_of_code(folder: Path, one: str, other: str, same: bool) -> None:
    digests = []
    for source in (one, other):
        (folder / "some.py").write_text(source, "utf-8")
        digests.append(Package(folder).digests(["import dipfilters.some as s\nprint(s)"], ""))
    assert list(digests[0]) == ["some"]
    assert (digests[0] == digests[1]) == same


SAMPLE = '''
"""A bit of everything whose tree differs between versions of Python."""
from dataclasses import dataclass

@dataclass(frozen=True)
class A:
    x: int
    y: float = 2.0

    def f(self, *a: int, k: str = "u") -> str:
        match a:
            case [1, *rest] if rest:
                return f"{self.x!r:>{k}} {k=} {{}}" f"{a:.2f}" "end"
        try:
            return u"no"
        except* ValueError:
            pass
'''


def test_every_version_of_python_gives_the_same_digest(folder: Path) -> None:
    (folder / "some.py").write_text(SAMPLE, "utf-8")
    wanted = "{'some': 'e1e18fc68d37d2fe'}"
    assert str(Package(folder).digests(["import dipfilters.some as s\ns.A"], "")) == wanted
    source = Path(__file__).parents[1] / "src" / "dipfilters" / "provenance.py"
    question = (
        f"import runpy; m = runpy.run_path({str(source)!r}, run_name='dipfilters.provenance'); "
        f"print(m['Package'](m['Path']({str(folder)!r})).digests(['import dipfilters.some as s\\ns.A'], ''))"
    )
    for python in {shutil.which(f"python3.{minor}") for minor in (11, 12, 13)} - {None}:
        done = subprocess.run([str(python), "-c", question], capture_output=True, text=True, check=False)
        if done.returncode == 0:  # a version manager's stub for a Python that is not there fails
            assert done.stdout.strip() == wanted, python


@pytest.mark.parametrize("code", ["y = = 2", "from dipfilters import ("])
def test_a_cell_that_is_no_python_is_named(folder: Path, code: str) -> None:
    with refused(SourceError, r"a\.ipynb, `.*`, line 1: .*; correct the line"):
        Package(folder).digests([code], "a.ipynb")
    (folder / "sums.py").write_text("def total(:\n", "utf-8")
    with refused(SourceError, r"sums\.py, line 1: .*; correct the line"):
        Package(folder).digests(["import dipfilters\ndipfilters.sums.total"], "a.ipynb")


# ----------------------------------------------------------------------------- the code of a function

MODULE = '''
"""A module."""
from dipfilters import Adam, psnr

FACTOR = 3
size = 4
SHAPES = {"plain": (1, 7), "deep": (3, [0.5, None])}
OTHER = {"a": object()}
RULE = Adam(1e-3)

class Kind:
    sides = 3

def unused():
    return 1

def helper(x):
    return 2 * x + 0 * len(SHAPES) + 0 * len(OTHER) + Kind.sides + RULE.step

def measure(size):
    """Measure."""
    return {"x": helper(size), "text": len(f"a {size}")}
'''


def function_of(path: Path, source: str) -> Callable[..., Any]:
    """The function ``measure`` of a module with this source, as if it was always the same module."""
    path.write_text(source, "utf-8")
    module = sys.modules["a_module"] = ModuleType("a_module")
    exec(compile(source, str(path), "exec"), module.__dict__)
    return cast(Callable[..., Any], module.__dict__["measure"])


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("    return 2 * x", "\n    # twice\n    return  2*x", set()),
        ("FACTOR = 3", "FACTOR = 4", set()),
        ("object()", "object", set()),
        ("2 * x", "3 * x", {"helper"}),
        ("(1, 7)", "(True, 7)", {"SHAPES"}),
        ("Adam(1e-3)", "Adam(2e-3)", {"RULE"}),
        ("helper(size),", "size,", {"Kind", "RULE", "SHAPES", "helper", "measure", "parameters", "training"}),
        ("helper(size),", "helper(psnr(size)),", {"decoding", "images", "measure"}),
    ],
)
def test_the_code_of_a_function(tmp_path: Path, old: str, new: str, wanted: set[str]) -> None:
    assert old in MODULE
    before = code_of(function_of(tmp_path / "one.py", MODULE))
    after = code_of(function_of(tmp_path / "other.py", MODULE.replace(old, new)))
    assert set(before) == {"Kind", "RULE", "SHAPES", "helper", "measure", "parameters", "training"}
    assert {name for name, _ in before.items() ^ after.items()} == wanted


def test_what_is_caught_in_a_closure_and_what_has_no_source_is_refused() -> None:
    number = 1

    def measure(size: int) -> int:
        return size + number

    with refused(SourceError, "measure takes number from the function around it.*as an argument"):
        code_of(measure)
    with refused(SourceError, "has no source to tell changes by; write it with def"):
        code_of(len)


# --------------------------------------------------------------------------- commit, machine, libraries


def test_the_commit_says_whether_what_matters_differs_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert commit(tmp_path) == "unknown"

    def git(*words: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(
            ["git", *names, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    git("init", "-q")
    for name in ("one", "other"):
        (tmp_path / name).write_text("1", "utf-8")
    git("add", ".")
    git("commit", "-qm", "a")
    head = git("rev-parse", "--short=7", "HEAD")
    (tmp_path / "one").write_text("2", "utf-8")
    assert commit(tmp_path) == commit(tmp_path, "one") == f"{head} with changes"
    assert commit(tmp_path, "other") == head
    monkeypatch.setenv("PATH", "")
    assert commit(tmp_path) == "unknown"


def test_the_machine_and_the_libraries() -> None:
    assert f"{len(os.sched_getaffinity(0))} cores" in hardware()
    assert hardware("cpu") == hardware()
    assert platform.node() not in hardware("auto")
    import numpy as np

    assert versions("numpy") == {"numpy": np.__version__}
