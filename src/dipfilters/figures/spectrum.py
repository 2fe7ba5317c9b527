"""The spectrum explorer."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure

from dipfilters.figures.base import ComputedFigure, script, style
from dipfilters.twicing import SpectralTwicing

LARGEST = 150_000  # bytes of eigenvalues and packed eigenvectors; a third more in the page


class SpectrumExplorer(ComputedFigure):
    """Eigenvalues and leading eigenvectors of several filters, and how fast twicing lets them in.

    Args:
        filters: Twicing with each filter, under the network's name and what it is fed with; every network
            with every input, all for pictures of one size.
        vectors: How many eigenvectors are shown.
        step: k at first.

    Raises:
        ValueError: Filters of different sizes or of low rank, a network without one of the inputs, more than
            two inputs, more data than a page should carry.
    """

    _esm = script("spectrum.js")
    _css = style()
    spectra = traitlets.List(traitlets.Dict()).tag(sync=True)
    eigenvalues = traitlets.Bytes().tag(sync=True)
    vectors = traitlets.Bytes().tag(sync=True)
    vectors_kept = traitlets.Int().tag(sync=True)
    network = traitlets.Unicode().tag(sync=True)
    fed = traitlets.Unicode().tag(sync=True)
    step = traitlets.Int(min=1, max=10**6).tag(sync=True)

    def __init__(
        self,
        filters: Mapping[tuple[str, str], SpectralTwicing],
        *,
        vectors: int = 6,
        step: int = 100,
        **others: Any,
    ) -> None:
        networks, inputs = (list(dict.fromkeys(key[i] for key in filters)) for i in (0, 1))
        missing = [(network, fed) for network in networks for fed in inputs if (network, fed) not in filters]
        if missing or not filters:
            raise ValueError(f"filters must hold every network with every input; missing: {missing or 'all'}")
        shapes = {tuple(twice.shape) for twice in filters.values()}
        if len(shapes) > 1:
            raise ValueError(f"filters must be for pictures of one size, got {sorted(shapes)}")
        if len(inputs) > 2:
            raise ValueError(
                f"filters may be fed with two things at most, got {inputs}; show the others apart"
            )
        pixels = math.prod(*shapes)
        counts = {len(twice.eigenvalues) for twice in filters.values()}
        if counts != {pixels}:
            raise ValueError(
                f"filters must have an eigenvalue for each of the {pixels} pixels, got {sorted(counts)}; "
                f"give the filters themselves, not low ranks of them"
            )
        values, pictures = [], []
        for twice in filters.values():
            relative = twice.eigenvalues / twice.eigenvalues[0]
            values.append(relative.clamp(0, 1).float().cpu().numpy())
            leading = twice.eigenpictures(vectors).cpu()
            tops = leading.abs().amax((1, 2), keepdim=True)
            pictures.append((127 * leading / tops).round().to(torch.int8).numpy())
        packed = zlib.compress(np.stack(pictures).tobytes(), 9)
        listed = np.stack(values).tobytes()
        if len(packed) + len(listed) > LARGEST:
            raise ValueError(
                f"the spectra take {len(packed) + len(listed)} bytes, more than {LARGEST}; give fewer "
                f"filters or eigenvectors, or smaller pictures"
            )
        super().__init__(
            shape=list(shapes.pop()),
            spectra=[{"network": network, "fed": fed} for network, fed in filters],
            eigenvalues=listed,
            vectors=packed,
            vectors_kept=vectors,
            network=networks[0],
            fed=inputs[0],
            step=step,
            **others,
        )

    def still(self) -> Figure:
        """The eigenvalues of all networks against their number, a panel for each input."""
        from dipfilters.plots import panels

        values = np.frombuffer(self.eigenvalues, np.float32).reshape(len(self.spectra), -1)
        inputs = list(dict.fromkeys(one["fed"] for one in self.spectra))
        figure, axes = panels(len(inputs), height=3.2)
        for fed, ax in zip(inputs, axes, strict=True):
            for one, spectrum in zip(self.spectra, values, strict=True):
                if one["fed"] == fed:
                    ax.loglog(range(1, len(spectrum) + 1), spectrum.clip(1e-8), label=one["network"])
            ax.set(title=f"fed with {fed}", xlabel="number of the eigenvalue", ylim=(1e-8, 2))
        axes[0].set_ylabel("eigenvalue / largest")
        axes[0].legend(fontsize=8)
        return figure
