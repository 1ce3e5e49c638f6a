"""Where the course's files are, how they are written whole and hashed; whose machine it is."""

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from course_lib.errors import CourseError, interrupts_delayed

if TYPE_CHECKING:
    from filelock import BaseFileLock

DRIVE = Path("/content/drive/MyDrive")  # where Colab mounts a Google Drive
KAGGLE_OUTPUT = Path("/kaggle/working")  # what Kaggle keeps of a saved version
BEFORE = "before"  # in the folder aside: what was in the place of a folder that is made anew
WORK_FOLDER = "course-work"
DEEPEST = 100  # folders in each other that an archive may have
DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{name}{number}" for name in ("COM", "LPT") for number in "0123456789¹²³"
}


def repo_root() -> Path:
    """The checkout: the folder that holds ``pyproject.toml`` and ``notebooks/``.

    Looked for above this file first, then above the current folder.

    Raises:
        CourseError: there is no checkout in either place.
    """
    here = Path(__file__).resolve()
    for folder in [*here.parents, *Path.cwd().resolve().parents, Path.cwd().resolve()]:
        if (folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir():
            return folder
    raise CourseError(
        "The course's folder was not found: expected a folder with pyproject.toml and notebooks/ "
        f"above {here.parent} or above the current folder. Clone the course and install it from "
        "there with: make install (without make: see README.md)"
    )


def data_dir() -> Path:
    """The folder for pictures and results: ``data/`` in the checkout, or ``$COURSE_DATA``."""
    chosen = os.environ.get("COURSE_DATA")
    return user_path(chosen) if chosen else repo_root() / "data"


def cache_dir() -> Path:
    """A folder for what can be computed again: ``~/.cache/course_lib``, or ``$COURSE_CACHE``."""
    chosen = os.environ.get("COURSE_CACHE")
    if chosen:
        return user_path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return user_path(base) / "course_lib"


def host() -> str | None:
    """``"colab"``, ``"kaggle"``, or None on any other machine."""
    if "google.colab" in sys.modules or "COLAB_RELEASE_TAG" in os.environ:
        return "colab"
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return "kaggle"
    return None


def lasting_dir() -> Path | None:
    """The folder on a host that outlives its runtime; None if there is none, or no host.

    On Colab that is ``course-work`` in your Drive, when it is mounted; on Kaggle, the notebook's
    output. The folder need not exist yet.
    """
    where = host()
    if where == "colab" and DRIVE.is_dir():
        return DRIVE / WORK_FOLDER
    if where == "kaggle" and KAGGLE_OUTPUT.is_dir():
        return KAGGLE_OUTPUT / WORK_FOLDER
    return None


def user_path(path: Path | str) -> Path:
    """A path with your home folder for ``~``; that of somebody who isn't here stays as it is."""
    try:
        return Path(os.path.expanduser(path))  # noqa: PTH111  (pathlib's raises a RuntimeError)
    except ValueError:  # nobody can have this name
        return Path(path)


def is_folder(path: Path | str) -> bool:
    """Whether there is a folder; of a name that no file can have, too."""
    return os.path.isdir(path)  # noqa: PTH112  (pathlib's raises an OSError)


@contextlib.contextmanager
def atomic_write(path: Path | str) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of ``path`` only when all is on the disk.

    The bytes go to a temporary file in the same folder; they are forced to the disk; then one
    renaming, which the file system does wholly or not at all, puts it into place. On any error,
    Ctrl-C and a full disk included, the old file stays and the temporary one is removed. Killed at
    any moment, the process leaves the old file or the new one, and perhaps a temporary one, which
    the next write into that folder removes. Several threads may write the same path: one file wins.

    Folders that are missing are made. The file has the mode that it had, or that a new one gets; a
    link at ``path`` stays a link, and what it leads to is replaced.
    """
    try:
        fits = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half a character
        fits = False
    if not fits:
        raise OSError(errno.EINVAL, "no file can have this name", str(path))
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target.parent)
    temporary = temporary_beside(target)
    try:
        # "x": made by this very call, so that nobody's file and no link of that name is written to.
        with temporary.open("xb") as file:
            if target.exists():
                temporary.chmod(stat.S_IMODE(target.stat().st_mode) & 0o777)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    finally:
        try:
            temporary.unlink(missing_ok=True)
        finally:  # Ctrl-C may have come during the first one
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_in_place(target: Path) -> Iterator[Path]:
    """An empty folder to fill that takes the place of ``target`` only when all is in it.

    On any error, the old folder stays. Killed at any moment, the process leaves the old one or the
    new one, or, between two renamings, the old one aside: the next write into the folder around it
    puts it back. What is put beside the folder to fill is removed.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target.parent)
    scratch = temporary_beside(target)
    before = scratch / BEFORE / target.name
    try:
        for each in (scratch, before.parent, scratch / "made"):
            each.mkdir()
        yield scratch / "made"
        with interrupts_delayed():
            if target.exists():
                target.replace(before)
            (scratch / "made").replace(target)
    finally:
        try:
            _tidy(scratch)
        finally:
            _tidy(scratch)


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """An empty folder in another one, for as long as the block runs.

    If the process dies, the next call of this removes it, which nobody does in the system's own
    folder for temporary files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder)
    scratch = temporary_beside(folder / "x")
    try:
        scratch.mkdir(mode=0o700)
        yield scratch
    finally:
        try:
            _tidy(scratch)
        finally:  # Ctrl-C may have come before the first one
            _tidy(scratch)


def temporary_beside(target: Path) -> Path:
    """A name that nobody can guess, in a file's folder; if this process dies, it is removed."""
    return target.with_name(f".course-{_machine()}-{os.getpid()}-{secrets.token_hex(8)}.tmp")


