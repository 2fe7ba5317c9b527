"""Environments other than the book's own: each is made anew, in minutes; and what they are made of."""

import os
import re
import subprocess
import sys
import tomllib

import pytest

from tools.notebooks import ROOT

BOUNDS = dict(
    line.split(">=")
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
)


def session(name: str) -> str:
    """What the session prints, once it has passed."""
    kept = {key: value for key, value in os.environ.items() if key != "NOX_SESSION"}
    command = [sys.executable, "-m", "nox", "--session", name]
    done = subprocess.run(
        command, cwd=ROOT, env=kept, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.long
def test_colab() -> None:
    """The install cell changes nothing that was there, and every notebook runs."""
    told = session("colab")
    assert re.search(r"the install cell added .*dipfilters .*; it changed nothing", told)
    number = len(list((ROOT / "notebooks").glob("*.ipynb")))
    assert f"{number} notebooks passed with Colab's libraries" in told


@pytest.mark.long
@pytest.mark.parametrize("name", ["lowest", "newest"])
def test_bounds(name: str) -> None:
    told = session(name)
    passed = re.search(r"(\d+) passed", told)
    assert passed
    assert int(passed[1]) > 500
    if name == "lowest":
        held = dict(re.findall(r"^([\w-]+)\s+([\d.]+)", told, re.MULTILINE))
        wrong = {
            library: (bound, held.get(library))
            for library, bound in BOUNDS.items()
            if library != "torch" and not f"{held.get(library)}.".startswith(f"{bound}.")
        }
        assert wrong == {}, "torch alone, the one that can be had, may be newer"


@pytest.mark.long
def test_a_strangers_installation() -> None:
    told = session("clean")
    gain = re.search(r"([\d.]+) dB gained by the package in .*\.nox/clean/lib/.*site-packages", told)
    assert gain
    assert float(gain[1]) > 1


def test_no_bound_is_above_what_colab_holds() -> None:
    """Else the install cell would change what Colab holds: the first cause of notebooks that die there."""
    text = (ROOT / "tools" / "colab.txt").read_text("utf-8")
    colab = dict(re.findall(r"^([\w-]+)==(\S+)", text, re.MULTILINE))
    both = BOUNDS.keys() & colab.keys()
    assert len(both) == 5
    for library in both:
        bound, held = (tuple(map(int, version.split("."))) for version in (BOUNDS[library], colab[library]))
        assert bound <= held, library
