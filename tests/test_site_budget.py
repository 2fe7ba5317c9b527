"""What a page may cost a reader: its weight, its requests, and pictures that load when they are needed."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Request

from tests import site_browser, site_html
from tests.site_html import ROOT, SITE
from tools import notebooks

WEIGHT = 2_000_000  # bytes of a page with all that it loads, uncompressed
FORMULAS = "mathjax-"  # comes on top, from one folder, and once for the whole book
REQUESTS = 45
HEAVIEST_FILE = 700_000

EAGER = """async () => {
  for (const image of document.images) image.loading = 'eager';
  await Promise.allSettled([...document.images].map((image) => image.decode()));
}"""

ICONS = """() => ({
  left: [...document.querySelectorAll('i[class*="fa-"]')].map((icon) => icon.className),
  empty: [...document.querySelectorAll('svg.svg-inline--fa')]
    .filter((icon) => !icon.querySelector('path')?.getAttribute('d') || icon.querySelector('.missing'))
    .map((icon) => icon.dataset.icon),
  drawn: document.querySelectorAll('svg.svg-inline--fa').length,
})"""


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with site_browser.launch() as browser:
        yield browser


def noting(requests: list[Request]) -> Callable[[Request], None]:
    """What a browser calls, which insists on a function of Python's own."""
    return lambda sent: requests.append(sent)


@pytest.fixture(scope="module")
def loads(chrome: Browser) -> dict[str, list[Path]]:
    """Each page's files: itself, and all that it asks for until its last picture is there."""
    found = {}
    with site_browser.serve(SITE) as base:
        for page in map(site_html.name, site_html.written_pages()):
            with site_browser.reader(chrome, base) as (context, trouble):
                asked: list[Request] = []
                context.on("request", noting(asked))
                tab = context.new_page()
                tab.goto(f"{base}/{page}", wait_until="networkidle")
                tab.evaluate(EAGER)
                assert not trouble, f"{page}: {trouble}"
            files = [urlsplit(sent.url).path for sent in asked if sent.url.startswith(base)]
            found[page] = [SITE / unquote(path).removeprefix("/") for path in files]
    return found


def weight(files: list[Path]) -> int:
    return sum(path.stat().st_size for path in set(files) if FORMULAS not in str(path.relative_to(SITE)))


@pytest.mark.browser
def test_no_page_weighs_more_than_its_budget(loads: dict[str, list[Path]]) -> None:
    heavy = []
    for page, files in loads.items():
        total = weight(files)
        if total > WEIGHT:
            worst = sorted(set(files), key=lambda path: -path.stat().st_size)
            named = [f"{path.relative_to(SITE)} {path.stat().st_size / 1000:.0f} kB" for path in worst]
            light = [name for name in named if FORMULAS not in name]
            heavy.append(f"{page} weighs {total / 1e6:.2f} MB of {WEIGHT / 1e6:.2f}: {', '.join(light[:6])}")
    assert not heavy, "\n".join(heavy)


@pytest.mark.browser
def test_no_page_asks_for_too_many_files(loads: dict[str, list[Path]]) -> None:
    many = {page: len(files) for page, files in loads.items() if len(files) > REQUESTS}
    assert not many


@pytest.mark.browser
def test_the_measure_sees_pictures_styles_and_scripts(loads: dict[str, list[Path]]) -> None:
    """A budget that overlooked what a page loads later would always hold."""
    kinds = {path.suffix for path in loads["notebooks/02-twicing.html"]}
    assert {".html", ".css", ".js", ".woff2", ".svg"} <= kinds
    shown = {
        image["src"] for image in site_html.soup(SITE / "notebooks" / "02-twicing.html").select("article img")
    }
    loaded = {path.name for path in loads["notebooks/02-twicing.html"]}
    assert {str(source).rpartition("/")[2] for source in shown} <= loaded


def test_no_single_file_of_a_page_is_heavy() -> None:
    heavy = {
        site_html.name(path): path.stat().st_size
        for path in SITE.rglob("*")
        if path.suffix in (".html", ".css", ".js", ".webp", ".png", ".svg", ".woff2")
        and path.stat().st_size > HEAVIEST_FILE
        and FORMULAS not in str(path.relative_to(SITE))
    }
    assert not heavy


def test_pictures_have_the_size_of_their_files_and_load_when_needed() -> None:
    wrong, seen = [], 0
    for page in site_html.pages():
        for image in site_html.soup(page).find_all("img"):
            if "width" not in image.attrs or "height" not in image.attrs:
                wrong.append(f"{site_html.name(page)}: {image['src']} has no size")
        body = site_html.article(page)
        for number, image in enumerate(body.find_all("img") if body else []):
            source = str(image["src"])
            if source.startswith("data:"):
                continue
            seen += 1
            with Image.open(site_html.target(page, source)[0]) as picture:
                if (int(str(image["width"])), int(str(image["height"]))) != picture.size:
                    wrong.append(f"{site_html.name(page)}: {source} is {picture.size}")
            if (image.get("loading") == "lazy") != (number > 0):
                wrong.append(f"{site_html.name(page)}: picture {number + 1} loads {image.get('loading')}")
    assert not wrong, "\n".join(wrong)
    assert seen > 30


def pixels(picture: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(picture.convert("RGBA"))


@pytest.mark.slow
def test_figures_on_the_pages_are_those_that_the_notebooks_computed() -> None:
    """Pixel for pixel, though the page has them in a lighter format."""
    compared = 0
    for path in notebooks.chapters(ROOT):
        computed = [
            base64.b64decode(output.data["image/png"])
            for cell in notebooks.code_cells(notebooks.read(path))
            for output in cell.outputs
            if "image/png" in output.get("data", {})
        ]
        page = SITE / "notebooks" / f"{path.stem}.html"
        body = site_html.article(page)
        assert body is not None
        shown = [
            site_html.target(page, str(image["src"]))[0]
            for image in body.select(".cell_output img[src^='..']")
        ]
        assert len(shown) == len(computed), path.name
        for file, png in zip(shown, computed, strict=True):
            with Image.open(file) as on_page, Image.open(io.BytesIO(png)) as in_notebook:
                assert np.array_equal(pixels(on_page), pixels(in_notebook)), f"{path.name}: {file.name}"
            compared += 1
    assert compared > 30


@pytest.mark.browser
def test_icons_that_pages_use_are_drawn_and_others_are_left_out(chrome: Browser) -> None:
    with site_browser.serve(SITE) as base, site_browser.reader(chrome, base) as (context, trouble):
        page = context.new_page()
        for name in ("notebooks/02-twicing.html", "book/notation.html", "search.html"):
            page.goto(f"{base}/{name}")
            page.wait_for_function("document.querySelectorAll('svg.svg-inline--fa').length > 5")
            icons = page.evaluate(ICONS)
            assert not icons["left"], name
            assert not icons["empty"], name
        assert not trouble
    script = (SITE / "_static" / "scripts" / "fontawesome.js").read_text("utf-8")
    assert re.search(r"\bmonero:\[", script) is None
    assert (SITE / "_static" / "scripts" / "fontawesome.js.LICENSE.txt").is_file()
