"""Tests of dipfilters.plots: what stands on the axes, read back from matplotlib."""

import math

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from dipfilters import plots

mpl.use("Agg")


@pytest.fixture(autouse=True)
def book_style():
    with mpl.rc_context():
        plots.use_style()
        yield
        plt.close("all")


def test_pictures_share_one_grey_scale():
    _, axes = plots.panels(2)
    dim, bright = 0.1 * torch.ones(1, 4, 5), 0.9 * torch.ones(1, 4, 5)
    plots.show_pictures(axes, {"dim": dim, "bright": bright})
    assert [ax.images[0].get_clim() for ax in axes] == [(0.0, 1.0)] * 2
    assert [ax.get_title() for ax in axes] == ["dim", "bright"]


def test_a_colour_picture_keeps_its_pixels_and_is_clipped_only_for_display():
    image = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    image[0, 0, 0] = 1.5
    before = image.clone()
    _, axes = plots.panels(1)
    plots.show_picture(axes[0], image)
    shown = np.asarray(axes[0].images[0].get_array())
    assert shown.shape == (4, 5, 3)
    assert shown[0, 0, 0] == 1.0
    np.testing.assert_array_equal(shown[1:], image.permute(1, 2, 0).numpy()[1:])
    assert torch.equal(image, before)


def test_a_filter_row_is_orange_where_positive_blue_where_negative_and_marked_at_its_pixel():
    row = torch.zeros(6, 7)
    row[2, 3], row[1, 1], row[4, 5] = 5.0, 1.0, -1.0
    _, axes = plots.panels(1)
    plots.show_row(axes[0], torch.full((1, 6, 7), 0.5), row, (2, 3))
    shown = np.asarray(axes[0].images[0].get_array())
    assert shown[1, 1, 0] > 2 * shown[1, 1, 2], "the largest weight besides the pixel's own is full orange"
    assert shown[4, 5, 2] > 2 * shown[4, 5, 0], "a negative weight is blue"
    assert np.ptp(shown[0, 0]) < 1e-6, "no weight leaves the grey of the picture"
    marks = [np.asarray(line.get_xydata()).tolist() for line in axes[0].lines]
    assert marks == [[[3.0, 2.0]], [[3.0, 2.0]]], "the cross and its white rim"


def test_a_window_shows_the_surroundings_and_stops_at_the_border():
    _, axes = plots.panels(1)
    plots.show_row(axes[0], torch.full((1, 20, 30), 0.5), torch.rand(20, 30), (1, 15), window=4)
    assert axes[0].get_xlim() == (10.5, 19.5)
    assert axes[0].get_ylim() == (5.5, -0.5)


def test_signed_values_have_zero_in_the_middle_of_the_scale():
    _, axes = plots.panels(2)
    values = torch.tensor([[-1.0, 3.0]])
    plots.show_signed(axes[0], values)
    plots.show_signed(axes[1], values, top=8.0)
    assert axes[0].images[0].get_clim() == (-3.0, 3.0)
    assert axes[1].images[0].get_clim() == (-8.0, 8.0)


def test_a_table_is_one_in_pages_and_as_text():
    rows = [
        {"filter": "blur", "PSNR": 26.238, "draws": 5},
        {"filter": "none", "PSNR": math.nan, "note": "<b>"},
    ]
    shown = plots.table(rows)
    assert shown.to_string().split() == ["PSNR", "draws", "note", "blur", "26.24", "5", "none", "<b>"]
    html = shown._repr_html_()
    assert "<th>blur</th>" in html
    assert "&lt;b&gt;" in html
    assert "26.2380" in plots.table(rows, digits=4).to_string()
