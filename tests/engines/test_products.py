"""Both engines against the tiles of KernelFilter and the recursion of ntk, and what must not matter."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_array_equal
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import dipfilters
from dipfilters import KernelFilter, arc_cosine_kernel, gaussian_kernel, tangent_kernel, vanilla
from dipfilters.engines import batched, cpu
from dipfilters.engines.program import KernelProgram, ProgramError, program_of_kernel
from dipfilters.networks import Activation, Architecture, Convolution
from dipfilters.ntk import kernel_program
from tests.samples import KERNELS, flat_and_textured, generator, picture, refused

ENGINES: dict[str, Any] = {"cpu": cpu, "batched": batched}

# What dipfilters.engines promises of a product, relative to λ_max ‖v‖; and of an entry, relative to the
# largest: the rounding of a cosine, 6e-8, moves the angle by that divided by its sine, at least 1.4e-3.
SINGLE, DOUBLE, OF_PARALLEL = 1e-6, 1e-7, 1e-4
ENTRY = {SINGLE: 5e-5, DOUBLE: DOUBLE, OF_PARALLEL: 2e-3}


def patches(kernel, size, spatial=None) -> KernelProgram:
    program = program_of_kernel(kernel, size, spatial)
    assert program is not None
    return program


def padded(image, radius, padding="reflect"):
    mode = "constant" if padding == "zero" else padding
    return F.pad(image[None], (radius,) * 4, mode=mode)[0] if radius else image


def tiles(image, kernel, size, **changes):
    return KernelFilter(image, kernel, patch_size=size, normalize=1.0, engine="reference", **changes).dense()


def agree(engine, program, image, expected, single=SINGLE):
    """Product and matrix in both precisions, for a vector like a picture and one like noise."""
    noise = torch.randn(len(expected), 1, generator=generator(3), dtype=torch.float64)
    columns = torch.cat([torch.rand(len(expected), 1, generator=generator(3)).double(), noise], dim=1)
    largest = float(torch.linalg.eigvalsh(expected)[-1])
    for dtype, limit in ((torch.float32, single), (torch.float64, DOUBLE)):
        matrix = engine.dense(program, image, dtype=dtype)
        product = engine.product(program, image, columns, dtype=dtype)
        assert matrix.dtype == product.dtype == torch.float64
        assert torch.equal(matrix, matrix.T)
        assert float((matrix - expected).abs().max()) <= ENTRY[limit] * float(expected.abs().max())
        error = (product - expected @ columns).norm(dim=0)
        assert bool((error <= limit * largest * columns.norm(dim=0)).all())


@pytest.fixture(params=list(ENGINES))
def engine(request):
    return ENGINES[request.param]


# ------------------------------------------------------------------------------------ outside oracles


@pytest.mark.parametrize("padding", ["reflect", "circular", "zero"])
@pytest.mark.parametrize(("name", "shape"), [("gaussian", (1, 27, 21)), ("tangent", (3, 7, 9))])
def test_a_patch_kernel_is_that_of_the_tiles(engine, name, shape, padding):
    image = picture(*shape)
    expected = tiles(image, KERNELS[name], 5, padding=padding)
    agree(engine, patches(KERNELS[name], 5), padded(image, 2, padding), expected)


@pytest.mark.parametrize("kernel", [arc_cosine_kernel(), gaussian_kernel(0.3)])
@pytest.mark.parametrize("size", [1, 3, 7, 9, 11, 13, 21])
def test_every_patch_size(engine, size, kernel):
    """Those whose sums the compiled loops put together in different ways."""
    image = picture(1, 13, 15)
    expected = tiles(image, kernel, size, padding="zero")
    agree(engine, patches(kernel, size), padded(image, size // 2, "zero"), expected)


@pytest.mark.parametrize("parametrization", ["tangent", "standard"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_deep_kernel_is_that_of_the_recursion(engine, depth, parametrization):
    image, network = picture(1, 23, 17), vanilla(depth, 3, slope=0.2 * (depth % 2))
    expected = tangent_kernel(network, image, parametrization=parametrization)
    agree(engine, kernel_program(network, parametrization), padded(image, network.radius), expected)


CONVOLUTION, ACTIVATION = Convolution(3), Activation(0.1)


@pytest.mark.parametrize(
    "layers",
    [
        (CONVOLUTION, ACTIVATION, CONVOLUTION),
        (CONVOLUTION, CONVOLUTION),
        (Convolution(1), Activation(), Convolution(5), ACTIVATION, Convolution(1), Convolution(1)),
        (CONVOLUTION, Convolution(1, channels=3.0), Activation(), Convolution(1), Convolution(3)),
        (Convolution(3, trained=False), ACTIVATION, CONVOLUTION, ACTIVATION, Convolution(1, trained=False)),
        (Convolution(3, trained=False), ACTIVATION, Convolution(1, trained=False)),
    ],
)
@pytest.mark.parametrize("parametrization", ["tangent", "standard"])
def test_layers_in_other_orders(engine, layers, parametrization):
    image = picture(2, 9, 11)
    network = Architecture(layers, "circular", pad_once=True)
    x = padded(image, network.radius, "circular")
    expected = tangent_kernel(network, image, parametrization=parametrization)
    agree(engine, kernel_program(network, parametrization), x, expected)


@pytest.mark.parametrize("image", ["flat", "constant", "black", "half black", "negative"])
@pytest.mark.parametrize("network", [vanilla(2, 3), vanilla(1, 5)])
def test_parallel_equal_black_and_opposite_patches(engine, image, network):
    """A sine below the root of 16 rounding steps, 1.4e-3, is taken for 0, which moves V' by up to 4e-4."""
    x = {
        "flat": flat_and_textured(1, 21, 19),
        "constant": torch.full((1, 19, 17), 0.7, dtype=torch.float64),
        "black": torch.zeros(1, 8, 9, dtype=torch.float64),
        "half black": flat_and_textured(1, 16, 20) * (torch.arange(20) < 10),
        "negative": picture(2, 12, 13) - 0.5,
    }[image]
    expected = tangent_kernel(network, x)
    agree(engine, kernel_program(network, "tangent"), padded(x, network.radius), expected, OF_PARALLEL)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_unit_of_the_pixels_does_not_matter(engine, scale):
    image, kernel = picture(1, 9, 8), KERNELS["tangent"]
    expected = tiles(image, kernel, 3) * scale**2
    agree(engine, patches(kernel, 3), padded(image * scale, 1), expected)


