"""The first cell, as it stands in the notebooks, with real git and real pip."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from course_lib.paths import repo_root
from course_lib.publishing import addresses, cells
from tests.setup.hosting.colab import REF, REPO, Host, copy_package, installed, publish
from tests.setup.shelf import lock, wheel

CELL = cells.first_cell(addresses.Address(REPO, REF))

PROJECT = """
[project]
name = "small-course"
version = "1"
dependencies = ["torch>=2.9", "numpy>=2.0", "alpha>=1", "beta>=1", "gamma>=1"]
[dependency-groups]
without-dependencies = ["d2l==1.0.3"]
"""
LOCKED = "alpha==1.5 beta==1.0 d2l==1.0.3 gamma==1.0 helper==1.1 numpy==2.4 torch==2.14".split()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A folder of wheels: what the index is to the real pip in these tests."""
    folder = tmp_path_factory.mktemp("wheels")
    for version in ("2.11", "2.14"):
        wheel(folder, "torch", version)
    for version in ("2.1", "2.4"):
        wheel(folder, "numpy", version)
    wheel(folder, "alpha", "1.5", ["torch", "numpy>=2", "helper"])
    wheel(folder, "alpha", "1.6", ["torch", "numpy>=2", "helper"])
    wheel(folder, "helper", "1.1")
    wheel(folder, "helper", "1.2")
    wheel(folder, "beta", "1.0")
    wheel(folder, "beta", "2.0")
    wheel(folder, "gamma", "1.0")
    wheel(folder, "d2l", "1.0.3", ["numpy==1.23.5"])
    return folder


@pytest.fixture(scope="module")
def github(tmp_path_factory, shelf):
    """Where the small course is published: the real hosting room, other requirements."""
    folder = tmp_path_factory.mktemp("github")
    checkout = folder / "checkout"
    (checkout / "notebooks").mkdir(parents=True)
    (checkout / "notebooks" / "readme.txt").write_text("Chapters.")
    for name in ("__init__.py", "errors.py", "paths.py", "profile.py", "text.py", "setup"):
        source, target = repo_root() / "course_lib" / name, checkout / "course_lib" / name
        target.parent.mkdir(exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    (checkout / "pyproject.toml").write_text(PROJECT)
    (checkout / "requirements.lock").write_text(lock(shelf, *LOCKED, "away==1 ; os_name == 'x'"))
    publish(checkout, folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def machine(tmp_path_factory, shelf):
    """A venv as Colab's is: an older torch and numpy, a newer beta than the tested one."""
    folder = tmp_path_factory.mktemp("machine") / "venv"
    make = [sys.executable, "-m", "venv", "--without-pip", folder]
    subprocess.run(make, check=True, timeout=120)
    site = next((folder / "lib").glob("python3.*")) / "site-packages"
    for name in ("pip", "packaging"):
        copy_package(name, site)
    for name in ("torch-2.11", "numpy-2.1", "beta-2.0", "gamma-1.0"):
        with zipfile.ZipFile(shelf / f"{name}-py3-none-any.whl") as archive:
            archive.extractall(site)
    return folder


@pytest.fixture
def host(tmp_path, github, machine, shelf, request):
    """A fresh host with a copy-free use of the venv: what a test installs is taken away again."""
    site = next((machine / "lib").glob("python3.*")) / "site-packages"
    before = set(site.iterdir())
    yield Host(
        tmp_path, github, machine / "bin" / "python", getattr(request, "param", "colab"),
        COURSE_PROFILE="tiny", PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="1",
        PIP_FIND_LINKS=str(shelf),
    )  # fmt: skip
    for new in set(site.iterdir()) - before:
        shutil.rmtree(new)


def one_line(done):
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert done.stdout == ""
    return lines


@pytest.mark.parametrize("host", ["colab", "kaggle"], indirect=True)
def test_it_fetches_the_tag_and_installs_only_what_is_missing(host):
    before = installed(host.python)
    done = host.run(f"{CELL}\nimport alpha, d2l, course_lib\nprint(course_lib.__file__)")
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == f"The course is in {host.checkout}. Installed: alpha, d2l."
    assert said[1] == "Profile tiny, as COURSE_PROFILE says."
    assert said[-1] == str(host.checkout / "course_lib" / "__init__.py")

    after = installed(host.python)
    assert {name: after[name] for name in before} == before, "what was there stays as it was"
    new = {name: version for name, (version, _) in after.items() if name not in before}
    assert new == {"alpha": "1.5", "helper": "1.1", "d2l": "1.0.3"}, "the tested versions"

    again = host.run(CELL, PIP_NO_INDEX="1", PIP_FIND_LINKS="", GIT_CONFIG_GLOBAL=os.devnull)
    assert again.returncode == 0, "a second run, or a restarted runtime, needs no network"
    assert again.stdout.splitlines()[0].endswith("Nothing had to be installed.")
    assert installed(host.python) == after
    assert [path.name for path in host.checkout.parent.iterdir()] == [REF]


def test_on_your_own_machine_it_does_nothing(tmp_path):
    environment = {"PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", CELL], env=environment, cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (addresses.Address(REPO, "v9"), "Remote branch v9 not found"),
        (addresses.Address("someone/private", REF), "does not appear to be a git repository"),
    ],
)
def test_a_wrong_address_is_one_clear_line_and_leaves_nothing(host, address, said):
    (line,) = one_line(host.run(cells.first_cell(address)))
    assert line.startswith("The course could not be fetched from https://github.com/")
    assert "Is the Internet on, the address right and public?" in line
    assert said in line
    left = [path for path in (host.home / "course").rglob("*") if path.is_file()]
    assert left == []


