"""The built pages as files: parsed once, and the questions that several tests ask of them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

from tools.address import published

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
    if page.name in ("search.html", "genindex.html", "py-modindex.html"):
        return None
    return soup(page).select_one("article.bd-article")


def name(page: Path) -> str:
    """The page's path in the site, to name it by."""
    return page.relative_to(SITE).as_posix()


@cache
def anchors(page: Path) -> frozenset[str]:
    """Every place of the page that a link can lead to."""
    return frozenset(str(tag[key]) for key in ("id", "name") for tag in soup(page).select(f"[{key}]"))


def is_outside(address: str) -> bool:
    """Whether the address leads away from the site: another scheme than a file's own, or another host."""
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme not in ("", "data")


def target(page: Path, address: str) -> tuple[Path, str]:
    """The file that a local address on ``page`` leads to, and the anchor in it."""
    parts = urlsplit(address)
    if parts.path.startswith("/"):  # from the site's root: 404.html, shown under any address
        path = SITE / unquote(parts.path).removeprefix(published(ROOT).folder)
    else:
        path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    return (path / "index.html" if path.is_dir() else path), unquote(parts.fragment)


def prose(page: Path) -> str:
    """The article's words, without code, formulas and generated signatures."""
    copy = BeautifulSoup(str(article(page)), "html.parser")
    for tag in copy.select("pre, code, .math, script, style, dt.sig"):
        tag.decompose()
    return re.sub(r"\s+", " ", copy.get_text(" "))
