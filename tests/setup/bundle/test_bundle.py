"""The bundle: every wheel and no other, whole or refetched, and an installation without a network.

The real pip against a folder of small wheels of our own.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from course_lib.errors import UnknownNameError
from course_lib.paths import repo_root
from course_lib.setup import bundle
from course_lib.setup.bundle import installer, making, scripts
from course_lib.setup.bundle import wheels as wheels_module
from course_lib.setup.bundle.systems import PYTHONS, SYSTEMS, chosen, this_system
from course_lib.setup.bundle.wheels import Target, collect
from tests.setup.hosting.colab import git
from tests.setup.shelf import BACKEND, PROJECT, lock, wheel

HERE = ".".join(map(str, sys.version_info[:2]))
LOCKED = (
    "alpha==1.0", "builder==80.0", "checker==1.0",
    "d2l==1.0.3", "gadget==1.0", "helper==1.0",
    "old-python==1.0 ; python_full_version < '3.12'",
    "only-windows==1.0 ; sys_platform == 'win32'", "speed==1.0", "torch==2.14.1",
)  # fmt: skip


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """What the index is to the real pip in these tests."""
    folder = tmp_path_factory.mktemp("shelf")
    for name in ("alpha", "helper", "gadget", "speed", "checker", "only-windows", "old-python"):
        wheel(folder, name, "1.0")
    wheel(folder, "alpha", "2.0")
    wheel(folder, "builder", "80.0")
    wheel(folder, "torch", "2.14.1+cpu")
    wheel(folder, "d2l", "1.0.3", ["numpy==1.23.5"])
    return folder


@pytest.fixture(scope="module", autouse=True)
def _only_the_shelf(shelf):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(shelf))
        yield


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, shelf):
    """A small course under git, with a file that is not part of it."""
    root = tmp_path_factory.mktemp("author") / "checkout"
    (root / "course_lib" / "setup").mkdir(parents=True)
    for name in ("__init__.py", "setup/__init__.py", "setup/bootstrap.py"):
        (root / "course_lib" / name).write_bytes((repo_root() / "course_lib" / name).read_bytes())
    (root / "notebooks").mkdir()
    (root / "notebooks" / "01.ipynb").write_text("a page")
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "backend.py").write_text(BACKEND)
    (root / "requirements.lock").write_text(lock(shelf, *LOCKED))
    (root / "handouts").mkdir()
    for name in ("sheets", "teacher", "answers"):
        (root / "handouts" / name).mkdir()
        (root / "handouts" / name / "04.html").write_text(name)
    (root / "handouts" / "index.html").write_text("leads to all of them")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    (root / "scratch.txt").write_text("the author's own")
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory, checkout):
    return bundle.make(tmp_path_factory.mktemp("made") / "stick", root=checkout)


@pytest.fixture
def stick(made, tmp_path):
    """A copy of a bundle, as on a stick."""
    return Path(shutil.copytree(made, tmp_path / "stick"))


def names(paths):
    return sorted("-".join(Path(path).name.split("-")[:2]) for path in paths)


def target(system="linux-x86_64", python="3.12", torch="cpu"):
    return Target(SYSTEMS[system], python, torch)


@pytest.fixture
def listed(shelf, tmp_path):
    """Writes a lock of entries whose wheels are on the shelf."""

    def write(*entries):
        file = tmp_path / "requirements.lock"
        file.write_text(lock(shelf, *entries))
        return file

    return write


def test_the_markers_of_the_other_system_decide(tmp_path, listed):
    """pip would read them as if for the machine that it runs on."""
    file = listed(*(each for each in LOCKED if "torch" not in each))
    linux = names(collect(tmp_path, target(), file))
    assert linux == ["alpha-1.0", "builder-80.0", "checker-1.0", "d2l-1.0.3", "gadget-1.0",
                     "helper-1.0", "speed-1.0"]  # fmt: skip
    windows = names(collect(tmp_path, target("windows-x86_64"), file))
    assert set(windows) - set(linux) == {"only_windows-1.0"}
    older = names(collect(tmp_path, target(python="3.11"), file))
    assert set(older) - set(linux) == {"old_python-1.0"}


def test_the_cpu_build_brings_no_cuda_and_the_default_one_does(tmp_path, monkeypatch):
    pypi, file = tmp_path / "pypi", tmp_path / "requirements.lock"
    wheel(pypi, "torch", "2.14.1")
    wheel(pypi, "nvidia-big", "1.0")
    file.write_text(lock(pypi, "torch==2.14.1", "nvidia-big==1.0 ; sys_platform == 'linux'"))
    assert names(collect(tmp_path / "a", target(), file)) == ["torch-2.14.1+cpu"]
    monkeypatch.setenv("PIP_FIND_LINKS", str(pypi))
    big = names(collect(tmp_path / "a", target(torch="default"), file))
    assert big == ["nvidia_big-1.0", "torch-2.14.1"]
    assert list(target("macos-arm64").wanted(file)) == ["torch==2.14.1"]


def test_the_wheel_built_for_the_system_comes_before_the_one_for_any(tmp_path, listed, shelf):
    """A target's wheels are the same whatever other targets brought into the folder."""
    both = [shutil.copy(path, tmp_path) for path in shelf.glob("alpha-1.0-*")]
    own = shutil.copy(both[0], tmp_path / "alpha-1.0-cp312-cp312-win_amd64.whl")
    assert collect(tmp_path, target("windows-x86_64"), listed("alpha==1.0")) == [own]
    assert collect(tmp_path, target(), listed("alpha==1.0")) == [Path(both[0])]


