"""Unfreezing gives back exactly what was there, and deals with the optimizer."""

import copy
import warnings

import pytest
import torch
from torch import nn

from course_lib.errors import UnknownNameError
from course_lib.freezing import FreezingError, freeze, unfreeze
from tests.freezing.conftest import OPTIMIZERS, fingerprint, train


def test_same_objects_flags_hooks_and_modes(small):
    small.conv.bias.requires_grad_(False)
    small.mlp.eval()
    small.bn.register_forward_hook(lambda *a: None)
    before = fingerprint(small)
    freeze(small, ["conv", "mlp"])
    freeze(small, small)
    freeze(small, "*")
    assert fingerprint(small) != before
    unfreeze(small, small)
    assert fingerprint(small) == before


def test_flag_that_was_off_comes_back_off_and_is_said(small):
    small.conv.bias.requires_grad_(False)
    freeze(small, "conv")
    report = unfreeze(small, "conv")
    assert small.conv.weight.requires_grad
    assert not small.conv.bias.requires_grad
    assert "conv.bias had requires_grad=False before" in repr(report)


def test_what_was_switched_off_by_hand_is_left_with_a_warning(small):
    small.head.weight.requires_grad_(False)
    with pytest.warns(UserWarning, match="by hand.*requires_grad_"):
        unfreeze(small, "head")
    assert not small.head.weight.requires_grad


def test_unfreezing_what_was_never_frozen_changes_nothing(small):
    before = fingerprint(small)
    report = unfreeze(small, "*")
    assert fingerprint(small) == before
    assert repr(report).startswith("Unfroze nothing; 16 tensors already as asked")


def test_missing_parameters_are_added_once(small, batch):
    optimizer = torch.optim.Adam(small.head.parameters(), lr=0.1)
    freeze(small, ["conv", "bn", "mlp"])
    report = unfreeze(small, "mlp", optimizer, lr=0.01)
    assert report.added == ("mlp.0.weight", "mlp.0.bias", "mlp.1.weight", "mlp.1.bias")
    assert [len(g["params"]) for g in optimizer.param_groups] == [2, 4]
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.01]
    assert "added to the optimizer: mlp.0.weight" in repr(report)
    unfreeze(small, "mlp", optimizer)
    unfreeze(small, "*", optimizer)
    held = [id(p) for g in optimizer.param_groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in small.parameters())
    train(small, optimizer, batch)


def test_equal_values_are_not_the_same_parameter():
    # A BatchNorm fresh from its constructor equals every other one: identity tells them apart.
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    freeze(model, "1")
    assert unfreeze(model, "1", optimizer).added == ("1.weight", "1.bias")


def test_parameter_left_out_joins_without_its_piled_up_gradient(small, batch):
    optimizer = torch.optim.SGD(small.head.parameters(), lr=0.1)
    train(small, optimizer, batch, 3)
    assert small.conv.weight.grad is not None
    unfreeze(small, "conv", optimizer)
    assert small.conv.weight.grad is None


def test_stale_moments_are_dropped_and_live_ones_kept(small, batch):
    optimizer = torch.optim.Adam(small.parameters(), lr=0.1)
    train(small, optimizer, batch)
    freeze(small, "mlp")
    train(small, optimizer, batch)
    kept = optimizer.state[small.head.weight]
    unfreeze(small, "*", optimizer)
    assert small.mlp[0].weight not in optimizer.state
    assert optimizer.state[small.head.weight] is kept
    train(small, optimizer, batch, 1)
    assert optimizer.state[small.mlp[0].weight]["step"].item() == 1
    assert optimizer.state[small.head.weight]["step"].item() == 5


def test_tied_parameter_is_added_once():
    model = nn.ModuleDict({"enc": nn.Embedding(5, 3), "dec": nn.Linear(3, 5)})
    model["dec"].weight = model["enc"].weight
    optimizer = torch.optim.SGD([model["dec"].bias], lr=0.1)
    freeze(model, "*")
    report = unfreeze(model, "*", optimizer)
    assert report.added == ("enc.weight",)


def test_named_optimizer(small):
    optimizer = torch.optim.SGD(small.head.named_parameters("head"), lr=0.1)
    freeze(small, "conv")
    unfreeze(small, "conv", optimizer)
    assert optimizer.param_groups[1]["param_names"] == ["conv.weight", "conv.bias"]


