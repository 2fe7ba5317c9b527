"""When to stop a training run without the clean picture or the level of its noise; averages of its outputs.

Both rules take one estimate after the other, so that they fit into the loop over a run's steps.
"""

from __future__ import annotations

import math
from collections import deque

import torch
from jaxtyping import Float
from torch import Tensor

from dipfilters.images import check_picture, check_shape
from dipfilters.parameters import check_share, check_whole


class ExponentialAverage:
    """The exponential average of a run's estimates, which steadies what Adam shakes.

    ::

        z̄⁰ = z⁰,   z̄^k = α z̄^{k−1} + (1 − α) z^k

    Args:
        weight: α; 0.99 for the deep image prior, a memory of about 1/(1 − α) = 100 steps.

    Raises:
        ValueError: A weight outside [0, 1).

    Source: Ulyanov, Vedaldi and Lempitsky (2018) [ulyanov2018].
    """

    def __init__(self, weight: float = 0.99) -> None:
        check_share("weight", weight)
        self.weight = weight
        self._average: Tensor | None = None

    def update(self, estimate: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
        """Take in the estimate of the next step, and return the average so far, a picture of its own.

        Raises:
            PictureError: Not a picture, or not one of the shape of those before.
        """
        _check_estimate(estimate, self._average)
        estimate = estimate.detach()
        old = estimate if self._average is None else self._average
        self._average = self.weight * old + (1 - self.weight) * estimate
        return self._average


class WindowedVariance:
    """Stop where the estimates of the last steps differ least from each other.

    ::

        WMV_k = 1/W Σ_{w=0..W−1} ‖z^{k−w} − z̄‖² / CN,   z̄ the mean of these W estimates

    It falls while the picture is learnt and rises while the noise is, where the steps are restless, as Adam's
    are; twicing, whose steps only ever shrink, is never stopped. The run is over when ``patience`` steps in a
    row have not lowered it; the best step is the last of the window where it was least.

    Args:
        window: W, how many estimates are compared; so many pictures are kept.
        patience: How many steps to wait for a smaller variance.

    Attributes:
        variances: WMV_k for k = W − 1, W, …, in the unit of the pixels squared.
        best_step: The step k with the least variance, counted from 0; None before the first full window.
        best_estimate: Its estimate.
        stopped: Whether the run is over. Later estimates extend ``variances`` only.

    Raises:
        ValueError: A window below 2 or a patience below 1.

    Cost: a few operations a pixel and step, whatever the window; W + 2 pictures.

    Source: Wang and others (2023) [wang2023], whose window and patience are the defaults.
    """

    def __init__(self, *, window: int = 100, patience: int = 1000) -> None:
        self.window = check_whole("window", window, 2)
        self.patience = check_whole("patience", patience, 1)
        self.variances: list[float] = []
        self.best_step: int | None = None
        self.best_estimate: Float[Tensor, "C H W"] | None = None
        self.stopped = False
        self._least, self._step = math.inf, -1
        self._kept: deque[Tensor] = deque()
        self._mean, self._squares = torch.zeros((), device="cpu"), 0.0

    def update(self, estimate: Float[Tensor, "C H W"]) -> bool:
        """Take in the estimate of the next step, and say whether the run is over.

        Raises:
            PictureError: Not a picture, or not one of the shape of those before.
        """
        _check_estimate(estimate, self._kept[-1] if self._kept else None)
        self._step += 1
        self._slide(estimate.detach().clone())
        if len(self._kept) < self.window:
            return False
        variance = self._squares / self.window / estimate.numel()
        self.variances.append(variance)
        if self.stopped:
            return True
        if variance < self._least:
            self._least, self.best_step, self.best_estimate = variance, self._step, self._kept[-1]
        assert self.best_step is not None
        self.stopped = self._step - self.best_step >= self.patience
        return self.stopped

    def _slide(self, estimate: Tensor) -> None:
        """Welford's update of the mean and of Σ ‖z − z̄‖², which takes no difference of large sums."""
        new, mean = estimate.double(), self._mean
        if len(self._kept) < self.window:
            self._kept.append(estimate)
            self._mean = mean + (new - mean) / len(self._kept)
            self._squares += float(((new - mean) * (new - self._mean)).sum())
        else:
            old = self._kept.popleft().double()
            self._kept.append(estimate)
            self._mean = mean + (new - old) / self.window
            self._squares += float(((new - old) * (new - self._mean + old - mean)).sum())


def _check_estimate(estimate: Tensor, before: Tensor | None) -> None:
    check_picture(estimate, "estimate")
    if before is not None:
        check_shape("estimate", estimate.shape, before.shape, "those before")
