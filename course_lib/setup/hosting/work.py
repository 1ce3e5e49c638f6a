"""Your work as one file: progress, predictions, answers, and what you saved.

What counts as yours: the progress of the exercises; the predictions of this kernel; chapters that
differ from their stored text (your answers stand in them), in your copy or where they came;
everything whose name starts with ``my_`` in ``notebooks/``, your copy, ``data/`` and the current
folder; and models saved in the copy and in the current folder.
Every file is listed with its SHA-256. Importing checks them all before it writes the first, never
overwrites a file of yours, and joins the progress with the one that is there.
"""

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

from course_lib import paths
from course_lib.errors import interrupts_delayed, interrupts_kept
from course_lib.paths import atomic_write, data_dir, file_hash, repo_root, user_path
from course_lib.setup import lab
from course_lib.setup.hosting.errors import HostingError
from course_lib.text import counted

NAME = "course-work.zip"
LIST = "course-work.json"
VERSION = 1
MODELS = (".safetensors", ".pt", ".pth", ".ckpt")
RECORDS = ("progress.json", "predictions.json")
MARK = "my_"
MOST_FILES = 100_000
LARGE = 1 << 30  # bytes unpacked; above it, no more than a hundred times the packed ones
LARGEST_RECORD = 1 << 24
PATIENCE = 60.0  # seconds to wait for another import
MODELS_HERE = "my_models"  # where an import puts models, in notebooks/ or your copy
IMPORTED = tuple(f"notebooks/{copy}{MODELS_HERE}/" for copy in ("", f"{lab.MINE}/"))


def export_work(path: Path | str = NAME) -> Path:
    """Write your work into one zip file; on Colab, your browser downloads it as well.

    Args:
        path: the file to write; an older one of that name is replaced.

    Returns:
        The file.

    Raises:
        HostingError: there is nothing of yours yet, or the file can't be written.
    """
    target = user_path(path).absolute()
    texts = dict(_records())
    files = _without_copies(
        {name: file for name, file in _files() if file.resolve() != target.resolve()}
    )
    if not texts and not files:
        raise HostingError("There is nothing to export yet: no exercise tried, nothing saved.")
    if odd := [file for name, file in files.items() if not _is_safe(name)]:
        raise HostingError(
            f"{odd[0]} can't go into an archive for every system: its name holds one of "
            "\\ : * ? \" < > | or what can't be shown, ends in a dot or a blank, or is a "
            "device's on Windows. Rename it first."
        )
    digests = {}
    try:
        with (
            interrupts_kept(),
            atomic_write(target) as out,
            zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive,
        ):
            for name, text in texts.items():
                archive.writestr(name, text)
                digests[name] = hashlib.sha256(text.encode()).hexdigest()
            for name, file in files.items():
                archive.write(file, name)
                digests[name] = file_hash(file)
            archive.writestr(LIST, json.dumps({"version": VERSION, "files": digests}, indent=1))
    except OSError as error:
        which = f" ({error.filename})" if error.filename else ""
        raise HostingError(
            f"{target} can't be written: {error.strerror or error}{which}."
        ) from error
    print(f"{counted(len(digests), 'file of your work is', 'files of your work are')} in {target}.")
    _download(target)
    return target


