"""The record of a run, `metadata.dipfilters.run`: what a page was computed from, by whom and how long."""

import datetime
import hashlib
import os
import platform
import re
import subprocess
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from tools import notebooks
from tools.errors import PictureMissing
from tools.sources import PACKAGE, Package, digest

VERSIONS = ("torch", "numpy", "numba", "scipy", "scikit-image", "matplotlib")
LOCK = "requirements.lock"


def stored(notebook: NotebookNode) -> dict[str, Any] | None:
    """The record of the notebook's last run."""
    run: dict[str, Any] | None = notebook.metadata.get(PACKAGE, {}).get("run")
    return run


def inputs(notebook: NotebookNode, name: str, package: Package, folder: Path | None = None) -> dict[str, Any]:
    """All that decides the notebook's outputs, as it stands now; a picture is looked for in `folder`."""
    values = notebooks.parameters(notebook, name)
    return {
        "parameters": values,
        "picture": picture(values["image"], folder) if "image" in values else None,
        "data": data(notebook, package),
        **code(notebook, name, package),
    }


def code(notebook: NotebookNode, name: str, package: Package) -> dict[str, Any]:
    """The code that decides the notebook's outputs: its cells, and the modules that they use."""
    sources = [cell.source for cell in notebooks.computing_cells(notebook)]
    return {"cells": [digest(source) for source in sources], "sources": package.digests(sources, name)}


def data(notebook: NotebookNode, package: Package) -> dict[str, str]:
    """The digests of the package's data files that the notebook names; too many rather than too few."""
    cells = "\n".join(cell.source for cell in notebooks.computing_cells(notebook))
    return {
        path.stem: digest(path.read_text("utf-8"))
        for path in sorted((package.root / "src" / PACKAGE / "data").glob("*.json"))
        if "data/" in cells and re.search(rf"\b{re.escape(path.stem)}\b", cells)
    }


def picture(name: str, folder: Path | None = None) -> dict[str, str]:
    """The name and digest of a bundled picture, or of a file, without its folder."""
    from dipfilters.images import (  # imports torch: a second that most need not spend
        PICTURES,
        PictureError,
        picture_path,
    )

    try:
        path = picture_path(name if folder is None or name in PICTURES else folder / name)
    except PictureError as error:
        raise PictureMissing(str(error)) from error
    return {"name": Path(name).name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def lock_digest(root: Path) -> str:
    """The digest of the lock file."""
    return digest((root / LOCK).read_text("utf-8"))


def provenance(root: Path, path: Path, device: str | None) -> dict[str, Any]:
    """Where and with what the run about to begin happens."""
    return {
        "commit": commit(root, path),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": hardware(device),
        "lock": lock_digest(root),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in VERSIONS},
    }


def commit(root: Path, path: Path) -> str:
    """The commit checked out, and whether what the run uses differs from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        head = git("rev-parse", "--short=7", "HEAD")
        changed = git("status", "--porcelain", "--", "src", LOCK, str(path.relative_to(root)))
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} with changes" if changed else head


def hardware(device: str | None) -> str:
    """The processor's name and cores; the graphics card's name where the run may use one."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    for line in info.read_text("utf-8").splitlines() if info.exists() else []:
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"{name}, {cores} cores"
    if device is not None and device != "cpu":
        import torch  # a second that runs without a device need not spend

        if torch.cuda.is_available():
            text += f", {torch.cuda.get_device_name()}"
    return text


def reasons(notebook: NotebookNode, name: str, package: Package) -> list[str]:
    """Why the notebook is not up to date; empty if it is."""
    run = stored(notebook)
    if run is None:
        return ["it was never run by `make execute` or `make book`"]
    now = inputs(notebook, name, package)
    return [
        *notebooks.problems(notebook),
        *_cell_reasons(notebook, run.get("cells", []), now["cells"]),
        *_named_reasons("parameter", run.get("parameters", {}), now["parameters"]),
        *_picture_reasons(run.get("picture"), now["picture"]),
        # A run of before these were recorded says nothing of them.
        *_named_reasons("data file", run.get("data", now["data"]), now["data"], show=False),
        *_named_reasons("module", run.get("sources", {}), now["sources"], show=False),
    ]


def _cell_reasons(notebook: NotebookNode, then: list[str], now: list[str]) -> list[str]:
    cells = notebooks.computing_cells(notebook)
    numbers = {cell.id: number for number, cell in enumerate(notebooks.code_cells(notebook), 1)}
    left = Counter(then)
    found = []
    for cell, value in zip(cells, now, strict=True):
        if left[value]:
            left[value] -= 1
        else:
            number, line = numbers[cell.id], notebooks.first_line(cell)
            found.append(f"code cell {number} ({line}) is new or changed")
    if not found and then != now:
        found.append("code cells were removed" if len(now) < len(then) else "code cells changed places")
    return found


def _picture_reasons(then: dict[str, str] | None, now: dict[str, str] | None) -> list[str]:
    if then is None or now is None or then["name"] != now["name"] or then == now:
        return []  # another name is another parameter, named there
    return [f"the picture {now['name']} changed"]


def _named_reasons(kind: str, then: dict[str, Any], now: dict[str, Any], show: bool = True) -> list[str]:
    found = []
    for name in sorted(then.keys() | now.keys()):
        if name not in now:
            found.append(f"{kind} {name} is no longer used")
        elif name not in then:
            found.append(f"{kind} {name} is used now and was not")
        elif then[name] != now[name]:
            found.append(f"{kind} {name} changed" + (f": {then[name]!r} → {now[name]!r}" if show else ""))
    return found
