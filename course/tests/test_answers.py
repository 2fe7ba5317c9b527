"""The checks for students: right answers pass however they are written, and the usual mistakes are named."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from course import INSTRUCTOR, ROOT
from dipfilters import checks

Answer = Callable[..., Any]
answers = runpy.run_path(str(ROOT / INSTRUCTOR / "answers.py"))
RIGHT: dict[str, list[Answer]] = answers["RIGHT"]
WRONG: dict[str, dict[str, tuple[Answer, str]]] = answers["WRONG"]


def test_every_check_is_tried() -> None:
    assert {name for name in vars(checks) if name.startswith("check_")} == set(RIGHT) == set(WRONG)
    assert all(len(answers) >= 2 for answers in RIGHT.values())
    assert all(len(mistakes) >= 5 for mistakes in WRONG.values())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_pass_and_global_chance_is_left_alone(
    name: str, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_rng_state()
    for answer in RIGHT[name]:
        getattr(checks, name)(answer, seed=seed)
        assert capsys.readouterr().out.endswith("properties hold\n")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("name", "mistake"), [(name, mistake) for name, mistakes in WRONG.items() for mistake in mistakes]
)
def test_usual_mistakes_are_named(name: str, mistake: str, seed: int) -> None:
    answer, said = WRONG[name][mistake]
    with pytest.raises(checks.CheckFailed, match=said):
        getattr(checks, name)(answer, seed=seed)
