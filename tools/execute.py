"""`make execute`: run notebooks through papermill, in place or, with parameters, into `_build/runs/`.

In place, a notebook is replaced only by a complete run without error or warning; anything else leaves it
as it was. A run with parameters touches neither the committed notebook nor the stored runs: it works in
`_build/runs/`, on copies of them.
"""

import argparse
import ast
import contextlib
import copy
import fcntl
import hashlib
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from tqdm import tqdm

from tools import fresh, notebooks, readme, record, stills
from tools.errors import (
    Busy,
    CellFailed,
    EditedMeanwhile,
    PictureMissing,
    StderrRefused,
    UnknownParameter,
    UnknownProfile,
    WrongParameter,
    run_main,
)
from tools.sources import PACKAGE, Package

PROFILES = ("quick", "full")


@contextlib.contextmanager
def lock(root: Path, name: str = "execute", doing: str = "executing notebooks") -> Iterator[None]:
    """Hold the right to execute, or build, below `root`; the system frees it however the process ends."""
    path = root / "_build" / f"{name}.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise Busy(f"process {file.read()} is {doing}; wait for it, or end it") from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def overrides(given: Sequence[str], values: dict[str, Any], name: str, folders: list[Path]) -> dict[str, Any]:
    """Turn "name=text" into the values that the notebook's parameters, `values`, allow."""
    found: dict[str, Any] = {}
    for pair in given:
        key, _, text = pair.partition("=")
        if key not in values:
            raise UnknownParameter(f"{name} has no parameter {key!r}; it has {', '.join(values)}")
        found[key] = _value(key, text, values[key], folders)
    return found


def _value(key: str, text: str, default: Any, folders: list[Path]) -> Any:
    if key == "profile" and text not in PROFILES:
        raise UnknownProfile(f"profile={text}: no such profile; known are {', '.join(PROFILES)}")
    if key == "image":
        return _picture(text, folders)
    if isinstance(default, str):
        return text
    kind: Any = int if default is None else type(default)
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        value = text
    if (value is None and default is None) or (type(value) is int and kind is float):
        return value
    if type(value) is not kind:
        like = 64 if default is None else default
        raise WrongParameter(f"{key}={text}: {key} must be of type {kind.__name__}, like {key}={like}")
    return value


def _picture(text: str, folders: list[Path]) -> str:
    from dipfilters.images import PICTURES  # imports torch, needed only when a picture is asked for

    if text in PICTURES:
        return text
    for folder in folders:
        path = (folder / Path(text).expanduser()).resolve()
        if path.is_file():
            return str(path)
    looked = ", ".join(dict.fromkeys(str(folder) for folder in folders))
    raise PictureMissing(
        f"image={text}: no such file (looked in {looked}); give a path, or one of {', '.join(PICTURES)}"
    )


def with_parameters(notebook: NotebookNode, values: dict[str, Any]) -> NotebookNode:
    """A copy of the notebook with a cell that sets `values` behind its parameters cell."""
    from papermill.parameterize import parameterize_notebook  # papermill takes a second to import

    blank = copy.deepcopy(notebook)
    blank.metadata.papermill = {}
    for cell in blank.cells:
        cell.metadata.setdefault("tags", [])  # papermill looks for its tags without asking
    given: NotebookNode = parameterize_notebook(blank, values, kernel_name="python3", language="python")
    del given.metadata["papermill"]
    for cell in given.cells:
        if "injected-parameters" in notebooks.tags(cell):
            cell.id = "injected-parameters"
    return given


def run(root: Path, path: Path, notebook: NotebookNode, folder: Path | None = None) -> NotebookNode:
    """Execute `notebook`, read from `path`, and return it with its outputs and the record of the run.

    Its kernel works in `folder`, where it finds stored runs and pictures; by default where the notebook is.
    """
    values = notebooks.parameters(notebook, path.name)
    facts = record.inputs(notebook, path.name, Package(root), folder)
    facts |= record.provenance(root, path, values.get("device"))
    begun = time.monotonic()
    executed = _papermill(root, path, notebook, folder or path.parent)
    facts["seconds"] = round(time.monotonic() - begun, 1)
    result = copy.deepcopy(notebook)
    for cell, done in zip(result.cells, executed.cells, strict=True):
        if cell.cell_type == "code":
            cell.execution_count = done.execution_count
            cell.outputs = kept_outputs(cell, done.outputs, path.name)
    result.metadata.pop("widgets", None)
    stills.keep(result, executed)
    result.metadata.setdefault(PACKAGE, NotebookNode())["run"] = facts
    return result


