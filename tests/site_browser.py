"""The built pages in a browser that reaches nothing but them, and what it saw of each."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import pytest
from ipywidgets.embed import dependency_state
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright

from dipfilters.figures.base import ComputedFigure
from tests import node
from tests.site_html import ROOT
from tools import browser as finder

DESKTOP: ViewportSize = {"width": 1280, "height": 900}
MODERATE = ("heading-order", "page-has-heading-one")  # in axe-core's words, and barriers none the less
PHONE: ViewportSize = {"width": 390, "height": 844}


LOADED = """async () => {
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
  for (const image of document.images) image.loading = 'eager';
  await Promise.allSettled([...document.images].map((image) => image.decode()));
  const icons = 'i[class*="fa-"]';
  for (let frame = 0; frame < 300 && document.querySelector(icons); frame++)
    await new Promise(requestAnimationFrame);
}"""

WRONG = """() => {
  const every = (selector) => [...document.querySelectorAll(selector)];
  const words = (what) => (node) => `${what}: ${(node.outerHTML ?? node.family).slice(0, 120)}`;
  const wide = (node) => {
    const box = node.getBoundingClientRect();
    return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1);
  };
  const scrolls = (node) => {
    for (let up = node; up && up !== document.body; up = up.parentElement)
      if (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(up).overflowX)) return true;
    return false;
  };
  const startsOutside = (node) => {
    const shown = node.querySelector('mjx-container')?.getBoundingClientRect();
    return shown && shown.left < node.getBoundingClientRect().left - 1;
  };
  const formulas = every('span.math, div.math');
  const widgets = every('.book-widget');
  const views = every('script[type="application/vnd.jupyter.widget-view+json"]');
  const stills = every('figure:has(.book-widget) > img:not([hidden])');
  return [
    ...formulas.filter((node) => node.querySelectorAll('mjx-container').length !== 1).map(words('bare')),
    ...formulas.filter(startsOutside).map(words('formula without its start')),
    ...every('mjx-merror, [data-mjx-error]').map(words('wrong formula')),
    ...every('img').filter((image) => !image.naturalWidth).map(words('no picture')),
    ...[...document.fonts].filter((face) => face.status === 'error').map(words('no font')),
    ...every('i[class*="fa-"]').map(words('icon not drawn')),
    ...every('svg.svg-inline--fa:is(:has(.missing), :not(:has(path[d])))').map(words('icon left out')),
    ...every('article.bd-article *').filter((node) => wide(node) && !scrolls(node)).map(words('too wide')),
    ...(document.documentElement.scrollWidth > innerWidth ? ['the page scrolls sideways'] : []),
    ...(widgets.length < views.length ? ['a figure did not start'] : []),
    ...widgets.filter((node) => !node.querySelector('.dip-readout')).map(words('figure without words')),
    ...widgets.filter((node) => /NaN|undefined/.test(node.innerText)).map(words('figure without numbers')),
    ...stills.map(words('still beside its figure')),
  ];
}"""


class Handler(SimpleHTTPRequestHandler):
    """Serves files, and says nothing: what goes wrong, the browser reports."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def serve(folder: Path, handler: type[Handler] = Handler) -> Iterator[str]:
    """Serve the folder on a free port of this machine; gives the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def launch() -> Iterator[Browser]:
    """A browser that can look up no name and so reach nothing but this machine."""
    with sync_playwright() as playwright:
        offline = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        chrome = playwright.chromium.launch(executable_path=finder.find(), args=[offline])
        yield chrome
        chrome.close()


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    """A browser for all tests of a module, which takes it over by ``chrome = site_browser.chrome``."""
    with launch() as browser:
        yield browser


@contextmanager
def reader(
    chrome: Browser, base: str, screen: ViewportSize = DESKTOP, scheme: Literal["light", "dark"] = "light"
) -> Iterator[tuple[BrowserContext, list[str]]]:
    """A reader of the site at ``base``, and a list that fills with what went wrong."""
    context = chrome.new_context(viewport=screen, color_scheme=scheme, reduced_motion="reduce")
    trouble: list[str] = []

    def note(wrong: bool, what: str) -> None:
        if wrong:
            trouble.append(what)

    ours = (base, "data:", "blob:")
    context.on("request", lambda sent: note(not sent.url.startswith(ours), f"asked for {sent.url}"))
    context.on("requestfailed", lambda sent: note(True, f"did not get {sent.url}: {sent.failure}"))
    context.on("response", lambda got: note(got.status >= 400, f"{got.status} {got.url}"))
    context.on("console", lambda said: note(said.type == "error", f"console: {said.text}"))
    context.on("weberror", lambda error: note(True, f"uncaught: {error.error}"))
    yield context, trouble
    context.close()


def write_page(figure: ComputedFigure, folder: Path) -> Path:
    """A page like the book's with that figure, as it is now, and a picture in place of its still."""
    state = dependency_state([figure], drop_defaults=False)
    data = {
        "view": {"model_id": figure.model_id},
        "state": {"state": {figure.model_id: state[figure.model_id]}},
    }
    view, models = (
        f'<script type="application/vnd.jupyter.widget-{kind}+json">{json.dumps(value)}</script>'
        for kind, value in data.items()
    )
    host = (ROOT / "book" / "_static" / "widgets.js").read_text("utf-8")
    page = folder / "figure.html"
    page.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>A figure</title><body><main>'
        '<div class="cell"><figure><img alt="still" src="data:,"></figure></div>'
        f'<div class="cell">{view}</div></main>{models}<script>{host}</script></body></html>',
        "utf-8",
    )
    return page


def faults(page: Page) -> list[str]:
    """What is missing, wrong or cut off on the page, once all of it is there."""
    page.evaluate(LOADED)
    found: list[str] = page.evaluate(WRONG)
    return found


def barriers(page: Page) -> list[str]:
    """What axe-core finds on the page, the theme included, that keeps somebody out."""
    page.evaluate((node.FOLDER / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8") + "; 0")
    found = page.evaluate("axe.run({ resultTypes: ['violations'], preload: false })")
    return [
        f"{violation['impact']}: {violation['id']}: {violation['nodes'][0]['html'][:120]}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical") or violation["id"] in MODERATE
    ]


def luminance(colour: str) -> float:
    """The relative luminance of "rgb(r, g, b)", as the accessibility guidelines define it."""
    values = [int(float(part)) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(ink: str, ground: str) -> float:
    """The contrast of two colours, from 1 to 21."""
    low, high = sorted((luminance(ink), luminance(ground)))
    return (high + 0.05) / (low + 0.05)
