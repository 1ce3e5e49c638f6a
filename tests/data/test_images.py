import importlib.util
import io
import os
import struct
import subprocess
import sys
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
    stream = io.BytesIO()
    if kind == "HEIC":
        heif = pytest.importorskip("pillow_heif")
        exif = options.pop("exif", None)
        options |= {"exif": exif.tobytes()} if exif else {}
        heif.from_pillow(image).save(stream, **options)
    else:
        image.save(stream, kind, **options)
    return stream.getvalue()


def tiff(width, height, bits, photometric, body, order="<", **tags):
    """An uncompressed TIFF of one strip, written by hand: bits of each channel, pixels, tags."""
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: None,
               277: len(bits), 278: height, 279: len(body)}  # fmt: skip
    entries |= {int(name[1:]): value for name, value in tags.items()}
    start = 8 + 2 + 12 * len(entries) + 4
    lists = {tag: value for tag, value in entries.items() if isinstance(value, list)}
    long = {tag: value for tag, value in lists.items() if len(value) > 2}
    entries[273] = start + sum(2 * len(value) for value in long.values())
    directory, tail = b"", b""
    for tag, value in sorted(entries.items()):
        if tag in long:
            directory += struct.pack(order + "HHII", tag, 3, len(value), start + len(tail))
            tail += struct.pack(f"{order}{len(value)}H", *value)
        elif tag in lists:
            pair = struct.pack(f"{order}{len(value)}H", *value).ljust(4, b"\0")
            directory += struct.pack(order + "HHI", tag, 3, len(value)) + pair
        else:
            directory += struct.pack(order + "HHII", tag, 4, 1, value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    count = struct.pack(order + "H", len(entries))
    return head + count + directory + bytes(4) + tail + body


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


@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "HEIC"]
)
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (64, 48), (701, 33)])
def test_every_format_and_size_opens_as_rgb(tmp_path, kind, size):
    path = tmp_path / "picture.bin"  # the ending doesn't matter
    path.write_bytes(bytes_of(Image.new("RGB", size, RED), kind))
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


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "WEBP", "TIFF", "AVIF", "HEIC"])
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


def test_avif_is_turned_once_when_exif_says_so_as_well():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytes_of(Image.new("RGB", (40, 20)), "AVIF", exif=exif)
    assert b"irot" in data  # what AVIF itself says
    assert decode(data).size == (20, 40)


def test_damaged_exif_doesnt_spoil_the_picture():
    data = bytes_of(noise(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffnonsense")
    assert decode(data).size == (61, 47)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "MPO", "TIFF", "AVIF"])  # MPO: telephones
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
    "AVIF": bytes_of(noise(), "AVIF"),
    "JPEG 2000": bytes_of(noise(), "JPEG2000"),
    **{f"TIFF, {how}": bytes_of(noise(), "TIFF", compression=how)
       for how in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")},
    **({"HEIC": bytes_of(noise(), "HEIC")} if importlib.util.find_spec("pillow_heif") else {}),
}  # fmt: skip


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


@pytest.mark.parametrize(
    "kind",
    [
        "JPEG",
        "progressive JPEG",
        "PNG",
        "AVIF",
        "JPEG 2000",
        "TIFF, tiff_lzw",
        "TIFF, jpeg",
        "HEIC",
    ],
)
def test_a_copy_that_ends_in_zeros(kind):
    if kind == "HEIC":
        pytest.importorskip("pillow_heif")
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
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  moov", "a film; save one frame as JPEG"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a camera's raw format; export it as JPEG"),
        (b"FUJIFILMCCD-RAW 0201", "a camera's raw format; export it as JPEG"),
        (b"8BPS\0\1", "Photoshop; export it"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL; convert it with: djxl"),
        (b"%PDF-1.7", "PDF; export its page as PNG"),
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
    assert "Save it again as JPEG" in str(caught.value)
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


@pytest.mark.parametrize("kind", ["TIFF", "AVIF", "JPEG2000", "HEIC"])
def test_bombs_of_other_formats_are_refused(kind):
    small = bytes_of(Image.new("RGB", (64, 64)), kind)
    bomb = small.replace(struct.pack(">II", 64, 64), struct.pack(">II", 12_000, 12_000))
    if kind == "TIFF":
        bomb = tiff(12_000, 12_000, [8], 1, b"")
    assert bomb != small
    for check in (verify, decode):
        with pytest.raises(ValueError, match="more than the 120,000,000 pixels"):
            check(bomb)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "AVIF", "JPEG", "GIF"])
