"""The built pages as files: parsed once, and the questions that several tests ask of them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"


class NoBook(Exception):
    """There are no built pages to test."""


@cache
def pages() -> tuple[Path, ...]:
    """Every page of the site, the generated ones (index, search) included."""
    found = tuple(sorted(path for path in SITE.rglob("*.html") if "_static" not in path.parts))
    if not found:
        raise NoBook(f"no pages in {SITE}; run `make book` first")
    return found


@cache
def written_pages() -> tuple[Path, ...]:
    """The pages that someone wrote: those with an article."""
    return tuple(page for page in pages() if article(page) is not None)


@cache
def soup(page: Path) -> BeautifulSoup:
    """The parsed page."""
    return BeautifulSoup(page.read_text("utf-8"), "html.parser")


@cache
def article(page: Path) -> Tag | None:
    """What stands between the navigation bars, or None on a generated page."""
    if page.name in ("404.html", "search.html", "genindex.html", "py-modindex.html"):
        return None
    return soup(page).select_one("article.bd-article")


def name(page: Path) -> str:
    """The page's path in the site, to name it by."""
    return page.relative_to(SITE).as_posix()


def file_of(page: Path, source: str) -> Path:
    """The file that a picture on ``page`` comes from."""
    return (page.parent / unquote(urlsplit(source).path)).resolve()


def prose(page: Path) -> str:
    """The article's words, without code, formulas and generated signatures."""
    copy = BeautifulSoup(str(article(page)), "html.parser")
    for tag in copy.select("pre, code, .math, script, style, dt.sig"):
        tag.decompose()
    return re.sub(r"\s+", " ", copy.get_text(" "))
