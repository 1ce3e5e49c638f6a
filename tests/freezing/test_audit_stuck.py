"""Every way a trainable layer stays still or is hurt, built on purpose; and no false alarms."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from course_lib.freezing import audit, freeze, unfreeze
from course_lib.freezing.methods import METHODS, ByNamesAndIndices
from tests.freezing.test_audit_leaks import Net, X, plain_step, sgd


def at(report, level):
    return {row.name: row.reason for row in report.rows if row.level == level}


def test_unfrozen_but_not_in_the_optimizer():
    model = Net()
    model.middle.requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.middle.requires_grad_(True)
    report = audit(model, optimizer, plain_step)
    assert at(report, "stuck") == {"middle.weight": "left_out", "middle.bias": "left_out"}
    assert "optimizer.zero_grad() doesn't reach it" in str(report)
    unfreeze(model, report.names_to_fix("left_out"), optimizer=optimizer)
    assert audit(model, optimizer, plain_step).ok


def test_left_out_on_purpose_is_only_a_risk():
    model = Net()
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    report = audit(model, optimizer, plain_step, frozen=["first", "middle"])
    assert not report.stuck
    assert report["first.weight"].reason == "left_out"
    assert report["first.weight"].level == "risk"


def test_head_replaced_after_the_optimizer_was_built():
    model = Net()
    optimizer = sgd(model)
    model.head = nn.Linear(4, 3)
    report = audit(model, optimizer, plain_step)
    assert at(report, "stuck") == {"head.weight": "replaced", "head.bias": "replaced"}
    assert "2 parameters that the model lacks" in report["head.bias"].findings[0].why


def test_weights_assigned_after_the_optimizer_was_built():
    model = Net()
    optimizer = sgd(model)
    model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)
    report = audit(model, optimizer, plain_step)
    assert set(at(report, "stuck").values()) == {"assigned"}
    assert len(report.stuck) == 6


def test_gradients_piled_up_while_left_out():
    model = Net()
    optimizer = torch.optim.SGD([*model.first.parameters(), *model.head.parameters()], lr=0.1)
    for _ in range(5):
        plain_step(model, optimizer)
    report = audit(model, optimizer, plain_step)
    codes = [finding.code for finding in report["middle.weight"].findings]
    assert codes == ["left_out", "piled_up"]


@pytest.mark.parametrize("foreach", [True, False])
def test_clipping_over_all_parameters(foreach):
    def step(model, optimizer):
        optimizer.zero_grad()
        (100 * model(X)).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=foreach)
        optimizer.step()

    model = Net()
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    report = audit(model, optimizer, step)
    assert "clipped" in [finding.code for finding in report["middle.weight"].findings]

    def fixed(model, optimizer):
        optimizer.zero_grad()
        (100 * model(X)).square().mean().backward()
        nn.utils.clip_grad_norm_(model.head.parameters(), 1.0, foreach=foreach)
        optimizer.step()

    assert not audit(model, optimizer, fixed).names_to_fix("clipped")


def test_clipping_that_does_not_bite_is_no_finding():
    def step(model, optimizer):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e6)
        optimizer.step()

    model = Net()
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    assert not audit(model, optimizer, step).names_to_fix("clipped")


def test_no_grad_cuts_off_what_lies_before():
    class NoGradInside(Net):
        def forward(self, x):
            x = self.first(x)
            with torch.no_grad():
                x = self.middle(x)
            return self.head(x)

    model = NoGradInside()
    report = audit(model, sgd(model), plain_step)
    assert at(report, "stuck") == {
        "first.weight": "cut_off",
        "first.bias": "cut_off",
        "middle.weight": "under_no_grad",
        "middle.bias": "under_no_grad",
    }
    assert "middle ran on its output under torch.no_grad()" in str(report)


class Checkpointed(Net):
    """Its ``first``, or its ``middle``, is computed again in the backward pass."""

    def __init__(self, part, reentrant):
        super().__init__()
        self.part, self.reentrant = part, reentrant

    def forward(self, x):
        for name in ("first", "middle", "head"):
            layer = getattr(self, name)
            x = (
                checkpoint(layer, x, use_reentrant=self.reentrant)
                if name == self.part
                else layer(x)
            )
        return x


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_reentrant_checkpoint_is_not_called_no_grad():
    """torch gives no gradient to what is inside when nothing that goes in requires one."""
    model = Checkpointed("first", True)
    report = audit(model, sgd(model), plain_step)
    assert at(report, "stuck") == {"first.weight": "reentrant", "first.bias": "reentrant"}
    assert "use_reentrant=False" in report["first.weight"].findings[0].fix
    model.reentrant = False  # the advice
    assert audit(model, sgd(model), plain_step).ok
    model = Checkpointed("middle", True)
    freeze(model, "first")
    report = audit(model, sgd(model), plain_step)
    assert at(report, "stuck") == {"middle.weight": "reentrant", "middle.bias": "reentrant"}
    with torch.no_grad():  # no checkpoint at all
        assert not model(X).requires_grad


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_that_works_is_no_finding(reentrant):
    model = Checkpointed("middle", reentrant)
    assert audit(model, sgd(model), plain_step).ok
    model.unused = nn.Linear(4, 4)  # and isn't blamed for what something else does
    assert at(audit(model, sgd(model), plain_step), "note") == {
        "unused.weight": "unused", "unused.bias": "unused",
    }  # fmt: skip


def test_no_grad_inside_a_reentrant_checkpoint_is_still_found():
    class Both(Net):
        def forward(self, x):
            def part(x):
                with torch.no_grad():
                    y = self.middle(x)
                return x + y

            return self.head(checkpoint(part, self.first(x), use_reentrant=True))

    model = Both()
    report = audit(model, sgd(model), plain_step)
    assert at(report, "stuck") == {"middle.weight": "under_no_grad", "middle.bias": "under_no_grad"}


def test_detach_cuts_off_too():
    class Detaches(Net):
        def forward(self, x):
            return self.head(self.middle(self.first(x)).detach())

    model = Detaches()
    report = audit(model, sgd(model), plain_step)
    assert at(report, "stuck")["first.weight"] == "cut_off"
    assert "head ran on its output after a detach()" in str(report)


def test_tied_weights_freeze_together():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode = nn.Embedding(5, 4)
            self.decode = nn.Linear(4, 5)
            self.decode.weight = self.encode.weight

        def forward(self, tokens):
            return self.decode(self.encode(tokens))

    def step(model, optimizer):
        optimizer.zero_grad()
        model(torch.arange(5)).square().mean().backward()
        optimizer.step()

    model = Tied()
    freeze(model, "encode")
    report = audit(model, sgd(model), step, trainable="decode.weight")
    row = report["decode.weight"]
    assert row.names == ("encode.weight", "decode.weight")
    assert [finding.code for finding in row.findings] == ["not_trainable", "tied"]
    assert "one tensor with decode.weight" in row.findings[0].why
    report = audit(model, sgd(model), step)
    assert report.ok
    assert report["encode.weight"].reason == "tied"


def test_the_new_head_frozen_with_everything_else():
    """The book's exercise 3 as printed: all parameters frozen, backward has nothing to do."""
    model = Net()
    for parameter in model.parameters():
        parameter.requires_grad = False
    with pytest.raises(RuntimeError, match="the new head too"):
        audit(model, sgd(model), plain_step)


