"""The interactive figures: what the browser computes against what the package does."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from dipfilters import kappa0, kappa1, sure
from dipfilters.figures.base import browser_normals
from tests.figures import samples
from tests.figures.samples import SIGMA, pictures
from tests.node import ask, tensor


def as_picture(values: torch.Tensor) -> dict[str, Any]:
    channels, height, width = values.shape
    return {"values": values, "channels": channels, "height": height, "width": width}


@pytest.mark.parametrize("name", ["kappa0", "kappa1"])
def test_the_browser_s_kernels_of_an_angle_are_the_package_s(name: str) -> None:
    for cosine in (-1.0, -0.3, 0.0, 0.5, 1 - 1e-9, 1.0):
        exact = {"kappa0": kappa0, "kappa1": kappa1}[name](torch.tensor(cosine, dtype=torch.float64))
        assert ask("maths.js", name, cosine) == pytest.approx(float(exact), abs=1e-12)


@pytest.mark.parametrize(("patch_size", "pixel"), [(1, (4, 7)), (3, (0, 0)), (7, (18, 22))])
def test_the_browser_s_rows_are_those_of_the_filters(patch_size: int, pixel: tuple[int, int]) -> None:
    figure = samples.rows(patch_size=patch_size, pixel=pixel, bandwidth=1.5)
    _, noisy = figure.pictures()
    patches = ask("maths.js", "extractPatches", as_picture(noisy), patch_size)
    patches |= {key: tensor(list(patches[key])) for key in ("patches", "powers")}
    number = pixel[0] * 23 + pixel[1]
    found = ask("rows.js", "explore", as_picture(noisy), patches, number, 1.5 * SIGMA)
    for name, made in zip(("means", "tangent"), figure.filters().values(), strict=True):
        exact = made.row(pixel)
        row = tensor(found[name]["row"]).reshape(exact.shape)
        # The same float64 formula with another order of sums; acos near 1 turns 1e-16 into 1e-8.
        assert float((row - exact).abs().max()) < 1e-7 * float(exact.max())
        assert found[name]["value"] == pytest.approx(float((exact * noisy[0]).sum()), abs=1e-6)
        assert found[name]["pixels"] == pytest.approx(1 / float(exact.square().sum()), rel=1e-6)


def test_the_browser_s_chance_is_python_s_and_normal() -> None:
    found = tensor(ask("maths.js", "normals", 5, 4000))
    assert torch.allclose(found, browser_normals(5, 4000), atol=1e-12)
    assert abs(float(found.mean())) < 4 / math.sqrt(4000)
    assert abs(float(found.var()) - 1) < 4 * math.sqrt(2 / 4000)
    assert not torch.equal(found, browser_normals(6, 4000))
    assert [ask("maths.js", "nextSeed", seed) for seed in (5, 2**31 - 2)] == [6, 1], "all that Python takes"


@pytest.mark.parametrize("filter", ["non-local means", "tangent kernel"])
def test_the_browser_s_twicing_is_the_spectral_one(filter: str) -> None:
    figure = samples.player(filter=filter, seed=3)
    clean, noisy = figure.pictures()
    steps = ask("player.js", "stepGrid")
    wish = {"filter": filter, "sigma": SIGMA, "seed": 3}
    found = ask("player.js", "course", clean, 19, 23, wish)
    twice = figure.twicing(noisy)
    estimates = twice.estimate(noisy, steps)
    assert float((tensor(found["estimates"]) - estimates.flatten(1)).abs().max()) < 1e-4
    noise = noisy - clean
    kept = twice.estimate(clean, steps) - clean
    let_in = twice.estimate(noise, steps)
    for name, exact in {
        "bias": kept.square().mean((1, 2, 3)),
        "variance": let_in.square().mean((1, 2, 3)),
        "error": (estimates - clean).square().mean((1, 2, 3)),
    }.items():
        assert float((tensor(found[name]) / exact - 1).abs().max()) < 1e-3, name
    assert found["products"] < 60


def test_the_browser_s_stein_estimate_is_the_monte_carlo_one() -> None:
    figure = samples.player(seed=3)
    clean, noisy = figure.pictures()
    steps = ask("player.js", "stepGrid")
    found = ask("player.js", "course", clean, 19, 23, {"filter": figure.filter, "sigma": SIGMA, "seed": 3})

    # The same probe, a finite difference of the same size: what the package's function does with its own.
    probe = browser_normals(4, clean.numel()).reshape(clean.shape)
    moved = noisy + 1e-3 * probe
    estimates = figure.twicing(noisy).estimate(noisy, steps)
    change = (figure.twicing(moved).estimate(moved, steps) - estimates) / 1e-3
    exact = sure(estimates, noisy, SIGMA, (probe * change).sum((1, 2, 3)))
    assert float((tensor(found["risk"]) - exact).abs().max()) < 1e-4


def test_the_levels_that_the_browser_gets_are_near_the_pictures() -> None:
    figure = samples.rows()
    clean, noisy = pictures()
    seen_clean, seen_noisy = figure.pictures()
    assert float((seen_clean - clean).abs().max()) <= 0.5 / 255 + 1e-12
    step = (figure.range[1] - figure.range[0]) / 255
    assert float((seen_noisy - noisy).abs().max()) <= step / 2 + 1e-12
