"""`make grade SUBMISSIONS=folder`: grade what students handed in, each by itself, within limits.

A folder holds a folder for each student, or a notebook for each. Which assignment a notebook is, its cells
tell, not its name. Whatever a submission does, it gets a line in `_build/course/grades.csv` and a page of
feedback, and the others are graded.
"""

import argparse
import collections
import contextlib
import csv
import html
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import nbformat
import psutil
from nbformat import NotebookNode
from tqdm import tqdm

from tools import course, notebooks
from tools.errors import BadSubmissions, run_main

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


@dataclass
class Entry:
    """A line of grades.csv: what became of one notebook."""

    student: str
    assignment: str
    file: str
    state: str
    points: float = 0.0
    of: float = 0.0
    by_hand: float = 0.0  # points that the written answers may still bring
    note: str = ""


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
        raise Unusable("unreadable", "it is no plain file")
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
    except Exception as error:  # nbformat fails in many ways on what is no notebook
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise Unusable("unreadable", f"it is no notebook: {reason}") from error
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
        raise Unusable("unknown", "it holds the cells of no assignment")
    return best


def restored(notebook: NotebookNode, release: NotebookNode) -> tuple[list[str], list[str]]:
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


def end(process: subprocess.Popen[bytes]) -> None:
    """End a worker and the kernels that it started, which live in sessions of their own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.wait()


def environment(scratch: Path) -> dict[str, str]:
    """What a worker is told of this machine: where programs are, and a home of its own."""
    start = scratch / "ipython" / "profile_default" / "startup"
    start.mkdir(parents=True)
    (start / "limit.py").write_text(LIMIT_OUTPUT, "utf-8")
    own = {name: scratch / name for name in ("home", "tmp", "runtime")}
    for folder in own.values():
        folder.mkdir()
    kept = {
        name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH") if name in os.environ
    }
    return kept | {
        "HOME": str(own["home"]),
        "TMPDIR": str(own["tmp"]),
        "JUPYTER_RUNTIME_DIR": str(own["runtime"]),
        "JUPYTER_PATH": str(Path(sys.prefix, "share", "jupyter")),
        "IPYTHONDIR": str(scratch / "ipython"),
        "PYTHONPATH": f"{notebooks.ROOT / 'src'}{os.pathsep}{notebooks.ROOT}",
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
    }


def safe(name: str) -> str:
    """A student's name as that of a folder."""
    return re.sub(r"[^\w.-]+", "_", name).strip(".") or "_"


def pages(found: list[tuple[str, Path | None]]) -> list[Path]:
    """A page of feedback for each file, in a folder for each student; no two names become one."""
    folders: dict[str, str] = {}
    taken: set[Path] = set()
    made = []
    for student, path in found:
        if student not in folders:
            name = safe(student)
            folders[student] = f"{name}-{len(folders)}" if name in folders.values() else name
        page = Path(folders[student], f"{safe(path.stem if path else '')}.html")
        while page in taken:
            page = page.with_name(f"{page.stem}-{len(taken)}.html")
        taken.add(page)
        made.append(page)
    return made


