"""Which code, commit, libraries and machine made a result: one answer, for pages and studies.

Code is read, never run. A result depends on the functions, classes and values that its own code names, on
what these name in turn, and on the files (scripts, styles, data) whose names stand in them. Each such piece
has a digest that docstrings, comments, annotations and the words of error messages do not change. Where a use
cannot be resolved, a whole module counts: too many pieces rather than too few.
"""

from __future__ import annotations

import ast
import dis
import hashlib
import inspect
import os
import platform
import re
import subprocess
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

PACKAGE = __name__.partition(".")[0]

# These annotations decide what a dataclass makes of a field; all others only inform.
_FIELD_KINDS = {"ClassVar", "InitVar", "KW_ONLY"}

# `ctx` follows from the place, `kind` is the u of u"", the others are comments and their traces.
_WITHOUT_MEANING = {"ctx", "kind", "type_comment", "type_ignores", "simple"}

_FILE = re.compile(r"[\w./-]+\.(?:js|css|json|mplstyle)")
_SCRIPT_IMPORT = re.compile(r'^import\b[^;]*?\bfrom "\./([\w-]+\.js)";', re.MULTILINE | re.DOTALL)

Piece = tuple[str, str]  # a module, by its name inside the package, and a name in it, or one of these:
_WHOLE = "*"  # all that the module defines and imports
_ALWAYS = ""  # what happens whenever it is imported


class SourceError(ValueError):
    """Code that cannot be told from changed code: it does not parse, or has no source."""


def digest(text: str) -> str:
    """Sixteen hexadecimal digits: enough to tell versions apart, short enough to read in a diff."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def commit(root: Path, *paths: str) -> str:
    """The commit checked out at ``root``, and whether one of the paths differs from it.

    ``"0123abc"``, ``"0123abc with changes"``, or ``"unknown"`` outside a checkout.
    """

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        head = git("rev-parse", "--short=7", "HEAD")
        return f"{head} with changes" if git("status", "--porcelain", "--", *(paths or (".",))) else head
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def hardware(device: str | None = None) -> str:
    """The processor's name and cores, and the graphics card's name unless the device is the processor."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", info.read_text("utf-8") if info.exists() else "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"{(names or [platform.processor() or platform.machine()])[0]}, {cores} cores"
    if device is not None and not device.startswith("cpu"):
        import torch

        if torch.cuda.is_available():
            index = torch.device("cuda" if device == "auto" else device).index
            text += f", {torch.cuda.get_device_name(index or 0)}"
    return text


def versions(*libraries: str) -> dict[str, str]:
    """The installed version of each library."""
    return {name: metadata.version(name) for name in libraries}


class _Meaning(ast.NodeTransformer):
    """Leaves of a syntax tree what decides the results."""

    def __init__(self) -> None:
        self.fields: set[ast.AnnAssign] = set()

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return self.generic_visit(ast.Raise(exc=kind))

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return self.generic_visit(ast.Assert(test=node.test))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """What ``check_shape`` and the like are given as words is for their messages."""
        if getattr(node.func, "id", "").startswith("check_"):
            node.args = [arg for arg in node.args if not isinstance(getattr(arg, "value", None), str)]
        return self.generic_visit(node)

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
            node.annotation = ast.Tuple([ast.Constant(name) for name in sorted(names & _FIELD_KINDS)])
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


def _parse(source: str, name: str) -> list[ast.stmt]:
    try:
        tree: ast.Module = _Meaning().visit(ast.parse(source))
    except SyntaxError as error:
        raise SourceError(f"{name}, line {error.lineno}: {error.msg}; correct the line") from error
    return tree.body


def _canonical(value: object) -> str:
    """A syntax tree as text that is the same in every Python version: empty fields are left out."""
    if isinstance(value, ast.AST):
        kept = ((name, part) for name, part in ast.iter_fields(value) if name not in _WITHOUT_MEANING)
        text = (f"{name}={_canonical(part)}" for name, part in kept if part is not None and part != [])
        return f"{type(value).__name__}({','.join(text)})"
    if isinstance(value, list):
        return f"[{','.join(map(_canonical, value))}]"
    return repr(value)


@dataclass
class _Module:
    """What a module defines and imports, by name."""

    name: str
    folder: Path
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Piece] = field(default_factory=dict)


