"""A tensor that lies in a file: what it is, where its bytes are, and how they are read once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import BinaryIO, TypeAlias

import torch
from zlib_ng import zlib_ng  # four times as fast as zlib at the same checksum

from course_lib.weights.errors import CheckpointError

_CHUNK = 1 << 18  # bytes: small enough that a chunk is still in the processor's cache for its CRC
_BUFFER = 1 << 14  # bytes: small tensors come from it; larger reads go past it, uncopied

Stamps: TypeAlias = dict[Path, tuple[int, int]]  # what each file's stamp() was


@dataclass(frozen=True)
class Block:
    """A stretch of a file.

    Attributes:
        path: the file.
        start: offset of the first byte.
        nbytes: length in bytes.
        crc: CRC-32 that the file states for it, or None when it states none.
    """

    path: Path
    start: int
    nbytes: int
    crc: int | None = None


@dataclass(frozen=True)
class Stored:
    """One tensor of a checkpoint that was not read yet, or (``tensor``) is in memory already.

    Attributes:
        shape: its shape.
        dtype: its type.
        block: where its storage lies; None when it is in memory.
        offset: elements before its first one in the storage.
        stride: steps, in elements; None for contiguous.
        conj: whether the file stores the complex conjugate.
        neg: whether the file stores the negative.
        tensor: the values, when they had to be read in order to know the shapes.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    block: Block | None = None
    offset: int = 0
    stride: tuple[int, ...] | None = None
    conj: bool = False
    neg: bool = False
    tensor: torch.Tensor | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, tensor: torch.Tensor) -> "Stored":
        """A tensor in memory, of any shape."""
        return cls(tuple(tensor.shape), tensor.dtype, tensor=tensor)

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.numel * self.dtype.itemsize

    @property
    def whole(self) -> bool:
        """Whether the bytes of its block, in order, are its values."""
        return (
            self.block is not None
            and self.stride is None
            and self.offset == 0
            and self.block.nbytes == self.nbytes
            and not (self.conj or self.neg)
        )


class Reader:
    """Reads stored tensors from their files, each file opened once, checking every checksum.

    Use it in a ``with`` statement.
    """

    def __init__(self, stamps: Stamps) -> None:
        self._stamps = stamps
        self._files: dict[Path, BinaryIO] = {}
        self._last: tuple[Block, torch.Tensor] | None = None

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()
        self._last = None

    def read(self, stored: Stored) -> torch.Tensor:
        """The values of a stored tensor.

        Returns:
            Its shape and type, contiguous, in memory of its own on the CPU, whatever the default
            device is.

        Raises:
            CheckpointError: the bytes can't be read, are too few, or differ from their checksum.
        """
        out = torch.empty(stored.shape, dtype=stored.dtype, device="cpu")
        if stored.tensor is not None:
            return out.copy_(stored.tensor)
        assert stored.block is not None
        if stored.whole:
            self._fill(stored.block, out)
            return out
        values = self._storage(stored.block)
        if stored.numel == 0:
            return out
        size = stored.dtype.itemsize
        if stored.stride is None:
            stop = stored.offset + stored.numel
            view = values[stored.offset * size : stop * size].view(stored.dtype).view(stored.shape)
        else:
            usable = values[: len(values) // size * size].view(stored.dtype)
            view = usable.as_strided(stored.shape, stored.stride, stored.offset)
        out.copy_(view)
        if stored.conj:
            out.copy_(out.conj())
        return out.neg_() if stored.neg else out

    def _storage(self, block: Block) -> torch.Tensor:
        """A whole storage; the last one is kept, since tensors that share one follow each other."""
        if self._last is None or self._last[0] != block:
            self._last = (block, torch.empty(block.nbytes, dtype=torch.uint8))
            self._fill(block, self._last[1])
        return self._last[1]

    def _fill(self, block: Block, out: torch.Tensor) -> None:
        if block.nbytes == 0:
            return
        file = self._open(block.path)
        view = out.view(-1).view(torch.uint8).numpy().data
        crc, done = 0, 0
        try:
            file.seek(block.start)
            while done < block.nbytes:
                stop = block.nbytes if block.crc is None else min(done + _CHUNK, block.nbytes)
                count = file.readinto(view[done:stop])  # type: ignore[attr-defined]
                if not count:
                    raise CheckpointError(
                        f"{block.path} ends in the middle of a tensor: truncated. "
                        "Get the file again."
                    )
                if block.crc is not None:
                    crc = zlib_ng.crc32(view[done : done + count], crc)
                done += count
        except OSError as error:
            raise CheckpointError(f"{block.path} can't be read: {error.strerror}.") from error
        if block.crc is not None and crc != block.crc:
            raise CheckpointError(
                f"{block.path} is damaged or was tampered with: {block.nbytes:,} bytes from offset "
                f"{block.start:,} don't fit their checksum (CRC-32 {crc:08x}, expected "
                f"{block.crc:08x}). Get the file again."
            )

    def _open(self, path: Path) -> BinaryIO:
        if path not in self._files:
            try:
                file = path.open("rb", buffering=_BUFFER)
            except OSError as error:
                raise CheckpointError(f"{path} can't be opened: {error.strerror}.") from error
            self._files[path] = file
            if path in self._stamps and stamp(file.fileno()) != self._stamps[path]:
                raise CheckpointError(f"{path} was changed while it was being read. Try again.")
        return self._files[path]


def stamp(file: int | Path) -> tuple[int, int]:
    """Size and time of last change of an open file or a path: equal stamps, same content."""
    status = os.fstat(file) if isinstance(file, int) else file.stat()
    return status.st_size, status.st_mtime_ns


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a damaged file makes a parser raise into a :class:`CheckpointError`.

    Raises:
        CheckpointError: anything was raised in the block.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        raise CheckpointError(
            f"{path} is damaged: {what} can't be read ({reason}). Get the file again."
        ) from error
