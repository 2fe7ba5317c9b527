"""The book on paper: assembled from the pages without loss, and printed with formulas, figures and links."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_notebook, new_output
from pypdf import PdfReader
from pypdf.generic import Destination

from tests import site_html
from tests.site_html import ROOT
from tools import notebooks, pdf
from tools.errors import BuildFailed

DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

PAGE = """<html><head><link rel="stylesheet" href="../_static/a.css" />
<script>window.MathJax = {{"options": {{}}}}</script><script src="../mathjax-3/tex.js"></script></head>
<body><article class="bd-article"><section id="one"><h1>{title}<a class="headerlink" href="#one">#</a></h1>
<section id="two"><h2>Second</h2>{body}</section></section></article></body></html>"""

BODY = """<p><a href="#two">here</a> <a href="02-two.html">there</a> <a href="02-two.html#two">in there</a>
<a href="../genindex.html">index</a> <a href="https://example.org/">out</a>
<a href="../_sources/notebooks/01-one.ipynb">file</a></p>
<img src="../_images/a.webp" alt="four words of text" loading="lazy" />
<details><summary>Hint</summary>x</details>
<div class="cell_output">{view}</div><details class="book-cite">cite</details>"""


@pytest.fixture
def built(book: Path) -> Path:
    """The small book with pages as a build leaves them; the first has an interactive figure."""
    view = {"model_id": "abc", "version_major": 2, "version_minor": 0}
    script = f'<script type="{pdf.WIDGET}">{json.dumps(view)}</script>'
    site = book / "_build" / "html"
    for page in notebooks.pages(book):
        (site / page).parent.mkdir(parents=True, exist_ok=True)
        body = BODY.format(view=script) if page.endswith("01-one") else "<p>words</p>"
        (site / f"{page}.html").write_text(PAGE.format(title=page, body=body), "utf-8")
    output = new_output("display_data", data={pdf.WIDGET: view, "image/png": DOT})
    cell = new_code_cell("show()", id="show", outputs=[output])
    notebooks.write(new_notebook(cells=[cell]), book / "notebooks" / "01-one.ipynb")
    return book


@pytest.fixture
def first(built: Path) -> BeautifulSoup:
    return BeautifulSoup(str(pdf.Assembly(built).article("notebooks/01-one")), "html.parser")


def test_links_between_pages_become_links_within(first: BeautifulSoup) -> None:
    links = {link.get_text(): link["href"] for link in first.find_all("a")}
    site = "https://YOUR_NAME.github.io/dipfilters"
    assert links == {
        "here": "#01-one--two",
        "there": "#02-two",
        "in there": "#02-two--two",
        "index": f"{site}/genindex.html",
        "out": "https://example.org/",
        "file": f"{site}/_sources/notebooks/01-one.ipynb",
    }
    assert first.article is not None
    assert first.article["id"] == "01-one"
    assert first.find(id="01-one--two") is not None


def test_figures_are_whole_hints_open_and_an_interactive_one_is_still(first: BeautifulSoup) -> None:
    figure, still = first.find_all("img")
    assert figure["src"] == "../html/_images/a.webp"
    assert "loading" not in figure.attrs
    assert still["src"] == f"data:image/png;base64,{DOT}"
    (hint,) = first.find_all("details")
    assert "open" in hint.attrs
    assert first.find("script") is None
    assert "cite" not in first.get_text()


def test_a_still_picture_that_the_build_put_on_the_page_stays_alone(built: Path) -> None:
    page = built / "_build" / "html" / "notebooks" / "01-one.html"
    image = '<img src="../_images/still.webp" alt="a still picture, in words" />'
    still = f'<div class="cell"><figure>{image}</figure></div>'
    text = page.read_text("utf-8").replace('<div class="cell_output">', f'{still}<div class="cell"><div>')
    page.write_text(text.replace("</script></div><details", "</script></div></div><details"), "utf-8")
    article = pdf.Assembly(built).article("notebooks/01-one")
    sources = [str(image["src"]) for image in article.find_all("img")]
    assert sources == ["../html/_images/a.webp", "../html/_images/still.webp"]


def test_an_interactive_figure_without_a_still_one_says_where_it_moves(built: Path) -> None:
    notebooks.write(new_notebook(cells=[]), built / "notebooks" / "01-one.ipynb")
    article = pdf.Assembly(built).article("notebooks/01-one")
    assert "it moves at https://YOUR_NAME.github.io/dipfilters/notebooks/01-one.html" in article.get_text()


def test_the_one_page_has_every_page_in_order_and_a_table_of_contents(built: Path) -> None:
    whole = BeautifulSoup(pdf.Assembly(built).whole(), "html.parser")
    assert [tag["id"] for tag in whole.select("article")] == ["01-one", "02-two", "status"]
    entries = [str(link["href"]) for link in whole.select(".book-contents a")]
    assert entries == ["#01-one", "#01-one--two", "#02-two", "#02-two--two", "#status"]
    assert "Some Group, Bell, Ada" in whole.get_text()
    assert "Version 1.2.0, 2026-11-23" in whole.get_text()
    assert [link["href"] for link in whole.select("link")] == ["../html/_static/a.css"]
    ids = [str(tag["id"]) for tag in whole.find_all(id=True)]
    assert len(set(ids)) == len(ids)


def test_without_pages_it_says_how_to_get_some(book: Path) -> None:
    with pytest.raises(BuildFailed, match="`make pdf` builds it first"):
        pdf.main(["--root", str(book)])


# ---------------------------------------------------------------------------------------- the real book

CHAPTERS = [path.stem for path in notebooks.chapters(ROOT)]


@pytest.fixture(scope="module")
def printed() -> PdfReader:
    """The whole book, printed anew."""
    logging.getLogger("pypdf").setLevel(logging.ERROR)
    return PdfReader(pdf.write(ROOT))


@pytest.fixture(scope="module")
def texts(printed: PdfReader) -> list[str]:
    return [page.extract_text() for page in printed.pages]


def entries(outline: Any, depth: int = 0) -> Iterator[tuple[int, Destination]]:
    for item in outline:
        if isinstance(item, list):
            yield from entries(item, depth + 1)
        else:
            yield depth, item


def heading(stem: str) -> str:
    body = site_html.article(next(page for page in site_html.written_pages() if page.stem == stem))
    assert body is not None
    title = BeautifulSoup(str(body.find("h1")), "html.parser")
    for link in title.select(".headerlink"):
        link.decompose()
    return " ".join(title.get_text().split())


def squeezed(text: str) -> str:
    """Without spaces and hyphens, and with plain letters: what a line's end or a ligature cannot change."""
    return re.sub(r"[\s‐-]+", "", text.replace("ﬁ", "fi").replace("ﬂ", "fl").replace("ﬀ", "ff"))


