"""`make execute`: run notebooks through papermill, in place or, with parameters, into `_build/runs/`.

In place, a notebook is replaced only by a complete run without error or warning; anything else leaves it
as it was. A run with parameters does not touch the committed notebook: it works in `_build/runs/`.
"""

import ast
import copy
import hashlib
import logging
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from tqdm import tqdm

from dipfilters.images import PICTURES
from tools import notebooks, readme, record, stills
from tools.book import Book, command_line
from tools.errors import BookError, run_main

PROFILES = ("quick", "full")


def overrides(given: Sequence[str], values: dict[str, Any], name: str, folders: list[Path]) -> dict[str, Any]:
    """Turn "name=text" into the values that the notebook's parameters, `values`, allow."""
    found: dict[str, Any] = {}
    for pair in given:
        key, _, text = pair.partition("=")
        if key not in values:
            raise BookError(f"{name} has no parameter {key!r}; it has {', '.join(values)}")
        found[key] = _value(key, text, values[key], folders)
    return found


def _value(key: str, text: str, default: Any, folders: list[Path]) -> Any:
    if key == "profile" and text not in PROFILES:
        raise BookError(f"profile={text}: no such profile; known are {', '.join(PROFILES)}")
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
        raise BookError(f"{key}={text}: {key} must be of type {kind.__name__}, like {key}={like}")
    return value


def _picture(text: str, folders: list[Path]) -> str:
    if text in PICTURES:
        return text
    for folder in folders:
        path = (folder / Path(text).expanduser()).resolve()
        if path.is_file():
            return str(path)
    looked = ", ".join(dict.fromkeys(str(folder) for folder in folders))
    raise BookError(
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

    Its kernel works in `folder`, where it finds pictures; by default where the notebook is.
    """
    values = notebooks.parameters(notebook, path.name)
    package = Book(root).package  # read now: it may have been edited since the run before
    facts = record.inputs(notebook, path.name, package, folder)
    facts |= record.origin(root, path, values.get("device"))
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
    result.metadata.setdefault(record.PACKAGE, NotebookNode())["run"] = facts
    return result


def _papermill(root: Path, path: Path, notebook: NotebookNode, folder: Path) -> NotebookNode:
    import papermill  # takes a second to import
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    # The kernel of this environment, with the sources that the record names, whatever else is installed.
    os.environ["JUPYTER_PATH"] = str(Path(sys.prefix, "share", "jupyter"))
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (root / "src", root)))
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
        raise BookError(
            f"{path.name}, cell {error.exec_count} ({notebooks.first_line(cell)}): "
            f"{error.ename}: {error.evalue}\nthe notebook is as it was; correct the cell and run again"
        ) from error
    except (DeadKernelError, CellTimeoutError) as error:
        raise BookError(
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
            raise BookError(
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
        raise BookError(f"{path.name} was edited while it ran; the run is at {kept}; run again")
    notebooks.write(result, path)
    readme.refresh(root, result)


def execute_beside(root: Path, path: Path, values: dict[str, Any], folder: Path | None = None) -> Path:
    """Run the notebook with `values` and keep the result below `_build/runs/`.

    Its kernel works in `folder`, by default beside the result.
    """
    beside = root / "_build" / "runs"
    if folder is None:
        folder = beside
        beside.mkdir(parents=True, exist_ok=True)
        if "image" in values:
            values = values | {"image": _copied_picture(values["image"], beside)}
    result = run(root, path, with_parameters(notebooks.read(path), values), folder)
    words = [f"{key}={Path(str(value)).stem if key == 'image' else value}" for key, value in values.items()]
    file = "-".join([path.stem, *(re.sub(r"[^\w.=-]+", "_", word) for word in words)])
    target = beside / f"{file}.ipynb"
    notebooks.write(result, target)
    return target


def _copied_picture(image: str, folder: Path) -> str:
    """The name of a copy in `folder`, which holds a digest: a picture of another content has another name."""
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
    """Run what is asked for: one chapter or all that are stale, as published or with other parameters."""
    parser = command_line(__doc__)
    parser.add_argument("chapter", nargs="?", help="number or name; runs even if it is up to date")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="given")
    parser.add_argument("--from", type=Path, default=Path.cwd(), help="where pictures are", dest="home")
    asked = parser.parse_args(arguments)
    book = Book(asked.root)
    folders = [asked.home.resolve(), Path.cwd()]
    chosen = [book.chapter(asked.chapter)] if asked.chapter else book.chapters
    values = {
        path: overrides(
            asked.given, notebooks.parameters(book.notebooks[path], path.name), path.name, folders
        )
        for path in chosen
    }
    with book.lock("execute", "executing notebooks"):
        if not asked.chapter and not asked.given:
            chosen = list(book.stale)
        if not chosen:
            print("all notebooks are up to date")
            return
        for path in tqdm(chosen, desc="notebooks", unit="notebook"):
            if asked.given:
                result = execute_beside(book.root, path, values[path])
                tqdm.write(f"{result}\n  open it: make lab, or jupyter lab '{result}'")
            else:
                execute_in_place(book.root, path)


if __name__ == "__main__":
    run_main(main)
