"""Building strictly from a staged copy, once, and swapping only what is complete."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import address, build, notebooks, quick, status
from tools.book import Book
from tools.errors import BookError

Run = Callable[[], None]


def stage(root: Path) -> Path:
    """The staged copy."""
    staged, book = root / "_build" / "stage", Book(root)
    build.stage(book, staged, address.published(book, {}))
    return staged


def test_a_stale_chapter_is_named_and_says_so_on_its_page(
    book: Path, pretend_run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_run()
    sums = book / "src" / "dipfilters" / "sums.py"
    sums.write_text(sums.read_text("utf-8").replace("range(n)", "range(n + 1)"), "utf-8")
    before = (book / "notebooks" / "02-two.ipynb").read_bytes()
    staged = stage(book) / "notebooks"
    first, second = (notebooks.read(staged / f"{name}.ipynb") for name in ("01-one", "02-two"))
    assert [cell.id for cell in second.cells[:2]] == ["title", "out-of-date"]
    assert "(changed: sums)" in second.cells[1].source
    assert first.cells[1].id == "install"
    assert (book / "notebooks" / "02-two.ipynb").read_bytes() == before

    built: list[Book] = []
    monkeypatch.setattr(build, "renew", built.append)
    build.main(["--root", str(book)])
    assert len(built) == 1
    named = "02-two.ipynb: changed: sums\nthese chapters are out of date"
    assert capsys.readouterr().out.startswith(f"{named}, as their pages say; `make execute` runs them\n")
    with pytest.raises(BookError, match=f"^{named}, and not published so; `make execute` runs them"):
        build.main(["--strict", "--root", str(book)])
    assert len(built) == 1


def test_the_stage_holds_pages_and_nothing_else(book: Path, pretend_run: Run) -> None:
    pretend_run()
    for name in ("book/status.md", "book/.hidden.md", "notebooks/draft.ipynb", "book/page.md~"):
        (book / name).write_text("draft")
    staged = stage(book)
    assert {str(path.relative_to(staged)) for path in staged.rglob("*") if path.is_file()} == {
        "_config.yml",
        "_toc.yml",
        "book/benchmarks.md",
        "book/status.md",
        "notebooks/01-one.ipynb",
        "notebooks/02-two.ipynb",
    }
    assert "draft" not in (staged / "book" / "status.md").read_text("utf-8")


def test_a_build_is_made_once_and_survives_a_failing_one(
    book: Path, pretend_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_run()
    page = book / "notebooks" / "01-one.ipynb"
    page.write_text(page.read_text("utf-8").replace("area(scale)", "area(2 * scale)"), "utf-8")
    index = book / "_build" / "html" / "index.html"
    build.main(["--root", str(book)])
    assert capsys.readouterr().out.endswith(f"open {index.as_uri()}\n")
    first_page = (index.parent / "notebooks" / "01-one.html").read_text("utf-8")
    assert re.search(r"admonition warning(.|\n)*older than(.|\n)*CHAPTER=01", first_page)

    made = index.stat().st_mtime_ns
    build.main(["--root", str(book)])
    assert capsys.readouterr().out.endswith(f"the book is up to date\nopen {index.as_uri()}\n")
    assert index.stat().st_mtime_ns == made

    toc = book / "_toc.yml"
    toc.write_text(toc.read_text("utf-8") + "      - file: book/page\n", "utf-8")
    (book / "book" / "page.md").write_text("# A page\n\n[nowhere](missing.md)\n")
    with pytest.raises(
        BookError, match=r"page\.md.*WARNING(.|\n)*the build failed and the pages are as they"
    ):
        build.main(["--root", str(book)])
    assert index.stat().st_mtime_ns == made

    (book / "book" / "page.md").write_text("# A page\n")
    build.main(["--root", str(book)])
    assert (book / "_build" / "html" / "book" / "page.html").is_file()
    assert not (book / "_build" / "html.old").exists()


def test_every_kind_of_input_changes_the_digest(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {build.inputs_digest(Book(book))}
    changed = ["_config.yml", "CITATION.cff", "notebooks/02-two.ipynb", "requirements.lock"]
    for name in [*changed, "src/dipfilters/sums.py", "book/new.md", "tools/new.py"]:
        with (book / name).open("a", encoding="utf-8") as file:
            file.write("\n")
        seen.add(build.inputs_digest(Book(book)))
    monkeypatch.setenv("GITHUB_REPOSITORY", "a-lice/prior.book")
    seen.add(build.inputs_digest(Book(book)))
    assert len(seen) == 9
    (book / "src" / "dipfilters" / "__pycache__").mkdir()
    (book / "src" / "dipfilters" / "__pycache__" / "sums.pyc").write_bytes(b"")
    assert build.inputs_digest(Book(book)) in seen


def test_the_status_page_tells_each_run(book: Path, pretend_run: Run) -> None:
    assert "| [01-one](../notebooks/01-one.ipynb) | never |" in status.page(Book(book))
    pretend_run()
    page = status.page(Book(book))
    assert "| [01-one](../notebooks/01-one.ipynb) | 2026-11-23 | 4.2 | not here | as in the run |" in page
    assert "- Hardware: Abacus, 2 cores\n- Python: 3.11.7\n" in page
    assert "`profile = 'full'`, `scale = 1.5`, `seed = 0`, `size = None`\n- Commit: abc1234\n" in page
    (book / "requirements.lock").write_text("torch==2.14.0\n")
    assert "| 4.2 | not here | changed since |" in status.page(Book(book))


def report(book: Path, *outcomes: str) -> None:
    """What pytest leaves of a run of the small book's first notebook."""
    cell = '<testcase classname="_build.quick.01-one.ipynb" name="Cell">{}</testcase>'
    suite = (
        f'<testsuite timestamp="2026-11-24T10:00:00+00:00">{"".join(map(cell.format, outcomes))}</testsuite>'
    )
    (book / status.REPORT).write_text(f"<testsuites>{suite}</testsuites>", "utf-8")


def test_the_status_page_tells_what_the_tests_found_as_long_as_it_holds(book: Path, pretend_run: Run) -> None:
    pretend_run()
    quick.main(["--root", str(book)])
    assert status.tested(Book(book)) == {}, "prepared, and not run yet"
    copy = notebooks.read(book / "_build" / "quick" / "01-one.ipynb")
    assert notebooks.parameters(copy, "01-one.ipynb")["profile"] == "quick"
    report(book, "", "", "", "")
    before = build.inputs_digest(Book(book))
    assert "| 4.2 | 4 passed, 2026-11-24 | as in the run |" in status.page(Book(book))

    report(book, "", '<failure message="no"/>')
    assert status.tested(Book(book)) == {"01-one.ipynb": "1 of 2 failed, 2026-11-24"}
    assert build.inputs_digest(Book(book)) != before, "the page has to be built again"

    with (book / "src" / "dipfilters" / "shapes.py").open("a", encoding="utf-8") as file:
        file.write("area = abs\n")
    assert status.tested(Book(book)) == {}, "another code than the one tested"
    (book / status.REPORT).write_text("<testsuites><testsui", "utf-8")
    assert status.tested(Book(book)) == {}, "a report that broke off"
