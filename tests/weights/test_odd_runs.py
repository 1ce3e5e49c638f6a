"""Training checkpoints with anything in them: an error of ours and all as it was, or a run."""

import copy
import random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as schedules

from course_lib.errors import CourseError
from course_lib.freezing import freeze
from course_lib.weights import resume_checkpoint, save_checkpoint
from tests.weights.conftest import make

KINDS = {
    "AdamW": lambda o: schedules.StepLR(o, 1),
    "SGD": lambda o: schedules.OneCycleLR(o, 0.1, total_steps=50),
    "Adagrad": lambda o: schedules.MultiStepLR(o, [1, 3]),
    "RMSprop": schedules.ReduceLROnPlateau,
    "NAdam": lambda o: schedules.SequentialLR(
        o, [schedules.ConstantLR(o), schedules.CosineAnnealingLR(o, 5)], [1]
    ),
    "LBFGS": lambda o: schedules.LambdaLR(o, lambda epoch: 0.9**epoch),
    "Rprop": lambda o: schedules.CyclicLR(o, 0.01, 0.1, cycle_momentum=False),
    "Adafactor": lambda o: schedules.CosineAnnealingWarmRestarts(o, 4),
    "ASGD": lambda o: schedules.ChainedScheduler([schedules.ExponentialLR(o, 0.9)]),
}
MORE = {"SGD": {"momentum": 0.9}, "RMSprop": {"momentum": 0.5, "centered": True}}
ODD = [
    None, True, -1, 0, 2, 2**70, 10**400, 1e300, float("nan"), float("inf"), "", "x", b"x", 1j, [],
    {}, [1], {"a": 1}, [[[]]], (), (1, 2), {1}, torch.zeros(0), torch.zeros(2), torch.zeros(()),
    torch.tensor(float("nan")), torch.ones(2, 2).to_sparse(), torch.zeros(6, dtype=torch.complex64),
    torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8), torch.zeros(3).expand(4, 3),
    torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), torch.zeros(2, device="meta"),
    torch.float32, torch.device("cpu"), torch.Size([2]), bytearray(b"x"), torch.tensor([1]),
]  # fmt: skip
GONE = object()


class Run:
    def __init__(self, kind, seed):
        torch.manual_seed(seed)
        self.model, self.generator = make(seed), torch.Generator().manual_seed(seed)
        if kind == "SGD":
            freeze(self.model, ["stem"])
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = getattr(torch.optim, kind)(trained, lr=0.01, **MORE.get(kind, {}))
        self.scheduler = KINDS[kind](self.optimizer)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        self.averaged = torch.optim.swa_utils.AveragedModel(self.model)
        self.step()

    def loss(self):
        self.optimizer.zero_grad()
        loss = self.model(torch.ones(2, 3, 8, 8)).square().mean()
        self.scaler.scale(loss).backward()
        return loss

    def step(self):
        self.optimizer.step(self.loss)
        plateau = isinstance(self.scheduler, schedules.ReduceLROnPlateau)
        self.scheduler.step(*([1.0] if plateau else []))
        self.averaged.update_parameters(self.model)

    @property
    def parts(self):
        return {"scaler": self.scaler, "averaged": self.averaged,
                "generators": {"mine": self.generator}}  # fmt: skip

    def everything(self):
        modules = list(self.model.modules())
        parts = (self.model, self.optimizer, self.scheduler, self.scaler, self.averaged)
        return repr([
            [plain(each.state_dict()) for each in parts], [each.training for each in modules],
            [(p.requires_grad, plain(p.grad)) for p in self.model.parameters()],
            plain(torch.get_rng_state()), plain(self.generator.get_state()), random.getstate(),
            plain(np.random.get_state()),
        ])  # fmt: skip


def plain(value):
    if isinstance(value, torch.Tensor | np.ndarray):
        return str(value.dtype), value.tolist()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def opened(value):
    """Tuples as lists, so that anything in them can be changed."""
    if isinstance(value, dict):
        for key in value:
            value[key] = opened(value[key])
    return list(map(opened, value)) if isinstance(value, list | tuple) else value


def places(value):
    """Where something could stand, all the way down; of long lists only the ends."""
    found = []
    if isinstance(value, dict | list):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        for key in keys if len(keys) < 20 else [*keys[:2], keys[-1]]:
            found += [(value, key), *places(value[key])]
    return found


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    contents = {}
    for kind in KINDS:
        run = Run(kind, 1)
        path = save_checkpoint(folder / "x.pth", run.model, run.optimizer, run.scheduler, epoch=2,
                               metrics={"a": 1.0}, extra={"b": [1]}, **run.parts)  # fmt: skip
        contents[kind] = opened(torch.load(path, weights_only=True))
    return lambda kind: (copy.deepcopy(contents[kind]), folder / "bad.pth")


def tried(kind, content, path):
    """An error and nothing changed, or a run that goes on; a word for which."""
    torch.save(content, path)
    run = Run(kind, 5)
    before = run.everything()
    try:
        resume_checkpoint(path, run.model, run.optimizer, run.scheduler, **run.parts)
    except CourseError:
        assert run.everything() == before
        return "refused"
    run.step()
    return "accepted"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
@given(st.data())
def test_anything_in_the_place_of_an_entry(saved, kind, data):
    content, path = saved(kind)
    part = data.draw(st.sampled_from(sorted(content)))
    for _ in range(data.draw(st.integers(1, 2))):
        inside = places({part: content[part]})[1:] if part in content else []
        holder, key = data.draw(st.sampled_from([(content, part), *inside]))
        value = data.draw(st.sampled_from([GONE, *ODD]))
        if value is GONE:
            holder.pop(key, None) if isinstance(holder, dict) else holder.pop()
        else:
            new = data.draw(st.sampled_from([key, key, key, None, "step", "zz", 7]))
            holder[new if isinstance(holder, dict) else key] = (
                copy.copy(value) if isinstance(value, list | dict) else value
            )
    tried(kind, content, path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "where", "value"), [
    ("Rprop", ("scheduler", "max_lrs"), []), ("Rprop", ("scheduler", "base_lrs"), [0.1, 0.1]),
    ("Adafactor", ("scheduler", "eta_min"), 10**400),
    ("Adafactor", ("optimizer", "state", 0, "step"), torch.zeros(2)),
    ("Adafactor", ("optimizer", "state", 0, "row_var"), "x"),
    ("LBFGS", ("optimizer", "state", 0, "d"), torch.zeros(3)),
    ("NAdam", ("scheduler", "_schedulers", 1, "step"), 3),
    ("NAdam", ("scheduler", "_schedulers", 1, "eta_min"), "x"),
])  # fmt: skip
def test_what_the_next_step_would_stumble_over(saved, kind, where, value):
    content, path = saved(kind)
    assert tried(kind, content, path) == "accepted"
    holder = content
    for key in where[:-1]:
        holder = holder[key]
    holder[where[-1]] = value
    assert tried(kind, content, path) == "refused"
