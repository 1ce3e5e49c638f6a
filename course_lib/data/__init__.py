"""Pictures: open any of them, find them in folders, divide them, load them, download the real ones.

The usual way in::

    train = hotdog(split="train", transform=augment)
    batches = loader(train, shuffle=True)
"""

from course_lib.data.classes import check_same_classes, class_names
from course_lib.data.download import HOTDOG, Archive, download_hotdog, fetch
from course_lib.data.duplicates import Duplicates, find_duplicates
from course_lib.data.folders import DataWarning, ImageFolderDataset, hotdog, image_folder
from course_lib.data.images import ImageError, open_image
from course_lib.data.loading import loader
from course_lib.data.splits import LabelledSubset, balanced_subset, stratified_split
from course_lib.data.statistics import channel_statistics
from course_lib.data.transfer import Patience

__all__ = ["HOTDOG", "Archive", "DataWarning", "Duplicates", "ImageError", "ImageFolderDataset",
           "LabelledSubset", "Patience", "balanced_subset", "channel_statistics",
           "check_same_classes", "class_names", "download_hotdog", "fetch", "find_duplicates",
           "hotdog", "image_folder", "loader", "open_image", "stratified_split"]  # fmt: skip
