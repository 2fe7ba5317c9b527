"""Stored runs: what a long computation gave, beside all that is needed to judge it.

A run consists of settings, each stored as soon as it is finished in NAME-PARAMETERS.npz: the numbers, and as
text what was computed, where, when and by which code. NAME-PARAMETERS.json is that text, for those who read.
No file holds code or a path. A lock file lies beside while a run is stored, and is empty.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import hashlib
import importlib
import inspect
import io
import json
import os
import platform
import re
import subprocess
import sys
import textwrap
import time
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

Arrays = dict[str, np.ndarray]
Values = dict[str, Any]

PACKAGE = __name__.partition(".")[0]


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
        found = [done for done in self.finished if {**done.setting, **wanted} == done.setting]
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
    what it finished to what the other did. What is not handed to ``compute`` but taken by it from around it,
    such as a device, does not tell one run from another.

    Args:
        name: The run's name: letters, digits, - and _.
        parameters: Plain values (numbers, text, lists of them) that all settings share. Another value is
            another run, stored beside this one.
        compute: A function that gives arrays, tensors or numbers by their names. They are stored in their
            dtype: a picture as ``z.half()`` or in bytes keeps the files small. As its code count itself, the
            functions and the plain values (numbers, text, architectures, collections of them) beside it that
            it names, and the modules of this package that any of these reach.
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
    shared, code = _plain("parameters", parameters), _code(compute)
    head = {"name": name, "parameters": shared}
    path = Path(folder) / f"{name}-{_digest(json.dumps(shared, sort_keys=True))[:8]}.npz"
    stored = _read(path, head)
    _mend(path)
    stamp = _stamp(code, torch.device(device))
    if recompute == "cheapest" and stored:
        _recheck(name, min(stored, key=lambda done: done.seconds), compute, parameters)
        checked = {"code": code, "rechecked": f"{datetime.now(UTC):%Y-%m-%d}, commit {stamp['commit']}"}
        stored = _add(path, head, [replace(done, stamp={**done.stamp, **checked}) for done in stored])
    finished = []
    for setting in settings:
        values = _plain("setting", setting)
        done = _find(stored, values)
        if done is None:  # another process may have finished it, and the folder must be one to write in
            stored = _add(path, head, [])
            done = _find(stored, values)
        if recompute is True or done is None:
            now, begun = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
            arrays = _arrays(compute(**parameters, **setting))
            seconds = round(time.monotonic() - begun, 3)
            done = StoredSetting(values, arrays, seconds, {**stamp, "date": now}, loaded=False)
            stored = _add(path, head, [done])
        finished.append(done)
    return Record(name, shared, tuple(finished), code)


def _recheck(
    name: str, done: StoredSetting, compute: Callable[..., Any], parameters: Mapping[str, Any]
) -> None:
    """Compute a finished setting again, and refuse another result."""
    again = _arrays(compute(**parameters, **done.setting))
    for key in sorted(again.keys() | done.arrays.keys()):
        now, then = again.get(key), done.arrays.get(key)
        if now is None or then is None or now.shape != then.shape:
            raise RecordError(f"{name}, {done.setting}: {key} is not of one shape then and now; recompute")
        a, b = now.astype(float), then.astype(float)
        off = float(np.nanmax(np.abs(a - b), initial=0.0)) / (float(np.nanmax(np.abs(b), initial=0.0)) or 1.0)
        if off > _AGREES or (np.isnan(a) != np.isnan(b)).any():
            raise RecordError(
                f"{name}, {done.setting}: {key} is {off:.1e} of its largest value off what is stored; the "
                f"code of now gives another result, so that the run must be computed anew (recompute=True)"
            )


# Training is chaotic: what other hardware rounds otherwise grows with each step, as far as a per cent or so.
_AGREES = 0.02


def _plain(name: str, values: Mapping[str, Any]) -> Values:
    """The values as a JSON file gives them back."""
    try:
        plain: Values = json.loads(json.dumps(dict(values), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise RecordError(f"{name} must be numbers, text or lists of them, got {values} ({error})") from error
    return plain


def _arrays(result: Mapping[str, Any]) -> Arrays:
    arrays = {k: np.asarray(v.detach().cpu() if isinstance(v, Tensor) else v) for k, v in result.items()}
    for name, array in arrays.items():
        if array.dtype == object:
            raise RecordError(f"compute must give arrays of numbers, got {result[name]!r} for {name!r}")
    return arrays


def _digest(text: str) -> str:
    """Sixteen hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _find(stored: list[StoredSetting], setting: Values) -> StoredSetting | None:
    return next((done for done in stored if done.setting == setting), None)


def _add(path: Path, head: Values, new: list[StoredSetting]) -> list[StoredSetting]:
    """Store settings, each in the place of its old one or behind the others; all that is stored then."""
    with _alone(path):
        stored = _read(path, head)
        for done in new:
            old = _find(stored, done.setting)
            place = len(stored) if old is None else stored.index(old)
            stored[place : place + 1] = [done]
        if new:
            _write(path, head, stored)
    return stored


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a run: between reading and writing no other process adds to it. A dead process holds nothing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=_PATIENCE):
            yield
    except Timeout as error:
        raise RecordError(
            f"another process has held {path.name} for {_PATIENCE} s; wait for it, or end it"
        ) from error
    except OSError as error:
        raise RecordError(
            f"{path.name} cannot be stored ({error}); what was stored before is as it was; make room on the "
            f"disc, or name a folder that you may write in"
        ) from error


_PATIENCE = 60  # seconds; to read and write takes a fraction of one


def _text(head: Values, finished: list[StoredSetting]) -> str:
    settings = [{name: getattr(d, name) for name in ("setting", "seconds", "stamp")} for d in finished]
    return json.dumps({**head, "settings": settings}, indent=1) + "\n"


