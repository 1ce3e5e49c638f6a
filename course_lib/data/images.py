"""Open any picture as 8-bit RGB, or say exactly why it can't be opened.

Pictures from phones, scanners and the web come in many kinds: grey, palette, CMYK, transparent,
16 bits a channel, rotated by a note in their EXIF data, in colours wider than sRGB. A network wants
one kind. The conversions that Pillow does by itself are not all right: it cuts 16-bit grey off at
255 instead of scaling it, shows whatever colour lies hidden under transparent pixels, and ignores
colour profiles. Whatever opens a picture in the course calls :func:`open_image` or :func:`decode`.
"""

import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from course_lib.data.colours import WHITE_16, NotReadError, to_rgb
from course_lib.errors import CourseError, DataError
from course_lib.paths import read_file

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000")
"""Formats that Pillow reads, whatever the file is called; HEIC needs a package of its own."""

READ = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, JPEG 2000 and HEIC (with pillow-heif)"
"""What is read, in words."""

DECODER = 2
"""Counted up when the same file gives another picture: caches of what was computed depend on it."""

MAX_PIXELS = 120_000_000
"""Larger pictures are refused: a small file may claim a size that fills the memory."""
ALWAYS = 36_000_000  # pixels, about a second: a page of A4 at 600 dots an inch, nearly blank
DENSEST = 100  # of more pixels, how many a byte: blank ones in JPEG; photographs have two to twenty
MOST_SCANS = 200  # of a progressive JPEG; usual are ten, and each goes over all pixels
LARGEST = 1 << 30  # bytes of a file; as many as so many pixels take
MAX_SIDE = 65_535  # pixels, as in JPEG; a damaged TIFF may claim more rows than it has

_ZEROS = bytes(64)  # compressed pixels don't end like this; a copy that was interrupted may

_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1",
                b"msf1"}  # fmt: skip
_AVIF_BRANDS = {b"avif", b"avis"}

_RAW = "a camera's raw format; export it as JPEG with the camera's own program"
_NOT_READ = {
    b"II*\0\x10\0\0\0CR": _RAW,
    b"IIRO": _RAW,
    b"IIRS": _RAW,
    b"IIU\0": _RAW,
    b"FUJIFILMCCD-RAW": _RAW,
    b"FOVb": _RAW,
    b"\0\0\0\x0cJXL ": "JPEG XL; convert it with: djxl PICTURE.jxl PICTURE.png",
    b"\xff\x0a": "JPEG XL; convert it with: djxl PICTURE.jxl PICTURE.png",
    b"8BPS": "Photoshop; export it as JPEG or PNG there",
    b"%PDF": "PDF; export its page as PNG",
    b"%!PS": "PostScript; export its page as PNG",
    b"\0\0\1\0": "an icon; save it as PNG",
    b"v/1\x01": "OpenEXR; save it as a 16-bit PNG",
    b"PK": "a ZIP archive; unpack it",
}
"""How files begin that are pictures, or hold some, and are not read; what each is, what to do."""


class ImageError(DataError):
    """A picture that can't be read; the message names the file, the reason and the next step."""


class PictureMemoryError(CourseError, MemoryError):
    """Too little memory for a picture; nothing is known of it, so it isn't called damaged."""

    def __init__(self, which: object = "a picture") -> None:
        super().__init__(
            f"There is too little memory to open {which}. Close other programs or notebooks, or "
            "take smaller pictures."
        )


def open_image(path: Path | str) -> Image.Image:
    """The picture in a file, upright, as 8-bit RGB.

    * EXIF rotation is carried out.
    * Transparent parts show white, as on a page.
    * Grey of 16 or 32 bits is scaled to 8 bits.
    * Colours of an embedded profile (telephones write Display P3) become those of sRGB. A picture
      without a profile, or with that of sRGB, keeps its numbers.
    * Of an animation or of several pages you get the first.

    Args:
        path: a file of a format in :data:`READ`; its ending doesn't matter.

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
            f"{path} can't be read: {error}. Save it again as JPEG, PNG or WebP, or move it out of "
            "the folder."
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
        return read_file(path, LARGEST)
    except OSError as error:  # a loop of links, no permission, a broken disk
        raise ValueError(error.strerror or str(error)) from error


def decode(data: bytes) -> Image.Image:
    """The upright RGB picture in the bytes of a file; see :func:`open_image`.

    Raises:
        ValueError: with the reason, if there is no such picture in ``data``.
    """
    return _guarded(data, _finished)


def verify(data: bytes, side: int = 1) -> Image.Image:
    """Check that :func:`decode` will succeed, in less time where the format allows it.

    A JPEG can be decoded at an eighth of its size: every byte is read, few pixels are computed.
    (For HEIC the same request would decode the thumbnail in the file, and not the picture.)

    Args:
        data: the bytes of a file.
        side: the picture that is returned should have at least as many pixels in each direction.

    Returns:
        What :func:`decode` gives, possibly smaller.

    Raises:
        ValueError: with the reason, if decoding would fail.
    """

    def small(image: Image.Image) -> Image.Image:
        if image.format in ("JPEG", "MPO"):
            image.draft("RGB", (side, side))
        return _finished(image)

    return _guarded(data, small)


def has_picture(data: bytes) -> bool:
    """Whether the bytes begin like a picture of a known format, whole or not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _open(data):
                return True
    except Image.UnidentifiedImageError:
        return False
    except Exception:  # it was recognised, and is damaged further on
        return True


def _finished(image: Image.Image) -> Image.Image:
    return to_rgb(_upright(_with_tiff_levels(image)))


