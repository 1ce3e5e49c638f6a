"""The pixels of a picture of any kind as 8-bit RGB, in the colours of sRGB."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

WHITE_16 = 65535
"""White in 16 bits."""


class NotReadError(ValueError):
    """A whole picture of a kind that is not read; the text says what to do."""


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded picture of any mode as 8-bit RGB; transparency is composited on white.

    Raises:
        NotReadError: grey of 32 bits with values that don't say what is white.
    """
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = _from_wide_grey(image)
    if not image.has_transparency_data:
        return _in_srgb(image)
    if image.mode == "La":  # grey, multiplied by its opacity: Pillow has one way out of it
        image = image.convert("LA")
    layered = image.convert("RGBA")
    opacity = layered.getchannel("A")
    layered = _in_srgb(image.convert("L") if image.mode == "LA" else layered.convert("RGB"))
    layered.putalpha(opacity)
    page = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(page, layered).convert("RGB")


def _in_srgb(image: Image.Image) -> Image.Image:
    """An opaque picture as RGB, in the colours of sRGB if a profile says which ones it has."""
    if image.mode not in ("L", "CMYK"):
        image = image.convert("RGB")
    profile = image.info.get("icc_profile")
    transform = _to_srgb(profile, image.mode) if isinstance(profile, bytes) and profile else None
    if transform is None:
        return image.convert("RGB")
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # it is None only for a change in place
    converted.info = {}  # the profile holds no longer
    return converted


@lru_cache(maxsize=16)  # a telephone writes the same profile into every picture
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile's colours to those of sRGB; None if they are the same or it is no use."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != {"L": "GRAY"}.get(mode, mode):
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode == "CMYK":
            return transform
        # Whether this is sRGB is measured: its profiles have many names and last digits.
        levels = np.linspace(0, 255, 18).astype(np.uint8)
        cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(18, -1, 3)
        before = Image.fromarray(cube if mode == "RGB" else np.ascontiguousarray(cube[..., 0]))
        after = ImageCms.applyTransform(before, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # as browsers do: a damaged profile doesn't spoil the picture
    moved = np.asarray(after).astype(int) - np.asarray(before.convert("RGB"))
    return transform if np.abs(moved).max() > 2 else None


def _from_wide_grey(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits to 8 bits. Pillow's own conversion would clip at 255."""
    grey = np.asarray(image).astype(np.float64)
    white: float = WHITE_16
    if image.mode in ("I", "F"):
        white = _white_of(grey, (1, 255, WHITE_16) if image.mode == "F" else (255, WHITE_16))
    key = image.info.get("transparency")
    if isinstance(key, int):  # PNG may declare one grey value to be transparent
        grey[grey == key] = white
    scaled = np.clip(np.rint(grey / white * 255), 0, 255).astype(np.uint8)
    narrow = Image.fromarray(scaled)
    if "icc_profile" in image.info:
        narrow.info["icc_profile"] = image.info["icc_profile"]
    return narrow


def _white_of(grey: np.ndarray, scales: tuple[int, ...]) -> int:
    """What is white where the picture doesn't say: the end of the smallest scale that holds all."""
    low, high = float(grey.min()), float(grey.max())
    if not 0 <= low <= high <= scales[-1]:  # also if one of them is not a number
        raise NotReadError(
            f"its 32-bit values go from {low:g} to {high:g}, and nothing says which is white "
            f"(read are 0 to {', '.join(map(str, scales))}); save it with 8 or 16 bits"
        )
    return next(scale for scale in scales if high <= scale)
