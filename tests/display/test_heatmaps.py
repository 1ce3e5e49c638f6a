"""Grad-CAM on networks whose answer is known, and on real architectures."""

import copy
import math
from contextlib import suppress

import pytest
import timm
import torch
import torchvision
from captum.attr import LayerAttribution, LayerGradCam
from PIL import Image
from torch import nn

from course_lib import features, freezing
from course_lib.display.heatmaps import HeatmapError, grad_cam, last_feature_map
from course_lib.errors import CourseError, UnknownNameError
from course_lib.features import FeaturesError


class RedHere(nn.Module):
    """Class 0 is the amount of red, class 1 the amount of blue: where it looks is known."""

    def __init__(self):
        super().__init__()
        self.see = nn.Conv2d(3, 2, 1, bias=False)
        self.see.weight.data = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])[..., None, None]
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images):
        return self.pool(self.see(images)).flatten(1)


def half_red_half_blue():
    image = torch.zeros(1, 3, 8, 8)
    image[:, 0, :, :4] = 1
    image[:, 2, :, 4:] = 1
    return image


@pytest.mark.parametrize(("target", "bright", "dark"), [(0, slice(0, 4), slice(4, 8)),
                                                        (1, slice(4, 8), slice(0, 4))])  # fmt: skip
def test_it_looks_where_the_class_is(target, bright, dark):
    maps = grad_cam(RedHere(), half_red_half_blue(), target)
    assert maps.shape == (1, 8, 8)
    assert torch.equal(maps[0, :, bright], torch.ones(8, 4))
    assert torch.equal(maps[0, :, dark], torch.zeros(8, 4))


def test_a_class_that_no_place_speaks_for_gives_zeros():
    assert not grad_cam(RedHere(), torch.zeros(1, 3, 8, 8), 0).any()


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_real_networks_frozen_or_not_are_left_as_they_were(name):
    model = torchvision.models.get_model(name, num_classes=3)
    model.train()
    next(iter(model.children())).eval()
    for parameter in model.parameters():
        parameter.requires_grad = False
    modes = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randn(2, 3, 64, 64)
    maps = grad_cam(model, images, torch.tensor([0, 2]))
    assert maps.shape == (2, 64, 64)
    assert maps.min() >= 0
    assert maps.max() <= 1
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert images.grad is None


def test_the_last_map_is_found():
    images = torch.randn(1, 3, 64, 64)
    assert last_feature_map(torchvision.models.resnet18(), images).startswith("layer4.1.")


def test_bad_input():
    with pytest.raises(UnknownNameError, match="Did you mean 'see'"):
        grad_cam(RedHere(), half_red_half_blue(), 0, layer="se")
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    with pytest.raises(HeatmapError, match="no feature map"):
        grad_cam(flat, half_red_half_blue(), 0)


