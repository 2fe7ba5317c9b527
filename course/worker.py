"""The worker of `make -C course grade`: the tests of one notebook, on functions that run in a sandbox.

The tests run here, in a process that never runs a line of a student's. Where a test calls the student's
function, its arguments go to the sandbox, and what comes back is numbers. A function that fails with the
student's own earlier functions is tried once more with those of the master, so that each costs its own
points.
"""

import ast
import builtins
import contextlib
import io
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import psutil
import torch
from nbformat import NotebookNode
from torch import Tensor

from course import ROOT, assignments, read, sandbox, wire
from dipfilters.checks import CheckFailed

HERE = Path(__file__).parent
REACHABLE = ("decoding.py", "images.py", "parameters.py", "checks.py", "data")
MOST_PROCESSES = 200
STARTS = 4  # how often the sandbox is begun again, without the cell or function that ended it
Step = tuple[str, str, list[str]]  # a cell's name and source, or the names to be kept before it
GRACE = 5.0  # seconds in which what was interrupted must answer


class Ended(Exception):
    """The sandbox has ended, and why."""


class Limit(Exception):
    """What a test says of a function that ended its sandbox."""


class Inside:
    """A sandbox that runs, and the messages to and from it."""

    def __init__(self, plan: dict[str, Any], package: Path, folder: Path) -> None:
        self.plan, self.kind = plan, plan["sandbox"]
        self.why = "its process ended"
        beside = Path(plan["beside"]) if plan["beside"] else None
        inside = {HERE / "inside.py": "/course/inside.py", HERE / "wire.py": "/course/wire.py"}
        if self.kind == sandbox.NONE:
            words, place = [str(HERE / "inside.py"), str(package), str(beside or "")], folder
        else:
            inside |= {package: "/package"} | ({beside: "/handed-in"} if beside else {})
            words, place = ["/course/inside.py", "/package", "/handed-in" if beside else ""], None
        words = [sys.executable, "-s", *words]
        self.process = sandbox.start(self.kind, inside, words, plan["memory_gb"], place)
        self.over = threading.Event()
        self.watch = threading.Thread(target=self.keep_within_limits, daemon=True)
        self.watch.start()
        self.answer(120.0)

    def keep_within_limits(self) -> None:
        """End it if all its processes together take too much."""
        while not self.over.wait(0.2):
            with contextlib.suppress(psutil.Error):
                running = psutil.Process(self.process.pid).children(recursive=True)
                memory = 0
                for process in running:
                    with contextlib.suppress(psutil.Error):
                        memory += process.memory_info().rss
                if len(running) > MOST_PROCESSES:
                    self.end(f"it had more than {MOST_PROCESSES} processes")
                elif memory > 1.25e9 * self.plan["memory_gb"]:
                    self.end(f"its processes took more than {self.plan['memory_gb']:g} GB")

    def end(self, why: str = "") -> None:
        """End everything in it: with its first process go all others."""
        self.why = why or self.why
        self.over.set()
        started = []
        with contextlib.suppress(psutil.Error):
            started = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        for process in started:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()

    def close(self) -> None:
        """End it, and the pipes to it."""
        self.end()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                cast(BinaryIO, pipe).close()

    def answer(self, seconds: float) -> Any:
        """What comes back within so many seconds."""
        alarm = threading.Timer(seconds, self.end, [f"it ran for more than {self.plan['cell_seconds']} s"])
        alarm.start()
        try:
            return wire.receive(cast(BinaryIO, self.process.stdout))
        except (EOFError, ValueError, OSError) as error:
            self.close()
            raise Ended(self.why) from error
        finally:
            alarm.cancel()

    def ask(self, what: str, *given: object) -> Any:
        """The answer to a message."""
        try:
            wire.send(cast(BinaryIO, self.process.stdin), {"do": what, "with": list(given)})
        except OSError as error:
            self.close()
            raise Ended(self.why) from error
        return self.answer(self.plan["cell_seconds"] + GRACE)


