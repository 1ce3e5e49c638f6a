"""Resuming gives back the freeze: the yardstick is the run that never stopped."""

import copy
import os
import warnings

import pytest
import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from course_lib.freezing import freeze, freeze_state, frozen_names, unfreeze
from course_lib.freezing.hold import hold_of
from course_lib.weights import CheckpointError, LoadError, resume_checkpoint, save_checkpoint
from tests.weights.conftest import same

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, amsgrad=True),
}


class Net(nn.Module):
    """A backbone of two blocks with BatchNorm and dropout, and a head."""

    def __init__(self):
        super().__init__()
        self.low = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh())
        self.high = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.3))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.high(self.low(x)))


def new(seed, wrap=lambda model: model, names=("low", "high")):
    """A run as at its first start: the backbone frozen, the head in the optimizer."""
    torch.manual_seed(seed)
    model = Net()
    if names:
        freeze(model, list(names))
    return wrap(model.train())


def step(model, optimizer, count=1, scheduler=None, scaler=None, averaged=None):
    for _ in range(count):
        model.train()
        optimizer.zero_grad()
        loss = model(torch.randn(5, 4) + 0.3).square().mean()
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        if scheduler is not None:
            scheduler.step()
        if averaged is not None:
            averaged.update_parameters(model)


def inside(model):
    while isinstance(model, DataParallel | DistributedDataParallel) or hasattr(model, "_orig_mod"):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    return model


def state_of(model, optimizer=None):
    """Everything that the next steps hang on, with plain names."""
    model = inside(model)
    tensors = {n: t.detach().clone() for n, t in model.state_dict().items()}
    modes = [(n, m.training, m.__dict__["_freezing"].mode if hold_of(m) else None)
             for n, m in model.named_modules()]  # fmt: skip
    flags = [p.requires_grad for p in model.parameters()]
    rest = [modes, flags, freeze_state(model), torch.get_rng_state().tolist()]
    if optimizer is not None:
        names = {id(p): n for n, p in model.named_parameters()}
        state = copy.deepcopy(optimizer.state_dict())
        for number, moments in state["state"].items():
            tensors |= {f"{number} {k}": torch.as_tensor(v) for k, v in moments.items()}
        groups = [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]
        rest += [groups, [repr(sorted(each.items())) for each in state["param_groups"]]]
    return tensors, rest


def assert_same(first, second):
    assert first[1] == second[1]
    assert list(first[0]) == list(second[0])
    assert same(*(each[0] for each in (first, second)))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_thawed_before_saving_resumed_into_a_frozen_model(tmp_path, kind):
    """Freeze, train, unfreeze, train, save; the first start is frozen."""
    model = new(1)
    optimizer = OPTIMIZERS[kind](model.parameters())
    step(model, optimizer, 2)
    unfreeze(model, ["low", "high"], optimizer)
    step(model, optimizer, 2)
    path = save_checkpoint(tmp_path / "run.pt", model, optimizer, epoch=1)
    again = new(9)
    other = OPTIMIZERS[kind](again.parameters())
    assert resume_checkpoint(path, again, other).added == ()
    assert frozen_names(again) == []
    assert_same(state_of(again, other), state_of(model, optimizer))
    before = torch.get_rng_state()
    step(model, optimizer, 3)
    torch.set_rng_state(before)
    step(again, other, 3)
    assert_same(state_of(again, other), state_of(model, optimizer))
    assert again.low[1].training


def test_held_when_saved_resumed_into_a_model_that_is_not(tmp_path):
    model = new(1)
    optimizer = OPTIMIZERS["sgd"](model.head.parameters())
    step(model, optimizer, 2)
    path = save_checkpoint(tmp_path / "run.pt", model, optimizer, epoch=1)
    again = new(9, names=())
    other = OPTIMIZERS["sgd"](again.head.parameters())
    resume_checkpoint(path, again, other)
    statistics = again.low[1].running_mean.clone()
    before = torch.get_rng_state()
    step(model, optimizer, 3)
    torch.set_rng_state(before)
    step(again, other, 3)
    assert torch.equal(again.low[1].running_mean, statistics)
    assert_same(state_of(again, other), state_of(model, optimizer))
    for each in (model, again):  # what freeze remembers came along too
        each.eval()
        unfreeze(each, "*")
    assert_same(state_of(again, other), state_of(model, optimizer))