def test_a_frozen_part_comes_back_to_the_mode_that_it_had():
    """Frozen parts record the calls of train() and eval(): that of the heat map isn't theirs."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1),
                          nn.Flatten(), nn.Linear(4, 2)).train()  # fmt: skip
    freezing.freeze(model, ["0", "1"])
    grad_cam(model, torch.randn(2, 3, 8, 8), 0)
    freezing.unfreeze(model, ["0", "1"])
    assert all(module.training for module in model.modules())


class Bright(nn.Module):
    """A map of whatever layout, from which class 0 is read as the amount of red."""

    def __init__(self, layout, channels=7):
        super().__init__()
        self.layout = layout
        self.see = nn.Conv2d(3, channels, 1, bias=False)
        self.see.weight.data.zero_()
        self.see.weight.data[:2, 0] = 1
        self.given = nn.Identity()  # a kind that tells nothing

    def forward(self, images):
        seen = self.see(images)
        if self.layout == "last":
            return self.given(seen.permute(0, 2, 3, 1)).mean(dim=(1, 2))
        if self.layout == "first":
            return self.given(seen).mean(dim=(2, 3))
        flat = seen.flatten(2)
        if self.layout == "sequence of channels":
            return self.given(flat).mean(dim=2)
        extra = flat.new_ones(len(flat), flat.shape[1], 3)
        if self.layout == "tokens":
            return self.given(torch.cat([extra, flat], dim=2).transpose(1, 2)).mean(dim=1)
        return self.given(torch.cat([flat, extra], dim=2).transpose(1, 2)).mean(dim=1)


@pytest.mark.parametrize("size", [(7, 7), (8, 12)])
@pytest.mark.parametrize("channels", [7, 8, 12])
@pytest.mark.parametrize(
    "layout", ["first", "last", "tokens", "tokens first", "sequence of channels"]
)
def test_where_it_looks_does_not_hang_on_the_layout(layout, channels, size):
    image = torch.rand(1, 3, *size)
    found = grad_cam(Bright(layout, channels), image, 0, layer="given")
    torch.testing.assert_close(found[0], image[0, 0] / image[0, 0].max())
    assert torch.equal(found, grad_cam(Bright(layout, channels), image, 0))


ARCHITECTURES = {  # name -> (layer, where the places are in its output)
    "torchvision resnet18": ("layer4", "first"),
    "torchvision vgg11": ("features", "first"),
    "torchvision mobilenet_v3_small": ("features", "first"),
    "torchvision shufflenet_v2_x0_5": ("conv5", "first"),
    "torchvision convnext_tiny": ("features", "first"),
    "torchvision swin_t": ("norm", "last"),
    "torchvision vit_b_16": ("encoder.layers.encoder_layer_11.ln_1", 1),
    "tf_efficientnet_lite0": ("bn2", "first"),
    "convnext_atto": ("stages", "first"),
    "swin_tiny_patch4_window7_224": ("norm", "last"),
    "vit_tiny_patch16_224": ("blocks.11.norm1", 1),
    "deit_tiny_distilled_patch16_224": ("blocks.11.norm1", 2),
    "mixer_s32_224": ("norm", 0),
    "visformer_tiny": ("norm", "first"),
}


def network(name):
    torch.manual_seed(0)
    kind, _, at_torchvision = name.partition("torchvision ")
    if at_torchvision:
        model = torchvision.models.get_model(at_torchvision, weights=None)
    else:
        model = timm.create_model(kind)
    for module in model.modules():  # some heads are zeros at the start
        if isinstance(module, nn.Linear) and module.out_features == 1000:
            nn.init.normal_(module.weight)
    return model.eval()


class Shown(nn.Module):
    """A layer whose places pass through ``map`` as (B, C, H, W), which is what captum reads.

    ``places`` is ``"first"`` or ``"last"``, as the channels are, or how many tokens stand before
    those of a square grid.
    """

    def __init__(self, layer, places):
        super().__init__()
        self.layer, self.places, self.map = layer, places, nn.Identity()

    def forward(self, *inputs):
        given = self.layer(*inputs)
        if self.places == "first":
            return self.map(given)
        if self.places == "last":
            return self.map(given.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        front, grid = given[:, : self.places], given[:, self.places :]
        side = math.isqrt(grid.shape[1])
        back = self.map(grid.transpose(1, 2).unflatten(2, (side, side)))
        return torch.cat([front, back.flatten(2).transpose(1, 2)], dim=1)


def captums(model, images, target, layer, places="first"):
    """captum's Grad-CAM, scaled as ours."""
    model = copy.deepcopy(model)
    shown = Shown(model.get_submodule(layer), places)
    model.set_submodule(layer, shown)
    found = LayerGradCam(model, shown.map).attribute(
        images.clone().requires_grad_(), target=target, relu_attributions=True
    )
    maps = LayerAttribution.interpolate(found, images.shape[2:], "bilinear")[:, 0].detach()
    return maps / maps.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_map_of_an_architecture_is_captums_at_its_last_layer(name):
    model, images = network(name), torch.rand(1, 3, 224, 224) * 2 - 1
    target = int(model(images).argmax())  # a class that some place speaks for
    expected = captums(model, images, target, *ARCHITECTURES[name])
    assert expected.max() == 1
    torch.testing.assert_close(grad_cam(model, images, target), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_tokens_without_places_are_neither_shown_nor_averaged_over_channels(seed):
    """Tokens (16, 384) and (49, 256) of a net that mixes all places; 256 would be a square, too."""
    torch.manual_seed(seed)
    model, images = timm.create_model("levit_128s").eval(), torch.rand(2, 3, 224, 224)
    data = torch.utils.data.TensorDataset(images, torch.arange(2))
    for layer, width in (("stages.2", 384), ("stages.1.blocks.2", 256)):
        with pytest.raises(HeatmapError, match="gives no map"):
            grad_cam(model, images, 0, layer)
        with suppress(FeaturesError):
            found = features.extract(model, data, layer=layer, cache=False, progress=False)
            assert found.values.shape == (2, width)
    assert ".attn" not in last_feature_map(model, images)


@pytest.mark.parametrize("layer", ["layer4", "layer3.0.conv1"])
def test_the_map_of_a_named_layer_is_captums(layer):
    model, images = network("torchvision resnet18"), torch.randn(2, 3, 64, 64)
    expected = captums(model, images, 3, layer)
    torch.testing.assert_close(grad_cam(model, images, 3, layer), expected)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("fc", "no map of a picture's places"),
        ("avgpool", "no map of a picture's places"),
        ("layer9", "no layer 'layer9'"),
        ("", "no layer ''"),
    ],
)
def test_a_layer_without_a_map_is_refused(layer, said):
    with pytest.raises(CourseError, match=said):
        grad_cam(network("torchvision resnet18"), torch.randn(1, 3, 64, 64), 3, layer)


