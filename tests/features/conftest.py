"""A small network, a small data set of tensors, a folder of pictures; a cache folder a test."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset


def make_net():
    """Convolutions with BatchNorm and ReLU in place, dropout, a linear head."""
    return nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
            body=nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)),
            act=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            drop=nn.Dropout(0.5),
            fc=nn.Linear(6, 3),
        )
    )


@pytest.fixture
def net():
    torch.manual_seed(1)
    model = make_net()
    for module in model.modules():  # statistics that matter
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture
def data():
    images = torch.randn(11, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    return TensorDataset(images, torch.arange(11) % 3)


@pytest.fixture
def cache_dir(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def pictures(tmp_path):
    """A folder of eleven small pictures in two classes, train and test."""
    drawn = np.random.default_rng(0)
    for number in range(11):
        split, name = ("train", "test")[number > 7], ("cat", "dog")[number % 2]
        folder = tmp_path / "pictures" / split / name
        folder.mkdir(parents=True, exist_ok=True)
        pixels = drawn.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "pictures"
