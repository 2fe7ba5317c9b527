"""Twicing behind a measurement: the operators, their adjoints, and the closed form of gradient descent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from dipfilters import NoiseFedFilter, PictureError, TangentFilter, autoencoder, build, vanilla
from dipfilters.filters import Filter
from dipfilters.inverse import (
    Averaging,
    Blur,
    LanczosInverse,
    Masking,
    MeasuredFilter,
    Operator,
    Sampling,
    SpectralInverse,
)
from tests.samples import generator, picture, refused


def random_mask(shape: tuple[int, int], share: float = 0.4) -> torch.Tensor:
    return torch.rand(shape, generator=generator(1)) < share


def frequencies(shape: tuple[int, int]) -> torch.Tensor:
    mask = random_mask(shape)
    return mask | mask.flip(0, 1).roll((1, 1), (0, 1))


SPREAD = picture(1, 3, 5, seed=7)[0]  # no symmetry: an adjoint that does not mirror it is found out
OPERATORS = {
    "mask": lambda shape: Masking(random_mask(shape)),
    "mean of 2×2": lambda shape: Averaging(shape, 2),
    "mean of 4×4": lambda shape: Averaging(shape, 4),
    "blur, wrapped": lambda shape: Blur(shape, SPREAD),
    "blur, unseen": lambda shape: Blur(shape, SPREAD, "unseen"),
    "frequencies": lambda shape: Sampling(frequencies(shape)),
}
every_operator = pytest.mark.parametrize("name", OPERATORS)


def matrix(A: Operator) -> torch.Tensor:
    """A itself, (M, N), column by column."""
    pixels = torch.eye(A.shape[0] * A.shape[1], dtype=torch.float64).reshape(-1, *A.shape)
    return A.apply(pixels).flatten(1).T


# -------------------------------------------------------------------------------------------- operators


@every_operator
@pytest.mark.parametrize("shape", [(7, 7), (6, 9), (13, 8)])
def test_the_adjoint_is_the_transpose(name, shape):
    """⟨A v, u⟩ = ⟨v, Aᵀ u⟩ in float32, for stacks of pictures in colour; the dtype stays."""
    A = OPERATORS[name](shape)
    v = torch.randn(2, 3, *A.shape, generator=generator(2))
    u = torch.randn(2, 3, *A.measured, generator=generator(3))
    Av, Atu = A.apply(v), A.adjoint(u)
    assert (Av.dtype, Av.shape, Atu.dtype, Atu.shape) == (v.dtype, u.shape, u.dtype, v.shape)
    measured = (Av.double() * u).sum((-2, -1))
    pictured = (v.double() * Atu).sum((-2, -1))
    unit = Av.double().flatten(-2).norm(dim=-1) * u.double().flatten(-2).norm(dim=-1)
    assert float(((measured - pictured) / unit).abs().max()) < 1e-6
    assert torch.allclose(
        matrix(A).T,
        A.adjoint(torch.eye(A.measured[0] * A.measured[1]).double().reshape(-1, *A.measured)).flatten(1).T,
        rtol=0,
        atol=1e-12,
    )


def test_each_operator_measures_what_it_says():
    v = picture(2, 7, 9)
    mask = random_mask((7, 9))
    assert torch.equal(Masking(mask).apply(v), v[:, mask][:, None])
    means = torch.nn.functional.avg_pool2d(v[None], 2, ceil_mode=True)[0]
    assert torch.allclose(Averaging((7, 9), 2).apply(v), means, rtol=0, atol=1e-14)
    borders: list[Any] = [("wrapped", "same", "wrap"), ("unseen", "valid", "fill")]
    for border, mode, boundary in borders:
        expected = [convolve2d(channel, SPREAD, mode=mode, boundary=boundary) for channel in v.numpy()]
        found = Blur((7, 9), SPREAD, border).apply(v).numpy()
        assert np.abs(found - np.stack(expected)).max() < 1e-13
    chosen = frequencies((7, 9))
    values = torch.zeros(2, 7, 9, dtype=torch.float64)
    values[:, chosen] = Sampling(chosen).apply(v)[:, 0]
    mirrored = values.flip(1, 2).roll((1, 1), (1, 2))  # at −f
    spectrum = torch.complex(values + mirrored, mirrored - values) / 2
    assert torch.allclose(spectrum, torch.fft.fft2(v, norm="ortho") * chosen, rtol=0, atol=1e-13)


# ------------------------------------------------------------------------------------------ closed form


@every_operator
@pytest.mark.parametrize("wide", ["plain", "noise"])
def test_the_closed_form_is_gradient_descent_step_by_step(name, wide):
    """z^{k+1} = z^k + η Θ Aᵀ (y − A z^k) with dense matrices; and for k → ∞ Θ Aᵀ (A Θ Aᵀ)⁺ y."""
    filter: Filter
    if wide == "plain":
        filter = TangentFilter(picture(3, 6, 8), vanilla(1, 3), normalize=1.0)
    else:
        filter = NoiseFedFilter((6, 8), autoencoder(1, 3), normalize="spectral")
    theta = filter.dense() / filter.scale
    A = OPERATORS[name]((6, 8))
    dense = matrix(A)
    W = dense @ theta @ dense.T
    eta = 1 / float(torch.linalg.eigvalsh(W)[-1])
    y = picture(2, *A.measured, seed=4)
    steps = [1, 2, 7, 400, 3000]
    z, expected = torch.zeros(2, 48, dtype=torch.float64), []
    for k in range(1, steps[-1] + 1):
        z = z + eta * (y.flatten(1) - z @ dense.T) @ dense @ theta
        if k in steps:
            expected.append(z.reshape(2, 6, 8))
    spectral = SpectralInverse(filter, A)
    lanczos = LanczosInverse(filter, A, y, last=steps[-1], tolerance=1e-12)
    assert float((spectral.estimate(y, steps) - torch.stack(expected)).abs().max()) < 1e-8
    assert float((lanczos.estimate(steps) - torch.stack(expected)).abs().max()) < 1e-8
    for estimate, predicted in (
        (spectral.estimate(y, 7), spectral.predicted(y, 7)),
        (lanczos.estimate(7), lanczos.predicted(7)),
    ):
        assert torch.allclose(A.apply(estimate), predicted, rtol=0, atol=1e-10)
    assert float(spectral.estimate(y, 0).abs().max()) == 0.0
    row = spectral.row((2, 5), 7)
    assert float((row * y).sum((1, 2)).sub(spectral.estimate(y, 7)[:, 2, 5]).abs().max()) < 1e-12
    inside = A.apply(z.reshape(2, 6, 8))  # a measurement that some picture of the network's has
    end = spectral.estimate(inside, 10**9)
    limit = inside.flatten(1) @ torch.linalg.pinv(W, hermitian=True, rtol=1e-10) @ dense @ theta
    assert float((end.flatten(1) - limit).abs().max()) < 1e-5


def test_a_step_of_ones_own_and_single_precision():
    A, filter = Masking(random_mask((6, 8))), TangentFilter(picture(1, 6, 8), vanilla(1, 3))
    y = picture(1, *A.measured, dtype=torch.float32)
    eta = 0.5 / float(MeasuredFilter(filter, A, normalize=1.0).dense().trace())
    inverse = SpectralInverse(filter, A, normalize=eta)
    once = inverse.estimate(y, 1)
    assert once.dtype == inverse.predicted(y, 1).dtype == torch.float32
    by_hand = eta / filter.scale * filter.apply(A.adjoint(y.double()))
    assert torch.allclose(once.double(), by_hand, rtol=0, atol=1e-7)


def gap(architecture, input, A, y, width: int, seed: int, steps: int, expected) -> float:
    """How far a network of this width is from the closed form after its steps, squared and relative."""
    network = build(architecture, channels=len(input), outputs=1, width=width, generator=generator(seed))
    network = network.double()
    with torch.no_grad():
        start = network(input[None])[0]
    eta = MeasuredFilter(TangentFilter(input, architecture), A).scale
    weights: Any = list(network.parameters())
    for _ in range(steps):
        loss = 0.5 * (A.apply(network(input[None])[0] - start) - y).square().sum()
        with torch.no_grad():
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight -= eta * gradient
    with torch.no_grad():
        found = network(input[None])[0] - start
    return float((found - expected).square().sum() / expected.square().sum())


def test_a_wide_network_is_off_by_the_inverse_root_of_its_width():
    input, architecture, steps = picture(2, 6, 7, seed=9), vanilla(1, 3), 30
    A = OPERATORS["blur, unseen"]((6, 7))
    y = picture(1, *A.measured, seed=5)
    expected = SpectralInverse(TangentFilter(input, architecture), A).estimate(y, steps)
    widths = [64, 256, 1024]
    errors = [
        np.mean([gap(architecture, input, A, y, width, seed, steps, expected) for seed in range(10)])
        for width in widths
    ]
    slope = np.polyfit(np.log(widths), 0.5 * np.log(errors), 1)[0]
    assert abs(slope + 0.5) < 0.12
    assert errors[-1] < 0.05**2


# ------------------------------------------------------------------------------------------- refusals


def test_what_does_not_fit_is_refused_with_the_remedy():
    A, filter = Masking(random_mask((6, 8))), TangentFilter(picture(1, 6, 8), vanilla(1, 3))
    half = torch.zeros(6, 8, dtype=torch.bool)
    half[1, 2] = True
    wrong: Any = [[True]]
    same: Any = "same"
    calls: list[Any] = [
        (PictureError, r"booleans .* got torch.float32, \(6, 8\); a", lambda: Masking(torch.rand(6, 8))),
        (PictureError, "mask must be a tensor of booleans .* got list; a c", lambda: Masking(wrong)),
        (PictureError, r"some of them True, got torch.bool, \(6, 8\)", lambda: Masking(half & False)),
        (PictureError, r"holds 1 frequencies f without −f; give mask \|", lambda: Sampling(half)),
        (ValueError, "factor must be a whole number and at least 1, got 0", lambda: Averaging((6, 8), 0)),
        (
            PictureError,
            r"two odd sides within .*\(6, 8\), got \(2, 5\); pad",
            lambda: Blur((6, 8), SPREAD[:2]),
        ),
        (PictureError, r"two odd sides .* got \(3, 5\)", lambda: Blur((6, 4), SPREAD)),
        (PictureError, "spread holds 15 values that are NaN", lambda: Blur((6, 8), SPREAD * torch.nan)),
        (
            ValueError,
            "border must be one of 'wrapped', 'unseen', got 'same'",
            lambda: Blur((6, 8), SPREAD, same),
        ),
        (PictureError, "picture must have the shape of the operator's", lambda: A.apply(picture(1, 8, 6))),
        (PictureError, "measured must have the shape of the operator's", lambda: A.adjoint(picture(1, 6, 8))),
        (
            PictureError,
            "filter must have the shape of the operator's",
            lambda: MeasuredFilter(filter, Averaging((8, 6), 2)),
        ),
        (
            ValueError,
            "normalize must be 'spectral' or a number .* got 'rows'",
            lambda: SpectralInverse(filter, A, normalize="rows"),
        ),
        (
            PictureError,
            "noisy must have the shape of the filter",
            lambda: SpectralInverse(filter, A).estimate(picture(1, 6, 8), 3),
        ),
        (
            ValueError,
            "steps must not exceed last = 5, got 6",
            lambda: LanczosInverse(filter, A, picture(1, *A.measured), last=5).estimate(6),
        ),
    ]
    for error, match, call in calls:
        with refused(error, match):
            call()
    with refused(IndexError, r"pixel \(6, 0\) lies outside the picture of 6×8"):
        SpectralInverse(filter, A).row((6, 0), 3)