@pytest.mark.parametrize("spatial", [2.5, 0.05, 1e-3])
@pytest.mark.parametrize("kernel", list(KERNELS))
def test_the_factor_is_that_of_the_positions(engine, kernel, spatial):
    image = picture(1, 13, 17)
    rows, columns = (a.reshape(-1) for a in np.indices((13, 17)))
    down, across = (a[:, None] - a[None, :] for a in (rows, columns))
    factor = np.exp(-(down**2 + across**2) / spatial**2)
    expected = tiles(image, KERNELS[kernel], 3) * torch.from_numpy(factor)
    agree(engine, patches(KERNELS[kernel], 3, spatial), padded(image, 1), expected)


@pytest.mark.parametrize("bandwidth", [math.inf, 0.02, 1e-6])
def test_a_bandwidth_from_none_to_nothing(engine, bandwidth):
    image, kernel = picture(1, 9, 11), gaussian_kernel(bandwidth)
    agree(engine, patches(kernel, 3), padded(image, 1), tiles(image, kernel, 3))


def test_sums_that_run_down_a_tall_picture(engine):
    """Three times as many rows as a sum runs on for, from black ones to bright ones."""
    image, kernel = picture(2, 97, 6) * torch.linspace(0, 1, 97)[:, None], KERNELS["tangent"]
    agree(engine, patches(kernel, 5), padded(image, 2, "zero"), tiles(image, kernel, 5, padding="zero"))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 7), (1, 7, 1), (2, 2, 3)])
def test_the_smallest_pictures(engine, shape):
    image, kernel = picture(*shape), KERNELS["tangent"]
    agree(engine, patches(kernel, 3), padded(image, 1, "zero"), tiles(image, kernel, 3, padding="zero"))


# ------------------------------------------------------------------------------------ what must not matter


DEEP = kernel_program(vanilla(2, 3), "tangent")


@pytest.mark.parametrize("program", [DEEP, patches(KERNELS["gaussian"], 5)])
def test_threads_change_the_order_of_a_sum_and_no_more(program):
    """Sums of 1147 positive float64 numbers, each of them a sum of 32 in float32 that threads leave alone."""
    x = padded(picture(1, 37, 31), 2)
    columns = torch.rand(37 * 31, 2, generator=generator(1), dtype=torch.float64)
    one = cpu.product(program, x, columns, threads=1)
    for threads in (2, 3, 40):
        several = cpu.product(program, x, columns, threads=threads)
        assert float((several - one).norm() / one.norm()) < 1e-13
        assert_array_equal(several.numpy(), cpu.product(program, x, columns, threads=threads).numpy())
        assert torch.equal(cpu.dense(program, x, threads=threads), cpu.dense(program, x, threads=1))


@pytest.mark.parametrize("count", [2, 5])
def test_a_column_is_the_same_beside_others(count):
    """Compiled loops take two columns at a time, and what is left alone."""
    x, columns = padded(picture(1, 13, 19), 2), picture(1, 13 * 19, count)[0]
    together = cpu.product(DEEP, x, columns, threads=1)
    alone = [cpu.product(DEEP, x, column[:, None], threads=1) for column in columns.T]
    assert torch.equal(together, torch.cat(alone, dim=1))


