"""Who takes the course, by lists that Moodle and Canvas export or any table; and marks back into them.

Each list in the folder `roster` of the marks is read, and comes back with the marks filled in, ready to
import: Canvas's gradebook by the column whose heading begins with the assignment's title, Moodle's grading
worksheet if the title or the assignment stands in the name of the file.
"""

import csv
import io
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from dateutil import parser as dates  # type: ignore[import-untyped]

from course import BookError

NAMES = ("Student", "Full name", "student", "name", "Name")
IDS = (
    "ID",
    "ID number",
    "SIS Login ID",
    "SIS User ID",
    "Username",
    "Email address",
    "Email",
    "id",
    "email",
    "login",
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Named(Protocol):
    """What an LMS says in the name of a file."""

    @property
    def lms(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def number(self) -> str: ...


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The headings and rows of a table, however a spreadsheet has saved it."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey="", restval="")
    rows = [{key: harmful(value) for key, value in row.items() if key} for row in reader]
    return list(reader.fieldnames or []), rows


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a table beside and then in its place; no spreadsheet runs what stands in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\r\n")
        writer.writeheader()
        writer.writerows({key: harmless(value) for key, value in row.items()} for row in rows)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def harmless(value: object) -> object:
    """A value that a spreadsheet would run as a formula, with an apostrophe before it."""
    if isinstance(value, str) and value.startswith((*FORMULA, "'")) and not number(value):
        return f"'{value}"
    return value


def harmful(value: Any) -> str:
    """The value that `harmless` was given."""
    text = value if isinstance(value, str) else ""
    return text[1:] if text.startswith("'") and text[1:].startswith((*FORMULA, "'")) else text


def number(text: str) -> bool:
    """Whether it is a number, or the dash for none, and nothing else."""
    return bool(re.fullmatch(r"[+-]?\d+([.,]\d+)?|-", text.strip()))


def plain(text: str) -> str:
    """Letters and digits of any script, without case and accents."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(one for one in apart if one.isalnum())


@dataclass
class Person:
    """One who takes the course."""

    name: str
    ids: set[str] = field(default_factory=set)
    numbers: set[tuple[str, str]] = field(default_factory=set)  # the list, and the participant's number in it
    rows: dict[str, dict[str, str]] = field(default_factory=dict)  # the row in each list
    label: str = ""

    def known_as(self) -> set[str]:
        """All that a folder of this person may be called."""
        last, comma, first = self.name.partition(",")
        words = self.name.split()
        found = {self.name, f"{first} {last}" if comma else f"{' '.join(words[1:])} {''.join(words[:1])}"}
        if len(words) > 2 and not comma:
            found.add(f"{words[-1]} {' '.join(words[:-1])}")
        found |= self.ids | {one.partition("@")[0] for one in self.ids if "@" in one}
        return {plain(one) for one in found} - {""}


class Roster:
    """All who take the course, from all the lists in a folder."""

    def __init__(self, folder: Path) -> None:
        self.people: list[Person] = []
        self.lists: dict[str, tuple[list[str], list[dict[str, str]]]] = {}
        for path in sorted(folder.glob("*.csv")):
            self.read(path)
        names = [person.name for person in self.people]
        for person in self.people:
            same = names.count(person.name) > 1
            person.label = f"{person.name} ({min(person.ids or {'?'})})" if same else person.name

    def read(self, path: Path) -> None:
        """Add what stands in a list."""
        columns, rows = read_table(path)
        self.lists[path.name] = columns, rows
        heading = next((name for name in NAMES if name in columns), None)
        both = [name for name in ("First name", "Last name", "Surname") if name in columns]
        if heading is None and len(both) < 2 and "Identifier" not in columns:
            raise BookError(
                f"{path}: no column with names among {', '.join(columns) or 'none'}; a list is Canvas's "
                "gradebook, Moodle's grading worksheet in English, or a table with a column `name`"
            )
        for row in rows:
            name = (
                row.get(heading, "").strip()
                if heading
                else " ".join(row.get(one, "") for one in both).strip()
            )
            participant = "".join(re.findall(r"\d+", row.get("Identifier", "")))
            ids = {row[key].strip() for key in IDS if row.get(key, "").strip()}
            name = name or row.get("Identifier", "").strip()
            if not name or name == "Points Possible" or name == "Student, Test":
                continue
            person = self.same(name, ids, path.name)
            if person is None:
                person = Person(name)
                self.people.append(person)
            person.ids |= ids
            person.rows[path.name] = row
            if participant:
                person.numbers.add((path.name, participant))

    def same(self, name: str, ids: set[str], table: str) -> Person | None:
        """Who stands in an earlier list with the same id, or else, alone, under that name."""
        others = [person for person in self.people if table not in person.rows]
        alike = [person for person in others if ids & person.ids] or [
            person for person in others if person.known_as() & Person(name).known_as()
        ]
        return alike[0] if len(alike) == 1 else None

    def find(self, parts: Sequence[str], known: Named | None) -> Person | None:
        """Whose a file is, by what an LMS says, or by the names on its way; None if that is not clear."""
        numbered = [
            person
            for person in self.people
            if known
            and (known.number in person.ids if known.lms == "canvas" else self.participant(person, known))
        ]
        if len(numbered) == 1:
            return numbered[0]
        stems = [part.removesuffix(".ipynb") for part in reversed(parts)]
        for one in [known.name] if known else stems:
            fitting = [person for person in numbered or self.people if plain(one) in person.known_as()]
            if len(fitting) == 1:
                return fitting[0]
        within = [
            person
            for person in self.people
            if not known and any(len(key) > 3 and key in plain(stems[0]) for key in person.known_as())
        ]
        return within[0] if len(within) == 1 else None

    def participant(self, person: Person, known: Named) -> bool:
        """Whether Moodle's number, another one in each assignment, is that person's and the name agrees."""
        agrees = plain(known.name) in person.known_as() or known.name.startswith("Participant")
        return agrees and any(number == known.number for _, number in person.numbers)

    def row(self, person: Person | None, words: Sequence[str]) -> dict[str, str]:
        """The person's row in Moodle's worksheet of an assignment."""
        for name, row in (person.rows if person else {}).items():
            if "Identifier" in row and about(name, words):
                return row
        return {}


def about(text: str, words: Sequence[str]) -> bool:
    """Whether one of the names of an assignment stands in the text."""
    return any(plain(word) in plain(text) for word in words)


def days_late(row: Mapping[str, str], due: datetime | None) -> int | None:
    """Days begun after the date, from Moodle's worksheet; None where it says nothing."""
    status = row.get("Status", "")
    if match := re.search(r"- ([^-]*?) late\b", status):
        days = re.search(r"(\d+) day", match[1])
        rest = re.search(r"\d+ (hour|min|sec)", match[1])
        return (int(days[1]) if days else 0) + (1 if rest else 0)
    text = row.get("Last modified (submission)", "").strip(" -")
    if not text or due is None:
        return 0 if status.startswith("Submitted") and due is None else None
    try:
        over = (dates.parse(text, ignoretz=True) - due).total_seconds()
    except (ValueError, OverflowError):
        return None
    return max(0, -int(-over // 86400))


def fill(
    roster: Roster, folder: Path, assignment: str, title: str, marks: Mapping[str, tuple[str, str]]
) -> list[Path]:
    """Write each list that is about an assignment with the marks in it: points and a comment, by student."""
    written = []
    for name, (columns, rows) in roster.lists.items():
        owners = {id(person.rows[name]): person.label for person in roster.people if name in person.rows}
        column = next((one for one in columns if one.startswith(title) or one.startswith(assignment)), None)
        if "Identifier" in columns and about(name, (title, assignment)):
            column, comment = "Grade", "Feedback comments"
        elif "Student" in columns and column:
            comment = ""
        else:
            continue
        for row in rows:
            points, words = marks.get(owners.get(id(row), ""), ("", ""))
            if points:
                row[column] = points
                if comment in columns:
                    row[comment] = words
        write_table(folder / name, columns, rows)
        written.append(folder / name)
    return written