class Package:
    """The code of the package in a folder, as far as it decides results; it is read, never imported.

    Args:
        folder: Where its ``__init__.py`` is; this package's own by default.
    """

    def __init__(self, folder: Path = Path(__file__).parent) -> None:
        self.folder = folder

    @cached_property
    def paths(self) -> dict[str, Path]:
        """The file of each module, by its name inside the package: ``"engines.cpu"``, ``""`` for the root."""
        paths = {}
        for path in sorted(self.folder.rglob("*.py")):
            parts = path.relative_to(self.folder).with_suffix("").parts
            paths[".".join(part for part in parts if part != "__init__")] = path
        return paths

    @cached_property
    def modules(self) -> dict[str, _Module]:
        """Each module by its name inside the package."""
        modules = {}
        for name, path in self.paths.items():
            modules[name] = _Module(name, path.parent)
            self._add(modules[name], path.read_text("utf-8"), path.name)
        return modules

    def _add(self, module: _Module, source: str, name: str) -> None:
        """Sort the statements of some code by the names that they bind."""
        for statement in _parse(source, name):
            names = [getattr(statement, "name", _ALWAYS)]
            if isinstance(statement, ast.Assign):
                nodes = [node for target in statement.targets for node in ast.walk(target)]
                names = [node.id for node in nodes if isinstance(node, ast.Name)]
            if names == [_ALWAYS]:
                module.imports |= self._imports(statement)
            if not isinstance(statement, ast.Import | ast.ImportFrom):
                for bound in names:
                    module.definitions.setdefault(bound, []).append(statement)

    @staticmethod
    def _imports(statement: ast.stmt) -> dict[str, Piece]:
        """The names that imports in a statement, at whatever level, bind to something of the package."""
        found: dict[str, Piece] = {}
        for node in ast.walk(statement):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top, _, inner = alias.name.partition(".")
                    if top == PACKAGE:
                        found[alias.asname or PACKAGE] = (inner if alias.asname else "", _WHOLE)
            elif isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == PACKAGE:
                base = str(node.module).partition(".")[2]
                found |= {alias.asname or alias.name: (base, alias.name) for alias in node.names}
        return found

    def digests(self, sources: Iterable[str], name: str) -> dict[str, str]:
        """The digest of what some code reaches in each module of the package, and of each file.

        Args:
            sources: The code, such as the cells of a notebook, without magics.
            name: What to call it in errors.

        Returns:
            ``{"filters": "0123456789abcdef", "figures/film.js": …}``, sorted by name.

        Raises:
            SourceError: Code that does not parse.
        """
        cells = _Module("", self.folder)
        for source in sources:
            self._add(cells, source, f"{name}, `{source.partition(chr(10))[0]}`")
        pieces, found = set[Piece](), dict[str, str]()
        for statements in cells.definitions.values():
            for statement in statements:
                pieces |= self._uses(cells, statement)
                found |= self._files(cells, statement)
        pieces |= {piece for name, piece in cells.imports.items() if name == _WHOLE}
        return dict(sorted((self.reached(pieces) | found).items()))

    def reached(self, pieces: Iterable[Piece]) -> dict[str, str]:
        """The same for what some pieces reach, themselves included."""
        waiting, seen = set(pieces), set[Piece]()
        found, reached = dict[str, str](), dict[str, dict[str, str]]()
        while waiting:
            piece = waiting.pop()
            if piece in seen:
                continue
            seen.add(piece)
            module = self.modules[piece[0]]
            if piece[1] not in module.definitions:
                waiting |= self._elsewhere(module, piece[1])
                continue
            meaning = _canonical(module.definitions[piece[1]])
            reached.setdefault(module.name or PACKAGE, {})[piece[1]] = meaning
            waiting.add((module.name, _ALWAYS))
            for statement in module.definitions[piece[1]]:
                waiting |= self._uses(module, statement)
                found |= self._files(module, statement)
        return found | {name: digest(repr(sorted(code.items()))) for name, code in reached.items()}

    def _elsewhere(self, module: _Module, name: str) -> set[Piece]:
        """What stands for a name that a module does not define."""
        if name == _ALWAYS or (name.startswith("__") and name.endswith("__")):
            return set()
        if name in module.imports:
            return {module.imports[name]}
        inner = f"{module.name}.{name}".strip(".")
        if inner in self.paths:
            return {(inner, _WHOLE)}
        inside = {(path, _WHOLE) for path in self.paths if path and path.rpartition(".")[0] == module.name}
        return {(module.name, other) for other in module.definitions} | {*module.imports.values(), *inside}

    def _uses(self, module: _Module, statement: ast.stmt) -> set[Piece]:
        """The pieces that a statement of a module names."""
        names = module.imports | self._imports(statement)
        if self.modules.get(module.name) is module:  # and not a notebook, all of whose cells count
            names = {name: (module.name, name) for name in module.definitions} | names
        found, inner = set[Piece](), set[object]()
        for node in ast.walk(statement):  # from the outside in: plots.panels before plots
            if node in inner:
                inner.add(getattr(node, "value", None))
            elif isinstance(node, ast.Attribute | ast.Name) and (piece := self._named(node, names)):
                found.add(piece)
                inner.add(getattr(node, "value", None))
            elif isinstance(node, ast.Constant) and str(node.value).startswith(f"{PACKAGE}."):
                loaded = str(node.value).partition(".")[2]  # importlib.import_module("dipfilters.filters")
                found |= {(loaded, _WHOLE)} if loaded in self.paths else set()
        return found

    def _named(self, node: ast.expr, names: dict[str, Piece]) -> Piece | None:
        """The piece that an expression such as ``panels`` or ``dipfilters.plots.panels`` stands for."""
        piece = names.get(node.id) if isinstance(node, ast.Name) else None
        if isinstance(node, ast.Attribute) and (base := self._named(node.value, names)):
            piece = (base[0], node.attr) if base[1] == _WHOLE else None
        if piece is None or piece[1] in {_WHOLE, *self.modules[piece[0]].definitions}:
            return piece
        elsewhere = self._elsewhere(self.modules[piece[0]], piece[1])
        return elsewhere.pop() if len(elsewhere) == 1 else piece

    def _files(self, module: _Module, statement: ast.stmt) -> dict[str, str]:
        """The digests of the files that a statement names, and of the scripts that these import."""
        texts = [str(node.value) for node in ast.walk(statement) if isinstance(node, ast.Constant)]
        folders = {module.folder, self.folder}
        waiting = [folder / text for text in texts if _FILE.fullmatch(text) for folder in folders]
        # f"data/{name}.json" may be any file of its folder.
        waiting += [path for text in texts if text == "data/" for path in (self.folder / text).glob("*.json")]
        found: dict[str, str] = {}
        while waiting:
            path = waiting.pop()
            name = path.relative_to(self.folder).as_posix()
            if name not in found and path.is_file():
                content = path.read_text("utf-8")
                found[name] = digest(content)
                waiting += [path.with_name(script) for script in _SCRIPT_IMPORT.findall(content)]
        return found


