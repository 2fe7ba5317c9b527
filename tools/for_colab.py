"""`make colab`: the notebooks as Colab shows them best, in `_build/for-colab`, for a branch of their own.

They install from the repository that they are built for. A caption is text below its figure, since Colab
shows no metadata of cells; code that a page folds is a form with a title, closed; a graphics card is asked
for where the committed notebook asks for one.
"""

import copy
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from tools import address, notebooks
from tools.book import Book, command_line
from tools.errors import BookError, run_main


def for_colab(notebook: NotebookNode) -> NotebookNode:
    """The notebook with captions as text and folded code in forms."""
    shown = copy.deepcopy(notebook)
    cells = []
    for cell in shown.cells:
        cells.append(cell)
        if cell.cell_type != "code":
            continue
        caption = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption")
        if "hide-input" in notebooks.tags(cell):
            title = "Draw the figure below" if caption else "Code that the page folds"
            cell.source = f"# @title {title}\n{cell.source}"
            cell.metadata["cellView"] = "form"
        if caption:
            cells.append(new_markdown_cell(f"*{caption.strip()}*", id=f"{cell.id}-caption"))
    shown.cells = cells
    return shown


def write(book: Book, target: Path, to: address.Address) -> list[Path]:
    """Write all chapters for a repository to a folder, which is emptied before."""
    shutil.rmtree(target, ignore_errors=True)
    for path, notebook in book.notebooks.items():
        notebooks.write(for_colab(notebook), target / "notebooks" / path.name)
    address.rewrite(target, address.committed(book), to)
    return sorted((target / "notebooks").glob("*.ipynb"))


def push(folder: Path, remote: str) -> None:
    """Let the branch of a repository hold the folder, as one commit, and nothing else.

    Raises:
        BookError: Git could not; the words are its own, without the token in the address.
    """
    shutil.rmtree(folder / ".git", ignore_errors=True)
    name = os.environ.get("GITHUB_ACTOR", "dipfilters")
    author = ["-c", f"user.name={name}", "-c", f"user.email={name}@users.noreply.github.com"]
    for words in (
        ["init", "--quiet", "--initial-branch", address.COLAB],
        ["add", "."],
        [
            *author,
            "commit",
            "--quiet",
            "--message",
            f"The notebooks of {os.environ.get('GITHUB_SHA', 'now')}",
        ],
        ["push", "--quiet", "--force", remote, address.COLAB],
    ):
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BookError(f"git {words[0]} failed: {done.stderr.replace(remote, 'the repository').strip()}")


def main(arguments: Sequence[str]) -> None:
    """Write them for the repository that a build would name now."""
    parser = command_line(__doc__)
    parser.add_argument("--push", action="store_true", help="to the branch, with GITHUB_TOKEN")
    parser.add_argument("--remote", help="the repository's address; by default the one on GitHub")
    asked = parser.parse_args(arguments)
    book = Book(asked.root)
    to = address.published(book)
    if not to.claimed:
        raise BookError(
            f"nobody has claimed {to.repository}, from which the notebooks would install; `make address "
            f"TO=owner/name` does, or DIPFILTERS_REPOSITORY=owner/name in the environment"
        )
    target = book.root / "_build" / "for-colab"
    print(f"{len(write(book, target, to))} notebooks in {target.relative_to(book.root)}, for {to.repository}")
    if asked.push:
        token = os.environ.get("GITHUB_TOKEN", "")
        push(target, asked.remote or f"https://x-access-token:{token}@github.com/{to.repository}")
        print(f"pushed to the branch {address.COLAB}")


if __name__ == "__main__":
    run_main(main)
