"""Copies of the notebooks at the quick profile in `_build/quick/`, for nbval to execute once."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from tools import execute, notebooks
from tools.errors import run_main


def prepare(root: Path, target: Path) -> list[Path]:
    """Write the copies anew, and say where they are."""
    shutil.rmtree(target, ignore_errors=True)
    copies = []
    for path in notebooks.chapters(root):
        notebook = notebooks.read(path)
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
