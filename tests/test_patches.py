"""extract_patches against loops over an explicit reflection of the index."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dipfilters import PictureError, extract_patches
from tests.oracles import patches_by_loops
from tests.samples import DEVICES, picture, refused, repeatable

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
def test_patches_are_those_of_the_loops_exactly(case):
    """Values are moved, never computed with, so that not one bit may differ."""
    image, size, padding = case
    before = image.clone()
    patches = extract_patches(image, size, padding=padding)
    assert patches.dtype == image.dtype
    assert np.array_equal(patches.double().numpy(), patches_by_loops(image.double().numpy(), size, padding))
    assert torch.equal(image, before)


def test_a_corner_written_out_by_hand():
    image = torch.arange(9.0).reshape(1, 3, 3)
    corner: dict[Any, list[int]] = {
        "reflect": [4, 3, 4, 1, 0, 1, 4, 3, 4],
        "circular": [8, 6, 7, 2, 0, 1, 5, 3, 4],
        "zero": [0, 0, 0, 0, 0, 1, 0, 3, 4],
    }
    for padding, expected in corner.items():
        assert extract_patches(image, 3, padding=padding)[0].tolist() == expected, padding


@pytest.mark.parametrize("device", DEVICES)
def test_the_patches_lie_where_the_picture_lies(device):
    image = picture(3, 7, 5).to(device)
    patches = extract_patches(image, 3)
    assert patches.device == image.device
    assert torch.equal(patches.cpu(), extract_patches(image.cpu(), 3))


@pytest.mark.parametrize("size", [4, 2, 0, -3, 3.0, True])
def test_an_even_or_empty_patch_is_refused(size):
    even = f"odd, so that a patch has a middle, got {size}; use {size + 1}"
    told = even if size in (2, 4) else f"a whole number and at least 1, got {size}"
    with refused(ValueError, f"patch size must be {told}"):
        extract_patches(picture(1, 9, 9), size)


def test_an_unknown_padding_is_refused():
    with refused(ValueError, "padding must be one of 'reflect', 'circular', 'zero', got 'mirror'"):
        extract_patches(picture(1, 9, 9), 3, padding="mirror")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("padding", "shape", "needed"), [("reflect", (3, 9), 4), ("reflect", (9, 3), 4), ("circular", (2, 9), 3)]
)
def test_a_picture_smaller_than_its_patch_needs_is_refused(padding, shape, needed):
    message = (
        f"{shape[0]}×{shape[1]} pixels are too few for {padding} padding by 3, which needs {needed} "
        f"a side; use a larger picture"
    )
    with refused(PictureError, message):
        extract_patches(picture(1, *shape), 7, padding=padding)


@pytest.mark.parametrize(("padding", "side"), [("reflect", 4), ("circular", 3), ("zero", 1)])
def test_a_picture_just_large_enough_is_taken(padding, side):
    image = picture(1, side, side)
    expected = patches_by_loops(image.numpy(), 7, padding)
    assert np.array_equal(extract_patches(image, 7, padding=padding).numpy(), expected)


def test_what_is_no_picture_is_refused():
    with refused(PictureError, r"image must have shape \(C, H, W\), got \(5, 5\); a grey picture is"):
        extract_patches(picture(1, 5, 5)[0], 3)
    with refused(PictureError, "image must hold floats in .0, 1., got torch.uint8; divide bytes by 255"):
        extract_patches(torch.ones(1, 5, 5, dtype=torch.uint8), 3)
    image = picture(1, 5, 5)
    image[0, 1, 2], image[0, 3, 3] = math.nan, math.inf
    with refused(PictureError, "image holds 2 values that are NaN or infinite; replace them first"):
        extract_patches(image, 3)
    with refused(PictureError, r"image must have shape \(C, H, W\), got \(1, 0, 5\)"):
        extract_patches(torch.ones(1, 0, 5), 3)
