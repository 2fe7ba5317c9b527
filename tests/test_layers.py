"""Who may know whom inside the package, how small it is, and how light to import."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dipfilters
from tools.notebooks import ROOT

SOURCE = ROOT / "src" / "dipfilters"
TREES = {path: ast.parse(path.read_text("utf-8")) for path in sorted(SOURCE.rglob("*.py"))}

# The one list of modules, each of which knows only those above it: the docstring of the package.
LISTED = re.findall(r"^\* :mod:`~dipfilters\.(\w+)`(.*)", str(dipfilters.__doc__), re.MULTILINE)
MODULES = [name for name, _ in LISTED]
PARTS = {name for name, text in LISTED if "a separate part" in text}
TRAINED = {"empirical", "step_inputs", "training", "stopping"}


def module(path: Path) -> str:
    """The entry of the list that a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(tree: ast.Module) -> set[str]:
    """The modules that imports name, wherever they stand, with the names that they take from them."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_file_is_in_the_list_of_modules() -> None:
    assert {module(path) for path in TREES} - {"__init__"} == set(MODULES)
    others = {"decoding", "engines", "figures", "checks", "picture_files", "__main__"}
    assert {"shift_invariant", "circulant", *TRAINED, *others} == PARTS


@pytest.mark.parametrize("path", [path for path in TREES if module(path) != "__init__"], ids=str)
def test_a_module_knows_only_those_above_it(path: Path) -> None:
    own = module(path)
    above = {*MODULES[: MODULES.index(own)], own}
    known = {name.split(".")[1] for name in imported(TREES[path]) if name.startswith("dipfilters.")}
    assert known <= above


@pytest.mark.parametrize("name", MODULES)
def test_what_computes_does_not_draw(name: str) -> None:
    if name not in ("plots", "figures"):
        used = set().union(*(imported(tree) for path, tree in TREES.items() if module(path) == name))
        assert not {library for library in used if library.startswith("matplotlib")}


def test_importing_the_package_is_light() -> None:
    question = (
        "import sys, dipfilters; print([m for m in ('matplotlib', 'skimage', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def code_lines(path: Path) -> int:
    """Lines that hold code: neither empty, nor comment, nor docstring."""
    docstrings = {
        line
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") and number not in docstrings
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
    )


def test_the_core_can_be_read_in_an_evening_and_so_can_what_trains_networks() -> None:
    """The core is all but the separate parts, as the package's docstring and the README say."""
    assert sum(code_lines(path) for path in TREES if module(path) not in PARTS) < 2200
    assert sum(code_lines(path) for path in TREES if module(path) in TRAINED) < 800
    for page in (str(dipfilters.__doc__), (ROOT / "README.md").read_text("utf-8")):
        assert "under 2,200 lines" in page


FLAT = sorted(name.rpartition(".")[2] for name in imported(TREES[SOURCE / "__init__.py"]))


def test_every_flat_name_is_used_by_a_chapter_a_task_or_a_readers_script_and_explained() -> None:
    pages = [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("course/**/*.ipynb"), ROOT / "book/how-to-run.md"]
    text = "\n".join(page.read_text("utf-8") for page in pages)
    assert [name for name in FLAT if not re.search(rf"\b{name}\b", text)] == []
    assert [name for name in FLAT if not getattr(dipfilters, name).__doc__] == []
