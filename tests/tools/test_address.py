"""One address in _config.yml, and everything that follows from it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import address, fresh, notebooks, record
from tools.errors import AddressDiffers, BadSettings


def fork(root: Path, url: str, branch: str = "main") -> None:
    config = root / "_config.yml"
    lines = config.read_text("utf-8").splitlines()
    lines[-2:] = [f"  url: {url}", f"  branch: {branch}"]
    config.write_text("\n".join(lines) + "\n", "utf-8")


@pytest.fixture
def texts(book: Path) -> Path:
    """The small book with a README, a citation file and a page that name the repository, and others."""
    (book / "README.md").write_text(
        "[01](https://colab.research.google.com/github/YOUR_NAME/dipfilters/blob/main/notebooks/01-one.ipynb)\n"
        "git clone https://github.com/YOUR_NAME/dipfilters.git\n"
        "See https://github.com/YOUR_NAME/dipfilters. Beside it: https://github.com/YOUR_NAME/dipfilters-data,\n"
        "https://github.com/YOUR_NAME/dipfilters.js and https://github.com/google/neural-tangents/blob/main/a\n"
        "[tree](https://github.com/YOUR_NAME/dipfilters/tree/main/src)\n"
    )
    (book / "CITATION.cff").write_text("repository-code: https://github.com/YOUR_NAME/dipfilters\n")
    (book / "book" / "how-to-run.md").write_text("`git clone https://github.com/YOUR_NAME/dipfilters`\n")
    return book


def test_one_address_is_in_step(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address.main(["--root", str(texts)])
    assert capsys.readouterr().out == "all addresses are that of _config.yml\n"


def test_a_fork_is_told_every_place(texts: Path) -> None:
    fork(texts, "https://github.com/a-lice/prior.book", "trunk")
    with pytest.raises(AddressDiffers) as trouble:
        address.main(["--root", str(texts)])
    places = [line.partition(": ")[0] for line in str(trouble.value).splitlines()[:-1]]
    assert [place for place in places if "ipynb" not in place] == [
        "book/how-to-run.md:1",
        "README.md:1",
        "README.md:2",
        "README.md:3",
        "README.md:5",
        "CITATION.cff:1",
    ]
    assert sum("01-one.ipynb" in place for place in places) == 2, "the Colab link and the install cell"


def test_rewriting_there_and_back_changes_nothing_else(texts: Path, pretend_run: Callable[[], None]) -> None:
    pretend_run()
    before = {path: path.read_bytes() for path in address.files(texts)}
    fork(texts, "https://github.com/a-lice/prior.book", "trunk")
    address.main(["--write", "--root", str(texts)])
    address.main(["--root", str(texts)])

    readme = (texts / "README.md").read_text("utf-8")
    assert "/github/a-lice/prior.book/blob/trunk/notebooks/01-one.ipynb" in readme
    assert "git clone https://github.com/a-lice/prior.book.git\n" in readme
    assert "See https://github.com/a-lice/prior.book. Beside" in readme
    assert "/tree/trunk/src" in readme
    for other in (
        "YOUR_NAME/dipfilters-data,",
        "YOUR_NAME/dipfilters.js",
        "google/neural-tangents/blob/main/a",
    ):
        assert other in readme
    notebook = notebooks.read(notebooks.chapters(texts)[0])
    assert "git+https://github.com/a-lice/prior.book" in notebook.cells[1].source
    assert record.stored(notebook) is not None
    assert fresh.stale(texts) == {}, "another address makes no page stale"

    fork(texts, "https://github.com/YOUR_NAME/dipfilters")
    address.main(["--write", "--root", str(texts)])
    assert before == {path: path.read_bytes() for path in address.files(texts)}


def test_a_second_rewriting_finds_nothing(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fork(texts, "https://github.com/a-lice/prior.book")
    address.main(["--write", "--root", str(texts)])
    capsys.readouterr()
    address.main(["--write", "--root", str(texts)])
    assert capsys.readouterr().out == "0 lines rewritten\n"
    assert json.loads((texts / "notebooks" / "01-one.ipynb").read_text("utf-8"))


@pytest.mark.parametrize(
    ("url", "branch", "message"),
    [
        ("https://example.org/a/b", "main", r"repository\.url is https://example\.org/a/b; write https"),
        ("https://github.com/a/b.git", "main", r"repository\.url is"),
        ("https://github.com/a", "main", r"repository\.url is"),
        ("https://github.com/a/b", "my/branch", r"repository\.branch is my/branch; write"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(texts: Path, url: str, branch: str, message: str) -> None:
    fork(texts, url, branch)
    with pytest.raises(BadSettings, match=message):
        address.setting(texts)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ("YOUR_NAME/dipfilters", "main", "https://YOUR_NAME.github.io/dipfilters/")),
        ({"GITHUB_REPOSITORY": "a/b"}, ("a/b", "main", "https://a.github.io/b/")),
        (
            {"GITHUB_REPOSITORY": ""},
            ("YOUR_NAME/dipfilters", "main", "https://YOUR_NAME.github.io/dipfilters/"),
        ),
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
    assert address.published(texts, environment) == expected


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
    with pytest.raises(BadSettings, match=rf"{name}={value.strip()}"):
        address.published(texts, {name: value})


def test_the_site_s_address_follows_the_repository_s(texts: Path) -> None:
    readme = texts / "README.md"
    readme.write_text(
        readme.read_text("utf-8")
        + "Read it: https://YOUR_NAME.github.io/dipfilters/ or https://YOUR_NAME.github.io/dipfilters/book.pdf,\n"
        "not https://YOUR_NAME.github.io/dipfilters-data/ nor https://example.github.io/dipfilters/\n"
    )
    before = readme.read_text("utf-8")
    fork(texts, "https://github.com/a-lice/prior.book")
    address.main(["--write", "--root", str(texts)])
    assert readme.read_text("utf-8").endswith(
        "Read it: https://a-lice.github.io/prior.book/ or https://a-lice.github.io/prior.book/book.pdf,\n"
        "not https://YOUR_NAME.github.io/dipfilters-data/ nor https://example.github.io/dipfilters/\n"
    )
    fork(texts, "https://github.com/YOUR_NAME/dipfilters")
    address.main(["--write", "--root", str(texts)])
    assert readme.read_text("utf-8") == before


def test_the_book_itself_is_in_step() -> None:
    address.main([])
