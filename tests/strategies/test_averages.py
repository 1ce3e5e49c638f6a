"""Averages of weights beside torch's own, and what they refuse."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from course_lib.strategies import averages
from course_lib.strategies.inserts import StrategyError
from tests.strategies.conftest import copies, same


def network(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 2))
    for _ in range(seed + 1):
        model(torch.randn(4, 1, 8, 8))
    return model


def test_a_soup_is_torchs_average():
    models = [network(seed) for seed in range(3)]
    torchs = AveragedModel(models[0], use_buffers=True)
    for each in models:
        torchs.update_parameters(each)
    before = [copies(each) for each in models]
    ours = averages.average(models)
    for name, each in ours.named_parameters():
        assert torch.allclose(each, torchs.module.get_parameter(name), atol=1e-6)
    assert torch.allclose(ours[1].running_var, torchs.module[1].running_var, atol=1e-6)
    assert ours[1].num_batches_tracked == 3
    assert all(same(then, copies(each)) for then, each in zip(before, models, strict=True))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_way_from_start_to_end(share):
    start, end = network(0), network(1)
    made = averages.interpolate(start, end, share)
    for name, each in made.named_parameters():
        way = torch.lerp(start.get_parameter(name), end.get_parameter(name), share)
        assert torch.allclose(each, way, atol=1e-7)
    if share in (0.0, 1.0):
        there = (start, end)[int(share)]
        assert torch.equal(made[3].weight, there[3].weight)


def test_shares_are_weights():
    models = [network(seed) for seed in range(2)]
    made = averages.average(models, [0.25, 0.75])
    expected = 0.25 * models[0][0].weight + 0.75 * models[1][0].weight
    assert torch.allclose(made[0].weight, expected)


def test_a_greedy_soup_takes_in_only_what_helps():
    def at(value):
        model = nn.Linear(1, 1, bias=False)
        nn.init.constant_(model.weight, value)
        return model

    def score(model):  # best at 1
        return -abs(model.weight.item() - 1)

    assert averages.greedy_soup([at(9.0), at(0.5), at(1.5)], score).weight.item() == 1.0
    assert averages.greedy_soup([at(9.0), at(1.0)], score).weight.item() == 1.0
    equal = averages.greedy_soup([at(1.0), at(3.0)], lambda model: 1.0)
    assert equal.weight.item() == 2.0


@pytest.mark.parametrize(
    ("models", "shares", "words"),
    [
        ([], None, "no network"),
        ([network(0), network(1)], [1.0], "shares"),
        ([network(0), network(1)], [0.5, 0.6], "adding up to 1"),
        ([network(0), nn.Linear(2, 2)], None, "differ in"),
        ([nn.Linear(2, 2), nn.Linear(2, 3)], None, "differ in"),
        ([nn.Linear(2, 2), nn.Linear(2, 2, bias=False)], None, "differ in bias"),
    ],
)
def test_what_has_no_average(models, shares, words):
    with pytest.raises(StrategyError, match=words):
        averages.average(models, shares)
