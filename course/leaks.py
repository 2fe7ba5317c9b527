"""`make -C course leaks`: where a line of a solution stands that students can read.

Telling lines are taken from the masters (model answers, rubrics, hidden tests), from the answers to what the
checks check, and from the solutions to the chapters' exercises. They are compared by letters and digits, so
that markup, escapes and line breaks hide nothing.
"""

import argparse
import html
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from course import INSTRUCTOR, ROOT, BookError, assignments, read, run_main

TELLING = 28  # letters and digits; what is shorter is said by chance
REGION = re.compile(r"BEGIN (SOLUTION|HIDDEN TESTS)\n(.*?)\n\s*(?:### )?END \1", re.DOTALL)
SENTENCE = re.compile(r"(?<=[.;:?!])\s+")
TAG = re.compile(r"<[^<>]*>")
PICTURE = re.compile(r"[0-9A-Za-z+/=]{400,}")
ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


class Secret(NamedTuple):
    """A line of a solution, as written, and the file it is from."""

    line: str
    source: str


def git(root: Path, *words: str) -> bytes:
    """What git says."""
    try:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or str(error).encode()
        raise BookError(
            f"git {words[0]} failed: {said.decode().strip()}; it needs a git repository"
        ) from error


def published(root: Path) -> list[Path]:
    """The tracked files that .gitattributes does not keep back."""
    listed = git(root, "ls-files", "-z", "--", ":(exclude,attr:export-ignore)").decode()
    return [root / name for name in listed.split("\0") if name]


def plain(text: str) -> str:
    """Letters and digits alone."""
    return re.sub(r"[^0-9a-zα-ω]+", "", text.casefold())


def secrets(root: Path) -> dict[str, Secret]:
    """Each telling line by its letters."""
    regions = [
        (path.name, match[2])
        for path in assignments.masters(root)
        for cell in read(path).cells
        for match in REGION.finditer(cell.source)
    ]
    whole = [
        (path.name, path.read_text("utf-8"))
        for path in sorted((root / INSTRUCTOR).iterdir())
        if path.suffix in (".md", ".py")
    ]
    found = {}
    for source, text in regions + whole:
        for line in text.replace("**Model answer.** ", "").splitlines():
            for piece in SENTENCE.split(line) if len(line) > 150 else [line]:
                if not piece.startswith(("import ", "from ")):
                    found[plain(piece)] = Secret(piece.strip(), source)
    return {letters: secret for letters, secret in found.items() if len(letters) >= TELLING}


def texts(path: Path) -> Iterator[str]:
    """The letters of a file of text as it is, and as a page shows it."""
    if b"\0" in (written := path.read_bytes()):
        return
    content = PICTURE.sub("", written.decode("utf-8", "replace"))
    yield plain(content)
    if path.suffix in (".html", ".ipynb", ".js", ".json"):
        shown = ESCAPE.sub(lambda match: chr(int(match[1], 16)), content.replace("\\n", "\n"))
        yield plain(html.unescape(TAG.sub("", shown.replace('\\"', '"'))))


def search(known: dict[str, Secret], root: Path, files: Iterable[Path]) -> list[str]:
    """Every telling line that stands in one of the files, with its place."""
    found = []
    for path in files:
        shown = list(texts(path)) if path.is_file() else []
        for letters, (line, source) in known.items():
            if any(letters in text for text in shown):
                found.append(f"{path.relative_to(root)}: {line[:80]!r} is from {source}")
    return found


def main(arguments: Sequence[str]) -> None:
    """Look through what is tracked and published, and through the pages where they are built."""
    parser = argparse.ArgumentParser(prog="python -m course.leaks", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT)
    root = parser.parse_args(arguments).root.resolve()
    known, files = secrets(root), published(root)
    for name in ("html", "site", "slides"):
        files += sorted((root / "_build" / name).rglob("*"))
    if found := search(known, root, files):
        raise BookError("\n".join([*found, f"{len(found)} lines of solutions would be published"]))
    print(f"none of {len(known)} lines of solutions stands in {len(files)} published files")


if __name__ == "__main__":
    run_main(main)
