"""Stored runs: what a long computation gave, beside all that is needed to judge it.

A run consists of settings, each stored as soon as it is finished in NAME-PARAMETERS.npz: the numbers, and as
text what was computed, where, when and by which code. The file holds no code and no path. A lock file lies
beside it while a run is stored, and is empty.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from dipfilters.provenance import SourceError, code_of, commit, digest, hardware, versions

Arrays = dict[str, np.ndarray]
Values = dict[str, Any]

_LOCK_SECONDS = 60  # to read and write takes a fraction of one

# Training is chaotic: what other versions of a library round otherwise grows with each step, as far as a per
# cent or so, and further on another processor.
_TOLERANCE = 0.02


class RecordError(RuntimeError):
    """A run that cannot be stored, or a stored one that cannot be read; the message names the remedy."""


@dataclass(frozen=True, eq=False)
class StoredSetting:
    """One setting of a run, and what it gave.

    Attributes:
        setting: The values in which it differs from the run's other settings.
        arrays: What was computed.
        seconds: How long that took.
        stamp: By which code (a digest of each piece), commit, hardware and versions, and when (UTC).
        loaded: Whether it was stored already, and not computed now.
    """

    setting: Values
    arrays: Arrays = field(repr=False)
    seconds: float
    stamp: Values = field(repr=False)
    loaded: bool


@dataclass(frozen=True, eq=False)
class Record:
    """A run as :func:`load_or_run` gives it.

    Attributes:
        name: Its name.
        parameters: What all its settings share.
        finished: Its settings, in the order asked for.
        code: The digests of the code as it is now.
    """

    name: str
    parameters: Values
    finished: tuple[StoredSetting, ...]
    code: dict[str, str] = field(repr=False)

    def arrays(self, **setting: Any) -> Arrays:
        """What the one setting with these values gave.

        Raises:
            RecordError: No setting has them, or several.
        """
        wanted = _plain("setting", setting)
        found = [done for done in self.finished if _key({**done.setting, **wanted}) == _key(done.setting)]
        if len(found) != 1:
            known = ", ".join(str(done.setting) for done in self.finished)
            raise RecordError(f"{len(found)} settings of {self.name} have {wanted}; name one of {known}")
        return found[0].arrays

    @property
    def changed(self) -> list[str]:
        """The pieces of code that are not what they were when a setting was computed; empty if all are."""
        pieces = {piece for done in self.finished for piece in done.stamp["code"].items() ^ self.code.items()}
        return sorted({name for name, _ in pieces})

    def describe(self) -> str:
        """In one line: what was loaded and what computed, where, with what, when, and if the code changed."""
        line = f"{self.name} ({', '.join(f'{name}={value}' for name, value in self.parameters.items())})"
        for loaded, verb in ((True, "loaded"), (False, "computed")):
            group = [done for done in self.finished if done.loaded == loaded]
            if group:
                seconds, places = sum(done.seconds for done in group), [_place(done.stamp) for done in group]
                line += f"; {len(group)} of {len(self.finished)} settings {verb}, made in {seconds:.3g} s on "
                line += " and on ".join(dict.fromkeys(places))
        if self.changed:
            line += f"; THE CODE CHANGED SINCE: {', '.join(self.changed)}; recompute=True runs it anew"
        return line


def load_or_run(
    name: str,
    parameters: Mapping[str, Any],
    compute: Callable[..., Mapping[str, Any]],
    *,
    folder: str | os.PathLike[str],
    settings: Iterable[Mapping[str, Any]] = ({},),
    recompute: bool | Literal["cheapest"] = False,
    device: str | torch.device = "cpu",
) -> Record:
    """Load the stored run of this name that has these parameters; compute and store what it lacks.

    ::

        compute(**parameters, **setting)   for each setting that is not stored

    An interrupted run goes on behind its last finished setting. Two processes may compute one run: each adds
    what it finished to what the other did.

    Args:
        name: The run's name: letters, digits, - and _.
        parameters: Plain values (numbers, text, lists of them) that all settings share. Another value is
            another run, stored beside this one.
        compute: A function that gives arrays, tensors or numbers by their names. They are stored in their
            dtype: a picture as ``z.half()`` or in bytes keeps the files small. Its code is what
            :func:`dipfilters.provenance.code_of` says. A device, or another object that is not plain, may be
            taken from around it, and does not tell one run from another.
        folder: Where runs are stored; it is made if it is not there.
        settings: The plain values in which the settings differ; may be wrapped in a progress bar.
        recompute: True computes all settings, stored or not; each replaces its old one as it is finished.
            ``"cheapest"`` computes the stored setting that took the least time once more: where it gives what
            is stored, all settings are stamped as made by the code of now, and nothing else is computed.
        device: Where ``compute`` computes, for the stamp; the name of a graphics card is noted.

    Raises:
        RecordError: A name, values, results or a function that cannot be stored; a stored run that cannot be
            read, or is another run; a folder that cannot be written, which is found before anything is
            computed; a full disc; the cheapest setting gives something else than is stored.

    Cost: the whole run is read and written again after each setting, which suits runs of a few megabytes.
    """
    if not (isinstance(recompute, bool) or recompute == "cheapest"):
        raise RecordError(f'recompute must be True, False or "cheapest", got {recompute!r}')
    if not re.fullmatch(r"[\w-]+", name):
        raise RecordError(f"name must consist of letters, digits, - and _, got {name!r}")
    shared = _plain("parameters", parameters)
    try:
        code = code_of(compute)
    except SourceError as error:
        raise RecordError(str(error)) from error
    head = {"name": name, "parameters": shared}
    path = Path(folder) / f"{name}-{digest(_key(shared))[:8]}.npz"
    stored = _read(path, head)
    stamp = {
        "code": code,
        "commit": commit(Path(__file__).parent),
        "hardware": hardware(str(device)),
        "python": platform.python_version(),
        "versions": versions("numpy", "torch"),
    }
    if recompute == "cheapest" and stored:
        _recheck(name, min(stored, key=lambda done: done.seconds), compute, parameters)
        checked = {"code": code, "rechecked": f"{datetime.now(UTC):%Y-%m-%d}, commit {stamp['commit']}"}
        stored = _store(path, head, [replace(done, stamp={**done.stamp, **checked}) for done in stored])
    finished = []
    for setting in settings:
        values = _plain("setting", setting)
        done = _find(stored, values)
        if done is None:  # another process may have finished it, and the folder must be one to write in
            stored = _store(path, head, [])
            done = _find(stored, values)
        if recompute is True or done is None:
            now, begun = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
            arrays = _arrays(compute(**parameters, **setting))
            seconds = round(time.monotonic() - begun, 3)
            done = StoredSetting(values, arrays, seconds, {**stamp, "date": now}, loaded=False)
            stored = _store(path, head, [done])
        finished.append(done)
    return Record(name, shared, tuple(finished), code)


def _recheck(
    name: str, done: StoredSetting, compute: Callable[..., Any], parameters: Mapping[str, Any]
) -> None:
    """Compute a finished setting again, and refuse another result."""
    again = _arrays(compute(**parameters, **done.setting))
    for key in sorted(again.keys() | done.arrays.keys()):
        now, then = again.get(key), done.arrays.get(key)
        if now is None or then is None or now.shape != then.shape or now.dtype != then.dtype:
            raise RecordError(f"{name}, {done.setting}: {key} has another shape or dtype now; recompute")
        if now.dtype.kind not in "biufc":
            same = np.array_equal(now, then)
        else:  # infinite values and NaN must stand where they stood, and bytes must not wrap around
            now, then = (np.stack([array.real, array.imag]).astype(float) for array in (now, then))
            atol = _TOLERANCE * float(np.abs(then[np.isfinite(then)]).max(initial=0.0))
            same = np.allclose(now, then, rtol=0.0, atol=atol, equal_nan=True)
        if not same:
            raise RecordError(
                f"{name}, {done.setting}: {key} is more than {_TOLERANCE:.0%} of its largest value off what "
                f"is stored; compare on the hardware that made it, {done.stamp['hardware']}; if it differs "
                f"there too, the code of now gives another result: run it anew with recompute=True"
            )


def _plain(name: str, values: Mapping[str, Any]) -> Values:
    """The values as a JSON file gives them back."""
    try:
        plain: Values = json.loads(json.dumps(dict(values), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise RecordError(f"{name} must be numbers, text or lists of them, got {values} ({error})") from error
    return plain


def _key(values: Values) -> str:
    """A text by which values are told apart: 1, 1.0 and True are three."""
    return json.dumps(values, sort_keys=True)


def _arrays(result: Mapping[str, Any]) -> Arrays:
    """The results of ``compute`` as arrays that a file can hold."""
    if not isinstance(result, Mapping):
        raise RecordError(f"compute must return arrays by their names, got {type(result).__name__}")
    arrays = {}
    for name, value in result.items():
        try:
            arrays[name] = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
        except (TypeError, ValueError) as error:  # a bfloat16, a list of lists of several lengths
            raise RecordError(f"compute must return arrays of numbers; {name!r}: {error}") from error
        if arrays[name].dtype == object:
            raise RecordError(f"compute must return arrays of numbers, got {value!r} for {name!r}")
    return arrays


def _find(stored: list[StoredSetting], setting: Values) -> StoredSetting | None:
    return next((done for done in stored if _key(done.setting) == _key(setting)), None)


def _store(path: Path, head: Values, new: list[StoredSetting]) -> list[StoredSetting]:
    """Store settings, each in the place of its old one or behind the others; all that is stored then."""
    with _locked(path):
        stored = {_key(done.setting): done for done in _read(path, head)}
        stored |= {_key(done.setting): done for done in new}
        if new:
            _write(path, head, list(stored.values()))
    return list(stored.values())


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Between reading and writing no other process adds to the run. A dead process holds nothing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=_LOCK_SECONDS):
            yield
    except Timeout as error:
        raise RecordError(
            f"another process has held {path.name} for {_LOCK_SECONDS} s; wait for it, or end it"
        ) from error
    except OSError as error:
        raise RecordError(
            f"{path.name} cannot be stored ({error}); what was stored before is as it was; make room on the "
            f"disc, or name a folder that you may write in"
        ) from error


def _write(path: Path, head: Values, finished: list[StoredSetting]) -> None:
    """Beside the old file, which is then replaced: an interruption leaves one or the other, never a half."""
    settings = [{name: getattr(d, name) for name in ("setting", "seconds", "stamp")} for d in finished]
    named: Any = {f"{i}/{k}": array for i, done in enumerate(finished) for k, array in done.arrays.items()}
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            np.savez_compressed(file, text=np.array(json.dumps({**head, "settings": settings})), **named)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _read(path: Path, head: Values) -> list[StoredSetting]:
    """The stored settings of the run that ``head`` names; nothing is unpickled."""
    if not path.exists():
        return []
    finished = []
    try:
        numbers = dict(np.load(io.BytesIO(path.read_bytes()), allow_pickle=False))
        if strange := [key for key, array in numbers.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"no array under {strange[0]}")
        text = json.loads(str(numbers["text"]))
        for i, entry in enumerate(text["settings"]):
            arrays = {key.partition("/")[2]: numbers[key] for key in numbers if key.startswith(f"{i}/")}
            done = StoredSetting(**entry, arrays=arrays, loaded=True)
            _place(done.stamp), dict(done.setting), dict(done.stamp["code"]), float(done.seconds)
            finished.append(done)
        found = {name: text[name] for name in head}
    except Exception as error:  # whatever a foreign file makes of zipfile, numpy and json
        raise RecordError(
            f"{path.name} is broken, or no stored run ({type(error).__name__}: {error}); fetch it again, or "
            f"delete it to compute the run anew"
        ) from error
    if _key(found) != _key(head):
        raise RecordError(f"{path.name} holds another run, {found}, not {head}; give it back its own name")
    return finished


def _place(stamp: Values) -> str:
    libraries = ", ".join(f"{name} {version}" for name, version in stamp["versions"].items())
    date, made = stamp["date"][:10], stamp["commit"]
    again = f", rechecked {stamp['rechecked']}" if "rechecked" in stamp else ""
    return f"{stamp['hardware']}, Python {stamp['python']}, {libraries}, {date}, commit {made}{again}"
