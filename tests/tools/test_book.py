"""What makes a chapter out of date, and how it is said; and a book that cannot be read."""

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from tools import notebooks, record
from tools.book import Book
from tools.errors import BookError

Run = Callable[[], None]


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def stale(root: Path) -> dict[str, list[str]]:
    return {path.stem: reasons for path, reasons in Book(root).stale.items()}


def test_a_changed_piece_of_code_is_named_where_it_is_used(book: Path, pretend_run: Run) -> None:
    pretend_run()
    replace(book / "src" / "dipfilters" / "shapes.py", "2 * math", "3 * math")
    assert stale(book) == {}, "no cell reaches it"
    replace(book / "src" / "dipfilters" / "sums.py", "range(n)", "range(n + 1)")
    assert stale(book) == {"02-two": ["changed: sums"]}


def test_pieces_used_no_longer_and_anew_are_named(book: Path, pretend_run: Run) -> None:
    pretend_run()
    sums = book / "src" / "dipfilters" / "sums.py"
    replace(sums, "from dipfilters.shapes import area\n", "from dipfilters.alone import ANSWER as area\n")
    assert stale(book) == {"02-two": ["changed: sums", "no longer used: shapes", "newly used: alone"]}


def test_changed_cells_are_named(book: Path, pretend_run: Run) -> None:
    pretend_run()
    replace(book / "notebooks" / "01-one.ipynb", "area(scale)", "area(2 * scale)")
    assert stale(book) == {"01-one": ["code cell 4 (`area(2 * scale)`) is new or changed"]}
    path = book / "notebooks" / "02-two.ipynb"
    notebook = notebooks.read(path)
    notebook.cells[-2:] = reversed(notebook.cells[-2:])
    notebooks.write(notebook, path)
    assert "code cells changed places" in stale(book)["02-two"]
    del notebook.cells[-1]
    notebooks.write(notebook, path)
    assert "code cells were removed" in stale(book)["02-two"]


def test_only_a_run_makes_a_chapter_up_to_date_and_text_the_install_cell_and_the_lock_may_change(
    book: Path, pretend_run: Run
) -> None:
    never = ["it was never run by `make execute`"]
    assert stale(book) == {"01-one": never, "02-two": never}
    pretend_run()
    replace(book / "notebooks" / "01-one.ipynb", "# 01-one", "# The first chapter")
    replace(book / "notebooks" / "01-one.ipynb", "%pip install -q", "%pip install")
    (book / "requirements.lock").write_text("torch==2.14.0\n")
    assert stale(book) == {}


def test_a_changed_parameter_is_named_with_both_values(book: Path, pretend_run: Run) -> None:
    pretend_run()
    replace(book / "notebooks" / "01-one.ipynb", "seed = 0", "seed = 1")
    assert stale(book) == {"01-one": ["parameter seed changed: 0 → 1"]}
    replace(book / "notebooks" / "01-one.ipynb", "seed = 1", "seed = len('a')")
    with pytest.raises(BookError, match=r"01-one\.ipynb: the parameters cell may only set names"):
        stale(book)


def test_a_picture_that_changed_or_is_missing_is_named(
    book: Path, pretend_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(book / "notebooks" / "01-one.ipynb", "size = None", "image = 'my'")
    path = book / "notebooks" / "01-one.ipynb"
    with pytest.raises(BookError, match=r"no picture 'my': give the path of a file, or one of"):
        record.inputs(notebooks.read(path), path.name, Book(book).package)
    picture = book / "my.png"
    picture.write_bytes(b"one")
    monkeypatch.setattr(record, "picture_path", lambda name: book / f"{name}.png")
    pretend_run()
    assert stale(book) == {}
    picture.write_bytes(b"two")
    assert stale(book) == {"01-one": ["the picture my changed"]}


def test_outputs_that_no_run_made_are_named(book: Path, pretend_run: Run) -> None:
    pretend_run()
    path = book / "notebooks" / "01-one.ipynb"
    notebook = notebooks.read(path)
    notebook.cells[-1].outputs = [
        nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    ]
    notebooks.write(notebook, path)
    assert stale(book) == {"01-one": ["cell 4 ends in an error: ValueError: no"]}
    notebook.cells[-1].execution_count = None
    notebooks.write(notebook, path)
    assert "execution counts" in stale(book)["01-one"][1]


NAMELESS = """{"nbformat": 4, "nbformat_minor": 4, "metadata": {},
"cells": [{"cell_type": "markdown", "metadata": {}, "source": ""}]}"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"01-one\.ipynb cannot be read"),
        (NAMELESS, r"01-one\.ipynb has cells without id"),
        ("{}", r"01-one\.ipynb is not a notebook of format 4"),
        ('{"a": 1,\n<<<<<<< HEAD\n', r"01-one\.ipynb holds the marks of an unfinished merge"),
    ],
)
def test_an_unreadable_notebook_is_named(book: Path, text: str | None, message: str) -> None:
    path = book / "notebooks" / "01-one.ipynb"
    path.unlink() if text is None else path.write_text(text, "utf-8")
    with pytest.raises(BookError, match=message):
        stale(book)


def test_code_that_cannot_be_parsed_is_named(book: Path, pretend_run: Run) -> None:
    pretend_run()
    replace(book / "src" / "dipfilters" / "sums.py", "(n: int)", "(((")
    with pytest.raises(BookError, match=r"sums\.py, line 1"):
        stale(book)


def test_the_chapters_come_in_the_order_of_the_contents(book: Path) -> None:
    assert [path.stem for path in Book(book).chapters] == ["01-one", "02-two"]
    for wanted in ("02", "2", "02-two"):
        assert Book(book).chapter(wanted).stem == "02-two"
    with pytest.raises(BookError, match=r"CHAPTER=7: no such chapter; known are 01-one, 02-two"):
        Book(book).chapter("7")


def test_missing_settings_are_named(book: Path) -> None:
    (book / "_toc.yml").unlink()
    with pytest.raises(BookError, match=r"_toc\.yml cannot be read.*git checkout _toc\.yml"):
        stale(book)
