"""No file can make us run its code. Each attack here would create a file, the canary."""

import io
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from course_lib.weights import (
    CheckpointError,
    UnsafeCheckpointError,
    inspect,
    load_weights,
    read_checkpoint,
    resume_checkpoint,
)
from course_lib.weights.reading.formats import LEGACY_MAGIC
from tests.weights.conftest import make, snapshot, untouched


class Call:
    """Pickles as: call this function with these arguments."""

    def __init__(self, function, *arguments):
        self.what = (function, arguments)

    def __reduce__(self):
        return self.what


def attacks(canary: Path) -> dict[str, tuple[object, str]]:
    import builtins
    import functools
    import os
    import subprocess

    path = str(canary)
    code = f"open({path!r}, 'w').close()"
    touch = f"touch {path}"
    return {
        "os.system": (Call(os.system, touch), "system"),
        "eval": (Call(builtins.eval, code), "eval"),
        "exec": (Call(builtins.exec, code), "exec"),
        "popen": (Call(subprocess.Popen, ["touch", path]), "subprocess.Popen"),
        "open": (Call(builtins.open, path, "w"), "open"),
        "partial": (Call(functools.partial, os.system, touch), "partial"),
        "torch.load": (Call(torch.load, path), "torch.serialization.load"),
        "torch.save": (Call(torch.save, torch.ones(1), path), "torch.serialization.save"),
        "jit": (Call(torch.jit.load, path), "torch.jit"),
        "hub": (Call(torch.hub.load_state_dict_from_url, "http://x"), "torch.hub"),
        "compile": (Call(builtins.compile, code, "x", "exec"), "compile"),
        "import": (Call(builtins.__import__, "antigravity"), "__import__"),
        "path": (Call(Path.touch, canary), "pathlib|getattr"),
    }


PLACES = {
    "alone": lambda bad: bad,
    "beside weights": lambda bad: {"a": torch.ones(2), "z": bad},
    "as a weight": lambda bad: {"state_dict": {"a": torch.ones(2), "b": bad}},
    "deep": lambda bad: {"model": {"a": torch.ones(2)}, "args": [{"x": (1, [bad])}]},
    "as a key": lambda bad: {"a": torch.ones(2), "k": [bad, bad]},
}


def refuse_everywhere(path, canary):
    model = make(1)
    before = snapshot(model)
    for use in (read_checkpoint, inspect, lambda p: load_weights(model, p),
                lambda p: resume_checkpoint(p, model)):  # fmt: skip
        with pytest.raises(UnsafeCheckpointError) as caught:
            use(path)
        assert not canary.exists()
        assert untouched(model, before)
    return caught.value


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_known_attacks_are_refused_and_nothing_runs(tmp_path, new, place):
    canary, path = tmp_path / "canary", tmp_path / "evil.pth"
    for name, (bad, wanted) in attacks(canary).items():
        torch.save(PLACES[place](bad), path, _use_new_zipfile_serialization=new)
        if new:
            error = refuse_everywhere(path, canary)
        else:
            with pytest.raises(UnsafeCheckpointError) as caught:
                read_checkpoint(path)
            error = caught.value
        assert not canary.exists(), name
        assert any(re.search(wanted, each) for each in error.wanted), (name, error.wanted)
        assert "Nothing of it was run" in str(error)
        assert "safetensors" in str(error)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_attacks_in_every_pickle_protocol(tmp_path, protocol):
    import os

    canary, path = tmp_path / "canary", tmp_path / "evil.pth"
    program = pickle.dumps({"a": Call(os.system, f"touch {canary}")}, protocol)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("evil/data.pkl", program)
        archive.writestr("evil/version", b"3\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnsafeCheckpointError, match="system"):
            read_checkpoint(path)
    assert not canary.exists()


def test_attacks_in_each_pickle_of_an_old_file(tmp_path):
    """An old file is five pickles in a row; each of them could be the evil one."""
    import os

    canary, path = tmp_path / "canary", tmp_path / "evil.pth"
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2)}, buffer, _use_new_zipfile_serialization=False)
    content = buffer.getvalue()
    assert content.startswith(LEGACY_MAGIC)
    stops, file = [], io.BytesIO(content)
    for _ in range(5):
        for _ in pickletools.genops(file):
            pass
        stops.append(file.tell())
    evil = pickle.dumps(Call(os.system, f"touch {canary}"), 2)
    for start, stop in pairwise(stops):
        path.write_bytes(content[:start] + evil + content[stop:])
        with pytest.raises(UnsafeCheckpointError, match=r"posix.system|nt.system"):
            read_checkpoint(path)
        assert not canary.exists()
    path.write_bytes(evil)
    with pytest.raises(CheckpointError, match="wrong magic number"):
        read_checkpoint(path)


def test_attributes_of_allowed_names_do_not_help(tmp_path):
    """``collections.OrderedDict.__init__.__globals__``-like paths: dotted names are refused."""
    canary, path = tmp_path / "canary", tmp_path / "evil.pth"
    for module, name in [
        ("torch._utils", "torch.load"),
        ("collections", "OrderedDict.fromkeys"),
        ("torch", "storage.torch.load"),
        ("torch.nn.parameter", "torch.hub"),
    ]:
        program = b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(tR."
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("evil/data.pkl", program)
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
        assert not canary.exists()


def test_memory_bombs(tmp_path):
    """A tensor of 4 TB in a file of 300 bytes."""
    path = tmp_path / "bomb.pth"
    torch.save({"a": torch.zeros(3)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {each.filename: archive.read(each) for each in archive.infolist()}
    program = next(v for k, v in parts.items() if k.endswith("data.pkl"))
    shape = b"K\x03\x85"  # (3,)
    assert program.count(shape) == 1
    huge = b"\x8a\x05" + struct.pack("<q", 1 << 38)[:5] + b"\x85"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content.replace(shape, huge))
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize(("content", "says"), [
    ({"args": __import__("argparse").Namespace(lr=1), "model": {"a": torch.ones(1)}}, "options"),
    ({"acc": __import__("numpy").float64(0.9), "model": {"a": torch.ones(1)}}, "NumPy number"),
    ({"where": Path("x"), "model": {"a": torch.ones(1)}}, "a path"),
    (torch.nn.Linear(2, 2), "whole model saved"),
])  # fmt: skip
def test_honest_files_that_hold_more_are_refused_with_the_reason(tmp_path, content, says):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UnsafeCheckpointError, match=says):
        read_checkpoint(tmp_path / "x.pth")


def test_the_third_way_on_works(tmp_path):
    import argparse

    torch.save(
        {"args": argparse.Namespace(lr=1), "model": {"a": torch.ones(1)}}, tmp_path / "x.pth"
    )
    with torch.serialization.safe_globals([argparse.Namespace]):
        assert read_checkpoint(tmp_path / "x.pth").where == "model"
    with pytest.raises(UnsafeCheckpointError):
        read_checkpoint(tmp_path / "x.pth")
