"""Photographs to measure with. They aren't part of the course; the results are."""

from course_lib import backbones, data
from course_lib.evidence.design import EvidenceError
from course_lib.paths import data_dir


def food(split: str, size: int, network: str = "efficientnet_lite0") -> data.ImageFolderDataset:
    """A split of photographs of food, class 0 hot dogs and 1 others, prepared for a network.

    496 and 496 of Food-101, which is not in ImageNet, without near-duplicates and cropped to the
    middle square: 592 to learn from, of which a fifth is the split ``"val"``, and 400 to test.

    Raises:
        EvidenceError: the photographs aren't there.
    """
    folder = data_dir() / "food_photographs"
    if not folder.is_dir():
        raise EvidenceError(
            f"This experiment needs photographs in {folder}: train/ and test/ with one folder a "
            "class. They aren't part of the course; the results are."
        )
    return data.image_folder(folder, split, backbones.preprocessing(network, size).eval)
