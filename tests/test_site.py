"""The built book as files, and what stands beside it: whatever a reader would stumble over."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from PIL import Image

from dipfilters.images import PICTURES
from tests import site_html
from tests.site_html import ROOT, SITE
from tools import address, linkcheck, notebooks
from tools.book import Book


def test_pages_are_those_of_the_table_of_contents() -> None:
    built = {Path(site_html.name(page)).with_suffix("").as_posix() for page in site_html.written_pages()}
    assert built == set(Book(ROOT).pages)


def test_links_and_anchors_lead_somewhere() -> None:
    broken = list(linkcheck.inside(SITE, address.published(Book(ROOT)).folder))
    assert not broken, "\n".join(broken)


def test_licences_lie_beside_what_others_made() -> None:
    for folder in ("mathjax-3.2.2", "_static/fonts", "_static/scripts"):
        assert any((SITE / folder).glob("*LICENSE*")), folder


def test_pictures_have_words_and_a_size_and_load_when_they_are_needed() -> None:
    wrong, seen = [], 0
    for page in site_html.written_pages():
        for number, image in enumerate(site_html.soup(page).select("article img")):
            source, alt = str(image["src"]), str(image.get("alt", ""))
            name = f"{site_html.name(page)}: {source[:80]}"
            if len(alt.split()) < 4 or re.search(r"\.(png|svg|jpe?g)\b", alt):
                wrong.append(f"{name} has alt={alt!r}")
            if image.find_parent(class_="cell_output") and not image.find_parent("figure"):
                wrong.append(f"{name} has no caption")
            if source.startswith("data:"):
                continue
            seen += 1
            with Image.open(site_html.file_of(page, source)) as picture:
                if (int(str(image["width"])), int(str(image["height"]))) != picture.size:
                    wrong.append(f"{name} is {picture.size}")
            if (image.get("loading") == "lazy") != (number > 0):
                wrong.append(f"{name} loads {image.get('loading')}")
    assert not wrong, "\n".join(wrong)
    assert seen > 30


def test_figures_on_the_pages_are_those_that_the_notebooks_computed() -> None:
    """Pixel for pixel, though the page has them in a lighter format."""
    compared = 0
    for path in Book(ROOT).chapters:
        page = SITE / "notebooks" / f"{path.stem}.html"
        computed = [
            base64.b64decode(output.data["image/png"])
            for cell in notebooks.code_cells(notebooks.read(path))
            for output in cell.outputs
            if "image/png" in output.get("data", {})
        ]
        shown = site_html.soup(page).select("article .cell_output img[src^='..']")
        for image, png in zip(shown, computed, strict=True):
            file = site_html.file_of(page, str(image["src"]))
            with Image.open(file) as on_page, Image.open(io.BytesIO(png)) as in_notebook:
                same = on_page.convert("RGBA").tobytes() == in_notebook.convert("RGBA").tobytes()
                assert same, f"{path.name}: {file.name}"
            compared += 1
    assert compared > 30


def test_no_markup_is_left_raw() -> None:
    raw = re.compile(r"\{[a-z:-]+\}`|:::|```|\$|\\[a-zA-Z]+\{|\]\(|:(?:func|class|mod|cite\w*|ref):|\*\*")
    left = []
    for page in site_html.written_pages():
        text = site_html.prose(page)
        left += [
            f"{site_html.name(page)}: …{text[max(0, m.start() - 40) : m.end() + 20]}…"
            for m in raw.finditer(text)
        ]
    assert not left, "\n".join(left)


def test_a_claimed_book_has_colab_buttons_and_another_no_link_to_nobody() -> None:
    to = address.published(Book(ROOT))
    for page in site_html.written_pages():
        links = {str(tag.get("href")) for tag in site_html.soup(page).find_all("a")}
        if not to.claimed:
            assert not [link for link in links if to.repository.split("/")[0] in link], site_html.name(page)
        elif page.parent.name == "notebooks":
            assert to.on_colab(f"{page.stem}.ipynb") in links, site_html.name(page)


def test_the_page_of_licences_lists_the_package_s_pictures() -> None:
    table = site_html.soup(SITE / "book" / "picture-licences.html").select_one("article table")
    assert table is not None
    rows = [[cell.get_text().strip() for cell in row.find_all("td")] for row in table.select("tbody tr")]
    assert rows == [[name, p.title, p.licence, p.credit] for name, p in PICTURES.items()]


# ------------------------------------------------------------------------------------- beside the pages


def test_sources_cited_in_the_code_are_in_the_bibliography_and_all_are_on_its_page() -> None:
    bibliography = (ROOT / "book" / "references.bib").read_text("utf-8")
    known = set(re.findall(r"^@\w+\{(\w+),", bibliography, re.MULTILINE))
    cited = {
        key: path.name
        for path in (ROOT / "src" / "dipfilters").rglob("*.py")
        for key in re.findall(r"\[([a-z]+\d{4})\]", path.read_text("utf-8"))
    }
    assert cited
    assert not {path: key for key, path in cited.items() if key not in known}
    page = site_html.soup(SITE / "book" / "bibliography.html")
    assert {f"cite-{key}" for key in known} <= {str(tag["id"]) for tag in page.select("[id]")}


def test_the_citation_file_holds_to_its_format_and_is_in_step() -> None:
    words = ["--builtin-schema", "vendor.citation-file-format", str(ROOT / "CITATION.cff")]
    done = subprocess.run([sys.executable, "-m", "check_jsonschema", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    repository, *_ = address.committed(Book(ROOT))
    assert citation["title"] == yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["title"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert citation["repository-code"] == f"https://github.com/{repository}"
    first = f"## {citation['version']}, {citation['date-released']}\n"
    assert first in (ROOT / "CHANGELOG.md").read_text("utf-8")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_local_links_beside_the_book_exist(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing


def test_readme_lists_every_chapter_and_links_to_no_address_that_may_be_nobody_s() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert all(f"](notebooks/{path.name})" in text for path in Book(ROOT).chapters)
    to = address.committed(Book(ROOT))
    assert to.claimed or not re.search(rf"//[\w./]*{to.repository.split('/')[0]}", text)
