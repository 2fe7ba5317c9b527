"""Both engines against the tiles of KernelFilter, the recursion of ntk, and loops over pixels."""

from __future__ import annotations

import math
import resource
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_array_equal

from dipfilters import (
    KernelFilter,
    arc_cosine_kernel,
    gaussian_kernel,
    one_layer_tangent_kernel,
    output_kernel,
    tangent_kernel,
    vanilla,
)
from dipfilters.engines import batched, cpu
from dipfilters.engines.program import (
    ActivationStage,
    KernelProgram,
    MeanStage,
    ProgramError,
    program_of_architecture,
    program_of_kernel,
)
from dipfilters.networks import Activation, Architecture, Convolution
from tests.oracles import non_local_means_by_loops
from tests.samples import KERNELS, flat_and_textured, generator, picture, refused

ENGINES: dict[str, Any] = {"cpu": cpu, "batched": batched}
UNKNOWN: Any = "lambda"  # no kind of what is asked for
SHAPES = [(1, 37, 31), (3, 7, 9)]

# In float32 an entry is a sum of k² products in ⌈log₂ k²⌉ roundings of 6e-8, divided by two norms, and what
# follows a bend takes as many again: 1e-6 after three of them. In a product these errors partly cancel.
SINGLE = 2e-6
# Near-parallel patches: a sine below the root of 16 rounding steps, 1.4e-3, is taken for 0, which moves V' by
# up to 4e-4. Such pairs are rare outside pictures made of flat blocks, and there are most of them parallel.
SINGLE_OF_FLAT = 1e-5
# In float64 only the polynomials' errors, 2e-8 of an entry, are left, once for each bend.
DOUBLE = 1e-7


def padded(image, radius, padding="reflect"):
    mode = "constant" if padding == "zero" else padding
    return F.pad(image[None], (radius,) * 4, mode=mode)[0] if radius else image


def tiles(image, kernel, size, **changes):
    return KernelFilter(image, kernel, patch_size=size, normalize=1.0, **changes).dense()


def distance(result, expected):
    return float((result - expected).norm() / expected.norm())


def agree(engine, program, image, expected, tolerance=SINGLE):
    """Product and matrix, in both precisions, against a matrix."""
    columns = torch.rand(len(expected), 2, generator=generator(3), dtype=torch.float64)
    for dtype, limit in ((torch.float32, tolerance), (torch.float64, DOUBLE)):
        found = engine.dense(program, image, dtype=dtype)
        assert found.dtype == torch.float64
        assert torch.equal(found, found.T)
        assert distance(found, expected) < limit
        product = engine.product(program, image, columns, dtype=dtype)
        assert product.dtype == torch.float64
        assert distance(product, expected @ columns) < limit


@pytest.fixture(params=list(ENGINES))
def engine(request):
    return ENGINES[request.param]


# ------------------------------------------------------------------------------------ outside oracles


