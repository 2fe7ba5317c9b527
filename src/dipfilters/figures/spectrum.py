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

from dipfilters.figures.base import ComputedFigure, Whole, script
from dipfilters.twicing import SpectralTwicing

LARGEST = 150_000  # bytes of eigenvalues and packed eigenvectors; a third more in the page


class SpectrumExplorer(ComputedFigure):
    """Eigenvalues and leading eigenvectors of several filters, and how fast twicing lets them in.

    Args:
        filters: Twicing with each filter, under the network's name and what it is fed with; every network
            with every input, all for pictures of one size.
        vectors: How many eigenvectors are shown.
        step: k at first, 1 to a million; the browser shows the nearest of some forty.

    Raises:
        ValueError: Filters of different sizes or of low rank, one without a positive eigenvalue, a network
            without one of the inputs, more than two inputs, another number of vectors than there are, more
            data than a page should carry.
        traitlets.TraitError: A step outside its range, another network or input than those of ``filters``,
            also when set later.
    """

    _esm = script("spectrum.js")
    spectra = traitlets.List(traitlets.Dict(), read_only=True).tag(sync=True)
    eigenvalues = traitlets.Bytes(read_only=True).tag(sync=True)
    vectors = traitlets.Bytes(read_only=True).tag(sync=True)
    vectors_kept = traitlets.Int(read_only=True).tag(sync=True)
    network = traitlets.Unicode().tag(sync=True)
    fed = traitlets.Unicode().tag(sync=True)
    step = Whole(min=1, max=10**6).tag(sync=True)

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
        if not 1 <= vectors <= pixels:
            raise ValueError(f"vectors must be 1 to {pixels}, the number of pixels, got {vectors}")
        values, pictures = [], []
        for name, twice in filters.items():
            if not 0 < float(twice.eigenvalues[0]) < math.inf:
                raise ValueError(
                    f"{name}: the largest eigenvalue is {float(twice.eigenvalues[0])}, and the others are "
                    f"shown relative to it; give a filter of a picture that is not black"
                )
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
        data = {
            "shape": list(shapes.pop()),
            "spectra": [{"network": network, "fed": fed} for network, fed in filters],
            "eigenvalues": listed,
            "vectors": packed,
            "vectors_kept": vectors,
        }
        super().__init__(data, network=networks[0], fed=inputs[0], step=step, **others)

    @traitlets.validate("network", "fed")
    def _check_name(self, proposal: Any) -> str:
        return self._check_choice(proposal, [one[proposal.trait.name] for one in self.spectra])

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
