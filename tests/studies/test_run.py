"""Running a study: what survives a kill and a lost worker, what is stored, and what is refused."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from studies import Outcome, load
from studies.run import STAMP, Setting, StudyError, run
from studies.table import Store, TableError, as_row, key
from tests.samples import refused, same_numbers
from tests.studies import toy
from tools.notebooks import ROOT

TOY = "tests.studies.toy"
# Distributed warns of sockets and of a slow machine where a worker is killed.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")


@pytest.fixture
def log(tmp_path, monkeypatch) -> Path:
    """Where the toy writes, a line each time that a point is begun."""
    path: Path = tmp_path / "log.txt"
    monkeypatch.setenv("TOY_STUDY_LOG", str(path))
    return path


def start(*words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
    options = {"cwd": ROOT, "env": environment, "start_new_session": True, "text": True}
    return subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, **options)  # type: ignore[call-overload, no-any-return]


def wait_for(true: Callable[[], bool], what: str) -> None:
    for _ in range(1200):
        if true():
            return
        time.sleep(0.1)
    pytest.fail(f"two minutes without {what}")


def parts(out: Path) -> int:
    return len(list((out / f"{TOY}-quick.parts").glob("*.parquet")))


def begun(log: Path) -> list[int]:
    return [int(line) for line in log.read_text("utf-8").split()]


def test_a_killed_run_is_resumed_and_loses_what_was_in_flight_alone(tmp_path, log):
    process = start("-m", "studies", TOY, "--profile", "quick", "--out", str(tmp_path))
    try:
        wait_for(lambda: parts(tmp_path) >= 3, "three points")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    stored = {row["key"]: row for row in load(TOY, "quick", folder=tmp_path)}
    assert 3 <= len(stored) < toy.COUNT
    wait_for(lambda: quiet(log), "an end of the workers")
    lines: list[str] = []
    path = run(TOY, profile="quick", out=tmp_path, say=lines.append)
    assert lines[0] == f"{TOY}, quick: 12 points, {len(stored)} of them stored"
    rows = load(TOY, "quick", folder=tmp_path)
    assert [row["number"] for row in rows] == list(range(toy.COUNT))
    for row in rows:
        if row["key"] in stored:
            assert row["date"] == stored[row["key"]]["date"]
            assert same_numbers(row, stored[row["key"]], ())
    # Lost is what each of the two workers had in hand, and what it had been handed beside.
    assert len(begun(log)) <= toy.COUNT + 4
    assert [p.name for p in tmp_path.glob("*.p*")] == [path.name, f"{TOY}-quick.pictures"]


def quiet(log: Path) -> bool:
    """No point was begun for a second: the killed run's workers are gone."""
    before = len(begun(log))
    time.sleep(1.0)
    return len(begun(log)) == before


@pytest.fixture
def cluster(log) -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    """A scheduler and two workers, each a process of its own; its address, and the workers."""
    from distributed.utils import open_port

    address = f"tcp://127.0.0.1:{open_port()}"
    host, port = address.removeprefix("tcp://").split(":")
    options = ["--no-dashboard", "--host", host]
    scheduler = ["-m", "distributed.cli.dask_scheduler", *options, "--port", port]
    worker = ["-m", "distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard"]
    started = [start(*scheduler), start(*worker), start(*worker)]
    yield address, started[1:]
    for process in started:
        process.kill()
        process.communicate()


def test_a_lost_worker_costs_the_point_that_it_had(tmp_path, log, cluster):
    address, workers = cluster
    killed: list[int] = []

    def kill_one(self: Store, row: dict[str, object], pictures: dict[str, np.ndarray]) -> None:
        add(self, row, pictures)
        if not killed:
            killed.append(workers[0].pid)
            workers[0].kill()

    add = Store.add
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "add", kill_one)
        run(TOY, profile="quick", out=tmp_path, cluster=address)
    assert killed
    assert [row["square"] for row in load(TOY, "quick", folder=tmp_path)] == [n**2 for n in range(12)]
    assert len(begun(log)) <= toy.COUNT + 2


