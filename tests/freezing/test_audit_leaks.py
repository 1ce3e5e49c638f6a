"""Every way a frozen layer still moves, built on purpose: the audit names the reason."""

import copy

import pytest
import torch
from torch import nn

from course_lib.freezing import audit, freeze, restore_freeze_state
from course_lib.freezing.auditing.reasons import REASONS
from course_lib.freezing.methods import CachedAndRestored, LeftOut, RequiresGrad


class Net(nn.Module):
    """first -> middle (what leaks) -> head."""

    def __init__(self, middle=None):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.middle = middle or nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.middle(self.first(x)))


X = torch.randn(6, 4, generator=torch.Generator().manual_seed(5))


def plain_step(model, optimizer):
    model.train()
    optimizer.zero_grad()
    model(X).square().mean().backward()
    optimizer.step()


def sgd(model, **options):
    return torch.optim.SGD(model.parameters(), lr=0.1, **options)


def reasons(report):
    return {row.name: row.reason for row in report.rows if row.level == "leak"}


@pytest.mark.parametrize(
    ("middle", "buffers", "reason"),
    [
        (lambda: nn.BatchNorm1d(4), ["running_mean", "running_var"], "batchnorm_training"),
        (lambda: nn.BatchNorm1d(4, affine=False), ["running_var"], "batchnorm_training"),
        (
            lambda: nn.Sequential(
                nn.Unflatten(1, (2, 2)),
                nn.InstanceNorm1d(2, affine=True, track_running_stats=True),
                nn.Flatten(),
            ),
            ["1.running_mean"],
            "instance_norm_tracking",
        ),
        (
            lambda: nn.utils.spectral_norm(nn.Linear(4, 4)),
            ["weight_u", "weight_v"],
            "spectral_norm",
        ),
        (
            lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
            ["parametrizations.weight.0._u"],
            "spectral_norm",
        ),
    ],
)
def test_statistics_of_a_frozen_layer(middle, buffers, reason):
    model = Net(middle())
    model.first.requires_grad_(False)
    model.middle.requires_grad_(False)
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    plain_step(model, optimizer)
    # Without parameters of its own a layer is judged with what is around it: here, all of the net.
    names = ["middle"] if not list(model.middle.parameters()) else []
    report = audit(model, optimizer, plain_step, frozen=names)
    for buffer in buffers:
        row = report[f"middle.{buffer}"]
        assert (row.level, row.reason) == ("leak", reason)
        assert row.change > 0
    assert not report.ok
    freeze(model, report.names_to_fix(reason))  # the fixing line fixes it
    assert audit(model, optimizer, plain_step).ok


def test_statistics_move_under_no_grad_too():
    def step(model, optimizer):
        model.train()
        optimizer.zero_grad()
        with torch.no_grad():
            features = model.middle(model.first(X))
        model.head(features).square().mean().backward()
        optimizer.step()

    model = Net(nn.BatchNorm1d(4))
    model.middle.requires_grad_(False)
    report = audit(model, sgd(model), step)
    assert report["middle.running_mean"].reason == "batchnorm_training"


def test_eval_undone_by_train():
    model = Net(nn.BatchNorm1d(4))
    model.middle.requires_grad_(False).eval()
    report = audit(model, sgd(model), plain_step)
    assert report["middle.running_mean"].reason == "eval_undone"
    assert 'freeze(model, "middle")' in report["middle.running_mean"].findings[0].fix


def test_batchnorm_in_eval_with_trainable_affine():
    def step(model, optimizer):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()

    model = Net(nn.BatchNorm1d(4))
    model.middle.eval()
    assert reasons(audit(model, sgd(model), step, frozen="middle")) == {
        "middle.weight": "eval_only",
        "middle.bias": "eval_only",
    }
    # Nobody said it is meant to be frozen: then it is no alarm.
    report = audit(model, sgd(model), step)
    assert report.ok
    assert report["middle.weight"].reason == "eval_only"


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_max_norm(kind):
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = kind(5, 4, max_norm=0.1)
            self.head = nn.Linear(4, 2)

        def forward(self, tokens):
            return self.head(self.table(tokens))

    def step(model, optimizer):
        model.eval()  # doesn't help
        optimizer.zero_grad()
        model(torch.tensor([[0, 1], [2, 3]])).square().mean().backward()
        optimizer.step()

    model = Words()
    model.table.requires_grad_(False)
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    assert reasons(audit(model, optimizer, step)) == {"table.weight": "max_norm"}
    freeze(model, "table")
    assert audit(model, optimizer, step).ok


