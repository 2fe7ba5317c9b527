"""The status page, written by each build: what each notebook was run with, and whether it passed."""

from pathlib import Path
from xml.etree import ElementTree

from nbformat import NotebookNode

from tools import notebooks, record
from tools.book import Book

REPORT = Path("_build", "quick", "report.xml")  # of `make test`, beside the copies that it ran

HEAD = """# Status

Each notebook of this book was executed before the book was built. Where its code cells, parameters, picture,
or the functions, classes and files of `dipfilters` that it reaches changed since, its page says so, and it is
not published. This page says when and with what each one ran.

| Notebook | Run on | Seconds | Cells tested | Pinned libraries |
|---|---|--:|---|---|
"""

FOOT = """
**Run on** and **Seconds** tell of the run whose figures you see. **Cells tested** tells of another:
`make test` runs each notebook again at the quick profile, cell by cell. "Not here" means that this was not
done in the copy of the book from which these pages were built, or that the notebook, or code that it calls,
changed since.

The last column compares the list of pinned libraries, `requirements.lock`, with that of the run. A changed
list does not make a page out of date by itself; `make execute CHAPTER=02` runs a chapter with the new one.

## The runs in detail
"""


def _title(notebook: NotebookNode) -> str:
    lines: list[str] = notebook.cells[0].source.splitlines()
    return next(line[2:] for line in lines if line.startswith("# "))


def tested(book: Book) -> dict[str, str]:
    """What `make test` found of each notebook, as far as that holds for the notebook of now."""
    report = book.root / REPORT
    try:
        suite = next(ElementTree.parse(report).iter("testsuite"))
    except (OSError, ElementTree.ParseError, StopIteration):
        return {}
    day = suite.get("timestamp", "")[:10]
    found = {}
    for path, notebook in book.notebooks.items():
        cells = [
            case for case in suite.iter("testcase") if case.get("classname", "").endswith(f".{path.name}")
        ]
        if not cells or not (copy := report.with_name(path.name)).is_file():
            continue
        then = notebooks.read(copy).metadata.get(record.PACKAGE, {}).get("tested")
        if then != record.code(notebook, path.name, book.package):
            continue
        failed = sum(len(case) > 0 for case in cells)
        found[path.name] = f"{failed} of {len(cells)} failed" if failed else f"{len(cells)} passed"
        found[path.name] += f", {day}"
    return found


def _row(path: Path, notebook: NotebookNode, lock: str, results: dict[str, str]) -> str:
    run = record.stored(notebook) or {}
    cells = [
        f"[{_title(notebook)}](../notebooks/{path.name})",
        run.get("date", "never")[:10],
        f"{run.get('seconds', '')}",
        results.get(path.name, "not here"),
        "as in the run" if run.get("lock") == lock else "changed since",
    ]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def _detail(notebook: NotebookNode) -> str:
    run = record.stored(notebook)
    if run is None:
        return f"\n**{_title(notebook)}** was never run.\n"
    lines = {
        "Hardware": run["hardware"],
        "Python": run["python"],
        "Libraries": ", ".join(f"{name} {number}" for name, number in run["versions"].items()),
        "Parameters": ", ".join(f"`{name} = {value!r}`" for name, value in run["parameters"].items()),
        "Commit": run["commit"],
        "Begun": run["date"],
    }
    return f"\n**{_title(notebook)}**\n\n" + "".join(f"- {name}: {text}\n" for name, text in lines.items())


def page(book: Book) -> str:
    """The page as Markdown."""
    results = tested(book)
    rows = [_row(path, notebook, book.lock_digest, results) for path, notebook in book.notebooks.items()]
    return HEAD + "".join(rows) + FOOT + "".join(map(_detail, book.notebooks.values()))
