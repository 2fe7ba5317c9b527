"""What the package is measured against: the same work by plain torch, and by others' libraries.

Each peer is written as its own users would, and as fast as we know how. Imports of libraries that only the
environment of the benchmarks has are inside the functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dipfilters import GradientDescent, build, extract_patches, train, vanilla

TILE_ENTRIES = 2**20  # 4 MB of float32: the fastest of 2^16 to 2^22 on two cores of an AMD EPYC


def scaled_patches(picture: Tensor, size: int) -> Tensor:
    """Patches whose plain inner products are the means over their entries, in float32."""
    patches = extract_patches(picture.float(), size)
    return patches / math.sqrt(patches.shape[1])


def tangent_values(near: Tensor, far: Tensor) -> Tensor:
    """The tangent kernel of one hidden layer between two sets of scaled patches, by acos."""
    norms = near.square().sum(1).sqrt()[:, None] * far.square().sum(1).sqrt()
    cosine = (near @ far.T / norms).clamp(-1, 1)
    angle = torch.acos(cosine)
    return norms * (torch.sin(angle) + 2 * (math.pi - angle) * cosine) / math.pi


def tangent_tiles(picture: Tensor, size: int) -> Callable[[Tensor], Tensor]:
    """v ↦ K v for a column (N, 1), tile by tile."""
    patches = scaled_patches(picture, size)
    height = max(1, TILE_ENTRIES // len(patches))

    def product(column: Tensor) -> Tensor:
        starts = range(0, len(patches), height)
        return torch.cat([tangent_values(patches[i : i + height], patches) @ column for i in starts])

    return product


def gaussian_keops(picture: Tensor, size: int, bandwidth: float) -> Callable[[Tensor], Tensor]:
    """v ↦ K v for the kernel of non-local means, by KeOps."""
    import pykeops  # type: ignore[import-not-found]

    pykeops.set_verbose(False)
    from pykeops.torch import LazyTensor  # type: ignore[import-not-found]

    patches = scaled_patches(picture, size) / bandwidth
    kernel = (-((LazyTensor(patches[:, None, :]) - LazyTensor(patches[None, :, :])) ** 2).sum(-1)).exp()
    return lambda column: kernel @ column


def neural_tangents(picture: Tensor, depth: int, size: int) -> Callable[[], np.ndarray]:
    """The dense tangent kernel of a vanilla network by neural-tangents, compiled: (N, N) in float32."""
    import jax  # type: ignore[import-not-found]
    from neural_tangents import stax  # type: ignore[import-not-found]

    hidden = [
        layer
        for _ in range(depth)
        for layer in (stax.Conv(1, (size, size), padding="VALID", W_std=math.sqrt(2)), stax.Relu())
    ]
    _, _, kernel_fn = stax.serial(*hidden, stax.Conv(1, (1, 1), padding="VALID", W_std=1.0))
    padded = F.pad(picture[None].float(), (depth * (size // 2),) * 4, mode="reflect")
    batch = jax.numpy.asarray(padded.permute(0, 2, 3, 1).numpy())

    @jax.jit
    def theta(x):  # type: ignore[no-untyped-def]
        kernel = kernel_fn(x, None)
        return kernel.reverse().ntk if kernel.is_reversed else kernel.ntk

    def dense() -> np.ndarray:
        result = theta(batch).block_until_ready()[0, 0]  # (H, H', W, W')
        height, width = result.shape[0], result.shape[2]
        return np.asarray(result).transpose(0, 2, 1, 3).reshape(height * width, -1)

    return dense


def nystrom(picture: Tensor, size: int, columns: int, steps: int, seed: int = 0) -> Tensor:
    """Twicing after ``steps`` steps by Nyström from uniform columns, in float32 but for Gram matrices."""
    patches = scaled_patches(picture, size)
    chosen = torch.randperm(len(patches), generator=torch.Generator().manual_seed(seed))[:columns]
    C = torch.empty(len(patches), columns)
    height = max(1, TILE_ENTRIES // columns)
    for start in range(0, len(patches), height):
        C[start : start + height] = tangent_values(patches[start : start + height], patches[chosen])
    values, vectors = torch.linalg.eigh(C[chosen].double())
    kept = values > 1e-6 * values[-1]  # rounding of float32 and of acos below that
    factor = C @ (vectors[:, kept] / values[kept].sqrt()).float()
    gram = torch.zeros(factor.shape[1], factor.shape[1], dtype=torch.float64)
    for start in range(0, len(factor), 8192):
        part = factor[start : start + 8192]
        gram += (part.T @ part).double()
    values, vectors = torch.linalg.eigh(gram)
    gains = 1 - (1 - values / values[-1]).clamp(0, 1) ** steps
    inner = vectors.T @ (factor.T @ picture.float().flatten()).double()
    coefficients = vectors @ (gains / values.clamp_min(1e-12) * inner)
    estimate: Tensor = factor @ coefficients.float()
    return estimate.reshape(picture.shape)


def training_step(picture: Tensor, size: int, width: int, step: float) -> Callable[[], object]:
    """One step of gradient descent on a network of one hidden layer."""
    network = build(vanilla(1, size), channels=1, width=width, generator=torch.Generator().manual_seed(0))
    target = picture.float()
    run = train(network, target, target, optimizer=GradientDescent(step), steps=10**9)
    next(run)
    return lambda: next(run)
