"""Unlucky days of folders, shared caches and jobs: kill -9, a full disk, two at once."""

import inspect
import json
import random
import subprocess
import sys
import textwrap
import time
from importlib import import_module

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from course_lib import features, paths, recipe
from course_lib.errors import CourseError
from course_lib.exercises import predictions
from course_lib.features import keys
from course_lib.jobs import logs
from course_lib.jobs import run as jobs_run
from course_lib.publishing.handouts import Document, HandoutError, folder
from course_lib.publishing.handouts import document as doc
from course_lib.publishing.site import SiteError
from course_lib.weights import CheckpointError
from course_lib.weights.reading.checkpoint import read_checkpoint
from tests.test_faults import files_below, full_disk
from tests.training.conftest import make_net, make_set

site = import_module("course_lib.publishing.site.build")  # the package's `build` is a function


def fill(made, value, count=20):
    """A folder of files that all hold one value."""
    for place in range(count):
        (made / f"{place}.txt").write_text(f"{value} " * 2000)


FILL = inspect.getsource(fill)  # for programs, which would import this module for long


def value_of(where):
    """What all files of a folder hold; an error if there are some of another, or too few."""
    found = {each.read_text() for each in where.glob("*.txt")}
    assert len(list(where.glob("*.txt"))) == 20
    (text,) = found
    assert len(text.split()) == 2000
    return text.split()[0]


def handouts_of(monkeypatch, value):
    blocks = (doc.Paragraph((doc.Text(f"{value} " * 4000),)),)
    made = Document("T", "e", "", blocks)
    monkeypatch.setattr(
        folder, "documents", lambda *_: iter([("student/a", made), ("quiz/b", made)])
    )


def site_of(monkeypatch, value):
    """The site's own steps stand for what Sphinx would write."""
    monkeypatch.setattr(site, "_set", lambda source, made, where: fill_new(made, value))
    monkeypatch.setattr(
        site.pages, "write", lambda source, *_, **__: (source / site.pages.FILES).mkdir()
    )
    monkeypatch.setattr(site.check, "check", lambda made: None)


def fill_new(made, value):
    made.mkdir(exist_ok=True)
    fill(made, value)


MADE = {
    "handouts": (handouts_of, lambda target: list(folder.build(target)), HandoutError),
    "site": (site_of, site.build, SiteError),
}


