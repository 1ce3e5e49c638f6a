"""A training checkpoint with one part missing or wrong: refused by name, nothing changed."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.errors import CourseError
from course_lib.weights import CheckpointError, resume_checkpoint, save_checkpoint
from tests.weights.conftest import make, same, snapshot

GONE = object()


def started(seed, steps=2):
    torch.manual_seed(seed)
    model = make(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(p.square().sum() for p in model.parameters() if p.requires_grad).backward()
        optimizer.step()
        scheduler.step()
    return model, optimizer, scheduler, torch.amp.GradScaler("cpu", init_scale=8.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run.pth"
    model, optimizer, scheduler, scaler = started(1)
    own = {"mine": torch.Generator().manual_seed(3)}
    save_checkpoint(path, model, optimizer, scheduler, epoch=2, scaler=scaler, generators=own)
    return path


def put(content, where, value):
    """A value at a path of keys; GONE takes it out."""
    *way, last = where
    for key in way:
        content = content[key]
    if value is GONE:
        del content[last]
    else:
        content[last] = value


TOP = ("model", "model_config", "averaged", "optimizer", "optimizer_names", "scheduler", "scaler",
       "config_kinds", "random", "epoch", "step", "metrics", "extra")  # fmt: skip
BESIDE = ("lazy", "buffers", "frozen", "gradients", "modules", "held_parameters", "held_buffers")
GROUP = ("optimizer", "param_groups", 0)
DAMAGE = [
    *(((key,), GONE) for key in TOP),
    *(((key,), "x") for key in TOP if key != "extra"),
    *((("model_config", key), GONE) for key in BESIDE),
    *((("model_config", key), 7) for key in BESIDE),
    *((("random", key), GONE) for key in ("torch", "numpy", "python", "generators", "cuda")),
    *((("random", key), None) for key in ("torch", "numpy", "python", "generators", "cuda")),
    *(((*GROUP, "lr"), each) for each in (GONE, "x", -1.0, math.nan, math.inf, [0.1], None, True)),
    *(((*GROUP, "betas"), each) for each in (GONE, 0.9, (0.9,), (0.9, 2.0), ("a", "b"))),
    ((*GROUP, "eps"), -1.0), ((*GROUP, "weight_decay"), "much"), ((*GROUP, "params"), [0, 0, 1, 2]),
    ((*GROUP, "params"), GONE), ((*GROUP, "params"), ["a"]),
    (("optimizer", "state"), GONE), (("optimizer", "param_groups"), []),
    (("optimizer", "state", 99), {}), (("optimizer", "state", 0, "exp_avg"), GONE),
    (("optimizer", "state", 0, "exp_avg"), torch.zeros(3)),
    (("optimizer", "state", 0, "step"), "x"), (("optimizer", "state", 0, "exp_avg_sq"), 3.0),
    (("optimizer", "state", 0, "exp_avg"), torch.zeros(5, 6, dtype=torch.int64)),
    (("optimizer", "state", 0, "exp_avg_sq"), torch.zeros(5, 6).to_sparse()),
    (("optimizer", "state", 0, "step"), torch.tensor(-2.0)),
    (("optimizer", "state", 0, "step"), torch.tensor(math.nan)),
    ((*GROUP, "lr"), torch.tensor(math.nan)), ((*GROUP, "foreach"), torch.zeros(0)),
    ((*GROUP, "initial_lr"), torch.ones(2)), ((*GROUP, "initial_lr"), "x"),
    (("scheduler", "base_lrs"), ["x"]), (("scheduler", "_last_lr"), [math.inf]),
    (("scheduler", "step_size"), None), (("scaler", "scale"), -1.0),
    (("scaler", "growth_factor"), math.inf), (("random", "python", 2), "x"),
    (("optimizer_names", 0), ["other"]), (("scheduler", "last_epoch"), "x"),
    (("scheduler", "last_epoch"), 1.5), (("scheduler", "gamma"), "x"),
    (("scheduler", "gamma"), math.nan), (("scheduler", "step"), 3), (("scheduler", "base_lrs"), 1),
    (("scheduler", "step_size"), GONE), (("scaler", "scale"), "x"), (("scaler", "scale"), GONE),
    (("scaler", "scale"), math.nan), (("epoch",), -1), (("epoch",), 1.5), (("epoch",), True),
    (("step",), None), (("random", "torch"), torch.zeros(3, dtype=torch.uint8)),
    (("random", "generators", "mine"), torch.zeros(5, dtype=torch.uint8)),
    (("random", "numpy", 1), torch.zeros(3, dtype=torch.int64)), (("random", "numpy", 2), 10**6),
    (("random", "numpy", 0), "PCG64"), (("random", "python", ), (3, (1, 2), None)),
    (("model", "head.weight"), GONE), (("model", "head.weight"), torch.ones(2, 2)),
    (("model", "head.weight"), "x"), (("model", "head.weight"), torch.ones(3, 6).double()),
    (("model_config", "frozen"), [3]), (("model_config", "modules", "head"), [[1, 2]]),
    (("model_config", "held_parameters"), {"nowhere": True}), (("version",), 0),
    (("version",), "2"), (("version",), None), (("version",), 2.0), (("version",), 99),
]  # fmt: skip


@pytest.mark.parametrize(
    ("where", "value"), DAMAGE, ids=lambda each: "gone" if each is GONE else str(each)[:40]
)
def test_one_part_is_missing_or_wrong(tmp_path, whole, where, value):
    content = torch.load(whole, weights_only=True)
    for each in ("numpy", "python"):
        content["random"][each] = list(content["random"][each])
    put(content, where, value)
    torch.save(content, tmp_path / "x.pth")
    model, optimizer, scheduler, scaler = started(5)
    own = {"mine": torch.Generator().manual_seed(9)}
    before = (
        snapshot(model),
        *map(copy.deepcopy, (optimizer.state_dict(), scheduler.state_dict(), scaler.state_dict())),
    )
    streams = torch.get_rng_state(), np.random.get_state()[1].tolist(), own["mine"].get_state()
    with pytest.raises(CourseError):
        resume_checkpoint(tmp_path / "x.pth", model, optimizer, scheduler, scaler=scaler,
                          generators=own)  # fmt: skip
    assert same(snapshot(model), before[0])
    torch.testing.assert_close(optimizer.state_dict(), before[1], rtol=0, atol=0)
    assert (scheduler.state_dict(), scaler.state_dict()) == before[2:]
    assert torch.equal(torch.get_rng_state(), streams[0])
    assert np.random.get_state()[1].tolist() == streams[1]
    assert torch.equal(own["mine"].get_state(), streams[2])


def test_a_run_of_the_first_format_is_resumed(tmp_path, whole):
    """As its save_checkpoint wrote it: flags and modes by name, no word of holds or wrappers."""
    model, optimizer, scheduler, scaler = started(1)
    model.stem.requires_grad_(False).eval()
    content = torch.load(whole, weights_only=True)
    old = {
        "kind": content["kind"], "model": model.state_dict(),
        "frozen": [name for name, p in model.named_parameters() if not p.requires_grad],
        "eval": [name for name, module in model.named_modules() if not module.training],
        "optimizer": optimizer.state_dict(), "optimizer_names": content["optimizer_names"],
        "scheduler": scheduler.state_dict(), "scaler": scaler.state_dict(),
        "random": content["random"], "epoch": 4, "step": 7, "metrics": {"a": 1.0}, "extra": {},
    }  # fmt: skip
    torch.save(old, tmp_path / "old.pth")
    again = started(5)
    own = {"mine": torch.Generator()}
    told = resume_checkpoint(tmp_path / "old.pth", *again[:3], scaler=again[3], generators=own)
    assert (told.epoch, told.step, told.metrics) == (4, 7, {"a": 1.0})
    assert same(snapshot(again[0]), snapshot(model))
    assert [p.requires_grad for p in again[0].parameters()] == [
        p.requires_grad for p in model.parameters()
    ]
    assert [m.training for m in again[0].modules()] == [m.training for m in model.modules()]
    torch.testing.assert_close(again[1].state_dict(), optimizer.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("part", ["frozen", "eval"])
def test_a_damaged_run_of_the_first_format(tmp_path, part):
    path = save_checkpoint(tmp_path / "x.pth", nn.Linear(2, 2), epoch=1)
    content = torch.load(path, weights_only=True)
    del content["version"]
    torch.save(content | {"frozen": [], "eval": []} | {part: 3}, path)
    with pytest.raises(CheckpointError, match=part):
        resume_checkpoint(path, nn.Linear(2, 2))
