"""What goes wrong outside the package: kills, full discs, other processes, odd files, no card, no network."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

import dipfilters
from dipfilters import load_or_run, records
from dipfilters.records import RecordError
from tests.samples import refused

SOURCES = Path(dipfilters.__file__).parents[1]
ODD = "Über uns, 2 Äpfel & 'mehr'"


def python(program: str, *words: str, before: tuple[str, ...] = (), **options) -> subprocess.CompletedProcess:
    """Another process that runs this program with the package at hand."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "PYTHONWARNINGS": "error"}
    return subprocess.run(
        [*before, sys.executable, "-c", textwrap.dedent(program), *words],
        env=environment | options.pop("env", {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,
    )


def works(*command: str) -> bool:
    return bool(shutil.which(command[0])) and subprocess.run(command, capture_output=True).returncode == 0


# --------------------------------------------------------------------------------------- stored runs

# A function of a module, as load_or_run wants its source.
MEASURE = '''
"""What the other processes compute."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from dipfilters import load_or_run

HERE = Path(sys.argv[1])


def measure(size, seed):
    values = np.random.default_rng(seed).random((size, size))
    (HERE / f"began {seed}").touch()
    while (HERE / f"wait {seed}").exists():
        time.sleep(0.01)
    return {"values": values}


def run(*seeds):
    settings = [{"seed": seed} for seed in seeds]
    return load_or_run("run", {"size": 30}, measure, folder=HERE / "runs", settings=settings)
'''


@pytest.fixture
def here(tmp_path):
    """A folder with the module above."""
    folder = tmp_path / ODD
    folder.mkdir()
    (folder / "other.py").write_text(MEASURE, "utf-8")
    return folder


def other(here: Path, program: str, **options) -> subprocess.CompletedProcess:
    return python(f"import sys; sys.path.insert(0, sys.argv[1])\n{program}", str(here), **options)


def values(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((30, 30))


def stored(here: Path) -> dict[int, np.ndarray]:
    """The numbers by seed, read without the package."""
    (path,) = (here / "runs").glob("*.npz")
    with np.load(path, allow_pickle=False) as file:
        settings = json.loads(str(file["text"]))["settings"]
        return {done["setting"]["seed"]: file[f"{i}/values"] for i, done in enumerate(settings)}


def as_computed(here: Path, *seeds: int) -> bool:
    found = stored(here)
    return sorted(found) == sorted(seeds) and all(np.array_equal(found[s], values(s)) for s in seeds)


KILLS = {
    "half of the numbers written": ("write_bytes", "path.suffix == '.part' and content[:2] == b'PK'", "half"),
    "the numbers written, not in place": ("replace", "str(content).endswith('.npz')", "before"),
    "the numbers in place": ("replace", "str(content).endswith('.npz')", "after"),
    "half of the text written": ("write_bytes", "path.suffix == '.part' and content[:1] == b'{'", "half"),
    "the text written, not in place": ("replace", "str(content).endswith('.json')", "before"),
}


@pytest.mark.long
@pytest.mark.parametrize("point", KILLS)
def test_killed_while_a_run_is_stored(here, point):
    """By a signal that no program can catch; what was finished before is there, and the rest is computed."""
    assert other(here, "import other; other.run(0)").returncode == 0
    method, when, how = KILLS[point]
    killed = other(
        here,
        f"""
        import os, signal
        from pathlib import Path
from typing import Any
        import other
        plain = Path.{method}
        def last(path, content):
            if {when}:
                if {how!r} == "half": plain(path, content[: len(content) // 2])
                if {how!r} == "after": plain(path, content)
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(path, content)
        Path.{method} = last
        other.run(0, 1)
        """.replace("\n        ", "\n"),
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = (0, 1) if point in ("the numbers in place", *list(KILLS)[3:]) else (0,)
    assert as_computed(here, *done)
    for path in here.glob("began *"):
        path.unlink()
    again = other(here, "import other; print(other.run(0, 1).describe())")
    assert again.returncode == 0, again.stderr
    assert [path.name for path in here.glob("began *")] == ([] if done == (0, 1) else ["began 1"])
    assert as_computed(here, 0, 1)
    (text,) = (here / "runs").glob("*.json")
    assert [done["setting"]["seed"] for done in json.loads(text.read_text("utf-8"))["settings"]] == [0, 1]


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, path.name
        time.sleep(0.01)


def test_two_processes_add_to_one_run(here):
    """Each begins with what the other has not seen finished, and stores when the other has stored."""
    (here / "wait 1").touch()
    words = [
        sys.executable,
        "-c",
        "import sys; sys.path.insert(0, sys.argv[1]); import other; other.run(1, 2, 3)",
    ]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    process = subprocess.Popen([*words, str(here)], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(here / "began 1")
        assert other(here, "import other; other.run(0, 2)").returncode == 0
        assert as_computed(here, 0, 2)
        (here / "began 2").unlink()
        (here / "wait 1").unlink()
        assert process.wait(60) == 0, process.stderr.read() if process.stderr else ""
    finally:
        process.kill()
        process.communicate()
    assert as_computed(here, 0, 1, 2, 3)
    assert not (here / "began 2").exists(), "what the other had finished was computed again"


def measure(size, seed):
    return {"values": np.random.default_rng(seed).random((size, size))}


def load(folder, *seeds, compute=measure, **options):
    settings = [{"seed": seed} for seed in seeds]
    return load_or_run("run", {"size": 30}, compute, folder=folder, settings=settings, **options)


def test_a_run_that_is_held_is_said_and_a_dead_process_holds_nothing(tmp_path, monkeypatch):
    load(tmp_path, 0)
    (path,) = tmp_path.glob("*.npz")
    hold = """
        import sys, time
        from filelock import FileLock
        lock = FileLock(sys.argv[1])
        lock.acquire()
        print("held", flush=True)
        time.sleep(60)
    """
    words = [sys.executable, "-c", textwrap.dedent(hold), str(path.with_suffix(".lock"))]
    holder = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert load(tmp_path, 0).finished[0].loaded, "to load needs no lock"
        monkeypatch.setattr(records, "_PATIENCE", 0.2)
        with refused(RecordError, rf"another process has held {path.name} for 0.2 s; wait for it, or end it"):
            load(tmp_path, 1)
    finally:
        holder.kill()
        holder.communicate()
    assert not load(tmp_path, 1).finished[0].loaded
    with FileLock(path.with_suffix(".lock"), timeout=0):
        pass


LIMITED = """
    import resource, other
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
    other.run(0, 1, 2, 3)
"""


def test_a_file_that_may_not_grow_leaves_what_was_stored(here):
    """The system writes a part and refuses the rest, as on a full disc: each setting is 7 KB here."""
    done = other(here, textwrap.dedent(LIMITED))
    assert done.returncode == 1
    assert "RecordError: run-" in done.stderr
    assert "what was stored before is as it was; make room on the disc, or name a folder" in done.stderr
    assert as_computed(here, 0)
    assert sorted(path.suffix for path in (here / "runs").iterdir()) == [".json", ".lock", ".npz"]
    assert other(here, "import other; other.run(0, 1, 2, 3)").returncode == 0
    assert as_computed(here, 0, 1, 2, 3)


@pytest.mark.long
def test_a_full_disc_leaves_what_was_stored(here):
    """A disc of 40 KB, which only root may mount."""
    disc = here / "runs"
    disc.mkdir()
    if not works("mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(disc)):
        pytest.skip("no disc can be mounted here")
    try:
        done = other(here, "import other; other.run(*range(9))")
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert "RecordError: run-" in done.stderr
        kept = stored(here)
        assert 1 <= len(kept) < 9
        assert all(np.array_equal(found, values(seed)) for seed, found in kept.items())
        assert not list(disc.glob("*.part"))
    finally:
        subprocess.run(["umount", str(disc)], check=True)


def read_only(folder: Path) -> tuple[str, ...]:
    """The words before a command for which `folder` cannot be written, not even by root."""
    bind = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    words = ("unshare", "-m", "sh", "-c", bind, str(folder))
    if os.geteuid() and not works(*words, "true"):
        folder.chmod(0o555)
        return ()
    if not works(*words, "true"):
        pytest.skip("no folder is read-only for root here")
    return words


def test_a_read_only_checkout(here):
    """Its package computes, its runs load, and a new one is refused before it is computed."""
    shutil.copytree(SOURCES / "dipfilters", here / "dipfilters", ignore=shutil.ignore_patterns("__pycache__"))
    assert other(here, "import other; other.run(0)").returncode == 0
    (here / "began 0").unlink()
    (text,) = (here / "runs").glob("*.json")
    text.write_text("{}")
    program = """
        import sys
        sys.dont_write_bytecode = False
        import torch
        import dipfilters, other
        from dipfilters import KernelFilter, RecordError, load_image, one_layer_tangent_kernel
        assert dipfilters.__file__.startswith(sys.argv[1]), dipfilters.__file__
        assert other.run(0).finished[0].loaded
        clean, kernel = load_image("camera", size=12), one_layer_tangent_kernel()
        W = KernelFilter(clean, kernel, patch_size=3, normalize="rows", engine="cpu")
        assert abs(float(W.apply(torch.ones(12, 12)).mean()) - 1) < 1e-6
        try:
            other.run(1)
        except RecordError as error:
            print(error)
    """
    environment = {"PYTHONPATH": str(here), "HOME": str(here), "NUMBA_CACHE_DIR": ""}
    done = python(program, str(here), before=read_only(here), env=environment)
    assert done.returncode == 0, done.stderr
    assert "cannot be stored" in done.stdout
    assert "or name a folder that you may write in" in done.stdout
    assert not list(here.glob("began *"))
    assert text.read_text() == "{}"


def test_text_that_was_edited_by_hand_is_what_the_numbers_say_again(tmp_path):
    load(tmp_path, 0, 1)
    (text,) = tmp_path.glob("*.json")
    right = text.read_text("utf-8")
    for wrong in (right.replace('"seed": 1', '"seed": 7'), "", "{", None):
        assert wrong != right
        text.unlink() if wrong is None else text.write_text(wrong, "utf-8")
        assert [done.setting for done in load(tmp_path, 0, 1).finished] == [{"seed": 0}, {"seed": 1}]
        assert text.read_text("utf-8") == right


def test_a_run_under_the_name_of_another_is_refused(tmp_path):
    load(tmp_path, 0)
    (path,) = tmp_path.glob("*.npz")
    load_or_run("walk", {"size": 30}, measure, folder=tmp_path / "other", settings=[{"seed": 0}])
    (foreign,) = (tmp_path / "other").glob("*.npz")
    content = foreign.read_bytes()
    path.write_bytes(content)
    for seed in (0, 1):
        with refused(RecordError, rf"{path.name} holds another run, .*'walk'.* not .*'run'.*its own name"):
            load(tmp_path, seed)
    assert path.read_bytes() == content


class Trap:
    """Unpickled, it leaves a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("where", ["a file", "the text", "an array"])
def test_a_pickle_in_a_stored_run_is_never_opened(tmp_path, where):
    load(tmp_path, 0)
    (path,) = tmp_path.glob("*.npz")
    trap, sprung = np.array([Trap(tmp_path / "sprung")], dtype=object), tmp_path / "sprung"
    with np.load(path, allow_pickle=False) as file:
        content = dict(file)
    if where == "a file":
        path.write_bytes(trap.dumps())
    else:
        content["text" if where == "the text" else "0/values"] = trap
        np.savez(path, **content)
    with refused(RecordError, "is broken, or no stored run"):
        load(tmp_path, 0)
    assert not sprung.exists()
    np.save(tmp_path / "trap.npy", trap)
    np.load(tmp_path / "trap.npy", allow_pickle=True)
    assert sprung.exists(), "a trap that does not work"


def test_an_array_that_claims_to_be_huge_is_refused(tmp_path):
    load(tmp_path, 0)
    (path,) = tmp_path.glob("*.npz")
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            huge = content.replace(b"(30, 30), }" + 12 * b" ", b"(30000000, 30000000), }")
            assert len(huge) == len(content)
            file.writestr(name, huge)
    with refused(RecordError, r"is broken, or no stored run \(.*MemoryError: Unable to allocate"):
        load(tmp_path, 0)


# ---------------------------------------------------------------------------------------- a network


OFFLINE = """
    import socket, sys
    def refuse(*_):
        raise AssertionError("a connection was asked for")
    socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
    import torch
    from dipfilters import PICTURES, add_noise, denoise, load_image, load_or_run, plots, psnr
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
    done = python(OFFLINE, before=apart, env={"MPLBACKEND": "Agg", "PYTHONWARNINGS": ""})
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) >= 0


def test_limits_are_the_systems():
    """A process may not write beyond its limit: else the test of a full disc above tests nothing."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
