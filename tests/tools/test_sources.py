"""Which modules a notebook uses, and when their digests change."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.errors import ModuleUnreadable
from tools.sources import Package, canonical, digest, parse

ALL = {"dipfilters.alone", "dipfilters.plots", "dipfilters.shapes", "dipfilters.sums"}
SUMS = {"dipfilters.shapes", "dipfilters.sums"}


@pytest.mark.parametrize(
    ("code", "modules"),
    [
        ("from dipfilters import area", {"dipfilters.shapes"}),
        ("from dipfilters import total as t", SUMS),
        ("from dipfilters import plots", {"dipfilters.plots", *SUMS}),
        ("from dipfilters.plots import total", {"dipfilters.plots", *SUMS}),
        ("import dipfilters.shapes", {"dipfilters.shapes"}),
        ("import dipfilters.shapes as s", {"dipfilters.shapes"}),
        ("import dipfilters\ndipfilters.area(1)", {"dipfilters.shapes"}),
        ("import dipfilters as d\nd.alone.ANSWER", {"dipfilters.alone"}),
        ("import dipfilters\nprint(dipfilters.__version__)", set()),
        ("import dipfilters\nhelp(dipfilters)", ALL),
        ("from dipfilters import *", ALL),
        ("from dipfilters import unheard_of", ALL),
        ("import importlib\nimportlib.import_module('dipfilters.alone')", {"dipfilters.alone"}),
        ("def f():\n    from dipfilters import area", {"dipfilters.shapes"}),
        ("%matplotlib inline\n!ls\n%timeit dipfilters.area(1)\nimport numpy", set()),
        ("import numpy", set()),
    ],
)
def test_modules_used(book: Path, code: str, modules: set[str]) -> None:
    assert Package(book).used_by([code], "a.ipynb") == modules


def test_names_bound_in_one_cell_are_used_in_another(book: Path) -> None:
    assert Package(book).used_by(["import dipfilters as d", "d.area(1)"], "") == {"dipfilters.shapes"}


def test_relative_imports_and_subpackages(book: Path) -> None:
    folder = book / "src" / "dipfilters"
    (folder / "engines").mkdir()
    (folder / "engines" / "__init__.py").write_text("from . import slow\n")
    (folder / "engines" / "slow.py").write_text("from .. import sums\nfrom ..alone import ANSWER\n")
    (folder / "engines" / "fast.py").write_text("import math\n")
    engines = {"dipfilters.engines", "dipfilters.engines.slow", "dipfilters.alone", *SUMS}
    assert Package(book).used_by(["import dipfilters.engines"], "") == engines
    used = Package(book).used_by(["from dipfilters.engines import fast"], "")
    assert used == engines | {"dipfilters.engines.fast"}, "a submodule runs the package around it"


def meaning(source: str) -> str:
    return digest(canonical(parse(source, "test")))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 1  # one"),
        ("def f(x):\n    return x", 'def f(x: int) -> int:\n    """Do."""\n    return x'),
        ("async def f(x):\n    return x", "async def f(x: int) -> int:\n    return x"),
        ("x = (1 +\n 2)", "x = 1 + 2"),
        ("x = 1", "x: int = 1"),
        ("def f():\n    y = 1", "def f():\n    y: int\n    y = 1"),
        (
            "class A:\n    x: int\n    y: float = 2.0",
            'class A:\n    x: str\n    """A text."""\n    y: int = 2.0',
        ),
        ("x = 1", "if TYPE_CHECKING:\n    import a\nx = 1"),
        ("x = 'a'", 'x = "a"'),
        ("x = f'a' 'b{y}'", "x = f'ab' f'{{y}}'"),
    ],
)
def test_what_is_no_change(one: str, other: str) -> None:
    assert meaning(one) == meaning(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 2"),
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("return_ = lambda: None", "return_ = lambda: 0"),
        ("def f(): return", "def f(): return None"),
        ("class A:\n    x: int = 1", "class A:\n    x = 1"),
        ("class A:\n    x: int\n    y: int", "class A:\n    y: int\n    x: int"),
        ("class A:\n    x: int = 1", "class A:\n    x: ClassVar[int] = 1"),
        ("f(a, b)", "f(b, a)"),
        ("x = 'a'", "x = b'a'"),
        ("x = {**y}", "x = {None: y}"),
        ("if a:\n    x = 1", "if not a:\n    x = 1"),
    ],
)
def test_what_is_a_change(one: str, other: str) -> None:
    assert meaning(one) != meaning(other)


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


def test_the_digest_does_not_depend_on_the_version_of_python() -> None:
    assert meaning(SAMPLE) == "38088c87d78ffe69"
    others = {shutil.which(f"python3.{minor}") for minor in (11, 12, 13)} - {None, sys.executable}
    root = Path(__file__).parents[2]
    stub = (
        "import sys, types; sys.path.insert(0, sys.argv[1]); m = types.ModuleType('m'); "
        "m.TransformerManager = None; "
        "sys.modules.update({'IPython': m, 'IPython.core': m, 'IPython.core.inputtransformer2': m}); "
        "from tools.sources import *; print(digest(canonical(parse(sys.stdin.read(), 'test'))))"
    )
    for python in others:
        done = subprocess.run(
            [str(python), "-c", stub, str(root)], input=SAMPLE, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:  # a version manager's stub for a Python that is not there fails
            assert done.stdout.strip() == meaning(SAMPLE), python


def test_a_module_that_is_no_python_is_named(book: Path) -> None:
    (book / "src" / "dipfilters" / "sums.py").write_text("def total(:\n")
    with pytest.raises(ModuleUnreadable, match=r"sums\.py, line 1"):
        Package(book).digests(["from dipfilters import total"], "a.ipynb")


def test_a_cell_that_is_no_python_is_named(book: Path) -> None:
    with pytest.raises(ModuleUnreadable, match=r"a\.ipynb, cell `y = = 2`, line 1"):
        Package(book).digests(["x = 1", "y = = 2"], "a.ipynb")
