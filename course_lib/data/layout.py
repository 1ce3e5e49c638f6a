"""Read how a person has laid out folders of pictures: which folder is which split, which class."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from course_lib.errors import DataError
from course_lib.paths import is_folder, user_path
from course_lib.text import counted

LAYOUT = (
    "Expected train/ and test/ (or val/) with one folder of pictures for each class, or just one "
    "folder of pictures for each class."
)

_ROLES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
          "dev": "val", "test": "test", "testing": "test"}  # fmt: skip
#: What systems, network drives and programs leave in other people's folders; names that
#: begin with a dot are left out anyway.
_JUNK = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
    *("lost+found", "lost.dir", "lost&found"),  # Linux, Android
    *(
        "$recycle.bin",
        "recycler",
        "recycled",
        "system volume information",
        "$winreagent",
    ),  # Windows
    *("$sysreset", "$getcurrent", "config.msi", "msocache"),
    *("__macosx", "network trash folder", "temporary items", "thevolumesettingsfolder"),  # Apple
    *("@eadir", "@tmp", "@sharebin", "#recycle", "#snapshot", "@recycle"),  # network drives
    *("@recently-snapshot", "~snapshot", "network recycle bin"),
    *("__pycache__", "_gsdata_"),
}
_NUMBERED_JUNK = re.compile(r"found\.\d{3}|pax_?headers?(\.\d+)?", re.IGNORECASE)
_HOTDOG = {"hotdog", "hotdogs"}
_NOT_HOTDOG = {f"{no}{name}" for no in ("not", "no", "non", "nota") for name in _HOTDOG}


@dataclass(frozen=True)
class Layout:
    """Where the pictures of each class are.

    Attributes:
        root: the folder that was given.
        classes: names of the classes, in the order of their numbers.
        folders: for each split (``"train"``, ``"val"``, ``"test"``, or only ``"all"`` if the
            pictures are not divided), the folder of each class, in the order of ``classes``.
        unused: folders beside the splits, which play no role.
        unlabelled: a folder test/ whose pictures lie in no class folders, as competitions have it.
    """

    root: Path
    classes: tuple[str, ...]
    folders: dict[str, tuple[Path, ...]]
    unused: tuple[Path, ...] = ()
    unlabelled: Path | None = None


def class_name(folder: str) -> str:
    """The name of the class that a folder stands for.

    Every spelling of the course's own two classes becomes ``"hotdog"`` or ``"not-hotdog"``; any
    other name stays as it is.

    >>> class_name("Not_Hot_Dog"), class_name("hot dogs"), class_name("Siamese_Cats")
    ('not-hotdog', 'hotdog', 'Siamese_Cats')
    """
    letters = re.sub(r"[\W_]+", "", folder.casefold())
    if letters in _HOTDOG:
        return "hotdog"
    if letters in _NOT_HOTDOG:
        return "not-hotdog"
    return folder


def same_class(one: str, other: str) -> bool:
    """Whether two names stand for one class: capitals, separators and accents' encoding aside."""
    return _key(class_name(one)) == _key(class_name(other))


