"""Formats that can't run code: safetensors, checkpoints in several shards, NumPy archives."""

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from zlib_ng import zlib_ng

from course_lib.errors import suggest
from course_lib.text import counted
from course_lib.weights.errors import CheckpointError
from course_lib.weights.reading.damage import Held, check_room, reading

# Metadata keys of save_weights: a CRC-32 a tensor, since the format has none, and what is said
# about the weights, as JSON (the format itself allows nothing but text).
CHECKSUMS = "crc32"
ABOUT = "about"
_BETWEEN = 24  # bytes that zip allows behind a member's content
_LARGE = 1 << 28  # bytes; below, any archive may be unpacked


def open_safetensors(
    held: Held, *, checked: bool
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the metadata of a safetensors file.

    The tensors are views of the file, read when their values are used. A tensor with several names
    (tied weights) is stored once; the metadata say which other names it has, and these are given
    back.

    Args:
        held: the file.
        checked: whether to compare the tensors with the checksums that :func:`save_weights` wrote.

    Raises:
        CheckpointError: the header is damaged, or it doesn't describe exactly what follows; a
            tensor doesn't fit its checksum, or has another name than it was saved under.
    """
    path = held.path
    with reading(path, "its header"):
        names, tensors, metadata = _entries(held)
        ties = {n: other for n, other in metadata.items() if other in tensors and n not in tensors}
        listed = _dictionary(metadata, CHECKSUMS)
        about = _dictionary(metadata, ABOUT) or {}
        checksums = {} if listed is None else _checksums(listed, tensors, metadata)
        if checksums is None or (listed is None and "torch" in about):
            raise CheckpointError(
                f"{path} is damaged or was tampered with: its names don't fit its checksums. Get "
                "the file again."
            )
        for name in names if checked and checksums else ():
            if _crc(tensors[name]) != checksums[name]:
                raise CheckpointError(
                    f"{path} is damaged or was tampered with: {name!r} doesn't fit its checksum "
                    "(CRC-32). Get the file again."
                )
        tensors |= {name: tensors[other] for name, other in ties.items()}
    return tensors, {
        n: v for n, v in metadata.items() if n not in ties and n not in (CHECKSUMS, ABOUT)
    } | about


def names_crc(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> int:
    """A checksum of what a header says: names, types and shapes, and the rest of the metadata."""
    told = [(name, str(each.dtype), list(each.shape)) for name, each in sorted(tensors.items())]
    return zlib_ng.crc32(json.dumps([told, sorted(metadata.items())]).encode())


def checksums_crc(checksums: Mapping[str, Any]) -> int:
    """A checksum of the checksums: two that changed places along with their tensors don't fit."""
    return zlib_ng.crc32(json.dumps(sorted(checksums.items())).encode())


def _checksums(
    listed: dict[str, Any], tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> dict[str, Any] | None:
    """The checksum of each tensor; None if they are of other names."""
    if isinstance(listed.get("tensors"), dict):
        header = names_crc(tensors, {n: v for n, v in metadata.items() if n != CHECKSUMS})
        own = checksums_crc(listed["tensors"])
        if listed.get("header") != header or listed.get("list", own) != own:
            return None
        listed = listed["tensors"]
    return listed if listed.keys() == tensors.keys() else None  # as all files had it before


def _dictionary(metadata: Mapping[str, str], key: str) -> dict[str, Any] | None:
    """The dictionary that stands in the metadata as JSON."""
    found = json.loads(metadata.get(key, "null"))
    if not isinstance(found, dict | None):
        raise ValueError(f"{key!r} is no dictionary")
    return found


def _entries(held: Held) -> tuple[list[str], dict[str, torch.Tensor], dict[str, Any]]:
    """The names in the order of the file, the tensors, the metadata."""
    try:
        with safe_open(held.way, framework="pt") as file:
            names = list(getattr(file, "offset_keys", file.keys)())
            tensors = {name: file.get_tensor(name) for name in names}
            return names, tensors, dict(file.metadata() or {})
    except SafetensorError as error:
        if "not fully covered" in str(error) or "header length" in str(error):
            raise CheckpointError(
                f"{held} is truncated, or something was added: it has other bytes than its header "
                "describes. Get the file again."
            ) from error
        raise


def _crc(tensor: torch.Tensor) -> int:
    return zlib_ng.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data) if tensor.numel() else 0


def shards(held: Held) -> tuple[dict[str, str], tuple[Path, ...], dict[str, Any]]:
    """What an index says: tensor name -> file name; the files; its metadata.

    Raises:
        CheckpointError: the index is damaged, leads out of its folder, or shards are missing.
    """
    path = held.path
    with reading(path, "the index"):
        held.file.seek(0)
        content = json.loads(held.file.read().decode("utf-8-sig"))
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


def open_numpy(held: Held, *, checked: bool) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The arrays of a ``.npz`` archive; text and dates are returned apart.

    Args:
        held: the file.
        checked: whether to read the values; else the tensors have a shape and no memory.

    Raises:
        CheckpointError: it is damaged, holds Python objects (reading those would run code), or
            claims more than there is memory for.
    """
    tensors: dict[str, torch.Tensor] = {}
    others: dict[str, Any] = {}
    with reading(held.path, "the archive"), zipfile.ZipFile(held.file) as archive:
        members = archive.infolist()
        _check_whole(archive, members)
        claims = [_claim(archive, member) for member in members]
        if checked:
            _check_packing(held, sum(dtype.itemsize * math.prod(shape) for shape, dtype in claims))
        for member, (shape, dtype) in zip(members, claims, strict=True):
            name = member.filename.removesuffix(".npy")
            if name in tensors or name in others:
                raise ValueError(f"{name!r} occurs twice")
            numeric = dtype.kind in "biufc" and dtype.itemsize <= 16
            if not checked:
                if numeric:
                    kind = torch.from_numpy(np.empty(0, dtype.newbyteorder("="))).dtype
                    tensors[name] = torch.empty(shape, dtype=kind, device="meta")
                else:
                    others[name] = f"array {dtype} {shape}"
                continue
            array = _array(archive, member)
            if numeric:
                native = array.astype(array.dtype.newbyteorder("="), copy=False)
                whole = np.ascontiguousarray(native).reshape(array.shape)
                tensors[name] = torch.from_numpy(whole)
            else:
                others[name] = array.tolist()
    return tensors, others


def _check_whole(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
    """A table of contents that lost entries leaves bytes of the file that belong to none."""
    ends = [0]
    for each in sorted(members, key=lambda each: each.header_offset):
        if not 0 <= each.header_offset - ends[-1] <= _BETWEEN:
            raise ValueError("its table of contents doesn't name all that is in it")
        with archive.open(each) as file:
            begin = file._orig_compress_start  # type: ignore[attr-defined]
        ends.append(begin + each.compress_size)
    if archive.start_dir - ends[-1] > _BETWEEN:
        raise ValueError("its table of contents doesn't name all that is in it")


def _claim(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type that an array's header tells, if they are as large as the member."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"{member.filename} is of version {version}")
        shape, _, dtype = read(file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects")
        if dtype.itemsize * math.prod(shape) != member.file_size - file.tell():
            raise ValueError(f"{member.filename} has another length than it says")
        return shape, dtype


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):
            raise ValueError(f"{member.filename} is longer than it says")
        return array


def _check_packing(held: Held, claimed: int) -> None:
    """Refuse an archive that a few bytes make huge; weights hardly shrink when they are packed."""
    if claimed > max(_LARGE, 100 * held.size):
        raise CheckpointError(
            f"{held} is refused: it has {held.size:,} bytes and claims to hold {claimed:,}. If you "
            "made it, write it anew with numpy.savez, which doesn't pack."
        )
    check_room(held.path, claimed)
