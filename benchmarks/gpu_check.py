"""`make gpu-check`: all that needs a CUDA card, in minutes, and a report with ratios on that card.

Every row compares two ways of the same work on one card, in turns, and their results before that: what is
wrong ends the run with the name of the row. `--device cpu --quick` goes through the same steps with tiny
pictures on the processor, where Triton is left out unless its interpreter was asked for.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.util
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import peers
from dipfilters import (
    Adam,
    GradientDescent,
    KernelFilter,
    LinearizedNetwork,
    TangentFilter,
    add_noise,
    autoencoder,
    build,
    gaussian_kernel,
    load_image,
    one_layer_tangent_kernel,
    skip,
    train,
    vanilla,
)
from dipfilters.engines import batched
from dipfilters.engines.program import KernelProgram, program_of_kernel
from dipfilters.networks import Architecture
from dipfilters.provenance import commit, hardware
from tools.errors import BookError, run_main

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SIGMA = 25 / 255
ROUNDS = 5


class NoCard(BookError):
    """There is no CUDA card that this check could run on."""


@dataclass
class Row:
    """One comparison: how many times as long the other way takes, and how far the results are apart."""

    name: str
    work: str
    ours: float
    theirs: float
    ratio: float
    smallest: float
    largest: float
    error: float
    note: str = ""


@dataclass
class Check:
    """The device, and how large the work is."""

    device: torch.device
    quick: bool

    def picture(self, side: int, channels: int = 1, name: str = "astronaut") -> Tensor:
        """A noisy picture on the device, in float64."""
        clean = load_image(name, size=side, gray=channels == 1).double()
        return add_noise(clean, SIGMA, generator=torch.Generator().manual_seed(0)).to(self.device)

    def seconds(self, call: Callable[[], object]) -> float:
        """The time of a call, until the card has finished."""
        self.wait()
        begun = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - begun

    def wait(self) -> None:
        """Until the card has nothing left to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def row(
        self,
        name: str,
        work: str,
        ours: Callable[[], Tensor],
        theirs: Callable[[], Tensor],
        allowed: float,
        note: str = "",
    ) -> Row:
        """Both ways in turns, after one call each whose results are compared: relative to λ_max ‖v‖ or so."""
        error = apart(name, ours(), theirs(), allowed)
        times = [(self.seconds(ours), self.seconds(theirs)) for _ in range(1 if self.quick else ROUNDS)]
        ratios = [b / a for a, b in times]
        medians = [statistics.median(kept) for kept in zip(*times, strict=True)]
        return Row(name, work, *medians, statistics.median(ratios), min(ratios), max(ratios), error, note)


def apart(name: str, found: Tensor, expected: Tensor, allowed: float) -> float:
    """The relative difference of two results.

    Raises:
        BookError: It is more than is allowed.
    """
    expected = expected.double().cpu()
    difference = float((found.double().cpu() - expected).norm() / expected.norm())
    if not difference <= allowed:
        raise BookError(
            f"{name}: the results differ by {difference:.1e}, more than {allowed:.0e}; do not use it"
        )
    return difference


def has_triton(check: Check) -> bool:
    """Whether products go through Triton: on a card where it is installed, or by its interpreter."""
    wanted = check.device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"
    return wanted and importlib.util.find_spec("triton") is not None


