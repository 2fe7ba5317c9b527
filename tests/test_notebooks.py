"""What every notebook of the book keeps to, as committed."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode

from tools import address, notebooks, readme
from tools.book import Book
from tools.notebooks import ROOT

CHAPTERS = Book().chapters
NUMBERED = [path for path in CHAPTERS if re.match(r"0[1-9]", path.stem)]
PARAMETERS = {"profile": "full", "image": "camera", "size": None, "seed": 0, "device": "auto"}
# These train for long enough for a graphics card to help; Colab asks for one where a notebook says so.
TRAINING = {"06-sgd-versus-adam", "07-adam-without-learning", "08-deep-image-prior"}
CELL_TAGS = {"install", "parameters", "progress", "nbval-check-output", "readme", "hide-input", "slide"}
MYST = {
    "a fenced directive": r"^\s*(```|~~~|:::+)\s*\{",
    "a role": r"\{[a-z:]+\}`",
    "a target": r"^\([\w-]+\)=\s*$",
    "a substitution": r"\{\{.*\}\}",
    "a wiki link": r"\[\[.+\]\]",
}


def ids(path: Path) -> str:
    return path.stem


@pytest.fixture(params=CHAPTERS, ids=ids)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


@pytest.fixture
def notebook(path: Path) -> NotebookNode:
    return notebooks.read(path)


def tagged(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if tag in notebooks.tags(cell)]


def markdown(notebook: NotebookNode) -> str:
    """All the text, code blocks and code spans taken out."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.sub(
        r"`[^`\n]+`", "", re.sub(r"^(```|~~~)[\w ]*\n.*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    )


def test_it_begins_with_a_title_and_links_to_no_address_that_may_be_nobody_s(notebook: NotebookNode) -> None:
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# \S.*\n\n\S", first.source)
    owner = address.committed(Book()).repository.split("/")[0]
    assert owner not in "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_it_has_one_guarded_install_cell(notebook: NotebookNode) -> None:
    repository, *_ = address.committed(Book())
    (cell,) = tagged(notebook, "install")
    assert notebooks.code_cells(notebook)[0] is cell
    assert re.search(
        r"^try:\n    import dipfilters\nexcept ImportError:\n    %pip install -q ", cell.source, re.M
    )
    assert f'"dipfilters @ git+https://github.com/{repository}"' in cell.source
    assert not re.search("(torch|numpy)=", cell.source)


def test_it_has_one_parameters_cell_with_the_published_values(path: Path, notebook: NotebookNode) -> None:
    assert len(tagged(notebook, "parameters")) == 1
    assert not tagged(notebook, "injected-parameters")
    assert notebooks.parameters(notebook, path.name) == PARAMETERS


def test_its_metadata_are_those_that_colab_and_the_tools_need(path: Path, notebook: NotebookNode) -> None:
    metadata = notebook.metadata
    helped = path.stem in TRAINING
    assert metadata.get("accelerator") == ("GPU" if helped else None)
    assert metadata.colab == ({"gpuType": "T4"} if helped else {}) | {"provenance": []}
    assert metadata.kernelspec.name == "python3"
    assert "papermill" not in metadata
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags", "mystnb"}, cell.source
        assert set(notebooks.tags(cell)) <= CELL_TAGS, cell.source
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def test_every_figure_is_described_and_explained(notebook: NotebookNode) -> None:
    names = []
    for cell in notebooks.code_cells(notebook):
        pictures = [o for o in cell.outputs if any(kind.startswith("image/") for kind in o.get("data", {}))]
        assert len(pictures) <= 1, f"two pictures share one description: {notebooks.first_line(cell)}"
        mystnb: dict[str, Any] = cell.metadata.get("mystnb", {})
        assert bool(pictures) == bool(mystnb), notebooks.first_line(cell)
        if not pictures:
            continue
        names.append(mystnb["figure"]["name"])
        assert names[-1].startswith("fig-")
        for text in (mystnb["image"]["alt"], mystnb["figure"]["caption"]):
            assert len(text) >= 40, text
            assert text[0].isupper(), text
            assert not re.search(r"\.(png|svg|jpe?g)\b", text), text
        assert mystnb["image"]["alt"] != mystnb["figure"]["caption"], "the description tells what is seen"
    assert names, "a chapter without a figure"
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", MYST)
def test_its_text_is_plain_markdown(notebook: NotebookNode, kind: str) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            plain = re.sub(r"\$\$.+?\$\$|\$[^$]+\$", "", cell.source, flags=re.DOTALL)
            assert not re.search(MYST[kind], plain, re.MULTILINE), (
                f"{kind} shows raw on Colab: {cell.source[:80]}"
            )


def test_nothing_is_imported_in_vain(notebook: NotebookNode) -> None:
    code = "\n".join(cell.source for cell in notebooks.computing_cells(notebook))
    tree = ast.parse(re.sub(r"^\s*[%!].*$", "", code, flags=re.MULTILINE))
    imported = {
        (alias.asname or alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert imported <= used


@pytest.mark.parametrize("path", NUMBERED, ids=ids)
def test_a_chapter_ends_in_exercises_with_folded_hints(path: Path) -> None:
    text = markdown(notebooks.read(path))
    exercises = re.split(r"^#+ Exercises.*$", text, flags=re.MULTILINE)[-1]
    assert exercises != text, "no heading Exercises"
    hints = re.findall(r"<details>\s*<summary>.*?</summary>.+?</details>", exercises, re.DOTALL)
    assert len(hints) >= 5
    assert all("hint" in hint.partition("</summary>")[0].lower() for hint in hints)
    assert not re.search(r"<summary>[^<]*(solution|answer)", text, re.IGNORECASE)
    assert not re.search(r"^#+ .*(solution|answer)", text, re.IGNORECASE | re.MULTILINE)


def test_the_chapters_are_those_of_the_folder() -> None:
    assert sorted(path.name for path in CHAPTERS) == sorted(
        p.name for p in (ROOT / "notebooks").glob("*.ipynb")
    )
    assert len(NUMBERED) >= 3


def test_the_readme_shows_the_figure_of_its_notebook() -> None:
    shown = [picture for path in CHAPTERS if (picture := readme.picture(notebooks.read(path)))]
    assert [(ROOT / readme.PICTURE).read_bytes()] == shown
