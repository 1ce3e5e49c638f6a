"""From what you hand over (a data set, a loader, a list of batches) to batches on the device."""

from collections.abc import Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from course_lib.training.errors import TrainingError

Data: TypeAlias = DataLoader[Any] | Dataset[Any] | Iterable[Any]


def as_batches(
    data: Data, name: str, batch_size: int | None, shuffle: bool, seed: int
) -> Iterable[Any]:
    """Something that gives batches each time it is run through.

    Args:
        data: a Dataset gets a loader; a loader, or another iterable of batches, stays as it is.
        name: what to call it in an error.
        batch_size: for a Dataset; None for the profile's.
        shuffle: a new order for every epoch (for a Dataset).
        seed: where the orders come from (for a Dataset).

    Raises:
        TrainingError: there is nothing in it.
    """
    if isinstance(data, Dataset):
        if isinstance(data, Sized) and len(data) == 0:
            raise TrainingError(f"The {name} data set is empty; it needs at least one example.")
        from course_lib.data import loader  # here: a loader of your own needs none of it

        data = loader(data, batch_size=batch_size, shuffle=shuffle, seed=seed)
    if not isinstance(data, Iterable) or isinstance(data, str | bytes):
        raise TrainingError(
            f"The {name} data must be a Dataset, a DataLoader or an iterable of (images, targets) "
            f"batches; got {type(data).__name__}.{_for_pictures(data)}"
        )
    if count_batches(data) == 0:
        dropped = isinstance(data, DataLoader) and data.drop_last
        reason = " drop_last=True left out the only, incomplete batch." if dropped else ""
        raise TrainingError(
            f"The {name} loader has no batch.{reason} Give it at least one example a batch, or a "
            "smaller batch size."
        )
    return data


def check_classes(parts: Mapping[str, Any]) -> None:
    """As :func:`course_lib.data.check_same_classes`, imported late: see :func:`as_batches`."""
    from course_lib.data.classes import check_same_classes

    check_same_classes(parts)


def forget_other_classes(model: nn.Module, train: Any) -> None:
    """Let a network that learns other classes now forget the names of those that it knew."""
    from course_lib.data.classes import carry, class_names

    names = class_names(train)
    if names is not None and class_names(model) not in (None, names):
        for each in model.modules():
            carry(each, None)


def _for_pictures(given: object) -> str:
    """The next step for somebody who hands over pictures where batches are expected."""
    if not isinstance(given, str | bytes | Path | Image):
        return ""
    return " To ask a network about pictures: course_lib.recipe.load(file).predict(pictures)."


def count_batches(batches: Iterable[Any]) -> int | None:
    """How many batches there are, if that can be known without running through them."""
    if not isinstance(batches, Sized):
        return None
    try:
        return len(batches)
    except TypeError:  # a loader over an iterable data set
        return None


def unpack(batch: Any, number: int) -> tuple[Tensor, Tensor]:
    """The images (B, ...) and targets (B,) of a batch.

    Args:
        batch: what the loader gave.
        number: which batch it is, from 1, for the error.

    Raises:
        TrainingError: it isn't a pair, or the images are no tensor.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        size = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
        raise TrainingError(
            f"Batch {number} is a {type(batch).__name__}{size}; expected a pair (images, targets). "
            "Let the data set return two things an example, or give the loader a collate_fn."
            + _for_pictures(batch)
        )
    images, targets = batch
    if not isinstance(images, Tensor):
        raise TrainingError(
            f"The images of batch {number} are a {type(images).__name__}; expected a tensor. End "
            "the data set's transform with one that makes tensors."
        )
    return images, targets


def reseed(batches: Iterable[Any], seed: int) -> None:
    """Start a loader's own random streams, if it has any, from ``seed``."""
    for each in (batches, getattr(batches, "sampler", None)):
        generator = getattr(each, "generator", None)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)


class RecordingSampler(Sampler[list[int]]):
    """Gives another batch sampler's batches and remembers them."""

    def __init__(self, sampler: Iterable[list[int]]) -> None:
        self.sampler = sampler
        self.seen: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        for indices in self.sampler:
            # The course's own loader asks for (index, seed of the augmentation).
            self.seen.append([each[0] if isinstance(each, tuple) else each for each in indices])
            yield indices


def with_indices(loader: Iterable[Any]) -> tuple[Iterable[Any], RecordingSampler | None]:
    """The same batches, and a record of which examples of the data set are in them.

    None instead of the record when the loader doesn't tell: another class than DataLoader, an
    iterable data set, or a data set that makes whole batches itself.
    """
    if type(loader) is not DataLoader or loader.batch_sampler is None:
        return loader, None
    if not isinstance(loader.dataset, Sized) or not hasattr(loader.dataset, "__getitem__"):
        return loader, None
    record = RecordingSampler(loader.batch_sampler)
    names = "collate_fn pin_memory generator".split()
    if loader.num_workers:
        names += (
            "num_workers multiprocessing_context prefetch_factor worker_init_fn timeout".split()
        )
    same: dict[str, Any] = {name: getattr(loader, name) for name in names}
    return DataLoader(loader.dataset, batch_sampler=record, **same), record
