"""What goes wrong outside the package: a checkout that cannot be written, and no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import dipfilters

SOURCES = Path(dipfilters.__file__).parents[1]


def python(program: str, *words: str, before: tuple[str, ...] = (), **others: str) -> str:
    """What another process says that runs this program with the package at hand."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "PYTHONWARNINGS": "error", "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [*before, sys.executable, "-c", textwrap.dedent(program), *words],
        env=environment | others,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def works(*command: str) -> bool:
    return bool(shutil.which(command[0])) and subprocess.run(command, capture_output=True).returncode == 0


def read_only(folder: Path) -> tuple[str, ...]:
    """The words before a command for which a folder cannot be written, not even by root."""
    bind = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    words = ("unshare", "-m", "sh", "-c", bind, str(folder))
    if works(*words, "true"):
        return words
    if not os.geteuid():
        pytest.skip("no folder is read-only for root here")
    folder.chmod(0o555)
    return ()


def test_a_read_only_checkout(tmp_path):
    """Its package computes, compiled loops included; not even root can write to it."""
    here = tmp_path / "Über uns, 2 Äpfel & 'mehr'"
    shutil.copytree(SOURCES / "dipfilters", here / "dipfilters", ignore=shutil.ignore_patterns("__pycache__"))
    program = """
        import sys
        sys.dont_write_bytecode = False
        import torch
        import dipfilters
        from dipfilters import KernelFilter, load_image, one_layer_tangent_kernel
        assert dipfilters.__file__.startswith(sys.argv[1]), dipfilters.__file__
        clean, kernel = load_image("camera", size=12), one_layer_tangent_kernel()
        W = KernelFilter(clean, kernel, patch_size=3, normalize="rows", engine="cpu")
        print(f"{float(W.apply(torch.ones(12, 12)).mean()):.6f}")
    """
    said = python(
        program, str(here), before=read_only(here), PYTHONPATH=str(here), HOME=str(here), NUMBA_CACHE_DIR=""
    )
    assert said == "1.000000\n"


OFFLINE = """
    import socket, sys
    def refuse(*_):
        raise AssertionError("a connection was asked for")
    socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
    import torch
    from dipfilters import add_noise, denoise, load_image, plots, psnr
    from dipfilters.images import PICTURES
    for name in PICTURES:
        clean = load_image(name, size=16, gray=True)
    noisy = add_noise(clean, 25 / 255, generator=torch.Generator().manual_seed(0))
    print(f"{psnr(denoise(noisy, 25 / 255, progress=False).picture, clean) - psnr(noisy, clean):.0f}")
    plots.use_style()
    plots.panels(1)
"""


def test_nothing_needs_a_network_after_the_install():
    """Where the system allows it, in a process that has no network; and no connection is asked for."""
    apart = ("unshare", "-n") if works("unshare", "-n", "true") else ()
    assert float(python(OFFLINE, before=apart, PYTHONWARNINGS="")) >= 0