def test_parts_by_hand_and_single_tensors(tmp_path):
    """requires_grad and the hold are two records, and each may say something of its own."""
    model = new(1, names=["low.0.weight", "high.1.running_mean"])
    model.head.bias.requires_grad_(False)
    model.low.eval()
    freeze(model, "head.bias")
    model.low[0].weight.requires_grad_(True)  # undoes the freeze by hand
    model.high[2].eval()
    path = save_checkpoint(tmp_path / "run.pt", model, epoch=1)
    again = new(9)
    resume_checkpoint(path, again)
    assert_same(state_of(again), state_of(model))
    for each in (model, again):
        unfreeze(each, each)
    assert_same(state_of(again), state_of(model))
    assert again.low[0].weight.requires_grad
    assert not again.head.bias.requires_grad


# --- gradual unfreezing ---------------------------------------------------------------------------

STAGES = [("high", 0.02), ("low", 0.01)]


def staged(kind, named=False):
    model = new(1)
    head = model.head.named_parameters("head") if named else model.head.parameters()
    return model, OPTIMIZERS[kind](head)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("stop", range(6))
def test_every_epoch_of_a_staged_schedule(tmp_path, kind, stop, named):
    """Two epochs a stage; resumed into a run as at its first start."""

    def epochs(model, optimizer, start, end):
        for epoch in range(start, end):
            if epoch in (2, 4):
                name, rate = STAGES[epoch // 2 - 1]
                unfreeze(model, name, optimizer, lr=rate)
            step(model, optimizer, 2)

    straight = staged(kind, named)
    epochs(*straight, 0, 6)
    after = state_of(*straight)
    stopped = staged(kind, named)
    epochs(*stopped, 0, stop)
    path = save_checkpoint(tmp_path / "run.pt", *stopped, epoch=stop)
    resumed = staged(kind, named)
    progress = resume_checkpoint(path, *resumed)
    assert len(progress.added) == {0: 0, 1: 0, 2: 0, 3: 4, 4: 4, 5: 8}[stop]
    epochs(*resumed, progress.epoch, 6)
    assert_same(state_of(*resumed), after)


def test_the_stages_made_by_hand_first_will_do_as_well(tmp_path):
    model, optimizer = staged("adam")
    unfreeze(model, "high", optimizer, lr=0.02)
    step(model, optimizer)
    path = save_checkpoint(tmp_path / "run.pt", model, optimizer, epoch=1)
    again, other = staged("adam")
    unfreeze(again, "high", other)
    assert resume_checkpoint(path, again, other).added == ()
    assert_same(state_of(again, other), state_of(model, optimizer))
    again = new(5)
    other = OPTIMIZERS["adam"]([again.high[0].weight, *again.head.parameters()])
    assert resume_checkpoint(path, again, other).added == (
        "high.0.bias", "high.1.weight", "high.1.bias",
    )  # fmt: skip
    assert_same(state_of(again, other), state_of(model, optimizer))


SCHEDULERS = {
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda n: 0.9**n),
    "multiplicative": lambda o: lr_scheduler.MultiplicativeLR(o, lambda n: 0.9),
    "onecycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, 30),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, cycle_momentum=False),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LambdaLR(o, lambda n: 0.1 * n), lr_scheduler.ExponentialLR(o, 0.9)], [2]
    ),
    "chained": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LambdaLR(o, lambda n: 0.9**n), lr_scheduler.StepLR(o, 2)]
    ),
}


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_a_scheduler_built_anew_for_the_new_group(tmp_path, kind):
    """At the resume it is built for the groups of the first start."""
    model, optimizer = staged("sgd")
    step(model, optimizer, 2, SCHEDULERS[kind](optimizer))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unfreeze(model, "high", optimizer, lr=0.02)
        scheduler = SCHEDULERS[kind](optimizer)
    step(model, optimizer, 2, scheduler)
    path = save_checkpoint(tmp_path / "run.pt", model, optimizer, scheduler, epoch=1)
    again, other = staged("sgd")
    second = SCHEDULERS[kind](other)
    resume_checkpoint(path, again, other, second)
    before = torch.get_rng_state()
    step(model, optimizer, 4, scheduler)
    torch.set_rng_state(before)
    step(again, other, 4, second)
    assert_same(state_of(again, other), state_of(model, optimizer))