def import_work(path: Path | str = NAME) -> list[Path]:
    """Take in a file that :func:`export_work` wrote, here or on another machine.

    Chapters with your answers come as ``my_NN_name.ipynb`` beside the others, into the copy of the
    chapters that ``course lab`` opens if they were there, or if there is one here. Where a file of
    that name is there with other contents, the imported one gets a number.

    Returns:
        The files that were written; progress and predictions are joined with what is there.

    Raises:
        HostingError: the file is no export, or damaged. Then nothing was changed.
    """
    source = user_path(path)
    try:
        with (
            interrupts_kept(),
            source.open("rb") as file,
            zipfile.ZipFile(file) as archive,
            paths.alone(paths.cache_dir() / "import", PATIENCE),  # or two would bring a file twice
            _scratch() as folder,
        ):
            files = _checked(archive, folder, os.fstat(file.fileno()).st_size)
            entries, guesses = _read_records(files)
            written = _put_all(files, entries)
    except FileNotFoundError:
        raise HostingError(f"There is no file {source}.") from None
    except OSError as error:
        raise HostingError(
            f"{source} can't be taken in: {error.strerror or error}. Nothing was changed."
        ) from error
    except Exception as error:  # whatever a strange archive makes a library raise
        raise HostingError(f"{source} is no whole export of the course's: {error}.") from error
    if guesses:
        from course_lib.exercises import predictions

        predictions._noted.update(guesses)
    print(
        f"Taken in: {counted(len(entries), 'exercise or question', 'exercises and questions')}, "
        f"{counted(len(guesses), 'prediction')}, {counted(len(written), 'file')}."
    )
    return written


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A folder to unpack into: one that the next import removes, should this one be killed."""
    with contextlib.ExitStack() as stack:
        try:
            place = paths.scratch_folder(paths.cache_dir() / "importing")
            folder = stack.enter_context(place)
        except OSError:  # no cache can be written
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield folder


def _put_all(files: dict[str, Path], entries: dict[str, Any]) -> list[Path]:
    """Put all files into place and join the progress, or leave everything as it was."""
    from course_lib.exercises import progress_file

    with contextlib.ExitStack() as undo:
        staged: list[tuple[Path, Path]] = []
        for name, file in files.items():
            target = _destination(name)
            if name in RECORDS or _is_there(file, target):
                continue
            for each in reversed([target.parent, *target.parent.parents]):
                if not each.exists():
                    undo.callback(_remove_empty, each)
                    each.mkdir()
            paths.remove_abandoned(target.parent)  # of an import that was killed
            temporary = paths.temporary_beside(target)
            undo.callback(temporary.unlink, missing_ok=True)
            with file.open("rb") as source, temporary.open("xb") as copy:
                shutil.copyfileobj(source, copy)
                copy.flush()
                os.fsync(copy.fileno())
            staged.append((temporary, target))
        written = []
        with interrupts_delayed():
            for temporary, target in staged:
                place = _moved(temporary, target)
                undo.callback(place.unlink, missing_ok=True)
                written.append(place)
            progress_file.join(entries)
            undo.pop_all()
        return written


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _records() -> Iterator[tuple[str, str]]:
    """What is kept by the course itself, as text."""
    from course_lib.exercises import progress_file

    entries = progress_file.entries()
    if entries:
        content = {"version": progress_file.VERSION, "entries": entries}
        yield "progress.json", json.dumps(content, indent=1, sort_keys=True)
    module = sys.modules.get("course_lib.exercises.predictions")  # only of a kernel that used it
    if module is not None and (noted := module._noted):
        plain = module.collecting.plain
        kept = {
            name: value if isinstance(value, str | bool | int | list) else plain(value)
            for name, value in noted.items()
        }
        yield "predictions.json", json.dumps(kept, indent=1, default=plain)


def _files() -> Iterator[tuple[str, Path]]:
    """Name in the archive and file, of all that you made."""
    root, here, copy = repo_root(), Path.cwd(), lab.folder()
    for name, file in _answered():
        yield f"notebooks/{name}", file
    places = [(root / "notebooks", "notebooks"), (copy, f"notebooks/{lab.MINE}"),
              (data_dir(), "data"), (here, "models")]  # fmt: skip
    for base, place in places:
        if place == "models" and here.resolve() == copy.resolve():
            wanted = []  # the same as in the second place
        elif place == "models" and here.resolve() == (root / "notebooks").resolve():
            wanted = [each for each in here.glob("*") if each.suffix in MODELS and not _mine(each)]
        elif place in ("models", f"notebooks/{lab.MINE}"):
            wanted = [each for each in base.glob("*") if each.suffix in MODELS or _mine(each)]
        else:
            wanted = [each for each in base.glob(f"{MARK}*") if each != copy]
        for top in sorted(wanted):
            for file in sorted(top.rglob("*")) if top.is_dir() else [top]:
                if (
                    file.is_file()
                    and ".ipynb_checkpoints" not in file.parts
                    and not _is_litter(file.name)
                ):
                    yield f"{place}/{file.relative_to(base).as_posix()}", file


def _without_copies(files: dict[str, Path]) -> dict[str, Path]:
    """Without models that an import put into a my_models/ and that lie here as well."""
    models = {name.removeprefix("models/"): file for name, file in files.items()
              if name.startswith("models/")}  # fmt: skip

    def copied(name: str, file: Path) -> bool:
        first = next((each for each in IMPORTED if name.startswith(each)), None)
        here = models.get(name.removeprefix(first)) if first else None
        return here is not None and file_hash(here) == file_hash(file)

    return {name: file for name, file in files.items() if not copied(name, file)}


def _mine(path: Path) -> bool:
    return path.name.startswith(MARK)


def _answered() -> Iterator[tuple[str, Path]]:
    """Chapters that differ from their sources. On Colab and Kaggle none: they keep the notebook."""
    if paths.host() is not None:
        return
    from course_lib.publishing import notebooks

    for name in notebooks.sources():
        path = notebooks.notebook_path(name)
        if path.exists() and not notebooks.in_step(name):
            yield f"{MARK}{path.name}", path
        copy = lab.folder() / path.name
        if copy.exists() and not lab.is_untouched(copy) and not notebooks.in_step(name, copy):
            yield f"{lab.MINE}/{MARK}{path.name}", copy


def _checked(archive: zipfile.ZipFile, folder: Path, size: int) -> dict[str, Path]:
    """Unpack into ``folder`` what the list names; an error if anything is not as it says.

    The files get numbers there: names that differ are one and the same on some systems.
    """
    members = archive.infolist()
    claimed = sum(each.file_size for each in members)
    if len(members) > MOST_FILES or claimed > max(LARGE, 100 * size):
        raise ValueError(
            f"it claims {len(members):,} files with {claimed:,} bytes, and has {size:,} itself"
        )
    if max((archive.getinfo(n).file_size for n in (LIST, *RECORDS) if n in archive.namelist()),
           default=0) > LARGEST_RECORD:  # fmt: skip
        raise ValueError("its lists are too large")
    if LIST not in archive.namelist():
        raise ValueError(f"{LIST} isn't in it (was it unpacked, and packed again in another way?)")
    content = json.loads(archive.read(LIST))
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        raise ValueError(f"{LIST} doesn't list files")
    if content.get("version") != VERSION:
        raise ValueError(f"it is of version {content.get('version')!r}, expected {VERSION}")
    digests: dict[str, str] = content["files"]
    for name in digests:
        if not _is_safe(name):
            raise ValueError(f"it holds {name!r}, which doesn't belong there")
    if sum(archive.getinfo(name).file_size for name in digests) > shutil.disk_usage(folder).free:
        raise ValueError("there is no room for what it holds")
    found = {name: folder / str(place) for place, name in enumerate(digests)}
    for name, target in found.items():
        with archive.open(name) as packed, target.open("xb") as out:
            shutil.copyfileobj(packed, out)
        if file_hash(target) != digests[name]:
            raise ValueError(f"{name} is damaged")
    return {name: file for name, file in found.items() if not _is_litter(name)}


def _is_safe(name: str) -> bool:
    """Whether a name is one that an export gives: the same on every system, in its folder."""
    parts = PurePosixPath(name).parts
    if len(parts) > paths.DEEPEST or any(map(paths.means_another, parts)):
        return False
    if name != "/".join(parts) or {"..", ".", "/"} & set(parts):
        return False
    if len(parts) == 1:
        return name in RECORDS
    top, first = parts[0], parts[1]
    mine = first.startswith(MARK)
    return (top in ("notebooks", "data") and mine) or (
        top == "models" and (mine or (len(parts) == 2 and PurePosixPath(first).suffix in MODELS))
    )


def _is_litter(name: str) -> bool:
    """Whether a system's file manager put a file there, not you."""
    last = PurePosixPath(name).name
    return last.startswith(("._", ".course-")) or last in (".DS_Store", "Thumbs.db", "desktop.ini")