class Submission:
    """The student's functions, in a sandbox that is begun again if a cell or a function ends it."""

    def __init__(self, plan: dict[str, Any], package: Path, folder: Path) -> None:
        self.plan, self.package, self.folder = plan, package, folder
        self.seconds = plan["cell_seconds"]
        self.steps: list[Step] = []
        self.given: list[str] = []  # sources of the master that take the place of the student's
        self.errors: dict[str, str] = {}
        self.dead: set[str] = set()  # functions
        self.skipped: set[str] = set()  # cells
        self.cell_of: dict[str, str] = {}  # the cell that is to define a function
        self.inside: Inside | None = None
        self.starts = 0

    def ready(self) -> Inside:
        """The sandbox, with all cells run in it."""
        while self.inside is None:
            if self.starts == STARTS:
                raise Ended("it ended its sandbox again and again")
            self.starts += 1
            inside, name = Inside(self.plan, self.package, self.folder), ""
            try:
                for name, source, keep in self.steps:
                    if keep:
                        inside.ask("keep", keep)
                    elif name not in self.skipped and (error := inside.ask("run", source, self.seconds)):
                        self.errors[name] = f"{error[0]}: {error[1]}"
                for source in self.given:
                    inside.ask("run", source, self.seconds)
            except Ended as ended:
                self.skipped.add(name)
                self.errors[name] = str(ended)  # begun again without that cell
            else:
                self.inside = inside
        return self.inside

    def give(self, source: str) -> None:
        """Put a function of the master in the place of the student's."""
        self.given.append(source)
        self.ready().ask("run", source, self.seconds)

    def call(self, name: str, given: tuple[object, ...]) -> Any:
        """What the student's function gives; what it raises, is raised here."""
        if name in self.dead:
            raise Limit(f"{name} is not called again, since {self.errors[name]}")
        try:
            found = self.ready().ask("call", name, list(given), self.seconds)
        except Ended as ended:
            self.inside = None
            self.dead.add(name)
            self.errors[name] = str(ended)
            raise Limit(f"{name}: {ended}") from ended
        if "raised" in found and (error := self.errors.get(self.cell_of.get(name, ""))):
            raise Limit(f"the cell of {name} fails: {error}")
        return judged(found, given)

    def end(self) -> None:
        """End the sandbox."""
        if self.inside is not None:
            self.inside.close()


def judged(found: Any, given: tuple[object, ...]) -> Any:
    """The numbers of an answer; of anything else, what a check can name."""
    match found:
        case {"value": Tensor() as value, "after": [*after]}:
            for before, now in zip(given, after, strict=False):
                if isinstance(before, Tensor) and not same(before, now):
                    raise CheckFailed(
                        "your function changes what it is given; work on a copy, as x = x.clone()"
                    )
            return value
        case {"raised": [str(name), str(words)]}:
            kind = getattr(builtins, name, None)
            if not (isinstance(kind, type) and issubclass(kind, Exception)) or kind is SyntaxError:
                kind = type(name if name.isidentifier() else "Error", (Exception,), {})
            try:
                error = kind(words)
            except TypeError:  # some want more than words
                error = RuntimeError(f"{name}: {words}")
            raise error
        case {"kind": "NoneType"}:
            return None
        case {"kind": str(name)}:
            return type(name if name.isidentifier() else "object", (), {})()
    raise Limit("the function sent what is no result")


def same(before: Tensor, now: object) -> bool:
    """Whether an argument came back as it was."""
    return isinstance(now, Tensor) and torch.equal(before.double(), now)


def defined(source: str) -> list[str]:
    """The functions that a cell defines at its top level."""
    return [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]


def imports_alone(source: str) -> str:
    """The imports of a cell, which later cells may need; none of a cell with magics."""
    try:
        nodes = ast.parse(source).body
    except SyntaxError:
        return ""
    return "\n".join(ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))


def steps(notebook: NotebookNode, master: NotebookNode, release: dict[str, str]) -> list[Step]:
    """What runs inside, in the student's order: own cells as they are; of those handed out, the imports."""
    answers = {cell.id: defined(cell.source) for cell in master.cells if answer(cell)}
    of_task: dict[str, list[str]] = {}
    names: list[str] = []
    for cell in master.cells:
        names = answers.get(cell.id, names)
        of_task[cell.id] = names
    found = []
    for number, cell in enumerate(notebook.cells):
        name = assignments.grading(cell).get("grade_id", "")
        if cell.cell_type != "code":
            continue
        if is_test(cell):
            found.append((name, "", of_task.get(name, [])))
        elif name.endswith("-go-on"):
            continue
        elif name and name not in answers and name != "imports" and cell.source.strip() == release.get(name):
            found.append((name, imports_alone(cell.source), []))
        else:
            found.append((name or f"own cell {number}", cell.source, []))
    return found


def answer(cell: NotebookNode) -> bool:
    """Whether it is a cell of code in which students write."""
    return cell.cell_type == "code" and bool(assignments.grading(cell).get("solution"))


def is_test(cell: NotebookNode) -> bool:
    """Whether it is a cell of tests."""
    facts = assignments.grading(cell)
    return cell.cell_type == "code" and bool(facts.get("grade")) and not facts.get("solution")


