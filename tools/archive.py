"""`make zip`: the built site as one file to take along; its first page opens without server or network."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.book import Book, command_line
from tools.errors import run_main

FOLDER = "the-filter-inside-the-network"
DATE = (1980, 1, 1, 0, 0, 0)  # the earliest a zip knows: the same pages make the same bytes
ONLINE = {"404.html", "sitemap.xml"}  # of use on the site alone
README = f"""The Filter Inside the Network

Open index.html in a browser. Nothing is loaded from elsewhere, and no server is needed.
Unpack the whole folder {FOLDER} first: a browser cannot follow links within a zip.
"""


def contents(site: Path) -> Iterator[Path]:
    """The files to take along: neither those of use on a server alone, nor the source maps of the theme."""
    for path in sorted(site.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(site).parts)
        if path.is_file() and not hidden and path.suffix != ".map" and path.name not in ONLINE:
            yield path


def write(site: Path, target: Path) -> None:
    """Pack beside, then replace."""
    beside = target.with_name(f".{target.name}.new")
    with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        packed.writestr(zipfile.ZipInfo(f"{FOLDER}/README.txt", DATE), README)
        for path in contents(site):
            entry = zipfile.ZipInfo(f"{FOLDER}/{path.relative_to(site).as_posix()}", DATE)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, path.read_bytes())
    beside.replace(target)


def main(arguments: Sequence[str]) -> None:
    """Pack the built book."""
    book = Book(command_line(__doc__).parse_args(arguments).root)
    target = book.root / "_build" / "book.zip"
    write(book.built("zip"), target)
    print(f"{target.stat().st_size / 1e6:.1f} MB: {target}")


if __name__ == "__main__":
    run_main(main)
