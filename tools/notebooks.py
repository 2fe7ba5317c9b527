"""Reading and writing notebooks, and what their cells hold."""

import ast
import json
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from tools.errors import BookError

ROOT = Path(__file__).resolve().parents[1]


def read(path: Path) -> NotebookNode:
    """The notebook at `path`, its cells named by ids."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BookError(f"{path.name} cannot be read: {error}") from error
    if any(line.startswith(("<<<<<<< ", ">>>>>>> ")) for line in text.splitlines()):
        raise BookError(f"{path.name} holds the marks of an unfinished merge; resolve it first")
    try:
        notebook: NotebookNode = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except json.JSONDecodeError as error:
        raise BookError(f"{path.name} is not valid JSON (line {error.lineno}): {error.msg}") from error
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise BookError(f"{path.name} is not a notebook of format 4: {reason}") from error
    if any("id" not in cell for cell in notebook.cells):
        raise BookError(f"{path.name} has cells without id; open it in JupyterLab and save it once")
    return notebook


def write(notebook: NotebookNode, path: Path) -> None:
    """Write beside, then replace: whoever reads `path` sees the old notebook or the new one."""
    beside = path.with_name(f".{path.name}.new")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with beside.open("w", encoding="utf-8") as file:
            nbformat.write(notebook, file)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def tags(cell: NotebookNode) -> list[str]:
    """The tags of a cell."""
    return list(cell.metadata.get("tags", []))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells that say something."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def computing_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells that decide the results: not the install cell, nor the parameters, recorded by value."""
    apart = {"install", "parameters", "injected-parameters"}
    return [cell for cell in code_cells(notebook) if not apart & set(tags(cell))]


def parameters(notebook: NotebookNode, name: str) -> dict[str, Any]:
    """The values that the parameters cells set; one that was injected comes last and wins."""
    values: dict[str, Any] = {}
    for cell in code_cells(notebook):
        if not {"parameters", "injected-parameters"} & set(tags(cell)):
            continue
        try:
            for statement in ast.parse(cell.source).body:
                target = statement.targets[0] if isinstance(statement, ast.Assign) else None
                if not isinstance(target, ast.Name) or not isinstance(statement, ast.Assign):
                    raise ValueError(f"`{ast.unparse(statement)}` is not a plain assignment")
                values[target.id] = ast.literal_eval(statement.value)
        except (SyntaxError, ValueError) as error:
            raise BookError(
                f"{name}: the parameters cell may only set names to literal values: {error}"
            ) from error
    return values


def problems(notebook: NotebookNode) -> list[str]:
    """What is wrong with the stored outputs, whatever they were computed from."""
    cells = code_cells(notebook)
    found = [
        f"cell {number} ends in an error: {output.ename}: {output.evalue}"
        for number, cell in enumerate(cells, 1)
        for output in cell.outputs
        if output.output_type == "error"
    ]
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        found.append("its cells were run by hand, or their outputs cleared: the execution counts have gaps")
    return found


def first_line(cell: NotebookNode) -> str:
    """The cell's first line of code, to name it by."""
    lines = [line for line in cell.source.splitlines() if line.strip() and not line.startswith("#")]
    return f"`{(lines or cell.source.splitlines())[0].strip()[:60]}`"