@pytest.mark.parametrize("host", ["colab", "kaggle"], indirect=True)
def test_a_cell_without_an_address_says_so_and_asks_nobody(host):
    (line,) = one_line(host.run(cells.first_cell(None), PATH=""))  # no git to be found
    assert line == "No address is set: write the course's GitHub repository and tag above."
    assert not (host.home / "course").exists()


def test_without_a_network_it_is_one_clear_line(host):
    """github.com is a closed port of this machine here: what git meets with no network."""
    config = host.home / "offline"
    config.write_text('[url "http://127.0.0.1:9/"]\n\tinsteadOf = https://github.com/\n')
    (line,) = one_line(host.run(CELL, GIT_CONFIG_GLOBAL=str(config)))
    assert "unable to access" in line
    assert not host.checkout.exists()


def test_no_network_for_packages_is_said_after_the_fetch_and_changes_nothing(host):
    before = installed(host.python)
    done = host.run(CELL, PIP_FIND_LINKS="")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "alpha could not be installed. Is the Internet on" in last
    assert installed(host.python) == before
    assert host.run(CELL).returncode == 0, "the next try goes on"


def test_a_package_that_wants_another_torch_is_refused(host, tmp_path):
    """alpha in a version that needs a newer torch: pip stops instead of replacing torch."""
    other = tmp_path / "other"
    wheel(other, "alpha", "1.5", ["torch>=2.14"])
    wheel(other, "torch", "2.14")
    before = installed(host.python)
    done = host.run(CELL, PIP_FIND_LINKS=str(other))
    assert "alpha could not be installed" in done.stderr.strip().splitlines()[-1]
    assert installed(host.python) == before


def test_a_package_that_is_not_the_tested_one_is_refused(host, shelf, tmp_path):
    """The index serves another helper 1.1 than the one that the lock knows."""
    other = shutil.copytree(shelf, tmp_path / "other")
    wheel(other, "helper", "1.1", ["gamma"])
    before = installed(host.python)
    last = host.run(CELL, PIP_FIND_LINKS=str(other)).stderr.strip().splitlines()[-1]
    assert "alpha, d2l could not be installed" in last
    assert "DO NOT MATCH THE HASHES" in last
    assert installed(host.python) == before


def test_a_clone_that_was_cut_off_is_not_taken_for_the_course(host):
    """A killed runtime leaves its partial folder; the next run does not look at it."""
    host.checkout.parent.mkdir(parents=True)
    (host.checkout.parent / f"{REF}.123").mkdir()
    assert host.run(CELL).returncode == 0
    assert (host.checkout / "pyproject.toml").exists()


def test_the_cell_is_short_and_the_same_whatever_the_address():
    assert len(CELL.splitlines()) <= 27
    unconfigured = cells.first_cell(None)
    assert CELL.replace(f'"{REPO}", "{REF}"', '"OWNER/NAME", "TAG"') == unconfigured
    assert compile(CELL, "cell", "exec")
    assert cells.NOWHERE == ("OWNER/NAME", "TAG")
    assert f'if REPO == "{cells.NOWHERE[0]}":' in CELL
