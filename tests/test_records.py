"""Stored runs: read by hand with zipfile and json, interrupted, damaged, and computed by other code."""

from __future__ import annotations

import getpass
import importlib.util
import io
import json
import os
import platform
import re
import subprocess
import sys
import textwrap
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import dipfilters
from dipfilters import Adam, RecordError, build, load_or_run, train, vanilla
from dipfilters.records import _meaning
from tests.samples import annotations_off, generator, picture, refused
from tests.test_layers import LAYERS
from tools.notebooks import ROOT
from tools.sources import Package

SETTINGS = [{"width": width, "seed": seed} for width in (4, 8) for seed in (0, 1)]

calls: list[dict] = []


def measure(size, width, seed):
    """Some numbers of every kind that a run may give."""
    calls.append({"size": size, "width": width, "seed": seed})
    pixels = np.random.default_rng(seed).random((1, size, size))
    return {
        "psnr": 20.0 + width + seed,
        "steps": [1, 2, width],
        "curve": pixels[0, 0],
        "estimate": torch.from_numpy(pixels).half(),
        "view": (255 * torch.from_numpy(pixels)).round().byte(),
    }


def load(folder, compute=measure, **options):
    """What :func:`load_or_run` gives, and what it had to compute for that."""
    calls.clear()
    options = {"parameters": {"size": 5}, "settings": SETTINGS, "folder": folder, **options}
    return load_or_run("06-width", compute=compute, **options)


def stop_at(number):
    """``measure``, interrupted from outside at its call of that number."""

    def interrupted(size, width, seed):
        if len(calls) == number:
            raise KeyboardInterrupt
        return measure(size, width, seed)

    return interrupted


def only(folder, ending) -> Path:
    (path,) = Path(folder).glob(f"*{ending}")
    return path


# ---------------------------------------------------------------------------------- stored, loaded


def test_a_stored_run_is_loaded_bit_by_bit(tmp_path):
    first = load(tmp_path)
    assert len(calls) == 4
    again = load(tmp_path)
    assert calls == []
    for done, loaded, setting in zip(first.finished, again.finished, SETTINGS, strict=True):
        assert done.setting == loaded.setting == setting
        assert (done.loaded, loaded.loaded) == (False, True)
        assert (done.seconds, done.stamp) == (loaded.seconds, loaded.stamp)
        expected = measure(size=5, **setting)
        assert list(done.arrays) == list(loaded.arrays) == list(expected)
        for name, array in loaded.arrays.items():
            assert array.dtype == done.arrays[name].dtype == np.asarray(expected[name]).dtype
            assert array.tobytes() == done.arrays[name].tobytes() == np.asarray(expected[name]).tobytes()


def test_the_file_opens_without_the_package_and_without_pickle(tmp_path):
    load(tmp_path)
    text = json.loads(only(tmp_path, ".json").read_text("utf-8"))
    with zipfile.ZipFile(only(tmp_path, ".npz")) as file:
        place = [entry["setting"] for entry in text["settings"]].index({"width": 8, "seed": 1})
        psnr = np.lib.format.read_array(io.BytesIO(file.read(f"{place}/psnr.npy")), allow_pickle=False)
        same = np.lib.format.read_array(io.BytesIO(file.read("text.npy")), allow_pickle=False)
    assert float(psnr) == 29.0
    assert json.loads(str(same)) == text
    assert text["name"] == "06-width"
    assert text["parameters"] == {"size": 5}


def test_other_parameters_are_another_run_and_order_is_none(tmp_path):
    load(tmp_path, parameters={"size": 5})
    load(tmp_path, parameters={"size": 6})
    assert len(calls) == 4
    assert len(list(tmp_path.glob("*.npz"))) == 2
    load(tmp_path, parameters={"size": 5})
    assert calls == []

    def both(one, other):
        return {"sum": one + other}

    options = {"compute": both, "folder": tmp_path / "both"}
    load_or_run("sum", {"one": 1, "other": 2}, **options)
    assert load_or_run("sum", {"other": 2, "one": 1}, **options).finished[0].loaded


def test_a_run_may_have_one_setting_and_compute_gets_values_as_they_are(tmp_path):
    def whole(pair):
        assert type(pair) is tuple
        return {"sum": sum(pair)}

    record = load_or_run("whole", {"pair": (1, 2)}, whole, folder=tmp_path / "a" / "b")
    assert float(record.arrays()["sum"]) == 3.0
    assert load_or_run("whole", {"pair": (1, 2)}, whole, folder=tmp_path / "a" / "b").finished[0].loaded


def test_more_settings_are_added_and_fewer_are_picked_in_the_order_asked_for(tmp_path):
    load(tmp_path, settings=SETTINGS[:1])
    load(tmp_path, settings=iter(SETTINGS[::-1]))
    assert [(c["width"], c["seed"]) for c in calls] == [(8, 1), (8, 0), (4, 1)]
    record = load(tmp_path, settings=SETTINGS[2:])
    assert [done.setting for done in record.finished] == SETTINGS[2:]
    assert calls == []


