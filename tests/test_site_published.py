"""What the published site adds to the pages: addresses, also a fork's, citations, descriptions, map, 404."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import pytest
import yaml
from playwright.sync_api import Browser, expect
from pybtex.database import parse_string

from tests import site_browser, site_html
from tests.site_html import ROOT, SITE
from tools import address, build, linkcheck
from tools.book import Book

chrome = site_browser.chrome
CHAPTERS = [path.stem for path in Book(ROOT).chapters]
FORK = {"GITHUB_REPOSITORY": "a-lice/prior.book", "DIPFILTERS_BRANCH": "trunk"}


# ------------------------------------------------------------------------------------ descriptions, map


def test_pages_describe_themselves_in_words_of_their_own() -> None:
    found: dict[str, str] = {}
    titles = {str(site_html.soup(page).title) for page in site_html.written_pages()}
    assert len(titles) == len(site_html.written_pages())
    for page in site_html.written_pages():
        tags = site_html.soup(page).select("meta[name=description]")
        assert len(tags) == 1, site_html.name(page)
        text = str(tags[0]["content"])
        assert 40 <= len(text) <= 250, f"{site_html.name(page)}: {text}"
        assert text not in found, f"{site_html.name(page)} and {found[text]} say the same"
        body = " ".join(site_html.soup(page).select("article")[0].get_text().split())
        assert text in body, f"{site_html.name(page)}: {text}"
        found[text] = site_html.name(page)


def test_the_map_lists_every_page_of_the_book_by_its_address() -> None:
    site = address.published(Book(ROOT)).site
    space = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
    places = [str(place.text) for place in ElementTree.parse(SITE / "sitemap.xml").iter(f"{space}loc")]
    assert places == [f"{site}{page}.html" for page in Book(ROOT).pages]
    for page in Book(ROOT).pages:
        canonical = site_html.soup(SITE / f"{page}.html").select_one("link[rel=canonical]")
        assert canonical is not None
        assert canonical["href"] == f"{site}{page}.html"


# --------------------------------------------------------------------------------------------- citation


@pytest.mark.parametrize("stem", CHAPTERS)
def test_a_chapter_says_how_to_cite_it(stem: str) -> None:
    page = copy.copy(site_html.soup(SITE / "notebooks" / f"{stem}.html"))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    (block,) = page.select("article details.book-cite")
    (entry,) = parse_string(block.select("pre")[0].get_text(), "bibtex").entries.values()
    (heading,) = page.select("article h1")
    for tag in heading.select(".section-number, .headerlink"):
        tag.extract()
    to, whole = address.published(Book(ROOT)), stem == CHAPTERS[0]
    title = citation["title"] if whole else heading.get_text().strip()
    expected = {
        "title": f"{{{title}}}",
        "year": str(citation["date-released"])[:4],
        "note": f"Version {citation['version']}",
    }
    expected |= {} if whole else {"booktitle": f"{{{citation['title']}}}"}
    expected |= {"url": to.site if whole else f"{to.site}notebooks/{stem}.html"} if to.claimed else {}
    assert dict(entry.fields) == expected
    groups = [f"{{{author['name']}}}" for author in citation["authors"]]  # else BibTeX sees a first name
    assert [str(person) for person in entry.persons["author"]] == groups
    assert title in block.get_text()
    assert "Tachella" in block.get_text()


# ----------------------------------------------------------------------------------------------- source


def test_words_can_be_edited_and_notebooks_looked_at() -> None:
    repository, branch, _ = to = address.published(Book(ROOT))
    start = f"https://github.com/{repository}"
    for page in Book(ROOT).pages if to.claimed else []:
        (link,) = site_html.soup(SITE / f"{page}.html").select("a.btn-source-file-button")
        match = re.fullmatch(rf"{re.escape(start)}/(edit|blob)/{branch}/(.+)", str(link["href"]))
        assert match is not None, link["href"]
        assert (ROOT / match[2]).is_file(), f"{page}: {match[2]} is not a file of the repository"
        assert match[1] == ("edit" if match[2].endswith(".md") else "blob")
        assert link.get_text().strip()


# -------------------------------------------------------------------------------------------------- 404


class LikePages(site_browser.Handler):
    """Serves the site in its folder, and 404.html for whatever is not there, as GitHub does."""

    folder = address.published(Book(ROOT)).folder

    def translate_path(self, path: str) -> str:
        inside = "/" + path.removeprefix(self.folder) if path.startswith(self.folder) else "/nothing-there"
        return super().translate_path(inside)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        text = (SITE / "404.html").read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.mark.browser
@pytest.mark.parametrize(("lost", "scheme"), [("nowhere.html", "light"), ("a/b/c/d", "dark")])
def test_an_address_that_leads_nowhere_gives_ways_on(
    chrome: Browser, lost: str, scheme: Literal["light", "dark"]
) -> None:
    with (
        site_browser.serve(SITE, LikePages) as base,
        site_browser.reader(chrome, base, site_browser.PHONE, scheme) as (context, trouble),
    ):
        page = context.new_page()
        answer = page.goto(f"{base}{LikePages.folder}{lost}")
        assert answer is not None
        assert answer.status == 404
        expect(page.locator("article h1")).to_have_text("There is no such page")
        assert not [*site_browser.faults(page), *site_browser.barriers(page)]
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (site_browser.luminance(ground) < 0.2) == (scheme == "dark")
        page.keyboard.press("Control+k")
        page.locator("#pst-search-dialog input").fill("twicing")
        page.keyboard.press("Enter")
        expect(page.locator("#search-results p.search-summary")).to_contain_text("found")
        page.go_back()
        page.locator("button.primary-toggle").click()
        page.get_by_role("link", name="Twicing:").click()
        expect(page.locator("article h1")).to_contain_text("Twicing")
        # Of the lost page itself, each time that it was opened; whatever it loads is there.
        told = "console: Failed to load resource: the server responded with a status of 404 (Not Found)"
        assert set(trouble) == {f"404 {base}{LikePages.folder}{lost}", told}


# ----------------------------------------------------------------------------------------------- a fork


def test_a_fork_s_pages_lead_to_the_fork_without_a_commit(tmp_path: Path) -> None:
    """All that its pages are made of names the fork; that pages show what they are made of, others hold."""
    to = address.published(Book(ROOT), FORK)
    assert to.site == "https://a-lice.github.io/prior.book/"
    build.stage(Book(ROOT), tmp_path / "stage", to)
    ours, *_ = address.committed(Book(ROOT))
    texts = {
        path.relative_to(tmp_path / "stage").as_posix(): path.read_text("utf-8")
        for path in (tmp_path / "stage").rglob("*")
        if path.suffix in (".html", ".md", ".ipynb", ".py", ".js", ".css", ".yml")
    }
    assert not [name for name, text in texts.items() if ours in text or ours.split("/")[0] in text]
    settings = yaml.safe_load(texts["_config.yml"])
    assert settings["repository"]["url"] == "https://github.com/a-lice/prior.book"
    assert settings["repository"]["branch"] == "trunk"
    assert settings["sphinx"]["config"]["html_baseurl"] == to.site
    for stem in CHAPTERS:
        chapter = texts[f"notebooks/{stem}.ipynb"]
        assert (
            f"](https://colab.research.google.com/github/a-lice/prior.book/blob/colab/notebooks/{stem}.ipynb)"
            in chapter
        )
        assert "git+https://github.com/a-lice/prior.book" in chapter


def test_the_book_s_own_folder_is_part_of_its_links() -> None:
    assert list(linkcheck.inside(SITE, "/another/")), "those of 404.html begin with it"
