"""Reading: every format, every device, every wrapping; and what is not a checkpoint."""

import gzip
import json
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
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
from tests.weights.conftest import Tied, make, rezip, same, snapshot


def write_sharded(folder, state, format):
    names = list(state)
    parts = {"a": names[::2], "b": names[1::2]}
    where = {}
    for part, inside in parts.items():
        file = f"model-{part}.{format}"
        where |= dict.fromkeys(inside, file)
        content = {name: state[name] for name in inside}
        if format == "safetensors":
            safetensors.torch.save_file(content, folder / file)
        else:
            torch.save(content, folder / file)
    index = folder / f"model.{format}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {n: where[n] for n in names}}))
    return index


WRITERS = {
    "zip": lambda p, s: torch.save(s, p),
    "legacy": lambda p, s: torch.save(s, p, _use_new_zipfile_serialization=False),
    "safetensors": lambda p, s: safetensors.torch.save_file(s, p),
    "numpy": lambda p, s: write_numpy(p, s),
}


def write_numpy(path, state):
    with path.open("wb") as file:
        np.savez(file, **{name: each.numpy() for name, each in state.items()})


@pytest.mark.parametrize("ending", ["pth", "bin", "ckpt", "safetensors", "weights"])
@pytest.mark.parametrize("format", WRITERS)
def test_the_content_decides_not_the_ending(tmp_path, other, format, ending):
    path = tmp_path / f"file.{ending}"
    WRITERS[format](path, other.state_dict())
    found = read_checkpoint(path)
    assert found.format == format
    assert same(dict(sorted(found.tensors.items())), dict(sorted(snapshot(other).items())))
    assert found.where == ""
    assert found.prefix == ""
    assert found.alternatives == ()


@pytest.mark.parametrize("format", ["safetensors", "bin"])
def test_shards(tmp_path, other, format):
    index = write_sharded(tmp_path, other.state_dict(), format)
    found = read_checkpoint(index)
    assert found.format == "sharded"
    assert same(dict(found.tensors), snapshot(other))
    assert inspect(index).numbers == sum(t.numel() for t in other.state_dict().values())


@pytest.mark.parametrize("dtype", [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn,
    torch.uint16,
])  # fmt: skip
@pytest.mark.parametrize("format", ["zip", "legacy", "safetensors"])
def test_types_shapes_and_views(tmp_path, dtype, format):
    if format == "legacy" and dtype in (torch.float8_e4m3fn, torch.uint16):
        return  # types that are younger than the format
    base = (torch.arange(24) % 2).reshape(4, 6).to(dtype)
    state = {"whole": base, "scalar": base[0, 0].clone(), "empty": base[:0].clone()}
    if format != "safetensors":  # which knows no shared memory
        state |= {"row": base[1], "column": base[:, 1], "turned": base.t(), "part": base[1:3, 2:]}
    path = tmp_path / "file"
    WRITERS[format](path, state)
    found = read_checkpoint(path).tensors
    if format == "safetensors":  # which has an order of its own
        found, state = dict(sorted(found.items())), dict(sorted(state.items()))
    assert same(dict(found), state)
    assert all(each.is_contiguous() for each in found.values())


def test_conjugates_and_negatives(tmp_path):
    z = torch.complex(torch.randn(3), torch.randn(3))
    state = {"conj": z.conj(), "neg": torch.randn(3, dtype=torch.cfloat).conj().imag}
    torch.save(state, tmp_path / "z.pth")
    found = read_checkpoint(tmp_path / "z.pth").tensors
    for name, each in state.items():
        assert torch.equal(found[name], each.resolve_conj().resolve_neg())


def test_saved_on_a_device_that_is_not_here(tmp_path, other):
    """Every storage says ``cuda:0``, as in a file from a machine with a GPU."""
    path = tmp_path / "gpu.pth"
    torch.save(other.state_dict(), path)
    rezip(
        path,
        lambda name, content: (
            name,
            content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
            if name.endswith("data.pkl")
            else content,
        ),
    )
    assert b"cuda:0" in path.read_bytes()
    found = read_checkpoint(path)
    assert same(dict(found.tensors), snapshot(other))
    assert all(each.device.type == "cpu" for each in found.tensors.values())


