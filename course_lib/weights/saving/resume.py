"""Stop a training run and go on later as if nothing had happened, bit for bit."""

import io
import random
import warnings
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from course_lib.errors import CourseError, CourseWarning, interrupts_delayed
from course_lib.paths import user_path
from course_lib.weights.errors import CheckpointError, LoadError
from course_lib.weights.reading.checkpoint import read_object
from course_lib.weights.reading.torchfile import check_extent
from course_lib.weights.saving import checks, groups, state, undo
from course_lib.weights.saving.save import TORCH_ENDINGS, check_ending, written

_KIND = "course_lib training checkpoint"
_PLAIN = (type(None), bool, int, float, str, bytes, torch.Size, torch.dtype, torch.device,
          torch.Tensor, nn.Parameter, nn.Buffer)  # fmt: skip
Generators = Mapping[str, torch.Generator]


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """How far a resumed run had come.

    Attributes:
        epoch: finished epochs.
        step: finished training steps.
        metrics: as they were saved.
        extra: as it was saved.
        added: parameters that the optimizer didn't hold, in groups that were added later in the
            saved run.
        skipped: what the checkpoint has and this machine or model has no place for (CUDA's random
            states), or the other way round; only what a state dict doesn't hold either.
    """

    epoch: int
    step: int
    metrics: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    added: tuple[str, ...] = ()
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
    averaged: nn.Module | None = None,
    generators: Generators | None = None,
    metrics: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Save a training run between two steps, atomically.

    Args:
        path: a file ending in ``.pth``, ``.pt``, ``.ckpt`` or ``.bin``.
        model: its tensors and extra state, its gradients (as large as the weights; after
            ``optimizer.zero_grad()`` there are none), which of its parameters are frozen, what
            ``freeze`` holds, the modes of its modules. Wrappers leave no trace: ``DataParallel``,
            ``DistributedDataParallel``, ``torch.compile``.
        optimizer: its groups, by the names of their parameters, and moments.
        scheduler: of the learning rate.
        epoch: finished epochs.
        step: finished training steps.
        scaler: of mixed precision (``torch.amp.GradScaler``).
        averaged: a second model, such as ``torch.optim.swa_utils.AveragedModel``.
        generators: random streams of your own, such as that of a data loader, by name.
        metrics: numbers to remember.
        extra: anything else that is made of numbers, texts, tensors, lists, tuples, dictionaries.

    Returns:
        The path. The random states of Python, NumPy, torch and CUDA are saved as well.

    Raises:
        CheckpointError: another ending, an optimizer of parameters outside of the model,
            something that can only be read back by running code, or it can't be written.
    """
    path = user_path(path)
    check_ending(path, TORCH_ENDINGS)
    tensors, beside = state.take(model)
    parts = {"optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    content = {
        "kind": _KIND, "version": checks.VERSION, "model": tensors, "model_config": beside,
        "averaged": state.take(averaged) if averaged is not None else None,
        "optimizer_names": groups.names_of(optimizer, model) if optimizer is not None else None,
        **{name: part.state_dict() if part is not None else None for name, part in parts.items()},
        "config_kinds": {n: type(parts[n]).__qualname__ for n in ("optimizer", "scheduler")},
        "random": _random_states(generators or {}), "epoch": int(epoch), "step": int(step),
        "metrics": dict(metrics or {}), "extra": dict(extra or {}),
    }  # fmt: skip
    check_extent(path, content)  # as when it is read; and else the next line never ends
    _check_plain(content, "")
    with written(path) as file:
        torch.save(content, file)
    return path


def resume_checkpoint(
    path: str | Path,
    model: nn.Module,
    optimizer: Optimizer | None = None,
    scheduler: Any = None,
    *,
    scaler: Any = None,
    averaged: nn.Module | None = None,
    generators: Generators | None = None,
) -> Resumed:
    """Bring a training run back to where :func:`save_checkpoint` left it, all or nothing.

    Build everything as for the first start, then call this. The steps that follow give the same
    bits as if the run had never stopped (on the same kind of machine, with the same data order).
    What was frozen, held or thawed is so again; groups that ``unfreeze`` added to the optimizer are
    added. The file is read with ``weights_only=True``: nothing in it is run.

    Args:
        path: the file.
        model: of the same architecture, in the same wrappers, others or none. It gets its values
            through its own ``load_state_dict``.
        optimizer: of the same class, with the parameters of the first start or more of the saved.
        scheduler: of the same class.
        scaler: of the same kind.
        averaged: of the same architecture as the one saved.
        generators: random streams by name; the same names as when saving.

    Returns:
        How far the run had come.

    Raises:
        CheckpointError: the file can't be read, is no checkpoint of ``save_checkpoint``, is of a
            newer format, or has a part that is missing or of the wrong type; or the optimizer holds
            other parameters than the model's.
        LoadError: it doesn't fit what you gave. Everything is as it was before the call.
    """
    parts = {"optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    own = generators or {}
    path = user_path(path)
    content = _read_fitting(path, model, parts | {"averaged": averaged}, own)
    if optimizer is not None:
        groups.names_of(optimizer, model)
        checks.check_optimizer(optimizer, content, str(path))
    if scaler is not None:
        checks.check_like(scaler, content["scaler"], str(path), "scaler")
    if scheduler is not None:
        checks.check_like(scheduler, content["scheduler"], str(path), "scheduler")
    randomness = _random_states(own)
    undos: list[undo.Undo] = [lambda: _set_random_states(randomness, own)]
    undos += [undo.of_model(each) for each in (averaged, model) if each is not None]
    undos += [undo.of_part(part) for part in (scheduler, scaler) if part is not None]
    undos += [undo.of_optimizer(optimizer)] if optimizer is not None else []
    flags = _synchronised(model)
    added: tuple[str, ...] = ()
    try:
        with interrupts_delayed(), undo.undone_on_error(undos):
            skipped = state.give(model, content["model"], content["model_config"])
            if averaged is not None:
                skipped += state.give(averaged, *content["averaged"])
            if optimizer is not None:
                added = groups.regroup(optimizer, model, content["optimizer_names"])
                groups.load(optimizer, content["optimizer"])
            if scheduler is not None:
                groups.extend_scheduler(scheduler, content["scheduler"])
                scheduler.load_state_dict(content["scheduler"])
            if scaler is not None:
                scaler.load_state_dict(content["scaler"])
            skipped += _set_random_states(content["random"], own)
    except CourseError as error:
        raise LoadError(f"{error} Everything is as it was.") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise LoadError(
            f"The checkpoint doesn't fit ({reason}). Everything is as it was."
        ) from error
    if flags != _synchronised(model):
        warnings.warn(
            "DistributedDataParallel chose what to synchronise when it was built, and other "
            "parameters are frozen now: wrap the inner module again.",
            CourseWarning,
            stacklevel=2,
        )
    told = {key: content[key] for key in ("epoch", "step", "metrics", "extra")}
    return Resumed(**told, added=added, skipped=skipped)


def _read_fitting(
    path: Path, model: nn.Module, parts: Mapping[str, Any], generators: Generators
) -> dict[str, Any]:
    """The content of a training checkpoint that has what the call has, no less and no more."""
    content = read_object(path)
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        raise CheckpointError(
            f"{path} is no checkpoint of save_checkpoint. For weights alone there is load_weights."
        )
    content = checks.upgraded(content, str(path), model)
    checks.check(content, str(path), generators)
    for name, part in parts.items():
        if (part is None) != (content[name] is None):
            have, lack = ("the file", "the call") if part is None else ("the call", "the file")
            raise LoadError(
                f"{path}: {have} has a {name}, {lack} has none. A run is resumed whole."
            )
        kind = content["config_kinds"].get(name)
        if part is not None and kind not in (None, type(part).__qualname__):
            raise LoadError(
                f"{path}: the {name} of the saved run was a {kind}, this one is a "
                f"{type(part).__qualname__}. Build the same."
            )
    if generators.keys() != content["random"]["generators"].keys():
        saved = ", ".join(content["random"]["generators"]) or "none"
        raise LoadError(
            f"{path} has the generators {saved}; the call has {', '.join(generators) or 'none'}."
        )
    return content


def _synchronised(model: nn.Module) -> list[list[bool]]:
    """``requires_grad`` of what each DistributedDataParallel in the model wraps."""
    wrapped = (each for each in model.modules() if isinstance(each, DistributedDataParallel))
    return [[p.requires_grad for p in each.parameters()] for each in wrapped]


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


def _check_plain(value: Any, path: str) -> None:
    """Only what ``torch.load(weights_only=True)`` reads back."""
    if type(value) in _PLAIN:
        return
    if type(value) in (dict, OrderedDict, Counter):
        for key, each in value.items():
            _check_plain(key, f"{path} (a key)")
            _check_plain(each, f"{path}.{key}".strip("."))
        if vars(value) if isinstance(value, OrderedDict) else None:  # the versions of a state dict
            _check_plain(vars(value), path)
    elif type(value) in (list, tuple):
        for place, each in enumerate(value):
            _check_plain(each, f"{path}[{place}]")
    elif not _comes_back(value):
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        raise CheckpointError(
            f"{path!r} is a {name}; reading it back would mean running code. Save numbers, texts, "
            "tensors, lists, tuples and dictionaries (float(x) turns a NumPy number into one). A "
            "class of your own that you trust can be allowed, here and where you resume: "
            f"torch.serialization.add_safe_globals([{kind.__qualname__}])."
        )


def _comes_back(value: Any) -> bool:
    """Whether the safe loader takes it; it knows more kinds than those above, and your own."""
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:  # whatever pickle, torch or the class itself finds
        return False
    return True
