"""Formats that can't run code: safetensors, checkpoints in several shards, NumPy archives."""

import json
import struct
import zipfile
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from course_lib.errors import suggest
from course_lib.text import counted
from course_lib.weights.errors import CheckpointError
from course_lib.weights.reading.stored import Block, Stored, reading

# Metadata keys of save_weights: a CRC-32 a tensor, since the format has none, and what is said
# about the weights, as JSON (the format itself allows nothing but text).
CHECKSUMS = "crc32"
ABOUT = "about"

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8,
    "BOOL": torch.bool, "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip


def open_safetensors(path: Path) -> tuple[dict[str, Stored], dict[str, Any]]:
    """The tensors and the metadata of a safetensors file, from its header alone.

    The file is: 8 bytes with the header's length, the header in JSON, then the bytes of the
    tensors one after the other. A tensor with several names (tied weights) is stored once; the
    metadata say which other names it has, and these are given back.

    Raises:
        CheckpointError: the header is damaged, or it doesn't describe exactly what follows.
    """
    size = path.stat().st_size
    with path.open("rb") as file, reading(path, "its header"):
        (length,) = struct.unpack("<Q", file.read(8))
        if length > size - 8:
            raise CheckpointError(
                f"{path} is truncated: its header alone should have {length:,} bytes, the file "
                f"has {size:,}. Get the file again."
            )
        header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_no_duplicates)
        metadata = header.pop("__metadata__", {})
        checksums = json.loads(metadata.pop(CHECKSUMS, "{}"))
        first = 8 + length
        tensors = {
            name: _entry(path, name, entry, first, checksums.get(name))
            for name, entry in header.items()
        }
        _check_gapless(path, tensors, first, size)
        about = json.loads(metadata.pop(ABOUT, "{}"))
        for name, other in list(metadata.items()):
            if other in tensors and name not in tensors:
                tensors[name] = tensors[other]
                del metadata[name]
    return tensors, {**metadata, **about}


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _entry(path: Path, name: str, entry: dict[str, Any], first: int, crc: int | None) -> Stored:
    if entry["dtype"] not in _DTYPES:
        raise CheckpointError(f"{path}: the type {entry['dtype']!r} of {name!r} is not known here.")
    dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    numbers = (*shape, begin, end)
    if not all(type(each) is int and 0 <= each < 1 << 62 for each in numbers):
        raise ValueError(f"sizes of {name!r} that are no sizes")
    if prod(shape) * dtype.itemsize != end - begin:
        raise ValueError(f"{name!r} of shape {shape} in {end - begin:,} bytes")
    return Stored(shape, dtype, Block(path, first + begin, end - begin, crc))


def _check_gapless(path: Path, tensors: dict[str, Stored], first: int, size: int) -> None:
    """Every byte belongs to one tensor: nothing hidden, nothing shared, nothing missing."""
    end = first
    blocks = [each.block for each in tensors.values() if each.block]
    for block in sorted(blocks, key=lambda each: (each.start, each.nbytes)):
        if block.start != end:
            raise ValueError("tensors that overlap or leave a gap")
        end = block.start + block.nbytes
    if end > size:
        raise CheckpointError(
            f"{path} is truncated: its tensors need {end:,} bytes, the file has {size:,}. "
            "Get the file again."
        )
    if end < size:
        raise ValueError(f"{size - end:,} bytes after the last tensor")


def shards(path: Path) -> tuple[dict[str, str], tuple[Path, ...], dict[str, Any]]:
    """What an index says: tensor name -> file name; the files; its metadata.

    Raises:
        CheckpointError: the index is damaged, leads out of its folder, or shards are missing.
    """
    with reading(path, "the index"):
        content = json.loads(path.read_text(encoding="utf-8"))
        where = content["weight_map"]
        metadata = content.get("metadata") or {}
        files = sorted(set(where.values()))
        for file in files:
            if PurePosixPath(file).name != file or "\\" in file or file in ("", ".", ".."):
                raise CheckpointError(
                    f"{path} names a shard outside of its folder: {file!r}. It is refused."
                )
    missing = [file for file in files if not (path.parent / file).is_file()]
    if missing:
        raise CheckpointError(
            f"{path} names {counted(len(files), 'shard')}; not in its folder: "
            f"{', '.join(missing[:5])}. Put all of them beside the index."
        )
    if not files:
        raise CheckpointError(f"{path} is an index without a single tensor.")
    return where, tuple(path.parent / file for file in files), metadata


def check_shard_names(path: Path, where: dict[str, str], found: dict[str, str]) -> None:
    """Index and shards must name the same tensors in the same files.

    Raises:
        CheckpointError: a tensor of the index isn't where it says, or a shard holds another one.
    """
    for name, file in where.items():
        if found.get(name) != file:
            raise CheckpointError(
                f"{path} says that {name!r} is in {file}, but it isn't.{suggest(name, found)} "
                "Index and shards are of different downloads: get them all again."
            )
    extra = [name for name in found if name not in where]
    if extra:
        raise CheckpointError(
            f"{path} doesn't name {extra[0]!r}, which is in {found[extra[0]]}. "
            "Index and shards are of different downloads: get them all again."
        )


def open_numpy(path: Path) -> tuple[dict[str, Stored], dict[str, Any]]:
    """The arrays of a ``.npz`` archive, read at once; text and dates are returned apart.

    Raises:
        CheckpointError: it is damaged, or holds Python objects (reading those would run code).
    """
    tensors: dict[str, Stored] = {}
    others: dict[str, Any] = {}
    with reading(path, "the archive"), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
                if file.read(1):
                    raise ValueError(f"{member.filename} is longer than it says")
            name = member.filename.removesuffix(".npy")
            if name in tensors or name in others:
                raise ValueError(f"{name!r} occurs twice")
            if array.dtype.kind in "biufc" and array.dtype.itemsize <= 16:
                native = array.astype(array.dtype.newbyteorder("="), copy=False)
                tensors[name] = Stored.of(torch.from_numpy(np.ascontiguousarray(native).reshape(
                    array.shape)))  # fmt: skip
            else:
                others[name] = array.tolist()
    return tensors, others
