"""No line of a solution stands in what is published; `make -C course release` looks through the rest."""

import importlib

import pytest

from tools.notebooks import ROOT


@pytest.mark.skipif(
    not (ROOT / "course" / "leaks.py").exists(), reason="solutions are in the instructors' repository only"
)
def test_nothing_that_is_published_holds_a_line_of_a_solution() -> None:
    leaks = importlib.import_module("course.leaks")
    files = leaks.published(ROOT)
    names = {str(path.relative_to(ROOT)) for path in files}
    assert names >= {"README.md", "src/dipfilters/checks.py", "notebooks/02-twicing.ipynb"}
    assert {name for name in names if name.startswith("course/")} == {"course/README.md"}
    assert leaks.search(leaks.secrets(ROOT), ROOT, files) == []
