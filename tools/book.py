"""The book in a folder: its settings, pages, notebooks and code, each read once and passed on."""

import argparse
import contextlib
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from nbformat import NotebookNode

from dipfilters.provenance import Package, digest
from tools import notebooks, record
from tools.errors import BookError
from tools.notebooks import ROOT


def read_yaml(path: Path) -> Any:
    """The content of a YAML file."""
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        name = path.name
        raise BookError(f"{name} cannot be read: {error}; restore it with `git checkout {name}`") from error


def command_line(description: str | None) -> argparse.ArgumentParser:
    """The command line of a tool: which book."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's folder; by default this one")
    return parser


class Book:
    """The book below ``root``, as it was when each part was first asked for."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root.resolve()

    @cached_property
    def config(self) -> dict[str, Any]:
        """_config.yml."""
        config: dict[str, Any] = read_yaml(self.root / "_config.yml")
        return config

    @cached_property
    def contents(self) -> dict[str, Any]:
        """_toc.yml."""
        contents: dict[str, Any] = read_yaml(self.root / "_toc.yml")
        return contents

    @cached_property
    def pages(self) -> list[str]:
        """The pages in the order of the table of contents, without suffix."""

        def walk(node: Any) -> Iterator[str]:
            if isinstance(node, dict):
                yield from (node[key] for key in ("root", "file") if key in node)
                node = [value for key, value in node.items() if key not in ("root", "file")]
            if isinstance(node, list):
                for child in node:
                    yield from walk(child)

        return list(walk(self.contents))

    @cached_property
    def chapters(self) -> list[Path]:
        """The notebooks in the order of the table of contents."""
        return [self.root / f"{page}.ipynb" for page in self.pages if page.startswith("notebooks/")]

    def chapter(self, wanted: str) -> Path:
        """The notebook of that name ("02-twicing") or number ("02", "2")."""
        known = {path.stem: path for path in self.chapters}
        number = wanted.zfill(2)
        found = [path for stem, path in known.items() if wanted == stem or stem.startswith(f"{number}-")]
        if len(found) != 1:
            raise BookError(f"CHAPTER={wanted}: no such chapter; known are {', '.join(known)}")
        return found[0]

    @cached_property
    def notebooks(self) -> dict[Path, NotebookNode]:
        """Each chapter's notebook."""
        return {path: notebooks.read(path) for path in self.chapters}

    @cached_property
    def package(self) -> Package:
        """The helper package's code."""
        return Package(self.root / "src" / record.PACKAGE)

    @cached_property
    def stale(self) -> dict[Path, list[str]]:
        """The chapters whose outputs are older than what they are computed from, and why."""
        found = {
            path: record.reasons(notebook, path.name, self.package)
            for path, notebook in self.notebooks.items()
        }
        return {path: reasons for path, reasons in found.items() if reasons}

    @cached_property
    def lock_digest(self) -> str:
        """The digest of the list of pinned libraries."""
        return digest((self.root / record.LOCK).read_text("utf-8"))

    @property
    def site(self) -> Path:
        """Where the built pages are."""
        return self.root / "_build" / "html"

    def built(self, target: str) -> Path:
        """The built pages, which `make target` builds first."""
        if not (self.site / "index.html").is_file():
            raise BookError(
                f"there are no built pages in {self.site}; run `make {target}`, which builds them"
            )
        return self.site

    @contextlib.contextmanager
    def lock(self, name: str, doing: str) -> Iterator[None]:
        """Hold the right to execute, or to build; the system frees it however the process ends."""
        path = self.root / "_build" / f"{name}.lock"
        path.parent.mkdir(exist_ok=True)
        holder = path.with_suffix(".pid")
        try:
            held = FileLock(path).acquire(timeout=0)
        except Timeout as error:
            process = holder.read_text() if holder.exists() else "of another user"
            raise BookError(f"process {process} is {doing}; wait for it, or end it") from error
        with held:
            holder.write_text(str(os.getpid()))
            yield
