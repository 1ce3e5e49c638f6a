"""Whole notebooks on a simulated Colab: its package versions, its kernel, nothing of the course.

Building the environment downloads gigabytes, so this needs a package index and is left out where
there is none (as in `make test-all`, which runs offline):

    pytest -m slow tests/setup/hosting/test_simulated_colab.py

COURSE_COLAB_VENV names an environment that was built before, or where to build one that is kept.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from course_lib.paths import repo_root
from course_lib.publishing import notebooks
from tests.setup.hosting.colab import REF, REPO, Host, cell_book, git, installed, publish

pytestmark = pytest.mark.slow

# Colab in August 2026; what the course's notebooks meet there.
VERSIONS = """torch==2.11.0 torchvision==0.26.0 numpy==2.1.* pandas==2.2.* matplotlib==3.10.*
scipy==1.16.* scikit-learn==1.6.* ipython==7.34.0 ipywidgets==7.7.* ipykernel==6.17.1 timm
requests tqdm pillow==11.* filelock safetensors""".split()
NEVER_TOUCHED = ("torch", "torchvision", "numpy")


def python_of_colab():
    """Python 3.13 or 3.12 if this machine has one, otherwise the one that runs the tests."""
    kept = Path.home() / ".pyenv" / "versions"
    for minor in (13, 12):
        found = [shutil.which(f"python3.{minor}"), *sorted(kept.glob(f"3.{minor}.*/bin/python"))]
        for each in filter(None, found):
            if not subprocess.run([each, "-c", "import venv, ssl"], check=False).returncode:
                return each
    return sys.executable


@pytest.fixture(scope="module")
def colab_python(tmp_path_factory):
    kept = os.environ.get("COURSE_COLAB_VENV")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("colab") / "venv"
    python = folder / "bin" / "python"
    if not python.exists():
        online = {**os.environ, "PYTHONPATH": ""}
        pip = [python, "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([python_of_colab(), "-m", "venv", folder], check=True)
        tried = subprocess.run(
            [*pip, "download", "-q", "--no-deps", "-d", folder / "try", "filelock"],
            env={**online, "PIP_RETRIES": "0"}, capture_output=True, check=False,
        )  # fmt: skip
        if tried.returncode or "offline" in os.environ.get("PYTHONPATH", ""):
            shutil.rmtree(folder)
            pytest.skip("needs a package index")
        subprocess.run([*pip, "install", "-q", *VERSIONS], env=online, check=True)
    return python


@pytest.fixture(scope="module")
def github(tmp_path_factory):
    """The course as it is in this checkout, stamped with an address, committed and tagged."""
    folder = tmp_path_factory.mktemp("github")
    checkout = folder / "checkout"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=repo_root(), capture_output=True, text=True, check=True)
    for name in filter(None, names.stdout.split("\0")):
        if (repo_root() / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(repo_root() / name, checkout / name)
    stamp = [sys.executable, "-m", "course_lib.cli", "colab", "--repo", REPO, "--ref", REF]
    subprocess.run(stamp, cwd=checkout, env={**os.environ, "PYTHONPATH": "."}, check=True)
    publish(checkout, folder / "site")
    git(checkout, "status")
    return folder / "site"


@pytest.fixture(scope="module")
def colab(tmp_path_factory, github, colab_python):
    """One session for all tests of this file, as one runtime is for all notebooks."""
    return Host(tmp_path_factory.mktemp("runtime"), github, colab_python)


def text_of(cell):
    return "".join(output.get("text", "") for output in cell.outputs)


def stamped(colab, name):
    """A notebook as Colab opens it from GitHub: from the tag, without its outputs."""
    listed = ["git", "show", f"{REF}:notebooks/source/{name}.py"]
    site = Path(colab.environment["GIT_CONFIG_GLOBAL"]).read_text().split('"file://')[1]
    site = site.split('"')[0].rstrip("/")
    source = subprocess.run(
        listed, cwd=Path(site) / REPO, capture_output=True, text=True, check=True
    ).stdout
    path = colab.content / f"{name}.py"
    path.write_text(source)
    book = notebooks.from_source(path)
    path.unlink()
    return book


def first(book):
    return next(cell for cell in book.cells if cell.cell_type == "code")


# A module may leave its mark in the environment between tests: what Colab brings, noted once.
@pytest.fixture(scope="module")
def as_delivered(colab_python):
    return installed(colab_python)


@pytest.mark.parametrize("name", ["00_start_here", "04_freezing"])
def test_a_whole_notebook_runs_there(colab, as_delivered, name):
    book = colab.play(stamped(colab, name), timeout=600)
    said = text_of(first(book))
    assert f"The course is in {colab.checkout}." in said
    assert "Profile tiny: this runtime has no GPU." in said
    assert "This runtime forgets what you do." in said

    after = installed(colab.python)
    for package in NEVER_TOUCHED:
        assert after[package] == as_delivered[package], "version and files as Colab delivered them"
    changed = {each for each in as_delivered if after.get(each) != as_delivered[each]}
    assert changed == set(), "nothing that was there is replaced"
    assert {path.name for path in colab.content.iterdir()} <= {"course-work.zip"}


def test_a_restarted_runtime_finds_everything_done(colab):
    book = colab.play(stamped(colab, "00_start_here"), PIP_INDEX_URL="http://127.0.0.1:9/")
    assert "Nothing had to be installed." in text_of(first(book))


def test_work_survives_with_drive_and_as_a_file(colab):
    """Two runtimes: in the first an exercise is solved and exported, in the second taken in."""
    setup = first(stamped(colab, "00_start_here")).source
    solve = "from course_lib.exercises.chapter_00 import ex0_1\nex0_1.check(288)"
    save = "import torch\ntorch.save({'w': torch.ones(3)}, 'my_model.pt')"
    book = colab.play(cell_book(
        setup, solve, save, "path = hosting.export_work()",
        "from google.colab import files\nprint(files.downloaded == [str(path)])",
    ))  # fmt: skip
    assert text_of(book.cells[-1]) == "True\n"
    assert (colab.content / "course-work.zip").exists()

    shutil.rmtree(colab.home / ".cache" / "course_lib")
    (colab.content / "my_model.pt").unlink()
    book = colab.play(cell_book(
        setup, "hosting.import_work()", "from course_lib.exercises import progress\nprogress()",
        "print(torch.load('my_model.pt')['w'].sum().item())".replace("torch.load", "__import__"
        "('torch').load"),
    ))  # fmt: skip
    assert "1 of" in book.cells[2].outputs[0].data["text/plain"]
    assert text_of(book.cells[-1]) == "3.0\n"
    for name in ("course-work.zip", "my_model.pt"):
        (colab.content / name).unlink()


def test_what_fails_is_one_line_in_the_notebook(colab):
    """The cell with a tag that isn't there: what a learner reads in the output."""
    source = first(stamped(colab, "00_start_here")).source.replace(f'"{REF}"', '"v9"')
    book = cell_book(source)
    with pytest.raises(Exception, match="v9"):
        colab.play(book)
    (error,) = [each for each in book.cells[0].outputs if each.output_type == "error"]
    assert error.ename == "SystemExit"
    assert error.evalue.startswith("The course could not be fetched from")
    assert len("\n".join(error.traceback).strip().splitlines()) <= 3
