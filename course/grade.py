"""`make -C course grade SUBMISSIONS=folder`: grade what students handed in, each by itself, within limits.

A folder holds a folder for each student, or a notebook for each. Which assignment a notebook is, its cells
tell, not its name. Whatever a submission does, it gets a line in `_build/grades/grades.csv` and a page of
feedback, and the others are graded.
"""

import argparse
import collections
import csv
import html
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from tqdm import tqdm

from course import ROOT, BookError, assignments, processes, put, run_main, write
from course import read as read_notebook

LARGEST = 20_000_000  # bytes of a notebook; one with figures has a tenth of that

WARNING = """Grading runs the students' code as you, on this machine: it can read your files and use your
network. Run this command in a container or a virtual machine without a network and without anything of
value, under an account made for it. book/teaching.md says how."""

# Before the students' code: a cell that prints without end is stopped long before the memory is full. All is
# in one function, and takes what it calls along: it runs among the students' own names, whatever they are.
LIMIT_OUTPUT = """
def _limit_output(RuntimeError=RuntimeError, dict=dict, len=len):
    import sys

    left = {}

    def refill(*_):
        left.update(dict.fromkeys(("stdout", "stderr"), 200_000))

    def limit(name):
        stream = getattr(sys, name)
        write = stream.write

        def limited(text):
            left[name] -= len(text)
            if left[name] < 0:
                raise RuntimeError("this cell prints more than 200000 characters; print less")
            return write(text)

        stream.write = limited

    shell = get_ipython()
    shell.run_line_magic("xmode", "Minimal")  # the way to an error leads through hidden tests
    refill()
    shell.events.register("pre_run_cell", refill)
    for name in list(left):
        limit(name)


_limit_output()
del _limit_output
"""

NOT_GRADED = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"/><title>Not graded</title></head>
<body><h1>Not graded: {state}</h1>
<p>File {file}, assignment {assignment}: {note}</p>
<p>Please hand in the notebook once more: run it from top to bottom, save it, and open it again to see that it
is whole.</p>
</body></html>
"""


@dataclass
class Entry:
    """A line of grades.csv: what became of one notebook."""

    student: str
    assignment: str
    file: str
    state: str = "graded"
    points: float = 0.0
    of: float = 0.0
    by_hand: float = 0.0  # points that the written answers may still bring
    note: str = ""

    def row(self) -> dict[str, object]:
        """The line; a name that a spreadsheet would run as a formula is made harmless."""
        return {
            key: f"'{value}"
            if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t"))
            else value
            for key, value in asdict(self).items()
        }


class Unusable(Exception):
    """A file that cannot be graded: its state, and why."""

    def __init__(self, state: str, why: str) -> None:
        super().__init__(why)
        self.state = state


def submissions(folder: Path) -> Iterator[tuple[str, Path | None]]:
    """Each student with each notebook, or with None."""
    for child in sorted(folder.iterdir()):
        if child.name.startswith("."):
            continue
        if child.is_file() and child.suffix == ".ipynb":
            yield child.stem, child
        elif child.is_dir():
            found = sorted(p for p in child.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
            yield from ((child.name, path) for path in found)
            if not found:
                yield child.name, None


def read(path: Path) -> NotebookNode:
    """A submitted notebook, of whatever format, in the present one."""
    if path.is_symlink() or not path.is_file():
        raise Unusable("unreadable", "it is not a regular file")
    if path.stat().st_size > LARGEST:
        raise Unusable("too large", f"{path.stat().st_size / 1e6:.0f} MB; clear its outputs")
    text = path.read_bytes().decode("utf-8", "replace")
    if not text.strip():
        raise Unusable("empty", "the file is empty")
    try:
        notebook = nbformat.reads(text, as_version=4)
        notebook = nbformat.from_dict(nbformat.validator.normalize(notebook)[1])
        for cell in notebook.cells:
            cell.metadata, cell.source = cell.metadata, "".join(cell.source)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat fails in many ways on what is not a notebook
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise Unusable("unreadable", f"it is not a notebook: {reason}") from error
    found: NotebookNode = notebook
    return found


def identity(cell: NotebookNode) -> str:
    """The name by which the release knows a cell; where a program dropped the metadata, its id."""
    facts = cell.metadata.get("nbgrader")
    name = facts.get("grade_id") if isinstance(facts, dict) else None
    return str(name or cell.metadata.get("id") or cell.get("id", ""))


def identify(notebook: NotebookNode, name: str, releases: dict[str, NotebookNode]) -> str:
    """The assignment whose cells it holds; the file's name decides between equals."""
    held = {identity(cell) for cell in notebook.cells}
    shared = {key: len(held & {identity(cell) for cell in made.cells}) for key, made in releases.items()}
    best = max(shared, key=lambda key: (shared[key], key in name))
    if shared[best] < 3:
        raise Unusable("unknown", "it does not hold the cells of any assignment")
    return best


