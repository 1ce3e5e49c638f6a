"""The pictures of a job: a folder, a list file or WebDataset shards; batches that a step names.

Which pictures are in a step, and how each is augmented, follows from the seed, the epoch and the
number of the step alone. So a run goes on at any step without a stored state of its loaders, with
another number of workers or processes too (of shards: with the same).
"""

import csv
import errno
import importlib
import io
import itertools
import lzma
import math
import os
import random
import re
import tarfile
import unicodedata
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, get_worker_info
from torchvision.transforms import v2

from course_lib import backbones, data, profile
from course_lib.data.images import decode, open_image
from course_lib.data.layout import Layout, read_layout
from course_lib.data.loading import SeededItems
from course_lib.errors import CourseError, DataError, suggest
from course_lib.jobs.config import JobConfig, augmentation, is_shards
from course_lib.jobs.ranks import Ranks
from course_lib.paths import is_folder, read_file
from course_lib.text import few

ENDINGS = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "avif")
LARGEST = 1 << 30  # bytes of a picture in a shard
LARGEST_NOTE = 1 << 20  # of what tar says of a member before it: a long name, other facts
MOST_SHARDS = 100_000
BUFFER = 1000  # pictures among which those of shards are shuffled
Transform = Callable[[Any], Any]


@dataclass(frozen=True)
class Source:
    """Where pictures are: files with their classes, or shards with how many are in them.

    Attributes:
        classes: their names.
        paths: files, or shards.
        targets: the class of each file; empty for shards.
        counts: pictures of each class.
    """

    classes: tuple[str, ...]
    paths: tuple[str, ...]
    targets: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def sharded(self) -> bool:
        """Whether it is shards."""
        return not self.targets

    def __len__(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True)
class Splits:
    """The pictures to learn from, to choose by, and to measure by (None without them)."""

    train: Source
    val: Source
    test: Source | None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.train.classes


def find(config: JobConfig) -> Splits:
    """Find the pictures that a config names.

    Raises:
        DataError: there are none, a list or shards that can't be used, or classes that differ.
    """
    parts = _divided(config.data, config.classes, joined=bool(config.val))
    for name in ("val", "test"):
        if path := getattr(config, name):
            parts[name] = _whole(path, config.classes or parts["train"].classes)
    for name in ("train", "val"):
        if name not in parts:
            raise DataError(f"{config.data} has no picture for {name}; name some: {name} = ...")
    data.check_same_classes({"config's": config if config.classes else None, **parts})
    return Splits(parts["train"], parts["val"], parts.get("test"))


def _divided(path: str, classes: tuple[str, ...], joined: bool) -> dict[str, Source]:
    """The splits of a source; ``joined``: what would be drawn for val stays in train."""
    if is_shards(path):
        return {"train": _shards(path, classes)}
    if _is_list(path):
        return _listed(Path(path), classes, joined)
    own = _layout(path).folders
    parts = {split: _files(path, split) for split in ("train", "val", "test")}
    if joined and "all" in own:
        return {"train": _join(*parts.values())}
    if joined:
        return {"train": parts["train"] if {"val", "test"} <= own.keys() else
                _join(parts["train"], parts["val"]), "test": parts["test"]}  # fmt: skip
    return parts


def _whole(path: str, classes: tuple[str, ...]) -> Source:
    """All pictures of a source that serves as one split."""
    if is_shards(path):
        return _shards(path, classes)
    if _is_list(path):
        return _join(*_listed(Path(path), classes, joined=True).values())
    if "all" not in _layout(path).folders:
        raise DataError(f"{path} is divided itself; name a folder with a folder for each class.")
    return _join(*(_files(path, split) for split in ("train", "val", "test")))


def _is_list(path: str) -> bool:
    return Path(path).suffix.lower() in (".csv", ".tsv")


def _layout(path: str) -> Layout:
    if not is_folder(path):
        parent = Path(path).parent
        near = [each.name for each in parent.iterdir()] if is_folder(parent) else []
        raise DataError(
            f"There is no folder {path}.{suggest(Path(path).name, near)} Pictures are given as a "
            "folder, a list (.csv with path,label) or WebDataset shards (.tar)."
        )
    return read_layout(path)


def _files(path: str, split: str) -> Source:
    found = data.image_folder(path, split)
    return _of(found.classes, list(map(str, found.paths)), found.targets)


def _of(classes: Sequence[str], paths: Sequence[str], targets: Sequence[int]) -> Source:
    counts = tuple(sum(1 for each in targets if each == i) for i in range(len(classes)))
    return Source(tuple(classes), tuple(paths), tuple(targets), counts)