def nearly_equal(names: Iterable[str]) -> list[str]:
    """The names among these that another one differs from in capitals or separators only."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[_key(name)].append(name)
    return [name for group in groups.values() if len(group) > 1 for name in group]


def read_layout(root: Path | str) -> Layout:
    """Find the splits and classes below a folder.

    Classes are numbered as torchvision's ``ImageFolder`` does, in the order of their names' code
    points, capitals first. The course's own two are sorted by what :func:`class_name` calls them,
    so hotdog is 0 and not-hotdog is 1 however they are spelt.

    A test/ that has pictures and no class folders, as competitions have it, is left alone. Without
    val/ the classes in train/ are then all there is, as if train/ had been given.

    Raises:
        DataError: no such folder, no classes, only one, a missing split, classes that differ
            between splits, or names that can mean two things. It says what was found.
    """
    root = user_path(root).absolute()  # valid also after a change of folder
    if not is_folder(root):
        file = os.path.isfile(root)  # noqa: PTH113
        what = "is a file, not a folder" if file else "doesn't exist"
        raise DataError(f"{root} {what}. {LAYOUT}")
    inside = visible_folders(root)
    splits, unused = _find_splits(root, inside)
    if not splits:
        classes = _classes_in(root, inside)
        return Layout(root, tuple(classes.values()), {"all": tuple(classes)})

    unlabelled = splits.pop("test") if _is_unlabelled_test(splits) else None
    by_split = {role: _classes_in(at, visible_folders(at)) for role, at in splits.items()}
    if unlabelled and splits.keys() == {"train"}:
        train = by_split["train"]
        return Layout(root, tuple(train.values()), {"all": tuple(train)}, tuple(unused), unlabelled)
    if "train" not in splits or len(splits) < 2:
        missing = "no folder test/ or val/" if "train" in splits else "no folder train/"
        hint = ""
        if "train" in splits:
            hint = f" To have the pictures divided for you, give {splits['train']} itself."
        raise DataError(f"{root} has {_list(splits.values())} but {missing}. {LAYOUT}{hint}")
    folders = {role: _same_order(by_split["train"], found) for role, found in by_split.items()}
    return Layout(root, tuple(by_split["train"].values()), folders, tuple(unused), unlabelled)


def visible_folders(folder: Path) -> list[Path]:
    """The folders inside a folder, sorted, without hidden ones and what systems leave behind."""
    try:
        return sorted((at for at in _visible(folder) if is_folder(at)), key=_alphabetical)
    except OSError as error:
        raise DataError(f"{folder} can't be read: {error.strerror or error}.") from error


def files_below(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """All visible files in a folder and in the folders inside it, sorted.

    Links are followed, but no folder is entered twice, so that a link to a folder above ends.

    Returns:
        The files; and the folders that could not be entered, with the reason.
    """
    files: list[Path] = []
    closed: dict[Path, str] = {}
    entered: set[str] = set()
    leads = os.path.exists if os.name == "nt" else os.path.islink  # there, there are junctions, too
    # Not by recursion: folders may lie in each other by the thousand.
    left = [(folder, os.path.realpath(folder))]
    while left:
        at, real = left.pop()
        if not is_folder(at):
            files.append(at)
            continue
        if real in entered:
            continue
        entered.add(real)
        try:
            inside = sorted(_visible(at), key=_alphabetical, reverse=True)
        except OSError as error:
            closed[at] = error.strerror or str(error)
            continue
        # Asking the system for each would take a time that grows with the square of the depth.
        left += [
            (each, os.path.realpath(each) if leads(each) else os.path.join(real, each.name))  # noqa: PTH118
            for each in inside
        ]
    return files, closed


def _visible(folder: Path) -> list[Path]:
    return [
        at
        for at in folder.iterdir()
        if not at.name.startswith(".")
        and at.name.casefold() not in _JUNK
        and not _NUMBERED_JUNK.fullmatch(at.name)
    ]


def _find_splits(root: Path, inside: list[Path]) -> tuple[dict[str, Path], list[Path]]:
    """The folders that are splits, by role, and the others; no splits if there are only classes.

    "train" may also be a class, beside "plane" and "car". It is a split if it has folders inside,
    or if every folder here has the name of a split.
    """
    named = [at for at in inside if at.name.casefold() in _ROLES]
    if len(named) < len(inside) and not any(visible_folders(at) for at in named):
        return {}, inside
    splits: dict[str, Path] = {}
    for at in named:
        role = _ROLES[at.name.casefold()]
        if role in splits:
            raise DataError(
                f"{root} has both {splits[role].name}/ and {at.name}/: which one is the {role} "
                "part? Keep one, or rename the other."
            )
        splits[role] = at
    in_order = {role: splits[role] for role in dict.fromkeys(_ROLES.values()) if role in splits}
    return in_order, [at for at in inside if at not in named]


def _is_unlabelled_test(splits: dict[str, Path]) -> bool:
    """Whether the test split has pictures, but no folders that are classes of the training split.

    They may lie in one folder inside, say test/images/.
    """
    if not {"train", "test"} <= splits.keys():
        return False
    inside = visible_folders(splits["test"])
    classes = {_key(class_name(at.name)) for at in visible_folders(splits["train"])}
    if len(inside) > 1 or any(_key(class_name(at.name)) in classes for at in inside):
        return False
    return bool(files_below(splits["test"])[0])


def _classes_in(folder: Path, inside: list[Path]) -> dict[Path, str]:
    """The class folders in a folder and the names of their classes, in order."""
    if len(inside) < 2:
        raise DataError(f"{folder} has {_describe(folder, inside)}. {LAYOUT}{_nearby(inside)}")
    found: dict[str, Path] = {}
    for at in inside:
        name = class_name(at.name)
        splits = [each for each in visible_folders(at) if each.name.casefold() in _ROLES]
        if splits:
            raise DataError(
                f"{at} has {_list(splits)} inside, but the splits must be the outer folders and "
                f"the classes the inner ones. {LAYOUT}"
            )
        if name in found:
            raise DataError(
                f"{found[name]} and {at} both mean the class {name!r}. Put their pictures into one "
                "folder, or rename one."
            )
        found[name] = at
    return {found[name]: name for name in sorted(found)}


def _same_order(train: dict[Path, str], other: dict[Path, str]) -> tuple[Path, ...]:
    """The class folders of another split, in the order of the training split.

    Names may be spelt a little differently there, unless a split tells classes apart by just that.
    """
    plain = [{_key(name) for name in names.values()} for names in (train, other)]
    key = _key if [len(train), len(other)] == [len(keys) for keys in plain] else str
    wanted = {key(name): name for name in train.values()}
    found = {key(name): at for at, name in other.items()}
    if wanted.keys() != found.keys():
        split = next(iter(other)).parent
        lacking = [repr(wanted[each]) for each in wanted if each not in found]
        surplus = [repr(found[each].name) for each in found if each not in wanted]
        parts = [f"lacks {', '.join(lacking)}"] if lacking else []
        parts += [f"has {', '.join(surplus)}, which is not there"] if surplus else []
        raise DataError(
            f"The classes differ. Beside {next(iter(train)).parent} (classes "
            f"{', '.join(map(repr, wanted.values()))}), {split} {' and '.join(parts)}. "
            "Give every split a folder for every class."
        )
    return tuple(found[each] for each in wanted)


def _key(name: str) -> str:
    """Equal for names that differ in capitals, separators or the encoding of accents only."""
    return re.sub(r"[\s_-]+", "-", unicodedata.normalize("NFC", name).casefold()).strip("-") or name


def _alphabetical(path: Path) -> tuple[str, str]:
    return path.name.casefold(), path.name


def _describe(folder: Path, inside: list[Path]) -> str:
    """What a folder holds instead of classes."""
    loose = sum(1 for at in _visible(folder) if not is_folder(at))
    files = f"{counted(loose, 'file')} lying in it"
    if inside:
        return f"only one class folder, {inside[0].name}/, and {files}; one class can't be learnt"
    return f"no class folders, and {files}" if loose else "nothing in it"


def _nearby(inside: list[Path]) -> str:
    """A hint if the person pointed one folder too high."""
    return next((f" Did you mean {at}?" for at in inside if len(visible_folders(at)) >= 2), "")


def _list(folders: Iterable[Path]) -> str:
    return " and ".join(f"{at.name}/" for at in folders)