OPTIMIZERS = {
    "sgd": lambda model: sgd(model),
    "momentum": lambda model: sgd(model, momentum=0.9),
    "weight decay": lambda model: sgd(model, weight_decay=0.1),
    "adam": lambda model: torch.optim.Adam(model.parameters()),
    "adamw": lambda model: torch.optim.AdamW(model.parameters()),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_stale_gradient(optimizer):
    """Frozen after backward, and a loop that clears gradients after its step."""

    def step(model, optimizer):
        model(X).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    model = Net()
    optimizer = OPTIMIZERS[optimizer](model)
    model(X).square().mean().backward()
    model.middle.requires_grad_(False)
    assert reasons(audit(model, optimizer, step)) == {
        "middle.weight": "stale_gradient",
        "middle.bias": "stale_gradient",
    }
    freeze(model, "middle")
    assert audit(model, optimizer, step).ok


@pytest.mark.parametrize("optimizer", ["momentum", "weight decay", "adam", "adamw"])
def test_gradient_of_zeros(optimizer):
    def step(model, optimizer):
        optimizer.zero_grad(set_to_none=False)
        model(X).square().mean().backward()
        optimizer.step()

    model = Net()
    optimizer = OPTIMIZERS[optimizer](model)
    step(model, optimizer)
    model.middle.requires_grad_(False)
    found = reasons(audit(model, optimizer, step))
    assert found["middle.weight"] == "zeroed_gradient"


def test_gradient_of_zeros_and_plain_sgd_is_only_a_risk():
    def step(model, optimizer):
        optimizer.zero_grad(set_to_none=False)
        model(X).square().mean().backward()
        optimizer.step()

    model = Net()
    optimizer = sgd(model)
    step(model, optimizer)
    model.middle.requires_grad_(False)
    report = audit(model, optimizer, step)
    assert not report.leaks
    assert report["middle.weight"].reason == "gradient_waiting"


def test_frozen_in_the_middle_of_accumulation():
    def rest_of_the_step(model, optimizer):
        model(X[3:]).square().mean().backward()
        optimizer.step()

    model = Net()
    optimizer = sgd(model)
    model(X[:3]).square().mean().backward()
    model.middle.requires_grad_(False)
    assert reasons(audit(model, optimizer, rest_of_the_step))["middle.bias"] == "stale_gradient"
    freeze(model, "middle")
    assert audit(model, optimizer, rest_of_the_step).ok


@pytest.mark.parametrize("copied", ["data", "state_dict", "data in place"])
def test_a_copy_that_is_none(copied):
    def step(model, optimizer):
        if copied == "state_dict":
            cache = model.middle.state_dict()
        else:
            cache = {name: p.data for name, p in model.middle.named_parameters()}
        plain_step(model, optimizer)
        if copied == "data in place":
            for name, p in model.middle.named_parameters():
                p.data.copy_(cache[name])
        else:
            model.middle.load_state_dict(cache)

    model = Net()
    for frozen in ("middle", ()):  # the futile copy tells what is meant, even if nobody says so
        report = audit(model, sgd(model), step, frozen=frozen)
        assert reasons(report) == {"middle.weight": "alias", "middle.bias": "alias"}


def test_assigning_data_makes_the_copy_an_alias():
    cache = {}

    def step(model, optimizer):
        plain_step(model, optimizer)
        for name, p in model.middle.named_parameters():
            p.data = cache[name]

    model = Net()
    cache.update({name: p.detach().clone() for name, p in model.middle.named_parameters()})
    report = audit(model, sgd(model), step, frozen="middle")
    assert report["middle.weight"].reason == "memory_exchanged"
    assert report["middle.weight"].level == "risk"
    assert not report["middle.weight"].changed


def test_restored_weights_with_moving_momentum():
    model = Net()
    method = CachedAndRestored()

    def step(model, optimizer):
        method.freeze(model, "middle")
        method.step(model, optimizer, lambda model: model(X).square().mean())

    report = audit(model, sgd(model, momentum=0.9), step)
    assert report["middle.weight"].reason == "restored"
    assert report["middle.weight"].level == "risk"


@pytest.mark.parametrize("flag", ["requires_grad", "require_grad"])
def test_silent_no_ops_on_a_module(flag):
    model = Net()
    setattr(model.middle, flag, False)
    report = audit(model, sgd(model), plain_step)
    assert reasons(report) == {"middle.weight": "no_op_flag", "middle.bias": "no_op_flag"}
    assert f"middle.{flag} = False" in report["middle.weight"].findings[0].why


def test_silent_no_op_on_a_parameter():
    model = Net()
    model.middle.weight.require_grad = False
    report = audit(model, sgd(model), plain_step)
    assert reasons(report) == {"middle.weight": "no_op_flag"}
    assert "middle.weight.require_grad = False" in str(report)


def test_weight_frozen_bias_not():
    model = Net()
    model.middle.weight.requires_grad = False
    report = audit(model, sgd(model), plain_step, frozen="middle")
    assert reasons(report) == {"middle.bias": "half_frozen"}
    assert "weight of the same module is frozen" in report["middle.bias"].findings[0].why
    assert audit(model, sgd(model), plain_step).ok  # training biases only is a method too


def test_attention_by_its_leaf_modules():
    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2)

        def forward(self, x):
            return self.attention(x, x, x)[0]

    model = Net(Attend())
    for module in model.middle.modules():
        if not list(module.children()):  # walking the leaves
            module.requires_grad_(False)
    report = audit(model, sgd(model), plain_step, frozen="middle")
    assert reasons(report) == {
        "middle.attention.in_proj_weight": "in_projection",
        "middle.attention.in_proj_bias": "in_projection",
    }
    report = audit(model, sgd(model), plain_step)
    assert report.ok
    assert report["middle.attention.in_proj_weight"].reason == "in_projection"


