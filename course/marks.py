"""The marks: what tests gave, what readers gave, and what is made of both.

========================  ============================================================================
`course.toml`             by hand: title, due date, penalty and the attempt that counts, for each assignment
`roster/`                 by hand: lists of students, as Moodle or Canvas export them
`attempts.csv`            a line for each notebook that was handed in; `days_late` is yours once it is there
`tests.csv`               a line for each attempt and test
`written.csv`             the sheet to mark by: points and comments are yours, and never overwritten
`notebooks/`              each attempt as it was graded
`grades/`, `lists/`       made anew: a table for each assignment, and the lists of `roster` with marks in them
`feedback/`               made anew: a page for each student and assignment
========================  ============================================================================
"""

import fcntl
import os
import re
import threading
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from course import BookError
from course.roster import Roster, fill, read_table, write_table

Row = dict[str, str]
Key = tuple[str, str, str]  # student, assignment, attempt
COLUMNS = {
    name: columns.split()
    for name, columns in {
        "attempts": "student assignment attempt file state note days_late digest tests graded",
        "tests": "student assignment attempt task points of said",
        "written": "student assignment attempt task page answer rubric of points comment",
    }.items()
}
REST = ("days late", "penalty %", "total", "of", "waiting", "note")
COUNTS = ("last", "first", "best")


def key(row: Mapping[str, str]) -> Key:
    return row["student"], row["assignment"], row["attempt"]


def file_name(student: str) -> str:
    """A name for the student's files, another one for each student."""
    name = re.sub(r"[^\w .()-]", "_", student).strip(". ") or "_"
    return name if name == student else f"{name}-{sum(student.encode()) % 9973:04d}"


@dataclass(frozen=True)
class Rules:
    """What `course.toml` says of an assignment."""

    title: str
    due: datetime | None = None
    percent_a_day: float = 0.0
    counts: str = "last"


@dataclass
class Total:
    """What one student has in one assignment."""

    student: str
    attempt: str
    state: str
    tasks: dict[str, float | None]  # by cell; None waits for a reader
    of: dict[str, float]
    days_late: int
    penalty: float
    note: str

    @property
    def waiting(self) -> int:
        return sum(points is None for points in self.tasks.values())

    @property
    def points(self) -> float:
        earned = sum(points or 0.0 for points in self.tasks.values())
        return max(0.0, round(earned * (1 - self.penalty / 100), 2))


