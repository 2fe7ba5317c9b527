"""No line of a solution in anything that students can read; and the public tree as it is published."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.site_html import SITE
from tools import course, leaks, notebooks, release
from tools.errors import ReleaseFailed
from tools.notebooks import ROOT

pytestmark = pytest.mark.skipif(
    not (ROOT / course.INSTRUCTOR).is_dir(),
    reason="the solutions to look for are in the instructors' repository only",
)


@pytest.fixture(scope="module")
def secrets() -> dict[str, tuple[str, str]]:
    return leaks.secrets(ROOT)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree as a repository of its own, all of it committed."""
    root = tmp_path_factory.mktemp("repository")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    git(root, "init", "-q")
    commit(root)
    return root


def git(root: Path, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "core.hooksPath=/dev/null"]
    subprocess.run(["git", *who, *words], cwd=root, check=True, capture_output=True)


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "all")


def run(root: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def public(repository: Path) -> Path:
    done = run(repository, "-m", "tools.release")
    assert done.returncode == 0, done.stdout + done.stderr
    return repository / "_build" / "public"


def all_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def test_every_solution_is_looked_for(secrets: dict[str, tuple[str, str]]) -> None:
    sources = {source for _, source in secrets.values()}
    assert {path.name for path in course.masters(ROOT)} <= sources
    assert {path.name for path in (ROOT / course.INSTRUCTOR).iterdir() if path.is_file()} <= sources
    for path in course.masters(ROOT):
        for cell in notebooks.read(path).cells:
            if "### BEGIN SOLUTION" in cell.source:
                solution = cell.source.partition("### BEGIN SOLUTION")[2]
                assert any(line in solution for line, _ in secrets.values()), cell.id


def test_nothing_leaks_into_the_site(secrets: dict[str, tuple[str, str]]) -> None:
    """Pages, their sources, the search index and the outputs."""
    files = [path for path in all_files(SITE) if "mathjax" not in str(path) and "fonts" not in path.parts]
    names = {path.name for path in files}
    assert {"searchindex.js", "02-twicing.ipynb", "02-twicing.html"} <= names, "no whole site"
    assert not [str(leak) for leak in leaks.search(secrets, files)]


@pytest.mark.slow
def test_nothing_leaks_into_the_public_tree(public: Path, secrets: dict[str, tuple[str, str]]) -> None:
    files = all_files(public)
    assert not [path for path in files if "instructor" in path.relative_to(public).parts]
    students = sorted((public / "course" / "student").glob("*.ipynb"))
    assert [path.name for path in students] == [path.name for path in course.masters(ROOT)]
    assert not [str(leak) for leak in leaks.search(secrets, files)]


@pytest.mark.slow
def test_the_public_tree_is_all_the_rest(public: Path, repository: Path) -> None:
    ours = {path.relative_to(repository) for path in all_files(repository)}
    theirs = {path.relative_to(public) for path in all_files(public)}
    private = {path for path in ours if path.parts[:2] == course.INSTRUCTOR.parts}
    generated = {path for path in ours if path.parts[0] in ("_build", ".git")}
    students = {path for path in theirs if path.parts[:2] == ("course", "student")}
    assert theirs - students == ours - private - generated


@pytest.mark.slow
def test_the_package_holds_no_solution(
    repository: Path, tmp_path: Path, secrets: dict[str, tuple[str, str]]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(repository, copy, ignore=shutil.ignore_patterns(".git", "_build"))
    for kind in ("sdist", "wheel"):
        code = f"from setuptools import build_meta; build_meta.build_{kind}({str(tmp_path)!r})"
        done = run(copy, "-c", code)
        assert done.returncode == 0, done.stderr
    (sdist,), (wheel,) = tmp_path.glob("*.tar.gz"), tmp_path.glob("*.whl")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "sdist", filter="data")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "wheel")
    for kind in ("sdist", "wheel"):
        files = all_files(tmp_path / kind)
        assert any(path.name == "checks.py" for path in files)
        assert not [path for path in files if "course" in path.parts]
        assert not [str(leak) for leak in leaks.search(secrets, files)]


