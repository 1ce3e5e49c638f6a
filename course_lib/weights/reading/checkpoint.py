"""Read a checkpoint, whatever it is, without running a line of code from it."""

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch

from course_lib.paths import user_path
from course_lib.text import counted, printable
from course_lib.weights.errors import CheckpointError
from course_lib.weights.reading import formats, locate, plainfiles, torchfile
from course_lib.weights.reading.damage import Held, check_room, held
from course_lib.weights.reading.digests import check_sha256

_SMALL = 1 << 20  # bytes that views may take up, whatever they are views of


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: its shape, its type (such as ``"float32"``), its size in bytes."""

    shape: tuple[int, ...]
    dtype: str
    nbytes: int

    @classmethod
    def of(cls, tensor: torch.Tensor) -> "TensorInfo":
        """What a tensor of any shape is."""
        dtype = str(tensor.dtype).removeprefix("torch.")
        return cls(tuple(tensor.shape), dtype, tensor.numel() * tensor.dtype.itemsize)

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class Catalogue:
    """What a file holds. Where the format allows it, tensors are views of the file, not yet read.

    Attributes:
        path: the file.
        format: ``zip``, ``legacy``, ``safetensors``, ``sharded`` or ``numpy``.
        place: where in it the weights were found.
        places: everywhere that there could be some.
        others: what else it holds, outlined.
        metadata: text that was saved along.
    """

    path: Path
    format: str
    place: locate.Place
    places: tuple[locate.Place, ...]
    others: dict[str, Any]
    metadata: dict[str, Any]

    @property
    def stored(self) -> dict[str, TensorInfo]:
        """The weights: name -> what it is."""
        return {name: TensorInfo.of(tensor) for name, tensor in self.place.tensors.items()}


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a file, in memory, and where in it they were.

    Attributes:
        path: the file.
        format: ``zip`` or ``legacy`` (both ``torch.save``), ``safetensors``, ``sharded``,
            ``numpy``: what the file is, whatever its name says.
        where: the keys that led to the weights, joined by dots; empty for the top level.
        wrapper: the same in words.
        prefix: a wrapper's prefix that all names share, such as ``"module."``, or ``""``. The
            names keep it; :func:`load_weights` deals with it.
        tensors: name -> CPU tensor, in the file's order. An ``OrderedDict`` that keeps what
            ``torch.save`` noted about the modules' versions, so that ``load_state_dict`` tells an
            old file from a new one.
        objects: entries among the weights that are no tensors, such as a module's extra state.
        alternatives: other places in the file that hold weights, for ``where=``.
        others: what else the file holds; tensors in it are only described.
        metadata: what :func:`save_weights` or the safetensors file says about the weights.
    """

    path: Path
    format: str
    where: str
    wrapper: str
    prefix: str
    tensors: Mapping[str, torch.Tensor]
    alternatives: tuple[str, ...]
    others: Mapping[str, Any]
    metadata: Mapping[str, Any]
    objects: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        count = sum(tensor.numel() for tensor in self.tensors.values())
        place = f"at {self.where!r}" if self.where else "at the top level"
        lines = [
            f"{self.path.name} ({self.format}): {counted(len(self.tensors), 'tensor')}, "
            f"{counted(count, 'number')}, found {place}: {self.wrapper}."
        ]
        if self.prefix:
            lines.append(f"All names begin with {self.prefix!r}.")
        if self.alternatives:
            lines.append(f"Weights are also at: {', '.join(map(repr, self.alternatives))}.")
        if self.others:
            lines.append(f"Beside them: {', '.join(map(str, self.others))}.")
        return "\n".join(map(printable, lines))

    def __repr__(self) -> str:
        return f"<Checkpoint {str(self).splitlines()[0]}>"


