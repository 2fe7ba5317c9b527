"""Who may know whom inside the package, how large it is, and how light to import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dipfilters

PACKAGE = Path(dipfilters.__file__).parent

# The one list of modules, from below to above, stands where a reader of the package begins.
LAYERS = re.findall(r"^\* :mod:`~dipfilters\.(\w+)`", dipfilters.__doc__ or "", re.MULTILINE)
ROOMS = ("engines", "figures", "checks")


def files(layer: str) -> list[Path]:
    folder = PACKAGE / layer
    return sorted(folder.glob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def imported(path: Path) -> set[str]:
    """All modules that a file names in an import, at whatever level, by their full names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: an import relative to its place"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layers_of(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported(path) if name.startswith("dipfilters.")}


def test_every_module_has_its_layer() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.parent.name for path in PACKAGE.glob("*/*.py")
    }
    assert set(LAYERS) == modules - {"__init__"}
    assert len(LAYERS) == len(set(LAYERS))


@pytest.mark.parametrize("layer", LAYERS)
def test_a_module_knows_only_the_layers_before_it(layer: str) -> None:
    below = set(LAYERS[: LAYERS.index(layer)])
    for path in files(layer):
        assert layers_of(path) & set(LAYERS) <= below | ({layer} if path.parent.name == layer else set()), (
            path
        )


def test_engines_know_neither_architectures_nor_filters() -> None:
    known = set().union(*(layers_of(path) for path in files("engines")))
    assert known <= {"engines", "parameters", "kernels", "images", "patches"}


def test_what_computes_does_not_draw() -> None:
    for layer in LAYERS:
        for path in files(layer) if layer not in ("plots", "figures") else []:
            assert not {name for name in imported(path) if name.startswith("matplotlib")}, path


def test_importing_the_package_is_light() -> None:
    question = (
        "import sys, dipfilters; print([m for m in ('matplotlib', 'skimage', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def code_lines(source: str) -> int:
    """Lines that hold code: neither empty, nor comment, nor docstring."""
    docstrings = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") and number not in docstrings
        for number, line in enumerate(source.splitlines(), start=1)
    )


def test_the_core_reads_in_an_evening() -> None:
    """All of it: what `__init__` says."""
    core = [
        PACKAGE / "__init__.py",
        *(path for layer in LAYERS if layer not in ROOMS for path in files(layer)),
    ]
    assert sum(code_lines(path.read_text("utf-8")) for path in core) < 2200
    assert "The core is under 2,200 lines of code" in (dipfilters.__doc__ or "")


def test_public_names_are_explained_by_a_docstring() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    public = [alias for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert len(public) < 50
    for alias in public:
        assert alias.asname == alias.name, f"{alias.name}: write `import {alias.name} as {alias.name}`"
        assert getattr(dipfilters, alias.name).__doc__, f"{alias.name} is not explained"
