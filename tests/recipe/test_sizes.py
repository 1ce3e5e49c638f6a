"""The size of the pictures: what fits into the time, what is tried, what is chosen."""

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_lib import backbones
from course_lib.features import Features
from course_lib.recipe import sizes as room
from course_lib.recipe.pictures import Pictures
from course_lib.recipe.sizes import Climb, Clock, Costs, affordable, measure_costs, sizes_of
from tests.training.conftest import make_net, make_set


def test_the_sizes_are_those_that_the_backbone_can_take():
    assert sizes_of("efficientnet_lite0") == (96, 160, 224)
    assert sizes_of("efficientnet_lite1") == (96, 160, 224, 240)
    assert sizes_of("vit_b_16") == (224,)
    for name in backbones.names():
        for size in sizes_of(name):
            assert backbones.preprocessing(name, size).size == size


@given(
    st.dictionaries(st.integers(32, 600), st.floats(0.1, 100), min_size=1, max_size=5),
    st.floats(0, 500),
)
def test_what_is_affordable_fits_with_room_for_the_largest(prices, room_there_is):
    chosen = affordable(prices, room_there_is)
    assert list(chosen) == sorted(chosen)
    possible = [size for size, price in prices.items() if price <= room_there_is]
    if not possible:
        assert chosen == ()
        return
    assert chosen[-1] == max(possible)
    extra = sum(prices[each] for each in chosen[:-1])
    assert not extra or extra + 2 * prices[chosen[-1]] <= room_there_is * (1 + 1e-9)


class Worlds:
    """Rows whose classes lie farther apart the larger the picture; and what was asked for."""

    def __init__(self, monkeypatch, apart, stop_at=None, slow=()):
        self.asked, self.apart, self.stop_at, self.slow = [], apart, stop_at, slow
        self.now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def at(self, size):
        return World(self, size)


class World(Pictures):
    def __init__(self, worlds, size):
        super().__init__(None, None, None, None, ("a", "b"))
        object.__setattr__(self, "worlds", worlds)
        object.__setattr__(self, "side", size)

    counts = (200, 100)
    groups = None

    def at(self, size):
        return World(self.worlds, size)

    def to_learn(self, model, cache=None):
        self.worlds.asked.append(self.side)
        if self.side == self.worlds.stop_at:
            raise KeyboardInterrupt
        self.worlds.now += 200 * 0.001 * self.side * (10 if self.side in self.worlds.slow else 1)
        stream = torch.Generator().manual_seed(self.side)
        targets = torch.arange(200) % 2
        values = torch.randn(200, 4, generator=stream)
        values[:, 0] += targets * self.worlds.apart[self.side]
        return Features(values, targets, torch.arange(200), None, "", "")


COSTS = Costs({96: 0.096, 160: 0.160, 224: 0.224}, 3.0)


def go(worlds, seconds, costs=COSTS):
    climb = Climb()
    clock = Clock(seconds)
    looked = climb.go(
        nn.Identity(), worlds.at(0), (96, 160, 224), (1.0, 10.0), "balanced", costs, clock
    )
    return climb, looked


def test_with_time_it_climbs_to_the_largest(monkeypatch):
    worlds = Worlds(monkeypatch, {96: 1, 160: 2, 224: 3})
    climb, looked = go(worlds, 1e6)
    assert worlds.asked == [96, 160, 224], "nothing is computed twice"
    assert looked.trial.size == 224
    losses = [each.loss for each in climb.trials]
    assert losses == sorted(losses, reverse=True)


def test_of_sizes_that_cannot_be_told_apart_the_largest_is_taken(monkeypatch):
    _, looked = go(Worlds(monkeypatch, {96: 2, 160: 2, 224: 2}), 1e6)
    assert looked.trial.size == 224


def test_a_size_that_is_worse_beyond_chance_ends_it(monkeypatch):
    worlds = Worlds(monkeypatch, {96: 5, 160: 1, 224: 9})
    climb, looked = go(worlds, 1e6)
    assert looked.trial.size == 96
    assert worlds.asked == [96, 160]
    assert "worse than 96 by more than chance" in climb.reasons[0]


def test_little_time_goes_to_the_largest_that_fits(monkeypatch):
    worlds = Worlds(monkeypatch, {96: 1, 160: 2, 224: 3})
    go(worlds, 300 * 0.224 / 0.8 + 1)
    assert worlds.asked == [224]
    worlds = Worlds(monkeypatch, {96: 1, 160: 2, 224: 3})
    go(worlds, 300 * 0.160 / 0.8 + 1)
    assert worlds.asked == [160]


def test_too_little_time_takes_the_smallest_all_the_same(monkeypatch):
    worlds = Worlds(monkeypatch, {96: 1, 160: 2, 224: 3})
    climb, _ = go(worlds, 1)
    assert worlds.asked == [96]
    assert "160 pixels would take" in climb.reasons[0]


def test_a_machine_that_turns_out_slower_is_noticed(monkeypatch):
    worlds = Worlds(monkeypatch, {96: 1, 160: 2, 224: 3}, slow=(96,))
    go(worlds, 400)
    assert worlds.asked == [96], "the others would take ten times what was expected, too"


def test_stopped_by_hand_keeps_what_is_done(monkeypatch):
    climb, looked = go(Worlds(monkeypatch, {96: 1, 160: 2, 224: 3}, stop_at=160), 1e6)
    assert looked.trial.size == 96
    assert climb.interrupted
    with pytest.raises(KeyboardInterrupt):
        go(Worlds(monkeypatch, {96: 1, 160: 2, 224: 3}, stop_at=96), 1e6)


def test_without_a_limit_all_are_tried(monkeypatch):
    worlds = Worlds(monkeypatch, {96: 1, 160: 2, 224: 3})
    go(worlds, float("inf"), costs=None)
    assert worlds.asked == [96, 160, 224]


def test_costs_are_measured_and_leave_the_network_alone():
    model = make_net().eval()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    train = make_set(30)
    costs = measure_costs(model, Pictures(train, train, None, train, ("a", "b", "c")), (0,))
    assert set(costs.features) == {0}
    assert 0 < costs.features[0] < 1
    assert costs.training >= 1
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters())
    assert "30 pictures" in costs.described((30, 0), 120)
    assert "Ctrl-C" in costs.described((10**9, 0), 120)
    assert room.RESERVED < 0.5
