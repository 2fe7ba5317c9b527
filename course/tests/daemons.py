"""Processes that mean to outlive whoever starts them."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

STAY = """
import pathlib, signal, sys, time
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).touch()
time.sleep(1000)
"""
FORKED_TWICE = f"""
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", {STAY!r}, sys.argv[1]])
"""
KINDS = ("own session", "forked twice", "forked twice without its environment")


def start(folder: Path, kinds: Sequence[str] = KINDS) -> None:
    """Start one of each kind, and wait until each has put its file into the folder."""
    for kind in kinds:
        subprocess.Popen(
            [sys.executable, "-c", STAY if kind == "own session" else FORKED_TWICE, str(folder / kind)],
            env={} if "without" in kind else None,
            start_new_session=True,
        )
    while len(list(folder.iterdir())) < len(kinds):
        time.sleep(0.02)


def running(folder: Path) -> list[list[str]]:
    """The command lines of processes that name the folder, or something in it."""
    found = []
    for pid in psutil.pids():
        try:
            words = psutil.Process(pid).cmdline()
        except psutil.Error:
            continue
        if any(str(folder) in word for word in words):
            found.append(words)
    return found