def test_declared_trainable_but_frozen():
    model = Net()
    freeze(model, ["first", "middle"])
    report = audit(model, sgd(model), plain_step, trainable="middle")
    assert at(report, "stuck") == {"middle.weight": "not_trainable", "middle.bias": "not_trainable"}


def test_duplicate_group_is_explained():
    def step(model, optimizer):
        optimizer.add_param_group({"params": model.middle.parameters()})
        plain_step(model, optimizer)

    model = Net()
    with pytest.raises(RuntimeError, match="adds only what is missing"):
        audit(model, sgd(model), step)


def test_group_that_the_scheduler_does_not_know():
    model = Net()
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    optimizer.add_param_group({"params": [*model.first.parameters(), *model.middle.parameters()]})
    report = audit(model, optimizer, plain_step)
    assert set(at(report, "risk").values()) == {"unscheduled"}
    assert len(at(report, "risk")) == 4
    assert scheduler.get_last_lr() == [0.1]


@pytest.mark.parametrize(
    "build",
    [lambda p: torch.optim.Adam(p), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)],
    ids=["adam", "momentum"],
)
def test_stale_moments_after_unfreezing(build):
    model = Net()
    optimizer = build(model.parameters())
    plain_step(model, optimizer)
    freeze(model, "middle")
    for _ in range(3):
        plain_step(model, optimizer)
    unfreeze(model, "middle")  # without the optimizer
    report = audit(model, optimizer, plain_step)
    assert at(report, "risk") == {
        "middle.weight": "stale_moments",
        "middle.bias": "stale_moments",
    }
    freeze(model, "middle")
    unfreeze(model, "middle", optimizer)
    assert audit(model, optimizer, plain_step).ok


