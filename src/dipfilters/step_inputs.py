"""What a network sees of a picture at each step of its training, and at which pixels it is judged.

A training run whose input changes asks a function of the step, as :func:`jittered` and :func:`masked` give.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dipfilters.images import add_noise, check_detached, check_picture, check_sigma
from dipfilters.parameters import check_whole


@dataclass(frozen=True, eq=False)
class StepInput:
    """The input of one step.

    Attributes:
        input: What the network is given.
        pixels: Where its output counts, or None for everywhere.
    """

    input: Float[Tensor, "C H W"]
    pixels: Bool[Tensor, "H W"] | None = None


StepInputs = Callable[[int], StepInput]


def jittered(
    input: Float[Tensor, "C H W"], sigma: float = 1 / 30, *, generator: torch.Generator
) -> StepInputs:
    """The input with fresh noise at each step: x + σ n, with n drawn from N(0, 1).

    Args:
        input: x, as a rule noise itself.
        sigma: σ, 1/30 for the deep image prior.
        generator: The source of n, drawn anew at each call whatever its step.

    Raises:
        PictureError: Not a picture.
        ValueError: sigma outside [0, 1].

    Source: Ulyanov, Vedaldi and Lempitsky (2018) [ulyanov2018].
    """
    check_picture(input, "input")
    check_sigma(sigma)
    return lambda step: StepInput(add_noise(input, sigma, generator=generator))


def grid_masks(shape: tuple[int, int], width: int = 4) -> Bool[Tensor, "masks H W"]:
    """The width² grids that share the pixels out: each has one pixel of every width×width block.

    ::

        mask w·a + b holds the pixels (r, s) with r ≡ a and s ≡ b modulo w

    Raises:
        ValueError: A width below 2, which leaves a pixel no neighbours, or above a side of the picture, which
            leaves a mask no pixel.

    Source: Batson and Royer (2019) [batson2019].
    """
    if check_whole("width", width, 2) > min(shape):
        raise ValueError(f"width must not exceed the shorter side of {shape} pixels, got {width}; use 4")
    rows, columns, numbers = (torch.arange(n, device="cpu") for n in (*shape, width**2))
    masks: Tensor = (rows[:, None] % width * width + columns % width) == numbers[:, None, None]
    return masks


def masked(noisy: Float[Tensor, "C H W"], width: int = 4) -> StepInputs:
    """The noisy picture with the pixels of one grid after the other hidden, and judged at those only.

    ::

        input = y, but at the grid's pixels the mean of their eight neighbours, diagonal ones counting half

    The network is to guess each hidden pixel from others, so that it cannot learn the noise of y from y.

    Args:
        noisy: y, the target as well.
        width: The distance of hidden pixels, as in :func:`grid_masks`.

    Raises:
        PictureError: Not a picture.
        ValueError: A width that :func:`grid_masks` refuses.

    Source: Batson and Royer (2019) [batson2019]; here a neighbour beyond the border does not count.
    """
    check_picture(noisy, "noisy")
    masks = grid_masks((noisy.shape[1], noisy.shape[2]), width).to(noisy.device)
    # Eight neighbours, the four diagonal ones with half the weight, those beyond the border with none.
    weights = noisy.new_tensor([[0.5, 1.0, 0.5], [1.0, 0.0, 1.0], [0.5, 1.0, 0.5]])[None, None]
    total, share = (F.conv2d(p[:, None], weights, padding=1)[:, 0] for p in (noisy, torch.ones_like(noisy)))
    guess = total / share

    def step_input(step: int) -> StepInput:
        mask = masks[step % len(masks)]
        return StepInput(torch.where(mask, guess, noisy), mask)

    return step_input


def masked_estimate(
    network: nn.Module, noisy: Float[Tensor, "C H W"], width: int = 4
) -> Float[Tensor, "O H W"]:
    """The picture of a network where no pixel has seen its own noise, from one pass for each grid.

    ::

        z = Σ over grids of  mask · f(y with the mask's pixels hidden)

    The derivative of z_i for y_i is 0 (z is J-invariant), so that with independent noise ‖y − z‖²/CN − σ²
    is an unbiased estimate of the error, if the network's weights do not depend on y.

    Args:
        network: Takes (1, C, H, W), gives (1, O, H, W).
        noisy: y.
        width: As for :func:`masked`.

    Raises:
        PictureError, ValueError: As :func:`masked`.

    Cost: width² forward passes.

    Source: Batson and Royer (2019) [batson2019].
    """
    check_detached(noisy, "noisy")
    inputs = masked(noisy, width)
    with torch.no_grad():
        passes = [(network(one.input[None])[0], one.pixels) for one in map(inputs, range(width**2))]
        return torch.stack([output * pixels for output, pixels in passes]).sum(0)
