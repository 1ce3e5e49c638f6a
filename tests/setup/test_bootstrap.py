"""The first command: what it does when all is well, and its one line when something is not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from course_lib.paths import repo_root
from course_lib.setup import bootstrap


@pytest.fixture
def clone(tmp_path):
    """The files that the set-up reads, in a folder of their own."""
    root = tmp_path / "clone with spaces"
    (root / "course_lib" / "setup").mkdir(parents=True)
    for name in ("Makefile", *bootstrap.INPUTS):
        shutil.copy(repo_root() / name, root / name)
    for name in ("__init__.py", "setup/__init__.py", "setup/bootstrap.py"):
        shutil.copy(repo_root() / "course_lib" / name, root / "course_lib" / name)
    return root


def run(command, folder, **environment):
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def one_line(text):
    assert "Traceback" not in text
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]


@pytest.mark.parametrize("version", [(2, 7), (3, 10), (3, 14)])
def test_another_python_is_refused_with_what_to_do(version):
    with pytest.raises(bootstrap.SetupError, match=r"needs 3\.11 to 3\.13.*PYTHON="):
        bootstrap.check_python(version)


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_the_tested_pythons_are_accepted(version):
    bootstrap.check_python(version)


def test_no_python_is_one_line(clone):
    answer = run(["make", "--no-print-directory", "install", "PYTHON="], clone)
    assert answer.returncode != 0
    assert "no Python 3.11, 3.12 or 3.13 was found" in answer.stderr.splitlines()[0]
    assert "Traceback" not in answer.stderr


def test_too_little_space_is_said_before_the_download(tmp_path):
    with pytest.raises(bootstrap.SetupError, match=r"GB free in .* needs .*TORCH=cpu"):
        bootstrap.check_space(tmp_path, 10**18)


def test_without_a_network_one_line_says_so_and_the_next_try_begins_afresh(clone):
    """The real pip against a closed port of this machine."""
    answer = run(
        [sys.executable, "-m", "course_lib.setup.bootstrap"],
        clone,
        PIP_CONFIG_FILE=os.devnull,
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_RETRIES="0",
        PIP_FIND_LINKS="",
        PYTHONPATH="",
    )
    assert answer.returncode == 1
    line = one_line(answer.stderr)
    assert "package index can't be reached" in line
    log = Path(line.rpartition("Full log: ")[2].rstrip(")"))
    assert "from versions: none" in log.read_text()
    assert not (clone / ".venv" / "course-installed").exists()


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", "disk is full"),
        ("SSLError(CERTIFICATE_VERIFY_FAILED)", "certificate"),
        ("[Errno 13] Permission denied: '/usr/lib'", "folder of your own"),
        ("Collecting x\nERROR: something else", "ERROR: something else"),
        ("", "without an error message"),
    ],
)
def test_what_pip_says_becomes_one_line(log, expected):
    assert expected in bootstrap.explain(log, "default")


def test_a_second_run_installs_nothing(tmp_path, monkeypatch):
    """With the stamp of the same requirements, not even the venv's Python is looked for."""
    venv = tmp_path / ".venv"
    venv.mkdir()
    stamp = bootstrap.digest("cpu", sys.version.split()[0])
    (venv / "course-installed").write_text(stamp)
    bootstrap.install(venv, "cpu")
    assert [path.name for path in venv.iterdir()] == ["course-installed"]


def test_changed_requirements_or_another_build_install_again():
    python = sys.version.split()[0]
    assert bootstrap.digest("cpu", python) != bootstrap.digest("default", python)
    assert bootstrap.digest("cpu", python) != bootstrap.digest("cpu", "3.12.0")


def test_the_cpu_build_is_a_further_index_not_another_list():
    default, cpu = (
        bootstrap.pip_commands(Path("python"), torch)[0] for torch in ("default", "cpu")
    )
    added = [word for word in cpu if word not in default]
    assert added == ["--extra-index-url", bootstrap.CPU_INDEX]
    assert default[default.index("-c") : default.index("-c") + 2] == ["-c", "constraints.txt"]
