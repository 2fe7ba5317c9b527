"""The benchmarks: `make bench` (minutes), `make bench QUICK=1` (under three). Ratios of one interleaved run.

Every row times the package and a peer in turns within this process, and compares their results: a fast wrong
answer ends the run. Ratios are medians over the rounds, with the smallest and the largest. What misses its
bar is written down as missed, and ends nothing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import floor, peers
from dipfilters import (
    KernelFilter,
    LanczosTwicing,
    TangentFilter,
    add_noise,
    gaussian_kernel,
    load_image,
    one_layer_tangent_kernel,
    psnr,
    step_grid,
    vanilla,
)
from dipfilters.engines import cpu
from dipfilters.engines.program import program_of_kernel
from dipfilters.ntk import kernel_program
from dipfilters.provenance import commit, hardware

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SIGMA = 25 / 255
LAST = 1000  # steps; the best stops lie below
MAXRSS_BYTES = 1 if platform.system() == "Darwin" else 1024  # the unit of a process's peak memory
VERSIONS = ("torch", "numpy", "numba", "scikit-image", "neural-tangents", "jax", "pykeops", "bm3d")


@dataclass
class Row:
    """One comparison. ``bar`` is what the ratio must reach, or not exceed if ``at_most``; None: no bar."""

    name: str
    work: str
    peer: str
    unit: str
    ours: float
    theirs: float
    ratio: float
    smallest: float
    largest: float
    bar: float | None
    at_most: bool
    error: float
    note: str = ""
    floor: float | None = None  # the least time that this machine's arithmetic allows, in seconds

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without one."""
        if self.bar is None:
            return None
        return self.ratio <= self.bar if self.at_most else self.ratio >= self.bar


def check(name: str, ours: Tensor, theirs: Tensor, allowed: float) -> float:
    """The relative difference of two results, if it is allowed."""
    difference = float((ours.double() - theirs.double()).norm() / theirs.double().norm())
    if not difference <= allowed:
        raise SystemExit(f"{name}: the results differ by {difference:.1e}, more than {allowed:.0e}")
    return difference


