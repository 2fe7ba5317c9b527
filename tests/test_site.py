"""The built book, as files and in a browser: whatever a reader would stumble over."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, expect

from dipfilters import PICTURES
from dipfilters.plots import INK
from tests import site_browser, site_html
from tests.site_html import ROOT, SITE
from tools import address, linkcheck, notebooks

READABLE = 4.5  # WCAG 2, level AA, for text of ordinary size
ORIGINS = ("http", "file")


# ------------------------------------------------------------------------------------------------ files


def test_links_and_anchors_lead_somewhere() -> None:
    broken = list(linkcheck.inside(SITE, address.published(ROOT).folder))
    assert not broken, "\n".join(broken)


def test_local_images_and_scripts_exist() -> None:
    missing = [
        f"{site_html.name(page)}: {tag['src']}"
        for page in site_html.pages()
        for tag in site_html.soup(page).find_all(src=True)
        if not site_html.is_outside(str(tag["src"])) and not str(tag["src"]).startswith("data:")
        if not site_html.target(page, str(tag["src"]))[0].is_file()
    ]
    assert not missing, "\n".join(missing)


def test_nothing_is_loaded_from_elsewhere() -> None:
    outside = []
    for page in site_html.pages():
        for tag in site_html.soup(page).find_all(
            ["script", "link", "img", "iframe", "source", "object", "form"]
        ):
            loads = [str(tag.get(key, "")) for key in ("src", "srcset", "data", "action")]
            if tag.name == "link" and tag["rel"] != [
                "canonical"
            ]:  # which says where the page is, and loads nothing
                loads.append(str(tag.get("href", "")))
            outside += [f"{site_html.name(page)}: {load}" for load in loads if site_html.is_outside(load)]
            # The figures' scripts name the kind of an SVG element by an address that nothing asks for.
            code = (tag.string or "").replace("http://www.w3.org/2000/svg", "")
            if tag.name == "script" and re.search(r"https?://", code):
                outside.append(f"{site_html.name(page)}: an address in a script of the page")
    for sheet in SITE.rglob("*.css"):
        found = re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')]+)", sheet.read_text("utf-8"))
        outside += [f"{site_html.name(sheet)}: {load}" for load in found]
    ours = (SITE / "_static" / "book.js").read_text("utf-8")
    assert not outside, "\n".join(outside)
    assert "http:" not in ours
    assert "https:" not in ours


def test_licences_lie_beside_what_others_made() -> None:
    for folder in ("mathjax-3.2.2", "_static/fonts"):
        assert any((SITE / folder).glob("LICENSE*")), folder


def test_pictures_have_written_alternative_text() -> None:
    wrong = []
    for page in site_html.written_pages():
        body = site_html.article(page)
        assert body is not None
        for image in body.find_all("img"):
            alt = str(image.get("alt", ""))
            file_name = re.search(r"\.(png|svg|jpe?g)\b", alt) or alt == str(image.get("src"))
            if len(alt.split()) < 4 or file_name:
                wrong.append(f"{site_html.name(page)}: {image.get('src')} has alt={alt!r}")
    assert not wrong, "\n".join(wrong)


def test_figures_of_the_chapters_have_captions() -> None:
    bare = [
        f"{site_html.name(page)}: {image.get('src')}"
        for page in site_html.written_pages()
        for image in site_html.soup(page).select("article .cell_output img")
        if image not in site_html.soup(page).select("figure:has(> figcaption) img")
    ]
    assert not bare, "\n".join(bare)


def test_headings_are_in_order() -> None:
    wrong = []
    for page in site_html.written_pages():
        body = site_html.article(page)
        assert body is not None
        levels = [int(tag.name[1]) for tag in body.find_all(re.compile(r"^h[1-6]$"))]
        skips = any(after > before + 1 for before, after in pairwise(levels))
        if levels[:1] != [1] or levels.count(1) != 1 or skips:
            wrong.append(f"{site_html.name(page)}: {levels}")
    assert not wrong, "\n".join(wrong)


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


def test_pages_state_their_language_and_a_title_of_their_own() -> None:
    titles = [site_html.soup(page).title for page in site_html.written_pages()]
    texts = [title.get_text().strip() if title else "" for title in titles]
    assert all(texts)
    assert len(set(texts)) == len(texts)
    for page in site_html.written_pages():
        html = site_html.soup(page).html
        assert html is not None
        assert html.get("lang") == "en", site_html.name(page)


def test_every_chapter_has_its_colab_button() -> None:
    repository, branch, _ = address.published(ROOT)
    for path in notebooks.chapters(ROOT):
        page = site_html.soup(SITE / "notebooks" / f"{path.stem}.html")
        link = f"https://colab.research.google.com/github/{repository}/blob/{branch}/notebooks/{path.name}"
        places = page.find_all("a", href=link)
        assert any(tag.find_parent(class_="dropdown-launch-buttons") for tag in places), path.name
        assert any(tag.find_parent("article") for tag in places), path.name


def test_pages_with_formulas_load_mathjax_from_the_site() -> None:
    for page in site_html.written_pages():
        scripts = [str(tag["src"]) for tag in site_html.soup(page).select("script[src]")]
        if site_html.soup(page).select("span.math, div.math"):
            assert any("../mathjax-3.2.2/tex-chtml.js" in script for script in scripts), site_html.name(page)


def test_licences_page_lists_the_package_s_pictures() -> None:
    table = site_html.soup(SITE / "book" / "picture-licences.html").select_one("article table")
    assert table is not None
    rows = [[cell.get_text().strip() for cell in row.find_all("td")] for row in table.select("tbody tr")]
    assert rows == [[name, p.title, p.licence, p.credit] for name, p in PICTURES.items()]


# ------------------------------------------------------------------------------------- beside the pages


def bibliography_keys() -> set[str]:
    return set(
        re.findall(r"^@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text("utf-8"), re.MULTILINE)
    )


def test_sources_cited_in_the_code_are_in_the_bibliography() -> None:
    known = bibliography_keys()
    cited = {
        (key, path.name)
        for path in (ROOT / "src" / "dipfilters").rglob("*.py")
        for key in re.findall(r"\[([a-z]+\d{4})\]", path.read_text("utf-8"))
    }
    assert cited
    assert not {(key, path) for key, path in cited if key not in known}


def test_sources_are_all_on_the_bibliography_page() -> None:
    keys = bibliography_keys()
    page = SITE / "book" / "bibliography.html"
    assert {f"cite-{key}" for key in keys} <= site_html.anchors(page)


def test_notebooks_hold_plain_markdown() -> None:
    """A directive or a role shows raw on Colab and GitHub."""
    foreign = re.compile(r"^(?::::+|```\{)|\{[a-z:-]+\}`|^\([\w-]+\)=$", re.MULTILINE)
    found = [
        f"{path.name}: {match[0]}"
        for path in notebooks.chapters(ROOT)
        for cell in notebooks.read(path).cells
        if cell.cell_type == "markdown"
        for match in foreign.finditer(cell.source)
    ]
    assert not found, "\n".join(found)


def test_citation_file_is_complete_and_in_step() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    repository, _ = address.setting(ROOT)
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"]
    assert citation["title"] == yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["title"]
    assert all("name" in author or "family-names" in author for author in citation["authors"])
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert citation["repository-code"] == f"https://github.com/{repository}"
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(citation["date-released"]))
    first = re.search(r"^## (\S+), (\S+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert first is not None
    assert first.groups() == (citation["version"], str(citation["date-released"]))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_local_links_beside_the_book_exist(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if not site_html.is_outside(link) and not (ROOT / link).exists()]
    assert not missing


def test_readme_lists_every_chapter_with_its_colab_link() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    repository, branch = address.setting(ROOT)
    for path in notebooks.chapters(ROOT):
        assert f"](notebooks/{path.name})" in text
        assert f"colab.research.google.com/github/{repository}/blob/{branch}/notebooks/{path.name})" in text


# ---------------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with site_browser.launch() as browser:
        yield browser


@pytest.fixture(scope="module", params=ORIGINS)
def base(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the site is read: from a server, and straight from its folder."""
    if request.param == "file":
        yield SITE.as_uri()
    else:
        with site_browser.serve(SITE) as server:
            yield server


