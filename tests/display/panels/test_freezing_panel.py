"""The panel to pick layers in: driven as a learner does, by boxes, buttons and the list."""

import copy

import pytest
import torch
from torch import nn

from course_lib import freezing
from course_lib.display.panels import FreezingPanel
from course_lib.display.panels import freezing as room
from course_lib.errors import UnknownNameError
from course_lib.exercises.models import SmallResNet
from course_lib.freezing.costs import cost_of_step

BODY = ["conv1", "bn1", "conv2", "bn2", "gate_fc"]
X, Y = (
    torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0)),
    torch.tensor([0, 1, 2, 3]),
)


def sgd(model):
    trainable = [each for each in model.parameters() if each.requires_grad]
    return torch.optim.SGD(trainable, lr=0.1, momentum=0.9)


def step(model, optimizer):
    model.train()
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(X), Y).backward()
    optimizer.step()


@pytest.fixture
def model():
    return SmallResNet()


@pytest.fixture
def panel(model):
    return FreezingPanel(model, sgd, step)


def find(widget, kind, description=None):
    found = [widget] if type(widget).__name__ == kind else []
    for child in getattr(widget, "children", ()):
        found += find(child, kind)
    return [each for each in found if description in (None, each.description)]


def says(panel):
    return panel.widget.children[-2].value


def test_nothing_picked_everything_trains(panel):
    assert "Frozen: nothing. Way: freezing.freeze." in panel.text
    assert "A step takes 100% of the arithmetic" in panel.text
    assert "keeps 100% of its intermediate results" in panel.text
    assert "Audit: no leak." in panel.text


def test_ticking_a_box_freezes_that_layer_and_no_other(panel, model):
    (box,) = find(panel.widget, "Checkbox", "conv2")
    box.value = True
    assert panel.frozen == ["conv2"]
    parameters = len(list(model.parameters()))
    assert f"Trains: {parameters - 1} parameters" in says(panel)
    assert "Frozen: conv2." in panel.widget.children[-1].value  # the picture's alternative
    box.value = False
    assert f"Trains: {parameters} parameters" in says(panel)


def test_all_but_the_last_leaves_the_head(panel, model):
    (button,) = find(panel.widget, "Button", "Freeze all but the last")
    button.click()
    assert panel.frozen == BODY
    assert {box.description for box in find(panel.widget, "Checkbox") if box.value} == set(BODY)
    head = sum(each.numel() for each in model.fc.parameters())
    assert f"Trains: 2 parameters with {head}" in says(panel)
    find(panel.widget, "Button", "Freeze nothing")[0].click()
    assert panel.frozen == []
    assert not any(box.value for box in find(panel.widget, "Checkbox"))


def test_flags_alone_leak_and_the_audit_says_so(panel):
    panel.pick(BODY)
    assert "Audit: no leak." in says(panel)
    (way,) = find(panel.widget, "Dropdown")
    for each in (room.FLAGS, room.EVAL):  # step calls model.train(), which undoes eval()
        way.value = each
        assert "Audit: 6 frozen tensors moved." in says(panel)
        assert "leak: " in says(panel)
        assert "Fix: " in says(panel)
    way.value = room.HOLD
    assert "Audit: no leak." in says(panel)


def test_the_costs_are_those_of_the_step(panel, model):
    panel.pick(BODY)
    whole, part = copy.deepcopy(model), copy.deepcopy(model)
    freezing.freeze(part, BODY)
    costs = []
    for each in (whole, part):
        optimizer = sgd(each)
        costs.append(cost_of_step(each, optimizer, lambda m=each, o=optimizer: step(m, o)))
    assert f"takes {costs[1].flops / costs[0].flops:.0%} of the arithmetic" in panel.text
    assert f"keeps {costs[1].activations / costs[0].activations:.0%} of" in panel.text
    assert costs[1].flops < costs[0].flops / 2


@pytest.mark.parametrize("built", [True, False], ids=["an optimizer", "a function"])
def test_nothing_changes_in_what_the_panel_was_given(model, built):
    optimizer = sgd(model)
    step(model, optimizer)  # gradients and momentum are there
    model.train()
    before = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    gradients = [each.grad.clone() for each in model.parameters()]
    modules, random = list(model.modules()), torch.get_rng_state()
    panel = FreezingPanel(model, optimizer if built else sgd, step)
    panel.widget  # noqa: B018 - it is built when asked for
    for way in room.WAYS:
        find(panel.widget, "Dropdown")[0].value = way
        panel.pick(BODY)
    after = model.state_dict(), optimizer.state_dict()
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    for number, state in before[1]["state"].items():
        assert torch.equal(state["momentum_buffer"], after[1]["state"][number]["momentum_buffer"])
    assert all(
        torch.equal(old, each.grad) for old, each in zip(gradients, model.parameters(), strict=True)
    )
    assert list(model.modules()) == modules
    assert all(each.training for each in modules)
    assert all(each.requires_grad for each in model.parameters())
    assert freezing.frozen_names(model) == []
    assert torch.equal(random, torch.get_rng_state())


def test_an_optimizer_from_before_the_freeze_is_audited_as_it_is(model):
    optimizer = sgd(model)
    step(model, optimizer)
    panel = FreezingPanel(model, optimizer, step, frozen=["fc"])
    assert "Audit: no leak." in panel.text


def test_everything_frozen_is_said_kindly(panel):
    panel.widget  # noqa: B018
    for box in find(panel.widget, "Checkbox"):
        box.value = True
    assert "nothing to train. Clear a box." in says(panel)
    assert panel.widget.children[-1].value == ""
    find(panel.widget, "Button", "Freeze nothing")[0].click()
    assert "Audit: no leak." in says(panel)


def test_unknown_names(panel, model):
    with pytest.raises(UnknownNameError, match="Did you mean 'conv2'"):
        panel.pick(["conv1", "conv3"])
    assert panel.frozen == []
    with pytest.raises(UnknownNameError):
        FreezingPanel(model, sgd, step, names=["conv9"])


def test_layers_offered_lie_side_by_side():
    deep = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))), nn.ReLU())
    assert room.layers_of(deep) == ["0.0", "0.1"]
    single = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Linear(2, 2))
    assert room.layers_of(single) == ["0", "1"]
    wide = nn.Sequential(*(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)) for _ in range(30)))
    assert room.layers_of(wide) == [str(number) for number in range(30)]
    attention = nn.Sequential(nn.MultiheadAttention(4, 2))  # holds tensors beside its child's
    assert room.layers_of(attention) == ["0"]


def test_a_name_stands_for_the_layers_inside_it():
    deep = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(108, 4), nn.Linear(4, 4)))
    panel = FreezingPanel(deep, sgd, step, frozen=["1.0"])
    assert panel.frozen == ["1.0"]
    with pytest.raises(UnknownNameError):
        panel.pick("1.")
    panel.pick("1")
    assert panel.frozen == ["1.0", "1.1"]


def test_every_control_is_labelled_and_every_picture_described(panel):
    for kind in ("Checkbox", "Dropdown", "Button"):
        controls = find(panel.widget, kind)
        assert controls
        assert all(each.description for each in controls)
    assert 'role="status"' in says(panel)
    assert panel.widget.children[-1].value.startswith("<img ")
    assert 'alt="The network by depth' in panel.widget.children[-1].value


def test_outside_a_notebook_it_is_a_text(panel):
    assert repr(panel) == panel.text
    assert panel.view().fixed == panel.text
