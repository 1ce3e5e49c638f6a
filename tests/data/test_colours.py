"""Colours of a profile become those of sRGB; nothing else changes by a bit."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from course_lib.data import channel_statistics
from course_lib.data.colours import to_rgb
from course_lib.data.images import decode, verify

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def fixed(value):
    return struct.pack(">i", round(value * 65536))


def text(words):
    letters = words.encode("utf-16-be")
    head = b"mluc\0\0\0\0" + struct.pack(">II", 1, 12) + b"enUS"
    return head + struct.pack(">II", len(letters), 28) + letters


def xyz(*values):
    return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))


def profile(space, kind, tags):
    """An ICC profile (version 4) with these tags, written by hand."""
    tags = {b"desc": text("by hand"), b"cprt": text("nobody's"),
            b"wtpt": xyz(0.9642, 1, 0.8249), **tags}  # fmt: skip
    place = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", place + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I", place + len(body)) + bytes(4) + bytes([4, 0x30, 0, 0])
    head += kind + space + b"XYZ " + bytes(12) + b"acsp" + bytes(28)
    head += fixed(0.9642) + fixed(1) + fixed(0.8249)
    return head.ljust(128, b"\0") + table + body


def curve(gamma):
    return b"para\0\0\0\0" + struct.pack(">HH", 0, 0) + fixed(gamma)


SRGB_CURVE = b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + b"".join(
    map(fixed, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
)  # fmt: skip

ROUNDED_CURVE = SRGB_CURVE[:12] + b"".join(map(fixed, (2.4, 0.948, 0.052, 0.0773, 0.04)))

# Apple's Display P3: the primaries (adapted to D50) as its specification gives them.
DISPLAY_P3 = profile(
    b"RGB ",
    b"mntr",
    {
        b"rXYZ": xyz(0.51512, 0.2412, -0.00105),
        b"gXYZ": xyz(0.29198, 0.69225, 0.04189),
        b"bXYZ": xyz(0.1571, 0.06657, 0.78407),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), SRGB_CURVE),
    },
)
LINEAR_GREY = profile(b"GRAY", b"mntr", {b"kTRC": curve(1.0)})

# sRGB as many makers write it, a little off: some colours would move by one level.
NEARLY_SRGB = profile(
    b"RGB ",
    b"mntr",
    {
        b"rXYZ": xyz(0.4362, 0.2225, 0.0139),
        b"gXYZ": xyz(0.3850, 0.7169, 0.0971),
        b"bXYZ": xyz(0.1431, 0.0606, 0.7141),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), ROUNDED_CURVE),
    },
)

# From linear Display P3 to linear sRGB (CSS Color Module Level 4, section 18).
P3_TO_SRGB = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])


def linear(levels):
    x = np.asarray(levels) / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def encoded(light):
    x = np.clip(light, 0, 1)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055) * 255


def save(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


COLOURS = [(180, 120, 60), (90, 140, 110), (60, 90, 160), (128, 128, 128), (200, 60, 50), (0, 0, 0)]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "AVIF", "JPEG", "HEIC"])
def test_what_a_telephone_writes_in_display_p3_has_the_right_colours(kind, colour):
    picture = Image.new("RGB", (64, 64), colour)
    if kind == "HEIC":
        heif = pytest.importorskip("pillow_heif")
        picture.info["icc_profile"] = DISPLAY_P3
        stream = io.BytesIO()
        heif.from_pillow(picture).save(stream, quality=-1, chroma=444)
        data = stream.getvalue()
    else:
        exact = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"},
                 "JPEG": {"quality": 100, "subsampling": 0}}  # fmt: skip
        data = save(picture, kind, icc_profile=DISPLAY_P3, **exact.get(kind, {}))
    expected = encoded(P3_TO_SRGB @ linear(colour))
    for check in (decode, verify):
        found = np.array(check(data).getpixel((32 % check(data).width, 0)))
        assert np.abs(found - expected).max() <= 3
    if len(set(colour)) > 1:
        assert np.abs(np.array(colour) - expected).max() > 5  # so it does matter


def test_no_profile_and_srgbs_own_change_no_bit():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    plain = decode(save(picture, "PNG"))
    assert np.array_equal(np.asarray(plain), pixels)
    for same in (SRGB, NEARLY_SRGB):
        assert np.array_equal(np.asarray(decode(save(picture, "PNG", icc_profile=same))), pixels)
    assert not np.array_equal(
        np.asarray(decode(save(picture, "PNG", icc_profile=DISPLAY_P3))), pixels
    )


def test_a_profile_is_applied_once_however_often_a_picture_is_converted():
    picture = decode(save(Image.new("RGB", (8, 8), (200, 60, 50)), "PNG", icc_profile=DISPLAY_P3))
    assert to_rgb(to_rgb(picture)).getpixel((0, 0)) == picture.getpixel((0, 0))
    mean, _ = channel_statistics([picture])
    assert np.allclose(np.array(mean) * 255, picture.getpixel((0, 0)))


def test_alpha_and_palette_with_a_profile():
    expected = encoded(P3_TO_SRGB @ linear((200, 60, 50)))
    half = Image.new("RGBA", (8, 8), (200, 60, 50, 128))
    found = decode(save(half, "PNG", icc_profile=DISPLAY_P3)).getpixel((0, 0))
    assert np.abs(np.array(found) - (expected * 128 + 255 * 127) / 255).max() <= 2
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 200, 60, 50] + [0] * 762)
    found = decode(save(palette, "PNG", icc_profile=DISPLAY_P3)).getpixel((0, 0))
    assert np.abs(np.array(found) - expected).max() <= 2


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_with_a_profile(mode):
    level = {"L": 51, "LA": (51, 255), "I;16": 51 * 257}[mode]
    found = decode(save(Image.new(mode, (8, 8), level), "PNG", icc_profile=LINEAR_GREY))
    assert np.abs(np.array(found.getpixel((0, 0))) - encoded(51 / 255)).max() <= 2


@pytest.mark.parametrize("content", [b"nonsense", DISPLAY_P3[:200], LINEAR_GREY])
def test_a_damaged_profile_or_one_for_other_pixels_is_ignored(content):
    data = save(Image.new("RGB", (8, 8), (200, 60, 50)), "PNG", icc_profile=content)
    assert decode(data).getpixel((0, 0)) == (200, 60, 50)