def job(picture: Tensor, size: int) -> tuple[KernelProgram, Tensor, Tensor]:
    """The program of one layer, the padded picture, and a column."""
    program = program_of_kernel(one_layer_tangent_kernel(), size)
    assert program is not None
    padded = F.pad(picture[None], (size // 2,) * 4, mode="reflect")[0]
    return program, padded, picture[0].reshape(-1, 1)


def correctness(check: Check) -> Iterator[Row]:
    """Each engine on the device against the reference on the processor."""
    side = 16 if check.quick else 64
    picture = check.picture(side, channels=3)
    filters: dict[str, Callable[[Tensor, Any], Any]] = {
        "one layer, 11×11": lambda x, engine: KernelFilter(
            x, one_layer_tangent_kernel(), patch_size=11, normalize=1.0, engine=engine
        ),
        "non-local means, 5×5": lambda x, engine: KernelFilter(
            x, gaussian_kernel(2 * SIGMA), patch_size=5, normalize=1.0, engine=engine
        ),
        "three layers, 3×3": lambda x, engine: TangentFilter(x, vanilla(3, 3), normalize=1.0, engine=engine),
    }
    for name, make in filters.items():
        expected = make(picture.cpu(), "reference").apply(picture.cpu())
        for engine in ("reference", "batched"):
            filter = make(picture, engine)
            error = apart(f"{name}, {engine}", filter.apply(picture), expected, 1e-5)
            seconds = check.seconds(lambda filter=filter: filter.apply(picture))  # type: ignore[misc]
            kept = "; the matrix is kept" if engine == "reference" else ""
            work = f"one product, {side}², colour, {name}{kept}"
            yield Row(f"correct: {engine}", work, seconds, seconds, 1.0, 1.0, 1.0, error, "not a race")


@contextmanager
def plain_torch() -> Iterator[None]:
    """The batched engine without Triton."""
    with mock.patch.object(batched, "_card", return_value=None):
        yield


def variants(check: Check) -> Iterator[Row]:
    """The batched engine as it is, against sums in float32 alone, and box sums by pooling."""
    side = 24 if check.quick else 192
    program, padded, column = job(check.picture(side), 11)

    def run() -> Tensor:
        with plain_torch():
            return batched.product(program, padded, column)

    def in_single(total: Tensor, products: Tensor) -> None:
        total += products.sum(0)

    def pooled(values: Tensor, size: int) -> Tensor:
        return F.avg_pool2d(values[:, None], size, stride=1)[:, 0] if size > 1 else values

    def sums() -> Tensor:
        with mock.patch.object(batched, "_add_sums", in_single):
            return run()

    def pooling() -> Tensor:
        with mock.patch.object(batched, "box_mean", pooled):
            return run()

    work = f"one product in plain torch, {side}², one layer 11×11"
    yield check.row("sums", work, run, sums, 1e-5, "float64 every 32 planes, against float32 over a batch")
    yield check.row("boxes", work, run, pooling, 1e-5, "box sums by slices, against avg_pool2d")
    deep = TangentFilter(check.picture(side), vanilla(3, 3), normalize=1.0, engine="batched")
    picture = check.picture(side)

    def deep_pooling() -> Tensor:
        with mock.patch.object(batched, "box_mean", pooled):
            return deep.apply(picture)

    deep_work = f"one product in plain torch, {side}², three layers 3×3"
    yield check.row("boxes, deep", deep_work, lambda: deep.apply(picture), deep_pooling, 1e-5, "the same")


def products(check: Check) -> Iterator[Row]:
    """The product by Triton against the batched engine and against tiles of matrices, in plain torch."""
    sizes = [(8, 1, 3)] if check.quick else [(128, 1, 11), (256, 1, 11), (256, 3, 11), (256, 1, 21)]
    for side, channels, size in sizes:
        program, padded, column = job(check.picture(side, channels), size)

        def ours(m: int = 1, program=program, padded=padded, column=column) -> Tensor:  # type: ignore[no-untyped-def]
            return batched.product(program, padded, column.expand(-1, m))

        def theirs(run: Callable[[], Tensor] = ours) -> Tensor:
            with plain_torch():
                return run()

        colour = "colour" if channels == 3 else "grey"
        work = f"one product, {side}², {colour}, one layer {size}×{size}"
        if has_triton(check):
            yield check.row("Triton, torch", work, ours, theirs, 1e-5, "against the batched engine")
            yield check.row(
                "Triton, columns", work, ours, lambda run=ours: run(4)[:, :1], 1e-6, "one column against four"
            )
        tiles = peers.tangent_tiles(padded_to_picture(padded, size), size)
        yield check.row(
            "product, tiles",
            work,
            ours,
            lambda tiles=tiles, column=column: tiles(column.float()),
            1e-3,
            "against tiles of the matrix by matrix products and acos, float32, TF32 off",
        )


def padded_to_picture(padded: Tensor, size: int) -> Tensor:
    """The picture inside the padded one."""
    edge = size // 2
    return padded[:, edge : padded.shape[1] - edge, edge : padded.shape[2] - edge]


def training(check: Check) -> Iterator[Row]:
    """Steps of the networks of chapters 6 and 7, on the device and on the processor."""
    side, width = (16, 8) if check.quick else (96, 32)
    networks: dict[str, tuple[Architecture, int]] = {
        "chapter 6, autoencoder with two scales": (autoencoder(2, 3), 128 if not check.quick else 8),
        "chapter 7, autoencoder with three scales": (autoencoder(3, 3), width),
        "chapter 7, the same with skips": (skip(3, 3, side_channels=1 / 8), width),
        "chapter 7, one hidden layer": (vanilla(1, 7), width),
    }
    for name, (architecture, channels) in networks.items():
        steps = 3 if check.quick else 60

        def run(
            device: torch.device, steps: int = steps, made=(architecture, channels)
        ) -> tuple[float, float]:  # type: ignore[no-untyped-def]
            picture = check.picture(side).float().to(device)
            fed = torch.randn(16, side, side, generator=torch.Generator().manual_seed(1)).to(device)
            chance = torch.Generator().manual_seed(0)
            network = build(
                made[0], channels=16, outputs=1, width=made[1], generator=chance, parametrization="standard"
            ).to(device)
            path = train(network, fed, picture, optimizer=Adam(1e-3), steps=steps)
            for _ in range(3):
                state = next(path)
            begun, first = time.perf_counter(), state.number
            for state in path:
                last = state.loss
            check.wait()
            return (time.perf_counter() - begun) / (state.number - first), float(last)

        here, loss = run(check.device)
        there, other = run(torch.device("cpu"), steps=min(steps, 8))
        work = f"one step of Adam, {side}², width {channels}: {name}"
        note = f"{1 / here:.0f} steps/s here, {1 / there:.0f} on the processor; loss {loss:.2g} after {steps} steps"
        if not math.isfinite(loss):
            raise BookError(f"{name}: the loss after {steps} steps is {loss}; training fails on this device")
        yield Row("training", work, here, there, there / here, there / here, there / here, 0.0, note)


def linearized(check: Check) -> Iterator[Row]:
    """Gradient descent on the first-order expansion of a network, in float32 against float64."""
    side, width, steps = (12, 8, 4) if check.quick else (64, 64, 30)
    picture = check.picture(side)

    def run(dtype: torch.dtype) -> Tensor:
        chance = torch.Generator().manual_seed(0)
        network = build(autoencoder(2, 3), channels=1, width=width, generator=chance)
        linear = LinearizedNetwork(network.double()).to(check.device, dtype)
        target = picture.to(dtype)
        states = list(train(linear, target, target, optimizer=GradientDescent(), steps=steps))
        return states[-1].estimate

    work = f"{steps} steps of gradient descent on the linearised autoencoder, {side}², width {width}"
    yield check.row(
        "linearised",
        work,
        lambda: run(torch.float32),
        lambda: run(torch.float64),
        1e-3,
        "float32 against float64",
    )


SECTIONS = (correctness, variants, products, training, linearized)


def table(result: dict[str, Any]) -> str:
    """The report in Markdown."""
    facts = result["provenance"]
    versions = ", ".join(f"{name} {value}" for name, value in facts["versions"].items())
    lines = [
        "# What a graphics card does",
        "",
        f"{facts['hardware']}; {versions}; Python {facts['python']}; commit {facts['commit']}; {facts['date'][:10]}. "
        f"Times are medians, ratios medians with the smallest and the largest of {facts['rounds']} rounds in turns.",
        "",
        "| | work | here | there | ratio | difference | |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    lines += [
        f"| {r['name']} | {r['work']} | {1e3 * r['ours']:.3g} ms | {1e3 * r['theirs']:.3g} ms "
        f"| {r['ratio']:.3g} [{r['smallest']:.3g}, {r['largest']:.3g}] | {r['error']:.0e} | {r['note']} |"
        for r in result["rows"]
    ]
    return "\n".join([*lines, "", f"{result['seconds']} s in all.", ""])


def write(path: Path, text: str) -> None:
    """Write beside, then replace."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text, "utf-8")
    beside.replace(path)


def main(words: Sequence[str]) -> None:
    """Run all sections, print the report and write it as Markdown and JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, one of several cards such as cuda:1, or cpu")
    parser.add_argument("--quick", action="store_true", help="tiny work, one round")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of card.json and card.md")
    options = parser.parse_args(words)
    if options.device != "cpu" and not torch.cuda.is_available():
        raise NoCard(
            f"--device is {options.device}, but torch {torch.__version__} sees no CUDA card here; run this on a "
            f"machine with one, or try its logic with --device cpu --quick"
        )
    check = Check(torch.device(options.device), options.quick)
    torch.backends.cuda.matmul.allow_tf32 = False
    begun = time.perf_counter()
    versions = {"torch": torch.__version__}
    if has_triton(check):
        versions["triton"] = importlib.import_module("triton").__version__
    rows: list[Row] = []
    for section in SECTIONS:
        for row in section(check):
            rows.append(row)
            print(f"{row.name:20} {row.ratio:8.3g}  {row.work} ({row.note})", flush=True)
    result = {
        "provenance": {
            "commit": commit(ROOT, "src", "benchmarks"),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "hardware": hardware(options.device),
            "python": platform.python_version(),
            "versions": versions,
            "rounds": 1 if options.quick else ROUNDS,
        },
        "rows": [asdict(row) for row in rows],
        "seconds": round(time.perf_counter() - begun, 1),
    }
    write(options.out / "card.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    write(options.out / "card.md", table(result))
    print(table(result))


if __name__ == "__main__":
    run_main(main)
