"""`make slides`: a short deck of each chapter, from the cells that are tagged `slide`, in `_build/slides/`.

nbconvert makes the deck, and would show each cell whole; but a cell of a chapter has up to 1,300 words. So of
the text a deck takes the headings, the sentences with something in bold, the items of lists and the displayed
formulas; of the code, the outputs. It needs no network: reveal.js and MathJax lie beside it.
"""

import argparse
import copy
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from tools import notebooks
from tools.book import Book
from tools.errors import BookError, run_main

DECK = Path(__file__).with_name("deck")
TAG = "slide"
FULL = 13.0  # a slide's measure: about one for a line of text, three for a formula

APART = re.compile(r"#+ (Exercises|Further reading|Sources|For whom)")  # what follows is for readers
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:)[^)]*\)")
ITEM = re.compile(r"(?:[-*]|\d+\.) ")
END = re.compile(r"(?<=[.?!])\s+(?=\S)")


def sentences(paragraph: str) -> list[str]:
    """Its sentences; neither a formula nor words in bold are cut."""
    found: list[str] = []
    for piece in END.split(paragraph):
        whole = found and (found[-1].count("$") % 2 or found[-1].count("**") % 2)
        if whole:
            found[-1] += f" {piece}"
        else:
            found.append(piece)
    return found


def blocks(text: str) -> Iterator[str]:
    """Headings, displayed formulas, items and paragraphs, in their order."""
    text = re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)
    for part in re.split(r"(^\$\$.*?^\$\$\s*$)", text, flags=re.DOTALL | re.MULTILINE):
        pieces = [part] if part.startswith("$$") else re.split(r"\n\s*\n|\n(?=(?:[-*]|\d+\.) )", part)
        yield from (piece.strip() for piece in pieces if piece.strip())


def kept(block: str) -> str:
    """What a slide shows of a block, or nothing."""
    if block.startswith(("#", "$$")):
        return block
    if ITEM.match(block):
        return block if len(block) < 200 else sentences(block.replace("\n", " "))[0]
    said = sentences(block.replace("\n", " "))
    if said[0].startswith("**What to look for"):
        return " ".join(said[:3])
    return " ".join([sentence for sentence in said if "**" in sentence][:2])


def weight(block: str) -> float:
    """How much of a slide it takes."""
    if block.startswith("$$"):
        return 1.5 + 1.5 * block.count(r"\\") + 1.5
    return 2.0 if block.startswith("#") else 0.6 + len(block) / 95


def slides(text: str) -> list[str]:
    """The text of a cell as slides: a heading begins one, and so does what does not fit."""
    made: list[list[str]] = [[]]
    heading = ""
    apart = False
    for block in blocks(text):
        if block.startswith("#"):
            apart = bool(APART.match(block))
        if apart:
            continue
        shown = LINK.sub(r"\1", kept(block))
        if not shown:
            continue
        if shown.startswith("#"):
            heading = re.sub(r"^#+", "##", shown) if not shown.startswith("# ") else shown
            made.append([heading])
        elif sum(map(weight, made[-1])) + weight(shown) > FULL:
            made.append([heading, shown] if heading else [shown])
        else:
            made[-1].append(shown)
    return ["\n\n".join(parts) for parts in made if any(not part.startswith("## ") for part in parts)]


def deck(notebook: NotebookNode) -> NotebookNode:
    """The notebook of a deck: a cell for each slide."""
    cells: list[NotebookNode] = []
    for cell in notebook.cells:
        if TAG not in notebooks.tags(cell):
            continue
        if cell.cell_type == "markdown":
            cells += [new_markdown_cell(text) for text in slides(cell.source)]
        else:
            shown = copy.deepcopy(cell)
            pictures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
            shown.outputs = pictures or cell.outputs
            figure = cell.metadata.get("mystnb", {})
            shown.metadata = NotebookNode(
                alt=figure.get("image", {}).get("alt", ""),
                caption=figure.get("figure", {}).get("caption", ""),
            )
            cells.append(shown)
    for cell in cells:
        cell.metadata["slideshow"] = {"slide_type": "slide"}
    title = notebook.cells[0].source.splitlines()[0].lstrip("# ")
    metadata = {**notebook.metadata, "title": title}
    return NotebookNode(cells=cells, metadata=NotebookNode(metadata), nbformat=4, nbformat_minor=5)


def page(notebook: NotebookNode) -> str:
    """The deck as a page of HTML."""
    from nbconvert.exporters import SlidesExporter  # a second that the others need not spend

    exporter = SlidesExporter(template_name=DECK.name, extra_template_basedirs=[str(DECK.parent)])
    text, _ = exporter.from_notebook_node(deck(notebook))
    return str(text)


def main(arguments: Sequence[str]) -> None:
    """Make all decks, and put them in place together."""
    parser = argparse.ArgumentParser(prog="python -m tools.slides", description=__doc__)
    parser.add_argument("--root", type=Path, default=notebooks.ROOT)
    root = parser.parse_args(arguments).root.resolve()
    chapters = {path: notebooks.read(path) for path in Book(root).chapters}
    tagged = {
        path: notebook
        for path, notebook in chapters.items()
        if any(TAG in notebooks.tags(cell) for cell in notebook.cells)
    }
    if not tagged:
        raise BookError(f"no cell of any chapter is tagged {TAG!r}; tag those that a deck is to show")
    new, place = root / "_build" / "slides.new", root / "_build" / "slides"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(DECK / "reveal", new / "reveal")
    shutil.copytree(notebooks.ROOT / "book" / "_mathjax", new, dirs_exist_ok=True)
    shutil.copy(DECK / "deck.css", new)
    for path, notebook in tagged.items():
        (new / f"{path.stem}.html").write_text(page(notebook), "utf-8")
    shutil.rmtree(place, ignore_errors=True)
    new.replace(place)
    for path in tagged:
        print((place / f"{path.stem}.html").as_uri())


if __name__ == "__main__":
    run_main(main)
