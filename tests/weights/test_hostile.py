"""Files made to hang, to fill the memory, to mislead or to be swapped: refused at once."""

import contextlib
import hashlib
import io
import json
import os
import pickle
import resource
import struct
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING

import numpy as np
import psutil
import pytest
import safetensors.torch
import torch
from torch import nn

from course_lib.errors import suggest
from course_lib.weights import (
    CheckpointError,
    LoadError,
    UnsafeCheckpointError,
    inspect,
    load_weights,
    read_checkpoint,
    save_checkpoint,
    save_weights,
)
from course_lib.weights.reading import checkpoint, digests, pickles
from tests.weights.conftest import make, same, snapshot

GIGABYTE = 1 << 30


def doubled(kind, levels=45):
    value = kind()
    for _ in range(levels):
        value = {"a": value, "b": value} if kind is dict else kind([value, value])
    return value


def packed(program: bytes, path):
    """A file of torch.save with this pickle in it."""
    torch.save({}, path)
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, program if name.endswith("data.pkl") else content)
    return path


@contextlib.contextmanager
def little_memory(more=GIGABYTE):
    """Whatever asks for more than this fails; so does one that only claims it."""
    used = psutil.Process().memory_info().vms
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


# --- walks through shared objects -------------------------------------------------------------


def wide(levels=5):
    value = {}
    for _ in range(levels):
        value = {str(key): value for key in range(100)}
    return value


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("make_it", [
    lambda: doubled(list), lambda: doubled(tuple), lambda: doubled(dict), wide,
    lambda: {"w": torch.ones(2), "more": doubled(list)},
    lambda: {"metadata": doubled(dict), "state_dict": {"w": torch.ones(2)}},
], ids=["lists", "tuples", "dictionaries", "wide", "beside weights", "as metadata"])  # fmt: skip
def test_objects_that_hold_each_other_again_and_again(tmp_path, make_it, legacy):
    path = tmp_path / "x.pth"
    torch.save(make_it(), path, _use_new_zipfile_serialization=not legacy)
    for look in (inspect, read_checkpoint, lambda path: load_weights(make(1), path)):
        with pytest.raises(CheckpointError, match=r"hold each other again|no weights"):
            look(path)


DOUBLED = b")q\x01" + b"".join(  # () ; ((), ()) ; ...: each into the memo, and twice from there
    b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) for n in range(1, 46)
)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("use", [
    b"}" + DOUBLED + b"K\x01s.", b"cbuiltins\nset\n]" + DOUBLED + b"a\x85R.", DOUBLED + b")R.",
    DOUBLED + b")\x81.", b"cbuiltins\nint\n" + DOUBLED + b"\x85R.",
], ids=["key", "set", "called", "made", "number"])  # fmt: skip
def test_tuples_that_take_for_ever_to_hash_or_to_print(tmp_path, use, legacy):
    path = packed(b"\x80\x02" + use, tmp_path / "x.pth")
    if legacy:
        torch.save({}, path, _use_new_zipfile_serialization=False)
        content = path.read_bytes()
        path.write_bytes(content.replace(pickle.dumps({}, 2), b"\x80\x02" + use))
    for look in (inspect, read_checkpoint):
        with pytest.raises(CheckpointError, match=r"again and again|isn't a name"):
            look(path)


def test_objects_that_hold_themselves(tmp_path):
    loop: list = [torch.ones(1)]
    loop.append(loop)
    torch.save({"w": torch.ones(1), "loop": loop}, tmp_path / "x.pth")
    for look in (inspect, read_checkpoint):
        with pytest.raises(CheckpointError, match="holds itself"):
            look(tmp_path / "x.pth")


def test_honest_files_share_objects_too(tmp_path):
    betas, options = (0.9, 0.999), {"lr": 0.1, "betas": [0.9, 0.999]}
    groups = [{**options, "betas": betas, "options": options} for _ in range(300)]
    torch.save({"state_dict": {"w": torch.ones(2)}, "optimizer": groups}, tmp_path / "x.pth")
    assert read_checkpoint(tmp_path / "x.pth").tensors["w"].tolist() == [1, 1]
    assert "optimizer" in str(inspect(tmp_path / "x.pth"))


# --- sizes that are only claimed --------------------------------------------------------------


