"""`make -C course grade SUBMISSIONS=folder`: grade what students handed in, each by itself, in a sandbox.

A folder, or the zip of an LMS. Which assignment a notebook is, its cells tell, not its name. Whatever a
submission does, it gets a line in the marks, kept at once; one that was graded before, and has not changed
since, is not graded again. `make -C course marks` makes tables, lists and feedback anew, once answers are
read.
"""

import argparse
import collections
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from tqdm import tqdm

from course import ROOT, BookError, assignments, collect, feedback, marks, roster, run_main, sandbox, write
from course import read as read_notebook

LARGEST = 20_000_000  # bytes of a notebook; one with figures has a tenth of that


class Unusable(Exception):
    """A file that cannot be graded: its state, and why."""

    def __init__(self, state: str, why: str) -> None:
        super().__init__(why)
        self.state = state


def read(path: Path) -> NotebookNode:
    """A submitted notebook, of whatever format, in the present one."""
    if path.is_symlink() or not path.is_file():
        raise Unusable("unreadable", "it is not a regular file")
    if path.stat().st_size > LARGEST:
        raise Unusable("too large", f"{path.stat().st_size / 1e6:.0f} MB; clear its outputs")
    content = path.read_bytes()
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = content.decode("utf-16" if wide else "utf-8-sig", "replace")
    if not text.strip():
        raise Unusable("empty", "the file is empty")
    try:
        notebook = nbformat.reads(json.dumps(repaired(json.loads(text))), as_version=4)
        notebook = nbformat.from_dict(nbformat.validator.normalize(notebook)[1])
        for cell in notebook.cells:
            cell.metadata, cell.source = cell.metadata, "".join(cell.source)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat fails in many ways on what is not a notebook
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise Unusable("unreadable", f"it is not a notebook: {reason}") from error
    found: NotebookNode = notebook
    return found


def repaired(raw: Any) -> Any:
    """What Jupyter repairs when it opens a notebook: keys that are missing, a kernel without a name."""
    if not isinstance(raw, dict) or "worksheets" in raw:
        return raw
    for one in [raw, *raw.get("cells", [])]:
        one["metadata"] = one.get("metadata") or {}
        if one.get("cell_type") == "code":
            one.setdefault("outputs", [])
            one.setdefault("execution_count", None)
    raw["metadata"].pop("kernelspec", None)  # tests run in the book's
    raw.setdefault("nbformat", 4)
    raw.setdefault("nbformat_minor", 5)
    return raw


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
        raise Unusable(
            "unknown",
            "it does not hold the cells of any assignment: a program has dropped their names, or they were "
            "copied into a new notebook. Ask for the file that was handed out, answers pasted into its cells",
        )
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


@dataclass
class Course:
    """The assignments, as nbgrader makes them of the masters."""

    root: Path
    folder: Path

    def __post_init__(self) -> None:
        assignments.generate(self.root, self.folder)
        self.paths = assignments.for_students(self.folder)
        self.masters = {path.stem: path for path in assignments.masters(self.root)}
        self.releases = {name: read_notebook(path) for name, path in self.paths.items()}
        self.rubrics = {name: assignments.rubrics(path) for name, path in self.masters.items()}
        self.headings = {name: assignments.graded_headings(path) for name, path in self.masters.items()}
        self.digests = {name: digest(path) for name, path in self.masters.items()}


def digest(path: Path | None) -> str:
    """A short name of what a file holds."""
    if path is None or not path.is_file():
        return "none"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


@dataclass
class Job:
    """One notebook that is to be graded."""

    submission: collect.Submission
    attempt: marks.Row
    notebook: NotebookNode | None
    notes: list[str]