def _papermill(root: Path, path: Path, notebook: NotebookNode, folder: Path) -> NotebookNode:
    import papermill  # takes a second to import
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    # The kernel of this environment, with the sources that the record names, whatever else is installed.
    os.environ["JUPYTER_PATH"] = str(Path(sys.prefix, "share", "jupyter"))
    os.environ["PYTHONPATH"] = str(root / "src")
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # the debugger's words about itself go to stderr
    for name in ("papermill", "asyncio"):  # what they log of a failing or interrupted run is said below
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        executed: NotebookNode = papermill.execute_notebook(
            copy.deepcopy(notebook),
            None,
            kernel_name="python3",
            cwd=str(folder),
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            progress_bar={"desc": path.stem, "unit": "cell", "leave": False},
        )
    except papermill.PapermillExecutionError as error:
        cell = notebook.cells[error.cell_index]
        raise CellFailed(
            f"{path.name}, cell {error.exec_count} ({notebooks.first_line(cell)}): "
            f"{error.ename}: {error.evalue}\nthe notebook is as it was; correct the cell and run again"
        ) from error
    except (DeadKernelError, CellTimeoutError) as error:
        raise CellFailed(
            f"{path.name}: its kernel died ({error}), mostly for want of memory; the notebook is as it was"
        ) from error
    return executed


def kept_outputs(cell: NotebookNode, outputs: list[NotebookNode], name: str) -> list[NotebookNode]:
    """The outputs to keep: no timing, streams in one piece, stderr only dropped where a bar is expected."""
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and output.name == "stderr":
            if "progress" in notebooks.tags(cell):
                continue
            raise StderrRefused(
                f"{name}, cell {cell.execution_count} ({notebooks.first_line(cell)}) wrote to stderr:\n"
                f"{output.text.rstrip()}\nthe notebook is as it was; remove the cause"
            )
        if output.output_type == "stream" and kept and kept[-1].output_type == "stream":
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def execute_in_place(root: Path, path: Path) -> None:
    """Run the notebook and put the result in its place, unless it was edited meanwhile."""
    before = path.read_bytes()
    result = run(root, path, notebooks.read(path))
    if path.read_bytes() != before:
        kept = root / "_build" / "runs" / path.name
        notebooks.write(result, kept)
        raise EditedMeanwhile(f"{path.name} was edited while it ran; the run is at {kept}; run again")
    notebooks.write(result, path)
    readme.refresh(root, result)


def execute_beside(root: Path, path: Path, values: dict[str, Any], folder: Path | None = None) -> Path:
    """Run the notebook with `values` and keep the result below `_build/runs/`.

    Its kernel works in `folder`, and stores runs below it; by default beside the result.
    """
    beside = root / "_build" / "runs"
    if folder is None:
        folder = beside
        _copy_stored_runs(path.parent / "runs", beside / "runs")
        if "image" in values:
            values = values | {"image": _copied_picture(values["image"], beside)}
    result = run(root, path, with_parameters(notebooks.read(path), values), folder)
    words = [f"{key}={Path(str(value)).stem if key == 'image' else value}" for key, value in values.items()]
    file = "-".join([path.stem, *(re.sub(r"[^\w.=-]+", "_", word) for word in words)])
    target = beside / f"{file}.ipynb"
    notebooks.write(result, target)
    return target


def _copy_stored_runs(source: Path, target: Path) -> None:
    """Begin with the book's runs. A copy that was added to stays, until the book's own is renewed."""
    target.mkdir(parents=True, exist_ok=True)
    for stored in sorted([*source.glob("*.npz"), *source.glob("*.json")]):
        copied = target / stored.name
        if not copied.exists() or copied.stat().st_mtime < stored.stat().st_mtime:
            # Put in place with the time of the original: half a copy would be newer, and stay.
            part = target / f".{stored.name}.new"
            shutil.copy2(stored, part)
            part.replace(copied)


def _copied_picture(image: str, folder: Path) -> str:
    """The name of a copy in `folder`, which holds a digest: what is stored for it fits this content alone."""
    path = Path(image)
    if not path.is_absolute():  # a bundled one, by its name
        return image
    content = path.read_bytes()
    name = f"{path.stem}-{hashlib.sha256(content).hexdigest()[:8]}{path.suffix}"
    part = folder / f".{name}.new"
    part.write_bytes(content)
    part.replace(folder / name)
    return name


def main(arguments: Sequence[str]) -> None:
    """Run what is asked for: one chapter or all, as published or with other parameters."""
    parser = argparse.ArgumentParser(prog="python -m tools.execute", description=__doc__)
    parser.add_argument("chapter", nargs="?", help="number or name; runs even if it is up to date")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="given")
    parser.add_argument("--from", type=Path, default=Path.cwd(), help="where pictures are", dest="home")
    parser.add_argument("--root", type=Path, default=notebooks.ROOT)
    asked = parser.parse_args(arguments)
    root = asked.root.resolve()
    chosen = [notebooks.chapter(root, asked.chapter)] if asked.chapter else notebooks.chapters(root)
    values = {
        path: overrides(
            asked.given,
            notebooks.parameters(notebooks.read(path), path.name),
            path.name,
            [asked.home.resolve(), Path.cwd()],
        )
        for path in chosen
    }
    with lock(root):
        if not asked.chapter and not asked.given:
            chosen = list(fresh.stale(root))
        if not chosen:
            print("all notebooks are up to date")
            return
        for path in tqdm(chosen, desc="notebooks", unit="notebook"):
            if asked.given:
                result = execute_beside(root, path, values[path])
                tqdm.write(f"{result}\n  open it: make lab, or jupyter lab '{result}'")
            else:
                execute_in_place(root, path)


if __name__ == "__main__":
    run_main(main)