MANY = (6 * 10**9).to_bytes(5, "little")
BEGIN = b"\x80\x02}X\x01\x00\x00\x00a"  # a dictionary with "a": ...
CLAIMS = {
    "bytearray": b"cbuiltins\nbytearray\n\x8a\x05" + MANY + b"\x85Rs.",
    "old bytearray": b"c__builtin__\nbytearray\n\x8a\x05" + MANY + b"\x85Rs.",
    "made new": b"cbuiltins\nbytearray\n\x8a\x05" + MANY + b"\x85\x81s.",
    "tensor": b"ctorch\nTensor\n\x8a\x05" + MANY + b"\x85Rs.",
    "tensor of a shape": b"ctorch\nTensor\nJ\x00\x00\x01\x00J\x00\x00\x01\x00\x86Rs.",
    "typed": b"ctorch\nDoubleTensor\nJ\x00\x00\x00\x70\x85Rs.",
    "storage": b"ctorch.storage\nUntypedStorage\n\x8a\x05" + MANY + b"\x85Rs.",
    "from the memo": b"cbuiltins\nbytearray\nq\x01\x8a\x05" + MANY + b"q\x0200h\x01h\x02\x85Rs.",
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_pickles_that_ask_for_memory_by_a_number(tmp_path, name):
    path = packed(BEGIN + CLAIMS[name], tmp_path / "x.pth")
    with little_memory():
        for look in (inspect, read_checkpoint):
            with pytest.raises(CheckpointError, match="asks for"):
                look(path)


def test_an_honest_bytearray(tmp_path):
    torch.save({"w": torch.ones(2), "b": bytearray(b"abc" * 1000)}, tmp_path / "x.pth")
    assert read_checkpoint(tmp_path / "x.pth").tensors["w"].tolist() == [1, 1]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_small_tensor_that_claims_terabytes(tmp_path, legacy):
    path = tmp_path / "x.pth"
    torch.save({"w": torch.ones(1).expand(1 << 40)}, path,
               _use_new_zipfile_serialization=not legacy)  # fmt: skip
    assert path.stat().st_size < 2000
    with little_memory():
        assert inspect(path).tensors["w"].shape == (1 << 40,)
        with pytest.raises(CheckpointError, match=r"4,398\.0 GB of memory"):
            read_checkpoint(path)


def program_of(path):
    with zipfile.ZipFile(path) as archive:
        return next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_tensor_and_a_storage_that_claim_more_than_the_file_has(tmp_path, legacy):
    path, count, claim = tmp_path / "x.pth", b"J\x70\x11\x01\x00", b"J\x00\x00\x00\x70"
    torch.save({"w": torch.ones(70000)}, path, _use_new_zipfile_serialization=not legacy)
    if legacy:
        path.write_bytes(path.read_bytes().replace(count, claim))
    else:
        packed(program_of(path).replace(count, claim), path)
    with little_memory(), pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_many_names_of_one_tensor_take_its_memory_once(tmp_path):
    one = torch.arange(1 << 20, dtype=torch.float32)
    state = {f"n{place}": one for place in range(500)}
    state |= {f"v{place}": one[place:] for place in range(500)}
    torch.save(state, tmp_path / "x.pth")
    with little_memory():
        found = read_checkpoint(tmp_path / "x.pth").tensors
    assert found["n0"].data_ptr() == found["n499"].data_ptr()
    assert torch.equal(found["v499"], one[499:])
    assert torch.equal(found["n3"], one)


def test_an_archive_that_a_few_bytes_make_huge(tmp_path):
    path = tmp_path / "x.npz"
    head = {"descr": "<f4", "fortran_order": False, "shape": (3 << 26,)}
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as file,
    ):
        np.lib.format.write_array_header_1_0(file, head)
        for _ in range(3 << 8):
            file.write(bytes(1 << 20))
    with little_memory(GIGABYTE // 4):
        assert inspect(path).tensors["a"].nbytes == 3 << 28
        with pytest.raises(CheckpointError, match="claims to hold 805,306,368"):
            read_checkpoint(path)


def test_numpy_archives_that_fit_are_read_packed_too(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(1 << 20, "f4"), b=np.ones((2, 0, 3)))
    found = read_checkpoint(tmp_path / "x.npz").tensors
    assert found["a"].numel() == 1 << 20
    assert found["b"].shape == (2, 0, 3)
    assert inspect(tmp_path / "x.npz").tensors["b"].dtype == "float64"


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_file_with_holes_that_is_larger_than_the_memory(tmp_path, ending):
    """Nothing lies on the disk, and yet it has its terabyte."""
    path, size = tmp_path / f"x.{ending}", 1 << 40
    if ending == "safetensors":
        entry = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
        head = json.dumps({"w": entry}).encode()
        path.write_bytes(struct.pack("<Q", len(head)) + head)
        whole = 8 + len(head) + size
    else:
        torch.save({"w": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
        whole = size
    try:
        os.truncate(path, whole)
    except OSError:
        pytest.skip("this file system has no such files")
    with pytest.raises(CheckpointError, match=r"GB of memory"):
        read_checkpoint(path)


@pytest.mark.parametrize("shape", [[0, 1 << 61], [1 << 62, 0], [0, (1 << 63) - 1]])
def test_empty_tensors_of_an_endless_shape(tmp_path, shape):
    head = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(head)) + head)
    for look in (inspect, read_checkpoint, lambda path: load_weights(make(1), path)):
        with contextlib.suppress(CheckpointError, ValueError):
            look(path)


# --- what a pickle wants ----------------------------------------------------------------------


def trick(module, name):
    """Puts the true words into the memo, and harmless ones in sight."""
    words = (module, name, "numpy", "dtype")
    texts = b"".join(b"\x8c" + bytes([len(w)]) + w.encode() + b"\x94" for w in words)
    return b"\x80\x04" + texts + b"0000" + b"h\x00h\x01\x93\x8c\x02ls\x85R."


@pytest.mark.parametrize(("program", "wanted"), [
    (trick("posix", "system"), "posix.system"),
    (b"\x80\x04\x8c\x02os2\x93.", "os.os"),
    (b"\x80\x04\x8c\x06system\x94\x8c\x05posix0\x8c\x05posixh\x00\x93.", "posix.system"),
    (b"\x80\x02cposix\nsystem\nq\x01X\x02\x00\x00\x00ls\x85R.", "posix.system"),
    (b"(S'ls'\niposix\nsystem\n.", "posix.system"),
    (b"(cposix\nsystem\nS'ls'\no.", "posix.system"),
    (b"\x80\x04)\x8c\x06system\x93.", pickles.UNTOLD),
    (b"\x80\x02\x82\x07.", "extension 7"),
    (b"iposix\nsystem\n.", "posix.system"),  # there are no arguments, and yet it is imported
    (b"(ocposix\nsystem\n.", "posix.system"),
    (b"\x80\x02cposix x\nsystem\n.", pickles.UNTOLD),
    (b"\x80\x02c\xc3\xa9\nx\n0cposix\nsystem\n.", pickles.UNTOLD),
])  # fmt: skip
def test_what_a_pickle_wants_is_what_its_machine_would_import(tmp_path, program, wanted):
    with pytest.raises(UnsafeCheckpointError) as caught:
        read_checkpoint(packed(program, tmp_path / "x.pth"))
    assert caught.value.wanted[0] == wanted
    assert "honest" not in str(caught.value)


def test_a_name_that_is_no_ascii_hides_nothing_behind_one_that_is_usual():
    program = b"\x80\x02cnumpy\ndtype\n0c\xc3\xa9\nx\n."
    told = pickles.refusal("x", program, "")
    assert told.wanted[:2] == ("numpy.dtype", pickles.UNTOLD)
    assert "honest" not in str(told)


def test_each_pickle_of_a_row_has_a_memo_of_its_own():
    before = pickle.dumps(["numpy", "dtype", {"a": 1}], 4)
    assert pickles.wanted_names(before + trick("posix", "system")) == ("posix.system",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", [
    {"a": np.float64(3)}, [np.arange(3), {1, 2}], (1, (2, [3, {4: 5}])), frozenset([b"x", None]),
    {"t": torch.nn.Linear(2, 2), "n": slice(1, 2), "c": 1j},
], ids=lambda each: type(each).__name__)  # fmt: skip
def test_the_names_are_those_that_python_imports(value, protocol):
    """Python's own machine, which imports them, says the same, in the same order."""
    asked = []

    class Told(pickle.Unpickler):
        def find_class(self, module, name):
            today = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
            asked.append(".".join(today))
            return super().find_class(module, name)

    program = pickle.dumps(value, protocol)
    Told(io.BytesIO(program)).load()
    assert pickles._Machine(program).names == asked


