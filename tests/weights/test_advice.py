"""Advice for old and foreign files, tried out as it stands in the message."""

import argparse
import collections
import pathlib
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