def test_a_few_bytes_are_no_hundred_megapixels(kind):
    """Below the largest size, and yet seconds and gigabytes of nothing."""
    if kind == "PNG":
        bomb = png(10_900, 10_900, 1, 0, [zlib.compress(bytes(1364 * 10_900))])
    elif kind == "TIFF":
        bomb = tiff(10_900, 10_900, [8], 1, b"")
    else:
        size = {"AVIF": ">II", "JPEG": ">HH", "GIF": "<HH"}[kind]
        small = bytes_of(Image.new("RGB", (72, 72)), kind)
        bomb = small.replace(struct.pack(size, 72, 72), struct.pack(size, 10_900, 10_900))
    for check in (verify, decode):
        with pytest.raises(ValueError, match=r"it claims 118,810,000 pixels and has [\d,]+ bytes"):
            check(bomb)


@pytest.mark.parametrize(("kind", "how"), [("PNG", {}), ("TIFF", {"compression": "group4"})])
def test_a_scanned_page_that_is_nearly_blank_is_no_bomb(kind, how):
    """A4 at 600 dots an inch, black on white: hundreds of pixels a byte."""
    page = Image.new("1", (4960, 7016), 1)
    page.paste(0, (600, 600, 4000, 620))
    scanned = bytes_of(page, kind, **how)
    assert 100 * len(scanned) < 4960 * 7016
    assert decode(scanned).size == (4960, 7016)


def test_a_jpeg_that_comes_in_thousands_of_parts():
    """Each goes over all pixels again: 600 kB took 18 s."""
    whole = bytes_of(Image.new("RGB", (200, 200)), "JPEG", progressive=True)
    part = whole[whole.index(b"\xff\xda") :][:14]
    assert decode(whole[:-2] + part * 50 + whole[-2:]).size == (200, 200)
    for hidden in (b"", b"\xff\xfe\x00\x06\xff\xd9\xff\xd9"):  # an end that is none
        for check in (verify, decode):
            with pytest.raises(ValueError, match="in more than 200 parts"):
                check(whole[:-2] + hidden + part * 40_000 + whole[-2:])


def test_large_phone_pictures_are_not_bombs(recwarn):
    header_only = png(12_000, 9_000, 1, 0, [b""]) + bytes(2_000_000)  # 108 megapixels
    with pytest.raises(ValueError, match="truncated"):
        decode(header_only)
    assert not recwarn.list
    assert images.MAX_PIXELS > 12_000 * 9_000


@pytest.mark.parametrize("order", "<>")
def test_16_bit_tiff(order):
    grey = struct.pack(order + "3H", 0, 0x4D00, 0xFFFF)
    assert np.asarray(decode(tiff(3, 1, [16], 1, grey, order)))[0, :, 0].tolist() == [0, 77, 255]
    colour = struct.pack(order + "3H", 0xC8FF, 0x1E00, 0x2880)
    assert decode(tiff(1, 1, [16] * 3, 2, colour, order)).getpixel((0, 0)) == (0xC8, 0x1E, 0x28)
    clear = struct.pack(order + "4H", 0xC8FF, 0x1E00, 0x2880, 0)
    assert decode(tiff(1, 1, [16] * 4, 2, clear, order, t338=[2])).getpixel((0, 0)) == (255,) * 3


@pytest.mark.parametrize("how", ["tiff_lzw", "tiff_adobe_deflate"])
def test_compressed_16_bit_tiff(how):
    grey = Image.fromarray(np.array([[0, 77 * 257, 65535]], dtype=np.uint16))
    pixels = np.asarray(decode(bytes_of(grey, "TIFF", compression=how)))
    assert pixels[0, :, 0].tolist() == [0, 77, 255]


