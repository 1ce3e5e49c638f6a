"""A data set over folders of pictures: one folder a class, with or without a split.

Two layouts are understood::

    root/train/hotdog/*.jpg          root/hotdog/*.jpg
    root/train/not-hotdog/*.jpg      root/not-hotdog/*.jpg
    root/test/hotdog/*.jpg
    root/test/not-hotdog/*.jpg

With ``train/`` there must be ``test/`` or ``val/``, or both. A split that is missing is drawn from
what is there, the same every time, so that no picture is in two splits.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import Dataset

from course_lib import profile
from course_lib.data.download import download_hotdog
from course_lib.data.images import READ, ImageError, open_image
from course_lib.data.inspection import Inspection, Notes, inspect
from course_lib.data.layout import LAYOUT, Layout, files_below, nearly_equal, read_layout
from course_lib.data.manifest import bundled_folder
from course_lib.data.splits import stratified_split
from course_lib.errors import CourseWarning, DataError, UnknownNameError, suggest
from course_lib.text import counted, few, printable

SPLITS = ("train", "val", "test")
SHARE = 0.2
"""The part of the pictures that goes to a split which has to be drawn."""

_TOLD: set[tuple[Path, str]] = set()

Transform = Callable[[Image.Image], Any]


class DataWarning(CourseWarning):
    """Something you should know about a folder of pictures; the data set is usable."""


class ImageFolderDataset(Dataset[tuple[Any, int]]):
    """Pictures and their classes, read when asked for. Make one with :func:`image_folder`.

    Attributes:
        classes: names of the classes; the target ``i`` means ``classes[i]``.
        paths: the file of each picture.
        targets: the class of each picture, as a number.
        split: ``"train"``, ``"val"`` or ``"test"``.
        skipped: files that should be pictures and can't be read, with the reason. They are left
            out.
        ignored: files in the class folders that are no pictures.
        hashes: the SHA-256 of each picture's file.
        sketches: what each picture looks like; see :mod:`course_lib.data.likeness`.
        note: where the split comes from, in a sentence.
        transform: what is done to each picture, or None.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        classes: Sequence[str],
        paths: Sequence[Path],
        targets: Sequence[int],
        found: Inspection,
        note: str,
        transform: Transform | None,
    ) -> None:
        self.root = root
        self.split = split
        self.classes = tuple(classes)
        self.paths = list(paths)
        self.targets = list(targets)
        self.skipped = dict(found.skipped)
        self.ignored = list(found.ignored)
        self.hashes = {path: found.whole[path] for path in self.paths}
        self.sketches = {path: found.sketches[path] for path in self.paths}
        self.note = note
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """The picture (RGB, or what ``transform`` makes of it) and the number of its class.

        Raises:
            ImageError: the file was changed or removed after the data set was made.
        """
        image = open_image(self.paths[index])
        return (self.transform(image) if self.transform else image), self.targets[index]

    def __repr__(self) -> str:
        counts = Counter(self.targets)
        classes = ", ".join(f"{counts[i]} {name}" for i, name in enumerate(self.classes))
        extra = f", {len(self.skipped)} unreadable left out" if self.skipped else ""
        if self.ignored:
            extra += f", {counted(len(self.ignored), 'other file')} ignored"
        return (
            f"<{printable(self.root.name)}, {self.split}: {counted(len(self), 'picture')} "
            f"({printable(classes)}){extra}>"
        )


def hotdog(
    root: Path | str | None = None,
    split: str = "train",
    transform: Transform | None = None,
    *,
    seed: int = 0,
) -> ImageFolderDataset:
    """The hot-dog pictures: those of the active profile, or your own.

    Args:
        root: a folder of your own, laid out as described in :mod:`course_lib.data.folders`. By
            default the drawn pictures that come with the course (profile ``tiny``) or the photos of
            the d2l book, downloaded on first use (``full``).
        split: ``"train"``, ``"val"`` or ``"test"``.
        transform: applied to each RGB picture.
        seed: of the splits that have to be drawn.

    Returns:
        A data set with the classes ``("hotdog", "not-hotdog")``, or those of your folder.

    Raises:
        UnknownNameError, DataError: see :func:`image_folder`.
        OfflineError: the photos are not there and can't be downloaded.
    """
    _check_split(split)
    if root is None and profile.current().data == "d2l":
        root = download_hotdog()
    elif root is None:
        root = bundled_folder()
        if not root.is_dir():
            raise DataError(
                f"The pictures that come with the course are missing: {root} doesn't exist. "
                "Draw them again with: course data render"
            )
    return image_folder(root, split, transform, seed=seed)


