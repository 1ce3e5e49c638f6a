"""Several processes do what one does: the same weights, each picture once, and they recover."""

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch.distributed.tensor import DTensor

from course_lib import backbones
from course_lib.jobs import StageConfig, run, train
from course_lib.jobs.checkpoints import best_path
from course_lib.jobs.data import find, transforms
from course_lib.jobs.measuring import measure
from course_lib.jobs.orders import ORDERS, Outcome, try_orders
from course_lib.jobs.plan import build, parts_of
from course_lib.jobs.ranks import Ranks
from course_lib.jobs.sharding import shared_out
from course_lib.weights import load_weights
from tests.jobs.conftest import CLASSES, final, job, together

TOLERANCE = 1e-4
"""Largest difference of a weight, as a share of the largest weight of its tensor: sums of the same
numbers in another order, over 15 steps."""


def quiet(_):
    pass


def settings(pictures, out, **changes):
    """Classes of unequal weight, in a network without dropout (each process has its own)."""
    rows = ["path,label,split"]
    for split in ("train", "val", "test"):
        for name in CLASSES:
            files = sorted((pictures / split / name).iterdir())
            chosen = files[:12] if (split, name) == ("train", "red") else files
            rows += [f"{each},{name},{split}" for each in chosen]
    Path(out).mkdir(parents=True, exist_ok=True)
    (Path(out) / "list.csv").write_text("\n".join(rows))
    return job(Path(out) / "list.csv", out, **{"class_weight": "balanced"} | changes)


def apart(one, other):
    """The largest difference, relative to each tensor's largest value."""
    assert one.keys() == other.keys()
    pairs = [(one[name].double(), other[name].double()) for name in one]
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-6)) for a, b in pairs)