def read_checkpoint(
    path: str | Path, *, where: str | None = None, sha256: str | None = None
) -> Checkpoint:
    """Read the weights of a checkpoint into memory.

    Reads what ``torch.save`` wrote (any age), safetensors, checkpoints in shards (give the index,
    ``*.index.json``) and NumPy's ``.npz``. The content decides, not the file's name. Tensors saved
    on any device arrive on the CPU. Nothing in the file is run: pickles are read with
    ``torch.load(weights_only=True)``. Every checksum in the file is checked: zip files have one a
    tensor, as have the files of :func:`save_weights`; other safetensors files and those of torch
    before 1.6 have none, so that only ``sha256`` can show a flipped bit in them.

    Args:
        path: the file.
        where: the place of the weights inside (keys joined by dots), when there are several.
        sha256: the file's SHA-256, or its beginning (at least 8 digits), as the author states it.

    Returns:
        The weights, and where in the file they were.

    Raises:
        UnsafeCheckpointError: the file wants to run code; ``.wanted`` names what.
        CheckpointError: it is no checkpoint, damaged, truncated, tampered with, of another hash,
            or holds weights in several places with nothing to tell which.
    """
    with _opened(path, where, sha256, checked=True, copied=True) as catalogue:
        place = catalogue.place
        _refuse_odd_tensors(catalogue.path, place)
        tensors = OrderedDict(_own(catalogue.path, place.tensors))
    if place.versions is not None:
        tensors._metadata = place.versions  # type: ignore[attr-defined]
    return Checkpoint(
        path=catalogue.path, format=catalogue.format, where=place.where,
        wrapper=locate.describe(place), prefix=locate.common_prefix(list(tensors)), tensors=tensors,
        alternatives=tuple(each.where for each in catalogue.places if each is not place),
        others=catalogue.others, metadata=catalogue.metadata, objects=place.odd,
    )  # fmt: skip


