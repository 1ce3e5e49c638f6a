"""A release is told the same everywhere: its version, its day, its notes, the name to credit."""

import os
import re
import shutil
import subprocess
import tomllib

import pytest
import yaml

import course_lib
from course_lib import cli
from course_lib.paths import repo_root
from course_lib.publishing.handouts import frame

ROOT = repo_root()
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HEADINGS = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)


def test_one_version_and_one_day(capsys):
    version = course_lib.__version__
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "course_lib.__version__"
    assert PYPROJECT["project"]["license"].startswith(CITATION["license"])
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"course {version}\n"
    released = f"[{CITATION['version']}] - {CITATION['date-released']}"
    assert HEADINGS[:2] == ["[Unreleased]", released]
    assert CITATION["version"] == version


@pytest.mark.skipif(os.name == "nt", reason="the workflow runs on Linux")
def test_the_workflow_takes_the_notes_of_its_tag_and_of_no_other(tmp_path):
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))
    (step,) = [each for each in workflow["jobs"]["build"]["steps"] if each.get("id") == "notes"]
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\nSoon.\n\n## [1.10.0] - 2030-01-02\n\nOne\nline.\n\n"
        "### Added\n\n- An\n  item.\n- Another.\n\n## [1.1.0] - 2030-01-01\n\nOld.\n"
    )

    def run(tag):
        shutil.rmtree(tmp_path / "release", ignore_errors=True)
        command = ["bash", "-e", "-o", "pipefail", "-c", step["run"]]
        environment = {**os.environ, "GITHUB_REF_NAME": tag}
        return subprocess.run(command, cwd=tmp_path, env=environment, timeout=60).returncode

    assert run("v1.10.0") == 0
    notes = (tmp_path / "release" / "notes.md").read_text()
    assert notes == "One line.\n\n### Added\n\n- An item.\n- Another.\n\n"
    assert run("v1.1.0") == 0
    assert run("v1.1") != 0


def test_the_name_to_credit_stands_in_one_place_that_readme_and_licence_name():
    name = frame.credit()
    assert name
    assert name in frame.LICENCE
    for entrance in ("README.md", "LICENSE"):
        assert re.search(
            r"name (in|to credit: see)\s+\[?CITATION\.cff", (ROOT / entrance).read_text()
        )
    kinds = {".md", ".cff", ".toml", ".py", ".yml", ".json", ".typ", ".ipynb", ""}
    tops = [ROOT / each for each in ("course_lib", "notebooks", "data/hotdog_rendered", ".github")]
    texts = [path for top in tops for path in top.rglob("*") if path.suffix in kinds]
    texts += [path for path in ROOT.iterdir() if path.suffix in kinds]
    holding = [
        path.relative_to(ROOT).as_posix()
        for path in texts
        if path.is_file() and name in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert holding == ["CITATION.cff"]
