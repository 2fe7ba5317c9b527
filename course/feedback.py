"""A page for each student and assignment, to read answers by and to hand out: no network, no script.

What a student wrote is shown as text, formulas as pictures, outputs as text or as pictures in PNG or JPEG.
Nothing of it can run, reach another place or stand outside its frame.
"""

import base64
import binascii
import html
import io
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import bleach  # type: ignore[import-untyped]
import mistune
from matplotlib import mathtext
from nbformat import NotebookNode

from course import assignments
from course.marks import Row, Total

FORMULA = re.compile(r"\$\$(.+?)\$\$|\$(?!\s)([^$\n]{1,300}?)(?<!\s)\$", re.DOTALL)
PICTURE = re.compile(r"!\[([^\]]*)\]\(attachment:([^)]+)\)")
TAGS = {
    "p",
    "em",
    "strong",
    "code",
    "pre",
    "ul",
    "ol",
    "li",
    "blockquote",
    "br",
    "hr",
    "h1",
    "h2",
    "h3",
    "h4",
}
TAGS |= {"table", "thead", "tbody", "tr", "th", "td", "del"}
LONGEST = 20_000  # characters of an output
LARGEST = 3_000_000  # characters of a picture
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'"/>
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; }}
td, th {{ padding: .2rem .8rem; text-align: left; vertical-align: top; }}
.theirs {{ border: 1px solid #999; border-radius: 4px; padding: .5rem 1rem; overflow: auto; contain: paint; }}
.theirs img {{ max-width: 100%; }} img.formula {{ vertical-align: middle; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; font-size: 14px; }} .points {{ font-weight: 600; }}
.comment {{ border-left: 4px solid #0072b2; padding-left: 1rem; }}
</style></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""


def text(words: object) -> str:
    """Words as a page shows them."""
    return html.escape(str(words))


def formula(source: str) -> str:
    """A formula as a picture, or as it was written where the renderer does not know it."""
    drawn = io.BytesIO()
    try:
        mathtext.math_to_image(f"${' '.join(source.split())}$", drawn, dpi=110, format="png")
    except (ValueError, RuntimeError, RecursionError):
        return f"<code>{text(source)}</code>"
    content = base64.b64encode(drawn.getvalue()).decode()
    return f'<img class="formula" alt="{text(source)}" src="data:image/png;base64,{content}"/>'


def picture(content: object, kind: str) -> str:
    """An output's picture, if it is one."""
    letters = "".join(content if isinstance(content, list) else [str(content)])
    try:
        found = base64.b64decode("".join(letters.split()), validate=True)
    except (binascii.Error, ValueError):
        return ""
    magic = {"image/png": b"\x89PNG", "image/jpeg": b"\xff\xd8"}[kind]
    if not found.startswith(magic) or len(letters) > LARGEST:
        return ""
    content = base64.b64encode(found).decode()
    return f'<p><img alt="a picture of this cell" src="data:{kind};base64,{content}"/></p>'


def prose(source: str, attachments: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """A written answer: Markdown, without anything that could act."""
    kept: dict[str, str] = {}

    def keep(shown: str) -> str:
        mark = f"kept{secrets.token_hex(8)}"
        kept[mark] = shown
        return mark

    def attached(match: re.Match[str]) -> str:
        for kind, content in (attachments or {}).get(match[2], {}).items():
            if kind in ("image/png", "image/jpeg"):
                return keep(picture(content, kind))
        return f"[picture {match[2]}]"

    words = PICTURE.sub(attached, source)
    words = FORMULA.sub(lambda match: keep(formula(match[1] or match[2])), words)
    found = mistune.create_markdown(escape=True, plugins=["table", "strikethrough"])(words)
    found = bleach.clean(str(found), tags=TAGS, attributes={}, protocols=[], strip=True)
    for mark, shown in kept.items():
        found = found.replace(mark, shown)
    return str(found)


def outputs(cell: NotebookNode) -> Iterator[str]:
    """What a cell put out when the student ran it: text and pictures."""
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            shown = output.get("text", "")
        elif output.output_type == "error":
            shown = f"{output.get('ename', '')}: {output.get('evalue', '')}"
        else:
            data = output.get("data", {})
            drawn = [picture(data[kind], kind) for kind in ("image/png", "image/jpeg") if kind in data]
            if any(drawn):
                yield from drawn[:1]
                continue
            shown = data.get("text/plain", "")
        words = COLOURS.sub("", "".join(shown) if isinstance(shown, list) else str(shown))
        if words.strip():
            yield f"<pre>{text(words[:LONGEST])}{'…' if len(words) > LONGEST else ''}</pre>"


def section(cells: Sequence[NotebookNode]) -> str:
    """What a student wrote under one heading, each cell in its frame."""
    found = []
    for cell in cells:
        if cell.cell_type == "markdown":
            shown = prose(cell.source, cell.get("attachments"))
        else:
            shown = f"<pre>{text(cell.source[:LONGEST])}</pre>" + "".join(outputs(cell))
        if cell.source.strip():
            found.append(f'<div class="theirs">{shown}</div>')
    return "\n".join(found)


def score(total: Total, cells: Sequence[str]) -> str:
    """The points of a task, or that a reader has yet to come."""
    found = [total.tasks[name] for name in cells if name in total.tasks]
    of = sum(total.of[name] for name in cells if name in total.of)
    if None in found:
        return f"waiting for a reader, of {of:g}"
    return f"{sum(points or 0.0 for points in found):g} of {of:g}"


def page(
    title: str,
    total: Total,
    headings: Mapping[str, str],
    said: Mapping[str, str],
    comments: Mapping[str, str],
    notebook: NotebookNode | None,
    release: NotebookNode,
) -> str:
    """The page of one attempt: a table of tasks, then each task with what was written, said and given."""
    by_title: dict[str, list[str]] = {}
    for name, heading in headings.items():
        by_title.setdefault(heading, []).append(name)
    rows = ["<tr><th>task</th><th>points</th></tr>"]
    rows += [
        f"<tr><td>{text(task)}</td><td>{score(total, names)}</td></tr>" for task, names in by_title.items()
    ]
    late = f", less {total.penalty:g} % for {total.days_late} days late" if total.penalty else ""
    far = f"; {total.waiting} written answers wait for a reader" if total.waiting else ""
    rows.append(f"<tr><th>all</th><th>{total.points:g} of {sum(total.of.values()):g}{late}{far}</th></tr>")
    body = [f"<table>{''.join(rows)}</table>"]
    theirs = sections(notebook, release) if notebook else {}
    for task, names in by_title.items():
        body.append(f'<h2>{text(task)}</h2><p class="points">{score(total, names)}</p>')
        body += [f"<p>{text(words)}</p>" for words in dict.fromkeys(map(said.get, names)) if words]
        body += [
            f'<div class="comment">{prose(comments[name])}</div>'
            for name in names
            if comments.get(name, "").strip()
        ]
        body.append(section(theirs.pop(task, [])))
    return PAGE.format(title=text(title), body="\n".join(body))


def sections(notebook: NotebookNode, release: NotebookNode) -> dict[str, list[NotebookNode]]:
    """What a student wrote or ran, by the heading above it; texts and tests as handed out are left out."""
    handed_out = {cell.source.strip() for cell in release.cells}
    titles = assignments.headings(release)
    found: dict[str, list[NotebookNode]] = {}
    title = ""
    for cell in notebook.cells:
        facts = assignments.grading(cell)
        name = facts.get("grade_id", "")
        title = titles.get(name, title)
        if cell.source.strip() in handed_out and not cell.get("outputs"):
            continue
        found.setdefault(title, []).append(cell)
    return found


def answers(notebook: NotebookNode, release: NotebookNode) -> dict[str, str]:
    """Each written answer, with cells that the student put beside it; nothing where nothing was written."""
    handed_out = {cell.source.strip() for cell in release.cells}
    titles = assignments.headings(release)
    own: dict[str, list[str]] = {}
    title = ""
    names: dict[str, str] = {}
    for cell in notebook.cells:
        name = assignments.grading(cell).get("grade_id", "")
        title = titles.get(name, title)
        if cell.cell_type != "markdown" or cell.source.strip() in handed_out:
            continue
        if not name or assignments.grading(cell).get("solution"):
            own.setdefault(title, []).append(cell.source.strip())
    for cell in release.cells:
        if cell.cell_type == "markdown" and assignments.grading(cell).get("grade"):
            names[cell.id] = titles[cell.id]
    return {name: "\n\n".join(filter(None, own.get(title, []))) for name, title in names.items()}


def not_graded(title: str, row: Row) -> str:
    """The page of a file that could not be graded."""
    words = f"<h2>Not graded: {text(row['state'])}</h2><p>{text(row['file'])}: {text(row['note'])}</p>"
    return PAGE.format(title=text(title), body=words)


def write(path: Path, shown: str) -> None:
    """Put a page in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(shown, "utf-8")
    beside.replace(path)
