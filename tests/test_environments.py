"""Environments other than the book's own: each is made anew, in minutes; and what they are made of."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tools import environments
from tools.environments import Environment, pins
from tools.errors import EnvironmentBroken
from tools.notebooks import ROOT

PUBLISHED = pins((ROOT / environments.COLAB).read_text("utf-8"))


def make(target: str) -> str:
    """What `make target` prints, once it has passed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", target], cwd=ROOT, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    return done.stdout


@pytest.mark.long
def test_colab() -> None:
    """The install cell changes nothing that was there, and every notebook runs."""
    told = make("test-colab")
    assert re.search(r"the install cell took \d+ s and added .*dipfilters .*; it changed nothing", told)
    assert (
        f"{len(list((ROOT / 'notebooks').glob('*.ipynb')))} notebooks passed with Colab's libraries" in told
    )
    held, wanted = Environment(ROOT, "colab").versions(), environments.colab_pins(ROOT, None)
    assert {name: held[name] for name in wanted} == wanted


@pytest.mark.long
@pytest.mark.parametrize("which", environments.RESOLUTIONS)
def test_bounds(which: str) -> None:
    told = make(f"test-{which}")
    passed = re.search(r"(\d+) passed", told)
    assert passed
    assert int(passed[1]) > 1000
    if which == "lowest":
        bounds = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
        for line in bounds:
            name, bound = line.split(">=")
            if name != "torch":  # the one that is here
                assert re.search(rf"\b{name} {re.escape(bound)}(\.\d+)*\b", told), line


@pytest.mark.long
def test_a_stranger_s_installation() -> None:
    told = make("test-clean")
    gain = re.search(r"([\d.]+) dB gained by the package in .*\.venv-clean/lib/.*site-packages", told)
    assert gain
    assert float(gain[1]) > 1


def test_no_bound_is_above_what_colab_holds() -> None:
    """Else the install cell would change what Colab holds: the first cause of notebooks that die there."""
    bounds = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    both = 0
    for line in bounds:
        name, bound = line.split(">=")
        if name in PUBLISHED:
            both += 1
            assert tuple(map(int, bound.split("."))) <= tuple(map(int, PUBLISHED[name].split("."))), line
    assert both == 5


def test_every_test_for_other_libraries_is_there() -> None:
    assert [name for name in environments.TESTS if not (ROOT / "tests" / name).exists()] == []


def test_what_fails_in_an_environment_is_said(tmp_path: Path) -> None:
    broken = Environment(tmp_path, "broken")
    with pytest.raises(EnvironmentBroken, match="cannot be made; name a Python that has venv"):
        broken.make(shutil.which("false") or "/bin/false")
    with pytest.raises(EnvironmentBroken, match=r"No module named 'nowhere'(.|\n)*\.venv-broken: .* fails"):
        Environment(ROOT, "broken")._run(
            [shutil.which("python3") or "python3", "-c", "import nowhere"], "fails"
        )
