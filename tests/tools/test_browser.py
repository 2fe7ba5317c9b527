"""Finding a browser that runs, and what is said where there is none."""

import stat
from pathlib import Path

import pytest

from tools import browser
from tools.errors import BookError


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


def test_the_chosen_one_comes_first_and_must_run(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(bare / "chromium", "echo Chromium 1")
    mine = program(bare / "mine", "echo Chrome 2")
    monkeypatch.setenv("CHROME", str(mine))
    assert browser.find() == str(mine)
    monkeypatch.setenv("CHROME", "/nowhere/chrome")
    with pytest.raises(BookError, match="CHROME=/nowhere/chrome: no browser that runs"):
        browser.find()


def test_a_stub_that_does_not_run_is_passed_over(bare: Path) -> None:
    program(bare / "chromium", "exit 1")
    program(bare / "chromium-browser", "echo Chromium 1")
    assert browser.find() == str(bare / "chromium-browser")


def test_apt_is_asked_as_root_on_debian_alone(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without what only a desk needs, such as a printer's dialogue, and in one line unless it fails."""
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "debian"})
    command = "apt-get install -y --no-install-recommends chromium fonts-liberation"
    with pytest.raises(BookError, match=rf"\n  sudo {command}\n`make test BROWSER=no`"):
        browser.find()
    monkeypatch.setattr("os.geteuid", lambda: 0)
    program(bare / "apt-get", "echo no such package >&2; exit 100")
    with pytest.raises(BookError):
        browser.find()
    assert "no such package" in capfd.readouterr().err
    script = f'echo words; [ "$1" = update ] || {{ printf "#!/bin/sh\\necho Chromium 1" > "{bare}/chromium"; '
    program(bare / "apt-get", script + f'/bin/chmod +x "{bare}/chromium"; }}')
    assert browser.find() == str(bare / "chromium")
    said = capfd.readouterr()
    assert len((said.out + said.err).splitlines()) == 1
