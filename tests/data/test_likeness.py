import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from course_lib.data import image_folder
from course_lib.data.images import verify
from course_lib.data.likeness import MOST, SMALL, alike, sketch
from course_lib.data.manifest import bundled_folder

WAYS = {
    "worse": lambda image: (image, 40),
    "half": lambda image: (image.resize((image.width // 2, image.height // 2)), 80),
    "a third": lambda image: (image.resize((image.width // 3, image.height // 3)), 75),
    "twice": lambda image: (image.resize((image.width * 2, image.height * 2)), 90),
    "brighter": lambda image: (ImageEnhance.Brightness(image).enhance(1.1), 90),
}


def saved(image, quality, kind="JPEG"):
    stream = io.BytesIO()
    image.save(stream, kind, quality=quality)
    return stream.getvalue()


def seen(data):
    return sketch(verify(data, SMALL))


def scene(seed, side=192):
    """A picture with large and small structure: coloured noise at three scales."""
    numbers = np.random.default_rng(seed)
    layers = [
        Image.fromarray(numbers.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize((side, side))
        for n in (3, 7, 17)
    ]
    return Image.fromarray(np.mean([np.asarray(each) for each in layers], axis=0).astype(np.uint8))


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_that_was_saved_again_is_recognised(way):
    pictures = [scene(seed) for seed in range(12)]
    copies = [WAYS[way](image) for image in pictures]
    sketches = [seen(saved(image, 95)) for image in pictures] + [seen(saved(*c)) for c in copies]
    assert alike(sketches) == [(number, number + 12) for number in range(12)]


def test_another_format_of_the_same_picture_is_recognised():
    image = scene(0)
    first = seen(saved(image, 95))
    for kind in ("PNG", "WEBP", "TIFF", "AVIF"):
        assert alike([first, seen(saved(image, 90, kind))]) == [(0, 1)], kind


def test_no_two_of_the_bundled_pictures_are_taken_for_one():
    sketches = [
        each
        for part in ("train", "val", "test")
        for each in image_folder(bundled_folder(), part).sketches.values()
    ]
    assert len(sketches) == 320
    assert alike(sketches) == []


def test_no_two_handwritten_digits_are_taken_for_one():
    from sklearn.datasets import load_digits

    digits = (load_digits().images[:400] / 16 * 255).astype(np.uint8)
    big = [Image.fromarray(each).resize((64, 64)).convert("RGB") for each in digits]
    assert alike([sketch(each) for each in big]) == []


def test_plain_pictures_and_one_drawing_in_two_colours_are_not_alike():
    plain = [Image.new("RGB", (50, 50), colour) for colour in ("white", "white", "red")]
    assert alike([sketch(each) for each in plain]) == []
    levels = np.random.default_rng(0).integers(0, 256, (9, 9)).repeat(8, 0).repeat(8, 1)
    red, green = (np.zeros((72, 72, 3), dtype=np.uint8) for _ in range(2))
    red[..., 0], green[..., 1] = levels, levels * 0.299 / 0.587  # as bright, in grey
    assert alike([sketch(Image.fromarray(each)) for each in (red, green)]) == []


def test_damaged_sketches_and_too_many_are_like_nothing():
    good = sketch(scene(1))
    assert alike(["", "nonsense", "////", "é", good[:40]] * 2) == []
    assert alike([good, good]) == [(0, 1)]
    assert alike([good] * (MOST + 1)) == []
    assert alike([]) == []
