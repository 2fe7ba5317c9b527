"""One address in _config.yml, and all that follows from it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tools import address, record
from tools.book import Book
from tools.errors import BookError

OTHER = ("a-lice/prior.book", "--branch", "trunk", "--root")
OWN = ("YOUR_NAME/dipfilters", "--branch", "main", "--root")
FOREIGN = """
https://github.com/YOUR_NAME/dipfilters-data, https://github.com/YOUR_NAME/dipfilters.js
https://github.com/google/neural-tangents/blob/main/a
https://YOUR_NAME.github.io/dipfilters-data/ https://example.github.io/dipfilters/
"""


@pytest.fixture
def texts(book: Path) -> Path:
    """The small book with a README, a citation file and a page that name the repository, and others."""
    colab = "https://colab.research.google.com/github/YOUR_NAME/dipfilters/blob/main/notebooks/01-one.ipynb"
    (book / "README.md").write_text(
        f"[01]({colab})\n"
        "git clone https://github.com/YOUR_NAME/dipfilters.git\n"
        "See https://github.com/YOUR_NAME/dipfilters. [tree](https://github.com/YOUR_NAME/dipfilters/tree/main/src)\n"
        f"https://YOUR_NAME.github.io/dipfilters/ https://YOUR_NAME.github.io/dipfilters/book.pdf,{FOREIGN}"
    )
    (book / "CITATION.cff").write_text("repository-code: https://github.com/YOUR_NAME/dipfilters\n")
    (book / "book" / "how-to-run.md").write_text("`git clone https://github.com/YOUR_NAME/dipfilters`\n")
    return book


def test_rewriting_there_and_back_changes_nothing_else(
    texts: Path, pretend_run: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_run()
    before = {path: path.read_bytes() for path in address.files(texts)}
    address.main([*OTHER, str(texts)])
    assert capsys.readouterr().out == "6 files rewritten: YOUR_NAME/dipfilters → a-lice/prior.book\n"

    readme = (texts / "README.md").read_text("utf-8")
    assert "/github/a-lice/prior.book/blob/trunk/notebooks/01-one.ipynb" in readme
    assert "git clone https://github.com/a-lice/prior.book.git\n" in readme
    assert "See https://github.com/a-lice/prior.book. [tree](" in readme
    assert "/prior.book/tree/trunk/src" in readme
    assert "https://a-lice.github.io/prior.book/ https://a-lice.github.io/prior.book/book.pdf," in readme
    assert readme.endswith(FOREIGN)
    now = Book(texts)
    assert address.committed(now) == ("a-lice/prior.book", "trunk", "https://a-lice.github.io/prior.book/")
    notebook = next(iter(now.notebooks.values()))
    assert "git+https://github.com/a-lice/prior.book" in notebook.cells[1].source
    assert record.stored(notebook) is not None
    assert now.stale == {}, "another address makes no page stale"

    address.main([*OWN, str(texts)])
    assert before == {path: path.read_bytes() for path in address.files(texts)}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("https://github.com/YOUR_NAME/dipfilters", "https://example.org/a/b"),
        ("https://github.com/YOUR_NAME/dipfilters", "https://github.com/a/b.git"),
        ("https://github.com/YOUR_NAME/dipfilters", "https://github.com/a"),
        ("branch: main", "branch: my/branch"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(texts: Path, old: str, new: str) -> None:
    config = texts / "_config.yml"
    config.write_text(config.read_text("utf-8").replace(old, new), "utf-8")
    with pytest.raises(BookError, match=r"_config\.yml names the .*; write "):
        address.committed(Book(texts))


OWN_SITE = "https://YOUR_NAME.github.io/dipfilters/"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"GITHUB_REPOSITORY": ""}, ("YOUR_NAME/dipfilters", "main", OWN_SITE)),
        ({"GITHUB_REPOSITORY": "a/b"}, ("a/b", "main", "https://a.github.io/b/")),
        (
            {"GITHUB_REPOSITORY": "a/b", "DIPFILTERS_REPOSITORY": "c/d", "DIPFILTERS_BRANCH": "trunk"},
            ("c/d", "trunk", "https://c.github.io/d/"),
        ),
        ({"GITHUB_REPOSITORY": "a/A.github.io"}, ("a/A.github.io", "main", "https://a.github.io/")),
        (
            {"GITHUB_REPOSITORY": "a/b", "DIPFILTERS_SITE": "https://book.example.org"},
            ("a/b", "main", "https://book.example.org/"),
        ),
    ],
)
def test_the_environment_names_the_address_of_a_fork(
    texts: Path, environment: dict[str, str], expected: tuple[str, str, str]
) -> None:
    assert address.published(Book(texts), environment) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DIPFILTERS_REPOSITORY", "https://github.com/a/b"),
        ("GITHUB_REPOSITORY", "a/b\n"),
        ("DIPFILTERS_BRANCH", "my/branch"),
        ("DIPFILTERS_SITE", "book.example.org"),
    ],
)
def test_an_address_in_the_environment_that_cannot_be_used_is_refused(
    texts: Path, name: str, value: str
) -> None:
    with pytest.raises(BookError, match=rf"the environment names the \w+ '{value.strip()}"):
        address.published(Book(texts), {name: value})
