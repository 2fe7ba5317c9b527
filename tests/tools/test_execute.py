"""Running notebooks: in place, beside, and what must not happen when a run goes wrong."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import execute, notebooks, record
from tools.book import Book
from tools.errors import BookError

VALUES = {"profile": "full", "size": None, "seed": 0, "scale": 1.5, "image": "camera", "device": "auto"}
VALUES["colour"] = False


def set_cell(root: Path, source: str, tag: str | None = None) -> Path:
    """Let the last cell of the first chapter be `source`."""
    path = Book(root).chapters[0]
    notebook = notebooks.read(path)
    notebook.cells[-1].source = source
    notebook.cells[-1].metadata = {"tags": [tag]} if tag else {}
    notebooks.write(notebook, path)
    return path


def test_what_is_stale_is_run_in_place_and_leaves_a_record(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    execute.main(["--root", str(book)])
    first, second = Book(book).chapters
    one = notebooks.read(first)
    assert one.cells[-1].outputs[0].data["text/plain"] == "7.0685834705770345"
    assert notebooks.read(second).cells[-2].outputs[0].text == "15.707963267948966\n"
    run = record.stored(one)
    assert run is not None
    assert run["parameters"] == {"profile": "full", "size": None, "seed": 0, "scale": 1.5}
    assert list(run["sources"]) == ["shapes"]
    assert run["versions"].keys() == {"torch", "numpy", "numba", "scipy", "scikit-image", "matplotlib"}
    assert not re.search(f"papermill|iopub|{re.escape(str(book))}", first.read_text("utf-8"))

    before = first.read_bytes()
    module = book / "src" / "dipfilters" / "sums.py"
    module.write_text(module.read_text().replace("range(n)", "range(n + 1)"))
    execute.main(["--root", str(book)])
    assert first.read_bytes() == before
    assert notebooks.read(second).cells[-2].outputs[0].text == "43.982297150257104\n"
    capsys.readouterr()
    execute.main(["--root", str(book)])
    assert capsys.readouterr() == ("all notebooks are up to date\n", ""), "no bar where nothing is to do"


def test_parameters_leave_the_committed_notebook_alone(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Book(book).chapters[0]
    before = path.read_bytes()
    execute.main(["01", "--set", "profile=quick", "--set", "scale=2", "--root", str(book)])
    assert path.read_bytes() == before
    result = book / "_build" / "runs" / "01-one-profile=quick-scale=2.ipynb"
    assert str(result) in capsys.readouterr().out
    notebook = notebooks.read(result)
    assert notebook.cells[-1].outputs[0].data["text/plain"] == "12.566370614359172"
    run = record.stored(notebook)
    assert run is not None
    assert run["parameters"] == {"profile": "quick", "size": None, "seed": 0, "scale": 2}


def test_a_picture_of_one_s_own_is_named_by_its_content_and_by_no_folder(book: Path) -> None:
    path = set_cell(book, "print(image, len(open(image, 'rb').read()))")
    notebook = notebooks.read(path)
    for cell in notebook.cells:
        if "parameters" in notebooks.tags(cell):
            cell.source += '\nimage = "camera"'
    notebooks.write(notebook, path)
    mine = book / "my own.png"
    names: list[tuple[Path, str]] = []
    for content in (b"one", b"another"):
        mine.write_bytes(content)
        execute.main(["01", "--set", "image=my own.png", "--from", str(book), "--root", str(book)])
        (result,) = set((book / "_build" / "runs").glob("*.ipynb")) - {name for name, _ in names}
        text = notebooks.read(result).cells[-1].outputs[0].text
        assert re.fullmatch(rf"my own-[0-9a-f]{{8}}\.png {len(content)}\n", text), text
        assert str(book) not in result.read_text("utf-8")
        names.append((result, text))
    run = record.stored(notebooks.read(result))
    assert run is not None
    assert run["parameters"]["image"] == run["picture"]["name"] == text.rpartition(" ")[0]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("# why\nraise ValueError('negative')", r"01-one\.ipynb, cell 4 \(`raise Val.*ValueError: negative"),
        ("import os\nos._exit(9)", r"01-one\.ipynb: its kernel died"),
        (
            "import warnings\nwarnings.warn('odd')",
            r"cell 4 \(`import warnings`\) wrote to stderr:\n(.|\n)*odd",
        ),
    ],
    ids=["an error", "a kernel that dies", "a warning"],
)
def test_a_run_that_goes_wrong_is_named_and_changes_nothing(book: Path, source: str, message: str) -> None:
    path = set_cell(book, source)
    before = path.read_bytes()
    with pytest.raises(BookError, match=message):
        execute.main(["01", "--root", str(book)])
    assert path.read_bytes() == before


def test_a_progress_bar_is_dropped_and_streams_are_joined(book: Path) -> None:
    source = "import sys\nfor k in range(3):\n    print(k, flush=True)\n    sys.stderr.write('bar')"
    path = set_cell(book, source, "progress")
    execute.main(["01", "--root", str(book)])
    (output,) = notebooks.read(path).cells[-1].outputs
    assert (output.name, output.text) == ("stdout", "0\n1\n2\n")


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_run_leaves_the_notebook_and_no_kernel_and_the_next_one_works(book: Path) -> None:
    source = "import os, time\nopen('part', 'w').write(str(os.getpid()))\nos.rename('part', 'pid')\n"
    path = set_cell(book, f"{source}time.sleep(120)")
    before = path.read_bytes()
    command = [sys.executable, "-m", "tools.execute", "01", "--root", str(book)]
    process = subprocess.Popen(command, cwd=notebooks.ROOT, stderr=subprocess.DEVNULL)
    pid = path.parent / "pid"
    try:
        wait_for(pid.exists)
        with pytest.raises(BookError, match=f"process {process.pid} is executing notebooks"):
            execute.main(["01", "--root", str(book)])
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kernel = Path("/proc") / pid.read_text()
    wait_for(lambda: not kernel.exists() or "zombie" in (kernel / "status").read_text())
    assert path.read_bytes() == before
    set_cell(book, "scale")
    execute.main(["01", "--root", str(book)])
    assert "01-one" not in {path.stem for path in Book(book).stale}


def test_a_notebook_edited_during_its_run_is_kept(book: Path) -> None:
    source = "from pathlib import Path\np = Path('01-one.ipynb')\np.write_text(p.read_text() + ' ')\n0"
    path = set_cell(book, source)
    before = path.read_bytes()
    with pytest.raises(BookError, match=r"01-one\.ipynb was edited while it ran"):
        execute.main(["01", "--root", str(book)])
    assert path.read_bytes() == before + b" "


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("sead=1", "a.ipynb has no parameter 'sead'; it has profile, size, seed"),
        ("profile=fast", "profile=fast: no such profile; known are quick, full"),
        ("seed=1.5", "seed=1.5: seed must be of type int"),
        ("seed=None", "seed=None: seed must be of type int, like seed=0"),
        ("size=big", "size=big: size must be of type int, like size=64"),
        ("colour=64", "colour=64: colour must be of type bool, like colour=False"),
        ("image=my.png", r"image=my.png: no such file \(looked in .*camera"),
    ],
)
def test_a_wrong_parameter_is_refused(given: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BookError, match=message):
        execute.overrides([given], VALUES, "a.ipynb", [tmp_path])


def test_right_parameters_get_their_types(tmp_path: Path) -> None:
    (tmp_path / "my own.png").touch()
    given = ["size=None", "seed=3", "scale=2", "image=my own.png", "device=cuda:1"]
    wanted = {"size": None, "seed": 3, "scale": 2, "image": str(tmp_path / "my own.png"), "device": "cuda:1"}
    assert execute.overrides(given, VALUES, "a.ipynb", [tmp_path]) == wanted
