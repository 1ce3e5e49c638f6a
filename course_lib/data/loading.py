"""Batches in an order, and with augmentations, that a seed fixes for good."""

import io
import multiprocessing
import pickle
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from course_lib import profile
from course_lib.errors import DataError


def loader(
    dataset: Dataset[Any],
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: int | None = None,
    workers: int | None = None,
) -> DataLoader[Any]:
    """A :class:`~torch.utils.data.DataLoader` that gives the same batches every time.

    The usual loader draws augmentations from the random stream of whichever process prepares the
    picture, so they change with the number of workers and with everything else that draws numbers.
    Here each picture of each epoch has a seed of its own. The batches are bit-identical for 0, 1, 2
    or more workers, and the global random streams stay where they are.

    Epochs differ from each other, as they must. To repeat the first one, make a new loader.

    Args:
        dataset: of examples by index.
        batch_size: by default the profile's. The last, smaller batch is kept.
        shuffle: a new order for every epoch.
        seed: of order and augmentations; by default the profile's.
        workers: processes that prepare batches, 0 for none; by default the profile's.

    Raises:
        DataError: an empty data set, a batch size below 1, a negative number of workers, or a data
            set that can't be sent to workers.
    """
    chosen = profile.current()
    batch_size = chosen.batch_size if batch_size is None else batch_size
    workers = chosen.workers if workers is None else workers
    if len(dataset) == 0:  # type: ignore[arg-type]
        raise DataError("There is nothing to load: the data set is empty.")
    if batch_size < 1 or workers < 0:
        raise DataError(
            f"Expected batch_size >= 1 and workers >= 0, found {batch_size} and {workers}."
        )
    if workers and multiprocessing.get_context().get_start_method() != "fork":
        _check_sendable(dataset)
    generator = profile.seeded_generator(chosen.seed if seed is None else seed)
    return DataLoader(
        SeededItems(dataset),
        batch_size=batch_size,
        sampler=_SeededOrder(len(dataset), shuffle, generator),  # type: ignore[arg-type]
        num_workers=workers,
        generator=profile.seeded_generator(0),  # torch draws from it for streams we don't use
        pin_memory=chosen.device == "cuda",
    )


def _check_sendable(dataset: Dataset[Any]) -> None:
    """Refuse what workers that start anew, as on Windows and macOS, can't be sent."""
    try:
        _Sender(io.BytesIO()).dump(dataset)
    except Exception as error:  # whatever an object's own way to be sent may raise
        raise DataError(
            f"The data set can't be sent to worker processes ({error}). Write a lambda or a "
            "function of the notebook as a def in a file that is imported, or take workers=0."
        ) from error


class _Sender(pickle.Pickler):
    """Pickles as the workers' start does, but for the numbers, which always can be sent."""

    def persistent_id(self, value: Any) -> str | None:
        return "tensor" if isinstance(value, torch.Tensor) else None

    def reducer_override(self, value: Any) -> Any:
        """What is defined in a notebook isn't there in a process that starts anew."""
        home = sys.modules.get("__main__")
        if (
            isinstance(value, FunctionType | type)
            and value.__module__ == "__main__"
            and not hasattr(home, "__file__")
        ):
            raise pickle.PicklingError(f"{value.__qualname__} is defined in the notebook")
        return NotImplemented


class _SeededOrder(Sampler[tuple[int, int]]):
    """Yields (index, seed) for every example; order and seeds are new in every epoch."""

    def __init__(self, length: int, shuffle: bool, generator: torch.Generator) -> None:
        self.length = length
        self.shuffle = shuffle
        self.generator = generator

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        seeds = torch.randint(2**32, (self.length,), generator=self.generator).tolist()
        order = torch.arange(self.length)
        if self.shuffle:
            order = torch.randperm(self.length, generator=self.generator)
        return iter(list(zip(order.tolist(), seeds, strict=True)))


class SeededItems(Dataset[Any]):
    """A data set whose item ``(index, seed)`` is ``dataset[index]``, prepared under that seed.

    Every other attribute (``.classes``, ``.targets`` ...) is that of the data set inside.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        if name == "dataset" or name.startswith("__"):  # not there yet while being unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, index: int | tuple[int, int]) -> Any:
        if isinstance(index, int):  # as a person writes it: loader.dataset[0]
            return self.dataset[index]
        index, seed = index
        with profile.own_streams(seed):
            return self.dataset[index]
