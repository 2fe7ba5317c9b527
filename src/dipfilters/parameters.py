"""What the parameter cell of a notebook may say: on which device, and at which size."""

from __future__ import annotations

from typing import TypeVar

import torch

Settings = TypeVar("Settings")


def choose_device(name: str = "auto") -> torch.device:
    """Return the device that a notebook's ``device`` parameter asks for.

    Args:
        name: ``"auto"`` (a CUDA card if there is one, else the CPU), or any name that
            :class:`torch.device` knows, such as ``"cpu"`` or ``"cuda:1"``.

    Raises:
        ValueError: The name is none of those, or it asks for a CUDA card that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f'device must be "auto", "cpu" or "cuda", got {name!r}') from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f'device is {name!r}, but torch sees no CUDA card here; use "auto" or "cpu"')
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device is {name!r}, but torch sees only {torch.cuda.device_count()} CUDA cards here"
        )
    return device


def choose_profile(profile: str, *, quick: Settings, full: Settings) -> Settings:
    """Return the settings of the profile ``"quick"`` (seconds) or ``"full"`` (minutes).

    Raises:
        ValueError: The profile has another name.
    """
    if profile == "quick":
        return quick
    if profile == "full":
        return full
    raise ValueError(f'profile must be "quick" or "full", got {profile!r}')