def _join(*parts: Source) -> Source:
    paths = [path for part in parts for path in part.paths]
    return _of(parts[0].classes, paths, [each for part in parts for each in part.targets])


def _listed(path: Path, classes: tuple[str, ...], joined: bool) -> dict[str, Source]:
    """The splits of a list file; without a column ``split``, a fifth is drawn for val."""
    try:
        text = io.StringIO(read_file(path, 1 << 30).decode("utf-8-sig"), newline="")
        table = csv.DictReader(text, delimiter="\t" if path.suffix == ".tsv" else ",")
        rows, heads = list(table), table.fieldnames or ()
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"{path} can't be read: {getattr(error, 'strerror', 0) or error}"
        ) from error
    if not {"path", "label"} <= set(heads):
        raise DataError(
            f"{path} begins with {few(heads) or 'nothing'}; expected a first line path,label or "
            "path,label,split, and a picture a line below it."
        )
    for row in rows:  # as written in a spreadsheet: spaces at the ends, accents in two ways
        row["label"] = unicodedata.normalize("NFC", (row["label"] or "").strip())
    classes = tuple(unicodedata.normalize("NFC", each) for each in classes)
    problems = []
    known = classes or tuple(sorted({row["label"] for row in rows if row["label"]}))
    for number, row in enumerate(rows, start=2):
        picture = path.parent / row["path"] if row["path"] else None
        if row["label"] not in known:
            hint = suggest(str(row["label"]), known)
            problems.append(f"line {number}: there is no class {row['label']!r}.{hint}")
        elif picture is None or not os.path.isfile(picture):  # noqa: PTH113  (a name may be too long)
            problems.append(f"line {number}: there is no file {picture}")
        elif row.get("split", "train") not in ("train", "val", "test"):
            problems.append(f"line {number}: split {row['split']!r}; expected train, val or test")
    if problems or not rows:
        raise DataError(f"{path} can't be used:\n  {few(problems, 10, chr(10) + '  ')}"
                        if problems else f"{path} lists no picture.")  # fmt: skip
    names: dict[str, list[int]] = {"train": []}
    for place, row in enumerate(rows):
        names.setdefault(row.get("split") or "train", []).append(place)
    if not names["train"]:
        raise DataError(f"{path} has no picture for train: no line's split says so.")
    targets = [known.index(row["label"]) for row in rows]
    if "val" not in names and not joined:
        mine = names["train"]
        keys = [rows[i]["path"] for i in mine]
        rest, drawn = data.stratified_split([targets[i] for i in mine], keys, 0.2, seed=0)
        names |= {"train": [mine[i] for i in rest], "val": [mine[i] for i in drawn]}
    return {
        name: _of(known, [str(path.parent / rows[i]["path"]) for i in at], [targets[i] for i in at])
        for name, at in names.items()
    }


def _shards(pattern: str, classes: tuple[str, ...]) -> Source:
    """The shards of a pattern, counted: their tables of contents are read, not their pictures."""
    counts = [0] * len(classes)
    names = _named(pattern)
    for name in names:
        try:
            if not Path(name).is_file():  # a pipe would keep its reader waiting
                raise FileNotFoundError(errno.ENOENT, "No such file", name)
            size, claimed = Path(name).stat().st_size, 0
            with tarfile.open(name, tarinfo=_Member) as tar:
                for each in tar:
                    claimed += each.size  # more than the file's own size only if it is packed
                    if max(each.size, claimed - 100 * size) > LARGEST or each.issparse():
                        raise ValueError(f"{each.name} claims {each.size:,} bytes")
                    if each.name.endswith(".cls"):
                        file = tar.extractfile(each) if each.isfile() else None
                        label = file.read(1000) if file else b""
                        counts[_class_number(label, classes, f"{name}: {each.name}")] += 1
        except CourseError:
            raise
        except Exception as error:  # damaged archives make it raise nearly anything
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"The shard {name} can't be read: {reason}.") from error
    if not sum(counts):
        raise DataError(
            f"There is no labelled picture in {pattern}: expected tar files of pairs such as "
            "0001.jpg and 0001.cls, the latter with the number or name of the class."
        )
    return Source(classes, tuple(names), (), tuple(counts))


class _Member(tarfile.TarInfo):
    """A member whose name isn't read into memory when it claims to be a gigabyte long."""

    @classmethod
    def frombuf(cls, *given: Any, **named: Any) -> "_Member":
        made = super().frombuf(*given, **named)
        if made.size > LARGEST_NOTE and not (made.isreg() or made.issparse()):
            raise ValueError(f"it claims {made.size:,} bytes for a note")
        return made


