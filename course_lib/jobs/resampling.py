"""Pillow's resizing as two products of matrices, so that it can be a part of the network.

What is exported takes a picture's own pixels, of any size. Nobody has to resize and normalise it as
the training did; that it is done in another way is the commonest reason why a network answers
worse where it is used than where it was measured.
"""

import torch
from torch import Tensor, nn

from course_lib.backbones import Preprocessing

SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}
CUBIC, BITS = -0.5, 22  # Pillow's


class Prepare(nn.Module):
    """Pixels (N, H, W, 3) from 0 to 255, of any size -> prepared pictures (N, 3, size, size).

    The same as :attr:`course_lib.backbones.Preprocessing.eval`: the shorter side resized as Pillow
    does it, in two passes that each round to whole levels, the square cut out of the middle,
    normalised. Like Pillow's, the weights are whole numbers of 22 bits, and sums of whole numbers
    are exact in float64: so every engine gets the same levels. (In float32, halves would be rounded
    to one side here and to the other there.)

    Source: Pillow's ``Resample.c``.
    """

    def __init__(self, see: Preprocessing) -> None:
        super().__init__()
        self.size, self.shorter, self.filter = see.size, see.shorter_side, see.interpolation
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(see.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(see.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        rows = torch.arange(pixels.shape[1], device=pixels.device)
        columns = torch.arange(pixels.shape[2], device=pixels.device)
        high, wide = rows[-1] + 1, columns[-1] + 1  # as tensors: any size, one graph
        least = torch.minimum(high, wide)
        picture = pixels.permute(0, 3, 1, 2).double()
        across = self._weights(columns, wide, self.shorter * wide // least)
        picture = _level(picture @ across.T)
        down = self._weights(rows, high, self.shorter * high // least)
        picture = _level(down @ picture)
        return (picture.float() / 255 - self.mean) / self.std

    def _weights(self, places: Tensor, length: Tensor, resized: Tensor) -> Tensor:
        """(size, length): what each pixel counts, of 2**22, in those of the middle."""
        scale = length.double() / resized.double()
        first = torch.round((resized - self.size).double() / 2)
        own = torch.arange(self.size, device=places.device).double()
        centre = (first + own + 0.5) * scale
        width = scale.clamp(min=1.0)
        x = ((places[None].double() + 0.5 - centre[:, None]) / width).abs()
        if self.filter == "bilinear":
            weights = (1 - x).clamp(min=0)
        else:
            near = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
            far = (((x - 5) * x + 8) * x - 4) * CUBIC
            weights = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
        share = weights / weights.sum(1, keepdim=True)
        return share.sign() * (share.abs() * 2**BITS + 0.5).floor()


def _level(picture: Tensor) -> Tensor:
    return (picture / 2**BITS + 0.5).floor().clamp(0, 255)


class Whole(nn.Module):
    """Preparation, network and temperature in one: pixels (N, H, W, 3) uint8 -> two outputs.

    They are scores (N, C), and probabilities (N, C) that add up to 1.
    """

    def __init__(self, prepare: Prepare, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.prepare, self.network, self.temperature = prepare, network, temperature

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        scores = self.network(self.prepare(pixels))
        return scores, (scores / self.temperature).softmax(1)
