"""The built pages in a browser that reaches nothing but them, and what it saw of each."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ViewportSize, sync_playwright

from tests import site_html
from tools import browser as finder

DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}

FACTS = """async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  await document.fonts.ready;
  for (const image of document.images) image.loading = 'eager';
  await Promise.allSettled([...document.images].map((image) => image.decode()));
  const formulas = [...document.querySelectorAll('span.math, div.math')];
  const text = (node) => node.textContent.trim().slice(0, 60);
  return {
    formulas: formulas.length,
    bare: formulas.filter((node) => node.querySelectorAll('mjx-container').length !== 1).map(text),
    wrong: [...document.querySelectorAll('mjx-merror, [data-mjx-error]')].map(text),
    empty: [...document.images].filter((image) => !image.naturalWidth).map((image) => image.src),
    faces: [...document.fonts].filter((face) => face.status === 'error').map((face) => face.family),
  };
}"""

LAYOUT = """() => {
  const wide = (node) => {
    const box = node.getBoundingClientRect();
    return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1);
  };
  const scrolls = (node) => {
    for (let up = node; up && up !== document.body; up = up.parentElement)
      if (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(up).overflowX)) return true;
    return false;
  };
  return {
    overflow: document.documentElement.scrollWidth - innerWidth,
    protruding: [...document.querySelectorAll('article.bd-article *')]
      .filter((node) => wide(node) && !scrolls(node)).slice(0, 3).map((node) => node.outerHTML.slice(0, 90)),
  };
}"""

COLOURS = """(mode) => {
  document.documentElement.dataset.theme = mode;
  const ground = (node) => {
    for (let up = node; up; up = up.parentElement) {
      const colour = getComputedStyle(up).backgroundColor;
      if (!/^rgba\\(.*, 0\\)$|transparent/.test(colour)) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const pair = (selector) => [...document.querySelectorAll(selector)].slice(0, 1).map(
    (node) => [selector, getComputedStyle(node).color, ground(node)]);
  return {
    text: ['article p', 'article p a', 'article h1', 'figcaption p', 'article pre', 'article th', 'summary',
           '.bd-sidebar-primary a.reference', '.bd-footer-content p'].flatMap(pair),
    figures: [...document.querySelectorAll('article .cell_output img')].map(
      (image) => [ground(image), getComputedStyle(image).filter]),
  };
}"""


@dataclass
class Visit:
    """What the browser saw of one page."""

    trouble: list[str]
    facts: dict[str, Any]
    layout: dict[str, Any]
    colours: dict[str, dict[str, Any]]


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


@contextmanager
def reader(
    chrome: Browser, base: str, screen: ViewportSize = DESKTOP
) -> Iterator[tuple[BrowserContext, list[str]]]:
    """A reader of the site at ``base``, and a list that fills with what went wrong."""
    context = chrome.new_context(viewport=screen, reduced_motion="reduce")
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


def visit_all(chrome: Browser, base: str, screen: ViewportSize) -> dict[str, Visit]:
    """Look at every page that someone wrote, on one screen, light and dark."""
    visits = {}
    with reader(chrome, base, screen) as (context, trouble):
        page = context.new_page()
        for name in map(site_html.name, site_html.written_pages()):
            trouble.clear()
            page.goto(f"{base}/{name}")
            facts, layout = page.evaluate(FACTS), page.evaluate(LAYOUT)
            colours = {mode: page.evaluate(COLOURS, mode) for mode in ("light", "dark")}
            visits[name] = Visit(list(trouble), facts, layout, colours)
    return visits


def luminance(colour: str) -> float:
    """The relative luminance of "rgb(r, g, b)", as the accessibility guidelines define it."""
    values = [int(float(part)) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(ink: str, ground: str) -> float:
    """The contrast of two colours, from 1 to 21."""
    low, high = sorted((luminance(ink), luminance(ground)))
    return (high + 0.05) / (low + 0.05)