@pytest.fixture(scope="module")
def visits(chrome: Browser, base: str) -> dict[str, site_browser.Visit]:
    """Each page once from each place: on a desk from the server, on a phone from the folder."""
    screen = site_browser.DESKTOP if base.startswith("http") else site_browser.PHONE
    return site_browser.visit_all(chrome, base, screen)


@pytest.mark.browser
def test_pages_open_without_an_error_or_an_outside_request(visits: dict[str, site_browser.Visit]) -> None:
    assert len(visits) >= len(notebooks.pages(ROOT))
    assert not {name: seen.trouble for name, seen in visits.items() if seen.trouble}


@pytest.mark.browser
def test_formulas_are_typeset(visits: dict[str, site_browser.Visit]) -> None:
    wrong = {name: seen.facts for name, seen in visits.items() if seen.facts["bare"] or seen.facts["wrong"]}
    assert not wrong
    assert sum(seen.facts["formulas"] for seen in visits.values()) > 50


@pytest.mark.browser
def test_figures_and_faces_are_there(visits: dict[str, site_browser.Visit]) -> None:
    wrong = {name: seen.facts for name, seen in visits.items() if seen.facts["empty"] or seen.facts["faces"]}
    assert not wrong


@pytest.mark.browser
def test_no_page_is_wider_than_its_screen(visits: dict[str, site_browser.Visit]) -> None:
    wrong = {
        name: seen.layout
        for name, seen in visits.items()
        if seen.layout["overflow"] > 0 or seen.layout["protruding"]
    }
    assert not wrong


