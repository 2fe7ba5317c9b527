"""Time one product with a kernel matrix: the compiled walk over displacements against tiles in plain torch.

    python benchmarks/products.py [--threads 2] [--rounds 5] [--only tangent-128]

The sides take turns within one process; given are medians of wall time, per pair of pixels (N² of them). The
tiles are plain torch with care: float32 unit patches, a matrix product, acos, everything else in place.
They hold no matrix of N² entries either, and do not use that it is symmetric. Deep kernels have no tiles.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dipfilters import (
    arc_cosine_kernel,
    extract_patches,
    gaussian_kernel,
    one_layer_tangent_kernel,
    vanilla,
)
from dipfilters.engines import cpu
from dipfilters.engines.recipe import Recipe, recipe_of_architecture, recipe_of_kernel
from dipfilters.kernels import GaussianKernel, Kernel, OneLayerTangentKernel

TILE_ENTRIES = 2**20  # 4 MB of float32; 2^18 and 2^22 differ by less than the noise


class Case(NamedTuple):
    """A kernel, the side of the picture, its channels, and the side of a patch where there are patches."""

    kernel: Kernel | None
    depth: int
    side: int
    channels: int
    size: int


CASES = {
    "tangent-64": Case(one_layer_tangent_kernel(), 1, 64, 1, 5),
    "tangent-128": Case(one_layer_tangent_kernel(), 1, 128, 1, 11),
    "tangent-128-small-patches": Case(one_layer_tangent_kernel(), 1, 128, 1, 5),
    "tangent-128-colour": Case(one_layer_tangent_kernel(), 1, 128, 3, 7),
    "arc-cosine-128": Case(arc_cosine_kernel(), 1, 128, 1, 11),
    "non-local-means-128": Case(gaussian_kernel(0.2), 1, 128, 1, 5),
    "deep-64": Case(None, 3, 64, 1, 3),
    "deep-64-dense": Case(None, 3, 64, 1, 3),
    "tangent-256": Case(one_layer_tangent_kernel(), 1, 256, 1, 7),
}


def tiles(kernel: Kernel, image: Tensor, size: int, columns: Tensor) -> Tensor:
    """K times columns, tile by tile in float32."""
    patches = extract_patches(image.float(), size)
    patches = patches / math.sqrt(patches.shape[1])
    powers = patches.square().sum(1)
    norms = powers.sqrt()
    gaussian = isinstance(kernel, GaussianKernel)
    slope = 2 if isinstance(kernel, OneLayerTangentKernel) else 1
    right = patches if gaussian else patches / norms[:, None]
    v = columns.float() if gaussian else columns.float() * norms[:, None]
    height = max(1, TILE_ENTRIES // len(patches))
    parts = []
    for start in range(0, len(patches), height):
        some = slice(start, start + height)
        tile = right[some] @ right.T
        if isinstance(kernel, GaussianKernel):
            tile.mul_(-2).add_(powers).add_(powers[some, None]).clamp_min_(0)
            tile.mul_(-1 / kernel.bandwidth**2).exp_()
        else:
            cosine = tile.clamp_(-1, 1)
            sine = cosine.square().neg_().add_(1).sqrt_()
            tile = torch.acos(cosine).neg_().add_(math.pi).mul_(cosine).mul_(slope).add_(sine).div_(math.pi)
        parts.append(tile @ v)
    product = torch.cat(parts).double()
    return product if gaussian else product * norms[:, None]


def sides(case: Case, name: str, threads: int) -> dict[str, Callable[[], Tensor]]:
    """What is timed: each side as a call without arguments."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(case.channels, case.side, case.side, generator=generator, dtype=torch.float64)
    columns = torch.rand(case.side**2, case.channels, generator=generator, dtype=torch.float64)
    recipe: Recipe
    if case.kernel is None:
        recipe = recipe_of_architecture(vanilla(case.depth, case.size))
    else:
        recipe = recipe_of_kernel(case.kernel, case.size)
    padded = F.pad(image[None], (recipe.shrink // 2,) * 4, mode="reflect")[0]
    if name.endswith("dense"):
        return {"dense": lambda: cpu.dense(recipe, padded, threads=threads)}
    calls = {
        "float32": lambda: cpu.product(recipe, padded, columns, threads=threads),
        "float64": lambda: cpu.product(recipe, padded, columns, threads=threads, dtype=torch.float64),
    }
    kernel = case.kernel
    if kernel is not None and case.side <= 128:
        calls["tiles"] = lambda: tiles(kernel, image, case.size, columns)
    return calls


def main() -> None:
    """Time the cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=CASES)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{'case':28}{'side':>9}{'ms':>10}{'ns/pair':>9}{'tiles/it':>10}")
    for name, case in CASES.items():
        if options.only not in (None, name):
            continue
        calls = sides(case, name, options.threads)
        times: dict[str, list[float]] = {side: [] for side in calls}
        for round_ in range(options.rounds + 1):
            for side, call in calls.items():
                start = time.perf_counter()
                call()
                if round_:  # the first round compiles and warms the caches
                    times[side].append(time.perf_counter() - start)
        medians = {side: statistics.median(values) for side, values in times.items()}
        for side, seconds in medians.items():
            ratio = f"{medians['tiles'] / seconds:10.1f}" if "tiles" in medians else ""
            print(f"{name:28}{side:>9}{seconds * 1e3:10.1f}{seconds / case.side**4 * 1e9:9.3f}{ratio}")


if __name__ == "__main__":
    main()
