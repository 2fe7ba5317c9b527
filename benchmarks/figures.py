"""The last part of `make bench`: how soon the interactive figures of the built pages answer in a browser."""

from __future__ import annotations

import datetime
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from ipywidgets.embed import dependency_state
from playwright.sync_api import Browser, Page, sync_playwright

from dipfilters import add_noise, load_image
from dipfilters.figures import RowExplorer
from dipfilters.provenance import commit, hardware
from tools import browser
from tools.book import Book
from tools.errors import BookError, run_main
from tools.notebooks import ROOT

SITE = ROOT / "_build" / "html"
RESULT = ROOT / "benchmarks" / "results" / "figures.json"
ROUNDS = 5
CLICKS = 40
READY = """() => {
  const figures = [...document.querySelectorAll('.book-widget')];
  const ready = (figure) => figure.querySelector('.dip') && (figure.dataset.state ?? 'ready') === 'ready';
  const wanted = document.querySelectorAll('script[type$="widget-view+json"]').length;
  return figures.length === wanted && figures.every(ready);
}"""


def interactive(chrome: Browser) -> dict[str, float]:
    """Milliseconds from the request of each page with figures until all of them answer, medians."""
    found = {}
    for path in Book().chapters:
        address = SITE / "notebooks" / f"{path.stem}.html"
        if "widget-view+json" not in address.read_text("utf-8"):
            continue
        times = []
        for _ in range(ROUNDS):
            page = chrome.new_context(offline=True).new_page()
            page.goto(address.as_uri())
            page.wait_for_function(READY, polling=10)
            times.append(page.evaluate("performance.now()"))
            page.context.close()
        found[path.stem] = median(times)
    return found


def click(chrome: Browser, side: int = 128, patch_size: int = 7) -> list[float]:
    """Milliseconds that the row explorer computes and paints after a click, for a picture of that size."""
    clean = load_image("camera", size=side, gray=True)
    noisy = add_noise(clean, 0.1, generator=torch.Generator().manual_seed(0))
    figure = RowExplorer(clean, noisy, 0.1, pixel=(9, 9), patch_size=patch_size)
    state = {
        name: kept
        for name, kept in dependency_state([figure], drop_defaults=False).items()
        if name == figure.model_id
    }
    script = '<script type="application/vnd.jupyter.widget-{}+json">{}</script>'
    host = (ROOT / "book" / "_static" / "widgets.js").read_text("utf-8")
    content = [
        '<!doctype html><meta charset="utf-8"><title>row explorer</title><body>',
        script.format("view", json.dumps({"model_id": figure.model_id})),
        script.format("state", json.dumps({"state": state}).replace("</", "<\\/")),
        f"<script>{host}</script>",
    ]
    with tempfile.TemporaryDirectory() as folder:
        address = Path(folder, "figure.html")
        address.write_text("\n".join(content), "utf-8")
        page: Page = chrome.new_page()
        page.goto(address.as_uri())
        page.wait_for_function("document.querySelector('.dip-readout')?.textContent")
        canvas = page.locator(".dip-pick").first
        box = canvas.bounding_box()
        assert box is not None
        times = []
        for number in range(CLICKS):
            place = (number * 37) % side, (number * 53) % side
            canvas.click(position={"x": place[0] / side * box["width"], "y": place[1] / side * box["height"]})
            times.append(float(page.locator(".book-widget").get_attribute("data-milliseconds") or "nan"))
        return times


def main(_arguments: Sequence[str]) -> None:
    """Measure, print, and keep the result beside those of the other benchmarks."""
    if not (SITE / "index.html").is_file():
        raise BookError("no built book to measure; `make bench` builds it first, and so does `make book`")
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=browser.find())
        pages = interactive(chrome)
        times = sorted(click(chrome))
        version = chrome.version
        chrome.close()
    result: dict[str, Any] = {
        "provenance": {
            "commit": commit(ROOT, "src", "requirements.lock", str(Path(__file__))),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "hardware": hardware("cpu"),
            "browser": f"Chromium {version}",
        },
        "interactive_ms": pages,
        "click_ms": {"median": median(times), "largest": times[-1], "pixels": "128×128", "patches": "7×7"},
    }
    for name, value in pages.items():
        print(f"{name:32} all figures answer after {value:6.0f} ms")
    print(f"row explorer, 128×128, 7×7: {median(times):.1f} ms after a click, at most {times[-1]:.1f}")
    beside = RESULT.with_suffix(".new")
    beside.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    beside.replace(RESULT)


if __name__ == "__main__":
    run_main(main)