def race(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of both in turns, after one call each to warm up."""
    times: tuple[list[float], list[float]] = ([], [])
    for round_ in range(rounds + 1):
        for call, kept in zip((ours, theirs), times, strict=True):
            begun = time.perf_counter()
            call()
            if round_:
                kept.append(time.perf_counter() - begun)
    return times


def compared(
    name: str,
    work: str,
    peer: str,
    times: tuple[list[float], list[float]],
    *,
    bar: float | None,
    error: float,
    note: str = "",
    floor: float | None = None,
) -> Row:
    """The row of a race: how many times as long the peer takes."""
    ratios = [b / a for a, b in zip(*times, strict=True)]
    return Row(
        name,
        work,
        peer,
        "s",
        statistics.median(times[0]),
        statistics.median(times[1]),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        bar,
        False,
        error,
        note,
        floor,
    )


def noisy_picture(side: int, name: str = "astronaut", seed: int = 0) -> tuple[Tensor, Tensor]:
    """A clean and a noisy grey picture."""
    clean = load_image(name, size=side, gray=True).double()
    return clean, add_noise(clean, SIGMA, generator=torch.Generator().manual_seed(seed))


def tangent_product(side: int, rounds: int, speed: float) -> Row:
    """One product with the tangent kernel of one hidden layer."""
    _, noisy = noisy_picture(side)
    column = noisy.flatten()[:, None]
    ours = KernelFilter(noisy, one_layer_tangent_kernel(), patch_size=11, normalize=1.0, engine="cpu")
    tiles = peers.tangent_tiles(noisy, 11)
    error = check("plain torch", ours.apply(noisy).flatten()[:, None], tiles(column.float()), 1e-3)
    if side <= 128:
        exact = KernelFilter(
            noisy, one_layer_tangent_kernel(), patch_size=11, normalize=1.0, engine="reference"
        )
        error = check("tangent product", ours.apply(noisy), exact.apply(noisy), 1e-5)
    times = race(lambda: ours.apply(noisy), lambda: tiles(column.float()), rounds)
    program = program_of_kernel(one_layer_tangent_kernel(), 11)
    assert program is not None
    return compared(
        f"product-tangent-{side}",
        f"one product, one-layer tangent kernel, {side}², 11×11",
        "plain torch, tiles with acos",
        times,
        bar=25.0 if side == 256 else 5.0,
        error=error,
        floor=floor.seconds(program, side**2, speed),
    )


def further_column(rounds: int, speed: float) -> Row:
    """What a column more adds to a product, from products with one column and with nine."""
    _, noisy = noisy_picture(128)
    program = program_of_kernel(one_layer_tangent_kernel(), 11)
    assert program is not None
    padded = torch.nn.functional.pad(noisy[None], (5,) * 4, mode="reflect")[0]
    columns = torch.rand(noisy.numel(), 9, generator=torch.Generator().manual_seed(0)).double()
    together = cpu.product(program, padded, columns)
    each = torch.cat([cpu.product(program, padded, column[:, None]) for column in columns.T], dim=1)
    error = check("nine columns", together, each, 1e-6)
    nine, one = race(
        lambda: cpu.product(program, padded, columns),
        lambda: cpu.product(program, padded, columns[:, :1]),
        rounds,
    )
    further = [(a - b) / 8 for a, b in zip(nine, one, strict=True)]
    shares = [a / b for a, b in zip(further, one, strict=True)]
    return Row(
        "product-column",
        "a further column of a product, one-layer tangent kernel, 128², 11×11",
        "the product with one column",
        "s",
        statistics.median(further),
        statistics.median(one),
        statistics.median(shares),
        min(shares),
        max(shares),
        0.1,
        True,
        error,
        "from products with one column and with nine",
        floor.seconds(program, noisy.numel(), speed, 2) - floor.seconds(program, noisy.numel(), speed),
    )


def gaussian_product(rounds: int, speed: float) -> Row:
    """One product with the kernel of non-local means."""
    _, noisy = noisy_picture(128)
    column = noisy.float().flatten()[:, None]
    ours = KernelFilter(noisy, gaussian_kernel(2 * SIGMA), patch_size=5, normalize=1.0, engine="cpu")
    keops = peers.gaussian_keops(noisy, 5, 2 * SIGMA)
    error = check("Gaussian product", ours.apply(noisy).flatten()[:, None], keops(column), 1e-4)
    times = race(lambda: ours.apply(noisy), lambda: keops(column), rounds)
    work = "one product, non-local means, 128², 5×5"
    program = program_of_kernel(gaussian_kernel(2 * SIGMA), 5)
    assert program is not None
    least = floor.seconds(program, noisy.numel(), speed)
    return compared("product-gaussian", work, "KeOps", times, bar=15.0, error=error, floor=least)


def deep_kernel(rounds: int, speed: float) -> list[Row]:
    """The dense kernel of a deep network, and one product without forming it."""
    _, noisy = noisy_picture(64)
    pixels = noisy.flatten()
    theirs = peers.neural_tangents(noisy, 3, 3)
    deep = TangentFilter(noisy, vanilla(3, 3), normalize=1.0, engine="cpu")
    kernel = torch.from_numpy(theirs())
    error = check("dense kernel", deep.dense(), kernel, 1e-4)
    applied = deep.apply(noisy).flatten()
    product_error = check("deep product", applied, kernel @ pixels.float(), 1e-4)
    forming = race(deep.dense, theirs, rounds)
    applying = race(lambda: deep.apply(noisy), lambda: torch.from_numpy(theirs()) @ pixels.float(), rounds)
    peer = "neural-tangents, compiled"
    return [
        compared("dense-deep", "dense kernel, 64², 3 hidden 3×3", peer, forming, bar=20.0, error=error),
        compared(
            "product-deep",
            "one product, 64², 3 hidden 3×3",
            f"{peer}, forming and applying",
            applying,
            bar=100.0,
            error=product_error,
            floor=floor.seconds(kernel_program(vanilla(3, 3), "tangent"), noisy.numel(), speed),
        ),
    ]


def denoised(noisy: Tensor, patch_size: int, tolerance: float = 1e-4) -> LanczosTwicing:
    """The whole work: the filter, its largest eigenvalue, twicing for all numbers of steps up to ``LAST``."""
    W = KernelFilter(
        noisy, one_layer_tangent_kernel(), patch_size=patch_size, normalize="spectral", engine="cpu"
    )
    run = LanczosTwicing(W, noisy, last=LAST, tolerance=tolerance)
    run.estimate(step_grid(LAST, 40))
    return run


def best_stop(run: LanczosTwicing, clean: Tensor) -> int:
    """The step of the least true error."""
    steps = step_grid(LAST, 40)
    return max(zip(steps, run.estimate(steps), strict=True), key=lambda pair: psnr(pair[1], clean))[0]


def best_estimate(noisy: Tensor, clean: Tensor) -> np.ndarray:
    """The closed form's estimate at its best stop."""
    run = denoised(noisy, 11)
    estimate: np.ndarray = run.estimate(best_stop(run, clean))[0].numpy()
    return estimate


def whole_denoising(side: int, rounds: int, iterated: int) -> list[Row]:
    """All stopping times, against twicing iterated to the best of them, and against Nyström."""
    clean, noisy = noisy_picture(side)
    exact = denoised(noisy, 11, tolerance=1e-8)
    best = best_stop(exact, clean)
    truth = exact.estimate(best)
    ours = denoised(noisy, 11)
    error = check("denoising", ours.estimate(best), truth, 1e-4)
    columns = noisy[0].numel() // 100
    barred = side == 256

    product = peers.tangent_tiles(noisy, 11)
    y = noisy.float().flatten()[:, None]
    eta = KernelFilter(
        noisy, one_layer_tangent_kernel(), patch_size=11, normalize="spectral", engine="cpu"
    ).scale

    def iterate() -> Tensor:
        z = torch.zeros_like(y)
        for _ in range(iterated):
            z = z + eta * product(y - z)
        return z

    begun = time.perf_counter()
    steps_done = iterate()
    scaled = (time.perf_counter() - begun) * best / iterated
    check("iterated", steps_done, exact.estimate(iterated).flatten()[:, None], 1e-3)
    times = race(lambda: denoised(noisy, 11), lambda: peers.nystrom(noisy, 11, columns, best), rounds)
    theirs = peers.nystrom(noisy, 11, columns, best)
    low_rank_error = check("Nyström", theirs, truth, 0.1)
    seconds = statistics.median(times[0])
    ratios = [a / b for a, b in zip(*times, strict=True)]
    work = f"full denoising, {side}², one layer 11×11, all stopping times up to {LAST} to 1e-4"
    peer = f"Nyström, {columns} columns, as well optimised"
    return [
        Row(
            "denoise-iterated",
            work,
            f"twicing iterated in plain torch to its best step, {best}",
            "s",
            seconds,
            scaled,
            scaled / seconds,
            scaled / max(times[0]),
            scaled / min(times[0]),
            150.0 if barred else None,
            False,
            error,
            f"timed on {iterated} steps and scaled to {best}; {ours.products} products here",
        ),
        Row(
            "denoise-nystrom",
            "the same",
            peer,
            "s",
            seconds,
            statistics.median(times[1]),
            statistics.median(ratios),
            min(ratios),
            max(ratios),
            6.0 if barred else None,
            True,
            error,
            "how many times as long the exact result takes",
        ),
        Row(
            "denoise-nystrom-error",
            "the same",
            peer,
            "relative error at the best step",
            error,
            low_rank_error,
            low_rank_error / error,
            low_rank_error / error,
            low_rank_error / error,
            5.0 if barred else None,
            False,
            error,
            "how many times as exact",
        ),
    ]


def against_training(rounds: int, width: int) -> Row:
    """The closed form against the training of the network that it describes."""
    _, noisy = noisy_picture(128)
    run = denoised(noisy, 7)
    error = check("denoising", run.estimate(300), denoised(noisy, 7, tolerance=1e-8).estimate(300), 1e-4)
    W = KernelFilter(noisy, one_layer_tangent_kernel(), patch_size=7, normalize="spectral", engine="cpu")
    step = peers.training_step(noisy, 7, width, W.scale)
    ours, theirs = race(lambda: denoised(noisy, 7), step, rounds)
    return compared(
        "denoise-training",
        "full denoising, 128², one layer 7×7",
        f"training that network, width {width}, for 300 steps",
        (ours, [300 * seconds for seconds in theirs]),
        bar=100.0 if width == 8192 else None,
        error=error,
        note="time of a step × 300",
    )


MEMORY = """
import resource
from benchmarks.suite import denoised, noisy_picture
denoised(noisy_picture(256)[1], 11)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_memory() -> Row:
    """The largest memory of a process that does nothing else, libraries and compiler included."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], cwd=ROOT, capture_output=True, text=True, check=True
    )
    used = int(done.stdout.split()[-1]) * MAXRSS_BYTES
    whole = 4 * 256**4
    share = used / whole
    return Row(
        "memory",
        "full denoising, 256², one layer 11×11: peak memory of the whole process",
        "the matrix in float32",
        "bytes",
        used,
        whole,
        share,
        share,
        share,
        0.03,
        True,
        0.0,
        "the share of it, Python and libraries included",
    )


