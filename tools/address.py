"""`make address`: bring every derived address into step with `repository` in _config.yml.

Install cells, Colab links, links in the README, in pages and in CITATION.cff all name the repository, or the
site that GitHub Pages makes of it. Which addresses are ours is read off those that can be nobody else's: the
install cells and the Colab links. Files are rewritten as text, so that a notebook keeps its outputs and its
record to the byte.

A build may be another repository's, a fork's: then the environment names it, and the staged copy of the pages
is rewritten, without a commit.
"""

import argparse
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tools import notebooks
from tools.errors import AddressDiffers, BadSettings, run_main

OURS = re.compile(r"(?:git\+https://github\.com/|colab\.research\.google\.com/github/)([\w.-]+/[\w.-]+)")


class Address(NamedTuple):
    """Where a book is kept and where it is read."""

    repository: str  # "owner/name"
    branch: str
    site: str  # where its first page is, with a slash at the end

    @property
    def folder(self) -> str:
        """The site's folder on its host, "/" or "/name/"."""
        return urlsplit(self.site).path


def pages_site(repository: str) -> str:
    """The address that GitHub Pages gives to a repository."""
    owner, name = repository.split("/")
    host = f"{owner}.github.io"
    return f"https://{host}/" if name.lower() == host.lower() else f"https://{host}/{name}/"


def setting(root: Path) -> tuple[str, str]:
    """The repository as "owner/name", and its branch."""
    repository = notebooks.settings(root, "_config.yml").get("repository") or {}
    url, branch = str(repository.get("url")), str(repository.get("branch"))
    match = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)/?", url)
    if match is None or match[1].endswith(".git"):
        raise BadSettings(f"_config.yml: repository.url is {url}; write https://github.com/OWNER/NAME")
    if not re.fullmatch(r"[\w.-]+", branch):
        raise BadSettings(f"_config.yml: repository.branch is {branch}; write a branch name without slash")
    return match[1], branch


def published(root: Path, environment: Mapping[str, str] = os.environ) -> Address:
    """The address that a build made now writes into its pages.

    That of _config.yml, unless the environment names another as OWNER/NAME: in DIPFILTERS_REPOSITORY, or in
    GITHUB_REPOSITORY, which GitHub sets where it builds a fork. DIPFILTERS_BRANCH names another branch, and
    DIPFILTERS_SITE a host of one's own.
    """
    repository, branch = setting(root)
    key = "DIPFILTERS_REPOSITORY" if environment.get("DIPFILTERS_REPOSITORY") else "GITHUB_REPOSITORY"
    repository = environment.get(key) or repository
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise BadSettings(f"{key}={repository}: write it as OWNER/NAME")
    branch = environment.get("DIPFILTERS_BRANCH") or branch
    if not re.fullmatch(r"[\w.-]+", branch):
        raise BadSettings(f"DIPFILTERS_BRANCH={branch}: write a branch name without slash")
    site = (environment.get("DIPFILTERS_SITE") or pages_site(repository)).rstrip("/") + "/"
    if not re.fullmatch(r"https?://[\w.:-]+/(?:[\w.~-]+/)*", site):
        raise BadSettings(f"DIPFILTERS_SITE={site}: write an address like https://book.example.org/")
    return Address(repository, branch, site)


def files(root: Path) -> Iterator[Path]:
    """The files that name the repository; _config.yml, where the address comes from, is none of them."""
    yield from notebooks.chapters(root)
    yield from sorted((root / "course").glob("*/*.ipynb"))
    yield from sorted((root / "book").glob("*.md"))
    names = (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "pyproject.toml",
        "course/README.md",
    )
    yield from (root / name for name in names if (root / name).exists())


def rewritten(root: Path, to: Address) -> Iterator[tuple[Path, str, str]]:
    """Each file with its text, and the text that names `to`."""
    texts = {path: path.read_text("utf-8") for path in files(root)}
    found = {name for text in texts.values() for name in OURS.findall(text)}
    known = {name.rstrip(".").removesuffix(".git") for name in found} | {to.repository, setting(root)[0]}
    longest_first = sorted(known, key=len, reverse=True)
    ours = "|".join(map(re.escape, longest_first))
    whole_name = r"(?![\w-]|\.(?!git\b)\w)"
    link = re.compile(rf"(github\.com/|github/)(?:{ours}){whole_name}(?:(/(?:blob|tree|raw)/)[\w.-]+)?")
    read = re.compile(
        "|".join(re.escape(pages_site(name).rstrip("/")) + r"(?![\w.-])/?" for name in longest_first)
    )
    for path, text in texts.items():
        right = link.sub(lambda m: f"{m[1]}{to.repository}" + (f"{m[2]}{to.branch}" if m[2] else ""), text)
        yield path, text, read.sub(to.site, right)


def write(root: Path, to: Address) -> list[tuple[Path, str, str]]:
    """Rewrite the files that name another address; return each with its text before and after."""
    changed = [(path, text, wanted) for path, text, wanted in rewritten(root, to) if text != wanted]
    for path, _, wanted in changed:
        beside = path.with_name(f".{path.name}.new")
        beside.write_text(wanted, "utf-8")
        beside.replace(path)
    return changed


def main(arguments: Sequence[str]) -> None:
    """List the places that differ, or rewrite them."""
    parser = argparse.ArgumentParser(prog="python -m tools.address", description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--root", type=Path, default=notebooks.ROOT)
    asked = parser.parse_args(arguments)
    repository, branch = setting(asked.root)
    to = Address(repository, branch, pages_site(repository))
    differing = [
        f"{path.relative_to(asked.root)}:{number}: {line.strip()[:120]}"
        for path, text, wanted in (write if asked.write else rewritten)(asked.root, to)
        for number, (line, right) in enumerate(zip(text.splitlines(), wanted.splitlines(), strict=True), 1)
        if line != right
    ]
    if differing and not asked.write:
        remedy = "not the address of _config.yml; `make address` rewrites them"
        raise AddressDiffers("\n".join([*differing, remedy]))
    print(f"{len(differing)} lines rewritten" if asked.write else "all addresses are that of _config.yml")


if __name__ == "__main__":
    run_main(main)
