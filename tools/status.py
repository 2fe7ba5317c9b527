"""The status page: what each notebook's outputs were computed with. Written by each build."""

from pathlib import Path
from typing import Any

from tools import notebooks, record

HEAD = """# Status

Each notebook of this book was executed before the book was built, and the build refuses a notebook whose
code cells, parameters, picture, or modules of `dipfilters` changed since. This page says when and with
what each one ran.

| Notebook | Run on | Seconds | Hardware | Python | Libraries | Parameters | Commit | Libraries since |
|---|---|--:|---|---|---|---|---|---|
"""

FOOT = """
"Libraries since" compares the list of pinned libraries (`requirements.lock`) with that of the run. A changed
list does not make a page out of date by itself; `make execute CHAPTER=02` runs a chapter with the new one.
"""


def _row(path: Path, lock: str) -> str:
    notebook = notebooks.read(path)
    run: dict[str, Any] = record.stored(notebook) or {}
    title = next(line for line in notebook.cells[0].source.splitlines() if line.startswith("# "))
    cells = [
        f"[{title[2:]}](../notebooks/{path.name})",
        run.get("date", "never")[:10],
        f"{run.get('seconds', '')}",
        run.get("hardware", ""),
        run.get("python", ""),
        ", ".join(f"{name} {number}" for name, number in run.get("versions", {}).items()),
        ", ".join(f"{name} = {value!r}" for name, value in run.get("parameters", {}).items()),
        run.get("commit", ""),
        "as in the run" if run.get("lock") == lock else "changed",
    ]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def page(root: Path) -> str:
    """The page as Markdown."""
    lock = record.lock_digest(root)
    return HEAD + "".join(_row(path, lock) for path in notebooks.chapters(root)) + FOOT
