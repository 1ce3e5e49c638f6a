"""What features depend on, as a hash: equal hashes, equal features.

A hash that misses something is worse than none: the cache would hand out features of another
network without a word. So whatever can't be described for certain isn't described. For pictures
(a transform of your own, a data set of your own) the finished tensors are hashed instead, which
costs a pass over them and is always right. For a network (a class, a hook, a function of your own,
whose code may be edited) there is no such way: its features are computed anew every time.
"""

import hashlib
import json
import platform
from collections.abc import Iterator, Sequence
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import PIL
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import Subset

from course_lib.backbones import Preprocessing
from course_lib.data import ImageFolderDataset, LabelledSubset
from course_lib.data.images import DECODER
from course_lib.freezing import hold
from course_lib.paths import file_hash

FORMAT = 3  # of key and file; counted up when either changes

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

#: Their code needs no hash, as their version is part of the key.
LIBRARIES = ("torch", "torchvision", "timm")

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)

OF_MODULES = ("training", "_parameters", "_buffers", "_modules")  # not settings, or said by name


class UndescribedError(Exception):
    """Features depend on something that can't be described for certain; the text says on what."""


def of_model(model: nn.Module) -> str:
    """Hash of a network in evaluation mode: structure, settings and every tensor.

    The modes (train or eval), ``requires_grad`` and what is frozen don't count: they don't change
    its features.

    Raises:
        UndescribedError: it has code that isn't of a library.
    """
    return _of_module(model, {})


def of_files(dataset: Any) -> str | None:
    """Hash of a data set by its files and transforms; None if that can't be relied on."""
    base, indices = _unwrapped(dataset)
    if type(base) is not ImageFolderDataset:
        return None
    try:
        steps = _transform(base.transform, {})
    except UndescribedError:
        return None
    digest = hashlib.sha256(f"{steps}\ntorchvision {torchvision.__version__}\n".encode())
    digest.update(f"pillow {PIL.__version__}, decoder {DECODER}\n".encode())
    for index in indices:
        try:
            content = bytes.fromhex(file_hash(Path(base.paths[index])))
        except OSError:
            return None  # reading the pictures will say what is wrong
        digest.update(content + str(base.targets[index]).encode() + b"\n")
    return digest.hexdigest()


def of_tensors(*tensors: Tensor) -> str:
    """Hash of tensors: their types, shapes and values."""
    digest = hashlib.sha256()
    for each in tensors:
        digest.update(f"{each.dtype} {tuple(each.shape)}".encode() + tensor_bytes(each))
    return digest.hexdigest()


def combined(**parts: str) -> str:
    """One key from all parts, with the versions of what computes."""
    parts |= {"format": str(FORMAT), "torch": torch.__version__, "machine": platform.machine()}
    for name in ("torchvision", "timm"):  # whose networks' code isn't hashed
        parts[name] = version(name)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def tensor_bytes(tensor: Tensor) -> bytes:
    """The bytes of a tensor's values (...), on whichever device and in whichever layout it is."""
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


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


def _unwrapped(dataset: Any) -> tuple[Any, Sequence[int]]:
    """The data set inside subsets, and the indices into it."""
    if type(dataset) in (Subset, LabelledSubset):
        base, inner = _unwrapped(dataset.dataset)
        return base, [inner[int(index)] for index in dataset.indices]
    return dataset, range(len(dataset))


Known = dict[int, tuple[Any, str]]  # id -> what is being described, and its name: circles end


def _of_module(model: nn.Module, known: Known) -> str:
    digest = hashlib.sha256()
    modules = list(model.named_modules(remove_duplicate=False))
    known = known | {id(module): (module, f"module {name!r}") for name, module in modules}
    for name, module in modules:
        digest.update(f"{name}: {_library(type(module))} {module.extra_repr()}\n".encode())
        for key, value in sorted(_settings(module).items()):
            digest.update(f"{key}={_told(value, known)}\n".encode())
    # Not state_dict(): buffers that aren't saved compute all the same.
    for tensors in (model.named_parameters, model.named_buffers):
        for name, tensor in tensors(remove_duplicate=False):
            digest.update(f"{name} {of_tensors(tensor)}\n".encode())
    return digest.hexdigest()


def _settings(module: nn.Module) -> dict[str, Any]:
    """A module's attributes, as far as they can change what it computes in evaluation mode."""
    found = dict(vars(module))
    record = found.pop(hold.ATTRIBUTE, None)
    for key, before in record.shadowed.items() if record else ():
        found.pop(key)  # frozen, a module computes as in inference, by freezing's own functions
        if callable(before):
            found[key] = before
    if found.get("_forward_hooks") or found.get("_forward_pre_hooks"):
        raise UndescribedError(f"a {type(module).__name__} in it has hooks")
    return {
        key: each for key, each in found.items() if key not in OF_MODULES and "_hooks" not in key
    }


def _told(value: Any, known: Known) -> str:
    """What a setting says: equal texts, equal settings."""
    if isinstance(value, (*PLAIN, Enum)):
        return repr(value)
    if isinstance(value, Tensor):  # neither a parameter nor a buffer, and yet it computes
        return of_tensors(value)
    if id(value) in known:
        return known[id(value)][1]
    known = known | {id(value): (value, f"number {len(known)}")}
    kind = type(value).__name__
    if isinstance(value, list | tuple):
        return f"{kind}{[_told(each, known) for each in value]}"
    if isinstance(value, set | frozenset):
        return f"{kind}{sorted(_told(each, known) for each in value)}"
    if isinstance(value, dict):
        return f"{kind}{[(_told(key, known), _told(each, known)) for key, each in value.items()]}"
    if type(value).__module__.startswith("torchvision.transforms"):
        return _transform(value, known)
    if isinstance(value, nn.Module):  # one that isn't registered
        return _of_module(value, known)
    if isinstance(value, type | FunctionType | BuiltinFunctionType):
        return _library(value)
    raise UndescribedError(f"it holds a {_name(type(value))}")


def _transform(transform: Any, known: Known) -> str:
    """A steady torchvision transform with its settings."""
    kind = type(transform)
    if kind is Preprocessing:
        return f"{transform!r} {_transform(transform.eval, known)}"
    if not kind.__module__.startswith("torchvision.transforms") or kind.__name__ not in STEADY:
        raise UndescribedError(f"it holds a {_name(kind)}")
    settings = {key: each for key, each in vars(transform).items() if not key.startswith("_")}
    settings.pop("training", None)
    return f"{_name(kind)} {_told(settings, known)}"


def _library(code: Any) -> str:
    """The name of a library's class or function, whose code the version stands for."""
    room = (code.__module__ or "").split(".")[0]
    if room not in LIBRARIES or getattr(code, "__closure__", None):
        raise UndescribedError(f"the code of {_name(code)} isn't a library's")
    return _name(code)


def _name(code: Any) -> str:
    return f"{code.__module__}.{code.__qualname__}"