# --- one file, checked and read ----------------------------------------------------------------


@pytest.mark.parametrize("how", ["replace", "write", "link", "folder"])
@pytest.mark.parametrize("format", ["zip", "legacy", "safetensors", "numpy"])
def test_a_file_that_is_swapped_after_its_hash_was_right(tmp_path, monkeypatch, format, how):
    good, bad = tmp_path / "good" / "x", tmp_path / "bad" / "x"
    for path, state in ((good, make(1).state_dict()), (bad, make(2).state_dict())):
        path.parent.mkdir()
        if format in ("zip", "legacy"):
            torch.save(state, path, _use_new_zipfile_serialization=format == "zip")
        elif format == "safetensors":
            safetensors.torch.save_file(state, path)
        else:
            with path.open("wb") as file:
                np.savez(file, **{name: each.numpy() for name, each in state.items()})
    right, digest = snapshot(make(1)), hashlib.sha256(good.read_bytes()).hexdigest()
    path = good
    if how == "link":
        path = tmp_path / "link"
        path.symlink_to(good)
    check = digests.check_sha256

    def and_then(*arguments):
        check(*arguments)
        before = good.stat()
        if how == "replace":
            bad.replace(good)
        elif how == "write":
            good.write_bytes(bad.read_bytes())
        elif how == "link":
            path.unlink()
            path.symlink_to(bad)
        else:
            good.parent.rename(tmp_path / "away")
            bad.parent.rename(tmp_path / "good")
        os.utime(good, ns=(before.st_atime_ns, before.st_mtime_ns))

    monkeypatch.setattr(checkpoint, "check_sha256", and_then)
    with contextlib.suppress(CheckpointError):  # that it was changed
        assert same(dict(read_checkpoint(path, sha256=digest).tensors), right)


