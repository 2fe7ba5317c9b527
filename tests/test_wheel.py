"""What pip builds from the repository: the package and the studies with their tables, light; no notebook."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools.notebooks import ROOT


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git would check out of the files as they are now."""
    folder = tmp_path_factory.mktemp("checkout")
    asked = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    """As `pip install git+…` builds it, without the download of setuptools."""
    command = [sys.executable, "-c", "import setuptools.build_meta as b; print(b.build_wheel('dist'))"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return checkout / "dist" / done.stdout.splitlines()[-1]


def test_the_wheel_is_light_and_holds_package_and_studies_and_nothing_else(
    checkout: Path, wheel: Path
) -> None:
    assert wheel.stat().st_size < 5_000_000
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    source = checkout / "src"
    kinds = {".py", ".typed", ".json", ".js", ".css", ".mplstyle"}
    wanted = {str(p.relative_to(source)) for p in (source / "dipfilters").rglob("*") if p.suffix in kinds}
    kinds = {".py", ".parquet", ".png"}
    wanted |= {str(p.relative_to(checkout)) for p in (checkout / "studies").rglob("*") if p.suffix in kinds}
    assert {name for name in names if not name.startswith("dipfilters-")} == wanted
    assert {f"dipfilters/{name}" for name in ("py.typed", "data/published.json", "figures/rows.js")} <= names
