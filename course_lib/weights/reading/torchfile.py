"""Files of ``torch.save``: the object in them, read without running code, its checksums checked.

Since torch 1.6 such a file is a zip archive: ``data.pkl`` says which objects there are, and each
storage lies uncompressed in a member of its own, with a checksum, which torch doesn't check. Older
files are a row of pickles with the bytes behind them, without checksums.
"""

import struct
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from zlib_ng import zlib_ng

from course_lib.weights.errors import CheckpointError
from course_lib.weights.reading.damage import Held, check_room, reading
from course_lib.weights.reading.pickles import check_claims, check_doubling, refusal

_PROGRAM_LIMIT = 1 << 24  # bytes of pickle that are searched to explain a refusal
_BLOCK = 1 << 18  # bytes; they stay in the processor's cache until they are counted
_DEEPEST = 50
_MOST_PARTS = 100_000  # written out; or four times those in the file, if these are more


def open_zip(held: Held, *, checked: bool, mapped: bool = True) -> Any:
    """The object in a zip file of ``torch.save``.

    Args:
        held: the file.
        checked: whether every byte is compared with the checksums; False: all but the tensors'.
        mapped: its tensors are views of the file, read when their values are used; copy them
            before the file may change. False: they have memory of their own.

    Raises:
        UnsafeCheckpointError: it wants to run code.
        CheckpointError: it is damaged, compressed or a TorchScript program.
    """
    path = held.path
    with reading(path, "its table of contents"), zipfile.ZipFile(held.file) as archive:
        members = archive.infolist()
        _refuse_strange(path, members)
        if not any(member.CRC for member in members):  # saved with set_crc32_options(False)
            for member in members:
                member.CRC = None  # type: ignore[assignment]
        starts = _starts(held, members, checked)
        program = archive.read(next(e for e in members if e.filename.endswith("/data.pkl")))
        mapped = mapped and held.way.suffix != ".safetensors"  # which torch takes for its format
        tree = _load(held, program, mapped)
        if mapped:
            sizes = {at: e.file_size for at, e in starts.items() if "/data/" in e.filename}
            _check_places(path, tree, sizes)
    return tree


def _compare(held: Held, start: int, member: zipfile.ZipInfo) -> None:
    """Compare a member with its checksum.

    As ``ZipFile.testzip`` does, at a third of the cost: zlib-ng counts faster than zlib, and
    nothing is packed.
    """
    held.file.seek(start)
    left, found = member.file_size, 0
    while part := held.file.read(min(left, _BLOCK)):
        left, found = left - len(part), zlib_ng.crc32(part, found)
    if left or found != member.CRC:
        raise CheckpointError(
            f"{held} is damaged or was tampered with: {member.filename} doesn't fit its "
            "checksum (CRC-32). Get the file again."
        )


def open_legacy(held: Held) -> Any:
    """The object in a file of ``torch.save`` before 1.6.

    Raises:
        UnsafeCheckpointError: it wants to run code.
        CheckpointError: it is damaged or truncated.
    """
    with reading(held.path, "the row of pickles of an old torch.save"):
        check_room(held.path, held.size)
        held.file.seek(0)
        return _load(held, held.file.read(_PROGRAM_LIMIT), mapped=False)


def _refuse_strange(path: Path, members: list[zipfile.ZipInfo]) -> None:
    names = [each.filename for each in members]
    folder = names[0].split("/")[0] + "/"
    short = [name.removeprefix(folder) for name in names]
    if any(name == "constants.pkl" or name.startswith("code/") for name in short):
        raise CheckpointError(
            f"{path} is a TorchScript program (torch.jit.save): model code with its weights. "
            "Loading it runs that code. If you trust it as you trust a program, take the weights "
            "out: torch.save(torch.jit.load(path).state_dict(), 'weights.pth'). Else ask its "
            "author for torch.save(model.state_dict(), path) or a .safetensors file."
        )
    outside = [name for name in names if not name.startswith(folder)]
    if outside:
        raise CheckpointError(
            f"{path} was packed again: {outside[0]!r} lies outside of its folder {folder!r}."
        )
    packed = [each.filename for each in members if each.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise CheckpointError(
            f"{path} was packed again: {packed[0]} is compressed, which torch.save never does. "
            "Get the original, or write it anew: "
            "torch.save(torch.load(path, weights_only=True), 'again.pth')."
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise CheckpointError(f"{path} holds {twice[0]!r} twice: it was tampered with.")
    if "data.pkl" not in short:
        raise CheckpointError(f"{path} has no {folder}data.pkl: it was packed again or damaged.")


def _dictionary(*_: Any) -> dict[Any, Any]:
    """In the place of ``collections.defaultdict``, which torch builds but can't fill."""
    return {}


# What a defaultdict in a file names: itself, and what makes its defaults.
_HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_dictionary, "collections.defaultdict"), dict, list, int, float,
]  # fmt: skip