def test_arrays_are_found_by_what_tells_them_apart(tmp_path):
    record = load(tmp_path)
    assert float(record.arrays(width=8, seed=0)["psnr"]) == 28.0
    with refused(RecordError, r"2 settings of 06-width have \{'width': 8\}; name one of \{'width': 4"):
        record.arrays(width=8)
    with refused(RecordError, r"0 settings of 06-width have \{'width': 5\}"):
        record.arrays(width=5)
    with refused(RecordError, "0 settings of 06-width have"):
        record.arrays(depth=5)


def test_a_training_run_is_stored(tmp_path):
    def learn(width):
        network = build(vanilla(1, 3), channels=1, width=width, generator=generator(0))
        image = picture(1, 6, 6, dtype=torch.float32)
        *_, last = train(network, image, image, optimizer=Adam(), steps=2)
        return {"loss": last.loss, "weights": next(network.parameters())}

    runs = [load_or_run("train", {"width": 4}, learn, folder=tmp_path) for _ in range(2)]
    assert runs[1].finished[0].loaded
    assert runs[0].arrays()["weights"].tobytes() == runs[1].arrays()["weights"].tobytes()


# -------------------------------------------------------------------------- interrupted, recomputed


@pytest.mark.parametrize("number", [0, 1, 3])
def test_an_interrupted_run_goes_on_behind_its_last_finished_setting(tmp_path, number):
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path, stop_at(number))
    assert len(list(tmp_path.glob("*.npz"))) == (number > 0)
    load(tmp_path)
    assert [(c["width"], c["seed"]) for c in calls] == [(s["width"], s["seed"]) for s in SETTINGS[number:]]
    load(tmp_path)
    assert calls == []


def test_recomputing_replaces_settings_as_they_are_finished(tmp_path):
    load(tmp_path)
    record = load(tmp_path, recompute=True)
    assert len(calls) == 4
    assert not any(done.loaded for done in record.finished)
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path, stop_at(1), recompute=True)
    record = load(tmp_path)
    assert calls == []
    assert ["interrupted" in done.stamp["code"] for done in record.finished] == [True, False, False, False]


def renewed(size, width, seed):
    """``measure`` in other code, with the rounding of another machine."""
    return {name: np.asarray(value) * (1 + 1e-6) for name, value in measure(size, width, seed).items()}


def wrong(size, width, seed):
    return {**measure(size, width, seed), "curve": np.zeros(size)}


def reshaped(size, width, seed):
    return {**measure(size, width, seed), "steps": [1, 2]}


def test_a_recheck_computes_one_setting_and_renews_the_stamps_of_all(tmp_path):
    old = load(tmp_path)
    changed = load(tmp_path, renewed)
    assert not calls
    assert "renewed" in changed.changed
    checked = load(tmp_path, renewed, recompute="cheapest")
    assert len(calls) == 1
    assert not checked.changed
    assert "rechecked 20" in checked.describe()
    for before, after in zip(old.finished, checked.finished, strict=True):
        assert after.loaded
        assert after.stamp["date"] == before.stamp["date"]
        for name in before.arrays:
            assert np.array_equal(before.arrays[name], after.arrays[name])
    assert not load(tmp_path, renewed).changed


@pytest.mark.parametrize("other", [wrong, reshaped])
def test_a_recheck_refuses_another_result_and_renews_nothing(tmp_path, other):
    load(tmp_path)
    with refused(RecordError, "curve is|steps is"):
        load(tmp_path, other, recompute="cheapest")
    assert other.__name__ in load(tmp_path, other).changed


def test_a_recheck_without_a_stored_run_computes_it(tmp_path):
    assert not load(tmp_path, recompute="cheapest").finished[0].loaded
    assert len(calls) == len(SETTINGS)


