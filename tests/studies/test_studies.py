"""The studies themselves, at the quick profile: each point is computed, and computed again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import LocalCluster

from dipfilters import GradientDescent, LinearizedNetwork, autoencoder, build, psnr, train
from dipfilters.empirical import JacobianFilter
from studies import load, own_kernel
from studies.run import STAMP, STUDIES, Setting, computed, module_of, run
from studies.scenes import scene
from studies.table import key
from tests.samples import generator, same_numbers

pytestmark = pytest.mark.filterwarnings("ignore::Warning")


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Iterator[Path]:
    """The folder where all studies were run at the quick profile."""
    folder = tmp_path_factory.mktemp("results")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(silence_logs=50, **options) as cluster:
        for study in STUDIES:
            run(study, profile="quick", out=folder, cluster=cluster.scheduler_address)
        yield folder


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_says_what_it_expects_and_has_each_point_once(study):
    module = module_of(study)
    assert "What theory predicts" in str(module.__doc__)
    for profile in ("quick", "full"):
        keys = [key(point) for point in module.points(profile)]
        assert len(keys) == len(set(keys))
    assert len(keys) > len(module.points("quick"))


@pytest.mark.parametrize("study", STUDIES)
def test_all_points_are_there_and_one_of_each_arm_gives_the_same_numbers_again(study, tables):
    rows = load(study, "quick", folder=tables)
    points = module_of(study).points("quick")
    assert [row["key"] for row in rows] == [key(point) for point in points]
    assert all(row.keys() >= {*STAMP} for row in rows)
    assert {row["profile"] for row in rows} == {"quick"}
    arms = {row["arm"]: row for row in rows}  # the last one of each, in another process
    for point in points:
        row = arms[point["arm"]]
        if key(point) == row["key"]:
            again, _ = computed(study, point, Setting())
            read = {n: np.float32(v) if isinstance(v, np.ndarray) else v for n, v in again.items()}
            assert same_numbers({**read, "profile": "quick"}, row, STAMP)


def test_every_psnr_is_one(tables):
    for study in STUDIES:
        for row in load(study, "quick", folder=tables):
            for name in ("best", "noisy best", "fresh best", "blur", "wiener"):
                assert 0 < row.get(name, 20.0) < 40


def test_a_folder_of_ones_own_pictures(tmp_path):
    from PIL import Image

    for name, level in (("b.png", 90), ("a.jpg", 160)):
        Image.fromarray(np.full((20, 30, 3), level, np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    points = own_kernel.points("quick", str(tmp_path))
    assert {(point["picture"], point["other"]) for point in points} == {
        ("a.jpg", "b.png"),
        ("b.png", "a.jpg"),
    }
    at = scene("a.jpg", "b.png", 0, side=8, sigma=0.1, device="cpu", folder=str(tmp_path))
    assert float((at.clean - 160 / 255).abs().max()) < 0.01
    assert float((at.other_clean - 90 / 255).abs().max()) < 0.01


def test_draws_share_nothing():
    """Weights, input and noise of two draws, or of two pictures, are as unlike as any."""
    options: Any = {"side": 24, "sigma": 0.1, "device": "cpu", "folder": None}
    scenes = [scene(name, "coffee", draw, **options) for name in ("camera", "brick") for draw in (0, 1)]
    for what in (lambda at: at.fed, lambda at: at.noisy - at.clean, lambda at: at.fresh - at.clean):
        noises = torch.stack([what(at).flatten() for at in scenes])
        cosines = torch.corrcoef(noises) - torch.eye(4)
        assert float(cosines.abs().max()) < 5 / math.sqrt(24 * 24)
    same = scene("camera", "coffee", 0, **options)
    assert torch.equal(same.noisy, scenes[0].noisy)
    assert float((same.noisy - same.fresh).abs().mean()) > 0.05


def test_momentum_in_a_fixed_kernel_is_momentum_on_the_linearised_network():
    at = scene("camera", "coffee", 0, side=8, sigma=0.1, device="cpu", folder=None)
    network = build(
        autoencoder(1, 3),
        channels=32,
        outputs=1,
        width=4,
        generator=generator(0),
        parametrization="standard",
    ).double()
    filter = JacobianFilter(network, at.fed.double())
    values, vectors, _ = filter.decomposition()
    start = vectors.T @ at.noisy.double().flatten()
    found = own_kernel._heavy_ball(0.9, 40, values, vectors, start, at)
    step = GradientDescent(filter.scale, momentum=0.9)
    states = train(LinearizedNetwork(network), at.fed.double(), at.noisy.double(), optimizer=step, steps=40)
    expected = {
        s.number: psnr(s.estimate, at.clean.double()) for s in states if s.number and s.number % 10 == 0
    }
    assert found["momentum 0.9 best"] == pytest.approx(max(expected.values()), abs=1e-6)
    assert found["momentum 0.9 step"] == max(expected, key=expected.__getitem__)
