"""What the figures share: their script put together from its parts, and a still for where none runs."""

from __future__ import annotations

import base64
import io
import re
from importlib.resources import files
from typing import Any

import anywidget
import torch
import traitlets
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from dipfilters.images import PictureError, check_picture

_IMPORT = re.compile(r'^import\b[^;]*?\bfrom "\./([\w-]+\.js)";\n', re.MULTILINE | re.DOTALL)
MOST_PIXELS = 128 * 128  # a picture of 16 KB in the page, and a row in a few milliseconds


def script(name: str) -> str:
    """The module of that name, those that it imports written out before it: a widget is one file."""
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


def style() -> str:
    """The style sheet of all figures."""
    return (files(__package__) / "figures.css").read_text("utf-8")


def quantised(picture: Float[Tensor, "*shape"], low: float = 0.0, high: float = 1.0) -> bytes:
    """Values in [low, high] as bytes, 0 to 255, row by row; what lies outside is cut off."""
    levels = 255 * (picture.detach().cpu().double() - low) / (high - low)
    return levels.clamp(0, 255).round().to(torch.uint8).numpy().tobytes()


def check_gray(name: str, picture: Tensor) -> None:
    """Refuse what the figures cannot show."""
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


class ComputedFigure(anywidget.AnyWidget):
    """A figure that computes in the reader's browser, with a still picture for where no script runs."""

    shape = traitlets.List(traitlets.Int()).tag(sync=True)

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
