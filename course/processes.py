"""No process of a submission outlives it, however it detached itself.

All that a submission starts inherits a mark in its environment, and is found by it wherever it went. On Linux
its worker also adopts what its children leave behind: what drops the mark remains a descendant.
"""

import contextlib
import ctypes
import subprocess
import sys
import time

import psutil

from course import BookError

MARK = "DIPFILTERS_SUBMISSION"
PATIENCE = 10.0  # seconds in which all that is killed must be gone
PR_SET_CHILD_SUBREAPER = 36  # of linux/prctl.h


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends; on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def started(mark: str, worker: psutil.Process | None) -> list[psutil.Process]:
    """What runs of the submission with that mark, apart from its worker (None if that has ended)."""
    found = set()
    if worker is not None:
        found.update(worker.children(recursive=True))
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.environ().get(MARK) == mark:
                found.add(process)
    running = []
    for process in found - {worker}:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
    return running


def end_started(mark: str, worker: psutil.Process | None) -> None:
    """Kill what the submission started, again and again until nothing is left."""
    begun = time.monotonic()
    while left := started(mark, worker):
        if time.monotonic() > begun + PATIENCE:
            numbers = ", ".join(str(process.pid) for process in left)
            raise BookError(f"processes {numbers} of a submission cannot be ended; end them by hand")
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.02)


def end(worker: subprocess.Popen[bytes], mark: str) -> None:
    """End a worker and what its submission started; a worker that is held still starts nothing meanwhile."""
    held = None
    if worker.poll() is None:
        held = psutil.Process(worker.pid)
        held.suspend()
    try:
        end_started(mark, held)
    finally:
        worker.kill()
        worker.wait()
