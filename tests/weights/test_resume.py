"""A training run that was stopped and resumed gives the same bits as one that wasn't."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn

from course_lib.strategies import lora, subsets
from course_lib.weights import (
    CheckpointError,
    LoadError,
    Resumed,
    resume_checkpoint,
    save_checkpoint,
)
from tests.weights.conftest import Small, make, same, snapshot, untouched

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, centered=True),
    "adafactor": lambda p: torch.optim.Adafactor(p),
    "nadam": lambda p: torch.optim.NAdam(p, 0.01, decoupled_weight_decay=True),
    "radam": lambda p: torch.optim.RAdam(p, 0.01),
    "adamax": lambda p: torch.optim.Adamax(p, 0.01),
    "adadelta": lambda p: torch.optim.Adadelta(p),
    "fused": lambda p: torch.optim.AdamW(p, 0.01, fused=True),
    "a tensor as rate": lambda p: torch.optim.Adam(p, torch.tensor(0.01), foreach=False),
    "dampened": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, dampening=0.5, maximize=True),
}
SCHEDULERS = {
    "none": lambda o: None,
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    "multistep": lambda o: lr_scheduler.MultiStepLR(o, [2, 2, 5]),
    "onecycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, 10),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, total_iters=2), lr_scheduler.ExponentialLR(o, 0.9)], [2]
    ),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, factor=0.5, cooldown=1),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2, 2),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 2, mode="exp_range", gamma=0.9),
    "polynomial": lambda o: lr_scheduler.PolynomialLR(o, 5, 2.0),
    "averaging": lambda o: SWALR(o, 0.05, anneal_epochs=4),
    "chained": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.ExponentialLR(o, 0.9)], optimizer=o
    ),
}


class Run:
    """A small training run with dropout and data of every kind of randomness."""

    def __init__(self, optimizer, scheduler, seed):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        self.model = nn.Sequential(Small(), nn.Dropout(0.3))
        self.model[0].stem.requires_grad_(False)
        self.model[0].stem.eval()
        groups = [{"params": self.model[0].body.parameters()},
                  {"params": self.model[0].head.parameters(), "lr": 0.05}]  # fmt: skip
        self.optimizer = OPTIMIZERS[optimizer](groups)
        self.scheduler = SCHEDULERS[scheduler](self.optimizer)
        self.generator = torch.Generator().manual_seed(seed)

    def train(self, steps):
        for _ in range(steps):
            x = torch.rand(4, 3, 8, 8, generator=self.generator) + random.random()
            x = x + float(np.random.rand())
            self.optimizer.zero_grad()
            loss = (self.model(x) ** 2).sum()
            loss.backward()
            self.optimizer.step()
            if isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau):
                self.scheduler.step(loss.item())
            elif self.scheduler:
                self.scheduler.step()
        return self

    def parts(self):
        return self.model, self.optimizer, self.scheduler

    def save(self, path, **more):
        own = {"generators": {"loader": self.generator}} | more
        return save_checkpoint(path, *self.parts(), epoch=1, step=3, **own)

    def resume(self, path):
        return resume_checkpoint(path, *self.parts(), generators={"loader": self.generator})


def everything(run):
    state = copy.deepcopy(run.optimizer.state_dict())
    return snapshot(run.model), state, run.scheduler.state_dict() if run.scheduler else None


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b or callable(a) or not isinstance(a, int | float | str)


@pytest.mark.parametrize(
    ("optimizer", "scheduler"),
    [(o, "cosine") for o in OPTIMIZERS] + [("sgd", s) for s in SCHEDULERS if s != "cosine"],
)
def test_resumed_runs_are_bit_identical(tmp_path, optimizer, scheduler):
    straight = Run(optimizer, scheduler, 1).train(6)
    stopped = Run(optimizer, scheduler, 1).train(3)
    stopped.save(tmp_path / "run.pth", metrics={"loss": 0.5}, extra={"order": torch.arange(3)})
    resumed = Run(optimizer, scheduler, 99)
    resumed.model.requires_grad_(True)
    resumed.model.train()
    progress = resumed.resume(tmp_path / "run.pth")
    assert (progress.epoch, progress.step, progress.metrics) == (1, 3, {"loss": 0.5})
    assert torch.equal(progress.extra["order"], torch.arange(3))
    assert not progress.skipped
    assert isinstance(progress, Resumed)
    resumed.train(3)
    assert equal(everything(straight), everything(resumed))
    frozen = [n for n, p in resumed.model.named_parameters() if not p.requires_grad]
    assert frozen == [n for n, _ in resumed.model.named_parameters() if "stem" in n]
    assert not resumed.model[0].stem[1].training
    assert resumed.model[0].body.training


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_groups_built_in_another_order(tmp_path, optimizer):
    """By name, each parameter gets its own group and its own moments again."""
    straight, stopped = (Run(optimizer, "cosine", 1).train(n) for n in (6, 3))
    stopped.save(tmp_path / "run.pth")
    resumed = Run(optimizer, "cosine", 99)
    turned = [
        {"params": list(group["params"])[::-1], "lr": 7.0}
        for group in resumed.optimizer.param_groups[::-1]
    ]
    resumed.optimizer = OPTIMIZERS[optimizer](turned)
    resumed.scheduler = SCHEDULERS["cosine"](resumed.optimizer)
    resumed.resume(tmp_path / "run.pth")
    assert equal(everything(straight), everything(resumed.train(3)))


def test_low_rank_layers_and_their_average(tmp_path):
    """Only the added matrices train; an average of them goes along."""

    def start(seed):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
        subsets.train_only(net, lora.add(net, ["0", "2"], rank=2))
        trained = [p for p in net.parameters() if p.requires_grad]
        average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        return net, torch.optim.AdamW(trained, 0.01), average

    def train(net, optimizer, average, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            net(torch.randn(4, 6)).square().mean().backward()
            optimizer.step()
            average.update_parameters(net)

    net, optimizer, average = start(1)
    train(net, optimizer, average, 3)
    save_checkpoint(tmp_path / "run.pth", net, optimizer, epoch=1, averaged=average)
    train(net, optimizer, average, 3)
    again, its_optimizer, its_average = start(2)
    resume_checkpoint(tmp_path / "run.pth", again, its_optimizer, averaged=its_average)
    train(again, its_optimizer, its_average, 3)
    assert equal(snapshot(net), snapshot(again))
    assert equal(snapshot(average), snapshot(its_average))
    assert equal(optimizer.state_dict(), its_optimizer.state_dict())


def refused(path, run, says, **changes):
    before = everything(run), torch.get_rng_state(), run.generator.get_state()
    arguments = dict(zip(("model", "optimizer", "scheduler"), run.parts(), strict=True))
    arguments |= {"generators": {"loader": run.generator}} | changes
    with pytest.raises((LoadError, CheckpointError), match=says):
        resume_checkpoint(path, **arguments)
    assert equal((everything(run), torch.get_rng_state(), run.generator.get_state()), before)


def test_what_does_not_fit_changes_nothing(tmp_path, pth):
    path = Run("adam", "cosine", 1).train(2).save(tmp_path / "run.pth")
    run = Run("adam", "cosine", 5).train(1)
    refused(path, run, "the file has a optimizer, the call has none", optimizer=None)
    refused(path, run, "the file has a scheduler", scheduler=None)
    refused(path, run, "the call has a scaler", scaler=torch.amp.GradScaler("cpu"))
    refused(path, run, "has the generators loader; the call has none", generators={})
    other = nn.Sequential(Small(classes=5), nn.Dropout())
    refused(path, run, "other parameters than this model's: 5 of 5", model=other)
    more = torch.optim.Adam(run.model.parameters())
    refused(path, run, "holds 4 parameters that the saved one didn't: 0.stem", optimizer=more)
    kind = torch.optim.SGD(run.model.parameters())
    refused(path, run, "was a Adam, this one is a SGD", optimizer=kind)
    refused(path, run, "was a CosineAnnealingLR", scheduler=lr_scheduler.StepLR(run.optimizer, 3))
    refused(pth, run, "no checkpoint of save_checkpoint")
    wide = Run("adam", "cosine", 5)
    wide.model[0].head = nn.Linear(6, 9)
    wide.optimizer = torch.optim.Adam([
        {"params": wide.model[0].body.parameters()}, {"params": wide.model[0].head.parameters()},
    ])  # fmt: skip
    wide.scheduler = None
    scheduler = lr_scheduler.CosineAnnealingLR(wide.optimizer, 3)
    refused(path, wide, r"'0.head.weight' has the shape \(3, 6\)", scheduler=scheduler)
    sgd = Run("sgd", "cosine", 5).train(1)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"data/20") + 90] ^= 1
    (tmp_path / "bad.pth").write_bytes(content)
    refused(tmp_path / "bad.pth", sgd, "damaged|tampered|packed")


def test_a_model_that_differs_only_in_a_buffer_is_noticed_after_the_optimizer_was_set(tmp_path):
    """The last step can fail too: then optimizer and random states go back."""
    path = Run("adam", "cosine", 1).train(2).save(tmp_path / "run.pth")
    run = Run("adam", "cosine", 5).train(1)
    run.model.register_buffer("extra", torch.zeros(2))
    refused(path, run, "nothing for 1: extra")
    assert untouched(run.model, snapshot(run.model))


def test_only_what_can_be_read_back_safely_is_saved(tmp_path, model):
    path = tmp_path / "run.pth"
    for bad, where in [({"a": np.float64(1)}, "numpy.float64"),
                       ({"a": [range(3)]}, r"extra\.a\[0\]"),
                       ({"a": lambda: 0}, "function")]:  # fmt: skip
        with pytest.raises(CheckpointError, match=where):
            save_checkpoint(path, model, epoch=0, extra=bad)
    with pytest.raises(CheckpointError, match=r"ends in '.safetensors'"):
        save_checkpoint(tmp_path / "run.safetensors", model, epoch=0)
    assert not path.exists()


def test_the_model_alone_and_the_scaler(tmp_path, model):
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    save_checkpoint(tmp_path / "run.pth", model, epoch=4, scaler=scaler)
    again, fresh = make(5), torch.amp.GradScaler("cpu")
    progress = resume_checkpoint(tmp_path / "run.pth", again, scaler=fresh)
    assert progress.epoch == 4
    assert fresh.get_scale() == 8.0
    assert same(snapshot(again), snapshot(model))
