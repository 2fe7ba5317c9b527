"""Stored runs: loaded bit by bit, interrupted, damaged, shared by processes, and compared with other code."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

import dipfilters
from dipfilters import Adam, load_or_run, records
from dipfilters.records import RecordError, StoredSetting
from tests.samples import annotations_off, changed, refused, repeatable
from tests.test_faults import read_only

SOURCES = Path(dipfilters.__file__).parents[1]
SETTINGS = [{"seed": seed} for seed in range(4)]

calls: list[int] = []
plan = SimpleNamespace(stop=None)  # before which call a run is interrupted


def measure(size, seed):
    """Some numbers of every kind that a run may give; interrupted where a test says so."""
    if len(calls) == plan.stop:
        raise KeyboardInterrupt
    calls.append(seed)
    pixels = torch.from_numpy(np.random.default_rng(seed).random((1, size, size)))
    return {
        "psnr": 20.0 + seed,
        "steps": [1, 2, seed],
        "curve": pixels[0, 0],
        "estimate": pixels.half(),
        "view": (255 * pixels).round().byte(),
    }


@pytest.fixture(autouse=True)
def nothing_computed():
    calls.clear()
    plan.stop = None


def load(folder, compute=measure, **options):
    """What :func:`load_or_run` gives; ``calls`` says what it had to compute for that."""
    calls.clear()
    options = {"parameters": {"size": 30}, "settings": SETTINGS, "folder": folder, **options}
    return load_or_run("run", compute=compute, **options)


def only(folder) -> Path:
    (path,) = Path(folder).glob("*.npz")
    return path


def stored(folder) -> dict[int, np.ndarray]:
    """The curves by seed, read without the package and without pickle."""
    with np.load(only(folder), allow_pickle=False) as file:
        settings = json.loads(str(file["text"]))["settings"]
        return {done["setting"]["seed"]: file[f"{i}/curve"] for i, done in enumerate(settings)}


def as_computed(folder, *seeds: int) -> bool:
    found = stored(folder)
    right = (np.array_equal(found[s], np.random.default_rng(s).random((30, 30))[0]) for s in found)
    return sorted(found) == sorted(seeds) and all(right)


# ---------------------------------------------------------------------------------- stored, loaded


def test_a_stored_run_is_loaded_bit_by_bit(tmp_path):
    first = load(tmp_path)
    assert calls == [0, 1, 2, 3]
    again = load(tmp_path)
    assert calls == []
    for done, loaded in zip(first.finished, again.finished, strict=True):
        assert (done.setting, done.seconds, done.stamp) == (loaded.setting, loaded.seconds, loaded.stamp)
        assert (done.loaded, loaded.loaded) == (False, True)
        assert list(done.arrays) == list(loaded.arrays)
        for name, array in loaded.arrays.items():
            assert array.dtype == done.arrays[name].dtype
            assert array.tobytes() == done.arrays[name].tobytes()
    assert as_computed(tmp_path, 0, 1, 2, 3)


def test_other_parameters_are_another_run_and_their_order_is_none(tmp_path):
    load(tmp_path, parameters={"size": 5})
    load(tmp_path, parameters={"size": 6})
    assert len(calls) == 4
    assert len(list(tmp_path.glob("*.npz"))) == 2

    def both(one, other):
        return {"sum": one + other}

    options = {"compute": both, "folder": tmp_path / "both"}
    load_or_run("sum", {"one": 1, "other": 2}, **options)
    assert load_or_run("sum", {"other": 2, "one": 1}, **options).finished[0].loaded


def test_one_and_true_and_1_point_0_are_three_settings(tmp_path):
    def kind(x):
        return {"kind": np.array(type(x).__name__)}

    record = load_or_run("kinds", {}, kind, folder=tmp_path, settings=[{"x": 1}, {"x": True}, {"x": 1.0}])
    found = [str(record.arrays(x=x)["kind"]) for x in (1, True, 1.0)]
    assert found == ["int", "bool", "float"]


def test_arrays_are_found_by_what_tells_them_apart(tmp_path):
    settings = [{"width": w, "seed": 0} for w in (4, 8)]

    def wide(size, width, seed):
        return {"x": width}

    record = load(tmp_path, wide, settings=settings)
    assert int(record.arrays(width=8)["x"]) == 8
    for wanted, message in (
        ({"seed": 0}, "2 settings of run have"),
        ({"width": 5}, "0 settings of run have"),
    ):
        with refused(RecordError, rf"{message} .*; name one of \{{'width': 4"):
            record.arrays(**wanted)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_an_interrupted_run_goes_on_behind_its_last_finished_setting(tmp_path, number):
    plan.stop = number
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path)
    plan.stop = None
    load(tmp_path)
    assert calls == [0, 1, 2, 3][number:]


def test_recomputing_replaces_settings_as_they_are_finished(tmp_path):
    first = load(tmp_path)
    plan.stop = 2
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path, recompute=True)
    plan.stop = None
    record = load(tmp_path)
    assert calls == []
    now = [done.seconds != old.seconds for done, old in zip(record.finished, first.finished, strict=True)]
    assert now[2:] == [False, False]


# ------------------------------------------------------------------------------- compared with other code


def renewed(size, seed):
    """``measure`` in other code, with the rounding of another machine."""
    return {
        name: (np.asarray(v) * (1 + 1e-6)).astype(np.asarray(v).dtype)
        for name, v in measure(size, seed).items()
    }


def test_a_recheck_computes_one_setting_and_renews_the_stamps_of_all(tmp_path):
    old = load(tmp_path)
    assert "renewed" in load(tmp_path, renewed).changed
    checked = load(tmp_path, renewed, recompute="cheapest")
    assert len(calls) == 1
    assert not checked.changed
    assert "rechecked 20" in checked.describe()
    for before, after in zip(old.finished, checked.finished, strict=True):
        assert after.stamp["date"] == before.stamp["date"]
        assert all(np.array_equal(array, after.arrays[name]) for name, array in before.arrays.items())
    assert not load(tmp_path, renewed).changed


VALUES = {
    "real": np.array([1.0, 50.0]),
    "infinite": np.array([np.inf, 1.0]),
    "less than infinite": np.array([-np.inf, 1.0]),
    "undefined": np.array([np.nan, 1.0]),
    "complex": np.array([1.0 + 2.0j, 3.0]),
    "bytes": np.array([0, 255], np.uint8),
    "text": np.array(["a", "b"]),
    "all undefined": np.array([np.nan, np.nan]),
    "3% more": np.array([1.0, 51.5]),
    "another beside infinite": np.array([np.inf, 50.0]),
    "another beside undefined": np.array([np.nan, 50.0]),
    "another imaginary part": np.array([1.0 + 3.0j, 3.0]),
    "bytes that differ by 255": np.array([255, 255], np.uint8),
    "nothing": np.zeros(2),
    "nearly nothing": np.full(2, 1e-300),
    "longer": np.zeros(3),
}


def compared(then: np.ndarray, now: np.ndarray) -> None:
    done = StoredSetting({}, {"x": then}, 1.0, {"hardware": "a"}, loaded=True)
    records._recheck("run", done, lambda: {"x": now}, {})


@pytest.mark.parametrize("then", VALUES)
@pytest.mark.parametrize("now", VALUES)
def test_a_recheck_knows_infinite_undefined_and_complex_values(then, now):
    if then == now:
        compared(VALUES[then], VALUES[now].copy())
    else:
        with refused(RecordError, "x is more than 2% of its largest value off|x has another shape or dtype"):
            compared(VALUES[then], VALUES[now])


def test_a_recheck_that_fails_renews_nothing_and_one_without_a_stored_run_computes_it(tmp_path):
    def wrong(size, seed):
        return {**measure(size, seed), "curve": np.zeros(size)}

    load(tmp_path)
    with refused(RecordError, "curve is more than"):
        load(tmp_path, wrong, recompute="cheapest")
    assert "wrong" in load(tmp_path, wrong).changed
    assert not load(tmp_path / "empty", recompute="cheapest").finished[0].loaded
    assert len(calls) == len(SETTINGS)


def test_the_line_says_what_was_done_where_with_what_when_and_which_code_changed(tmp_path):
    plan.stop = 3
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path)
    plan.stop = None
    record = load(tmp_path)
    line = record.describe()
    assert line.startswith("run (size=30); 3 of 4 settings loaded, made in ")
    assert "; 1 of 4 settings computed, made in " in line
    for word in (
        f"Python {platform.python_version()}",
        f"numpy {np.__version__}",
        f"torch {importlib.metadata.version('torch')}",
    ):
        assert line.count(word) == 2
    assert re.search(r"20\d\d-\d\d-\d\d, commit ([0-9a-f]{7,}( with changes)?|unknown)", line)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:]{8}\+00:00", record.finished[0].stamp["date"])
    assert "CHANGED" not in line
    changed = load(tmp_path, renewed).describe()
    assert changed.endswith("; THE CODE CHANGED SINCE: renewed; recompute=True runs it anew")


# ------------------------------------------------------------------------------------------- doors


def test_what_cannot_be_stored_is_refused_before_anything_is_computed(tmp_path):
    with refused(RecordError, "name must consist of letters, digits, - and _, got '../06'"):
        load_or_run("../06", {}, measure, folder=tmp_path)
    for value in (Path("x"), float("nan"), torch.zeros(2), np.int64(3)):
        with refused(RecordError, "parameters must be numbers, text or lists of them"):
            load(tmp_path, parameters={"size": value})
    with refused(RecordError, "setting must be numbers, text or lists of them"):
        load(tmp_path, settings=[{"seed": {1, 2}}])
    for function in (partial(measure, size=3), len):
        with refused(RecordError, "has no source to tell changes by; write it with def"):
            load(tmp_path, function)
    for recompute in ("all", 1, None):
        with refused(RecordError, 'recompute must be True, False or "cheapest", got'):
            load(tmp_path, recompute=recompute)
    caught = 3

    def closed(size, seed):
        return {"x": caught}

    with refused(RecordError, "closed takes caught from the function around it"):
        load(tmp_path, closed)
    assert calls == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"x": Adam()}, "must return arrays of numbers, got Adam"),
        ({"x": torch.zeros(2, dtype=torch.bfloat16)}, "must return arrays of numbers; 'x': .*BFloat16"),
        ({"x": [[1.0], [1.0, 2.0]]}, "must return arrays of numbers; 'x': .*inhomogeneous"),
        ([1.0, 2.0], "must return arrays by their names, got list"),
    ],
)
def test_results_that_cannot_be_stored_are_refused(result, message):
    with refused(RecordError, message):
        records._arrays(result)


# ----------------------------------------------------------------------------------------- damaged files


class Trap:
    """Unpickled, it leaves a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize(
    "content",
    [
        {"text": np.array("no json")},
        {"text": np.array('{"settings": [{"setting": {}}]}')},
        {"text": np.array("[]")},
        {"other": np.zeros(3)},
        {"text": "trap"},
        {"0/curve": "trap"},
    ],
    ids=["no json", "no stamp", "no settings", "no text", "pickled text", "pickled array"],
)
def test_another_file_under_its_name_is_refused_and_never_unpickled(tmp_path, content):
    load(tmp_path)
    trap = np.array([Trap(tmp_path / "sprung")], dtype=object)
    with np.load(only(tmp_path), allow_pickle=False) as file:
        whole = dict(file) if "trap" in map(str, content.values()) else {}
    np.savez(only(tmp_path), **whole | {k: trap if str(v) == "trap" else v for k, v in content.items()})
    with refused(
        RecordError, rf"{only(tmp_path).name} is broken, or no stored.*delete it to compute the run anew"
    ):
        load(tmp_path)
    assert not (tmp_path / "sprung").exists()
    np.save(tmp_path / "trap.npy", trap)
    np.load(tmp_path / "trap.npy", allow_pickle=True)
    assert (tmp_path / "sprung").exists(), "a trap that does not work"


