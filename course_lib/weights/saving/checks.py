"""Is a training checkpoint whole? Asked before the first change, of every part of it.

What a library reads is given to the library: optimizers and random generators of no further use
take the state first, and refuse what they can't have.
"""

import copy
import inspect
import math
import random
import reprlib
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import LBFGS, Adafactor, Optimizer, SparseAdam

from course_lib.freezing.wrappers import PlainNames
from course_lib.weights.errors import CheckpointError, LoadError

VERSION = 2
Test = Callable[[Any], bool]


def upgraded(content: dict[str, Any], label: str, model: nn.Module) -> dict[str, Any]:
    """The content of an older format as that of today's.

    The first one knew which parameters were frozen and which modules evaluated, and no more.

    Raises:
        CheckpointError: a newer format, or none.
    """
    version = content.get("version", 1)
    if type(version) is not int or not 1 <= version <= VERSION:
        raise CheckpointError(
            f"{label} was saved by another version of course_lib (format {version!r}; this one "
            f"reads 1 to {VERSION}). Resume it with that version, or take its weights alone: "
            "load_weights(model, path, where='model')."
        )
    if version == VERSION:
        return content
    _check(content, label, {"frozen": _list_of(_text), "eval": _list_of(_text)})
    names = PlainNames.of(model)
    evaluating = set(map(names.of_name, content["eval"]))
    modes = {name: name not in evaluating for name in names.layers}
    beside: dict[str, Any] = {
        "lazy": {}, "buffers": {}, "gradients": {}, "held_parameters": {}, "held_buffers": [],
        "frozen": list(map(names.of_name, content["frozen"])),
        "modules": {n: [(mode, False, mode)] * len(names.layers[n]) for n, mode in modes.items()},
    }  # fmt: skip
    tensors: Any = content.get("model")
    if isinstance(tensors, dict):
        versions = getattr(tensors, "_metadata", None)
        tensors = type(tensors)((names.of_name(str(n)), each) for n, each in tensors.items())
        if versions is not None:
            tensors._metadata = {names.of_name(n): each for n, each in versions.items()}
    groups: Any = content.get("optimizer_names")
    if _list_of(_list_of(_text))(groups):
        groups = [[names.of_name(name) for name in group] for group in groups]
    return {**content, "model": tensors, "model_config": beside, "averaged": None,
            "optimizer_names": groups, "config_kinds": {}}  # fmt: skip


def check(content: Mapping[str, Any], label: str, generators: Mapping[str, Any]) -> None:
    """See that everything is there and of the right kind.

    Raises:
        CheckpointError: something isn't; the message names it.
    """
    optional = _or_none(_mapping)
    _check(content, label, {
        "model": _dictionary_of(_any), "model_config": _mapping,
        "averaged": _or_none(_list_of(_mapping, 2)),
        "optimizer": optional, "optimizer_names": _or_none(_list_of(_list_of(_text))),
        "scheduler": optional, "scaler": optional, "config_kinds": _dictionary_of(_text),
        "random": _mapping, "epoch": _count, "step": _count, "metrics": _mapping,
        "extra": _mapping,
    })  # fmt: skip
    if (content["optimizer"] is None) != (content["optimizer_names"] is None):
        raise _damaged(label, "optimizer_names", "doesn't go with the optimizer")
    averaged = content["averaged"]
    for where, beside in (("model_config", content["model_config"]),
                          ("averaged", averaged[1] if averaged else None)):  # fmt: skip
        if beside is not None:
            _check(beside, f"{label}: {where}", _BESIDE)
    _check_random(content["random"], label, generators)


