"""The pictures of a run: from a folder or data sets to training, validation and test pictures."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset
from torchvision.transforms import v2

from course_lib import backbones, data, features, profile
from course_lib.backbones import Preprocessing
from course_lib.features import Features
from course_lib.training.batches import Data
from course_lib.training.errors import TrainingError

IN_MEMORY = 1_000_000_000  # bytes of prepared pictures that are kept while the body is trained


@dataclass(frozen=True)
class Pictures:
    """The data of a run.

    Attributes:
        train: training pictures, prepared the same way every time.
        val: validation pictures, likewise.
        test: test pictures, likewise; None without them.
        changing: training pictures, then validation pictures, as they are trained on: with random
            changes, if there are any.
        classes: names of the classes.
        backbone: name of the network to start from; empty for a network of your own.
        preparation: what is done to a picture; None if that isn't known.
        again: makes the same pictures of another size; None for data sets.
        mirrored: ``changing`` are the same pictures, mirrored every other time, and no more.
        workers: threads that prepare pictures and compute features, each on its own; 0: the data
            sets may not bear that.
        cache: keep features on disk.
        progress: show bars or not; None: where somebody is watching.
    """

    train: Dataset[Any]
    val: Dataset[Any]
    test: Dataset[Any] | None
    changing: Dataset[Any]
    classes: tuple[str, ...]
    backbone: str = ""
    preparation: Preprocessing | None = None
    again: Callable[[int], "Pictures"] | None = field(default=None, repr=False)
    mirrored: bool = False
    workers: int = 0
    cache: bool = True
    progress: bool | None = None

    @property
    def counts(self) -> tuple[int, int]:
        """Pictures to learn from (training and validation), and test pictures."""
        return length(self.train) + length(self.val), length(self.test) if self.test else 0

    @property
    def groups(self) -> list[int]:
        """A number for each picture to learn from, equal for copies, where files are known."""
        known: dict[Any, int] = {}
        found: list[int] = []
        for part in (self.train, self.val):
            hashes, paths = getattr(part, "hashes", {}), getattr(part, "paths", None)
            for place in range(length(part)):
                key = hashes.get(paths[place]) if paths is not None else None
                found.append(known.setdefault(key or len(found), len(known)))
        return found

    def at(self, size: int) -> "Pictures":
        """The same, of another size; 0: of this one."""
        if self.again is None or not size or (self.preparation and self.preparation.size == size):
            return self
        return self.again(size)

    def features(self, model: nn.Module, part: Dataset[Any], cache: bool | None = None) -> Features:
        """Features (N, D) of some pictures; ``cache`` as for the run, unless it is given."""
        return features.extract(
            model, part, cache=self.cache if cache is None else cache,
            workers=self.workers or None, progress=self.progress,
        )  # fmt: skip

    def to_learn(self, model: nn.Module, cache: bool | None = None) -> Features:
        """Features (N, D) of the training pictures, then of the validation pictures."""
        parts = [self.features(model, each, cache) for each in (self.train, self.val)]
        return Features(
            torch.cat([each.values for each in parts]),
            torch.cat([each.targets for each in parts]),
            torch.arange(sum(map(len, parts))), None, parts[0].layer, parts[0].key,
            parts[0].classes,
        )  # fmt: skip


def gather(
    train: str | Path | Dataset[Any],
    val: Dataset[Any] | None,
    test: Dataset[Any] | None,
    augmented: Dataset[Any] | None,
    model: str | nn.Module | None,
    size: int | None,
    cache: bool,
    progress: bool | None,
) -> Pictures:
    """The data sets, and the names of the classes; arguments as for :func:`course_lib.recipe.fit`.

    Raises:
        DataError: a folder that can't be used; classes with other names, or another order.
        UnknownNameError: no such backbone.
        TrainingError: arguments that contradict each other, no validation pictures, or no
            pictures at all.
    """
    options: dict[str, Any] = {"cache": cache, "progress": progress}
    if isinstance(train, str | Path):
        if val is not None or augmented is not None:
            raise TrainingError("A folder brings its own splits: leave out val and augmented.")
        if isinstance(model, nn.Module):
            raise TrainingError(
                "With a folder, name the backbone, so that the pictures can be prepared for it: "
                "model='resnet18', say. With a network of your own, hand over data sets: "
                "data.image_folder(folder, split, transform)."
            )
        return _from_folder(Path(train), test, model or profile.current().backbone, size, options)
    if size is not None:
        raise TrainingError(
            f"size={size} is for a folder; these data sets prepare their pictures themselves. "
            "Give them the transform backbones.preprocessing(name, size).eval."
        )
    if val is None:
        raise TrainingError(
            "The recipe chooses by validation pictures: hand over val=..., apart from the test "
            "pictures, or a folder, which is divided by itself."
        )
    for name, part in (("training", train), ("validation", val), ("test", test)):
        if part is not None and length(part) == 0:
            raise TrainingError(f"The {name} data set is empty; it needs at least one example.")
    data.check_same_classes(
        {"training": train, "validation": val, "test": test, "augmented": augmented}
    )
    backbone = "" if isinstance(model, nn.Module) else model or profile.current().backbone
    changing: Dataset[Any] = ConcatDataset([train if augmented is None else augmented, val])
    return Pictures(
        train, val, test, changing, _classes_of(train), backbone,
        backbones.prepared_by(train, backbone), workers=_workers(train, val, test), **options,
    )  # fmt: skip


def _from_folder(
    root: Path, test: Dataset[Any] | None, name: str, size: int | None, options: dict[str, Any]
) -> Pictures:
    if size is None and test is not None:
        size = int(test[0][0].shape[-1])  # another one would not be comparable
    again = None if size else lambda side: _from_folder(root, test, name, side, options)
    see = backbones.preprocessing(name, size)
    train, val, own_test = (
        data.image_folder(root, split, see.eval) for split in ("train", "val", "test")
    )
    data.check_same_classes({"training": train, "test": test})
    mirror = v2.Compose([v2.RandomHorizontalFlip(), see.eval])
    changing: Dataset[Any] = ConcatDataset(
        [data.image_folder(root, each, mirror) for each in ("train", "val")]
    )
    return Pictures(
        train, val, own_test if test is None else test, changing, train.classes, name, see,
        again=again, mirrored=True, workers=profile.cores(), **options,
    )  # fmt: skip


def length(part: Dataset[Any]) -> int:
    """How many examples there are."""
    return len(part)  # type: ignore[arg-type]


def _workers(*parts: Any) -> int:
    """Threads that may read the data sets at once: those of the course's folders bear it."""
    for part in parts:
        while isinstance(part, Subset):
            part = part.dataset
        if part is not None and type(part) is not data.ImageFolderDataset:
            return 0
    return profile.cores()