def _write(path: Path, head: Values, finished: list[StoredSetting]) -> None:
    """The numbers, then the text for those who read."""
    text = _text(head, finished)
    named: Any = {f"{i}/{k}": array for i, done in enumerate(finished) for k, array in done.arrays.items()}
    numbers = io.BytesIO()
    np.savez_compressed(numbers, text=np.array(text), **named)
    _replace(path, numbers.getvalue())
    _replace(path.with_suffix(".json"), text.encode())


def _replace(path: Path, content: bytes) -> None:
    """Beside the old file, which is then replaced: an interruption leaves one or the other, never a half."""
    part = path.with_suffix(".part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _mend(path: Path) -> None:
    """Write the text for readers again where it is not that of the numbers: after a kill, or an edit."""
    beside = path.with_suffix(".json")

    def text() -> bytes:
        with np.load(path, allow_pickle=False) as numbers:
            return str(numbers["text"]).encode()

    with contextlib.suppress(RecordError, OSError):  # who only loads need not be able to write
        if path.exists() and not (beside.is_file() and beside.read_bytes() == text()):
            with _alone(path):
                _replace(beside, text())


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
    if found != head:
        raise RecordError(f"{path.name} holds another run, {found}, not {head}; give it back its own name")
    return finished


def _stamp(code: dict[str, str], device: torch.device) -> Values:
    return {
        "code": code,
        "commit": _commit(),
        "hardware": _hardware(device),
        "python": platform.python_version(),
        "versions": {"numpy": np.__version__, "torch": torch.__version__},
    }


def _place(stamp: Values) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in stamp["versions"].items())
    date, commit = stamp["date"][:10], stamp["commit"]
    again = f", rechecked {stamp['rechecked']}" if "rechecked" in stamp else ""
    return f"{stamp['hardware']}, Python {stamp['python']}, {versions}, {date}, commit {commit}{again}"


def _commit() -> str:
    """The last commit of this package, and whether its files differ from it; "unknown" outside a checkout."""

    def git(*words: str) -> str:
        command, here = ["git", *words, "--", "."], Path(__file__).parent
        return subprocess.run(command, cwd=here, capture_output=True, text=True, check=False).stdout.strip()

    try:
        head = git("log", "-1", "--format=%h", "--abbrev=7")
        return f"{head} with changes" if head and git("status", "--porcelain") else head or "unknown"
    except OSError:
        return "unknown"


def _hardware(device: torch.device) -> str:
    """The processor's name and cores, and the graphics card's name if the run uses one."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", info.read_text("utf-8") if info.exists() else "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"{(names or [platform.processor() or platform.machine()])[0]}, {cores} cores"
    return f"{text}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else text


def _code(compute: Callable[..., Any]) -> dict[str, str]:
    """A digest of each piece of code that ``compute`` reaches."""
    beside = str(getattr(compute, "__module__", ""))
    found: dict[str, str] = {}
    waiting: list[Any] = [_piece(compute, beside) or compute]
    seen: list[Any] = [None]
    while waiting:
        piece = waiting.pop()
        if piece in seen:
            continue
        seen.append(piece)
        try:
            source = textwrap.dedent(inspect.getsource(piece))
            meaning, names = _meaning(source)
        except (OSError, TypeError, SyntaxError, tokenize.TokenError) as error:
            raise RecordError(f"{piece!r} has no source to tell changes by; write it with def") from error
        scope = vars(piece) if isinstance(piece, ModuleType) else piece.__globals__
        if not isinstance(piece, ModuleType):
            taken = _taken(piece) & scope.keys()
            found |= {name: _digest(repr(scope[name])) for name in taken if _is_plain(scope[name])}
        waiting += [_piece(scope[name], beside) for name in names if name in scope]
        waiting += _imported(source)
        found[piece.__name__] = _digest(meaning)
    return {name: found[name] for name in sorted(found) if name != PACKAGE}  # which only lists names


def _piece(value: Any, beside: str) -> Any:
    """The code behind a value: its module if that is of this package, itself if it is a function beside."""
    module = str(value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", ""))
    if module.partition(".")[0] == PACKAGE:
        return sys.modules.get(module)
    return inspect.unwrap(value) if isinstance(value, FunctionType) and module == beside else None


def _taken(function: FunctionType) -> set[str]:
    """The names that a function, or one inside it, takes from around it."""
    waiting, found = [function.__code__], set[str]()
    while waiting:
        code = waiting.pop()
        found |= {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
        waiting += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
    return found


def _is_plain(value: Any) -> bool:
    """Whether a value's text says all of it, in every process alike."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, [*value, *value.values()]))
    if is_dataclass(value) and not isinstance(value, type):
        return all(_is_plain(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


def _imported(source: str) -> list[ModuleType]:
    """The modules of this package that imports in the code name, at whatever level."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(f"{PACKAGE}."):
            for name in (str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)):
                with contextlib.suppress(ModuleNotFoundError):  # a name in a module is no module
                    found.append(importlib.import_module(name))
    return found


def _meaning(source: str) -> tuple[str, set[str]]:
    """The code without comments, docstrings and spaces, and the names in it.

    Spaces and doubled braces go because Python 3.12 cuts f-strings into pieces, which 3.11 takes for one.
    """
    kept, names, begins = [], set(), True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.NL):
            continue
        turn = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        if not (begins and token.type == tokenize.STRING):
            kept.append(tokenize.tok_name[token.type] if turn else "".join(token.string.split()))
        if token.type == tokenize.NAME:
            names.add(token.string)
        begins = turn
    return re.sub(r"([{}])\1+", r"\1", "".join(kept)), names
