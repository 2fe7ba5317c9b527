"""Who may know whom inside the package, and how light it is to import."""

import ast
import subprocess
import sys

import pytest

import dipfilters
from dipfilters.provenance import PACKAGE, Package
from tools.notebooks import ROOT

SOURCE = ROOT / "src" / PACKAGE

# A module imports only from those before it.
LAYERS = (
    "parameters",
    "images",
    "patches",
    "kernels",
    "networks",
    "engines",
    "engines.program",
    "engines.loops",
    "engines.cpu",
    "engines.batched",
    "filters",
    "ntk",
    "twicing",
    "lanczos",
    "denoising",
    "empirical",
    "step_inputs",
    "training",
    "stopping",
    "provenance",
    "records",
    "plots",
    "figures.base",
    "figures.rows",
    "figures.player",
    "figures.lab",
    "figures.film",
    "figures.spectrum",
    "figures",
    "checks",
)


def test_every_module_has_its_layer() -> None:
    assert set(Package(ROOT).paths) == {f"{PACKAGE}.{name}" for name in LAYERS}


@pytest.mark.parametrize("name", LAYERS)
def test_a_module_knows_only_the_layers_before_it(name: str) -> None:
    below = {f"{PACKAGE}.{other}" for other in LAYERS[: LAYERS.index(name)]}
    package = f"{PACKAGE}.{name}".rpartition(".")[0]  # runs first, and knows its own modules
    assert Package(ROOT).imports[f"{PACKAGE}.{name}"] - {package} <= below


@pytest.mark.parametrize(
    "name", [name for name in LAYERS if name != "plots" and not name.startswith("figures")]
)
def test_what_computes_does_not_draw(name: str) -> None:
    tree = ast.parse(Package(ROOT).paths[f"{PACKAGE}.{name}"].read_text("utf-8"))
    imported = {
        alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not {module for module in imported if module.startswith("matplotlib")}


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


def test_the_package_stays_small_enough_to_read() -> None:
    """What computes. The engines say again, for speed, what other modules say plainly; lists of names,
    drawing, the interactive figures, the keeping of stored runs, and the checks of students' answers, with
    which no chapter computes, are apart as well.
    """
    apart = {SOURCE / f"{name}.py" for name in ("__init__", "plots", "provenance", "records", "checks")}
    paths = [
        p for p in SOURCE.rglob("*.py") if p.parent.name not in ("engines", "figures") and p not in apart
    ]
    assert sum(code_lines(path.read_text("utf-8")) for path in paths) < 2050


def test_the_checks_stay_small_enough_to_read() -> None:
    assert code_lines((SOURCE / "checks.py").read_text("utf-8")) < 480


def test_the_public_names_are_those_of_init_and_explained() -> None:
    exports = Package(ROOT).exports
    assert set(dipfilters.__all__) == set(exports)
    assert list(dipfilters.__all__) == sorted(
        dipfilters.__all__, key=lambda n: (not n.isupper(), n[0].islower(), n)
    )
    # An instance, like the dictionary of pictures, is explained by a text beneath it; no __doc__ holds that.
    plain = [name for name in exports if not getattr(getattr(dipfilters, name), "__doc__", "")]
    assert not plain, f"without docstring: {', '.join(plain)}"
