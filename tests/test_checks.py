"""The checks for students: right answers pass however written, stubs and the usual mistakes do not.

The answers lie with the instructors; without them, in the public tree, what needs them is skipped.
"""

from __future__ import annotations

import ast
import runpy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from dipfilters import checks
from tools.notebooks import ROOT

Answer = Callable[..., Any]
Mistakes = dict[str, tuple[Answer, str]]
FILE = ROOT / "course" / "instructor" / "answers.py"
answers = runpy.run_path(str(FILE)) if FILE.exists() else {"RIGHT": {}, "WRONG": {}}
RIGHT: dict[str, list[Answer]] = answers["RIGHT"]
WRONG: dict[str, Mistakes] = answers["WRONG"]
NAMES = [name for name in vars(checks) if name.startswith("check_")]
private = pytest.mark.skipif(not FILE.exists(), reason="the answers are in the instructors' repository only")


def not_written(*given: object) -> object:
    raise NotImplementedError


@private
def test_every_check_is_tried() -> None:
    assert set(NAMES) == set(RIGHT) == set(WRONG)
    assert all(len(answers) >= 2 for answers in RIGHT.values())
    assert all(len(mistakes) >= 5 for mistakes in WRONG.values())


@private
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_pass(name: str, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    for answer in RIGHT[name]:
        getattr(checks, name)(answer, seed=seed)
        assert capsys.readouterr().out.endswith("properties hold\n")


@private
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("name", "mistake"), [(name, mistake) for name, mistakes in WRONG.items() for mistake in mistakes]
)
def test_usual_mistakes_are_named(name: str, mistake: str, seed: int) -> None:
    answer, said = WRONG[name][mistake]
    with pytest.raises(checks.CheckFailed, match=said):
        getattr(checks, name)(answer, seed=seed)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("stub", "said"),
    [
        (not_written, "nothing is written yet"),
        (lambda *given: None, "gives None"),
        (lambda *given: "a word", "gives a str|of shape|stops"),
        (lambda: 0.0, "raised TypeError"),
    ],
)
def test_stubs_fail_in_words(name: str, stub: Answer, said: str) -> None:
    with pytest.raises(checks.CheckFailed, match=said):
        getattr(checks, name)(stub)


def test_an_asymmetric_kernel_is_shown_by_its_entries() -> None:
    def lopsided(p: Any, q: Any) -> Any:
        K = p @ q.T
        K[3, 2] += 5.0
        return K

    with pytest.raises(
        checks.CheckFailed, match=r"isn't symmetric: K\(p, q\)\[\d, \d\] = [\d.-]+, K\(q, p\)"
    ):
        checks.check_arc_cosine(lopsided)


def test_a_notebook_shows_the_words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython asks an exception for its own traceback."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shown: list[list[str]] = []
    monkeypatch.setattr(shell, "_showtraceback", lambda kind, value, lines: shown.append(lines))
    shell.run_cell("from dipfilters.checks import check_patches\ncheck_patches(lambda x, k: None)")
    assert shown == [["Not yet: your function gives None; does its last line `return` the result?"]]


@private
def test_nothing_reads_or_sets_the_global_chance() -> None:
    before = torch.get_rng_state()
    for name, answers in RIGHT.items():
        getattr(checks, name)(answers[0])
    assert torch.equal(before, torch.get_rng_state())


def test_the_checks_use_nothing_of_the_package() -> None:
    """No answer can be copied from what they call."""
    source = (ROOT / "src" / "dipfilters" / "checks.py").read_text("utf-8")
    imported = [
        node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not [name for name in imported if name.startswith(("dipfilters", "numpy", "scipy"))]


def test_warnings_of_a_student_s_code_are_left_alone() -> None:
    def warns(p: Any, q: Any) -> None:
        warnings.warn("slow", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="slow"), pytest.raises(checks.CheckFailed):
        checks.check_arc_cosine(warns)
