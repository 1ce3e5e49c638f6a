"""Files of ``torch.save``: what is in them, without reading the tensors and without running code.

Since torch 1.6 such a file is a zip archive: ``data.pkl`` says which objects there are, and each
storage lies uncompressed in a member of its own, with a checksum, which torch doesn't check. Older
files are a row of pickles with the bytes behind them, without checksums.
"""

import struct
import warnings
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch

from course_lib.weights.errors import CheckpointError
from course_lib.weights.reading.pickles import refusal
from course_lib.weights.reading.stored import Block, Reader, Stored, reading

_PROGRAM_LIMIT = 1 << 24  # bytes of pickle that are searched to explain a refusal


def open_zip(path: Path) -> Any:
    """The object in a zip file of ``torch.save``, with a :class:`Stored` for each tensor.

    Raises:
        UnsafeCheckpointError: it wants to run code.
        CheckpointError: it is damaged, compressed, big-endian or a TorchScript program.
    """
    with path.open("rb") as file, reading(path, "its table of contents"):
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
        blocks = _blocks(path, file, members)
        program = _checked_parts(path, file, members, blocks)
        file.seek(0)
        try:
            tree = _load(path, file, program, "meta")
            starts = {block.start: block for block in blocks.values()}
            return replace_tensors(tree, lambda tensor: _stored(path, tensor, starts))
        except (_ElsewhereError, NotImplementedError):
            return _read_at_once(path, file, program, blocks)


def load_whole(path: Path) -> Any:
    """The object in a zip file of ``torch.save`` as it was saved: every kind of tensor, tied ones.

    Raises:
        UnsafeCheckpointError: it wants to run code.
        CheckpointError: it doesn't fit its checksums.
    """
    with path.open("rb") as file:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip() if any(each.CRC for each in archive.infolist()) else None
            if damaged is not None:
                raise CheckpointError(
                    f"{path} is damaged or was tampered with: {damaged} doesn't fit its checksum. "
                    "Get the file again."
                )
            names = archive.namelist()
            program = archive.read(next(name for name in names if name.endswith("data.pkl")))
        file.seek(0)
        return _load(path, file, program, "cpu")


class _ElsewhereError(Exception):
    """A storage isn't where torch's writer would have put it: another program packed the file."""


def _read_at_once(path: Path, file: BinaryIO, program: bytes, blocks: dict[str, Block]) -> Any:
    """For files that another program packed, or with sparse tensors: read it all in one go."""
    with Reader({}) as reader:
        for block in blocks.values():
            reader.read(Stored((block.nbytes,), torch.uint8, block))  # for its checksum
    file.seek(0)
    return replace_tensors(_load(path, file, program, "cpu"), Stored.of)


def _blocks(path: Path, file: BinaryIO, members: list[zipfile.ZipInfo]) -> dict[str, Block]:
    """Where each member's bytes are; checksums are None if the file was saved without any."""
    checksummed = any(member.CRC for member in members)
    blocks: dict[str, Block] = {}
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise CheckpointError(
                f"{path} was packed again: {member.filename} is compressed, which torch.save "
                "never does. Unpack the file that is inside, or get the original."
            )
        file.seek(member.header_offset)
        header = file.read(30)
        signature, *_, name_length, extra = struct.unpack("<4s5H3L2H", header)
        name = file.read(name_length)
        if signature != b"PK\x03\x04" or name != member.orig_filename.encode():
            raise CheckpointError(
                f"{path} is damaged: its table of contents says {member.filename!r} where the "
                f"file says {name[:60]!r}. Get the file again."
            )
        start = member.header_offset + 30 + name_length + extra
        crc = member.CRC if checksummed else None
        if member.filename in blocks:
            raise CheckpointError(f"{path} holds {member.filename!r} twice: it was tampered with.")
        blocks[member.filename] = Block(path, start, member.file_size, crc)
    end = 0
    for block in sorted(blocks.values(), key=lambda each: (each.start, each.nbytes)):
        if block.start < end:
            raise CheckpointError(f"{path} was tampered with: two of its members overlap.")
        end = block.start + block.nbytes
    return blocks


