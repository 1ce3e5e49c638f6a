"""Photographs to measure with. They aren't part of the course; the results are.

Two sets: ``food_photographs`` (992 of Food-101, hot dogs and other food) and ``cifar10`` (whole, as
JPEG). ``course evidence photographs`` makes such sets where there is a network.
"""

import hashlib
import os
from functools import cache
from pathlib import Path

from course_lib import backbones, data
from course_lib.evidence.design import EvidenceError
from course_lib.paths import data_dir, file_hash, user_path

ENVIRONMENT_VARIABLE = "COURSE_PHOTOGRAPHS"
SETS = ("food_photographs", "cifar10")


def folder(name: str) -> Path:
    """Where a set of photographs is: in ``$COURSE_PHOTOGRAPHS``, else in ``data/``.

    Raises:
        EvidenceError: it isn't there.
    """
    path = user_path(os.environ.get(ENVIRONMENT_VARIABLE) or data_dir()) / name
    if not path.is_dir():
        raise EvidenceError(
            f"This experiment needs the photographs of {path}: train/ and test/ with one folder a "
            "class. They aren't part of the course; the results are. With a network, `course "
            "evidence photographs` makes such a set; or name the folder that it lies in: --data "
            "FOLDER."
        )
    return path


def there(name: str) -> bool:
    """Whether a set of photographs is there."""
    try:
        return folder(name).is_dir()
    except EvidenceError:
        return False


@cache
def described(name: str) -> str:
    """Name, number and hash of a set, as results carry it: over the files' names and contents."""
    root = folder(name)
    files = sorted(path for path in root.glob("*/*/*") if path.is_file())
    listed = "".join(f"{path.relative_to(root).as_posix()} {file_hash(path)}\n" for path in files)
    return f"{name}, {len(files)} files, sha256 {hashlib.sha256(listed.encode()).hexdigest()[:16]}"


def food(split: str, size: int, network: str = "efficientnet_lite0") -> data.ImageFolderDataset:
    """A split of photographs of food, class 0 hot dogs and 1 others, prepared for a network.

    496 and 496 of Food-101, which is not in ImageNet, without near-duplicates and cropped to the
    middle square: 592 to learn from, of which a fifth is the split ``"val"``, and 400 to test.

    Raises:
        EvidenceError: the photographs aren't there.
    """
    see = backbones.preprocessing(network, size).eval
    return data.image_folder(folder("food_photographs"), split, see)