def as_page(line: str) -> tuple[str, str]:
    words = line.replace("&", "&amp;").replace("<", "&lt;").split(" ")
    return "page.html", f"<pre><span>{'</span> <span>'.join(words)}</span></pre>"


def as_output(line: str) -> tuple[str, str]:
    return "notebook.ipynb", json.dumps({"outputs": [{"text": [f"x\n{line}\n"]}]})


def as_wrapped(line: str) -> tuple[str, str]:
    return "notes.md", "Text. **" + line.replace(" ", "\n> ").upper() + "** More."


def as_code(line: str) -> tuple[str, str]:
    return "module.py", f"def f():\n    {line}\n"


@pytest.mark.parametrize("plant", [as_page, as_output, as_wrapped, as_code])
def test_a_planted_leak_is_found(
    plant: Callable[[str], tuple[str, str]], secrets: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    """Every line of every solution, in every guise."""
    for number, (letters, (line, _)) in enumerate(secrets.items()):
        name, text = plant(line)
        path = tmp_path / f"{number}-{name}"
        path.write_text(text, "utf-8")
        found = leaks.search({letters: secrets[letters]}, [path])
        assert [leak.line for leak in found] == [line], text
    assert not leaks.search(secrets, [ROOT / "README.md"])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["a line in a page", "no attribute"])
def test_a_release_with_a_leak_is_refused(how: str, repository: Path, tmp_path: Path) -> None:
    root = tmp_path / "leaking"
    shutil.copytree(repository, root, ignore=shutil.ignore_patterns("_build"))
    if how == "no attribute":
        (root / ".gitattributes").unlink()
    else:
        (line, _), *_ = leaks.secrets(root).values()
        page = root / "book" / "glossary.md"
        page.write_text(page.read_text("utf-8") + f"\n{line}\n", "utf-8")
    commit(root)
    said = {
        "a line in a page": r"book/glossary\.md: .* is from .*\n.*nothing was released",
        "no attribute": "must mark it export-ignore",
    }
    with pytest.raises(ReleaseFailed, match=said[how]):
        release.make(root, root / "_build" / "public.new")
    assert not (root / "_build" / "public").exists()


@pytest.mark.parametrize("how", ["changed", "new"])
def test_a_release_of_masters_that_are_not_committed_is_refused(how: str, tmp_path: Path) -> None:
    """The rest of the public tree is that of the last commit."""
    root = tmp_path / "small"
    master = root / course.INSTRUCTOR / "a.ipynb"
    master.parent.mkdir(parents=True)
    master.write_text("{}", "utf-8")
    git(root, "init", "-q")
    commit(root)
    other = master if how == "changed" else master.with_name("b.ipynb")
    other.write_text("{ }", "utf-8")
    with pytest.raises(
        ReleaseFailed, match=rf"{other.name}\n.*is not as committed(.|\n)*commit what is named"
    ):
        release.make(root, root / "_build" / "public.new")
    assert not (root / "_build").exists()


@pytest.mark.slow
def test_the_public_tree_tests_itself_and_says_what_it_skips(public: Path) -> None:
    """Style, addresses, and the tests of the course, which tell why they are skipped."""
    checked = ["src", "tools", "tests", "benchmarks", "notebooks", "course"]
    for words in (
        ["-m", "ruff", "check", "--quiet", *checked],
        ["-m", "ruff", "format", "--check", "--quiet", *checked],
        ["-m", "tools.address"],
        ["-m", "tools.fresh"],
    ):
        done = run(public, *words)
        assert done.returncode == 0, done.stdout + done.stderr
    tests = [
        "tests/test_checks.py",
        "tests/test_leaks.py",
        "tests/tools/test_course.py",
        "tests/test_layers.py",
    ]
    done = run(public, "-m", "pytest", "-q", "-rs", "-m", "not slow and not browser", *tests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed, \d+ skipped", done.stdout)
    reasons = set(re.findall(r"SKIPPED .*: (.*)$", done.stdout, re.MULTILINE))
    assert reasons
    assert all("in the instructors' repository only" in reason for reason in reasons), reasons
