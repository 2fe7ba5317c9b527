"""`make test-colab`, `test-lowest`, `test-newest`, `test-clean`: the package where other libraries are.

Each environment is a folder .venv-NAME of its own, made anew. In Colab's and a stranger's (`clean`) the
commit that is checked out is installed, by the requirement of the notebooks' install cell with this folder
in the place of its address. The lowest and the newest hold libraries alone, for the tests of the working
tree; their torch is neither, but the one that pyproject.toml pins.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from tqdm import tqdm

from tools import execute, notebooks, quick
from tools.errors import CellFailed, EnvironmentBroken, run_main

COLAB = "tools/colab.txt"
TESTERS = ("pytest>=8.3", "hypothesis>=6.100", "beartype>=0.20", "nbformat", "pyyaml")
# Tests of what computes: they need none of the book's own libraries, and no browser.
TESTS = (
    "engines",
    *(
        f"test_{name}.py"
        for name in (
            "denoising",
            "empirical",
            "engine_choice",
            "faults",
            "filters",
            "fuzz",
            "images",
            "kernels",
            "lanczos",
            "low_rank",
            "networks",
            "ntk",
            "patches",
            "plots",
            "records",
            "settings",
            "stopping",
            "training",
            "twicing",
            "views",
        )
    ),
)
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}
OPTIONS = ("-q", "-p", "no:cacheprovider", "-m", "not browser and not long")
# Old libraries are warned by newer ones of what they use of them: of that nobody here is to blame. And
# jaxtyping before 0.3.11 checks shapes in a way that numba cannot read: the lowest runs unchecked, as at a
# reader's.
EXCUSED = {
    "lowest": (
        *("-W", "default::DeprecationWarning", "-o", "addopts=--import-mode=importlib"),
        *("--deselect", "tests/test_images.py::test_shapes_in_signatures_are_executed"),
    ),
    "newest": (),
}
SMOKE = """
import torch
import dipfilters
from dipfilters import add_noise, denoise, load_image, plots, psnr
clean = load_image("camera", size=24)
noisy = add_noise(clean, 25 / 255, generator=torch.Generator().manual_seed(0))
gain = psnr(denoise(noisy, 25 / 255, progress=False).picture, clean) - psnr(noisy, clean)
assert gain > 1, gain
print(f"{gain:.1f} dB gained by the package in {dipfilters.__file__}")
"""


def pins(text: str) -> dict[str, str]:
    """The versions that lines NAME==VERSION name, by normalised names; other lines name none."""
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def bare() -> dict[str, str]:
    """The machine's variables without those that lead Python back to the book's own environment."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return kept | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def address(root: Path) -> str:
    """This checkout in the place of the repository's address, for pip."""
    return f"git+{root.as_uri()}"