def test_functions_that_nobody_can_know(tmp_path):
    model, optimizer = staged("sgd")
    unfreeze(model, "high", optimizer)
    unfreeze(model, "low", optimizer)
    scheduler = lr_scheduler.LambdaLR(optimizer, [lambda n: 0.9, lambda n: 0.8, lambda n: 0.7])
    path = save_checkpoint(tmp_path / "run.pt", model, optimizer, scheduler, epoch=1)
    again, other = staged("sgd")
    unfreeze(again, "high", other)
    second = lr_scheduler.LambdaLR(other, [lambda n: 0.9, lambda n: 0.8])
    before = state_of(again, other)
    with pytest.raises(LoadError, match="has 2 functions and the saved one had 3"):
        resume_checkpoint(path, again, other, second)
    assert_same(state_of(again, other), before)
    step(again, other, 1, second)
    unfreeze(again, "low", other, scheduler=None)  # the advice
    third = lr_scheduler.LambdaLR(other, [lambda n: 0.9, lambda n: 0.8, lambda n: 0.7])
    resume_checkpoint(path, again, other, third)
    assert_same(state_of(again, other), state_of(model, optimizer))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_scaler_and_average(tmp_path, kind):
    def run():
        model = new(1)
        optimizer = OPTIMIZERS[kind](model.head.parameters())
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        return model, optimizer, scaler, average

    model, optimizer, scaler, average = run()
    step(model, optimizer, 2, scaler=scaler, averaged=average)
    unfreeze(model, "high", optimizer)
    unfreeze(average, "module.high")
    step(model, optimizer, 1, scaler=scaler, averaged=average)
    path = save_checkpoint(
        tmp_path / "run.pt", model, optimizer, epoch=1, scaler=scaler, averaged=average,
        extra={"ema": average.state_dict()},
    )  # fmt: skip
    again, other, second, mean = run()
    progress = resume_checkpoint(path, again, other, scaler=second, averaged=mean)
    by_hand = AveragedModel(again)
    by_hand.load_state_dict(progress.extra["ema"])
    assert same(by_hand.state_dict(), average.state_dict())
    before = torch.get_rng_state()
    step(model, optimizer, 3, scaler=scaler, averaged=average)
    torch.set_rng_state(before)
    step(again, other, 3, scaler=second, averaged=mean)
    assert_same(state_of(again, other), state_of(model, optimizer))
    assert_same(state_of(mean), state_of(average))
    assert second.state_dict() == scaler.state_dict()
    with pytest.raises(LoadError, match="the file has a averaged"):
        resume_checkpoint(path, again, other, scaler=second)


# --- wrapped and compiled -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """One process that believes to be a group."""
    file = tmp_path_factory.mktemp("group") / "store"
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=0, world_size=1
    )  # fmt: skip
    yield
    torch.distributed.destroy_process_group()


def compiled(model):
    return torch.compile(model, backend="eager")


def inner_compiled(model):
    model.high = compiled(model.high)
    return model


WRAPPERS = {
    "plain": lambda model: model,
    "parallel": DataParallel,
    "distributed": DistributedDataParallel,
    "compiled": compiled,
    "both": lambda model: DistributedDataParallel(compiled(model)),
    "other way": lambda model: compiled(DataParallel(model)),
    "inside": inner_compiled,
}


@pytest.mark.skipif(os.name == "nt", reason="gloo's file store")
@pytest.mark.parametrize("optimizing", [False, True])
@pytest.mark.parametrize("saved", WRAPPERS)
@pytest.mark.parametrize("resumed", ["plain", "distributed", "other way", "inside"])
@pytest.mark.filterwarnings("ignore:DistributedDataParallel chose")
def test_saved_in_one_wrapper_resumed_in_another(tmp_path, group, saved, resumed, optimizing):
    def run(wrap, seed, names=("low", "high")):
        model = new(seed, WRAPPERS[wrap], names)
        return model, OPTIMIZERS["adam"](inside(model).head.parameters())

    model, optimizer = run(saved, 1)
    step(model, optimizer, 2)
    body = inside(model)
    high = "high._orig_mod" if saved == "inside" else "high"
    unfreeze(body, high, optimizer)
    unfreeze(body, "high") if saved == "inside" else None
    body.low[2].eval()
    parts = (optimizer,) if optimizing else ()
    path = save_checkpoint(tmp_path / "run.pt", model, *parts, epoch=1)
    again, other = run(resumed, 9, ["high"])
    assert not resume_checkpoint(path, again, *([other] if optimizing else [])).skipped

    def plain(model):
        tensors, rest = state_of(model)
        tensors = {name.replace("_orig_mod.", ""): each for name, each in tensors.items()}
        modules = {n.replace("_orig_mod.", "").replace("._orig_mod", ""): m.training
                   for n, m in inside(model).named_modules()}  # fmt: skip
        names = {n.replace("_orig_mod.", "") for n in frozen_names(inside(model))}
        return tensors, [modules, rest[1], names]

    assert_same(plain(again), plain(model))
    assert {m.training for m in again.modules()} == {True, False}
    if optimizing and not {"inside"} & {saved, resumed}:
        assert_same(state_of(again, other), state_of(model, optimizer))


