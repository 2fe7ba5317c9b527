"""Run the points of a study on dask.distributed, and keep each as soon as it is finished.

Nothing is scheduled here: workers, queues, lost workers and second tries are the library's.
"""

from __future__ import annotations

import hashlib
import importlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from dipfilters.provenance import Package, code_of, commit, digest, hardware, versions
from studies.table import Outcome, Point, Row, Store, Value, as_row, file_name, key

if TYPE_CHECKING:  # a reader of the tables needs no scheduler
    from distributed import Client

STUDIES = {
    "own-kernel": "studies.own_kernel",
    "hour-glass": "studies.hour_glass",
    "optimisers": "studies.optimisers",
}

# What a row says of where it comes from.
STAMP = ("study", "profile", "commit", "code", "hardware", "threads", "seconds", "date", "versions")

_ROOT = Path(__file__).parent.parent
_SHARED = ("scenes.py", "learners.py")  # code that points of several studies call


class StudyError(RuntimeError):
    """A study that cannot be run, or points that failed; the message says which, and what to do."""


@dataclass(frozen=True)
class Setting:
    """Where a point is computed, which changes none of its parameters.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``, one worker for each card.
        pictures: The folder of a reader's own pictures, or None.
    """

    device: str = "cpu"
    pictures: str | None = None


def content(point: Point, folder: str) -> str:
    """The digest of the files that a point's pictures come from."""
    files = [Path(folder) / str(point[name]) for name in ("picture", "other") if name in point]
    return digest(" ".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files))


def module_of(study: str) -> ModuleType:
    """The file of a study, by its name in :data:`STUDIES` or as a module, such as ``my.study``.

    Raises:
        StudyError: No such study.
    """
    name = STUDIES.get(study, study)
    try:
        module = importlib.import_module(name)
    except (ModuleNotFoundError, ValueError) as error:  # the second for an empty name
        if isinstance(error, ModuleNotFoundError) and not name.startswith(str(error.name)):
            raise  # a library is missing, not the study
        raise StudyError(f"no study {study!r}; there are {', '.join(STUDIES)}") from error
    return module


def computed(study: str, point: Point, setting: Setting) -> tuple[Row, dict[str, np.ndarray]]:
    """One point, computed here with one thread: its row, and its pictures."""
    torch.set_num_threads(1)
    device = setting.device
    if device == "cuda":
        device = f"cuda:{_number_of_worker() % torch.cuda.device_count()}"
    begun = time.perf_counter()
    settings = {name: value for name, value in point.items() if name != "content"}
    outcome: Outcome = module_of(study).point(**settings, device=device, folder=setting.pictures)
    seconds = time.perf_counter() - begun
    stamp: dict[str, Value] = {
        "study": study,
        "commit": _commit(),
        "code": code(study),
        "hardware": hardware(device),
        "threads": 1,
        "seconds": round(seconds, 3),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": ", ".join(f"{n} {v}" for n, v in _versions().items()),
    }
    return as_row(point, outcome, stamp), dict(outcome.pictures)


def _number_of_worker() -> int:
    from distributed import get_worker

    try:
        return int(get_worker().name)
    except (ValueError, TypeError):
        return 0


@cache
def code(study: str) -> str:
    """The digest of all code that a study's points reach, here and in the package."""
    reached = code_of(module_of(study).point)
    beside = [Path(__file__).with_name(name).read_text("utf-8") for name in _SHARED]
    called = Package().digests(beside, "what studies share")
    return digest(repr([sorted(reached.items()), sorted(called.items()), [digest(text) for text in beside]]))


@cache
def _commit() -> str:
    return commit(_ROOT, "src", "studies")


@cache
def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **versions("torch", "numpy", "scipy", "scikit-image")}