def check_optimizer(optimizer: Optimizer, content: Mapping[str, Any], label: str) -> None:
    """See that an optimizer of this class can have the state that is saved.

    Raises:
        CheckpointError: a setting of the wrong type or out of range, a part that is missing.
        LoadError: moments of another shape than their parameters.
    """
    saved, names = content["optimizer"], content["optimizer_names"]
    groups = saved.get("param_groups")
    if not _list_of(_mapping)(groups) or not _dictionary_of(_mapping)(saved.get("state"), int):
        raise _damaged(label, "optimizer", "has no groups, or no state")
    numbers = [group.get("params") for group in groups]
    if not _list_of(_list_of(_count))(numbers) or [*map(len, numbers)] != [*map(len, names)]:
        raise _damaged(label, "optimizer", "has other groups than its names")
    all_numbers = list(chain.from_iterable(numbers))
    if len(set(all_numbers)) != len(all_numbers) or saved["state"].keys() - set(all_numbers):
        raise _damaged(label, "optimizer", "has a state for no parameter, or two for one")
    tensors = {n: each for n, each in content["model"].items() if _tensor(each)}
    parameters = {n: each for n, each in tensors.items() if not each.is_nested}
    for place, (group, members) in enumerate(zip(groups, names, strict=True)):
        where = f"optimizer.param_groups[{place}]"
        parts = _parts(optimizer, group, label, where, place)
        for number, name in zip(group["params"], members, strict=True):
            state = saved["state"].get(number)
            if state is None or parts is None:
                continue
            if not state.keys() >= parts.keys():
                lacks = min(parts.keys() - state.keys())
                raise _damaged(label, f"optimizer.state[{number}]", f"lacks {lacks!r}")
            for key, like in parts.items():
                _check_moment(state[key], like, parameters.get(name), label, name, key)
    if type(optimizer) in _TRIED and parameters.keys() >= set(chain.from_iterable(names)):
        _try_step(optimizer, saved, names, parameters, label)


_TRIED = (Adafactor, LBFGS, SparseAdam)  # whose state can't be told from that of one parameter


def _try_step(
    optimizer: Optimizer, saved: Mapping[str, Any], names: list[list[str]],
    parameters: Mapping[str, torch.Tensor], label: str,
) -> None:  # fmt: skip
    """Let another optimizer with the saved state step once, on parameters of no further use."""
    sparse = isinstance(optimizer, SparseAdam)
    groups = []
    try:
        for group, members in zip(saved["param_groups"], names, strict=True):
            trials = [nn.Parameter(torch.zeros_like(parameters[name])) for name in members]
            for each in trials:
                each.grad = torch.ones_like(each).to_sparse() if sparse else torch.ones_like(each)
            groups.append({**group, "params": trials})
        kind: Any = type(optimizer)
        trial = kind(groups)
        trial.load_state_dict(copy.deepcopy(dict(saved)))
        trial.step(lambda: torch.zeros(()))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        name = type(optimizer).__name__
        raise _damaged(label, "optimizer", f"has what no {name} can have ({reason})") from error


def _parts(
    optimizer: Optimizer, group: Mapping[str, Any], label: str, where: str, place: int
) -> Any:
    """What an optimizer keeps for a parameter; None for one that isn't torch's own."""
    kind = type(optimizer)
    if not kind.__module__.startswith("torch.optim"):
        return None
    lacking = [key for key, each in optimizer.defaults.items()
               if key not in group and not isinstance(each, bool | None)]  # fmt: skip
    if lacking:
        raise _damaged(label, where, f"lacks {lacking[0]!r}")
    mine = optimizer.param_groups[place] if place < len(optimizer.param_groups) else {}
    for key, each in group.items():
        like = optimizer.defaults.get(key)
        like = mine.get(key) if like is None else like  # what a scheduler has put there
        other = not (like is None or each is None) and _kind(each) != _kind(like)
        if other or (like is None and _tensor(each)) or not _finite(each):
            raise _damaged(label, where, f"has {key!r} = {reprlib.repr(each)}")
    here = {"foreach": False, "fused": None, "capturable": False, "differentiable": False}
    known = inspect.signature(kind).parameters.keys() & optimizer.defaults.keys()
    settings = {key: group[key] for key in known & group.keys()} | {
        key: each for key, each in here.items() if key in known
    }
    parameter = nn.Parameter(torch.zeros(2, 2))
    parameter.grad = torch.zeros(2, 2)
    try:
        trial = kind([parameter], **settings)
        if isinstance(trial, _TRIED):
            return None
        trial.step()
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _damaged(label, where, f"has what no {kind.__name__} can have ({reason})") from error
    return trial.state.get(parameter, {})