def _load(held: Held, program: bytes, mapped: bool) -> Any:
    path, size = held.path, held.size
    check_claims(str(path), program, size)
    check_doubling(str(path), program)
    with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
        warnings.simplefilter("ignore")  # about old protocols: what matters is raised
        try:
            if mapped:
                tree = torch.load(held.way, map_location="cpu", weights_only=True, mmap=True)
            else:
                held.file.seek(0)
                tree = torch.load(held.file, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            raise refusal(str(path), program, str(error)) from None
    check_extent(path, tree)
    if not mapped:
        stored = sum({e.data_ptr(): e.nbytes() for e in storages(tensors_in(tree))}.values())
        if stored > size:
            raise CheckpointError(
                f"{path} is refused: its tensors claim {stored:,} bytes, and the file has {size:,}."
            )
    return tree


def plain(value: Any) -> bool:
    """Whether something is a tensor like those of which most models are made.

    Sparse, quantised and nested tensors, and those of other classes, are none.
    """
    return (
        type(value) in (torch.Tensor, torch.nn.Parameter)
        and value.layout is torch.strided
        and not value.is_quantized
        and not value.is_nested
    )


def tensors_in(tree: Any) -> Iterator[torch.Tensor]:
    """All plain tensors in a tree of dictionaries, lists and tuples, each part looked at once."""
    todo, seen = [tree], {id(tree)}
    while todo:
        value = todo.pop()
        if plain(value):
            yield value
        for each in _parts(value):
            if id(each) not in seen:
                seen.add(id(each))
                todo.append(each)


def storages(tensors: Iterable[torch.Tensor]) -> set[torch.UntypedStorage]:
    """The memory that tensors lie in."""
    return {each.untyped_storage() for each in tensors if each.device.type != "meta"}


def _parts(value: Any) -> Collection[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def check_extent(path: Path, tree: Any) -> None:
    """Refuse what is nested too deep, or is small in the file and endless when written out.

    A list that holds one list twice, which holds another one twice, and so on 45 times, takes 600
    bytes, and a walk through it 2**45 steps. Each part is looked at once here, and counted as often
    as it occurs.

    Raises:
        CheckpointError: more than 50 levels, or far more parts than the file has.
    """
    extent: dict[int, tuple[int, int]] = {}  # of a part: its levels, and what it has written out
    todo = [(tree, False)]
    above: set[int] = set()
    there = 0
    while todo:
        value, below = todo.pop()
        parts = [each for each in _parts(value) if isinstance(each, dict | list | tuple)]
        if below:
            inner = [extent[id(each)] for each in parts]
            levels = 1 + max((each[0] for each in inner), default=0)
            extent[id(value)] = (levels, 1 + len(_parts(value)) + sum(e[1] for e in inner))
            above.discard(id(value))
            there += len(_parts(value))
        elif id(value) in above:
            raise CheckpointError(f"{path} is refused: an object in it holds itself.")
        elif id(value) not in extent:
            above.add(id(value))
            todo.append((value, True))
            todo += [(each, False) for each in parts]
    levels, written = extent[id(tree)]
    if levels > _DEEPEST:
        raise CheckpointError(f"{path}: its objects are nested more than {_DEEPEST} deep.")
    if written > max(_MOST_PARTS, 4 * there):
        raise CheckpointError(
            f"{path} is refused: its objects hold each other again and again, {there:,} parts that "
            f"make {float(written):.1g} when written out. Weights never need that; delete it."
        )


def _check_places(path: Path, tree: Any, starts: dict[int, int]) -> None:
    """Every storage of a mapped file must be a whole member: torch itself would read on behind it.

    Args:
        path: the file.
        tree: the object in it.
        starts: of the storages: where the content begins -> how long it is.
    """
    found = storages(tensors_in(tree))
    places = {each.data_ptr(): each.nbytes() for each in found if each.nbytes()}
    if not places:
        return
    first, length = next(iter(places.items()))
    maps = (first - start for start, size in starts.items() if size == length)
    if not any(all(starts.get(at - begin) == n for at, n in places.items()) for begin in maps):
        raise CheckpointError(
            f"{path} is damaged or was tampered with: its tensors have other sizes than the "
            "members that hold them. Get the file again."
        )


def _starts(
    held: Held, members: list[zipfile.ZipInfo], checked: bool
) -> dict[int, zipfile.ZipInfo]:
    """Where the content of each member begins; it is compared with its checksum on the way.

    The file is gone through once, from its beginning to its end, as disks like it.

    Args:
        held: the file.
        members: in its table of contents.
        checked: False: the tensors aren't compared.
    """
    found: dict[int, zipfile.ZipInfo] = {}
    for member in members:
        held.file.seek(member.header_offset)
        mark, name, extra = struct.unpack("<4s22x2H", held.file.read(30))
        coding = "utf-8" if member.flag_bits & 0x800 else "cp437"
        if mark != b"PK\3\4" or held.file.read(name).decode(coding) != member.orig_filename:
            raise ValueError(f"{member.filename} isn't where the table of contents says")
        start = member.header_offset + 30 + name + extra
        if found.setdefault(start, member) is not member:
            raise ValueError(f"{member.filename} lies where {found[start].filename} does")
        if member.CRC is not None and (checked or "/data/" not in member.filename):
            _compare(held, start, member)
    return found
