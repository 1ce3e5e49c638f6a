"""The tensors of a model that weights can be loaded into, and whose code has a say in it."""

from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from course_lib.weights.errors import LoadError
from course_lib.weights.reading.torchfile import plain

# What loading and saving run where a module has no code of its own: as torch has it.
_STOCK = {
    name: {vars(nn.Module)[name], vars(_NormBase).get(name, vars(nn.Module)[name])}
    for name in ("load_state_dict", "_load_from_state_dict", "set_extra_state", "state_dict",
                 "_save_to_state_dict", "get_extra_state")
}  # fmt: skip
# Loading code that looks for the names of old files and otherwise loads as torch does.
_RENAMING = {
    f"{name}._load_from_state_dict"
    for name in (
        "torchvision.models.detection.mask_rcnn.MaskRCNNHeads",
        "torchvision.models.detection.retinanet.RetinaNetClassificationHead",
        "torchvision.models.detection.retinanet.RetinaNetRegressionHead",
        "torchvision.models.detection.rpn.RPNHead",
        "torchvision.models.vision_transformer.MLPBlock",
        "torchvision.ops.feature_pyramid_network.FeaturePyramidNetwork",
        "torchvision.ops.misc.FrozenBatchNorm2d",
        "timm.layers.norm_act.FrozenBatchNormAct2d",
    )
}
_NOBODY = nn.Module()
_LOAD = nn.Module.load_state_dict
_COPY = torch.Tensor.copy_
_HOOKS = ("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks", "_state_dict_hooks",
          "_state_dict_pre_hooks")  # fmt: skip


@dataclass(frozen=True)
class ModelTensors:
    """What a model's state dict names.

    Attributes:
        model: the model.
        names: of everything in its state dict, in order.
        modules: name -> module; one that is used twice is there under both names.
        tensors: name -> the very parameter or buffer, where it is one.
        shapes: name -> shape; None for what is no plain tensor or has no shape yet.
        leader: name -> the first name of the same memory (itself, for most).
        parameters: the names that are parameters; the others are buffers.
        own: modules with loading code of their own: hooks, versions, other names. What lies in
            them is decided by that code.
    """

    model: nn.Module
    names: tuple[str, ...]
    modules: dict[str, nn.Module]
    tensors: dict[str, torch.Tensor]
    shapes: dict[str, tuple[int, ...] | None]
    leader: dict[str, str]
    parameters: frozenset[str]
    own: frozenset[str]

    @classmethod
    def of(cls, model: nn.Module) -> "ModelTensors":
        """What of a model can be loaded: parameters, persistent buffers, extra state.

        Raises:
            LoadError: there is nothing, or a tensor can't be written to: made in inference mode,
                expanded, or sharing only a part of its memory.
        """
        state = _state_dict(model)
        modules = dict(model.named_modules(remove_duplicate=False))
        if not state:
            raise LoadError(f"{type(model).__name__} has no parameters and no buffers to load.")
        own = _with_own_code(modules)  # without any, there is nothing but parameters and buffers
        tensors = {n: each for n, each in state.items() if not own or _is_live(n, each, modules)}
        for name, tensor in tensors.items():
            _check(name, tensor)
        written = {n: each for n, each in tensors.items() if not is_lazy(each) and _strided(each)}
        shapes = {n: tuple(each.shape) if plain(each) else None for n, each in state.items()}
        leader = {name: name for name in state} | _leaders(written)
        parameters = frozenset(n for n, each in tensors.items() if isinstance(each, nn.Parameter))
        return cls(model, tuple(state), modules, tensors, shapes, leader, parameters, own)

    @property
    def ties(self) -> tuple[tuple[str, ...], ...]:
        """Names of the same memory, such as an embedding and an output layer, in groups."""
        groups: dict[str, list[str]] = defaultdict(list)
        for name, first in self.leader.items():
            groups[first].append(name)
        return tuple(tuple(group) for group in groups.values() if len(group) > 1)

    def owner(self, name: str) -> nn.Module | None:
        """The module that a tensor belongs to."""
        return self.modules.get(name.rpartition(".")[0])

    def decides(self, name: str) -> bool:
        """Whether a module with loading code of its own has a say over a name."""
        if not self.own:
            return False
        parts = name.split(".")
        return any(".".join(parts[:end]) in self.own for end in range(len(parts)))

    def supplied(self, name: str, versions: dict[str, Any] | None) -> bool:
        """Whether torch fills in what an old file lacks: the count of batches of a BatchNorm.

        Args:
            name: that the file has nothing for.
            versions: of the modules, as the file notes them.
        """
        module, _, last = name.rpartition(".")
        if last != "num_batches_tracked" or not isinstance(self.owner(name), _NormBase):
            return False
        version = ((versions or {}).get(module) or {}).get("version")
        return version is None or version < 2

    @property
    def own_root(self) -> bool:
        """Whether the model has a ``load_state_dict`` of its own."""
        return getattr(self.model.load_state_dict, "__func__", None) is not _LOAD

    @cached_property
    def only_renames(self) -> bool:
        """Whether loading code beside torch's own does nothing to names that are the model's."""
        return not any(has_own_code(self.modules[name], _RENAMING) for name in self.own)

    @cached_property
    def plain(self) -> bool:
        """Whether its tensors are such that to load is to copy into them, which can't fail."""
        return torch.Tensor.copy_ is _COPY and all(
            plain(each) and each.is_cpu for each in self.tensors.values()
        )