def _check_moment(
    value: Any, like: Any, parameter: torch.Tensor | None, label: str, name: str, key: str
) -> None:
    what = f"the optimizer's {key} of {name!r}"
    if isinstance(like, torch.Tensor) != isinstance(value, torch.Tensor):
        if like is None:
            return
        raise _damaged(label, what, f"is a {_kind(value)}")
    if key == "step" and not (_kind(value) == "number" and 0 <= float(value) < math.inf):
        raise _damaged(label, what, "is no count of steps")
    if not isinstance(value, torch.Tensor) or parameter is None:
        return
    if value.is_nested:
        raise _damaged(label, what, "is of several tensors")
    whole = like.shape == (2, 2)
    wanted = tuple(parameter.shape) if whole else tuple(like.shape) if like.numel() == 1 else None
    if wanted is not None and tuple(value.shape) != wanted:
        raise LoadError(
            f"The optimizer's {key} of {name!r} has the shape {tuple(value.shape)} in the file, "
            f"and {wanted} is expected."
        )
    number = value.is_floating_point() or value.is_complex()
    dense = value.layout is torch.strided or key == "momentum_buffer"  # SGD's, of sparse gradients
    if not (number and dense and value.is_complex() == (whole and parameter.is_complex())):
        raise _damaged(label, what, f"is of {value.dtype}, {value.layout}")


def check_like(part: Any, saved: Mapping[str, Any], label: str, what: str) -> None:
    """See that the state of a scheduler or scaler has the keys and kinds of this one's.

    Raises:
        CheckpointError: it hasn't.
    """
    known = part.state_dict()
    for key, mine in known.items():
        if key not in saved:
            if isinstance(mine, bool | None) or callable(mine):  # newer versions of torch add some
                continue
            raise _damaged(label, what, f"lacks {key!r}")
        value = saved[key]
        _check_alike(value, mine, label, f"{what}.{key}")
        if what == "scaler" or key.endswith(("_lr", "_lrs")):
            for each in value if isinstance(value, list | tuple) else [value]:
                if not _finite(each) or (what == "scaler" and each is not None and each < 0):
                    raise _damaged(label, f"{what}.{key}", "is out of range")
        if key in ("last_epoch", "_step_count") and (type(value) is not int or value < -1):
            raise _damaged(label, f"{what}.{key}", f"is {value!r}, no count of epochs")
    for key in saved:
        if not isinstance(key, str) or (key not in known and hasattr(type(part), key)):
            raise _damaged(label, what, f"has {key!r}, which is no part of a state")
    lists = [value for key, value in saved.items() if key.endswith("_lrs")]
    if len({len(each) for each in lists if isinstance(each, list | tuple)}) > 1:
        raise _damaged(label, what, "has rates for different numbers of groups")
    inner = zip(getattr(part, "_schedulers", ()), saved.get("_schedulers", ()), strict=False)
    for place, (each, its) in enumerate(inner):
        check_like(each, its, label, f"{what}._schedulers[{place}]")


