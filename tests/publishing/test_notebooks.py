"""Building notebooks: the same script gives the same notebook; a failure stores nothing."""

import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest

from course_lib.errors import CourseError, UnknownNameError
from course_lib.exercises import progress_file
from course_lib.publishing import notebooks

SCRIPT = """# %% [markdown]
# # Title

# %% tags=["setup"]
x = 1 + 1
print("two:", x)

# %%
x
"""


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A notebooks folder of its own, with one small chapter."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "07_small.py").write_text(SCRIPT)
    monkeypatch.setattr(notebooks, "notebooks_dir", lambda: tmp_path)
    return tmp_path


def test_a_chapter_is_built_once_and_again_when_its_source_changes(workshop):
    assert list(notebooks.build()) == [("07_small", True)]
    built = (workshop / "07_small.ipynb").read_bytes()
    assert list(notebooks.build()) == [("07_small", False)]
    assert list(notebooks.build(["07_small"])) == [("07_small", True)]
    assert (workshop / "07_small.ipynb").read_bytes() == built

    stored = notebooks.read("07_small")
    assert [cell.cell_type for cell in stored.cells] == ["markdown", "code", "code"]
    assert stored.cells[1].metadata.tags == ["setup"]
    assert stored.cells[1].outputs[0].text == "two: 2\n"
    assert [cell.execution_count for cell in stored.cells[1:]] == [1, 2]

    (workshop / "source" / "07_small.py").write_text(SCRIPT.replace("1 + 1", "1 + 2"))
    assert not notebooks.in_step("07_small")
    assert list(notebooks.build()) == [("07_small", True)]
    assert notebooks.in_step("07_small")


@pytest.mark.parametrize(
    "change",
    [
        lambda nb: nb.cells[1].update(source="x = 3"),
        lambda nb: nb.cells[1].metadata.update(tags=[]),
        lambda nb: nb.cells.pop(),
        lambda nb: nb.metadata.course.update(source_sha256="0"),
    ],
)
def test_an_edited_notebook_is_out_of_step(workshop, change):
    list(notebooks.build())
    stored = notebooks.read("07_small")
    change(stored)
    nbformat.write(stored, workshop / "07_small.ipynb")
    assert not notebooks.in_step("07_small")


def test_a_failing_cell_leaves_the_stored_notebook_as_it_was(workshop):
    list(notebooks.build())
    before = (workshop / "07_small.ipynb").read_bytes()
    (workshop / "source" / "07_small.py").write_text(SCRIPT + "\n# %%\n1 / 0\n")
    with pytest.raises(CourseError, match="07_small was not stored"):
        list(notebooks.build())
    assert (workshop / "07_small.ipynb").read_bytes() == before
    assert sorted(path.name for path in workshop.iterdir()) == ["07_small.ipynb", "source"]


def test_an_unknown_chapter_is_refused_before_anything_is_built(workshop):
    with pytest.raises(UnknownNameError, match="Did you mean '07_small'"):
        list(notebooks.build(["07_smal"]))
    assert not (workshop / "07_small.ipynb").exists()


def test_pages_are_built_as_for_a_new_learner(monkeypatch, tmp_path):
    """The builder's own progress doesn't get into what learners open."""
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "mine.json"))
    progress_file.note_attempt("0.1", True)
    source = "from course_lib.exercises import progress\nprint(progress())"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    notebooks.execute(book)
    shown = book.cells[0].outputs[0].text
    assert "0 of 1" in shown
    assert "1 of 1" not in shown


HOSTILE = {
    "JPY_SESSION_NAME": "/a.ipynb", "COLAB_RELEASE_TAG": "r", "KAGGLE_KERNEL_RUN_TYPE": "Batch",
    "COURSE_DATA": "/nowhere", "PYTHONWARNINGS": "error::UserWarning", "PYTHONDEVMODE": "1",
    "PYTHONOPTIMIZE": "2", "COLUMNS": "20", "FORCE_COLOR": "1", "MPLBACKEND": "agg",
    "MKL_NUM_THREADS": "2", "COURSE_PROFILE": "full", "COURSE_PROGRESS_BAR": "1",
    "COURSE_PANELS": "live", "PYTHONPROFILEIMPORTTIME": "1", "PYTHONVERBOSE": "1",
    "PYTHONIOENCODING": "cp1252", "IPYTHONDIR": "/nowhere", "TORCH_LOGS": "+all",
    "TQDM_DISABLE": "1", "MATPLOTLIBRC": "/nowhere",
}  # fmt: skip


def check_command():
    """What ``make check-notebooks`` puts before its Python."""
    shown = subprocess.run(
        ["make", "-n", "-o", "install", "check-notebooks"], cwd=notebooks.repo_root(), text=True,
        capture_output=True, check=True,
    ).stdout.replace("\\\n", " ")  # fmt: skip
    return next(line for line in shown.splitlines() if "--nbval" in line).split(".venv")[0]


def without(command, name):
    """The same, with a variable of the shell let in."""
    changed = re.sub(rf"-u {name}\b|\b{name}=\S+", "", command)
    assert changed != command
    return changed


needs_make = pytest.mark.skipif(not shutil.which("make"), reason="needs make")


@needs_make
def test_the_check_closes_the_environment_as_the_build_does(monkeypatch):
    """In a hostile shell."""
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    built = notebooks.closed_environment()

    def environment(command):
        code = "import json, os; print(json.dumps(dict(os.environ)))"
        told = subprocess.run(
            ["sh", "-c", f"{command} {sys.executable} -S -c '{code}'"], text=True,
            capture_output=True, check=True, env={**os.environ, "PYTHONPATH": ""},
        )  # fmt: skip
        return json.loads(told.stdout)

    for found in (environment(check_command()), built):
        assert HOSTILE.keys() & found.keys() == notebooks.SETTLED.keys()
        assert {name: found[name] for name in notebooks.SETTLED} == notebooks.SETTLED
    for name, value in HOSTILE.items():
        assert environment(without(check_command(), name))[name] == value


@needs_make
@pytest.mark.slow
def test_a_notebook_is_checked_in_a_hostile_shell(tmp_path):
    """The command of ``make check-notebooks``, on the first chapter."""
    shown = check_command() + (
        f"{sys.executable} -m pytest -p asserted --nbval --nbval-current-env -q "
        "-p no:cacheprovider notebooks/00_start_here.ipynb"
    )
    hostile = HOSTILE | {"LC_ALL": "C", "TZ": "Asia/Tokyo", "NO_COLOR": "1", "TERM": "dumb"}
    ran = subprocess.run(
        ["sh", "-c", shown], cwd=notebooks.repo_root(), text=True, capture_output=True,
        env=os.environ | hostile,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-3000:]
