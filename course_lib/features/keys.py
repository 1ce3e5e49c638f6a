"""What features hang on, as a hash: equal hashes, equal features.

A hash that misses something is worse than none: the cache would hand out features of another
network without a word. So whatever can't be described for certain (a transform of your own, a data
set of your own) isn't described: the finished tensors are hashed instead, which costs a pass over
the pictures and is always right.
"""

import hashlib
import json
import platform
from collections.abc import Iterator, Sequence
from enum import Enum
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

import PIL
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import Subset

from course_lib.backbones import Preprocessing
from course_lib.data import ImageFolderDataset, LabelledSubset
from course_lib.paths import file_hash

FORMAT = 1  # of key and file; counted up when either changes

#: Transforms of torchvision that do the same every time and hold nothing but plain settings.
STEADY = {
    "CenterCrop", "Compose", "ConvertImageDtype", "FiveCrop", "Grayscale", "Identity", "Normalize",
    "PILToTensor", "Pad", "RGB", "Resize", "TenCrop", "ToDtype", "ToImage", "ToPILImage",
    "ToPureTensor", "ToTensor",
}  # fmt: skip

#: Those that draw random numbers, beside all whose names begin with "Random".
RANDOM = {
    "AugMix", "AutoAugment", "ColorJitter", "CutMix", "ElasticTransform", "GaussianNoise", "MixUp",
    "RandAugment", "ScaleJitter", "TrivialAugmentWide",
}  # fmt: skip

#: Code that needs no looking at, as its version is part of the key.
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "builtins")

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)


def of_model(model: nn.Module) -> str:
    """Hash of a network in evaluation mode: structure, settings, code and every tensor.

    The modes (train or eval) and ``requires_grad`` don't count: they don't change its features.
    """
    return _of_model(model, set())


def of_files(dataset: Any) -> str | None:
    """Hash of a data set by its files and transforms; None if that can't be relied on."""
    base, indices = _unwrapped(dataset)
    if type(base) is not ImageFolderDataset:
        return None
    steps = describe(base.transform)
    if steps is None:
        return None
    digest = hashlib.sha256(f"{steps}\ntorchvision {torchvision.__version__}\n".encode())
    digest.update(f"pillow {PIL.__version__}\n".encode())
    for index in indices:
        try:
            content = bytes.fromhex(file_hash(Path(base.paths[index])))
        except OSError:
            return None  # reading the pictures will say what is wrong
        digest.update(content + str(base.targets[index]).encode() + b"\n")
    return digest.hexdigest()


def describe(transform: Any) -> str | None:
    """A steady torchvision transform with its settings; None for what can't be told."""
    if transform is None:
        return "as it is"
    if type(transform) is Preprocessing:
        return f"{transform!r} {describe(transform.eval)}"
    kind = type(transform)
    if not kind.__module__.startswith("torchvision.transforms") or kind.__name__ not in STEADY:
        return None
    settings = {key: value for key, value in vars(transform).items() if not key.startswith("_")}
    parts = [f"{kind.__module__}.{kind.__name__}"]
    for key in sorted(settings.keys() - {"training"}):
        told = _describe_setting(settings[key])
        if told is None:
            return None
        parts.append(f"{key}={told}")
    return f"({' '.join(parts)})"


def random_steps(transform: Any) -> list[str]:
    """Names of the transforms in ``transform`` that are known to draw random numbers."""
    if transform is None:
        return []
    kind = type(transform)
    if kind.__module__.startswith("torchvision.transforms") and (
        kind.__name__ in RANDOM or kind.__name__.startswith("Random")
    ):
        return [kind.__name__]
    inner = getattr(transform, "transforms", None)
    if isinstance(inner, list | tuple | nn.ModuleList):
        return [name for each in inner for name in random_steps(each)]
    if isinstance(transform, nn.Sequential):
        return [name for each in transform for name in random_steps(each)]
    return []


def transforms_of(dataset: Any) -> Iterator[Any]:
    """The transforms of a data set and of those that it wraps."""
    for _ in range(20):  # wrappers around wrappers; a data set may even name itself
        for name in ("transform", "transforms"):
            found = getattr(dataset, name, None)
            if found is not None:
                yield found
        inner = getattr(dataset, "dataset", None)
        if inner is None or inner is dataset:
            return
        dataset = inner


def combined(**parts: str) -> str:
    """One key from all parts, with the versions of what computes."""
    parts |= {"format": str(FORMAT), "torch": torch.__version__, "machine": platform.machine()}
    for name in ("torchvision", "timm"):  # whose networks' code isn't hashed
        parts[name] = version(name)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def tensor_bytes(tensor: Tensor) -> bytes:
    """The bytes of a tensor's values, on whichever device and in whichever layout it is."""
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    # Not state_dict(): buffers that aren't saved compute all the same.
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _unwrapped(dataset: Any) -> tuple[Any, Sequence[int]]:
    """The data set inside subsets, and the indices into it."""
    if type(dataset) in (Subset, LabelledSubset):
        base, inner = _unwrapped(dataset.dataset)
        return base, [inner[int(index)] for index in dataset.indices]
    return dataset, range(len(dataset))


