"""The README's picture: what the cell tagged `readme` shows, so that it too was computed."""

import base64
from pathlib import Path

from nbformat import NotebookNode

from tools import notebooks

PICTURE = Path("book", "_static", "readme.png")


def picture(notebook: NotebookNode) -> bytes | None:
    """The PNG that the tagged cell shows, if the notebook has such a cell."""
    shown = [
        output.data["image/png"]
        for cell in notebooks.code_cells(notebook)
        if "readme" in notebooks.tags(cell)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    return base64.b64decode(shown[0]) if shown else None


def refresh(root: Path, notebook: NotebookNode) -> None:
    """Bring the README's picture into step with the notebook that shows it."""
    shown, target = picture(notebook), root / PICTURE
    if shown is not None and (not target.exists() or target.read_bytes() != shown):
        beside = target.with_name(f".{target.name}.new")
        beside.write_bytes(shown)
        beside.replace(target)
