"""Decks of slides from the chapters, read in a browser that reaches nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from playwright.sync_api import Browser

from tests import site_browser
from tools import slides
from tools.book import Book
from tools.notebooks import ROOT

chrome = site_browser.chrome

TEXT = """## Why the filter

A long paragraph that no slide shows. It goes on. **The question:** who is
like $a. B$? And more [of it](01-one.ipynb).

$$
z = W y
$$

- first item, see [chapter 1](01-one.ipynb);
- second item.

<details><summary>Hint</summary>

**Not** on a slide.

</details>

## Exercises

1. **(easy)** Why?
"""


def test_a_slide_keeps_headings_bold_items_and_formulas() -> None:
    assert slides.slides(TEXT) == [
        "## Why the filter\n\n**The question:** who is like $a. B$?\n\n$$\nz = W y\n$$\n\n"
        "- first item, see chapter 1;\n\n- second item."
    ]


def test_what_does_not_fit_goes_on_under_its_heading() -> None:
    made = slides.slides("## A\n\n" + "\n\n".join(f"**Point {n}.** {'word ' * 30}" for n in range(30)))
    assert len(made) > 1
    assert all(text.startswith("## A\n") for text in made)
    assert sum(text.count("**Point") for text in made) == 30


def test_only_tagged_cells_are_shown_and_code_by_its_output() -> None:
    figure = {"image": {"alt": "A grey square"}, "figure": {"caption": "What a square is"}}
    picture = new_output("display_data", {"image/png": "iVBORw0KGgo="})
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# The title", metadata={"tags": ["slide"]}),
            new_markdown_cell("## Kept **by** nobody"),
            new_code_cell("secret = 1", outputs=[picture], metadata={"tags": ["slide"], "mystnb": figure}),
        ]
    )
    page = slides.page(notebook)
    assert "<title>The title</title>" in page
    assert "nobody" not in page
    assert "secret" not in page
    assert 'alt="A grey square"' in page
    assert ">What a square is</p>" in page


def test_reveal_s_licence_lies_beside_it() -> None:
    folder = slides.DECK / "reveal"
    assert "Permission is hereby granted, free of charge" in (folder / "LICENSE").read_text("utf-8")
    assert {path.name for path in folder.iterdir()} == {"LICENSE", "reveal.js", "reveal.css"}


@pytest.fixture(scope="module")
def decks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The decks of all chapters, in a folder apart."""
    root = tmp_path_factory.mktemp("decks")
    for name in ("_toc.yml", "_config.yml"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    slides.main(["--root", str(root)])
    return root / "_build" / "slides"


@pytest.mark.browser
@pytest.mark.parametrize("name", [path.stem for path in Book(ROOT).chapters])
def test_a_deck_is_readable_offline(name: str, decks: Path, chrome: Browser) -> None:
    """From its folder, without an outside request, an error, a bare formula, or a slide cut off."""
    with site_browser.reader(chrome, decks.as_uri()) as (context, trouble):
        page = context.new_page()
        page.goto(f"{decks.as_uri()}/{name}.html")
        page.wait_for_function("window.Reveal && Reveal.isReady()")
        facts = page.evaluate(
            """async () => {
              await MathJax.startup.promise;
              const cut = [];
              for (const slide of Reveal.getSlides()) {
                const { h, v } = Reveal.getIndices(slide);
                Reveal.slide(h, v);
                const text = slide.textContent.trim().slice(0, 60);
                if (slide.scrollHeight > slide.clientHeight + 2) cut.push(text);
              }
              return {
                slides: Reveal.getTotalSlides(),
                cut,
                wrong: document.querySelectorAll('mjx-merror, [data-mjx-error]').length,
                bare: document.querySelector('.slides').innerText.includes('$'),
                empty: [...document.images].filter((image) => !image.naturalWidth).length,
                mute: [...document.images].filter((image) => image.alt.length < 20).length,
              };
            }"""
        )
        assert not trouble
        assert facts.pop("slides") >= 4
        assert facts == {"cut": [], "wrong": 0, "bare": False, "empty": 0, "mute": 0}
        before = page.evaluate("Reveal.getIndices().h")
        page.keyboard.press("ArrowLeft")
        assert page.evaluate("Reveal.getIndices().h") == before - 1, "the keyboard turns the slides"
