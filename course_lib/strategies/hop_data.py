"""Two tasks over the same kind of picture with other classes: digits offline, CIFAR downloaded."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from course_lib.data.splits import LabelledSubset, stratified_split
from course_lib.errors import OfflineError, UnknownNameError
from course_lib.paths import data_dir

TEST, VALIDATION = 0.3, 0.2  # of the digits; then of what is left
SPLIT_SEED = 0
NAMES = ("digits", "cifar")

Transform = Callable[[Image.Image], Any]


class Pictures(Dataset[tuple[Any, int]]):
    """Pictures held in memory.

    Args:
        arrays: (N, H, W) or (N, H, W, 3), bytes.
        targets: class of each, from 0.
        classes: their names.
        transform: what is done to each picture, an RGB image; nothing by default.
    """

    def __init__(
        self,
        arrays: np.ndarray,
        targets: Sequence[int],
        classes: Sequence[str],
        transform: Transform | None = None,
    ) -> None:
        self.arrays, self.targets = arrays, [int(each) for each in targets]
        self.classes, self.transform = list(classes), transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        picture = Image.fromarray(self.arrays[index]).convert("RGB")
        return (self.transform(picture) if self.transform else picture), self.targets[index]


@dataclass(frozen=True)
class Task:
    """One hop's data: three parts that share no picture."""

    classes: list[str]
    train: LabelledSubset
    val: LabelledSubset
    test: LabelledSubset


def two_tasks(name: str, transform: Transform | None = None) -> tuple[Task, Task]:
    """The first task and the second.

    Args:
        name: ``"digits"``: scikit-learn's pictures of 8 by 8 pixels, 0 to 4 and 5 to 9, offline.
            ``"cifar"``: CIFAR-10 and CIFAR-100, 340 MB, downloaded once by torchvision, which
            checks what arrives.
        transform: what is done to each picture.

    Raises:
        UnknownNameError: another name.
        OfflineError: the pictures aren't on this machine and can't be downloaded.
    """
    if name == "digits":
        return _digits(range(5), transform), _digits(range(5, 10), transform)
    if name == "cifar":
        return _cifar("CIFAR10", transform), _cifar("CIFAR100", transform)
    raise UnknownNameError(f"There are no tasks {name!r}; there are {' and '.join(NAMES)}.")


def _digits(wanted: range, transform: Transform | None) -> Task:
    from sklearn.datasets import load_digits  # a second; only here

    held = load_digits()
    rows = np.flatnonzero(np.isin(held.target, wanted))
    arrays = np.round(held.images[rows] * (255 / 16)).astype(np.uint8)
    targets = held.target[rows] - wanted.start
    whole = Pictures(arrays, targets, [str(each) for each in wanted], transform)
    rest, test = _divided(whole, range(len(whole)), TEST)
    train, val = _divided(whole, rest, VALIDATION)
    parts = (LabelledSubset(whole, each) for each in (train, val, test))
    return Task(whole.classes, *parts)


def _cifar(name: str, transform: Transform | None) -> Task:
    folder = data_dir() / "cifar"
    train, test = (_cifar_part(name, folder, part, transform) for part in (True, False))
    rest, val = _divided(train, range(len(train)), VALIDATION)
    return Task(
        train.classes,
        LabelledSubset(train, rest),
        LabelledSubset(train, val),
        LabelledSubset(test, range(len(test))),
    )


def _cifar_part(name: str, folder: Path, train: bool, transform: Transform | None) -> Pictures:
    import torchvision.datasets

    try:
        found = getattr(torchvision.datasets, name)(folder, train=train, download=True)
    except (URLError, OSError, RuntimeError) as error:
        raise OfflineError(
            f"{name} isn't in {folder} and could not be downloaded: {error}. Connect once, or take "
            "the digits, which are on this machine."
        ) from error
    return Pictures(found.data, found.targets, found.classes, transform)


def _divided(whole: Pictures, rows: Sequence[int], fraction: float) -> tuple[list[int], list[int]]:
    """Rows in two parts, each class in the same proportion, copies of a picture together."""
    targets = [whole.targets[each] for each in rows]
    keys = [hashlib.sha256(whole.arrays[each].tobytes()).hexdigest() for each in rows]
    first, second = stratified_split(targets, keys, fraction, SPLIT_SEED)
    return [rows[each] for each in first], [rows[each] for each in second]