def image_folder(
    root: Path | str, split: str = "train", transform: Transform | None = None, *, seed: int = 0
) -> ImageFolderDataset:
    """One split of the pictures in a folder, with any number of classes.

    If there is no ``val/``, a fifth of each class in ``train/`` is set aside for it. If there is
    ``val/`` but no ``test/``, ``val/`` is the test split, since it was never trained on. If nothing
    is divided, a fifth is drawn for testing and a fifth of the rest for validation. Equal files
    always go to the same side.

    Unreadable files are left out and named in one :class:`DataWarning`. Hidden files are ignored,
    other files that are no pictures as well; the latter are listed in ``.ignored``.

    Args:
        root: the folder; see :mod:`course_lib.data.folders`.
        split: ``"train"``, ``"val"`` or ``"test"``.
        transform: applied to each RGB picture.
        seed: of the splits that have to be drawn; independent of every other seed.

    Raises:
        UnknownNameError: another name for the split.
        DataError: a missing folder or split, an empty class, fewer than two classes, or too few
            pictures to divide. It says what was found and what was expected.
    """
    _check_split(split)
    layout = read_layout(root)
    source, draws, note = _plan(layout, split)
    pictures = _gather(layout, source)
    kept = list(range(len(pictures.paths)))
    for draw in draws:
        kept = _draw(layout, pictures, kept, draw, seed)
    if "test" not in layout.folders:
        _tell(layout.root, note)  # the roles are not what the folders' names say
    if twins := nearly_equal(layout.classes):
        _tell(
            layout.root,
            f"The classes {' and '.join(map(repr, twins))} differ in capitals or separators only. "
            "If they are one class, put their pictures into one folder.",
        )
    _tell_empty_classes(layout, source)
    paths, targets = [pictures.paths[i] for i in kept], [pictures.targets[i] for i in kept]
    return ImageFolderDataset(
        layout.root, split, layout.classes, paths, targets, pictures.found, note, transform
    )


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise UnknownNameError(
            f"There is no split {split!r}; expected 'train', 'val' or 'test'."
            f"{suggest(str(split), SPLITS)}"
        )


def _plan(layout: Layout, split: str) -> tuple[str, list[str], str]:
    """Which folder a split comes from, and what is drawn from it.

    Returns:
        The key in ``layout.folders``; for each draw in turn which side to take, ``"rest"`` or
        ``"drawn"``; and the note.
    """
    there = {role: f"{folders[0].parent.name}/" for role, folders in layout.folders.items()}
    idle = [f"{at.name}/" for at in layout.unused]
    if layout.unlabelled:
        idle.append(f"{layout.unlabelled.name}/ (no class folders: its pictures have no labels)")
    end = f" Not used: {', '.join(idle)}." if idle else ""
    if "all" in there:
        whole = there["all"] if layout.unlabelled else layout.root.name
        note = (
            f"{whole} is not divided into train/ and test/, so a seed divides it, the "
            "same every time: a fifth of each class is test, a fifth of the rest val, and train "
            "is what remains."
        )
        draws = {"train": ["rest", "rest"], "val": ["rest", "drawn"], "test": ["drawn"]}
        return "all", draws[split], note + end
    if {"val", "test"} <= there.keys():
        return split, [], ", ".join(f"{role} is {there[role]}" for role in SPLITS) + "." + end
    part = f"a fifth of {there['train']}, drawn by a seed"
    if "test" in there:
        source = "test"
        note = (
            f"train and val come from {there['train']} (val is {part}), test from {there['test']}."
        )
    else:
        source = "val"
        lacking = "no labels in test/" if layout.unlabelled else "no test/"
        note = (
            f"{layout.root.name} has {there['train']} and {there['val']} but {lacking}: "
            f"{there['val']} is the test split, and the val split is {part}."
        )
    if split == "test":
        return source, [], note + end
    return "train", ["drawn" if split == "val" else "rest"], note + end