def code_of(function: Callable[..., Any]) -> dict[str, str]:
    """The digest of each piece of code that a function reaches, its own among them.

    These are the functions, classes and plain values (numbers, text, collections and dataclasses of them)
    beside it that it names, and all that these reach of this package.

    Raises:
        SourceError: A function without a source, or one that takes values from a function around it, whose
            changes nobody would notice.
    """
    found, package, seen = dict[str, str](), Package(), set[Any]()
    waiting: list[Any] = [inspect.unwrap(function)]
    while waiting:
        piece = waiting.pop()
        if piece in seen:
            continue
        seen.add(piece)
        try:
            source = textwrap.dedent(inspect.getsource(piece))
            body = _parse(source, piece.__name__)
        except (OSError, TypeError, SourceError) as error:
            raise SourceError(f"{piece!r} has no source to tell changes by; write it with def") from error
        if caught := piece.__code__.co_freevars:
            raise SourceError(
                f"{piece.__name__} takes {', '.join(caught)} from the function around it, where nothing "
                f"notices a change; hand it over as an argument"
            )
        found[piece.__name__] = digest(_canonical(body))
        found |= package.digests([source], piece.__name__)
        scope = piece.__globals__
        for name in sorted(_global_names(piece.__code__) & scope.keys()):
            value = scope[name]
            if isinstance(value, ModuleType):
                origin, kind = value.__name__, _WHOLE
            else:
                named = value if isinstance(value, FunctionType | type) else type(value)
                origin, kind = named.__module__, named.__qualname__.partition(".")[0]
            top, _, inner = origin.partition(".")
            if top == PACKAGE:
                found |= package.reached([(inner, kind)])
            elif isinstance(value, FunctionType) and origin == piece.__module__:
                waiting.append(inspect.unwrap(value))
            elif isinstance(value, type) and origin == piece.__module__:  # a notebook's class has no source
                parts = {key: part for key, part in vars(value).items() if not key.startswith("__")}
                waiting += [part for part in vars(value).values() if isinstance(part, FunctionType)]
                found[name] = digest(repr({key: part for key, part in parts.items() if _is_plain(part)}))
            if _is_plain(value):
                found[name] = digest(repr(value))
    return dict(sorted(found.items()))


def _global_names(code: CodeType) -> set[str]:
    """The names that a function, or one inside it, takes from the module around it."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    return names.union(*(_global_names(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def _is_plain(value: Any) -> bool:
    """Whether a value's text says all of it, in every process alike."""
    if isinstance(value, dict):
        return all(map(_is_plain, [*value, *value.values()]))
    if is_dataclass(value) and not isinstance(value, type):
        return all(_is_plain(getattr(value, one.name)) for one in fields(value))
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)
