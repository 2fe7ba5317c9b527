"""Inputs that change with the step, and masks: against loops, and against a training written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dipfilters import Adam, build, jittered, masked, masked_estimate, train, vanilla
from dipfilters.step_inputs import grid_masks
from tests.oracles import jacobian_by_differences, mean_of_neighbours_by_scipy
from tests.samples import generator, picture, refused, within


def small(channels=1):
    return build(vanilla(2, 3), channels=channels, width=6, generator=generator(1)).double()


def run(network, input, target, *, optimizer, steps, **options):
    return list(
        train(network, input, target, optimizer=optimizer, steps=steps, subtract_start=False, **options)
    )


# ------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("width", [2, 5])
def test_grids_share_the_pixels_out(width):
    masks = grid_masks((5, 7), width)
    assert masks.dtype == torch.bool
    assert torch.equal(masks.sum(0), torch.ones(5, 7, dtype=torch.long))
    for number, mask in enumerate(masks):
        for r, s in torch.nonzero(mask).tolist():
            assert (r % width, s % width) == divmod(number, width)


@pytest.mark.parametrize("width", [1, 6])
def test_a_width_without_neighbours_or_pixels_is_refused(width):
    with refused(ValueError, rf"width must .*, got {width}"):
        grid_masks((5, 7), width)


@pytest.mark.parametrize("channels", [1, 3])
def test_hidden_pixels_are_the_mean_of_their_neighbours(channels):
    """Nine products and a division in float64: 1e-15 of values below 1."""
    noisy = picture(channels, 5, 7)
    guess = torch.from_numpy(mean_of_neighbours_by_scipy(noisy.numpy()))
    views, masks = masked(noisy, 3), grid_masks((5, 7), 3)
    for step in range(20):
        view = views(step)
        assert view.pixels is not None
        assert torch.equal(view.pixels, masks[step % 9])
        assert torch.equal(view.input[:, ~view.pixels], noisy[:, ~view.pixels])
        assert torch.allclose(view.input[:, view.pixels], guess[:, view.pixels], rtol=0, atol=1e-14)


def test_no_pixel_of_the_estimate_has_seen_itself():
    """The diagonal of the Jacobian, by differences, is 0 to the last bit; the whole is not."""
    network, noisy = small(), picture(1, 5, 6)

    def denoise(y):
        return masked_estimate(network, torch.from_numpy(y), 3).numpy()

    jacobian = jacobian_by_differences(denoise, noisy.numpy(), 1e-3)
    assert float(np.abs(np.diag(jacobian)).max()) == 0.0
    assert float(np.abs(jacobian).max()) > 1e-3


# ------------------------------------------------------------------------------------------ jitter


def test_jitter_is_fresh_noise_of_its_level_and_repeats_with_its_seed():
    """The variance of 40 000 draws has a relative error of √(2/40 000) = 0.7 %."""
    flat = torch.zeros(1, 100, 100, dtype=torch.float64)
    views, same = (jittered(flat, generator=generator(3)) for _ in range(2))
    drawn = torch.stack([views(k).input for k in range(4)])
    assert torch.equal(drawn, torch.stack([same(k).input for k in range(4)]))
    assert within(float(drawn.square().mean()), 30.0**-2, 30.0**-2 * math.sqrt(2 / 40_000))
    assert abs(float((drawn[0] * drawn[1]).mean())) < 5 * 30.0**-2 / 100
    assert views(4).pixels is None
    assert float(flat.abs().max()) == 0.0


# ---------------------------------------------------------------------------------------- training


def by_hand(network, views, target, optimizer, steps) -> list[float]:
    """A loop as a reader would write it: the loss is a sum over the pixels that count, one by one."""
    losses = []
    for k in range(steps + 1):
        output = network(views(k).input[None])[0]
        loss = torch.zeros((), dtype=torch.float64)
        for r in range(target.shape[1]):
            for s in range(target.shape[2]):
                if views(k).pixels is None or views(k).pixels[r, s]:
                    loss = loss + 0.5 * (output[:, r, s] - target[:, r, s]).square().sum()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


@pytest.mark.parametrize("views", [masked, lambda noisy: jittered(noisy, generator=generator(5))])
def test_training_is_that_by_hand_with_one_input_a_step(views):
    """The same sums in another order: 1e-16 a step, not grown a thousandfold in twenty."""
    noisy, twin, again = picture(1, 6, 7), small(), views(picture(1, 6, 7))
    states = run(small(), noisy, noisy, optimizer=Adam(1e-2), steps=20, step_inputs=views(noisy))
    drawn = [again(k) for k in range(21)]
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-2)
    losses = by_hand(twin, drawn.__getitem__, noisy, optimizer, steps=20)
    assert [state.loss for state in states] == pytest.approx(losses, rel=1e-12)


def test_a_start_of_inputs_that_change_is_not_subtracted():
    noisy = picture(1, 6, 7)
    with refused(ValueError, "step_inputs change the input.*give subtract_start=False"):
        train(small(), noisy, noisy, optimizer=Adam(), steps=1, step_inputs=masked(noisy))
