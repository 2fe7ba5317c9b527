"""Where a study keeps what its points gave: one Parquet table, one row a point, and pictures beside it.

A row holds the point's parameters, its numbers, its curves as lists, and where they come from. While a
study runs, each finished point is a table of one row in NAME.parts; at the end these become NAME.parquet.
Parquet is read by pyarrow, pandas, polars, DuckDB and R alike, and pyarrow needs nothing but itself.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from dipfilters.provenance import digest

RESULTS = Path(__file__).parent / "results"

Value = str | int | float | bool
Point = dict[str, Value]
Row = dict[str, Any]


class TableError(ValueError):
    """A table that is not there, or a row that cannot be stored; the message says what to do."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a point gave.

    Attributes:
        numbers: Single numbers by name; NaN where there is none.
        curves: Arrays of one dimension, stored in float32.
        pictures: Small pictures of bytes, (H, W) or (H, W, 3).
    """

    numbers: Mapping[str, float]
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)


def key(point: Point) -> str:
    """The name of a point: sixteen digits that follow from its parameters."""
    return digest(json.dumps(point, sort_keys=True))


def as_row(point: Point, outcome: Outcome, stamp: Mapping[str, Value]) -> Row:
    """The row of a finished point.

    Raises:
        TableError: Two entries of one name, or a curve that is none.
    """
    row: Row = {"key": key(point)}
    numbers = {name: float(number) for name, number in outcome.numbers.items()}
    curves = {name: np.asarray(curve, np.float32) for name, curve in outcome.curves.items()}
    for part in (point, numbers, curves, stamp):
        if clash := row.keys() & part.keys():
            raise TableError(f"two entries of a row are called {min(clash)!r}; rename one")
        row |= part
    if crooked := [name for name, curve in curves.items() if curve.ndim != 1]:
        raise TableError(f"curve {crooked[0]!r} has {curves[crooked[0]].ndim} dimensions; give it one")
    return row


class Store:
    """The table of one study in a folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.path, self.parts = folder / f"{name}.parquet", folder / f"{name}.parts"
        self.pictures = folder / f"{name}.pictures"

    def add(self, row: Row, pictures: Mapping[str, np.ndarray]) -> None:
        """Keep one finished point: its pictures first, then its row, each beside and then in place."""
        for name, picture in pictures.items():
            self.pictures.mkdir(parents=True, exist_ok=True)
            path = self.pictures / f"{row['key']}-{name}.png"
            Image.fromarray(picture).save(path.with_suffix(".new"), format="PNG")
            path.with_suffix(".new").replace(path)
        self.parts.mkdir(parents=True, exist_ok=True)
        table = pa.table({name: pa.array([value]) for name, value in row.items()})
        self._write(table, self.parts / f"{row['key']}.parquet")

    def read(self) -> pa.Table | None:
        """All rows so far, the newest of each point; None if there are none."""
        paths = [self.path] if self.path.is_file() else []
        paths += sorted(self.parts.glob("*.parquet"))
        if not paths:
            return None
        tables = [pq.read_table(path, partitioning=None) for path in paths]
        table = pa.concat_tables(tables, promote_options="permissive")
        last = {name: at for at, name in enumerate(table["key"].to_pylist())}
        return table.take(sorted(last.values()))

    def compact(self, order: Iterable[str]) -> None:
        """Make one file of the parts, the rows in an order of keys, others after them."""
        table = self.read()
        if table is None or not self.parts.is_dir():
            return
        place = {name: at for at, name in enumerate(order)}
        keys = table["key"].to_pylist()
        rows = sorted(range(len(keys)), key=lambda at: place.get(keys[at], len(place)))
        self._write(table.take(rows), self.path)
        shutil.rmtree(self.parts)

    @staticmethod
    def _write(table: pa.Table, path: Path) -> None:
        new = path.with_suffix(".new")
        pq.write_table(table, new, compression="zstd")
        new.replace(path)


def file_name(study: str, profile: str) -> str:
    """What the table of a study is called: the quick one has a name of its own."""
    return study if profile == "full" else f"{study}-{profile}"


def load(study: str, profile: str = "full", *, folder: Path = RESULTS, **where: Value) -> list[Row]:
    """The rows of a study's table whose entries have the given values.

    Entries that a row does not have are left out of it; curves come as arrays.

    Raises:
        TableError: No such table.
    """
    table = Store(file_name(study, profile), folder).read()
    if table is None:
        raise TableError(
            f"no table of {study!r} at the {profile} profile in {folder}; make study NAME={study}"
        )
    rows = []
    for row in table.to_pylist():
        kept = {name: value for name, value in row.items() if value is not None}
        if all(kept.get(name) == value for name, value in where.items()):
            rows.append({n: np.array(v, np.float32) if isinstance(v, list) else v for n, v in kept.items()})
    return rows
