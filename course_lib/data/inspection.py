"""Check every file once, before training: what is a whole picture, what is damaged, what else.

A truncated picture must be noticed now and not in the third epoch, so every picture is decoded.
What was found whole is noted in the cache with the file's size and time, and not decoded again.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PIL
from tqdm import tqdm

from course_lib.data.images import has_picture, read_bytes, verify
from course_lib.paths import cache_dir, write_file

_ENDINGS = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp"),
    *(".heic", ".heif", ".avif", ".tif", ".tiff"),  # pictures too, which we can't read
}
_VERSION = f"1, Pillow {PIL.__version__}"


@dataclass
class Inspection:
    """What was found.

    Attributes:
        whole: the pictures, in the order given, each with the SHA-256 of its bytes.
        skipped: files that should be pictures and can't be read, with the reason.
        ignored: files that are something else.
    """

    whole: dict[Path, str] = field(default_factory=dict)
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
    notes = _Notes(root)
    found = Inspection()
    # The bar appears only if this takes longer than a person waits without wondering.
    for path in tqdm(list(files), "Checking the pictures", unit="file", delay=3, leave=False):
        known = notes.get(path)
        try:
            digest = known or _check(path)
        except ValueError as error:
            found.skipped[path] = str(error)
            continue
        if digest is None:
            found.ignored.append(path)
            continue
        found.whole[path] = digest
        if not known:
            notes.add(path, digest)
    notes.save()
    return found


def _check(path: Path) -> str | None:
    """The hash of a whole picture; None for something else; ValueError for a damaged picture."""
    data = read_bytes(path)
    if path.suffix.lower() not in _ENDINGS and not has_picture(data):
        return None
    verify(data)
    return hashlib.sha256(data).hexdigest()


class _Notes:
    """The pictures found whole before, by size and time of change, in a file of the cache."""

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:24]
        self.file = cache_dir() / "inspected" / f"{name}.json"
        self.root = root
        self.changed = False
        self.entries: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            notes = json.loads(self.file.read_text())  # any fault in it: check all files again
            if notes["version"] == _VERSION:
                self.entries = dict(notes["files"])

    def get(self, path: Path) -> str | None:
        entry = self.entries.get(self._name(path))
        with contextlib.suppress(OSError, IndexError):
            if isinstance(entry, list) and entry[:2] == self._state(path):
                return str(entry[2])
        return None

    def add(self, path: Path, digest: str) -> None:
        with contextlib.suppress(OSError):
            self.entries[self._name(path)] = [*self._state(path), digest]
            self.changed = True

    def save(self) -> None:
        if not self.changed:
            return
        with contextlib.suppress(OSError):  # no cache can be written: then all is checked each time
            write_file(self.file, json.dumps({"version": _VERSION, "files": self.entries}))

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self.root)

    @staticmethod
    def _state(path: Path) -> list[int]:
        status = path.stat()
        return [status.st_size, status.st_mtime_ns]
