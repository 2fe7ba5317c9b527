"""What runs inside the sandbox: a student's cells, and then the student's functions, as they are called.

It is started by `course.worker` and talks to it by messages. No test, no solution and no other submission is
within reach of it; what it answers are numbers that the worker judges.
"""

import builtins
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

sys.path.insert(1, sys.argv[1])  # the package, as far as it is in reach
import wire  # type: ignore[import-not-found]  # beside this file; the package `course` is out of reach

from dipfilters.checks import as_result


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Interrupt what takes longer, as Ctrl-C would; what does not listen, the worker ends."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it ran for more than {seconds} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def shown(error: BaseException) -> list[str]:
    """The kind and words of an error."""
    return [type(error).__name__[:60], str(error)[:500]]


class Student:
    """A student's names, in a shell that knows the magics of notebooks."""

    def __init__(self) -> None:
        from IPython.core.interactiveshell import InteractiveShell

        self.shell = InteractiveShell.instance()
        for name in ("pip", "conda", "matplotlib"):  # nothing to install, and nobody to show to
            self.shell.register_magic_function(print, "line", name)  # type: ignore[arg-type]
        self.functions: dict[str, Any] = {}

    def run(self, source: str, seconds: int) -> list[str] | None:
        """Run a cell; its error, or None."""
        try:
            with limited(seconds):
                done = self.shell.run_cell(source, store_history=False)
        except BaseException as error:
            return shown(error)
        raised = done.error_before_exec or done.error_in_exec
        return shown(raised) if raised else None

    def keep(self, names: list[str]) -> None:
        """Keep the functions of those names as they are now; what is no function may still become one."""
        for name in names:
            if callable(found := self.shell.user_ns.get(name)):
                self.functions[name] = found

    def call(self, name: str, given: list[Any], seconds: int) -> dict[str, Any]:
        """What the function gives, and what it has made of the tensors it was given."""
        function = self.functions.get(name) or self.shell.user_ns.get(name)
        if not callable(function):
            return {"raised": ["NameError", f"no function is called {name}"]}
        try:
            with limited(seconds):
                found = function(*given)
                if found is None:
                    return {"kind": "NoneType"}
                try:
                    result = as_result(found)
                except (TypeError, ValueError, RuntimeError):
                    return {"kind": type(found).__name__[:60]}
        except BaseException as error:
            return {"raised": shown(error)}
        after = [as_result(value) if isinstance(value, Tensor) else None for value in given]
        return {"value": result, "after": after}


def main() -> None:
    """Answer messages until the worker has no more."""
    read, written = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):  # what a student prints, goes nowhere
        os.dup2(nowhere, number)
    if beside := sys.argv[2]:
        shutil.copytree(Path(beside), ".", dirs_exist_ok=True)
    sys.argv[1:], builtins.input = [], lambda *_: ""
    torch.set_num_threads(1)
    student = Student()
    wire.send(written, "ready")
    while True:
        try:
            message = wire.receive(read)
        except EOFError:
            return
        wire.send(written, getattr(student, message["do"])(*message["with"]))


if __name__ == "__main__":
    main()
