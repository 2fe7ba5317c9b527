"""Other environments than the book's own, each made anew: `make test-with LIBRARIES=lowest`, or one below.

lowest, newest
    The package's tests on the working tree, with the lowest or the newest libraries that pyproject.toml
    allows. torch is neither, but the one it pins; UV_NO_CONFIG=1 lifts the pin.
colab
    The commit checked out, installed by the notebooks' install cell where Colab's libraries are, and every
    notebook there.
clean
    The commit checked out, installed as a stranger would, away from the repository.
"""

import os
import re
from pathlib import Path

import nox

ROOT = Path(__file__).parent
HERE = f"dipfilters @ git+{ROOT.as_uri()}"
TESTERS = ("pytest>=8.3", "pytest-xdist>=3.6", "hypothesis>=6.100", "beartype>=0.20", "nbformat", "pyyaml")
# The modules' own tests: they need none of the book's libraries, and no browser.
MIRRORS = (Path("tests", f"test_{module.name}") for module in sorted(ROOT.glob("src/dipfilters/*.py")))
TESTS = (
    "tests/engines",
    "tests/test_devices.py",
    "tests/test_low_rank.py",
    *(str(test) for test in MIRRORS if (ROOT / test).exists()),
)
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

nox.options.default_venv_backend = "uv"
os.environ.pop("PYTHONPATH", None)  # else the sessions would see this environment's sources


def pinned(name: str) -> str:
    """The version of the lock, as a requirement."""
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    return re.search(rf"^{name}==\S+", lock, re.MULTILINE)[0]  # type: ignore[index]


def install_torch(session: nox.Session, requirement: str) -> None:
    """From where the book's own environment has it, if it was made with TORCH_INDEX."""
    index = ROOT / ".venv" / ".torch-index"
    if index.is_file():
        session.install("--no-deps", "--index-url", index.read_text("utf-8").strip(), requirement)
    session.install(requirement)


def test_package(session: nox.Session, resolution: str, *options: str) -> None:
    """The package's tests with the libraries that this resolution of its bounds gives."""
    if "UV_NO_CONFIG" not in os.environ:
        install_torch(session, pinned("torch"))
    session.install("--resolution", resolution, "-r", "pyproject.toml")
    session.install(*TESTERS)
    session.run("uv", "pip", "list", external=True)
    session.run("pytest", "-q", "-n", "logical", "-m", "not browser and not long", *options, *TESTS)


@nox.session
def lowest(session: nox.Session) -> None:
    """With the lowest libraries allowed."""
    # Newer libraries warn of how old ones use them, and nobody here is to blame. And jaxtyping before 0.3.11
    # checks shapes in a way that numba cannot read: they go unchecked here, as they do for a reader.
    warnings = ("-W", "default::DeprecationWarning", "-o", "addopts=--import-mode=importlib")
    unchecked = ("--deselect", "tests/test_images.py::test_shapes_in_signatures_are_executed")
    test_package(session, "lowest-direct", *warnings, *unchecked)


@nox.session
def newest(session: nox.Session) -> None:
    """With the newest libraries allowed."""
    test_package(session, "highest")


@nox.session(venv_backend="venv")
def colab(session: nox.Session) -> None:
    """The install cell and every notebook; TORCH=2.11.0 takes another torch than the lock's."""
    torch = f"torch=={session.posargs[0]}" if session.posargs else pinned("torch")
    colab = (ROOT / "tools" / "colab.txt").read_text("utf-8")
    libraries = re.findall(r"^(?!torch==)[\w-]+==\S+", colab, re.MULTILINE)
    session.install("--upgrade", "pip")  # an old one knows no git+file:///
    install_torch(session, torch)
    session.install(torch, *libraries)
    prefix = session.virtualenv.location
    session.run("python", "-m", "ipykernel", "install", "--prefix", prefix, "--name", "colab", silent=True)
    session.run(".venv/bin/python", "-m", "tools.colab", prefix, external=True)


@nox.session
def clean(session: nox.Session) -> None:
    """The package alone."""
    install_torch(session, pinned("torch"))
    session.install(HERE)
    session.run("uv", "pip", "check", external=True)
    with session.chdir(session.create_tmp()):
        session.run("python", "-c", SMOKE)
