"""The command line: what it prints, what it returns, and one line when something is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from course_lib import cli
from course_lib.paths import data_dir
from course_lib.setup import lab

HERE = "course_lib.cli"


def test_doctor_says_ready_in_a_complete_checkout(capsys):
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "Ready: every chapter runs on this machine." in out
    assert "PROBLEM" not in out


def test_doctor_finds_what_is_missing_and_says_what_to_do(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.setenv("COURSE_PROFILE", "huge")
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "course data render" in out
    assert "expected 'tiny' or 'full'" in out
    assert "Not ready: 2 problems" in out


def test_data_verify_counts_the_bundled_pictures(capsys):
    assert cli.main(["data", "verify"]) == 0
    count = len(list(data_dir().rglob("*.jpg")))
    assert capsys.readouterr().out.startswith(f"{count} pictures")


def test_an_error_of_ours_is_one_line_without_a_traceback(tmp_path):
    code = (
        f"import sys; from {HERE} import main; sys.exit(main(['notebooks', 'build', '02_hotdg']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("course: There is no chapter '02_hotdg'")
    assert "Did you mean '02_hotdog'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["dance"],
        [],
        ["bench", "nothing"],
        ["data"],
        ["doctor", "--now"],
    ],
)
def test_a_command_that_does_not_exist_shows_the_usage(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    assert "usage: course" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bench", "features", "--now"], "usage: features"),
        (["bench", "training", "--now"], "usage: training"),
        (["bench", "peers", "--now"], "usage: peers"),
        (["bench", "freezing", "--rounds", "3"], "usage: freezing"),
        (["bench", "loading", "--models", "lenet"], "invalid choice: 'lenet'"),
    ],
)
def test_a_benchmark_gets_its_options_and_knows_them(words, said, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The command with which JupyterLab would be started, on a copy in a folder of this test."""
    commands = []
    monkeypatch.setattr(cli.os, "execv", lambda program, command: commands.append(command))
    monkeypatch.setattr(lab, "folder", lambda: tmp_path / "notebooks" / lab.MINE)
    return commands


def test_lab_hands_its_options_to_jupyterlab(started):
    cli.main(["lab", "--no-browser", "--port", "8890"])
    (command,) = started
    assert command[1:3] == ["-m", "jupyterlab"]
    assert command[-3:] == ["--no-browser", "--port", "8890"]
    assert f"--ServerApp.root_dir={lab.folder()}" in command
    assert lab.folder().is_dir()


def test_your_option_replaces_the_one_of_lab(started):
    cli.main(["lab", "--ServerApp.root_dir=/elsewhere"])
    roots = [each for each in started[0] if each.startswith("--ServerApp.root_dir")]
    assert roots == ["--ServerApp.root_dir=/elsewhere"]
    assert not lab.folder().exists()


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_lab_opens_for_root_too(started, monkeypatch, user, allowed):
    """JupyterLab refuses root unless told; anybody else doesn't have it told."""
    monkeypatch.setattr(cli.os, "geteuid", lambda: user)
    cli.main(["lab"])
    assert ("--allow-root" in started[0]) == allowed


def test_lab_asks_nothing_and_calls_nobody(started):
    """JupyterLab's own reading of its settings: what it would ask or fetch is off."""
    from jupyterlab_server.settings_utils import get_settings

    cli.main(["lab"])
    (folder,) = [each for each in started[0] if each.startswith("--LabApp.app_settings_dir=")]
    folder = folder.partition("=")[2]
    schemas = Path(sys.prefix) / "share" / "jupyter" / "lab" / "schemas"
    name = "@jupyterlab/apputils-extension:notification"
    read, _ = get_settings(folder, schemas, folder, schema_name=name, labextensions_path=[])
    ask = read["schema"]["properties"]
    assert ask["fetchNews"]["default"] == "false"
    assert ask["checkForUpdates"]["default"] is False
