"""Copies of the notebooks at the quick profile in `_build/quick/`, for nbval to execute once."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from tools import execute, notebooks
from tools.errors import run_main


def main(arguments: Sequence[str]) -> None:
    """Write the copies anew."""
    parser = argparse.ArgumentParser(prog="python -m tools.quick", description=__doc__)
    parser.add_argument("--root", type=Path, default=notebooks.ROOT)
    root = parser.parse_args(arguments).root
    target = root / "_build" / "quick"
    shutil.rmtree(target, ignore_errors=True)
    for path in notebooks.chapters(root):
        notebook = notebooks.read(path)
        values = notebooks.parameters(notebook, path.name)
        quick = execute.overrides(["profile=quick"], values, path.name, []) if values else {}
        notebooks.write(execute.with_parameters(notebook, quick) if quick else notebook, target / path.name)


if __name__ == "__main__":
    run_main(main)