def _read_records(files: dict[str, Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    from course_lib.exercises import progress_file

    file, guesses = (files.get(name) for name in RECORDS)
    entries = progress_file.understood(file.read_bytes()) if file else {}
    noted = json.loads(guesses.read_bytes()) if guesses else {}
    if not isinstance(noted, dict) or not all(
        isinstance(each, str | bool | int | float | list) for each in noted.values()
    ):
        raise ValueError("predictions.json holds no predictions")
    return entries, noted


def _destination(name: str) -> Path:
    place, _, rest = name.partition("/")
    if place == "data":
        return data_dir() / rest
    copy = lab.folder()
    mine = copy if copy.is_dir() else copy.parent
    if place == "notebooks":
        return (copy.parent if rest.startswith(f"{lab.MINE}/") else mine) / rest
    return (Path.cwd() if paths.host() else mine / MODELS_HERE) / rest


def _candidates(target: Path) -> Iterator[Path]:
    """A name and those that come after it: a.txt, a-2.txt, a-3.txt, ..."""
    yield target
    for number in itertools.count(2):
        yield target.with_name(f"{target.stem}-{number}{target.suffix}")


def _is_there(file: Path, target: Path) -> bool:
    """Whether a file is in its place already, under its name or a later one."""
    known = itertools.takewhile(os.path.lexists, _candidates(target))
    return any(each.is_file() and file_hash(each) == file_hash(file) for each in known)


def _moved(file: Path, target: Path) -> Path:
    """Give a file the first name that is free, never that of one which is there by now."""
    for place in _candidates(target):
        with contextlib.suppress(FileExistsError):
            if os.path.lexists(place):
                continue
            try:
                place.hardlink_to(file)  # a renaming would replace what another process put there
            except FileExistsError:
                raise
            except OSError:  # a file system without such links
                return file.rename(place)
            file.unlink()
            return place
    raise AssertionError  # there is always one more


def _download(file: Path) -> None:
    if paths.host() != "colab":
        return
    try:
        import_module("google.colab.files").download(str(file))
    except Exception as error:  # a browser that refuses; the file is there all the same
        raise HostingError(
            f"The browser did not take {file.name} ({error}). It is in the panel on the left, "
            "under Files."
        ) from error