def _checked_parts(
    path: Path, file: BinaryIO, members: list[zipfile.ZipInfo], blocks: dict[str, Block]
) -> bytes:
    """Check the small members against their checksums; return ``data.pkl``."""
    folder = members[0].filename.split("/")[0] + "/"
    program = None
    for name, block in blocks.items():
        short = name.removeprefix(folder)
        if not name.startswith(folder):
            raise CheckpointError(
                f"{path} was packed again: {name!r} lies outside of its folder {folder!r}."
            )
        if short == "constants.pkl" or short.startswith("code/"):
            raise CheckpointError(
                f"{path} is a TorchScript program (torch.jit.save): model code with its weights. "
                "Loading it runs that code. Ask its author for torch.save(model.state_dict(), "
                "path) or a .safetensors file."
            )
        if short.startswith("data/"):
            continue
        file.seek(block.start)
        content = file.read(block.nbytes)
        if len(content) != block.nbytes or block.crc not in (None, zlib.crc32(content)):
            raise CheckpointError(
                f"{path} is damaged or was tampered with: {name} doesn't fit its checksum. "
                "Get the file again."
            )
        if short == "data.pkl":
            program = content
        if short == "byteorder" and content != b"little":
            raise CheckpointError(
                f"{path} was saved on a big-endian machine; load it with torch.load and save it "
                "again with course_lib.weights.save_weights."
            )
    if program is None:
        raise CheckpointError(f"{path} has no {folder}data.pkl: it was packed again or damaged.")
    return program


def open_legacy(path: Path) -> Any:
    """The object in a file of ``torch.save`` before 1.6; the tensors are read at once.

    Raises:
        UnsafeCheckpointError: it wants to run code.
        CheckpointError: it is damaged or truncated.
    """
    with path.open("rb") as file, reading(path, "the row of pickles of an old torch.save"):
        program = file.read(_PROGRAM_LIMIT)
        file.seek(0)
        tree = _load(path, file, program, "cpu")
    return replace_tensors(tree, Stored.of)


def _load(path: Path, file: BinaryIO, program: bytes, device: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about old protocols: what matters is raised
        try:
            return torch.load(file, map_location=device, weights_only=True)
        except UnpicklingError as error:
            raise refusal(str(path), program, str(error)) from None


def replace_tensors(tree: Any, make: Any, depth: int = 0) -> Any:
    """The same tree of dictionaries, lists and tuples, with something else for each tensor.

    Args:
        tree: what a file holds.
        make: is called with each plain tensor, of any shape; its result takes the place. Sparse,
            quantised and nested tensors stay: they are an error only among the weights.
        depth: how deep in the tree this is.

    Raises:
        CheckpointError: nested more than 50 deep.
    """
    if isinstance(tree, torch.Tensor):
        plain = type(tree) in (torch.Tensor, torch.nn.Parameter)
        if not plain or tree.layout is not torch.strided or tree.is_quantized or tree.is_nested:
            return tree
        return make(tree.detach())
    if depth > 50:
        raise CheckpointError("objects nested more than 50 deep")
    if isinstance(tree, dict):
        changed = {key: replace_tensors(value, make, depth + 1) for key, value in tree.items()}
        return Counter(changed) if isinstance(tree, Counter) else changed
    if isinstance(tree, list | tuple):
        values = [replace_tensors(value, make, depth + 1) for value in tree]
        return tuple(values) if isinstance(tree, tuple) else values
    return tree


def _stored(path: Path, tensor: torch.Tensor, starts: dict[int, Block]) -> Stored:
    """Find the block of a tensor on the meta device and check that the tensor lies inside."""
    shape, stride = tuple(tensor.shape), tuple(tensor.stride())
    if tensor.numel() == 0:
        return Stored(shape, tensor.dtype, Block(path, 0, 0))
    # torch notes the position in the file on storages that it loads to the meta device.
    start = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
    block = starts.get(start) if start is not None else None
    if block is None:
        raise _ElsewhereError
    steps = sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    end = (tensor.storage_offset() + steps + 1) * tensor.dtype.itemsize
    if end > block.nbytes:
        raise CheckpointError(f"it needs {end:,} bytes, but its storage has {block.nbytes:,}")
    return Stored(
        shape, tensor.dtype, block, int(tensor.storage_offset()),
        None if tensor.is_contiguous() else stride, tensor.is_conj(), tensor.is_neg(),
    )  # fmt: skip
