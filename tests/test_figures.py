"""The interactive figures on the built pages, by mouse and by keyboard, against what Python computes."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Locator, Page, expect

from dipfilters import KernelFilter, SpectralTwicing, gaussian_kernel, kappa1, one_layer_tangent_kernel
from dipfilters.figures.player import browser_normals
from tests import node, site_browser, site_html
from tests.site_html import SITE
from tools import notebooks

pytestmark = pytest.mark.browser
STATE = 'script[type="application/vnd.jupyter.widget-state+json"]'
VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]'
WHERE = {
    "RowExplorer": ("00", "01", "04"),
    "TwicingPlayer": ("02",),
    "ArcCosineLab": ("03",),
    "TrainingFilm": ("04", "06", "07"),
    "SpectrumExplorer": ("05",),
}


@dataclass
class Figure:
    """One figure of a page: its place there, and the values that the notebook stored."""

    page: str
    number: int
    kind: str
    values: dict[str, Any]

    def array(self, name: str, dtype: Any = np.uint8) -> np.ndarray:
        return np.frombuffer(self.values[name], dtype)

    def picture(self, name: str, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        levels = torch.from_numpy(self.array(name).astype(np.float64))
        return (low + (high - low) * levels / 255).reshape(1, *self.values["shape"])


def figures() -> list[Figure]:
    found = []
    for path in notebooks.chapters(site_html.ROOT):
        page = f"notebooks/{path.stem}.html"
        soup = site_html.soup(SITE / page)
        states: dict[str, Any] = {}
        for script in soup.select(STATE):
            states |= json.loads(script.string or "")["state"]
        for number, script in enumerate(soup.select(VIEW)):
            stored = states[json.loads(script.string or "")["model_id"]]
            values = dict(stored["state"])
            for buffer in stored.get("buffers", []):
                values[buffer["path"][0]] = base64.b64decode(buffer["data"])
            kind = values["_anywidget_id"].rpartition(".")[2]
            found.append(Figure(page, number, kind, values))
    return found


def test_every_figure_is_on_the_pages_it_is_meant_for() -> None:
    found: dict[str, list[str]] = {}
    for figure in figures():
        found.setdefault(figure.kind, []).append(figure.page.removeprefix("notebooks/")[:2])
    assert {kind: tuple(pages) for kind, pages in found.items()} == WHERE


def test_a_figure_adds_little_to_its_page() -> None:
    heavy = {}
    for figure in figures():
        stored = {k: v for k, v in figure.values.items() if not isinstance(v, bytes)}
        size = len(json.dumps(stored)) + sum(
            4 * len(v) // 3 for v in figure.values.values() if isinstance(v, bytes)
        )
        allowed = 400_000 + 50_000 if figure.kind == "TrainingFilm" else 150_000
        if size > allowed:
            heavy[figure.page, figure.kind] = size
    assert not heavy


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with site_browser.launch() as browser:
        yield browser


@pytest.fixture(scope="module", params=["http", "file"])
def base(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "file":
        yield SITE.as_uri()
    else:
        with site_browser.serve(SITE) as server:
            yield server


# What drives a figure, and compares.


def numbers(text: str) -> list[float]:
    """All numbers of a sentence."""
    text = text.replace("−", "-").replace(",", "")
    return [float(found) for found in re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", text)]


def control(place: Locator, label: str) -> Locator:
    return place.locator("label", has_text=label).locator("input, select")


def pixels(canvas: Locator) -> np.ndarray:
    """What a canvas shows, (height, width, 3)."""
    data = canvas.evaluate(
        "c => [c.height, c.width, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    height, width, *values = data
    return np.array(values).reshape(height, width, 4)[..., :3]


def overlay(ground: torch.Tensor, row: torch.Tensor, pixel: tuple[int, int]) -> np.ndarray:
    """The picture that `dipfilters.plots.show_row` describes, in bytes."""
    weights = row.numpy()
    others = np.abs(weights).copy()
    others[pixel] = 0
    opacity = np.sqrt(np.clip(np.abs(weights) / others.max(), 0, 1))[..., None]
    full = np.where(weights[..., None] >= 0, (0.9, 0.36, 0.0), (0.0, 0.3, 0.85))
    pale: np.ndarray = 0.25 + 0.6 * ground[0].numpy()[..., None]
    blended: np.ndarray = 255 * ((1 - opacity) * pale + opacity * full)
    return blended


def drive_rows(page: Page, place: Locator, figure: Figure) -> None:
    values = figure.values
    height, width = values["shape"]
    low, high = values["range"]
    clean, noisy = figure.picture("clean"), figure.picture("noisy", low, high)
    said = place.locator(".dip-readout")
    size, bandwidth = values["patch_size"], values["bandwidth"]

    def compare(row: int, column: int) -> None:
        expect(said).to_contain_text(f"Pixel ({row}, {column})")
        kernels = gaussian_kernel(bandwidth * values["sigma"]), one_layer_tangent_kernel()
        spoken = numbers(said.inner_text())
        exact = [row, column, 255 * float(clean[0, row, column]), 255, 255 * float(noisy[0, row, column])]
        for view, kernel in zip((1, 2), kernels, strict=True):
            made = KernelFilter(noisy, kernel, patch_size=size, normalize="rows")
            weights = made.row((row, column))
            exact += [255 * float((weights * noisy[0]).sum()), 1 / float(weights.square().sum())]
            shown = pixels(place.locator("canvas").nth(view))
            assert np.abs(shown - overlay(clean, weights, (row, column))).max() <= 1
        assert spoken == pytest.approx(exact, rel=0.01, abs=0.06)

    frame = place.locator(".dip-pick").first
    box = frame.bounding_box()
    assert box is not None
    row, column = height // 3, width // 4
    at = {"x": (column + 0.5) * box["width"] / width, "y": (row + 0.5) * box["height"] / height}
    frame.click(position=at)  # type: ignore[arg-type]
    compare(row, column)
    frame.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    compare(row + 10, column + 1)
    control(place, "patch").focus()
    page.keyboard.press("ArrowLeft")
    size -= 2
    control(place, "bandwidth").focus()
    page.keyboard.press("ArrowRight")
    bandwidth = round(bandwidth + 0.1, 1)
    compare(row + 10, column + 1)
    frame.focus()
    for _ in range(-(-height // 10)):
        page.keyboard.press("Shift+ArrowUp")
    compare(0, column + 1)


def drive_player(page: Page, place: Locator, figure: Figure) -> None:
    height, width = figure.values["shape"]
    clean = figure.picture("clean")
    said = place.locator(".dip-readout")
    slide = control(place, "step k")
    steps = node.ask("player.js", "stepGrid")

    def compare(filter: str, noise: int, seed: int, step: int) -> None:
        expect(said).to_contain_text(f"Step {step}:", timeout=30_000)
        spoken = numbers(said.inner_text())
        noisy = clean + noise / 255 * browser_normals(seed, height * width).reshape(clean.shape)
        kernel: Any = gaussian_kernel(2 * noise / 255)
        made = KernelFilter(noisy, kernel, patch_size=5, normalize="rows")
        if filter == "tangent kernel":
            made = KernelFilter(noisy, one_layer_tangent_kernel(), patch_size=7, normalize="spectral")
        twice = SpectralTwicing(made)
        errors = (twice.estimate(noisy, steps) - clean).square().mean((1, 2, 3))
        decibels = (-10 * errors.log10()).tolist()
        kept = float((twice.estimate(clean, step) - clean).square().mean())
        chance = float(twice.estimate(noisy - clean, step).square().mean())
        at, best = steps.index(step), int(errors.argmin())
        assert spoken[1] == pytest.approx(decibels[at], abs=0.006)
        # bias² 1.23e-3 is read as 2, for the square is no digit, and the number itself.
        assert spoken[2:4] == pytest.approx([kept, chance], rel=0.006)
        assert spoken[4] == steps[best]
        assert spoken[5] == pytest.approx(decibels[best], abs=0.006)
        shown = pixels(place.locator("canvas").nth(1))[..., 0]
        exact = 255 * twice.estimate(noisy, step)[0].clamp(0, 1).numpy()
        assert np.abs(shown - exact).max() <= 0.6

    compare("non-local means", 25, 1, 1)
    slide.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    compare("non-local means", 25, 1, steps[5])
    control(place, "noise").select_option("50")
    place.get_by_role("button", name="New noise").click()
    compare("non-local means", 50, 2, steps[5])
    filters = control(place, "filter")
    filters.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(filters).to_have_value("tangent kernel")
    compare("tangent kernel", 50, 2, steps[5])
    place.get_by_role("button", name="Play").click()
    expect(said).to_contain_text(f"Step {steps[6]}:", timeout=10_000)
    place.get_by_role("button", name="Pause").click()


def drive_lab(page: Page, place: Locator, figure: Figure) -> None:
    said = place.locator(".dip-readout")

    def compare(angle: int, width: int, bandwidth: float, seed: int) -> None:
        expect(said).to_contain_text(f"At {angle}° {width} neurons")
        phi = math.radians(angle)
        w = browser_normals(seed, 2 * width).reshape(-1, 2).numpy()
        products = (
            2 * np.maximum(w[:, 0], 0) * np.maximum(math.cos(phi) * w[:, 0] + math.sin(phi) * w[:, 1], 0)
        )
        limit = float(kappa1(torch.tensor(math.cos(phi), dtype=torch.float64)))
        gauss = math.exp((2 * math.cos(phi) - 2) / bandwidth**2)
        exact = [products.mean(), 2 * products.std() / math.sqrt(width), limit, 1 - angle / 180, gauss]
        assert numbers(said.inner_text())[2:] == pytest.approx(exact, abs=6e-4)

    compare(60, 64, 0.5, 1)
    control(place, "angle").focus()
    for _ in range(7):
        page.keyboard.press("ArrowRight")
    control(place, "neurons").focus()
    page.keyboard.press("End")
    compare(67, 4096, 0.5, 1)
    control(place, "Gaussian").focus()
    page.keyboard.press("ArrowRight")
    place.get_by_role("button", name="New draw").click()
    compare(67, 4096, 0.6, 2)
    box = control(place, "angle").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    compare(90, 4096, 0.6, 2)


def drive_film(page: Page, place: Locator, figure: Figure) -> None:
    values = figure.values
    runs, spots = values["runs"], values["pixels"]
    looks = runs[0]["looks"]
    shape = (len(runs), len(looks), 1 + len(spots), *values["shape"])
    frames = np.frombuffer(zlib.decompress(values["frames"]), np.uint8).reshape(shape)
    said = place.locator(".dip-readout")

    def compare(fed: str, look: int) -> None:
        expect(said).to_contain_text(f"Fed with {fed}, after {looks[look]} steps")
        shown = [n for n, run in enumerate(runs) if run["fed"] == fed]
        exact = [runs[n]["psnr"][runs[n]["steps"].index(looks[look])] for n in shown]
        spoken = [float(found) for found in re.findall(r"(-?[\d.]+) dB", said.inner_text())]
        assert spoken == pytest.approx(exact, abs=0.006)
        for at, n in enumerate(shown):
            output, row = (pixels(place.locator("canvas").nth(2 * at + part)) for part in (0, 1))
            assert (output[..., 0] == frames[n, look, 0]).all()
            sign = frames[n, look, 1].view(np.int8)
            # Orange has more red than blue, violet the reverse, and white neither.
            assert (np.sign(output.dtype.type(0) + row[..., 0] - row[..., 2]) == np.sign(sign)).all()

    slide = control(place, "step k")
    slide.focus()
    page.keyboard.press("Home")
    compare(values["fed"], 0)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    compare(values["fed"], 2)
    others = [fed for fed in dict.fromkeys(run["fed"] for run in runs) if fed != values["fed"]]
    for fed in others:
        control(place, "fed with").select_option(fed)
        compare(fed, 2)
    place.get_by_role("button", name="Play").click()
    expect(said).to_contain_text(f"after {looks[3]} steps", timeout=10_000)
    place.get_by_role("button", name="Pause").click()


def drive_spectrum(page: Page, place: Locator, figure: Figure) -> None:
    spectra = figure.values["spectra"]
    eigenvalues = figure.array("eigenvalues", np.float32).reshape(len(spectra), -1).astype(float)
    said = place.locator(".dip-readout")

    def compare(network: str, fed: str, step: int) -> None:
        expect(said).to_contain_text(f"{network} fed with {fed}: after {step:,} steps")
        values = eigenvalues[spectra.index({"network": network, "fed": fed})]
        gains = -np.expm1(step * np.log1p(-np.minimum(values, 1 - 1e-16)))
        spoken = numbers(said.inner_text().partition("after")[2])
        exact = [step, gains.sum(), values.size, (gains >= 0.5).sum()]
        assert spoken == pytest.approx(exact, abs=0.06)

    compare(spectra[0]["network"], spectra[0]["fed"], 100)
    control(place, "step k").focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    compare(spectra[0]["network"], spectra[0]["fed"], 1000)
    control(place, "network").select_option("autoencoder")
    control(place, "fed with").select_option("noise")
    compare("autoencoder", "noise", 1000)
    networks = control(place, "network")
    networks.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    compare(networks.input_value(), "noise", 1000)
    assert networks.input_value() != "autoencoder"


DRIVERS: dict[str, Callable[[Page, Locator, Figure], None]] = {
    "RowExplorer": drive_rows,
    "TwicingPlayer": drive_player,
    "ArcCosineLab": drive_lab,
    "TrainingFilm": drive_film,
    "SpectrumExplorer": drive_spectrum,
}


@pytest.mark.parametrize("chapter", sorted({page for pages in WHERE.values() for page in pages}))
def test_a_figure_answers_mouse_and_keyboard_with_python_s_numbers(
    chrome: Browser, base: str, chapter: str
) -> None:
    with site_browser.reader(chrome, base) as (context, trouble):
        page = context.new_page()
        mine = [figure for figure in figures() if figure.page.startswith(f"notebooks/{chapter}")]
        page.goto(f"{base}/{mine[0].page}")
        expect(page.locator(".book-widget")).to_have_count(len(mine))
        for figure in mine:
            place = page.locator(".book-widget").nth(figure.number)
            place.scroll_into_view_if_needed()
            DRIVERS[figure.kind](page, place, figure)
        assert not trouble


@pytest.mark.parametrize("screen", [site_browser.DESKTOP, site_browser.PHONE], ids=["desk", "phone"])
def test_figures_fit_their_page_and_replace_their_stills(chrome: Browser, base: str, screen: Any) -> None:
    with site_browser.reader(chrome, base, screen) as (context, trouble):
        page = context.new_page()
        for name in dict.fromkeys(figure.page for figure in figures()):
            page.goto(f"{base}/{name}", wait_until="networkidle")
            page.locator(".book-widget .dip").last.wait_for()
            assert page.locator("figure:has(.book-widget) > img:visible").count() == 0
            layout = page.evaluate(site_browser.LAYOUT)
            assert layout["overflow"] <= 0, name
            assert not layout["protruding"], name
        assert not trouble


def test_a_still_stands_in_where_no_script_runs(chrome: Browser) -> None:
    context = chrome.new_context(java_script_enabled=False)
    page = context.new_page()
    for name in dict.fromkeys(figure.page for figure in figures()):
        page.goto(f"{SITE.as_uri()}/{name}")
        mine = [figure for figure in figures() if figure.page == name]
        stills = page.locator(".cell:has(+ .cell script[type*='widget-view']) figure img")
        assert stills.count() == len(mine)
        for at in range(stills.count()):
            assert stills.nth(at).is_visible()
            assert len(stills.nth(at).get_attribute("alt") or "") > 40
    context.close()


@pytest.mark.parametrize(("scheme", "screen"), [("light", "desk"), ("dark", "phone")])
def test_no_page_has_a_serious_barrier(chrome: Browser, scheme: Any, screen: str) -> None:
    """axe-core on every page, the theme included."""
    axe = (node.FOLDER / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")
    sizes = {"desk": site_browser.DESKTOP, "phone": site_browser.PHONE}
    context = chrome.new_context(color_scheme=scheme, viewport=sizes[screen], reduced_motion="reduce")
    page = context.new_page()
    barriers = []
    for name in map(site_html.name, site_html.written_pages()):
        page.goto(f"{SITE.as_uri()}/{name}")
        page.evaluate("async () => { await window.MathJax?.startup?.promise; }")
        page.evaluate(axe + "; 0")
        found = page.evaluate("axe.run({ resultTypes: ['violations'] })")
        barriers += [
            f"{name}: {violation['impact']}: {violation['id']}: {violation['nodes'][0]['html'][:120]}"
            for violation in found["violations"]
            if violation["impact"] in ("serious", "critical")
        ]
    context.close()
    assert not barriers, "\n".join(barriers)
