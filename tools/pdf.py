"""`make pdf`: the whole book as one file, printed by a browser from the built pages.

The pages' articles go into one page, in the order of _toc.yml, with links between them turned into links
within; MathJax typesets it as it does the site. (Sphinx's singlehtml gives the sections "Exercises" of all
chapters one name, and makes chapters sections of the first.) It is printed twice: the first print tells on
which page each heading lands, and the second has those numbers in its table of contents.
"""

import argparse
import json
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from bs4 import BeautifulSoup, Tag
from playwright.sync_api import Page, sync_playwright
from pypdf import PdfReader

from tools import address, browser, build, notebooks
from tools.book import Book
from tools.errors import BookError, run_main

STYLE = Path(__file__).with_name("pdf.css")
PRINTED_WIDTH = 605  # CSS pixels between the margins of pdf.css: 160 mm
WIDGET = "application/vnd.jupyter.widget-view+json"
RUNNING = "font: 9pt 'Source Serif 4', serif; color: #555d66"  # the chapter's title above its pages
LONG = 16  # lines of a listing that may break across pages
LEFT_OUT = "a.headerlink, .book-cite, .toctree-wrapper, script:not([type]), style, button, .cell.tag_install"

# Formulas and tables that are wider than the paper are made as small as it needs.
FIT = """() => {
  for (const node of document.querySelectorAll('.bd-article mjx-container[display], .bd-article table')) {
    const room = node.parentElement.clientWidth;
    const math = node.querySelector('mjx-math');
    const width = math ? math.getBoundingClientRect().width : node.scrollWidth;
    if (room && width > room) node.style.fontSize = `${(97 * room) / width}%`;
  }
}"""

READY = """async () => {
  await MathJax.startup.promise;
  await document.fonts.ready;
  await Promise.all([...document.images].map((image) => image.decode()));
}"""

NUMBER = """(pages) => {
  for (const place of document.querySelectorAll('.book-contents .book-page'))
    place.textContent = pages[place.parentElement.hash.slice(1)];
}"""


def slug(page: str) -> str:
    """The name of a page's article within the one page."""
    return page.rpartition("/")[2]


class Assembly:
    """One page out of the articles of many."""

    def __init__(self, root: Path) -> None:
        """Know the book's pages and where it is published."""
        self.root = root
        self.site = root / "_build" / "html"
        self.pages = Book(root).pages
        self.published = address.published(Book(root))
        self.head = BeautifulSoup(self._text(self.pages[0]), "html.parser")

    def _text(self, page: str) -> str:
        return (self.site / f"{page}.html").read_text("utf-8")

    def article(self, page: str) -> Tag:
        """The page's article, its names and links made good for the one page."""
        found = BeautifulSoup(self._text(page), "html.parser").select_one("article.bd-article")
        if found is None:
            raise BookError(f"{page}.html holds no article; build the book again: make book")
        for tag in found.select(LEFT_OUT):
            tag.decompose()
        for view in found.select(f'script[type="{WIDGET}"]'):
            cell = view.find_parent(class_="cell")  # behind that of the still picture, which stays
            if cell is not None:
                cell.decompose()
        for tag in found.select("script"):
            tag.decompose()
        for tag in found.find_all(True):
            self._rename(tag, page)
        for summary in found.select("details.hide > summary"):
            summary.string = "The code of this cell"
        for listing in found.select("div.cell_input"):
            if listing.get_text().count("\n") > LONG:
                listing["class"] = f"{' '.join(listing.get_attribute_list('class'))} book-long"
        found["id"] = slug(page)
        found["style"] = f"page: on-{slug(page)}"  # a name must not begin with a digit
        return found

    def _rename(self, tag: Tag, page: str) -> None:
        for key in ("id", "for", "aria-labelledby", "aria-describedby", "aria-controls"):
            if key in tag.attrs:
                names = " ".join(tag.get_attribute_list(key)).split()
                tag[key] = " ".join(f"{slug(page)}--{name}" for name in names)
        if tag.name == "a" and tag.get("href"):
            tag["href"] = self._link(str(tag["href"]), page)
            tag.attrs.pop("title", None)
        if tag.name == "img":
            tag.attrs.pop("loading", None)
            if not str(tag["src"]).startswith("data:"):
                tag["src"] = self._file(str(tag["src"]), page)
        if tag.name == "details":
            tag["open"] = ""

    def _file(self, source: str, page: str = "index") -> str:
        """A file of the site as seen from _build/pdf/."""
        return "../html/" + urljoin(page, source).removeprefix("/")

    def _link(self, link: str, page: str) -> str:
        """Within the one page where it can be, else to the published site."""
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            return link
        target = urljoin(f"{page}.html", parts.path) if parts.path else f"{page}.html"
        name = unquote(target).removesuffix(".html")
        if name not in self.pages:
            return urljoin(
                self.published.site, link if link.startswith("/") else urljoin(f"{page}.html", link)
            )
        return f"#{slug(name)}" + (f"--{parts.fragment}" if parts.fragment else "")

    def parts(self) -> dict[str, str]:
        """The caption of the part that begins with a page."""
        content = Book(self.root).contents
        return {
            part["chapters"][0]["file"]: part["caption"] for part in content["parts"] if "caption" in part
        }

    def contents(self, articles: dict[str, Tag]) -> str:
        """The table of contents: chapters and their sections, still without page numbers."""
        parts, lines = self.parts(), []

        def entry(heading: Tag, target: str) -> str:
            return f'<a href="#{target}"><span>{_inner(heading)}</span><span class="book-page">0</span></a>'

        for page, article in articles.items():
            if page in parts:
                lines.append(f'<p class="book-part">{escape(parts[page])}</p>')
            title = article.find("h1")
            assert isinstance(title, Tag), page
            lines.append(f"<ol><li>{entry(title, slug(page))}")
            if page.startswith("notebooks/"):
                lines.append("<ol>")
                for heading in article.find_all("h2"):
                    section = heading.find_parent("section", id=True)
                    if section is not None:
                        lines.append(f"<li>{entry(heading, str(section['id']))}</li>")
                lines.append("</ol>")
            lines.append("</li></ol>")
        return "\n".join(lines)

    def whole(self) -> str:
        """The one page."""
        articles = {page: self.article(page) for page in self.pages}
        contents = self.contents(articles)
        for page, caption in self.parts().items():
            heading = articles[page].find("h1")
            assert isinstance(heading, Tag), page
            heading.insert_before(BeautifulSoup(f'<p class="book-part">{escape(caption)}</p>', "html.parser"))
        sheets = [
            self._file(str(link["href"]), self.pages[0])
            for link in self.head.select('link[rel="stylesheet"]')
        ]
        links = "\n".join(f'<link rel="stylesheet" href="{sheet}" />' for sheet in sheets)
        running = "\n".join(
            f"@page on-{slug(page)} {{ @top-left {{ content: {json.dumps(_plain(article))}; {RUNNING} }} }}"
            for page, article in articles.items()
        )
        facts = build.citation_facts(Book(self.root))
        title, repository = escape(facts["title"]), f"https://github.com/{self.published.repository}"
        authors = ", ".join(facts["authors"])
        site = self.published.site
        body = "\n".join(str(article) for article in articles.values())
        return f"""<!DOCTYPE html>
<html lang="en" data-theme="light" data-mode="light">
<head>
<meta charset="utf-8" />
<title>{title}</title>
{links}
<style>{STYLE.read_text("utf-8")}\n{running}</style>
<script>window.MathJax = {json.dumps(self.mathjax())}</script>
<script defer src="{self._file(self.mathjax_script(), self.pages[0])}"></script>
</head>
<body>
<div class="book-front">
<img src="{self._file("_static/logo.svg")}" alt="" />
<h1>{title}</h1>
<p>{escape(authors)}</p>
<p>Version {escape(facts["version"])}, {escape(facts["released"])}</p>
<p class="book-small">Read it online: <a href="{site}">{site}</a><br />
Code and corrections: <a href="{repository}">{repository}</a><br />
Text and figures under CC BY 4.0, code under the 3-clause BSD licence.</p>
</div>
<nav class="book-contents"><h1>Contents</h1>
{contents}
</nav>
<div class="bd-main"><div class="bd-content"><div class="bd-article-container">
{body}
</div></div></div>
</body>
</html>
"""

    def mathjax(self) -> dict[str, Any]:
        """The site's settings for MathJax, without the second, hidden copy of each formula."""
        found = re.search(r"window\.MathJax = (\{.*\})", str(self._math_page()))
        if found is None:
            raise BookError("no page has the settings of MathJax; build the book again: make book")
        settings: dict[str, Any] = json.loads(found[1])
        settings.setdefault("options", {})["enableAssistiveMml"] = False
        return settings

    def mathjax_script(self) -> str:
        """Where the pages load MathJax from."""
        return next(
            str(script["src"])
            for script in self._math_page().select("script[src]")
            if "mathjax" in str(script["src"])
        )

    def _math_page(self) -> BeautifulSoup:
        texts = (self._text(page) for page in self.pages)
        return BeautifulSoup(next(text for text in texts if "window.MathJax" in text), "html.parser")


