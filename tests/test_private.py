"""What must not leave a machine: no secret, folder or person in what is stored, and nothing is unpickled."""

import base64
import getpass
import io
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tools import notebooks
from tools.book import Book
from tools.notebooks import ROOT

TABLES = sorted((ROOT / "studies" / "results").glob("*.parquet"))
PRIVATE = {
    "a folder": r"(?<![\w.:/])/(?:home|root|work|tmp|Users|mnt|media|opt|var|private|content)/[\w.~-]+",
    "a folder of Windows": r"\b[A-Za-z]:\\+(?:Users|Documents|Temp)\b",
    "a home": r"~/\w+",
    "an address of a file": r"\bfile://",
    "an address of mail": r"\b[\w.+-]+@(?!v\d)[\w-]+\.[a-z]{2,}\b",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a token": r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|sk-[\w-]{20,}|hf_\w{20,}|xox[abp]-[\w-]{10,}"
    r"|AKIA[0-9A-Z]{16}|AIza[\w-]{35}(?![\w-])|eyJ[\w-]{10,}\.eyJ[\w-]{10,})",
    "a password": r"(?i)\b(?:password|passwd|secret|api[_-]?key|access[_-]?token)\b\s*[=:]\s*\S",
    "an address of a machine": r"\b(?:10|127|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2,3}\b",
}
EXAMPLES = r"""in /home/ada/book, C:\Users\ada, ~/book and file:///x of ada@lovelace.org at 192.168.0.7
-----BEGIN RSA PRIVATE KEY----- ghp_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa PASSWORD = hunter2"""


def people() -> set[str]:
    """Who worked here, as git and this machine know it; names that are words of the book as well are none."""
    asked = ["git", "log", "--format=%an%n%ae%n%cn%n%ce"]
    told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    names = {*told, getpass.getuser(), platform.node()}
    return {name for name in names if len(name) > 3 and name.lower() not in {"root", "runner", "user"}}


def found(text: str) -> dict[str, str]:
    hits = {kind: match[0] for kind, pattern in PRIVATE.items() if (match := re.search(pattern, text))}
    named = {name: name for name in people() if re.search(rf"\b{re.escape(name)}\b", text)}
    return hits | named


def words(value: Any) -> str:
    """All that stands in outputs and metadata; of pictures, what they say beside their pixels."""
    if isinstance(value, dict):
        return "\n".join(f"{key}: {beside(key, child)}" for key, child in value.items())
    if isinstance(value, list):
        return "\n".join(words(child) for child in value)
    return str(value)


def beside(key: str, value: Any) -> str:
    if key not in ("image/png", "image/jpeg") or isinstance(value, dict):
        return words(value)
    with Image.open(io.BytesIO(base64.b64decode("".join(value)))) as picture:
        assert set(picture.info) <= {"Software", "dpi", "jfif", "jfif_version", "jfif_unit"}
        return str(picture.info)


@pytest.mark.parametrize("path", Book(ROOT).chapters, ids=lambda path: path.stem)
def test_outputs_and_metadata_of_a_notebook_are_nobodys(path: Path) -> None:
    notebook = notebooks.read(path)
    cells = [[cell.metadata, cell.get("outputs", [])] for cell in notebook.cells]
    assert not found(words([notebook.metadata, *cells]))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_the_table_of_a_study_is_nobodys_and_says_where_its_rows_come_from(path: Path) -> None:
    table = pq.read_table(path).to_pandas()
    texts = table.select_dtypes(include=["object", "string"])
    plain = texts[[name for name in texts if not isinstance(texts[name].dropna().iloc[0], np.ndarray)]]
    assert not found("\n".join([*table.columns, *map(str, pd.unique(plain.to_numpy().ravel()))]))
    assert table["hardware"].str.contains("cores").all()
    assert table["date"].str.match(r"20\d\d-\d\d-\d\dT").all()
    assert table["commit"].str.fullmatch(r"[0-9a-f]{7}").all(), "made by code that was never committed"


def test_the_tables_are_found_and_small() -> None:
    assert TABLES
    assert sum(path.stat().st_size for path in (ROOT / "studies" / "results").rglob("*.*")) < 10_000_000


def test_what_is_looked_for_would_be_found() -> None:
    assert found(EXAMPLES).keys() == PRIVATE.keys()
    assert not found("Adam at 0.5/255, torch 2.13.0+cpu, 25/255 of AMD EPYC, commit 25cbb03; a/b and 1/2")


OPENS = "pickle|cPickle|dill|joblib|shelve|marshal|cloudpickle"


@pytest.mark.parametrize("folder", ["src", "tools", "benchmarks", "studies", "notebooks"])
def test_nothing_stored_is_unpickled(folder: str) -> None:
    """No module that unpickles is imported, and every call of load is of json, or forbids pickles."""
    sources = {path: path.read_text("utf-8") for path in (ROOT / folder).rglob("*.py")}
    for path in (ROOT / folder).glob("*.ipynb"):
        cells = notebooks.computing_cells(notebooks.read(path))
        sources[path] = "\n".join(cell.source for cell in cells)
    assert sources
    for path, source in sources.items():
        for line in source.splitlines():
            assert not re.match(rf"\s*(import|from) +({OPENS})\b", line), path
            for called, given in re.findall(r"([\w.]+\.load)\((.*)", line):
                # Triton's is from a card's memory, and `noted` is Pillow's reader of a camera's notes.
                known = called in ("json.load", "tl.load", "noted.load")
                assert known or (called == "np.load" and "allow_pickle=False" in given), path