def test_flags_lost_on_resume():
    model = Net()
    RequiresGrad().freeze(model, "middle")
    resumed = Net()
    resumed.load_state_dict(model.state_dict())
    report = audit(resumed, sgd(resumed), plain_step, frozen="middle")
    assert reasons(report) == {"middle.weight": "trained", "middle.bias": "trained"}
    assert "state dict" in report["middle.weight"].findings[0].why
    assert restore_freeze_state.__name__ in report["middle.weight"].findings[0].fix


def test_freeze_undone_by_hand():
    model = Net(nn.BatchNorm1d(4))
    freeze(model, "middle")
    model.middle.requires_grad_(True)
    model.middle.training = True
    report = audit(model, sgd(model), plain_step)
    assert report["middle.weight"].reason == "undone"


def test_statistics_of_a_frozen_layer_set_to_training_by_hand():
    def step(model, optimizer):
        plain_step(model, optimizer)
        model.middle.training = True
        model(X)

    model = Net(nn.BatchNorm1d(4))
    freeze(model, "middle")
    report = audit(model, sgd(model), step)
    assert report["middle.running_mean"].reason == "undone"


def test_optimizer_that_moves_without_a_gradient():
    def step(model, optimizer):
        def closure():
            optimizer.zero_grad()
            loss = model(X).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)

    model = Net()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3, history_size=3)
    step(model, optimizer)
    freeze(model, "middle")
    report = audit(model, optimizer, step)
    assert report["middle.weight"].reason == "optimizer_memory"
    assert audit(model, torch.optim.LBFGS(model.parameters()), step).ok


def test_written_by_hand():
    def step(model, optimizer):
        plain_step(model, optimizer)
        with torch.no_grad():
            model.middle.weight.mul_(0.9)

    model = Net()
    freeze(model, "middle")
    assert reasons(audit(model, sgd(model), step)) == {"middle.weight": "written"}


def test_a_buffer_that_an_unknown_layer_writes():
    class Counts(nn.Linear):
        def __init__(self):
            super().__init__(4, 4)
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls += 1
            return super().forward(x)

    model = Net(Counts())
    model.middle.requires_grad_(False)
    report = audit(model, sgd(model), plain_step)
    assert reasons(report) == {"middle.calls": "buffer_written"}
    freeze(model, "middle")
    assert audit(model, sgd(model), plain_step).ok


def test_statistics_of_a_layer_left_out_of_the_optimizer():
    model, method = Net(nn.BatchNorm1d(4)), LeftOut()
    method.freeze(model, "middle")
    optimizer = method.make_optimizer(model, lambda params: torch.optim.SGD(params, lr=0.1))
    report = audit(model, optimizer, plain_step, frozen="middle")
    assert report["middle.running_mean"].reason == "batchnorm_training"
    assert report["middle.weight"].level == "risk"


def test_weight_decay_alone_moves_nothing():
    """Folklore that is false: a frozen parameter without a gradient is skipped."""
    model = Net()
    model.middle.requires_grad_(False)
    for optimizer in (sgd(model, weight_decay=0.5), OPTIMIZERS["adamw"](model)):
        report = audit(model, optimizer, plain_step)
        assert report.ok
        assert report["middle.weight"].state == "frozen"


def test_every_leak_has_a_sentence_and_a_mending_line():
    for code, reason in REASONS.items():
        assert len(reason.why) > 20, code
        assert reason.fix, code


def test_the_step_is_the_same_as_outside():
    model = Net(nn.BatchNorm1d(4))
    optimizer = OPTIMIZERS["adamw"](model)
    report = audit(model, optimizer, plain_step)
    before = copy.deepcopy(model.state_dict())
    plain_step(model, optimizer)
    for row in report.rows:
        expected = (model.state_dict()[row.name].double() - before[row.name].double()).abs().max()
        assert row.change == expected.item()
