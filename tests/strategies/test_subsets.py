"""What trains and what doesn't, by name, and LP-FT, which changes it half way."""

import pytest
import torch
from torch import nn

from course_lib import freezing
from course_lib.errors import UnknownNameError
from course_lib.freezing.costs import cost_of_step
from course_lib.strategies import lora, probing, subsets
from tests.strategies.conftest import copies, same, train


def network():
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(144, 8), nn.LayerNorm(8), nn.Linear(8, 3))


def test_names_of_biases_and_norms_are_those_of_a_hand_count():
    model = network()
    assert subsets.biases(model) == ["1.bias", "5.bias", "6.bias", "7.bias"]
    assert subsets.norms(model) == ["1.weight", "1.bias", "6.weight", "6.bias"]
    assert subsets.norms(nn.LayerNorm(2)) == ["weight", "bias"]


@pytest.mark.parametrize(
    "names", [["1.weight", "1.bias", "7"], ["0"], ["*.bias"], "7", ["1"]], ids=str
)
def test_only_the_named_move_statistics_included(names, batch):
    model = network()
    before = copies(model)
    trains = set(subsets.train_only(model, iter(names) if isinstance(names, list) else names))
    moved = {
        name for name, each in copies(train(model, batch)).items()
        if not torch.equal(each, before[name])
    }  # fmt: skip
    statistics = {name for name in before if name.startswith("1.") and "_" in name}
    assert moved == (trains | statistics if names == ["1"] else trains)
    freezing.unfreeze(model, "*")
    assert all(each.requires_grad for each in model.parameters())
    assert all(module.training for module in model.train().modules())


def test_a_second_call_takes_the_place_of_the_first():
    model = network()
    subsets.train_only(model, "0")
    assert subsets.train_only(model, "7") == ["7.weight", "7.bias"]


def test_an_unknown_name_changes_nothing():
    model = network()
    with pytest.raises(UnknownNameError):
        subsets.train_only(model, ["0", "nothing"])
    assert freezing.frozen_names(model) == []


def test_lora_spares_the_weight_gradients_and_hardly_any_memory():
    """A hand count: two linear layers of 8 x 8 without a nonlinearity, rank 1, a batch of 10."""
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    subsets.train_only(model, lora.add(model, "*", rank=1))
    x = torch.randn(10, 8)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    cost = cost_of_step(model, optimizer, lambda: model(x).sum().backward(), [x])
    one, thin = 2 * 10 * 8 * 8, 2 * 10 * 8
    # forward: 2 bases, 4 thin ones; back to the input: second base, its two thin ones and the
    # first one's up; back to the weights: the 4 thin ones
    assert cost.flops == 3 * one + 11 * thin
    assert cost.gradients == 4 * 8 * 4


def test_lp_ft_trains_the_head_first_and_then_all(batch):
    model = network()
    seen = []

    def note(end):
        seen.append({name for name, each in model.named_parameters() if each.requires_grad})

    probe, tune = probing.probe_then_tune(
        model, [batch], "7", probe={"epochs": 2, "lr": 0.1}, tune={"epochs": 1, "lr": 0.01},
        on_epoch_end=note, seed=0,
    )  # fmt: skip
    assert (len(probe), len(tune)) == (2, 1)
    assert seen[:2] == [{"7.weight", "7.bias"}] * 2
    assert seen[2] == {name for name, _ in model.named_parameters()}


def test_lp_ft_leaves_the_body_alone_at_first_and_nothing_frozen_after_an_error(batch):
    model = network()
    before = copies(model)

    def stop(end):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        probing.probe_then_tune(
            model, [batch], "7", probe={"epochs": 1, "lr": 0.1}, tune={}, on_epoch_end=stop
        )
    assert freezing.frozen_names(model) == []
    body = {name: each for name, each in copies(model).items() if not name.startswith("7.")}
    assert same({name: before[name] for name in body}, body)
