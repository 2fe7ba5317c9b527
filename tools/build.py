"""`make book`: build the pages strictly from a staged copy, and put them in place only when complete."""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools import bench_page, execute, fresh, notebooks, record, status
from tools.errors import BuildFailed, run_main

SETTINGS = ("_config.yml", "_toc.yml")
STAMP = ".inputs"  # beside index.html, so that the swap moves pages and digest together
CLUTTER = shutil.ignore_patterns(".*", "__pycache__", "*~", "status.md", "benchmarks.md")


def input_files(root: Path) -> Iterator[Path]:
    """Every file that the built pages depend on."""
    yield from (root / name for name in (*SETTINGS, record.LOCK))
    yield from notebooks.chapters(root)
    for folder in ("book", "benchmarks/results", "src", "tools"):
        for path in sorted((root / folder).rglob("*")):
            hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(root).parts)
            if path.is_file() and not hidden and ".egg-info" not in str(path):
                yield path


def inputs_digest(root: Path) -> str:
    """The digest of names and contents of all inputs."""
    total = hashlib.sha256(sys.version.encode())
    for path in input_files(root):
        total.update(f"{path.relative_to(root)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def stage(root: Path, target: Path) -> None:
    """Copy what is a page, or what pages need, to `target`, and write the status page there."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root / "book", target / "book", ignore=CLUTTER)
    for path in (*(root / name for name in SETTINGS), *notebooks.chapters(root)):
        place = target / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)
    (target / "book" / "status.md").write_text(status.page(root), "utf-8")
    bench_page.write(root, target / "book")


def build(root: Path) -> Path:
    """Build anew and return the folder of the finished pages, still apart from the old ones."""
    # A folder of its own: what a killed build left running goes on writing in another.
    work = root / "_build" / f"work-{os.getpid()}"
    for old in work.parent.glob("work*"):
        shutil.rmtree(old, ignore_errors=True)
    # Not its script: the first line of one breaks when the environment's path holds a space.
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    options = ["build", "-W", "--keep-going", "--path-output", str(work)]
    done = subprocess.run(
        [*jupyter_book, *options, str(root / "_build" / "stage")],
        env=os.environ | {"PYTHONPATH": str(root / "src"), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    pages = work / "_build" / "html"
    if done.returncode or not (pages / "index.html").is_file():
        log = root / "_build" / "build.log"
        log.write_text(done.stdout, "utf-8")
        lines = done.stdout.splitlines()
        plain = [line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-30:]
        remedy = f"the build failed and the pages are as they were; its whole output: {log}"
        raise BuildFailed("\n".join([*plain, remedy]))
    return pages


def recover(html: Path) -> None:
    """Put the old pages back that a build killed while it swapped has moved away, or remove what it left."""
    old = html.with_name("html.old")
    if old.is_dir() and not html.exists():
        old.replace(html)
    shutil.rmtree(old, ignore_errors=True)


def swap(pages: Path, html: Path) -> None:
    """Put the new pages in the place of the old ones."""
    old = html.with_name("html.old")
    shutil.rmtree(old, ignore_errors=True)
    if html.exists():
        html.replace(old)
    pages.replace(html)
    shutil.rmtree(old, ignore_errors=True)


def main(arguments: Sequence[str]) -> None:
    """Build unless the finished pages are those of the present inputs, and say where they are."""
    parser = argparse.ArgumentParser(prog="python -m tools.build", description=__doc__)
    parser.add_argument("--root", type=Path, default=notebooks.ROOT)
    root = parser.parse_args(arguments).root.resolve()
    fresh.check(root)
    with execute.lock(root, "build", "building the pages"):
        _build(root)


def _build(root: Path) -> None:
    html = root / "_build" / "html"
    recover(html)
    stamp = html / STAMP
    inputs = inputs_digest(root)
    if stamp.is_file() and stamp.read_text("utf-8") == inputs:
        print("the book is up to date")
    else:
        print("building the book, half a minute", flush=True)
        stage(root, root / "_build" / "stage")
        pages = build(root)
        (pages / STAMP).write_text(inputs, "utf-8")
        swap(pages, html)
    print(f"open {(html / 'index.html').as_uri()}")


if __name__ == "__main__":
    run_main(main)
