"""The sandbox holds what it says: no process survives, no network, nothing to write to or copy from."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from course import ROOT, BookError, sandbox

KINDS = {"bubblewrap": "bwrap", "unshare": "unshare"}


def works(kind: str) -> bool:
    if sys.platform != "linux" or not shutil.which(KINDS[kind]):
        return False
    asked = sandbox.command(kind, {}, sys.executable, "-c", "")
    return subprocess.run(asked, capture_output=True, env=sandbox.environment(), check=False).returncode == 0


each_kind = pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.skipif(not works(kind), reason="not here")) for kind in KINDS],
)

TRIES = r"""
import ctypes, json, os, pathlib, socket, subprocess, sys, urllib.request
root, given = sys.argv[1:]

def can(what):
    try:
        return bool(what())
    except BaseException as error:
        return False

def puts(folder):
    path = pathlib.Path(folder, "written")
    path.write_text("x")
    return True

def remounts():
    return ctypes.CDLL(None).mount(None, b"/", None, 32 | 4096, None) == 0  # to read and write

pip = [sys.executable, "-m", "pip", "uninstall", "-y", "six"]
print(json.dumps({
    "network": can(lambda: socket.create_connection(("1.1.1.1", 53), 2)),
    "this machine": can(lambda: socket.create_connection(("127.0.0.1", int(given)), 2)),
    "repository": can(lambda: os.listdir(root + "/course")),
    "home": can(lambda: os.listdir("/home")),
    "writes": [one for one in ("/", "/usr", sys.prefix, sys.base_prefix) if can(lambda: puts(one))],
    "remounts": can(remounts),
    "pip": can(lambda: subprocess.run(pip, capture_output=True).returncode == 0),
    "others": len([name for name in os.listdir("/proc") if name.isdigit()]) > 10,
    "own folder": can(lambda: puts(".")),
    "too much": can(lambda: [open(f"{n}", "wb").write(b"0" * 10**8) for n in range(15)]),
}))
"""


@each_kind
def test_it_reaches_nothing_but_its_own_folder(kind: str) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        words = [sys.executable, "-c", TRIES, str(ROOT), str(server.getsockname()[1])]
        process = sandbox.start(kind, {}, words, 2.0, None)
        said, _ = process.communicate(timeout=120)
    found = json.loads(said)
    assert found.pop("own folder")
    assert not any(found.values()), found


DETACHED = r"""
import os, subprocess, sys, time
ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(999)"
stay = [sys.executable, "-c", ignore]
subprocess.Popen([*stay, sys.argv[1]], start_new_session=True)
subprocess.Popen([*stay, sys.argv[1]], start_new_session=True, env={})
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [*stay, sys.argv[1]])
    os._exit(0)
print("begun", flush=True)
time.sleep(0 if sys.argv[2] == "ends" else 999)
"""


def running(mark: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if mark in process.cmdline():
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@each_kind
@pytest.mark.parametrize("how", ["ends", "is killed"])
def test_no_process_survives(kind: str, how: str, tmp_path: Path) -> None:
    mark = f"left-of-{tmp_path.name}-{kind}"
    process = sandbox.start(kind, {}, [sys.executable, "-c", DETACHED, mark, how], 2.0, None)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        survive(process, mark, how)


def survive(process: subprocess.Popen[bytes], mark: str, how: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    if how == "is killed":
        assert running(mark)
        process.kill()
    process.wait()
    latest = time.monotonic() + 30  # how long the kernel may take, not how long it takes
    while running(mark) and time.monotonic() < latest:
        time.sleep(0.05)
    assert not running(mark)


def test_without_a_sandbox_it_refuses_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    sandbox.kind.cache_clear()
    with pytest.raises(
        BookError, match=r"bubblewrap is missing; unshare is missing(.|\n)*apt install bubblewrap"
    ):
        sandbox.kind()
    sandbox.kind.cache_clear()