def _own(path: Path, tensors: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Copies, contiguous, in memory of their own; names of one tensor get one copy.

    Only where views of one memory have far more elements together than it, as an expanded tensor
    has, do they become views of one copy.
    """
    wanted: Counter[int] = Counter()
    for each in {_place(tensor): tensor for tensor in tensors.values()}.values():
        wanted[each.untyped_storage().data_ptr()] += each.numel() * each.itemsize
    sizes = {s.data_ptr(): s.nbytes() for s in torchfile.storages(tensors.values())}
    apart = {start for start, count in wanted.items() if count <= max(4 * sizes[start], _SMALL)}
    check_room(path, sum(wanted[start] if start in apart else sizes[start] for start in wanted))
    made: dict[Any, Any] = {}
    for name, tensor in tensors.items():
        key, start = _place(tensor), tensor.untyped_storage().data_ptr()
        if key not in made and start in apart:
            whole = tensor.resolve_conj().resolve_neg()
            made[key] = whole.clone(memory_format=torch.contiguous_format)
        elif key not in made:
            check_room(path, tensor.numel() * tensor.itemsize)  # whoever uses it fills that much
            if start not in made:
                made[start] = tensor.untyped_storage().clone()
            view = torch.empty(0, dtype=tensor.dtype).set_(
                made[start], tensor.storage_offset(), tensor.shape, tensor.stride()
            )
            view = view.conj() if tensor.is_conj() else view
            made[key] = torch._neg_view(view) if tensor.is_neg() else view
        yield name, made[key]


def _place(tensor: torch.Tensor) -> tuple[Any, ...]:
    start = tensor.untyped_storage().data_ptr()
    flags = tensor.is_conj(), tensor.is_neg()
    if not tensor.numel():
        return (id(tensor),)
    return start, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype, flags


def open_catalogue(
    path: str | Path, where: str | None = None, sha256: str | None = None, *, checked: bool = False
) -> Catalogue:
    """What a file holds, with the tensors not read yet.

    Args:
        path, where, sha256: as for :func:`read_checkpoint`.
        checked: whether every byte is compared with the checksums in the file. If not, the tensors
            of a NumPy archive have a shape and no values.

    Raises:
        CheckpointError: as :func:`read_checkpoint`.
    """
    with _opened(path, where, sha256, checked) as catalogue:
        return catalogue


@contextmanager
def _opened(
    path: str | Path, where: str | None, sha256: str | None, checked: bool, copied: bool = False
) -> Iterator[Catalogue]:
    """What a file holds. It stays open, and nothing may have changed it when the block ends."""
    path = user_path(path)
    with opened(path) as (held, format):
        if copied and format != formats.NUMPY:
            check_room(path, held.size)
        if sha256 is not None:
            check_sha256(held, sha256)
        tree, metadata, _ = content(held, format, checked)
        own = tree.get("metadata") if isinstance(tree, dict) else None
        if not metadata and isinstance(own, dict):
            metadata = locate.outline(own, whole=True)
        place, places = locate.find(tree, str(path), where)
        yield Catalogue(path, format, place, places, _others(tree, place), metadata)
        if checked:
            held.check_unchanged()


@contextmanager
def opened(path: Path) -> Iterator[tuple[Held, str]]:
    """A file held open, and its format.

    Raises:
        CheckpointError: there is none, it can't be read, or it is of no format that is known.
    """
    try:
        formats.check_there(path)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}.") from error
    with held(path) as file:
        yield file, formats.sniff(file)


def content(
    held: Held, format: str, checked: bool = False
) -> tuple[Any, dict[str, Any], tuple[Path, ...]]:
    """The tree of a file, its metadata, and the further files that belong to it.

    Raises:
        CheckpointError: the file, or a shard that it names, is damaged or wants to run code.
    """
    if format == formats.ZIP:
        return torchfile.open_zip(held, checked=checked), {}, ()
    if format == formats.LEGACY:
        return torchfile.open_legacy(held), {}, ()
    if format == formats.SAFETENSORS:
        return *plainfiles.open_safetensors(held, checked=checked), ()
    if format == formats.NUMPY:
        return *plainfiles.open_numpy(held, checked=checked), ()
    return _sharded(held, checked)


def _sharded(index: Held, checked: bool) -> tuple[Any, dict[str, Any], tuple[Path, ...]]:
    where, files, metadata = plainfiles.shards(index)
    path = index.path
    tensors: dict[str, torch.Tensor] = {}
    found: dict[str, str] = {}
    for file in files:
        with opened(file) as (held, format):
            if format == formats.SHARDED:
                raise CheckpointError(f"{path}: the shard {file.name} is an index itself.")
            tree, _, _ = content(held, format, checked)
            if checked:
                held.check_unchanged()
        inside = locate.find(tree, str(file))[0].tensors
        twice = found.keys() & inside.keys()
        if twice:
            name = min(twice)
            raise CheckpointError(f"{path}: {name!r} is in {found[name]} and in {file.name}.")
        found |= dict.fromkeys(inside, file.name)
        tensors |= inside
    plainfiles.check_shard_names(path, where, found)
    return {name: tensors[name] for name in where}, metadata, files


def _refuse_odd_tensors(path: Path, place: locate.Place) -> None:
    odd = [name for name, each in place.odd.items() if isinstance(each, torch.Tensor)]
    if odd:
        raise CheckpointError(
            f"{path}: {odd[0]!r} is a sparse, quantised or nested tensor (and {len(odd) - 1} "
            "others), which only a model of the same kind can use: load_weights(model, path). To "
            "look at it: torch.load(path, weights_only=True)."
        )


def _others(tree: Any, place: locate.Place) -> dict[str, Any]:
    """Everything but the weights: beside the path that leads to them."""
    if not isinstance(tree, dict):
        return {}
    if not place.path:
        return {str(key): locate.outline(tree[key]) for key in place.odd}
    return {str(key): locate.outline(value) for key, value in tree.items() if key != place.path[0]}


def read_object(path: Path) -> Any:
    """The whole object of a file of ``torch.save``, after its checksums were checked.

    Raises:
        CheckpointError: as for :func:`read_checkpoint`.
    """
    with opened(path) as (held, format):
        if format != formats.ZIP:
            raise CheckpointError(f"{path} is no training checkpoint of save_checkpoint.")
        check_room(path, held.size)
        return torchfile.open_zip(held, checked=True, mapped=False)