def test_reading_does_not_alias_the_file(tmp_path, pth, other):
    """torch.load(mmap=True) would end the process when the file is written again."""
    found = read_checkpoint(pth)
    pth.write_bytes(b"")
    assert same(dict(found.tensors), snapshot(other))


WRAPPED = {
    "lightning": (lambda s: {"epoch": 3, "global_step": 9, "pytorch-lightning_version": "2.5",
                  "state_dict": {f"model.{k}": v for k, v in s.items()}, "callbacks": {},
                  "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
                  "lr_schedulers": []}, "state_dict", "model."),
    "timm": (lambda s: {"epoch": 3, "arch": "small", "state_dict": s, "version": 2,
             "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}},
             "state_dict", ""),
    "timm ema": (lambda s: {"state_dict": {k: v * 0 for k, v in s.items()}, "state_dict_ema": s},
                 "state_dict_ema", ""),
    "deit": (lambda s: {"model": s}, "model", ""),
    "ddp": (lambda s: {"net": {f"module.{k}": v for k, v in s.items()}, "acc": 93.1}, "net",
            "module."),
    "compiled ddp": (lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()}, "",
                     "module._orig_mod."),
    "nested": (lambda s: {"checkpoint": {"model": {"state_dict": s}, "loss": torch.ones(())}},
               "checkpoint.model.state_dict", ""),
    "beside single tensors": (lambda s: {"acc": torch.ones(()), "best": torch.ones(()),
                              "weights": s, "loss": torch.ones(())}, "weights", ""),
    "only place": (lambda s: {"backbone_v2": s, "epoch": 1}, "backbone_v2", ""),
    "ordered": (lambda s: OrderedDict(s), "", ""),
    "parameters": (lambda s: {k: nn.Parameter(v, False) for k, v in s.items()}, "", ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("new", [True, False])
def test_the_weights_are_found_in_what_wraps_them(tmp_path, other, kind, new):
    wrap, where, prefix = WRAPPED[kind]
    path = tmp_path / "wrapped.ckpt"
    torch.save(wrap(other.state_dict()), path, _use_new_zipfile_serialization=new)
    found = read_checkpoint(path)
    assert (found.where, found.prefix) == (where, prefix)
    values = {name.removeprefix(prefix): each for name, each in found.tensors.items()}
    assert same(values, snapshot(other))
    assert repr(where) in str(found) or not where


def test_what_else_was_in_the_file_is_told(tmp_path, other):
    path = tmp_path / "run.ckpt"
    torch.save(WRAPPED["timm"][0](other.state_dict()), path)
    found = read_checkpoint(path)
    assert found.others["epoch"] == 3
    assert found.others["arch"] == "small"
    assert found.others["optimizer"]["state"][0]["exp_avg"] == "tensor float32 (3,)"


def test_several_places_need_a_choice(tmp_path, other):
    path = tmp_path / "gan.pth"
    state = other.state_dict()
    torch.save({"generator": state, "discriminator": {"w": torch.ones(2)}}, path)
    with pytest.raises(CheckpointError, match=r"2 places.*'generator' \(15 tensors\)"):
        read_checkpoint(path)
    assert inspect(path).places == ("generator", "discriminator")
    chosen = read_checkpoint(path, where="discriminator")
    assert list(chosen.tensors) == ["w"]
    assert chosen.alternatives == ("generator",)
    with pytest.raises(CheckpointError, match="Did you mean 'generator'"):
        read_checkpoint(path, where="generater")


@pytest.mark.parametrize(("content", "says"), [
    (torch.ones(3), "single tensor"),
    ([torch.ones(3)], "a list of 1"),
    ({"epoch": 3}, "keys: 'epoch'"),
    ({"optimizer": {"a": torch.ones(3)}}, "holds no weights"),
    (5, "type int"),
])  # fmt: skip
def test_objects_without_weights(tmp_path, content, says):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=says):
        read_checkpoint(tmp_path / "x.pth")


def test_sparse_and_quantised_tensors_are_refused(tmp_path):
    torch.save({"a": torch.ones(2), "b": torch.eye(3).to_sparse()}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="'b' is a sparse"):
        read_checkpoint(tmp_path / "x.pth")


def strangers(folder, pth):
    good = pth.read_bytes()
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        archive.writestr("a.jpg", b"x")
    with zipfile.ZipFile(folder / "deflated.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        for each in (inside := zipfile.ZipFile(pth)).infolist():
            archive.writestr(each.filename, inside.read(each))
    with tarfile.open(folder / "x.tar", "w") as archive:
        archive.add(pth, "x.pth")
    return {
        "empty": (b"", "is empty"),
        "html": (b"<!DOCTYPE html><html><title>Sign in</title>", "is a web page"),
        "html2": (b"\n  <HTML lang=en>\n<head>", "is a web page"),
        "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 1\n", "git lfs"),
        "json": (b'{"error": "not found"}', "JSON text"),
        "badjson": (b'{"error": ', "damaged JSON"),
        "text": (b"404: Not Found\n", "is a text"),
        "gzip": (gzip.compress(good), "gzip archive"),
        "tar": ((folder / "x.tar").read_bytes(), "tar archive"),
        "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
        "zeros": (bytes(5000), "nothing but zeros"),
        "noise": (bytes(range(128, 256)) * 9, "no checkpoint that is known"),
        "magic": (b"XX" + good[2:], "beginning is damaged"),
        "pickle": (b"\x80\x04\x95\x10" + bytes(40), "wrong magic number"),
        "half": (good[: len(good) // 2], "truncated"),
        "photos": ((folder / "photos.zip").read_bytes(), "without a checkpoint"),
        "deflated": ((folder / "deflated.pth").read_bytes(), "compressed"),
        "one byte": (b"\x80", "pickle|known"),
    }


def test_what_is_no_checkpoint_is_named(tmp_path, pth):
    for name, (content, says) in strangers(tmp_path, pth).items():
        path = tmp_path / f"{name}.pth"
        path.write_bytes(content)
        for read in (read_checkpoint, inspect):
            with pytest.raises(CheckpointError, match=says):
                read(path)


def test_missing_files_and_folders(tmp_path, pth):
    with pytest.raises(CheckpointError, match=r"Did you mean 'other.pth'"):
        read_checkpoint(tmp_path / "othr.pth")
    with pytest.raises(CheckpointError, match=r"is a folder.*other\.pth"):
        read_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="There is no file"):
        read_checkpoint(tmp_path / "no" / "such.pth")


def test_torchscript_is_refused(tmp_path):
    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"script/{name}", b"\x80\x02}.")
    with pytest.raises(CheckpointError, match="TorchScript program"):
        read_checkpoint(path)


def test_tampering_is_noticed_by_checksums(pth):
    """torch.load reads this file without a word."""
    content = bytearray(pth.read_bytes())
    with zipfile.ZipFile(pth) as archive:
        member = next(each for each in archive.infolist() if each.filename.endswith("data/0"))
    at = content.index(b"PK\x03\x04", member.header_offset) + 200
    content[at] ^= 1
    pth.write_bytes(content)
    torch.load(pth, weights_only=True)
    with pytest.raises(CheckpointError, match=r"other/data/0 doesn't fit.*CRC-32"):
        read_checkpoint(pth)


def test_the_first_damaged_tensor_is_named(tmp_path, model, other):
    path = save_weights(other, tmp_path / "w.safetensors")
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    first = next(name for name, each in header.items() if each.get("data_offsets", "?")[0] == 0)
    content[start] ^= 1
    content[-1] ^= 1
    path.write_bytes(content)
    before = snapshot(model)
    for use in (read_checkpoint, lambda file: load_weights(model, file)):
        with pytest.raises(CheckpointError, match=f"tampered with: {first!r} doesn't fit"):
            use(path)
    assert same(snapshot(model), before)


def test_swapped_duplicate_and_moved_members(tmp_path, pth):
    good = pth.read_bytes()
    names = {"other/data/0": "other/data/1", "other/data/1": "other/data/0"}
    rezip(pth, lambda name, content: (names.get(name, name), content))
    with pytest.raises(CheckpointError):
        read_checkpoint(pth)  # of different sizes: the tensors don't fit
    pth.write_bytes(good)
    rezip(pth, lambda name, content: (name.replace("other/data/", "else/data/"), content))
    with pytest.raises(CheckpointError, match="outside of its folder"):
        read_checkpoint(pth)
    pth.write_bytes(good)
    rezip(pth, lambda name, content: None if name.endswith("data/3") else (name, content))
    with pytest.raises(CheckpointError):
        read_checkpoint(pth)


def test_a_table_of_contents_with_two_entries_exchanged(tmp_path):
    """With their checksums, so that the contents fit: only the members' own names tell."""
    path = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(3), "b": torch.ones(3)}, path)
    content = bytearray(path.read_bytes())
    entries = [content.rindex(f"w/data/{at}".encode()) - 46 for at in (0, 1)]
    for begin, length in ((16, 4), (42, 4)):  # the checksum, and where the member lies
        places = [slice(at + begin, at + begin + length) for at in entries]
        content[places[0]], content[places[1]] = content[places[1]], content[places[0]]
    path.write_bytes(content)
    assert torch.load(path)["a"].tolist() == [1.0, 1.0, 1.0]  # torch takes them as they come
    with pytest.raises(CheckpointError, match="isn't where the table of contents says"):
        read_checkpoint(path)


