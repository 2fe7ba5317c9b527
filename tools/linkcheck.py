"""`make linkcheck`: links between the built pages must hold; links to elsewhere are tried, and warned about.

Other people's sites come and go, and this machine may be off the network: neither is the book's fault, so a
broken link within the book alone makes the check fail. Sphinx's own link checker does the trying.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

from tools import address, build
from tools.book import Book, command_line
from tools.errors import BookError, run_main

SECONDS = 20  # for one address


@cache
def _page(path: Path) -> tuple[frozenset[str], tuple[str, ...]]:
    """The places of a page that a link can lead to, and its links."""
    soup = BeautifulSoup(path.read_text("utf-8"), "html.parser")
    places = {str(tag[key]) for key in ("id", "name") for tag in soup.select(f"[{key}]")}
    links = [str(tag["href"]) for tag in soup.find_all(["a", "link"], href=True)]
    return frozenset(places), tuple(links)


def inside(site: Path, folder: str = "/") -> Iterator[str]:
    """Each link of the built pages that leads to no file or no place of the site, which lies at `folder`."""
    site = site.resolve()
    for page in sorted(site.rglob("*.html")):
        if "_static" in page.relative_to(site).parts:
            continue
        name = page.relative_to(site).as_posix()
        for link in _page(page)[1]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link == "#":
                continue
            path = unquote(parts.path)
            if path.startswith("/"):
                path = os.path.relpath(site / path.removeprefix(folder), page.parent)
            target = (page.parent / path).resolve() if path else page
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or not target.is_relative_to(site):
                yield f"{name} -> {link}: no such page"
            elif (
                parts.fragment
                and target.suffix == ".html"
                and unquote(parts.fragment) not in _page(target)[0]
            ):
                yield f"{name} -> {link}: no such anchor"


def outside(book: Book) -> dict[str, list[str]]:
    """Let Sphinx try the pages' links to elsewhere; gives those that did not answer, and where they stand."""
    work = book.root / "_build" / "linkcheck"
    stage, to = work / "stage", address.published(book)
    build.stage(book, stage, to)
    config = build.staged_config(book, to)
    config["sphinx"]["config"] |= {
        "linkcheck_timeout": SECONDS,
        "linkcheck_retries": 1,
        "linkcheck_rate_limit_timeout": SECONDS,
        "linkcheck_anchors": False,  # pages that scripts make have none before they ran
    }
    build.write_config(stage, config)
    words = ["build", "--builder", "linkcheck", "--path-output", str(work), str(stage)]
    done = build.jupyter_book(book.root, words)
    answers = next(iter(work.rglob("output.json")), None)
    if answers is None:
        raise BookError(f"{done.stdout[-2000:]}\nthe links could not be tried")
    silent: dict[str, list[str]] = defaultdict(list)
    for line in answers.read_text("utf-8").splitlines():
        answer = json.loads(line)
        if answer["status"] in ("broken", "timeout"):
            silent[answer["uri"]].append(f"{answer['filename']}:{answer['lineno']}: {answer['info'][:100]}")
    return silent


def main(arguments: Sequence[str]) -> None:
    """Check both kinds of links of the built book."""
    book = Book(command_line(__doc__).parse_args(arguments).root)
    if broken := list(inside(book.built("linkcheck"), address.published(book).folder)):
        raise BookError("\n".join([*broken, "correct these links"]))
    print("every link within the book leads somewhere; trying those to elsewhere", flush=True)
    silent = outside(book)
    marker = "::warning::" if os.environ.get("GITHUB_ACTIONS") else "warning: "
    for link, places in sorted(silent.items()):
        print(f"{marker}{link} did not answer; it stands in {'; '.join(places)}")
    print(f"{len(silent)} links to elsewhere did not answer; none of these fails the check")


if __name__ == "__main__":
    run_main(main)
