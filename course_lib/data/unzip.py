"""Unpack a zip file without ever leaving the folder it is meant for.

A zip file is a list of names with bytes, and the names are whatever its author wrote:
``../../.bashrc``, ``C:/Windows/...``, a link to ``/etc`` followed by a file "in" it. So the whole
list is checked first, and nothing is written unless all of it is harmless.
"""

import contextlib
import errno
import shutil
import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from course_lib.data.progress import bar
from course_lib.errors import CourseError, DataError
from course_lib.paths import DEEPEST, means_another

_MOST_MEMBERS = 100_000


def members(file: Path, folder: str, largest: int) -> dict[str, zipfile.ZipInfo]:
    """The files in one folder of a zip file, by their path below it, if all members are harmless.

    Args:
        file: the zip file.
        folder: the folder inside it; what lies beside it must be harmless, too.
        largest: more unpacked bytes than this are refused.

    Raises:
        DataError: it is no zip file, there is nothing in the folder, or a member is not harmless.
    """
    with _opened(file) as archive:
        return _checked(archive, file.name, folder, largest)


def unzip(file: Path, folder: str, into: Path, largest: int) -> None:
    """Unpack what lies in one folder of a zip file.

    Args:
        file: the zip file.
        folder: the folder inside it; what lies beside it is left packed.
        into: an empty folder that gets the contents of ``folder``.
        largest: more unpacked bytes than this are refused.

    Raises:
        DataError: as for :func:`members`, and then nothing was written; or a member is damaged.
        OSError: it can't be written.
    """
    with _opened(file) as archive:
        inside = _checked(archive, file.name, folder, largest)
        for info in inside.values():
            _check_twice_told(archive, info)
        size = sum(info.file_size for info in inside.values())
        free = shutil.disk_usage(into).free
        if free < size:
            raise DataError(
                f"{file.name} needs {size / 1e6:.0f} MB unpacked, and only {free / 1e6:.0f} MB are "
                f"free at {into.parent}. Make room and try again."
            )
        text = f"Unpacking {file.name}"
        for name, info in bar(len(inside), text, unit="file", iterable=inside.items()):
            target = into / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, target.open("xb") as copy:
                shutil.copyfileobj(source, copy)


def _check_twice_told(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """A member's checksum and sizes stand in the list and before its bytes; zipfile reads the list.

    Raises:
        ValueError: they differ.
    """
    assert archive.fp is not None
    archive.fp.seek(info.header_offset + 14)
    told = struct.unpack("<3L", archive.fp.read(12))
    later = info.flag_bits & 8 or 0xFFFFFFFF in told  # they come behind the bytes, or are too large
    if not later and told != (info.CRC, info.compress_size, info.file_size):
        raise ValueError(f"its list doesn't agree with what is before {info.filename!r}")


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except CourseError:
        raise
    except Exception as error:  # zipfile raises nearly anything on damaged bytes
        # A bad offset has EINVAL; what bz2 and lzma raise has no number at all.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise DataError(f"{file.name} is no zip file, or damaged: {error}.") from error


def _checked(
    archive: zipfile.ZipFile, name: str, folder: str, largest: int
) -> dict[str, zipfile.ZipInfo]:
    """The files in one folder of an archive, if all members are harmless."""
    inside = {
        path.relative_to(folder).as_posix(): info
        for path, info in _harmless(archive.infolist(), name, largest).items()
        if path.parts[0] == folder and len(path.parts) > 1
    }
    if not inside:
        raise DataError(f"{name} has no folder {folder}/ with files inside.")
    return inside


def _harmless(
    infos: list[zipfile.ZipInfo], name: str, largest: int
) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """All files of an archive by their path; an error if a single member is not harmless."""
    size = sum(info.file_size for info in infos)
    if len(infos) > _MOST_MEMBERS or size > largest:
        raise DataError(
            f"{name} is refused: it claims {len(infos):,} members with {size:,} bytes; allowed are "
            f"{_MOST_MEMBERS:,} and {largest:,}."
        )
    files: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in infos:
        path = PurePosixPath(info.filename)
        problem = _problem(info) or ("is there twice" if path in files else "")
        if problem:
            raise DataError(_refusal(name, info.orig_filename, problem))
        if not info.is_dir():
            files[path] = info
    for path in files:
        for above in path.parents:
            if above in files:
                raise DataError(_refusal(name, str(above), "is both a file and a folder"))
    return files


def _refusal(file: str, member: str, problem: str) -> str:
    return f"{file} is refused, and nothing was unpacked: its member {member!r} {problem}."


def _problem(info: zipfile.ZipInfo) -> str:
    """Why a member is not harmless, to follow its name in a sentence; empty if it is."""
    name = info.orig_filename  # as written; `filename` has been tidied up
    kind = stat.S_IFMT(info.external_attr >> 16)
    if name.startswith("/"):
        return "has an absolute path"
    if ".." in name.replace("\\", "/").split("/"):
        return "leads out of the folder"
    if not name.strip("/.") or any(map(means_another, PurePosixPath(name).parts)):
        return "has a name that means something else on another system"
    if name.count("/") > DEEPEST:
        return f"lies more than {DEEPEST} folders deep"
    if kind == stat.S_IFLNK:
        return "is a link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is neither a file nor a folder"
    if info.flag_bits & 1:
        return "is encrypted"
    return ""
