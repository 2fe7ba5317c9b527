"""`make book`: build the pages strictly from a staged copy, and put them in place only when complete.

A chapter whose outputs are older than its code is named, and says so on its page; with --strict, for what is
published, it is refused.
"""

import copy
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from tools import address, bench_page, notebooks, record, status, stills
from tools.book import Book, command_line, read_yaml
from tools.errors import BookError, run_main

CITATION = "CITATION.cff"
STAMP = ".inputs"  # beside index.html, so that the swap moves pages and digest together
CLUTTER = shutil.ignore_patterns(".*", "__pycache__", "*~", "status.md", "benchmarks.md")
BANNER = """```{{warning}}
The figures and numbers of this page are older than what they are computed from ({reasons}).
`make execute CHAPTER={chapter}` renews them.
```"""


def input_files(book: Book) -> Iterator[Path]:
    """Every file that the built pages depend on."""
    yield from (book.root / name for name in ("_config.yml", "_toc.yml", CITATION, record.LOCK))
    yield from book.chapters
    for folder in ("book", "benchmarks/results", "src", "tools"):
        for path in sorted((book.root / folder).rglob("*")):
            hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(book.root).parts)
            if path.is_file() and not hidden and ".egg-info" not in str(path):
                yield path


def inputs_digest(book: Book) -> str:
    """The digest of names and contents of all inputs, the address and what tests found included."""
    facts = (sys.version, address.published(book), status.tested(book))
    total = hashlib.sha256(repr(facts).encode())
    for path in input_files(book):
        total.update(f"{path.relative_to(book.root)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def stage(book: Book, target: Path, to: address.Address) -> None:
    """Copy what is a page, or what pages need, to `target`, with the status page and the address `to`."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(book.root / "book", target / "book", ignore=CLUTTER)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy2(book.root / name, target / name)
    for path, notebook in book.notebooks.items():
        page = stills.for_page(with_banner(notebook, path, book.stale.get(path, [])))
        if to.claimed:
            page = with_colab_link(page, to.on_colab(path.name))
        notebooks.write(page, target / path.relative_to(book.root))
    (target / "book" / "status.md").write_text(status.page(book), "utf-8")
    bench_page.write(book.root, target / "book")
    address.rewrite(target, address.committed(book), to)
    if not to.claimed:
        address.without_links(target, to)
    write_config(target, staged_config(book, to))


def with_banner(notebook: NotebookNode, path: Path, reasons: list[str]) -> NotebookNode:
    """The notebook as its page shows it: below its title, why its outputs are out of date."""
    if not reasons:
        return notebook
    shown = copy.deepcopy(notebook)
    text = BANNER.format(reasons="; ".join(reasons), chapter=path.stem.partition("-")[0])
    shown.cells.insert(1, new_markdown_cell(text, id="out-of-date"))
    return shown


def with_colab_link(notebook: NotebookNode, link: str) -> NotebookNode:
    """The notebook with a link below its title that opens it on Colab."""
    shown = copy.deepcopy(notebook)
    title, _, rest = shown.cells[0].source.partition("\n")
    shown.cells[0].source = f"{title}\n\n[Run this chapter on Colab]({link})\n{rest}"
    return shown


def staged_config(book: Book, to: address.Address) -> dict[str, Any]:
    """_config.yml as this build needs it: the address in it, and what pages say when they are cited."""
    config = copy.deepcopy(book.config)
    config["repository"] |= {"url": f"https://github.com/{to.repository}", "branch": to.branch}
    for_sphinx = config.setdefault("sphinx", {}).setdefault("config", {})
    for_sphinx["html_baseurl"] = to.site
    context = for_sphinx.setdefault("html_context", {})
    context |= {"citation": citation_facts(book), "claimed": to.claimed, "colab_branch": address.COLAB}
    return config


def write_config(stage: Path, config: dict[str, Any]) -> None:
    """Write _config.yml of a staged copy."""
    (stage / "_config.yml").write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), "utf-8")


def citation_facts(book: Book) -> dict[str, Any]:
    """What CITATION.cff says of the book, as pages and PDF need it."""
    citation = read_yaml(book.root / CITATION)
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


def build(book: Book, stage: Path, work: Path) -> Path:
    """Build what is staged anew; gives the folder of the finished pages, still apart from the old ones."""
    shutil.rmtree(work, ignore_errors=True)
    options = ["build", "-W", "--keep-going", "--path-output", str(work)]
    done = jupyter_book(book.root, [*options, str(stage)])
    pages = work / "_build" / "html"
    if done.returncode or not (pages / "index.html").is_file():
        log = work.with_name("build.log")
        log.write_text(done.stdout, "utf-8")
        lines = done.stdout.splitlines()
        plain = [line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-30:]
        remedy = f"the build failed and the pages are as they were; its whole output: {log}"
        raise BookError("\n".join([*plain, remedy]))
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


def report_stale(book: Book, strict: bool) -> None:
    """Name the chapters that are out of date, and why; a strict build ends here."""
    if not book.stale:
        return
    lines = [f"{path.name}: {reason}" for path, reasons in book.stale.items() for reason in reasons]
    if strict:
        raise BookError(
            "\n".join(
                [
                    *lines,
                    "these chapters are out of date, and not published so; `make execute` runs them",
                ]
            )
        )
    print("\n".join([*lines, "these chapters are out of date, as their pages say; `make execute` runs them"]))


def renew(book: Book) -> None:
    """Build unless the finished pages are those of the present inputs."""
    recover(book.site)
    stamp = book.site / STAMP
    inputs = inputs_digest(book)
    if stamp.is_file() and stamp.read_text("utf-8") == inputs:
        print("the book is up to date")
        return
    print("building the book, half a minute", flush=True)
    staged = book.root / "_build" / "stage"
    stage(book, staged, address.published(book))
    for old in (book.root / "_build").glob("work*"):
        shutil.rmtree(old, ignore_errors=True)
    # A folder of its own: what a killed build left running goes on writing in another.
    pages = build(book, staged, book.root / "_build" / f"work-{os.getpid()}")
    (pages / STAMP).write_text(inputs, "utf-8")
    swap(pages, book.site)


def main(arguments: Sequence[str]) -> None:
    """Bring the pages up to date, and say where they are."""
    parser = command_line(__doc__)
    parser.add_argument("--strict", action="store_true", help="refuse chapters that are out of date")
    asked = parser.parse_args(arguments)
    book = Book(asked.root)
    report_stale(book, asked.strict)
    with book.lock("build", "building the pages"):
        renew(book)
    print(f"open {(book.site / 'index.html').as_uri()}")


if __name__ == "__main__":
    run_main(main)
