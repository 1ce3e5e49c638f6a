"""Features on disk: a safetensors file a key, checked when read, moved into place when written."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from course_lib.features.keys import of_tensors
from course_lib.paths import cache_dir, write_file


def folder(chosen: Path | str | None) -> Path:
    """Where the files are: a folder of your own, or ``features/`` in the course's cache."""
    return cache_dir() / "features" if chosen is None else Path(chosen).expanduser()


def load(place: Path, key: str) -> tuple[Tensor, Tensor] | None:
    """Values (N, ...) and targets (N,) under a key; None if there are none, or not whole ones.

    The file carries a checksum of its content, so one that a full disk cut short, or that has a
    flipped bit, counts as not there, and is written anew.
    """
    try:
        with safe_open(place / f"{key}.safetensors", framework="pt") as file:
            values, targets = file.get_tensor("values"), file.get_tensor("targets")
            told = file.metadata() or {}
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
    right = told.get("key") == key and told.get("checksum") == of_tensors(values, targets)
    return (values.clone(), targets.clone()) if right else None


def store(place: Path, key: str, values: Tensor, targets: Tensor) -> Path:
    """Keep values (N, ...) and targets (N,) under a key.

    Other processes see the whole file or none (:func:`course_lib.paths.atomic_write`). Two that
    store the same key at once do the same work twice, and either's file is right.
    """
    told = {"key": key, "checksum": of_tensors(values, targets)}
    data = save({"values": values.contiguous(), "targets": targets.contiguous()}, told)
    target = place / f"{key}.safetensors"
    write_file(target, data)
    return target
