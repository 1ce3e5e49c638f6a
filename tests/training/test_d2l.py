"""The course's loop gives what d2l's ``train_ch13`` gives: the same bits, the same figures."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from course_lib.training import finetune

from .conftest import make_net, make_set, same_tensors, tensors_of


class NoPlot:
    """Takes the place of d2l's animated figure, the one thing replaced; it trains as it is."""

    def __init__(self, *_, **__): ...

    def add(self, *_): ...


@pytest.fixture
def d2l(monkeypatch):
    d2l = pytest.importorskip("d2l.torch")
    monkeypatch.setattr(d2l, "Animator", NoPlot)
    return d2l


def loader(dataset, shuffle):
    stream = torch.Generator().manual_seed(3)
    return DataLoader(dataset, batch_size=5, shuffle=shuffle, generator=stream)


def sgd(model, lr):
    """Ten times the rate for the head, as in the book."""
    body = [parameter for name, parameter in model.named_parameters() if name[0] != "5"]
    groups = [{"params": body}, {"params": model[5].parameters(), "lr": 10 * lr}]
    return torch.optim.SGD(groups, lr=lr, weight_decay=1e-3)


def by_d2l(d2l, model, lr, capsys):
    train, test = loader(make_set(), True), loader(make_set(14, seed=1), False)
    optimizer = sgd(model, lr)
    d2l.train_ch13(
        model, train, test, nn.CrossEntropyLoss(reduction="none"), optimizer, 2, [d2l.cpu()]
    )
    return capsys.readouterr().out


@pytest.mark.parametrize("build", ["ours", "given"])
def test_bit_equal_weights_and_equal_figures(d2l, capsys, build):
    theirs, ours = make_net(), make_net()
    start = copy.deepcopy(tensors_of(ours))
    printed = by_d2l(d2l, theirs, 1e-3, capsys)
    train, test = loader(make_set(), True), loader(make_set(14, seed=1), False)
    how = {"lr": 1e-3} if build == "ours" else {"optimizer": sgd(ours, 1e-3)}
    loss = nn.CrossEntropyLoss(reduction="sum")
    history = finetune(ours, train, test, epochs=2, loss=loss, device="cpu", **how)
    assert same_tensors(ours, tensors_of(theirs))
    assert not same_tensors(ours, start)
    last = history[-1]
    figures = re.search(r"loss (\S+), train acc (\S+), test acc (\S+)", printed).groups()
    mine = (last.train_loss, last.train_acc, last.test_acc)
    assert figures == tuple(f"{each:.3f}" for each in mine)


def test_the_mean_needs_a_rate_larger_by_the_batch_size(d2l, capsys):
    theirs, ours = make_net(), make_net()
    by_d2l(d2l, theirs, 1e-3, capsys)
    optimizer = sgd(ours, 5e-3)
    for group in optimizer.param_groups:  # the decay isn't part of the sum
        group["weight_decay"] /= 5
    train = [(x, y) for x, y in loader(make_set(25), False)]  # five in each batch
    other = make_net()
    finetune(ours, train, epochs=2, optimizer=optimizer, device="cpu")
    d2l.train_ch13(
        other, train, train, nn.CrossEntropyLoss(reduction="none"), sgd(other, 1e-3), 2, [d2l.cpu()]
    )
    for mine, expected in zip(ours.parameters(), other.parameters(), strict=True):
        assert torch.allclose(mine, expected, atol=1e-6)