def _with_tiff_levels(image: Image.Image) -> Image.Image:
    """A loaded picture; 12 bits of grey become 16, and white written as 0 becomes 65535."""
    tags: Any = getattr(image, "tag_v2", None)
    image.load()
    if tags is None or not image.mode.startswith("I;16"):
        return image
    grey = np.asarray(image).astype(np.uint32) * WHITE_16 // (2 ** tags[_BITS][0] - 1)
    white_is_zero = tags.get(_PHOTOMETRIC) == 0
    level = Image.fromarray((WHITE_16 - grey if white_is_zero else grey).astype(np.uint16))
    level.info = image.info
    return level


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged note about the rotation doesn't spoil the picture
        return image


def _guarded(data: bytes, use: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Open the bytes, check them, hand the picture to ``use``; every failure is a ValueError."""
    if not data:
        raise ValueError("the file is empty")
    for start, name in _NOT_READ.items():
        if data.startswith(start):
            raise ValueError(f"its format is not read: {name}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's: harmless, or an error of ours below
            with _open(data) as image:
                pixels = image.width * image.height
                if pixels > MAX_PIXELS or max(image.size) > MAX_SIDE:
                    raise Image.DecompressionBombError
                if pixels > max(ALWAYS, DENSEST * len(data)):
                    raise NotReadError(f"it claims {pixels:,} pixels and has {len(data):,} bytes")
                _refuse_previews(image)
                if not _has_end(data, image.format):
                    raise ValueError("its end is missing")
                return use(image)
    except MemoryError as error:
        raise PictureMemoryError from error
    except Image.UnidentifiedImageError:
        raise ValueError(_name_the_format(data)) from None
    except NotReadError as error:
        raise ValueError(str(error)) from None
    except Image.DecompressionBombError:
        raise ValueError(
            f"it claims more than the {MAX_PIXELS:,} pixels that are allowed, or a longer side "
            f"than {MAX_SIDE:,}"
        ) from None
    except Exception as error:  # Pillow's readers raise nearly anything on damaged bytes
        reason = " ".join(str(error).split())
        if "out of memory" in reason:  # Pillow's readers, in C
            raise PictureMemoryError from error
        raise ValueError(f"damaged or truncated ({reason})") from error


def _open(data: bytes) -> Image.Image:
    """The picture in the bytes, not loaded yet. Pillow's own list of formats stays as it is."""
    if not _is_heic(data):
        return Image.open(io.BytesIO(data), formats=FORMATS)
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise NotReadError(
            "it is an HEIC picture, and what reads those is not installed. Install it with: "
            "pip install pillow-heif"
        ) from None
    image: Image.Image = HeifImageFile(io.BytesIO(data))
    return image


def _is_heic(data: bytes) -> bool:
    """Whether it is HEIC. AVIF may call itself "mif1" first, as HEIC may, and say more later."""
    brands = _brands(data)
    return bool(brands & _HEIC_BRANDS) and not (
        brands & _AVIF_BRANDS and data[8:12] in _AVIF_BRANDS | {b"mif1", b"msf1"}
    )


def _brands(data: bytes) -> set[bytes]:
    """What a file of the HEIC, AVIF and MP4 family says it is compatible with; else nothing."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), 512)
    return {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}


_SUBFILE, _BITS, _PHOTOMETRIC, _DNG = 254, 258, 262, 50706  # tags of TIFF


def _refuse_previews(image: Image.Image) -> None:
    """Raw formats are TIFF files whose first page is a small preview of what follows."""
    tags: Any = getattr(image, "tag_v2", {})
    if tags.get(_SUBFILE, 0) & 1 or _DNG in tags:
        raise NotReadError(f"its format is not read: {_RAW}")


def _has_end(data: bytes, kind: str | None) -> bool:
    """Whether the pixels go on to the end, where the decoder wouldn't notice that they don't."""
    if kind in ("AVIF", "HEIF"):
        return not data.endswith(_ZEROS)
    return kind not in ("JPEG", "MPO") or _has_jpeg_end(data)


_MARK = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)  # of a segment, or of the end


def _has_jpeg_end(data: bytes) -> bool:
    """Whether a JPEG's pixels are followed by the mark of its end.

    An interrupted copy may have its full length, with zeros for what never came, and the decoder
    would show them as grey. In the pixels' code the two bytes of the mark can't occur by chance; in
    the segments before it (a thumbnail, say) they can, so these are stepped over.

    Raises:
        NotReadError: its pixels come in so many parts that to read them takes minutes.
    """
    at, scans = 2, 0
    while (found := _MARK.search(data, at)) and found[0] != b"\xff\xd9":
        scans += found[0] == b"\xff\xda"  # pixels
        if scans > MOST_SCANS:
            raise NotReadError(f"its pixels come in more than {MOST_SCANS} parts")
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return found is not None


def _name_the_format(data: bytes) -> str:
    """What the bytes are instead of a picture we read, and what to do with it."""
    brands = _brands(data)
    if brands & _AVIF_BRANDS:
        return "a damaged AVIF picture, or a Pillow without AVIF (pip install 'pillow>=11.3')"
    if brands:
        raw = b"crx " in brands
        return f"its format is not read: {_RAW if raw else 'a film; save one frame as JPEG'}"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return (
            "damaged, or a TIFF of a kind that is not read (a camera's raw format, or unusual "
            "channels); export it as JPEG, or save it with 8 bits a channel"
        )
    if data[:512].lstrip()[:1] == b"<":
        return "it is a text (a web page or a drawing), not a picture of pixels"
    return "not a picture, or damaged at its very beginning"