@pytest.fixture(scope="module")
def single(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("single")
    done = train(settings(pictures, folder), quiet)
    return folder, done


def test_two_processes_end_with_the_weights_of_one(pictures, tmp_path, single):
    config = settings(pictures, tmp_path)
    assert together(train, 2, config, quiet) == [0, 0]
    start, end = build(config, CLASSES).state_dict(), final(single[0])
    assert apart(start, {name: end[name] for name in start}) > 100 * TOLERANCE  # what was learned
    assert apart(final(single[0]), final(tmp_path)) < TOLERANCE
    ours, theirs = ((at / "result.json").read_text() for at in (tmp_path, single[0]))
    assert re.findall(r'"pictures": 13', ours)
    assert re.findall(r'"accuracy": [\d.]+', ours) == re.findall(r'"accuracy": [\d.]+', theirs)


def test_what_two_have_begun_one_ends(pictures, tmp_path, single):
    """Killed with SIGKILL after a checkpoint, both; then one process goes on."""
    config = settings(pictures, tmp_path, checkpoint_every=2)
    assert together(train_until_killed, 2, config, 5) == [-signal.SIGKILL] * 2
    train(config, quiet)
    assert apart(final(single[0]), final(tmp_path)) < TOLERANCE


def test_layers_that_are_shared_out_end_as_whole_ones(pictures, tmp_path, single):
    """Two processes that each hold a part of every layer, killed in the middle of the second stage;
    they go on, and so does one that holds everything."""
    config = settings(pictures, tmp_path / "both", shard=True, checkpoint_every=2)
    assert together(train_until_killed, 2, config, 9, True) == [-signal.SIGKILL] * 2
    shutil.copytree(tmp_path / "both", tmp_path / "one")
    assert together(train, 2, config, quiet) == [0, 0]
    assert apart(final(single[0]), final(tmp_path / "both")) < TOLERANCE
    alone = replace(config, out=str(tmp_path / "one"), shard=False)
    train(alone, quiet)
    assert apart(final(single[0]), final(tmp_path / "one")) < TOLERANCE
    ours, theirs = (
        json.loads((at / "result.json").read_text()) for at in (tmp_path / "both", single[0])
    )
    assert ours.pop("measured on") == theirs.pop("measured on") == "test"
    assert ours == pytest.approx(theirs, rel=1e-3)


def scores_of_shared(names, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    place = Ranks(dist.get_rank(), dist.get_world_size(), torch.device("cpu"))
    found = {}
    for name in names:
        torch.manual_seed(0)
        model, images = (
            backbones.load(name, 3, pretrained=False).eval(),
            torch.randn(2, 3, 224, 224),
        )
        shared = shared_out(model, parts_of(model), place)
        scores = shared(images)
        scores.sum().backward()
        left = [each for each, value in shared.named_parameters() if value.grad is None]
        found[name] = scores.detach(), model(images).detach(), left
    torch.save(found, f"{out}/{place.rank}.pt")
    dist.destroy_process_group()


def test_networks_of_many_kinds_can_be_shared_out(tmp_path):
    """Blocks in a Sequential, in a ModuleList (XCiT), a head of several layers, two stages deep."""
    names = ("resnet18", "mobilenet_v3_small", "timm/test_vit", "timm/levit_128s",
             "timm/xcit_nano_12_p16_224")  # fmt: skip
    assert together(scores_of_shared, 2, names, tmp_path) == [0, 0]
    for rank in range(2):
        for shared, whole, left in torch.load(tmp_path / f"{rank}.pt").values():
            assert torch.allclose(shared, whole, atol=1e-5)
            assert left == []


@pytest.mark.parametrize("shard", [False, True])
def test_what_is_measured_is_what_is_saved(pictures, tmp_path, shard):
    """Where each process's BatchNorm has seen other pictures: one network, that of process 0."""
    stages = (StageConfig(thaw=("all",), epochs=1, lr=0.01),)
    config = settings(pictures, tmp_path, hold_statistics=False, stages=stages, shard=shard)
    assert together(train, 2, config, quiet) == [0, 0]
    splits = find(config)
    (row,) = csv.DictReader((tmp_path / "epochs.csv").read_text().splitlines())
    model = build(config, splits.classes)
    load_weights(model, best_path(tmp_path, 1))
    alone = measure(model, splits.val, transforms(config)[1], config,
                    Ranks(0, 1, torch.device("cpu")))  # fmt: skip
    assert alone.loss == pytest.approx(float(row["val_loss"]), rel=1e-4)


def train_until_killed(config, step, shared=False):
    plain = run.Job._step

    def killed(self, *given):
        assert shared == any(isinstance(each, DTensor) for each in self.model.parameters())
        assert not shared or sum(p.to_local().numel() for p in self.model.parameters()) < 0.6 * sum(
            each.numel() for each in self.whole.parameters()
        )
        if self.at.total == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, *given)

    run.Job._step = killed
    train(config, quiet)


def measured_together(config, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    place = Ranks(dist.get_rank(), dist.get_world_size(), torch.device("cpu"))
    splits = find(config)
    model = build(config, splits.classes)
    found = measure(model, splits.test, transforms(config)[1], config, place, worst=5)
    worst = [each.name for each in found.worst]
    torch.save((found.logits, found.targets, found.names, worst), f"{out}/{place.rank}.pt")
    dist.destroy_process_group()


def test_every_picture_is_measured_once_by_any_number_of_processes(pictures, tmp_path):
    """13 pictures over 1, 2 and 3 processes, in batches of 8: what no sampler pads is no lie."""
    config = settings(pictures, tmp_path / "job")
    results = {}
    for world in (1, 2, 3):
        out = tmp_path / str(world)
        out.mkdir()
        assert together(measured_together, world, config, out) == [0] * world
        results[world] = [torch.load(out / f"{rank}.pt") for rank in range(world)]
    logits, targets, names, worst = results[1][0]
    assert len(names) == len(set(names)) == 13
    for world in (2, 3):
        for every in results[world]:
            assert torch.allclose(every[0], logits, atol=1e-5)
            assert torch.equal(every[1], targets)
            assert (every[2], every[3]) == (names, worst)


def test_orders_of_freezing_and_wrapping():
    """What the chapter says of each: two right orders, and three that torch punishes or doesn't."""
    found = {each.order: each for each in try_orders()}
    assert list(found) == list(ORDERS)
    right = found["freeze, then wrap"]
    assert right == Outcome(right.order, "", (), ("norm", "head"), "rank 0")
    wrong = found["wrap, then freeze"]
    assert "Expected to have finished reduction in the prior iteration" in wrong.error
    unused = found["wrap with find_unused_parameters=True, then freeze"]
    assert (unused.error, unused.apart, unused.moved) == ("", (), ("norm", "head"))
    silent = found["unfreeze in the middle"]
    assert silent.error == ""
    assert set(silent.apart) >= {"body.weight", "body.bias"}
    again = found["unfreeze in the middle, and wrap again"]
    assert (again.error, again.apart, again.moved) == ("", (), ("body", "norm", "head"))
    held = found["hold BatchNorm's statistics, then wrap"]
    assert (held.error, held.apart, held.statistics) == ("", (), "stays")


KILLED_ONCE = """
import os, signal, sys
from pathlib import Path
from course_lib.jobs import read_config, run, train

plain, marker = run.Job._step, Path(sys.argv[2])

def step(self, *given):
    if self.at.total == 9 and self.place.rank == 1 and not marker.exists():
        marker.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, *given)

run.Job._step = step
train(read_config(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_killed_worker_is_started_again_by_torchrun(pictures, tmp_path, single):
    """One of two is killed at step 9; torchrun starts both anew; they go on from the checkpoint."""
    config = settings(pictures, tmp_path, checkpoint_every=2)
    text = [f'data = "{config.data}"', f'out = "{tmp_path}"', "size = 32",
            "batch_size = 8", "threads = 1", "log_every = 1",
            "tensorboard = false", 'device = "cpu"', 'class_weight = "balanced"',
            "checkpoint_every = 2", "[[stages]]", "epochs = 1", "lr = 0.003", "[[stages]]",
            'thaw = ["blocks.6", "conv_head", "bn2"]', "epochs = 2", "lr = 0.003"]  # fmt: skip
    (tmp_path / "job.toml").write_text("\n".join(text))
    (tmp_path / "killed.py").write_text(KILLED_ONCE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(run.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=1",
         f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-backend=c10d", "--rdzv-id=test",
         str(tmp_path / "killed.py"), str(tmp_path / "job.toml"), str(tmp_path / "marker")],
        capture_output=True, text=True, timeout=500,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "marker").exists()
    assert re.search(r"Going on from .*step-00000008", done.stdout), done.stdout
    assert apart(final(single[0]), final(tmp_path)) < TOLERANCE
