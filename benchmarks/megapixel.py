"""`python -m benchmarks.megapixel`: one exact denoising of a picture of 1024×1024 pixels, an hour or so.

Run by hand, once. The time of the processors is kept beside that of the clock, which counts for the machine
only if it had nothing else to do.
"""

from __future__ import annotations

import json
import resource
import time

import torch

from benchmarks.suite import LAST, MAXRSS_BYTES, RESULTS, SIGMA, noisy_picture, provenance, write
from dipfilters import LanczosTwicing, TangentFilter, psnr, step_grid, vanilla

SIDE, PATCH = 1024, 7


def main() -> None:
    """Denoise, and write what it took beside the results of the suite."""
    clean, noisy = noisy_picture(SIDE, "retina")
    wall, processors = time.perf_counter(), time.process_time()
    run = LanczosTwicing(TangentFilter(noisy, vanilla(1, PATCH)), noisy, last=LAST, tolerance=1e-4)
    steps = step_grid(LAST, 40)
    values = [psnr(run.estimate(step), clean) for step in steps]
    best = max(range(len(steps)), key=values.__getitem__)
    result = {
        "provenance": provenance(),
        "work": f"retina, {SIDE}², one layer {PATCH}×{PATCH}, sigma {255 * SIGMA:g}/255, up to {LAST} steps",
        "products": run.products,
        "bound": float(run.error_bound(steps).max()),
        "wall_seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processors,
        "threads": torch.get_num_threads(),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_BYTES,
        "noisy_psnr": psnr(noisy, clean),
        "best_step": steps[best],
        "best_psnr": values[best],
    }
    write(RESULTS / "megapixel.json", result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
