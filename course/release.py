"""`make release-public`: the repository as it may be published, in `_build/public`.

It is the committed tree without what `.gitattributes` marks as export-ignore, with the students' notebooks,
and is put in place only when no line of a solution was found in it. The masters are read where they lie, and
must be committed as well: else students would get what belongs to no commit.
"""

import argparse
import io
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tools import course, leaks, notebooks
from tools.errors import ReleaseFailed, run_main


def git(root: Path, *words: str) -> bytes:
    """What git says."""
    try:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or str(error).encode()
        raise ReleaseFailed(
            f"git {words[0]} failed: {said.decode().strip()}; it needs a git repository"
        ) from error


def make(root: Path, target: Path) -> None:
    """The public tree, in `target`."""
    course.masters(root)
    if changed := git(root, "status", "--porcelain", "--", str(course.INSTRUCTOR)).decode().rstrip():
        raise ReleaseFailed(
            f"{changed}\n{course.INSTRUCTOR} is not as committed, and students' notebooks are made from it; "
            "commit what is named here, or stash it"
        )
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(git(root, "archive", "--format=tar", "HEAD"))) as archive:
        archive.extractall(target, filter="data")
    left = target / course.INSTRUCTOR
    if left.exists():
        raise ReleaseFailed(
            f"{course.INSTRUCTOR} is in the public tree; .gitattributes must mark it export-ignore"
        )
    known = leaks.secrets(root)
    _refuse(target, leaks.search(known, sorted(target.rglob("*"))))
    work = target.with_name(f"{target.name}.work")
    shutil.rmtree(work, ignore_errors=True)
    course.generate(root, work)
    students = target / "course" / "student"
    for path in course.masters(root):
        notebooks.write(notebooks.read(work / "release" / path.stem / path.name), students / path.name)
    shutil.rmtree(work)
    _refuse(target, leaks.search(known, sorted(students.iterdir())))


def _refuse(target: Path, found: list[leaks.Leak]) -> None:
    if found:
        lines = [str(leak).replace(f"{target}/", "") for leak in found]
        raise ReleaseFailed("\n".join([*lines, "solutions would be published; nothing was released"]))


def main(arguments: Sequence[str]) -> None:
    """Make the tree and put it in place."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__)
    parser.add_argument("--root", type=Path, default=notebooks.ROOT)
    root = parser.parse_args(arguments).root.resolve()
    public, new = root / "_build" / "public", root / "_build" / "public.new"
    make(root, new)
    shutil.rmtree(public, ignore_errors=True)
    new.replace(public)
    if git(root, "status", "--porcelain").strip():
        print("what is not committed is not in it")
    print(f"the public tree: {public}")
    print(
        "check it there with make test, then push it as a repository of its own, without this one's history"
    )


if __name__ == "__main__":
    run_main(main)
