"""Find the weights among whatever else a checkpoint holds: epochs, optimizers, several models."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from course_lib.errors import suggest
from course_lib.text import counted
from course_lib.weights.errors import CheckpointError
from course_lib.weights.reading.torchfile import plain

# Where training programs put the weights, most wanted first. Averaged weights (EMA) come before
# the others, as in timm: they are the ones whose accuracy is published.
PLACES = {
    "state_dict_ema": "averaged weights (EMA) of a timm checkpoint",
    "model_ema": "averaged weights (EMA)",
    "ema_state_dict": "averaged weights (EMA)",
    "params_ema": "averaged weights (EMA)",
    "ema": "averaged weights (EMA)",
    "state_dict": "the state dict of a training checkpoint (Lightning, timm and others)",
    "model_state_dict": "the model's state dict in a training checkpoint",
    "model_state": "the model's state dict in a training checkpoint",
    "model": "the model in a training checkpoint (timm, DeiT, Detectron2 and others)",
    "net": "the network in a training checkpoint",
    "network": "the network in a training checkpoint",
    "module": "the module in a training checkpoint (DeepSpeed)",
    "weights": "the weights in a training checkpoint",
    "params": "the parameters in a training checkpoint",
}

# Tensors below these keys are no weights: moments, schedules, states of random generators.
_NOT_WEIGHTS = re.compile(
    r"(^|_)(optim|sched|scaler|amp$|rng|random|callback|loops|metric|history|loss|args|config|"
    r"hyper|generators?_state|extra_state$)"
)
_DEEPEST = 4

# What wrappers put before every name: DataParallel, torch.compile, Lightning and others.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.")


@dataclass(frozen=True)
class Place:
    """One dictionary of tensors inside a checkpoint.

    Attributes:
        path: the keys that lead to it, such as ``("checkpoint", "model")``; empty for the top.
        tensors: name -> plain tensor.
        odd: its other entries, which only a module's own loading code can use.
        versions: what ``torch.save`` noted about the modules (``_metadata`` of a state dict), from
            which modules tell old files.
    """

    path: tuple[str, ...]
    tensors: dict[str, torch.Tensor]
    odd: dict[str, Any]
    versions: dict[str, Any] | None = None

    @classmethod
    def of(cls, tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> "Place":
        """A dictionary as it is."""
        tensors = {key: each.detach() for key, each in tree.items() if plain(each)}
        odd = {key: each for key, each in tree.items() if key not in tensors}
        return cls(path, tensors, odd, getattr(tree, "_metadata", None))

    @property
    def where(self) -> str:
        """The path as text."""
        return ".".join(self.path)


def find(tree: Any, label: str, where: str | None = None) -> tuple[Place, tuple[Place, ...]]:
    """The weights in ``tree``, and all places where there could be some.

    Args:
        tree: the content of a checkpoint.
        label: the file, for messages.
        where: the place to take (keys joined by dots); by default it is found.

    Raises:
        CheckpointError: there are no weights, several and no telling which, or not at ``where``.
    """
    found = tuple(places(tree))
    if where is not None:
        for place in found:
            if place.where == where:
                return place, found
        named = [place.where for place in found]
        raise CheckpointError(
            f"{label} has no weights at {where!r}. It has some at: "
            f"{', '.join(map(repr, named)) or 'no place'}.{suggest(where, named)}"
        )
    if not found:
        raise CheckpointError(f"{label} holds no weights. {_describe(tree)}")
    return _best(found, label), found


def opened(tree: Any) -> Any:
    """A whole module, whose classes somebody allowed to be read, as its state dict."""
    return tree.state_dict() if isinstance(tree, torch.nn.Module) else tree


def places(tree: Any, path: tuple[str, ...] = ()) -> Iterator[Place]:
    """Dictionaries of tensors; of two inside each other, the one with more tensors."""
    tree = opened(tree)
    if not isinstance(tree, Mapping) or len(path) > _DEEPEST:
        return
    here = Place.of(tree, path)
    inner = [
        place
        for key, value in here.odd.items()
        if isinstance(key, str) and not _NOT_WEIGHTS.search(key.lower())
        for place in places(value, (*path, key))
    ]
    named = here.tensors and all(isinstance(key, str) for key in tree)
    if named and all(len(here.tensors) >= len(place.tensors) for place in inner):
        yield here
    else:
        yield from inner


def _best(places: tuple[Place, ...], label: str) -> Place:
    if len(places) == 1:
        return places[0]
    known = list(PLACES)

    def rank(place: Place) -> tuple[int, int]:
        names = [known.index(key) for key in place.path if key in PLACES]
        return (min(names) if names else len(known), len(place.path))

    ordered = sorted(places, key=rank)
    first, second = rank(ordered[0]), rank(ordered[1])
    if first[0] == len(known) or first == second:
        listed = "; ".join(
            f"{each.where!r} ({counted(len(each.tensors), 'tensor')})" for each in places[:8]
        )
        raise CheckpointError(
            f"{label} holds weights in {len(places)} places, and nothing tells which you want: "
            f"{listed}. Choose one: read_checkpoint(path, where={places[0].where!r})."
        )
    return ordered[0]


def describe(place: Place) -> str:
    """In words: what kind of checkpoint had the weights at this place."""
    for key in reversed(place.path):
        if key in PLACES:
            return PLACES[key]
    return "a state dict" if not place.path else f"the entry {place.where!r}"


def common_prefix(names: list[str]) -> str:
    """A wrapper's prefix that all names share, such as ``"module."``; else an empty string."""
    found = ""
    while names and (
        more := [p for p in PREFIXES if all(name.startswith(p, len(found)) for name in names)]
    ):
        found += more[0]
    return found


def outline(tree: Any, depth: int = 0, *, whole: bool = False) -> Any:
    """``tree`` with short texts in place of tensors and long lists: for showing what else is in.

    Dictionaries keep their keys; tensors become text such as ``"tensor float32 (3, 4)"``. With
    ``whole``, only tensors are replaced.
    """
    if plain(tree):
        return f"tensor {str(tree.dtype).removeprefix('torch.')} {tuple(tree.shape)}"
    tree = opened(tree)
    if isinstance(tree, Mapping):
        if depth >= 2 and len(tree) > 8 and not whole:
            return f"dictionary of {len(tree)}"
        return {key: outline(value, depth + 1, whole=whole) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        if len(tree) > 8 and not whole:
            return f"list of {len(tree)}"
        return [outline(value, depth + 1, whole=whole) for value in tree]
    return tree


def _describe(tree: Any) -> str:
    if plain(tree):
        return f"It holds a single tensor of shape {tuple(tree.shape)}, without a name."
    if isinstance(tree, list | tuple):
        return f"It holds a list of {len(tree)}; weights have names."
    if isinstance(tree, Mapping):
        keys = ", ".join(repr(key) for key in list(tree)[:8])
        return f"It holds a dictionary with the keys: {keys or 'none'}."
    return f"It holds an object of type {type(tree).__name__}."