@pytest.mark.parametrize("ending", [".npz", ".json"])
def test_a_write_that_is_cut_off_leaves_the_old_run_or_the_new(tmp_path, monkeypatch, ending):
    """The disc is full after half of one of the two files: the numbers, then the text for readers."""
    load(tmp_path, settings=SETTINGS[:2])
    write = Path.write_bytes

    def fail(path, content):
        fails = content.startswith(b"PK") == (ending == ".npz")
        write(path, content[: len(content) // (2 if fails else 1)])
        if fails:
            raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with refused(RecordError, r"cannot be stored \(no space left.*as it was; make room on the disc"):
        load(tmp_path)
    assert not list(tmp_path.glob("*.part"))
    monkeypatch.undo()
    load(tmp_path)
    assert len(calls) == (2 if ending == ".npz" else 1)
    assert len(json.loads(only(tmp_path, ".json").read_text("utf-8"))["settings"]) == 4


@pytest.mark.parametrize("keep", [0, 3, 400, -30])
def test_a_file_that_is_cut_short_is_refused_with_the_remedy(tmp_path, keep):
    load(tmp_path)
    path = only(tmp_path, ".npz")
    path.write_bytes(path.read_bytes()[:keep])
    with refused(RecordError, rf"{path.name} is broken.*delete it to compute the run anew"):
        load(tmp_path)
    path.unlink()
    load(tmp_path)
    assert len(calls) == 4


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_a_flipped_bit_is_refused(tmp_path, place):
    """In what the zip's checksums cover, which is nearly all."""
    load(tmp_path)
    path = only(tmp_path, ".npz")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as file:
        entry = file.infolist()[int(place * len(file.infolist()))]
    content[entry.header_offset + 30 + len(entry.filename) + 25 + entry.compress_size // 2] ^= 16
    path.write_bytes(content)
    with refused(RecordError, "is broken"):
        load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {"text": np.array("no json")},
        {"text": np.array('{"settings": [{"setting": {}}]}')},
        {"text": np.array("[]")},
        {"other": np.zeros(3)},
        {"text": np.array([{"pickled": True}], dtype=object)},
    ],
    ids=["no json", "no stamp", "no settings", "no text", "pickle"],
)
def test_another_file_under_its_name_is_refused(tmp_path, content):
    load(tmp_path)
    np.savez(only(tmp_path, ".npz"), **content)
    with refused(RecordError, "is broken, or no stored run"):
        load(tmp_path)


# --------------------------------------------------------------------------------------- provenance


def test_the_line_says_what_was_done_where_with_what_and_when(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path, stop_at(3))
    record = load(tmp_path)
    line = record.describe()
    assert "\n" not in line
    assert line.startswith("06-width (size=5); 3 of 4 settings loaded, made in ")
    assert "; 1 of 4 settings computed, made in " in line
    for word in (
        f"Python {platform.python_version()}",
        f"numpy {np.__version__}",
        f"torch {torch.__version__}",
        f"{len(os.sched_getaffinity(0))} cores",
    ):
        assert line.count(word) == 2
    assert re.search(r"20\d\d-\d\d-\d\d, commit ([0-9a-f]{7,}( with changes)?|unknown)", line)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:]{8}\+00:00", record.finished[0].stamp["date"])


def test_the_commit_is_that_of_the_sources_or_unknown(tmp_path, monkeypatch):
    asked = ["git", "log", "-1", "--format=%h", "--abbrev=7", "--", "src/dipfilters"]
    head = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    commit = load(tmp_path / "here").finished[0].stamp["commit"]
    assert commit.removesuffix(" with changes") == (head.stdout.strip() or "unknown")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert load(tmp_path / "without git").finished[0].stamp["commit"] == "unknown"


def test_no_path_and_no_name_of_the_machine_is_stored(tmp_path):
    load(tmp_path)
    text = only(tmp_path, ".json").read_text("utf-8")
    private = {str(tmp_path), str(Path.cwd()), str(Path.home()), platform.node(), f"/{getpass.getuser()}"}
    assert not [word for word in private if word in text]


# ------------------------------------------------------------------------------------ changed code


BASE = '''
    """A module."""
    from dipfilters import psnr

    FACTOR = 3
    SHAPES = {"plain": (1, 7), "deep": (3, [0.5, None])}
    OTHER = {"a": object()}

    def unused():
        return 1

    def helper(x):
        return 2 * x + 0 * len(SHAPES) + 0 * len(OTHER)

    def measure(size, width, seed):
        """Measure."""
        return {"x": helper(size) + width + seed, "text": len(f"a {size}")}
'''


def compute_from(folder, source):
    """The function ``measure`` of a module with this source, as if it was always the same module."""
    path = folder / f"m{abs(hash(source))}.py"
    path.write_text(textwrap.dedent(source), "utf-8")
    spec = importlib.util.spec_from_file_location("a_module", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.measure


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ('"""Measure."""', '"""Measure it\n        well."""', []),
        ("        return 2 * x", "\n        # twice\n        return  2*x", []),
        ("        return 1", "        return 2", []),
        ("2 * x", "3 * x", ["helper"]),
        ("FACTOR = 3", "FACTOR = 4", []),
        ("0.5, None", "0.6, None", ["SHAPES"]),
        ("object()", "object", []),
        ("+ width", "- width", ["measure"]),
        ("helper(size) +", "helper(size) * psnr.__name__.count('p') +", ["dipfilters.images", "measure"]),
        ("helper(size) +", "size +", ["SHAPES", "helper", "measure"]),
        ('f"a {size}"', 'f"b {size}"', ["measure"]),
    ],
)
def test_the_line_says_which_code_changed_since(tmp_path, old, new, changed):
    (tmp_path / "code").mkdir()
    load(tmp_path, compute_from(tmp_path / "code", BASE))
    assert old in BASE
    record = load(tmp_path, compute_from(tmp_path / "code", BASE.replace(old, new)))
    assert all(done.loaded for done in record.finished)
    assert record.changed == changed
    sign = f"; THE CODE CHANGED SINCE: {', '.join(changed)}; recompute=True runs it anew"
    assert record.describe().endswith(sign) == bool(changed)
    assert ("CHANGED" in record.describe()) == bool(changed)


