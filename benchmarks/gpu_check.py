"""`make gpu-check`: all that needs a CUDA card, in minutes, and a report with ratios on that card.

Most rows compare two ways of the same work on one card, in turns, and their results before that: what is
wrong ends the run with the name of the row. `--device cpu --quick` goes through the same steps on the
processor, with tiny pictures and without Triton.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
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
from dipfilters.filters import Filter
from dipfilters.kernels import Kernel
from dipfilters.networks import Architecture
from dipfilters.provenance import commit, hardware
from tools.errors import BookError, run_main

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SIGMA = 25 / 255
ROUNDS = 5
# Rows, columns, displacements and warps of Triton's blocks that are tried beside the chosen ones.
BLOCKS = (
    (32, 64, 32, 4),
    (64, 64, 16, 4),
    (32, 128, 16, 4),
    (32, 128, 16, 8),
    (32, 64, 8, 2),
    (32, 64, 8, 1),
)


class NoCard(BookError):
    """There is no CUDA card that this check could run on."""


@dataclass
class Row:
    """One comparison, in seconds: how many times as long the other way takes, and how far the results differ.

    ``theirs`` and the ratios are None where a result was compared alone, ``error`` where only time was.
    """

    name: str
    work: str
    ours: float
    theirs: float | None
    ratio: float | None
    smallest: float | None
    largest: float | None
    error: float | None
    note: str = ""


@dataclass
class Check:
    """The device, and whether the work is tiny."""

    device: torch.device
    quick: bool

    def picture(self, side: int, channels: int = 1) -> Tensor:
        """A noisy picture on the device, in float64."""
        clean = load_image("astronaut", size=side, gray=channels == 1).double()
        return add_noise(clean, SIGMA, generator=torch.Generator().manual_seed(0)).to(self.device)

    def wait(self) -> None:
        """Until the card has nothing left to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Callable[[], object]) -> float:
        """The time of a call, until the card has finished."""
        self.wait()
        begun = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - begun

    def row(
        self,
        name: str,
        work: str,
        ours: Callable[[], Tensor],
        theirs: Callable[[], Tensor],
        allowed: float,
        note: str,
    ) -> Row:
        """Both ways in turns, after one call each, whose results are compared."""
        error = apart(name, ours(), theirs(), allowed)
        times = [(self.seconds(ours), self.seconds(theirs)) for _ in range(1 if self.quick else ROUNDS)]
        here, there = (statistics.median(kept) for kept in zip(*times, strict=True))
        ratios = [b / a for a, b in times]
        return Row(name, work, here, there, statistics.median(ratios), min(ratios), max(ratios), error, note)


def apart(name: str, found: Tensor, expected: Tensor, allowed: float) -> float:
    """The relative difference of two results.

    Raises:
        BookError: It is more than is allowed.
    """
    expected = expected.double().cpu()
    difference = float((found.double().cpu() - expected).norm() / expected.norm())
    if not difference <= allowed:
        raise BookError(f"{name}: the results differ by {difference:.1e}, more than {allowed:.0e}; report it")
    return difference


def has_triton(check: Check) -> bool:
    """Whether products go through Triton here."""
    return batched._card(check.device) is not None


@contextmanager
def plain_torch() -> Iterator[None]:
    """The batched engine without Triton."""
    with mock.patch.object(batched, "_card", return_value=None):
        yield


def of_patches(kernel: Kernel, size: int, picture: Tensor, engine: Any) -> Filter:
    """The filter of a kernel between patches."""
    return KernelFilter(picture, kernel, patch_size=size, normalize=1.0, engine=engine)


def of_layers(picture: Tensor, engine: Any) -> Filter:
    """The filter of three hidden layers."""
    return TangentFilter(picture, vanilla(3, 3), normalize=1.0, engine=engine)


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
    filters: dict[str, Callable[[Tensor, Any], Filter]] = {
        "one layer, 11×11": partial(of_patches, one_layer_tangent_kernel(), 11),
        "non-local means, 5×5": partial(of_patches, gaussian_kernel(2 * SIGMA), 5),
        "three layers, 3×3": of_layers,
    }
    ways: dict[str, Callable[[], AbstractContextManager[None]]] = {"reference": nullcontext}
    ways["batched"] = plain_torch
    if has_triton(check):
        ways["batched, with Triton"] = nullcontext
    for name, make in filters.items():
        expected = make(picture.cpu(), "reference").apply(picture.cpu())
        for way, context in ways.items():
            filter = make(picture, way.partition(",")[0])
            with context():
                error = apart(f"{name}, {way}", filter.apply(picture), expected, 1e-5)
                seconds = check.seconds(partial(filter.apply, picture))
            kept = ", the matrix kept" if way == "reference" else ""
            work = f"one product, {side}², colour, {name}{kept}"
            yield Row(f"correct: {way}", work, seconds, None, None, None, None, error)