def test_what_is_missing_is_named(tmp_path, monkeypatch, listed):
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(bundle.BundleError, match=r"linux-x86_64-3.12.*goes on from here.*alpha"):
        collect(tmp_path / "a", target(), listed("alpha==1.0"))
    with pytest.raises(
        bundle.BundleError, match=r"CPU build for .* can't be fetched.*--torch default"
    ):
        collect(tmp_path / "a", target(), listed("torch==2.14.1"))
    assert list((tmp_path / "a").iterdir()) == [], "nothing half-fetched is left"


def test_a_wheel_that_is_not_the_locked_one_is_refused(tmp_path, monkeypatch, listed, shelf):
    file, other = listed("alpha==1.0"), tmp_path / "other"
    wheel(other, "alpha", "1.0", ["something-else"])
    monkeypatch.setenv("PIP_FIND_LINKS", str(other))
    with pytest.raises(bundle.BundleError, match="DO NOT MATCH THE HASHES"):
        collect(tmp_path / "a", target(), file)
    wheel(tmp_path / "a", "alpha", "1.0", ["something-else"])  # nor is it taken from the folder
    with pytest.raises(bundle.BundleError, match="DO NOT MATCH THE HASHES"):
        collect(tmp_path / "a", target(), file)
    assert list((tmp_path / "a").iterdir()) == []


@pytest.mark.parametrize(("systems", "pythons"), [(["linux"], []), ([], ["3.10"])])
def test_other_machines_are_refused_with_the_known_ones(systems, pythons):
    with pytest.raises(UnknownNameError, match="there is one for"):
        list(chosen(systems, pythons))


def test_by_default_it_is_for_this_system_and_every_python():
    assert this_system() in SYSTEMS
    assert HERE in PYTHONS
    assert [(s.name, python) for s, python in chosen([], [])] == [
        (this_system(), p) for p in PYTHONS
    ]
    assert [python for _, python in chosen([], ["3.12"])] == ["3.12"]


