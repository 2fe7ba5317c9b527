"""What the figures share: a script put together from its parts, checked values, a still picture."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import anywidget
import torch
import traitlets
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from dipfilters.decoding import PictureError
from dipfilters.images import check_picture

_IMPORT = re.compile(r'^import\b[^;]*?\bfrom "\./([\w-]+\.js)";\n', re.MULTILINE | re.DOTALL)
MOST_PIXELS = 128 * 128  # a picture of 16 KB in the page, and a row in a few milliseconds


def script(name: str) -> str:
    """The module of that name, with those that it imports written out before it: a figure is one file."""
    done: set[str] = set()

    def parts(file: str) -> str:
        done.add(file)
        source = (files(__package__) / file).read_text("utf-8")
        needed = [part for part in _IMPORT.findall(source) if part not in done]
        body = _IMPORT.sub("", source)
        if file != name:
            body = re.sub(r"^export (?!default)", "", body, flags=re.MULTILINE)
        return "".join(map(parts, needed)) + body

    return parts(name)


def quantised(picture: Float[Tensor, "*shape"], low: float = 0.0, high: float = 1.0) -> bytes:
    """Values in [low, high] as bytes, 0 to 255, row by row; what lies outside is cut off."""
    levels = 255 * (picture.detach().cpu().double() - low) / ((high - low) or 1.0)
    return levels.clamp(0, 255).round().to(torch.uint8).numpy().tobytes()


def browser_normals(seed: int, count: int) -> Float[Tensor, " n"]:
    """The normal random numbers that the browser draws: Lehmer's generator, and Box and Muller's method."""
    modulus = 2**31 - 1
    state = seed % modulus or 1
    uniform = []
    for _ in range(8 + 2 * count):
        state = state * 48271 % modulus
        uniform.append(state / modulus)
    pairs = torch.tensor(uniform[8:], dtype=torch.float64).reshape(count, 2)
    return (-2 * pairs[:, 0].log()).sqrt() * torch.cos(2 * math.pi * pairs[:, 1])


def check_gray(name: str, picture: Tensor) -> None:
    """Refuse a picture that the figures cannot show.

    Raises:
        PictureError: In colour, or too large.
    """
    check_picture(picture, name)
    channels, height, width = picture.shape
    if channels != 1:
        raise PictureError(
            f"{name} must be grey, (1, H, W), got {tuple(picture.shape)}; load it with gray=True"
        )
    if height * width > MOST_PIXELS:
        raise PictureError(
            f"{name} has {height}×{width} pixels, more than the {MOST_PIXELS} that a page can carry; load it "
            f"smaller"
        )


class Number(traitlets.Float):  # type: ignore[type-arg]  # its arguments came with traitlets 5.10
    """A float within its range. NaN, which is neither below nor above anything, is outside."""

    def validate(self, obj: Any, value: Any) -> Any:
        """Refuse what is outside."""
        value = super().validate(obj, value)
        if math.isnan(value):
            self.error(obj, value)
        return value


class Whole(traitlets.Int):  # type: ignore[type-arg]
    """A whole number within its range. True, which Python counts as 1 and a script does not, is refused."""

    def validate(self, obj: Any, value: Any) -> Any:
        """Refuse what is outside, and True and False."""
        if isinstance(value, bool):
            self.error(obj, value)
        return super().validate(obj, value)


class Seed(Whole):
    """Where the browser's random numbers begin: each seed has numbers of its own."""

    def __init__(self) -> None:
        super().__init__(min=1, max=2**31 - 2)


class ComputedFigure(anywidget.AnyWidget):
    """A figure that computes in the reader's browser, with a still picture for where no script runs.

    Args:
        data: Values of the traits that never change: they are read-only.
        choices: Values of the traits that the reader changes, and Python may.
    """

    _css = (files(__package__) / "figures.css").read_text("utf-8")
    shape = traitlets.List(traitlets.Int(), read_only=True).tag(sync=True)

    def __init__(self, data: dict[str, Any], **choices: Any) -> None:
        for name, value in data.items():
            self.set_trait(name, value)
        super().__init__(**choices)

    def _check_choice(self, proposal: Any, known: Sequence[str]) -> str:
        """The proposed name, if it is known."""
        if proposal.value not in known:
            name = proposal.trait.name
            raise traitlets.TraitError(
                f"{name} must be one of {', '.join(map(repr, known))}, got {proposal.value!r}"
            )
        return str(proposal.value)

    def still(self) -> Figure:
        """The figure as it is at first, drawn by matplotlib."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'×'.join(map(str, self.shape))} pixels)"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        import matplotlib.pyplot as plt

        bundle = super()._repr_mimebundle_(**kwargs)
        assert bundle is not None  # of a widget that has a view
        data, metadata = bundle
        figure = self.still()
        with io.BytesIO() as png:
            figure.savefig(png, format="png")
            data["image/png"] = base64.b64encode(png.getvalue()).decode()
        plt.close(figure)
        return data, metadata
