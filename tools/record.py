"""The record of a run, `metadata.dipfilters.run`: what a page was computed from, by whom and how long."""

import datetime
import hashlib
import platform
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from dipfilters import provenance
from dipfilters.decoding import PictureError
from dipfilters.images import PICTURES, picture_path
from dipfilters.provenance import Package, SourceError, digest
from tools import notebooks
from tools.errors import BookError

PACKAGE = "dipfilters"
VERSIONS = ("torch", "numpy", "numba", "scipy", "scikit-image", "matplotlib")
LOCK = "requirements.lock"
NAMED = 4  # modules and files that a reason names; of more it gives the number


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
        **code(notebook, name, package),
    }


def code(notebook: NotebookNode, name: str, package: Package) -> dict[str, Any]:
    """The code that decides the notebook's outputs: its cells, and what they reach of the package."""
    sources = [cell.source for cell in notebooks.computing_cells(notebook)]
    try:
        pieces = package.digests(map(TransformerManager().transform_cell, sources), name)
    except SourceError as error:
        raise BookError(str(error)) from error
    pieces |= studies(sources, package.folder.parents[1])
    return {"cells": [digest(source) for source in sources], "sources": pieces}


def studies(sources: Collection[str], root: Path) -> dict[str, str]:
    """The digests of the studies' files that cells import, and of the tables that they name."""
    code = "\n".join(sources)
    imported = set(re.findall(r"^from studies(?:\.(\w+))? import", code, re.MULTILINE))
    files = {root / "studies" / f"{module or 'reading'}.py" for module in imported}
    if imported:
        tables = (root / "studies" / "results").glob("*.parquet")
        files |= {path for path in tables if f'"{path.stem}"' in code}
    found = {path: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in files if path.is_file()}
    return {path.relative_to(root).as_posix(): value for path, value in sorted(found.items())}


def picture(name: str, folder: Path | None = None) -> dict[str, str]:
    """The name and digest of a bundled picture, or of a file, without its folder."""
    try:
        path = picture_path(name if folder is None or name in PICTURES else folder / name)
    except PictureError as error:
        raise BookError(str(error)) from error
    return {"name": Path(name).name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def origin(root: Path, path: Path, device: str | None) -> dict[str, Any]:
    """Where and with what the run about to begin happens."""
    return {
        "commit": provenance.commit(root, "src", LOCK, str(path.relative_to(root))),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": provenance.hardware(device or "cpu"),
        "lock": digest((root / LOCK).read_text("utf-8")),
        "python": platform.python_version(),
        "versions": provenance.versions(*VERSIONS),
    }


def reasons(notebook: NotebookNode, name: str, package: Package) -> list[str]:
    """Why the notebook's outputs are older than what they are computed from; empty if they are not."""
    run = stored(notebook)
    if run is None:
        return ["it was never run by `make execute`"]
    now = inputs(notebook, name, package)
    return [
        *notebooks.problems(notebook),
        *_cell_reasons(notebook, run.get("cells", []), now["cells"]),
        *_parameter_reasons(run.get("parameters", {}), now["parameters"]),
        *_picture_reasons(run.get("picture"), now["picture"]),
        *_source_reasons(run.get("sources", {}), now["sources"]),
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


def _parameter_reasons(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    none = "not set"
    return [
        f"parameter {name} changed: {then.get(name, none)!r} → {now.get(name, none)!r}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name, none) != now.get(name, none)
    ]


def _picture_reasons(then: dict[str, str] | None, now: dict[str, str] | None) -> list[str]:
    if then is None or now is None or then["name"] != now["name"] or then == now:
        return []  # another name is another parameter, named there
    return [f"the picture {now['name']} changed"]


def _source_reasons(then: dict[str, str], now: dict[str, str]) -> list[str]:
    kinds = {
        "changed": {name for name in then.keys() & now.keys() if then[name] != now[name]},
        "no longer used": then.keys() - now.keys(),
        "newly used": now.keys() - then.keys(),
    }
    return [f"{kind}: {_listed(names)}" for kind, names in kinds.items() if names]


def _listed(names: Collection[str]) -> str:
    shown = sorted(names)[:NAMED]
    return ", ".join(shown) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