@contextmanager
def workers(cluster: str | None, number: int | None, device: str) -> Iterator[Client]:
    """A client of the scheduler at an address, or of workers on this machine, each with one thread."""
    from distributed import Client, LocalCluster

    if cluster is not None:
        with Client(cluster, timeout="20s") as client:
            yield client
        return
    if number is None:
        number = torch.cuda.device_count() if device == "cuda" else 2
    if number < 1:
        raise StudyError(f"there must be a worker, got {number}; without a card leave out DEVICE=cuda")
    options = {
        "n_workers": number,
        "threads_per_worker": 1,
        "dashboard_address": "127.0.0.1:0",
        "silence_logs": 50,
    }
    # A worker's memory is left to the system: points hold few arrays, and large ones.
    with LocalCluster(memory_limit=0, **options) as local, Client(local) as client:
        yield client


def run(
    study: str,
    *,
    profile: str = "full",
    out: Path,
    setting: Setting = Setting(),
    cluster: str | None = None,
    number: int | None = None,
    where: Mapping[str, Value] | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Compute the points of a study that are not stored yet, and store each.

    Args:
        study: A key of :data:`STUDIES`, or a module.
        profile: ``"full"``, or ``"quick"`` for the same points at tiny size.
        out: The folder of the table.
        setting: Where points are computed.
        cluster: The address of a scheduler; None starts workers here.
        number: How many; None is two, or one for each card.
        where: Only points whose parameters have these values.
        say: What prints a line.

    Returns:
        The table's file.

    Raises:
        StudyError: An unknown study; another run of it in this folder; points that failed, when all others
            are stored.
    """
    module = module_of(study)
    profiles = getattr(module, "PROFILES", ("full", "quick"))
    if profile not in profiles:
        raise StudyError(f"{study} has no profile {profile!r}; there are {', '.join(profiles)}")
    points: Sequence[Point] = module.points(profile, setting.pictures)
    if setting.pictures is not None:  # another file of the same name is another picture
        points = [
            {**point, "content": content(point, setting.pictures)} if "picture" in point else point
            for point in points
        ]
    asked = dict(where or {})
    if unknown := asked.keys() - {name for point in points for name in point}:
        raise StudyError(f"{study} has no parameter {unknown.pop()!r} to choose points by")
    points = [point for point in points if all(point.get(name) == value for name, value in asked.items())]
    if not points:
        raise StudyError(f"no point of {study}, {profile}, has {asked}")
    store = Store(file_name(study, profile), out)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / f"{store.name}.lock", timeout=0):
            failed = _compute(study, profile, points, store, setting, cluster, number, say)
            store.compact(key(point) for point in points)
    except Timeout as error:
        raise StudyError(f"another run of {study} is going on in {out}; wait for it, or stop it") from error
    if failed:
        first = "\n".join(f"{point}: {reason}" for point, reason in failed[:5])
        raise StudyError(f"{len(failed)} of {len(points)} points failed; run again to try them anew\n{first}")
    return store.path


def _compute(
    study: str,
    profile: str,
    points: Sequence[Point],
    store: Store,
    setting: Setting,
    cluster: str | None,
    number: int | None,
    say: Callable[[str], None],
) -> list[tuple[Point, str]]:
    table = store.read()
    stored = (
        {} if table is None else dict(zip(table["key"].to_pylist(), table["code"].to_pylist(), strict=True))
    )
    waiting = [point for point in points if key(point) not in stored]
    older = sum(made != code(study) for made in stored.values())
    say(f"{study}, {profile}: {len(points)} points, {len(points) - len(waiting)} of them stored")
    if older:
        files = f"{store.name}.parquet and {store.name}.parts"
        say(f"{older} stored points were made by other code; to have them anew, delete {files}")
    failed: list[tuple[Point, str]] = []
    if not waiting:
        return failed
    from distributed import as_completed

    with workers(cluster, number, setting.device) as client:
        task = f"{study}-{code(study)}-{setting.device}"  # others may compute on this scheduler too
        futures = {
            client.submit(computed, study, point, setting, key=f"{task}-{key(point)}", retries=1): point
            for point in waiting
        }
        bar = tqdm(total=len(waiting), desc=study, unit="point", smoothing=0.0)
        for future in as_completed(futures):
            if future.status == "finished":
                row, pictures = future.result()
                store.add({**row, "profile": profile}, pictures)
            else:
                failed.append((futures[future], repr(future.exception())))
            future.release()
            bar.update()
        bar.close()
    return failed
