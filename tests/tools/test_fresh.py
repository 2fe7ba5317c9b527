"""What makes a notebook out of date, and how it is said."""

import json
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from tools import fresh, notebooks, record
from tools.errors import BadSettings, NotebookUnreadable, NotUpToDate, PictureMissing, UnknownChapter
from tools.sources import Package

Run = Callable[[], None]


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def stale(root: Path) -> dict[str, list[str]]:
    return {path.stem: reasons for path, reasons in fresh.stale(root).items()}


def test_a_notebook_never_run_is_refused(book: Path) -> None:
    with pytest.raises(NotUpToDate, match=r"01-one\.ipynb: it was never run.*\n02-two"):
        fresh.check(book)


def test_after_a_run_nothing_is_stale(
    book: Path, pretend_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_run()
    fresh.main(["--root", str(book)])
    assert capsys.readouterr().out == "2 notebooks are up to date\n"


@pytest.mark.parametrize(
    ("module", "old", "new", "expected"),
    [
        ("shapes", "r**2", "r**3", {"01-one", "02-two"}),
        ("sums", "range(n)", "range(n + 1)", {"02-two"}),
        ("alone", "42", "43", set()),
        ("plots", "total", "total as t", set()),
        ("__init__", '"1"', '"2"', set()),
        ("shapes", "Of a disc.", "Of a round disc.", set()),
        ("shapes", "# not the rim", "# nor the rim", set()),
        ("shapes", "r: float", "r: int", set()),
    ],
)
def test_a_changed_module_names_the_notebooks_that_use_it(
    book: Path, pretend_run: Run, module: str, old: str, new: str, expected: set[str]
) -> None:
    pretend_run()
    replace(book / "src" / "dipfilters" / f"{module}.py", old, new)
    found = stale(book)
    assert found == {name: [f"module dipfilters.{module} changed"] for name in expected}


def test_a_module_used_no_longer_is_named(book: Path, pretend_run: Run) -> None:
    pretend_run()
    replace(
        book / "src" / "dipfilters" / "sums.py",
        "    from dipfilters.shapes import area\n",
        "    area = abs\n",
    )
    assert stale(book) == {
        "02-two": ["module dipfilters.shapes is no longer used", "module dipfilters.sums changed"]
    }


def test_a_changed_cell_is_named(book: Path, pretend_run: Run) -> None:
    pretend_run()
    replace(book / "notebooks" / "01-one.ipynb", "area(scale)", "area(2 * scale)")
    assert stale(book) == {"01-one": ["code cell 4 (`area(2 * scale)`) is new or changed"]}


def test_cells_that_changed_places_or_went_are_named(book: Path, pretend_run: Run) -> None:
    pretend_run()
    path = book / "notebooks" / "02-two.ipynb"
    notebook = notebooks.read(path)
    notebook.cells[-2:] = reversed(notebook.cells[-2:])
    notebooks.write(notebook, path)
    assert "code cells changed places" in stale(book)["02-two"]
    del notebook.cells[-1]
    notebooks.write(notebook, path)
    assert "code cells were removed" in stale(book)["02-two"]


def test_text_and_the_install_cell_may_change(book: Path, pretend_run: Run) -> None:
    pretend_run()
    replace(book / "notebooks" / "01-one.ipynb", "# 01-one", "# The first chapter")
    replace(book / "notebooks" / "01-one.ipynb", "%pip install -q", "%pip install")
    assert stale(book) == {}


def test_a_changed_parameter_is_named_with_both_values(book: Path, pretend_run: Run) -> None:
    pretend_run()
    replace(book / "notebooks" / "01-one.ipynb", "seed = 0", "seed = 1")
    assert stale(book) == {"01-one": ["parameter seed changed: 0 → 1"]}


def test_a_changed_picture_is_named(book: Path, pretend_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = book / "my.png"
    picture.write_bytes(b"one")
    monkeypatch.setattr("dipfilters.images.picture_path", lambda name: book / f"{name}.png")
    replace(book / "notebooks" / "01-one.ipynb", "size = None", "image = 'my'")
    pretend_run()
    assert stale(book) == {}
    picture.write_bytes(b"two")
    assert stale(book) == {"01-one": ["the picture my changed"]}


def test_a_changed_data_file_names_the_notebook_that_reads_it(book: Path, pretend_run: Run) -> None:
    folder = book / "src" / "dipfilters" / "data"
    folder.mkdir()
    for name in ("denoisers", "other"):
        (folder / f"{name}.json").write_text("{}")
    reads = "name = 'denoisers'\nopen(f'../src/dipfilters/data/{name}.json').read()"
    path = book / "notebooks" / "02-two.ipynb"
    notebook = notebooks.read(path)
    notebook.cells[-1].source = reads
    notebooks.write(notebook, path)
    pretend_run()
    assert stale(book) == {}
    (folder / "other.json").write_text("[]")
    assert stale(book) == {}
    (folder / "denoisers.json").write_text("[]")
    assert stale(book) == {"02-two": ["data file denoisers changed"]}
    notebook = notebooks.read(path)
    del notebook.metadata["dipfilters"]["run"]["data"]
    notebooks.write(notebook, path)
    assert stale(book) == {}, "a run that says nothing of data files was of before they were recorded"


def test_a_picture_that_is_missing_is_named(book: Path) -> None:
    replace(book / "notebooks" / "01-one.ipynb", "size = None", "image = 'unheard of'")
    notebook = notebooks.read(book / "notebooks" / "01-one.ipynb")
    with pytest.raises(PictureMissing, match=r"no picture 'unheard of': give the path of a file, or one of"):
        record.inputs(notebook, "01-one.ipynb", Package(book))


def test_a_changed_lock_is_not_refused(book: Path, pretend_run: Run) -> None:
    pretend_run()
    (book / "requirements.lock").write_text("torch==2.14.0\n")
    assert stale(book) == {}


def test_cleared_outputs_are_refused(book: Path, pretend_run: Run) -> None:
    pretend_run()
    path = book / "notebooks" / "01-one.ipynb"
    notebook = notebooks.read(path)
    notebook.cells[-1].execution_count = None
    notebooks.write(notebook, path)
    assert "execution counts" in stale(book)["01-one"][0]


def test_an_error_in_the_outputs_is_refused(book: Path, pretend_run: Run) -> None:
    pretend_run()
    path = book / "notebooks" / "01-one.ipynb"
    notebook = notebooks.read(path)
    notebook.cells[-1].outputs = [
        nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    ]
    notebooks.write(notebook, path)
    assert stale(book) == {"01-one": ["cell 4 ends in an error: ValueError: no"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"01-one\.ipynb cannot be read"),
        ("no json", r"01-one\.ipynb is no JSON|01-one\.ipynb is no notebook"),
        ("[]", r"01-one\.ipynb is no notebook of format 4"),
        ("{}", r"01-one\.ipynb is no notebook of format 4"),
        ('{"a": 1,\n<<<<<<< HEAD\n', r"01-one\.ipynb holds the marks of an unfinished merge"),
    ],
)
def test_an_unreadable_notebook_is_named(book: Path, text: str | None, message: str) -> None:
    path = book / "notebooks" / "01-one.ipynb"
    path.unlink() if text is None else path.write_text(text, "utf-8")
    with pytest.raises(NotebookUnreadable, match=message):
        fresh.stale(book)


def test_a_notebook_without_cell_ids_is_refused(book: Path) -> None:
    path = book / "notebooks" / "01-one.ipynb"
    notebook = json.loads(path.read_text("utf-8"))
    notebook["nbformat_minor"] = 4
    for cell in notebook["cells"]:
        del cell["id"]
    path.write_text(json.dumps(notebook), "utf-8")
    with pytest.raises(NotebookUnreadable, match="cells without id"):
        notebooks.read(path)


def test_a_parameters_cell_that_computes_is_refused(book: Path) -> None:
    replace(book / "notebooks" / "01-one.ipynb", "seed = 0", "seed = len('a')")
    path = book / "notebooks" / "01-one.ipynb"
    with pytest.raises(NotebookUnreadable, match=r"01-one\.ipynb: the parameters cell may only set names"):
        notebooks.parameters(notebooks.read(path), path.name)


def test_the_chapters_come_in_the_order_of_the_contents(book: Path) -> None:
    assert [path.stem for path in notebooks.chapters(book)] == ["01-one", "02-two"]
    for wanted in ("02", "2", "02-two"):
        assert notebooks.chapter(book, wanted).stem == "02-two"
    with pytest.raises(UnknownChapter, match=r"CHAPTER=7: no such chapter; known are 01-one, 02-two"):
        notebooks.chapter(book, "7")


def test_missing_settings_are_named(book: Path) -> None:
    (book / "_toc.yml").unlink()
    with pytest.raises(BadSettings, match=r"_toc\.yml cannot be read"):
        fresh.stale(book)


def test_a_written_notebook_is_a_readable_diff(book: Path) -> None:
    text = (book / "notebooks" / "02-two.ipynb").read_text("utf-8")
    cell = json.loads(text)["cells"][3]
    assert cell["source"] == ["from dipfilters.sums import total\n", "print(total(3))"]
    assert not list((book / "notebooks").glob(".*")), "nothing is left beside it"


def test_the_commit_says_whether_what_runs_was_changed(book: Path) -> None:
    path = notebooks.chapters(book)[0]
    assert record.commit(book, path) == "unknown", "no repository, no commit"
