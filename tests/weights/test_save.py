"""Saving: whole, small, with what is to be known; and killed at random moments."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import safetensors.torch
import torch
from torch import nn

from course_lib.weights import (
    CheckpointError,
    inspect,
    load_weights,
    read_checkpoint,
    save_weights,
)
from tests.weights.conftest import Tied, make, same, snapshot

ENDINGS = ["safetensors", "pth", "pt", "bin", "ckpt"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_round_trip_with_metadata(tmp_path, model, other, pth, ending):
    other.stem.requires_grad_(False)
    report = load_weights(other, pth)
    path = save_weights(
        other, tmp_path / f"mine.{ending}", what="three classes", source=report,
        metrics={"test accuracy": torch.tensor(0.9375)}, extra={"epochs": 3},
    )  # fmt: skip
    found = read_checkpoint(path)
    about = dict(found.metadata)
    assert about.pop("torch") == torch.__version__
    about.pop("format", None)
    assert about == {
        "what": "three classes", "metrics": {"test accuracy": 0.9375}, "extra": {"epochs": 3},
        "source": "15 of 15 tensors loaded from other.pth, matched by the same names.",
        "model": "Small", "frozen": [n for n, _ in other.named_parameters() if "stem" in n],
    }  # fmt: skip
    load_weights(model, path)
    assert same(snapshot(model), snapshot(other))
    assert inspect(path).numbers == 391


@pytest.mark.parametrize("ending", ENDINGS[:2])
def test_metadata_come_back_whole_however_long(tmp_path, other, ending):
    extra = {"classes": [str(i) for i in range(50)], "deep": {"er": {str(i): i for i in range(9)}}}
    path = save_weights(other, tmp_path / f"mine.{ending}", extra=extra)
    assert read_checkpoint(path).metadata["extra"] == extra


def test_other_libraries_read_them(tmp_path, other):
    tensors = safetensors.torch.load_file(save_weights(other, tmp_path / "a.safetensors"))
    assert same(dict(sorted(tensors.items())), dict(sorted(snapshot(other).items())))
    content = torch.load(save_weights(other, tmp_path / "a.pth"), weights_only=True)
    assert same(content["state_dict"], snapshot(other))


def test_a_flipped_bit_is_noticed_in_both_formats(tmp_path, other):
    for ending in ENDINGS[:2]:
        path = save_weights(other, tmp_path / f"a.{ending}")
        content = bytearray(path.read_bytes())
        at = content.index(other.head.weight.detach().numpy().tobytes()) + 9
        content[at] ^= 8
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="CRC-32"):
            read_checkpoint(path)


@pytest.mark.parametrize("ending", ENDINGS[:2])
def test_tied_sliced_and_strange_tensors(tmp_path, ending):
    tied = make(1, Tied)
    path = save_weights(tied, tmp_path / f"tied.{ending}")
    back = make(2, Tied)
    assert load_weights(back, path).tied
    assert same(snapshot(back), snapshot(tied))
    untied = make(2, Tied, tie=False)
    load_weights(untied, path)
    assert same(snapshot(untied), snapshot(tied))
    big = torch.randn(100_000)
    state = {"part": big[3:9], "turned": torch.randn(3, 4).t(), "none": torch.ones(0, 2),
             "one": torch.tensor(1.5), "half": torch.ones(3).bfloat16()}  # fmt: skip
    path = save_weights(state, tmp_path / f"odd.{ending}")
    assert path.stat().st_size < 20_000
    found = dict(read_checkpoint(path).tensors)
    assert same(dict(sorted(found.items())), dict(sorted(state.items())))


def test_what_can_not_be_saved(tmp_path, model):
    path = tmp_path / "a.pth"
    for refused, says in [
        (lambda: save_weights(model, tmp_path / "a.h5"), "ends in '.h5'; expected .safetensors"),
        (lambda: save_weights({"a": 3}, path), "'a' is a int"),
        (lambda: save_weights(model, path, extra={"x": object()}), "metadata can't be saved"),
    ]:
        with pytest.raises(CheckpointError, match=says):
            refused()
    assert not list(tmp_path.iterdir())


WRITER = """
import sys, torch
from course_lib.weights import save_checkpoint, save_weights
model = torch.nn.Linear(300, 300)
optimizer = torch.optim.Adam(model.parameters())
model(torch.ones(1, 300)).sum().backward()
optimizer.step()
kind, path = sys.argv[1:]
print("ready", flush=True)
for number in range(10**9):
    for p in model.parameters():
        torch.nn.init.constant_(p, number)
    if kind == "run":
        save_checkpoint(path, model, optimizer, epoch=number)
    else:
        save_weights(model, path, extra={"number": number})
"""


def kill_and_look(folder, kind, rounds, seed):
    """Start, let it write, kill it at a random moment: the file must be whole, every time."""
    path = folder / ("run.pth" if kind == "run" else f"a.{kind}")
    rng = random.Random(seed)
    seen = []
    for _ in range(rounds):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, kind, str(path)], stdout=subprocess.PIPE
        )
        assert process.stdout
        process.stdout.readline()
        while not path.exists():
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        where = "model" if kind == "run" else None
        found = read_checkpoint(path, where=where)
        number = found.others["epoch"] if kind == "run" else found.metadata["extra"]["number"]
        for each in found.tensors.values():
            assert torch.equal(each, torch.full_like(each, number))
        seen.append(number)
        leftover = [p for p in folder.iterdir() if p != path]
        assert len(leftover) <= 1  # the next save removes what the one before left
    return seen


@pytest.mark.skipif(os.name == "nt", reason="kills as Unix does")
@pytest.mark.parametrize("kind", ["safetensors"])
def test_killed_while_saving(tmp_path, kind):
    kill_and_look(tmp_path, kind, rounds=1, seed=1)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills as Unix does")
@pytest.mark.parametrize("kind", ["safetensors", "pth", "run"])
def test_killed_while_saving_many_times(tmp_path, kind):
    kill_and_look(tmp_path, kind, rounds=12, seed=2)


def test_saving_over_the_file_that_was_loaded(tmp_path, other):
    """With torch.load(mmap=True) this would end the process."""
    path = save_weights(other, tmp_path / "a.safetensors")
    found = read_checkpoint(path)
    save_weights(nn.Linear(2, 2), path)
    assert same(dict(sorted(found.tensors.items())), dict(sorted(snapshot(other).items())))
