"""`make -C course release`: the repository as it may be published, in `_build/public`.

It is the committed tree without what `.gitattributes` marks as export-ignore, with the students' notebooks,
and is put in place only when no line of a solution was found in it. The masters are read where they lie, and
must be committed as well: else students would get what belongs to no commit.
"""

import argparse
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from course import INSTRUCTOR, ROOT, BookError, assignments, leaks, put, read, run_main, write


def make(root: Path, target: Path) -> None:
    """The public tree, in `target`."""
    if changed := leaks.git(root, "status", "--porcelain", "--", str(INSTRUCTOR)).decode().rstrip():
        raise BookError(
            f"{changed}\n{INSTRUCTOR} is not as committed, and students' notebooks are made from it; "
            "commit what is named here, or stash it"
        )
    with tarfile.open(fileobj=io.BytesIO(leaks.git(root, "archive", "--format=tar", "HEAD"))) as archive:
        archive.extractall(target, filter="data")
    course = target / INSTRUCTOR.parent
    if kept := [path.name for path in course.iterdir() if path.name != "README.md"]:
        raise BookError(
            f"{', '.join(kept)} of {course.name} would be published; .gitattributes must keep it back"
        )
    with TemporaryDirectory(dir=target.parent) as work:
        assignments.generate(root, Path(work))
        for path in assignments.for_students(Path(work)).values():
            write(read(path), course / "student" / path.name)
    if found := leaks.search(leaks.secrets(root), target, sorted(target.rglob("*"))):
        raise BookError("\n".join([*found, "solutions would be published; nothing was released"]))


def main(arguments: Sequence[str]) -> None:
    """Make the tree and put it in place."""
    parser = argparse.ArgumentParser(prog="python -m course.release", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT)
    root = parser.parse_args(arguments).root.resolve()
    public = root / "_build" / "public"
    public.parent.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="public.", dir=public.parent) as work:
        made = Path(work, "tree")
        make(root, made)
        put(made, public)
    if leaks.git(root, "status", "--porcelain").strip():
        print("what is not committed is not in it")
    print(f"the public tree: {public}")
    print("try it there with make test, then push it as a repository of its own, without this one's history")


if __name__ == "__main__":
    run_main(main)
