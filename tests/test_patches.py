"""extract_patches against a loop over a picture that numpy pads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dipfilters import PictureError, extract_patches
from tests.oracles import patches_by_loops
from tests.samples import picture, refused, repeatable

PADDINGS = ["reflect", "circular", "zero"]


@st.composite
def picture_and_size(draw):
    size = draw(st.sampled_from([1, 3, 5, 7]))
    padding = draw(st.sampled_from(PADDINGS))
    smallest = {"reflect": size // 2 + 1, "circular": max(1, size // 2), "zero": 1}[padding]
    height = draw(st.integers(smallest, smallest + 5))
    width = draw(st.integers(smallest, smallest + 5))
    channels = draw(st.integers(1, 3))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    return picture(channels, height, width, seed=draw(st.integers(0, 99)), dtype=dtype), size, padding


@repeatable
@given(picture_and_size())
def test_patches_are_those_of_the_loop_exactly(case):
    """Values are moved, never computed with, so that not one bit may differ."""
    image, size, padding = case
    before = image.clone()
    patches = extract_patches(image, size, padding=padding)
    assert patches.dtype == image.dtype
    assert np.array_equal(patches.double().numpy(), patches_by_loops(image.double().numpy(), size, padding))
    assert torch.equal(image, before)


@pytest.mark.parametrize("size", [4, 0])
def test_an_even_or_empty_patch_is_refused(size):
    even = f"odd, so that a patch has a middle, got {size}; use {size + 1}"
    told = even if size == 4 else f"a whole number and at least 1, got {size}"
    with refused(ValueError, f"patch size must be {told}"):
        extract_patches(picture(1, 9, 9), size)


def test_an_unknown_padding_is_refused():
    with refused(ValueError, "padding must be one of 'reflect', 'circular', 'zero', got 'mirror'"):
        extract_patches(picture(1, 9, 9), 3, padding="mirror")  # type: ignore[arg-type]


@pytest.mark.parametrize(("padding", "needed"), [("reflect", 4), ("circular", 3)])
def test_a_picture_smaller_than_its_patch_needs_is_refused(padding, needed):
    """The smallest one is taken, as above."""
    message = (
        f"9×{needed - 1} pixels are too few for {padding} padding by 3, which needs {needed} a side; use"
    )
    with refused(PictureError, message):
        extract_patches(picture(1, 9, needed - 1), 7, padding=padding)
