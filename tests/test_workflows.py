"""The workflows: valid, safe, and no more than ways to call make."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.notebooks import ROOT

FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
NAMES = [path.name for path in WORKFLOWS]

# What a job may be given beyond reading the code, and why it is that job which needs it.
GRANTS = {
    ("pages.yml", "build"): {"contents": "read", "pages": "read"},
    ("pages.yml", "deploy"): {"pages": "write", "id-token": "write"},
}


def workflow(name: str) -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load((FOLDER / name).read_text("utf-8"))
    return content


def jobs(name: str) -> dict[str, Any]:
    found: dict[str, Any] = workflow(name)["jobs"]
    return found


def steps(key: str) -> Iterator[tuple[str, str]]:
    """Each step of that kind, `run` or `uses`, with the name of its workflow."""
    for name in NAMES:
        for job in jobs(name).values():
            yield from ((name, step[key]) for step in job["steps"] if key in step)


def triggers(name: str) -> dict[str, Any]:
    found: dict[str, Any] = workflow(name)[True]  # YAML takes `on` for a yes
    return found


def tool(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


def zizmor(path: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("zizmor")
    return subprocess.run(
        [str(program), "--offline", "--no-progress", str(path)], capture_output=True, text=True, check=False
    )


def test_workflows_follow_githubs_schema() -> None:
    done = tool(
        "check_jsonschema", "--builtin-schema", "vendor.github-workflows", *(str(path) for path in WORKFLOWS)
    )
    assert done.returncode == 0, done.stdout
    updates = str(ROOT / ".github" / "dependabot.yml")
    done = tool("check_jsonschema", "--builtin-schema", "vendor.dependabot", updates)
    assert done.returncode == 0, done.stdout


def test_zizmor_finds_nothing_unsafe() -> None:
    done = zizmor(ROOT / ".github")
    assert done.returncode == 0, done.stdout


def test_zizmor_would_have_found_something(tmp_path: Path) -> None:
    """The check can fail: a workflow with all rights, and an action by its name alone."""
    unsafe = tmp_path / ".github" / "workflows" / "unsafe.yml"
    unsafe.parent.mkdir(parents=True)
    text = (FOLDER / "weekly.yml").read_text("utf-8")
    unsafe.write_text(re.sub(r"@[0-9a-f]{40} # \S+", "@v6", text.replace("permissions: {}", "")), "utf-8")
    done = zizmor(unsafe)
    assert done.returncode != 0
    assert "unpinned-uses" in done.stdout


def test_every_step_is_one_call_of_make() -> None:
    calls = list(steps("run"))
    assert calls
    for name, call in calls:
        assert re.fullmatch(r"make [a-z-]+", call.strip()), f"{name}: {call}"


def test_every_target_that_is_called_exists() -> None:
    targets = set(re.findall(r"^\.PHONY: ([a-z-]+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    missing = [f"{name}: {call}" for name, call in steps("run") if call.split()[1] not in targets]
    assert not missing


def test_actions_are_pinned_by_commit_each_by_one() -> None:
    pins: dict[str, set[str]] = {}
    for name, action in steps("uses"):
        who, _, commit = action.partition("@")
        assert re.fullmatch(r"[0-9a-f]{40}", commit), f"{name}: {action}"
        pins.setdefault(who, set()).add(commit)
    assert all(len(commits) == 1 for commits in pins.values()), "one version of each action"
    text = "".join(path.read_text("utf-8") for path in WORKFLOWS)
    assert text.count("uses:") == len(re.findall(r"uses: \S+@[0-9a-f]{40} # v\d+\.\d+\.\d+\n", text))


@pytest.mark.parametrize("name", NAMES)
def test_nobody_may_more_than_the_job_needs(name: str) -> None:
    assert workflow(name)["permissions"] == {}
    for job, content in jobs(name).items():
        assert content["permissions"] == GRANTS.get((name, job), {"contents": "read"})
        assert content["timeout-minutes"] <= 60
        for step in content["steps"]:
            if "actions/checkout@" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_what_strangers_send_in_meets_no_secret() -> None:
    for name in NAMES:
        text = (FOLDER / name).read_text("utf-8")
        assert "secrets." not in text
        assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(triggers(name)), name


def test_the_pythons_tested_are_those_that_the_package_allows() -> None:
    tested = jobs("test.yml")["test"]["strategy"]["matrix"]["python"]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    lowest, highest = re.findall(r"\(3, (\d+)\) <= sys\.version_info\[:2\] <= \(3, (\d+)\)", makefile)[0]
    assert tested == [f"3.{minor}" for minor in range(int(lowest), int(highest) + 1)]


def test_main_alone_is_published() -> None:
    deploy = jobs("pages.yml")["deploy"]
    assert triggers("pages.yml")["push"] == {"branches": ["main"]}
    assert deploy["needs"] == "build"
    assert deploy["if"] == "github.ref == 'refs/heads/main'"
    assert "pull_request" not in triggers("pages.yml")


def test_a_pull_request_can_be_looked_at() -> None:
    preview = jobs("test.yml")["preview"]
    assert preview["if"] == "github.event_name == 'pull_request'"
    kept = preview["steps"][-1]
    assert kept["uses"].startswith("actions/upload-artifact@")
    assert kept["with"]["path"] in (ROOT / "Makefile").read_text("utf-8")


def test_the_weekly_run_tries_libraries_colab_and_links() -> None:
    called = {call.split()[1] for name, call in steps("run") if name == "weekly.yml"}
    assert called >= {"test-upgraded", "test-colab", "linkcheck"}
    assert list(triggers("weekly.yml")) == ["schedule", "workflow_dispatch"]


def test_the_weekly_run_lifts_the_pin_of_torch() -> None:
    """Else its bound would be tested nowhere; uv reads the pin from pyproject.toml unless told not to."""
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]
    assert [pin.partition("==")[0] for pin in pins["constraint-dependencies"]] == ["torch"]
    for name in ("newest", "lowest"):
        assert jobs("weekly.yml")[name]["steps"][-1]["env"] == {"UV_NO_CONFIG": "1"}
