"""`make fresh`: refuse notebooks whose outputs are not those of their present sources, by name and reason."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tools import notebooks, record
from tools.errors import NotUpToDate, run_main
from tools.sources import Package


def stale(root: Path) -> dict[Path, list[str]]:
    """The notebooks that are not up to date, and why."""
    package = Package(root)
    found = {}
    for path in notebooks.chapters(root):
        if reasons := record.reasons(notebooks.read(path), path.name, package):
            found[path] = reasons
    return found


def check(root: Path) -> None:
    """Raise with every reason of every notebook that is not up to date."""
    found = stale(root)
    if found:
        lines = [f"{path.name}: {reason}" for path, reasons in found.items() for reason in reasons]
        raise NotUpToDate("\n".join([*lines, "not up to date; `make book` or `make execute` runs them"]))


def main(arguments: Sequence[str]) -> None:
    """Check the notebooks below --root."""
    parser = argparse.ArgumentParser(prog="python -m tools.fresh", description=__doc__)
    parser.add_argument("--root", type=Path, default=notebooks.ROOT)
    root = parser.parse_args(arguments).root
    check(root)
    print(f"{len(notebooks.chapters(root))} notebooks are up to date")


if __name__ == "__main__":
    run_main(main)