@pytest.mark.parametrize("recompute", ["all", "True", 1, None])
def test_an_unknown_way_to_recompute_is_refused(tmp_path, recompute):
    with refused(RecordError, 'recompute must be True, False or "cheapest", got'):
        load(tmp_path, compute_from(tmp_path, BASE), recompute=recompute)


def test_an_indent_is_code():
    bodies = ["if x:\n    a()\n    b()\n", "if x:\n    a()\nb()\n"]
    assert _meaning(bodies[0])[0] != _meaning(bodies[1])[0]


def test_every_version_of_python_reads_the_same():
    """Python 3.11 takes an f-string for one token, later versions for many: the text is that of both."""
    source = 'a = f"{{x}} {{{x!r}}} {x:>{y}}" {"b": {1: 2}}'
    assert _meaning(source)[0] == 'a=f"{x}{x!r}{x:>{y}"{"b":{1:2}NEWLINE'


def test_the_modules_that_a_function_reaches_are_its_code(tmp_path):
    """Those that tools/sources.py finds in the syntax trees, by another way."""

    def learn(width):
        return {"x": len([train, build, vanilla]) + width}

    code = load_or_run("code", {"width": 1}, learn, folder=tmp_path).code
    used = Package(ROOT).used_by(["from dipfilters import train, build, vanilla"], "a cell")
    assert set(code) - {"learn"} == used


def test_a_use_that_cannot_be_told_counts_for_the_whole_package(tmp_path):
    """All but the list of names itself, which grows with every new one; no figure is drawn here."""

    def whole(width):
        return {"x": len(dipfilters.__all__) + width}

    code = load_or_run("whole", {"width": 1}, whole, folder=tmp_path).code
    apart = ("plots", "figures", "checks")
    assert set(code) == {f"dipfilters.{name}" for name in LAYERS if not name.startswith(apart)} | {"whole"}


def test_a_function_of_a_cell_has_its_source(tmp_path):
    """In a kernel the source of a function is that of its cell."""
    cells = [
        "from dipfilters import load_or_run, psnr",
        "def helper(x):\n    return 2 * x",
        "def measure(x):\n    return {'y': helper(x), 'name': len(psnr.__name__)}",
        f"print(sorted(load_or_run('cell', {{'x': 1}}, measure, folder={str(tmp_path)!r}).code))",
    ]
    shell = "from IPython.core.interactiveshell import InteractiveShell as S\ns = S.instance()\n"
    program = shell + "".join(f"s.run_cell({cell!r}).raise_error()\n" for cell in cells)
    environment = {**os.environ, "PYTHONPATH": "src", "IPYTHONDIR": str(tmp_path / "ipython")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
        env=environment,
    )
    assert done.stdout.splitlines()[-1] == "['dipfilters.images', 'helper', 'measure']"


# ------------------------------------------------------------------------------------------- doors


def test_what_cannot_be_stored_is_refused_before_anything_is_computed(tmp_path):
    with refused(RecordError, "name must consist of letters, digits, - and _, got '../06'"):
        load_or_run("../06", {}, measure, folder=tmp_path)
    for value in (Path("x"), float("nan"), torch.zeros(2), np.int64(3)):
        with refused(RecordError, "parameters must be numbers, text or lists of them"):
            load(tmp_path, parameters={"size": value})
    with refused(RecordError, "setting must be numbers, text or lists of them"):
        load(tmp_path, settings=[{"width": {1, 2}}])
    for function in (partial(measure, size=3), len):
        with refused(RecordError, "has no source to tell changes by; write it with def"):
            load(tmp_path, function)
    assert calls == []
    assert list(tmp_path.iterdir()) == []


def test_results_that_would_be_pickled_are_refused(tmp_path):
    with refused(RecordError, "compute must give arrays of numbers, got .*Adam.* for 'x'"):
        load(tmp_path, lambda size, width, seed: {"x": Adam()})
    assert not list(tmp_path.glob("*.npz"))


def test_a_value_that_is_given_twice_is_refused_by_the_call(tmp_path):
    with annotations_off(), pytest.raises(TypeError, match="multiple values for keyword argument 'size'"):
        load(tmp_path, settings=[{"size": 3, "width": 1, "seed": 0}])