def variants(check: Check) -> Iterator[Row]:
    """The batched engine as it is, against sums in float32 alone, and against box sums by pooling."""
    side = 24 if check.quick else 192
    picture = check.picture(side)
    program, padded, column = job(picture, 11)
    deep = of_layers(picture, "batched")

    def one_layer() -> Tensor:
        with plain_torch():
            return batched.product(program, padded, column)

    def three_layers() -> Tensor:
        return deep.apply(picture)

    def in_single(total: Tensor, planes: Tensor) -> None:
        total += planes.sum(0)

    def pooled(values: Tensor, size: int) -> Tensor:
        return F.avg_pool2d(values[:, None], size, stride=1)[:, 0] if size > 1 else values

    def changed(name: str, other: object, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def call() -> Tensor:
            with mock.patch.object(batched, name, other):
                return run()

        return call

    for kind, run in (("one layer 11×11", one_layer), ("three layers 3×3", three_layers)):
        work = f"one product in plain torch, {side}², grey, {kind}"
        summed = changed("_add_sums", in_single, run)
        yield check.row("sums", work, run, summed, 1e-5, "float64 every 32 planes, against float32")
        boxes = changed("box_mean", pooled, run)
        yield check.row("boxes", work, run, boxes, 1e-5, "box sums by slices, against avg_pool2d")


def products(check: Check) -> Iterator[Row]:
    """The product by Triton against the batched engine, and what is used against tiles of the matrix."""
    sizes = [(8, 1, 3)] if check.quick else [(128, 1, 11), (256, 1, 11), (256, 3, 11), (256, 1, 21)]
    for side, channels, size in sizes:
        picture = check.picture(side, channels)
        program, padded, column = job(picture, size)
        one = partial(batched.product, program, padded, column)
        work = f"one product, {side}², {'colour' if channels == 3 else 'grey'}, one layer {size}×{size}"
        if has_triton(check):
            four = partial(batched.product, program, padded, column.expand(-1, 4))
            yield check.row("Triton", work, one, partial(in_torch, one), 1e-5, "against the engine in torch")
            yield check.row("Triton", work, one, partial(first_of, four), 1e-6, "one column, against four")
        tiles = partial(peers.tangent_tiles(picture, size), column.float())
        yield check.row("product", work, one, tiles, 1e-3, "against tiles of the matrix in torch, by acos")


def in_torch(call: Callable[[], Tensor]) -> Tensor:
    """What a call gives without Triton."""
    with plain_torch():
        return call()


def first_of(call: Callable[[], Tensor]) -> Tensor:
    """The first column of what a call gives."""
    return call()[:, :1]


def blocks(check: Check) -> Iterator[Row]:
    """The chosen shape of Triton's blocks against others."""
    if not has_triton(check):
        return
    card = importlib.import_module("dipfilters.engines.card")
    program, padded, column = job(check.picture(16 if check.quick else 256), 11)
    run = partial(batched.product, program, padded, column)
    names = ("_ROWS", "_COLUMNS", "_SHIFTS", "_WARPS")
    chosen = tuple(getattr(card, name) for name in names)

    def other(shape: tuple[int, ...]) -> Tensor:
        changes: dict[str, Any] = dict(zip(names, shape, strict=True))
        with mock.patch.multiple(card, **changes):
            return run()

    for shape in BLOCKS:
        note = f"rows, columns, displacements, warps of a block: {chosen}, against {shape}"
        work = "one product, 256², grey, one layer 11×11"
        yield check.row("blocks", work, run, partial(other, shape), 1e-5, note)


def training(check: Check) -> Iterator[Row]:
    """Steps of the networks of chapters 6 to 8, on the device against the processor."""
    width = 8 if check.quick else 32
    networks = {
        "chapter 6, autoencoder": (autoencoder(2, 3, up="clamped"), 48, 4 * width),
        "chapter 8, autoencoder": (autoencoder(3, 3, up="clamped"), 96, width),
        "chapter 8, with skips": (skip(3, 3, side_channels=1 / 8, up="clamped"), 96, width),
        "chapter 8, one hidden layer": (vanilla(1, 7), 96, width),
    }
    for name, (architecture, full, channels) in networks.items():
        side = 16 if check.quick else full
        run = partial(seconds_of_step, check, architecture, side, channels)
        here = run(check.device, 3 if check.quick else 100)
        there = run(torch.device("cpu"), 3 if check.quick else 10)
        note = f"{1 / here:.0f} steps a second, against {1 / there:.0f} on the processor"
        work = f"one step of Adam, {name}, {side}², width {channels}"
        yield Row("training", work, here, there, there / here, there / here, there / here, None, note)


def seconds_of_step(
    check: Check, architecture: Architecture, side: int, width: int, device: torch.device, steps: int
) -> float:
    """The mean time of a step of training, after three that warm up.

    Raises:
        BookError: The loss is not finite in the end.
    """
    picture = check.picture(side).float().to(device)
    chance = torch.Generator().manual_seed(0)
    fed = torch.randn(16, side, side, generator=chance).to(device)
    network = build(
        architecture, channels=16, outputs=1, width=width, generator=chance, parametrization="standard"
    )
    states = train(network.to(device), fed, picture, optimizer=Adam(1e-3), steps=steps + 3)
    for _ in range(4):
        state = next(states)
    check.wait()
    begun = time.perf_counter()
    for state in states:  # noqa: B007
        pass
    check.wait()
    seconds = (time.perf_counter() - begun) / steps
    if not math.isfinite(state.loss):
        trouble = f"the loss after {state.number} steps is {state.loss}; report it"
        raise BookError(f"training on {device}: {trouble}")
    return seconds


def linearized(check: Check) -> Iterator[Row]:
    """Gradient descent on the first-order expansion of a network, in float32 against float64."""
    side, width, steps = (16, 8, 4) if check.quick else (64, 64, 30)
    picture = check.picture(side)

    def run(dtype: torch.dtype) -> Tensor:
        chance = torch.Generator().manual_seed(0)
        network = build(autoencoder(2, 3), channels=1, width=width, generator=chance).double()
        linear = LinearizedNetwork(network).to(check.device, dtype)
        target = picture.to(dtype)
        *_, last = train(linear, target, target, optimizer=GradientDescent(), steps=steps)
        return last.estimate

    work = f"{steps} steps of gradient descent on the linearised autoencoder, {side}², width {width}"
    single, double = partial(run, torch.float32), partial(run, torch.float64)
    yield check.row("linearised", work, single, double, 1e-3, "float32, against float64")


SECTIONS = (correctness, variants, products, blocks, training, linearized)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table in Markdown."""
    lines = ["| | work | here | there | ratio | difference | |", "|---|---|--:|--:|--:|--:|---|"]
    for row in (Row(**kept) for kept in rows):
        there = ratio = ""
        if row.theirs is not None:
            there = f"{1e3 * row.theirs:.3g} ms"
            ratio = f"{row.ratio:.3g} [{row.smallest:.3g}, {row.largest:.3g}]"
        error = "" if row.error is None else f"{row.error:.0e}"
        cells = (row.name, row.work, f"{1e3 * row.ours:.3g} ms", there, ratio, error, row.note)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def report(result: dict[str, Any]) -> str:
    """The whole report in Markdown."""
    facts = result["provenance"]
    versions = ", ".join(f"{name} {value}" for name, value in facts["versions"].items())
    return (
        f"# What a graphics card does\n\n{facts['hardware']}; {versions}; Python {facts['python']}; commit "
        f"{facts['commit']}; {facts['date'][:10]}. Times and ratios are medians of {facts['rounds']} rounds "
        f"in turns, with the smallest and the largest ratio.\n\n{table(result['rows'])}\n"
        f"{result['seconds']} s in all.\n"
    )


def write(path: Path, text: str) -> None:
    """Write beside, then replace."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text, "utf-8")
    beside.replace(path)


def main(words: Sequence[str]) -> None:
    """Run all sections, print the report, and write it as Markdown and JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, or one of several cards, cuda:1; or cpu")
    parser.add_argument("--quick", action="store_true", help="tiny work, one round")
    parser.add_argument(
        "--out",
        type=Path,
        help="the folder of card.json and card.md: the page's own, but none for the cpu or --quick",
    )
    parser.add_argument("--commit", help="what the report names, where this folder is no checkout")
    options = parser.parse_args(words)
    if options.device != "cpu" and not torch.cuda.is_available():
        raise NoCard(
            f"--device is {options.device!r}, but torch {torch.__version__} sees no CUDA card here; run this "
            f"where there is one, or try what it does with --device cpu --quick"
        )
    check = Check(torch.device(options.device), options.quick)
    torch.backends.cuda.matmul.allow_tf32 = False
    begun = time.perf_counter()
    versions = {"torch": torch.__version__, "triton": "not used"}
    if has_triton(check):
        versions["triton"] = importlib.import_module("triton").__version__
    rows: list[Row] = []
    for section in SECTIONS:
        for row in section(check):
            rows.append(row)
            ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
            print(f"{row.name:24} {ratio:>8}  {row.work}; {row.note}", flush=True)
    result = {
        "provenance": {
            "commit": options.commit or commit(ROOT, "src", "benchmarks"),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "hardware": hardware(options.device),
            "python": platform.python_version(),
            "versions": versions,
            "rounds": 1 if options.quick else ROUNDS,
        },
        "rows": [asdict(row) for row in rows],
        "seconds": round(time.perf_counter() - begun, 1),
    }
    # The page says that a card did what lies in its folder.
    folder = RESULTS if options.out is None and options.device != "cpu" and not options.quick else options.out
    if folder is not None:
        write(folder / "card.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        write(folder / "card.md", report(result))
    print(report(result))


if __name__ == "__main__":
    run_main(main)
