"""Find the same picture in two splits, where it makes a result too good, or in two classes.

Files are compared by their content. Only files of equal size are read for that, and none whose hash
is known from the inspection of its folder. Pictures in memory are compared number by number.
"""

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from course_lib.data.layout import same_class
from course_lib.data.likeness import alike
from course_lib.data.loading import SeededItems
from course_lib.paths import file_hash
from course_lib.text import counted, few, printable


@dataclass(frozen=True)
class Place:
    """Where a picture was found.

    Attributes:
        split: the name of its data set.
        index: its number there.
        name: of the file, with the two folders around it; "number 3 of train" if it has none.
        label: the name of its class, or the number as text; None if it isn't known.
    """

    split: str
    index: int
    name: str
    label: str | None

    def __str__(self) -> str:
        return printable(f"{self.name} ({self.split})")


@dataclass(frozen=True)
class Duplicates:
    """Pictures that occur more than once where they shouldn't. False if there are none.

    Attributes:
        sizes: how many pictures each split has.
        across: pictures that are in several splits, each as all the places where it is.
        in_two_classes: pictures that are in several classes, likewise.
        alike: pairs in two splits or two classes that seem to be one photograph, saved again at
            another size or quality. Found only in folders that the course has inspected.
        unknown: splits about which nothing can be told.
    """

    sizes: dict[str, int]
    across: tuple[tuple[Place, ...], ...] = ()
    in_two_classes: tuple[tuple[Place, ...], ...] = ()
    alike: tuple[tuple[Place, Place], ...] = ()
    unknown: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.across or self.in_two_classes or self.alike)

    def shared(self, first: str, second: str) -> int:
        """How many pictures of the split ``second`` are in ``first``, too."""
        return len(_pairs(self.across, first, second))

    def __str__(self) -> str:
        """A sentence or two about each finding, for a warning; empty if there are none."""
        said: list[str] = []
        splits = list(self.sizes)
        for at, first in enumerate(splits):
            for second in splits[at + 1 :]:
                pairs = _pairs(self.across, first, second)
                if pairs:
                    said.append(
                        f"{len(pairs)} of the {counted(self.sizes[second], 'picture')} in {second} "
                        f"{'is' if len(pairs) == 1 else 'are'} in {first} as well: "
                        f"{_list(pairs, '=')}. A network remembers what it was trained on, so a "
                        f"result on {second} is too good. Keep each picture in one of the two."
                    )
        if self.in_two_classes:
            shown = ((group[0], _of_another_class(group)) for group in self.in_two_classes)
            said.append(
                f"{counted(len(self.in_two_classes), 'picture is', 'pictures are')} in two "
                f"classes: {_list(shown, '=')}. One of the labels must be wrong, "
                "or the picture shows both. Keep it in one class, or in none."
            )
        if self.alike:
            pair = counted(len(self.alike), "pair of pictures seems", "pairs of pictures seem")
            said.append(
                f"{pair} to be one photograph each, saved again at another size or quality, and "
                f"{'is' if len(self.alike) == 1 else 'are'} in two splits or two classes: "
                f"{_list(self.alike, '~')}. Look at them, and keep one of each pair."
            )
        return "\n".join(said)


def find_duplicates(splits: Mapping[str, Dataset[Any]]) -> Duplicates:
    """Pictures that are in more than one split, or in more than one class.

    It can tell where files are known (the course's folders, torchvision's ``ImageFolder`` and what
    else has ``paths``, ``samples`` or ``imgs``) and where pictures lie in memory (a
    ``TensorDataset``, a list of pairs, ``data`` of torchvision's data sets), also inside
    ``Subset``, ``ConcatDataset`` and loaders. About other data sets it says nothing.

    Args:
        splits: data sets by name, in the order in which they are used: ``{"train": ..., "val": ...,
            "test": ...}``. One alone is searched for pictures in two classes.

    Returns:
        What was found; ``str()`` of it is the text for a warning. No error is raised.
    """
    pictures: list[_Picture] = []
    sizes: dict[str, int] = {}
    unknown: list[str] = []
    sources: dict[int, _Source] = {}
    for split, dataset in splits.items():
        try:
            here = _pictures_of(split, dataset, sources)
        except Exception:  # a data set may be anything; it isn't the place here to complain
            here = []
        pictures += here
        sizes[split] = len(here)
        if not here:
            unknown.append(split)
    groups = [_places(group) for group in _equal(pictures)]
    return Duplicates(
        sizes,
        tuple(group for group in groups if len({each.split for each in group}) > 1),
        tuple(group for group in groups if _of_another_class(group)),
        tuple(_alike(pictures, groups)),
        tuple(unknown),
    )


@dataclass
class _Picture:
    """A picture with two keys: pictures that are equal have equal ones."""

    place: Place
    rough: Any  # quick to get
    exact: Callable[[], str]  # asked for only where two rough ones are equal
    sketch: str = ""


