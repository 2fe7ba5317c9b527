"""The search for solutions finds them in every guise, and a release that would publish one is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from course import INSTRUCTOR, ROOT, BookError, assignments, leaks, read, release

SECRETS = leaks.secrets(ROOT)


def git(root: Path, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "core.hooksPath=/dev/null"]
    subprocess.run(["git", *who, *words], cwd=root, check=True, capture_output=True)


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "all")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracked files as they are now, as a repository of its own, all of it committed."""
    root = tmp_path_factory.mktemp("repository")
    for name in filter(None, leaks.git(ROOT, "ls-files", "-z").decode().split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    git(root, "init", "-q")
    commit(root)
    return root


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    told = os.environ | {"PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    asked = [sys.executable, *words]
    return subprocess.run(asked, cwd=root, env=told, capture_output=True, text=True, check=False)


def test_every_solution_is_looked_for() -> None:
    assert {source for _, source in SECRETS.values()} >= {
        path.name for path in (ROOT / INSTRUCTOR).iterdir() if path.is_file()
    }
    for path in assignments.masters(ROOT):
        for cell in read(path).cells:
            if "### BEGIN SOLUTION" in cell.source:
                solution = cell.source.partition("### BEGIN SOLUTION")[2]
                assert any(line in solution for line, _ in SECRETS.values()), cell.id


def as_page(line: str) -> tuple[str, str]:
    words = line.replace("&", "&amp;").replace("<", "&lt;").split(" ")
    return "page.html", f"<pre><span>{'</span> <span>'.join(words)}</span></pre>"


def as_output(line: str) -> tuple[str, str]:
    return "notebook.ipynb", json.dumps({"outputs": [{"text": [f"x\n{line}\n"]}]})


def as_wrapped(line: str) -> tuple[str, str]:
    return "notes.md", "Text. **" + line.replace(" ", "\n> ").upper() + "** More."


def as_code(line: str) -> tuple[str, str]:
    return "module.py", f"def f():\n    {line}\n"


@pytest.mark.parametrize("guise", [as_page, as_output, as_wrapped, as_code])
def test_a_planted_line_is_found(guise: Callable[[str], tuple[str, str]], tmp_path: Path) -> None:
    for number, (letters, secret) in enumerate(SECRETS.items()):
        name, text = guise(secret.line)
        path = tmp_path / f"{number}-{name}"
        path.write_text(text, "utf-8")
        (found,) = leaks.search({letters: secret}, tmp_path, [path])
        assert found == f"{path.name}: {secret.line[:80]!r} is from {secret.source}"


def test_the_first_sentence_of_a_model_answer_is_looked_for_by_itself(tmp_path: Path) -> None:
    page, firsts = tmp_path / "page.md", 0
    for path in assignments.masters(ROOT):
        for cell in read(path).cells:
            first = cell.source.partition("**Model answer.** ")[2].partition(". ")[0]
            if len(leaks.plain(first)) >= leaks.TELLING:
                page.write_text(first, "utf-8")
                assert leaks.search(SECRETS, tmp_path, [page]), first
                firsts += 1
    assert firsts >= 10


def test_the_public_tree_is_all_the_rest_and_holds_together(repository: Path) -> None:
    done = run(repository, "-m", "course.release")
    assert done.returncode == 0, done.stdout + done.stderr
    public = repository / "_build" / "public"
    theirs = {path.relative_to(public) for path in public.rglob("*") if path.is_file()}
    students = {path for path in theirs if path.parts[:2] == ("course", "student")}
    assert {path.name for path in students} == {path.name for path in assignments.masters(ROOT)}
    assert theirs - students == {path.relative_to(repository) for path in leaks.published(repository)}
    assert {path.name for path in (public / "course").iterdir()} == {"README.md", "student"}
    tests = [f"tests/test_{name}.py" for name in ("solutions", "checks", "notebooks")]
    done = run(public, "-m", "pytest", "-q", *tests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 skipped" in done.stdout


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("a line in a page", r"book/glossary\.md: .* is from .*\n.*nothing was released"),
        ("no attribute", r"grade\.py.* of course would be published"),
        ("a master changed", r"part-1\.ipynb\n.*is not as committed(.|\n)*commit what is named"),
        ("a new master", r"part-9\.ipynb\n.*is not as committed(.|\n)*commit what is named"),
    ],
)
def test_a_release_is_refused(how: str, said: str, repository: Path, tmp_path: Path) -> None:
    root = tmp_path / "leaking"
    shutil.copytree(repository, root, ignore=shutil.ignore_patterns("_build"))
    if how == "a line in a page":
        (root / "book" / "glossary.md").write_text(next(iter(SECRETS.values())).line, "utf-8")
        commit(root)
    elif how == "no attribute":
        (root / ".gitattributes").unlink()
        commit(root)
    else:
        name = "part-1.ipynb" if how == "a master changed" else "part-9.ipynb"
        (root / INSTRUCTOR / name).write_text("{}", "utf-8")
    with pytest.raises(BookError, match=said):
        release.main(["--root", str(root)])
    assert not list((root / "_build").iterdir())
