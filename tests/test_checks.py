"""The checks for students, without answers: stubs fail in words. The course tries right and wrong answers."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dipfilters import checks

NAMES = [name for name in vars(checks) if name.startswith("check_")]


def not_written(*given: object) -> object:
    raise NotImplementedError


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("stub", "said"),
    [
        (not_written, "nothing is written yet"),
        (lambda *given: None, "gives None"),
        (lambda *given: "a word", "gives a str, not a tensor"),
        (lambda: 0.0, "raised TypeError"),
    ],
)
def test_stubs_fail_in_words(name: str, stub: Callable[..., Any], said: str) -> None:
    with pytest.raises(checks.CheckFailed, match=said):
        getattr(checks, name)(stub)


def test_an_asymmetric_kernel_is_shown_by_its_entries() -> None:
    def lopsided(p: Any, q: Any) -> Any:
        K = p @ q.T
        K[3, 2] += 5.0
        return K

    said = r"isn't symmetric: K\(p, q\)\[\d, \d\] = [\d.-]+, K\(q, p\)"
    with pytest.raises(checks.CheckFailed, match=said):
        checks.check_arc_cosine(lopsided)


def test_a_notebook_shows_the_words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython asks an exception for its own traceback."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shown: list[list[str]] = []
    monkeypatch.setattr(shell, "_showtraceback", lambda kind, value, lines: shown.append(lines))
    shell.run_cell("from dipfilters.checks import check_patches\ncheck_patches(lambda x, k: None)")
    assert shown == [["Not yet: your function gives None; does its last line `return` the result?"]]


def test_the_checks_use_nothing_of_the_package() -> None:
    """No answer can be copied from what they call."""
    nodes = list(ast.walk(ast.parse(Path(checks.__file__).read_text("utf-8"))))
    imported = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert imported == {"__future__", "collections.abc", "functools", "math", "torch"} | {
        *("importlib", "platform", "time")  # `ready` alone imports the package, by its name
    }


def test_ready_says_in_two_lines_that_the_set_up_works(capsys: pytest.CaptureFixture[str]) -> None:
    checks.ready()
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("ready in ")
    assert second == "of an empty function a check says: Not yet: nothing is written yet"


def test_ready_names_what_is_missing_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dipfilters.load_image", lambda *_, **__: 1 / 0)
    with pytest.raises(checks.CheckFailed, match=r"does not work here \(ZeroDivisionError.*first code cell"):
        checks.ready()
    monkeypatch.undo()
    monkeypatch.setattr("dipfilters.psnr", lambda *_: 12.0)
    with pytest.raises(checks.CheckFailed, match=r"gives 12.0 dB here, and should give 20"):
        checks.ready()


def test_warnings_of_a_students_code_are_left_alone() -> None:
    def warns(p: Any, q: Any) -> None:
        warnings.warn("slow", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="slow"), pytest.raises(checks.CheckFailed):
        checks.check_arc_cosine(warns)
