"""The five methods do what they are meant to, and their limits are those of their docstrings."""

import pytest
import torch
from torch import nn

from course_lib.errors import UnknownNameError
from course_lib.freezing import FreezingError, methods
from course_lib.freezing.methods import METHODS
from tests.freezing.conftest import moved, snapshot


class Characters(nn.Module):
    """The sources' small model: an embedding and three linear layers."""

    def __init__(self):
        super().__init__()
        self.em = nn.Embedding(6, 4)
        self.fc1 = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.fc2 = nn.Linear(4, 4)
        self.fc3 = nn.Linear(4, 6)

    def forward(self, x):
        return self.fc3(self.fc2(self.norm(self.fc1(self.em(x)).tanh())).tanh())


TOKENS = torch.tensor([0, 1, 2, 3, 4, 5, 0, 1])


def loss_of(model):
    return nn.functional.cross_entropy(model(TOKENS), TOKENS.flip(0))


def momentum(params):
    return torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.1)


def started(kind, names, model=None):
    model = model or Characters()
    method = kind()
    method.freeze(model, names)
    return model, method, method.make_optimizer(model, momentum)


def steps(model, method, optimizer, count=3):
    for _ in range(count):
        model.train()
        loss = method.step(model, optimizer, loss_of)
    return loss


@pytest.mark.parametrize("kind", METHODS)
def test_weight_and_bias_stand_still_then_train_again(kind):
    model, method, optimizer = started(kind, "fc1")
    before = snapshot(model)
    steps(model, method, optimizer)
    changed = moved(model, before)
    assert not [name for name in changed if name.startswith("fc1")]
    assert {"fc2.weight", "fc2.bias", "fc3.weight", "fc3.bias"} <= set(changed)

    method.unfreeze(model, optimizer)
    before = snapshot(model)
    steps(model, method, optimizer)
    changed = moved(model, before)
    assert {"em.weight", "fc1.weight", "fc1.bias", "fc3.weight"} <= set(changed)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    assert not any("forward" in module.__dict__ for module in model.modules())


@pytest.mark.parametrize("kind", METHODS)
def test_running_statistics_move_under_all_but_the_fifth(kind):
    model, method, optimizer = started(kind, ["fc1", "norm"])
    before = snapshot(model)
    steps(model, method, optimizer)
    moving = "norm.running_mean" in moved(model, before)
    assert moving == (kind is not methods.ByNamesAndIndices)


def test_left_out_piles_up_gradients_and_jumps():
    model, method, optimizer = started(methods.LeftOut, "fc1")
    steps(model, method, optimizer, 1)
    first = model.fc1.weight.grad.norm()
    steps(model, method, optimizer, 9)
    assert model.fc1.weight.grad.norm() > 3 * first


def test_cached_keeps_momentum_moving():
    model, method, optimizer = started(methods.CachedAndRestored, "fc1")
    steps(model, method, optimizer)
    assert optimizer.state[model.fc1.weight]["momentum_buffer"].norm() > 0


def test_no_grad_cuts_off_what_lies_before():
    model, method, optimizer = started(methods.NoGradForward, "fc1")
    before = snapshot(model)
    steps(model, method, optimizer)
    assert "em.weight" not in moved(model, before)
    assert model.em.weight.grad is None


def test_no_grad_on_the_last_layer_fails():
    model, method, optimizer = started(methods.NoGradForward, "fc3")
    with pytest.raises(RuntimeError, match="does not require grad"):
        steps(model, method, optimizer)


def test_no_grad_takes_modules_only():
    model = Characters()
    with pytest.raises(FreezingError, match=r"fc1\.bias can't be frozen alone"):
        methods.NoGradForward().freeze(model, ["fc2", "fc1.bias"])
    assert "forward" not in model.fc2.__dict__


def test_the_others_save_the_gradients_of_the_frozen_layer():
    for kind in (methods.RequiresGrad, methods.NoGradForward, methods.ByNamesAndIndices):
        model, method, optimizer = started(kind, "fc1")
        steps(model, method, optimizer)
        assert model.fc1.weight.grad is None


@pytest.mark.parametrize("names", [1, [1, -2], ["fc1", "norm"], ("em",)])
def test_the_fifth_takes_names_or_indices(names):
    model, method, optimizer = started(methods.ByNamesAndIndices, names)
    assert sum(not p.requires_grad for p in model.parameters()) > 0
    method.unfreeze(model, optimizer)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("kind", METHODS)
def test_bad_names(kind):
    model = Characters()
    with pytest.raises(UnknownNameError):
        kind().freeze(model, "fc9")
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("kind", METHODS)
def test_a_new_group_may_have_its_own_rate(kind):
    model, method, _ = started(kind, "fc1")
    optimizer = torch.optim.SGD(model.fc3.parameters(), lr=0.1)
    method.unfreeze(model, optimizer, lr=0.01)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.01]


def test_titles_differ():
    assert len({kind.title for kind in METHODS}) == 5
