"""Denoise a picture file from a shell: ``python -m dipfilters my.png --sigma 25 --out clean.png``."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch

from dipfilters.decoding import PictureError
from dipfilters.denoising import TimeBudgetError, denoise
from dipfilters.images import picture_path
from dipfilters.picture_files import StoredPicture, encode_picture, open_picture

EPILOGUE = """\
Alpha, the number of bits, the orientation and the colour profile of the picture are kept. Colours of 16 bits
are read from TIFF and written to TIFF. Noise is taken to be white, Gaussian and of one level everywhere."""


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m dipfilters",
        description="Denoise a picture by the filter of an infinitely wide network, and choose when to stop.",
        epilog=EPILOGUE,
    )
    found.add_argument("picture", help="a PNG, JPEG or TIFF file, or the name of a picture of the book")
    found.add_argument("--out", required=True, type=Path, help="the file to write; an older one is replaced")
    found.add_argument(
        "--sigma",
        type=float,
        help="standard deviation of the noise, where white is 255; estimated from the picture if left out",
    )
    found.add_argument(
        "--compare", type=Path, help="write the noisy picture and the result side by side, too"
    )
    found.add_argument("--exact", action="store_true", help="one filter for the whole picture, not for tiles")
    found.add_argument(
        "--budget-s",
        type=float,
        help="refuse what takes longer than so many seconds; 180 if left out, and no limit with --exact",
    )
    found.add_argument(
        "--memory-gb", type=float, default=8.0, help="refuse what takes more than so many GB; 8 if left out"
    )
    return found


def run(options: argparse.Namespace) -> str:
    """Do what the options say, and return what is to be said about it."""
    source, stored = picture_path(options.picture), open_picture(options.picture)
    targets = [path.expanduser() for path in (options.out, options.compare) if path is not None]
    if len({path.resolve() for path in targets}) < len(targets):
        raise PictureError(f"{str(targets[0])!r} is named twice; choose another name for the comparison")
    for path in targets:
        if path.exists() and path.samefile(source):
            raise PictureError(f"{str(path)!r} is the noisy picture itself; choose another name")
        if path.is_dir():
            raise PictureError(f"{str(path)!r} is a folder; name the file to write in it")
        if not os.access(path.parent, os.W_OK):
            raise PictureError(f"no file can be written in the folder {str(path.parent)!r}")
        encode_picture(stored.values, stored, path.suffix)  # refuses before the work what it refuses after it
    if options.sigma is not None and not 0 < options.sigma <= 255:
        raise ValueError(f"--sigma must lie between 0 and 255, where white is 255, got {options.sigma:g}")
    sigma = None if options.sigma is None else options.sigma / 255
    limits = {"budget_s": options.budget_s, "memory_gb": options.memory_gb}
    found = denoise(stored.values, sigma, exact=options.exact, **limits)
    pictures = [(found.picture, stored), beside(stored, found.picture)]
    for path, (values, like) in zip(targets, pictures, strict=False):
        path = path.resolve()  # a link stays, and its target is replaced
        written = path.with_name(f".{path.name}.{uuid4().hex}.part")
        try:
            written.write_bytes(encode_picture(values, like, path.suffix))
            written.replace(path)
        finally:
            written.unlink(missing_ok=True)
    return f"{' and '.join(map(str, targets))}: {found.describe()}"


def beside(stored: StoredPicture, picture: torch.Tensor) -> tuple[torch.Tensor, StoredPicture]:
    """The noisy picture and another, side by side once a viewer has turned them."""
    axis = 1 if stored.orientation >= 5 else 2
    order = [stored.values, picture][:: -1 if stored.orientation in (2, 3, 6, 7) else 1]
    alpha = None if stored.alpha is None else np.concatenate([stored.alpha] * 2, axis=axis - 1)
    return torch.cat(order, dim=axis), replace(stored, alpha=alpha)


def main(arguments: list[str] | None = None) -> int:
    """0, or 2 for what is refused, with one line that says why."""
    try:
        print(run(parser().parse_args(arguments)))
    except (ValueError, ArithmeticError, MemoryError, OSError, ImportError, TimeBudgetError) as error:
        print(f"python -m dipfilters: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("python -m dipfilters: interrupted, nothing written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