def test_a_point_that_fails_is_tried_twice_and_named_when_all_others_are_stored(tmp_path, log):
    with refused(StudyError, r"1 of 12 points failed; run again .*\n.*'number': 11.*ValueError\('the last"):
        run(TOY, profile="quick", out=tmp_path, setting=Setting(pictures="fails"))
    assert begun(log).count(11) == 2
    assert len(load(TOY, "quick", folder=tmp_path)) == 11
    run(TOY, profile="quick", out=tmp_path, where={"even": False})
    assert begun(log).count(11) == 3
    assert len(begun(log)) == 14
    assert [row["number"] for row in load(TOY, "quick", folder=tmp_path, even=False)] == [1, 3, 5, 7, 9, 11]


def test_a_row_holds_what_was_found_and_where_it_comes_from(tmp_path):
    store = Store("sums", tmp_path)
    dot = np.eye(2, dtype=np.uint8)
    outcome = Outcome({"sum": 3, "none": math.nan}, {"curve": np.array([1.0, 2.0])}, {"dot": dot})
    stamp = dict.fromkeys(STAMP, "x") | {"seconds": 0.5}
    for name in ("b", "a"):
        store.add(as_row({"name": name, "exact": True}, outcome, stamp), outcome.pictures)
    store.add(as_row({"name": "c"}, Outcome({"other": 1.5}), stamp), {})
    unfinished = load("sums", folder=tmp_path)
    store.compact([key({"name": "a", "exact": True})])
    rows = load("sums", folder=tmp_path)
    assert sorted(row["name"] for row in unfinished) == ["a", "b", "c"]
    assert [row["name"] for row in rows] in (["a", "b", "c"], ["a", "c", "b"])
    first = rows[0]
    assert math.isnan(first.pop("none"))
    curve = first.pop("curve")
    assert curve.dtype == np.float32
    assert curve.tolist() == [1.0, 2.0]
    point = {"key": key({"name": "a", "exact": True}), "name": "a", "exact": True}
    assert first == {**point, "sum": 3.0, **stamp}
    assert load("sums", folder=tmp_path, name="c")[0].keys() == {"key", "name", "other", *STAMP}
    with Image.open(tmp_path / "sums.pictures" / f"{first['key']}-dot.png") as picture:
        assert np.array_equal(np.array(picture), np.eye(2))
    assert not list(tmp_path.glob("**/*.new"))
    again = as_row({"name": "a", "exact": True}, Outcome({"sum": 4}), stamp)
    store.add(again, {})
    assert load("sums", folder=tmp_path, name="a")[0]["sum"] == 4.0


def test_what_cannot_be_stored_or_run_is_refused_with_the_remedy(tmp_path, log):
    stamp = dict.fromkeys(STAMP, "x")
    with refused(TableError, "two entries of a row are called 'width'; rename one"):
        as_row({"width": 8}, Outcome({"width": 1.0}), stamp)
    with refused(TableError, "curve 'square' has 2 dimensions; give it one"):
        as_row({}, Outcome({}, {"square": np.eye(2)}), stamp)
    with refused(TableError, f"no table of {TOY!r} at the quick profile in .*; make study NAME={TOY}"):
        load(TOY, "quick", folder=tmp_path)
    with refused(StudyError, "no study 'none'; there are own-kernel, hour-glass, optimisers"):
        run("none", out=tmp_path)
    with (
        FileLock(tmp_path / f"{TOY}-quick.lock"),
        refused(StudyError, f"another run of {TOY} is going on in .*; wait for it, or stop it"),
    ):
        run(TOY, profile="quick", out=tmp_path)
    with refused(StudyError, "own-kernel has no profile 'published'; there are full, quick"):
        run("own-kernel", profile="published", out=tmp_path)
    with refused(StudyError, f"{TOY} has no parameter 'wide' to choose points by"):
        run(TOY, out=tmp_path, where={"wide": 8})
    with refused(StudyError, f"no point of {TOY}, full, has {{'number': -1}}"):
        run(TOY, out=tmp_path, where={"number": -1})
    with refused(StudyError, "there must be a worker, got 0; without a card leave out DEVICE=cuda"):
        run(TOY, out=tmp_path, number=0)
    done = start("-m", "studies", "none")
    assert done.communicate()[1] == "no study 'none'; there are own-kernel, hour-glass, optimisers\n"
    assert done.returncode == 1
