"""Compute a frozen network's features once."""

import copy
import hashlib
import queue
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from course_lib import profile
from course_lib.backbones.maps import Layout
from course_lib.data.classes import class_names
from course_lib.data.progress import bar
from course_lib.errors import CourseWarning
from course_lib.features import cache as disk
from course_lib.features import keys
from course_lib.features.containers import Features, FeaturesError
from course_lib.features.taps import Tap, layout_for, pooled
from course_lib.text import counted
from course_lib.training.evaluation import evaluation_mode, model_device
from course_lib.training.memory import is_shortage, told_when_full

PROBED = 3  # pictures that are prepared twice beforehand, to see that they come out the same
RANDOM_MESSAGE = (
    "Features are computed once, so every picture must be prepared the same way each time, and "
    "{what}. Give the data set the transform for testing (such as preprocessing(...).eval)."
)


def extract(
    model: nn.Module,
    dataset: Dataset[Any],
    *,
    layer: str | None = None,
    pool: Literal["mean"] | None = "mean",
    batch_size: int | None = None,
    cache: bool = True,
    cache_dir: Path | str | None = None,
    workers: int | None = None,
    progress: bool | None = None,
) -> Features:
    """The features of every example of a data set, in its order.

    The network computes in evaluation mode and without gradients. Afterwards its modes, gradients,
    flags and hooks are what they were, and so are the random streams.

    They are kept on disk, under a hash of the network (structure, settings, parameters, buffers),
    the pictures (contents of the files), their preparation, the layer and the libraries' versions:
    change any of them, and they are computed anew. A damaged file is written anew as well. The
    features of a network with classes or hooks of your own, which you may edit, aren't kept.

    Args:
        model: the network, with any head.
        dataset: of pairs (picture, class number).
        layer: dotted name of the module whose output to take, such as ``"blocks.3"``; by default
            what enters the head, the features proper.
        pool: ``"mean"`` averages maps, (B, C, H, W) or (B, H, W, C), and tokens (B, T, C) over
            their places, to (B, C); None keeps them. Which axis is which is measured
            (:mod:`course_lib.backbones.maps`).
        batch_size: pictures at once; by default the profile's. It may change last digits. A
            network that takes its statistics from the batch is refused, as each picture's features
            would hang on its neighbours; with 1, each picture is its own batch.
        cache: keep the features on disk and look there first.
        cache_dir: where; by default ``features/`` in :func:`course_lib.paths.cache_dir`.
        workers: batches computed at once, each by one thread with a copy of the network: so the
            bits are those of one thread, however many there are. The data set is read by all of
            them. By default torch's threads share each batch.
        progress: show a bar or not; by default where somebody is watching.

    Raises:
        UnknownNameError: no such layer.
        OutOfMemoryError: there is too little memory; the network is as it was.
        HeadError: ``layer`` isn't given and the head can't be told for certain.
        FeaturesError: no examples, a random transform, examples that aren't pairs or differ in
            size, a layer that isn't used exactly once or whose places can't be told, features that
            aren't finite, or that hang on the other pictures of the batch (BatchNorm without
            running statistics).
    """
    tap = Tap(model, layer)
    if pool not in ("mean", None):
        raise FeaturesError(f"pool must be 'mean' or None; got {pool!r}.")
    if batch_size is not None and batch_size < 1:
        raise FeaturesError(f"batch_size must be 1 or more; got {batch_size}.")
    if workers is not None and workers < 1:
        raise FeaturesError(f"workers must be 1 or more; got {workers}.")
    items = _Items(dataset)
    place = model_device(model)
    half = max(1, (batch_size or profile.current().batch_size) // 2)
    smaller = (
        f"The network is as it was. Take smaller batches (batch_size={half}), smaller pictures, or "
        "fewer workers."
    )
    full = told_when_full("while features were computed", smaller)
    with full, profile.own_streams(devices=[place]):
        items.probe()
        by_files = keys.of_files(dataset)
        data = by_files or items.hash()
        key = _key(model, data, f"{tap.name} {pool}", place, warn=cache)
        folder = disk.folder(cache_dir)
        if cache and key and disk.others_can_write(folder):
            cache = False
            warnings.warn(
                f"The features aren't kept: others can write to {folder}, and what they put there "
                f"would be taken for yours. Take that right away (chmod go-w {folder}), or name a "
                "folder of your own in cache_dir or COURSE_CACHE.",
                CourseWarning,
                stacklevel=2,
            )
        found = disk.load(folder, key, items.length) if cache and key else None
        if found is None:
            expected = None if by_files else data
            found = _compute(tap, items, pool, batch_size, place, workers, progress, expected)
            if cache and key:
                _store(folder, key, *found)
    values, targets = found
    key = key or keys.of_tensors(values, targets)
    paths = getattr(dataset, "paths", None)
    known = tuple(Path(each) for each in paths) if paths is not None else None
    order = torch.arange(len(targets))
    return Features(values, targets, order, known, tap.name, key, class_names(dataset))


def _key(model: nn.Module, data: str, layer: str, place: torch.device, warn: bool) -> str | None:
    """What the features are known by; None for those of a network that can't be described."""
    try:
        return keys.combined(model=keys.of_model(model), data=data, layer=layer, device=place.type)
    except keys.UndescribedError as error:
        if warn:
            warnings.warn(
                f"The features of this {type(model).__name__} aren't kept on disk: {error}, and a "
                "change of it would go unnoticed. They are computed anew every time; cache=False "
                "says that this is fine.",
                CourseWarning,
                stacklevel=3,
            )
        return None


class _Items:
    """The examples of a data set, prepared."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset
        try:
            self.length = len(dataset)  # type: ignore[arg-type]
        except TypeError:
            raise FeaturesError(
                f"The data set is a {type(dataset).__name__} without a length; expected a Dataset "
                "of examples by index."
            ) from None
        if self.length == 0:
            raise FeaturesError("The data set is empty; expected at least one example.")
        found = [name for each in keys.transforms_of(dataset) for name in keys.random_steps(each)]
        if found:
            verb = "is" if len(found) == 1 else "are"
            raise FeaturesError(RANDOM_MESSAGE.format(what=f"{', '.join(found)} {verb} random"))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        item = self.dataset[index]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise FeaturesError(
                f"Example {index} is a {type(item).__name__}; expected a pair (picture, class)."
            )
        picture = item[0]
        if not isinstance(picture, Tensor):
            raise FeaturesError(
                f"The picture of example {index} is a {type(picture).__name__}; expected a tensor. "
                "Give the data set a transform that ends in one."
            )
        target = torch.as_tensor(item[1])
        if target.ndim:
            raise FeaturesError(
                f"The target of example {index} has the shape {tuple(target.shape)}; expected one "
                "number."
            )
        return picture, target

    def probe(self) -> None:
        """Prepare a few pictures twice.

        Raises:
            FeaturesError: they came out in two ways.
        """
        for index in range(min(PROBED, self.length)):
            for _ in range(PROBED):
                if keys.of_tensors(*self[index]) != keys.of_tensors(*self[index]):
                    raise FeaturesError(
                        RANDOM_MESSAGE.format(what=f"example {index} came out in two ways")
                    )

    def hash(self) -> str:
        """Hash of every prepared picture with its target."""
        digest = hashlib.sha256()
        for index in range(self.length):
            digest.update(keys.of_tensors(*self[index]).encode())
        return digest.hexdigest()


def _compute(
    tap: Tap, items: _Items, pool: str | None, batch_size: int | None, place: torch.device,
    workers: int | None, progress: bool | None, expected: str | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Values and targets of all examples; ``expected`` is their hash, where it was taken."""
    size = batch_size or profile.current().batch_size
    starts = range(0, items.length, size)
    free: queue.SimpleQueue[Tap] = queue.SimpleQueue()  # a tap is used for one batch at a time
    layout = None

    @torch.no_grad()  # holds for the thread that calls it
    def take(start: int) -> tuple[Tensor, list[Tensor], list[str]]:
        batch = [items[index] for index in range(start, min(start + size, items.length))]
        images = _stacked([each[0] for each in batch], start).to(place)
        own = free.get()
        try:
            found = own.take(images)
            if start == 0 and len(images) == len(found) > 1:
                own.check_neighbours(images, found)
            rows = pooled(found, layout, own.name).cpu()
        finally:
            free.put(own)
        if len(rows) != len(batch):
            raise FeaturesError(
                f"The layer {tap.name!r} gives {len(rows)} rows for {len(batch)} "
                "pictures; expected one a picture. Name another layer."
            )
        hashes = [keys.of_tensors(*each) for each in batch] if expected else []
        return rows, [each[1] for each in batch], hashes

    values, targets, digest = [], [], hashlib.sha256()
    with evaluation_mode(tap.model), bar(len(starts), "features", progress) as shown:
        taps = [tap, *(Tap(copy.deepcopy(tap.model), tap.layer) for _ in range((workers or 1) - 1))]
        for each in taps:
            free.put(each)
        if pool is not None:
            layout = _layout(tap, _stacked([items[0][0]], 0).to(place))
        with _opened(taps), _mapped(workers) as mapped:
            for rows, truth, hashes in mapped(take, starts):
                values.append(rows)
                targets += truth
                digest.update("".join(hashes).encode())
                shown.update()
    if expected and digest.hexdigest() != expected:
        raise FeaturesError(RANDOM_MESSAGE.format(what="these came out in two ways"))
    table = torch.cat(values)
    if not table.isfinite().all():
        rows = (~table.flatten(1).isfinite().all(dim=1)).nonzero().flatten().tolist()
        raise FeaturesError(
            f"The features of {counted(len(rows), 'example')} are infinite or not a number, first "
            f"of all example {rows[0]}. Look at its picture and at the network's weights."
        )
    return table, torch.stack(targets)


@torch.no_grad()
def _layout(tap: Tap, images: Tensor) -> Layout | None:
    """How to average what the layer gives, told by its first row."""
    first = copy.copy(tap)
    first.known_to_be_called_once = True  # as far as to the layer; the extraction counts the calls
    with first.open():
        values = first.take(images)
    return layout_for(first, images, values)


@contextmanager
def _opened(taps: list[Tap]) -> Iterator[None]:
    with ExitStack() as stack:
        for each in taps:
            stack.enter_context(each.open())
        yield


@contextmanager
def _mapped(workers: int | None) -> Iterator[Any]:
    """``map``, in the order of its argument: by threads that compute with one thread each."""
    if workers is None:
        yield map
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # before the workers' first operation: they take it over
    made = ThreadPoolExecutor(workers)
    try:
        yield made.map
    finally:
        made.shutdown(cancel_futures=True)  # stopped by hand: not at the end of the data set
        torch.set_num_threads(threads)


def _store(folder: Path, key: str, values: Tensor, targets: Tensor) -> None:
    try:
        disk.store(folder, key, values, targets)
    except Exception as error:  # a full disk or memory costs time later, not the features now
        if not (isinstance(error, OSError) or is_shortage(error)):
            raise
        said = f"The features can't be kept in {folder}: {error}."
        warnings.warn(said, CourseWarning, stacklevel=3)


def _stacked(pictures: list[Tensor], start: int) -> Tensor:
    shapes = {tuple(each.shape) for each in pictures}
    if len(shapes) > 1:
        raise FeaturesError(
            f"The pictures {start} to {start + len(pictures) - 1} differ in size: "
            f"{', '.join(map(str, sorted(shapes)))}. Let the transform bring them to one."
        )
    return torch.stack(pictures)