def test_slabs_and_batches_do_not_change_a_value(monkeypatch):
    """An entry is computed from the same numbers in the same order, however many shifts a slab holds.

    Torch takes the last few entries of a batch one by one, with other last digits of float32, 6e-8.
    """
    x = padded(picture(3, 37, 31), 2)
    columns = torch.rand(37 * 31, 1, generator=generator(1), dtype=torch.float64)
    matrix, product = cpu.dense(DEEP, x), batched.product(DEEP, x, columns)
    monkeypatch.setattr(cpu, "_SLAB_BYTES", 0)
    assert torch.equal(cpu.dense(DEEP, x), matrix)
    pieces = batched.product(DEEP, x, columns, batch_entries=5000)
    assert float((pieces - product).norm() / product.norm()) < 1e-7


def test_many_equal_terms_are_added_without_drift(engine):
    """1400 terms of one size: 32 of them miss 32 · 6e-8 / 4 in float32, all of them 7e-6."""
    program, ones = patches(arc_cosine_kernel(), 1), torch.ones(1, 700, 2, dtype=torch.float64)
    columns = torch.full((1400, 1), 0.7, dtype=torch.float64)
    assert float((engine.product(program, ones, columns) / (1400 * 0.7) - 1).abs().max()) < 5e-7


def test_the_settings_of_others_are_left_alone():
    """Numba and torch share OpenMP's threads: so much as asking numba for their number changes torch's."""
    before = torch.get_num_threads()
    image, columns = picture(1, 9, 9), picture(1, 49, 2)[0]
    kept = image.clone(), columns.clone()
    for engine in ENGINES.values():
        engine.product(patches(KERNELS["tangent"], 3), image, columns)
    assert torch.get_num_threads() == before
    assert torch.equal(image, kept[0])
    assert torch.equal(columns, kept[1])


def test_the_diagonal_is_exact(engine):
    """The cosine of a patch with itself is 1, which float32 would miss: κ₀ by 1e-4."""
    image, program = picture(1, 15, 14), kernel_program(vanilla(3, 3), "tangent")
    expected, x = tangent_kernel(vanilla(3, 3), image).diagonal(), padded(image, 3)
    assert float((program.diagonal(x) / expected - 1).abs().max()) < 1e-14
    assert torch.equal(engine.dense(program, x).diagonal(), program.diagonal(x))


# ------------------------------------------------------------------------------------------- memory


class Held(TorchDispatchMode):
    """Counts the bytes that tensors made within it hold, and the most at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, tuple[StorageWeakRef, int]] = {}
        self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.held = {key: kept for key, kept in self.held.items() if not kept[0].expired()}
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.held[storage.data_ptr()] = StorageWeakRef(storage), storage.nbytes()
        self.most = max(self.most, sum(size for _, size in self.held.values()))
        return found


@pytest.mark.parametrize(("kernel", "times"), [("gaussian", 4.5), ("arc-cosine", 8.0), ("network", 9.5)])
def test_a_batch_takes_as_many_times_its_entries_as_is_said(kernel, times):
    program = kernel_program(vanilla(3, 3), "tangent") if kernel == "network" else patches(KERNELS[kernel], 5)
    x, columns = padded(picture(1, 72, 72), program.shrink // 2), torch.ones(72 * 72, 2, dtype=torch.float64)
    with Held() as held:
        batched.product(program, x, columns, batch_entries=2**18)
    assert held.most < times * 4 * 2**18


def test_compiled_loops_hold_nothing_of_the_size_of_the_matrix():
    """96² pixels in a process of its own: a matrix in float32 would take 340 MB."""
    program = """
        import resource, torch
        from dipfilters import arc_cosine_kernel
        from dipfilters.engines import cpu
        from dipfilters.engines.program import program_of_kernel
        kernel = program_of_kernel(arc_cosine_kernel(), 3)
        peaks = []
        for side in (8, 96):
            columns = torch.ones(side * side, 1, dtype=torch.float64)
            cpu.product(kernel, torch.rand(1, side + 2, side + 2, dtype=torch.float64), columns, threads=2)
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        print(peaks[1] - peaks[0])
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(dipfilters.__file__).parents[1])}
    words = [sys.executable, "-c", "if True:" + program]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100_000  # kilobytes


# ------------------------------------------------------------------------------------ the door


def test_what_does_not_fit_is_refused(engine):
    program, image = patches(arc_cosine_kernel(), 5), picture(1, 9, 9)
    with refused(ProgramError, r"columns must be 25×m for 5×5 pixels, got \(81, 1\)"):
        engine.product(program, image, torch.ones(81, 1, dtype=torch.float64))
    with refused(ProgramError, r"3×9 pixels is too small: the stages take away 4 rows .* pad by 2"):
        engine.dense(program, image[:, :3])


def test_an_unknown_precision_is_refused():
    program, image = patches(arc_cosine_kernel(), 3), picture(1, 9, 9)
    with refused(ValueError, r"dtype must be torch.float32 or torch.float64, got torch.float16"):
        cpu.dense(program, image, dtype=torch.float16)
