"""Copies of the notebooks at the quick profile in `_build/quick/`, for nbval to execute once.

Each says which code it was made from, so that the status page can tell whether what the tests found holds.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from nbformat import NotebookNode

from tools import execute, notebooks, record
from tools.errors import run_main
from tools.sources import PACKAGE, Package


def prepare(root: Path, target: Path) -> list[Path]:
    """Write the copies anew, and say where they are."""
    shutil.rmtree(target, ignore_errors=True)
    package, copies = Package(root), []
    for path in notebooks.chapters(root):
        notebook = notebooks.read(path)
        tested = record.code(notebook, path.name, package)
        notebook.metadata.setdefault(PACKAGE, NotebookNode())["tested"] = tested
        values = notebooks.parameters(notebook, path.name)
        quick = execute.overrides(["profile=quick"], values, path.name, []) if values else {}
        copies.append(target / path.name)
        notebooks.write(execute.with_parameters(notebook, quick) if quick else notebook, copies[-1])
    return copies


def main(arguments: Sequence[str]) -> None:
    """Write the copies anew."""
    parser = argparse.ArgumentParser(prog="python -m tools.quick", description=__doc__)
    parser.add_argument("--root", type=Path, default=notebooks.ROOT)
    root = parser.parse_args(arguments).root
    prepare(root, root / "_build" / "quick")


if __name__ == "__main__":
    run_main(main)