@pytest.mark.browser
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_words_and_figures_stand_out_from_their_ground(
    visits: dict[str, site_browser.Visit], mode: str
) -> None:
    faint = []
    ink_of_figures = "rgb({}, {}, {})".format(*bytes.fromhex(INK.removeprefix("#")))
    for name, seen in visits.items():
        for what, ink, ground in seen.colours[mode]["text"]:
            dark = site_browser.luminance(ground) < 0.2
            if site_browser.contrast(ink, ground) < READABLE or dark != (mode == "dark"):
                faint.append(f"{name}: {what} is {ink} on {ground}")
        for ground, painted_over in seen.colours[mode]["figures"]:
            dark = site_browser.luminance(ground) < 0.2
            readable = site_browser.contrast(ink_of_figures, ground) >= READABLE
            if not readable or dark != (mode == "dark") or painted_over != "none":
                faint.append(f"{name}: a figure stands on {ground}, filter {painted_over}")
    assert not faint, "\n".join(faint)


@pytest.mark.browser
def test_search_finds_the_chapter_on_twicing(chrome: Browser, base: str) -> None:
    with site_browser.reader(chrome, base) as (context, trouble):
        page = context.new_page()
        page.goto(f"{base}/book/notation.html")
        page.keyboard.press("Control+k")
        page.locator("#pst-search-dialog input").fill("twicing residual")
        page.keyboard.press("Enter")
        expect(page.locator("#search-results p.search-summary")).to_contain_text("found")
        hits = page.locator("#search-results ul.search > li > a")
        assert any(
            "02-twicing.html" in str(href) for href in hits.evaluate_all("all => all.map(a => a.href)")
        )
        if base.startswith("http"):  # on file:// a browser refuses the quotations
            expect(page.locator("#search-results p.context").first).to_be_visible()
        hits.first.click()
        expect(page.locator("article.bd-article h1")).to_be_visible()
        assert not trouble


@pytest.mark.browser
def test_first_page_leads_to_the_welcome(chrome: Browser, base: str) -> None:
    with site_browser.reader(chrome, base) as (context, trouble):
        page = context.new_page()
        page.goto(f"{base}/index.html")
        page.wait_for_url(f"{base}/{notebooks.pages(ROOT)[0]}.html")
        assert not trouble


@pytest.mark.browser
def test_theme_switch_changes_the_ground(chrome: Browser, base: str) -> None:
    with site_browser.reader(chrome, base) as (context, trouble):
        page = context.new_page()
        page.goto(f"{base}/book/notation.html")
        seen = set()
        for _ in range(3):
            page.locator("button.theme-switch-button").first.click()
            seen.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert len(seen) == 2
        assert not trouble


def test_pages_are_those_of_the_table_of_contents() -> None:
    built = {Path(site_html.name(page)).with_suffix("").as_posix() for page in site_html.written_pages()}
    assert built - {"index"} == set(notebooks.pages(ROOT))
