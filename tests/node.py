"""The figures' scripts, asked outside a browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tools.notebooks import ROOT

FOLDER = ROOT / "tests" / "js"
SCRIPTS = ROOT / "src" / "dipfilters" / "figures"


def ask(module: str, name: str, *arguments: Any) -> Any:
    """The result of a function; tensors and bytes go in as typed arrays, and come out as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            return {"floats": value.flatten().tolist()}
        if isinstance(value, bytes):
            return {"bytes": list(value)}
        raise TypeError(f"{type(value)} cannot be sent")

    question = {"module": str(SCRIPTS / module), "name": name, "arguments": arguments}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # Node is one of its packages
    done = subprocess.run(
        ["node", "--disable-warning=MODULE_TYPELESS_PACKAGE_JSON", "ask.mjs"],
        cwd=FOLDER,
        env=os.environ | {"PATH": path},
        input=json.dumps(question, default=plain),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def tensor(values: Any) -> Tensor:
    """Numbers that came out, in float64."""
    return torch.tensor(values, dtype=torch.float64)