def test_distributed_wrapped_before_the_freeze(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        wrapped = nn.parallel.DistributedDataParallel(Net())
        report = audit(wrapped, sgd(wrapped), plain_step)
        assert report.ok
        freeze(wrapped, "module.middle")
        report = audit(wrapped, sgd(wrapped), plain_step)
        assert not report.ok
        assert "built when 6 tensors required a gradient, now 4 do" in str(report)
        again = nn.parallel.DistributedDataParallel(wrapped.module)
        assert audit(again, sgd(again), plain_step).ok
    finally:
        torch.distributed.destroy_process_group()


def test_no_step_at_all():
    def step(model, optimizer):
        optimizer.zero_grad()
        model(X).sum().backward()

    model = Net()
    report = audit(model, sgd(model), step)
    assert set(at(report, "stuck").values()) == {"no_step"}


def test_learning_rate_zero_is_a_note():
    model = Net()
    groups = [
        {"params": [*model.first.parameters(), *model.middle.parameters()], "lr": 0.0},
        {"params": model.head.parameters()},
    ]
    report = audit(model, torch.optim.SGD(groups, lr=0.1), plain_step)
    assert report.ok
    assert report["first.weight"].reason == "lr_zero"
    report = audit(model, torch.optim.SGD(groups, lr=0.1), plain_step, trainable="first")
    assert at(report, "stuck")["first.weight"] == "lr_zero"


def test_unused_parameters_are_said_softly():
    class Unused(Net):
        def __init__(self):
            super().__init__()
            self.extra = nn.Linear(4, 4)

    model = Unused()
    report = audit(model, sgd(model), plain_step)
    assert report.ok
    assert report["extra.weight"].reason == "unused"
    assert report["extra.weight"].verdict == "note"


def test_zero_gradient_and_too_small_an_update():
    class Dead(Net):
        def forward(self, x):
            return self.head((self.middle(self.first(x)) - 1e3).relu())

    model = Dead()
    report = audit(model, sgd(model), plain_step)
    assert report["first.weight"].reason == "zero_gradient"

    model = Net().bfloat16()

    def step(model, optimizer):
        optimizer.zero_grad()
        model(X.bfloat16()).square().mean().backward()
        optimizer.step()

    with torch.no_grad():
        model.first.weight.fill_(100)
    report = audit(model, torch.optim.SGD(model.parameters(), lr=1e-7), step)
    assert report["first.weight"].reason == "too_small"
    assert "bfloat16" in report["first.weight"].findings[0].why


def test_not_finite():
    def step(model, optimizer):
        optimizer.zero_grad()
        (model(X).sum() * float("nan")).backward()
        optimizer.step()

    model = Net()
    report = audit(model, sgd(model), step)
    assert report["head.weight"].reason == "not_finite"
    assert report["head.weight"].change == float("inf")


# ---- correct set-ups raise no alarm ----------------------------------------------------------


def everything_trains(model):
    return sgd(model)


def all_but_the_head_frozen(model):
    freeze(model, ["first", "middle"])
    return sgd(model)


def head_only_in_the_optimizer(model):
    freeze(model, ["first", "middle"])
    return torch.optim.AdamW(model.head.parameters())


def thawed_with_the_optimizer(model):
    freeze(model, ["first", "middle"])
    optimizer = torch.optim.Adam(model.head.parameters())
    for _ in range(3):
        plain_step(model, optimizer)
    unfreeze(model, "middle", optimizer, lr=1e-4)
    plain_step(model, optimizer)
    return optimizer


def scheduled(model):
    optimizer = sgd(model, momentum=0.9)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10)
    return optimizer


