"""Slow, obvious twins of what the package computes, which import nothing of src/ and share no trick."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import dblquad

Array = NDArray[np.float64]


def beyond_border(index: int, length: int, padding: str) -> int | None:
    """The row or column that stands in for ``index``, which may lie outside 0..length−1; None for a zero."""
    if 0 <= index < length:
        return index
    if padding == "zero":
        return None
    if padding == "circular":
        return index + length if index < 0 else index - length
    return -index if index < 0 else 2 * (length - 1) - index


def patches_by_loops(image: Array, size: int, padding: str) -> Array:
    """Each patch written out entry by entry: channels, then rows, then columns."""
    channels, height, width = image.shape
    radius = size // 2
    patches = []
    for r in range(height):
        for s in range(width):
            patch = []
            for c in range(channels):
                for a in range(-radius, radius + 1):
                    for b in range(-radius, radius + 1):
                        row = beyond_border(r + a, height, padding)
                        column = beyond_border(s + b, width, padding)
                        inside = row is not None and column is not None
                        patch.append(float(image[c, row, column]) if inside else 0.0)
            patches.append(patch)
    return np.array(patches)


def non_local_means_by_loops(
    image: Array,
    size: int,
    bandwidth: float,
    spatial: float = math.inf,
    padding: str = "reflect",
) -> Array:
    """Four nested loops: every pixel is averaged with those around it, by the likeness of their patches."""
    channels, height, width = image.shape
    patches = patches_by_loops(image, size, padding)
    result = np.zeros_like(image)
    for r in range(height):
        for s in range(width):
            total, weights = np.zeros(channels), 0.0
            for t in range(height):
                for u in range(width):
                    difference = patches[r * width + s] - patches[t * width + u]
                    likeness = math.exp(-sum(difference**2) / len(difference) / bandwidth**2)
                    nearness = math.exp(-((r - t) ** 2 + (s - u) ** 2) / spatial**2)
                    total += likeness * nearness * image[:, t, u]
                    weights += likeness * nearness
            result[:, r, s] = total / weights
    return result


def relu_moments(angle: float) -> tuple[float, float]:
    """E[relu(u) relu(v)] and P(u > 0, v > 0), u and v standard Gaussian with correlation cos(angle).

    u = x and v = x cos(angle) + y sin(angle) for independent x and y. Both are positive where x > 0 and
    y > −x cot(angle): there the integrand is smooth, and adaptive quadrature reaches ten digits.
    """
    cosine, sine = math.cos(angle), math.sin(angle)

    def density(y: float, x: float) -> float:
        return math.exp(-(x * x + y * y) / 2) / (2 * math.pi)

    def lowest(x: float) -> float:
        return max(-x * cosine / sine, -12.0)

    # Beyond 12 standard deviations the density is below 1e-31. The lower end may pass the upper one where
    # cot(angle) is negative: those x contribute nothing.
    def highest(x: float) -> float:
        return max(12.0, lowest(x))

    def product(y: float, x: float) -> float:
        return density(y, x) * x * (x * cosine + y * sine)

    accuracy = {"epsabs": 1e-11, "epsrel": 1e-11}
    return (
        dblquad(product, 0.0, 12.0, lowest, highest, **accuracy)[0],
        dblquad(density, 0.0, 12.0, lowest, highest, **accuracy)[0],
    )


def twicing_by_recursion(matrix: Array, pixels: Array, steps: int) -> Array:
    """z ← z + W (y − z), from z = 0, on an (N, C) pixel matrix."""
    estimate = np.zeros_like(pixels)
    for _ in range(steps):
        estimate = estimate + matrix @ (pixels - estimate)
    return estimate


def residual_matrix(matrix: Array, steps: int) -> Array:
    """R = (I − W)^k, one product after the other."""
    identity = np.eye(len(matrix))
    residual = identity
    for _ in range(steps):
        residual = residual @ (identity - matrix)
    return residual


def jacobian_by_differences(function: Callable[[Array], Array], point: Array, step: float) -> Array:
    """∂f_i/∂y_j by moving one coordinate at a time, both ways."""
    columns = []
    for j in range(point.size):
        move = np.zeros_like(point)
        move.flat[j] = step
        columns.append((function(point + move) - function(point - move)).ravel() / (2 * step))
    return np.stack(columns, axis=1)


def draw_bias_and_variance(estimates: Array, clean: Array) -> tuple[float, float]:
    """Squared bias (less the variance of the mean) and variance, per value, of M estimates of one picture.

    The mean of M estimates misses the clean picture by the bias and by noise of variance V/M; the second
    is taken off, so that the result has the squared bias for its mean.
    """
    draws = len(estimates)
    mean = estimates.mean(axis=0)
    variance = float(((estimates - mean) ** 2).sum(axis=0).mean() / (draws - 1))
    return float(((mean - clean) ** 2).mean()) - variance / draws, variance


def mean_of_neighbours_by_loops(image: Array) -> Array:
    """The eight neighbours of each pixel that lie in the picture, diagonal ones counting half."""
    channels, height, width = image.shape
    result = np.zeros_like(image)
    for c in range(channels):
        for r in range(height):
            for s in range(width):
                total = weights = 0.0
                for a in (-1, 0, 1):
                    for b in (-1, 0, 1):
                        if (a, b) != (0, 0) and 0 <= r + a < height and 0 <= s + b < width:
                            weight = 0.5 if a != 0 and b != 0 else 1.0
                            total += weight * image[c, r + a, s + b]
                            weights += weight
                result[c, r, s] = total / weights
    return result


def windowed_variance_by_definition(estimates: Array, window: int) -> Array:
    """1/W Σ ‖z − z̄‖² / n over every full window of estimates (K, ...), each from its pictures anew."""
    variances = []
    for last in range(window - 1, len(estimates)):
        part = estimates[last - window + 1 : last + 1]
        mean = sum(part) / window
        variances.append(sum(((z - mean) ** 2).sum() / z.size for z in part) / window)
    return np.array(variances)
