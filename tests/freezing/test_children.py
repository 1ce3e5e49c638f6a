"""The sources' helpers over direct children, done right."""

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.errors import UnknownNameError
from course_lib.freezing import (
    ChildIndexError,
    FreezingError,
    freeze_by_idxs,
    freeze_by_names,
    frozen_names,
    unfreeze_by_idxs,
    unfreeze_by_names,
)
from tests.freezing.conftest import fingerprint


def off(model):
    return {n for n, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad}


@pytest.fixture
def chars():
    """The sources' character model: an embedding and three linear layers."""
    return nn.ModuleDict(
        {
            "em": nn.Embedding(4, 3),
            "e": nn.Linear(3, 3),
            "fc1": nn.Linear(3, 3),
            "fc2": nn.Linear(3, 3),
        }
    )


def test_one_name_or_several(chars):
    freeze_by_names(chars, "em")
    assert off(chars) == {"em.weight"}
    freeze_by_names(chars, ["fc1", "fc2"])
    assert off(chars) == {"em.weight", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
    unfreeze_by_names(chars, "em")
    unfreeze_by_names(chars, ("fc2",))
    assert off(chars) == {"fc1.weight", "fc1.bias"}


def test_indices_like_those_of_sequential():
    twice = nn.Linear(2, 2)
    model = nn.Sequential(nn.Linear(2, 2), twice, nn.ReLU(), twice, nn.Linear(2, 2))
    freeze_by_idxs(model, -1)
    assert off(model) == {"4.weight", "4.bias"}
    freeze_by_idxs(model, [0, np.int64(3)])
    assert not twice.weight.requires_grad  # model[3] is model[1]
    unfreeze_by_idxs(model, [-5, 1])
    assert off(model) == {"4.weight", "4.bias"}
    unfreeze_by_idxs(model, torch.tensor(4))
    freeze_by_idxs(model, torch.tensor([0, 4]))
    unfreeze_by_idxs(model, np.arange(0, 5, 4))
    assert off(model) == set()


def test_nothing_is_nothing(chars):
    freeze_by_names(chars, [])
    freeze_by_idxs(chars, [])
    assert off(chars) == set()


@pytest.mark.parametrize(
    ("call", "argument", "error", "says"),
    [
        (freeze_by_names, "fc", UnknownNameError, "Did you mean 'fc2' or 'fc1'"),
        (freeze_by_names, "fc1.weight", UnknownNameError, "use freeze()"),
        (freeze_by_names, ["em", "fc9"], UnknownNameError, "em, e, fc1, fc2"),
        (freeze_by_names, "fc*", UnknownNameError, "no direct child"),
        (freeze_by_names, "", FreezingError, "empty name"),
        (freeze_by_names, 1, FreezingError, "one name or a list"),
        (freeze_by_names, [1], FreezingError, "freeze_by_idxs"),
        (freeze_by_names, ["em", "em"], FreezingError, "twice"),
        (unfreeze_by_names, "fc", UnknownNameError, "Did you mean"),
        (freeze_by_idxs, 4, ChildIndexError, "4 children, -4 to 3"),
        (freeze_by_idxs, -5, IndexError, "4 children, -4 to 3"),
        (freeze_by_idxs, [0, 7], ChildIndexError, "Index 7"),
        (freeze_by_idxs, [0, -4], FreezingError, "given twice"),
        (freeze_by_idxs, "0", FreezingError, "not str"),
        (freeze_by_idxs, ["0"], FreezingError, "no index"),
        (freeze_by_idxs, 1.0, FreezingError, "not float"),
        (freeze_by_idxs, True, FreezingError, "not bool"),
        (freeze_by_idxs, [True], FreezingError, "no index"),
        (freeze_by_idxs, None, FreezingError, "NoneType"),
        (unfreeze_by_idxs, 9, ChildIndexError, "out of range"),
    ],
)
def test_bad_input_changes_nothing(chars, call, argument, error, says):
    before = fingerprint(chars)
    with pytest.raises(error) as caught:
        call(chars, argument)
    assert says in str(caught.value)
    assert fingerprint(chars) == before


def test_no_children_at_all():
    with pytest.raises(ChildIndexError, match=r"0 children\."):
        freeze_by_idxs(nn.Linear(1, 1), 0)


def test_unfreezing_adds_to_the_optimizer(chars):
    optimizer = torch.optim.SGD(chars["fc2"].parameters(), lr=0.1)
    freeze_by_names(chars, "fc1")
    report = unfreeze_by_names(chars, "fc1", optimizer, lr=0.01)
    assert report.added == ("fc1.weight", "fc1.bias")
    assert optimizer.param_groups[1]["lr"] == 0.01
    freeze_by_idxs(chars, 2)
    unfreeze_by_idxs(chars, 2, optimizer)
    assert len(optimizer.param_groups) == 2


def test_buffers_of_a_child_are_frozen_too(small):
    freeze_by_names(small, "bn")
    assert "bn.running_mean" in frozen_names(small)
