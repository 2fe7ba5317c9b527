"""What is done to the finished pages: light pictures of known size, only the icons in use, two more files.

Left alone, each page would load one and a half megabytes of icons, which with chapter 5's own 1.9 MB is far
above the budget of two; its pictures as PNG; and the index of the whole book, which the search page alone
needs. Here pictures become WebP without loss, pixel for pixel, and say their size, so that nothing jumps
while they load; all but the first load when they are scrolled to. Two files are added: the page that opens
the book, and the site's map. Pictures that begin with a slash, those of 404.html, are left as they are.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image
from sphinx.application import Sphinx
from sphinx.util.images import get_image_size

IMAGE = re.compile(r"<img\b[^>]*?/?>")
SOURCE = re.compile(r'(?<=\ssrc=")[^"]*(?=")')
ICON = re.compile(
    r'(?P<name>[\w-]+|"[\w-]+"):\[\d+,\d+,\[(?P<others>[^\]]*)\],"[0-9a-f]+",(?:"[^"]*"|\[[^\]]*\])\],?'
)
SEARCH = re.compile(r'\s*<script src="[^"]*\b(?:searchtools|language_data|searchindex)\.js[^"]*"></script>')
NAMED = re.compile(r"\bfa-([a-z0-9-]+)")
FONT_AWESOME = Path("_static", "scripts", "fontawesome.js")


def finish(app: Sphinx, trouble: Exception | None) -> None:
    """Do all of it, once the pages are written."""
    if trouble is not None or app.builder.name != "html":
        return
    site = Path(app.outdir)
    lighter = lighten(site / "_images")
    for page in sorted(site.rglob("*.html")):
        if "_static" not in page.parts:
            text = page.read_text("utf-8")
            if page.name != "search.html":
                text = SEARCH.sub("", text)
            page.write_text(with_sizes(with_plain_roles(text), page, lighter), "utf-8")
    keep_used_icons(site)
    write_first_page(app, site)
    write_map(app, site)


def lighten(folder: Path) -> dict[Path, Path]:
    """Store each PNG as WebP, with the very same pixels, where that takes less; gives what became of it."""
    lighter = {}
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as picture:
            small = path.with_suffix(".webp")
            picture.save(small, lossless=True, exact=True, quality=40, method=2)
        if small.stat().st_size < path.stat().st_size:
            lighter[path] = small
            path.unlink()
        else:
            small.unlink()
    return lighter


# What misleads readers who hear a page: names that differ from the text they stand for, a list without items,
# and the lines of a signature marked up as definitions without a term.
MISNAMED = re.compile(
    r'(<(?:summary|button class="[^"]*(?:search-button-field|theme-switch-button)[^"]*")'
    r'(?: title="[^"]*")?)\s+aria-label="(?:Toggle hidden content|Search|Color mode)"'
)
NO_LIST = re.compile(r'<div role="list" class="citation-list">')
SIGNATURE = re.compile(r"<dl>\s*((?:<dd>.*?</dd>\s*)+)</dl>", re.DOTALL)


def with_plain_roles(text: str) -> str:
    """The page without those names and roles."""
    text = NO_LIST.sub('<div class="citation-list">', MISNAMED.sub(r"\1", text))

    def lines(match: re.Match[str]) -> str:
        return f'<div class="sig-lines">{match[1].replace("<dd>", "<div>").replace("</dd>", "</div>")}</div>'

    return SIGNATURE.sub(lines, text)


def with_sizes(text: str, page: Path, lighter: dict[Path, Path]) -> str:
    """The page with the size of every picture, and all but the first of its article lazy."""
    begin = text.find("<article")
    seen = 0

    def sized(match: re.Match[str]) -> str:
        nonlocal seen
        tag = match[0]
        source = SOURCE.search(tag)
        if source is None or source[0].startswith(("data:", "/")) or urlsplit(source[0]).netloc:
            return tag
        path = (page.parent / unquote(urlsplit(source[0]).path)).resolve()
        if path in lighter:
            tag = tag[: source.start()] + source[0].removesuffix(path.suffix) + ".webp" + tag[source.end() :]
            path = lighter[path]
        size = get_image_size(str(path))
        if size is None:
            raise ValueError(f"{page.name}: {path.name} does not tell its size; store it as PNG or SVG")
        extra = "".join(
            f' {name}="{value}"'
            for name, value in zip(("width", "height"), size, strict=True)
            if f" {name}=" not in tag
        )
        if match.start() > begin > -1 and "logo" not in source[0]:
            seen += 1
            extra += ' loading="lazy"' if seen > 1 and " loading=" not in tag else ""
        return tag[:4] + extra + tag[4:]

    return IMAGE.sub(sized, text)


def keep_used_icons(site: Path) -> None:
    """Drop from Font Awesome's script nearly all icons: those that neither a page nor a script names."""
    script = site / FONT_AWESOME
    texts = [path for kind in ("html", "js") for path in site.rglob(f"*.{kind}") if path != script]
    used = {name for path in texts for name in NAMED.findall(path.read_text("utf-8"))}

    def kept(match: re.Match[str]) -> str:
        names = {match["name"].strip('"'), *re.findall(r'"([^"]+)"', match["others"])}
        return match[0] if names & used else ""

    text, found = ICON.subn(kept, script.read_text("utf-8"))
    if found < 1000:
        raise ValueError(
            f"{FONT_AWESOME} is no longer written as book/_ext/finish.py expects; see ICON there"
        )
    script.write_text(text, "utf-8")


def chapters(app: Sphinx) -> list[tuple[str, str]]:
    """Each page of the book in order, with its title."""
    order = [app.config.root_doc]
    for name in order:
        order += [child for child in app.env.toctree_includes.get(name, []) if child not in order]
    return [(name, app.env.titles[name].astext()) for name in order]


def write_first_page(app: Sphinx, site: Path) -> None:
    """index.html: sends on to the page the book begins with, and says so where nothing sends."""
    target, title = f"{app.config.root_doc}.html", escape(str(app.config.html_title))
    (site / "index.html").write_text(
        f'<!DOCTYPE html>\n<html lang="{app.config.language}">\n<head>\n<meta charset="utf-8" />\n'
        f"<title>{title}</title>\n"
        f'<meta name="viewport" content="width=device-width, initial-scale=1" />\n'
        f'<meta http-equiv="refresh" content="0; url={target}" />\n'
        f'<link rel="canonical" href="{app.config.html_baseurl}{target}" />\n</head>\n'
        f'<body><p>The book begins <a href="{target}">here</a>.</p></body>\n</html>\n',
        "utf-8",
    )


def write_map(app: Sphinx, site: Path) -> None:
    """sitemap.xml: the address of each page of the book."""
    places = "".join(
        f"<url><loc>{escape(app.config.html_baseurl)}{name}.html</loc></url>\n" for name, _ in chapters(app)
    )
    (site / "sitemap.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{places}</urlset>\n',
        "utf-8",
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx when to call this extension: last of all."""
    app.connect("build-finished", finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