def test_a_run_under_the_name_of_another_is_refused(tmp_path):
    load(tmp_path)
    load_or_run("walk", {"size": 30}, measure, folder=tmp_path / "other", settings=[{"seed": 0}])
    content = only(tmp_path / "other").read_bytes()
    path = only(tmp_path)
    path.write_bytes(content)
    with refused(RecordError, rf"{path.name} holds another run, .*'walk'.* not .*'run'.*its own name"):
        load(tmp_path)
    assert path.read_bytes() == content


def test_an_array_that_claims_to_be_huge_is_refused(tmp_path):
    load(tmp_path)
    with zipfile.ZipFile(only(tmp_path)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(only(tmp_path), "w") as file:
        for name, content in members.items():
            file.writestr(name, content.replace(b"(30,), }" + 12 * b" ", b"(30000000000000,), }"))
    with refused(RecordError, r"is broken, or no stored run \(.*MemoryError: Unable to allocate"):
        load(tmp_path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> tuple[Path, bytes]:
    folder = tmp_path_factory.mktemp("runs")
    load_or_run("run", {"size": 4}, measure, folder=folder, settings=SETTINGS)
    return only(folder), only(folder).read_bytes()


@repeatable
@given(data=st.data())
def test_a_file_changed_anywhere_is_read_or_refused(sound, data):
    """A record with the settings asked for, or an error that names the file and leaves it alone."""
    path, content = sound
    new = data.draw(changed(content))
    path.write_bytes(new)
    plan.stop = len(calls)  # what the changed text no longer holds is to be computed
    told, record = path.name, None
    with annotations_off():
        try:
            record = load_or_run("run", {"size": 4}, measure, folder=path.parent, settings=SETTINGS)
        except RecordError as error:
            told = str(error)
        except KeyboardInterrupt:
            pass
    assert path.name in told
    assert record is None or [done.setting for done in record.finished] == SETTINGS
    assert path.read_bytes() == new


# ------------------------------------------------------------- kills, full discs, other processes

# A module whose function is measured in other processes.
OTHER = """
import sys, time
from pathlib import Path
import numpy as np
from dipfilters import load_or_run

HERE = Path(sys.argv[1])


def measure(size, seed):
    (HERE / f"began {seed}").touch()
    while (HERE / f"wait {seed}").exists():
        time.sleep(0.01)
    return {"curve": np.random.default_rng(seed).random((size, size))[0]}


def run(*seeds):
    settings = [{"seed": seed} for seed in seeds]
    return load_or_run("run", {"size": 30}, measure, folder=HERE / "runs", settings=settings)
"""


@pytest.fixture
def here(tmp_path):
    """A folder with the module above, under a name that makes trouble in a shell."""
    folder = tmp_path / "Über uns, 2 Äpfel & 'mehr'"
    folder.mkdir()
    (folder / "other.py").write_text(OTHER, "utf-8")
    return folder


def command(here: Path, program: str) -> list[str]:
    start = f"import sys; sys.path[:0] = [sys.argv[1], {str(SOURCES)!r}]; import other\n"
    return [sys.executable, "-c", start + textwrap.dedent(program), str(here)]


def other(here: Path, program: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    words = [*before, *command(here, program)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("point", "done"),
    [
        ("os.kill(os.getpid(), 9)", (0,)),
        ("part.write_bytes(part.read_bytes()[:99]); os.kill(os.getpid(), 9)", (0,)),
        ("plain(part, path); os.kill(os.getpid(), 9)", (0, 1)),
    ],
    ids=["written, not in place", "half written", "in place"],
)
def test_killed_while_a_run_is_stored(here, point, done):
    """By a signal that no program can catch; what was finished before is there, and the rest is computed."""
    assert other(here, "other.run(0)").returncode == 0
    program = f"""
        import os
        from pathlib import Path
        plain = Path.replace
        def last(part, path):
            {point}
        Path.replace = last
        other.run(0, 1)
    """
    killed = other(here, program)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert as_computed(here / "runs", *done)
    for path in here.glob("began *"):
        path.unlink()
    assert other(here, "other.run(0, 1)").returncode == 0
    assert [path.name for path in here.glob("began *")] == ["began 1"][: 2 - len(done)]
    assert as_computed(here / "runs", 0, 1)


def test_two_processes_add_to_one_run(here):
    """Each begins with what the other has not seen finished, and stores when the other has stored."""
    (here / "wait 1").touch()
    process = subprocess.Popen(command(here, "other.run(1, 2, 3)"), stderr=subprocess.PIPE, text=True)
    try:
        while not (here / "began 1").exists():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        assert other(here, "other.run(0, 2)").returncode == 0
        assert as_computed(here / "runs", 0, 2)
        (here / "began 2").unlink()
        (here / "wait 1").unlink()
        assert process.wait() == 0, process.communicate()[1]
    finally:
        process.kill()
        process.communicate()
    assert as_computed(here / "runs", 0, 1, 2, 3)
    assert not (here / "began 2").exists(), "what the other had finished was computed again"


def test_a_run_that_another_process_holds_is_said(tmp_path, monkeypatch):
    load(tmp_path, settings=SETTINGS[:1])
    path = only(tmp_path)
    monkeypatch.setattr(records, "_LOCK_SECONDS", 0.2)
    with FileLock(path.with_suffix(".lock")):
        assert load(tmp_path, settings=SETTINGS[:1]).finished[0].loaded, "to load needs no lock"
        with refused(RecordError, rf"another process has held {path.name} for 0.2 s; wait for it, or end it"):
            load(tmp_path)
    assert not load(tmp_path).finished[1].loaded


def test_a_file_that_may_not_grow_leaves_what_was_stored(here):
    """The system writes a part and refuses the rest, as on a full disc."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); other.run(0, 1, 2, 3)"
    done = other(here, limit)
    assert done.returncode == 1
    assert "what was stored before is as it was; make room on the disc, or name a folder" in done.stderr
    kept = stored(here / "runs")
    assert 1 <= len(kept) < 4
    assert as_computed(here / "runs", *kept)
    assert sorted(path.suffix for path in (here / "runs").iterdir()) == [".lock", ".npz"]
    assert other(here, "other.run(0, 1, 2, 3)").returncode == 0
    assert as_computed(here / "runs", 0, 1, 2, 3)


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_computed(here):
    """Its stored run loads; not even root can write to it."""
    assert other(here, "other.run(0)").returncode == 0
    (here / "began 0").unlink()
    done = other(here, "print(other.run(0).finished[0].loaded)\nother.run(1)", read_only(here))
    assert done.stdout == "True\n"
    assert "RecordError" in done.stderr
    assert "or name a folder that you may write in" in done.stderr
    assert not list(here.glob("began *"))
