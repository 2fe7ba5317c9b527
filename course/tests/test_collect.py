"""Whatever an LMS hands over has its student, its files and its lateness; marks go back in its columns."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import zipfile
from datetime import datetime
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from course import BookError, grade, marks
from course.collect import Submission, collect
from course.roster import Roster, days_late, fill, read_table

NOTEBOOK = nbformat.writes(new_notebook())
CANVAS = """Student,ID,SIS User ID,SIS Login ID,Section,Assignment 1 (901),Final Score
    Points Possible,,,,,70.00,(read only)
"Smith, Alice",501,s1,asmith,A,,
"Müller, Bert",502,s2,bmueller,A,,
"Kim, Alex",503,s3,akim,B,,
"Student, Test",599,,x,A,,
"""
MOODLE = """Identifier,Full name,Email address,Status,Grade,Maximum Grade,Grade can be changed,\
Last modified (submission),Last modified (grade),Feedback comments
Participant 71,Alice Smith,alice@example.org,Submitted for grading - 1 day 3 hours late - ,,70.00,Yes,\
"Monday, 2 November 2026, 9:00 AM",-,
Participant 72,Bert Müller,bert@example.org,Submitted for grading - ,,70.00,Yes,\
"Friday, 30 October 2026, 9:00 AM",-,
Participant 73,王小明,wang@example.org,No submission - ,,70.00,Yes,-,-,
"""


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(NOTEBOOK if name.lower().endswith("ipynb") else "…", "utf-8")


def zipped(path: Path, *names: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, NOTEBOOK if name.endswith("ipynb") else "…")


def roster(folder: Path, **lists: str) -> Roster:
    for name, text in lists.items():
        put(folder, f"{name}.csv")
        (folder / f"{name}.csv").write_text(text, "utf-8-sig")
    return Roster(folder)


def found(tmp_path: Path, people: Roster | None = None) -> dict[str, list[Submission]]:
    every: dict[str, list[Submission]] = {}
    place = Path(tempfile.mkdtemp(dir=tmp_path))
    for one in collect(tmp_path / "in", place, people or Roster(tmp_path / "none")):
        every.setdefault(one.student, []).append(one)
    return every


def test_folders_sections_loose_files_and_zips_each_have_their_student(tmp_path: Path) -> None:
    put(
        tmp_path / "in",
        "section A/alice/part-1.ipynb",
        "section A/bert/part-1.ipynb",
        "carl.ipynb",
        "group_1_2_x/hal/a.ipynb",
    )
    put(
        tmp_path / "in",
        "dora/work/PART-1.IPYNB",
        "empty/readme.txt",
        "王小明/part-1.ipynb",
        "-rf/part-1.ipynb",
    )
    zipped(tmp_path / "in" / "erik.zip", "part-1.ipynb", "__MACOSX/._part-1.ipynb")
    zipped(tmp_path / "in" / "fay" / "homework.zip", "deep/part-1.ipynb", "._part-1.ipynb")
    put(
        tmp_path / "in", "__MACOSX/alice/._part-1.ipynb", "gil/.ipynb_checkpoints/a.ipynb", "gil/part-1.ipynb"
    )
    put(tmp_path / "in", "section A/._part-1.ipynb", ".DS_Store")
    every = found(tmp_path)
    assert set(every) == {
        *("section A/alice", "section A/bert", "carl", "dora/work", "empty", "王小明", "-rf", "erik"),
        *("fay/homework/deep", "gil", "group_1_2_x/hal"),
    }
    assert all(len(one) == 1 for one in every.values())
    assert every["empty"][0].path is None


def test_a_zip_that_is_none_has_a_line_and_cannot_leave_its_place(tmp_path: Path) -> None:
    put(tmp_path / "in", "alice.zip")
    zipped(tmp_path / "in" / "bert.zip", "../../evil.ipynb")
    every = found(tmp_path)
    assert "cannot be unpacked" in every["alice"][0].trouble
    assert not list(tmp_path.glob("evil*"))
    assert every["bert"][0].path is not None


def test_moodles_zip(tmp_path: Path) -> None:
    lines = [
        "Alice Smith_71_assignsubmission_file_/part-1.ipynb",
        "Alice Smith_71_assignsubmission_file_/photo.png",
    ]
    lines += [
        "Bert Müller_72_assignsubmission_file_homework.zip",
        "Alex Kim_80_assignsubmission_file_/a.ipynb",
    ]
    lines += ["Alex Kim_81_assignsubmission_file_/a.ipynb"]
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("part-1.ipynb", NOTEBOOK)
    path = tmp_path / "in" / "Course-Assignment 1-12.zip"
    zipped(path, *(line for line in lines if not line.endswith(".zip")))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(lines[2], inner.getvalue())
    every = found(tmp_path)
    assert set(every) == {"Alice Smith", "Bert Müller", "Alex Kim 80", "Alex Kim 81"}
    assert set(every["Alice Smith"][0].beside) == {"photo.png"}
    every = found(tmp_path, roster(tmp_path / "roster", Grades=MOODLE))
    assert {"Alice Smith", "Bert Müller"} < set(every)
    assert every["Bert Müller"][0].person is not None


def test_canvas_names(tmp_path: Path) -> None:
    put(tmp_path / "in", "smithalice_LATE_501_900_part-1.ipynb", "smithalice_LATE_501_901_my photo.png")
    put(tmp_path / "in", "mllerbert_502_902_part-1-2.ipynb", "王小明_504_903_part-1.ipynb")
    every = found(tmp_path, roster(tmp_path / "roster", canvas=CANVAS))
    assert set(every) == {"Smith, Alice", "Müller, Bert", "王小明"}
    (alice,) = every["Smith, Alice"]
    assert (alice.late, alice.file, set(alice.beside)) == (True, "part-1.ipynb", {"my photo.png"})
    assert not every["Müller, Bert"][0].late
    assert every["王小明"][0].person is None


@pytest.mark.parametrize("name", ["alice smith", "Smith_Alice", "asmith", "section B/Alice Smith/task", "s1"])
def test_the_roster_knows_a_folder_by_any_name(tmp_path: Path, name: str) -> None:
    put(tmp_path / "in", f"{name}/part-1.ipynb", "Alice Smith part-1 final.ipynb")
    assert set(found(tmp_path, roster(tmp_path / "roster", canvas=CANVAS))) == {"Smith, Alice"}


def test_everybody_has_a_line(tmp_path: Path) -> None:
    roster(tmp_path / "roster", canvas=CANVAS)
    totals = marks.Marks(tmp_path).totals("part-1")
    assert {name: one.state for name, one in totals.items()} == dict.fromkeys(
        ["Smith, Alice", "Müller, Bert", "Kim, Alex"], "nothing handed in"
    )


def test_two_of_a_name_stay_two(tmp_path: Path) -> None:
    people = roster(tmp_path / "roster", list="name,id\nAlex Kim,1\nAlex Kim,2\n")
    assert [one.label for one in people.people] == ["Alex Kim (1)", "Alex Kim (2)"]
    put(tmp_path / "in", "Alex Kim/a.ipynb", "2/a.ipynb")
    assert set(found(tmp_path, people)) == {"Alex Kim", "Alex Kim (2)"}


def test_a_list_without_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BookError, match=r"no column with names among Nom, Note"):
        roster(tmp_path / "roster", list="Nom,Note\nAlice,1\n")


@pytest.mark.parametrize(
    ("status", "changed", "days"),
    [
        ("Submitted for grading - 1 day 3 hours late - ", "", 2),
        ("Submitted for grading - 3 mins 31 secs late - Released - ", "", 1),
        ("Submitted for grading - 2 days late - ", "", 2),
        ("Submitted for grading - ", "Saturday, 31 October 2026, 11:00 PM", 0),
        ("Submitted for grading - ", "Sunday, 1 November 2026, 0:01 AM", 1),
        ("Submitted for grading - ", "Tuesday, November 3, 2026, 9:00 PM", 3),
        ("No submission - ", "-", None),
        ("Submitted for grading - ", "lundi", None),
    ],
)
def test_moodles_worksheet_says_how_late(status: str, changed: str, days: int | None) -> None:
    row = {"Status": status, "Last modified (submission)": changed}
    assert days_late(row, datetime(2026, 10, 31, 23, 59)) == days


def test_marks_go_back_into_the_lists(tmp_path: Path) -> None:
    people = roster(tmp_path / "roster", canvas=CANVAS, **{"Grades-C-Assignment 1-12": MOODLE})
    assert [one.name for one in people.people] == ["Alice Smith", "Bert Müller", "王小明", "Kim, Alex"]
    given = {"Alice Smith": ("61.5", "=late"), "Kim, Alex": ("40", "")}
    fill(people, tmp_path / "lists", "part-1", "Assignment 1", given)
    columns, rows = read_table(tmp_path / "lists" / "canvas.csv")
    assert columns == next(csv.reader([CANVAS.splitlines()[0]]))
    assert [row["Assignment 1 (901)"] for row in rows] == ["70.00", "61.5", "", "40", ""]
    assert [row["ID"] for row in rows] == ["", "501", "502", "503", "599"]
    columns, rows = read_table(tmp_path / "lists" / "Grades-C-Assignment 1-12.csv")
    assert [(row["Identifier"], row["Grade"]) for row in rows] == [
        *(("Participant 71", "61.5"), ("Participant 72", ""), ("Participant 73", "")),
    ]
    assert "'=late" in (tmp_path / "lists" / "Grades-C-Assignment 1-12.csv").read_text("utf-8-sig")


def spoiled(how: str, path: Path) -> None:
    """A notebook that Jupyter opens, or repairs as it opens it."""
    raw = json.loads(nbformat.writes(new_notebook(cells=[new_code_cell("1", id="a")])))
    for key in {"no outputs": ["outputs"], "no metadata": ["metadata"]}.get(how, []):
        del raw["cells"][0][key]
    raw["metadata"] = {"null kernel": {"kernelspec": None}, "no name": {"kernelspec": {}}}.get(how, {})
    encoding = {"mark": "utf-8-sig", "utf-16": "utf-16"}.get(how, "utf-8")
    path.write_bytes(json.dumps(raw).encode(encoding))


@pytest.mark.parametrize(
    "how", ["mark", "utf-16", "null kernel", "no name", "no outputs", "no metadata", "plain"]
)
def test_what_jupyter_opens_is_read(how: str, tmp_path: Path) -> None:
    spoiled(how, tmp_path / "a.ipynb")
    assert grade.read(tmp_path / "a.ipynb").cells[0].source == "1"


@pytest.mark.parametrize(
    ("text", "state"), [("{", "unreadable"), ("", "empty"), ("[1, 2]", "unreadable"), ("{}", "unreadable")]
)
def test_what_is_no_notebook_is_refused(text: str, state: str, tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_text(text, "utf-8")
    with pytest.raises(grade.Unusable) as refused:
        grade.read(tmp_path / "a.ipynb")
    assert refused.value.state == state


def test_what_is_no_folder_of_submissions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BookError, match="no such folder; give the zip of your LMS"):
        collect(tmp_path / "nowhere", tmp_path / "u", Roster(tmp_path))
    with pytest.raises(BookError, match="no notebook in it"):
        collect(tmp_path, tmp_path / "u", Roster(tmp_path))
