"""Where a line like ``mean=(0.485, 0.456, 0.406)`` comes from: the pixels of a data set."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from course_lib.data.colours import to_rgb
from course_lib.errors import DataError

Channels = tuple[float, float, float]


def channel_statistics(
    dataset: Dataset[Any], per_picture: bool = False
) -> tuple[Channels, Channels]:
    """Mean and standard deviation of red, green and blue over all pixels of a data set.

    Defined as if all pictures were laid side by side: every pixel counts the same, so a large
    picture counts more than a small one. The standard deviation is that of the population (divided
    by the number of pixels), and it includes the differences between pictures.

    ImageNet's well-known 0.229, 0.224, 0.225 do not include them: how they were made was not
    written down, but they agree with the mean of each picture's own standard deviation, at 224
    pixels, while all pixels together give 0.272, 0.264, 0.276 (torchvision's issue 1439 and pull
    request 1965). ``per_picture=True`` computes that kind.

    Pictures go by one at a time; float64 partial results are joined by the formula of Chan, Golub
    and LeVeque (Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979),
    which loses no digits where E[x^2] - E[x]^2 would.

    Args:
        dataset: of pictures or (picture, target) pairs. A picture is a PIL image, or a tensor
            (3, H, W) of uint8 or of floats from 0 to 1.
        per_picture: let the standard deviation be the plain mean of those of the pictures.

    Returns:
        Two tuples (red, green, blue) on the scale from 0 (black) to 1: mean, standard deviation.

    Raises:
        DataError: the data set is empty, or an item is no such picture.
    """
    pictures = len(dataset)  # type: ignore[arg-type]
    if pictures == 0:
        raise DataError("There are no pictures to compute statistics of: the data set is empty.")
    count = 0
    mean, squares, spreads = np.zeros((3, 3))  # squares: of the distances from the mean, summed
    for index in range(pictures):
        item = dataset[index]
        pixels = _pixels(item[0] if isinstance(item, tuple | list) else item)
        n = pixels.shape[1]
        here = pixels.mean(axis=1)
        inside = ((pixels - here[:, None]) ** 2).sum(axis=1)
        gap = here - mean
        total = count + n
        squares += inside + gap**2 * count * n / total
        mean += gap * n / total
        spreads += np.sqrt(inside / n)
        count = total
    std = spreads / pictures if per_picture else np.sqrt(squares / count)
    return _channels(mean), _channels(std)


def _pixels(picture: Any) -> np.ndarray:
    """The pixels as a float64 array (3, number of pixels) on the scale from 0 to 1."""
    if isinstance(picture, Image.Image):
        rows = np.asarray(to_rgb(picture), dtype=np.float64).reshape(-1, 3)
        return np.ascontiguousarray(rows.T) / 255  # NumPy adds a row up pairwise
    if isinstance(picture, torch.Tensor) and picture.ndim == 3 and picture.shape[0] == 3:
        scale = 255 if picture.dtype == torch.uint8 else 1
        return picture.detach().cpu().double().flatten(1).numpy() / scale
    found = (
        f"a tensor of shape {tuple(picture.shape)}"
        if isinstance(picture, torch.Tensor)
        else type(picture).__name__
    )
    raise DataError(
        f"Expected a PIL image or a tensor (3, H, W), found {found}. Take the statistics of the "
        "pictures as they are, before normalising and batching."
    )


def _channels(values: np.ndarray) -> Channels:
    red, green, blue = values.tolist()
    return red, green, blue
