"""The freeze state goes beside a checkpoint and comes back."""

import copy
import json

import pytest
import torch
from torch import nn

from course_lib.errors import UnknownNameError
from course_lib.freezing import (
    FreezingError,
    freeze,
    freeze_state,
    frozen_names,
    restore_freeze_state,
    unfreeze,
)
from tests.freezing.conftest import Small, fingerprint


def test_through_a_checkpoint(small, tmp_path):
    small.conv.bias.requires_grad_(False)
    freeze(small, ["conv", "bn", "mlp.0.weight"])
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": small.state_dict(), "frozen": freeze_state(small)}, path)

    checkpoint = torch.load(path, weights_only=True)
    fresh = Small()
    fresh.load_state_dict(checkpoint["model"])
    assert frozen_names(fresh) == []  # a state dict knows nothing of it
    report = restore_freeze_state(fresh, checkpoint["frozen"])
    assert frozen_names(fresh) == frozen_names(small)
    assert report.modules == ("conv", "bn")
    fresh.train()
    assert not fresh.bn.training
    unfreeze(fresh, "*")
    assert fresh.bn.training
    assert fresh.conv.weight.requires_grad
    assert not fresh.conv.bias.requires_grad


def test_as_json_and_the_same_again(small):
    freeze(small, small)
    unfreeze(small, "mlp")
    state = json.loads(json.dumps(freeze_state(small)))
    assert restore_freeze_state(Small(), state)
    other = Small()
    restore_freeze_state(other, state)
    assert freeze_state(other) == freeze_state(small) == state


def test_replaces_what_is_frozen_now(small):
    empty = freeze_state(small)
    before = fingerprint(small)
    freeze(small, "mlp")
    restore_freeze_state(small, empty)
    assert fingerprint(small) == before


def test_tied_weights():
    def build():
        model = nn.ModuleDict({"enc": nn.Embedding(5, 3), "dec": nn.Linear(3, 5)})
        model["dec"].weight = model["enc"].weight
        return model

    first, second = build(), build()
    freeze(first, "dec.weight")
    restore_freeze_state(second, freeze_state(first))
    assert frozen_names(second) == ["enc.weight", "dec.weight"]
    unfreeze(second, "enc")
    assert second["dec"].weight.requires_grad


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (lambda s: s["parameters"].update({"fc.weight": True}), UnknownNameError, "'fc.weight'"),
        (lambda s: s["modules"].append("mpl"), UnknownNameError, "Did you mean 'mlp'"),
        (lambda s: s["buffers"].append("bn.mean"), UnknownNameError, "bn.mean"),
        (lambda s: s.update(version=9), FreezingError, "no freeze state"),
        (lambda s: s.pop("modules"), FreezingError, "no freeze state"),
        (lambda s: s["parameters"].update({"head.bias": 1}), FreezingError, "no freeze state"),
    ],
)
def test_bad_states_change_nothing(small, spoil, error, says):
    freeze(small, "bn")
    state = copy.deepcopy(freeze_state(small))
    spoil(state)
    before = fingerprint(small)
    with pytest.raises(error) as caught:
        restore_freeze_state(small, state)
    assert says in str(caught.value)
    assert fingerprint(small) == before


def test_not_a_state_at_all(small):
    with pytest.raises(FreezingError, match="no freeze state"):
        restore_freeze_state(small, small.state_dict())


WRAPPERS = {
    "none": lambda model: model,
    "DataParallel": nn.DataParallel,
    "compiled": torch.compile,
    "both": lambda model: torch.compile(nn.DataParallel(model)),
    "a part": lambda model: model.set_submodule("body", torch.compile(model.body)) or model,
}


class Parts(nn.Module):
    """With a child whose name is that of a wrapper's."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.module = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)


@pytest.mark.parametrize("back", WRAPPERS)
@pytest.mark.parametrize("there", WRAPPERS)
def test_wrappers_leave_no_trace(there, back):
    model, other = Parts(), Parts()
    freeze(model, ["body", "module.bias"])
    state = freeze_state(WRAPPERS[there](model))
    assert state == freeze_state(model) | {"modules": ["body", "body.0", "body.1"]}
    assert set(state["parameters"]) == {
        "body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias", "module.bias",
    }  # fmt: skip
    restore_freeze_state(WRAPPERS[back](other), json.loads(json.dumps(state)))
    assert freeze_state(other) == state
    other.train()
    assert not other.body.training
    assert other.module.training
    assert [n for n, p in other.named_parameters() if p.requires_grad] == [
        "module.weight", "head.weight", "head.bias"
    ]  # fmt: skip
