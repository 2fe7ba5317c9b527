"""`make test-with LIBRARIES=colab`: the install cell and the notebooks, in an environment like Colab's."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from tqdm import tqdm

from tools import execute, notebooks, quick
from tools.book import Book, command_line
from tools.errors import BookError, run_main


def versions(environment: Path) -> dict[str, str]:
    """What is installed there."""
    command = [str(environment / "bin" / "python"), "-m", "pip", "list", "--format=json"]
    listed = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {entry["name"].lower(): entry["version"] for entry in listed}


def run_install_cell(book: Book, environment: Path) -> None:
    """Run it as a student would, with this checkout in the place of the repository's address."""
    before = versions(environment)
    first = next(iter(book.notebooks.values()))
    (cell,) = (cell for cell in first.cells if "install" in notebooks.tags(cell))
    source, found = re.subn(r"git\+https://[\w./-]+", f"git+{book.root.as_uri()}", cell.source)
    if not found:
        raise BookError(f"the install cell installs from no address:\n{cell.source}")
    installing = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    run_cells(environment, installing, "the install cell", book.root)
    after = versions(environment)
    if "dipfilters" not in after:  # a %pip that fails raises nothing
        told = "".join(output.get("text", "") for output in installing.cells[0].outputs)
        raise BookError(f"{told}the install cell installed nothing")
    if moved := [
        f"{name} {old} → {after.get(name)}" for name, old in before.items() if after.get(name) != old
    ]:
        raise BookError(f"the install cell changed {', '.join(moved)}; lower a bound in pyproject.toml")
    added = ", ".join(f"{name} {after[name]}" for name in sorted(after.keys() - before.keys()))
    print(f"the install cell added {added}; it changed nothing", flush=True)


def cut_off(environment: Path) -> str:
    """Let the kernel begin without a network, if this system can; in words that say so."""
    apart = ["unshare", "--net"]
    if not shutil.which("unshare") or subprocess.run([*apart, "true"], check=False).returncode:
        return ""
    path = environment / "share" / "jupyter" / "kernels" / "colab" / "kernel.json"
    kernel = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(kernel | {"argv": [*apart, *kernel["argv"]]}), "utf-8")
    return " and without a network"


def run_cells(environment: Path, notebook: NotebookNode, name: str, folder: Path) -> None:
    """Run all cells by the environment's kernel; an error, or a word on stderr, is refused as on a page."""
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    os.environ["JUPYTER_PATH"] = str(environment / "share" / "jupyter")
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    os.environ.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory() as sockets:
        # By files, not by ports, which a kernel without a network lacks.
        manager = AsyncKernelManager(kernel_name="colab", transport="ipc", ip=str(Path(sockets, "kernel")))
        client = NotebookClient(notebook, km=manager, resources={"metadata": {"path": str(folder)}})
        try:
            client.execute(cleanup_kc=True)  # ends the kernel as well
        except CellExecutionError as error:
            told = f"{name} with Colab's libraries: {error.ename}: {error.evalue}\n{error}"
            raise BookError(told) from error
    for cell in notebooks.code_cells(notebook):
        execute.kept_outputs(cell, cell.outputs, name)


def main(arguments: Sequence[str]) -> None:
    """Check the environment that noxfile.py made."""
    parser = command_line(__doc__)
    parser.add_argument("environment", type=Path)
    asked = parser.parse_args(arguments)
    book, environment = Book(asked.root), asked.environment.resolve()
    run_install_cell(book, environment)
    folder = book.root / "_build" / "colab"
    paths = quick.prepare(book, folder)
    apart = cut_off(environment)
    for path in tqdm(paths, desc="notebooks with Colab's libraries", unit="notebook"):
        run_cells(environment, notebooks.read(path), path.name, folder)
    print(f"{len(paths)} notebooks passed with Colab's libraries{apart}")


if __name__ == "__main__":
    run_main(main)
