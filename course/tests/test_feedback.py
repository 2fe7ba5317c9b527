"""Feedback can be handed out: names of tasks, what is read, and nothing that a student wrote acts."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_output

from course import INSTRUCTOR, ROOT, assignments, feedback, read
from course.marks import Total
from course.tests.samples import answered

PART = ROOT / INSTRUCTOR / "part-1.ipynb"
HEADINGS = assignments.graded_headings(PART)
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 20).decode()
EVIL = """My <script>alert(1)</script> <img src=x onerror="alert(1)"> <style>.points{display:none}</style>
<div style="position:fixed;top:0">40 of 40</div> [go](javascript:alert(1)) ![](https://tracker.example/x)
<iframe src="https://tracker.example"></iframe> <svg onload=alert(1)>
**strong** with $W^2$ and $\\href{evil}{x}$."""


class Seen(HTMLParser):
    """Every tag of a page with its attributes, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def release() -> NotebookNode:
    """What nbgrader makes of the master, as far as a page needs it."""
    notebook = read(PART)
    for cell in notebook.cells:
        if "BEGIN SOLUTION" in cell.source:
            cell.source = "YOUR ANSWER HERE"
    return notebook


def submitted(**answers: str) -> NotebookNode:
    notebook = answered(release(), **answers)
    (rows,) = (cell for cell in notebook.cells if cell.id == "rows")
    html = {"text/html": "<script>alert(2)</script>", "text/plain": "<b>plain</b>"}
    figure: dict[str, Any] = {"image/png": PIXEL, "text/plain": "<Figure>"}
    false = {"image/png": base64.b64encode(b"<svg onload=alert(1)>").decode(), "text/plain": "none"}
    svg = {"image/svg+xml": "<svg onload='alert(3)'/>", "application/javascript": "alert(4)"}
    rows.outputs = [new_output("display_data", data) for data in (html, figure, false, svg)]
    rows.outputs.append(nbformat.v4.output_from_msg(STREAM))
    return notebook


STREAM = {
    "header": {"msg_type": "stream"},
    "content": {"name": "stdout", "text": "\x1b[31mred\x1b[0m </pre><h1>"},
}


def total(**by_hand: float | None) -> Total:
    points = {name: 5.0 for name in HEADINGS if not name.endswith("-answer")}
    tasks = points | {name: None for name in HEADINGS if name.endswith("-answer")} | by_hand
    of = {name: 10.0 if name.endswith("-answer") else 5.0 for name in HEADINGS}
    return Total("Alice", "1", "graded", tasks, of, 0, 0.0, "")


def page(notebook: NotebookNode, total: Total, said: dict[str, str], comments: dict[str, str]) -> Seen:
    text = feedback.page("Assignment 1: Alice", total, HEADINGS, said, comments, notebook, release())
    seen = Seen()
    seen.feed(text)
    return seen


def test_nothing_that_a_student_wrote_acts_or_shows_another_score() -> None:
    notebook = submitted(**{"rows-answer": EVIL, "patches": "# </pre></div><h1>40 of 40</h1>"})
    seen = page(notebook, total(), {}, {"rows-answer": "<script>alert(5)</script> so"})
    allowed = feedback.TAGS | {"html", "head", "meta", "title", "style", "body", "div", "img"}
    assert {tag for tag, _ in seen.tags} <= allowed
    for tag, attributes in seen.tags:
        assert set(attributes) <= {"lang", "charset", "http-equiv", "content", "class", "alt", "src"}, tag
        if "src" in attributes:
            assert (attributes["src"] or "").startswith(("data:image/png;base64,", "data:image/jpeg;base64,"))
    assert sum(tag == "style" for tag, _ in seen.tags) == 1
    assert sum(tag == "h1" for tag, _ in seen.tags) == 1
    policy = next(attributes["content"] for _, attributes in seen.tags if "http-equiv" in attributes)
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_it_names_tasks_and_says_what_waits() -> None:
    seen = page(submitted(), total(**{"rows-answer": 7.5}), {"weights-check": "row 3 is wrong"}, {})
    assert "1. Patches10 of 10" in seen.words.replace("\n", "")
    assert "3. Read your filter7.5 of 10" in seen.words
    assert seen.words.count("waiting for a reader, of 10") == 4, (
        "two tasks, in the table and above the answer"
    )
    assert "47.5 of 70; 2 written answers wait for a reader" in seen.words
    assert "row 3 is wrong" in seen.words
    assert "BEGIN HIDDEN" not in seen.words


def test_answers_figures_and_comments_are_there_without_a_network() -> None:
    answer = "The variance is $\\sigma^2$, and\n\n$$\nz = W y\n$$\n\n![photo](attachment:photo.png)"
    notebook = submitted(**{"rows-answer": answer})
    (cell,) = (cell for cell in notebook.cells if cell.id == "rows-answer")
    cell.attachments = {"photo.png": {"image/png": PIXEL}}
    seen = page(notebook, total(), {}, {"rows-answer": "Look at $h$ again"})
    shown = [r"\sigma^2", "\nz = W y\n", "a picture of this cell"]
    pictures = [attributes for tag, attributes in seen.tags if tag == "img"]
    assert [one["alt"] for one in pictures] == ["h", "a picture of this cell", *shown]
    assert "red </pre><h1>" in seen.words
    assert "Look at" in seen.words


def test_a_formula_that_the_renderer_does_not_know_stays_as_it_was_written() -> None:
    assert feedback.formula(r"\unknown{x}") == r"<code>\unknown{x}</code>"


def test_an_answer_in_a_new_cell_counts_as_written() -> None:
    notebook = release()
    place = next(i for i, cell in enumerate(notebook.cells) if cell.id == "rows-answer")
    notebook.cells.insert(place + 1, new_markdown_cell("My own cell."))
    found = feedback.answers(notebook, release())
    assert found == {"rows-answer": "My own cell.", "stop-answer": "", "control-answer": ""}


def test_a_file_that_could_not_be_graded_has_a_page() -> None:
    row = {"state": "unreadable", "file": "<b>.ipynb", "note": "it is not a notebook"}
    assert "Not graded: unreadable" in (text := feedback.not_graded("Alice", row))
    assert "<b>" not in text
    assert "&lt;b&gt;.ipynb" in text
