"""What a parameter cell may say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dipfilters import choose_device, choose_profile
from dipfilters.parameters import check_positive, check_share, check_whole
from tests.samples import refused


def test_auto_takes_the_card_if_there_is_one():
    assert choose_device() == torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", r'device must be "auto", "cpu" or "cuda", got \'gpu\''),
        ("cpu:x", r'device must be "auto", "cpu" or "cuda", got \'cpu:x\''),
        ("mps", 'device \'mps\' is not known to have float64; use "auto", "cpu" or "cuda"'),
    ],
)
def test_an_unknown_device_and_one_without_float64_are_refused(name, message):
    with refused(ValueError, message):
        choose_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA card here")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_an_absent_card_is_refused_with_the_remedy(name):
    with refused(ValueError, f'device is \'{name}\', but torch sees 0 CUDA cards here; use "auto" or "cpu"'):
        choose_device(name)


def test_a_second_card_where_there_is_one_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("cuda:0") == torch.device("cuda:0")
    with refused(ValueError, "device is 'cuda:1', but torch sees 1 CUDA cards here"):
        choose_device("cuda:1")


def test_each_profile_has_its_settings():
    assert choose_profile("quick", quick=64, full=128) == 64
    assert choose_profile("full", quick=64, full=128) == 128
    with refused(ValueError, "profile must be one of 'quick', 'full', got 'fast'"):
        choose_profile("fast", quick=1, full=2)


@pytest.mark.parametrize("value", [7, np.int64(1)])
def test_whole_numbers_of_any_kind_are_ints(value):
    assert type(check_whole("size", value, 1)) is int
    assert check_whole("size", value, 1) == value


@pytest.mark.parametrize("value", [0, np.int64(0), 2.0, math.nan, True, None])
def test_what_is_no_whole_number_is_refused(value):
    with refused(ValueError, r"size must be a whole number and at least 1, got "):
        check_whole("size", value, 1)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_what_is_not_positive_and_finite_or_no_share_is_refused(value):
    with refused(ValueError, f"budget must be positive and finite, got {value}"):
        check_positive("budget", value)
    check_share("weight", 0.0)
    if value:
        with refused(ValueError, f"weight must be at least 0 and below 1, got {value}"):
            check_share("weight", value)