@pytest.mark.parametrize("what", MADE)
def test_a_full_disk_leaves_the_folder_that_was_there(tmp_path, monkeypatch, what):
    prepare, build, error = MADE[what]
    prepare(monkeypatch, 1)
    build(tmp_path / "made")
    before = files_below(tmp_path)
    prepare(monkeypatch, 2)
    with full_disk(2000), pytest.raises(error, match=r"can't be written: File too large.*stays"):
        build(tmp_path / "made")
    assert files_below(tmp_path) == before
    assert [each.name for each in tmp_path.iterdir()] == ["made"]
    build(tmp_path / "made")
    assert files_below(tmp_path) != before
    assert [each.name for each in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left")])
@pytest.mark.parametrize("when", ["filled", "first renaming", "second renaming"])
def test_stopped_at_any_step_the_old_folder_is_there(tmp_path, monkeypatch, error, when):
    target, replace, calls = tmp_path / "made", paths.Path.replace, []
    with paths.folder_in_place(target) as made:
        fill(made, 1)

    def failing(self, other):
        calls.append(other)
        if len(calls) == (1 if when == "first renaming" else 2):
            raise error
        return replace(self, other)

    def renew():
        with paths.folder_in_place(target) as made:
            fill(made, 2)
            if when == "filled":
                raise error
            monkeypatch.setattr(paths.Path, "replace", failing)

    with pytest.raises(error if isinstance(error, type) else type(error)):
        renew()
    monkeypatch.undo()
    assert value_of(target) == "1"
    assert list(tmp_path.iterdir()) == [target]


def test_killed_between_two_renamings_the_old_folder_comes_back(tmp_path):
    program = FILL + textwrap.dedent("""
        import os, pathlib, sys
        from course_lib import paths
        target = pathlib.Path(sys.argv[1])
        with paths.folder_in_place(target) as made:
            fill(made, 1)
        with paths.folder_in_place(target) as made:
            fill(made, 2)
            made.with_name("source").mkdir()
            real = pathlib.Path.replace
            def dies(self, other):
                if self.name == "made" and self.parent != target.parent:
                    os.kill(os.getpid(), 9)
                return real(self, other)
            pathlib.Path.replace = dies
    """)
    command = [sys.executable, "-c", program, str(tmp_path / "made")]
    assert subprocess.run(command, check=False, timeout=120).returncode == -9
    assert not (tmp_path / "made").exists()
    paths.write_file(tmp_path / "anything", "x")
    assert value_of(tmp_path / "made") == "1"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["anything", "made"]


def test_predictions_on_a_full_disk(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(predictions, "_noted", {"how many": 3})
    monkeypatch.setattr(predictions, "_SHEET", "0123")
    file = predictions.share("me", tmp_path)
    before = file.read_bytes()
    predictions._noted["other"] = "x" * 500
    with full_disk(40), pytest.raises(CourseError, match=r"can't be written.*to=\.\.\."):
        predictions.share("me", tmp_path)
    assert files_below(tmp_path) == {file.name: before}


def test_the_recipe_on_a_full_disk_keeps_the_older_file_and_the_run(tmp_path):
    sets = [make_set(30, seed=1), make_set(24, seed=2), make_set(24, seed=3)]
    path = tmp_path / "x.safetensors"
    options = {"budget": 0, "cache": False, "say": lambda _: None, "save_to": path}
    recipe.fit(*sets, model=make_net(), **options)
    before = files_below(tmp_path)
    with (
        full_disk(1500),
        pytest.raises(CourseError, match="can't be written: File too large") as error,
    ):
        recipe.fit(*sets, model=make_net(), **options)
    assert files_below(tmp_path) == before
    assert error.value.run.save(tmp_path / "y.safetensors").exists()


START = """
import pathlib, sys
where, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2])
"""
READY = 'print("ready", flush=True)'

KILLED = {
    "a folder": """
        from course_lib import paths
        READY
        for turn in range(10**6):
            with paths.folder_in_place(where / "made") as made:
                fill(made, turn % 2)
    """,
    "predictions": """
        from course_lib.exercises import predictions
        predictions._SHEET = "0123"
        READY
        for turn in range(10**6):
            predictions._noted.update({"how many": turn % 2, "words": "x" * 3000 * (turn % 2)})
            predictions.share("", where)
    """,
    "recipe": """
        from course_lib import recipe
        from tests.training.conftest import make_net, make_set
        sets = [make_set(30, seed=1), make_set(24, seed=2)]
        READY
        for turn in range(10**6):
            recipe.fit(*sets, model=make_net(), budget=0, cache=False, say=str,
                       save_to=where / "x.safetensors")
    """,
    "jobs' checkpoints": """
        import torch
        from course_lib.jobs import run as jobs_run
        model = torch.nn.Linear(100, 100)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        (where / "checkpoints").mkdir(exist_ok=True)
        READY
        for turn in range(10**6):
            write_checkpoint(where, model, optimizer, turn)
    """,
}


def write_checkpoint(where, model, optimizer, turn):
    extra = {"config": {}, "processes": [1, 0], "position": vars(jobs_run.Position(total=turn))}
    jobs_run.checkpoints.save(where, model, optimizer, None, extra, step=turn, epoch=0, keep=2)


WRITE = inspect.getsource(write_checkpoint)


def check(what, where):
    """What is there after a kill is whole, and the next write goes on."""
    if what == "a folder":
        paths.write_file(where / "after", "x")  # brings back a folder that was aside
        assert not (where / "made").exists() or value_of(where / "made") in "01"
    elif what == "predictions":
        for file in where.glob("predictions-*.txt"):
            assert predictions.collecting._sheets_in(file)
    elif what == "recipe":
        if (where / "x.safetensors").exists():
            read_checkpoint(where / "x.safetensors")
    elif newest := jobs_run.checkpoints.newest(where):
        model = nn.Linear(100, 100)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        jobs_run.checkpoints.load(newest, model, optimizer, None)
        write_checkpoint(where, model, optimizer, int(newest.name[5:13]) + 1)
    inside = where / "checkpoints" if what.startswith("jobs") else where
    assert len(list(inside.glob(".course-*"))) <= 1  # of the last; the next write removes it


def started(program, where, seed):
    whole = "\n".join([FILL, WRITE, START, textwrap.dedent(program).replace("READY", READY)])
    command = [sys.executable, "-c", whole, str(where), str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.slow
@pytest.mark.parametrize("what", KILLED)
def test_kill_9_at_any_moment(tmp_path, what):
    for seed in range(4):
        with started(KILLED[what], tmp_path, seed) as process:
            time.sleep(random.Random(seed).uniform(0.05, 1.5))
            process.kill()
        check(what, tmp_path)


EXTRACTING = """
    import json, torch
    from torch import nn
    from torch.utils.data import TensorDataset
    from course_lib import features
    from course_lib.features import keys
    READY
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(100, 50), nn.Linear(50, 2))
    for turn in range(1000 if seed == 0 else 12):
        data = TensorDataset(torch.full((3000, 100), float(turn % 4)), torch.arange(3000) % 2)
        found = features.extract(net, data, cache_dir=where, progress=False)
        print(json.dumps([found.key, keys.of_tensors(found.values, found.targets)]),
              flush=True)
"""


@pytest.mark.slow
def test_two_kernels_on_one_cache_and_one_of_them_killed(tmp_path):
    """The same features at once: equal results, whole files, and nobody waits for the dead one."""
    killed, other = (started(EXTRACTING, tmp_path, seed) for seed in (0, 1))
    with killed, other:
        assert killed.stdout.readline()  # it is in the middle of them
        killed.kill()
        told = other.communicate(timeout=300)[0]
    assert other.returncode == 0
    found = [tuple(json.loads(line)) for line in told.splitlines()]
    assert len(found) == 12
    assert len(set(found)) == 4  # the same key, the same bits, computed or read
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(100, 50), nn.Linear(50, 2))
    for turn in range(4):  # what is there is what is computed
        data = TensorDataset(torch.full((3000, 100), float(turn)), torch.arange(3000) % 2)
        kept = features.extract(net, data, cache_dir=tmp_path, progress=False)
        assert (kept.key, keys.of_tensors(kept.values, kept.targets)) == found[turn]
        again = features.extract(net, data, cache=False, progress=False)
        torch.testing.assert_close(kept.values, again.values)
    files = list(tmp_path.glob("*.safetensors"))
    assert len(files) == 4
    for each in files:
        read_checkpoint(each)


def test_lines_of_a_job_that_are_damaged_are_taken_back(tmp_path):
    rows = [
        "step,loss,pictures_per_second",
        "1,0.5,9.0",
        "x,1,2",
        "\ufffd,,",
        "2,0.4,9",
        "9,0.1,9",
        "3",
    ]
    (tmp_path / "steps.csv").write_bytes("\n".join(rows).encode() + b"\n\xff\xfe,1,1\n")
    logs.Logs(tmp_path, tensorboard=False).rewind(2)
    assert (tmp_path / "steps.csv").read_text().splitlines() == [rows[0], rows[1], rows[4]]


GOOD = vars(jobs_run.Position(history=[{"epoch": 1, "val_loss": 0.5}]))


@pytest.mark.parametrize("change", [
    {"stage": "x"}, {"stage": -1}, {"total": 1 << 70}, {"epoch": True}, {"sums": [0.0]},
    {"sums": ["a", "b", "c"]}, {"history": [1]}, {"history": [{"epoch": 1}]}, {"more": 1},
    {"history": [{"val_loss": 1.0}, {"val_loss": 1.0, "x": 2}]}, {"best": None},
])  # fmt: skip
def test_a_position_that_is_none_is_refused(tmp_path, change):
    assert vars(jobs_run.checked_position(GOOD, tmp_path)) == GOOD
    for value in (GOOD | change, {}, [], None):
        with pytest.raises(CheckpointError, match="no position of a job"):
            jobs_run.checked_position(value, tmp_path)