def _classes_of(dataset: Any) -> tuple[str, ...]:
    """The names of the classes; their numbers, if the data set has no names."""
    if (names := data.class_names(dataset)) is not None:
        return names
    targets = getattr(dataset, "targets", None)
    if targets is None:
        targets = [dataset[place][1] for place in range(len(dataset))]
    return tuple(str(each) for each in range(int(max(targets)) + 1))


class Learned:
    """Training and validation pictures, to train on parts of them; in memory where they fit.

    Args:
        pictures: the data of the run.
    """

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures
        self.steady: Dataset[Any] = ConcatDataset([pictures.train, pictures.val])
        self.changing = pictures.changing
        first = self.steady[0][0]
        self.kept = first.numel() * first.itemsize * length(self.steady) <= IN_MEMORY
        plain = pictures.changing.datasets[0] is pictures.train  # type: ignore[attr-defined]
        if self.kept:
            self.steady = TensorDataset(*_stacked(self.steady, pictures.workers))
        self.in_memory = self.kept and (plain or pictures.mirrored)

    def batches(self, rows: Tensor, batch_size: int) -> Data:
        """Shuffled batches of some of them (K,), to train on."""
        if not self.in_memory:
            return data.loader(
                Subset(self.changing, rows.tolist()), batch_size, shuffle=True, seed=0
            )
        assert isinstance(self.steady, TensorDataset)
        images, targets = self.steady.tensors
        return Shuffled(images[rows], targets[rows], batch_size, self.pictures.mirrored)

    def features(self, model: nn.Module) -> Features:
        """Features (N, D) of all of them, from a network that isn't kept."""
        return self.pictures.features(model, self.steady, cache=False)


def _stacked(part: Dataset[Any], workers: int) -> tuple[Tensor, Tensor]:
    """All pictures (N, ...) and class numbers (N,) of a data set.

    Raises:
        TrainingError: the pictures differ in size.
    """
    places = range(length(part))
    if workers:
        with ThreadPoolExecutor(workers) as pool:
            items = list(pool.map(part.__getitem__, places))
    else:
        items = [part[place] for place in places]
    shapes = {tuple(image.shape) for image, _ in items}
    if len(shapes) > 1:
        raise TrainingError(
            f"The pictures differ in size: {', '.join(map(str, sorted(shapes)))}. Let the data "
            "set's transform bring them to one."
        )
    return torch.stack([image for image, _ in items]), torch.tensor([int(y) for _, y in items])


class Shuffled:
    """Batches of pictures that are in memory, in a new order at every pass.

    The loader for data sets prepares picture by picture; for small pictures that takes longer than
    training on them.

    Args:
        images: (N, ...).
        targets: (N,).
        batch_size: the last batch may be smaller; if it were a single picture, it is added to the
            one before it, as BatchNorm can't train on one.
        mirror: turn each picture left to right every other time.
    """

    def __init__(self, images: Tensor, targets: Tensor, batch_size: int, mirror: bool) -> None:
        self.images, self.targets, self.batch_size = images, targets, batch_size
        self.mirror = mirror
        self.generator = profile.seeded_generator(0)  # finetune starts it from its own seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.targets), generator=self.generator)
        parts = list(order.split(self.batch_size))
        if len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [torch.cat(parts[-2:])]
        for rows in parts:
            images = self.images[rows]
            if self.mirror:
                turned = torch.rand(len(rows), generator=self.generator) < 0.5
                images[turned] = images[turned].flip(-1)
            yield images, self.targets[rows]
