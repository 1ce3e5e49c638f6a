"""Look into a checkpoint before you use it: a tree of names, shapes, types and sizes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.paths import user_path
from course_lib.text import counted, printable
from course_lib.weights.errors import CheckpointError
from course_lib.weights.reading import formats, locate
from course_lib.weights.reading.checkpoint import TensorInfo, content, opened
from course_lib.weights.reading.torchfile import plain

_DEEPEST = 50  # levels of a name
FORMATS = {
    formats.ZIP: "torch.save",
    formats.LEGACY: "torch.save before 1.6",
    formats.SAFETENSORS: "safetensors",
    formats.SHARDED: "an index of shards",
    formats.NUMPY: "NumPy arrays",
}


@dataclass(frozen=True)
class Contents:
    """What is in a file; prints as a tree.

    Attributes:
        path: the file.
        format: what it is, whatever its name says.
        file_bytes: its size (of an index: with all its shards).
        tensors: path in the file, such as ``"state_dict.conv1.weight"`` -> what it is.
        places: where weights were found, ``""`` for the top level.
        tree: everything, as nested dictionaries with :class:`TensorInfo` leaves.
        depth: how many levels are printed; None for all.
    """

    path: Path
    format: str
    file_bytes: int
    tensors: dict[str, TensorInfo]
    places: tuple[str, ...]
    tree: dict[str, Any]
    depth: int | None

    @property
    def numbers(self) -> int:
        """Number of elements of all tensors."""
        return sum(each.numel for each in self.tensors.values())

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(each.nbytes for each in self.tensors.values())

    def __str__(self) -> str:
        places = ", ".join(repr(each) if each else "the top level" for each in self.places)
        lines = [
            f"{printable(self.path.name)}: {FORMATS[self.format]}, {size_text(self.file_bytes)}",
            f"{counted(len(self.tensors), 'tensor')}, {counted(self.numbers, 'number')}, "
            f"{size_text(self.nbytes)}; weights at: {places or 'no place'}",
        ]
        rows = list(_rows(self.tree, self.depth))
        width = max((len(name) for name, _ in rows), default=0)
        return "\n".join([*lines, *(f"  {name:<{width}}  {text}".rstrip() for name, text in rows)])


def inspect(path: str | Path, depth: int | None = 2) -> Contents:
    """What a checkpoint holds, as a tree, without reading the tensors.

    (Files of torch before 1.6 are read all the same: they tell their shapes only on the way.)
    Nothing in the file is run, and the tensors' checksums aren't looked at.

    Args:
        path: any file that :func:`read_checkpoint` reads.
        depth: how many levels of names to print one by one; deeper ones are summed up.
            None prints all.

    Returns:
        An object that prints as a tree, with sizes in bytes.

    Raises:
        CheckpointError: as :func:`read_checkpoint`, except that a file without weights, or with
            several, is fine.
    """
    path = user_path(path)
    with opened(path) as (held, format):
        tree, metadata, files = content(held, format)
        size = held.size + sum(each.stat().st_size for each in files)
    try:
        places = tuple(each.where for each in locate.find(tree, str(path))[1])
    except CheckpointError:
        places = tuple(each.where for each in locate.places(tree))
    tree = locate.opened(tree)
    nested = _nest(tree if isinstance(tree, Mapping) else {"(the object)": tree})
    if metadata:
        nested["(metadata)"] = metadata
    tensors = dict(_flat(nested))
    return Contents(path, format, size, tensors, places, nested, depth)


def _nest(tree: Mapping[Any, Any]) -> dict[str, Any]:
    """Dictionaries as they are, dotted names cut into levels, tensors described."""
    nested: dict[str, Any] = {}
    for key, value in tree.items():
        value = locate.opened(value)
        if plain(value):
            value = TensorInfo.of(value)
        elif isinstance(value, Mapping):
            value = _nest(value)
        elif isinstance(value, list | tuple) and any(
            plain(each) or isinstance(each, Mapping) for each in value
        ):
            value = _nest({str(place): each for place, each in enumerate(value)})
        *parents, last = str(key).split(".") if isinstance(value, TensorInfo) else [str(key)]
        if len(parents) > _DEEPEST:  # no name of a module
            parents, last = [], str(key)
        level = nested
        for parent in parents:
            below = level.setdefault(parent, {})
            if not isinstance(below, dict):  # "a" and "a.b" are both tensors
                level, last = nested, str(key)
                break
            level = below
        level[last if last not in level else str(key)] = value
    return nested


def _flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, TensorInfo]]:
    for key, value in tree.items():
        if isinstance(value, TensorInfo):
            yield path + key, value
        elif isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")


def _rows(tree: Mapping[str, Any], depth: int | None, level: int = 0) -> Iterator[tuple[str, str]]:
    indent = "  " * level
    for key, value in tree.items():
        if isinstance(value, TensorInfo):
            yield indent + printable(key), f"{value.dtype} {value.shape}  {size_text(value.nbytes)}"
        elif isinstance(value, dict):
            inside = [each for _, each in _flat(value)]
            total = sum(each.nbytes for each in inside)
            numbers = counted(sum(each.numel for each in inside), "number")
            text = f"{counted(len(inside), 'tensor')}, {numbers}, {size_text(total)}"
            yield (
                indent + printable(key),
                text if inside else counted(len(value), "entry", "entries"),
            )
            if depth is None or level + 1 < depth:
                yield from _rows(value, depth, level + 1)
        else:
            text = repr(value)
            short = f"{type(value).__name__}, {text[:50]}..."
            yield indent + printable(key), text if len(text) <= 60 else short


def size_text(nbytes: int) -> str:
    """A size in bytes for people: ``37.6 kB`` (1 kB = 1000 bytes)."""
    size = float(nbytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
