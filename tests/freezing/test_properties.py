"""Random models, random sequences of freeze and unfreeze: frozen is bit-equal, the rest unharmed.

The yardstick is the same run with the same things excluded *by hand*: a twin whose frozen
parameters never require a gradient and stay out of the optimizer, and whose frozen modules are put
back in eval mode after every ``train()``.
"""

import copy

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from course_lib.freezing import freeze, freeze_state, frozen_names, restore_freeze_state, unfreeze
from tests.freezing.conftest import OPTIMIZERS, fingerprint, moved, snapshot

WIDTH = 4


def layer(kind):
    return {
        "linear": lambda: nn.Linear(WIDTH, WIDTH),
        "norm": lambda: nn.BatchNorm1d(WIDTH),
        "drop": lambda: nn.Dropout(0.3),
        "relu": nn.Tanh,
        "spectral": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH)),
        "layernorm": lambda: nn.LayerNorm(WIDTH),
    }[kind]()


kinds = st.sampled_from(["linear", "norm", "drop", "relu", "spectral", "layernorm"])
plans = st.lists(st.one_of(kinds, st.lists(kinds, min_size=1, max_size=3)), min_size=1, max_size=4)


def build(plan):
    torch.manual_seed(1)
    blocks = [
        layer(each) if isinstance(each, str) else nn.Sequential(*map(layer, each)) for each in plan
    ]
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), *blocks, nn.Linear(WIDTH, 2))


def all_names(model):
    names = [name for name, _ in model.named_modules() if name]
    names += [name for name, _ in model.named_parameters()]
    return names


@st.composite
def models_and_names(draw):
    plan = draw(plans)
    names = all_names(build(plan))
    frozen = draw(st.lists(st.sampled_from(names), unique=True, max_size=4))
    return plan, frozen


def run(model, optimizer, steps, set_to_none, accumulate, keep_eval=()):
    generator = torch.Generator().manual_seed(3)
    for step in range(steps):
        model.train()
        for module in keep_eval:
            module.eval()
        optimizer.zero_grad(set_to_none=set_to_none)
        for part in range(accumulate):
            torch.manual_seed(100 * step + part)  # the same dropout masks in both runs
            x = torch.randn(6, WIDTH, generator=generator)
            model(x).square().mean().backward()
        optimizer.step()


@settings(max_examples=60)
@given(
    models_and_names(),
    st.sampled_from(sorted(OPTIMIZERS)),
    st.booleans(),
    st.integers(1, 2),
)
def test_frozen_bit_equal_and_the_rest_as_excluded_by_hand(case, kind, set_to_none, accumulate):
    plan, names = case
    model, by_hand = build(plan), build(plan)
    freeze(model, names)
    held = set(frozen_names(model))
    before = snapshot(model)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        assert not model.train()(torch.randn(6, WIDTH)).requires_grad
        assert moved(model, before) == []
        return
    run(model, OPTIMIZERS[kind](model.parameters()), 2, set_to_none, accumulate)

    eval_modules = []
    for name in names:
        if name in dict(by_hand.named_modules()):
            eval_modules += list(by_hand.get_submodule(name).modules())
    trainable = []
    for name, parameter in by_hand.named_parameters():
        parameter.requires_grad_(name not in held)
        trainable += [parameter] if name not in held else []
    run(by_hand, OPTIMIZERS[kind](trainable), 2, set_to_none, accumulate, eval_modules)

    assert held.isdisjoint(moved(model, before))
    assert moved(model, snapshot(by_hand)) == []


operations = st.lists(
    st.tuples(
        st.sampled_from(["freeze", "unfreeze", "train", "eval", "step", "copy", "state"]),
        st.lists(st.integers(0, 100), max_size=3),
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(plans, operations, st.sampled_from(sorted(OPTIMIZERS)))
def test_any_sequence_of_operations(plan, sequence, kind):
    """Frozen names behave as a set; steps never move them; at the end all is as it was."""
    model = build(plan)
    modes = build(plan)  # never frozen; gets the same calls of train and eval
    start = fingerprint(model)
    optimizer = OPTIMIZERS[kind](model.parameters())
    tensors = [name for name, _ in model.named_parameters()]
    tensors += [name for name, _ in model.named_buffers()]
    expected: set[str] = set()
    for operation, indices in sequence:
        known = [
            *(name for name, _ in model.named_modules() if name),
            *dict(model.named_parameters()),
        ]
        names = list(dict.fromkeys(known[i % len(known)] for i in indices))
        covered = {t for t in tensors for n in names if t == n or t.startswith(f"{n}.")}
        if operation == "freeze":
            freeze(model, names)
            expected |= covered
        elif operation == "unfreeze":
            unfreeze(model, names)
            expected -= covered
        elif operation in ("train", "eval"):
            model.train(operation == "train")
            modes.train(operation == "train")
        elif operation == "copy":
            assert set(frozen_names(copy.deepcopy(model))) == expected
        elif operation == "state":
            restore_freeze_state(model, freeze_state(model))
        elif operation == "step":
            before = snapshot(model)
            optimizer.zero_grad(set_to_none=len(indices) % 2 == 0)
            out = model(torch.randn(5, WIDTH)).square().mean()
            if out.requires_grad:
                out.backward()
            optimizer.step()
            assert expected.isdisjoint(moved(model, before))
        assert set(frozen_names(model)) == expected
    unfreeze(model, model)
    end = fingerprint(model)
    assert [row[3] for row in end] == [module.training for module in modes.modules()]
    assert [row[:3] + row[4:] for row in end] == [row[:3] + row[4:] for row in start]