@dataclass
class _Pictures:
    paths: list[Path]
    targets: list[int]
    found: Inspection


def _gather(layout: Layout, source: str) -> _Pictures:
    """All whole pictures of one folder of splits, class by class; empty classes are refused."""
    folders = layout.folders[source]
    listed = [files_below(folder) for folder in folders]
    found = inspect([path for files, _ in listed for path in files], layout.root)
    for _, closed in listed:
        found.skipped |= closed
    paths: list[Path] = []
    targets: list[int] = []
    for target, (files, _) in enumerate(listed):
        whole = [path for path in files if path in found.whole]
        paths += whole
        targets += [target] * len(whole)
    empty = [at for target, at in enumerate(folders) if target not in set(targets)]
    if empty:
        raise DataError(_describe_empty(layout, source, empty, targets, found))
    if found.skipped:
        _tell(layout.root, _describe_skipped(found.skipped))
    return _Pictures(paths, targets, found)


def _tell_empty_classes(layout: Layout, opened: str) -> None:
    """Warn now of classes without a picture in the splits that will be opened later."""
    notes = Notes(layout.root)
    for role, folders in layout.folders.items():
        empty = [at for at in folders if role != opened and not notes.any_whole(files_below(at)[0])]
        if empty:
            names = " and ".join(f"{at.relative_to(layout.root)}/" for at in empty)
            _tell(
                layout.root,
                f"No picture can be read in {names} of {layout.root}, so {folders[0].parent.name}/ "
                "can't be used. Put pictures of the class there, or remove the class everywhere.",
            )


def _draw(layout: Layout, pictures: _Pictures, kept: list[int], side: str, seed: int) -> list[int]:
    """One side of a division of the pictures ``kept``."""
    names = [layout.classes[pictures.targets[i]] for i in kept]
    digests = [pictures.found.whole[pictures.paths[i]] for i in kept]
    try:
        rest, drawn = stratified_split(names, digests, SHARE, seed)
    except DataError as error:
        raise DataError(
            f"{layout.root} can't be divided. {error} Add pictures, or make folders train/, val/ "
            "and test/ yourself."
        ) from None
    return [kept[i] for i in (drawn if side == "drawn" else rest)]


def _tell(root: Path, message: str) -> None:
    """Warn of something once, however many splits are made of the same folder.

    Python's own filter would do that, if it did not forget whenever a library changes a filter.
    """
    if (root, message) not in _TOLD:
        warnings.warn(message, DataWarning, stacklevel=2)
        _TOLD.add((root, message))


def _describe_empty(
    layout: Layout, source: str, empty: list[Path], targets: list[int], found: Inspection
) -> str:
    """What to say about classes without a picture: what was found, class by class."""
    counts = Counter(targets)
    lines = [
        f"{at.relative_to(layout.root)}/: {counted(counts[target], 'picture')}"
        for target, at in enumerate(layout.folders[source])
    ]
    lines += [f"{path.relative_to(layout.root)}: {why}" for path, why in found.skipped.items()]
    if found.ignored:
        lines.append(
            counted(len(found.ignored), "file that is no picture", "files that are no pictures")
        )
    names = " and ".join(str(at.relative_to(layout.root)) + "/" for at in empty)
    return (
        f"No picture can be read in {names} of {layout.root}. Found:\n  "
        + "\n  ".join(lines)
        + f"\n{LAYOUT} Pictures are files of {READ}."
    )


def _describe_skipped(skipped: dict[Path, str]) -> str:
    lines = few((f"{path}: {reason}" for path, reason in skipped.items()), 20, "\n  ")
    verb = "is" if len(skipped) == 1 else "are"
    return f"{counted(len(skipped), 'file')} can't be read and {verb} left out:\n  {lines}"


__all__ = ["DataWarning", "ImageError", "ImageFolderDataset", "hotdog", "image_folder"]
