"""What the package's tests share: small pictures, kernels, and how to knock at a door."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from dipfilters import arc_cosine_kernel, gaussian_kernel, one_layer_tangent_kernel
from dipfilters.filters import Filter

# Pictures here are so small that two threads wait for each other longer than they work, above all where
# another process holds a core: a hundredfold, seen.
torch.set_num_threads(1)

KERNELS = {
    "gaussian": gaussian_kernel(0.3),
    "arc-cosine": arc_cosine_kernel(),
    "tangent": one_layer_tangent_kernel(),
}

# The same examples at every run; no deadline, since another process may hold the processor.
repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=40)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(
    channels: int, height: int, width: int, *, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Uniform values between 0.05 and 0.95: no black patch, and room on both sides."""
    return 0.05 + 0.9 * torch.rand(channels, height, width, generator=generator(seed), dtype=dtype)


def flat_and_textured(channels: int, height: int, width: int) -> Tensor:
    """Four levels in blocks, half of them textured: equal patches, parallel ones, and all different ones."""
    rows = torch.arange(height)[:, None] * 2 // height
    columns = torch.arange(width)[None, :] * 2 // width
    levels = (0.2 + 0.2 * (2 * rows + columns)).double()
    texture = 0.1 * (picture(channels, height, width, seed=5) - 0.5)
    return levels + texture * columns


@st.composite
def changed(draw, content):
    """Bytes with one to six changes: a part cut out, put in or replaced, or the rest left out."""
    new = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        # What stands in the first bytes decides more than what follows.
        end = min(len(new), draw(st.sampled_from([40, 200, len(content)])))
        place, length = draw(st.integers(0, max(end - 1, 0))), draw(st.integers(0, 30))
        words = st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\x80\0"])
        new[place : place + length] = draw(st.binary(max_size=30) | words)
        if draw(st.integers(0, 9)) == 0:
            del new[place:]
    return bytes(new)


class Diagonal(Filter):
    """A filter that multiplies each pixel by its own number, its eigenvalue; it counts its products."""

    def __init__(self, eigenvalues: Tensor) -> None:
        super().__init__((eigenvalues.shape[0], eigenvalues.shape[1]), 1.0, eigenvalues.device)
        self.eigenvalues, self.products = eigenvalues.double().flatten(), 0

    def _reference_product(self, columns):
        self.products += 1
        return self.eigenvalues[:, None] * columns

    def _kernel_columns(self, pixels):
        return self.eigenvalues.diag()[:, list(pixels)]

    def _kernel_diagonal(self):
        return self.eigenvalues

    def _reference_matrix(self):
        return self.eigenvalues.diag()


@contextmanager
def annotations_off() -> Iterator[None]:
    """As a reader runs the package: without the checks of shapes and types that pytest adds.

    Those checks would refuse some bad arguments before the package's own message is reached.
    """
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


@contextmanager
def refused(error: type[Exception], match: str) -> Iterator[None]:
    """The package itself refuses, with this error and a message that holds ``match``."""
    with annotations_off(), pytest.raises(error, match=match):
        yield


def within(measured: float, expected: float, standard_error: float, times: float = 3.0) -> bool:
    """Whether a measurement lies within so many standard errors; an error of 0 or NaN never passes."""
    return math.isfinite(measured) and abs(measured - expected) < times * standard_error


def same_numbers(first: dict[str, Any], second: dict[str, Any], stamp: Iterable[str]) -> bool:
    """Whether two rows of a study agree in all but where they come from and how long they took."""
    if first.keys() != second.keys():
        return False
    for name in first.keys() - set(stamp):
        one, other = first[name], second[name]
        if isinstance(one, float) and math.isnan(one) and math.isnan(other):
            continue
        if not name.startswith("seconds") and not np.array_equal(one, other):
            return False
    return True
