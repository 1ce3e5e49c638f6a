"""Unlucky days: a full disk, no permission, kill -9, two at once. Whole files, and our own errors.

Each case tries everything that writes: weights of both kinds, a training checkpoint, the features'
cache, the progress, an export and its import.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from course_lib import features
from course_lib.errors import CourseError
from course_lib.exercises import progress_file
from course_lib.setup import hosting
from course_lib.setup.hosting import work
from course_lib.weights import read_checkpoint, resume_checkpoint, save_checkpoint, save_weights

OLD, NEW = 1.0, 2.0


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Folders of one's own, with something in them to export."""
    for name in ("notebooks", "data", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(work, "repo_root", lambda: tmp_path)
    monkeypatch.setattr(work, "_answered", lambda: iter(()))
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def network(value):
    model = nn.Linear(100, 100)
    nn.init.constant_(model.weight, value)
    return model


def save(path, value):
    if path.suffix == ".ckpt":
        return save_checkpoint(path, network(value), epoch=int(value))
    return save_weights(network(value), path)


def load(path):
    """The value in a file, all of whose bytes are read."""
    if path.suffix == ".ckpt":
        model = nn.Linear(100, 100)
        resume_checkpoint(path, model)
        return float(model.weight.unique().item())
    return float(read_checkpoint(path).tensors["weight"].unique().item())


def files_below(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


@contextmanager
def full_disk(size=20_000):
    """No file may grow beyond this, for root either."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@contextmanager
def locked(folder):
    folder.chmod(0o500)
    try:
        yield
    finally:
        folder.chmod(0o700)


ENDINGS = (".safetensors", ".pth", ".ckpt")


@pytest.mark.parametrize("ending", ENDINGS)
def test_saving_on_a_full_disk(tmp_path, ending):
    path = save(tmp_path / f"x{ending}", OLD)
    before = files_below(tmp_path)
    with full_disk(), pytest.raises(CourseError, match=r"can't be written: File too large"):
        save(path, NEW)
    assert files_below(tmp_path) == before
    assert load(path) == OLD


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("ending", ENDINGS)
def test_saving_without_permission(tmp_path, ending):
    path = save(tmp_path / f"x{ending}", OLD)
    with locked(tmp_path), pytest.raises(CourseError, match="can't be written: Permission denied"):
        save(path, NEW)
    assert load(path) == OLD


@pytest.mark.parametrize("ending", ENDINGS)
def test_saving_where_a_folder_or_a_file_is_in_the_way(tmp_path, ending):
    (tmp_path / f"x{ending}").mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / f"x{ending}", tmp_path / "file" / f"x{ending}"):
        with pytest.raises(CourseError, match="can't be written"):
            save(path, NEW)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_stops_a_save_stays_itself(tmp_path, monkeypatch, ending, error):
    """torch turns what a file raises into a RuntimeError of its own."""
    path = save(tmp_path / f"x{ending}", OLD)
    before = files_below(tmp_path)
    real, calls = os.fsync, []

    class Stopping:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            calls.append(data)
            raise error

        def __getattr__(self, name):
            return getattr(self.file, name)

    from course_lib.weights.saving import save as module

    original = module.atomic_write

    @contextmanager
    def atomic_write(path):
        with original(path) as file:
            yield Stopping(file)

    monkeypatch.setattr(module, "atomic_write", atomic_write)
    with pytest.raises(error):
        save(path, NEW)
    assert calls
    assert os.fsync is real
    assert files_below(tmp_path) == before


def table():
    return TensorDataset(torch.ones(300, 100), torch.zeros(300, dtype=torch.int64))


def test_the_cache_on_a_full_disk_costs_only_time(tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(100, 50), nn.Linear(50, 2))
    with full_disk(), pytest.warns(UserWarning, match="can't be kept"):
        found = features.extract(net, table(), cache_dir=tmp_path)
    assert found.values.shape == (300, 50)
    assert files_below(tmp_path) == {}


def test_progress_on_a_full_disk_disturbs_no_check(home):
    progress_file.note_attempt("4.1", True)
    before = files_below(home)
    with full_disk(10):
        progress_file.note_attempt("4.2", True)
    assert files_below(home) == before


def some_work(home):
    progress_file.note_attempt("4.1", True)
    (home / "notebooks" / "my_notes.ipynb").write_text("{}")
    (home / "here" / "model.safetensors").write_bytes(random.Random(1).randbytes(50_000))


def test_export_and_import_on_a_full_disk(home):
    some_work(home)
    before = files_below(home)
    with full_disk(), pytest.raises(CourseError, match="can't be written"):
        hosting.export_work()
    assert files_below(home) == before
    archive = hosting.export_work()
    for name in ("notebooks/my_notes.ipynb", "progress.json"):
        (home / name).unlink()
    before = files_below(home)
    with full_disk(), pytest.raises(CourseError, match="can't be taken in"):
        hosting.import_work(archive)
    assert files_below(home) == before


START = """
import sys, random, pathlib, torch
sys.path.insert(0, ".")
from tests import test_faults as here
folder, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
"""

KILLED = {
    "saves": """
        for turn in range(10**6):
            for ending in here.ENDINGS:
                here.save(folder / f"x{ending}", 1.0 + turn % 2)
    """,
    "progress": """
        import os
        os.environ["COURSE_PROGRESS"] = str(folder / "progress.json")
        for turn in range(10**6):
            here.progress_file.note_attempt(f"4.{turn % 9}", True)
    """,
    "cache": """
        net = here.nn.Sequential(here.nn.Flatten(), here.nn.Linear(100, 50), here.nn.Linear(50, 2))
        for turn in range(10**6):
            torch.nn.init.constant_(net[1].weight, turn % 5)
            here.features.extract(net, here.table(), cache_dir=folder)
    """,
}


def killed(what, folder, seed):
    """Runs a program, and ends it at some moment as only kill -9 does."""
    program = START + textwrap.dedent(KILLED[what])
    command = [sys.executable, "-c", program, str(folder), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(random.Random(seed).uniform(0.05, 1.0))
        process.kill()


def check_after_kill(what, folder):
    if what == "saves":
        for ending in ENDINGS:
            path = folder / f"x{ending}"
            assert not path.exists() or load(path) in (OLD, NEW)
            save(path, OLD)
    elif what == "progress" and (folder / "progress.json").exists():
        assert json.loads((folder / "progress.json").read_text())["version"] == 1
    for path in folder.glob("*.safetensors"):
        read_checkpoint(path)


@pytest.mark.slow
@pytest.mark.parametrize("what", KILLED)
def test_kill_9_at_any_moment(tmp_path, what):
    for seed in range(5):
        killed(what, tmp_path, seed)
        check_after_kill(what, tmp_path)
        assert len(list(tmp_path.glob(".course-*"))) <= 1  # of the last; the next write removes it


@pytest.mark.slow
def test_two_processes_that_save_the_same_files(tmp_path):
    program = (
        START
        + """
for turn in range(30):
    for ending in here.ENDINGS:
        here.save(folder / f"x{ending}", float(seed))
        try:
            assert here.load(folder / f"x{ending}") in (1.0, 2.0)
        except here.CourseError as error:
            assert "was changed while it was being read" in str(error)
"""
    )
    both = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), each]) for each in "12"]
    assert [each.wait() for each in both] == [0, 0]
    assert sorted(files_below(tmp_path)) == sorted(f"x{ending}" for ending in ENDINGS)
