"""The products in Triton without a card: run by its interpreter on the processor, and compiled for cards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import dipfilters
from dipfilters import gaussian_kernel, vanilla
from dipfilters.engines import batched
from dipfilters.engines.cpu import COSINE_ARC_SINE
from dipfilters.engines.program import program_of_kernel
from dipfilters.ntk import kernel_program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Triton has packages for Linux alone")


def answer(program: str, **environment: str) -> Any:
    """What a process of its own prints: Triton asks once whether its interpreter is wanted."""
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    kept["PYTHONPATH"] = str(Path(dipfilters.__file__).parents[1])
    words = [sys.executable, "-c", "if True:" + program]
    done = subprocess.run(words, env=kept | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


PRODUCTS = """
    import json, torch
    torch.set_num_threads(1)
    from dipfilters import KernelFilter, TangentFilter, arc_cosine_kernel, one_layer_tangent_kernel, vanilla
    from dipfilters.engines import card
    counted, product = [], card.product
    card.product = lambda *given: counted.append(1) or product(*given)

    def error(make, channels, height, width, black=0):
        chance = torch.Generator().manual_seed(0)
        x = 0.05 + 0.9 * torch.rand(channels, height, width, generator=chance, dtype=torch.float64)
        x[:, :black] = 0
        columns = torch.randn(height * width, 2, generator=chance, dtype=torch.float64)
        matrix = make(x, "reference").dense()
        found = make(x, "batched").times_kernel(columns)
        largest = float(torch.linalg.eigvalsh(matrix)[-1])
        return float(((found - matrix @ columns).norm(dim=0) / (largest * columns.norm(dim=0))).max())

    def patches(kernel, size, **options):
        options |= {"patch_size": size, "normalize": 1.0}
        return lambda x, engine: KernelFilter(x, kernel, engine=engine, **options)

    tangent = one_layer_tangent_kernel()
    leaky = lambda x, engine: TangentFilter(x, vanilla(1, 3, slope=0.2), normalize=1.0, engine=engine)
    errors = [error(patches(tangent, 3), 1, 4, 5)]
    card._ROWS, card._COLUMNS, card._SHIFTS = 3, 16, 32  # several strips and blocks of a small picture
    errors.append(error(patches(arc_cosine_kernel(), 5, spatial=2.5, padding="zero"), 2, 5, 14))
    errors.append(error(leaky, 3, 5, 4))
    card._COLUMNS, card._SHIFTS = 8, 4
    errors.append(error(patches(tangent, 1), 1, 3, 9, black=1))
    print(json.dumps([len(counted), errors]))
"""


def test_products_are_those_of_the_reference():
    """Within the 1e-6 of λ_max ‖v‖ that dipfilters.engines promises; found 2e-8."""
    counted, errors = answer(PRODUCTS, TRITON_INTERPRET="1")
    assert counted == len(errors) + 1 == 5  # one to see whether it works
    assert max(errors) < 2e-7
    assert min(errors) > 0  # float32 was at work


def test_a_card_would_be_given_machine_code(monkeypatch):
    """The interpreter takes Python that the compiler refuses; the compiler needs no card."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from dipfilters.engines import card

    fixed: dict[str, Any] = {
        "CHANNELS": 3,
        "COUNT": 2,
        "SIZE": 11,
        "LEVELS": 4,
        "ROWS": card._ROWS,
        "COLUMNS": card._COLUMNS,
    }
    fixed |= {"SHIFTS": card._SHIFTS, "PARALLEL": card._PARALLEL, "SERIES": COSINE_ARC_SINE}
    kinds = dict.fromkeys(("x", "v", "norms", "inverses", "across", "below"), "*fp32") | {"out": "*fp64"}
    kinds |= dict.fromkeys(("linear", "sine", "even"), "fp32") | dict.fromkeys(fixed, "constexpr")
    names = card._walk.arg_names
    source = ASTSource(
        card._walk,
        {name: kinds.get(name, "i32") for name in names},
        {(names.index(name),): value for name, value in fixed.items()},
    )
    made = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": card._WARPS})
    assert len(made.asm["cubin"]) > 1000


def test_programs_of_one_layer_alone_are_taken():
    from dipfilters.engines import card

    gaussian = program_of_kernel(gaussian_kernel(0.2), 5)
    assert gaussian is not None
    deep, large = (kernel_program(vanilla(*of), "tangent") for of in ((2, 3), (1, 33)))
    for program in (gaussian, deep, large):
        assert card.one_layer(program) is None
    assert card.one_layer(kernel_program(vanilla(1, 7), "tangent")) is not None


def test_without_triton_the_work_is_done_in_torch(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert batched._card(torch.device("cpu")) is None
    monkeypatch.delitem(sys.modules, "dipfilters.engines.card", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    assert batched._card(torch.device("cuda")) is None


def test_a_triton_that_cannot_compile_is_said_and_done_without(monkeypatch):
    from dipfilters.engines import card

    def without_compiler(*given):
        raise RuntimeError("Failed to find C compiler.\nPlease specify it")

    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(card, "product", without_compiler)
    card.works.cache_clear()
    try:
        with pytest.warns(UserWarning, match=r"here \(RuntimeError: Failed .* compiler.\), so that"):
            assert batched._card(torch.device("cpu")) is None
        assert batched._card(torch.device("cpu")) is None  # without a second warning
    finally:
        card.works.cache_clear()
