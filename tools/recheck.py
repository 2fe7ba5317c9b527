"""`make recheck-runs`: compute the cheapest setting of each stored run anew; renew its stamp if it agrees."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tools import execute, notebooks
from tools.errors import run_main


def storing(root: Path) -> list[Path]:
    """The notebooks that store runs: those with a parameter ``recompute``."""
    return [
        path
        for path in notebooks.chapters(root)
        if "recompute" in notebooks.parameters(notebooks.read(path), path.name)
    ]


def main(arguments: Sequence[str]) -> None:
    """Run the notebooks with ``recompute="cheapest"``; the runs are renewed, the notebooks left alone."""
    parser = argparse.ArgumentParser(prog="python -m tools.recheck", description=__doc__)
    parser.add_argument("--root", type=Path, default=notebooks.ROOT)
    root = parser.parse_args(arguments).root.resolve()
    with execute.lock(root):
        for path in storing(root):
            execute.execute_beside(root, path, {"recompute": "cheapest"}, folder=path.parent)
            print(f"{path.stem}: its stored runs agree with the code of now")


if __name__ == "__main__":
    run_main(main)
