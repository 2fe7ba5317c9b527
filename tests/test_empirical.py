"""The kernel of a finite network: against its Jacobian, and against the closed form as the width grows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from dipfilters import (
    Adam,
    LanczosTwicing,
    LinearizedNetwork,
    PictureError,
    SpectralTwicing,
    autoencoder,
    build,
    discrepancy_stop,
    empirical_tangent_kernel,
    largest_eigenvalue,
    skip,
    step_grid,
    sure,
    tangent_kernel,
    train,
    vanilla,
)
from dipfilters.empirical import JacobianFilter, detail_over_noise, krylov_filter, tangent_product, turn
from dipfilters.filters import MemoryBudgetError
from dipfilters.networks import hour_glass
from dipfilters.shift_invariant import CosineFilter, gaussian_blur
from tests.filter_contract import FilterContract
from tests.samples import annotations_off, flat_and_textured, generator, picture, refused

NETWORKS = {
    "vanilla": vanilla(2, 3),
    "vanilla-circular": vanilla(1, 3, slope=0.2, padding="circular"),
    "autoencoder": autoencoder(1, 3),
    "autoencoder-reflect": autoencoder(1, 3, padding="reflect", up="nearest"),
    "skip": skip(1, 3, side_channels=0.5),
    "skip-strides": skip(1, 3, down="stride", padding="zero"),
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
    columns = empirical_tangent_kernel(network, image, pixels=[(5, 6), (0, 3)])
    assert torch.allclose(columns, kernel[:, [41, 3]], rtol=1e-12, atol=0)


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


# -------------------------------------------------------------------------------------------- width


def slope_of_errors(architecture, widths, seeds) -> tuple[float, float]:
    """The slope of log(root-mean-square error of one column) against log(width), and its standard error.

    The squared errors of single seeds have a common relative spread s at all widths, so the logarithm of
    their root-mean-square over m seeds has the standard error s/(2√m), and the slope of the line through
    them, each with the weight m, has s/2 over the root of Σ m (x − mean)².
    """
    image = picture(1, 4, 5, seed=2, dtype=torch.float32)
    exact = tangent_kernel(architecture, image)[:, 12]
    logs, spreads = [], []
    for width, count in zip(widths, seeds, strict=True):
        squares = []
        for seed in range(count):
            network = build(architecture, channels=1, width=width, generator=generator(1000 * width + seed))
            column = empirical_tangent_kernel(network, image, pixels=[(2, 2)])[:, 0].double()
            squares.append(float((column - exact).square().mean() / exact.square().mean()))
        logs.append(0.5 * math.log(np.mean(squares)))
        spreads.append(float(np.var(squares, ddof=1) / np.mean(squares) ** 2))
    x = np.log(widths) - np.average(np.log(widths), weights=seeds)
    leverage = float(np.sum(np.array(seeds) * x**2))
    slope = float(np.sum(np.array(seeds) * x * logs)) / leverage
    return slope, math.sqrt(np.average(spreads, weights=seeds)) / 2 / math.sqrt(leverage)


def test_the_error_falls_like_one_over_the_root_of_the_width():
    """Exactly so for one hidden layer, whose kernel is a mean over its neurons."""
    slope, error = slope_of_errors(vanilla(1, 3), (8, 64, 512), (200, 200, 200))
    assert abs(slope + 0.5) < 3 * error
    assert error < 0.03


@pytest.mark.long
@pytest.mark.parametrize("architecture", [vanilla(2, 3), autoencoder(1, 3), skip(1, 3, side_channels=0.25)])
def test_the_error_of_deep_networks_falls_like_that_too(architecture):
    """But for terms in 1/width, of which some are left at width 64."""
    slope, error = slope_of_errors(architecture, (64, 128, 256, 512, 1024), (480, 320, 200, 80, 24))
    assert abs(slope + 0.5) < min(0.1, 3 * error)
    assert error < 0.06


# --------------------------------------------------------------------------- the kernel as a filter


class TestJacobianFilter(FilterContract):
    image = picture(2, 6, 7)

    def make(self, normalize):
        return JacobianFilter(small("skip"), self.image, normalize=normalize)

    def kernel(self):
        rows = jacobian(small("skip"), self.image)
        return (rows @ rows.T).numpy()

    tolerance = 1e-6  # λ_max to a thousandth of Lanczos' tolerance squared; products alone agree to 1e-12


class TestKrylovFilterOfEverything(FilterContract):
    """As many products as there are pixels span them all."""

    image = picture(1, 6, 7)
    tolerance = 1e-9

    def make(self, normalize):
        filter = JacobianFilter(small("autoencoder"), picture(2, 6, 7), normalize=1.0)
        return krylov_filter(filter, self.image, 42, normalize=normalize)

    def kernel(self):
        rows = jacobian(small("autoencoder"), picture(2, 6, 7))
        return (rows @ rows.T).numpy()


def test_channels_stand_one_below_the_other():
    network, image = small("skip", outputs=3), picture(2, 6, 7)
    filter, rows = JacobianFilter(network, image, normalize=1.0), jacobian(network, image)
    assert filter.shape == (18, 7)
    assert torch.allclose(filter.dense(), rows @ rows.T, rtol=0, atol=1e-12 * float(rows.square().sum()))


def test_the_filter_keeps_the_weights_of_its_making():
    network, image = small("vanilla"), picture(2, 6, 7)
    filter = JacobianFilter(network, image, normalize=1.0)
    before = filter.apply(picture(1, 6, 7))
    list(train(network, image, picture(1, 6, 7, seed=3), optimizer=Adam(0.1), steps=3))
    assert torch.equal(filter.apply(picture(1, 6, 7)), before)
    assert not torch.allclose(JacobianFilter(network, image, normalize=1.0).apply(picture(1, 6, 7)), before)


def test_twicing_and_its_stops_work_on_any_module():
    """Batch normalisation and a sigmoid, which no closed form knows."""
    network = build(hour_glass(2), channels=4, outputs=1, width=6, generator=generator(1)).double()
    clean = flat_and_textured(1, 16, 16)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=generator(2), dtype=torch.float64)
    filter = JacobianFilter(network, picture(4, 16, 16))
    dense = SpectralTwicing(filter)
    steps = step_grid(3000, 20)
    path = dense.estimate(noisy, steps)
    lanczos = LanczosTwicing(filter, noisy, last=3000, tolerance=1e-6, max_products=256).estimate(steps)
    assert torch.allclose(lanczos, path, rtol=0, atol=1e-4)
    low = SpectralTwicing(krylov_filter(filter, torch.cat([noisy, clean]), 60))
    assert torch.allclose(low.estimate(noisy, steps), path, rtol=0, atol=1e-3)
    assert torch.allclose(low.estimate(clean, steps), dense.estimate(clean, steps), rtol=0, atol=1e-3)
    risks = sure(path, noisy, 0.1, dense.degrees_of_freedom(steps))
    errors = (path - clean).square().mean((1, 2, 3))
    assert float(errors[risks.argmin()]) < 1.2 * float(errors.min())
    assert 0 < discrepancy_stop(path, noisy, 0.1) < len(steps) - 1


def test_the_turn_of_a_kernel():
    kernel = picture(1, 5, 4)[0]
    centred = kernel - kernel.mean(0)
    across = picture(1, 5, 4, seed=1)[0]
    across = across - across.mean(0)
    across = across - centred * (across * centred).sum() / centred.square().sum()
    across = across * centred.norm() / across.norm()
    assert turn(kernel, 3 * kernel + 0.5) < 1e-7
    assert turn(kernel, across) == pytest.approx(1.0)
    assert turn(centred, math.cos(0.3) * centred + math.sin(0.3) * across) == pytest.approx(math.sin(0.3))


def test_detail_over_noise():
    """1 for the filter that does nothing; for any other, by its matrix and by ten thousand noises."""
    clean = flat_and_textured(2, 8, 7)
    identity, blur = CosineFilter(torch.ones(16, 7)), gaussian_blur((16, 7), 0.7)
    assert detail_over_noise(identity, clean, generator=generator(0)) == pytest.approx(1.0)
    detail = clean - torch.from_numpy(gaussian_filter(clean.numpy(), (0, 2, 2)))
    detail = (detail - detail.mean()).flatten()
    centring = torch.eye(112, dtype=torch.float64) - 1 / 112
    matrix = centring @ blur.dense() @ centring
    expected = float(detail @ matrix @ detail / detail.square().sum()) / (float(matrix.trace()) / 111)
    found = detail_over_noise(blur, clean, generator=generator(0), draws=10_000)
    # One quotient spreads by √(2 tr M²/tr(M)²), some 0.2 here.
    assert found == pytest.approx(expected, rel=5 * 0.2 / 100)


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


class WithNumbers(torch.nn.Module):
    """A network with a layer that is not trained and a buffer, both of which its output depends on."""

    def __init__(self) -> None:
        super().__init__()
        chance, partly = generator(1), vanilla(2, 3).train_only([False, True, True])
        self.body = build(partly, channels=1, width=4, generator=chance)
        self.register_buffer("offset", torch.tensor(0.25))

    def forward(self, image):
        return self.body(image) + self.get_buffer("offset")


def test_the_expansion_follows_conversions_and_is_stored_with_all_its_numbers():
    network, image = WithNumbers(), picture(1, 6, 7)
    expansion = LinearizedNetwork(network)
    expected = network(image[None].float())
    for kind in (torch.float64, torch.float16, torch.bfloat16):
        converted = expansion.to(kind)
        assert {number.dtype for number in converted.state_dict().values()} == {kind}
        if kind == torch.float64:
            found = converted(image[None])
            assert found.dtype == kind
            assert torch.allclose(found, expected.double(), rtol=0, atol=1e-6)
    other = LinearizedNetwork(WithNumbers()).double()
    with torch.no_grad():
        for move in other.moves:
            move += 0.1
    other.load_state_dict(LinearizedNetwork(network).double().state_dict())
    assert torch.allclose(other(image[None]), expected.double(), rtol=0, atol=1e-6)
    assert sum(p.numel() for p in expansion.parameters()) == 4 * 4 * 9 + 4


def test_the_expansion_stays_when_the_network_moves_on():
    network, image = small("vanilla"), picture(2, 6, 7)
    expansion = LinearizedNetwork(network)
    before = expansion(image[None]).detach()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(2.0)
    assert torch.equal(expansion(image[None]), before)
    with_numbers = WithNumbers()
    expansion = LinearizedNetwork(with_numbers)
    before = expansion(picture(1, 6, 7, dtype=torch.float32)[None]).detach()
    with_numbers.get_buffer("offset").add_(1.0)
    assert torch.equal(expansion(picture(1, 6, 7, dtype=torch.float32)[None]), before)


# ------------------------------------------------------------------------------------------- doors


def test_bad_arguments_are_refused():
    network, image = small("vanilla"), picture(2, 6, 7)
    filter = JacobianFilter(network, image)
    other = r"before and after must have the same columns, got \(5, 4\) and \(4, 5\)"
    with annotations_off(), refused(ValueError, other):
        turn(torch.ones(5, 4), torch.ones(4, 5))
    with refused(ValueError, "before or after is constant in each column, and has no angle"):
        turn(torch.ones(5, 4), picture(1, 5, 4)[0])
    with refused(ValueError, "the filter takes all these pictures to 0, and shows nothing of itself"):
        krylov_filter(CosineFilter(torch.zeros(6, 7)), picture(1, 6, 7), 2)
    with refused(PictureError, "pictures requires a gradient"):
        krylov_filter(filter, picture(1, 6, 7).requires_grad_(), 2)
    with refused(PictureError, "clean must have the shape of the filter"):
        detail_over_noise(filter, image, generator=generator(0))
    with refused(ValueError, "spread must be positive and finite, got -1"):
        detail_over_noise(filter, image[:1], generator=generator(0), spread=-1.0)
    with refused(ValueError, "detail over noise is nan: the picture has no detail"):
        detail_over_noise(filter, 0 * image[:1], generator=generator(0))
    with refused(ValueError, "products must be a whole number and at least 1, got 0"):
        krylov_filter(filter, image[:1], 0)
    by_rows = JacobianFilter(network, image, normalize="rows")
    with refused(ValueError, "the filter's rows are normalised, and it is not symmetric; use another norm"):
        krylov_filter(by_rows, image[:1], 3)
    with refused(IndexError, r"pixel \(6, 0\) lies outside the picture of 6×7 pixels"):
        empirical_tangent_kernel(network, image, pixels=[(6, 0)])
    with refused(MemoryBudgetError, "this takes 1.41e-05 GB for 6×7 pixels, over budget_gb = 1e-06; use"):
        empirical_tangent_kernel(network, image, budget_gb=1e-6)
    with refused(ValueError, "budget_gb must be positive and finite, got nan"):
        empirical_tangent_kernel(network, image, budget_gb=math.nan)
    with refused(PictureError, r"picture must have the shape of the output, \(1, 6, 7\), got \(6, 7\)"):
        tangent_product(network, image, image[0])
    with refused(PictureError, r"picture requires a gradient, .* give picture.detach\(\)"):
        tangent_product(network, image, image[:1].clone().requires_grad_())
    with refused(ValueError, "the tangent kernel is 0, as that of a black input is; add a constant"):
        largest_eigenvalue(network, 0 * image)
    frozen = build(vanilla(1, 3).train_only([False, False]), channels=2, width=2, generator=generator(0))
    for use in (lambda: empirical_tangent_kernel(frozen, image.float()), lambda: LinearizedNetwork(frozen)):
        with refused(ValueError, "no weight of the network requires a gradient"):
            use()
