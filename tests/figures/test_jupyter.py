"""The row explorer in JupyterLab: what the reader does, Python sees, and back again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Page, expect

from tests import site_browser
from tools.notebooks import ROOT

pytestmark = pytest.mark.browser

CELLS = (
    "import torch\n"
    "from dipfilters import add_noise, load_image\n"
    "from dipfilters.figures import RowExplorer\n"
    "clean = load_image('camera', size=48, gray=True)\n"
    "noisy = add_noise(clean, 0.1, generator=torch.Generator().manual_seed(0))\n"
    "figure = RowExplorer(clean, noisy, 0.1, pixel=(20, 10))\n"
    "figure",
    "print('Python sees', figure.pixel, figure.patch_size)",
    "figure.pixel = [5, 6]",
)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Where JupyterLab has a notebook with the figure, at whatever port it found free."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, tmp_path / "figure.ipynb")
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    folders = {name: str(tmp_path / name) for name in names}
    options = ["--no-browser", "--allow-root", f"--notebook-dir={tmp_path}", "--IdentityProvider.token="]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            env=os.environ | folders | {"PYTHONPATH": str(ROOT / "src")},
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 90
        while not (known := list(tmp_path.glob("JUPYTER_RUNTIME_DIR/jpserver-*.json"))):
            assert server.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{json.loads(known[0].read_text())['port']}/lab/tree/figure.ipynb"
    finally:
        server.terminate()
        server.wait(30)


def run_cell(page: Page, number: int) -> None:
    """Execute a cell, and wait until it is done."""
    cell = page.locator(".jp-CodeCell").nth(number)
    prompt = cell.locator(".jp-InputPrompt")
    for _ in range(3):  # a page that is still at its start may overhear the first
        cell.locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        page.wait_for_timeout(1500)
        if prompt.inner_text().strip() != "[ ]:":
            break
    expect(prompt).to_have_text(re.compile(r"\[\d+\]:"), timeout=90_000)


def test_the_reader_s_pixel_reaches_python_and_python_s_the_reader(address: str) -> None:
    with site_browser.launch() as chrome:
        page = chrome.new_context(viewport={"width": 1200, "height": 1400}).new_page()
        page.goto(address)
        page.locator(".jp-CodeCell").nth(2).wait_for(timeout=90_000)
        expect(page.locator(".jp-Notebook-ExecutionIndicator")).to_have_attribute(
            "data-status", "idle", timeout=90_000
        )
        run_cell(page, 0)
        said = page.locator(".dip-readout")
        expect(said).to_contain_text("Pixel (20, 10)", timeout=30_000)

        frame = page.locator(".dip-pick").first
        box = frame.bounding_box()
        assert box is not None
        frame.click(position={"x": 12.5 * box["width"] / 48, "y": 30.5 * box["height"] / 48})
        expect(said).to_contain_text("Pixel (30, 12)")
        page.keyboard.press("ArrowDown")
        expect(said).to_contain_text("Pixel (31, 12)")
        page.locator(".dip-control", has_text="patch").locator("input").focus()
        page.keyboard.press("ArrowRight")
        seen = page.locator(".jp-CodeCell").nth(1).locator(".jp-OutputArea-output")
        for _ in range(20):  # a choice may still be on its way when the cell begins
            run_cell(page, 1)
            if "[31, 12] 7" in seen.inner_text():
                break
            page.wait_for_timeout(500)
        expect(seen).to_have_text("Python sees [31, 12] 7\n")

        run_cell(page, 2)
        expect(said).to_contain_text("Pixel (5, 6)")
