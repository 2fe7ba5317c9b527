"""The course beside the book: masters, answers, grading and release. README.md tells the commands.

All that it takes from the book's tools is named here.
"""

import shutil
from pathlib import Path

from tools.errors import BookError, run_main
from tools.notebooks import ROOT, read, tags, write

INSTRUCTOR = Path("course", "instructor")

__all__ = ["INSTRUCTOR", "ROOT", "BookError", "put", "read", "run_main", "tags", "write"]


def put(made: Path, place: Path) -> None:
    """Put a folder that is complete in place of an older one."""
    shutil.rmtree(place, ignore_errors=True)
    made.replace(place)
