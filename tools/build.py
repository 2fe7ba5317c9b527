"""`make book`: build the pages strictly from a staged copy, and put them in place only when complete."""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tools import address, bench_page, execute, fresh, notebooks, record, status, stills
from tools.errors import BuildFailed, run_main

SETTINGS = ("_config.yml", "_toc.yml")
CITATION = "CITATION.cff"
STAMP = ".inputs"  # beside index.html, so that the swap moves pages and digest together
CLUTTER = shutil.ignore_patterns(".*", "__pycache__", "*~", "status.md", "benchmarks.md")


def input_files(root: Path) -> Iterator[Path]:
    """Every file that the built pages depend on."""
    yield from (root / name for name in (*SETTINGS, CITATION, record.LOCK))
    yield from notebooks.chapters(root)
    for folder in ("book", "benchmarks/results", "src", "tools"):
        for path in sorted((root / folder).rglob("*")):
            hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(root).parts)
            if path.is_file() and not hidden and ".egg-info" not in str(path):
                yield path


def inputs_digest(root: Path) -> str:
    """The digest of names and contents of all inputs, the address and what tests found included."""
    facts = (sys.version, address.published(root), status.tested(root))
    total = hashlib.sha256(repr(facts).encode())
    for path in input_files(root):
        total.update(f"{path.relative_to(root)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def stage(root: Path, target: Path, to: address.Address) -> None:
    """Copy what is a page, or what pages need, to `target`, with the status page and the address `to`."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root / "book", target / "book", ignore=CLUTTER)
    for name in SETTINGS:
        shutil.copy2(root / name, target / name)
    for path in notebooks.chapters(root):
        notebooks.write(stills.for_page(notebooks.read(path)), target / path.relative_to(root))
    (target / "book" / "status.md").write_text(status.page(root), "utf-8")
    bench_page.write(root, target / "book")
    address.write(target, to)
    write_settings(target, settings(root, to))


def settings(root: Path, to: address.Address) -> dict[str, Any]:
    """_config.yml as this build needs it: the address in it, and what pages say when they are cited."""
    config: dict[str, Any] = notebooks.settings(root, "_config.yml")
    config["repository"] |= {"url": f"https://github.com/{to.repository}", "branch": to.branch}
    for_sphinx = config.setdefault("sphinx", {}).setdefault("config", {})
    for_sphinx["html_baseurl"] = to.site
    for_sphinx.setdefault("html_context", {})["citation"] = citation_facts(root)
    return config


def write_settings(stage: Path, config: dict[str, Any]) -> None:
    """Write _config.yml of a staged copy."""
    (stage / "_config.yml").write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), "utf-8")


def citation_facts(root: Path) -> dict[str, Any]:
    """What CITATION.cff says of the book, as pages and PDF need it."""
    citation = notebooks.settings(root, CITATION)
    return {
        "authors": [_name(author) for author in citation["authors"]],
        "title": str(citation["title"]),
        "released": str(citation["date-released"]),
        "version": str(citation["version"]),
    }


def _name(author: dict[str, str]) -> str:
    family_first = [author[key] for key in ("family-names", "given-names") if key in author]
    return author.get("name") or ", ".join(family_first)


def jupyter_book(root: Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run Jupyter Book's command, with the package's sources where the API page finds them."""
    # Not its script: the first line of one breaks when the environment's path holds a space.
    return subprocess.run(
        [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", *words],
        env=os.environ | {"PYTHONPATH": str(root / "src"), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def build(root: Path, stage: Path, work: Path) -> Path:
    """Build what is staged anew; gives the folder of the finished pages, still apart from the old ones."""
    shutil.rmtree(work, ignore_errors=True)
    options = ["build", "-W", "--keep-going", "--path-output", str(work)]
    done = jupyter_book(root, [*options, str(stage)])
    pages = work / "_build" / "html"
    if done.returncode or not (pages / "index.html").is_file():
        log = work.with_name("build.log")
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
        staged = root / "_build" / "stage"
        stage(root, staged, address.published(root))
        for old in (root / "_build").glob("work*"):
            shutil.rmtree(old, ignore_errors=True)
        # A folder of its own: what a killed build left running goes on writing in another.
        pages = build(root, staged, root / "_build" / f"work-{os.getpid()}")
        (pages / STAMP).write_text(inputs, "utf-8")
        swap(pages, html)
    print(f"open {(html / 'index.html').as_uri()}")


if __name__ == "__main__":
    run_main(main)
