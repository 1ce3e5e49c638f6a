"""Small models and the yardsticks of the freezing tests."""

import copy

import pytest
import torch
from torch import nn


def bits(tensor):
    """The tensor's bytes: equal bytes is what bit-exact means (NaN and -0.0 included)."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).clone()


def snapshot(model):
    """Name -> bytes of every parameter and buffer, whether or not it is saved in a state dict."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: bits(tensor) for name, tensor in named}


def moved(model, before):
    """Names of the tensors whose bytes differ from those of a snapshot."""
    after = snapshot(model)
    assert list(after) == list(before)
    return [name for name in after if not torch.equal(after[name], before[name])]


def fingerprint(model):
    """Everything that unfreezing has to give back, apart from values."""
    return [
        (
            name,
            id(module),
            type(module),
            module.training,
            sorted(set(module.__dict__)),
            {
                key: (id(p), p.requires_grad)
                for key, p in module._parameters.items()
                if p is not None
            },
            {key: id(b) for key, b in module._buffers.items()},
            list(module._forward_hooks),
            list(module._forward_pre_hooks),
        )
        for name, module in model.named_modules(remove_duplicate=False)
    ]


def train(model, optimizer, batch, steps=2, set_to_none=True):
    """A plain training loop; returns the last loss."""
    for _ in range(steps):
        model.train()
        optimizer.zero_grad(set_to_none=set_to_none)
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
    return loss.item()


class Small(nn.Module):
    """A convolution with BatchNorm and dropout, then two linear layers."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.mlp = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU())
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        x = self.drop(self.bn(self.conv(x)).relu()).mean((2, 3))
        return self.head(self.mlp(x))


@pytest.fixture
def small():
    return Small()


@pytest.fixture
def batch():
    return torch.randn(6, 3, 7, 7)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.5),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
}


def twin(model):
    return copy.deepcopy(model)
