"""Answers to what `dipfilters.checks` checks: each twice in different ways, and the usual mistakes.

Read by course/tests/test_answers.py; like everything in this folder it is for instructors only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Answer = Callable[..., Any]


# ---------------------------------------------------------------------------------------------- patches


def patches_by_unfold(image: Any, size: int, mode: str = "reflect") -> Any:
    r = size // 2
    padded = F.pad(image[None], (r, r, r, r), mode=mode)
    return F.unfold(padded, size)[0].T


def patches_by_numpy(image: Any, size: int) -> Any:
    r = size // 2
    padded = np.pad(image.numpy(), ((0, 0), (r, r), (r, r)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    return windows.transpose(1, 2, 0, 3, 4).reshape(image[0].numel(), -1)


def not_centred(image: Any, size: int) -> Any:
    padded = F.pad(image[None], (0, size - 1, 0, size - 1), mode="reflect")
    return F.unfold(padded, size)[0].T


def columns_before_rows(image: Any, size: int) -> Any:
    return patches_by_unfold(image.transpose(1, 2), size)


def transposed_patches(image: Any, size: int) -> Any:
    found = patches_by_unfold(image, size).reshape(-1, len(image), size, size)
    return found.transpose(2, 3).reshape(len(found), -1)


def channels_last(image: Any, size: int) -> Any:
    found = patches_by_unfold(image, size).reshape(-1, len(image), size**2)
    return found.transpose(1, 2).reshape(len(found), -1)


# ---------------------------------------------------------------------------------------------- weights


def weights_by_softmax(patches: Any, h: float) -> Any:
    squared = (patches[:, None] - patches[None]).square().mean(-1)
    return torch.softmax(-squared / h**2, dim=1)


def weights_by_loops(patches: Any, h: float) -> Any:
    rows = []
    for p in patches.tolist():
        row = [
            math.exp(-sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) / len(p) / h**2)
            for q in patches.tolist()
        ]
        rows.append([value / sum(row) for value in row])
    return rows


def weights(exponent: Callable[[Any, float], Any], dim: int = 1) -> Answer:
    return lambda patches, h: torch.softmax(-exponent(patches[:, None] - patches, h), dim=dim)


def without_rows(patches: Any, h: float) -> Any:
    return torch.exp(-(patches[:, None] - patches).square().mean(-1) / h**2)


def without_itself(patches: Any, h: float) -> Any:
    K = without_rows(patches, h).fill_diagonal_(0.0)
    return K / K.sum(1, keepdim=True)


# ---------------------------------------------------------------------------------------------- twicing


def twicing_by_loop(W: Any, y: Any, steps: int) -> Any:
    z = torch.zeros_like(y)
    for _ in range(steps):
        z = z + W @ (y - z)
    return z


def twicing_by_power(W: Any, y: Any, steps: int) -> Any:
    rest = np.eye(len(y)) - W.numpy()
    return y.numpy() - np.linalg.matrix_power(rest, steps) @ y.numpy()


def recursion(start: Callable[[Any], Any], step: Callable[[Any, Any, Any], Any]) -> Answer:
    def run(W: Any, y: Any, steps: int) -> Any:
        z = start(y)
        for _ in range(steps):
            z = step(W, y, z)
        return z

    return run


def twicing_in_place(W: Any, y: Any, steps: int) -> Any:
    z = torch.zeros_like(y)
    for _ in range(steps):
        moved = W @ y
        z += moved
        y -= moved
    return z


# ---------------------------------------------------------------------------------------------- kernels


def angle_and_norms(p: Any, q: Any) -> tuple[Any, Any, Any]:
    inner = p @ q.T / p.shape[1]
    norms = p.square().mean(1).sqrt()[:, None] * q.square().mean(1).sqrt()
    cosine = torch.where(norms > 0, inner / norms.clamp_min(1e-300), 0.0).clamp(-1, 1)
    return torch.arccos(cosine), norms, inner


def kernel(value: Callable[[Any, Any, Any], Any]) -> Answer:
    return lambda p, q: value(*angle_and_norms(p, q))


arc_cosine_by_formula = kernel(lambda a, n, i: n * (a.sin() + (math.pi - a) * a.cos()) / math.pi)


def arc_cosine_by_atan2(p: Any, q: Any) -> Any:
    p, q = p.numpy(), q.numpy()
    result = np.zeros((len(p), len(q)))
    for i, a in enumerate(p):
        for j, b in enumerate(q):
            inner, both = a @ b, math.sqrt((a @ a) * (b @ b))
            sine = math.sqrt(max(both**2 - inner**2, 0.0))
            phi = math.atan2(sine, inner)
            result[i, j] = (sine + (math.pi - phi) * inner) / math.pi / len(a)
    return result


tangent_by_formula = kernel(lambda a, n, i: n * (a.sin() + 2 * (math.pi - a) * a.cos()) / math.pi)


def tangent_by_two_kernels(p: Any, q: Any) -> Any:
    a, _, inner = angle_and_norms(p, q)
    return arc_cosine_by_atan2(p, q) + (inner * (1 - a / math.pi)).numpy()


def unclamped(p: Any, q: Any) -> Any:
    inner = p @ q.T / p.shape[1]
    norms = p.square().mean(1).sqrt()[:, None] * q.square().mean(1).sqrt()
    a = torch.arccos(inner / norms)
    return torch.where(norms > 0, norms * (a.sin() + (math.pi - a) * a.cos()) / math.pi, 0.0)


# ---------------------------------------------------------------------------------------------- descent


def descent_by_gradient(J: Any, y: Any, step: float, steps: int) -> Any:
    move = torch.zeros(J.shape[1], dtype=J.dtype, requires_grad=True)
    for _ in range(steps):
        loss = 0.5 * (J @ move - y).square().sum()
        (gradient,) = torch.autograd.grad(loss, move)
        move = (move - step * gradient).detach().requires_grad_()
    return J @ move


def descent(update: Callable[[Any, Any, Any, float], Any]) -> Answer:
    def run(J: Any, y: Any, step: float, steps: int) -> Any:
        z = torch.zeros_like(y)
        for _ in range(steps):
            z = update(J, y, z, step)
        return z

    return run


# ---------------------------------------------------------------------------------------------- average


def offsets(v: Any) -> list[tuple[int, int, Any]]:
    r = len(v) // 2
    return [(a, b, v[a + r, b + r]) for a in range(-r, r + 1) for b in range(-r, r + 1)]


def average_by_rolls(S: Any, v: Any) -> Any:
    return sum(share * torch.roll(S, (-a, -b, -a, -b), (0, 1, 2, 3)) for a, b, share in offsets(v))


def average_by_index(S: Any, v: Any) -> Any:
    values = S.numpy()
    total = np.zeros_like(values)
    h, w = values.shape[:2]
    for a, b, share in offsets(v.numpy()):
        rows, columns = (np.arange(h) + a) % h, (np.arange(w) + b) % w
        total += share * values[np.ix_(rows, columns, rows, columns)]
    return total


def rolled(shifts: Callable[[int, int], tuple[int, ...]], dims: tuple[int, ...] = (0, 1, 2, 3)) -> Answer:
    return lambda S, v: sum(share * torch.roll(S, shifts(a, b), dims) for a, b, share in offsets(v))


def average_with_zeros(S: Any, v: Any) -> Any:
    k, r, (h, w) = len(v), len(v) // 2, S.shape[:2]
    padded = F.pad(S, (r, r, r, r, r, r, r, r))
    places = [(a, b) for a in range(k) for b in range(k)]
    return sum(v[a, b] * padded[a : a + h, b : b + w, a : a + h, b : b + w] for a, b in places)


# ------------------------------------------------------------------------------------------------- Adam


def adam_by_recursion(g: Any, step: float, beta1: float, beta2: float) -> Any:
    m, v, moves = torch.zeros_like(g[0]), torch.zeros_like(g[0]), []
    for t, now in enumerate(g, start=1):
        m = beta1 * m + (1 - beta1) * now
        v = beta2 * v + (1 - beta2) * now**2
        root = (v / (1 - beta2**t)).sqrt() + 1e-8
        moves.append(-step * m / (1 - beta1**t) / root)
    return torch.stack(moves)


def adam_by_torch(g: Any, step: float, beta1: float, beta2: float) -> Any:
    weight = torch.zeros_like(g[0]).requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=step, betas=(float(beta1), float(beta2)))
    path = [weight.detach().clone()]
    for now in g:
        weight.grad = now.clone()
        optimizer.step()
        path.append(weight.detach().clone())
    return torch.stack(path).diff(dim=0)


def adam(ratio: Callable[..., Any]) -> Answer:
    def run(g: Any, step: float, beta1: float, beta2: float) -> Any:
        m, v, moves = torch.zeros_like(g[0]), torch.zeros_like(g[0]), []
        for t, now in enumerate(g, start=1):
            m = beta1 * m + (1 - beta1) * now
            v = beta2 * v + (1 - beta2) * now**2
            moves.append(-step * ratio(m, v, beta1, beta2, t))
        return torch.stack(moves)

    return run


# ----------------------------------------------------------------------------------- hiding, discrepancy


def neighbours(y: Any, mask: Any, weights: Any, mode: str = "normalised") -> Any:
    window = torch.tensor(weights, dtype=y.dtype)[None, None]
    if mode == "circular":
        total = F.conv2d(F.pad(y[:, None], (1, 1, 1, 1), mode="circular"), window)[:, 0]
        return torch.where(mask, total / window.sum(), y)
    total = F.conv2d(y[:, None], window, padding=1)[:, 0]
    share = F.conv2d(torch.ones_like(y)[:, None], window, padding=1)[:, 0]
    return torch.where(mask, total / (window.sum() if mode == "zero" else share), y)


CROSS = [[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]
RING = [[0.5, 1, 0.5], [1, 0, 1], [0.5, 1, 0.5]]
BOX = [[1.0, 1, 1], [1, 1, 1], [1, 1, 1]]


def hiding_by_loops(y: Any, mask: Any) -> Any:
    result = y.clone()
    for r, s in mask.nonzero().tolist():
        near = [(r - 1, s), (r + 1, s), (r, s - 1), (r, s + 1)]
        near = [(a, b) for a, b in near if 0 <= a < y.shape[1] and 0 <= b < y.shape[2]]
        result[:, r, s] = torch.stack([y[:, a, b] for a, b in near]).mean(0)
    return result


def hiding_in_place(y: Any, mask: Any) -> Any:
    y[:, mask] = neighbours(y, mask, CROSS)[:, mask]
    return y


def stop_by_loop(estimates: Any, y: Any, sigma: float) -> Any:
    for k, z in enumerate(estimates):
        if float((y - z).pow(2).sum()) <= y.numel() * sigma**2:
            return k
    raise ValueError("never")


def stop(close: Callable[[Any, float], Any], which: int = 0) -> Answer:
    def run(estimates: Any, y: Any, sigma: float) -> Any:
        found = torch.nonzero(close((estimates - y).flatten(1), sigma)).flatten()
        if len(found) == 0:
            raise ValueError("never")
        return int(found[which])

    return run


def rms(residual: Any) -> Any:
    return residual.square().mean(1).sqrt()


RIGHT: dict[str, list[Answer]] = {
    "check_patches": [patches_by_unfold, patches_by_numpy],
    "check_weights": [weights_by_softmax, weights_by_loops],
    "check_twicing": [twicing_by_loop, twicing_by_power],
    "check_arc_cosine": [arc_cosine_by_formula, arc_cosine_by_atan2],
    "check_tangent_kernel": [tangent_by_formula, tangent_by_two_kernels],
    "check_descent": [
        descent_by_gradient,
        descent(lambda J, y, z, step: z + step * J @ (J.T @ (y - z))),
    ],
    "check_average": [average_by_rolls, average_by_index],
    "check_adam": [adam_by_recursion, adam_by_torch],
    "check_hiding": [hiding_by_loops, lambda y, mask: neighbours(y, mask, RING)],
    "check_discrepancy": [stop_by_loop, stop(lambda r, sigma: rms(r) <= sigma)],
}

# Of each check the usual mistakes, and a word of what it must say of them.
WRONG: dict[str, dict[str, tuple[Answer, str]]] = {
    "check_patches": {
        "zeros beyond the border": (lambda x, k: patches_by_unfold(x, k, "constant"), "mirror image"),
        "border pixels repeated": (lambda x, k: patches_by_unfold(x, k, "replicate"), "mirror image"),
        "periodic border": (lambda x, k: patches_by_unfold(x, k, "circular"), "mirror image"),
        "not centred": (not_centred, "middle of a patch"),
        "pixels column by column": (columns_before_rows, "middle of a patch"),
        "rows and columns of a patch swapped": (transposed_patches, "overlap"),
        "channels last": (channels_last, "middle of a patch"),
        "patches as columns": (lambda x, k: patches_by_unfold(x, k).T, "must have the shape"),
        "first channel only": (lambda x, k: patches_by_unfold(x[:1], k), "must have the shape"),
    },
    "check_weights": {
        "no normalisation": (without_rows, "every row sums to one"),
        "columns normalised": (weights(lambda e, h: e.square().mean(-1) / h**2, 0), "every row sums"),
        "sum in place of mean": (weights(lambda e, h: e.square().sum(-1) / h**2), "1/e"),
        "2h²": (weights(lambda e, h: e.square().mean(-1) / (2 * h**2)), "1/e"),
        "h not squared": (weights(lambda e, h: e.square().mean(-1) / h), "1/e"),
        "distance not squared": (weights(lambda e, h: e.square().mean(-1).sqrt() / h), "1/e"),
        "unlike patches preferred": (weights(lambda e, h: -e.square().mean(-1) / h**2), "than i itself"),
        "own weight left out": (without_itself, "than i itself"),
        "signed difference": (weights(lambda e, h: e.mean(-1) / h), "than i itself"),
    },
    "check_twicing": {
        "filter iterated": (recursion(lambda y: y, lambda W, y, z: W @ z), "z⁰ = 0"),
        "start at y": (recursion(lambda y: y, lambda W, y, z: z + W @ (y - z)), "z⁰ = 0"),
        "start at Wy": (lambda W, y, k: twicing_by_loop(W, y, k + 1), "z⁰ = 0"),
        "columns for rows": (lambda W, y, k: twicing_by_loop(W.T, y, k), "constant picture"),
        "residual not filtered": (
            recursion(lambda y: 0 * y, lambda W, y, z: z + 0.5 * (y - z)),
            "constant picture",
        ),
        "wrong sign": (recursion(lambda y: 0 * y, lambda W, y, z: z - W @ (y - z)), "constant picture"),
        "picture added each time": (recursion(lambda y: 0 * y, lambda W, y, z: z + W @ y), "takes up"),
        "old residual": (
            lambda W, y, k: W @ y + (k - 1) * W @ (y - W @ y) if k else 0 * y,
            "takes up",
        ),
        "overwrites the picture": (twicing_in_place, "changes what it is given"),
    },
    "check_arc_cosine": {
        "no 1/π": (kernel(lambda a, n, i: n * (a.sin() + (math.pi - a) * a.cos())), "with itself"),
        "no norms": (
            kernel(lambda a, n, i: (a.sin() + (math.pi - a) * a.cos()) / math.pi),
            "three times the contrast",
        ),
        "degrees for radians": (
            kernel(lambda a, n, i: n * (a.sin() + (180 - a.rad2deg()) * a.cos()) / math.pi),
            "with itself",
        ),
        "sums for means": (lambda p, q: p.shape[1] * arc_cosine_by_formula(p, q), "with itself"),
        "order 0": (kernel(lambda a, n, i: n * (1 - a / math.pi)), "an angle that is known"),
        "cosine above 1": (unclamped, "above 1"),
        "sine left out": (
            kernel(lambda a, n, i: n * (math.pi - a) * a.cos() / math.pi),
            "eigenvalue|known|never|itself",
        ),
        "inner product": (kernel(lambda a, n, i: i), "an angle that is known"),
        "patches swapped": (lambda p, q: arc_cosine_by_formula(q, p), "must have the shape"),
        "other patch's norm": (
            lambda p, q: arc_cosine_by_formula(p, q) / q.square().mean(1).sqrt().clamp_min(1e-9),
            "isn't symmetric",
        ),
    },
    "check_tangent_kernel": {
        "last layer only": (arc_cosine_by_formula, "with itself"),
        "κ₁ twice": (lambda p, q: 2 * arc_cosine_by_formula(p, q), "known"),
        "κ₀ with norms": (
            kernel(lambda a, n, i: n * (a.sin() + (math.pi - a) * (a.cos() + 1)) / math.pi),
            "known",
        ),
        "nothing negative": (lambda p, q: tangent_by_formula(p, q).clamp_min(0), "known"),
        "⟨p, q⟩ a sum": (
            kernel(lambda a, n, i: n * a.sin() / math.pi + 10 * i * (1 - a / math.pi)),
            "with itself",
        ),
        "degrees for radians": (
            kernel(lambda a, n, i: n * (a.sin() + 2 * (180 - a.rad2deg()) * a.cos()) / math.pi),
            "with itself",
        ),
        "κ₀ without ⟨p, q⟩": (
            lambda p, q: arc_cosine_by_formula(p, q) + 1 - angle_and_norms(p, q)[0] / math.pi,
            "three times the contrast",
        ),
    },
    "check_descent": {
        "twice the step": (descent(lambda J, y, z, s: z + 2 * s * J @ (J.T @ (y - z))), "the sum everywhere"),
        "loss a mean": (
            descent(lambda J, y, z, s: z + s / len(y) * J @ (J.T @ (y - z))),
            "the sum everywhere",
        ),
        "uphill": (descent(lambda J, y, z, s: z - s * J @ (J.T @ (y - z))), "the sum everywhere"),
        "kernel left out": (descent(lambda J, y, z, s: z + s * (y - z)), "the sum everywhere"),
        "starts at the picture": (
            lambda J, y, s, k: y + descent(lambda J, y, z, s: z + s * J @ (J.T @ (y - z)))(J, y, s, k),
            "z⁰ = 0",
        ),
        "gradient of the start": (lambda J, y, s, k: k * s * J @ (J.T @ y), "takes up"),
        "weights returned": (lambda J, y, s, k: k * s * J.T @ y, "must have the shape"),
        "one weight for all": (
            descent(lambda J, y, z, s: z + s * J[:, 0] * (J[:, 0] @ (y - z)) * J.shape[1]),
            "rows of J",
        ),
    },
    "check_average": {
        "one pixel moved": (rolled(lambda a, b: (-a, -b), (0, 1)), "same part"),
        "opposite offsets": (rolled(lambda a, b: (-a, -b, a, b)), "displacement alone|same part"),
        "rows for columns": (rolled(lambda a, b: (-a, -b, -b, -a)), "displacement alone|same part"),
        "the other direction": (rolled(lambda a, b: (a, b, a, b)), "one row down"),
        "mean for sum": (lambda S, v: average_by_rolls(S, v) / v.numel(), "a constant"),
        "variances not used": (lambda S, v: average_by_rolls(S, 0 * v + 1 / v.numel()), "a constant"),
        "zeros beyond the border": (average_with_zeros, "a constant"),
        "not centred": (
            lambda S, v: torch.roll(average_by_rolls(S, v), (1, 1, 1, 1), (0, 1, 2, 3)),
            "a single pair|as far up",
        ),
        "the pixel itself left out": (
            lambda S, v: average_by_rolls(S, v) - v[len(v) // 2, len(v) // 2] * S,
            "a constant",
        ),
    },
    "check_adam": {
        "uphill": (lambda *given: -adam_by_recursion(*given), "against the sign"),
        "no correction of the start": (
            adam(lambda m, v, b1, b2, t: m / (v.sqrt() + 1e-8)),
            "against the sign",
        ),
        "no root": (
            adam(lambda m, v, b1, b2, t: m / (1 - b1**t) / (v / (1 - b2**t) + 1e-8)),
            "against the sign",
        ),
        "betas swapped": (lambda g, s, b1, b2: adam_by_recursion(g, s, b2, b1), "one gradient of 1"),
        "count from 2": (
            adam(lambda m, v, b1, b2, t: m / (1 - b1 ** (t + 1)) / (v / (1 - b2 ** (t + 1))).sqrt()),
            "against the sign",
        ),
        "one size for all weights": (
            adam(lambda m, v, b1, b2, t: m / (1 - b1**t) / (v.mean() / (1 - b2**t)).sqrt()),
            "against the sign",
        ),
        "a large ε": (
            adam(lambda m, v, b1, b2, t: m / (1 - b1**t) / ((v / (1 - b2**t)).sqrt() + 0.1)),
            "against the sign",
        ),
        "the sign alone": (lambda g, s, b1, b2: -s * g.sign(), "one gradient of 1"),
        "the path": (lambda *given: adam_by_recursion(*given).cumsum(0), "the same|before|no memory|stays"),
    },
    "check_hiding": {
        "nothing hidden": (lambda y, mask: y, "what was hidden"),
        "zeros": (lambda y, mask: torch.where(mask, 0.0, y), "a constant"),
        "the pixel itself counts": (lambda y, mask: neighbours(y, mask, BOX), "what was hidden"),
        "mask inverted": (lambda y, mask: neighbours(y, ~mask, CROSS), "only the pixels of the mask"),
        "zeros beyond the border": (lambda y, mask: neighbours(y, mask, CROSS, "zero"), "a constant"),
        "periodic border": (
            lambda y, mask: neighbours(y, mask, CROSS, "circular"),
            "far away|what was hidden",
        ),
        "mean of the picture": (
            lambda y, mask: torch.where(mask, y[:, ~mask].mean(1)[:, None, None], y),
            "far away",
        ),
        "picture overwritten": (hiding_in_place, "changes what it is given"),
    },
    "check_discrepancy": {
        "the last one": (stop(lambda r, s: rms(r) <= s, -1), "no farther"),
        "the smallest residual": (lambda z, y, s: int(rms((z - y).flatten(1)).argmin()), "no farther"),
        "one too late": (lambda z, y, s: stop_by_loop(z, y, s) + 1, "no farther"),
        "norm not divided by N": (stop(lambda r, s: r.norm(dim=1) <= s), "no farther"),
        "σ not squared": (stop(lambda r, s: r.square().mean(1) <= s), "no farther"),
        "mean difference": (stop(lambda r, s: r.mean(1).abs() <= s), "no farther"),
        "never too far": (
            lambda z, y, s: int((rms((z - y).flatten(1)) <= s).int().argmax()),
            "raise ValueError",
        ),
        "an index out of nothing": (
            lambda z, y, s: int(torch.nonzero(rms((z - y).flatten(1)) <= s)[0]),
            "fails with IndexError",
        ),
    },
}
