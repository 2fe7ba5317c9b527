"""What the figures refuse, when they are made and later, and what they show of themselves."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
import torch
import traitlets

from dipfilters import KernelFilter, PictureError, SpectralTwicing, one_layer_tangent_kernel
from dipfilters.figures import FilmRun, RowExplorer, SpectrumExplorer, TrainingFilm, TwicingPlayer
from tests.figures.samples import FIGURES, SIGMA, pictures, run, twice

NAN = float("nan")
REFUSED: dict[str, dict[str, list[Any]]] = {
    "rows": {
        "pixel": [[19, 0], [0, -1], [1], [True, 1]],
        "patch_size": [4, 11, True],
        "bandwidth": [0.1, 4.1, NAN],
        "sigma": [0.2],
        "noisy": [b""],
    },
    "player": {
        "filter": ["median"],
        "noise": [30],
        "seed": [0, 2**31 - 1],
        "step": [0, 1001, True],
        "clean": [b""],
    },
    "lab": {"angle": [-1, 181], "width": [65], "bandwidth": [0.1, NAN], "seed": [0]},
    "film": {"fed": ["tea"], "pixel": ["", "nose"], "step": [-1], "frames": [b""], "runs": [[]]},
    "spectrum": {"network": ["none"], "fed": ["tea"], "step": [0, 10**7], "vectors": [b""]},
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_refuses_later_what_it_refuses_at_first(name: str) -> None:
    figure = FIGURES[name]()
    for trait, values in REFUSED[name].items():
        before = getattr(figure, trait)
        for value in values:
            with pytest.raises((traitlets.TraitError, IndexError)):
                setattr(figure, trait, value)
            assert getattr(figure, trait) == before


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_brings_its_still_and_a_steady_name(name: str) -> None:
    figure = FIGURES[name]()
    data, _ = figure._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == figure.model_id
    assert data["image/png"].startswith("iVBORw0KGgo")
    assert " at 0x" not in data["text/plain"]


def test_a_row_explorer_refuses_what_it_cannot_show() -> None:
    clean, noisy = pictures()
    with pytest.raises(PictureError, match=r"one shape, got \(1, 19, 23\), \(1, 19, 20\)"):
        RowExplorer(clean, noisy[:, :, :20], SIGMA, pixel=(0, 0))
    with pytest.raises(PictureError, match=r"noisy must be grey, .*gray=True"):
        RowExplorer(clean, noisy.expand(3, -1, -1), SIGMA, pixel=(0, 0))
    with pytest.raises(PictureError, match="more than the 16384"):
        RowExplorer(torch.zeros(1, 130, 130), torch.zeros(1, 130, 130), SIGMA, pixel=(0, 0))
    for sigma in (25.0, 0.0, NAN):
        with pytest.raises(ValueError, match="divide a level of 0 to 255 by 255"):
            RowExplorer(clean, noisy, sigma, pixel=(0, 0))
    with pytest.raises(ValueError, match="bandwidth"):
        RowExplorer(clean, noisy, 1e-200, pixel=(0, 0))
    small = RowExplorer(clean[:, :3], noisy[:, :3], SIGMA, pixel=(0, 0))
    with pytest.raises(PictureError, match="pixels are too few for reflect padding by 3"):
        small.patch_size = 7


def test_a_row_explorer_with_a_black_corner_has_a_still() -> None:
    clean = torch.zeros(1, 12, 12)
    clean[:, 6:] = 0.5
    figure = RowExplorer(clean, clean, SIGMA, pixel=(1, 1))
    titles = [ax.get_title() for ax in figure.still().axes]
    assert titles == ["noisy picture", "non-local means", "tangent kernel: no row"]


def test_a_twicing_player_refuses_pictures_too_large_or_too_small() -> None:
    with pytest.raises(PictureError, match="the browser can do with 4096"):
        TwicingPlayer(torch.zeros(1, 65, 64))
    with pytest.raises(PictureError, match="pixels are too few for reflect padding by 3"):
        TwicingPlayer(torch.zeros(1, 3, 64))


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"looks": [0, 1, 1, 3]}, r"looks must ascend .*\[0, 1, 1, 3\]"),
        ({"pictures": np.full((4, 6, 7), 256)}, "must hold 0 to 255"),
        ({"psnr": np.zeros(9)}, "steps 0 to 9, got 9 of 10"),
        ({"psnr": np.full(10, np.inf)}, "steps 0 to 9, got 0 of 10"),
        ({"rows": np.full((4, 1, 6, 7), NAN)}, "NaN or infinite"),
    ],
)
def test_a_run_that_no_film_can_show_is_refused(others: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=rf"Adam, fed with noise: .*{words}"):
        run(**others)


def test_a_film_refuses_runs_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"sign, fed with noise: looks \[0, 1, 3, 8\]"):
        TrainingFilm([run(), run("sign", looks=[0, 1, 3, 8])], pixels={"edge": (0, 0)})
    with pytest.raises(ValueError, match="for the 2 named pixels"):
        TrainingFilm([run()], pixels={"edge": (0, 0), "sky": (1, 1)})
    with pytest.raises(IndexError, match="outside the picture of 6×7"):
        TrainingFilm([run()], pixels={"edge": (6, 0)})
    with pytest.raises(ValueError, match="5 runs are fed with noise, and four at most"):
        TrainingFilm(5 * [run()], pixels={"edge": (0, 0)})
    loud = np.random.default_rng(0).integers(0, 256, (40, 100, 100))
    with pytest.raises(ValueError, match=r"more than 300000; give fewer runs"):
        TrainingFilm([FilmRun("Adam", "noise", list(range(40)), loud, np.zeros(40))])


def test_a_spectrum_explorer_refuses_what_does_not_fit() -> None:
    one = twice()
    with pytest.raises(ValueError, match=r"missing: \[\('plain', 'noise'\)\]"):
        SpectrumExplorer({("plain", "picture"): one, ("deep", "picture"): one, ("deep", "noise"): one})
    with pytest.raises(ValueError, match="of one size"):
        SpectrumExplorer({("plain", "picture"): one, ("plain", "noise"): twice(8)})
    with pytest.raises(ValueError, match="fed with two things at most"):
        SpectrumExplorer({("plain", fed): one for fed in ("picture", "noise", "nothing")})
    with pytest.raises(ValueError, match="vectors must be 1 to 132, the number of pixels, got 0"):
        SpectrumExplorer({("plain", "picture"): one}, vectors=0)
    black = KernelFilter(torch.zeros(1, 6, 7), one_layer_tangent_kernel(), patch_size=3, normalize=1.0)
    with pytest.raises(ValueError, match=r"the largest eigenvalue is 0\.0.*picture that is not black"):
        SpectrumExplorer({("plain", "picture"): SpectralTwicing(black)})
    some = KernelFilter(pictures(6, 7)[0], one_layer_tangent_kernel(), patch_size=3, normalize="spectral")
    low_rank = some.low_rank(9, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"each of the 42 pixels.*not low ranks of them"):
        SpectrumExplorer({("plain", "picture"): SpectralTwicing(low_rank)})


def test_a_film_keeps_pictures_exactly_and_rows_nearly() -> None:
    given = run()
    film = TrainingFilm([given], pixels={"edge": (3, 4)})
    frames = np.frombuffer(zlib.decompress(film.frames), np.uint8).reshape(4, 2, 6, 7)
    assert (frames[:, 0] == given.pictures).all()
    assert given.rows is not None
    exact = given.rows / np.abs(given.rows).max((2, 3), keepdims=True)
    assert np.abs(frames[:, 1:].view(np.int8) / 124 - exact).max() <= 0.5 / 31 + 1e-9
    assert film.runs[0]["psnr"][film.runs[0]["steps"].index(3)] == round(given.psnr[3], 3)
