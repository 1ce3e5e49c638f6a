"""Features on disk: a safetensors file a key, checked when read, moved into place when written."""

import hashlib
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from course_lib.features.keys import tensor_bytes
from course_lib.paths import cache_dir, write_file


def folder(chosen: Path | str | None) -> Path:
    """Where the files are: a folder of your own, or ``features/`` in the course's cache."""
    return cache_dir() / "features" if chosen is None else Path(chosen).expanduser()


def load(place: Path, key: str) -> tuple[Tensor, Tensor] | None:
    """Values and targets kept under a key; None if there are none, or they aren't whole.

    The file carries a checksum of its content, so one that a full disk cut short, or that has a
    flipped bit, counts as not there, and is written anew.
    """
    try:
        with safe_open(place / f"{key}.safetensors", framework="pt") as file:
            values, targets = file.get_tensor("values"), file.get_tensor("targets")
            told = file.metadata() or {}
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
    right = told.get("key") == key and told.get("checksum") == _checksum(values, targets)
    return (values.clone(), targets.clone()) if right else None


def store(place: Path, key: str, values: Tensor, targets: Tensor) -> Path:
    """Keep values and targets under a key.

    Other processes see the whole file or none (:func:`course_lib.paths.atomic_write`). Two that
    store the same key at once do the same work twice, and either's file is right.
    """
    told = {"key": key, "checksum": _checksum(values, targets)}
    data = save({"values": values.contiguous(), "targets": targets.contiguous()}, told)
    target = place / f"{key}.safetensors"
    write_file(target, data)
    return target


def _checksum(values: Tensor, targets: Tensor) -> str:
    digest = hashlib.sha256()
    for each in (values, targets):
        digest.update(f"{each.dtype} {tuple(each.shape)}".encode() + tensor_bytes(each))
    return digest.hexdigest()
