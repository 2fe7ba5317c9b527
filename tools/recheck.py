"""`make recheck-runs`: compute the cheapest setting of each stored run anew; renew its stamp if it agrees."""

from collections.abc import Sequence
from pathlib import Path

from tools import execute, notebooks
from tools.book import Book, command_line
from tools.errors import run_main


def storing(book: Book) -> list[Path]:
    """The notebooks that store runs: those with a parameter ``recompute``."""
    return [
        path
        for path, notebook in book.notebooks.items()
        if "recompute" in notebooks.parameters(notebook, path.name)
    ]


def main(arguments: Sequence[str]) -> None:
    """Run the notebooks with ``recompute="cheapest"``; the runs are renewed, the notebooks left alone."""
    book = Book(command_line(__doc__).parse_args(arguments).root)
    with book.lock("execute", "executing notebooks"):
        for path in storing(book):
            execute.execute_beside(book.root, path, {"recompute": "cheapest"}, folder=path.parent)
            print(f"{path.stem}: its stored runs agree with the present code")


if __name__ == "__main__":
    run_main(main)
