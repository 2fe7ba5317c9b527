"""`make address TO=OWNER/NAME`: let the book name another repository.

Install cells, Colab links, links in the README, in pages and in CITATION.cff all name the repository, or the
site that GitHub Pages makes of it. They and _config.yml are rewritten as text, so that a notebook keeps its
outputs and its record to the byte.

A build may be another repository's, a fork's: then the environment names it, and the staged copy of the pages
is rewritten, without a commit. While nobody has named one, pages carry no link to it.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tools.book import Book, command_line
from tools.errors import BookError, run_main

FILES = (
    *("_config.yml", "CITATION.cff", "pyproject.toml", "*.md", "book/*.md", "course/**/*.md"),
    *("notebooks/*.ipynb", "course/**/*.ipynb"),
)


COLAB = "colab"  # the branch of the notebooks for Colab


class Address(NamedTuple):
    """Where a book is kept and where it is read."""

    repository: str  # "owner/name"
    branch: str
    site: str  # where its first page is, with a slash at the end

    @property
    def claimed(self) -> bool:
        """Whether somebody has named the repository; a name on GitHub holds no underscore."""
        return "_" not in self.repository.split("/")[0]

    def on_colab(self, notebook: str) -> str:
        """Where Colab opens a notebook: as `make colab` writes it, on the branch that holds only those."""
        return f"https://colab.research.google.com/github/{self.repository}/blob/{COLAB}/notebooks/{notebook}"

    @property
    def folder(self) -> str:
        """The site's folder on its host, "/" or "/name/"."""
        return urlsplit(self.site).path


def pages_site(repository: str) -> str:
    """The address that GitHub Pages gives to a repository."""
    owner, name = repository.split("/")
    host = f"{owner}.github.io"
    return f"https://{host}/" if name.lower() == host.lower() else f"https://{host}/{name}/"


def checked(repository: str, branch: str, site: str = "", source: str = "_config.yml") -> Address:
    """The address of these parts, each checked; by default read on GitHub Pages."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(?<!\.git)", repository):
        raise BookError(f"{source} names the repository {repository!r}; write it as OWNER/NAME")
    if not re.fullmatch(r"[\w.-]+", branch):
        raise BookError(f"{source} names the branch {branch!r}; write a branch name without slash")
    site = (site or pages_site(repository)).rstrip("/") + "/"
    if not re.fullmatch(r"https?://[\w.:-]+/(?:[\w.~-]+/)*", site):
        raise BookError(f"{source} names the site {site!r}; write an address like https://book.example.org/")
    return Address(repository, branch, site)


def committed(book: Book) -> Address:
    """The address in _config.yml, which all files name."""
    repository = book.config.get("repository") or {}
    name = str(repository.get("url")).removeprefix("https://github.com/").removesuffix("/")
    return checked(name, str(repository.get("branch")))


def published(book: Book, environment: Mapping[str, str] = os.environ) -> Address:
    """The address that a build made now writes into its pages.

    That of _config.yml, unless the environment names another as OWNER/NAME: in DIPFILTERS_REPOSITORY, or in
    GITHUB_REPOSITORY, which GitHub sets where it builds a fork. DIPFILTERS_BRANCH names another branch, and
    DIPFILTERS_SITE a host of one's own.
    """
    own = committed(book)
    repository = environment.get("DIPFILTERS_REPOSITORY") or environment.get("GITHUB_REPOSITORY")
    branch, site = environment.get("DIPFILTERS_BRANCH"), environment.get("DIPFILTERS_SITE")
    return checked(repository or own.repository, branch or own.branch, site or "", "the environment")


def files(root: Path) -> Iterator[Path]:
    """The files that name the repository."""
    for pattern in FILES:
        yield from sorted(root.glob(pattern))


def rewrite(root: Path, old: Address, new: Address) -> list[Path]:
    """Let the files that name the old address name the new one; gives those that changed."""
    whole_name = r"(?![\w-]|\.(?!git\b)\w)"
    link = re.compile(
        rf"(github\.com/|github/){re.escape(old.repository)}{whole_name}(?:(/(?:blob|tree|raw)/)[\w.-]+)?"
    )
    site = re.compile(re.escape(old.site.rstrip("/")) + r"(?![\w.-])/?")
    changed = []
    for path in files(root):
        text = path.read_text("utf-8")
        right = link.sub(lambda m: f"{m[1]}{new.repository}" + (f"{m[2]}{new.branch}" if m[2] else ""), text)
        right = site.sub(new.site, right)
        if path.name == "_config.yml":
            right = right.replace(f"branch: {old.branch}", f"branch: {new.branch}")
        if right != text:
            beside = path.with_name(f".{path.name}.new")
            beside.write_text(right, "utf-8")
            beside.replace(path)
            changed.append(path)
    return changed


def without_links(root: Path, to: Address) -> None:
    """Turn links to an address that nobody has claimed into their words, in the files that name it."""
    places = "|".join(re.escape(start) for start in (f"https://github.com/{to.repository}", to.site))
    link = re.compile(rf"\[([^\]\[]+)\]\((?:{places})[^)\s]*\)")
    for path in files(root):
        text = path.read_text("utf-8")
        if (plain := link.sub(r"\1", text)) != text:
            path.write_text(plain, "utf-8")


def main(arguments: Sequence[str]) -> None:
    """Rewrite the book's files."""
    parser = command_line(__doc__)
    parser.add_argument("to", metavar="OWNER/NAME")
    parser.add_argument("--branch")
    asked = parser.parse_args(arguments)
    old = committed(Book(asked.root))
    new = checked(asked.to, asked.branch or old.branch, source="TO=")
    print(f"{len(rewrite(asked.root, old, new))} files rewritten: {old.repository} → {new.repository}")


if __name__ == "__main__":
    run_main(main)
