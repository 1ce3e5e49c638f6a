"""Get the d2l book's hot-dog photos: checked, safely unpacked, all or nothing.

They end up where d2l itself keeps them, ``data/hotdog.zip`` and ``data/hotdog/``, so that either
finds what the other has downloaded. Whatever stops a run, at whatever byte, the next one starts
cleanly: everything unfinished lives in one folder, ``data/hotdog.zip.partial/``, and each result is
moved to its place in one step when it is complete.
"""

import contextlib
import json
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from course_lib.data.transfer import Patience, Remote, transfer
from course_lib.data.unzip import members, unzip
from course_lib.errors import CourseError, DataError
from course_lib.paths import data_dir, file_hash, read_file
from course_lib.text import counted

_MANIFEST = ".complete.json"


@dataclass(frozen=True)
class Archive:
    """A zip file on the web and what is known about it.

    Attributes:
        url: https, or http to this very machine.
        sha1: of the file, in hexadecimal.
        name: of the file, which is also where it is kept; what is used of it lies in a folder of
            the same name without ``.zip``.
        advice: what to do without a network; ``{folder}`` stands for where the file belongs.
        largest: more bytes than this, packed or unpacked, are refused.
    """

    url: str
    sha1: str
    name: str
    advice: str = ""
    largest: int = 2 << 30

    @property
    def folder(self) -> str:
        """The folder inside the archive, and the one that it is unpacked to."""
        return self.name.removesuffix(".zip")


HOTDOG = Archive(
    url="https://d2l-data.s3-accelerate.amazonaws.com/hotdog.zip",
    sha1="fba480ffa8aa7e0febbb511d181409f899b9baa5",
    name="hotdog.zip",
    advice=(
        "Try again with a network, or put a copy of hotdog.zip into {folder}, or use the pictures "
        "that come with the course: COURSE_PROFILE=tiny."
    ),
)
"""The photos of the d2l book: the address that d2l uses, but https."""


def download_hotdog() -> Path:
    """The d2l book's hot-dog photos, in the course's ``data/``: see :func:`fetch`."""
    return fetch(HOTDOG, data_dir())


def fetch(archive: Archive, base: Path, patience: Patience | None = None) -> Path:
    """The folder that an archive holds; downloads and unpacks it on first use.

    Args:
        archive: what to get.
        base: where the zip file and the folder are or shall be.
        patience: how long to wait for the server, and how often to try.

    Returns:
        The folder in ``base``, complete.

    Raises:
        OfflineError: the server can't be reached, doesn't answer, or has no such file.
        DataError: what arrived is not the archive, there is no room for it, or the folder holds
            files of yours that would be lost.
    """
    done = base / archive.folder
    partial = base / f"{archive.name}.partial"
    if _is_complete(done, archive) and not partial.exists():
        return done
    try:
        base.mkdir(parents=True, exist_ok=True)
        with _alone(base / f"{archive.name}.lock"), _workshop(partial) as workshop:
            if not _is_complete(done, archive):  # another process may just have finished it
                file = _get_file(archive, base, workshop, patience)
                _unpack(archive, file, done, workshop)
    except CourseError:
        raise
    except OSError as error:
        raise DataError(
            f"{archive.name} can't be kept in {base}: {error.strerror or error}. Make room there, "
            "or name another folder in COURSE_DATA, and try again."
        ) from error
    return done


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Let one process at a time do this; the system frees the lock even of a killed one."""
    held = FileLock(lock, is_singleton=True)  # one left by Ctrl-C doesn't keep its own process out
    try:
        try:
            held.acquire(timeout=0)
        except Timeout:
            print(f"Waiting for another process that is filling {lock.parent} ...")
            held.acquire(timeout=3600)
    except Timeout:
        raise DataError(
            f"Another process has been filling {lock.parent} for an hour. End it, and try again."
        ) from None
    except NotImplementedError:
        pass  # a file system without locks; moving things in one step still keeps them whole
    try:
        yield
    finally:
        held.release(force=True)


@contextlib.contextmanager
def _workshop(folder: Path) -> Iterator[Path]:
    """An empty folder for unfinished things; what a killed run left in it is removed first."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _get_file(archive: Archive, base: Path, workshop: Path, patience: Patience | None) -> Path:
    """The archive with the right hash: the one that is there, or else a fresh download."""
    file = base / archive.name
    if file.is_file() and file_hash(file, "sha1") == archive.sha1:
        return file
    advice = archive.advice.format(folder=base)
    if file.exists():
        advice += f" (The {archive.name} that is there is another one: its sha1 differs.)"

    wanted = Remote(archive.url, archive.sha1, archive.largest, "sha1", advice)
    fresh = workshop / archive.name
    with fresh.open("xb") as stream:
        transfer(wanted, stream, patience)
    return fresh.replace(file)


def _unpack(archive: Archive, file: Path, done: Path, workshop: Path) -> None:
    """Put the unpacked folder in its place, complete; keep one that d2l has unpacked."""
    inside = members(file, archive.folder, archive.largest)
    sizes = {name: info.file_size for name, info in inside.items()}
    if done.is_dir() and all(_crc32(done / name) == info.CRC for name, info in inside.items()):
        _write_manifest(done, archive, sizes, workshop)
        return
    if done.exists():
        _refuse_to_lose(done, sizes, archive)
    fresh = workshop / archive.folder
    fresh.mkdir()
    unzip(file, archive.folder, fresh, archive.largest)
    _write_manifest(fresh, archive, sizes, workshop)
    if done.exists():
        done.replace(workshop / "incomplete")
    fresh.replace(done)


def _refuse_to_lose(done: Path, sizes: dict[str, int], archive: Archive) -> None:
    """An incomplete copy of the archive may be replaced, but not anything of the person's own."""
    if not done.is_dir() or done.is_symlink():
        raise DataError(f"{done} is not a folder of its own. Move it away, and try again.")
    known = {*sizes, _MANIFEST}
    own = sorted(
        name
        for path in done.rglob("*")
        if not path.is_dir()
        and ((name := path.relative_to(done).as_posix()) not in known or _grown(path, sizes, name))
    )
    if own:
        raise DataError(
            f"{done} is not a complete copy of {archive.name}, and it holds "
            f"{counted(len(own), 'file')} not from there, like {own[0]}. Move the folder away, "
            "and try again; or use your own pictures by naming the folder: "
            f"hotdog(root={str(done)!r})."
        )


def _grown(path: Path, sizes: dict[str, int], name: str) -> bool:
    """Whether a file is larger than the one in the archive: then it is no unfinished copy."""
    return name in sizes and path.stat().st_size > sizes[name]


def _is_complete(done: Path, archive: Archive) -> bool:
    """Whether the folder was unpacked to the end and every file still has its size."""
    try:
        manifest = json.loads(read_file(done / _MANIFEST))
        if manifest["sha1"] != archive.sha1:
            return False
        return all((done / name).stat().st_size == size for name, size in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _write_manifest(folder: Path, archive: Archive, sizes: dict[str, int], workshop: Path) -> None:
    """Say that the folder is complete: the last thing written, and in one step."""
    unfinished = workshop / _MANIFEST
    unfinished.write_text(json.dumps({"sha1": archive.sha1, "files": sizes}, indent=0))
    unfinished.replace(folder / _MANIFEST)


def _crc32(file: Path) -> int | None:
    """The checksum that zip files keep of each member; None if there is no such file."""
    try:
        return zlib.crc32(file.read_bytes())
    except OSError:
        return None
