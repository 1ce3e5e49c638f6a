"""The audit leaves everything as it was, says what it says in several forms, and fails clearly."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.errors import UnknownNameError
from course_lib.freezing import AuditError, FreezingError, audit, freeze
from tests.freezing.conftest import Small, fingerprint, moved, snapshot
from tests.freezing.test_audit_leaks import Net, X, plain_step, sgd

BATCH = torch.randn(6, 3, 7, 7, generator=torch.Generator().manual_seed(1))


def step(model, optimizer):
    model.train()
    optimizer.zero_grad()
    model(BATCH).square().mean().backward()
    optimizer.step()
    random.random(), np.random.rand(), torch.rand(1)


def everything(model, optimizer):
    """All that an audit must leave alone."""
    state = copy.deepcopy(optimizer.state_dict())
    return (
        fingerprint(model),
        snapshot(model),
        [(id(p.grad), None if p.grad is None else p.grad.clone()) for p in model.parameters()],
        [id(p) for group in optimizer.param_groups for p in group["params"]],
        [(key, id(value)) for entry in optimizer.state.values() for key, value in entry.items()],
        state,
        torch.get_rng_state(),
        random.getstate(),
        np.random.get_state(),
    )


def same(one, other):
    if isinstance(one, (torch.Tensor, np.ndarray)):
        return bool((torch.as_tensor(one) == torch.as_tensor(other)).all())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.fixture
def started(small):
    """A model in the middle of training: moments, gradients and a frozen part are there."""
    optimizer = torch.optim.Adam(small.parameters(), lr=0.01)
    freeze(small, "mlp")
    step(small, optimizer)
    return small, optimizer


def failing(model, optimizer):
    step(model, optimizer)
    raise KeyError("no such batch")


@pytest.mark.parametrize("bad", [False, True])
def test_originals_and_random_states_are_untouched(started, bad):
    model, optimizer = started
    before = everything(model, optimizer)
    if bad:
        with pytest.raises(AuditError, match="no such batch") as caught:
            audit(model, optimizer, failing)
        assert isinstance(caught.value.__cause__, KeyError)
        assert "as they were" in str(caught.value)
    else:
        audit(model, optimizer, step)
    assert same(everything(model, optimizer), before)


def test_a_step_that_takes_the_originals_is_found_out_and_undone(started):
    model, optimizer = started
    before = everything(model, optimizer)
    with pytest.raises(AuditError, match=r"worked on the original.*values.*state of the optimizer"):
        audit(model, optimizer, lambda copied, its: step(model, optimizer))
    after = everything(model, optimizer)
    assert same(after[1], before[1])
    assert same(after[5], before[5])
    assert same(after[0], before[0])
    assert same(after[2], before[2])


def test_a_step_that_takes_the_originals_and_then_fails(started):
    model, optimizer = started
    before = fingerprint(model), snapshot(model), copy.deepcopy(optimizer.state_dict())
    with pytest.raises(AuditError, match="no such batch"):
        audit(model, optimizer, lambda copied, its: failing(model, optimizer))
    assert fingerprint(model) == before[0]
    assert moved(model, before[1]) == []
    assert same(optimizer.state_dict(), before[2])


def test_a_scheduler_bound_to_the_original_is_found_out(started):
    model, optimizer = started
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    rates = [group["lr"] for group in optimizer.param_groups]

    def with_scheduler(model, its):
        step(model, its)
        scheduler.step()

    optimizer.step()  # the scheduler warns when it is called before any step
    with pytest.raises(AuditError, match="groups of the optimizer"):
        audit(model, optimizer, with_scheduler)
    assert [group["lr"] for group in optimizer.param_groups] == rates


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"step": None}, AuditError, "step(model, optimizer)"),
        ({"model": "resnet"}, AuditError, "not str"),
        ({"optimizer": None}, AuditError, "not NoneType"),
        ({"optimizer": torch.optim.SGD([nn.Parameter(torch.zeros(9, 9))])}, AuditError, "another"),
        ({"frozen": "mpl"}, UnknownNameError, "'mlp'"),
        ({"trainable": [3]}, FreezingError, "int"),
        ({"frozen": "mlp", "trainable": "mlp.0"}, FreezingError, "both"),
        ({"step": lambda model: None}, AuditError, "TypeError"),
    ],
)
def test_bad_input(small, arguments, error, says):
    good = {"model": small, "optimizer": torch.optim.SGD(small.parameters()), "step": step}
    before = fingerprint(small), snapshot(small)
    with pytest.raises(error) as caught:
        audit(**(good | arguments))
    assert says in str(caught.value)
    assert fingerprint(small) == before[0]
    assert moved(small, before[1]) == []


def test_columns(started):
    model, optimizer = started
    assert optimizer.param_groups[0]["params"].pop() is model.head.bias
    optimizer.add_param_group({"params": [model.head.bias], "lr": 0.5})
    report = audit(model, optimizer, step)
    bias, frozen, buffer = report["head.bias"], report["mlp.0.weight"], report["bn.running_var"]
    assert (bias.kind, bias.requires_grad, bias.group) == ("parameter", True, 1)
    assert bias.gradient > 0
    assert bias.changed
    assert bias.change == pytest.approx(0.5, rel=0.2)
    assert (frozen.requires_grad, frozen.gradient, frozen.changed) == (False, None, False)
    assert frozen.verdict == "frozen"
    assert (buffer.kind, buffer.requires_grad, buffer.group) == ("buffer", None, None)
    assert buffer.verdict == "updates"
    assert len(report.rows) == 16
    assert report.changed == tuple(row.name for row in report.rows if "mlp" not in row.name)
    with pytest.raises(KeyError):
        report["nothing"]


def test_counts_and_words_agree():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 2))
    model[0].requires_grad_(False)

    def plain(model, optimizer):
        model(torch.ones(3, 1)).sum().backward()
        optimizer.step()

    said = audit(model, sgd(model), plain).summary()
    assert said.startswith("2 parameters train (4 numbers); 1 tensor is frozen (1 number); ")


def test_rows_stand_in_the_order_of_the_network(small):
    report = audit(small, sgd(small), step)
    tops = [row.name.split(".")[0] for row in report.rows]
    assert list(dict.fromkeys(tops)) == ["conv", "bn", "mlp", "head"]


def test_assert_frozen(small):
    small.bn.requires_grad_(False)
    report = audit(small, sgd(small), step)
    report.assert_frozen("bn.weight")
    report.assert_frozen([])
    with pytest.raises(AssertionError) as caught:
        report.assert_frozen(["bn", "head.bias"])
    text = str(caught.value)
    assert "4 of 6 tensors moved" in text
    assert "bn.running_mean (changed by" in text
    assert 'Fix: freeze(model, "bn")' in text
    assert "head.bias" in text
    with pytest.raises(UnknownNameError, match=r"Did you mean 'head\.bias'"):
        report.assert_frozen("head.bais")
    report.assert_trained(["head", "conv.weight"])
    with pytest.raises(AssertionError, match=r"bn\.weight"):
        report.assert_trained("bn")


def test_text(small):
    small.bn.requires_grad_(False)
    report = audit(small, sgd(small), step)
    text = str(report)
    assert text == repr(report)
    assert "findings: 3 leaks" in text
    assert "✗ leak: bn.running_mean, bn.running_var, bn.num_batches_tracked" in text
    assert 'fix: freeze(model, "bn")' in text
    lines = report.table().splitlines()
    assert len(lines) == 2 + 16
    assert lines[0].split() == [
        "tensor",
        "kind",
        "requires_grad",
        "optimizer",
        "gradient",
        "change",
        "verdict",
        "why",
    ]
    assert len(report.table(report.leaks).splitlines()) == 5


def test_long_tables_are_left_out_of_the_text_and_mended_in_one_line():
    model = nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(8)])
    for block in model[:-1]:
        block.requires_grad_(False)
    report = audit(model, sgd(model), plain_step)
    assert "conv" not in str(report)
    assert "6.1.running_var  " not in str(report)
    assert 'fix: freeze(model, report.names_to_fix("batchnorm_training"))' in str(report)
    freeze(model, report.names_to_fix("batchnorm_training"))
    assert audit(model, sgd(model), plain_step).ok


def test_html_says_in_words_what_it_says_in_colour(small):
    small.bn.requires_grad_(False)
    report = audit(small, sgd(small), step)
    page = report._repr_html_()
    assert page.count("✗ leak") == 1 + 3  # once as a finding, once a row
    assert page.count("■ frozen") == 2
    assert "<script" not in page
    assert page.count("<tr>") == 1 + 16
    assert "freeze(model, &quot;bn&quot;)" in page


def test_html_escapes_names():
    model = nn.ModuleDict({"<b>": nn.Linear(2, 2)})

    def step(model, optimizer):
        model["<b>"](torch.ones(1, 2)).sum().backward()
        optimizer.step()

    assert "<b>.weight" not in audit(model, sgd(model), step)._repr_html_()


def test_figure(small):
    freeze(small, "mlp")
    small.conv.bias = None  # a bias in front of BatchNorm has next to no gradient
    small.bn.requires_grad_(False)
    drawn = audit(small, sgd(small), step).figure()
    (axes,) = drawn.axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sorted(labels) == ["frozen (9)", "leak (3)", "trains (3)"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["conv", "bn", "mlp", "head"]
    markers = {len(c.get_paths()[0].vertices) for c in axes.collections}
    assert len(markers) == 3  # told apart without colour


def test_old_weight_norm_can_be_copied():
    with pytest.warns(FutureWarning, match="weight_norm"):
        model = Net(nn.utils.weight_norm(nn.Linear(4, 4)))
    model(X)  # now the layer holds a computed weight, which deepcopy refuses
    assert audit(model, sgd(model), plain_step).ok


def test_hooks_of_parameters_and_optimizers_run_in_the_copy():
    model = Net()
    model.middle.weight.register_hook(lambda grad: grad * 0)
    optimizer = sgd(model)
    seen = []
    optimizer.register_step_post_hook(lambda optimizer, args, kwargs: seen.append(id(optimizer)))
    report = audit(model, optimizer, plain_step)
    assert report["middle.weight"].reason == "zero_gradient"
    assert len(seen) == 1
    assert seen[0] != id(optimizer)


@pytest.mark.parametrize(
    "build",
    [
        torch.optim.SGD,
        torch.optim.Adam,
        torch.optim.AdamW,
        torch.optim.RMSprop,
        torch.optim.Adagrad,
        torch.optim.Adadelta,
        torch.optim.NAdam,
        torch.optim.Rprop,
    ],
)
def test_optimizers(build):
    model = Net()
    optimizer = build(model.parameters(), lr=0.1)
    for _ in range(2):
        report = audit(model, optimizer, plain_step)
        assert report.ok
        assert all(row.verdict == "trains" for row in report.rows)
        plain_step(model, optimizer)


def test_compiled_model(small):
    compiled = torch.compile(small, backend="eager")
    freeze(small, ["conv", "bn"])
    report = audit(compiled, sgd(compiled), step)
    assert report.ok
    assert report["_orig_mod.bn.running_mean"].verdict == "frozen"


def test_audit_under_amp_and_accumulation():
    def step(model, optimizer):
        optimizer.zero_grad()
        for part in X.split(3):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(part).square().mean()
            loss.backward()
        optimizer.step()

    model = Net(nn.BatchNorm1d(4))
    freeze(model, "middle")
    assert audit(model, sgd(model), step).ok


def test_the_step_that_takes_a_tensor_away():
    def step(model, optimizer):
        plain_step(model, optimizer)
        del model.middle

    model = Net()
    with pytest.raises(AuditError, match=r"took middle\.weight out"):
        audit(model, sgd(model), step)


def test_bigger_model_in_a_moment():
    model = Small()
    assert audit(model, sgd(model), step).ok