def test_the_oldest_bug_fix_release_that_will_do_is_found(tmp_path, shelf):
    strict = wheel(tmp_path, "strict", "1.0", python=">=3.11.5")
    assert wheels_module.oldest_python([strict], "3.11") == "3.11.5"
    assert wheels_module.oldest_python([strict, *shelf.glob("alpha*")], "3.12") == "3.12.0"
    with pytest.raises(bundle.BundleError, match=r"No Python 3\.11"):
        wheels_module.oldest_python([wheel(tmp_path, "new", "1.0", python=">=3.12")], "3.11")


def sums_hold(out):
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"],
        cwd=out, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode == 0, done.stdout


def test_a_bundle_holds_everything_and_says_its_checksums(stick, tmp_path):
    out = stick
    inside = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert inside >= {
        "INSTALL.sh", "INSTALL.bat", "install.py", "README.html", "SHA256SUMS", "bundle.json",
        "course/notebooks/01.ipynb", "course/pyproject.toml", "handouts/sheets/04.html",
    }  # fmt: skip
    assert {each for each in inside if each.startswith("handouts")} == {"handouts/sheets/04.html"}
    assert "course/scratch.txt" not in inside, "only what git keeps belongs to the course"
    expected = ["alpha-1.0", "builder-80.0", "checker-1.0", "d2l-1.0.3", "gadget-1.0", "helper-1.0",
                "old_python-1.0", "speed-1.0", "torch-2.14.1+cpu"]  # fmt: skip
    found = names(out.glob("wheels/*.whl"))
    assert found == expected
    assert sums_hold(out) == (True, "")
    page = (out / "README.html").read_text()
    assert page.index("Each machine needs Python 3.13, 3.12 or 3.11") < page.index("What you do")
    assert "<script" not in page
    assert str(tmp_path) not in page


def test_the_teachers_pages_stand_beside_it(made):
    beside = making.beside(made)
    assert {path.name for path in beside.iterdir()} == {
        "sheets",
        "teacher",
        "answers",
        "index.html",
    }


def test_size_and_what_it_lacks_are_said_before_anything_is_fetched(
    tmp_path, checkout, monkeypatch, capsys
):
    def said(*_):
        raise bundle.BundleError(capsys.readouterr().out)

    monkeypatch.setattr(making, "collect", said)
    with pytest.raises(bundle.BundleError, match=r"up to 4\.0 GB") as raised:
        bundle.make(tmp_path / "a", ["linux-x86_64", "windows-x86_64"], root=checkout)
    assert "Not in it: Python. Before the day, install one of 3.11, 3.12, 3.13" in str(raised.value)


def test_a_machine_can_be_checked_before_the_day(stick, tmp_path):
    done = run_installer(stick, tmp_path / "a" / "b", "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Ready to install: Python {HERE}.")
    assert not (tmp_path / "a").exists()
    rewrite(stick, targets={})
    assert run_installer(stick, tmp_path, "--check").returncode == 1


def rewrite(out, **changes):
    """Another bundle.json, truly listed."""
    about = json.loads((out / "bundle.json").read_text())
    (out / "bundle.json").write_text(json.dumps(about | changes))
    making._write_sums(out)


def test_a_second_run_fetches_nothing_and_a_damaged_wheel_again(stick, checkout, monkeypatch):
    out = stick
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("wheels/*.whl")}
    fetched = []
    real = wheels_module._fetch

    def watched(folder, aim, entries, cpu):
        fetched.extend(requirement for requirement, _ in entries)
        real(folder, aim, entries, cpu)

    monkeypatch.setattr(wheels_module, "_fetch", watched)
    bundle.make(out, root=checkout)
    assert fetched == []
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("wheels/*.whl")} == before

    (hurt,) = out.glob("wheels/alpha-1.0*")
    content = hurt.read_bytes()
    hurt.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    assert not sums_hold(out)[0]
    bundle.make(out, root=checkout)
    assert fetched == ["alpha==1.0"]
    assert sums_hold(out)[0]


