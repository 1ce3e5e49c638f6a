"""Names of classes travel with their numbers: two sets that meet must mean the same by them."""

import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn
from torch.utils.data import ChainDataset, ConcatDataset, DataLoader

from course_lib.errors import DataError
from course_lib.text import few

CARRIED = "class_names"


def class_names(data: Any) -> tuple[str, ...] | None:
    """The names of a data set's classes, in the order of their numbers; None if it has none.

    Args:
        data: a data set with ``.classes`` (or ``.class_to_idx``), one inside subsets or a loader,
            several in a row, or a network whose head :func:`carry` has given names.

    Raises:
        DataError: several in a row that don't mean the same by a number.
    """
    if isinstance(data, nn.Module):
        return next((vars(each)[CARRIED] for each in data.modules() if CARRIED in vars(each)), None)
    for _ in range(20):  # wrappers around wrappers; a data set may even name itself
        if isinstance(data, ConcatDataset | ChainDataset):
            check_same_classes({f"part {i}": each for i, each in enumerate(data.datasets, 1)})
            return next(filter(None, map(class_names, data.datasets)), None)
        if not isinstance(data, DataLoader) and (own := _own(data)) is not None:
            return own
        inner = getattr(data, "dataset", None)
        if inner is None or inner is data or callable(inner):
            return None
        data = inner
    return None


def _own(data: Any) -> tuple[str, ...] | None:
    names = getattr(data, "classes", None)
    if isinstance(names, np.ndarray):
        names = names.tolist()
    if names is None and isinstance(numbers := getattr(data, "class_to_idx", None), Mapping):
        names = sorted(numbers, key=numbers.__getitem__)
        if [numbers[each] for each in names] != list(range(len(names))):
            return None
    return tuple(map(str, names)) if isinstance(names, list | tuple) else None


def carry(head: nn.Module, names: tuple[str, ...] | None) -> None:
    """Let a network's head carry the names of its classes (None: forget them).

    They stay with this module: a head that replaces it has none.
    """
    vars(head).pop(CARRIED, None)
    if names is not None:
        vars(head)[CARRIED] = names


def check_same_classes(parts: Mapping[str, Any]) -> None:
    """Refuse sets that don't have the same classes in the same order, as far as they have names.

    How an accent is encoded, which differs from system to system, makes no other name.

    Args:
        parts: name of each, for the error -> what :func:`class_names` takes; None is left out.

    Raises:
        DataError: with both lists.
    """
    first: tuple[str, tuple[str, ...]] | None = None
    wanted: list[str] = []
    for name, part in parts.items():
        names = None if part is None else class_names(part)
        if names is None:
            continue
        plain = [unicodedata.normalize("NFC", each) for each in names]
        if first is None:
            first, wanted = (name, names), plain
        elif plain != wanted:
            same = sorted(plain) == sorted(wanted)
            order = "in another order, so that a number means two things" if same else "differ"
            raise DataError(
                f"The classes of the {name} data {order}: {few(names, len(names))}; the "
                f"{first[0]} data has {few(first[1], len(first[1]))}. Give both the same names in "
                "the same order, as data.image_folder does for all splits of one folder."
            )
