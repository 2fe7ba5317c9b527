"""The search field finds what a reader would type, in the pages where it is explained."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import site_browser
from tests.site_html import ROOT, SITE
from tools.book import Book

chrome = site_browser.chrome

FIRST = 8  # hits that are seen without scrolling

QUERIES = {
    "the filter inside the network": "00-welcome",
    "non-local means": "01-patches-and-filters",
    "bias variance": "02-twicing",
    "arc-cosine": "03-arc-cosine-kernel",
    "neural tangent kernel": "04-gradient-descent-is-twicing",
    "Nyström": "05-deep-tangent-kernels",
    "Adam": "06-sgd-versus-adam",
    "deep image prior": "08-deep-image-prior",
    "displacement": "a1-a-matrix-you-cannot-store",
    "rungs": "07-adam-without-learning",
    "lettering": "09-inverse-problems",
    "NTK": "glossary",
}

DONE = """() => {
  const summary = document.querySelector('#search-results p.search-summary');
  return summary && /found|did not match/.test(summary.textContent);
}"""
LINKS = "#search-results ul.search > li > a"
HITS = "all => all.map((link) => new URL(link.href).pathname)"


def hits(page: Page, query: str) -> list[str]:
    """The pages found, best first."""
    page.goto(f"{page.url.partition('search.html')[0]}search.html?q={quote(query)}")
    page.wait_for_function(DONE)
    found: list[str] = page.locator(LINKS).evaluate_all(HITS)
    return [path.rpartition("/")[2].removesuffix(".html") for path in found]


@pytest.mark.browser
def test_search_finds_the_page_that_explains_it(chrome: Browser) -> None:
    with site_browser.serve(SITE) as base, site_browser.reader(chrome, base) as (context, _):
        page = context.new_page()
        page.goto(f"{base}/search.html")
        found = {query: hits(page, query) for query in QUERIES}
        # On file:// a browser refuses the quotations.
        expect(page.locator("#search-results p.context").first).to_be_visible()
        assert not {query: all for query, all in found.items() if QUERIES[query] not in all[:FIRST]}
        assert hits(page, "zyzzyva") == []
    assert {path.stem for path in Book(ROOT).chapters} <= set(QUERIES.values())


@pytest.mark.browser
def test_the_search_dialog_leads_to_a_page_from_a_folder_too(chrome: Browser) -> None:
    base = SITE.as_uri()
    with site_browser.reader(chrome, base) as (context, trouble):
        page = context.new_page()
        page.goto(f"{base}/book/notation.html")
        page.keyboard.press("Control+k")
        page.locator("#pst-search-dialog input").fill("twicing residual")
        page.keyboard.press("Enter")
        page.wait_for_function(DONE)
        page.locator(LINKS).first.click()
        expect(page.locator("article.bd-article h1")).to_be_visible()
        assert not trouble
