"""Checkpoints of a job: whole or not there, the newest that can be read counts."""

import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from course_lib.errors import CourseError, CourseWarning
from course_lib.weights import CheckpointError, resume_checkpoint, save_checkpoint
from course_lib.weights.reading.checkpoint import read_object

INSIDE = "checkpoints"
NAME = re.compile(r"step-\d{8}-\d{2}-best(\d{4})\.ckpt")
"""Steps done, the stage under way, and the epoch with the best weights: it needs their file."""


class NotWrittenError(CourseError, OSError):
    """Something of a job can't be written; what was there before is as it was."""


def check_folder(folder: Path) -> None:
    """Try to write into the folder of a job, before anything is computed.

    Raises:
        NotWrittenError: it can't be made, or not be written into.
    """
    try:
        (folder / INSIDE).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder / INSIDE):
            pass
    except OSError as error:
        raise NotWrittenError(
            f"{folder} can't be written into: {error.strerror or error}. Name another folder: "
            "out = ..."
        ) from error


def check_room(folder: Path, needed: int) -> None:
    """Refuse a disk that is too full for the checkpoints that stay and one more.

    Raises:
        NotWrittenError: it is.
    """
    free = shutil.disk_usage(folder).free
    there = sum(each.stat().st_size for each in (folder / INSIDE).iterdir())
    if free + there < needed:
        raise NotWrittenError(
            f"{folder} needs {needed / 1e6:,.0f} MB for checkpoints, and {free / 1e6:,.0f} MB are "
            "free there. Make room, take a smaller keep, or name another folder: out = ..."
        )


def written(write: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Call what writes a file; a full disk is said as such.

    Raises:
        NotWrittenError: it couldn't be written.
    """
    try:
        return write(*given, **named)
    except OSError as error:
        path = next((each for each in given if isinstance(each, Path)), Path())
        raise NotWrittenError(
            f"{path} can't be written: {error.strerror or error}. What was saved before is whole. "
            "Make room, and give the same command again: it goes on from there."
        ) from error


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that can be read; a damaged one is removed, with a warning.

    Raises:
        CheckpointError: there are some, and all are damaged.
    """
    there = _all(folder)[::-1]
    for place, each in enumerate(there):
        try:
            about(each)
        except CheckpointError as error:
            if place == len(there) - 1:
                raise
            said = f"{error} The one before it is taken."
            warnings.warn(said, CourseWarning, stacklevel=2)
            continue
        for damaged in there[:place]:
            damaged.unlink()
        return each
    return None


def _all(folder: Path) -> list[Path]:
    return sorted(each for each in (folder / INSIDE).glob("step-*.ckpt")
                  if NAME.fullmatch(each.name))  # fmt: skip


def about(path: Path) -> Mapping[str, Any]:
    """Config and position in a checkpoint.

    Raises:
        CheckpointError: it is damaged, or no checkpoint of a job.
    """
    content = read_object(path)
    extra = content.get("extra") if isinstance(content, Mapping) else None
    if not isinstance(extra, Mapping) or not (
        isinstance(extra.get("config"), Mapping)
        and isinstance(extra.get("processes"), list)
        and "position" in extra
    ):
        raise CheckpointError(f"{path} is no checkpoint of a job.")
    return extra


def save(
    folder: Path, model: nn.Module, optimizer: Optimizer, scaler: Any,
    extra: Mapping[str, Any], step: int, epoch: int, keep: int,
) -> Path:  # fmt: skip
    """Write a checkpoint, then remove those that are older than the ``keep`` newest.

    Raises:
        NotWrittenError: it couldn't be written; the older ones are there.
    """
    at = extra["position"]
    path = folder / INSIDE / f"step-{step:08d}-{at['stage']:02d}-best{at['best']:04d}.ckpt"
    written(
        save_checkpoint, path, model, optimizer, epoch=epoch, step=step, scaler=scaler, extra=extra
    )  # fmt: skip
    every = _all(folder)
    for each in every[:-keep]:
        each.unlink()
    # An older checkpoint may be gone back to: the weights that it calls the best stay with it.
    needed = {best_path(folder, int(NAME.fullmatch(each.name)[1]))  # type: ignore[index]
              for each in every[-keep:]}  # fmt: skip
    for each in (folder / INSIDE).glob("best-epoch-*.safetensors"):
        if each not in needed:
            each.unlink()
    return path


def best_path(folder: Path, epoch: int) -> Path:
    """The file with the weights of the best epoch."""
    return folder / INSIDE / f"best-epoch-{epoch:04d}.safetensors"


def load(path: Path, model: nn.Module, optimizer: Optimizer, scaler: Any) -> None:
    """Bring model, optimizer and scaler to where a checkpoint has them, all or nothing."""
    resume_checkpoint(path, model, optimizer, scaler=scaler)
