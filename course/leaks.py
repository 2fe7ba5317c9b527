"""Where a line of a solution stands that students can read.

Telling lines are taken from the masters (model answers, rubrics, hidden tests), from the answers to what the
checks check, and from the solutions to the chapters' exercises. They are compared by letters and digits,
so that markup, escapes and line breaks hide nothing.
"""

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools import course, notebooks

TELLING = 28  # letters and digits; what is shorter is said by chance
TEXT = {
    ".cff",
    ".css",
    ".csv",
    ".html",
    ".inv",
    ".ipynb",
    ".js",
    ".json",
    ".md",
    ".py",
    ".txt",
    ".yml",
    ".toml",
    "",
}
REGION = re.compile(r"BEGIN (SOLUTION|HIDDEN TESTS)\n(.*?)\n\s*(?:### )?END \1", re.DOTALL)
SENTENCE = re.compile(r"(?<=[.;:?!])\s+")
TAG = re.compile(r"<[^<>]*>")
PICTURE = re.compile(r"[0-9A-Za-z+/=]{400,}")
ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


@dataclass(frozen=True)
class Leak:
    """A line of a solution, whence, and where it was found."""

    line: str
    source: str
    place: Path

    def __str__(self) -> str:
        return f"{self.place}: {self.line[:80]!r} is from {self.source}"


def plain(text: str) -> str:
    """Letters and digits alone."""
    return re.sub(r"[^0-9a-zα-ω]+", "", text.casefold())


def _pieces(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from SENTENCE.split(line) if len(line) > 150 else [line]


def secrets(root: Path) -> dict[str, tuple[str, str]]:
    """Each telling line by its letters, as written and with its file."""
    found = {}
    for path in course.masters(root):
        for cell in notebooks.read(path).cells:
            for match in REGION.finditer(cell.source):
                for line in _pieces(match[2]):
                    found[plain(line)] = (line.strip(), path.name)
    for path in sorted((root / course.INSTRUCTOR).iterdir()):
        for line in _pieces(path.read_text("utf-8")) if path.suffix in (".md", ".py") else ():
            if not line.startswith(("import ", "from ")):
                found[plain(line)] = (line.strip(), path.name)
    return {letters: line for letters, line in found.items() if len(letters) >= TELLING}


def texts(path: Path) -> Iterator[str]:
    """The letters of a file as it is, and as a page shows it."""
    content = PICTURE.sub("", path.read_text("utf-8", "replace"))
    yield plain(content)
    if path.suffix in (".html", ".ipynb", ".js", ".json"):
        written = ESCAPE.sub(lambda match: chr(int(match[1], 16)), content.replace("\\n", "\n"))
        yield plain(html.unescape(TAG.sub("", written.replace('\\"', '"'))))


def search(known: dict[str, tuple[str, str]], files: Iterable[Path]) -> list[Leak]:
    """Every telling line that stands in one of the files."""
    found = {}
    # One pass for each file: a line is looked for where its first letters are.
    starts: dict[str, list[str]] = {}
    for letters in known:
        starts.setdefault(letters[:TELLING], []).append(letters)
    pattern = re.compile("|".join(map(re.escape, starts))) if starts else None
    for path in files:
        if pattern is None or path.suffix not in TEXT or not path.is_file():
            continue
        for text in texts(path):
            for match in pattern.finditer(text):
                for letters in starts[match[0]]:
                    if text.startswith(letters, match.start()):
                        found[letters, path] = Leak(*known[letters], path)
    return list(found.values())
