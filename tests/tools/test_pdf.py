"""The book on paper: assembled from the pages without loss, and printed with formulas, figures and links."""

import copy
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from pypdf import PdfReader
from pypdf.generic import Destination

from tests import site_html
from tests.site_html import ROOT
from tools import pdf
from tools.book import Book
from tools.errors import BookError

PAGE = """<html><head><link rel="stylesheet" href="../_static/a.css" />
<script>window.MathJax = {{"options": {{}}}}</script><script src="../mathjax-3/tex.js"></script></head>
<body><article class="bd-article"><section id="one"><h1>{title}<a class="headerlink" href="#one">#</a></h1>
<section id="two"><h2>Second</h2>{body}</section></section></article></body></html>"""

BODY = """<p><a href="#two">here</a> <a href="02-two.html">there</a> <a href="02-two.html#two">in there</a>
<a href="../genindex.html">index</a> <a href="https://example.org/">out</a>
<a href="../_sources/notebooks/01-one.ipynb">file</a></p>
<img src="../_images/a.webp" alt="four words of text" loading="lazy" />
<details><summary>Hint</summary>x</details>
<div class="cell"><figure><img src="../_images/still.webp" alt="a still picture, in words" /></figure></div>
<div class="cell"><script type="application/vnd.jupyter.widget-view+json">{{}}</script></div>
<details class="book-cite">cite</details>"""


def test_articles_are_made_good_for_the_one_page(book: Path) -> None:
    with pytest.raises(BookError, match="`make pdf` builds it first"):
        pdf.main(["--root", str(book)])
    for page in Book(book).pages:
        path = book / "_build" / "html" / f"{page}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PAGE.format(title=page, body=BODY if page.endswith("01-one") else "words"), "utf-8")
    whole = BeautifulSoup(pdf.Assembly(book).whole(), "html.parser")
    assert [tag["id"] for tag in whole.select("article")] == ["01-one", "02-two", "status"]
    entries = [str(link["href"]) for link in whole.select(".book-contents a")]
    assert entries == ["#01-one", "#01-one--two", "#02-two", "#02-two--two", "#status"]
    assert "Some Group, Bell, Ada" in whole.get_text()
    assert "Version 1.2.0, 2026-11-23" in whole.get_text()
    ids = [str(tag["id"]) for tag in whole.find_all(id=True)]
    assert len(set(ids)) == len(ids)

    first = whole.select_one("article")
    assert first is not None
    site = "https://YOUR_NAME.github.io/dipfilters"
    assert {link.get_text(): link["href"] for link in first.find_all("a")} == {
        "here": "#01-one--two",
        "there": "#02-two",
        "in there": "#02-two--two",
        "index": f"{site}/genindex.html",
        "out": "https://example.org/",
        "file": f"{site}/_sources/notebooks/01-one.ipynb",
    }
    sources = [str(image["src"]) for image in first.find_all("img")]
    assert sources == ["../html/_images/a.webp", "../html/_images/still.webp"]
    assert not first.select("[loading], script, .book-cite")
    assert len(first.select("details[open]")) == 1


# ---------------------------------------------------------------------------------------- the real book


def in_print(test: Any) -> Any:
    """Mark what takes a minute, and a browser."""
    return pytest.mark.long(pytest.mark.browser(test))


@pytest.fixture(scope="module")
def printed() -> PdfReader:
    """The whole book, printed anew."""
    logging.getLogger("pypdf").setLevel(logging.ERROR)
    return PdfReader(pdf.write(ROOT))


@pytest.fixture(scope="module")
def texts(printed: PdfReader) -> list[str]:
    return [page.extract_text() for page in printed.pages]


def heading(page: str) -> str:
    """The title of a page, with its number."""
    title = copy.copy(site_html.soup(site_html.SITE / f"{page}.html").select_one("article h1"))
    assert title is not None
    for link in title.select(".headerlink"):
        link.decompose()
    return " ".join(title.get_text().split())


LETTERS = str.maketrans({"ﬁ": "fi", "ﬂ": "fl", "ﬀ": "ff", "ʼ": "’"})


def squeezed(text: str) -> str:
    """Without spaces and hyphens, and with plain letters: what a line's end or a font cannot change."""
    return re.sub(r"[\s‐-]+", "", text.translate(LETTERS))


