"""What was handed in, however it was packed: folders, sections, loose files, zips of Moodle and Canvas.

Every notebook becomes a submission, and so does every folder or zip in which there is none. What lies beside
a notebook travels with it.
"""

import re
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from course import BookError
from course.roster import Person, Roster

DEEPEST = 3  # zips in zips
LARGEST = 200_000_000  # bytes of one file in a zip
ALL = 10_000_000_000  # bytes of everything that is unpacked
MOODLE = re.compile(r"(?P<name>.+)_(?P<number>\d+)_assignsubmission_file_?(?P<rest>.*)", re.DOTALL)
CANVAS = re.compile(r"(?P<name>[^_]+)(?P<late>_LATE)?_(?P<number>\d{3,})_\d{3,}_(?P<rest>.+)", re.DOTALL)


class Named(NamedTuple):
    """What the name of a file or folder says that an LMS has given."""

    lms: str
    name: str
    number: str
    late: bool
    rest: str  # the name that the student gave


@dataclass
class Submission:
    """One notebook, or a place where there should be one."""

    student: str
    path: Path | None
    file: str = ""  # its name, as the student gave it
    beside: dict[str, Path] = field(default_factory=dict)
    person: Person | None = None
    late: bool = False  # as the LMS says in the name
    trouble: str = ""


class Found(NamedTuple):
    """A file, and the folders and zips that it was in."""

    parts: tuple[str, ...]
    path: Path
    trouble: str = ""


def named(name: str) -> Named | None:
    """What Moodle or Canvas says in a name."""
    if match := MOODLE.fullmatch(name):
        return Named("moodle", match["name"], match["number"], False, match["rest"])
    if match := CANVAS.fullmatch(name):
        return Named("canvas", match["name"], match["number"], bool(match["late"]), match["rest"])
    return None


class Unpacker:
    """Walks through folders and zips; zips are unpacked into `place`."""

    def __init__(self, place: Path) -> None:
        self.place, self.count, self.left = place, 0, ALL

    def walk(self, folder: Path, parts: tuple[str, ...] = (), depth: int = 0) -> Iterator[Found]:
        """Every file, but for what systems and editors leave behind."""
        for child in sorted(folder.iterdir()):
            name = unicodedata.normalize("NFC", child.name)
            if name.startswith((".", "__MACOSX")) or (child.is_symlink() and child.is_dir()):
                continue
            if child.is_dir():
                yield from self.walk(child, (*parts, name), depth)
            elif child.suffix.lower() == ".zip" and not child.is_symlink():
                yield from self.unpack(child, (*parts, name[:-4]), depth + 1)
            else:
                yield Found((*parts, name), child)

    def unpack(self, path: Path, parts: tuple[str, ...], depth: int) -> Iterator[Found]:
        """What a zip holds."""
        self.count += 1
        target = self.place / f"{self.count:04d}"
        target.mkdir(parents=True)
        try:
            if depth > DEEPEST:
                raise zipfile.BadZipFile(f"zips more than {DEEPEST} deep")
            with open_zip(path) as archive:
                for entry in archive.infolist():
                    if "__MACOSX" in entry.filename or PurePosixPath(entry.filename).name.startswith("."):
                        continue
                    self.left -= entry.file_size
                    if entry.file_size > LARGEST or self.left < 0:
                        raise zipfile.BadZipFile(f"{entry.filename} is too large")
                    archive.extract(entry, target)
        except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, NotImplementedError) as error:
            yield Found((*parts, path.name), path, f"the zip cannot be unpacked: {str(error)[:120]}")
            return
        yield from self.walk(target, parts, depth)


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip whose names are read as UTF-8, which a Mac does not say, and else as it says."""
    try:
        return zipfile.ZipFile(path, metadata_encoding="utf-8")
    except UnicodeDecodeError:
        return zipfile.ZipFile(path)


def unit(found: Found) -> tuple[tuple[str, ...], Named | None]:
    """What belongs together: all of one student in an LMS's archive, else a folder or a loose file."""
    for place, part in enumerate(found.parts):
        if known := named(part):
            return (*found.parts[:place], f"{known.name}_{known.number}"), known
    return (found.parts[:-1] or (PurePosixPath(found.parts[0]).stem,)), None


