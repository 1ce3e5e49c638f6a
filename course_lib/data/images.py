"""Open any picture as 8-bit RGB, or say exactly why it can't be opened.

Pictures from phones, scanners and the web come in many kinds: grey, palette, CMYK, transparent,
16 bits a channel, rotated by a note in their EXIF data. A network wants one kind. The conversions
that Pillow does by itself are not all right: it cuts 16-bit grey off at 255 instead of scaling it,
and it shows whatever colour lies hidden under transparent pixels.
"""

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from course_lib.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""Formats that are read, whatever the file is called."""

MAX_PIXELS = 120_000_000
"""Larger pictures are refused: a small file may claim a size that fills the memory."""

_WHITE_16 = 65535


class ImageError(DataError):
    """A picture that can't be read; the message names the file, the reason and the next step."""


def open_image(path: Path | str) -> Image.Image:
    """The picture in a file, upright, as 8-bit RGB.

    * EXIF rotation is carried out.
    * Transparent parts show white, as on a page.
    * 16-bit grey is scaled to 8 bits.
    * Of an animation you get the first frame.

    Args:
        path: a JPEG, PNG, WebP, GIF or BMP file; its ending doesn't matter.

    Returns:
        A picture of mode ``"RGB"``, of any size from 1 x 1.

    Raises:
        ImageError: missing, empty, truncated, damaged, of another format, or more than
            :data:`MAX_PIXELS` pixels.
    """
    try:
        return decode(read_bytes(path))
    except ValueError as error:
        raise ImageError(
            f"{path} can't be read: {error}. Delete it, move it out of the folder, or save it "
            "again as JPEG, PNG or WebP."
        ) from error


def read_bytes(path: Path | str) -> bytes:
    """The bytes of a regular file.

    Raises:
        ValueError: there is no such file, it is something else (a pipe would wait for ever), or it
            may not be read. The message is a reason that fits after "can't be read:".
    """
    path = Path(path)
    try:
        if not path.exists():
            raise ValueError("a link to nothing" if path.is_symlink() else "there is no such file")
        if not path.is_file():
            raise ValueError("not a regular file")
        return path.read_bytes()
    except OSError as error:  # a loop of links, no permission, a broken disk
        raise ValueError(error.strerror or str(error)) from error


def decode(data: bytes) -> Image.Image:
    """The upright RGB picture in the bytes of a file; see :func:`open_image`.

    Raises:
        ValueError: with the reason, if there is no such picture in ``data``.
    """
    return _guarded(data, lambda image: to_rgb(_upright(image)))


def verify(data: bytes) -> None:
    """Check that :func:`decode` will succeed, in less time where the format allows it.

    A JPEG can be decoded at an eighth of its size: every byte is read, few pixels are computed.

    Raises:
        ValueError: with the reason, if decoding would fail.
    """

    def load_small(image: Image.Image) -> Image.Image:
        image.draft("RGB", (1, 1))
        image.load()
        return image

    _guarded(data, load_small)


def has_picture(data: bytes) -> bool:
    """Whether the bytes begin like a picture of a known format, whole or not."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS):
            return True
    except Image.UnidentifiedImageError:
        return False
    except Exception:  # it was recognised, and is damaged further on
        return True


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded picture of any mode as 8-bit RGB; transparency is composited on white."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _from_wide_grey(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(page, image).convert("RGB")
    return image.convert("RGB")


def _from_wide_grey(image: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits: 65535 is white. Pillow's own conversion would clip at 255."""
    grey = np.asarray(image).astype(np.float64)
    key = image.info.get("transparency")
    if isinstance(key, int):  # PNG may declare one grey value to be transparent
        grey[grey == key] = _WHITE_16
    scaled = np.clip(np.rint(grey / _WHITE_16 * 255), 0, 255).astype(np.uint8)
    return Image.fromarray(scaled).convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged note about the rotation doesn't spoil the picture
        return image


def _guarded(data: bytes, use: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Open the bytes, check them, hand the picture to ``use``; every failure is a ValueError."""
    if not data:
        raise ValueError("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's: harmless, or an error of ours below
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                if image.format in ("JPEG", "MPO") and not _has_jpeg_end(data):
                    raise ValueError("its end is missing")
                return use(image)
    except Image.UnidentifiedImageError:
        raise ValueError(_name_the_format(data)) from None
    except Image.DecompressionBombError:
        raise ValueError(
            f"it claims more than the {MAX_PIXELS:,} pixels that are allowed"
        ) from None
    except Exception as error:  # Pillow's readers raise nearly anything on damaged bytes
        raise ValueError(f"damaged or truncated ({error})") from error


def _has_jpeg_end(data: bytes) -> bool:
    """Whether a JPEG's pixels are followed by the mark of its end.

    An interrupted copy may have its full length, with zeros for what never came, and the decoder
    would show them as grey. In the pixels' code the two bytes of the mark can't occur by chance; in
    the segments before it (a thumbnail, say) they can, so these are stepped over.
    """
    at = 2
    while at + 4 <= len(data) and data[at : at + 2] != b"\xff\xda":  # the pixels begin here
        if data[at] != 0xFF or data[at + 1] == 0xFF:  # a byte too many between two segments
            at += 1
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.find(b"\xff\xd9", at) >= 0


def _name_the_format(data: bytes) -> str:
    """What the bytes are instead of a picture we read."""
    head = data[:512]
    if head[4:8] == b"ftyp":
        name = "AVIF" if head[8:12] in (b"avif", b"avis") else "HEIC or a film"
        return f"its format ({name}) is not one of JPEG, PNG, WebP, GIF, BMP"
    if head[:4] in (b"II*\0", b"MM\0*"):
        return "its format (TIFF or a camera's raw format) is not one of JPEG, PNG, WebP, GIF, BMP"
    if head.lstrip()[:1] == b"<":
        return "it is a text (a web page or a drawing), not a picture of pixels"
    return "not a picture, or damaged at its very beginning"
