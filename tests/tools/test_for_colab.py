"""The notebooks as Colab opens them, in whatever fork."""

import subprocess
from pathlib import Path

import nbformat
import pytest

from tools import for_colab, notebooks
from tools.book import Book
from tools.errors import BookError

CAPTION = "What is seen, in a sentence that is long enough."


@pytest.fixture
def drawn(book: Path) -> Path:
    """The small book, whose first chapter has a folded figure and folded code without one."""
    path = Book(book).chapters[0]
    notebook = notebooks.read(path)
    figure, plain = notebook.cells[-1], notebook.cells[-2]
    figure.metadata = nbformat.from_dict(
        {"tags": ["hide-input"], "mystnb": {"figure": {"caption": CAPTION, "name": "fig-a"}}}
    )
    plain.metadata = nbformat.from_dict({"tags": ["hide-input"]})
    notebook.metadata["accelerator"] = "GPU"
    notebooks.write(notebook, path)
    return book


def test_a_fork_s_notebooks_install_from_it_and_show_captions_and_folded_code(
    drawn: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in Book(drawn).chapters}
    monkeypatch.setenv("GITHUB_REPOSITORY", "a-lice/prior.book")
    for _ in range(2):
        for_colab.main(["--root", str(drawn)])
        assert capsys.readouterr().out == "2 notebooks in _build/for-colab, for a-lice/prior.book\n"
    folder = drawn / "_build" / "for-colab"
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    assert names == ["notebooks/01-one.ipynb", "notebooks/02-two.ipynb"]
    first, second = (notebooks.read(folder / name) for name in names)
    for notebook in (first, second):
        (install,) = (cell for cell in notebook.cells if "install" in notebooks.tags(cell))
        assert '"dipfilters @ git+https://github.com/a-lice/prior.book"' in install.source
        assert "YOUR_NAME" not in "".join(cell.source for cell in notebook.cells)
        nbformat.validate(notebook)
    *_, plain, figure, caption = first.cells
    assert plain.source == "# @title Code that the page folds\nfrom dipfilters import area"
    assert figure.source == "# @title Draw the figure below\narea(scale)"
    assert plain.metadata["cellView"] == figure.metadata["cellView"] == "form"
    assert (caption.cell_type, caption.source) == ("markdown", f"*{CAPTION}*")
    assert first.metadata["accelerator"] == "GPU"
    assert "accelerator" not in second.metadata
    assert "# @title" not in "".join(cell.source for cell in second.cells)
    assert {path: path.read_bytes() for path in Book(drawn).chapters} == before


def test_the_branch_holds_them_alone_and_each_push_replaces_the_one_before(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", "a-lice/prior.book")
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    for source in ("area(scale)", "2 * area(scale)"):
        path = Book(drawn).chapters[0]
        notebook = notebooks.read(path)
        notebook.cells[-1].source = source
        notebooks.write(notebook, path)
        for_colab.main(["--root", str(drawn), "--push", "--remote", str(bare)])

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=bare, capture_output=True, text=True, check=True).stdout

    assert git("branch", "--list", "--format=%(refname:short)") == "colab\n"
    assert git("ls-tree", "-r", "--name-only", "colab").split() == [
        "notebooks/01-one.ipynb",
        "notebooks/02-two.ipynb",
    ]
    assert "2 * area(scale)" in git("show", "colab:notebooks/01-one.ipynb")
    with pytest.raises(BookError, match=r"git push failed: .*the repository"):
        for_colab.push(drawn / "_build" / "for-colab", f"{tmp_path}/nowhere.git")


def test_nothing_is_written_that_would_install_from_nobody(book: Path) -> None:
    with pytest.raises(BookError, match=r"nobody has claimed YOUR_NAME/dipfilters, .*`make address"):
        for_colab.main(["--root", str(book)])
    assert not (book / "_build").exists()
