"""Slow, obvious twins of what the package computes, which import nothing of src/ and share no trick."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.ndimage import convolve
from scipy.stats import multivariate_normal

Array = NDArray[np.float64]


def patches_by_loops(image: Array, size: int, padding: str) -> Array:
    """One patch after the other out of a picture that numpy pads: channels, then rows, then columns."""
    mode: Any = {"reflect": "reflect", "circular": "wrap", "zero": "constant"}[padding]
    padded = np.pad(image, [(0, 0), *2 * [(size // 2, size // 2)]], mode)
    places = np.ndindex(image[0].shape)
    return np.array([padded[:, r : r + size, s : s + size].ravel() for r, s in places])


def non_local_means_by_loops(
    image: Array, size: int, bandwidth: float, spatial: float = math.inf, padding: str = "reflect"
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

    u = r cos t and v = r cos(t − angle) with E[r²] = 2 and t uniform; both are positive from t = angle − π/2
    to π/2. The probability is that of the negative quadrant, which scipy knows.
    """
    product = quad(lambda t: math.cos(t) * math.cos(t - angle) / math.pi, angle - math.pi / 2, math.pi / 2)[0]
    cosine = math.cos(angle)
    return product, multivariate_normal.cdf([0.0, 0.0], cov=[[1.0, cosine], [cosine, 1.0]])


def twicing_by_recursion(matrix: Array, pixels: Array, steps: int) -> Array:
    """z ← z + W (y − z), from z = 0, on an (N, C) pixel matrix."""
    estimate = np.zeros_like(pixels)
    for _ in range(steps):
        estimate = estimate + matrix @ (pixels - estimate)
    return estimate


def residual_matrix(matrix: Array, steps: int) -> Array:
    """R = (I − W)^k."""
    return np.linalg.matrix_power(np.eye(len(matrix)) - matrix, steps)


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


def mean_of_neighbours_by_scipy(image: Array) -> Array:
    """The eight neighbours of each pixel that lie in the picture, diagonal ones counting half."""
    weights = np.array([[[0.5, 1.0, 0.5], [1.0, 0.0, 1.0], [0.5, 1.0, 0.5]]])
    total = convolve(image, weights, mode="constant")
    return np.asarray(total / convolve(np.ones_like(image), weights, mode="constant"))


def windowed_variance_by_numpy(estimates: Array, window: int) -> Array:
    """The variance over every full window of estimates (K, ...), averaged over the pixels."""
    pixels = estimates.reshape(len(estimates), -1)
    return np.asarray(sliding_window_view(pixels, window, axis=0).var(axis=-1).mean(axis=-1))