class Marks:
    """The folder of marks; every change is on the disk before the next one begins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        folder.mkdir(parents=True, exist_ok=True)
        self.roster = Roster(folder / "roster")
        self.rules = self.read_rules()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep a second grading out."""
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise BookError(f"{self.folder}: another grading writes there; wait for its end") from error
            yield

    def read_rules(self) -> dict[str, Rules]:
        """What stands in course.toml."""
        path, found = self.folder / "course.toml", {}
        if not path.exists():
            return {}
        try:
            for name, said in tomllib.loads(path.read_text("utf-8")).items():
                rules = Rules(**({"title": name} | said))
                due: Any = rules.due
                if type(due) is date:
                    due = datetime.combine(due, time(23, 59, 59))
                if due is not None and not isinstance(due, datetime):
                    raise ValueError(f"due = {due!r}; write 2027-01-31T23:59:00, without quotes")
                if rules.counts not in COUNTS or not 0 <= float(rules.percent_a_day) <= 100:
                    raise ValueError(f"counts is one of {', '.join(COUNTS)}, percent_a_day from 0 to 100")
                due = due.replace(tzinfo=None) if due else None
                found[name] = Rules(rules.title, due, float(rules.percent_a_day), rules.counts)
        except (tomllib.TOMLDecodeError, TypeError, ValueError) as error:
            raise BookError(f"{path}: {error}") from error
        return found

    def of(self, assignment: str) -> Rules:
        return self.rules.get(assignment, Rules(assignment))

    # ------------------------------------------------------------------------------------ the three tables

    def read(self, name: str) -> list[Row]:
        """The rows of a table as they are on the disk, edited or not."""
        path = self.folder / f"{name}.csv"
        if not path.exists():
            return []
        columns, rows = read_table(path)
        if lost := [column for column in COLUMNS[name] if column not in columns]:
            raise BookError(
                f"{path} has no column {', '.join(lost)}; it has {', '.join(columns)}. "
                "Give it back its first line in your spreadsheet"
            )
        return [{column: row.get(column, "") for column in COLUMNS[name]} for row in rows]

    def write(self, name: str, rows: Iterable[Mapping[str, object]]) -> None:
        write_table(self.folder / f"{name}.csv", COLUMNS[name], rows)

    def attempt(self, student: str, assignment: str, digest: str) -> tuple[str, Row]:
        """The number of the attempt with that file, and its row if it is known already."""
        rows = [row for row in self.read("attempts") if key(row)[:2] == (student, assignment)]
        for row in rows:
            if row["digest"] == digest:
                return row["attempt"], row
        return str(1 + max((int(row["attempt"]) for row in rows), default=0)), {}

    def record(self, attempt: Row, tests: list[Row], written: list[Row]) -> None:
        """Keep what became of an attempt; what readers have written stays, and goes with an answer."""
        with self.lock:
            rows = self.read("written")
            there = {(*key(row), row["task"]) for row in rows}
            for row in written:
                if (*key(row), row["task"]) in there:
                    continue
                same = [one for one in rows if one["points"] and all(one[k] == row[k] for k in SAME)]
                rows.append(row | ({k: same[-1][k] for k in ("points", "comment")} if same else {}))
            if written:
                self.write("written", rows)
            others = [row for row in self.read("tests") if key(row) != key(attempt)]
            self.write("tests", [*others, *tests])
            known = {key(row): row for row in self.read("attempts")}
            if late := known.get(key(attempt), {}).get("days_late"):
                attempt = attempt | {"days_late": late}
            self.write("attempts", (known | {key(attempt): attempt}).values())

    # ----------------------------------------------------------------------------------------- what counts

    def totals(self, assignment: str) -> dict[str, Total]:
        """What each student has, by the attempt that counts; everybody on the roster has a line."""
        tests, written = (group(self.read(name)) for name in ("tests", "written"))
        every_attempt = self.read("attempts")
        if lost := set(written) - {key(row) for row in every_attempt}:
            raise BookError(
                f"{self.folder / 'written.csv'}: no attempt is that of {', '.join(min(lost))}; give the row "
                "its student back, and save as CSV UTF-8, which keeps every script"
            )
        attempts: dict[str, list[Row]] = {}
        for row in every_attempt:
            if row["assignment"] == assignment:
                attempts.setdefault(row["student"], []).append(row)
        found = {}
        for student, rows in attempts.items():
            rows.sort(key=lambda row: int(row["attempt"]))  # several are graded at a time, and end as they do
            every = [self.total(row, tests.get(key(row), []), written.get(key(row), [])) for row in rows]
            graded = [one for one in every if one.state == "graded"] or every[-1:]
            counts = self.of(assignment).counts
            found[student] = (
                max(graded, key=lambda one: one.points)
                if counts == "best"
                else graded[0 if counts == "first" else -1]
            )
            if found[student] is not every[-1] and every[-1].state != "graded":
                found[student].note += f"; a later file is {every[-1].state}: {every[-1].note}"
        for person in self.roster.people:
            nothing = Total(person.label, "", "nothing handed in", {}, {}, 0, 0.0, "")
            found.setdefault(person.label, nothing)
        return dict(sorted(found.items(), key=lambda pair: pair[0].casefold()))

    def total(self, attempt: Row, tests: list[Row], written: list[Row]) -> Total:
        """The points of one attempt: of tests, then of readers, who may overrule a test."""
        tasks: dict[str, float | None] = {row["task"]: float(row["points"]) for row in tests}
        of = {row["task"]: float(row["of"]) for row in tests}
        for row in written:
            name = row["task"]
            of[name] = of.get(name) or self.number(row, "of", 1e6) or 0.0
            if (points := self.number(row, "points", of[name])) is not None or name not in tasks:
                tasks[name] = points
        late = int(self.number(attempt, "days_late", 1e4) or 0)
        percent = min(100.0, self.of(attempt["assignment"]).percent_a_day * late)
        student, _, number = key(attempt)
        return Total(student, number, attempt["state"], tasks, of, late, percent, attempt["note"])

    def number(self, row: Row, column: str, most: float) -> float | None:
        """A number that somebody wrote into a table, with a point or a comma; None where nothing stands."""
        text = row[column].strip().replace(",", ".")
        if not text:
            return None
        try:
            found = float(text)
        except ValueError:
            found = -1.0
        if not 0 <= found <= most:
            where = ", ".join(row[name] for name in ("student", "assignment", "task") if name in row)
            raise BookError(
                f"{self.folder}: {column} of {where} is {text!r}; it must be a number from 0 to {most:g}"
            )
        return found

    # ------------------------------------------------------------------------------------------ what is made

    def publish(self, headings: Mapping[str, Mapping[str, str]]) -> None:
        """Make grades and lists, from the assignments' headings by cell."""
        for assignment, heading in headings.items():
            totals = self.totals(assignment)
            titles = list(dict.fromkeys(heading.values()))
            rows = [self.line(total, heading) for total in totals.values()]
            columns = [
                "student",
                "state",
                "attempt",
                *titles,
                "days late",
                "penalty %",
                "total",
                "of",
                "waiting",
                "note",
            ]
            write_table(self.folder / "grades" / f"{assignment}.csv", columns, rows)
            comments: dict[str, list[str]] = {}
            for row in self.read("written"):
                student, attempt = row["student"], row["attempt"]
                if row["comment"] and row["assignment"] == assignment and totals[student].attempt == attempt:
                    title = heading.get(row["task"], row["task"])
                    comments.setdefault(student, []).append(f"{title}: {row['comment']}")
            done = {
                student: (f"{total.points:g}", "\n".join(comments.get(student, [])))
                for student, total in totals.items()
                if total.state == "graded" and not total.waiting
            }
            fill(self.roster, self.folder / "lists", assignment, self.of(assignment).title, done)

    def line(self, total: Total, heading: Mapping[str, str]) -> dict[str, Any]:
        """A student's line in the table of an assignment: points by task, as it is headed."""
        line: dict[str, Any] = {
            "student": total.student,
            "state": total.state,
            "attempt": total.attempt,
            "days late": total.days_late or "",
            "penalty %": f"{total.penalty:g}" if total.penalty else "",
            "total": "" if total.waiting or not total.tasks else f"{total.points:g}",
            "of": f"{sum(total.of.values()):g}" if total.of else "",
            "waiting": total.waiting or "",
            "note": total.note,
        }
        for title in dict.fromkeys(heading.values()):
            cells = [name for name, of in heading.items() if of == title and name in total.tasks]
            points = [total.tasks[name] for name in cells]
            if cells:
                line[title] = "waiting" if None in points else f"{sum(p or 0.0 for p in points):g}"
        return line


SAME = ("student", "assignment", "task", "answer")


def group(rows: Iterable[Row]) -> dict[Key, list[Row]]:
    """The rows of each attempt."""
    found: dict[Key, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def place(root: Path, told: Path | None) -> Path:
    """Where the marks are."""
    return (told or Path(os.environ.get("MARKS") or root / "course" / "marks")).resolve()
