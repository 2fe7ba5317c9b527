"""The workflows: valid, safe, and no more than ways to call make."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tools.notebooks import ROOT

FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = {path.name: yaml.safe_load(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.yml"))}

# What a job may do beyond reading the code.
GRANTS = {
    ("pages.yml", "build"): {"contents": "read", "pages": "read"},
    ("pages.yml", "colab"): {"contents": "write"},
    ("pages.yml", "deploy"): {"pages": "write", "id-token": "write"},
}


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, workflow in WORKFLOWS.items():
        for job, content in workflow["jobs"].items():
            yield name, job, content


def triggers(name: str) -> dict[str, Any]:
    found: dict[str, Any] = WORKFLOWS[name][True]  # YAML takes `on` for a yes
    return found


def test_workflows_follow_githubs_schema() -> None:
    for schema, files in {
        "vendor.github-workflows": [str(FOLDER / name) for name in WORKFLOWS],
        "vendor.dependabot": [str(ROOT / ".github" / "dependabot.yml")],
    }.items():
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_nothing_is_unsafe() -> None:
    """Actions by their commits, no credentials left behind, no trigger that strangers can misuse."""
    command = [
        str(Path(sys.executable).with_name("zizmor")),
        "--offline",
        "--no-progress",
        str(FOLDER.parent),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_nobody_may_do_more_than_the_job_needs() -> None:
    assert all(workflow["permissions"] == {} for workflow in WORKFLOWS.values())
    for name, job, content in jobs():
        assert content["permissions"] == GRANTS.get((name, job), {"contents": "read"}), f"{name}: {job}"
        assert content["timeout-minutes"] <= 60, f"{name}: {job}"
    assert not [path.name for path in FOLDER.iterdir() if "secrets." in path.read_text("utf-8")]


def test_every_step_is_one_call_of_a_target_that_exists() -> None:
    makefiles = {"": ROOT / "Makefile", "-C course ": ROOT / "course" / "Makefile"}
    targets = {
        place + target
        for place, makefile in makefiles.items()
        if makefile.exists()  # that of the course is not published
        for target in re.findall(r"^\.PHONY: ([a-z-]+)$", makefile.read_text("utf-8"), re.MULTILINE)
    }
    sessions = re.findall(r"^@nox\.session.*\ndef (\w+)", (ROOT / "noxfile.py").read_text("utf-8"), re.M)
    calls = [step["run"].strip() for _, _, job in jobs() for step in job["steps"] if "run" in step]
    assert calls
    for call in calls:
        match = re.fullmatch(r"make ((?:-C course )?[a-z-]+)(?: UPGRADE=1| LIBRARIES=(\w+))?", call)
        assert match, call
        assert match[1] in targets or (match[1].startswith("-C") and not makefiles["-C course "].exists()), (
            call
        )
        assert match[2] is None or match[2] in sessions, call


def test_every_python_that_the_package_allows_is_tested() -> None:
    content = WORKFLOWS["test.yml"]["jobs"]
    (whole,) = filter(None, (step.get("with", {}).get("python-version") for step in content["test"]["steps"]))
    tested = {*content["package"]["strategy"]["matrix"]["python"], whole}
    makefile = (ROOT / "Makefile").read_text("utf-8")
    lowest, highest = re.findall(r"\(3, (\d+)\) <= sys\.version_info\[:2\] <= \(3, (\d+)\)", makefile)[0]
    assert tested == {f"3.{minor}" for minor in range(int(lowest), int(highest) + 1)}


def test_main_alone_is_published_and_only_when_tested() -> None:
    build, deploy = WORKFLOWS["pages.yml"]["jobs"]["build"], WORKFLOWS["pages.yml"]["jobs"]["deploy"]
    assert [step["run"] for step in build["steps"] if "run" in step] == ["make test", "make site"]
    assert triggers("pages.yml").keys() == {"push", "workflow_dispatch"}
    assert triggers("pages.yml")["push"] == {"branches": ["main"]}
    assert (deploy["needs"], deploy["if"]) == ("build", "github.ref == 'refs/heads/main'")


def test_the_weekly_run_lifts_the_pin_of_torch() -> None:
    """Else its bound would be tested nowhere; uv reads the pin from pyproject.toml unless told not to."""
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]
    assert [pin.partition("==")[0] for pin in pins["constraint-dependencies"]] == ["torch"]
    for name in ("newest", "lowest"):
        steps = WORKFLOWS["weekly.yml"]["jobs"][name]["steps"]
        assert [step["env"] for step in steps if "env" in step] == [{"UV_NO_CONFIG": "1"}]