@pytest.mark.parametrize("padding", ["reflect", "circular", "zero"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", list(KERNELS))
def test_a_patch_kernel_is_that_of_the_tiles(engine, name, shape, padding):
    image = picture(*shape)
    program = program_of_kernel(KERNELS[name], 5)
    expected = tiles(image, KERNELS[name], 5, padding=padding)
    agree(engine, program, padded(image, 2, padding), expected)


@pytest.mark.parametrize("size", [1, 3, 5, 7, 9, 11, 13, 15, 21])
def test_every_patch_size(engine, size):
    image = picture(1, 23, 25)
    kernel = one_layer_tangent_kernel()
    agree(engine, program_of_kernel(kernel, size), padded(image, size // 2), tiles(image, kernel, size))


def test_non_local_means_is_that_of_four_loops(engine):
    image = picture(3, 7, 6)
    program = program_of_kernel(gaussian_kernel(0.3), 3, spatial=2.0)
    columns = torch.cat([image.reshape(3, -1).T, torch.ones(42, 1, dtype=torch.float64)], dim=1)
    product = engine.product(program, padded(image, 1), columns)
    result = (product[:, :3] / product[:, 3:]).T.reshape(image.shape).numpy()
    assert np.abs(result - non_local_means_by_loops(image.numpy(), 3, 0.3, 2.0)).max() < SINGLE


@pytest.mark.parametrize("parametrization", ["tangent", "standard"])
@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_deep_kernel_is_that_of_the_recursion(engine, shape, depth, slope, parametrization):
    image = picture(*shape)
    network = vanilla(depth, 3, slope=slope)
    program = program_of_architecture(network, parametrization=parametrization)
    expected = tangent_kernel(network, image, parametrization=parametrization)
    agree(engine, program, padded(image, network.radius), expected)


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
    program = program_of_architecture(network, parametrization=parametrization)
    if expected.abs().max() == 0:
        assert float(engine.dense(program, x).abs().max()) == 0
    else:
        agree(engine, program, x, expected)
    sigma = replace(program_of_architecture(network), read="sigma")
    agree(engine, sigma, x, output_kernel(network, image))


@pytest.mark.parametrize("program", ["kernel", "network"])
@pytest.mark.parametrize("image", ["flat", "constant", "black", "half black", "negative"])
def test_parallel_equal_black_and_opposite_patches(engine, image, program):
    x = {
        "flat": flat_and_textured(1, 37, 31),
        "constant": torch.full((1, 19, 17), 0.7, dtype=torch.float64),
        "black": torch.zeros(1, 8, 9, dtype=torch.float64),
        "half black": flat_and_textured(1, 16, 20) * (torch.arange(20) < 10),
        "negative": picture(2, 12, 13) - 0.5,
    }[image]
    network = vanilla(2, 3) if program == "network" else vanilla(1, 5)
    x_padded = padded(x, network.radius)
    expected = tangent_kernel(network, x)
    if image == "black":
        assert float(engine.dense(program_of_architecture(network), x_padded).abs().max()) == 0
    else:
        agree(engine, program_of_architecture(network), x_padded, expected, SINGLE_OF_FLAT)


@pytest.mark.parametrize("scale", [1e-12, 255.0, 1e12])
def test_the_unit_of_the_pixels_does_not_matter(engine, scale):
    image = picture(1, 9, 8)
    kernel = one_layer_tangent_kernel()
    expected = tiles(image, kernel, 3) * scale**2
    agree(engine, program_of_kernel(kernel, 3), padded(image * scale, 1), expected)


@pytest.mark.parametrize(
    ("spatial", "window"),
    [(2.5, None), (None, 3), (4.0, 5), (None, 0), (None, 20), (0.05, None), (1e-3, None)],
)
@pytest.mark.parametrize("kernel", list(KERNELS))
def test_the_factor_and_the_window_are_those_of_the_positions(engine, kernel, spatial, window):
    image = picture(1, 13, 17)
    rows, columns = (a.reshape(-1) for a in np.indices((13, 17)))
    down, across = (a[:, None] - a[None, :] for a in (rows, columns))
    factor = np.exp(-(down**2 + across**2) / spatial**2) if spatial else np.ones(down.shape)
    if window is not None:
        factor = factor * (np.maximum(abs(down), abs(across)) <= window)
    expected = tiles(image, KERNELS[kernel], 3) * torch.from_numpy(factor)
    program = program_of_kernel(KERNELS[kernel], 3, spatial=spatial, window=window)
    agree(engine, program, padded(image, 1), expected)


@pytest.mark.parametrize("bandwidth", [math.inf, 0.02, 1e-6])
def test_a_bandwidth_from_none_to_nothing(engine, bandwidth):
    image = picture(1, 9, 11)
    kernel = gaussian_kernel(bandwidth)
    agree(engine, program_of_kernel(kernel, 3), padded(image, 1), tiles(image, kernel, 3))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 7), (1, 7, 1), (2, 2, 3)])
def test_the_smallest_pictures(engine, shape):
    image = picture(*shape)
    kernel = one_layer_tangent_kernel()
    x, expected = padded(image, 1, "zero"), tiles(image, kernel, 3, padding="zero")
    agree(engine, program_of_kernel(kernel, 3), x, expected)


# ------------------------------------------------------------------------------------ what must not matter


@pytest.mark.parametrize(
    "program", [program_of_architecture(vanilla(2, 3)), program_of_kernel(KERNELS["gaussian"], 5)]
)
def test_threads_change_the_order_of_a_sum_and_no_more(program):
    """Sums of 1147 positive float64 numbers, each of them a sum of 32 in float32 that threads leave alone."""
    x = padded(picture(1, 37, 31), 2)
    columns = torch.rand(37 * 31, 2, generator=generator(1), dtype=torch.float64)
    one = cpu.product(program, x, columns, threads=1)
    for threads in (1, 2, 3, 40):
        several = cpu.product(program, x, columns, threads=threads)
        assert distance(several, one) < 1e-13
        assert_array_equal(several.numpy(), cpu.product(program, x, columns, threads=threads).numpy())
        assert torch.equal(cpu.dense(program, x, threads=threads), cpu.dense(program, x, threads=1))


@pytest.mark.parametrize(
    "program", [program_of_architecture(vanilla(3, 3)), program_of_kernel(KERNELS["gaussian"], 7)]
)
def test_strips_and_batches_do_not_change_a_value(program, monkeypatch):
    """An entry is computed from the same numbers in the same order, wherever the strip begins.

    Torch takes the last few entries of a batch one by one, with other last digits of float32, 6e-8.
    """
    x = padded(picture(3, 37, 31), 3)
    columns = torch.rand(37 * 31, 1, generator=generator(1), dtype=torch.float64)
    matrix, product = cpu.dense(program, x), batched.product(program, x, columns)
    monkeypatch.setattr(cpu, "_STRIP_BYTES", 0)
    assert torch.equal(cpu.dense(program, x), matrix)
    assert distance(batched.product(program, x, columns, batch_entries=5000), product) < 6e-8


def test_many_equal_terms_are_added_without_drift():
    """1400 terms of one size: 32 of them miss 32 · 6e-8 / 4 in float32, all of them 7e-6."""
    program, ones = program_of_kernel(arc_cosine_kernel(), 1), torch.ones(1, 700, 2, dtype=torch.float64)
    columns = torch.full((1400, 1), 0.7, dtype=torch.float64)
    assert float((cpu.product(program, ones, columns) / (1400 * 0.7) - 1).abs().max()) < 5e-7


def test_the_settings_of_others_are_left_alone():
    """Numba and torch share OpenMP's threads: so much as asking numba for their number changes torch's."""
    before = torch.get_num_threads()
    image, columns = picture(1, 9, 9), picture(1, 49, 2)[0]
    kept = image.clone(), columns.clone()
    for engine in ENGINES.values():
        engine.product(program_of_kernel(KERNELS["tangent"], 3), image, columns)
    assert torch.get_num_threads() == before
    assert torch.equal(image, kept[0])
    assert torch.equal(columns, kept[1])


def test_the_diagonal_is_exact(engine):
    """The cosine of a patch with itself is 1, which float32 would miss: κ₀ by 1e-4."""
    image = picture(1, 15, 14)
    program = program_of_architecture(vanilla(3, 3))
    expected = tangent_kernel(vanilla(3, 3), image).diagonal()
    x = padded(image, 3)
    assert float((program.diagonal(x) / expected - 1).abs().max()) < 1e-14
    assert torch.equal(engine.dense(program, x).diagonal(), program.diagonal(x))


def test_nothing_of_the_size_of_the_matrix_is_held(engine):
    """96² pixels: a matrix in float32 would take 340 MB; planes and batches take a tenth of that."""
    side = 96
    program, x = program_of_kernel(KERNELS["arc-cosine"], 3), padded(picture(1, side, side), 1)
    columns = torch.ones(side * side, 1, dtype=torch.float64)
    options = {"batch_entries": 2**20} if engine is batched else {"threads": 2}
    engine.product(program, padded(picture(1, 8, 8), 1), columns[:64], **options)  # loads and compiles
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    engine.product(program, x, columns, **options)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


# ------------------------------------------------------------------------------------ the door


def test_what_does_not_fit_is_refused(engine):
    program = program_of_kernel(arc_cosine_kernel(), 5)
    image = picture(1, 9, 9)
    with refused(ProgramError, r"columns must be 25×m for 5×5 pixels, got \(81, 1\)"):
        engine.product(program, image, torch.ones(81, 1, dtype=torch.float64))
    with refused(ProgramError, r"3×9 pixels is too small: the stages take away 4 rows .* pad by 2"):
        engine.dense(program, image[:, :3])


def test_threads_and_precision_are_checked():
    program, image = program_of_kernel(arc_cosine_kernel(), 3), picture(1, 9, 9)
    with refused(ValueError, "threads must be at least 1, got 0"):
        cpu.dense(program, image, threads=0)
    with refused(ValueError, r"dtype must be torch.float32 or torch.float64, got torch.float16"):
        cpu.dense(program, image, dtype=torch.float16)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MeanStage(0), "size must be at least 1, got 0"),
        (lambda: MeanStage(3, -1.0), "part must be a finite number ≥ 0, got -1.0"),
        (lambda: ActivationStage(1.0), r"slope must lie in \[0, 1\), got 1.0"),
        (lambda: KernelProgram((MeanStage(3), ActivationStage()), "gaussian"), "is made of means"),
        (lambda: KernelProgram((MeanStage(3),), "gaussian", bandwidth=0.0), "bandwidth must be positive"),
        (lambda: KernelProgram((MeanStage(3),), "sigma", spatial=0.0), "spatial must be a positive number"),
        (lambda: KernelProgram((MeanStage(3),), "sigma", window=-1), "window must be a number of pixels"),
        (lambda: KernelProgram((MeanStage(3),), UNKNOWN), 'read must be "sigma", "theta" or "gaussian"'),
        (lambda: program_of_kernel(UNKNOWN, 3), "str has no program"),
        (
            lambda: program_of_architecture(Architecture((Convolution(3),), "zero")),
            "only networks that pad once have a program",
        ),
    ],
)
def test_recipes_that_make_no_kernel_are_refused(make, message):
    with refused(ProgramError, message):
        make()
