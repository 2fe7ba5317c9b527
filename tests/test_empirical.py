"""The kernel of a finite network: against its Jacobian, and against the closed form as the width grows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dipfilters import (
    LinearizedNetwork,
    PictureError,
    autoencoder,
    build,
    empirical_tangent_kernel,
    largest_eigenvalue,
    skip,
    tangent_kernel,
    tangent_product,
    vanilla,
)
from dipfilters.filters import MemoryBudgetError
from tests.samples import DEVICES, generator, picture, refused

NETWORKS = {
    "vanilla": vanilla(2, 3),
    "vanilla-circular": vanilla(1, 3, slope=0.2, padding="circular"),
    "autoencoder": autoencoder(1, 3),
    "autoencoder-reflect": autoencoder(1, 3, padding="reflect", up="nearest"),
    "skip": skip(1, 3, side_channels=0.5),
    "skip-sum": skip(1, 3, merge="sum", down="stride", padding="zero"),
    "partly-trained": vanilla(2, 3).train_only([False, True, False]),
}


def small(name: str, *, outputs: int = 1, width: int = 6) -> torch.nn.Module:
    return build(NETWORKS[name], channels=2, width=width, outputs=outputs, generator=generator(1)).double()


def jacobian(network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Row by row, one gradient for each number of the output."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(value, weights, retain_graph=True)])
        for value in network(image[None]).flatten()
    ]
    return torch.stack(rows)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_kernel_is_the_product_of_jacobians(name):
    network, image = small(name), picture(2, 6, 7)
    rows = jacobian(network, image)
    kernel = empirical_tangent_kernel(network, image)
    assert torch.allclose(kernel, rows @ rows.T, rtol=0, atol=1e-12 * float(kernel.max()))


def test_some_columns():
    network, image = small("skip"), picture(2, 6, 7)
    columns = empirical_tangent_kernel(network, image, pixels=[(5, 6), (0, 3)])
    assert torch.allclose(columns, empirical_tangent_kernel(network, image)[:, [41, 3]], rtol=1e-12, atol=0)
    assert empirical_tangent_kernel(network, image, pixels=[]).shape == (42, 0)


def test_several_output_channels_are_averaged():
    network, image = small("autoencoder", outputs=3), picture(2, 6, 7)
    rows = jacobian(network, image).reshape(3, 42, -1)
    expected = torch.stack([one @ one.T for one in rows]).mean(0)
    assert torch.allclose(empirical_tangent_kernel(network, image), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_products_without_the_kernel(name):
    """J Jᵀ over all output channels at once, between different ones too."""
    network, image = small(name, outputs=2), picture(2, 6, 7)
    rows, v = jacobian(network, image), picture(2, 6, 7, seed=3)
    expected = (rows @ (rows.T @ v.flatten())).reshape(2, 6, 7)
    assert torch.allclose(tangent_product(network, image, v), expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("size", [(6, 7), (2, 2)])
def test_the_largest_eigenvalue(outputs, size):
    """To one thousandth; four pixels are too few for Lanczos."""
    network = build(vanilla(1, 3), channels=1, width=8, outputs=outputs, generator=generator(2)).double()
    image = picture(1, *size)
    rows = jacobian(network, image)
    expected = float(torch.linalg.eigvalsh(rows @ rows.T)[-1])
    assert largest_eigenvalue(network, image) == pytest.approx(expected, rel=1e-3)
    assert largest_eigenvalue(network, image) == largest_eigenvalue(network, image)


def test_nothing_is_changed():
    network, image = small("skip"), picture(2, 6, 7)
    before, seen = {k: v.clone() for k, v in network.state_dict().items()}, image.clone()
    empirical_tangent_kernel(network, image, pixels=[(0, 0)])
    largest_eigenvalue(network, image)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())
    assert torch.equal(image, seen)


# -------------------------------------------------------------------------------------------- width

WIDTHS = (64, 128, 256, 512, 1024)
SEEDS = (240, 160, 100, 40, 12)  # a network of width 1024 costs a hundred of width 64

# Each with how many times these seeds.
SLOPES = {
    "one-layer": (vanilla(1, 3), 2),
    "vanilla": (vanilla(2, 3), 2),
    "autoencoder": (autoencoder(1, 3), 1),
    "skip": (skip(1, 3, side_channels=0.25), 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOPES)
def test_the_error_falls_like_one_over_the_root_of_the_width(name):
    """Root-mean-square errors of one column, over 12 seeds and more; the slope in logarithms is −1/2.

    The squared errors of single seeds have a common relative spread s at all widths, so the logarithm of
    their root-mean-square over m seeds has the standard error s/(2√m), and the slope of the line through
    the five, each with the weight m, has s/2 over the root of Σ m (x − mean)².
    """
    (architecture, times), image = SLOPES[name], picture(1, 4, 5, seed=2, dtype=torch.float32)
    exact = tangent_kernel(architecture, image)[:, 12]
    logs, spreads = [], []
    for width, seeds in zip(WIDTHS, SEEDS, strict=True):
        squares = []
        for seed in range(times * seeds):
            network = build(architecture, channels=1, width=width, generator=generator(1000 * width + seed))
            column = empirical_tangent_kernel(network, image, pixels=[(2, 2)])[:, 0].double()
            squares.append(float((column - exact).square().mean() / exact.square().mean()))
        logs.append(0.5 * math.log(np.mean(squares)))
        spreads.append(float(np.var(squares, ddof=1) / np.mean(squares) ** 2))
    weights = times * np.array(SEEDS)
    x = np.log(WIDTHS) - np.average(np.log(WIDTHS), weights=weights)
    leverage = float(np.sum(weights * x**2))
    slope = float(np.sum(weights * x * logs)) / leverage
    error = math.sqrt(np.average(spreads, weights=weights)) / 2 / math.sqrt(leverage)
    print(f"slope {slope:.3f} ± {error:.3f}, errors {np.exp(logs).round(3)}")
    assert abs(slope + 0.5) < min(0.1, 3 * error)
    assert error < 0.06


# ------------------------------------------------------------------------------------- linearisation


def test_the_expansion_is_the_network_at_first():
    network, image = small("skip"), picture(2, 6, 7)
    expansion = LinearizedNetwork(network)
    assert torch.equal(expansion(image[None]), network(image[None]))
    assert sum(p.numel() for p in expansion.parameters()) == sum(p.numel() for p in network.parameters())


def test_the_expansion_is_that_of_first_order():
    """A move of size ε leaves an error of ε²: a quarter for half the move, away from the ReLUs' kinks."""
    network, image = small("vanilla"), picture(2, 6, 7)
    expansion = LinearizedNetwork(network)
    chance, errors = generator(4), []
    direction = [torch.randn(w.shape, generator=chance, dtype=w.dtype) for w in network.parameters()]
    start = [w.detach().clone() for w in network.parameters()]
    for size in (2e-5, 1e-5):
        with torch.no_grad():
            for weight, move, old, d in zip(
                network.parameters(), expansion.moves, start, direction, strict=True
            ):
                weight.copy_(old + size * d)
                move.copy_(size * d)
            errors.append(float((expansion(image[None]) - network(image[None])).abs().max()))
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.01)


