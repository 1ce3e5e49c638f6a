"""A bundle that somebody changed on its way: refused before anything of it is run or copied."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from course_lib.setup.bundle import installer
from tests.setup.bundle.test_bundle import (  # noqa: F401  (fixtures)
    _only_the_shelf,
    checkout,
    made,
    shelf,
    stick,
)
from tests.setup.shelf import wheel

PAGE = "course/notebooks/01.ipynb"
EVIL = "import pathlib\npathlib.Path({!r}).touch()\n"


def a_wheel(out, name="alpha"):
    return next((out / "wheels").glob(f"{name}-1.0*"))


def flip(path):
    content = path.read_bytes()
    path.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])


def move_and_link(out, name):
    away = out.with_name("away")
    (out / name).rename(away)
    (out / name).symlink_to(away)


def in_place_of(path, make):
    path.unlink()
    make(path)


def listing(out, change):
    path = out / "SHA256SUMS"
    path.write_bytes(change(path.read_bytes()))


def relisted(out, name, digest):
    kept = [line for line in (out / "SHA256SUMS").read_text().splitlines() if line[66:] != name]
    (out / "SHA256SUMS").write_text("\n".join([*kept, f"{digest}  {name}", ""]))


TAMPERED = {
    "a changed wheel": lambda out: flip(a_wheel(out)),
    "a missing wheel": lambda out: a_wheel(out).unlink(),
    "an added wheel": lambda out: wheel(out / "wheels", "alpha", "1.0.post1"),
    "another build of a wheel": lambda out: shutil.copy(
        a_wheel(out), out / "wheels" / "alpha-1.0-9-py3-none-any.whl"
    ),
    "a wheel in the place of another": lambda out: shutil.copy(
        a_wheel(out, "helper"), a_wheel(out)
    ),
    "a link in place of a wheel": lambda out: move_and_link(out, f"wheels/{a_wheel(out).name}"),
    "the wheels elsewhere": lambda out: move_and_link(out, "wheels"),
    "a changed file": lambda out: flip(out / "course" / "pyproject.toml"),
    "a missing file": lambda out: (out / PAGE).unlink(),
    "an added file": lambda out: (out / "course" / "sitecustomize.py").write_text(""),
    "an added link": lambda out: (out / "course" / "more").symlink_to("/etc/passwd"),
    "an added folder of links": lambda out: (out / "course" / "more").symlink_to("/etc"),
    "a link in place of a file": lambda out: move_and_link(out, PAGE),
    "a link in place of a folder": lambda out: move_and_link(out, "course/notebooks"),
    "a link that leads round": lambda out: in_place_of(
        out / PAGE, lambda path: path.symlink_to(path.name)
    ),
    "a folder in place of a file": lambda out: in_place_of(out / PAGE, Path.mkdir),
    "a pipe in place of a file": lambda out: in_place_of(out / PAGE, os.mkfifo),
    "a pipe in place of the list": lambda out: in_place_of(out / "bundle.json", os.mkfifo),
    "a changed installer": lambda out: flip(out / "install.py"),
    "a changed bundle.json": lambda out: (out / "bundle.json").write_text("{}"),
    "bundle.json is no JSON": lambda out: (out / "bundle.json").write_text("[" * 99_999),
    "bundle.json gone": lambda out: (out / "bundle.json").unlink(),
    "no sums": lambda out: (out / "SHA256SUMS").unlink(),
    "sums that are none": lambda out: listing(out, lambda data: b"\xff\x00" + data),
    "sums cut short": lambda out: listing(out, lambda data: data[:-70]),
    "empty sums": lambda out: listing(out, lambda data: b""),
    "a line gone": lambda out: listing(out, lambda data: b"\n".join(
        each for each in data.split(b"\n") if PAGE.encode() not in each)),
    "a line twice": lambda out: listing(out, lambda data: data + data.splitlines(True)[0]),
    "another sum": lambda out: relisted(out, PAGE, "0" * 64),
    "a name that leads out": lambda out: relisted(out, "course/../../x", "0" * 64),
    "an absolute name": lambda out: relisted(out, "/etc/passwd", "0" * 64),
    "a name for Windows": lambda out: relisted(out, "course/C:\\x", "0" * 64),
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERED)
def test_it_is_refused_before_anything_is_done(stick, tmp_path, how):  # noqa: F811
    TAMPERED[how](stick)
    command = [sys.executable, "-I", stick / "install.py", tmp_path / "installed", "--no-open"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert re.fullmatch(r"(Checking \d+ packages and the course \.\.\.\n)?", done.stdout)
    assert done.stderr.startswith("course: ")
    assert done.stderr.count("\n") == 1
    assert "SHA256SUMS" in done.stderr or "missing or damaged" in done.stderr
    assert not (tmp_path / "installed").exists()


@pytest.mark.parametrize("start", ["INSTALL.sh", "install.py"])
def test_modules_beside_the_installer_are_not_run(stick, tmp_path, start):  # noqa: F811
    """Python would look in the installer's folder, and `python -m` in the current one."""
    ran, where = tmp_path / "ran", tmp_path / "installed"
    for name in ("argparse", "hashlib", "json", "venv", "pip", "sitecustomize", "course_lib"):
        (stick / f"{name}.py").write_text(EVIL.format(str(ran)))
    for name in ("course/.DS_Store", "course/notebooks/._01.ipynb", "wheels/Thumbs.db"):
        (stick / name).write_text("a computer's own")
    if start == "INSTALL.sh":
        flip(a_wheel(stick))
    command = ["sh", start] if start == "INSTALL.sh" else [sys.executable, start]
    done = subprocess.run(
        [*command, where, "--no-open"], cwd=stick, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": "", "PIP_FIND_LINKS": ""}, timeout=300,
    )  # fmt: skip
    assert not ran.exists()
    if start == "INSTALL.sh":
        assert "missing or damaged" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert not (where / ".DS_Store").exists()