def test_what_only_looks_like_a_map_is_refused():
    class Pretender(RedHere):
        def forward(self, images):
            found = super().forward(images)
            self.spread(found[:, :, None, None].expand(-1, -1, 8, 8))
            return found

    model = Pretender()
    model.spread = nn.Identity()
    with pytest.raises(HeatmapError, match="'spread' gives no map"):
        grad_cam(model, half_red_half_blue(), 0, "spread")


@pytest.mark.parametrize(
    ("images", "target", "said"),
    [
        (half_red_half_blue(), 2, "scores 2 classes: 0 to 1"),
        (half_red_half_blue(), -1, "scores 2 classes: 0 to 1"),
        (half_red_half_blue(), torch.tensor([5]), "scores 2 classes"),
        (
            half_red_half_blue(),
            torch.tensor([0, 1]),
            r"one for each of the 1 pictures; got a tensor",
        ),
        (half_red_half_blue(), 0.0, "must be a class number"),
        (half_red_half_blue(), True, "must be a class number"),
        (half_red_half_blue(), "red", "must be a class number"),
        (half_red_half_blue(), None, "must be a class number"),
        (half_red_half_blue()[0], 0, r"write images\[None\]"),
        (half_red_half_blue()[:0], 0, "one or more"),
        (half_red_half_blue().byte(), 0, r"got a tensor of torch\.uint8"),
        (half_red_half_blue() * float("nan"), 0, "not a number"),
        (Image.new("RGB", (8, 8)), 0, "got Image"),
        ("picture.png", 0, "got str"),
    ],
)
def test_bad_arguments_are_named(images, target, said):
    with pytest.raises(HeatmapError, match=said):
        grad_cam(RedHere(), images, target)


def test_gradients_are_needed_and_asked_for():
    with torch.no_grad():
        assert grad_cam(RedHere(), half_red_half_blue(), 0).any()
    with torch.inference_mode(), pytest.raises(HeatmapError, match="inference_mode"):
        grad_cam(RedHere(), half_red_half_blue(), 0)
    with torch.inference_mode():
        made = RedHere()
    with pytest.raises(HeatmapError, match="inference_mode"):
        grad_cam(made, half_red_half_blue(), 0)
