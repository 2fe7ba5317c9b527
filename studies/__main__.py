"""The command line of the studies: python -m studies own-kernel --profile quick."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from studies.run import STUDIES, Setting, StudyError, run
from studies.table import RESULTS, Value


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m studies", description=__doc__)
    parser.add_argument("study", help=", ".join(STUDIES))
    parser.add_argument(
        "--profile",
        choices=("full", "quick", "published"),
        default="full",
        help="quick is tiny; published is the hour-glass at its published size",
    )
    parser.add_argument("--cluster", help="address of a dask scheduler, such as tcp://host:8786")
    parser.add_argument("--workers", type=int, help="workers on this machine: 2, or one for each card")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--pictures", type=Path, help="a folder of your own pictures")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the table goes")
    parser.add_argument(
        "--where", action="append", default=[], metavar="NAME=VALUE", help="only points with this parameter"
    )
    given = parser.parse_args()
    pictures = None if given.pictures is None else str(given.pictures.resolve())
    try:
        path = run(
            given.study,
            profile=given.profile,
            out=given.out,
            setting=Setting(given.device, pictures),
            cluster=given.cluster,
            number=given.workers,
            where=dict(map(_condition, given.where)),
        )
    except (StudyError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(path)
    return 0


def _condition(text: str) -> tuple[str, Value]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


if __name__ == "__main__":
    sys.exit(main())
