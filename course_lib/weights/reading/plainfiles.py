"""Formats that can't run code: safetensors, checkpoints in several shards, NumPy archives."""

import json
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from course_lib.errors import suggest
from course_lib.text import counted
from course_lib.weights.errors import CheckpointError
from course_lib.weights.reading.damage import reading

# Metadata keys of save_weights: a CRC-32 a tensor, since the format has none, and what is said
# about the weights, as JSON (the format itself allows nothing but text).
CHECKSUMS = "crc32"
ABOUT = "about"


def open_safetensors(
    path: Path, *, checked: bool
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the metadata of a safetensors file.

    The tensors are views of the file, read when their values are used. A tensor with several names
    (tied weights) is stored once; the metadata say which other names it has, and these are given
    back.

    Args:
        path: the file.
        checked: whether to compare the tensors with the checksums that :func:`save_weights` wrote.

    Raises:
        CheckpointError: the header is damaged, or it doesn't describe exactly what follows; a
            tensor doesn't fit its checksum.
    """
    with reading(path, "its header"):
        names, tensors, metadata = _entries(path)
        checksums = json.loads(metadata.pop(CHECKSUMS, "{}"))
        for name in names if checked else ():
            if name in checksums and _crc(tensors[name]) != checksums[name]:
                raise CheckpointError(
                    f"{path} is damaged or was tampered with: {name!r} doesn't fit its checksum "
                    "(CRC-32). Get the file again."
                )
        about = json.loads(metadata.pop(ABOUT, "{}"))
        for name, other in list(metadata.items()):
            if other in tensors and name not in tensors:
                tensors[name] = tensors[other]
                del metadata[name]
    return tensors, {**metadata, **about}


def _entries(path: Path) -> tuple[list[str], dict[str, torch.Tensor], dict[str, Any]]:
    """The names in the order of the file, the tensors, the metadata."""
    try:
        with safe_open(path, framework="pt") as file:
            names = list(getattr(file, "offset_keys", file.keys)())
            tensors = {name: file.get_tensor(name) for name in names}
            return names, tensors, dict(file.metadata() or {})
    except SafetensorError as error:
        if "not fully covered" in str(error) or "header length" in str(error):
            raise CheckpointError(
                f"{path} is truncated, or something was added: it has other bytes than its header "
                "describes. Get the file again."
            ) from error
        raise


def _crc(tensor: torch.Tensor) -> int:
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data) if tensor.numel() else 0


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


def open_numpy(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The arrays of a ``.npz`` archive, read at once; text and dates are returned apart.

    Raises:
        CheckpointError: it is damaged, or holds Python objects (reading those would run code).
    """
    tensors: dict[str, torch.Tensor] = {}
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
                whole = np.ascontiguousarray(native).reshape(array.shape)
                tensors[name] = torch.from_numpy(whole)
            else:
                others[name] = array.tolist()
    return tensors, others