def test_a_name_that_looks_like_a_wrapper_is_a_name(tmp_path):
    model = nn.ModuleDict({"module": nn.Linear(2, 2), "_orig_mod": nn.Linear(2, 2)})
    freeze(model, "module.weight")
    path = save_checkpoint(tmp_path / "run.pt", DataParallel(model), epoch=1)
    again = nn.ModuleDict({"module": nn.Linear(2, 2), "_orig_mod": nn.Linear(2, 2)})
    resume_checkpoint(path, again)
    assert frozen_names(again) == ["module.weight"]
    assert same(again.state_dict(), model.state_dict())


def test_a_wrapper_of_your_own_is_named(tmp_path):
    class Task(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

    path = save_checkpoint(tmp_path / "task.pt", Task(Net()), epoch=1)
    with pytest.raises(LoadError, match=r"names in the file begin with 'net\.'.*model"):
        resume_checkpoint(path, Net())
    resume_checkpoint(path, Task(Net()))
    path = save_checkpoint(tmp_path / "net.pt", Net(), epoch=1)
    task = Task(Net())
    with pytest.raises(LoadError, match=r"names in the model begin with 'net\.'.*'net'"):
        resume_checkpoint(path, task)
    resume_checkpoint(path, task.net)


@pytest.mark.skipif(os.name == "nt", reason="gloo's file store")
def test_distributed_is_told_when_flags_change(tmp_path, group):
    path = save_checkpoint(tmp_path / "run.pt", new(1), epoch=1)
    with pytest.warns(UserWarning, match="wrap the inner module again"):
        resume_checkpoint(path, DistributedDataParallel(new(2, names=["low"])))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resume_checkpoint(path, DistributedDataParallel(new(2)))


# --- gradients, and all or nothing ----------------------------------------------------------------


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_that_a_step_would_use(tmp_path, set_to_none):
    """Piled up outside of the optimizer, in the middle of an accumulation, stale by hand."""

    def go_on(model, optimizer):
        torch.manual_seed(3)
        for _ in range(3):
            model(torch.randn(5, 4)).square().mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad(set_to_none=set_to_none)

    def start(seed):
        model = new(seed, names=["low"])
        return model, OPTIMIZERS["sgd"]([*model.head.parameters(), model.high[1].weight])

    model, optimizer = start(1)
    model(torch.randn(5, 4)).square().mean().backward()
    optimizer.step()
    model.high[1].weight.requires_grad_(False)
    path = save_checkpoint(tmp_path / "run.pt", model, optimizer, epoch=1)
    again, other = start(9)
    again(torch.randn(5, 4)).sum().backward()
    resume_checkpoint(path, again, other)
    go_on(model, optimizer)
    go_on(again, other)
    assert_same(state_of(again, other), state_of(model, optimizer))


def test_a_failure_at_the_very_end_changes_nothing(tmp_path):
    model, optimizer = staged("adam")
    unfreeze(model, "high", optimizer)
    step(model, optimizer)
    scheduler = lr_scheduler.StepLR(optimizer, 2)
    path = save_checkpoint(tmp_path / "run.pt", model, optimizer, scheduler, epoch=1)
    again = new(9, names=["head"])
    again.low[0].weight.requires_grad_(False)
    other = OPTIMIZERS["adam"](again.head.parameters())
    again.low[1].eval()
    groups = other.param_groups
    second = lr_scheduler.StepLR(other, 2)

    def interrupted(state):
        del second.load_state_dict
        raise KeyboardInterrupt

    before = state_of(again, other)
    second.load_state_dict = interrupted
    with pytest.raises(KeyboardInterrupt):
        resume_checkpoint(path, again, other, second)
    assert_same(state_of(again, other), before)
    assert other.param_groups is groups
    unfreeze(again, "*")
    assert again.head.weight.requires_grad
    assert not again.low[0].weight.requires_grad


def test_parameters_outside_of_the_model(tmp_path):
    model, temperature = new(1), nn.Parameter(torch.ones(()))
    optimizer = OPTIMIZERS["sgd"]([*model.head.parameters(), temperature])
    with pytest.raises(CheckpointError, match=r"1 of 3 aren't in it, first one of shape \(\)"):
        save_checkpoint(tmp_path / "run.pt", model, optimizer, epoch=1)
    assert not list(tmp_path.iterdir())
    both = nn.ModuleDict({"net": model, "loss": nn.ParameterList([temperature])})  # the advice
    path = save_checkpoint(tmp_path / "run.pt", both, optimizer, epoch=1)
    assert resume_checkpoint(path, both, optimizer).added == ()


def test_types_are_not_converted(tmp_path):
    path = save_checkpoint(tmp_path / "run.pt", new(1).bfloat16(), epoch=1)
    model = new(2)
    before = state_of(model)
    with pytest.raises(LoadError, match=r"is torch.bfloat16 in the file and torch.float32"):
        resume_checkpoint(path, model)
    assert_same(state_of(model), before)
    resume_checkpoint(path, model.to(torch.bfloat16))
