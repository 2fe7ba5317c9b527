"""`make address`: bring every derived address into step with `repository` in _config.yml.

Install cells, Colab links, links in the README, in pages and in CITATION.cff all name the repository. Which
addresses are ours is read off those that can be nobody else's: the install cells and the Colab links. Files
are rewritten as text, so that a notebook keeps its outputs and its record to the byte.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools import notebooks
from tools.errors import AddressDiffers, BadSettings, run_main

OURS = re.compile(r"(?:git\+https://github\.com/|colab\.research\.google\.com/github/)([\w.-]+/[\w.-]+)")


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


def files(root: Path) -> Iterator[Path]:
    """The files that name the repository; _config.yml, where the address comes from, is none of them."""
    yield from notebooks.chapters(root)
    yield from sorted((root / "book").glob("*.md"))
    names = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml")
    yield from (root / name for name in names if (root / name).exists())


def rewritten(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Each file with its text, and the text as it should be."""
    address, branch = setting(root)
    texts = {path: path.read_text("utf-8") for path in files(root)}
    found = {name for text in texts.values() for name in OURS.findall(text)}
    known = {name.rstrip(".").removesuffix(".git") for name in found} | {address}
    ours = "|".join(sorted(map(re.escape, known), key=len, reverse=True))
    whole_name = r"(?![\w-]|\.(?!git\b)\w)"
    link = re.compile(rf"(github\.com/|github/)(?:{ours}){whole_name}(?:(/(?:blob|tree|raw)/)[\w.-]+)?")
    for path, text in texts.items():
        yield path, text, link.sub(lambda m: f"{m[1]}{address}" + (f"{m[2]}{branch}" if m[2] else ""), text)


def main(arguments: Sequence[str]) -> None:
    """List the places that differ, or rewrite them."""
    parser = argparse.ArgumentParser(prog="python -m tools.address", description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--root", type=Path, default=notebooks.ROOT)
    asked = parser.parse_args(arguments)
    differing = []
    for path, text, wanted in rewritten(asked.root):
        if text == wanted:
            continue
        for number, (line, right) in enumerate(zip(text.splitlines(), wanted.splitlines(), strict=True), 1):
            if line != right:
                differing.append(f"{path.relative_to(asked.root)}:{number}: {line.strip()[:120]}")
        if asked.write:
            beside = path.with_name(f".{path.name}.new")
            beside.write_text(wanted, "utf-8")
            beside.replace(path)
    if differing and not asked.write:
        remedy = "not the address of _config.yml; `make address` rewrites them"
        raise AddressDiffers("\n".join([*differing, remedy]))
    print(f"{len(differing)} lines rewritten" if asked.write else "all addresses are that of _config.yml")


if __name__ == "__main__":
    run_main(main)
