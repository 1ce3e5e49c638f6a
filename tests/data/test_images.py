import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from course_lib.data import images
from course_lib.data.colours import to_rgb
from course_lib.data.images import ImageError, decode, has_picture, open_image, verify
from course_lib.errors import DataError

RED = (200, 30, 40)


def bytes_of(image, kind, **options):
    import io

    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(width=61, height=47, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows, extra=b""):
    """A PNG written by hand: some kinds exist that Pillow doesn't write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", body)
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (64, 48), (701, 33)])
def test_every_format_and_size_opens_as_rgb(tmp_path, kind, size):
    path = tmp_path / "picture.bin"  # the ending doesn't matter
    Image.new("RGB", size, RED).save(path, kind)
    image = open_image(path)
    assert image.mode == "RGB"
    assert image.size == size
    assert np.abs(np.asarray(image, int) - RED).max() <= 6


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 255), (77, 77, 77)),
        ("LA", (77, 0), (255, 255, 255)),
        ("RGBA", (*RED, 255), RED),
        ("RGBA", (*RED, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("P", 5, None),
    ],
)
def test_modes_of_png(mode, colour, expected):
    image = Image.new(mode, (6, 4), colour)
    if mode == "P":
        image.putpalette([value for i in range(256) for value in (i, 2 * i % 256, 255 - i)])
        expected = (5, 10, 250)
    result = decode(bytes_of(image, "PNG"))
    assert result.mode == "RGB"
    assert result.getcolors() == [(24, expected)]


def test_palette_with_a_transparent_entry_shows_white_there():
    image = Image.new("P", (4, 2), 1)
    image.putpalette([0, 0, 0, *RED] + [0] * 762)
    image.putpixel((0, 0), 0)
    for kind in ("PNG", "GIF"):
        result = decode(bytes_of(image, kind, transparency=0))
        assert result.getpixel((0, 0)) == (255, 255, 255), kind
        assert result.getpixel((1, 0)) == RED, kind


def test_palette_with_half_transparent_entries():
    image = Image.new("P", (2, 1), 1)
    image.putpalette([0, 0, 0, 0, 0, 0] + [0] * 762)
    result = decode(bytes_of(image, "PNG", transparency=bytes([255, 128])))
    assert result.getpixel((0, 0)) == (127, 127, 127)


def test_rgb_with_a_transparent_colour_shows_white_there():
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((0, 0), (1, 2, 3))
    result = decode(bytes_of(image, "PNG", transparency=(1, 2, 3)))
    assert [result.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), RED]


def test_webp_with_alpha_is_composited_on_white():
    image = Image.new("RGBA", (8, 8), (*RED, 0))
    assert decode(bytes_of(image, "WEBP", lossless=True)).getcolors() == [(64, (255, 255, 255))]


def test_cmyk_jpeg_keeps_its_colours():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # cyan off, the rest on: red
    pixel = decode(bytes_of(image, "JPEG", quality=95)).getpixel((8, 8))
    assert pixel[0] > 240
    assert max(pixel[1:]) < 20


def test_16_bit_grey_is_scaled_and_not_cut_off():
    grey = np.array([[0, 255, 257, 32768, 65535]], dtype=np.uint16)
    data = bytes_of(Image.fromarray(grey), "PNG")
    assert np.asarray(decode(data))[0, :, 0].tolist() == [0, 1, 1, 128, 255]


def test_16_bit_grey_with_a_transparent_value():
    rows = [struct.pack(">HH", 1234, 65535 // 5)]
    data = png(2, 1, 16, 0, rows, extra=chunk(b"tRNS", struct.pack(">H", 1234)))
    assert np.asarray(decode(data))[0].tolist() == [[255] * 3, [51] * 3]


@pytest.mark.parametrize(
    ("colour", "row", "expected"),
    [
        (2, struct.pack(">HHH", 0xC8FF, 0x1E00, 0x2880), (0xC8, 0x1E, 0x28)),
        (6, struct.pack(">HHHH", 0xC8FF, 0x1E00, 0x2880, 0xFFFF), (0xC8, 0x1E, 0x28)),
        (6, struct.pack(">HHHH", 0xC8FF, 0x1E00, 0x2880, 0), (255, 255, 255)),
        (4, struct.pack(">HH", 0x4D00, 0xFFFF), (0x4D, 0x4D, 0x4D)),
    ],
)
def test_16_bit_colour_and_alpha(colour, row, expected):
    assert decode(png(1, 1, 16, colour, [row])).getpixel((0, 0)) == expected


@pytest.mark.parametrize("mode", ["I", "F"])
def test_wide_grey_in_memory(mode):
    wide = Image.new(mode, (2, 1), 65535)
    wide.putpixel((0, 0), 0)
    assert [to_rgb(wide).getpixel((x, 0)) for x in (0, 1)] == [(0, 0, 0), (255, 255, 255)]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_carried_out(kind, orientation):
    upright = Image.new("RGB", (40, 20), "black")
    upright.paste("white", (0, 0, 20, 10))  # top left, when seen upright
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright.transpose(undo) if undo is not None else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    result = decode(bytes_of(stored, kind, exif=exif))
    assert result.size == (40, 20)
    brightness = np.asarray(result.convert("L"))
    corners = [brightness[y, x] > 128 for y, x in ((4, 9), (4, 30), (15, 9), (15, 30))]
    assert corners == [True, False, False, False]


def test_rotated_16_bit_grey():
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = Image.fromarray(np.array([[0, 65535, 65535]], dtype=np.uint16))
    assert decode(bytes_of(grey, "PNG", exif=exif)).size == (1, 3)


def test_damaged_exif_doesnt_spoil_the_picture():
    data = bytes_of(noise(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffnonsense")
    assert decode(data).size == (61, 47)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "MPO"])  # MPO: JPEG of some phones
def test_first_frame_of_several(kind):
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "blue")]
    data = bytes_of(frames[0], kind, save_all=True, append_images=frames[1:])
    for check in (verify, decode):
        check(data)
    assert decode(data).getpixel((2, 2))[0] > 240


KINDS = {
    "JPEG": bytes_of(noise(), "JPEG"),
    "progressive JPEG": bytes_of(noise(), "JPEG", progressive=True),
    "PNG": bytes_of(noise(), "PNG"),
    "WebP": bytes_of(noise(), "WEBP"),
    "GIF": bytes_of(noise(), "GIF"),
    "BMP": bytes_of(noise(), "BMP"),
}


def judge(check, data):
    try:
        check(data)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
@given(part=st.floats(0, 0.99))
def test_truncation_anywhere_is_noticed_by_check_and_decoder(kind, part):
    cut = KINDS[kind][: int(part * len(KINDS[kind]))]
    assert not judge(verify, cut)
    assert not judge(decode, cut)


@pytest.mark.parametrize("kind", KINDS)
@given(place=st.integers(0, 10_000), value=st.integers(1, 255))
def test_check_and_decoder_agree_about_damage(kind, place, value):
    data = bytearray(KINDS[kind])
    data[place % len(data)] ^= value
    assert judge(verify, bytes(data)) == judge(decode, bytes(data))


@pytest.mark.parametrize("kind", ["JPEG", "progressive JPEG", "PNG"])
def test_a_copy_that_ends_in_zeros(kind):
    data = KINDS[kind]
    filled = data[: len(data) // 2] + bytes(len(data) - len(data) // 2)
    for check in (verify, decode):
        assert not judge(check, filled)


def test_what_phones_hang_on_to_a_jpeg_and_thumbnails_in_it_do_no_harm():
    thumbnail = bytes_of(noise(20, 15), "JPEG")
    data = bytearray(KINDS["JPEG"])
    data[2:2] = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    film = bytes(range(256)) * 8 + b"\xff\xda" * 9
    for check in (verify, decode):
        assert judge(check, bytes(data) + film)
        assert not judge(check, bytes(data)[:-700] + bytes(700))


def test_a_flipped_bit_in_a_png_is_noticed():
    data = bytearray(KINDS["PNG"])
    data[len(data) // 2] ^= 1
    assert not judge(verify, bytes(data))


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_nothing_else_happens(data):
    assert not judge(decode, data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello, this is a note\n", "not a picture"),
        (b"<html><body>404 Not Found", "a text"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (KINDS["JPEG"][:200], "damaged or truncated"),
        (KINDS["PNG"][:2000], "damaged or truncated"),
    ],
)
def test_unreadable_files_name_the_file_the_reason_and_the_next_step(tmp_path, data, reason):
    path = tmp_path / "lunch.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=reason) as caught:
        open_image(path)
    assert isinstance(caught.value, DataError)
    assert str(path) in str(caught.value)
    assert "save it again as JPEG" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_folder_and_broken_link(tmp_path):
    with pytest.raises(ImageError, match="there is no such file"):
        open_image(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        open_image(tmp_path)
    link = tmp_path / "link.jpg"
    link.symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageError, match="a link to nothing"):
        open_image(link)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_and_doesnt_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        open_image(tmp_path / "pipe.jpg")


@pytest.mark.parametrize("side", [11_000, 14_000, 60_000])
def test_decompression_bombs_are_refused_by_their_header(side):
    bomb = png(side, side, 1, 0, [b""])
    with pytest.raises(ValueError, match="more than the 120,000,000 pixels"):
        verify(bomb)
    with pytest.raises(ValueError, match="more than the 120,000,000 pixels"):
        decode(bomb)


def test_large_phone_pictures_are_not_bombs(recwarn):
    header_only = png(12_000, 9_000, 1, 0, [b""])  # 108 megapixels
    with pytest.raises(ValueError, match="truncated"):
        decode(header_only)
    assert not recwarn.list
    assert images.MAX_PIXELS > 12_000 * 9_000


def test_has_picture_goes_by_content():
    assert all(has_picture(data) for data in KINDS.values())
    assert has_picture(KINDS["PNG"][:100])
    assert not has_picture(b"id,label\n1,hotdog\n")
    assert not has_picture(b"")


def test_pillows_own_settings_are_left_alone():
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    decode(KINDS["JPEG"])
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
