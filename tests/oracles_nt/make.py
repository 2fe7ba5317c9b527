"""Kernels of small networks by neural-tangents, an implementation by others: the oracle of ``ntk``.

Run in an environment of its own (README.md beside this file says how); nothing here imports the package.
Writes one .npz for each architecture, with the input and both kernels, and provenance.json.
"""

import argparse
import functools
import json
import math
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import jax  # type: ignore[import-not-found]
import numpy as np

jax.config.update("jax_enable_x64", True)

from neural_tangents import stax  # type: ignore[import-not-found]  # noqa: E402  (after float64 is on)


def conv(size: int, *, slope: float | None, padding: str, stride: int = 1):
    """A convolution without bias and its leaky ReLU; neither gain nor activation if the slope is None."""
    gain = 1.0 if slope is None else math.sqrt(2 / (1 + slope**2))
    layer = stax.Conv(
        1,
        (size, size),
        strides=(stride, stride),
        padding=padding,
        W_std=gain,
        b_std=None,
        parameterization="ntk",
    )
    if slope is None:
        return layer
    return stax.serial(layer, stax.LeakyRelu(slope) if slope else stax.Relu())


def pool():
    return stax.AvgPool((2, 2), strides=(2, 2), padding="VALID")


def up(height: int, width: int, method: str):
    """Resizing takes the axes of a kernel as they come: rows and columns have to be in their places."""
    return stax.serial(upright(), stax.ImageResize((-1, height, width, -1), method=method))


def upright():
    """The identity, which puts rows and columns of a kernel back where they were before the convolutions."""
    init_fn, apply_fn, kernel_fn = stax.Identity()

    @functools.wraps(kernel_fn)  # with the attributes by which layers tell each other what they need
    def reversing(kernel, **settings):
        return kernel.reverse() if kernel.is_reversed else kernel

    return init_fn, apply_fn, reversing


def branches(inner, side, *, merge: str):
    joined = stax.FanInSum() if merge == "sum" else stax.FanInConcat(axis=-1)
    return stax.serial(stax.FanOut(2), stax.parallel(inner, side), joined)


def plain(depth: int, size: int, padding: str, slope: float = 0.0):
    """Hidden layers of one kind and a last one, which pad for themselves or, by "VALID", not at all."""
    hidden = [conv(size, slope=slope, padding=padding) for _ in range(depth)]
    return stax.serial(*hidden, conv(1, slope=None, padding=padding))


def encoder_decoder(
    shapes: list[tuple[int, int]],
    size: int,
    *,
    padding: str,
    down: str,
    method: str,
    slope: float = 0.0,
    merge: str | None = None,
):
    """One scale for each shape but the last, the sizes from the picture's to the smallest's.

    Branches that are added both end in a convolution: neural-tangents adds no others.
    """

    def block(stride: int = 1):
        return conv(size, slope=slope, padding=padding, stride=stride)

    def around(level: int, inner):
        if merge == "sum":
            inner = stax.serial(inner, conv(1, slope=None, padding=padding))
        back = stax.serial(inner, up(*shapes[level], method))
        if merge is None:
            return back
        return branches(back, conv(1, slope=None if merge == "sum" else slope, padding=padding), merge=merge)

    half = [pool(), block()] if down == "pool" else [block(stride=2)]
    inner = stax.serial(*half)
    for level in range(len(shapes) - 2, 0, -1):
        inner = stax.serial(*half, around(level, inner), block())
    return stax.serial(block(), around(0, inner), block(), conv(1, slope=None, padding=padding))


def picture(channels: int, height: int, width: int, *, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.05, 0.95, (channels, height, width))


def reflected(image: np.ndarray, radius: int) -> np.ndarray:
    return np.pad(image, ((0, 0), (radius, radius), (radius, radius)), mode="reflect")


def cases() -> dict[str, tuple[Callable[[], object], np.ndarray, int]]:
    """Name -> (network, input picture, by how many pixels it is to be mirrored first)."""
    small, colour = picture(1, 7, 9, seed=1), picture(3, 7, 9, seed=2)
    odd, noise = picture(1, 5, 9, seed=4), picture(2, 7, 9, seed=3) - 0.5
    scales = [(7, 9), (3, 4), (1, 2)]
    strided = [(5, 9), (3, 5), (2, 3)]  # from an even size a stride of 2 would start at another pixel

    def layered(shapes, padding, down, method, **options):
        return lambda: encoder_decoder(shapes, 3, padding=padding, down=down, method=method, **options)

    concatenated = {"slope": 0.2, "merge": "concatenate"}
    return {
        "vanilla-3": (lambda: plain(3, 3, "VALID"), colour, 3),
        "vanilla-leaky": (lambda: plain(2, 3, "VALID", slope=0.2), noise, 2),
        "zero": (lambda: plain(2, 3, "SAME"), small, 0),
        "circular": (lambda: plain(2, 5, "CIRCULAR", slope=0.1), colour, 0),
        "strides-nearest": (layered(strided, "SAME", "stride", "nearest"), odd, 0),
        "pooling-bilinear": (layered(scales, "CIRCULAR", "pool", "linear"), small, 0),
        "skip-concatenate": (layered(scales, "CIRCULAR", "pool", "linear", **concatenated), small, 0),
        "skip-sum": (layered(strided, "SAME", "stride", "linear", merge="sum"), odd, 0),
    }


def kernels(network, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Output kernel and tangent kernel over all pairs of pixels, (N, N)."""
    _, _, kernel_fn = network
    kernel = kernel_fn(image.transpose(1, 2, 0)[None])
    if kernel.is_reversed:  # after an odd number of convolutions rows and columns have changed places
        kernel = kernel.reverse()
    found = []
    for values in (kernel.nngp, kernel.ntk):  # (1, 1, H, H', W, W')
        pairs = np.asarray(values)[0, 0].transpose(0, 2, 1, 3)
        found.append(pairs.reshape(pairs.shape[0] * pairs.shape[1], -1))
    return found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=Path(__file__).parent)
    into = parser.parse_args().into
    for name, (network, image, radius) in cases().items():
        output, tangent = kernels(network(), reflected(image, radius))
        path = into / f"{name}.npz"
        with (beside := path.with_suffix(".new")).open("wb") as file:
            upper = np.triu_indices(len(output))  # both are symmetric
            np.savez_compressed(file, image=image, output=output[upper], tangent=tangent[upper])
        beside.replace(path)
        print(f"{name}: {len(output)} pixels, asymmetry {abs(tangent - tangent.T).max():.1e}")
    provenance = {
        "command": "python tests/oracles_nt/make.py",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "versions": {p: version(p) for p in ("neural-tangents", "jax", "jaxlib", "tf2jax", "numpy")},
        "precision": "float64",
        "platform": f"{platform.system()} {platform.machine()}, {jax.default_backend()}",
        "cases": sorted(cases()),
    }
    (into / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