def _named(pattern: str) -> list[str]:
    """The shards of a pattern, as whole paths: WebDataset would run ``pipe:COMMAND``.

    Raises:
        DataError: there is no such pattern, or it may mean more than a hundred thousand.
    """
    ranges = re.findall(r"\{(-?\d{1,18})\.\.(-?\d{1,18})", pattern)
    lists = [1 + each.count(",") for each in pattern.split("{")[1:]]
    named: list[str] = []
    if math.prod(lists) * math.prod(abs(int(b) - int(a)) + 1 for a, b in ranges) > MOST_SHARDS:
        raise DataError(f"{pattern} may name more than {MOST_SHARDS:,} shards; name fewer.")
    try:
        for each in library("braceexpand").braceexpand(pattern):
            named += _matching(each) if set(each) & set("*?[") else [each]
    except (ValueError, NotImplementedError, RecursionError) as error:
        raise DataError(f"{pattern} names no shards: {error}.") from error
    return [str(Path(each).absolute()) for each in named]


def _matching(pattern: str) -> list[str]:
    root = Path(pattern).anchor
    return sorted(map(str, Path(root or ".").glob(pattern.removeprefix(root))))


def _class_number(label: bytes, classes: tuple[str, ...], where: str) -> int:
    text = label.decode(errors="replace").strip()
    if text in classes:
        return classes.index(text)
    named = any(each.isdecimal() for each in classes)  # then a number may be meant as a name
    if text.isdecimal() and len(text) < 10 and int(text) < len(classes) and not named:
        return int(text)
    raise DataError(
        f"{where} says {text!r}; expected one of {few(classes)} or a number below {len(classes)}."
    )


class Files(Dataset[Any]):
    """Examples of a source of files: (prepared picture, class number, path)."""

    def __init__(self, source: Source, transform: Transform) -> None:
        self.source, self.transform = source, transform

    def __len__(self) -> int:
        return len(self.source.paths)

    def __getitem__(self, index: int) -> tuple[Any, int, str]:
        path = self.source.paths[index]
        return self.transform(open_image(path)), self.source.targets[index], path


class Stream(IterableDataset[Any]):
    """Examples of shards, in an order that follows from a seed; the same kind as of files.

    Args:
        source: the shards.
        transform: what is done to a picture.
        ranks: each process reads shards of its own, and each of its workers again.
        seed: of order and augmentation; None: in order and each once, to measure by.
        skip: pictures of this process that are passed over undecoded: a run that goes on.
        batch: pictures in a batch of this process, by which ``skip`` is shared among workers.
    """

    def __init__(
        self, source: Source, transform: Transform, ranks: Ranks, seed: int | None,
        skip: int = 0, batch: int = 1,
    ) -> None:  # fmt: skip
        self.source, self.transform, self.ranks = source, transform, ranks
        self.seed, self.skip, self.batch = seed, skip, batch

    def __iter__(self) -> Iterator[tuple[Any, int, str]]:
        wds = library("webdataset")
        info = get_worker_info()
        workers = info.num_workers if info else 1
        # The first batch comes from worker 0: so the one whose turn it was is called 0 now.
        done = self.skip // self.batch
        worker = ((info.id if info else 0) + done) % workers
        skip = len(range(worker, done, workers)) * self.batch
        part = self.ranks.rank * workers + worker
        mine = self.source.paths[part :: self.ranks.world * workers]
        for turn in itertools.count():
            stages: list[Any] = [wds.SimpleShardList(list(mine)), wds.tarfile_to_samples()]
            if self.seed is not None:
                order = random.Random(self.seed * 1_000_003 + turn * 1009 + part)
                stages[0] = wds.SimpleShardList(order.sample(mine, len(mine)))
                stages.append(wds.detshuffle(BUFFER, seed=order.randrange(2**31)))
            empty = True
            for place, sample in enumerate(_read(wds.DataPipeline(*stages))):
                empty = False
                if skip:
                    skip -= 1
                    continue
                own = None if self.seed is None else hash((self.seed, turn, part, place)) % 2**32
                yield self._made(sample, own)
            if self.seed is None or not mine:
                return
            if empty:  # else this would go on for ever
                raise DataError(
                    f"There is no picture in {few(mine)}: only labels, or hidden names."
                )

    def _made(self, sample: dict[str, Any], seed: int | None) -> tuple[Any, int, str]:
        name = f"{sample['__url__']}: {sample['__key__']}"
        found = next((sample[each] for each in ENDINGS if each in sample), None)
        try:
            if found is None:
                raise ValueError(f"expected a picture that ends in .{' or .'.join(ENDINGS[:3])}")
            image = decode(found)
        except ValueError as error:
            raise DataError(f"{name} can't be read: {error}.") from error
        with profile.own_streams(seed):
            prepared = self.transform(image)
        return prepared, _class_number(sample.get("cls", b""), self.source.classes, name), name


