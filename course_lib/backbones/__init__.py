"""Backbones: pretrained networks by name, what they want done to a picture, and their heads.

>>> from course_lib import backbones
>>> model = backbones.load("efficientnet_lite0", num_classes=2)
>>> backbones.head_name(model)
'classifier'
"""

import pickle
from pathlib import Path

import torchvision
from torch import nn

from course_lib import profile
from course_lib.backbones.catalogue import (
    HOTDOG_CLASS,
    TIMM,
    Card,
    card,
    check_name,
    default_weights,
    imagenet_classes,
    names,
)
from course_lib.backbones.heads import (
    HeadError,
    check_num_classes,
    head_name,
    head_names,
    replace_head,
)
from course_lib.backbones.hotdog import hotdog_head
from course_lib.backbones.sources import (
    PACKAGED,
    WeightsFileError,
    cached_path,
    fetch,
    only_weights,
    packaged_path,
    read_packaged,
)
from course_lib.backbones.transforms import Preprocessing, prepared_by
from course_lib.errors import DataError, OfflineError
from course_lib.paths import file_hash
from course_lib.weights.matching.names import name_table

__all__ = [
    "HOTDOG_CLASS", "Card", "HeadError", "Preprocessing", "WeightsFileError", "card",
    "find_weights", "head_name", "head_names", "hotdog_head", "imagenet_classes", "load", "names",
    "prepared_by", "preprocessing", "replace_head",
]  # fmt: skip


def load(name: str, num_classes: int | None = None, pretrained: bool = True) -> nn.Module:
    """A backbone with its head, in training mode, as every new module is.

    Pictures (B, 3, H, W), normalised by :func:`preprocessing`, go in; class scores (B, classes)
    come out. Call ``model.eval()`` before you use it to predict.

    Args:
        name: a name from :func:`names`, such as ``"efficientnet_lite0"`` or ``"resnet18"``.
        num_classes: classes of a new head, drawn from torch's global random stream (see
            :func:`replace_head`); None keeps the head with ImageNet's 1,000 classes.
        pretrained: with weights learned on ImageNet; False draws every weight from torch's
            global random stream: seed it, and you get the same network again.

    Raises:
        UnknownNameError: no such backbone; the message offers the nearest names.
        HeadError: ``num_classes`` isn't a whole number of 1 or more.
        OfflineError: weights that aren't on this machine and can't be downloaded.
        WeightsFileError: a file that isn't the published one.
    """
    check_name(name)
    if num_classes is not None:
        check_num_classes(num_classes)  # before a download, not after it
    if name in PACKAGED:
        model = _load_packaged(name, pretrained)
    elif name.startswith(TIMM):
        model = _load_timm(name, pretrained)
    else:
        model = _load_torchvision(name, pretrained)
    return model if num_classes is None else replace_head(model, num_classes)


def preprocessing(name: str, size: int | None = None) -> Preprocessing:
    """What a backbone wants done to a picture: size, normalisation, augmentation.

    Args:
        name: a name from :func:`names`.
        size: side of the square in pixels; by default the active profile's (96 in ``tiny``), or
            the size that the network needs when it takes no other.

    Raises:
        UnknownNameError: no such backbone.
        DataError: a size that this network can't take.
    """
    facts = card(name)
    if size is None:
        wanted = facts.input_size if facts.fixed_size else profile.current().image_size
        size = max(wanted, facts.min_size)
    if isinstance(size, bool) or not isinstance(size, int):
        raise DataError(f"size is {size!r}; expected a whole number of pixels, such as 224.")
    if size < facts.min_size:
        raise DataError(
            f"size is {size}; {name} needs pictures of at least {facts.min_size} pixels a side."
        )
    if facts.fixed_size and size != facts.input_size:
        raise DataError(
            f"size is {size}; {name} takes pictures of {facts.input_size} pixels a side only."
        )
    return Preprocessing(name, size, facts.mean, facts.std, facts.interpolation)


def find_weights(name: str) -> Path | None:
    """The file with a backbone's weights, if it is on this machine; None if it isn't.

    It is looked for, not checked: :func:`load` does that.
    """
    check_name(name)
    if name in PACKAGED:
        return packaged_path(name)
    if name.startswith(TIMM):
        return None  # timm's own cache
    path = cached_path(default_weights(name).url)
    return path if path.is_file() else None


def _load_packaged(name: str, pretrained: bool) -> nn.Module:
    import timm  # here, not above: it takes a second, and only these backbones need it

    weights = read_packaged(name) if pretrained else None
    model = timm.create_model(f"tf_{name}", pretrained=False)
    if weights is not None:
        table = name_table(name)
        if weights.keys() != table.keys():
            raise WeightsFileError(f"The name table of {name} doesn't fit its file.")
        # Same tensors, other names: the table says which is which, and strict=True insists that
        # every one of them finds its place.
        model.load_state_dict({table[key]: weights[key] for key in weights}, strict=True)
    return model


def _load_timm(name: str, pretrained: bool) -> nn.Module:
    import timm

    bare = name.removeprefix(TIMM)
    try:
        return timm.create_model(bare, pretrained=pretrained)
    except (OSError, RuntimeError) as problem:
        if not pretrained:
            raise
        raise OfflineError(
            f"The weights of timm's {bare} aren't on this machine and can't be fetched "
            f"({str(problem).splitlines()[0]}). Load it with pretrained=False, and give it a file "
            "that you have: weights.load_weights."
        ) from problem


def _load_torchvision(name: str, pretrained: bool) -> nn.Module:
    if not pretrained:
        return torchvision.models.get_model(name, weights=None, **_options(name))
    weights = default_weights(name)
    path = fetch(weights.url, name)
    try:
        with only_weights():
            return torchvision.models.get_model(name, weights=weights)  # reads it from the cache
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as problem:
        raise WeightsFileError(
            f"{path} has the right hash ({file_hash(path)[:8]}...) but doesn't hold the weights "
            f"of {name}: {problem}"
        ) from problem


def _options(name: str) -> dict[str, object]:
    """What torchvision has to be told to build without weights what it builds with them."""
    if name in ("googlenet", "inception_v3"):  # unsaid, they warn: their draws are going to change
        return {"init_weights": True, "transform_input": True, "aux_logits": name != "googlenet"}
    if name.startswith("vit"):
        return {"image_size": card(name).input_size}  # one of them wants another size than 224
    return {}
