"""What goes wrong around the tools: kills, full discs, a second process, a folder that cannot be written."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import nbformat
import pytest
from nbformat import NotebookNode

from tests.test_faults import read_only
from tools import build, execute, notebooks
from tools.book import Book
from tools.errors import KEPT, run_main

Run = Callable[[], None]


HEAD = """
import os, signal, sys
from pathlib import Path
import nbformat
from tools import notebooks
from tools.errors import run_main
root = Path(sys.argv[1])
path = root / "notebooks" / "01-one.ipynb"
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def tool(program: str, root: Path, *before: str) -> subprocess.CompletedProcess[str]:
    """Another process that runs this program on the book at `root`."""
    return subprocess.run(
        [*before, sys.executable, "-c", HEAD + textwrap.dedent(program), str(root)],
        cwd=notebooks.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


# --------------------------------------------------------------------------------------------- kills


def pretend_build(text: str) -> Callable[[Book, Path, Path], Path]:
    """In the place of the half minute of Sphinx."""

    def pages(_book: Book, stage: Path, work: Path) -> Path:
        assert (stage / "notebooks" / "02-two.ipynb").is_file()
        folder = work / "html"
        folder.mkdir(parents=True)
        (folder / "index.html").write_text(text)
        return folder

    return pages


KILLS = {
    "with the pages built": "build.swap = kill",
    "with the old pages moved away": """
        Path.replace = lambda path, to: kill() if to.name == "html" else plain(path, to)
    """,
    "with the new pages in place": """
        Path.replace = lambda path, to: (plain(path, to), to.name == "html" and kill())
    """,
}


@pytest.mark.long
@pytest.mark.parametrize("point", KILLS)
def test_a_killed_build_leaves_old_pages_or_new(
    book: Path, pretend_run: Run, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    pretend_run()
    index = book / "_build" / "html" / "index.html"
    monkeypatch.setattr(build, "build", pretend_build("old"))
    build.main(["--root", str(book)])
    with (book / "_toc.yml").open("a", encoding="utf-8") as file:
        file.write("\n")
    killed = tool(
        f"""
        from tests.tools.test_faults import pretend_build
        from tools import build
        build.build = pretend_build("new")
        plain = Path.replace
        {KILLS[point].strip()}
        build.main(["--root", str(root)])
        """,
        book,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    if point == "with the new pages in place":
        assert index.read_text() == "new"
    else:
        monkeypatch.setattr(build, "build", None)
        with pytest.raises(TypeError):
            build.main(["--root", str(book)])
        assert index.read_text() == "old", "the pages are as they were"
    monkeypatch.setattr(build, "build", pretend_build("new"))
    build.main(["--root", str(book)])
    assert index.read_text() == "new"
    assert not (book / "_build" / "html.old").exists()


def test_a_kill_while_a_notebook_is_written_leaves_the_old_one(book: Path) -> None:
    path = Book(book).chapters[0]
    before = path.read_bytes()
    killed = tool(
        """
        def half(notebook, file):
            file.write(nbformat.writes(notebook)[:100])
            file.flush()
            kill()
        notebook = notebooks.read(path)
        nbformat.write = half
        notebooks.write(notebook, path)
        """,
        book,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert path.read_bytes() == before
    assert [part.stat().st_size for part in path.parent.glob(".*.new")] == [100]
    notebooks.write(notebooks.read(path), path)
    assert not list(path.parent.glob(".*"))


# ------------------------------------------------------------------------------- discs and processes


@pytest.mark.parametrize(
    ("trouble", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "make room on the disc and run again"),
        (shutil.Error([("a", "b", "No space left on device")]), "make room on the disc and run again"),
        (OSError(errno.EFBIG, "File too large"), "allow larger files (ulimit -f) and run again"),
    ],
)
def test_a_full_disc_leaves_the_old_notebook_and_is_said_with_the_remedy(
    book: Path, monkeypatch: pytest.MonkeyPatch, trouble: OSError, remedy: str
) -> None:
    path = Book(book).chapters[0]
    before, notebook = path.read_bytes(), notebooks.read(path)

    def half(_notebook: NotebookNode, file: TextIO) -> None:
        file.write("half")
        raise trouble

    monkeypatch.setattr(nbformat, "write", half)
    with pytest.raises(SystemExit) as stopped:
        run_main(lambda _: notebooks.write(notebook, path))
    assert str(stopped.value) == f"{trouble}\n{KEPT}; {remedy}"
    assert path.read_bytes() == before
    assert not list(path.parent.glob(".*"))


def test_an_interruption_in_the_second_notebook_does_not_deny_the_first(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Book(book).chapters
    before = first.read_bytes(), second.read_bytes()

    def run(_root: Path, path: Path, notebook: NotebookNode) -> NotebookNode:
        if path == second:
            raise KeyboardInterrupt
        notebook.metadata["ran"] = True
        return notebook

    monkeypatch.setattr(execute, "run", run)
    with pytest.raises(SystemExit) as stopped:
        run_main(lambda _: execute.main(["--root", str(book)]))
    assert str(stopped.value) == (
        "interrupted; what was finished is kept, every other notebook and page is as it was"
    )
    assert first.read_bytes() != before[0]
    assert second.read_bytes() == before[1]


def test_a_checkout_that_cannot_be_written_is_read_and_named(book: Path) -> None:
    before = read_only(book)
    for name in ("build", "execute"):
        program = (
            f"sys.argv[1:] = ['--root', str(root)]\nfrom tools import {name}\n{name}.run_main({name}.main)"
        )
        done = tool(program, book, *before)
        assert done.returncode == 1
        assert name == "execute" or "01-one.ipynb: it was never run" in done.stdout, (
            "looking needs no writing"
        )
        assert done.stderr.endswith(f"{KEPT}; copy the book to a folder that you may write in\n")
        assert "Traceback" not in done.stderr
    assert not (book / "_build").exists()


def test_two_builds_at_once(book: Path, pretend_run: Run) -> None:
    """The lock is the system's, so that one left by a dead process holds nobody up."""
    pretend_run()
    with Book(book).lock("build", "building the pages"):
        program = "sys.argv[1:] = ['--root', str(root)]\nfrom tools import build\nbuild.run_main(build.main)"
        done = tool(program, book)
    assert done.returncode == 1
    assert done.stderr == f"process {os.getpid()} is building the pages; wait for it, or end it\n"
    (book / "_build" / "build.lock").write_text("99999999")
    with Book(book).lock("build", "building the pages"):
        pass
