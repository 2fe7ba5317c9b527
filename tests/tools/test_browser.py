"""Finding a browser that runs, and what is said where there is none."""

import stat
from pathlib import Path

import pytest

from tools import browser
from tools.errors import BrowserMissing


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any browser; the folder is its PATH."""
    monkeypatch.delenv("CHROME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "none"))
    monkeypatch.setattr(browser, "MAC", tmp_path / "none")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    return tmp_path


def test_the_chosen_one_comes_first(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(bare / "chromium", "echo Chromium 1")
    mine = program(bare / "mine", "echo Chrome 2")
    assert browser.find() == str(bare / "chromium")
    monkeypatch.setenv("CHROME", str(mine))
    assert browser.find() == str(mine)


def test_a_chosen_one_that_does_not_run_is_refused(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(bare / "chromium", "echo Chromium 1")
    monkeypatch.setenv("CHROME", "/nowhere/chrome")
    with pytest.raises(BrowserMissing, match="CHROME=/nowhere/chrome: no browser that runs"):
        browser.find()


def test_a_stub_that_does_not_run_is_passed_over(bare: Path) -> None:
    program(bare / "chromium", "exit 1")
    program(bare / "chromium-browser", "echo Chromium 1")
    assert browser.find() == str(bare / "chromium-browser")


def test_apt_is_asked_as_root_on_debian_alone(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "debian"})
    with pytest.raises(BrowserMissing, match=r"\n  sudo apt-get install -y chromium\n`make test-nobrowser`"):
        browser.find()
    script = f'[ "$1" = update ] || {{ printf "#!/bin/sh\\necho Chromium 1" > "{bare}/chromium"; '
    program(bare / "apt-get", script + f'/bin/chmod +x "{bare}/chromium"; }}')
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert browser.find() == str(bare / "chromium")


def test_elsewhere_one_command_is_named(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "ubuntu", "ID_LIKE": "debian"})
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(
        BrowserMissing, match=r"stub for snap(.|\n)*-m playwright install --with-deps chromium\n"
    ):
        browser.find()
