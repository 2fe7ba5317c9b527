"""Let notebooks and docstrings, which cannot hold Sphinx's own references, link to the pages' entries.

Notebooks hold CommonMark only, because a role such as ``{cite}`` shows raw on Colab and GitHub. They write
``[Buades et al., 2005](../book/bibliography.md#cite-buades2005)``; MyST resolves such a link against a page's
headings alone, so the entries of bibliography and glossary are entered beside them. Docstrings write
``[buades2005]``, which reads well in a terminal; the API page makes a link of it. A misspelt key stops the
strict build in the first case, and a test in both. A docstring also says ``KernelFilter`` for what the page
documents as ``dipfilters.filters.KernelFilter``.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

ENTRY = ("cite-", "term-")
CITATION = re.compile(r"\[([a-z]+\d{4})\](?!_)")


def add_entries(app: Sphinx, doctree: nodes.document) -> None:
    """Enter every anchor of a bibliography or glossary among the names that MyST lets other pages link to."""
    metadata: dict[str, Any] = app.env.metadata[app.env.docname]
    slugs = dict(metadata.get("myst_slugs", {}))
    slugs.update({name: (0, name, name) for name in doctree.ids if name.startswith(ENTRY)})
    if slugs:
        metadata["myst_slugs"] = slugs


def link_citations(
    _app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Turn ``[key]`` in a docstring into a link to the bibliography."""
    lines[:] = [CITATION.sub(r"`[\1] <bibliography.html#cite-\1>`__", line) for line in lines]


def find_reexported(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Resolve a name that the package re-exports to the one module that documents it."""
    if node.get("refdomain") != "py":
        return None
    name = node["reftarget"].removeprefix("dipfilters.")
    objects: dict[str, Any] = env.domaindata["py"]["objects"]
    found = [
        entry for full, entry in objects.items() if re.fullmatch(rf"dipfilters\.\w+\.{re.escape(name)}", full)
    ]
    if len(found) != 1:
        return None
    return make_refnode(app.builder, node["refdoc"], found[0].docname, found[0].node_id, content)


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx when to call this extension."""
    app.connect("doctree-read", add_entries)
    app.connect("missing-reference", find_reexported)
    app.connect("autodoc-process-docstring", link_citations)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
