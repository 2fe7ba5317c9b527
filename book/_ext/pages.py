"""What each page says about itself: a description for search engines, where its source is, how to cite it.

And what the page says that is shown where there is none. All addresses come from the staged _config.yml, into
which the build writes that of the repository it is built for (tools/address.py).
"""

from __future__ import annotations

from html import escape
from typing import Any
from urllib.parse import urlsplit

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

SHORTEST = 60
LONGEST = 200  # letters of a description; search engines show about 160 and cut the rest
GENERATED = {"book/status": "tools/status.py", "book/benchmarks": "tools/bench_page.py"}


def describe(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Take the first sentences of the page's own text as its description."""
    if doctree is None or not (text := first_sentences(doctree)):
        return
    title, description = escape(app.env.titles[page].astext()), escape(text)
    context["metatags"] += (
        f'\n<meta name="description" content="{description}" />'
        f'\n<meta property="og:title" content="{title}" />'
        f'\n<meta property="og:description" content="{description}" />'
        f'\n<meta property="og:url" content="{escape(address(app, page))}" />'
        f'\n<meta property="og:image" content="{escape(app.config.html_baseurl)}_static/readme.png" />\n'
    )


def first_sentences(doctree: nodes.document) -> str:
    """The first paragraph of words alone, no link to Colab and no signpost, cut behind a sentence."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        formula = next(paragraph.findall(nodes.math), None)
        if formula or len(text) < SHORTEST or not isinstance(paragraph.parent, nodes.section):
            continue
        while (
            len(text) > LONGEST and (end := max(text.rstrip(".?").rfind(mark) for mark in (". ", "? "))) > 0
        ):
            text = text[: end + 1]
        return text
    return ""


def address(app: Sphinx, page: str) -> str:
    """Where the page is read."""
    return f"{app.config.html_baseurl}{page}.html"


def link_source(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Offer to edit a page of words on GitHub; a notebook, JSON that nobody edits by hand, is shown there.

    While nobody has claimed the repository, there are no buttons that lead to it.
    """
    buttons = context.get("header_buttons", [])
    if not context["claimed"]:
        labels = {"source-buttons", "launch-buttons"}
        context["header_buttons"] = [item for item in buttons if item.get("label") not in labels]
        return
    options = app.config.html_theme_options
    for button in [b for item in buttons if item.get("label") == "launch-buttons" for b in item["buttons"]]:
        old, new = options["repository_branch"], context["colab_branch"]
        button["url"] = button["url"].replace(f"/blob/{old}/", f"/blob/{new}/")
    groups = [item for item in buttons if item.get("label") == "source-buttons"]
    if doctree is None or not groups:
        return
    edit = not page.startswith("notebooks/") and page not in GENERATED
    file = GENERATED.get(page) or str(app.env.doc2path(page, base=False))
    verb, text, icon = ("edit", "Suggest an edit", "pencil") if edit else ("blob", "View source", "code")
    url = f"{options['repository_url']}/{verb}/{options['repository_branch']}/{file}"
    button = {
        "type": "link",
        "url": url,
        "text": text,
        "tooltip": f"{text} on GitHub",
        "icon": f"fas fa-{icon}",
    }
    groups[0]["buttons"].insert(1, button | {"label": "source-file-button"})


def cite(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Say below a chapter how to cite it, in words and as BibTeX."""
    if doctree is None or not page.startswith("notebooks/"):
        return
    facts, book = context["citation"], str(app.config.html_title)
    whole = page == app.config.root_doc
    title = book if whole else app.env.titles[page].astext()
    year, url = facts["released"][:4], app.config.html_baseurl if whole else address(app, page)
    authors = " and ".join(facts["authors"])
    words = f"{escape(authors)} ({year}). <cite>{escape(title)}</cite>"
    words += "" if whole else f". In <cite>{escape(book)}</cite>"
    words += f", version {escape(facts['version'])}."
    words += f' <a href="{escape(url)}">{escape(url)}</a>' if context["claimed"] else ""
    fields = {
        "title": f"{{{title}}}",
        "author": " and ".join(author if "," in author else f"{{{author}}}" for author in facts["authors"]),
        "year": year,
        "note": f"Version {facts['version']}",
    }
    if context["claimed"]:
        fields["url"] = url
    if not whole:
        fields["booktitle"] = f"{{{book}}}"
    key = "dipfilters" if whole else f"dipfilters-{page.rpartition('/')[2]}"
    lines = [f"@{'misc' if whole else 'incollection'}{{{key},"]
    lines += [f"  {name} = {{{value}}}," for name, value in fields.items()]
    bibtex = escape("\n".join([*lines, "}"]))
    paper = f"{context['pathto']('book/bibliography')}#cite-tachella2021"
    context["body"] += (
        f'<details class="book-cite"><summary>Cite this {"book" if whole else "chapter"}</summary>\n'
        f"<p>{words}</p>\n"
        f'<div class="highlight-bibtex notranslate"><div class="highlight"><pre>{bibtex}</pre></div></div>\n'
        f'<p>The result explained here is that of <a href="{paper}">Tachella, Tang and Davies, 2021</a>. '
        "Where you use it, cite their paper.</p>\n</details>\n"
    )


LOST = """<h1>There is no such page</h1>
<p>The address is misspelt, or the page has moved. Search the book for what you came for, or choose a page
from its contents.</p>
"""
TELL = '<p>If a link of the book led you here, please <a href="{repository}/issues">tell us</a>.</p>'


def answer_lost(_app: Sphinx, config: Config) -> None:
    """Word 404.html, shown under whatever address leads nowhere: its links begin with the site's folder."""
    repository = config.html_theme_options["repository_url"]
    config.notfound_urls_prefix = urlsplit(config.html_baseurl).path
    config.notfound_context = {
        "title": "No such page",
        "body": LOST + (TELL.format(repository=escape(repository)) if config.html_context["claimed"] else ""),
        "metatags": '<meta name="robots" content="noindex" />',
    }


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx when to call this extension: after the theme, which makes the buttons."""
    for step in (describe, link_source, cite):
        app.connect("html-page-context", step, priority=900)
    app.connect("config-inited", answer_lost)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
