"""Each built page in a browser, on a desk by day and on a phone by night: complete, readable, light."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser

from dipfilters.plots import INK
from tests import site_browser, site_html
from tests.site_html import ROOT, SITE
from tools.book import Book

pytestmark = pytest.mark.browser
chrome = site_browser.chrome

READABLE = 4.5  # WCAG 2, level AA, for text of ordinary size
WEIGHT = 2_000_000  # bytes of a page with all that it loads, uncompressed
FORMULAS = "mathjax-"  # comes on top, from one folder, and once for the whole book
REQUESTS = 45

GROUNDS = """() => [...document.querySelectorAll('article .cell_output img')].map((image) => {
  let up = image;
  const clear = /^rgba\\(.*, 0\\)$|transparent/;
  while (up && clear.test(getComputedStyle(up).backgroundColor)) up = up.parentElement;
  const ground = up ? getComputedStyle(up).backgroundColor : 'rgb(255, 255, 255)';
  return [ground, getComputedStyle(image).filter];
})"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with site_browser.serve(SITE) as base:
        yield base


def too_heavy(page: Path, files: set[Path]) -> list[str]:
    """What is wrong with the files that a page loads."""
    sizes = {path: path.stat().st_size for path in files if FORMULAS not in str(path.relative_to(SITE))}
    worst = [f"{path.name} {size / 1000:.0f} kB" for path, size in sizes.items() if size > WEIGHT / 10]
    total = sum(sizes.values())
    wrong = [f"{total / 1e6:.2f} MB of {WEIGHT / 1e6:.2f}: {', '.join(worst)}"] if total > WEIGHT else []
    wrong += [f"{len(files)} files of {REQUESTS}"] if len(files) > REQUESTS else []
    # A measure that overlooked what a page loads later would always hold.
    shown = {site_html.file_of(page, str(i["src"])) for i in site_html.soup(page).select("article img")}
    return wrong + [f"{path.name} was not weighed" for path in shown - files]


@pytest.mark.parametrize("view", ["desk", "phone"])
@pytest.mark.parametrize("name", Book(ROOT).pages)
def test_a_page_opens_complete_and_without_a_barrier(
    chrome: Browser, server: str, name: str, view: str
) -> None:
    """On the desk from a server, on the phone from a folder; axe-core looks at the theme too."""
    desk = view == "desk"
    base, screen = (server, site_browser.DESKTOP) if desk else (SITE.as_uri(), site_browser.PHONE)
    with site_browser.reader(chrome, base, screen, "light" if desk else "dark") as (context, trouble):
        files: set[Path] = set()
        context.on("request", lambda sent: files.add(SITE / unquote(urlsplit(sent.url).path[1:])))
        page = context.new_page()
        page.goto(f"{base}/{name}.html")
        wrong = [*site_browser.faults(page), *trouble]
        if desk:
            wrong += too_heavy(SITE / f"{name}.html", {path for path in files if path.is_file()})
        ink = "rgb({}, {}, {})".format(*bytes.fromhex(INK.removeprefix("#")))
        for ground, painted_over in page.evaluate(GROUNDS):
            dark = site_browser.luminance(ground) < 0.2
            readable = site_browser.contrast(ink, ground) >= READABLE
            if not readable or dark == desk or painted_over != "none":
                wrong.append(f"a figure stands on {ground}, filter {painted_over}")
        wrong += site_browser.barriers(page)
        assert not wrong, "\n".join(wrong)


def test_a_still_stands_in_where_no_script_runs(chrome: Browser) -> None:
    context = chrome.new_context(java_script_enabled=False)
    page = context.new_page()
    seen = 0
    for path in Book(ROOT).chapters:
        page.goto(f"{SITE.as_uri()}/notebooks/{path.stem}.html")
        for still in page.locator(".cell:has(+ .cell script[type*='widget-view']) figure img").all():
            assert still.is_visible()
            assert len(still.get_attribute("alt") or "") > 40
            seen += 1
    context.close()
    views = [site_html.soup(page).select("script[type$='widget-view+json']") for page in site_html.pages()]
    assert seen == sum(map(len, views)) > 0