def restore(notebook: NotebookNode, release: NotebookNode) -> tuple[list[str], list[str]]:
    """Put back the cells that were deleted, give back metadata that were lost.

    Returns what was missing, and the tests that were changed, which nbgrader replaces by its own.
    """
    known = {identity(cell): cell for cell in release.cells if "nbgrader" in cell.metadata}
    places: dict[str, NotebookNode] = {}
    for cell in notebook.cells:
        name = identity(cell)
        if name in known and name not in places:
            places[name] = cell
            cell.metadata["nbgrader"] = dict(known[name].metadata["nbgrader"])
        else:
            cell.metadata.pop("nbgrader", None)
    missing, changed, after = [], [], -1
    for name, cell in known.items():
        if name in places:
            facts = cell.metadata["nbgrader"]
            tests = facts.get("grade") and not facts.get("solution")
            if tests and places[name].source.strip() != cell.source.strip():
                changed.append(name)
            after = max(after, next(i for i, c in enumerate(notebook.cells) if c is places[name]))
            continue
        after += 1
        notebook.cells.insert(after, nbformat.from_dict(cell))
        missing.append(name)
    seen = collections.Counter(cell.get("id") for cell in notebook.cells)
    for number, cell in enumerate(notebook.cells):
        if "id" not in cell or seen[cell.id] > 1:
            cell.id = f"cell-{number}"
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return missing, changed


def environment(scratch: Path, mark: str) -> dict[str, str]:
    """What a worker is told of this machine: where programs are, and a home of its own."""
    home, temporary = scratch / "home", scratch / "tmp"
    start = home / ".ipython" / "profile_default" / "startup"
    start.mkdir(parents=True)
    (start / "limit.py").write_text(LIMIT_OUTPUT, "utf-8")
    temporary.mkdir()
    kept = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        processes.MARK: mark,
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
    }


