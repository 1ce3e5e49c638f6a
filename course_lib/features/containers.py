"""What an extraction gives: a table of features, a row a picture."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from course_lib.data.classes import check_same_classes, class_names
from course_lib.errors import CourseError
from course_lib.text import counted


class FeaturesError(CourseError, ValueError):
    """Features can't be computed, combined or used as asked."""


@dataclass(frozen=True, eq=False, repr=False)
class Features:
    """The features of a data set, in its order.

    Attributes:
        values: (N, D) float32 on the CPU; (N, C, H, W) if maps were kept.
        targets: (N,) class numbers.
        indices: (N,) each row's place in the data set.
        paths: the file of each row, or None if the data set doesn't tell.
        layer: where in the network they were taken.
        key: a hash of all that they depend on: weights, pictures, preparation, layer.
        classes: names of the classes, or None if the data set doesn't tell.
    """

    values: Tensor
    targets: Tensor
    indices: Tensor
    paths: tuple[Path, ...] | None
    layer: str
    key: str
    classes: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def flat(self) -> Tensor:
        """(N, D): one row a picture, kept maps laid out in a line."""
        return self.values.flatten(1)

    def dataset(self) -> TensorDataset:
        """Pairs (features (D,), target ()), to train on; it has the names of the classes, too."""
        made = TensorDataset(self.values, self.targets)
        if self.classes is not None:
            vars(made)["classes"] = self.classes
        return made

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """X (N, D) and y (N,), as scikit-learn wants them: ``pipeline.fit(*train.arrays())``."""
        return self.flat.numpy(), self.targets.numpy()

    def subset(self, rows: Sequence[int] | Tensor) -> "Features":
        """Some of the rows (K,), in the order given.

        Raises:
            FeaturesError: a row that doesn't exist.
        """
        chosen = torch.as_tensor(rows, dtype=torch.int64).flatten()
        if len(chosen) and not (-len(self) <= int(chosen.min()) and int(chosen.max()) < len(self)):
            raise FeaturesError(f"There are rows 0 to {len(self) - 1}; got {chosen.tolist()}.")
        paths = None if self.paths is None else tuple(self.paths[i] for i in chosen.tolist())
        key = _digest(self.key, str(chosen.tolist()))
        return Features(
            self.values[chosen],
            self.targets[chosen],
            self.indices[chosen],
            paths,
            self.layer,
            key,
            self.classes,
        )

    def __repr__(self) -> str:
        size = " x ".join(str(each) for each in self.values.shape[1:])
        classes = counted(len(self.targets.unique()), "class", "classes")
        return f"<{counted(len(self), 'row')} of {size} features at {self.layer!r}, {classes}>"


def join(*parts: Features) -> Features:
    """The features of two networks (or more) side by side: (N, D1 + D2).

    Raises:
        FeaturesError: fewer than two, or not of the same pictures in the same order.
        DataError: they name different classes.
    """
    check_same_classes({f"number {place}": each for place, each in enumerate(parts, start=1)})
    if len(parts) < 2:
        raise FeaturesError(f"join puts two or more side by side; got {len(parts)}.")
    first = parts[0]
    for place, other in enumerate(parts[1:], start=2):
        if len(other) != len(first):
            raise FeaturesError(
                f"The first features have {counted(len(first), 'row')}, number {place} has "
                f"{len(other)}: extract both from the same data set."
            )
        known = first.paths is not None and other.paths is not None
        same = first.paths == other.paths if known else bool((first.indices == other.indices).all())
        if not same or not torch.equal(first.targets, other.targets):
            raise FeaturesError(
                f"The rows of the first features and of number {place} are not the same pictures "
                "in the same order: extract both from the same data set."
            )
    return Features(
        torch.cat([each.flat for each in parts], dim=1), first.targets, first.indices, first.paths,
        " + ".join(each.layer for each in parts), _digest(*(each.key for each in parts)),
        class_names(first),
    )  # fmt: skip


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