def said(error: BaseException) -> str:
    """What a student is told of a test that failed."""
    words = str(error).strip()[:500]
    if isinstance(error, AssertionError | Limit) and words:
        return words
    return f"{type(error).__name__}: {words}".rstrip(": ")


def tested(cell: NotebookNode, names: dict[str, Any]) -> dict[str, Any]:
    """Points and words of a test; as in nbgrader, a number at its end is a part of the points."""
    of, printed = float(cell.metadata.nbgrader["points"]), io.StringIO()
    *body, last = ast.parse(cell.source).body
    part = ast.Expression(last.value) if isinstance(last, ast.Expr) else None
    torch.manual_seed(0)
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(ast.Module(body if part else [*body, last], []), cell.id, "exec"), names)
            value = eval(compile(part, cell.id, "eval"), names) if part else None
    except Exception as error:
        return {"points": 0.0, "of": of, "said": said(error) or "it failed"}
    points = of if value is None else round(min(of, max(0.0, float(value))), 2)
    words = printed.getvalue().strip()[:500] or "wrong on other inputs"
    return {"points": points, "of": of, "said": words if points < of else ""}


class Tests:
    """The tests of a master, on the functions of one submission."""

    def __init__(self, master: NotebookNode, student: Submission) -> None:
        self.master, self.student = master, student
        self.names: dict[str, Any] = {}
        self.answers = [cell for cell in master.cells if answer(cell)]
        for cell in master.cells:
            if cell.id == "imports":
                exec(compile(cell.source, "imports", "exec"), self.names)
        for cell in self.answers:
            for name in defined(cell.source):
                self.names[name] = self.proxy(name)
                student.cell_of[name] = cell.id

    def proxy(self, name: str) -> Any:
        """A function that calls the student's of that name."""

        def function(*given: object) -> Any:
            return self.student.call(name, given)

        function.__name__ = name
        return function

    def run(self) -> dict[str, dict[str, Any]]:
        """Points and words for each test."""
        found: dict[str, dict[str, Any]] = {}
        for cell in self.master.cells:
            if is_test(cell):
                found[cell.id] = tested(cell, self.names)
        self.go_on(found)
        return found

    def go_on(self, found: dict[str, dict[str, Any]]) -> None:
        """Try what failed again, with the master's functions of the tasks before it."""
        earlier: list[NotebookNode] = []
        for cell in self.master.cells:
            if answer(cell):
                earlier.append(cell)
            elif is_test(cell) and found[cell.id]["said"] and len(earlier) > 1:
                for one in earlier[:-1]:
                    if one.source not in self.student.given:
                        self.student.give(one.source)
                        exec(compile(one.source, one.id, "exec"), self.names)  # where a test calls it as well
                again = tested(cell, self.names)
                if again["points"] > found[cell.id]["points"]:
                    names = [name for one in earlier[:-1] for name in defined(one.source)]
                    found[cell.id] = again | {"with": names}


def package(folder: Path, whole: bool) -> Path:
    """The package as far as it is in reach inside."""
    source, made = ROOT / "src" / "dipfilters", folder / "package"
    if whole:
        shutil.copytree(source, made / "dipfilters", ignore=shutil.ignore_patterns("__pycache__"))
        return made
    (made / "dipfilters").mkdir(parents=True)
    for name in REACHABLE:
        copy = shutil.copytree if (source / name).is_dir() else shutil.copy
        copy(source / name, made / "dipfilters" / name)
    shutil.copy(HERE / "out_of_reach.py", made / "dipfilters" / "__init__.py")
    return made


def grade(plan: dict[str, Any]) -> dict[str, Any]:
    """The points of one notebook, cell by cell, and what its cells raised."""
    master, notebook, release = (read(Path(plan[key])) for key in ("master", "notebook", "release"))
    handed_out = {cell.id: cell.source.strip() for cell in release.cells}
    with tempfile.TemporaryDirectory(prefix="submission.") as place:
        whole = master.metadata.get("course", {}).get("package") == "whole"
        student = Submission(plan, package(Path(place), whole), Path(place))
        student.steps = steps(notebook, master, handed_out)
        try:
            with contextlib.suppress(Ended):
                student.ready()
            return {"cells": Tests(master, student).run(), "errors": student.errors}
        finally:
            student.end()


def main(arguments: Sequence[str]) -> None:
    """Grade as the plan says, and write the result beside it."""
    (path,) = map(Path, arguments)
    began = time.monotonic()
    result = grade(json.loads(path.read_text("utf-8")))
    result["seconds"] = round(time.monotonic() - began, 1)
    path.with_name("result.json").write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