def test_a_run_that_was_stopped_goes_on(tmp_path, checkout, monkeypatch):
    """Stopped in the middle: the wheels that came stay, and only the rest is fetched."""
    out, real, fetched = tmp_path / "stick", wheels_module._fetch, []

    def stopped(folder, aim, entries, cpu):
        if len(fetched) > 1:
            raise KeyboardInterrupt
        counted(folder, aim, entries, cpu)

    def counted(folder, aim, entries, cpu):
        fetched.extend(requirement for requirement, _ in entries)
        real(folder, aim, entries, cpu)

    monkeypatch.setattr(wheels_module, "AT_ONCE", 3)
    monkeypatch.setattr(wheels_module, "_fetch", stopped)
    with pytest.raises(KeyboardInterrupt):
        bundle.make(out, root=checkout)
    assert fetched == ["torch==2.14.1+cpu", "alpha==1.0", "builder==80.0", "checker==1.0"]
    assert len(list(out.glob("wheels/*.whl"))) == 4

    monkeypatch.setattr(wheels_module, "_fetch", counted)
    bundle.make(out, root=checkout)
    assert len(fetched) == len(set(fetched)), "nothing is fetched twice"
    assert sums_hold(out)[0]


def test_too_little_room_is_said_before_anything_is_fetched(tmp_path, checkout, monkeypatch):
    monkeypatch.setattr(making, "SPACE", {"cpu": 1e18})
    with pytest.raises(bundle.BundleError, match=r"GB free in .* the bundle needs about"):
        bundle.make(tmp_path / "stick", root=checkout)
    assert list((tmp_path / "stick").rglob("*.whl")) == []


def test_handouts_that_are_not_there_are_an_error(tmp_path, checkout):
    with pytest.raises(bundle.BundleError, match="Make the handouts first"):
        bundle.make(tmp_path / "stick", root=checkout, handouts=tmp_path / "nothing")