class Grader:
    """Grades notebooks and keeps what became of them."""

    def __init__(self, course: Course, kept: marks.Marks, limits: argparse.Namespace, kind: str) -> None:
        self.course, self.kept, self.limits, self.kind = course, kept, limits, kind
        self.interrupted = threading.Event()

    def prepare(self, found: list[collect.Submission]) -> list[Job]:
        """What is to be graded; what was graded already is left as it is."""
        jobs, taken = [], set()
        for one in found:
            name, notebook, notes, state, why = "", None, [], "graded", ""
            try:
                if one.trouble or one.path is None:
                    raise Unusable(
                        "unreadable" if one.trouble else "no notebook", one.trouble or "there is no .ipynb"
                    )
                name = next((key for key in self.course.releases if key in one.file), "")
                notebook = read(one.path)
                name = identify(notebook, one.file, self.course.releases)
                missing, changed = restore(notebook, self.course.releases[name])
                lists = {"put back": missing, "changed, and put back": changed}
                notes = [f"{words}: {', '.join(names)}" for words, names in lists.items() if names]
            except Unusable as error:
                notebook, state, why = None, error.state, str(error)
            with self.kept.lock:
                number, known = self.kept.attempt(one.student, name, digest(one.path))
                while not known and (one.student, name, number) in taken:
                    number = str(int(number) + 1)
                    notes.append("one of several notebooks handed in together, in the order of their names")
                taken.add((one.student, name, number))
            tests = self.course.digests.get(name, "")
            if (
                known
                and known["tests"] == tests
                and known["state"] in ("graded", state)
                and not self.limits.again
            ):
                continue
            if self.kept.roster.people and one.person is None:
                notes.append("not on the roster")
            attempt = {"student": one.student, "assignment": name, "attempt": number, "file": one.file}
            attempt |= {"state": state, "note": why, "digest": digest(one.path), "tests": tests}
            attempt |= {
                "days_late": self.late(one, name),
                "graded": datetime.now().isoformat(timespec="seconds"),
            }
            jobs.append(Job(one, attempt, notebook, notes))
        return jobs

    def late(self, one: collect.Submission, name: str) -> str:
        """Days begun after the date: what Moodle's worksheet says, or one day where Canvas says LATE."""
        rules = self.kept.of(name)
        row = self.kept.roster.row(one.person, (name, rules.title)) if name else {}
        days = roster.days_late(row, rules.due) if row else None
        return str(days) if days is not None else ("1" if one.late else "")

    def grade(self, job: Job, number: int, work: Path) -> marks.Row | None:
        """Grade one notebook and keep its marks, None if interrupted; never an exception."""
        if self.interrupted.is_set():
            return None
        attempt = job.attempt
        tests: list[marks.Row] = []
        written: list[marks.Row] = []
        try:
            if job.notebook is not None:
                tests, written = self.graded(job, work / f"{number:04d}")
        except Exception as error:  # one file must not stop the others
            if self.interrupted.is_set():
                return None
            attempt["state"] = error.state if isinstance(error, Unusable) else "failed"
            attempt["note"] = (
                str(error) if isinstance(error, Unusable) else f"{type(error).__name__}: {error}"[:300]
            )
        attempt["note"] = "; ".join(filter(None, [attempt["note"], *job.notes]))
        self.kept.record(attempt, tests, written)
        return attempt

    def graded(self, job: Job, scratch: Path) -> tuple[list[marks.Row], list[marks.Row]]:
        """The rows of one attempt: what the tests gave, and what waits for a reader."""
        name, notebook = job.attempt["assignment"], job.notebook
        assert notebook is not None
        facts = self.run(scratch, job, name)
        which = {"student": job.attempt["student"], "assignment": name, "attempt": job.attempt["attempt"]}
        tests = [
            which
            | {"task": task, "points": f"{one['points']:g}", "of": f"{one['of']:g}", "said": one["said"]}
            for task, one in facts["cells"].items()
        ]
        if failed := [task for task, one in facts["cells"].items() if one["said"]]:
            job.notes.append(f"no points: {', '.join(failed)}")
        if given := [task for task, one in facts["cells"].items() if one.get("with")]:
            job.notes.append(f"with the functions of earlier tasks put right: {', '.join(given)}")
        ended = {cell: words for cell, words in facts["errors"].items() if words.startswith("it")}
        job.notes += [f"{cell}: {words}" for cell, words in ended.items()]
        written = []
        page = f"feedback/{name}/{marks.file_name(which['student'])}.html"
        said = feedback.answers(notebook, self.course.releases[name])
        for task, (rubric, of) in self.course.rubrics[name].items():
            row = which | {"task": task, "of": f"{of:g}"}
            if said.get(task):
                written.append(
                    row | {"page": page, "answer": said[task], "rubric": rubric, "points": "", "comment": ""}
                )
            else:
                tests.append(row | {"points": "0", "said": "nothing was written"})
        return tests, written

    def run(self, scratch: Path, job: Job, name: str) -> dict[str, Any]:
        """Test one notebook in a process of its own."""
        assert job.notebook is not None
        copy = self.kept.folder / "notebooks" / name
        copy /= f"{marks.file_name(job.attempt['student'])}-{job.attempt['attempt']}.ipynb"
        write(job.notebook, copy)
        beside = scratch / "beside"
        for place, path in job.submission.beside.items():
            (beside / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, beside / place)
        scratch.mkdir(parents=True, exist_ok=True)
        plan = {
            "notebook": str(copy),
            "master": str(self.course.masters[name]),
            "release": str(self.course.paths[name]),
            "beside": str(beside) if beside.is_dir() else "",
            "sandbox": self.kind,
            "cell_seconds": self.limits.cell_seconds,
            "memory_gb": self.limits.memory_gb,
        }
        (scratch / "plan.json").write_text(json.dumps(plan), "utf-8")
        with (scratch / "log.txt").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "course.worker", str(scratch / "plan.json")],
                env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"},
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
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(worker.pid, signal.SIGKILL)  # with it goes the sandbox, and all that runs in it
                worker.wait()
        result = scratch / "result.json"
        if not result.exists():
            last = (scratch / "log.txt").read_text("utf-8", "replace").strip().splitlines() or ["no word"]
            raise Unusable("failed", f"the tests broke off: {last[-1][:200]}")
        facts: dict[str, Any] = json.loads(result.read_text("utf-8"))
        shutil.rmtree(scratch, ignore_errors=True)
        return facts

    def grade_all(self, jobs: list[Job], work: Path) -> list[marks.Row]:
        """Grade all; an interruption ends what runs, begins nothing more, and keeps what is done."""
        pool = ThreadPoolExecutor(self.limits.jobs)
        waiting = [pool.submit(self.grade, job, number, work) for number, job in enumerate(jobs)]
        try:
            done = [one.result() for one in tqdm(waiting, desc="grading", unit="notebook")]
        except KeyboardInterrupt:
            self.interrupted.set()
            pool.shutdown(cancel_futures=True)
            kept = sum(one.done() and not one.cancelled() and one.result() is not None for one in waiting)
            raise BookError(
                f"interrupted; {kept} of {len(jobs)} are graded and kept; the same command grades the rest"
            ) from None
        finally:
            self.interrupted.set()
            pool.shutdown(cancel_futures=True)
        return [one for one in done if one is not None]


