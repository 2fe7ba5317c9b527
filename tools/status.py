"""The status page: what each notebook's outputs were computed with. Written by each build."""

from pathlib import Path

from nbformat import NotebookNode

from tools import notebooks, record

HEAD = """# Status

Each notebook of this book was executed before the book was built, and the build refuses a notebook whose
code cells, parameters, picture, or modules of `dipfilters` changed since. This page says when and with
what each one ran.

| Notebook | Run on | Seconds | Pinned libraries |
|---|---|--:|---|
"""

FOOT = """
The last column compares the list of pinned libraries, `requirements.lock`, with that of the run. A changed
list does not make a page out of date by itself; `make execute CHAPTER=02` runs a chapter with the new one.

## The runs in detail
"""


def _title(notebook: NotebookNode) -> str:
    lines: list[str] = notebook.cells[0].source.splitlines()
    return next(line[2:] for line in lines if line.startswith("# "))


def _row(path: Path, lock: str) -> str:
    notebook = notebooks.read(path)
    run = record.stored(notebook) or {}
    cells = [
        f"[{_title(notebook)}](../notebooks/{path.name})",
        run.get("date", "never")[:10],
        f"{run.get('seconds', '')}",
        "as in the run" if run.get("lock") == lock else "changed since",
    ]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def _detail(path: Path) -> str:
    notebook = notebooks.read(path)
    run = record.stored(notebook)
    if run is None:
        return f"\n**{_title(notebook)}** was never run.\n"
    lines = {
        "Hardware": run["hardware"],
        "Python": run["python"],
        "Libraries": ", ".join(f"{name} {number}" for name, number in run["versions"].items()),
        "Parameters": ", ".join(f"`{name} = {value!r}`" for name, value in run["parameters"].items()),
        "Commit": run["commit"],
        "Begun": run["date"],
    }
    return f"\n**{_title(notebook)}**\n\n" + "".join(f"- {name}: {text}\n" for name, text in lines.items())


def page(root: Path) -> str:
    """The page as Markdown."""
    lock, paths = record.lock_digest(root), notebooks.chapters(root)
    rows = "".join(_row(path, lock) for path in paths)
    return HEAD + rows + FOOT + "".join(_detail(path) for path in paths)
