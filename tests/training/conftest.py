"""A small task that is learnt in a few steps, for the tests of training."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make_net(classes=3, dropout=0.0):
    """Everything that makes training delicate: BatchNorm, dropout, a head of its own."""
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(4 * 16, classes),
    )


def make_set(n=26, classes=3, seed=0):
    stream = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % classes
    images = torch.randn(n, 1, 4, 4, generator=stream)
    images[:, 0, 0, 0] += 2.0 * targets  # something to learn
    return TensorDataset(images, targets)


def batches_of(dataset, size=5):
    return list(DataLoader(dataset, batch_size=size))


def tensors_of(model):
    return copy.deepcopy(dict([*model.named_parameters(), *model.named_buffers()]))


def same_tensors(model, others):
    mine = tensors_of(model)
    return mine.keys() == others.keys() and all(
        torch.equal(each, others[name]) for name, each in mine.items()
    )


@pytest.fixture
def net():
    return make_net()


@pytest.fixture
def batches():
    """Six batches, the last one of a single example."""
    return batches_of(make_set())
