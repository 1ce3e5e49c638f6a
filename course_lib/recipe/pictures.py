"""The pictures of a run: from a folder or data sets to training, validation and test pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

from course_lib import backbones, data, profile
from course_lib.training.batches import Data
from course_lib.training.errors import TrainingError

IN_MEMORY = 2000  # pictures up to this number are prepared once and kept
BATCH = 64  # of validation pictures that are kept


@dataclass(frozen=True)
class Pictures:
    """The data of a run.

    Attributes:
        train: training pictures, each prepared the same way every time.
        augmented: training pictures for the stages that train the body, with random changes.
        val: validation pictures.
        test: test pictures; None without them.
        classes: names of the classes.
        backbone: name of the network to start from; empty for a network of your own.
    """

    train: Dataset[Any]
    augmented: Dataset[Any]
    val: Dataset[Any]
    test: Dataset[Any] | None
    classes: tuple[str, ...]
    backbone: str = ""


def gather(
    train: str | Path | Dataset[Any],
    val: Dataset[Any] | None,
    test: Dataset[Any] | None,
    augmented: Dataset[Any] | None,
    model: str | nn.Module | None,
    size: int | None,
) -> Pictures:
    """The data sets, and the names of the classes; arguments as for :func:`course_lib.recipe.fit`.

    Raises:
        DataError: a folder that can't be used.
        UnknownNameError: no such backbone.
        TrainingError: arguments that contradict each other, no validation pictures, or no
            pictures at all.
    """
    if isinstance(train, str | Path):
        if val is not None or augmented is not None:
            raise TrainingError("A folder brings its own splits: leave out val and augmented.")
        if isinstance(model, nn.Module):
            raise TrainingError(
                "With a folder, name the backbone, so that the pictures can be prepared for it: "
                "model='resnet18', say. With a network of your own, hand over data sets: "
                "data.image_folder(folder, split, transform)."
            )
        return _from_folder(Path(train), test, model or profile.current().backbone, size)
    if val is None:
        raise TrainingError(
            "The recipe chooses by validation pictures: hand over val=..., apart from the test "
            "pictures, or a folder, which is divided by itself."
        )
    for name, part in (("training", train), ("validation", val), ("test", test)):
        if part is not None and len(part) == 0:  # type: ignore[arg-type]
            raise TrainingError(f"The {name} data set is empty; it needs at least one example.")
    backbone = "" if isinstance(model, nn.Module) else model or profile.current().backbone
    changing = train if augmented is None else augmented
    return Pictures(train, changing, val, test, _classes_of(train), backbone)


def _from_folder(root: Path, test: Dataset[Any] | None, name: str, size: int | None) -> Pictures:
    see = backbones.preprocessing(name, size)
    train, val, own_test = (
        data.image_folder(root, split, see.eval) for split in ("train", "val", "test")
    )
    mirrored = v2.Compose([v2.RandomHorizontalFlip(), see.eval])
    augmented = data.image_folder(root, "train", mirrored)
    return Pictures(train, augmented, val, own_test if test is None else test, train.classes, name)


def _classes_of(dataset: Any) -> tuple[str, ...]:
    """The names of the classes; their numbers, if the data set has no names."""
    if hasattr(dataset, "classes"):
        return tuple(map(str, dataset.classes))
    targets = getattr(dataset, "targets", None)
    if targets is None:
        targets = [dataset[place][1] for place in range(len(dataset))]
    return tuple(str(each) for each in range(int(max(targets)) + 1))


def stacked(part: Dataset[Any]) -> tuple[Tensor, Tensor]:
    """All pictures (N, ...) and class numbers (N,) of a data set.

    Raises:
        TrainingError: the pictures differ in size.
    """
    items = [part[place] for place in range(len(part))]  # type: ignore[arg-type]
    shapes = {tuple(image.shape) for image, _ in items}
    if len(shapes) > 1:
        raise TrainingError(
            f"The pictures differ in size: {', '.join(map(str, sorted(shapes)))}. Let the data "
            "set's transform bring them to one."
        )
    return torch.stack([image for image, _ in items]), torch.tensor([int(y) for _, y in items])


def for_measuring(part: Dataset[Any]) -> Data:
    """Batches that needn't be prepared again every time; a large data set stays as it is.

    Raises:
        TrainingError: the pictures differ in size.
    """
    if len(part) > IN_MEMORY:  # type: ignore[arg-type]
        return part
    images, targets = stacked(part)
    return list(zip(images.split(BATCH), targets.split(BATCH), strict=True))


def for_training(pictures: Pictures, batch_size: int) -> Data:
    """Shuffled batches in memory, if nothing but the order changes; else the data set itself.

    Raises:
        TrainingError: the pictures differ in size.
    """
    steady = pictures.augmented is pictures.train
    if not steady or len(pictures.train) > IN_MEMORY:  # type: ignore[arg-type]
        return pictures.augmented
    return Shuffled(*stacked(pictures.train), batch_size)


class Shuffled:
    """Batches of pictures that are in memory, in a new order at every pass.

    The loader for data sets prepares picture by picture; for small pictures that takes longer than
    training on them.

    Args:
        images: (N, ...).
        targets: (N,).
        batch_size: the last batch may be smaller; if it were a single picture, it is added to the
            one before it, as BatchNorm can't train on one.
    """

    def __init__(self, images: Tensor, targets: Tensor, batch_size: int) -> None:
        self.images, self.targets, self.batch_size = images, targets, batch_size
        self.generator = profile.seeded_generator(0)  # finetune starts it from its own seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.targets), generator=self.generator)
        parts = list(order.split(self.batch_size))
        if len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [torch.cat(parts[-2:])]
        for rows in parts:
            yield self.images[rows], self.targets[rows]
