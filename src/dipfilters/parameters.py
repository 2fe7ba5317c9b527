"""What a parameter may be: the device and the size of a notebook's run, and numbers within their bounds."""

from __future__ import annotations

import math
import os
from numbers import Integral
from typing import Any, Literal, TypeVar, get_args

import torch

Settings = TypeVar("Settings")

if hasattr(os, "register_at_fork"):  # in a forked process torch would wait for threads that stayed behind
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def choose_device(name: str = "auto") -> torch.device:
    """Return the device that a notebook's ``device`` parameter asks for.

    Args:
        name: ``"auto"`` (a CUDA card if there is one, else the CPU), ``"cpu"``, ``"cuda"`` or one of several
            cards, such as ``"cuda:1"``. Filters are computed in float64, which other devices lack.

    Raises:
        ValueError: The name is none of those, or it asks for a CUDA card that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f'device must be "auto", "cpu" or "cuda", got {name!r}') from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f'device {name!r} is not known to have float64; use "auto", "cpu" or "cuda"')
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(f'device is {name!r}, but torch sees {count} CUDA cards here; use "auto" or "cpu"')
    return device


def choose_profile(profile: str, *, quick: Settings, full: Settings) -> Settings:
    """Return the settings of the profile ``"quick"`` (seconds) or ``"full"`` (minutes).

    Raises:
        ValueError: The profile has another name.
    """
    check_choice("profile", profile, Literal["quick", "full"])
    return quick if profile == "quick" else full


def check_choice(name: str, value: object, choices: Any) -> None:
    """Refuse what is none of the words of a ``Literal``.

    Raises:
        ValueError: With the name, the words and the value.
    """
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, get_args(choices)))}, got {value!r}")


def check_whole(name: str, value: object, least: int) -> int:
    """The value as an int, if it is a whole number (NumPy's too, but neither 2.0 nor True) from ``least`` on.

    Raises:
        ValueError: It is not.
    """
    number = least - 1 if isinstance(value, bool) or not isinstance(value, Integral) else int(value)
    if number < least:
        raise ValueError(f"{name} must be a whole number and at least {least}, got {value!r}")
    return number


def check_positive(name: str, value: float) -> None:
    """Refuse what is not a positive, finite number.

    Raises:
        ValueError: With the name and the value.
    """
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")


def check_share(name: str, value: float) -> None:
    """Refuse what does not lie in [0, 1).

    Raises:
        ValueError: With the name and the value.
    """
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}")
