"""The interactive figures in a browser, by mouse and by keyboard, against what Python computes.

Each stands on a page of its own, opened from a folder: no kernel, no server, no network.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Locator, expect

from dipfilters import SpectralTwicing, TangentFilter, kappa0, kappa1, vanilla
from dipfilters.figures import ArcCosineLab, RowExplorer, SpectrumExplorer, TrainingFilm, TwicingPlayer
from dipfilters.figures.base import ComputedFigure
from dipfilters.plots import panels, show_row
from tests import site_browser
from tests.figures import samples
from tests.node import ask

pytestmark = pytest.mark.browser
chrome = site_browser.chrome
# A worker that fails is replaced by the page itself, and nobody would notice.
WORKERS = """window.Worker = class extends Worker {
  constructor(...given) {
    super(...given);
    this.addEventListener("error", () => console.error("the worker failed"));
  }
}"""
Open = Callable[[ComputedFigure], Locator]


@pytest.fixture
def show(chrome: Browser, tmp_path: Path) -> Iterator[Open]:
    """Opens a figure; in the end nothing may have gone wrong, and no number be missing."""
    with site_browser.reader(chrome, tmp_path.as_uri()) as (context, trouble):
        page = context.new_page()
        page.add_init_script(WORKERS)

        def opened(figure: ComputedFigure) -> Locator:
            page.goto(site_browser.write_page(figure, tmp_path).as_uri())
            place = page.locator(".book-widget")
            place.locator(".dip").wait_for()
            return place

        yield opened
        assert not re.search("NaN|Infinity|undefined", page.locator(".book-widget").inner_html())
        assert page.locator("img:visible").count() == 0, "the still gave way"
        assert not trouble


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


def drawn(ground: torch.Tensor, row: torch.Tensor, pixel: tuple[int, int]) -> np.ndarray:
    """The same row as Python draws it, in bytes."""
    _, (ax,) = panels(1)
    shown = 255 * np.asarray(show_row(ax, ground, row, pixel).images[0].get_array())
    plt.close("all")
    return shown


def test_the_row_explorer_shows_python_s_rows(show: Open) -> None:
    figure = samples.rows(patch_size=5, bandwidth=1.4)
    place, (clean, noisy) = show(figure), figure.pictures()
    said, page = place.locator(".dip-readout"), place.page
    frame = place.locator(".dip-pick").first

    def compare(row: int, column: int) -> None:
        figure.pixel = [row, column]
        expect(said).to_contain_text(f"Pixel ({row}, {column})")
        exact = [row, column, 255 * float(clean[0, row, column]), 255, 255 * float(noisy[0, row, column])]
        for view, made in enumerate(figure.filters().values(), 1):
            weights = made.row((row, column))
            exact += [255 * float((weights * noisy[0]).sum()), 1 / float(weights.square().sum())]
            shown = pixels(place.locator("canvas").nth(view))
            assert np.abs(shown - drawn(clean, weights, (row, column))).max() <= 1
        assert numbers(said.inner_text()) == pytest.approx(exact, rel=0.01, abs=0.06)

    compare(4, 7)
    box = frame.bounding_box()
    assert box is not None
    frame.click(position={"x": 5.5 * box["width"] / 23, "y": 6.5 * box["height"] / 19})
    compare(6, 5)
    frame.hover(position={"x": 8.5 * box["width"] / 23, "y": 3.5 * box["height"] / 19})
    compare(3, 8)
    frame.hover(position={"x": 5.5 * box["width"] / 23, "y": 6.5 * box["height"] / 19})
    compare(6, 5)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    compare(16, 6)
    control(place, "patch").focus()
    page.keyboard.press("ArrowLeft")
    control(place, "bandwidth").focus()
    page.keyboard.press("ArrowRight")
    figure.patch_size, figure.bandwidth = 3, 1.5
    compare(16, 6)
    frame.focus()
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Shift+ArrowUp")
    compare(0, 6)


def test_the_row_explorer_says_and_offers_what_python_refuses_and_takes(show: Open) -> None:
    clean, noisy = samples.pictures(height=4)
    clean[:, :6, :6] = noisy[:, :6, :6] = 0  # and the noise cut off, so that black is black
    figure = RowExplorer(clean, noisy.clamp(0, 1), samples.SIGMA, pixel=(2, 2), patch_size=3)
    with pytest.raises(ValueError, match="its patch, black perhaps, resembles none"):
        figure.filters()["tangent kernel"].row((2, 2))
    place = show(figure)
    said = place.locator(".dip-readout")
    expect(said).to_contain_text("Non-local means makes")
    expect(said).to_contain_text("its patch, black perhaps, resembles none")
    bare = drawn(figure.pictures()[0], torch.zeros(4, 23), (2, 2))
    assert np.abs(pixels(place.locator("canvas").nth(2)) - bare).max() <= 1
    place.locator(".dip-pick").first.focus()
    place.page.keyboard.press("Shift+ArrowRight")
    expect(said).to_contain_text("one average with the tangent kernel")
    (patch := control(place, "patch")).focus()
    place.page.keyboard.press("End")
    expect(patch).to_have_value("7")
    figure.patch_size = 7


def test_the_twicing_player_shows_python_s_estimates(show: Open) -> None:
    figure = samples.player()
    place = show(figure)
    said, steps = place.locator(".dip-readout"), ask("player.js", "stepGrid")

    def compare(step: int) -> None:
        expect(said).to_contain_text(f"Step {step}:", timeout=30_000)
        clean, noisy = figure.pictures()
        twice = figure.twicing(noisy)
        errors = (twice.estimate(noisy, steps) - clean).square().mean((1, 2, 3))
        decibels = (-10 * errors.log10()).tolist()
        kept = float((twice.estimate(clean, step) - clean).square().mean())
        chance = float(twice.estimate(noisy - clean, step).square().mean())
        _, now, *parts, best, most = numbers(said.inner_text())[:6]
        assert parts == pytest.approx([kept, chance], rel=0.006)
        assert best == steps[int(errors.argmin())]
        assert [now, most] == pytest.approx([decibels[steps.index(step)], max(decibels)], abs=0.006)
        shown = pixels(place.locator("canvas").nth(1))[..., 0]
        assert np.abs(shown - 255 * twice.estimate(noisy, step)[0].clamp(0, 1).numpy()).max() <= 0.6

    compare(1)
    control(place, "step k").focus()
    for _ in range(5):
        place.page.keyboard.press("ArrowRight")
    compare(steps[5])
    control(place, "noise").select_option("50")
    place.get_by_role("button", name="New noise").click()
    figure.noise, figure.seed = 50, 2
    compare(steps[5])
    control(place, "filter").select_option("tangent kernel")
    figure.filter = "tangent kernel"
    compare(steps[5])
    place.get_by_role("button", name="Play").click()
    expect(said).to_contain_text(f"Step {steps[6]}:", timeout=10_000)
    place.get_by_role("button", name="Pause").click()


def test_the_arc_cosine_lab_asks_python_s_neurons(show: Open) -> None:
    figure = ArcCosineLab()
    place = show(figure)
    said, page = place.locator(".dip-readout"), place.page

    def compare() -> None:
        expect(said).to_contain_text(f"At {figure.angle}° {figure.width} neurons")
        cosine = torch.cos(torch.deg2rad(torch.tensor(figure.angle, dtype=torch.float64)))
        mean, error = figure.crowd()
        gauss = torch.exp((2 * cosine - 2) / figure.bandwidth**2)
        exact = [mean, 2 * error, float(kappa1(cosine)), float(kappa0(cosine)), float(gauss)]
        assert numbers(said.inner_text())[2:] == pytest.approx(exact, abs=6e-4)

    compare()
    control(place, "angle").focus()
    for _ in range(7):
        page.keyboard.press("ArrowRight")
    control(place, "neurons").focus()
    page.keyboard.press("End")
    figure.angle, figure.width = 67, 4096
    compare()
    control(place, "Gaussian").focus()
    page.keyboard.press("ArrowRight")
    place.get_by_role("button", name="New draw").click()
    figure.bandwidth, figure.seed = 0.6, 2
    compare()


def test_the_film_shows_the_stored_runs(show: Open) -> None:
    figure = samples.film()
    place, looks = show(figure), figure.runs[0]["looks"]
    frames = np.frombuffer(zlib.decompress(figure.frames), np.uint8).reshape(3, 4, 2, 6, 7)
    said, page = place.locator(".dip-readout"), place.page

    def compare(fed: str, look: int) -> None:
        expect(said).to_contain_text(f"Fed with {fed}, after {looks[look]} steps")
        shown = [n for n, run in enumerate(figure.runs) if run["fed"] == fed]
        exact = [figure.runs[n]["psnr"][figure.runs[n]["steps"].index(looks[look])] for n in shown]
        spoken = [float(found) for found in re.findall(r"(-?[\d.]+) dB", said.inner_text())]
        assert spoken == pytest.approx(exact, abs=0.006)
        for at, n in enumerate(shown):
            output, row = (pixels(place.locator("canvas").nth(2 * at + part)) for part in (0, 1))
            assert (output[..., 0] == frames[n, look, 0]).all()
            # Orange has more red than blue, violet the reverse, and white neither.
            assert (np.sign(row[..., 0] - row[..., 2]) == np.sign(frames[n, look, 1].view(np.int8))).all()

    compare("noise", 3)
    control(place, "step k").focus()
    page.keyboard.press("Home")
    compare("noise", 0)
    page.keyboard.press("ArrowRight")
    control(place, "fed with").select_option("the picture")
    compare("the picture", 1)
    assert place.locator("figure:visible .dip-cross").count() == len(figure.runs) - 2, "one a filter row"
    place.get_by_role("button", name="Play").click()
    expect(said).to_have_attribute("aria-live", "off")
    expect(said).to_contain_text(f"after {looks[2]} steps", timeout=10_000)
    place.get_by_role("button", name="Pause").click()
    expect(said).to_have_attribute("aria-live", "polite")


def test_the_spectrum_explorer_counts_python_s_degrees_of_freedom(show: Open) -> None:
    figure = samples.spectrum()
    place = show(figure)
    eigenvalues = np.frombuffer(figure.eigenvalues, np.float32).reshape(4, -1).astype(float)
    said, page = place.locator(".dip-readout"), place.page

    def compare(network: str, fed: str, step: int) -> None:
        expect(said).to_contain_text(f"{network} fed with {fed}: after {step:,} steps")
        values = eigenvalues[figure.spectra.index({"network": network, "fed": fed})]
        gains = -np.expm1(step * np.log1p(-np.minimum(values, 1 - 1e-16)))
        spoken = numbers(said.inner_text().partition("after")[2])
        assert spoken == pytest.approx([step, gains.sum(), 132, (gains >= 0.5).sum()], abs=0.06)

    compare("plain", "picture", 100)
    control(place, "step k").focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    compare("plain", "picture", 1000)
    control(place, "fed with").select_option("noise")
    control(place, "network").select_option("deep")
    compare("deep", "noise", 1000)


@pytest.mark.parametrize(
    "figure",
    [
        lambda: TwicingPlayer(torch.zeros(1, 9, 9)),
        lambda: TrainingFilm([samples.run(looks=[1], pictures=np.zeros((1, 6, 7)), rows=None)]),
        lambda: SpectrumExplorer(
            {("plain", "dot"): SpectralTwicing(TangentFilter(torch.ones(1, 1, 1), vanilla(1, 1)))}, vectors=1
        ),
    ],
    ids=["black picture", "one look", "one pixel"],
)
def test_what_python_takes_the_browser_shows(figure: Callable[[], ComputedFigure], show: Open) -> None:
    place = show(figure())
    expect(place).to_have_attribute("data-state", "ready")
    expect(place.locator(".dip-readout")).to_contain_text("dB" if "dB" in place.inner_text() else "steps")