@in_print
def test_it_is_a_book_of_a_plausible_size(printed: PdfReader) -> None:
    assert (ROOT / "_build" / "book.pdf").stat().st_size < 40e6
    widths = {round(float(page.mediabox.width)) for page in printed.pages}
    assert widths == {595}, "A4"
    catalogue: Any = printed.root_object
    assert catalogue["/Lang"] == "en"
    assert catalogue["/MarkInfo"]["/Marked"], "tagged, for screen readers"


@in_print
def test_the_bookmarks_lead_to_every_page_of_the_book(printed: PdfReader) -> None:
    top = [item for item in printed.outline if isinstance(item, Destination)]
    titles = [" ".join(str(item.title).split()) for item in top]
    expected = [heading(page) for page in Book(ROOT).pages]
    assert titles == ["The Filter Inside the Network", "Contents", *expected]
    numbers = [printed.get_destination_page_number(item) or 0 for item in top]
    assert numbers == sorted(set(numbers)), "each begins on a page of its own"


@in_print
def test_every_link_within_leads_to_a_page(printed: PdfReader) -> None:
    places = printed.named_destinations
    addresses = []
    for page in printed.pages:
        for annotation in page.get("/Annots", []):
            link: Any = annotation.get_object()
            if "/Dest" in link:
                name = str(link["/Dest"]).lstrip("/")
                place = places.get(name) or places.get(f"/{name}")
                assert place is not None, f"{name} is nowhere"
                assert printed.get_destination_page_number(place) is not None
            elif link["/Subtype"] == "/Link":
                addresses.append(str(link["/A"]["/URI"]))
    assert len(addresses) > 50
    assert not [address for address in addresses if not address.startswith("http")]


@in_print
def test_the_table_of_contents_tells_the_pages(printed: PdfReader, texts: list[str]) -> None:
    begin = {
        " ".join(str(item.title).split()): (printed.get_destination_page_number(item) or 0) + 1
        for item in printed.outline
        if isinstance(item, Destination)
    }
    chapters = [heading(page) for page in Book(ROOT).pages if page.startswith("notebooks/")]
    contents = squeezed("".join(texts[1 : begin[chapters[0]] - 1]))
    for title in chapters:
        assert squeezed(f"{title} {begin[title]}") in contents, title
    for number, text in enumerate(texts[5:], start=6):
        assert str(number) in text.splitlines(), f"page {number} does not say its number"


@in_print
def test_the_words_of_every_page_are_there(texts: list[str]) -> None:
    all_of_it = squeezed("".join(texts))
    for page in Book(ROOT).pages:
        # A page may end within the words, and signs like ½ come out of a PDF as several: a few are lost.
        words = [
            squeezed(tag.get_text()).rstrip("#")
            for tag in site_html.soup(site_html.SITE / f"{page}.html").select("article p")
            if not tag.find_parent("details") and not tag.select(".math, code") and len(tag.get_text()) > 60
        ]
        missing = [text for text in words if text[:40] not in all_of_it and text[-40:] not in all_of_it]
        assert words, page
        assert len(missing) <= max(1, len(words) // 25), (page, missing)


@in_print
def test_no_formula_is_left_as_source(texts: list[str]) -> None:
    raw = re.compile(r"\\\(|\\\[|\$\$|\\(?:frac|lVert|sigma|mathbb|operatorname|top|Theta)\b")
    left = [
        f"page {number}: {match[0]}" for number, text in enumerate(texts, 1) for match in raw.finditer(text)
    ]
    assert not left
    assert sum(text.count("𝜎") + text.count("σ") for text in texts) > 20, "typeset, as letters"


@in_print
def test_every_figure_is_embedded(printed: PdfReader) -> None:
    figures = sum(
        len(site_html.soup(page).select("article .cell_output img")) for page in site_html.written_pages()
    )
    big = 0
    for page in printed.pages:
        resources = page["/Resources"]
        for thing in resources.get("/XObject", {}).values():  # type: ignore[attr-defined]
            thing = thing.get_object()
            big += thing.get("/Subtype") == "/Image" and int(thing["/Width"]) > 300
    assert big >= figures > 30