class Grader:
    """All that grading one notebook needs to know."""

    def __init__(self, work: Path, limits: argparse.Namespace) -> None:
        self.work, self.limits = work, limits
        self.workers: set[subprocess.Popen[bytes]] = set()
        self.made = work / "nbgrader"
        self.releases = {
            path.stem: notebooks.read(path) for path in sorted((self.made / "release").glob("*/*.ipynb"))
        }

    def grade(self, number: int, place: Path, student: str, path: Path | None) -> Entry:
        """The entry of one file; never an exception, whatever the file is."""
        file = path.name if path else ""
        guess = next((name for name in self.releases if name in file), "")
        scratch = self.work / "runs" / f"{number:04d}"
        page = self.work / "feedback" / place
        try:
            if path is None:
                raise Unusable("no notebook", "there is no .ipynb in the folder")
            notebook = read(path)
            guess = identify(notebook, file, self.releases)
            missing, changed = restored(notebook, self.releases[guess])
            entry = self.run(scratch, notebook, guess)
            made = scratch / "feedback" / "student" / guess / f"{guess}.html"
            notes = [f"put back: {', '.join(missing)}"] if missing else []
            notes += [f"changed and put back: {', '.join(changed)}"] if changed else []
            if file != f"{guess}.ipynb":
                notes.append(f"renamed from {guess}.ipynb")
            if made.exists():
                page.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(made, page)
            else:
                notes.append("nbgrader wrote no feedback")
            entry.note = "; ".join([*notes, entry.note] if entry.note else notes)
        except Unusable as trouble:
            entry = Entry(student, guess, file, trouble.state, note=str(trouble))
        except Exception as error:  # one file must not stop the others
            entry = Entry(student, guess, file, "failed", note=f"{type(error).__name__}: {error}"[:300])
        entry.student, entry.file = student, file
        if entry.state == "graded":
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(_sorry(entry), "utf-8")
        return entry

    def run(self, scratch: Path, notebook: NotebookNode, name: str) -> Entry:
        """Grade one notebook in a process of its own, with copies of what nbgrader needs."""
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(self.made / "source" / name, scratch / "source" / name)
        shutil.copy(self.made / "gradebook.db", scratch)
        notebooks.write(notebook, scratch / "submitted" / "student" / name / f"{name}.ipynb")
        words = [str(scratch), name, str(self.limits.cell_seconds), str(self.limits.memory_gb)]
        told = environment(scratch)
        with (scratch / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tools.grade_one", *words],
                cwd=scratch,
                env=told,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self.workers.add(process)
            try:
                process.wait(self.limits.seconds)
            except subprocess.TimeoutExpired:
                end(process)
                raise Unusable("stopped", f"it ran for more than {self.limits.seconds} s") from None
            finally:
                end(process)
                self.workers.discard(process)
        result = scratch / "result.json"
        if not result.exists():
            raise Unusable("failed", f"the run broke off; its log: {scratch / 'log.txt'}")
        facts = json.loads(result.read_text("utf-8"))
        if facts["error"]:
            raise Unusable("failed", facts["error"])
        note = f"no points: {', '.join(facts['failed'])}" if facts["failed"] else ""
        return Entry("", name, "", "graded", facts["points"], facts["of"], facts["by_hand"], note)

    def grade_all(self, found: list[tuple[str, Path | None]]) -> list[Entry]:
        """The entries of all files; an interruption ends what runs, and begins nothing more."""
        pool = ThreadPoolExecutor(self.limits.jobs)
        places = enumerate(zip(pages(found), found, strict=True))
        jobs = [pool.submit(self.grade, number, place, *one) for number, (place, one) in places]
        try:
            return [job.result() for job in tqdm(jobs, desc="grading", unit="notebook")]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(job.done() for job in jobs):  # again and again: one may be about to begin
                for process in list(self.workers):
                    end(process)
                time.sleep(0.1)


def _sorry(entry: Entry) -> str:
    words = {key: html.escape(str(value)) for key, value in asdict(entry).items()}
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/><title>Not graded</title></head>'
        "\n<body>"
        "<h1>Not graded: {state}</h1>\n<p>File {file}, assignment {assignment}: {note}</p>\n"
        "<p>Please hand in the notebook once more: run it from top to bottom, save it, and open it again "
        "to see that it is whole.</p>\n</body></html>\n"
    ).format(**words)


def table(entries: list[Entry]) -> list[dict[str, object]]:
    """The lines of grades.csv; a name that a spreadsheet would run as a formula is made harmless."""
    rows = []
    for entry in entries:
        row: dict[str, object] = asdict(entry)
        for key, value in row.items():
            if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t")):
                row[key] = f"'{value}"
        rows.append(row)
    return rows


def main(arguments: Sequence[str]) -> None:
    """Grade a folder."""
    parser = argparse.ArgumentParser(prog="python -m tools.grade", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--root", type=Path, default=notebooks.ROOT)
    parser.add_argument("--cell-seconds", type=int, default=60, help="time of one cell")
    parser.add_argument("--seconds", type=int, default=600, help="time of one submission")
    parser.add_argument("--memory-gb", type=float, default=4.0, help="data of each process")
    parser.add_argument(
        "--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="at the same time"
    )
    asked = parser.parse_args(arguments)
    root, folder = asked.root.resolve(), asked.folder.resolve()
    if not folder.is_dir():
        raise BadSubmissions(f"SUBMISSIONS={asked.folder}: no such folder; it holds one a student")
    found = list(submissions(folder))
    if not found:
        raise BadSubmissions(f"SUBMISSIONS={asked.folder}: no notebook in it, nor a folder")
    print(WARNING, flush=True)
    done = root / "_build" / "course"
    work = root / "_build" / "course.grading"
    shutil.rmtree(work, ignore_errors=True)
    course.generate(root, work / "nbgrader")
    (work / "feedback").mkdir(parents=True)  # though there may be none to put in
    entries = Grader(work, asked).grade_all(found)
    done.mkdir(parents=True, exist_ok=True)
    beside = done / ".grades.csv.new"
    with beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Entry)])
        writer.writeheader()
        writer.writerows(table(entries))
    beside.replace(done / "grades.csv")
    shutil.rmtree(done / "feedback", ignore_errors=True)
    (work / "feedback").replace(done / "feedback")
    counts = collections.Counter(entry.state for entry in entries)
    print(", ".join(f"{count} {state}" for state, count in counts.most_common()))
    print(f"grades: {done / 'grades.csv'}\nfeedback: {done / 'feedback'}")


if __name__ == "__main__":
    run_main(main)
