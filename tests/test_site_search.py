"""The search field finds what a reader would type, in the pages where it is explained."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Page

from tests import site_browser
from tests.site_html import ROOT, SITE
from tools import notebooks

FIRST = 8  # hits that are seen without scrolling

QUERIES = {
    "twicing": "02-twicing",
    "NTK": "glossary",
    "neural tangent kernel": "04-gradient-descent-is-twicing",
    "arc-cosine": "03-arc-cosine-kernel",
    "learning rate": "glossary",
    "the filter inside the network": "00-welcome",
    "bilateral filter": "01-patches-and-filters",
    "non-local means": "01-patches-and-filters",
    "residual": "02-twicing",
    "bias variance": "02-twicing",
    "SURE": "02-twicing",
    "ReLU": "03-arc-cosine-kernel",
    "kappa": "03-arc-cosine-kernel",
    "gradient descent": "04-gradient-descent-is-twicing",
    "wide network": "04-gradient-descent-is-twicing",
    "autoencoder": "05-deep-tangent-kernels",
    "Nyström": "05-deep-tangent-kernels",
    "pooling": "05-deep-tangent-kernels",
    "Adam": "06-sgd-versus-adam",
    "momentum": "06-sgd-versus-adam",
    "deep image prior": "07-deep-image-prior",
    "early stopping": "07-deep-image-prior",
    "three questions": "answers",
    "displacement": "a1-a-matrix-you-cannot-store",
    "conda": "how-to-run",
    "keyboard": "accessibility",
}

DONE = """() => {
  const summary = document.querySelector('#search-results p.search-summary');
  return summary && /found|did not match/.test(summary.textContent);
}"""
HITS = "all => all.map((link) => new URL(link.href).pathname)"


@pytest.fixture(scope="module")
def results() -> Iterator[Page]:
    """A tab in which the site can be searched."""
    with (
        site_browser.launch() as chrome,
        site_browser.serve(SITE) as base,
        site_browser.reader(chrome, base) as (context, _),
    ):
        page = context.new_page()
        page.goto(f"{base}/search.html")
        yield page


def hits(page: Page, query: str) -> list[str]:
    """The pages found, best first."""
    page.goto(f"{page.url.partition('search.html')[0]}search.html?q={quote(query)}")
    page.wait_for_function(DONE)
    found: list[str] = page.locator("#search-results ul.search > li > a").evaluate_all(HITS)
    return [path.rpartition("/")[2].removesuffix(".html") for path in found]


@pytest.mark.browser
@pytest.mark.parametrize("query", QUERIES)
def test_search_finds_the_page_that_explains_it(results: Page, query: str) -> None:
    assert QUERIES[query] in hits(results, query)[:FIRST]


@pytest.mark.browser
def test_search_says_so_where_there_is_nothing(results: Page) -> None:
    assert hits(results, "zyzzyva") == []


def test_every_chapter_has_a_query_of_its_own() -> None:
    assert {path.stem for path in notebooks.chapters(ROOT)} <= set(QUERIES.values())