@dataclass
class _Source:
    """What is known about a data set that holds pictures itself."""

    dataset: Any
    labels: Sequence[Any] | None = None
    paths: Sequence[Any] | None = None
    arrays: Any = None
    classes: Sequence[Any] = ()
    hashes: Mapping[Path, str] = field(default_factory=dict)
    sketches: Mapping[Path, str] = field(default_factory=dict)

    def picture(self, split: str, index: int, at: int) -> _Picture:
        label = None if self.labels is None else _label(self.labels[at], self.classes)
        if self.paths is not None:
            path = Path(self.paths[at])
            place = Place(split, index, "/".join(path.parts[-3:]), label)
            known = self.hashes.get(path)
            exact = partial(file_hash, path) if known is None else partial(str, known)
            size = ("file", path.stat().st_size)
            return _Picture(place, size, exact, self.sketches.get(path, ""))
        pixels = _pixels(self.arrays[at])
        some = pixels.ravel()[:: pixels.size // 64 + 1].tobytes()
        rough = (pixels.shape, str(pixels.dtype), some)
        return _Picture(
            Place(split, index, f"number {index} of {split}", label),
            rough,
            lambda: hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest(),
        )


def _pictures_of(split: str, dataset: Any, sources: dict[int, _Source]) -> list[_Picture]:
    found = []
    for index, (base, at) in enumerate(_unwrapped(dataset)):
        if id(base) not in sources:
            sources[id(base)] = _source(base)
        found.append(sources[id(base)].picture(split, index, at))
    return found


def _unwrapped(dataset: Any) -> list[tuple[Any, int]]:
    """For each example the data set that holds it, and its number there."""
    if isinstance(dataset, DataLoader | SeededItems):
        return _unwrapped(dataset.dataset)
    if isinstance(dataset, Subset):
        inner = _unwrapped(dataset.dataset)
        return [inner[int(index)] for index in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        return [each for part in dataset.datasets for each in _unwrapped(part)]
    return [(dataset, index) for index in range(len(dataset))]


def _source(base: Any) -> _Source:
    """What a data set says about its pictures; ValueError if that is nothing."""
    length = len(base)

    def column(*names: str) -> Any:
        found = (getattr(base, name, None) for name in names)
        return next((each for each in found if _has_length(each, length)), None)

    labels = column("targets", "_labels", "labels")
    classes = getattr(base, "classes", None)
    source = _Source(base, labels, classes=classes if isinstance(classes, list | tuple) else ())
    pairs = column("samples", "imgs")
    source.paths = column("paths", "_image_files", "_images")
    if source.paths is None and pairs is not None:
        source.paths = [path for path, _ in pairs]
        source.labels = [target for _, target in pairs] if labels is None else labels
    if source.paths is not None:
        source.hashes = getattr(base, "hashes", {})
        source.sketches = getattr(base, "sketches", {})
        return source
    if isinstance(base, TensorDataset):
        source.arrays = base.tensors[0]
        source.labels = base.tensors[1].tolist() if len(base.tensors) > 1 else None
    elif isinstance(base, list | tuple):
        source.arrays = base
        whole = all(isinstance(item, list | tuple) and len(item) > 1 for item in base)
        source.labels = [item[1] for item in base] if whole else None
    elif isinstance(data := column("data"), np.ndarray | torch.Tensor):
        source.arrays = data
    else:
        raise ValueError("neither files nor pictures in memory")
    return source


def _has_length(column: Any, length: int) -> bool:
    return isinstance(column, Sequence | np.ndarray | torch.Tensor) and len(column) == length


def _pixels(item: Any) -> np.ndarray:
    """The pixels of an example in memory; ValueError if it has none."""
    picture = item[0] if isinstance(item, list | tuple) else item
    if isinstance(picture, torch.Tensor):
        picture = picture.detach().cpu().numpy()
    if isinstance(picture, Image.Image):
        picture = np.asarray(picture)
    if not isinstance(picture, np.ndarray) or picture.ndim < 2:
        raise ValueError("not a picture in memory")
    return picture


def _label(target: Any, classes: Sequence[Any]) -> str | None:
    """A class as text; None for a target that is no single class."""
    if isinstance(target, str):
        return target
    if np.ndim(target) or target is None:
        return None
    number = int(target)
    return str(classes[number]) if 0 <= number < len(classes) else str(number)


def _equal(pictures: Iterable[_Picture]) -> list[list[_Picture]]:
    """Groups of two or more equal pictures, in the order of their first."""
    alike_so_far: dict[Any, list[_Picture]] = defaultdict(list)
    for each in pictures:
        alike_so_far[each.rough].append(each)
    groups: dict[Any, list[_Picture]] = defaultdict(list)
    for rough, members in alike_so_far.items():
        for each in members if len(members) > 1 else ():
            with contextlib.suppress(Exception):  # the file has gone, or may not be read
                groups[rough, each.exact()].append(each)
    return [group for group in groups.values() if len(group) > 1]


def _places(group: Iterable[_Picture]) -> tuple[Place, ...]:
    return tuple(each.place for each in group)


def _alike(pictures: Sequence[_Picture], equal: Iterable[tuple[Place, ...]]) -> list[Any]:
    """Pairs that look alike, in two splits or classes, but for those that are equal anyway."""
    seen = [each for each in pictures if each.sketch]
    number = {place: at for at, group in enumerate(equal) for place in group}
    found = []
    for first, second in alike([each.sketch for each in seen]):
        pair = seen[first].place, seen[second].place
        same = number.get(pair[0], -1) == number.get(pair[1], -2)
        if not same and (pair[0].split != pair[1].split or _of_another_class(pair)):
            found.append(pair)
    return found


def _of_another_class(group: Sequence[Place]) -> Place | None:
    """The first place where the class differs from that of the first, if there is one."""
    labelled = [(each, each.label) for each in group if each.label is not None]
    for each, label in labelled[1:]:
        first = labelled[0][1]
        named = label.isdecimal() == first.isdecimal()  # a number and a name can't be compared
        if named and not same_class(label, first):
            return each
    return None


def _pairs(groups: Iterable[Sequence[Place]], first: str, second: str) -> list[tuple[Place, Place]]:
    """Each picture of the second split that is in the first, with a place where it is there."""
    pairs = []
    for group in groups:
        there = [each for each in group if each.split == first]
        pairs += [(each, there[0]) for each in group if each.split == second and there]
    return pairs


def _list(pairs: Iterable[Sequence[Any]], sign: str) -> str:
    return few((f"{one.name} {sign} {other.name}" for one, other in pairs), 4, "; ")
