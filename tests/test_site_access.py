"""Reading with the keyboard alone, and without movement: what the accessibility page promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import site_browser
from tests.site_html import SITE

pytestmark = pytest.mark.browser
chrome = site_browser.chrome
CHAPTER = "notebooks/02-twicing.html"
MOST = 400  # presses of the tab key, more than any page has places to stop

STOP = """() => {
  const node = document.activeElement;
  if (!node || node === document.body) return null;
  const style = getComputedStyle(node);
  const box = node.getBoundingClientRect();
  const label = node.getAttribute('aria-label') || node.textContent.trim() || node.title || node.placeholder
    || node.labels?.length;
  const drawn = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
  return {
    what: node.outerHTML.slice(0, 120),
    named: Boolean(label) || node.matches('[tabindex="0"]'),
    seen: drawn || style.boxShadow !== 'none',
    inside: box.width > 0 && box.bottom > 0 && box.top < innerHeight,
    article: Boolean(node.closest('article')),
    place: [...document.querySelectorAll('*')].indexOf(node),
  };
}"""

MOVING = """() => [...document.querySelectorAll('*')].filter((node) => {
  const style = getComputedStyle(node);
  const turns = (style.animationName !== 'none' && parseFloat(style.animationDuration) > 0);
  const glides = style.transitionDuration.split(',').some((time) => parseFloat(time) > 0);
  return turns || (glides && style.transitionProperty !== 'none') || style.scrollBehavior === 'smooth';
}).map((node) => node.outerHTML.slice(0, 90))"""


@pytest.fixture
def chapter(chrome: Browser) -> Iterator[Page]:
    with site_browser.serve(SITE) as base, site_browser.reader(chrome, base) as (context, _):
        page = context.new_page()
        page.goto(f"{base}/{CHAPTER}", wait_until="networkidle")
        yield page


def stops(chapter: Page) -> list[dict[str, Any]]:
    """Every place at which the tab key stops, from the page's top to its end."""
    found: list[dict[str, Any]] = []
    for _ in range(MOST):
        chapter.keyboard.press("Tab")
        stop = chapter.evaluate(STOP)
        if stop is None:
            return found
        found.append(stop)
    raise AssertionError("the tab key never came to the page's end: a trap")


def test_the_tab_key_passes_all_of_a_chapter_and_shows_where_it_is(chapter: Page) -> None:
    found = stops(chapter)
    assert not [stop["what"] for stop in found if not stop["seen"]], "no outline"
    assert not [stop["what"] for stop in found if not stop["named"]], "no name"
    assert not [stop["what"] for stop in found if not stop["inside"]], "off the screen"
    places = [stop["place"] for stop in found if stop["article"]]
    assert places == sorted(places), "in the order of the text"
    assert len(places) > 20


def test_the_first_stop_skips_the_navigation(chapter: Page) -> None:
    chapter.keyboard.press("Tab")
    expect(chapter.locator(":focus")).to_have_text("Skip to main content")
    chapter.keyboard.press("Enter")
    chapter.keyboard.press("Tab")
    assert chapter.evaluate("Boolean(document.activeElement.closest('main'))")


def test_boxes_that_scroll_sideways_take_the_arrow_keys(chapter: Page) -> None:
    chapter.set_viewport_size(site_browser.PHONE)
    chapter.reload(wait_until="networkidle")
    wide = chapter.locator("article .cell_output figure[tabindex='0']").first
    wide.focus()
    before = wide.evaluate("box => box.scrollLeft")
    chapter.keyboard.press("ArrowRight")
    chapter.wait_for_function(
        "([box, before]) => box.scrollLeft > before", arg=[wide.element_handle(), before]
    )


def test_nothing_moves_for_readers_who_ask_for_no_motion(chapter: Page) -> None:
    assert chapter.evaluate(MOVING) == []
    chapter.emulate_media(reduced_motion="no-preference")
    assert chapter.evaluate(MOVING) != [], "the measure sees what would move"
