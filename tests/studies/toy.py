"""A study that counts how often its points are computed: each adds a line to a file."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from studies.table import Outcome, Point

COUNT = 12


def points(profile: str, folder: str | None = None) -> list[Point]:
    """Twelve numbers."""
    return [{"number": number, "even": number % 2 == 0} for number in range(COUNT)]


def point(number: int, even: bool, *, device: str, folder: str | None) -> Outcome:
    """The square of the number, after some tenths of a second; the last one may be made to fail."""
    with Path(os.environ["TOY_STUDY_LOG"]).open("a", encoding="utf-8") as log:
        log.write(f"{number}\n")
    time.sleep(0.3)
    if folder == "fails" and number == COUNT - 1:
        raise ValueError("the last number")
    numbers: dict[str, Any] = {"square": number**2, "nothing": math.nan}
    if even:
        numbers["half"] = number / 2
    picture = np.full((2, 3), number, np.uint8)
    return Outcome(numbers, {"upwards": np.arange(number)}, {"flat": picture} if number == 3 else {})
