"""Threads share the reading: the same values, the same report, the same error."""

import threading

import pytest
import torch
from safetensors.torch import save_file

from course_lib.weights import (
    CheckpointError,
    LoadError,
    load_weights,
    read_checkpoint,
    save_weights,
)
from course_lib.weights.loading import stage as stage_module
from course_lib.weights.reading import threads as threads_module
from course_lib.weights.reading.checkpoint import open_catalogue
from course_lib.weights.reading.stored import Reader
from tests.weights.conftest import make, same, snapshot, untouched


@pytest.fixture(params=[1, 4], ids=["one thread", "four threads"])
def threads(request, monkeypatch):
    """Every tensor of a few bytes is a share of its own."""
    monkeypatch.setattr(threads_module, "SHARE", 16)
    monkeypatch.setattr(threads_module, "LARGE", 0)
    monkeypatch.setattr(threads_module, "THREADS", request.param)
    return request.param


@pytest.fixture
def readers(monkeypatch):
    """The threads that read."""
    seen = set()
    original = Reader.read

    def read(self, stored):
        seen.add(threading.current_thread().name)
        return original(self, stored)

    monkeypatch.setattr(Reader, "read", read)
    return seen


def test_the_same_values_and_the_same_report(model, other, pth, threads, readers):
    report = load_weights(model, pth)
    assert same(snapshot(model), snapshot(other))
    assert [each.name for each in report.loaded] == list(model.state_dict())
    assert all(name.startswith("ThreadPool") for name in readers) == (threads > 1)


def test_a_whole_checkpoint(other, pth, threads, readers):
    assert same(dict(read_checkpoint(pth).tensors), snapshot(other))
    assert len(readers) >= 1
    assert all(name.startswith("ThreadPool") for name in readers) == (threads > 1)


def test_the_first_damaged_tensor_of_the_file_is_named(tmp_path, model, other, threads):
    path = tmp_path / "w.safetensors"
    save_weights(other, path)
    blocks = [each.block for each in open_catalogue(path, None).place.tensors.values()]
    first, *_, last = sorted((block for block in blocks if block), key=lambda each: each.start)
    content = bytearray(path.read_bytes())
    content[first.start] ^= 1
    content[last.start] ^= 1
    path.write_bytes(content)
    before = snapshot(model)
    with pytest.raises(CheckpointError, match=f"from offset {first.start:,} don't fit"):
        load_weights(model, path)
    assert untouched(model, before)


def test_tensors_of_one_storage_are_read_in_one_share(tmp_path, threads):
    """A storage that several tensors share is read once, in whatever thread."""
    model = torch.nn.ModuleDict({name: torch.nn.Linear(4, 4, bias=False) for name in "abcd"})
    whole = torch.arange(64.0)
    state = {f"{name}.weight": whole[16 * i : 16 * i + 16].view(4, 4)
             for i, name in enumerate("abcd")}  # fmt: skip
    path = tmp_path / "shared.pth"
    torch.save(state, path)
    load_weights(model, path)
    assert torch.equal(torch.cat([each.weight.flatten() for each in model.values()]), whole)


def test_conversions_and_checks_in_threads(tmp_path, model, threads):
    state = {name: each.double() if each.is_floating_point() else each
             for name, each in make(9).state_dict().items()}  # fmt: skip
    path = tmp_path / "double.safetensors"
    save_file(state, path)
    report = load_weights(model, path)
    assert same(snapshot(model), snapshot(make(9)))
    assert len(report.converted) == sum(each.is_floating_point() for each in state.values())
    state["head.bias"][1] = torch.nan
    save_file(state, path)
    before = snapshot(model)
    with pytest.raises(LoadError, match=r"head\.bias"):
        load_weights(model, path)
    assert untouched(model, before)


def test_after_an_error_the_rest_is_not_read(tmp_path, monkeypatch, model, other):
    monkeypatch.setattr(threads_module, "SHARE", 1)
    monkeypatch.setattr(threads_module, "LARGE", 0)
    monkeypatch.setattr(threads_module, "THREADS", 2)
    path = tmp_path / "w.safetensors"
    save_weights(other, path)
    began, gate = [], threading.Event()
    original = stage_module._prepare

    def prepare(reader, item):
        began.append(item.name)
        if len(began) == 1:
            raise CheckpointError("the first one fails")
        gate.wait(5)  # the second stays busy until the error is out
        return original(reader, item)

    real = threads_module.ThreadPoolExecutor.shutdown

    def shutdown(self, wait=True):
        gate.set()  # by now, what waits is called off
        real(self, wait=wait)

    monkeypatch.setattr(stage_module, "_prepare", prepare)
    monkeypatch.setattr(threads_module.ThreadPoolExecutor, "shutdown", shutdown)
    with pytest.raises(CheckpointError, match="the first one fails"):
        load_weights(model, path)
    assert len(began) <= 3  # one that failed, and one that each of the two threads was busy with