# --- what a file of ours lists ------------------------------------------------------------------


def header_of(path):
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write_header(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def renamed(header):
    header["head.weighs"] = header.pop("head.weight")


def renamed_with_its_checksum(header):
    renamed(header)
    listed = json.loads(header["__metadata__"]["crc32"])
    listed["tensors"]["head.weighs"] = listed["tensors"].pop("head.weight")
    header["__metadata__"]["crc32"] = json.dumps(listed)


def without_its_checksum(header):
    renamed(header)
    listed = json.loads(header["__metadata__"]["crc32"])
    del listed["tensors"]["head.weight"]
    header["__metadata__"]["crc32"] = json.dumps(listed)


def other_type(header):
    header["head.weight"]["dtype"] = "I32"


def other_shape(header):
    header["head.weight"]["shape"] = header["head.weight"]["shape"][::-1]


def changed_places(header):
    """With their checksums: only the list of these is another one."""
    one, other = "stem.1.bias", "stem.1.running_var"
    listed = json.loads(header["__metadata__"]["crc32"])
    for where in (header, listed["tensors"]):
        where[one], where[other] = where[other], where[one]
    header["__metadata__"]["crc32"] = json.dumps(listed)


def no_checksums(header):
    renamed(header)
    del header["__metadata__"]["crc32"]


def other_words(header):
    header["__metadata__"]["about"] = header["__metadata__"]["about"].replace("mine", "ours")


@pytest.mark.parametrize("change", [
    renamed, renamed_with_its_checksum, without_its_checksum, other_type, other_shape,
    no_checksums, other_words, changed_places,
])  # fmt: skip
def test_the_names_types_and_words_are_under_the_checksum(tmp_path, change):
    path = save_weights(make(1), tmp_path / "x.safetensors", what="mine")
    header, data = header_of(path)
    change(header)
    write_header(path, header, data)
    for look in (inspect, read_checkpoint):
        with pytest.raises(CheckpointError, match="names don't fit its checksums"):
            look(path)


def test_files_of_earlier_versions_list_their_checksums_alone(tmp_path):
    path = save_weights(make(1), tmp_path / "x.safetensors", what="mine")
    header, data = header_of(path)
    listed = json.loads(header["__metadata__"]["crc32"])["tensors"]
    header["__metadata__"]["crc32"] = json.dumps(listed)
    write_header(path, header, data)
    assert same(dict(sorted(read_checkpoint(path).tensors.items())),
                dict(sorted(snapshot(make(1)).items())))  # fmt: skip
    renamed(header)
    write_header(path, header, data)
    with pytest.raises(CheckpointError, match="names don't fit"):
        read_checkpoint(path)


@pytest.mark.parametrize("words", [
    {"about": "[1]"}, {"about": "7"}, {"about": "{"}, {"crc32": '{"w": "text"}'}, {"crc32": "[]"},
    {"crc32": '{"tensors": {"w": "text"}, "header": 0}'}, {"about": "[" * 100_000},
    {"crc32": '{"w": null}'}, {"about": "\ud800"},
])  # fmt: skip
def test_words_in_a_header_that_are_none_of_ours(tmp_path, words):
    safetensors.torch.save_file({"w": torch.ones(2)}, tmp_path / "x.safetensors")
    header, data = header_of(tmp_path / "x.safetensors")
    write_header(tmp_path / "x.safetensors", {**header, "__metadata__": words}, data)
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.parametrize("gone", ["at the end", "at the start", "in the middle"])
def test_a_table_of_contents_that_lost_entries(tmp_path, gone):
    path = tmp_path / "x.npz"
    np.savez(path, **{f"a{place}": np.full(5, place) for place in range(8)})
    assert len(read_checkpoint(path).tensors) == 8
    content = path.read_bytes()
    begin = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    entries = [b"PK\x01\x02" + each for each in content[begin:end].split(b"PK\x01\x02")[1:]]
    left = {"at the end": entries[:4], "at the start": entries[4:],
            "in the middle": entries[:2] + entries[6:]}[gone]  # fmt: skip
    table = b"".join(left)
    tail = bytearray(content[end:])
    struct.pack_into("<HHLL", tail, 8, len(left), len(left), len(table), begin)
    path.write_bytes(content[:begin] + table + tail)
    for look in (inspect, read_checkpoint):
        with pytest.raises(CheckpointError, match="doesn't name all"):
            look(path)


# --- what isn't a file, and names that a terminal would obey --------------------------------------


def test_pipes_devices_and_links_in_a_ring(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    for path, says in (
        (tmp_path / "pipe", "is a pipe or a device"), ("/dev/zero", "is a pipe or a device"),
        (tmp_path / "ring", "back to itself"), (tmp_path / "lost", "leads to no file"),
        (tmp_path / "x\0y", "There is no file"), (tmp_path / ("a" * 999), "can't be read"),
    ):  # fmt: skip
        for look in (inspect, read_checkpoint):
            with pytest.raises(CheckpointError, match=says):
                look(path)


def test_names_from_files_are_printed_escaped(tmp_path):
    evil = "a\x1b[31mred\nline\u202e"
    torch.save({evil: torch.ones(1), "b": {evil: 3}}, tmp_path / "x.pth")
    model = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError) as caught:
        load_weights(model, tmp_path / "x.pth")
    shown = [str(inspect(tmp_path / "x.pth")), str(read_checkpoint(tmp_path / "x.pth")),
             str(caught.value)]  # fmt: skip
    program = b"\x80\x04\x8c\x05a\x1b[31\x8c\x02\n\x1b\x93."
    with pytest.raises(UnsafeCheckpointError) as caught:
        read_checkpoint(packed(program, tmp_path / "y.pth"))
    for text in (*shown, str(caught.value), *caught.value.wanted):
        assert all(line.isprintable() for line in text.split("\n"))
    assert "\nline" not in "".join(shown)


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_a_run_that_could_not_be_read_again_is_not_saved(tmp_path, kind):
    """Its metrics hold each other again and again, or themselves: to look at them never ends."""
    loop: list = []
    loop.append(loop)
    for value in (doubled(kind), loop):
        with pytest.raises(CheckpointError, match=r"again and again|holds itself"):
            save_checkpoint(tmp_path / "x.pth", make(1), epoch=1, metrics={"a": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["module." * 5000 + "w", ".".join("a" * 5000)])
def test_names_of_thousands_of_parts(tmp_path, name):
    torch.save({name: torch.ones(2)}, tmp_path / "x.pth")
    assert str(inspect(tmp_path / "x.pth"))
    assert str(read_checkpoint(tmp_path / "x.pth"))


def test_names_that_no_model_has(tmp_path):
    """Messages stay readable, and neither the search for a prefix nor a hint takes minutes."""
    for count, name in ((9, "a" * 100_000), (20, ".".join("a" * 19_000)), (1500, "a." * 240)):
        names = [f"module.{name}{number}" for number in range(count)]
        state = dict.fromkeys(names, torch.ones(1)) | {"module.0.weight": torch.ones(2, 2)}
        torch.save(state, tmp_path / "x.pth")
        with pytest.raises(LoadError) as told:
            load_weights(nn.Sequential(nn.Linear(2, 2)), tmp_path / "x.pth")
        assert len(str(told.value)) < 2000
        assert suggest(names[0], names) == ""
    many = {f"module.l{number}": torch.ones(1) for number in range(5000)}
    many["module.0.weight"] = torch.ones(2, 2)
    with pytest.raises(LoadError, match=r"no place for 5000: module\.l0, "):
        load_weights(nn.Sequential(nn.Linear(2, 2)), many)


def test_words_beside_the_weights_are_printed_escaped(tmp_path):
    evil = "\x1b[2J\u202e"
    path = tmp_path / f"{evil}.pth"
    torch.save({"state_dict": make(1).state_dict(), evil: 1, "metadata": {"what": evil}}, path)
    model = make(2)
    for shown in (inspect(path), read_checkpoint(path), load_weights(model, path)):
        assert all(line.isprintable() for line in f"{shown}\n{shown!r}".split("\n"))
