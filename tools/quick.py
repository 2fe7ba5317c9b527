"""Copies of the notebooks at the quick profile in `_build/quick/`, for nbval to execute once.

Each says which code it was made from, so that the status page can tell whether what the tests found holds.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from nbformat import NotebookNode

from tools import execute, notebooks, record
from tools.book import Book, command_line
from tools.errors import run_main


def prepare(book: Book, target: Path) -> list[Path]:
    """Write the copies anew, and say where they are."""
    shutil.rmtree(target, ignore_errors=True)
    copies = []
    for path, notebook in book.notebooks.items():
        values = notebooks.parameters(notebook, path.name)
        quick = execute.overrides(["profile=quick"], values, path.name, [])
        copy = execute.with_parameters(notebook, quick)
        tested = record.code(notebook, path.name, book.package)
        copy.metadata.setdefault(record.PACKAGE, NotebookNode())["tested"] = tested
        copies.append(target / path.name)
        notebooks.write(copy, copies[-1])
    return copies


def main(arguments: Sequence[str]) -> None:
    """Write the copies anew."""
    book = Book(command_line(__doc__).parse_args(arguments).root)
    prepare(book, book.root / "_build" / "quick")


if __name__ == "__main__":
    run_main(main)