def gradients_cleared_after_the_step(model):
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(2):
        plain_step(model, optimizer)
        optimizer.zero_grad()
    return optimizer


def after_evaluation(model):
    model.eval()
    return sgd(model)


def statistics_frozen_only(model):
    freeze(model, [name for name, _ in model.named_buffers()])
    return sgd(model)


CORRECT = [
    everything_trains,
    all_but_the_head_frozen,
    head_only_in_the_optimizer,
    thawed_with_the_optimizer,
    scheduled,
    gradients_cleared_after_the_step,
    after_evaluation,
    statistics_frozen_only,
]
MIDDLES = {
    "linear": lambda: nn.Linear(4, 4),
    "norm": lambda: nn.BatchNorm1d(4),
    "norm, not affine": lambda: nn.BatchNorm1d(4, affine=False),
    "dropout and norm": lambda: nn.Sequential(nn.Dropout(), nn.LayerNorm(4), nn.BatchNorm1d(4)),
    "spectral": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
}


@pytest.mark.parametrize("middle", MIDDLES)
@pytest.mark.parametrize("prepare", CORRECT, ids=lambda f: f.__name__)
def test_no_alarm_on_correct_set_ups(prepare, middle):
    model = Net(MIDDLES[middle]())
    report = audit(model, prepare(model), plain_step)
    assert report.ok, str(report)
    # A bias in front of BatchNorm has no effect, so its gradient is no more than rounding.
    assert {row.reason for row in report.rows} <= {"", "too_small"}, str(report)


def test_embedding_with_max_norm_that_trains():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(5, 4, max_norm=0.1)
            self.head = nn.Linear(4, 2)

        def forward(self, tokens):
            return self.head(self.table(tokens))

    def step(model, optimizer):
        optimizer.zero_grad()
        model(torch.tensor([0, 1])).square().mean().backward()
        optimizer.step()

    model = Words()
    assert audit(model, sgd(model), step).ok


@pytest.mark.parametrize("kind", METHODS)
def test_the_five_methods(kind):
    """What the audit says of each method, with the frozen part named."""
    model, method = Net(nn.BatchNorm1d(4)), kind()
    method.freeze(model, ["first", "middle"])
    optimizer = method.make_optimizer(model, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9))

    def step(copied, optimizer):
        copied.train()
        # Method 3 puts copies back: into the model it is handed, as the others do.
        mine = kind()
        if kind is not ByNamesAndIndices:
            mine.freeze(copied, ["first", "middle"])
        mine.step(copied, optimizer, lambda model: model(X).square().mean())

    report = audit(model, optimizer, step, frozen=["first", "middle"])
    expected = {
        "RequiresGrad": {"batchnorm_training"},
        "LeftOut": {"batchnorm_training", "left_out"},
        "CachedAndRestored": {"batchnorm_training", "restored"},
        "NoGradForward": {"batchnorm_training"},
        "ByNamesAndIndices": set(),
    }[kind.__name__]
    assert {row.reason for row in report.rows if row.level in ("leak", "risk", "stuck")} == expected