SCHEDULERS = {
    "lambda": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10),
    "onecycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=10),
    "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 2),
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("given", [True, False])
def test_scheduler_that_does_not_know_the_group(small, batch, scheduler, given):
    optimizer = torch.optim.SGD(small.head.parameters(), lr=0.1)
    schedule = SCHEDULERS[scheduler](optimizer)
    freeze(small, "mlp")
    train(small, optimizer, batch, 1)
    schedule.step()
    with pytest.warns(UserWarning, match="doesn't know the new group"):
        unfreeze(small, "mlp", optimizer, scheduler=schedule if given else None)


def test_no_warning_when_nothing_is_added_or_no_scheduler(small):
    everything = torch.optim.SGD(small.parameters(), lr=0.1)
    schedule = SCHEDULERS["cosine"](everything)
    head = torch.optim.SGD(small.head.parameters(), lr=0.1)
    freeze(small, ["mlp", "bn"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unfreeze(small, "mlp", everything, scheduler=schedule)
        unfreeze(small, "bn", head)


def test_options_that_go_nowhere_are_said(small):
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    freeze(small, "mlp")
    with pytest.warns(UserWarning, match="lr not used"):
        unfreeze(small, "mlp", optimizer, lr=0.01)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"names": "mpl"}, UnknownNameError, "mlp"),
        ({"optimizer": "foreign"}, FreezingError, "no parameter of this model"),
        ({"optimizer": "lbfgs"}, FreezingError, "LBFGS"),
        ({"optimizer": 3}, FreezingError, "not int"),
        ({"optimizer": "head", "learning_rate": 1}, FreezingError, "no option 'learning_rate'"),
        ({"optimizer": "head", "params": []}, FreezingError, "no option 'params'"),
        ({"lr": 0.1}, FreezingError, "need optimizer="),
        ({"scheduler": "of another"}, FreezingError, "need optimizer="),
        ({"optimizer": "head", "scheduler": "of another"}, FreezingError, "another optimizer"),
    ],
)
def test_errors_leave_model_and_optimizer_alone(small, arguments, error, says):
    optimizers = {
        "foreign": torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1),
        "lbfgs": torch.optim.LBFGS(small.head.parameters()),
        "head": torch.optim.SGD(small.head.parameters(), lr=0.1),
    }
    arguments = {"names": "mlp"} | arguments
    if "scheduler" in arguments:
        arguments["scheduler"] = SCHEDULERS["cosine"](optimizers["foreign"])
    if arguments.get("optimizer") in list(optimizers):
        arguments["optimizer"] = optimizers[arguments["optimizer"]]
    freeze(small, "mlp")
    before = fingerprint(small)
    groups = copy.deepcopy([o.state_dict() for o in optimizers.values()])
    with pytest.raises(error) as caught:
        unfreeze(small, **arguments)
    assert says in str(caught.value)
    assert fingerprint(small) == before
    assert groups == [o.state_dict() for o in optimizers.values()]


def test_what_torch_itself_refuses_leaves_the_model_frozen(small):
    class Picky(torch.optim.SGD):
        def add_param_group(self, group):
            if self.param_groups:
                raise ValueError("no more groups")
            super().add_param_group(group)

    optimizer = Picky(small.head.parameters(), lr=0.1)
    freeze(small, "mlp")
    before = fingerprint(small)
    with pytest.raises(ValueError, match="no more"):
        unfreeze(small, "mlp", optimizer)
    assert fingerprint(small) == before


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_thawed_layers_train_as_if_added_by_hand(small, batch, optimizer):
    by_hand = copy.deepcopy(small)
    for model in (small, by_hand):
        model.drop.p = 0.0
    # By hand: the backbone is left out, detached from gradients, and BatchNorm kept in eval.
    freeze(small, ["conv", "bn", "drop", "mlp"])
    for part in (by_hand.conv, by_hand.bn, by_hand.drop, by_hand.mlp):
        part.requires_grad_(False)
    ours = OPTIMIZERS[optimizer](small.parameters())
    theirs = OPTIMIZERS[optimizer](by_hand.head.parameters())
    for _ in range(2):
        for model, steps in ((small, ours), (by_hand, theirs)):
            model.train()
            if model is by_hand:
                for part in (by_hand.conv, by_hand.bn, by_hand.drop, by_hand.mlp):
                    part.eval()
            steps.zero_grad()
            model(batch).square().mean().backward()
            steps.step()
    unfreeze(small, "*", ours)
    by_hand.requires_grad_(True)
    theirs.add_param_group(
        {"params": [p for n, p in by_hand.named_parameters() if "head" not in n]}
    )
    train(small, ours, batch)
    train(by_hand, theirs, batch)
    for mine, other in zip(small.parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(mine, other)
