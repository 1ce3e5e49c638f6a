"""Workflows, issue forms and the citation are valid, and say what the course says."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from course_lib.chapters import CHAPTERS
from course_lib.paths import repo_root

ROOT = repo_root()
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CONFIG = ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"
FORMS = sorted(set((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")) - {CONFIG})
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PUBLISHING = {
    "actions/deploy-pages": {"pages": "write", "id-token": "write"},
    "gh release create": {"contents": "write"},
}
SCHEMAS = {
    "github-workflows": WORKFLOWS,
    "github-issue-forms": FORMS,
    "github-issue-config": [CONFIG],
    "citation-file-format": [ROOT / "CITATION.cff"],
}


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_valid(schema):
    assert SCHEMAS[schema]
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*command, *SCHEMAS[schema]], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_supported_python_on_three_systems():
    matrix = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["unit"]["strategy"][
        "matrix"
    ]
    supported = SpecifierSet(PROJECT["requires-python"])
    known = [f"3.{minor}" for minor in range(30)]
    assert matrix["python"] == [each for each in known if supported.contains(f"{each}.5")]
    assert [name.partition("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_little_and_ends(path):
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"] is True
    for job in workflow["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 60
        *before, last = [step.get("uses", step.get("run")) for step in job["steps"]]
        needed = next((may for how, may in PUBLISHING.items() if last.startswith(how)), {})
        assert job.get("permissions", {}) == needed
        # who may publish runs nothing else
        assert not needed or before in ([], ["actions/download-artifact@v5"])
    for step in steps(workflow):
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_workflows_and_the_hook_use_the_commands_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    commands = [step.get("run", "") for path in WORKFLOWS for step in steps(read(path))]
    (hook,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    (lint,) = hook["hooks"]
    assert (hook["repo"], lint["entry"]) == ("local", "make lint")
    named = set(re.findall(r"^make ([a-z-]+)", "\n".join([*commands, lint["entry"]]), re.M))
    assert named <= targets
    assert {"lint", "types", "unit", "check-notebooks", "lock", "test"} <= named


def test_the_forms_ask_for_the_chapters_that_are_there():
    written = [each.name for each in CHAPTERS if each.written]
    asked = [part for form in FORMS for part in read(form)["body"] if part.get("id") == "chapter"]
    assert len(asked) == 2
    for part in asked:
        assert part["attributes"]["options"][:-1] == written