def _inner(heading: Tag) -> str:
    return heading.decode_contents().strip()


def _plain(article: Tag) -> str:
    heading = article.find("h1")
    return " ".join(heading.get_text().split()) if heading else ""


def print_twice(page: Page, target: Path) -> None:
    """Print to `target`, with the page numbers that the first print found."""

    def once() -> None:
        page.pdf(path=target, prefer_css_page_size=True, print_background=True, tagged=True, outline=True)

    once()
    reader = PdfReader(target)
    places = reader.named_destinations
    pages = {
        name.lstrip("/"): (reader.get_destination_page_number(place) or 0) + 1
        for name, place in places.items()
    }
    page.evaluate(NUMBER, pages)
    once()


def write(root: Path) -> Path:
    """Assemble, print, and put the result in place when it is complete."""
    target = root / "_build" / "book.pdf"
    one_page = root / "_build" / "pdf" / "book.html"
    one_page.parent.mkdir(parents=True, exist_ok=True)
    assembly = Assembly(root)
    one_page.write_text(assembly.whole(), "utf-8")
    beside = one_page.with_name("book.pdf")
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(
            executable_path=browser.find(), args=["--allow-file-access-from-files"]
        )
        page = chrome.new_page(viewport={"width": PRINTED_WIDTH, "height": 900})
        page.set_default_timeout(240_000)
        page.emulate_media(media="print", color_scheme="light", reduced_motion="reduce")
        page.goto(one_page.as_uri())
        page.evaluate(READY)
        page.evaluate(FIT)
        print_twice(page, beside)
        chrome.close()
    beside.replace(target)
    return target


def main(arguments: Sequence[str]) -> None:
    """Print the built book."""
    parser = argparse.ArgumentParser(prog="python -m tools.pdf", description=__doc__)
    parser.add_argument("--root", type=Path, default=notebooks.ROOT)
    root = parser.parse_args(arguments).root.resolve()
    if not (root / "_build" / "html" / "index.html").is_file():
        raise BookError("no built book to print; `make pdf` builds it first")
    print("printing the book, a minute", flush=True)
    target = write(root)
    print(f"{len(PdfReader(target).pages)} pages, {target.stat().st_size / 1e6:.1f} MB: {target}")


if __name__ == "__main__":
    run_main(main)