def _check_alike(value: Any, mine: Any, label: str, where: str) -> None:
    """See that a value is made as one's own is, all the way down."""
    if mine is None:
        return
    if _kind(value) != _kind(mine):
        raise _damaged(label, where, f"is a {_kind(value)}, expected a {_kind(mine)}")
    if isinstance(value, float) and math.isnan(value):
        raise _damaged(label, where, "is no number")
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise _damaged(label, where, "is out of range")
    if isinstance(mine, Mapping):
        named = all(isinstance(key, str) for key in mine)
        if named and not value.keys() >= mine.keys():
            raise _damaged(label, where, f"lacks {min(mine.keys() - value.keys())!r}")
        for key, each in value.items():
            like = mine.get(key) if named else next(iter(mine.values()), None)
            _check_alike(each, like, label, f"{where}.{key}")
    elif isinstance(mine, list | tuple):
        for place, each in enumerate(value if mine else ()):
            like = mine[min(place, len(mine) - 1)]
            _check_alike(each, like, label, f"{where}[{place}]")


def _finite(value: Any) -> bool:
    """Whether a number is finite; what is no number is."""
    return _kind(value) != "number" or isinstance(value, int) or math.isfinite(value)


def _check_random(states: Mapping[str, Any], label: str, generators: Mapping[str, Any]) -> None:
    _check(states, f"{label}: random", {
        "torch": _tensor, "cuda": _list_of(_tensor), "numpy": _list_of(_any, 5),
        "python": _list_of(_any, 3), "generators": _dictionary_of(_tensor),
    })  # fmt: skip
    try:
        torch.Generator().set_state(states["torch"])
        kind, keys, place, *rest = states["numpy"]
        words = [*keys.tolist(), *states["python"][1]]
        if not isinstance(states["python"][2], float | None):
            raise TypeError("a half of a pair that is no number")
        if not all(type(each) is int and 0 <= each < 1 << 32 for each in words):
            raise ValueError("numbers out of range")
        if not 0 <= place <= 624 or not 0 <= words[-1] <= 624:
            raise ValueError("a place out of range")
        np.random.RandomState().set_state((kind, keys.numpy().astype(np.uint32), place, *rest))
        random.Random().setstate(
            (states["python"][0], tuple(states["python"][1]), states["python"][2])
        )
        for name, own in generators.items():
            if name in states["generators"]:
                torch.Generator(own.device).set_state(states["generators"][name])
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _damaged(label, "random", f"is no state of random generators ({reason})") from error


def _check(content: Mapping[str, Any], label: str, schema: Mapping[str, Test]) -> None:
    for key, right in schema.items():
        if key not in content:
            raise _damaged(label, key, "isn't there")
        if not right(content[key]):
            raise _damaged(label, key, f"is not what it should be ({_kind(content[key])})")


def _damaged(label: str, where: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"{label} is damaged or was tampered with: {where} {what}. Nothing was changed. Take "
        "another checkpoint of the run."
    )


def _kind(value: Any) -> str:
    """A word for what can stand for each other: an int for a float, a list for a tuple."""
    if isinstance(value, bool):
        return "truth value"
    if isinstance(value, int | float) or (isinstance(value, torch.Tensor) and not value.dim()):
        return "number"
    if isinstance(value, Mapping):
        return "dictionary"
    return "list" if isinstance(value, list | tuple) else type(value).__name__


def _any(value: Any) -> bool:
    return True


def _tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _list_of(right: Test, length: int | None = None) -> Test:
    return lambda value: (
        isinstance(value, list | tuple)
        and length in (None, len(value))
        and all(right(each) for each in value)
    )


def _dictionary_of(right: Test) -> Callable[..., bool]:
    return lambda value, keys=str: (
        isinstance(value, dict)
        and all(isinstance(key, keys) and right(each) for key, each in value.items())
    )


def _or_none(right: Test) -> Test:
    return lambda value: value is None or right(value)


_BESIDE: dict[str, Test] = {
    "lazy": _dictionary_of(_flag), "buffers": _dictionary_of(_tensor), "frozen": _list_of(_text),
    "gradients": _dictionary_of(_tensor), "modules": _dictionary_of(_list_of(_list_of(_flag, 3))),
    "held_parameters": _dictionary_of(_flag), "held_buffers": _list_of(_text),
}  # fmt: skip
