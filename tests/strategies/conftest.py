"""Models small enough for a test of every strategy."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn


def small_vit(**settings):
    """timm's transformer with 16 patches, three classes, random weights in every parameter."""
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=8, patch_size=2, in_chans=1, num_classes=3, embed_dim=16, depth=2, num_heads=2,
        **settings,
    )  # fmt: skip
    for each in model.parameters():  # biases and the head begin at zero, and would hide a fault
        each.data.add_(0.2 * torch.randn_like(each))
    return model


@pytest.fixture
def vit():
    return small_vit()


@pytest.fixture
def batch():
    stream = torch.Generator().manual_seed(1)
    return torch.randn(12, 1, 8, 8, generator=stream), torch.arange(12) % 3


def train(model, batch, steps=5, kind=torch.optim.SGD, lr=0.1):
    """Some steps in training mode, over every parameter, with momentum's and decay's pull."""
    settings = {"momentum": 0.9, "weight_decay": 0.01} if kind is torch.optim.SGD else {}
    optimizer = kind(model.parameters(), lr=lr, **settings)
    for _ in range(steps):
        model.train()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()
    return model.eval()


def copies(model):
    """All parameters and buffers, copied."""
    return {name: each.detach().clone() for name, each in model.state_dict().items()}


def same(before, after):
    """Whether two state dicts have the same names and bits."""
    return before.keys() == after.keys() and all(
        torch.equal(each, after[name]) for name, each in before.items()
    )