def run_installer(out, *words, **environment):
    return subprocess.run(
        ["sh", out / "INSTALL.sh", *words],
        env={**os.environ, "PIP_FIND_LINKS": "", "PYTHONPATH": "", **environment},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_the_installer_refuses_what_is_damaged_or_for_another_machine(stick, tmp_path):
    out, where = stick, tmp_path / "installed"
    page = out / "course" / "notebooks" / "01.ipynb"
    page.write_text("another page")
    done = run_installer(out, where, "--no-open")
    assert done.returncode == 1
    assert "course/notebooks/01.ipynb is missing or damaged" in done.stderr
    assert not where.exists()

    mine = installer.this_target()
    rewrite(out, oldest_python={mine: f"{HERE}.39"})
    done = run_installer(out, where, "--no-open")
    assert done.returncode == 1
    assert f"the packages need {HERE}.39 or a later one" in done.stderr

    rewrite(out, targets={"macos-arm64-3.13": []})
    done = run_installer(out, where, "--no-open")
    assert done.returncode == 1
    assert f"This is {mine}; the bundle is for macos-arm64-3.13" in done.stderr


def test_it_installs_without_an_index_and_keeps_what_a_learner_wrote(stick, tmp_path):
    """The real pip in a fresh environment; the second start finds everything done."""
    where = tmp_path / "my course"
    (where / "notebooks").mkdir(parents=True)
    (where / "notebooks" / "01.ipynb").write_text("my answers")
    done = run_installer(stick, where, "--no-open")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Installing: \d+ of about \d+ packages", done.stdout), "it isn't silent"
    python = where / ".venv" / "bin" / "python"
    shown = "import alpha, checker, d2l, helper, torch, course_lib; print(torch.__version__)"
    (where / "elsewhere").mkdir()
    there = subprocess.run(
        [python, "-c", shown], cwd=where / "elsewhere", env={"PATH": ""},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (there.stdout, there.stderr) == ("2.14.1+cpu\n", "")
    assert (where / "notebooks" / "01.ipynb").read_text() == "my answers"
    assert not list((stick / "course").rglob("*.egg-info")), "nothing is written into the bundle"
    assert sums_hold(stick)[0]

    again = run_installer(stick, where, "--no-open")
    assert again.returncode == 0
    assert "Installing" not in again.stdout

    course = where / ".venv" / "bin" / "course"
    course.write_text('#!/bin/sh\necho opened "$@"\n')
    course.chmod(0o755)
    start = ["sh", where / "START.sh", "--port", "1"]
    opened = subprocess.run(start, capture_output=True, text=True, check=True, timeout=60)
    assert opened.stdout == "opened lab --port 1\n"


def test_without_a_fitting_python_the_starter_says_which(stick, tmp_path):
    """Only the shell's own tools are on the path."""
    for tool in ("dirname", "sh"):
        (tmp_path / "tools").mkdir(exist_ok=True)
        (tmp_path / "tools" / tool).symlink_to(shutil.which(tool))
    done = run_installer(stick, PATH=str(tmp_path / "tools"))
    assert done.returncode == 1
    assert done.stderr == (
        "course: Python 3.13, 3.12 or 3.11 was not found. Install it, then run this again.\n"
    )


def test_it_names_the_same_machine_as_the_bundle_does():
    assert installer.this_target() == f"{this_system()}-{HERE}"


@pytest.mark.parametrize("place", ["lib/python3.12/site-packages", "Lib/site-packages"])
def test_packages_are_counted_while_pip_moves_them_about(tmp_path, place):
    """pip renames what it replaces, and the folder that was just seen is gone."""
    packages = tmp_path / place
    for name in ("pip", "pip-1.dist-info", "six-1.dist-info", "torch"):
        (packages / name / "a" / "b").mkdir(parents=True)
    stopped = threading.Event()

    def move_about():
        while not stopped.is_set():
            (packages / "pip").rename(packages / "~ip")
            (packages / "~ip").rename(packages / "pip")

    mover = threading.Thread(target=move_about)
    mover.start()
    try:
        assert {installer.installed(tmp_path) for _ in range(500)} == {2}
    finally:
        stopped.set()
        mover.join()


def test_the_starters_name_every_python(tmp_path):
    scripts.write(tmp_path, {"windows-x86_64-3.12": "3.12.4", "linux-x86_64-3.13": "3.13.0"})
    batch = (tmp_path / "INSTALL.bat").read_bytes()
    assert b"in (3.13 3.12)" in batch
    assert batch.count(b"\r\n") == batch.count(b"\n")
    shell = (tmp_path / "INSTALL.sh").read_text()
    assert "python3.13 python3.12 python3" in shell
    assert "((3, 13), (3, 12))" in shell
    page = (tmp_path / "README.html").read_text()
    assert "Windows, x86_64, with Python 3.12 (3.12.4 or a later 3.12)</li>" in page
    assert "Linux, x86_64, with Python 3.13</li>" in page


@pytest.mark.slow
def test_the_real_course_installs_from_its_bundle_without_a_network(tmp_path, monkeypatch):
    """Gigabytes: needs a package index, and is left out where there is none.

    COURSE_BUNDLE names a bundle that was made before.
    """
    for name in ("PIP_CONFIG_FILE", "PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    made = os.environ.get("COURSE_BUNDLE")
    if not made and "offline" in os.environ.get("PYTHONPATH", ""):
        pytest.skip("needs a package index")
    out = Path(made) if made else bundle.make(tmp_path / "stick", torch="default")
    where = tmp_path / "installed"
    block = str(repo_root() / "tests" / "offline")
    done = run_installer(out, where, "--no-open", PYTHONPATH=block)
    assert done.returncode == 0, done.stderr
    course = where / ".venv" / ("Scripts" if os.name == "nt" else "bin") / "course"
    doctor = subprocess.run(
        [course, "doctor"], cwd=where, env={**os.environ, "PYTHONPATH": block},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert "Ready: every chapter runs on this machine." in doctor.stdout
    assert run_installer(out, where, "--no-open", PYTHONPATH=block).returncode == 0