def submissions(folder: Path, place: Path, roster: Roster) -> list[Submission]:
    """Everything that was handed in, with its students."""
    units: dict[tuple[str, ...], list[Found]] = {}
    of_lms: dict[tuple[str, ...], Named] = {}
    unpacker = Unpacker(place)
    for found in unpacker.walk(folder) if folder.is_dir() else unpacker.unpack(folder, (), 1):
        key, known = unit(found)
        units.setdefault(key, []).append(found)
        if known:
            late = known.late or (key in of_lms and of_lms[key].late)
            of_lms[key] = known._replace(late=late)
    with_notebook = {
        key for key, files in units.items() if any(is_notebook(one) or one.trouble for one in files)
    }
    alone = {key for key in units if key in with_notebook or not related(key, with_notebook)}
    twice = same_names(of_lms)
    made = []
    for key in sorted(alone):
        files = units[key] + [
            one for other, more in units.items() for one in more if inside(other, key, alone)
        ]
        known = of_lms.get(key)
        label = "/".join(key) if known is None else known.name + (f" {known.number}" if key in twice else "")
        notebooks: list[Found | None] = [one for one in files if counts(one)]
        for one in notebooks or [None]:
            person = roster.find(one.parts if one else key, known)
            submission = Submission(
                person.label if person else label, None, person=person, late=bool(known and known.late)
            )
            if one is not None:
                submission.path, submission.trouble = one.path, one.trouble
                submission.file = own_name(one.parts[-1])
                near = [other for other in files if not is_notebook(other) and not other.trouble]
                if known or len(one.parts) > 1:
                    submission.beside = {relative(other, one, known): other.path for other in near}
            made.append(submission)
    return made


def is_notebook(found: Found) -> bool:
    return found.path.suffix.lower() == ".ipynb" and not found.trouble


def counts(found: Found) -> bool:
    """Whether it makes a submission: a notebook, or a zip that cannot be read."""
    return is_notebook(found) or bool(found.trouble)


def own_name(name: str) -> str:
    """The name that the student gave."""
    known = named(name)
    return known.rest if known and known.rest else name


def relative(other: Found, notebook: Found, known: Named | None) -> str:
    """Where a file lies as the notebook sees it."""
    start = len(notebook.parts) - 1
    parts = other.parts if known and len(other.parts) <= start else other.parts[start:]
    return "/".join((*parts[:-1], own_name(parts[-1])))


def related(key: tuple[str, ...], keys: set[tuple[str, ...]]) -> bool:
    """Whether one of the keys is above or below."""
    return any(key[: len(one)] == one or one[: len(key)] == key for one in keys if one != key)


def inside(other: tuple[str, ...], key: tuple[str, ...], alone: set[tuple[str, ...]]) -> bool:
    """Whether a folder without a submission of its own lies in that one."""
    return other not in alone and other[: len(key)] == key and len(other) > len(key)


def same_names(of_lms: dict[tuple[str, ...], Named]) -> set[tuple[str, ...]]:
    """Those in one archive who have a name in common."""
    numbers: dict[tuple[tuple[str, ...], str], set[tuple[str, ...]]] = {}
    for key, known in of_lms.items():
        numbers.setdefault((key[:-1], known.name), set()).add(key)
    return {key for keys in numbers.values() if len(keys) > 1 for key in keys}


def collect(folder: Path, place: Path, roster: Roster) -> list[Submission]:
    """Everything that was handed in, a folder or the zip of an LMS; nothing at all is an error."""
    if not folder.is_dir() and folder.suffix.lower() != ".zip":
        raise BookError(
            f"SUBMISSIONS={folder}: no such folder; give the zip of your LMS, or a folder with one folder, "
            "zip or notebook for each student"
        )
    found = submissions(folder, place, roster)
    if not found:
        raise BookError(f"SUBMISSIONS={folder}: no notebook in it, nor a folder")
    return found