def test_the_expansion_stays_when_the_network_moves_on():
    network, image = small("vanilla"), picture(2, 6, 7)
    expansion = LinearizedNetwork(network)
    before = expansion(image[None]).detach()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(2.0)
    assert torch.equal(expansion(image[None]), before)


# ------------------------------------------------------------------------------------------- doors


@pytest.mark.parametrize("device", DEVICES)
def test_on_every_device(device):
    network, image = small("skip").to(device), picture(2, 6, 7).to(device)
    kernel = empirical_tangent_kernel(network, image, pixels=[(1, 2)])
    assert kernel.device.type == device
    expected = empirical_tangent_kernel(small("skip"), picture(2, 6, 7), pixels=[(1, 2)])
    assert torch.allclose(kernel.cpu(), expected, rtol=1e-9, atol=1e-12)


def test_bad_arguments_are_refused():
    network, image = small("vanilla"), picture(2, 6, 7)
    with refused(PictureError, r"input must have shape \(C, H, W\), got \(6, 7\)"):
        empirical_tangent_kernel(network, image[0])
    with refused(IndexError, r"pixel \(6, 0\) lies outside the picture of 6×7 pixels"):
        empirical_tangent_kernel(network, image, pixels=[(6, 0)])
    with refused(MemoryBudgetError, "42 columns of the kernel of 6×7 pixels take .* use tangent_product"):
        empirical_tangent_kernel(network, image, budget_gb=1e-6)
    with refused(ValueError, r"picture must have the shape of the output, \(1, 6, 7\), got \(6, 7\)"):
        tangent_product(network, image, image[0])
    frozen = build(vanilla(1, 3).train_only([False, False]), channels=2, width=2, generator=generator(0))
    for use in (
        lambda: empirical_tangent_kernel(frozen, image.float()),
        lambda: largest_eigenvalue(frozen, image.float()),
        lambda: LinearizedNetwork(frozen),
    ):
        with refused(ValueError, "no weight of the network requires a gradient"):
            use()