@dataclass(frozen=True)
class Environment:
    """A virtual environment in a folder of its own.

    Attributes:
        root: The checkout that it belongs to.
        name: What the folder is called, behind ``.venv-``.
    """

    root: Path
    name: str

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.root / f".venv-{self.name}"

    @property
    def python(self) -> Path:
        """Its Python."""
        return self.folder / "bin" / "python"

    def make(self, python: str) -> None:
        """Make it anew, with nothing but pip."""
        print(f"making {self.folder.name}", flush=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._run([python, "-m", "venv", str(self.folder)], "cannot be made; name a Python that has venv")
        self.run("-m", "pip", "--quiet", "install", "--upgrade", "pip")  # an old one knows no git+file:///

    def run(self, *words: str) -> str:
        """What its Python prints, called with these words away from the checkout's sources."""
        return self._run([str(self.python), *words], "fails")

    def install(self, *words: str) -> None:
        """Let pip install these requirements, torch from where the book's own environment has it."""
        index = self.root / ".venv" / ".torch-index"
        torch = [word for word in words if word.startswith("torch==")]
        if torch and index.is_file():
            options = ["--no-deps", "--index-url", index.read_text("utf-8").strip()]
            self.run("-m", "pip", "--quiet", "install", *options, *torch)
        self.run("-m", "pip", "--quiet", "install", *words)

    def versions(self) -> dict[str, str]:
        """What is installed, a torch without its word on CUDA."""
        found = pins(self.run("-m", "pip", "list", "--format=freeze"))
        return {name: version.partition("+")[0] for name, version in found.items()}

    def check(self) -> None:
        """Refuse an environment in which a requirement of what is installed is not met."""
        self.run("-m", "pip", "check")

    def _run(self, words: list[str], trouble: str) -> str:
        done = subprocess.run(
            words,
            cwd=self.folder if self.folder.exists() else self.root,
            env=bare(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            told = "\n".join(done.stdout.splitlines()[-30:])
            raise EnvironmentBroken(f"{told}\n{self.folder.name}: {' '.join(words)[:300]} {trouble}")
        return done.stdout


def locked_torch(root: Path) -> str:
    """The torch of the book's own environment, which this machine has."""
    return pins((root / "requirements.lock").read_text("utf-8"))["torch"]


def colab_pins(root: Path, torch: str | None) -> dict[str, str]:
    """What Colab holds, with this torch or the lock's."""
    return pins((root / COLAB).read_text("utf-8")) | {"torch": torch or locked_torch(root)}


def make_colab(root: Path, python: str, torch: str | None) -> Environment:
    """Colab's libraries, and no package of ours."""
    colab, wanted = Environment(root, "colab"), colab_pins(root, torch)
    published = pins((root / COLAB).read_text("utf-8"))["torch"]
    colab.make(python)
    if wanted["torch"] != published:
        print(f"torch {wanted['torch']} stands for Colab's {published}")
    print("installing Colab's libraries, a minute", flush=True)
    colab.install(*(f"{name}=={version}" for name, version in wanted.items()))
    colab.run("-m", "ipykernel", "install", "--prefix", str(colab.folder), "--name", "colab")
    return colab


def check_colab(root: Path, python: str, torch: str | None) -> None:
    """Run the install cell as a student would, then every notebook at the quick profile."""
    colab = make_colab(root, python, torch)
    before = colab.versions()
    begun = time.monotonic()
    first = notebooks.read(notebooks.chapters(root)[0])
    (cell,) = (cell for cell in first.cells if "install" in notebooks.tags(cell))
    source, changed = re.subn(r"git\+https://[\w./-]+", address(root), cell.source)
    assert changed == 1, cell.source
    installing = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    run_cells(colab, installing, "the install cell", root)
    after = colab.versions()
    if "dipfilters" not in after:  # a %pip that fails raises nothing
        told = "".join(output.get("text", "") for output in installing.cells[0].outputs)
        raise EnvironmentBroken(f"{told}the install cell installed nothing")
    moved = [
        f"{name} {old} → {after.get(name, 'gone')}" for name, old in before.items() if after.get(name) != old
    ]
    if moved:
        raise EnvironmentBroken(
            f"the install cell changed {', '.join(moved)}; lower a bound in pyproject.toml"
        )
    new = ", ".join(f"{name} {after[name]}" for name in sorted(after.keys() - before.keys()))
    print(f"the install cell took {time.monotonic() - begun:.0f} s and added {new}; it changed nothing")
    colab.check()
    folder = root / "_build" / "colab"
    paths = quick.prepare(root, folder)
    begun = time.monotonic()
    apart = without_network(colab)
    for path in tqdm(paths, desc="notebooks with Colab's libraries", unit="notebook"):
        run_cells(colab, notebooks.read(path), path.name, folder)
    minutes = (time.monotonic() - begun) / 60
    print(f"{len(paths)} notebooks passed with Colab's libraries{apart} in {minutes:.1f} minutes")


def without_network(colab: Environment) -> str:
    """Let the kernel begin where there is no network, if this system can; in words that say so."""
    apart = ["unshare", "--net"]
    if (
        not shutil.which(apart[0])
        or subprocess.run([*apart, "true"], capture_output=True, check=False).returncode
    ):
        return ""
    path = colab.folder / "share" / "jupyter" / "kernels" / "colab" / "kernel.json"
    kernel = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(kernel | {"argv": [*apart, *kernel["argv"]]}), "utf-8")
    return " and without a network"


def run_cells(environment: Environment, notebook: NotebookNode, name: str, folder: Path) -> None:
    """Run all cells by the environment's kernel; an error, or a word on stderr, is refused as on a page."""
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    os.environ["JUPYTER_PATH"] = str(environment.folder / "share" / "jupyter")
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
            raise CellFailed(told) from error
    for cell in notebooks.code_cells(notebook):
        execute.kept_outputs(cell, cell.outputs, name)


def check_bounds(root: Path, python: str, which: str) -> None:
    """Run the package's tests with the lowest or the newest libraries allowed, torch apart."""
    environment = Environment(root, which)
    environment.make(python)
    environment.install("uv")
    options = ["--quiet", "--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
    resolved = environment.run(
        *("-m", "uv", "pip", "compile", *options, "--resolution", RESOLUTIONS[which]),
        str(root / "pyproject.toml"),
    )
    # A torch with CUDA brings its libraries itself, and the one without needs none.
    lines = [line for line in resolved.splitlines() if not re.match("nvidia-|cuda-|triton", line)]
    print(f"installing the {which} libraries allowed, a minute", flush=True)
    environment.install(*lines, *TESTERS)
    environment.check()
    direct, found = direct_requirements(root), environment.versions()
    print(", ".join(f"{name} {found[name]}" for name in direct), flush=True)
    begun = time.monotonic()
    tests = [str(Path("tests", name)) for name in TESTS]
    command = [str(environment.python), "-m", "pytest", *OPTIONS, *EXCUSED[which], *tests]
    if subprocess.run(command, cwd=root, env=bare(), check=False).returncode:
        raise EnvironmentBroken(
            f"tests fail with the {which} libraries allowed; correct the bounds or the code"
        )
    print(f"the tests took {(time.monotonic() - begun) / 60:.1f} minutes with the {which} libraries allowed")


def direct_requirements(root: Path) -> list[str]:
    """What the package itself asks for, by normalised names."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    return sorted(re.split(r"[<>=!~ ]", line)[0] for line in project["dependencies"])


def check_wheel(root: Path, python: str) -> None:
    """Install the package by itself, with what pip finds today, and let it denoise a picture."""
    environment = Environment(root, "clean")
    environment.make(python)
    print("installing the package as a stranger would, a minute", flush=True)
    environment.install(f"torch=={locked_torch(root)}", f"dipfilters @ {address(root)}")
    environment.check()
    print(environment.run("-c", SMOKE), end="")


def main(arguments: Sequence[str]) -> None:
    """Make the environment that is asked for, and check the package in it."""
    parser = argparse.ArgumentParser(prog="python -m tools.environments", description=__doc__)
    parser.add_argument("name", choices=("colab", "colab-env", "clean", *RESOLUTIONS))
    parser.add_argument("--python", default=sys.executable, help="the Python to make it with")
    parser.add_argument("--torch", help="the torch of the Colab-like environment")
    parser.add_argument("--root", type=Path, default=notebooks.ROOT)
    asked = parser.parse_args(arguments)
    root, python = asked.root.resolve(), shutil.which(asked.python) or asked.python
    if asked.name == "colab-env":
        print(f"Colab's libraries are in {make_colab(root, python, asked.torch).folder}")
    elif asked.name == "colab":
        check_colab(root, python, asked.torch)
    elif asked.name == "clean":
        check_wheel(root, python)
    else:
        check_bounds(root, python, asked.name)


if __name__ == "__main__":
    run_main(main)
