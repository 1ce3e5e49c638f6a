"""Grad-CAM on networks whose answer is known, and on real architectures."""

import pytest
import torch
import torchvision
from torch import nn

from course_lib import freezing
from course_lib.display.heatmaps import HeatmapError, grad_cam, last_feature_map
from course_lib.errors import UnknownNameError


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
