"""The real way to the photographs, for a reader with a network: torchvision's Food101 and CIFAR10.

torchvision checks the archives' hashes. Which pictures of Food-101 the course's own results rest on
is not on record there, so this makes a set by the same rules; results carry the hash of what was
used (:func:`course_lib.evidence.photographs.described`).
"""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision.datasets
from PIL import Image

from course_lib.data.likeness import alike, sketch
from course_lib.errors import OfflineError
from course_lib.profile import seeded_generator

A_CLASS, TRAIN = 496, 296
SIDE = 288
HOTDOG = "hot_dog"


def fetch(folder: Path, report: Callable[[str], None] = print) -> None:
    """Make ``food_photographs`` and ``cifar10`` in a folder; what is there already stays.

    The archives (5 GB and 170 MB) are kept in ``archives`` there, and can be deleted afterwards.

    Raises:
        OfflineError: an archive could not be downloaded, or its hash is wrong.
    """
    for name, make in {"cifar10": _cifar, "food_photographs": _food}.items():
        if (folder / name).is_dir():
            report(f"{folder / name} is there already.")
            continue
        unfinished = folder / f".{name}-unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            make(folder / "archives", unfinished)
        except (URLError, OSError, RuntimeError) as error:
            raise OfflineError(
                f"{name} could not be made in {folder}: {error}. Connect, see that 12 GB are free, "
                "and run it again; what has arrived whole is kept."
            ) from error
        unfinished.rename(folder / name)
        report(f"{folder / name} is made.")


def _cifar(archives: Path, to: Path) -> None:
    for split in ("train", "test"):
        whole = torchvision.datasets.CIFAR10(archives, train=split == "train", download=True)
        for number, (image, target) in enumerate(whole):
            # Lossless: the copy that the course measured on was JPEG, and differs a little.
            path = to / split / whole.classes[target] / f"{number:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)


def _food(archives: Path, to: Path) -> None:
    """As many hot dogs as other food, none twice, the middle square, without EXIF."""
    parts = [
        torchvision.datasets.Food101(archives, split=split, download=True)
        for split in ("train", "test")
    ]
    named = [
        (path, part.classes[label])
        for part in parts
        for path, label in zip(part._image_files, part._labels, strict=True)
    ]
    order = torch.randperm(len(named), generator=seeded_generator(0)).tolist()
    kinds: dict[str, Callable[[str], bool]] = {
        "hotdog": lambda name: name == HOTDOG,
        "not-hotdog": lambda name: name != HOTDOG,
    }
    for kind, wanted in kinds.items():
        candidates = [named[i][0] for i in order if wanted(named[i][1])][: 2 * A_CLASS]
        for number, image in enumerate(_different(map(_square, candidates), A_CLASS)):
            split = "train" if number < TRAIN else "test"
            path = to / split / kind / f"{number:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, quality=90)


def _square(path: Path) -> Image.Image:
    image = Image.open(path).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    middle = image.crop((left, top, left + side, top + side))
    return middle.resize((SIDE, SIDE), Image.Resampling.LANCZOS) if side > SIDE else middle


def _different(images: Iterable[Image.Image], most: int) -> list[Image.Image]:
    """The first of them, without those that look like an earlier one."""
    every = list(images)
    twice = {second for _, second in alike([sketch(each) for each in every])}
    return [each for number, each in enumerate(every) if number not in twice][:most]
