"""The pages to take along: all that they need, the same bytes each time, and readable from a folder."""

import os
import zipfile
from pathlib import Path

import pytest

from tests import site_browser, site_html
from tools import archive


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """The root of a book whose pages are built."""
    site = tmp_path / "_build" / "html"
    for name in ("index.html", "404.html", ".inputs", "book/a.html", "_static/a.css", "_static/a.css.map"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(name)
    return tmp_path


def test_the_archive_holds_what_a_reader_opens(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive.main(["--root", str(built)])
    target = built / "_build" / "book.zip"
    assert str(target) in capsys.readouterr().out
    with zipfile.ZipFile(target) as packed:
        assert packed.testzip() is None
        names = {Path(name).relative_to(archive.FOLDER).as_posix() for name in packed.namelist()}
        assert packed.read(f"{archive.FOLDER}/book/a.html") == b"book/a.html"
    assert names == {"README.txt", "index.html", "book/a.html", "_static/a.css"}
    first = target.read_bytes()
    os.utime(built / "_build" / "html" / "index.html", (1e9, 1e9))
    archive.main(["--root", str(built)])
    assert target.read_bytes() == first, "the same pages make the same archive"


@pytest.mark.browser
def test_the_unpacked_book_opens_without_a_server(tmp_path: Path) -> None:
    archive.write(site_html.SITE, tmp_path / "book.zip")
    assert (tmp_path / "book.zip").stat().st_size < 20e6
    with zipfile.ZipFile(tmp_path / "book.zip") as packed:
        packed.extractall(tmp_path / "with a space")
    base = (tmp_path / "with a space" / archive.FOLDER).as_uri()
    with site_browser.launch() as chrome, site_browser.reader(chrome, base) as (context, trouble):
        page = context.new_page()
        page.goto(f"{base}/index.html")
        page.wait_for_url("**/00-welcome.html")
        assert not site_browser.faults(page)
        assert not trouble