def test_scanners_tiff_of_12_bits_and_with_white_at_0():
    assert np.asarray(decode(tiff(2, 1, [12], 1, b"\x80\x0f\xff")))[0, :, 0].tolist() == [128, 255]
    white_first = tiff(3, 1, [16], 0, struct.pack("<3H", 0, 65535 - 0x4D00, 65535))
    assert np.asarray(decode(white_first))[0, :, 0].tolist() == [255, 77, 0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0.5, 1], [0, 128, 255]),
        ([0, 77, 255], [0, 77, 255]),
        ([0, 77 * 257, 65535], [0, 77, 255]),
    ],
)
def test_float_tiff(values, expected):
    picture = bytes_of(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF")
    verify(picture)
    assert np.asarray(decode(picture))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("values", [[-1000, 3000], [0, 1e6], [0, float("nan")], [0, float("inf")]])
def test_float_tiff_that_doesnt_say_what_is_white(values):
    picture = bytes_of(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF")
    for check in (verify, decode):
        with pytest.raises(ValueError, match=r"nothing says which is white.*save it with 8 or 16"):
            check(picture)


@pytest.mark.parametrize(
    ("bits", "photometric", "body", "tags", "expected"),
    [
        ([8] * 4, 5, [0, 255, 255, 0], {}, (255, 0, 0)),  # CMYK
        ([8] * 3, 6, [76, 85, 255], {"t530": [1, 1]}, (254, 0, 0)),  # YCbCr of JPEG's red
        ([8] * 3, 8, [136, 80, 67], {}, (255, 0, 0)),  # CIE Lab of red: 53, 80, 67
        ([8] * 2, 1, [50, 128], {"t338": [1]}, (177, 177, 177)),  # multiplied by its opacity
        ([8] * 4, 2, [100, 15, 20, 128], {"t338": [1]}, (227, 142, 147)),
        ([1], 0, [0], {}, (255, 255, 255)),
    ],
)
def test_kinds_of_tiff(bits, photometric, body, tags, expected):
    found = decode(tiff(1, 1, bits, photometric, bytes(body), **tags)).getpixel((0, 0))
    assert np.abs(np.subtract(found, expected)).max() <= 12  # Lab in 8 bits is as coarse as that


@pytest.mark.parametrize("tags", [{"t254": 1}, {"t50706": 0x401}])
def test_the_preview_in_a_raw_file_is_not_taken_for_the_picture(tags):
    preview = tiff(1, 1, [8] * 3, 2, bytes([1, 2, 3]), **tags)  # as NEF, ARW and DNG begin
    assert has_picture(preview)
    for check in (verify, decode):
        with pytest.raises(ValueError, match="a camera's raw format; export it as JPEG"):
            check(preview)


def test_canons_raw_format_and_a_tiff_of_strange_channels():
    with pytest.raises(ValueError, match="a camera's raw format"):
        decode(b"II*\0\x10\0\0\0CR\2\0" + bytes(100))
    with pytest.raises(ValueError, match=r"TIFF of a kind that is not read.*save it with 8 bits"):
        decode(tiff(1, 1, [16] * 3, 32803, bytes(6)))


@pytest.mark.parametrize("kind", ["AVIF", "HEIC", "TIFF", "JPEG2000", "WEBP", "PNG"])
def test_alpha_shows_white_in_every_format(kind):
    pixels = bytes_of(Image.new("RGBA", (64, 64), (*RED, 0)), kind)
    assert decode(pixels).getpixel((32, 32)) == (255, 255, 255)


def test_the_thumbnail_in_heic_is_not_what_is_checked():
    heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    heif.from_pillow(noise(640, 480)).save(stream, thumbnails=[64])
    assert verify(stream.getvalue()).size == (640, 480)


WITHOUT_HEIC = """
import sys
sys.modules["pillow_heif"] = None  # as Python does it for what can't be imported
from course_lib.data import ImageError, open_image
try:
    open_image(sys.argv[1])
except ImageError as error:
    print(error)
"""


def test_heic_without_the_package_names_the_line_that_installs_it(tmp_path):
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    command = [sys.executable, "-c", WITHOUT_HEIC, str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "IMG_1.HEIC can't be read: it is an HEIC picture" in said
    assert "pip install pillow-heif" in said
    assert "Save it again as JPEG" in said


def test_opening_other_pictures_imports_nothing_for_heic(tmp_path):
    path = tmp_path / "a.png"
    noise().save(path)
    code = (
        "import sys; from course_lib.data import open_image; open_image(sys.argv[1]); "
        "print('pillow_heif' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


def test_has_picture_goes_by_content():
    assert all(has_picture(data) for data in KINDS.values())
    assert has_picture(KINDS["PNG"][:100])
    assert not has_picture(b"id,label\n1,hotdog\n")
    assert not has_picture(b"")


def test_has_picture_warns_of_nothing(recwarn):
    entries = b"".join(struct.pack("<HHII", tag, 2, 200, 0) for tag in range(1000, 1100))
    has_picture(b"II*\0\x08\0\0\0" + struct.pack("<H", 100) + entries + bytes(300))
    assert not recwarn.list


def test_pillows_own_settings_are_left_alone():
    def settings():
        return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, sorted(Image.OPEN)

    decode(KINDS["JPEG"])
    before = settings()
    for data in KINDS.values():
        decode(data)
    assert before == settings()
    assert "HEIF" not in Image.OPEN


def test_a_side_that_no_picture_has_is_refused(tmp_path):
    """A TIFF whose header claims 262,184 rows and that has 40: Pillow makes the others up."""
    path = tmp_path / "a.tif"
    Image.new("RGB", (50, 40), "red").save(path)
    content = path.read_bytes()
    rows = struct.pack("<HHLHH", 257, 3, 1, 40, 0), struct.pack("<HHLL", 257, 4, 1, 262_184)
    long = struct.pack("<HHLL", 257, 4, 1, 40)
    assert (rows[0] in content) != (long in content)
    path.write_bytes(content.replace(rows[0], rows[1]).replace(long, rows[1]))
    with pytest.raises(ImageError, match="longer side than 65,535"):
        open_image(path)


def test_a_file_with_holes_that_is_larger_than_any_picture(tmp_path):
    path = tmp_path / "a.jpg"
    try:
        path.touch()
        os.truncate(path, 1 << 42)
    except OSError:
        pytest.skip("this file system has no such files")
    with pytest.raises(ImageError, match="more than"):
        open_image(path)
