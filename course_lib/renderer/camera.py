"""The camera: where it stands, the rays it sends, and what lens and film do to the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.renderer.materials import hashed
from course_lib.renderer.sdf import Vector, column, dot, length


@dataclass(frozen=True)
class Camera:
    """A camera that looks at `target` from `distance` away.

    Angles in degrees: `elevation` above the table, `heading` around it, `roll` of the horizon.
    `reach` is how much of the world the shorter side shows at the target's distance, from the
    middle to the edge. `aperture` is how fast things blur away from the focus.
    """

    target: Vector
    distance: float
    elevation: float
    heading: float
    roll: float
    reach: float
    aperture: float

    @property
    def position(self) -> Tensor:
        """Where the camera stands: (3, 1)."""
        e, h = math.radians(self.elevation), math.radians(self.heading)
        away = column(math.cos(e) * math.sin(h), -math.cos(e) * math.cos(h), math.sin(e))
        return column(*self.target) + away * self.distance

    def rays(self, height: int, width: int) -> Tensor:
        """A unit direction for each pixel, row by row: (3, height * width)."""
        forward = column(*self.target) - self.position
        forward = forward / length(forward)
        h = math.radians(self.heading)
        right = column(math.cos(h), math.sin(h), 0.0)
        up = torch.linalg.cross(right, forward, dim=0)
        roll = math.radians(self.roll)
        right, up = (
            right * math.cos(roll) + up * math.sin(roll),
            up * math.cos(roll) - right * math.sin(roll),
        )
        scale = self.reach / self.distance / (min(height, width) / 2.0)
        y = (height / 2.0 - 0.5 - torch.arange(height, dtype=torch.float64)) * scale
        x = (torch.arange(width, dtype=torch.float64) + 0.5 - width / 2.0) * scale
        direction = forward + right * x.repeat(height) + up * y.repeat_interleave(width)
        return direction / length(direction)


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of a (C, H, W) picture, `sigma` in pixels, edges mirrored."""
    if sigma <= 0.05:
        return image
    radius = min(math.ceil(2.5 * sigma), min(image.shape[1:]) - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(image[None], (radius, radius, radius, radius), mode="reflect")[0]
    rows = sum(kernel[i] * padded[:, i : i + image.shape[1]] for i in range(2 * radius + 1))
    assert isinstance(rows, Tensor)
    out = sum(kernel[i] * rows[:, :, i : i + image.shape[2]] for i in range(2 * radius + 1))
    assert isinstance(out, Tensor)
    return out


def out_of_focus(image: Tensor, depth: Tensor, focus: float, aperture: float) -> Tensor:
    """Blur a (3, H, W) picture by how far `depth` (H, W) is from `focus`.

    Four blurred copies are blended pixel by pixel: quicker than tracing a lens, and as soft.
    """
    if aperture <= 0.0:
        return image
    wanted = aperture * min(image.shape[1:]) / 100.0 * (1.0 - focus / depth).abs()
    wanted = blur(wanted[None], 1.5)[0]
    levels = [0.0, 1.0, 2.2, 4.5]
    copies = [blur(image, sigma) for sigma in levels]
    result = copies[0]
    for low, high, copy in zip(levels[:-1], levels[1:], copies[1:], strict=True):
        share = ((wanted - low) / (high - low)).clamp(0.0, 1.0)
        result = result + (copy - result) * share
    return result


METERING = 0.65  # share of the way from a picture's own mean colour to the one aimed at


@dataclass(frozen=True)
class Film:
    """What happens between the lens and the file.

    exposure in stops; warmth shifts white towards yellow (positive) or blue; contrast and
    saturation are factors around 1; grain is the noise's standard deviation in grey levels;
    vignette darkens the corners; softness blurs everything (pixels). metered is the mean red,
    green and blue (0 to 1) that the camera's automatic exposure and white balance aim at.
    """

    exposure: float
    warmth: float
    contrast: float
    saturation: float
    grain: float
    vignette: float
    softness: float
    metered: tuple[float, float, float]

    def develop(self, light: Tensor, size: tuple[int, int], seed: int) -> Tensor:
        """Linear light (3, h, w) to a uint8 picture (H, W, 3) of `size` (H, W)."""
        image = F.interpolate(light[None], size=size, mode="area")[0]
        image = blur(image, self.softness)
        height, width = size
        balance = column(1.0 + self.warmth, 1.0, 1.0 - self.warmth)[:, :, None]
        y = torch.linspace(-1, 1, height, dtype=torch.float64)[:, None]
        x = torch.linspace(-1, 1, width, dtype=torch.float64)[None, :]
        shade = 1.0 - self.vignette * (x * x + y * y) / 2.0
        image = image * balance * shade * 2.0**self.exposure
        # A film curve: nearly straight in the shadows, rolling off before white.
        image = image * (1.0 + 0.18 * image) / (1.0 + 0.75 * image)
        image = image.clamp(0.0, 1.0) ** (1 / 2.2)
        grey = dot(image, column(0.3, 0.59, 0.11))
        image = grey + (image - grey) * self.saturation
        image = 0.45 + (image - 0.45) * self.contrast
        image = self._meter(image.clamp(0.0, 1.0))
        image = image + self._grain(height, width, seed) / 255.0
        return (image * 255.0).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)

    def _meter(self, image: Tensor) -> Tensor:
        """Automatic exposure and white balance, most of the way: (3, H, W) to the same.

        Cameras do so, and it keeps the mean colour of a picture from telling what food is on it.
        """
        mean = image.mean((1, 2)).clamp(0.02, 0.98)
        aim = torch.tensor(self.metered, dtype=torch.float64) ** METERING * mean ** (1 - METERING)
        return image.clamp_min(1e-4) ** (aim.log() / mean.log())[:, None, None]

    def _grain(self, height: int, width: int, seed: int) -> Tensor:
        """Nearly normal noise, the same for a seed on every machine: (3, H, W)."""
        y = torch.arange(height)[:, None].expand(height, width)
        x = torch.arange(width)[None, :].expand(height, width)
        noise = []
        for channel in range(4):
            lots = [hashed(x + 512 * k, y + 512 * channel, seed) for k in range(4)]
            # The sum of four uniform numbers is bell-shaped, with mean 2 and variance 1/3.
            noise.append((torch.stack(lots).sum(0) - 2.0) * 1.73)
        return self.grain * torch.stack([0.8 * noise[3] + 0.6 * noise[c] for c in range(3)])