@pytest.mark.long
@pytest.mark.browser
def test_it_is_a_book_of_a_plausible_size(printed: PdfReader) -> None:
    assert 120 < len(printed.pages) < 500
    assert (ROOT / "_build" / "book.pdf").stat().st_size < 40e6
    widths = {round(float(page.mediabox.width)) for page in printed.pages}
    assert widths == {595}, "A4"
    catalogue: Any = printed.root_object
    assert catalogue["/Lang"] == "en"
    assert catalogue["/MarkInfo"]["/Marked"], "tagged, for screen readers"
    assert printed.metadata is not None
    assert printed.metadata.title == "The Filter Inside the Network"


@pytest.mark.long
@pytest.mark.browser
def test_the_bookmarks_lead_to_every_page_of_the_book(printed: PdfReader) -> None:
    top = [
        (item.title, printed.get_destination_page_number(item) or 0)
        for depth, item in entries(printed.outline)
        if depth == 0
    ]
    titles = [" ".join(str(title).split()) for title, _ in top]
    expected = [heading(page.rpartition("/")[2]) for page in notebooks.pages(ROOT)]
    assert titles == ["The Filter Inside the Network", "Contents", *expected]
    numbers = [number for _, number in top]
    assert numbers == sorted(set(numbers)), "each begins on a page of its own"


@pytest.mark.long
@pytest.mark.browser
def test_every_link_within_leads_to_a_page(printed: PdfReader) -> None:
    places = printed.named_destinations
    inside = outside = 0
    for page in printed.pages:
        for link in page.get("/Annots", []):
            link = link.get_object()
            if link["/Subtype"] != "/Link":
                continue
            if "/Dest" in link:
                name = str(link["/Dest"]).lstrip("/")
                place = places.get(name) or places.get(f"/{name}")
                assert place is not None, f"{name} is nowhere"
                assert printed.get_destination_page_number(place) is not None
                inside += 1
            else:
                address = str(link["/A"]["/URI"])
                assert address.startswith("http"), address
                assert "file:" not in address
                outside += 1
    assert inside > 300
    assert outside > 50


@pytest.mark.long
@pytest.mark.browser
def test_the_table_of_contents_tells_the_pages(printed: PdfReader, texts: list[str]) -> None:
    begin = {
        " ".join(str(item.title).split()): (printed.get_destination_page_number(item) or 0) + 1
        for _, item in entries(printed.outline)
    }
    contents = squeezed("".join(texts[1 : begin[heading(CHAPTERS[0])] - 1]))
    for stem in CHAPTERS:
        title = heading(stem)
        assert squeezed(f"{title} {begin[title]}") in contents, title
    for number, text in enumerate(texts[5:], start=6):
        assert str(number) in text.splitlines(), f"page {number} does not say its number"


@pytest.mark.long
@pytest.mark.browser
@pytest.mark.parametrize("page", notebooks.pages(ROOT))
def test_the_words_of_every_page_are_there(page: str, texts: list[str]) -> None:
    all_of_it = squeezed("".join(texts))
    body = site_html.article(site_html.SITE / f"{page}.html")
    assert body is not None
    sentences = [
        tag.get_text()
        for tag in body.select("p")
        if not tag.find_parent("details") and not tag.select(".math, code") and len(tag.get_text()) > 60
    ]
    assert sentences
    # A page may end within the words, and signs like ½ come out of a PDF as several: a few are lost.
    words = [squeezed(sentence).rstrip("#") for sentence in sentences]
    missing = [text for text in words if text[:40] not in all_of_it and text[-40:] not in all_of_it]
    assert len(missing) <= max(1, len(words) // 25), missing


@pytest.mark.long
@pytest.mark.browser
def test_no_formula_is_left_as_source(texts: list[str]) -> None:
    raw = re.compile(r"\\\(|\\\[|\$\$|\\(?:frac|lVert|sigma|mathbb|operatorname|top|Theta)\b")
    left = [
        f"page {number}: {match[0]}" for number, text in enumerate(texts, 1) for match in raw.finditer(text)
    ]
    assert not left
    assert sum(text.count("𝜎") + text.count("σ") for text in texts) > 20, "typeset, as letters"


@pytest.mark.long
@pytest.mark.browser
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


@pytest.mark.long
@pytest.mark.browser
def test_no_page_is_blank(printed: PdfReader, texts: list[str]) -> None:
    blank = [
        number
        for number, (page, text) in enumerate(zip(printed.pages, texts, strict=True), 1)
        if len(text.split()) < 12 and "/XObject" not in page["/Resources"]  # type: ignore[operator]
    ]
    assert not blank
