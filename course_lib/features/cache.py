"""Features on disk: a safetensors file a key, checked when read, moved into place when written."""

import os
import stat
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from course_lib.features.keys import of_tensors
from course_lib.paths import cache_dir, user_path, write_file


def folder(chosen: Path | str | None) -> Path:
    """Where the files are: a folder of your own, or ``features/`` in the course's cache."""
    return cache_dir() / "features" if chosen is None else user_path(chosen)


def others_can_write(place: Path) -> bool:
    """Whether somebody else may put files there, or change this one: no checksum would tell.

    A group counts as others unless it is your own, of your name. (On Windows this isn't asked.)
    """
    if os.name == "nt":
        return False
    import grp
    import pwd

    try:
        status = place.stat()
    except (OSError, ValueError):  # there is nothing yet, or nothing that could be read
        return False
    if status.st_uid != os.geteuid():
        return True
    try:
        own = grp.getgrgid(status.st_gid).gr_name == pwd.getpwuid(status.st_uid).pw_name
    except KeyError:  # a user or a group without a name
        own = status.st_gid == status.st_uid
    return bool(status.st_mode & (stat.S_IWOTH if own else stat.S_IWOTH | stat.S_IWGRP))


def load(place: Path, key: str, rows: int) -> tuple[Tensor, Tensor] | None:
    """Values (N, ...) and targets (N,) under a key; None if there are none, or not whole ones.

    The file carries a checksum of its content, so one that a full disk cut short, or that has a
    flipped bit, counts as not there, and is written anew; so does one of other than ``rows`` rows,
    with values that aren't finite, or that others can write to.
    """
    path = place / f"{key}.safetensors"
    try:
        if not path.is_file() or others_can_write(path):  # a pipe would keep its reader waiting
            return None
        with safe_open(path, framework="pt") as file:
            values, targets = file.get_tensor("values"), file.get_tensor("targets")
            told = file.metadata() or {}
        if values.ndim < 1 or len(values) != rows or targets.shape != (rows,):
            return None
        if told.get("key") != key or told.get("checksum") != of_tensors(values, targets):
            return None
        return (values.clone(), targets.clone()) if values.isfinite().all() else None
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError, MemoryError):
        return None


def store(place: Path, key: str, values: Tensor, targets: Tensor) -> Path:
    """Keep values (N, ...) and targets (N,) under a key.

    Other processes see the whole file or none (:func:`course_lib.paths.atomic_write`). Two that
    store the same key at once do the same work twice, and either's file is right.
    """
    told = {"key": key, "checksum": of_tensors(values, targets)}
    data = save({"values": values.contiguous(), "targets": targets.contiguous()}, told)
    target = place / f"{key}.safetensors"
    if target.is_symlink() or others_can_write(target):  # else it would be led, or have its mode
        target.unlink()
    write_file(target, data)
    return target