def seconds_of(call: Callable[[], object]) -> float:
    """The time of a second call."""
    call()
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def curves(quick: bool) -> dict[str, object]:
    """Time against the patch size, the depth and the number of pixels; no bars."""
    _, noisy = noisy_picture(64 if quick else 128)
    pairs = noisy[0].numel() ** 2
    rounds = 1 if quick else 3

    def nanoseconds(filter: KernelFilter | TangentFilter, picture: Tensor) -> float:
        filter.apply(picture)
        times = []
        for _ in range(rounds):
            begun = time.perf_counter()
            filter.apply(picture)
            times.append(time.perf_counter() - begun)
        return 1e9 * statistics.median(times) / picture[0].numel() ** 2

    kernel = one_layer_tangent_kernel()
    sizes = [3, 5, 7, 9, 11, 15, 21]
    depths = [1, 2, 3, 4, 6]
    sides = [48, 64, 96] if quick else [64, 96, 128, 192, 256]
    pictures = [noisy_picture(side)[1] for side in sides]
    exact = [seconds_of(partial(denoised, p, 7)) for p in pictures]
    low_rank = [seconds_of(partial(peers.nystrom, p, 7, max(16, p.numel() // 100), 300)) for p in pictures]
    logs = np.log(np.square(sides))
    return {
        "pairs": pairs,
        "patch_sizes": sizes,
        "by_patch_size": [
            nanoseconds(KernelFilter(noisy, kernel, patch_size=k, normalize=1.0, engine="cpu"), noisy)
            for k in sizes
        ],
        "depths": depths,
        "by_depth": [
            nanoseconds(TangentFilter(noisy, vanilla(d, 3), normalize=1.0, engine="cpu"), noisy)
            for d in depths
        ],
        "sides": sides,
        "exact": exact,
        "low_rank": low_rank,
        "slope_exact": float(np.polyfit(logs, np.log(exact), 1)[0]),
        "slope_low_rank": float(np.polyfit(logs, np.log(low_rank), 1)[0]),
    }


def limits() -> dict[str, float]:
    """What this machine can do: products of matrices, and copies, in float32."""

    def best(call: Callable[[], object]) -> float:
        times = []
        for _ in range(7):
            begun = time.perf_counter()
            call()
            times.append(time.perf_counter() - begun)
        return min(times)

    a = torch.rand(2048, 2048)
    source, target = torch.rand(2**26), torch.empty(2**26)
    return {
        "gflops": 2 * 2048**3 / best(lambda: a @ a) / 1e9,
        "copy_gb_per_s": 2 * 4 * 2**26 / best(lambda: target.copy_(source)) / 1e9,
    }


def quality(quick: bool) -> list[dict[str, object]]:
    """PSNR and seconds of other denoisers beside the closed form, on pictures of 96×96 pixels."""
    import bm3d
    from skimage.restoration import denoise_nl_means

    rows: list[dict[str, object]] = []
    names = ["camera"] if quick else ["camera", "astronaut", "chelsea", "coffee", "brick"]
    for name, seed in [(name, seed) for name in names for seed in ([0] if quick else [0, 1])]:
        clean, noisy = noisy_picture(96, name, seed)
        picture = noisy[0].numpy()
        means = partial(denoise_nl_means, picture, patch_size=5, h=0.8 * SIGMA, sigma=SIGMA, fast_mode=True)
        calls: dict[str, Callable[[], np.ndarray]] = {
            "non-local means, scikit-image, all pairs": partial(means, patch_distance=95),
            "non-local means, scikit-image, 13×13 window": partial(means, patch_distance=6),
            "BM3D": partial(bm3d.bm3d, picture, SIGMA),
            "tangent kernel, one layer 11×11, best stop": partial(best_estimate, noisy, clean),
        }
        for method, call in calls.items():
            begun = time.perf_counter()
            estimate = torch.from_numpy(np.asarray(call()))[None].double()
            seconds = time.perf_counter() - begun
            value = psnr(estimate, clean)
            rows.append({"picture": name, "seed": seed, "method": method, "psnr": value, "seconds": seconds})
    return rows


def write(path: Path, content: object) -> None:
    """Write beside, then replace."""
    path.parent.mkdir(exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(content, indent=1, default=float, ensure_ascii=False) + "\n", "utf-8")
    beside.replace(path)


def provenance() -> dict[str, object]:
    """Where and with what the run was made."""
    versions = {}
    for name in VERSIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "commit": commit(ROOT, "src", "requirements.lock", str(Path(__file__))),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": hardware("cpu"),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": versions,
    }


def show(row: Row) -> None:
    """One line on the terminal."""
    verdict = {None: "", True: "met", False: "MISSED"}[row.met]
    sign = "" if row.bar is None else f" (bar: {'at most' if row.at_most else 'at least'} {row.bar:g})"
    distance = "" if row.floor is None else f"; {row.ours / row.floor:.1f} times the floor"
    print(
        f"{row.name:22} {row.ratio:8.3g} [{row.smallest:.3g}, {row.largest:.3g}]{sign}  {verdict}   "
        f"ours {row.ours:.3g}, theirs {row.theirs:.3g} {row.unit}; error {row.error:.0e}{distance}",
        flush=True,
    )


def main() -> None:
    """Run all, print the rows, and write them to a file of the results' folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller work; writes nothing")
    quick = parser.parse_args().quick
    rounds = 2 if quick else 7
    began, facts = time.perf_counter(), provenance()
    rows: list[Row] = []
    speed = floor.operations_per_second()
    stages: list[Callable[[], Row | list[Row]]] = [
        peak_memory,  # first: a new process begins with the peak of the one that starts it
        lambda: tangent_product(128, rounds, speed),
        *([] if quick else [lambda: tangent_product(256, 2, speed)]),
        lambda: further_column(rounds, speed),
        lambda: gaussian_product(rounds, speed),
        lambda: deep_kernel(1 if quick else 3, speed),
        lambda: against_training(1 if quick else 3, 1024 if quick else 8192),
        partial(whole_denoising, 128, 1, 1) if quick else partial(whole_denoising, 256, 2, 2),
    ]
    for stage in stages:
        made = stage()
        for row in made if isinstance(made, list) else [made]:
            rows.append(row)
            show(row)
    result = {
        "provenance": facts,
        "rows": [asdict(row) | {"met": row.met} for row in rows],
        "curves": curves(quick),
        "limits": limits() | {"operations_per_second": speed},
        "quality": quality(quick),
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(f"{result['seconds']} s in all")
    missed = [row.name for row in rows if row.met is False]
    print(f"missed: {', '.join(missed)}" if missed else "every bar is met")
    if not quick:
        path = RESULTS / f"{str(facts['date'])[:19].replace(':', '')}.json"
        write(path, result)
        print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # tensorflow, which tf2jax imports, speaks of itself
    main()
