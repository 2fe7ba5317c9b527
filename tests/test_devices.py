"""What is computed on a graphics card lies there, and is what the processor computes.

Without a card, the work is at least done.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from benchmarks import gpu_check
from dipfilters import (
    Adam,
    ExponentialAverage,
    KernelFilter,
    LinearizedNetwork,
    SpectralTwicing,
    WindowedVariance,
    add_noise,
    build,
    choose_device,
    discrepancy_stop,
    empirical_tangent_kernel,
    extract_patches,
    jittered,
    masked,
    masked_estimate,
    monte_carlo_divergence,
    one_layer_tangent_kernel,
    skip,
    sure,
    tangent_kernel,
    train,
    twicing,
)
from dipfilters.empirical import JacobianFilter
from dipfilters.engines import batched
from dipfilters.shift_invariant import gaussian_blur, wiener
from tests.samples import KERNELS, generator, picture
from tools.errors import BookError

DEVICE = choose_device()


def filter(x: torch.Tensor, **changes: Any) -> KernelFilter:
    options: Any = {"patch_size": 3, "normalize": "rows"} | changes
    return KernelFilter(x, one_layer_tangent_kernel(), **options)


def network(x: torch.Tensor) -> torch.nn.Module:
    return build(skip(1, 3), channels=1, width=4, generator=generator(0)).double().to(x.device)


def trained(x: torch.Tensor, *, of: Any = lambda network: network, **changes: Any) -> torch.Tensor:
    options: Any = {"optimizer": Adam(), "steps": 2, "subtract_start": False} | changes
    *_, last = train(of(network(x)), x, x, **options)
    return last.estimate


def stopped(x: torch.Tensor) -> torch.Tensor:
    rule = WindowedVariance(window=2)
    rule.update(x)
    rule.update(2 * x)
    assert rule.best_estimate is not None
    return rule.best_estimate * rule.variances[0]


WORK: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "noise": lambda x: add_noise(x, 0.1, generator=generator(3)),
    "patches": lambda x: extract_patches(x, 3),
    "kernels": lambda x: torch.stack([kernel(x[0], x[0] + 0.1) for kernel in KERNELS.values()]),
    "row": lambda x: filter(x).row((3, 4)),
    "dense": lambda x: filter(x).dense(),
    "apply": lambda x: filter(x).apply(x),
    "apply, in columns": lambda x: filter(x, engine="batched").apply(torch.cat([x, x.flip(1), x.square()])),
    "apply, batched": lambda x: filter(x, engine="batched").apply(x),
    "dense, batched": lambda x: filter(x, engine="batched").dense(),
    "closed kernel": lambda x: tangent_kernel(skip(1, 3, up="nearest"), x),
    "kernel": lambda x: empirical_tangent_kernel(network(x), x, pixels=[(1, 2)]),
    "iterated": lambda x: twicing(filter(x), x, steps=[1, 9]),
    "closed form": lambda x: SpectralTwicing(filter(x)).estimate(x, [1, 9]),
    "bias": lambda x: SpectralTwicing(filter(x)).bias_squared(x, [1, 9]),
    "variance": lambda x: SpectralTwicing(filter(x)).variance(0.1, [1, 9]),
    "SURE": lambda x: sure(x[None], 0.9 * x, 0.1, SpectralTwicing(filter(x)).degrees_of_freedom([9])),
    "divergence": lambda x: monte_carlo_divergence(lambda y: y**2, x, generator=generator(1)),
    "discrepancy": lambda x: discrepancy_stop(torch.stack([0 * x, x]), x, 0.1) * x,
    "trained": trained,
    "trained, linearised": lambda x: trained(x, of=LinearizedNetwork),
    "trained, one length": lambda x: trained(x, optimizer=Adam(shared="all")),
    "kernel as a filter": lambda x: JacobianFilter(network(x), x).apply(x),
    "blur": lambda x: gaussian_blur((8, 9), 1.0, device=x.device).apply(x),
    "wiener": lambda x: wiener(x, 0.1).apply(x),
    "masked": lambda x: trained(x, step_inputs=masked(x)),
    "jittered": lambda x: trained(x, step_inputs=jittered(x, generator=generator(0))),
    "masked estimate": lambda x: masked_estimate(network(x), x),
    "average": lambda x: ExponentialAverage().update(x),
    "windowed variance": stopped,
}


@pytest.mark.parametrize("name", WORK)
def test_the_same_on_a_card_as_on_the_processor(name):
    image = picture(1, 8, 9)
    found = WORK[name](image.to(DEVICE))
    assert found.device.type == DEVICE.type
    assert torch.allclose(found.cpu(), WORK[name](image), rtol=1e-6, atol=1e-6)


def test_a_network_is_made_where_its_generator_is():
    chance = torch.Generator(DEVICE).manual_seed(0)
    made = build(skip(1, 3), channels=1, width=4, generator=chance)
    assert {weight.device.type for weight in made.parameters()} == {DEVICE.type}


def test_the_check_of_a_card_goes_through_all_its_work(tmp_path: Path):
    """On the processor, without Triton; `make gpu-check` does it where there is a card."""
    gpu_check.main(["--device", "cpu", "--quick", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "card.json").read_text("utf-8"))
    names = {row["name"] for row in result["rows"]}
    work = "correct: reference", "correct: batched", "sums", "boxes", "product", "training", "linearised"
    assert names == set(work)
    report = (tmp_path / "card.md").read_text("utf-8")
    assert all(f"| {row['name']} | {row['work']} | " in report for row in result["rows"])
    assert f"commit {result['provenance']['commit']}" in report
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.json", "card.md"]


def test_the_check_of_a_card_ends_at_a_wrong_product(tmp_path: Path):
    product = batched.product
    wrong = mock.patch.object(batched, "product", lambda *given: 1.001 * product(*given))
    with wrong, pytest.raises(BookError, match=r"one layer, 11×11, batched: the results differ by 1.0e-03"):
        gpu_check.main(["--device", "cpu", "--quick", "--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_without_a_card_its_check_ends_at_once(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(gpu_check.NoCard) as trouble:
        gpu_check.main(["--device", "cuda:1"])
    assert str(trouble.value) == (
        f"--device is 'cuda:1', but torch {torch.__version__} sees no CUDA card here; run this where "
        f"there is one, or try what it does with --device cpu --quick"
    )
