"""`make browser`: find a Chrome or Chromium that runs, or install one where that takes no question."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.errors import BookError, run_main

NAMES = ("google-chrome", "google-chrome-stable", "chromium", "chromium-browser", "chrome", "microsoft-edge")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
REMEDY = "`make test BROWSER=no` runs all tests that need none"
# The fonts are those that its package would recommend; without any, no text has a width.
PACKAGES = ("chromium", "fonts-liberation")


def runs(path: str) -> bool:
    """Whether it is a browser: Ubuntu's `chromium-browser` may be a stub that only speaks of snap."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() != b""


def _candidates() -> Iterator[str]:
    yield from filter(None, map(shutil.which, NAMES))
    if MAC.exists():
        yield str(MAC)
    from playwright.sync_api import sync_playwright  # half a second, rarely needed

    with sync_playwright() as playwright:
        if Path(playwright.chromium.executable_path).exists():
            yield playwright.chromium.executable_path


def installed() -> str | None:
    """The path of $CHROME, else of the first browser that runs."""
    if chosen := os.environ.get("CHROME"):
        path = shutil.which(chosen)
        if path is None or not runs(path):
            raise BookError(f"CHROME={chosen}: no browser that runs; correct or unset it; {REMEDY}")
        return path
    return next(filter(runs, _candidates()), None)


def command() -> list[str]:
    """The one command that installs a browser on this machine."""
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    if system.get("ID") == "debian":
        return ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]
    return [sys.executable, "-m", "playwright", "install", "--with-deps", "chromium"]


def find() -> str:
    """The path of a browser that runs; on Debian, as root, it is installed first if need be."""
    if path := installed():
        return path
    words = command()
    if words[0] == "apt-get" and os.geteuid() == 0:
        print("no Chrome or Chromium here; installing Debian's chromium, a minute", file=sys.stderr)
        for step in (["apt-get", "update"], words):
            done = subprocess.run(step, check=False, capture_output=True, text=True)
        if path := installed():
            return path
        sys.stderr.write(done.stdout + done.stderr)
    quoted = " ".join(f"'{word}'" if " " in word else word for word in words)
    raise BookError(
        f"the tests need a Chrome or Chromium, and none was found ($CHROME, then {', '.join(NAMES)}; "
        "Ubuntu's chromium package is a stub for snap and does not count). Install one with:\n"
        f"  {'sudo ' if words[0] == 'apt-get' else ''}{quoted}\n{REMEDY}"
    )


def main(_arguments: Sequence[str]) -> None:
    """Print the browser's path."""
    print(find())


if __name__ == "__main__":
    run_main(main)
