"""Which modules of the package a notebook uses, and a digest of each that no comment changes.

Everything is static: the code is parsed, never imported. Where a use cannot be resolved, all modules
count, so that a page is executed once too often rather than once too seldom.
"""

import ast
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager

from tools.errors import ModuleUnreadable

PACKAGE = "dipfilters"

# These annotations decide what a dataclass makes of a field; all others only inform.
FIELD_KINDS = {"ClassVar", "InitVar", "KW_ONLY"}

# `ctx` follows from the place, `kind` is the u of u"", the others are comments and their traces.
NO_MEANING = {"ctx", "kind", "type_comment", "type_ignores", "simple"}


class _Meaning(ast.NodeTransformer):
    """Leaves of a syntax tree what decides the results: neither docstrings nor annotations."""

    def __init__(self) -> None:
        self.fields: set[ast.AnnAssign] = set()

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        name = getattr(node.test, "id", getattr(node.test, "attr", None))
        return node.orelse if name == "TYPE_CHECKING" else node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.fields.update(statement for statement in node.body if isinstance(statement, ast.AnnAssign))
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node in self.fields:
            names = {getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(node.annotation)}
            node.annotation = ast.Constant(sorted(names & FIELD_KINDS))  # type: ignore[arg-type]
            return self.generic_visit(node)
        if node.value is None:
            return None
        return self.generic_visit(ast.Assign(targets=[node.target], value=node.value))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        self.generic_visit(node)
        parts: list[ast.expr] = []
        for part in node.values:  # Python 3.12 cuts the literal text of an f-string at other places
            if isinstance(part, ast.Constant) and parts and isinstance(parts[-1], ast.Constant):
                parts[-1] = ast.Constant(str(parts[-1].value) + str(part.value))
            elif not (isinstance(part, ast.Constant) and part.value == ""):
                parts.append(part)
        node.values = parts
        return node


def canonical(value: object) -> str:
    """A syntax tree as text that is the same in every Python version: empty fields are left out."""
    if isinstance(value, ast.AST):
        fields = ((name, field) for name, field in ast.iter_fields(value) if name not in NO_MEANING)
        kept = (f"{name}={canonical(field)}" for name, field in fields if field is not None and field != [])
        return f"{type(value).__name__}({','.join(kept)})"
    if isinstance(value, list):
        return f"[{','.join(map(canonical, value))}]"
    return repr(value)


def parse(source: str, name: str) -> ast.Module:
    """The part of the syntax tree of `source` that decides results."""
    try:
        tree: ast.Module = _Meaning().visit(ast.parse(source))
    except SyntaxError as error:
        raise ModuleUnreadable(f"{name}, line {error.lineno}: {error.msg}; correct the line") from error
    return tree


@dataclass(frozen=True)
class Package:
    """The helper package below `root`, as syntax trees."""

    root: Path

    @cached_property
    def paths(self) -> dict[str, Path]:
        """The file of each module, the package's own `__init__` apart, which only lists names."""
        folder = self.root / "src" / PACKAGE
        paths = {}
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((PACKAGE, *parts)).removesuffix(".__init__")
            paths[name] = path
        paths.pop(PACKAGE, None)
        return paths

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """The meaning of each module."""
        return {name: parse(path.read_text("utf-8"), str(path)) for name, path in self.paths.items()}

    @cached_property
    def exports(self) -> dict[str, str]:
        """The module behind each name that the package's `__init__` re-exports."""
        init = self.root / "src" / PACKAGE / "__init__.py"
        tree = parse(init.read_text("utf-8") if init.exists() else "", str(init))
        exports = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                base = _absolute(node, PACKAGE)
                for alias in node.names:
                    submodule = f"{base}.{alias.name}"
                    exports[alias.asname or alias.name] = submodule if submodule in self.paths else base
        return {name: module for name, module in exports.items() if module in self.paths}

    def find(self, base: str, name: str) -> set[str]:
        """The modules behind `from base import name`."""
        submodule = f"{base}.{name}"
        if submodule in self.paths:
            return {submodule}
        if base in self.paths:
            return {base}
        if base != PACKAGE or (name.startswith("__") and name.endswith("__")):
            return set()
        return {self.exports[name]} if name in self.exports else set(self.paths)

    def imported(self, tree: ast.AST, inside: str) -> set[str]:
        """The modules that `tree`, code of the package `inside`, names in any import, at whatever level."""
        found: set[str] = set()
        bound: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found |= {alias.name} & self.paths.keys()
                    if alias.name == PACKAGE or (alias.name.startswith(f"{PACKAGE}.") and not alias.asname):
                        bound.add(alias.asname or PACKAGE)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    found |= self.find(_absolute(node, inside), alias.name)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {node.value} & self.paths.keys()  # importlib.import_module("dipfilters.filters")
        return found | self._attributes(tree, bound)

    def _attributes(self, tree: ast.AST, bound: set[str]) -> set[str]:
        """The modules behind `dipfilters.name`, for the names `bound` to the package itself."""
        found: set[str] = set()
        resolved: set[ast.expr] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) in bound:
                found |= self.find(PACKAGE, node.attr)
                resolved.add(node.value)
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id in bound and node not in resolved:
                found |= self.paths.keys()
        return found

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """What each module imports of the package directly; a submodule also runs its parents."""
        imports = {}
        for name, tree in self.trees.items():
            inside = name if self.paths[name].stem == "__init__" else name.rpartition(".")[0]
            imports[name] = self.imported(tree, inside) | ({name.rpartition(".")[0]} & self.paths.keys())
        return imports

    def used_by(self, cells: Iterable[str], name: str) -> set[str]:
        """The modules that the code cells of the notebook `name` use, transitively."""
        body: list[ast.stmt] = []
        for cell in cells:
            code = TransformerManager().transform_cell(cell)
            body += parse(code, f"{name}, cell `{cell.partition(chr(10))[0]}`").body
        waiting = self.imported(ast.Module(body, []), "")
        used: set[str] = set()
        while waiting:
            used |= waiting
            waiting = set().union(*(self.imports[name] for name in waiting)) - used
        return used

    def digests(self, cells: Iterable[str], name: str) -> dict[str, str]:
        """The digest of each module that the code cells of the notebook `name` use."""
        used = sorted(self.used_by(cells, name))
        return {module: digest(canonical(self.trees[module]) + self._beside(module)) for module in used}

    def _beside(self, module: str) -> str:
        """The scripts and styles in the module's folder, which the figures among its classes are made of."""
        folder = self.paths[module].parent
        if folder.name != "figures":
            return ""
        return "".join(path.read_text("utf-8") for path in sorted(folder.glob("*.[jc]s*")))


def digest(text: str) -> str:
    """Sixteen hexadecimal digits: enough to tell versions apart, short enough to read in a diff."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _absolute(node: ast.ImportFrom, inside: str) -> str:
    """The absolute name behind `from ..module import name`, in code of the package `inside`."""
    if not node.level:
        return node.module or ""
    parent = inside.split(".")
    return ".".join([*parent[: len(parent) - node.level + 1], *([node.module] if node.module else [])])
