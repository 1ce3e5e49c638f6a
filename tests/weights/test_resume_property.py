"""Random sequences of freeze, unfreeze, step, save and resume, beside a run that never stops."""

import tempfile
import warnings
from pathlib import Path

import hypothesis.strategies as st
import torch
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from torch import nn
from torch.nn.parallel import DataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from course_lib.freezing import freeze, unfreeze
from course_lib.weights import resume_checkpoint, save_checkpoint
from tests.weights.test_resume_freeze import OPTIMIZERS, assert_same, inside, state_of


class Net(nn.Module):
    """Layers that move in ways of their own."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4, max_norm=1.0)
        self.low = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.2))
        self.high = nn.Sequential(
            nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
            nn.BatchNorm1d(4, affine=False),
        )
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight  # tied

    def forward(self, x):
        return self.head(self.high(self.low(self.embed(x))))


NAMES = [
    "embed", "low", "high", "head", "low.0.weight", "low.1", "low.1.bias", "high.1.running_var",
    "high.0", "high.0.bias", "head.weight", "low.3", "*.bias",
]  # fmt: skip
SCHEDULES = {
    "none": lambda o: None,
    "lambda": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda n: 0.9**n),
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 9),
}


class Run:
    """As at its first start: the head trains, and only that is in the optimizer."""

    def __init__(self, kind, schedule, seed, wrapped):
        torch.manual_seed(seed)
        self.model = DataParallel(Net()) if wrapped else Net()
        freeze(inside(self.model), ["low", "high"])
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer, self.schedule = OPTIMIZERS[kind](parameters), schedule
        self.scheduler = SCHEDULES[schedule](self.optimizer)
        self.average = AveragedModel(inside(self.model), multi_avg_fn=get_ema_multi_avg_fn(0.9))
        self.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)

    def parts(self):
        return self.model, self.optimizer, self.scheduler

    def save(self, path):
        more = {"scaler": self.scaler, "averaged": self.average}
        save_checkpoint(path, *self.parts(), epoch=1, **more)

    def resume(self, path):
        resume_checkpoint(path, *self.parts(), scaler=self.scaler, averaged=self.average)

    def unfreeze(self, names, rate):
        before = len(self.optimizer.param_groups)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the scheduler, which is built anew
            unfreeze(inside(self.model), names, self.optimizer)
        if len(self.optimizer.param_groups) > before:
            self.optimizer.param_groups[-1]["lr"] = rate
            self.scheduler = SCHEDULES[self.schedule](self.optimizer)

    def step(self, count, set_to_none):
        for _ in range(count):
            self.optimizer.zero_grad(set_to_none=set_to_none)
            loss = self.scaler.scale(self.model(torch.randint(0, 5, (6,))).square().mean())
            if loss.requires_grad:
                loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            if any(p.grad is not None for g in self.optimizer.param_groups for p in g["params"]):
                self.scaler.step(self.optimizer)
                self.scaler.update()
            if self.scheduler is not None:
                self.scheduler.step()
            self.average.update_parameters(inside(self.model))

    def state(self):
        scheduler = self.scheduler.state_dict() if self.scheduler is not None else None
        tensors, rest = state_of(self.model, self.optimizer)
        averages, more = state_of(self.average)
        tensors |= {f"average {name}": each for name, each in averages.items()}
        return tensors, [*rest, *more, repr(scheduler), repr(self.scaler.state_dict())]


class Machine(RuleBasedStateMachine):
    """Two runs get the same calls; one of them is stopped and resumed again and again."""

    @initialize(kind=st.sampled_from([*OPTIMIZERS]), schedule=st.sampled_from([*SCHEDULES]))
    def start(self, kind, schedule):
        self.kind, self.schedule = kind, schedule
        self.straight = Run(kind, schedule, 1, False)
        self.stopped = Run(kind, schedule, 1, False)
        self.folder = tempfile.TemporaryDirectory()

    def both(self, call):
        """The same call with the same random numbers."""
        random = torch.get_rng_state()
        call(self.straight)
        torch.set_rng_state(random)
        call(self.stopped)

    @rule(names=st.lists(st.sampled_from(NAMES), unique=True, max_size=3))
    def freeze(self, names):
        self.both(lambda run: freeze(inside(run.model), names))

    @rule(
        names=st.lists(st.sampled_from(NAMES), unique=True, max_size=3),
        rate=st.sampled_from([0.1, 0.01]),
    )
    def unfreeze(self, names, rate):
        self.both(lambda run: run.unfreeze(names, rate))

    @rule(count=st.integers(1, 2), set_to_none=st.booleans())
    def step(self, count, set_to_none):
        self.both(lambda run: run.step(count, set_to_none))

    @rule(mode=st.booleans(), part=st.sampled_from(["", "low", "high.1"]))
    def train(self, mode, part):
        self.both(lambda run: inside(run.model).get_submodule(part).train(mode))

    @rule(name=st.sampled_from(["low.0.bias", "high.0.bias", "head.weight"]), flag=st.booleans())
    def by_hand(self, name, flag):
        self.both(lambda run: inside(run.model).get_parameter(name).requires_grad_(flag))

    @rule(wrapped=st.booleans(), seed=st.integers(2, 9))
    def stop_and_resume(self, wrapped, seed):
        path = Path(self.folder.name) / "run.pt"
        self.stopped.save(path)
        random = torch.get_rng_state()
        self.stopped = Run(self.kind, self.schedule, seed, wrapped)
        self.stopped.resume(path)
        assert torch.equal(torch.get_rng_state(), random)

    @invariant()
    def they_agree(self):
        if hasattr(self, "stopped"):
            assert_same(self.stopped.state(), self.straight.state())

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestRandomSequences = Machine.TestCase
TestRandomSequences.settings = settings(max_examples=12, stateful_step_count=12, deadline=None)
