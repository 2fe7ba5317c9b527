"""Links within a site must hold; those to elsewhere are tried, told, and never the reason to fail."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import site_browser
from tools import build, linkcheck
from tools.errors import BookError


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Three pages that link to one another."""
    folder = tmp_path / "html"
    (folder / "book").mkdir(parents=True)
    (folder / "index.html").write_text(
        '<a href="book/a.html#there">a</a> <a href="#">top</a> <a href="book/">b</a>'
    )
    (folder / "book" / "a.html").write_text(
        '<p id="there"><a href="../index.html">up</a><a href="https://example.org/x">out</a>'
        '<a href="mailto:a@example.org">mail</a><a href="%C3%BC.html">u</a></p>'
    )
    (folder / "book" / "index.html").write_text('<a name="old" href="a.html">a</a><a href="#old">here</a>')
    (folder / "book" / "ü.html").write_text('<a href="/name/book/a.html#there">from the root</a>')
    return folder


@pytest.mark.parametrize(
    ("link", "what"),
    [
        ("missing.html", "no such page"),
        ("a.html#nowhere", "no such anchor"),
        ("#nowhere", "no such anchor"),
        ("../../outside.html", "no such page"),
        ("/another/book/a.html", "no such page"),
    ],
)
def test_each_kind_of_broken_link_is_found(site: Path, link: str, what: str) -> None:
    assert list(linkcheck.inside(site, "/name/")) == []
    (site.parent / "outside.html").write_text("beside the site")
    (site / "book" / "b.html").write_text(f'<a href="{link}">x</a>')
    assert list(linkcheck.inside(site, "/name/")) == [f"book/b.html -> {link}: {what}"]


def test_what_does_not_answer_elsewhere_is_told_and_does_not_fail(
    book: Path,
    pretend_run: Callable[[], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setattr(linkcheck, "SECONDS", 2)
    pretend_run()
    (tmp_path / "there").mkdir()
    toc = book / "_toc.yml"
    toc.write_text(toc.read_text("utf-8") + "      - file: book/page\n", "utf-8")
    with site_browser.serve(tmp_path / "there") as elsewhere:
        (book / "book" / "page.md").write_text(f"# A\n\n[good]({elsewhere}/), [gone]({elsewhere}/gone)\n")
        build.main(["--root", str(book)])
        linkcheck.main(["--root", str(book)])
    said = capsys.readouterr().out
    assert f"warning: {elsewhere}/gone did not answer; it stands in book/page.md:3: 404" in said
    assert f"{elsewhere}/ did" not in said

    page = book / "_build" / "html" / "book" / "page.html"
    page.write_text(page.read_text("utf-8").replace("</article>", '<a href="lost.html">x</a></article>'))
    linkcheck._page.cache_clear()
    with pytest.raises(BookError, match=r"book/page\.html -> lost\.html: no such page\ncorrect"):
        linkcheck.main(["--root", str(book)])