def has_own_code(module: nn.Module, known: Container[str] = ()) -> bool:
    """Whether a module does more, when it is saved or loaded, than torch's modules usually do.

    Args:
        module: the module.
        known: functions, by their full names, that don't count.
    """
    if any(getattr(module, hooks, None) for hooks in _HOOKS):
        return True
    codes = ((getattr(getattr(module, name), "__func__", None), stock)
             for name, stock in _STOCK.items())  # fmt: skip
    return any(
        code not in stock and (not code or f"{code.__module__}.{code.__qualname__}" not in known)
        for code, stock in codes
    )


def _with_own_code(modules: dict[str, nn.Module]) -> frozenset[str]:
    """Those with loading code of their own; each class is looked at once."""
    kinds = set(map(type, modules.values()))
    stock = {
        kind for kind in kinds
        if all(getattr(kind, name, None) in known for name, known in _STOCK.items())
    }  # fmt: skip
    return frozenset(
        name
        for name, module in modules.items()
        if not (type(module) in stock and _STOCK.keys().isdisjoint(vars(module)))
        or any(map(vars(module).get, _HOOKS))
        if has_own_code(module)
    )


def _state_dict(model: nn.Module) -> dict[str, Any]:
    try:
        return model.state_dict(keep_vars=True)
    except TypeError:  # a state_dict of its own, which doesn't know the argument
        return model.state_dict()


def _is_live(name: str, value: Any, modules: dict[str, nn.Module]) -> bool:
    """Whether an entry of the state dict is the parameter or buffer itself, and no copy."""
    owner, _, last = name.rpartition(".")
    stores = vars(modules.get(owner, _NOBODY))
    return isinstance(value, torch.Tensor) and any(
        value is stores[kind].get(last) for kind in ("_parameters", "_buffers")
    )


def _strided(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_nested


def _check(name: str, tensor: torch.Tensor) -> None:
    if is_lazy(tensor) or not _strided(tensor):
        return  # its module's own code, or torch's copy_, knows how to fill it
    if tensor.is_inference():
        raise LoadError(
            f"{name!r} was made in torch.inference_mode() and can't be written to. "
            "Build the model outside of it."
        )
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    if not tensor.is_contiguous() and any(size > 1 and step == 0 for size, step in steps):
        raise LoadError(f"{name!r} is an expanded tensor: several elements share one memory.")


def _leaders(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """The first name for each memory; an error for memory that is shared in part."""
    spans: dict[tuple[object, ...], str] = {}
    leader: dict[str, str] = {}
    ranges: list[tuple[int, int, int, str]] = []
    for name, tensor in tensors.items():
        if tensor.numel() == 0 or tensor.device.type == "meta":
            leader[name] = spans.setdefault((id(tensor),), name)
            continue
        device, start = tensor.get_device(), tensor.data_ptr()
        key = (device, start, tensor.dtype, tuple(tensor.shape), tensor.stride())
        leader[name] = spans.setdefault(key, name)
        if leader[name] == name:
            span = tensor.numel()
            if not tensor.is_contiguous():
                steps = zip(tensor.shape, tensor.stride(), strict=True)
                span = sum((size - 1) * step for size, step in steps) + 1
            ranges.append((device, start, start + span * tensor.itemsize, name))
    ranges.sort()
    for (device, _, end, name), (other_device, start, _, other) in pairwise(ranges):
        if device == other_device and start < end and _interleaved(tensors[name], tensors[other]):
            raise LoadError(
                f"{name!r} and {other!r} share a part of their memory without being the same: "
                "loading one would change the other."
            )
    return leader


def _interleaved(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two overlapping stretches really share an element (columns of a matrix don't)."""
    if first.is_contiguous() or second.is_contiguous() or first.stride() != second.stride():
        return True
    step = max(first.stride(), default=1)
    gap = (second.data_ptr() - first.data_ptr()) // first.itemsize
    width = 1 + sum(
        (size - 1) * each for size, each in zip(first.shape, first.stride(), strict=True)
        if each != step
    )  # fmt: skip
    return not width <= gap % step <= step - width
