"""A disk that is really full, after every number of bytes: everything that the course writes.

A small tmpfs where it can be mounted; elsewhere no file may grow beyond what is left.
"""

import contextlib
import functools
import json
import re
import subprocess
import warnings
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from course_lib import backbones, evidence, features, recipe
from course_lib.data import fetch
from course_lib.errors import CourseError
from course_lib.exercises import predictions
from course_lib.jobs import StageConfig, checkpoints, export, train
from course_lib.recipe import Predictor
from course_lib.setup import hosting, lab
from course_lib.setup.hosting import work
from course_lib.weights import save_checkpoint, save_weights
from course_lib.weights.reading.checkpoint import read_object
from tests.data.loopback import Loopback
from tests.data.test_download import BODY, HASTY, archive
from tests.evidence.conftest import registry, toy  # noqa: F401  (fixtures)
from tests.jobs.conftest import job, pictures  # noqa: F401
from tests.test_faults import files_below, full_disk, some_work
from tests.test_faults_folders import folder as handouts_folder
from tests.test_faults_folders import handouts_of, site, site_of
from tests.training.conftest import make_net, make_set

LEFT = (0, 5_000, 30_000, 100_000)  # bytes; what is written takes from 100 to some hundred thousand


class Disk:
    """A folder on a disk of its own, if that may be mounted."""

    def __init__(self, root, size):
        self.root, self.size = root, size
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(root)]
        self.own = subprocess.run(mount, capture_output=True, check=False).returncode == 0

    @contextmanager
    def full(self, left):
        """All but so many bytes are taken."""
        if not self.own:
            with full_disk(left):
                yield
            return
        filler = self.root / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                file.truncate(max(0, file.tell() - left // 4096 * 4096))
        try:
            yield
        finally:
            filler.unlink()


@pytest.fixture
def disk(tmp_path, request):
    root = tmp_path / "disk"
    root.mkdir()
    made = Disk(root, getattr(request, "param", 4 << 20))
    try:
        yield made
    finally:
        if made.own:
            subprocess.run(["umount", "-l", str(root)], check=True)


def big(value):
    model = nn.Linear(200, 200)
    nn.init.constant_(model.weight, value)
    return model


def cached(where, value):
    net = nn.Sequential(nn.Flatten(), big(value), nn.Linear(200, 2))
    data = torch.utils.data.TensorDataset(torch.ones(300, 200), torch.zeros(300, dtype=torch.long))
    assert len(features.extract(net, data, cache_dir=where).values) == 300


@functools.cache
def fitted():
    sets = [make_set(30, seed=1), make_set(24, seed=2), make_set(24, seed=3)]
    return recipe.fit(*sets, model=make_net(), budget=0, cache=False, say=lambda _: None)


def shared(where, value):
    predictions._noted.update({"a": value, "words": "x" * 50_000})
    predictions.share("me", where)


def downloaded(where, value):
    with Loopback(BODY) as web:
        fetch(archive(web.url("good")), where, HASTY)


def kept(where, value):
    """The cache costs only time, and says so; here, as an error like the others'."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            cached(where, value)
    except UserWarning as warning:
        raise CourseError(str(warning)) from warning


WRITERS = {
    "weights": lambda where, value: save_weights(big(value), where / "x.safetensors"),
    ".pth": lambda where, value: save_weights(big(value), where / "x.pth"),
    "checkpoint": lambda where, value: save_checkpoint(where / "x.ckpt", big(value), epoch=1),
    "download": downloaded, "recipe": lambda where, value: fitted().save(where / "x.safetensors"),
    "predictions": shared, "cache": kept,
}  # fmt: skip


def hits_a_full_disk(disk, write, before=1.0):
    """Old files whole, no litter, a course's error; and with room, it works."""
    if before is not None:
        write(disk.root, before)
    old, failed = content(disk.root), 0
    for left in LEFT:
        said = ""
        with disk.full(left):
            try:
                write(disk.root, 2.0)
            except CourseError as error:
                said = str(error)
        if not said:
            break
        failed += 1
        assert re.search("No space left|File too large|free", said)
        assert content(disk.root) == old
    assert failed
    write(disk.root, 2.0)


def content(folder):
    """All files but those that say who is at work; folders too, since one may be left empty."""
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_dir()}
    passing = (".lock", "filler", "photos.zip")  # the last: a whole download, to be unpacked later
    found = files_below(folder).items()
    return there, {name: each for name, each in found if not name.endswith(passing)}


@pytest.mark.parametrize("what", WRITERS)
def test_files(disk, what, monkeypatch):
    monkeypatch.setattr(predictions, "_noted", {})
    monkeypatch.setattr(predictions, "_SHEET", "0123")
    hits_a_full_disk(disk, WRITERS[what], None if what in ("download", "cache") else 1.0)


@pytest.mark.parametrize("what", ["export", "import"])
def test_work_is_taken_along(disk, tmp_path, monkeypatch, what):
    for name in ("notebooks", "data", "here"):
        (disk.root / name).mkdir()
    monkeypatch.setattr(work, "repo_root", lambda: disk.root)
    monkeypatch.setattr(lab, "repo_root", lambda: disk.root)
    monkeypatch.setattr(work, "_answered", lambda: iter(()))
    monkeypatch.setenv("COURSE_DATA", str(disk.root / "data"))
    monkeypatch.setenv("COURSE_PROGRESS", str(disk.root / "progress.json"))
    monkeypatch.chdir(disk.root / "here")
    some_work(disk.root)
    if what == "export":
        hits_a_full_disk(disk, lambda where, _: hosting.export_work(where / "work.zip"))
        return
    archive = hosting.export_work(tmp_path / "work.zip")
    for each in ("notebooks/my_notes.ipynb", "progress.json", "here/model.safetensors"):
        (disk.root / each).unlink()
    hits_a_full_disk(disk, lambda *_: hosting.import_work(archive), None)


def test_results_of_an_experiment(disk, toy, monkeypatch):  # noqa: F811
    monkeypatch.setenv("COURSE_DATA", str(disk.root))
    evidence.run(seeds=1)
    with disk.full(0), pytest.raises(CourseError, match=r"can't be written.*evidence run C18"):
        evidence.run()
    before, found = content(disk.root), evidence.table.read("C18")
    assert found.seeds == [0]
    assert not [name for name in before[1] if name.endswith(".tmp")]
    assert evidence.run()["C18"].seeds == [0, 1, 2, 3, 4, 5]


MADE = {"handouts": (handouts_of, handouts_folder.build), "site": (site_of, site.build)}


@pytest.mark.parametrize("what", MADE)
def test_folders(disk, monkeypatch, what):
    prepare, build = MADE[what]

    def write(where, value):
        prepare(monkeypatch, int(value))
        made = build(where / "made")
        list(made) if what == "handouts" else made

    hits_a_full_disk(disk, write)


def test_a_learners_copy(disk, monkeypatch, tmp_path):
    monkeypatch.setattr(lab, "repo_root", lambda: tmp_path)
    monkeypatch.setattr(lab, "folder", lambda: disk.root / "mine")
    (tmp_path / "notebooks").mkdir()

    def write(where, value):
        for name in ("00_a", "01_b"):
            text = json.dumps({"cells": [], "metadata": {}, "value": [value] * 8000})
            (tmp_path / "notebooks" / f"{name}.ipynb").write_text(text)
        lab.refresh()

    write(disk.root, 1.0)
    for left in LEFT:
        with disk.full(left), contextlib.suppress(CourseError):
            write(disk.root, 2.0)
        names = [p for p in (disk.root / "mine").rglob("*") if p.is_file() and p.suffix != ".lock"]
        whole = {"00_a.ipynb", "01_b.ipynb", "copied.json", lab.WORKSPACE}
        assert {each.name for each in names} == whole
        for each in names:
            assert json.loads(each.read_bytes())
    write(disk.root, 2.0)
    assert "2.0" in (disk.root / "mine" / "00_a.ipynb").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("disk", [64 << 20], indirect=True)
@pytest.mark.parametrize("ending", ["onnx", "pt2"])
def test_an_exported_network(disk, ending):
    torch.manual_seed(0)
    model = backbones.load("timm/test_vit", 3, pretrained=False).eval()
    mine = Predictor(model, ("a", "b", "c"), backbones.preprocessing("timm/test_vit", 160))
    hits_a_full_disk(disk, lambda where, _: export.export_model(mine, where / f"m.{ending}"))


@pytest.mark.parametrize("disk", [256 << 20], indirect=True)
@pytest.mark.parametrize("board", [False, True])
def test_a_job_whose_disk_others_fill(disk, pictures, monkeypatch, board):  # noqa: F811
    monkeypatch.setattr(checkpoints, "check_room", lambda *_: None)  # there was room when asked
    out, stages = disk.root / "out", (StageConfig(epochs=2),)
    config = job(pictures, out, model="timm/test_vit", size=160, pretrained=False,
                 tensorboard=board, stages=stages)  # fmt: skip
    for left in (0, 100_000, 2_000_000):
        with disk.full(left), pytest.raises(CourseError):
            train(config, lambda _: None)
        assert not list(out.rglob("*.tmp"))
        for each in out.rglob("*.ckpt"):
            read_object(each)
    assert train(config, lambda _: None).finished
