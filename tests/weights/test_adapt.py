"""Another input: channels and picture sizes; against timm and torchvision."""

import pytest
import timm
import torch
import torchvision
from timm.layers import resample_abs_pos_embed
from torch import nn

from course_lib.weights import LoadError, load_weights
from course_lib.weights.loading.adapt import input_channels, resize_positions
from tests.weights.conftest import make, snapshot, untouched


def test_one_channel_sees_a_grey_picture_as_three_do():
    rgb, grey = make(2).eval(), make(1, channels=1).eval()
    with pytest.raises(LoadError, match=r"\(4, 3, 3, 3\) in the file.*adapt_input='repeat'"):
        load_weights(grey, rgb)
    picture = torch.rand(2, 1, 8, 8)
    for how in ("repeat", "zeros"):
        report = load_weights(grey, rgb, adapt_input=how)
        assert report.loaded[0].adapted == "input channels 3 -> 1"
        torch.testing.assert_close(grey(picture), rgb(picture.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("channels", [2, 4, 6, 7])
def test_other_numbers_of_channels(channels):
    weight = torch.randn(5, 3, 2, 2)
    repeated = input_channels(weight, channels, "repeat")
    assert repeated.shape == (5, channels, 2, 2)
    from timm.models import adapt_input_conv

    torch.testing.assert_close(repeated, adapt_input_conv(channels, weight))
    if channels > 3:
        zeros = input_channels(weight, channels, "zeros")
        assert torch.equal(zeros[:, :3], weight)
        assert not zeros[:, 3:].any()


def test_four_channels_with_zeros_ignore_the_fourth():
    rgb, more = make(2).eval(), make(1, channels=4).eval()
    load_weights(more, rgb, adapt_input="zeros")
    picture = torch.rand(2, 4, 8, 8)
    torch.testing.assert_close(more(picture), rgb(picture[:, :3]))


def test_two_convolutions_with_other_inputs_are_another_architecture():
    model = nn.ModuleList([nn.Conv2d(1, 2, 3), nn.Conv2d(5, 2, 3)])
    state = nn.ModuleList([nn.Conv2d(3, 2, 3), nn.Conv2d(3, 2, 3)]).state_dict()
    before = snapshot(model)
    with pytest.raises(LoadError, match="Several convolutions"):
        load_weights(model, state, adapt_input="repeat")
    with pytest.raises(LoadError, match="adapt_input='sum'; expected None or 'repeat' or 'zeros'"):
        load_weights(model, state, adapt_input="sum")
    assert untouched(model, before)


@pytest.mark.parametrize(("old", "new", "extra"), [
    ((4, 4), (7, 7), 1), ((7, 7), (4, 4), 1), ((4, 4), (7, 7), 0), ((4, 4), (8, 2), 2),
    ((8, 2), (3, 5), 1),
])  # fmt: skip
def test_positions_as_timm_resizes_them(old, new, extra):
    embedding = torch.randn(1, old[0] * old[1] + extra, 8)
    expected = resample_abs_pos_embed(embedding, list(new), list(old), num_prefix_tokens=extra)
    torch.testing.assert_close(resize_positions(embedding, old, new), expected)
    torch.testing.assert_close(resize_positions(embedding[0], old, new), expected[0])


def test_a_transformer_for_larger_pictures():
    small = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=1, num_classes=3)
    large = timm.create_model("vit_tiny_patch16_224", img_size=96, depth=1, num_classes=3)
    with pytest.raises(LoadError, match="resize_positions=True"):
        load_weights(large, small)
    report = load_weights(large, small, resize_positions=True)
    assert [each.adapted for each in report.adapted] == ["positions 4x4 -> 6x6"]
    assert torch.equal(large.pos_embed[:, 0], small.pos_embed[:, 0])
    kinds = torchvision.models.VisionTransformer
    one, two = (kinds(side, 16, 1, 2, 8, 16, num_classes=2) for side in (32, 64))
    assert load_weights(two, one, resize_positions=True).adapted[0].name.endswith("pos_embedding")