def _describe_setting(value: Any) -> str | None:
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, list | tuple):
        told = [_describe_setting(each) for each in value]
        return None if None in told else f"[{', '.join(each or '' for each in told)}]"
    if isinstance(value, dict):
        pairs = [(repr(key), _describe_setting(inner)) for key, inner in value.items()]
        return None if any(told is None for _, told in pairs) else repr(pairs)
    return describe(value)


def _of_model(model: nn.Module, seen: set[int]) -> str:
    """``seen`` has the ids of what was described already, so that circles end."""
    digest = hashlib.sha256()
    kinds = set()
    for name, module in model.named_modules(remove_duplicate=False):
        seen.add(id(module))
        kinds.add(type(module))
        digest.update(f"{name}: {_class(type(module))} {module.extra_repr()}\n".encode())
        for key, value in sorted(vars(module).items()):
            if key not in ("training", "_parameters", "_buffers", "_modules"):
                digest.update(f"{key}={list(_told(value, seen))}\n".encode())
    for kind in sorted(kinds, key=_class):
        digest.update("\n".join(_code_of_class(kind, seen)).encode())
    for name, tensor in _tensors(model):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def _told(value: Any, seen: set[int]) -> Iterator[str]:
    """What an attribute of a module says, as far as it can change what the module computes."""
    if isinstance(value, (*PLAIN, Enum)):
        yield repr(value)
    elif isinstance(value, Tensor):  # neither a parameter nor a buffer, and yet it computes
        yield hashlib.sha256(tensor_bytes(value)).hexdigest()
    elif isinstance(value, type):
        yield _class(value)
    elif id(value) in seen:
        return
    elif isinstance(value, nn.Module):  # one that isn't registered
        yield _of_model(value, seen)
    elif isinstance(value, FunctionType | MethodType):
        seen.add(id(value))
        inner = value.__func__ if isinstance(value, MethodType) else value
        if isinstance(inner, FunctionType):
            yield from _code_of_function(inner, seen)
    elif isinstance(value, list | tuple):
        seen.add(id(value))
        for each in value:
            yield from _told(each, seen)
    elif isinstance(value, dict):
        seen.add(id(value))
        for key, each in value.items():
            # Hooks are numbered by a count over the whole process: the number says nothing.
            yield "" if isinstance(key, int) else repr(key)
            yield from _told(each, seen)
    elif isinstance(value, partial):
        yield from _told([value.func, value.args, value.keywords], seen)
    else:
        yield _class(type(value))


def _code_of_class(kind: type, seen: set[int]) -> Iterator[str]:
    """A class's own code, as compiled: it changes when somebody edits ``forward``."""
    yield _class(kind)
    for each in kind.__mro__:
        if _is_library(each.__module__):
            continue
        for key, value in sorted(vars(each).items()):
            function = getattr(value, "fget", None) or getattr(value, "__func__", value)
            if isinstance(function, FunctionType):
                yield key
                yield from _code_of_function(function, seen)


def _code_of_function(function: FunctionType, seen: set[int]) -> Iterator[str]:
    """The compiled code, the values it closes over, and the functions and constants it names."""
    if _is_library(function.__module__):
        yield f"{function.__module__}.{function.__qualname__}"
        return
    yield _code(function.__code__)
    for cell in function.__closure__ or ():
        yield from _told(cell.cell_contents, seen)
    yield from _told(function.__defaults__, seen)
    for name in sorted(_names(function.__code__)):
        value = function.__globals__.get(name)
        if isinstance(value, FunctionType) and id(value) not in seen:
            seen.add(id(value))
            yield from _code_of_function(value, seen)
        elif isinstance(value, (*PLAIN, Tensor)) and value is not None:
            yield name
            yield from _told(value, seen)


def _code(code: CodeType) -> str:
    constants = [
        _code(each)
        if isinstance(each, CodeType)
        else repr(sorted(map(repr, each)) if isinstance(each, frozenset) else each)
        for each in code.co_consts
    ]
    said = code.co_code.hex(), code.co_names, code.co_varnames, sorted(constants)
    return hashlib.sha256(repr(said).encode()).hexdigest()


def _names(code: CodeType) -> set[str]:
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*(_names(each) for each in inner))


def _is_library(module: str | None) -> bool:
    return (module or "").split(".")[0] in LIBRARIES


def _class(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
