"""The set-up: what is pinned, what conda gets, and that make passes on what it was given and helps."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tools.notebooks import ROOT


def make(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    environment |= variables
    return subprocess.run(["make", *words], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files that the set-up needs, in a folder with a space in its name."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def installed(clone: Path) -> Path:
    """The same with an environment whose Python prints the words that it is called with, one a line."""
    python = clone / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    (clone / ".venv" / ".installed").touch()
    (clone / "_build" / "html").mkdir(parents=True)
    (clone / "_build" / "html" / "index.html").touch()
    return clone


def test_the_lock_names_versions_and_no_host() -> None:
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    assert len(lines) > 100
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==[\w.+!]+( ; .+)?", line), line
        assert not line.startswith(("nvidia-", "cuda-")), "a torch with CUDA brings these itself"


def test_no_bound_is_above_what_colab_holds() -> None:
    """Else the install cell would change what Colab holds: the first cause of notebooks that die there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    bounds = dict(line.split(">=") for line in project["dependencies"])
    text = (ROOT / "tools" / "colab.txt").read_text("utf-8")
    colab = dict(re.findall(r"^([\w-]+)==(\S+)", text, re.MULTILINE))
    both = bounds.keys() & colab.keys()
    assert len(both) == 5
    for name in both:
        bound, held = (tuple(map(int, version.split("."))) for version in (bounds[name], colab[name]))
        assert bound <= held, name


def test_help_names_every_command_on_one_screen() -> None:
    shown = make(ROOT, "help").stdout.splitlines()
    targets = re.findall(r"^\.PHONY: ([a-z-]+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    unseen = {"browser", "push-colab"}  # what others call, and a workflow
    assert {line.split()[1] for line in shown if line.startswith("  make ")} == set(targets) - unseen
    assert len(shown) <= 24
    assert max(map(len, shown)) <= 80


# Each parameter with its target, and the words of the tool's command line that it becomes.
PARAMETERS = {
    "CHAPTER": ("execute", "{}"),
    "PROFILE": ("execute", "profile={}"),
    "IMAGE": ("execute", "image={}"),
    "SIZE": ("execute", "size={}"),
    "SEED": ("execute", "seed={}"),
    "DEVICE": ("execute", "device={}"),
    "PORT": ("serve", "{}"),
    "TO": ("address", "{}"),
    "BRANCH": ("address", "{}"),
    "LIBRARIES": ("test-with", "{}"),
    "TORCH": ("test-with", "{}"),
    "NAME": ("study", "{}"),
    "CLUSTER": ("study", "{}"),
    "PICTURES": ("study", "{}"),
    "WORKERS": ("study", "{}"),
    "PYTHON": (".venv-bench/.installed", ""),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_comes_as_written_from_the_command_line_alone(installed: Path, name: str) -> None:
    """A machine may have an IMAGE or a PORT of its own."""
    (installed / "benchmarks").mkdir()
    (installed / "benchmarks" / "requirements.txt").touch()
    target, word = PARAMETERS[name]
    for value in ("plain", """it's "quoted" `so`""", "$HOME/$(x) \\ #1") if word else ():
        done = make(installed, target, f"{name}={value}")
        assert done.returncode == 0, done.stderr
        assert word.format(value) in done.stdout.splitlines()
    shown = make(installed, "-n", target, **{name: "of-the-machine"})
    assert shown.returncode == 0, shown.stderr
    assert "of-the-machine" not in shown.stdout
    assert "of-the-machine" in make(installed, "-n", target, f"{name}=of-the-machine").stdout


def test_the_source_of_torch_may_come_from_the_environment(clone: Path) -> None:
    """The workflows set it there."""
    shown = make(clone, "-n", "book", TORCH_INDEX="file:///a folder")
    assert "--index-url 'file:///a folder'" in shown.stdout


def test_a_python_too_old_is_refused_with_the_remedy(clone: Path) -> None:
    old = clone / "old-python"
    old.write_text('#!/bin/sh\nexec python3 -c "import sys; sys.version_info = (3, 10, 1); $2"\n')
    old.chmod(0o755)
    done = make(clone, "book", "PYTHON=./old-python")
    assert done.returncode != 0
    assert "not Python 3.11 to 3.13; name one that is: make book PYTHON=python3.12" in done.stderr
    assert not (clone / ".venv").exists()


def test_the_installed_stamp_comes_last(clone: Path) -> None:
    """An installation that breaks off leaves no stamp; a .venv that does not run is made anew."""
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / "requirements.lock").write_text("no-such-library-anywhere==0\n")
    done = make(clone, "book", PIP_NO_INDEX="1", PIP_FIND_LINKS="", PIP_EXTRA_INDEX_URL="")
    assert done.returncode != 0
    assert "making .venv" in done.stdout
    assert (clone / ".venv" / "bin" / "python").exists()
    assert not (clone / ".venv" / ".installed").exists()


def test_what_is_published_is_built_strictly(installed: Path) -> None:
    for target in ("site", "checks"):
        assert "-m tools.build --strict" in make(installed, "-n", target, "NODE=").stdout
