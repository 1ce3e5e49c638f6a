"""What staged fine-tuning adds to the loop: rates, a schedule, held statistics, a pull."""

import copy

import pytest
import torch
from torch import nn

from course_lib.training import (
    TrainingError,
    depth_rates,
    hold_statistics,
    pull_to_start,
    warm_up_and_fall,
)


def test_rates_fall_from_the_head_in_equal_ratios():
    rates = depth_rates(("conv1", "conv2", "conv3"), 0.08, 1 / 8)
    assert rates == pytest.approx({"conv1": 0.01, "conv2": 0.02, "conv3": 0.04})


def test_rates_rise_then_fall():
    curve = [warm_up_and_fall(2, 6)(epoch) for epoch in range(6)]
    assert curve[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert curve[2:] == sorted(curve[2:], reverse=True)
    assert curve[-1] > 0
    assert [warm_up_and_fall(1, 1)(0), warm_up_and_fall(0, 1)(0)] == [0.5, 1.0]


def test_statistics_are_held_and_weights_train(net):
    assert hold_statistics(net) == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]
    before = copy.deepcopy(net[1].state_dict())
    net.train()(torch.randn(8, 1, 4, 4))
    assert all(torch.equal(each, before[name]) for name, each in net[1].state_dict().items())
    assert net[1].weight.requires_grad
    assert hold_statistics(nn.Linear(2, 2)) == []


def test_the_pull_adds_the_way_back_to_the_gradient():
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    frozen = nn.Parameter(torch.tensor([5.0]))
    optimizer = torch.optim.SGD([weight, frozen], lr=0.1)
    stop = pull_to_start(optimizer, 0.5)
    with torch.no_grad():
        weight += 1
    weight.grad = torch.zeros(2)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([1.95, 2.95]))
    assert frozen.item() == 5
    stop()
    weight.grad = torch.zeros(2)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([1.95, 2.95]))
    with pytest.raises(TrainingError):
        pull_to_start(optimizer, -1.0)
