import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from course_lib.data import channel_statistics, image_folder
from course_lib.data.images import open_image
from course_lib.errors import DataError


def picture(height, width, seed):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values // (1 + seed % 3))  # of different brightness


def reference(pictures):
    pixels = np.concatenate([np.asarray(each).reshape(-1, 3) for each in pictures]) / 255
    return pixels.mean(0), pixels.std(0)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=12))
def test_equal_to_numpy_on_all_pixels_laid_side_by_side(sizes):
    pictures = [picture(*size, seed) for seed, size in enumerate(sizes)]
    mean, std = channel_statistics([(each, 0) for each in pictures])
    expected = reference(pictures)
    np.testing.assert_allclose(mean, expected[0], rtol=1e-12)
    np.testing.assert_allclose(std, expected[1], rtol=1e-10, atol=1e-12)


def test_a_large_picture_counts_more():
    white, black = Image.new("RGB", (30, 10), "white"), Image.new("RGB", (10, 10))
    mean, std = channel_statistics([white, black])
    assert mean == pytest.approx((0.75,) * 3, abs=1e-15)
    assert std == pytest.approx((np.sqrt(0.75 * 0.25),) * 3, abs=1e-15)


def test_per_picture_leaves_out_the_differences_between_pictures():
    pictures = [picture(9, 5, 1), picture(20, 31, 2), Image.new("RGB", (3, 3), "white")]
    mean, std = channel_statistics(pictures, per_picture=True)
    np.testing.assert_allclose(mean, reference(pictures)[0])
    each = [np.asarray(one).reshape(-1, 3).std(0) / 255 for one in pictures]
    np.testing.assert_allclose(std, np.mean(each, axis=0))
    assert np.less(std, channel_statistics(pictures)[1]).all()


def test_pictures_of_one_colour_have_no_spread():
    mean, std = channel_statistics([Image.new("RGB", (50, 70), (10, 100, 250))] * 3)
    assert mean == pytest.approx((10 / 255, 100 / 255, 250 / 255), abs=1e-15)
    assert std == pytest.approx((0, 0, 0), abs=1e-14)


def test_no_digits_are_lost_on_bright_pictures_that_hardly_vary():
    pixels = torch.full((3, 100, 100), 1 - 1e-7, dtype=torch.float64)
    pixels[:, ::2] = 1
    _, std = channel_statistics([pixels, pixels])
    assert std == pytest.approx((0.5e-7,) * 3, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_tensors_are_pictures_too(dtype):
    pictures = [picture(8, 6, seed) for seed in range(3)]
    to_tensor = v2.Compose([v2.ToImage(), v2.ToDtype(dtype, scale=True)])
    mean, std = channel_statistics([to_tensor(each) for each in pictures])
    np.testing.assert_allclose(mean, reference(pictures)[0], rtol=1e-6)
    np.testing.assert_allclose(std, reference(pictures)[1], rtol=1e-6)


def test_over_a_folder_and_good_for_normalising(make_folders, own_cache):
    root = make_folders({"train/a": 4, "train/b": 4, "test/a": 1, "test/b": 1})
    train = image_folder(root)
    mean, std = channel_statistics(train)
    np.testing.assert_allclose(mean, reference([open_image(path) for path in train.paths])[0])
    to_tensor = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float64, scale=True)])
    pixels = torch.cat(
        [v2.functional.normalize(to_tensor(image), mean, std).flatten(1) for image, _ in train], 1
    )
    assert pixels.mean(1).abs().max() < 1e-12
    assert (pixels.std(1, correction=0) - 1).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "the data set is empty"),
        ([torch.zeros(1, 4, 4)], r"found a tensor of shape \(1, 4, 4\)"),
        ([torch.zeros(2, 3, 4, 4)], r"\(2, 3, 4, 4\)"),
        ([np.zeros((4, 4, 3))], "found ndarray"),
        ([("a.jpg", 0)], "found str"),
    ],
)
def test_anything_else_is_refused(items, message):
    with pytest.raises(DataError, match=message):
        channel_statistics(items)
