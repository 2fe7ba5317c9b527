"""`python -m benchmarks.reader`: PSNR against seconds for the reader's job, a noisy colour photograph.

All methods get the same pictures and the same noise, and know its standard deviation where they ask for it;
the network that learns from the noisy picture alone does not. What was chosen with the clean picture at hand
is marked as an oracle's: the width of the Gaussian, and the stop of the closed forms where it is not Stein's.

Each picture and draw is a job, as many at once as there are processors, with one thread each. Seconds are of
the processor, not of the clock, so that other work on the machine counts little; compiling is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.suite import LAST, RESULTS, SIGMA, provenance, write
from dipfilters import (
    LanczosTwicing,
    SpectralTwicing,
    TangentFilter,
    add_noise,
    denoise,
    load_image,
    psnr,
    step_grid,
    vanilla,
)
from studies.learners import zero_shot
from tools.errors import run_main

PICTURES = ("astronaut", "chelsea", "coffee", "retina")
DRAWS = 3
SIDE, PATCH = 256, 11
EPOCHS = (25, 50, 100, 200, 300)
WIDTHS = [0.4 + 0.1 * i for i in range(16)]  # of the Gaussian, in pixels
PATH = RESULTS / "reader.json"

Row = dict[str, Any]


def pair(name: str, draw: int, side: int) -> tuple[Tensor, Tensor]:
    """The clean picture in colour, and the noisy one."""
    clean = load_image(name, size=side).double()
    return clean, add_noise(clean, SIGMA, generator=torch.Generator().manual_seed(draw))


def best(estimates: Tensor, clean: Tensor) -> float:
    """The PSNR of the estimate that an oracle would take."""
    return max(psnr(estimate, clean) for estimate in estimates)


def gaussian(noisy: Tensor) -> Tensor:
    """The picture blurred with each of the widths."""
    from scipy.ndimage import gaussian_filter

    blurred = [gaussian_filter(noisy.numpy(), (0, width, width), mode="reflect") for width in WIDTHS]
    return torch.from_numpy(np.stack(blurred))


def last_channels(call: Callable[[np.ndarray], np.ndarray], noisy: Tensor) -> Tensor:
    """What a library makes of the picture that wants its channels last."""
    estimate = call(noisy.permute(1, 2, 0).numpy().copy())
    return torch.from_numpy(np.ascontiguousarray(estimate, np.float64)).permute(2, 0, 1)


def non_local_means(picture: np.ndarray) -> np.ndarray:
    """By scikit-image, in its fast mode, with sigma known and the bandwidth of its gallery for that case."""
    from skimage.restoration import denoise_nl_means

    options: dict[str, Any] = {"patch_size": 5, "patch_distance": 6, "fast_mode": True, "channel_axis": 2}
    found: np.ndarray = denoise_nl_means(picture, h=0.6 * SIGMA, sigma=SIGMA, **options)
    return found


def bm3d(picture: np.ndarray) -> np.ndarray:
    """By its authors' package, whose licence allows non-commercial use only."""
    import bm3d as package  # type: ignore[import-not-found,unused-ignore]

    found: np.ndarray = package.bm3d_rgb(picture, SIGMA)
    return found


def low_rank(noisy: Tensor) -> Tensor:
    """The closed form from one column of its kernel for a hundred pixels, at all stops."""
    chance = torch.Generator().manual_seed(0)
    filter = TangentFilter(noisy, vanilla(1, PATCH), engine="cpu")
    few = filter.low_rank(max(16, noisy[0].numel() // 100), generator=chance)
    return SpectralTwicing(few).estimate(noisy, step_grid(LAST, 40))


def exact(noisy: Tensor) -> Tensor:
    """The closed form, at all stops."""
    run = LanczosTwicing(
        TangentFilter(noisy, vanilla(1, PATCH), engine="cpu"), noisy, last=LAST, tolerance=1e-3
    )
    return run.estimate(step_grid(LAST, 40))


def measured(name: str, draw: int, side: int, epochs: Sequence[int]) -> list[Row]:
    """All methods on one picture with one draw of the noise."""
    torch.set_num_threads(1)
    clean, noisy = pair(name, draw, side)
    small = noisy[:, :32, :32]
    rows: list[Row] = []

    def add(method: str, stop: str, seconds: float, value: float) -> None:
        row = {"picture": name, "draw": draw, "method": method, "stop": stop}
        rows.append(row | {"seconds": seconds, "psnr": value})
        print(f"{name:10} {draw} {method:28} {stop:12} {seconds:8.2f} s {value:6.2f} dB", flush=True)

    def timed(call: Callable[[Tensor], Any]) -> tuple[float, Any]:
        call(small)  # compiles, imports
        begun = time.process_time()
        found = call(noisy)
        return time.process_time() - begun, found

    add("noisy", "none", 0.0, psnr(noisy, clean))
    seconds, found = timed(gaussian)
    add("Gaussian blur", "oracle", seconds / len(WIDTHS), best(found, clean))
    for method, library in (("non-local means", non_local_means), ("BM3D", bm3d)):
        seconds, found = timed(partial(last_channels, library))
        add(method, "none", seconds, psnr(found, clean))
    seconds, found = timed(lambda y: denoise(y, SIGMA, budget_s=1e6, progress=False).picture)
    add("closed form, tiles", "SURE", seconds, psnr(found, clean))
    if draw == 0:  # the next draws would change the seconds little, and the PSNR by hundredths
        for method, call in (("closed form, 1 % of columns", low_rank), ("closed form, exact", exact)):
            seconds, found = timed(call)
            add(method, "oracle", seconds, best(found, clean))
    path, seconds = zero_shot(noisy, epochs, seed=draw), 0.0
    next(zero_shot(small, [1]))
    for epoch in epochs:
        begun = time.process_time()
        found = next(path)
        seconds += time.process_time() - begun
        add("ZS-N2N", f"{epoch} epochs", seconds, psnr(found.double(), clean))
    return rows


def jobs(quick: bool) -> Iterator[tuple[str, int, int, tuple[int, ...]]]:
    """Picture, draw, side and epochs of each job."""
    for draw in range(1 if quick else DRAWS):
        for name in PICTURES[:1] if quick else PICTURES:
            yield name, draw, 32 if quick else SIDE, (1, 2) if quick else EPOCHS


def main(words: Sequence[str]) -> None:
    """Run all jobs, and write the rows beside the results of the suite."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reader", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small picture")
    parser.add_argument("--out", type=Path, default=PATH, help="the file to write")
    options = parser.parse_args(words)
    facts, work = provenance(), list(zip(*jobs(options.quick), strict=True))
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    begun = time.perf_counter()
    with ProcessPoolExecutor(processors, mp_context=get_context("spawn")) as pool:
        rows = [row for found in pool.map(measured, *work) for row in found]
    result = {
        "what": f"{SIDE}×{SIDE} pixels in colour, σ = 25/255",
        "licence": "BM3D by the package bm3d of the Python Package Index, for non-commercial use only",
        "provenance": facts | {"threads": 1},
        "rows": rows,
        "seconds": round(time.perf_counter() - begun, 1),
    }
    write(options.out, result)
    print(json.dumps({"written": str(options.out), "seconds": result["seconds"]}))


if __name__ == "__main__":
    run_main(main)
