"""Stop a training run and go on later as if nothing had happened, bit for bit."""

import copy
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from course_lib.paths import atomic_write
from course_lib.weights.errors import CheckpointError, LoadError
from course_lib.weights.loading.load import load_weights
from course_lib.weights.reading.checkpoint import read_object
from course_lib.weights.saving.save import TORCH_ENDINGS, check_ending

_KIND = "course_lib training checkpoint"
Generators = Mapping[str, torch.Generator]
_MOMENTS = ("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "square_avg")


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """How far a resumed run had come.

    Attributes:
        epoch: finished epochs.
        step: finished training steps.
        metrics: as they were saved.
        extra: as it was saved.
        skipped: what the checkpoint has and this machine has no place for (CUDA's random states).
    """

    epoch: int
    step: int
    metrics: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()


def save_checkpoint(
    path: str | Path,
    model: nn.Module,
    optimizer: Optimizer | None = None,
    scheduler: Any = None,
    *,
    epoch: int,
    step: int = 0,
    scaler: Any = None,
    generators: Generators | None = None,
    metrics: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Save a training run between two steps, atomically.

    Args:
        path: a file ending in ``.pth``, ``.pt``, ``.ckpt`` or ``.bin``.
        model: its tensors, which of its parameters are frozen, which modules are in eval mode.
        optimizer: its groups and moments.
        scheduler: of the learning rate.
        epoch: finished epochs.
        step: finished training steps.
        scaler: of mixed precision (``torch.amp.GradScaler``).
        generators: random streams of your own, such as that of a data loader, by name.
        metrics: numbers to remember.
        extra: anything else that is made of numbers, texts, tensors, lists, tuples, dictionaries.

    Returns:
        The path. The random states of Python, NumPy, torch and CUDA are saved as well.

    Raises:
        CheckpointError: another ending, or something that can only be read back by running code.
    """
    path = Path(path).expanduser()
    check_ending(path, TORCH_ENDINGS)
    content = {
        "kind": _KIND, "model": model.state_dict(),
        "frozen": [name for name, p in model.named_parameters() if not p.requires_grad],
        "eval": [name for name, module in model.named_modules() if not module.training],
        "optimizer": optimizer.state_dict() if optimizer is not None else None,
        "optimizer_names": _names_in(optimizer, model) if optimizer is not None else None,
        "scheduler": scheduler.state_dict() if scheduler is not None else None,
        "scaler": scaler.state_dict() if scaler is not None else None,
        "random": _random_states(generators or {}), "epoch": int(epoch), "step": int(step),
        "metrics": dict(metrics or {}), "extra": dict(extra or {}),
    }  # fmt: skip
    _check_plain(content, "")
    with atomic_write(path) as file:
        torch.save(content, file)
    return path


def resume_checkpoint(
    path: str | Path,
    model: nn.Module,
    optimizer: Optimizer | None = None,
    scheduler: Any = None,
    *,
    scaler: Any = None,
    generators: Generators | None = None,
) -> Resumed:
    """Bring a training run back to where :func:`save_checkpoint` left it, all or nothing.

    Build everything as for the first start, then call this. The steps that follow give the same
    bits as if the run had never stopped (on the same kind of machine, with the same data order).
    The file is read with ``weights_only=True``: nothing in it is run.

    Args:
        path: the file.
        model: of the same architecture; gets tensors, frozen flags and eval modes.
        optimizer: with the same parameters in the same order.
        scheduler: of the same kind.
        scaler: of the same kind.
        generators: random streams by name; the same names as when saving.

    Returns:
        How far the run had come.

    Raises:
        CheckpointError: the file can't be read, or is no checkpoint of ``save_checkpoint``.
        LoadError: it doesn't fit what you gave. Everything is as it was before the call.
    """
    parts = {"optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    own = generators or {}
    content = _read_fitting(Path(path).expanduser(), model, parts, own)
    with _undone_on_error([each for each in parts.values() if each is not None], own):
        for name, part in parts.items():
            if part is not None:
                part.load_state_dict(content[name])
        skipped = _set_random_states(content["random"], own)
        load_weights(model, content["model"], dtype="exact", nonfinite=True)
    _set_flags(model, content)
    told = {key: content[key] for key in ("epoch", "step", "metrics", "extra")}
    return Resumed(**told, skipped=skipped)


def _read_fitting(
    path: Path, model: nn.Module, parts: Mapping[str, Any], generators: Generators
) -> dict[str, Any]:
    """The content of a training checkpoint that has what the call has, no less and no more."""
    content = read_object(path)
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        raise CheckpointError(
            f"{path} is no checkpoint of save_checkpoint. For weights alone there is load_weights."
        )
    for name, part in parts.items():
        if (part is None) != (content[name] is None):
            have, lack = ("the file", "the call") if part is None else ("the call", "the file")
            raise LoadError(
                f"{path}: {have} has a {name}, {lack} has none. A run is resumed whole."
            )
    if parts["optimizer"] is not None:
        _check_optimizer(parts["optimizer"], model, content)
    if generators.keys() != content["random"]["generators"].keys():
        saved = ", ".join(content["random"]["generators"]) or "none"
        raise LoadError(
            f"{path} has the generators {saved}; the call has {', '.join(generators) or 'none'}."
        )
    return content


def _names_in(optimizer: Optimizer, model: nn.Module) -> list[list[str]]:
    names = {id(p): name for name, p in model.named_parameters()}
    return [[names.get(id(p), "?") for p in group["params"]] for group in optimizer.param_groups]


def _check_optimizer(optimizer: Optimizer, model: nn.Module, content: dict[str, Any]) -> None:
    """The same parameters in the same groups: an optimizer itself only compares their number."""
    mine, saved = _names_in(optimizer, model), content["optimizer_names"]
    if mine != saved:
        sizes = [[len(group) for group in groups] for groups in (saved, mine)]
        raise LoadError(
            f"The optimizer has other parameters than the saved one: groups of {sizes[0]} in the "
            f"file, {sizes[1]} here. Freeze and group the parameters as in the saved run first."
        )
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, state in content["optimizer"]["state"].items():
        for key in _MOMENTS:
            value = state.get(key)
            if isinstance(value, torch.Tensor) and value.shape != parameters[number].shape:
                raise LoadError(
                    f"The optimizer's {key} has shape {tuple(value.shape)} for a parameter of "
                    f"shape {tuple(parameters[number].shape)}."
                )


def _set_flags(model: nn.Module, content: dict[str, Any]) -> None:
    frozen, evaluating = set(content["frozen"]), set(content["eval"])
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name not in frozen
    for name, module in model.named_modules():
        module.training = name not in evaluating


def _random_states(generators: Generators) -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "python": random.getstate(),
        "generators": {name: each.get_state() for name, each in generators.items()},
    }


def _set_random_states(states: Mapping[str, Any], generators: Generators) -> tuple[str, ...]:
    torch.set_rng_state(states["torch"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    for name, generator in generators.items():
        generator.set_state(states["generators"][name])
    if states["cuda"] and torch.cuda.device_count() == len(states["cuda"]):
        torch.cuda.set_rng_state_all(states["cuda"])
        return ()
    return ("CUDA's random states",) if states["cuda"] else ()


@contextmanager
def _undone_on_error(parts: list[Any], generators: Generators) -> Iterator[None]:
    """Put optimizer, scheduler, scaler and random states back if anything in the block fails."""
    before = [copy.deepcopy(part.state_dict()) for part in parts]
    randomness = _random_states(generators)
    try:
        yield
    except BaseException as error:
        for part, state in zip(parts, before, strict=True):
            part.load_state_dict(state)
        _set_random_states(randomness, generators)
        if isinstance(error, LoadError | CheckpointError) or not isinstance(error, Exception):
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise LoadError(
            f"The checkpoint doesn't fit ({reason}). Everything is as it was."
        ) from error


def _check_plain(value: Any, path: str) -> None:
    """Only what can be read back without running code."""
    if isinstance(value, dict):
        if type(value).__name__ not in ("dict", "OrderedDict", "Counter"):
            _refuse(value, path)
        for key, each in value.items():
            _check_plain(key, f"{path} (a key)")
            _check_plain(each, f"{path}.{key}".strip("."))
    elif type(value) in (list, tuple):
        for place, each in enumerate(value):
            _check_plain(each, f"{path}[{place}]")
    elif not (
        isinstance(value, torch.Tensor | Counter)
        or type(value) in (type(None), bool, int, float, str, torch.Size, torch.dtype, torch.device)
    ):
        _refuse(value, path)


def _refuse(value: object, path: str) -> None:
    kind = type(value)
    raise CheckpointError(
        f"{path!r} is a {kind.__module__}.{kind.__qualname__}; reading it back would mean running "
        "code. Save numbers, texts, tensors, lists, tuples and dictionaries (float(x) turns a "
        "NumPy number into one)."
    )
