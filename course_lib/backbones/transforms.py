"""From a picture to the tensor that a backbone was trained on.

A network understands pictures only in the form it was trained with: the same size, the same
range of values, and each colour channel shifted and scaled by the same mean and standard deviation.
"""

from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from course_lib.backbones.catalogue import numbers
from course_lib.errors import DataError

# 224 pixels are cut from the middle of 256: the usual way to test on ImageNet.
RESIZE_RATIO = 8 / 7


@dataclass(frozen=True)
class Preprocessing:
    """What a backbone wants done to a picture.

    Attributes:
        name: the backbone.
        size: side of the square that the network sees, in pixels.
        mean: one number a channel (red, green, blue), for values between 0 and 1.
        std: likewise.
        interpolation: how pixels are resampled, ``"bilinear"`` or ``"bicubic"``.
        resize: the shorter side, in pixels, before the square is cut out of the middle; by default
            8/7 of the size.
    """

    name: str
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"
    resize: int | None = None

    @property
    def train(self) -> v2.Transform:
        """Random crop and flip, for training: PIL image (RGB) -> float tensor (3, size, size).

        A crop of 8 to 100 % of the area, with sides 3:4 to 4:3, resized to the square; mirrored
        left to right every other time. The random numbers come from torch's global stream.
        """
        crop = v2.RandomResizedCrop(self.size, interpolation=self._mode, antialias=True)
        return v2.Compose([crop, v2.RandomHorizontalFlip(), *self._to_tensor()])

    @property
    def eval(self) -> v2.Transform:
        """The middle of the picture, for testing: PIL image (RGB) -> float tensor (3, size, size).

        The shorter side is resized to :attr:`shorter_side`, and the square is cut from the centre.
        """
        resize = v2.Resize(self.shorter_side, interpolation=self._mode, antialias=True)
        return v2.Compose([resize, v2.CenterCrop(self.size), *self._to_tensor()])

    @property
    def shorter_side(self) -> int:
        """To how many pixels the shorter side is resized for testing."""
        return self.resize or round(self.size * RESIZE_RATIO)

    def __call__(self, image: Image, augment: bool = False) -> Tensor:
        """One picture through :attr:`train` (``augment=True``) or :attr:`eval`."""
        return self.train(image) if augment else self.eval(image)

    def denormalise(self, tensor: Tensor) -> Tensor:
        """Back to values between 0 and 1, to look at: (..., 3, H, W) -> the same shape.

        Raises:
            DataError: the third dimension from the end isn't the three colour channels.
        """
        if tensor.ndim < 3 or tensor.shape[-3] != 3:
            raise DataError(
                f"The tensor has the shape {tuple(tensor.shape)}; expected (3, H, W) or "
                "(B, 3, H, W). A picture as (H, W, 3) becomes one by .permute(2, 0, 1)."
            )
        mean, std = (
            torch.tensor(each, dtype=tensor.dtype, device=tensor.device).view(3, 1, 1)
            for each in (self.mean, self.std)
        )
        return (tensor * std + mean).clamp(0, 1)

    @property
    def _mode(self) -> InterpolationMode:
        return InterpolationMode(self.interpolation)

    def _to_tensor(self) -> list[v2.Transform]:
        to_unit_range = v2.ToDtype(torch.float32, scale=True)  # 0..255 -> 0..1
        return [v2.ToImage(), to_unit_range, v2.Normalize(list(self.mean), list(self.std))]

    def __str__(self) -> str:
        mean, std = (numbers(each) for each in (self.mean, self.std))
        return f"{self.name}: {self.size} x {self.size} pixels, mean {mean}, std {std}"


def prepared_by(dataset: Any, name: str) -> Preprocessing | None:
    """How a data set prepares its pictures, if by :attr:`Preprocessing.eval` or its like.

    Args:
        dataset: its ``transform`` is looked at, or that of the data set that it is a part of.
        name: the backbone that it is for.
    """
    while not hasattr(dataset, "transform") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    steps: Any = getattr(getattr(dataset, "transform", None), "transforms", ())
    kinds = (v2.Resize, v2.CenterCrop, v2.ToImage, v2.ToDtype, v2.Normalize)
    if tuple(map(type, steps)) != kinds or len(steps[0].size) != 1:
        return None
    resize, crop, _, _, norm = steps
    see = Preprocessing(
        name, crop.size[0], tuple(norm.mean), tuple(norm.std), resize.interpolation.value,
        resize.size[0],
    )  # fmt: skip
    return see if repr(see.eval) == repr(dataset.transform) else None