def write_file(path: Path | str, content: bytes | str) -> None:
    """Write a file as :func:`atomic_write` does; a text in UTF-8, its line ends as they are."""
    with atomic_write(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def means_another(part: str) -> bool:
    """Whether a part of a path isn't a plain name on every system.

    Windows takes it for a device, a stream or another name, or a terminal obeys what is in it.
    """
    stem = part.partition(".")[0].rstrip(" ").upper()
    ends = part[-1:] in (".", " ") or stem in DEVICES
    return ends or bool(set(part) & set('\\:*?"<>|')) or not part.isprintable()


@contextlib.contextmanager
def alone(path: Path | str, seconds: float) -> Iterator[bool | None]:
    """Let one process at a time read, change and write a file.

    A lock lies beside it meanwhile; the system frees even that of a killed process.

    Args:
        path: the file; its folder is made if need be.
        seconds: how long to wait for another process.

    Yields:
        Whether this process is alone: False after the time, None where there can be no locks (a
        folder that can't be written to, a file system without them).
    """
    from filelock import FileLock

    target = Path(os.path.realpath(path))
    lock = target.with_name(f".{target.name}.lock")
    held = FileLock(lock, is_singleton=True)  # one left by Ctrl-C doesn't keep its own process out
    free: bool | None
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            free = _acquired(held, seconds)
        except (OSError, NotImplementedError):
            free = None
        yield free
    finally:
        try:
            _released(held)
        finally:
            _released(held)


def _acquired(held: "BaseFileLock", seconds: float) -> bool:
    """Wait for a lock; Ctrl-C ends the waiting, but doesn't come between a lock and its owner."""
    from filelock import Timeout

    end = time.monotonic() + seconds
    while True:
        with interrupts_delayed(), contextlib.suppress(Timeout):
            held.acquire(timeout=0)
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(0.05)


def _released(held: "BaseFileLock") -> None:
    if held.is_locked and os.name != "nt":  # who waits sees that it is gone, and makes a new one
        Path(held.lock_file).unlink(missing_ok=True)
    held.release(force=True)


def read_file(path: Path | str, largest: int = 1 << 24) -> bytes:
    """The bytes of a file of which nothing is known: of a regular one, and not of any size.

    Raises:
        OSError: it isn't there, may not be read, or is a pipe (which would keep its reader waiting)
            or a device (which may have no end).
        ValueError: more than ``largest`` bytes, or no file can have this name.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    with open(path, "rb", opener=opener) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if status.st_size > largest:
            raise ValueError(f"it has more than {largest:,} bytes")
        content = file.read(status.st_size + 1)  # so much memory is asked for
        if len(content) > status.st_size:  # it grows, or has a size that the system doesn't tell
            content += file.read(largest + 1 - len(content))
        if len(content) > largest:
            raise ValueError(f"it has more than {largest:,} bytes")
        return content


def file_hash(path: Path | BufferedReader, algorithm: str = "sha256") -> str:
    """A file's hash in hexadecimal digits; the file may be open, and larger than the memory."""
    if not isinstance(path, Path):
        path.seek(0)
        return hashlib.file_digest(path, algorithm).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def remove_abandoned(folder: Path) -> None:
    """Remove temporary files of this machine's processes that no longer live.

    In a shared folder there may be those of another machine, whose processes can't be asked for,
    and those of another person, which only that person may remove.
    """
    for each in folder.glob(f".course-{_machine()}-*-*.tmp"):
        found = re.fullmatch(r"\.course-[0-9a-f]{8}-(\d+)-[0-9a-f]{16}\.tmp", each.name)
        if found and not _lives(int(found[1])):
            with contextlib.suppress(OSError):
                if each.is_dir():
                    _tidy(each)
                else:
                    each.unlink()


@interrupts_delayed()  # rmtree would make an error of the system of it
def _tidy(scratch: Path) -> None:
    """Put the folder that is aside back if there is none in its place, and remove the rest."""
    for before in scratch.glob(f"{BEFORE}/*"):
        target = scratch.parent / before.name
        if not target.exists():
            before.replace(target)
    shutil.rmtree(scratch, ignore_errors=True)


def _machine() -> str:
    """Eight digits that tell this machine, or this container, from others on the same disk."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _lives(process: int) -> bool:
    if os.name == "nt":
        return True  # asking would end it there; an old temporary file does no harm
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make the renaming itself last through a power cut, where the system allows it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
