"""How fast a product could be on this machine: the operations that it needs, over those that it can do."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numba import njit

from dipfilters.engines.program import KernelProgram, MeanStage

DEGREE = 24  # of the polynomial that is timed


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def _polynomial(out, x, repeats):  # type: ignore[no-untyped-def]
    """A polynomial of each entry, by Horner's rule: nothing but multiplications with an addition."""
    for _ in range(repeats):
        for i in range(len(out)):
            s = x[i]
            value = s
            for _ in range(DEGREE):
                value = value * s + s
            out[i] = value


def operations_per_second() -> float:
    """Multiplications with an addition, in float32, of all threads together; the best of seven rounds."""
    threads, entries, repeats = torch.get_num_threads(), 2048, 2000
    x = np.linspace(0, 0.5, entries, dtype=np.float32)
    outs = [np.empty_like(x) for _ in range(threads)]
    _polynomial(outs[0], x, 1)
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(7):
            begun = time.perf_counter()
            list(pool.map(lambda out: _polynomial(out, x, repeats), outs))
            best = min(best, time.perf_counter() - begun)
    return threads * repeats * entries * DEGREE / best


def operations(program: KernelProgram, columns: int = 1) -> int:
    """What one pair of pixels needs, a multiplication with an addition counted as one, a root too.

    =====================  ===================================================================================
    a window's rows        1 for each digit of its size, in twos, after the first, and 1 more if that is a 1
    a window's columns     of the first mean the row that comes and the one that goes, 2; of later means as
                           many as of the rows; of squared differences 2 more
    an activation          2 for the cosine, 4 for the sine, 9 for a polynomial in it; 8 more with Theta
    the norms              2, but after the last activation, where columns and result carry them
    the power of two       13
    the products           2 for each column
    =====================  ===================================================================================
    """
    total, live, begun = 2 * columns, False, False
    last = max((k for k, stage in enumerate(program.stages) if not isinstance(stage, MeanStage)), default=-1)
    for k, stage in enumerate(program.stages):
        if isinstance(stage, MeanStage):
            digits = f"{stage.size:b}"[1:]
            sums = len(digits) + digits.count("1")
            down = sums if begun else (2 + sums if program.read == "gaussian" else 2)
            total += (down + sums) * (1 + live)
            begun = True
            # Of one layer, Theta is made together with S.
            live = live or (program.read == "theta" and stage.part > 0 and k + 1 != last)
        else:
            total += 15 + 8 * live + (2 if live or k != last else 0)
    return total + (13 if program.read == "gaussian" else 0)


def seconds(program: KernelProgram, pixels: int, speed: float, columns: int = 1) -> float:
    """The least time of a product: half of the pairs, each of them once."""
    return pixels**2 / 2 * operations(program, columns) / speed