class Grader:
    """All that grading one notebook needs to know."""

    def __init__(self, handed_in: Path, work: Path, limits: argparse.Namespace) -> None:
        self.handed_in, self.work, self.limits = handed_in, work, limits
        self.made = work / "nbgrader"
        self.releases = {
            name: read_notebook(path) for name, path in assignments.for_students(self.made).items()
        }
        self.interrupted = threading.Event()

    def grade(self, number: int, student: str, path: Path | None) -> Entry:
        """The entry of one file; never an exception, whatever the file is."""
        file = path.name if path else ""
        entry = Entry(student, next((name for name in self.releases if name in file), ""), file)
        # Feedback lies where the notebook lay, so that none is written over another's.
        lay = path.relative_to(self.handed_in) if path else Path(student, "no notebook")
        page = self.work / "grades" / "feedback" / lay.with_suffix(".html")
        page.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.work / "runs" / f"{number:04d}"
        try:
            if path is None:
                raise Unusable("no notebook", "there is no .ipynb in the folder")
            notebook = read(path)
            entry.assignment = name = identify(notebook, file, self.releases)
            missing, changed = restore(notebook, self.releases[name])
            facts = self.run(scratch, notebook, name)
            lists = {"put back": missing, "changed and put back": changed, "no points": facts["failed"]}
            notes = [f"{words}: {', '.join(names)}" for words, names in lists.items() if names]
            if file != f"{name}.ipynb":
                notes.append(f"renamed from {name}.ipynb")
            made = scratch / "feedback" / "student" / name / f"{name}.html"
            if made.exists():
                shutil.copy(made, page)
            else:
                notes.append("nbgrader wrote no feedback")
            entry.note = "; ".join(notes)
            entry.points, entry.of, entry.by_hand = facts["points"], facts["of"], facts["by_hand"]
            shutil.rmtree(scratch, ignore_errors=True)
        except Exception as error:  # one file must not stop the others
            if isinstance(error, Unusable):
                entry.state, entry.note = error.state, str(error)
            else:
                entry.state, entry.note = "failed", f"{type(error).__name__}: {error}"[:300]
            words = {key: html.escape(str(value)) for key, value in asdict(entry).items()}
            page.write_text(NOT_GRADED.format(**words), "utf-8")
        return entry

    def run(self, scratch: Path, notebook: NotebookNode, name: str) -> dict[str, Any]:
        """Grade one notebook in a process of its own, with copies of what nbgrader needs."""
        shutil.copytree(self.made / "source" / name, scratch / "source" / name)
        shutil.copy(self.made / "gradebook.db", scratch)
        write(notebook, scratch / "submitted" / "student" / name / f"{name}.ipynb")
        words = [str(scratch), name, str(self.limits.cell_seconds), str(self.limits.memory_gb)]
        mark = uuid.uuid4().hex
        told = environment(scratch, mark)
        with (scratch / "log.txt").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "course.worker", *words],
                cwd=scratch,
                env=told,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            latest = time.monotonic() + self.limits.seconds
            try:
                while worker.poll() is None and not self.interrupted.wait(0.1):
                    if time.monotonic() > latest:
                        raise Unusable("stopped", f"it ran for more than {self.limits.seconds} s")
            finally:
                processes.end(worker, mark)
        result = scratch / "result.json"
        if not result.exists():
            raise Unusable("failed", f"the run broke off; its log: {scratch / 'log.txt'}")
        facts: dict[str, Any] = json.loads(result.read_text("utf-8"))
        if facts["error"]:
            raise Unusable("failed", facts["error"])
        return facts

    def grade_all(self, found: list[tuple[str, Path | None]]) -> list[Entry]:
        """The entries of all files; an interruption ends what runs, and begins nothing more."""
        pool = ThreadPoolExecutor(self.limits.jobs)
        jobs = [pool.submit(self.grade, number, *one) for number, one in enumerate(found)]
        try:
            return [job.result() for job in tqdm(jobs, desc="grading", unit="notebook")]
        except KeyboardInterrupt:
            text = "interrupted; nothing of this grading is kept, and earlier grades are as they were"
            raise BookError(text) from None
        finally:
            self.interrupted.set()
            pool.shutdown(cancel_futures=True)


def main(arguments: Sequence[str]) -> None:
    """Grade a folder."""
    parser = argparse.ArgumentParser(prog="python -m course.grade", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--cell-seconds", type=int, default=60, help="time of one cell")
    parser.add_argument("--seconds", type=int, default=600, help="time of one submission")
    parser.add_argument("--memory-gb", type=float, default=4.0, help="data of each process")
    parser.add_argument(
        "--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="at the same time"
    )
    asked = parser.parse_args(arguments)
    root, folder = asked.root.resolve(), asked.folder.resolve()
    if not folder.is_dir():
        raise BookError(f"SUBMISSIONS={asked.folder}: no such folder; it holds one folder for each student")
    found = list(submissions(folder))
    if not found:
        raise BookError(f"SUBMISSIONS={asked.folder}: no notebook in it, nor a folder")
    print(WARNING, flush=True)
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # stopped by a container, it cleans up all the same
    grades, work = root / "_build" / "grades", root / "_build" / "grading"
    shutil.rmtree(work, ignore_errors=True)
    assignments.generate(root, work / "nbgrader")
    entries = Grader(folder, work, asked).grade_all(found)
    with (work / "grades" / "grades.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Entry)])
        writer.writeheader()
        writer.writerows(entry.row() for entry in entries)
    put(work / "grades", grades)
    counts = collections.Counter(entry.state for entry in entries)
    print(", ".join(f"{count} {state}" for state, count in counts.most_common()))
    print(f"grades: {grades / 'grades.csv'}\nfeedback: {grades / 'feedback'}")


if __name__ == "__main__":
    run_main(main)