def publish(course: Course, kept: marks.Marks) -> None:
    """Make tables, lists and pages of feedback anew."""
    kept.publish(course.headings)
    attempts = {marks.key(row): row for row in kept.read("attempts")}
    tests, written = (marks.group(kept.read(name)) for name in ("tests", "written"))
    for name, headings in course.headings.items():
        title = kept.of(name).title
        for student, total in kept.totals(name).items():
            if (row := attempts.get((student, name, total.attempt))) is None:
                continue
            page = kept.folder / "feedback" / name / f"{marks.file_name(student)}.html"
            if total.state != "graded":
                feedback.write(page, feedback.not_graded(f"{title}: {student}", row))
                continue
            copy = kept.folder / "notebooks" / name / f"{marks.file_name(student)}-{total.attempt}.ipynb"
            said = {one["task"]: one["said"] for one in tests.get(marks.key(row), [])}
            words = {one["task"]: one["comment"] for one in written.get(marks.key(row), [])}
            notebook = read_notebook(copy) if copy.exists() else None
            shown = feedback.page(
                f"{title}: {student}", total, headings, said, words, notebook, course.releases[name]
            )
            feedback.write(page, shown)


def parser() -> argparse.ArgumentParser:
    """The words of the command line."""
    made = argparse.ArgumentParser(prog="python -m course.grade", description=__doc__)
    made.add_argument(
        "folder", type=Path, nargs="?", help="what students handed in; none makes pages and tables only"
    )
    made.add_argument("--root", type=Path, default=ROOT)
    made.add_argument("--marks", type=Path, help="the folder of marks; else $MARKS, else course/marks")
    made.add_argument("--sandbox", choices=[sandbox.NONE], help="`none` runs students' code without one")
    made.add_argument("--again", action="store_true", help="grade also what was graded before")
    made.add_argument(
        "--cell-seconds", type=int, default=60, help="time of one cell, or of one call of a function"
    )
    made.add_argument("--seconds", type=int, default=900, help="time of one submission")
    made.add_argument("--memory-gb", type=float, default=4.0, help="memory of one submission")
    made.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="at the same time")
    return made


def main(arguments: Sequence[str]) -> None:
    """Grade a folder, or make tables and feedback from the marks there are."""
    asked = parser().parse_args(arguments)
    root = asked.root.resolve()
    kind = asked.sandbox or (sandbox.kind() if asked.folder else "")
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # stopped by a container, it cleans up all the same
    with tempfile.TemporaryDirectory(prefix="grading.") as place:
        work, kept = Path(place), marks.Marks(marks.place(root, asked.marks))
        with kept.alone():
            found = (
                collect.collect(asked.folder.resolve(), work / "unpacked", kept.roster)
                if asked.folder
                else []
            )
            course = Course(root, work / "nbgrader")
            grader = Grader(course, kept, asked, kind)
            jobs = grader.prepare(found)
            try:
                done = grader.grade_all(jobs, work / "runs")
            finally:
                publish(course, kept)
    counts = collections.Counter(row["state"] for row in done)
    if left := len(found) - len(jobs):
        counts["graded before, unchanged"] = left
    print(", ".join(f"{count} {state}" for state, count in counts.most_common()) or "nothing new to grade")
    print(f"to read and mark: {kept.folder / 'written.csv'}\ngrades, lists, feedback: {kept.folder}")


if __name__ == "__main__":
    run_main(main)
