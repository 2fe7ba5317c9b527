"""A small network that learns from the noisy picture alone, a peer of the deep image prior.

Written from the description in the paper: Mansour and Heckel, Zero-Shot Noise2Noise (2023), arXiv 2303.11253.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEP, DECAY = 1e-3, 0.5


def network(channels: int, width: int = 48) -> nn.Sequential:
    """Two 3×3 convolutions with leaky ReLUs and a 1×1 convolution: 22,275 weights for three channels."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, width, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, channels, 1),
    )


def halves(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Two pictures of half the size from (1, C, H, W): the means over the two diagonals of each 2×2 square.

    They show the same scene, with independent noise of 1/√2 the standard deviation.
    """
    corners = [picture[..., row::2, column::2] for row in (0, 1) for column in (0, 1)]
    return (corners[1] + corners[2]) / 2, (corners[0] + corners[3]) / 2


def objective(f: nn.Module, noisy: Tensor) -> Tensor:
    """The loss; f estimates the noise, so that y − f(y) is the denoised picture.

    ::

        residual:     ½ ‖D₁y − f(D₁y) − D₂y‖² + ½ ‖D₂y − f(D₂y) − D₁y‖²
        consistency:  ½ ‖D₁y − f(D₁y) − D₁(y − f(y))‖² + ½ ‖D₂y − f(D₂y) − D₂(y − f(y))‖²

    with D₁ and D₂ of :func:`halves`. The first is Noise2Noise between the halves; the second keeps a network
    that was trained at half the size from failing at the full one.
    """
    small = halves(noisy)
    denoised = [half - f(half) for half in small]
    whole = halves(noisy - f(noisy))
    residual = F.mse_loss(denoised[0], small[1]) + F.mse_loss(denoised[1], small[0])
    consistency = F.mse_loss(denoised[0], whole[0]) + F.mse_loss(denoised[1], whole[1])
    return (residual + consistency) / 2


def zero_shot(noisy: Tensor, looks: Sequence[int], seed: int = 0) -> Iterator[Tensor]:
    """The estimates y − f(y) after some numbers of epochs, from one training on (C, H, W).

    Adam at 1e-3, halved once, in the middle: the paper decays the step likewise, over 2000 epochs or so. The
    convolutions are in bfloat16, channels last: on a processor with units for that, an epoch takes a fifth of
    the time, and the loss keeps four digits.

    Args:
        noisy: y; its height and width are even.
        looks: Growing numbers of epochs, the last of which ends the training.
        seed: Of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        f = network(len(noisy)).to(noisy.device)
    f = f.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    y = noisy.float()[None].contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(f.parameters(), lr=STEP)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=max(1, looks[-1] // 2), gamma=DECAY)
    for epoch in range(1, looks[-1] + 1):
        optimizer.zero_grad()
        with torch.autocast(noisy.device.type, torch.bfloat16):
            loss = objective(f, y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if epoch in looks:
            with torch.no_grad():
                yield (y - f(y))[0]