def _read(pipeline: Any) -> Iterator[Any]:
    """What WebDataset gives, and what it raises of a strange shard as the course's error."""
    try:
        yield from pipeline
    except (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError) as error:
        said = error.args[0] if error.args else error
        raise DataError(f"The shards can't be read: {said}.") from error


class Order(Sampler[list[tuple[int, int]]]):
    """Batches of (index, seed) for one epoch, from a step on; a part of each for this process."""

    def __init__(self, length: int, batch: int, seed: int, ranks: Ranks, start: int) -> None:
        self.length, self.batch, self.seed, self.ranks, self.start = (
            length, batch, seed, ranks, start
        )  # fmt: skip

    def __len__(self) -> int:
        return self.length // self.batch - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        stream = profile.seeded_generator(self.seed)
        order = torch.randperm(self.length, generator=stream).tolist()
        seeds = torch.randint(2**32, (self.length,), generator=stream).tolist()
        own = self.batch // self.ranks.world
        for step in range(self.start, self.length // self.batch):
            first = step * self.batch + self.ranks.rank * own
            yield list(zip(order[first : first + own], seeds[first : first + own], strict=True))


def steps_of(source: Source, batch: int) -> int:
    """Steps of an epoch; what doesn't fill a batch waits for the next epoch's order."""
    return len(source) // batch


def training_batches(
    splits: Splits, transform: Transform, config: JobConfig, ranks: Ranks, epoch: int, start: int
) -> Generator[Any, None, None]:
    """The batches (pictures, class numbers, names) of an epoch, from a step on.

    Args:
        splits: the pictures.
        transform: the augmentation.
        config: batch size, workers and seed.
        ranks: each process gets its part of every batch.
        epoch: counted from 0 over all stages.
        start: steps of it that are done.
    """
    seed = config.seed * 1_000_003 + epoch
    source = splits.train
    own = config.batch_size // ranks.world
    workers: dict[str, Any] = _workers(config, source, ranks)
    if source.sharded:
        stream = Stream(source, transform, ranks, seed, start * own, own)
        loader = DataLoader(stream, batch_size=own, **workers)
        yield from itertools.islice(loader, steps_of(source, config.batch_size) - start)
        return
    order = Order(len(source), config.batch_size, seed, ranks, start)
    yield from DataLoader(SeededItems(Files(source, transform)), batch_sampler=order, **workers)


def measuring_batches(
    source: Source, transform: Transform, config: JobConfig, ranks: Ranks
) -> Iterator[Any]:
    """Every picture once, shared among the processes, which may get unequally many."""
    own = max(1, config.batch_size // ranks.world)
    workers: dict[str, Any] = _workers(config, source, ranks)
    if source.sharded:
        yield from DataLoader(Stream(source, transform, ranks, None), batch_size=own, **workers)
        return
    mine = range(ranks.rank, len(source), ranks.world)
    yield from DataLoader(Files(source, transform), batch_size=own, sampler=list(mine), **workers)


def _workers(config: JobConfig, source: Source, ranks: Ranks) -> dict[str, Any]:
    workers = config.workers
    if source.sharded:
        workers = min(workers, len(source.paths) // ranks.world)
    return {
        "num_workers": workers, "pin_memory": ranks.device.type == "cuda",
        "generator": profile.seeded_generator(0),  # torch draws from it for streams we don't use
    }  # fmt: skip


def transforms(config: JobConfig) -> tuple[Transform, Transform]:
    """The augmentation for training, and what is done to a picture otherwise."""
    see = backbones.preprocessing(config.model, config.size or None)
    if not config.augment:
        return see.train, see.eval
    steps = [augmentation(each, see.size) for each in config.augment]
    # Whatever they leave, the network gets a square of its size; one of that size stays as it is.
    own = [v2.Resize(see.size, antialias=True), v2.CenterCrop(see.size)]
    last = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(see.mean), list(see.std))]
    return v2.Compose([v2.ToImage(), *steps, *own, *last]), see.eval


def library(name: str) -> Any:
    """A library of the extra ``jobs``.

    Raises:
        CourseError: it isn't installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CourseError(
            f"This needs {name}, which isn't installed: pip install '.[jobs]', in the course's "
            "folder."
        ) from error
