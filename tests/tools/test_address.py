"""One address in _config.yml, and all that follows from it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tools import address, record
from tools.book import Book
from tools.errors import BookError

FOREIGN = """
https://github.com/YOUR_NAME/dipfilters-data, https://github.com/YOUR_NAME/dipfilters.js
https://github.com/google/neural-tangents/blob/main/a
https://YOUR_NAME.github.io/dipfilters-data/ https://example.github.io/dipfilters/
"""


def readme(repository: str, branch: str, site: str) -> str:
    """A text that names the book's repository and site, and others."""
    return (
        f"[01](https://colab.research.google.com/github/{repository}/blob/{branch}/notebooks/01-one.ipynb)\n"
        f"git clone https://github.com/{repository}.git\n"
        f"See https://github.com/{repository}. [tree](https://github.com/{repository}/tree/{branch}/src)\n"
        f"{site} {site}book.pdf,{FOREIGN}"
    )


def test_rewriting_there_and_back_changes_nothing_else(
    book: Path, pretend_run: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    own = address.committed(Book(book))
    for name in ("README.md", "book/how-to-run.md"):
        (book / name).write_text(readme(*own))
    pretend_run()
    before = {path: path.read_bytes() for path in address.files(book)}
    address.main(["a-lice/prior.book", "--branch", "trunk", "--root", str(book)])
    assert capsys.readouterr().out == "5 files rewritten: YOUR_NAME/dipfilters → a-lice/prior.book\n"
    now = Book(book)
    other = address.committed(now)
    assert other == ("a-lice/prior.book", "trunk", "https://a-lice.github.io/prior.book/")
    assert (book / "README.md").read_text("utf-8") == readme(*other)
    notebook = next(iter(now.notebooks.values()))
    assert "git+https://github.com/a-lice/prior.book" in notebook.cells[1].source
    assert record.stored(notebook) is not None
    assert now.stale == {}, "another address makes no page stale"

    address.main(["YOUR_NAME/dipfilters", "--branch", "main", "--root", str(book)])
    assert before == {path: path.read_bytes() for path in address.files(book)}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (
            {"GITHUB_REPOSITORY": ""},
            ("YOUR_NAME/dipfilters", "main", "https://YOUR_NAME.github.io/dipfilters/"),
        ),
        (
            {"GITHUB_REPOSITORY": "a/b", "DIPFILTERS_REPOSITORY": "c/d", "DIPFILTERS_BRANCH": "trunk"},
            ("c/d", "trunk", "https://c.github.io/d/"),
        ),
        ({"GITHUB_REPOSITORY": "a/A.github.io"}, ("a/A.github.io", "main", "https://a.github.io/")),
        ({"DIPFILTERS_SITE": "https://a.org"}, ("YOUR_NAME/dipfilters", "main", "https://a.org/")),
    ],
)
def test_the_environment_names_the_address_of_a_fork(
    book: Path, environment: dict[str, str], expected: tuple[str, str, str]
) -> None:
    assert address.published(Book(book), environment) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DIPFILTERS_REPOSITORY", "a/b.git"),
        ("GITHUB_REPOSITORY", "a/b\n"),
        ("DIPFILTERS_BRANCH", "my/branch"),
        ("DIPFILTERS_SITE", "book.example.org"),
    ],
)
def test_an_address_in_the_environment_that_cannot_be_used_is_refused(
    book: Path, name: str, value: str
) -> None:
    with pytest.raises(BookError, match=rf"the environment names the \w+ '{value.strip()}"):
        address.published(Book(book), {name: value})