@pytest.mark.slow
def test_what_changes_after_the_check_is_not_installed(stick, tmp_path, monkeypatch, capsys):  # noqa: F811
    """On a share that somebody else writes to: pip and the copying compare what they read."""
    monkeypatch.setattr(installer, "HERE", stick)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    real = installer.check_all

    def then(change):
        def check(*given):
            real(*given)
            change()

        monkeypatch.setattr(installer, "check_all", check)

    then(lambda: flip(stick / "course" / "pyproject.toml"))
    assert installer.main([str(tmp_path / "a"), "--no-open"]) == 1
    assert "course/pyproject.toml changes while it is read" in capsys.readouterr().err
    flip(stick / "course" / "pyproject.toml")

    (torch,) = (stick / "wheels").glob("torch-*")  # the one that the lock has no hash of

    def other():
        with zipfile.ZipFile(torch, "a") as archive:
            archive.writestr("torch/evil.py", "")

    then(other)
    monkeypatch.setattr(installer, "bootstrap_of", fresh)
    assert installer.main([str(tmp_path / "b"), "--no-open"]) == 1
    assert "A package is not the one" in capsys.readouterr().err
    assert not list((tmp_path / "b").rglob("evil.py"))


def fresh(target):
    """The set-up module of the copied course, not of this checkout."""
    spec = spec_from_file_location("copied", target / "course_lib" / "setup" / "bootstrap.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_pipe_or_a_file_without_an_end_in_place_of_the_sums(stick, tmp_path):  # noqa: F811
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        in_place_of(stick / "SHA256SUMS", make)
        command = [sys.executable, "-I", stick / "install.py", tmp_path / "installed", "--check"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, "SHA256SUMS is missing or damaged" in done.stderr) == (1, True)


MINE = installer.this_target()


@pytest.mark.parametrize("change", [
    {"targets": {MINE: 3}}, {"targets": {MINE: [["x"]]}}, {"targets": {"\x1b[31m": []}},
    {"space": "much"}, {"space": float("inf")}, {"space": None}, {"torch": []}, {"torch": "x"},
])  # fmt: skip
def test_a_list_that_says_something_else_is_one_line(stick, tmp_path, change):  # noqa: F811
    about = json.loads((stick / "bundle.json").read_text())
    (stick / "bundle.json").write_text(json.dumps(about | change))
    relisted(stick, "bundle.json", installer.digest_of(stick / "bundle.json"))
    command = [sys.executable, "-I", stick / "install.py", tmp_path / "installed", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("course: ")
    assert done.stderr.rstrip("\n").isprintable()
