"""A small book in a folder of its own: a package of four modules, two notebooks, the settings."""

import os
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import notebooks, record
from tools.book import Book
from tools.record import PACKAGE

MODULES = {
    "__init__": 'from dipfilters.shapes import area\nfrom dipfilters.sums import total\n__version__ = "1"\n',
    "shapes": '"""Shapes."""\n\nimport math\n\n\ndef area(r: float) -> float:\n    """Of a disc."""\n'
    "    return math.pi * r**2  # not the rim\n\n\ndef rim(r):\n    return 2 * math.pi * r\n",
    "sums": "def total(n: int) -> float:\n    from dipfilters.shapes import area\n\n"
    "    return sum(area(k) for k in range(n))\n",
    "plots": "from dipfilters.sums import total\n",
    "alone": "ANSWER = 42\n",
}

COLAB = "https://colab.research.google.com/github/YOUR_NAME/dipfilters/blob/main/notebooks"
INSTALL = (
    "try:\n    import dipfilters\nexcept ImportError:\n"
    '    %pip install -q "dipfilters @ git+https://github.com/YOUR_NAME/dipfilters"'
)
PARAMETERS = 'profile = "full"\nsize = None\nseed = 0\nscale = 1.5'


def write_notebook(root: Path, name: str, cells: list[str]) -> Path:
    """A notebook of the book's kind, never run, whose computing cells are `cells`."""
    notebook = new_notebook(
        cells=[
            new_markdown_cell(f"# {name}\n\n[Colab]({COLAB}/{name}.ipynb)", id="title"),
            new_code_cell(INSTALL, id="install", metadata={"tags": ["install"]}),
            new_code_cell(PARAMETERS, id="parameters", metadata={"tags": ["parameters"]}),
            *(new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(cells)),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    path = root / "notebooks" / f"{name}.ipynb"
    notebooks.write(notebook, path)
    return path


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is that of _config.yml wherever the tests run; what a run sets is taken back."""
    for name in ("DIPFILTERS_REPOSITORY", "DIPFILTERS_BRANCH", "DIPFILTERS_SITE", "GITHUB_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("JUPYTER_PATH", "PYTHONPATH", "MPLBACKEND", "PYDEVD_DISABLE_FILE_VALIDATION"):
        monkeypatch.setenv(name, os.environ.get(name, ""))


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """The root of a small book; its path holds what a reader's may: spaces, umlauts, signs."""
    root = tmp_path / "Bücher & mehr, 'neu'"
    for name, text in MODULES.items():
        path = root / "src" / PACKAGE / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    write_notebook(root, "01-one", ["from dipfilters import area", "area(scale)"])
    write_notebook(root, "02-two", ["from dipfilters.sums import total\nprint(total(3))", "seed + 1"])
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: notebooks/01-one\nparts:\n  - caption: Part\n    chapters:\n"
        "      - file: notebooks/02-two\n      - file: book/status\n"
    )
    (root / "_config.yml").write_text(
        "title: A small book\nonly_build_toc_files: true\nexecute:\n  execute_notebooks: 'off'\n"
        "repository:\n  url: https://github.com/YOUR_NAME/dipfilters\n  branch: main\n"
    )
    (root / "CITATION.cff").write_text(
        "title: A small book\nversion: 1.2.0\ndate-released: 2026-11-23\n"
        "authors:\n  - name: Some Group\n  - family-names: Bell\n    given-names: Ada\n"
    )
    (root / "requirements.lock").write_text("torch==2.13.0\n")
    (root / "book").mkdir()
    (root / "tools").mkdir()
    return root


@pytest.fixture
def pretend_run(book: Path) -> Callable[[], None]:
    """Give every notebook the record and the counts of a run, without the seconds that one takes."""

    def pretend() -> None:
        now = Book(book)
        for path, notebook in now.notebooks.items():
            for number, cell in enumerate(notebooks.code_cells(notebook), 1):
                cell.execution_count = number
            facts = record.inputs(notebook, path.name, now.package)
            facts |= {"lock": now.lock_digest, "date": "2026-11-23T10:00:00+00:00", "seconds": 4.2}
            facts |= {"commit": "abc1234", "hardware": "Abacus, 2 cores", "python": "3.11.7"}
            facts |= {"versions": {"torch": "2.13.0"}}
            notebook.metadata[PACKAGE] = nbformat.from_dict({"run": facts})
            notebooks.write(notebook, path)

    return pretend
