"""Check every file once, before training: what is a whole picture, what is damaged, what else.

A truncated picture must be noticed now and not in the third epoch, so every picture is decoded.
What was found whole is noted in the cache with the file's size and time, and not decoded again.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PIL

from course_lib.data.images import DECODER, PictureMemoryError, has_picture, read_bytes, verify
from course_lib.data.likeness import SMALL, sketch
from course_lib.data.progress import bar
from course_lib.paths import cache_dir, read_file, write_file

_ENDINGS = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"),
    *(".heic", ".heif", ".hif", ".avif", ".tif", ".tiff", ".jp2", ".j2k", ".jpf", ".jpx"),
    # Photographs, too, which are not read: cameras' raw formats and JPEG XL.
    *(".dng", ".nef", ".nrw", ".arw", ".cr2", ".cr3", ".raf", ".orf", ".rw2", ".pef", ".srw"),
    *(".x3f", ".3fr", ".erf", ".jxl"),
}


@dataclass
class Inspection:
    """What was found.

    Attributes:
        whole: the pictures, in the order given, each with the SHA-256 of its bytes.
        sketches: of the same pictures, for :func:`course_lib.data.likeness.alike`.
        skipped: files that should be pictures and can't be read, with the reason.
        ignored: files that are something else.
    """

    whole: dict[Path, str] = field(default_factory=dict)
    sketches: dict[Path, str] = field(default_factory=dict)
    skipped: dict[Path, str] = field(default_factory=dict)
    ignored: list[Path] = field(default_factory=list)


def inspect(files: Iterable[Path], root: Path) -> Inspection:
    """Sort files into whole pictures, unreadable ones and other things.

    A file with the ending of a picture must be one; any other file is a picture if it begins like
    one.

    Args:
        files: to check.
        root: the data set they belong to; one note in the cache for each.
    """
    notes = Notes(root)
    found = Inspection()
    # The bar appears only if this takes longer than a person waits without wondering.
    paths = list(files)
    for path in bar(len(paths), "Checking the pictures", unit="file", delay=3, iterable=paths):
        known = notes.get(path)
        try:
            seen = known or _check(path)
        except MemoryError as error:  # it may be whole, so it isn't left out
            raise PictureMemoryError(path) from error
        except ValueError as error:
            found.skipped[path] = str(error)
            continue
        if seen is None:
            found.ignored.append(path)
            continue
        found.whole[path], found.sketches[path] = seen
        if not known:
            notes.add(path, *seen)
    notes.save()
    return found


def _check(path: Path) -> tuple[str, str] | None:
    """Hash and sketch of a whole picture; None for other things; ValueError for a damaged one."""
    data = read_bytes(path)
    if path.suffix.lower() not in _ENDINGS and not has_picture(data):
        return None
    small = verify(data, SMALL)
    return hashlib.sha256(data).hexdigest(), sketch(small)


def _version() -> str:
    """What decides whether a picture can be read, beside its file."""
    heic = "" if importlib.util.find_spec("pillow_heif") is None else ", HEIC"
    return f"{DECODER}, Pillow {PIL.__version__}{heic}"


class Notes:
    """The pictures found whole before, by size and time of change, in a file of the cache."""

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:24]
        self.file = cache_dir() / "inspected" / f"{name}.json"
        self.root = root
        self.version = _version()
        self.changed = False
        self.entries: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            notes = json.loads(read_file(self.file, 1 << 30))  # at any fault, check all files again
            if notes["version"] == self.version:
                self.entries = dict(notes["files"])

    def get(self, path: Path) -> tuple[str, str] | None:
        """Hash and sketch of a picture that was whole and has not changed; else None."""
        entry = self.entries.get(self._name(path))
        with contextlib.suppress(OSError, IndexError):
            if isinstance(entry, list) and entry[:2] == self._state(path):
                return str(entry[2]), str(entry[3])
        return None

    def add(self, path: Path, digest: str, drawn: str) -> None:
        """Note a whole picture."""
        with contextlib.suppress(OSError):
            self.entries[self._name(path)] = [*self._state(path), digest, drawn]
            self.changed = True

    def any_whole(self, files: Iterable[Path]) -> bool:
        """Whether one of the files is a whole picture; none is checked after the first."""
        for path in files:
            with contextlib.suppress(ValueError):
                if self.get(path) or _check(path):
                    return True
        return False

    def save(self) -> None:
        """Write the notes, if they have changed and can be written."""
        if not self.changed:
            return
        with contextlib.suppress(OSError):  # no cache can be written: then all is checked each time
            write_file(self.file, json.dumps({"version": self.version, "files": self.entries}))

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self.root)

    @staticmethod
    def _state(path: Path) -> list[int]:
        status = path.stat()
        return [status.st_size, status.st_mtime_ns]