def test_files_saved_without_checksums(tmp_path, other):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(other.state_dict(), tmp_path / "x.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(dict(read_checkpoint(tmp_path / "x.pth").tensors), snapshot(other))


def test_a_file_of_a_big_endian_machine(tmp_path):
    path = tmp_path / "big.pth"
    state = {"a": torch.arange(3.0), "b": torch.arange(5), "c": torch.arange(6.0).half()}
    state |= {"d": torch.arange(4.0).reshape(2, 2).t(), "e": torch.tensor([True, False])}
    torch.save(state, path)
    sizes = {f"big/data/{at}": each.itemsize for at, each in enumerate(state.values())}

    def turned(name, content):
        size = sizes.get(name, 1)
        content = b"".join(content[at : at + size][::-1] for at in range(0, len(content), size))
        return name, b"big" if name.endswith("byteorder") else content

    rezip(path, turned)
    assert same(dict(read_checkpoint(path).tensors), state)


def test_sha256(pth):
    import hashlib

    true = hashlib.sha256(pth.read_bytes()).hexdigest()
    for good in (true, true.upper(), true[:8]):
        read_checkpoint(pth, sha256=good)
    with pytest.raises(CheckpointError, match=f"is {true}, expected 00000000"):
        read_checkpoint(pth, sha256="0" * 8)
    for bad in ("", "abc", "xyzxyzxyz", true + "0"):
        with pytest.raises(CheckpointError, match="is no SHA-256"):
            read_checkpoint(pth, sha256=bad)


def header_of(tensors, data=b"", **changes):
    text = json.dumps({**tensors, **changes}).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(("content", "says"), [
    (header_of({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(4)), "truncat"),
    (header_of({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, bytes(8)), "damaged"),
    (header_of({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(9)), "added"),
    (header_of({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, -8]}}), "damaged"),
    (header_of({"a": {"dtype": "F32", "shape": [1 << 61] * 2, "data_offsets": [0, 0]}}), "damaged"),
    (header_of({"a": {"dtype": "XX", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)), "XX"),
    (header_of({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
                "b": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}}, bytes(3)), "damaged"),
    (header_of({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, bytes(2)), "damaged"),
    ((99).to_bytes(8, "little") + b"{}", "truncated"),
    (b'\x0c\0\0\0\0\0\0\0{"a":1,"a":2}', "damaged"),
    (b'\x02\0\0\0\0\0\0\0{}', "holds no weights"),
])  # fmt: skip
def test_damaged_safetensors(tmp_path, content, says):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=says):
        read_checkpoint(tmp_path / "x.safetensors")


def test_damaged_indexes(tmp_path, other):
    index = write_sharded(tmp_path, other.state_dict(), "safetensors")
    good = json.loads(index.read_text())

    def refused(change, says):
        content = json.loads(json.dumps(good))
        change(content["weight_map"])
        index.write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match=says):
            read_checkpoint(index)

    refused(
        lambda m: m.update({"stem.0.weight": "../model-a.safetensors"}), "outside of its folder"
    )
    refused(lambda m: m.update({"stem.0.weight": "/etc/passwd"}), "outside of its folder")
    refused(lambda m: m.update({"stem.0.weight": "gone.safetensors"}), "gone.safetensors")
    refused(lambda m: m.update({"stem.9.weight": "model-a.safetensors"}), "Did you mean")
    refused(lambda m: m.pop("stem.0.weight"), "doesn't name 'stem.0.weight'")
    refused(lambda m: m.update({"stem.0.weight": 3}), "damaged")
    refused(lambda m: m.clear(), "without a single tensor")
    (tmp_path / "model-a.safetensors").write_bytes(b"")
    refused(lambda m: None, "is empty")


def test_numpy_objects_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array([{}], dtype=object))
    with pytest.raises(CheckpointError, match=r"damaged|object"):
        read_checkpoint(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", a=np.ones(3, ">f4"), note=np.array("made in 2026"))
    found = read_checkpoint(tmp_path / "y.npz")
    assert found.tensors["a"].tolist() == [1, 1, 1]
    assert found.metadata == {"note": "made in 2026"}


def test_tied_names_come_back_from_safetensors(tmp_path):
    tied = make(3, Tied)
    safetensors.torch.save_model(tied, str(tmp_path / "lib.safetensors"))
    save_weights(tied, tmp_path / "ours.safetensors")
    for path in tmp_path.iterdir():
        assert sorted(read_checkpoint(path).tensors) == ["embed.weight", "out.weight"]


def test_inspect_prints_a_tree(tmp_path, other):
    path = tmp_path / "run.ckpt"
    torch.save({"epoch": 3, "state_dict": other.state_dict()}, path)
    seen = inspect(path, depth=3)
    assert seen.places == ("state_dict",)
    assert seen.format == "zip"
    assert seen.tensors["state_dict.head.weight"].shape == (3, 6)
    assert seen.tensors["state_dict.head.weight"].nbytes == 72
    text = str(seen)
    assert "15 tensors, 391 numbers, 1.6 kB; weights at: 'state_dict'" in text
    assert "epoch       3" in text
    assert "    head      2 tensors, 21 numbers, 84 bytes" in text
    assert "running_mean" in str(inspect(path, depth=None))
    assert "stem" not in str(inspect(path, depth=1))


def test_inspect_reads_no_tensors(tmp_path, pth, other):
    """A flipped bit in a tensor is none of its business."""
    safetensors.torch.save_file(other.state_dict(), tmp_path / "x.safetensors")
    assert inspect(pth).numbers == inspect(tmp_path / "x.safetensors").numbers == 391
    content = bytearray(pth.read_bytes())
    with zipfile.ZipFile(pth) as archive:
        at = archive.getinfo("other/data/0").header_offset
    content[at + 200] ^= 1
    pth.write_bytes(content)
    assert inspect(pth).numbers == 391
    with pytest.raises(CheckpointError):
        read_checkpoint(pth)
