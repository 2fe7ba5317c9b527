"""The arc-cosine lab."""

from __future__ import annotations

from typing import Any

import torch
import traitlets
from matplotlib.figure import Figure

from dipfilters.figures.base import ComputedFigure, Number, Seed, Whole, browser_normals, script
from dipfilters.kernels import kappa0, kappa1

WIDTHS = tuple(2**m for m in range(3, 13))


class ArcCosineLab(ComputedFigure):
    """Turn two patches and ask a crowd of random neurons how alike they are.

    The mean product of ``width`` random ReLU features of two unit patches, with two standard errors, against
    its limit κ₁, beside κ₀ and the Gaussian kernel.

    Args:
        angle: φ in whole degrees, 0 to 180.
        width: The number of neurons, a power of two from 8 to 4096.
        bandwidth: h of the Gaussian kernel, in norms of the patches, 0.2 to 2.
        seed: Of the neurons, from 1.

    Raises:
        traitlets.TraitError: A value outside its range, also when set later.
    """

    _esm = script("lab.js")
    angle = Whole(min=0, max=180).tag(sync=True)
    width = traitlets.Enum(WIDTHS).tag(sync=True)
    bandwidth = Number(min=0.2, max=2.0).tag(sync=True)
    seed = Seed().tag(sync=True)

    def __init__(
        self, *, angle: int = 60, width: int = 64, bandwidth: float = 0.5, seed: int = 1, **others: Any
    ) -> None:
        super().__init__({}, angle=angle, width=width, bandwidth=bandwidth, seed=seed, **others)

    def __repr__(self) -> str:
        return f"ArcCosineLab(angle={self.angle}, width={self.width})"

    def crowd(self) -> tuple[float, float]:
        """The mean product over the browser's neurons, and its standard error."""
        neurons = browser_normals(self.seed, 2 * self.width).reshape(-1, 2)
        phi = torch.deg2rad(torch.tensor(float(self.angle), dtype=torch.float64))
        turned = torch.stack([torch.cos(phi), torch.sin(phi)])
        products = 2 * torch.relu(neurons[:, 0]) * torch.relu(neurons @ turned)
        return float(products.mean()), float(products.std(correction=0)) / self.width**0.5

    def still(self) -> Figure:
        """The kernels against the angle, and what the neurons say of the present one."""
        from dipfilters.plots import PINK, panels

        phi = torch.linspace(0, torch.pi, 181, dtype=torch.float64)
        cosine, degrees = torch.cos(phi), torch.rad2deg(phi)
        figure, (ax,) = panels(1, height=3.2, width=5.4)
        ax.plot(degrees, kappa1(cosine), label="κ₁")
        ax.plot(degrees, kappa0(cosine), label="κ₀")
        ax.plot(degrees, torch.exp((2 * cosine - 2) / self.bandwidth**2), label="Gaussian")
        mean, error = self.crowd()
        ax.errorbar(self.angle, mean, yerr=2 * error, fmt="o", color=PINK, label=f"{self.width} neurons")
        ax.set(xlabel="angle φ in degrees", ylabel="kernel", xticks=range(0, 181, 45))
        ax.legend()
        return figure
