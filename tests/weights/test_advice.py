"""Advice for old and foreign files, tried out as it stands in the message."""

import argparse
import collections
import importlib
import pathlib
import pickle
import re

import numpy
import pytest
import torch
from torch import nn

from course_lib.weights import (
    CheckpointError,
    UnsafeCheckpointError,
    inspect,
    load_weights,
    read_checkpoint,
)
from tests.weights.conftest import make, same, snapshot

BESIDE = {
    "a number": numpy.float64(0.9),
    "a small number": numpy.float32(0.9),
    "a whole number": numpy.int64(3),
    "an array": numpy.arange(3.0),
    "an array of whole numbers": numpy.arange(3),
    "several": {"a": numpy.float64(1), "b": numpy.ones(2, "f4"), "c": numpy.int16(1)},
    "options": argparse.Namespace(lr=0.1, momentum=numpy.float64(0.9)),
    "a path": pathlib.Path("x"),
}


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("name", BESIDE)
def test_naming_the_classes_works_as_the_message_says(tmp_path, name, new):
    path, state = tmp_path / "m.pth", make(2).state_dict()
    torch.save({"state_dict": state, "beside": BESIDE[name]}, path,
               _use_new_zipfile_serialization=new)  # fmt: skip
    with pytest.raises(UnsafeCheckpointError) as caught:
        read_checkpoint(path)
    line = re.search(
        r"with torch\.serialization\.safe_globals\((\[.*\])\): read", str(caught.value)
    )
    assert line, str(caught.value)
    scope = {"numpy": numpy, "argparse": argparse, "collections": collections, "pathlib": pathlib}
    with torch.serialization.safe_globals(eval(line[1], scope)):
        assert same(dict(read_checkpoint(path).tensors), state)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("kind", [list, dict, int, float])
def test_a_dictionary_with_a_default_is_read_as_a_dictionary(tmp_path, kind, new):
    """torch refuses it even where collections.defaultdict is named as safe."""
    path, state = tmp_path / "m.pth", make(2).state_dict()
    beside = collections.defaultdict(kind, a=kind())
    torch.save({"model": state, "beside": beside}, path, _use_new_zipfile_serialization=new)
    found = read_checkpoint(path)
    assert same(dict(found.tensors), state)
    assert found.others["beside"] == {"a": kind()}


def named(wanted):
    """The classes that an error names, one by one."""
    split = (name.rpartition(".") for name in wanted)
    return [getattr(importlib.import_module(module), name) for module, _, name in split]


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.cv1 = nn.Conv2d(3, width, 1)
        self.m = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))


class Detector(nn.Module):
    """Such as a detector's training script pickles whole: own classes, settings as attributes."""

    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(Block(4), nn.BatchNorm2d(4), nn.SiLU())
        self.yaml, self.names, self.stride = {"nc": 2}, {0: "cat", 1: "dog"}, torch.tensor([8.0])


WHOLE = {
    "beside other things": lambda model: {
        "epoch": -1, "best_fitness": numpy.float64(0.5), "model": model, "ema": None,
        "optimizer": None, "train_args": argparse.Namespace(imgsz=640), "date": "2024-01-01",
    },
    "averaged": lambda model: {"model": make(1), "ema": model, "updates": 20},
    "deep": lambda model: {"epoch": 1, "checkpoint": {"net": model}},
    "alone": lambda model: model,
}  # fmt: skip


@pytest.mark.parametrize("kind", WHOLE)
def test_a_whole_module_is_loaded_once_its_classes_are_named(tmp_path, kind):
    torch.manual_seed(2)
    theirs = Detector().half()
    path = tmp_path / "best.pt"
    torch.save(WHOLE[kind](theirs), path)
    mine = Detector()
    before = snapshot(mine)
    with pytest.raises(UnsafeCheckpointError, match=r"error\.wanted") as caught:
        load_weights(mine, path)
    assert same(snapshot(mine), before)
    with torch.serialization.safe_globals(named(caught.value.wanted)):
        load_weights(mine, path)
        found = inspect(path)
    wanted = {name: each.to(before[name].dtype) for name, each in theirs.state_dict().items()}
    assert same(snapshot(mine), wanted)
    assert found.numbers >= sum(each.numel() for each in wanted.values())


def test_a_whole_module_of_an_old_file_gets_no_advice_that_leads_nowhere(tmp_path):
    """torch refuses it whatever is allowed. A state dict under the key "module" isn't one."""
    path = tmp_path / "old.pt"
    torch.save({"model": Detector()}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(UnsafeCheckpointError, match="Naming the classes doesn't help") as caught:
        read_checkpoint(path)
    named_all = torch.serialization.safe_globals(named(caught.value.wanted))
    with named_all, pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    torch.save({"module": make(1).state_dict(), "options": argparse.Namespace()}, path,
               _use_new_zipfile_serialization=False)  # fmt: skip
    with pytest.raises(UnsafeCheckpointError, match="safe_globals"):
        read_checkpoint(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("beside", ["options", "the network"])
def test_a_real_lightning_file(tmp_path, beside):
    lightning = pytest.importorskip("lightning.pytorch")

    class Task(lightning.LightningModule):
        def __init__(self, options, loss, root, best, network):
            super().__init__()
            self.save_hyperparameters()
            self.net = network or make(2)

        def training_step(self, batch, number):
            return sum(each.sum() for each in self.net.parameters())

        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters())
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    task = Task(argparse.Namespace(lr=0.1), nn.CrossEntropyLoss(), pathlib.Path("x"),
                numpy.float64(0.5), make(2) if beside == "the network" else None)  # fmt: skip
    trainer = lightning.Trainer(
        max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(task, torch.utils.data.DataLoader([torch.zeros(1)] * 2))
    path, model = tmp_path / "last.ckpt", make(1)
    trainer.save_checkpoint(path)
    with pytest.raises(UnsafeCheckpointError) as caught:
        load_weights(model, path)
    with torch.serialization.safe_globals(named(caught.value.wanted)):
        load_weights(model, path)
    assert same(snapshot(model), snapshot(task.net))


@pytest.mark.filterwarnings("ignore")
def test_a_real_torchscript_file(tmp_path):
    path, weights = tmp_path / "script.pt", tmp_path / "weights.pth"
    torch.jit.save(torch.jit.script(make(2).eval()), path)
    for use in (read_checkpoint, inspect):
        with pytest.raises(CheckpointError, match="TorchScript program") as caught:
            use(path)
    line = re.search(
        r"torch\.save\(torch\.jit\.load\(path\)\.state_dict\(\), \S+\)", str(caught.value)
    )
    assert line
    eval(line[0].replace("'weights.pth'", "weights"), {"torch": torch, "path": path,
                                                       "weights": weights})  # fmt: skip
    model = make(1)
    load_weights(model, weights)
    assert same(snapshot(model), snapshot(make(2)))


@pytest.mark.filterwarnings("ignore")
def test_a_quantised_file_goes_into_a_quantised_model(tmp_path):
    def quantised(seed):
        torch.manual_seed(seed)
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(3, 2)), {nn.Linear})

    path = tmp_path / "q.pth"
    torch.save(quantised(2).state_dict(), path)
    model = quantised(1)
    load_weights(model, path)
    x = torch.rand(4, 3)
    assert torch.equal(model(x), quantised(2)(x))
