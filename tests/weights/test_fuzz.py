"""Damaged files and random state dicts: an error of ours or the exact result, and nothing else.

The fast part takes every tenth of the cases that the slow part takes.
"""

import io
import random
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from course_lib.errors import CourseError
from course_lib.weights import inspect, load_weights, read_checkpoint, save_weights
from tests.weights.conftest import make, same, snapshot, untouched

FORMATS = ("zip", "legacy", "safetensors", "plain safetensors", "numpy")
CHECKED = ("zip", "safetensors", "numpy")  # these have checksums: no flipped bit goes unseen


def original(folder, format):
    path, state = folder / format, make(2).state_dict()
    if format in ("zip", "legacy"):
        torch.save({"epoch": 3, "state_dict": state}, path,
                   _use_new_zipfile_serialization=format == "zip")  # fmt: skip
    elif format == "safetensors":
        save_weights(state, folder / "a.safetensors").rename(path)
    elif format == "plain safetensors":
        safetensors.torch.save_file(state, path)
    else:
        with path.open("wb") as file:
            np.savez(file, **{name: each.numpy() for name, each in state.items()})
    return path.read_bytes()


def damage(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """One of the ways in which files get damaged."""
    data, size = bytearray(content), len(content)
    at = rng.randrange(size)
    kind = rng.choice(["bit", "bit", "bits", "cut", "zero", "noise", "insert", "delete", "swap",
                       "double", "head", "tail"])  # fmt: skip
    length = rng.choice([1, 4, 16, 64, 500])
    if kind == "bit":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "bits":
        for _ in range(rng.randrange(2, 20)):
            data[rng.randrange(size)] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[at:]
    elif kind == "zero":
        data[at : at + length] = bytes(len(data[at : at + length]))
    elif kind == "noise":
        data[at : at + length] = rng.randbytes(len(data[at : at + length]))
    elif kind == "insert":
        data[at:at] = rng.randbytes(length)
    elif kind == "delete":
        del data[at : at + length]
    elif kind == "swap":
        other = rng.randrange(size)
        one, two = data[at : at + length], data[other : other + length]
        data[at : at + length], data[other : other + length] = two, one
    elif kind == "double":
        data += data[at:]
    elif kind == "head":
        for _ in range(3):
            data[rng.randrange(min(600, size))] ^= 1 << rng.randrange(8)
    else:
        for _ in range(3):
            data[-1 - rng.randrange(min(600, size))] ^= 1 << rng.randrange(8)
    return kind, bytes(data)


def try_damaged(path, content, format, model, before, whole):
    """Read, look, load: ours or exact. Returns whether the damage was noticed."""
    path.write_bytes(content)
    for look in (inspect, read_checkpoint):
        try:
            look(path)
        except CourseError:
            continue
    try:
        load_weights(model, path)
    except CourseError:
        assert untouched(model, before)
        return True
    if format in CHECKED:
        assert same(snapshot(model), whole), "values changed without being noticed"
    load_weights(model, before)
    return False


def run_damaged(folder, format, cases, step=1):
    content = original(folder, format)
    model = make(1)
    before, whole = snapshot(model), snapshot(make(2))
    noticed = 0
    for seed in range(0, cases, step):
        _, bad = damage(content, random.Random(f"{format}{seed}"))
        noticed += try_damaged(folder / "bad", bad, format, model, before, whole)
    return noticed


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files(tmp_path, format):
    assert run_damaged(tmp_path, format, 300, step=20) > 5


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_all(tmp_path, format):
    assert run_damaged(tmp_path, format, 300) > 100


def rewritten(content: bytes, rng: random.Random) -> bytes:
    """Members swapped, left out, doubled, cut or changed, with true checksums all the same."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(each.filename, archive.read(each)) for each in archive.infolist()]
    one, two = rng.sample(range(len(members)), 2)
    what = rng.choice(["swap", "drop", "rename", "cut", "grow", "flip", "order"])
    name, data = members[one]
    if what == "swap":
        members[one], members[two] = (name, members[two][1]), (members[two][0], data)
    elif what == "drop":
        del members[one]
    elif what == "rename":
        members[one] = (rng.choice([name + "x", "x/" + name, "../" + name]), data)
    elif what == "cut":
        members[one] = (name, data[: rng.randrange(len(data) + 1)])
    elif what == "grow":
        members[one] = (name, data + rng.randbytes(rng.randrange(50)))
    elif what == "flip" and data:
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        members[one] = (name, bytes(changed))
    else:
        rng.shuffle(members)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for each in members:
            archive.writestr(*each)
    return buffer.getvalue()


def run_rewritten(folder, cases, step=1):
    content = original(folder, "zip")
    model = make(1)
    before = snapshot(model)
    for seed in range(0, cases, step):
        bad = rewritten(content, random.Random(seed))
        try_damaged(folder / "bad", bad, "rewritten", model, before, {})


def test_rewritten_members(tmp_path):
    run_rewritten(tmp_path, 300, step=20)


@pytest.mark.slow
def test_rewritten_members_all(tmp_path):
    run_rewritten(tmp_path, 300)


# --- random state dicts -------------------------------------------------------------------------

DTYPES = (torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64,
          torch.complex64, torch.bool)  # fmt: skip


def change(state: dict[str, torch.Tensor], rng: random.Random) -> Iterator[str]:
    """Change a state dict in one to four random ways; yields what was done."""
    for _ in range(rng.randrange(1, 5)):
        what = rng.choice(["drop", "add", "rename", "shape", "dtype", "nan", "prefix", "order",
                           "wrap", "huge", "junk"])  # fmt: skip
        names = [name for name in state if isinstance(state[name], torch.Tensor)]
        if not names:
            return
        name = rng.choice(names)
        each = state[name]
        if what == "drop":
            del state[name]
        elif what == "add":
            state[rng.choice(["new.w", "", "a..b", "stem", "é.*"])] = torch.ones(rng.randrange(4))
        elif what == "rename":
            state[name + rng.choice(["x", ".", "_"])] = state.pop(name)
        elif what == "shape":
            shapes = [
                each[None],
                each.reshape(-1),
                each.reshape(-1)[:1],
                torch.cat([each.reshape(-1)] * 2),
            ]
            state[name] = rng.choice(shapes)
        elif what == "dtype":
            state[name] = each.to(rng.choice(DTYPES))
        elif what == "nan" and each.is_floating_point() and each.numel():
            state[name] = torch.full_like(each, rng.choice([float("nan"), float("inf")]))
        elif what == "huge" and each.numel():
            state[name] = torch.full_like(each.double(), 1e300)
        elif what == "prefix":
            items = [(f"module.{key}", value) for key, value in state.items()]
            state.clear()
            state.update(items)
        elif what == "order":
            items = list(state.items())
            rng.shuffle(items)
            state.clear()
            state.update(items)
        elif what == "junk":
            state[name] = rng.choice([None, 3, "text", [1, 2], {"a": 1}])  # type: ignore[assignment]
        elif what == "wrap":
            inner = dict(state)
            state.clear()
            state["model" if rng.random() < 0.5 else "other"] = inner  # type: ignore[assignment]
        yield what


def random_options(rng: random.Random) -> dict[str, object]:
    choices: dict[str, list[object]] = {
        "strict": [True, False, "stem", ["body", "head"]], "keep": [(), "head", "*.bias"],
        "skip_mismatched": [False, True], "by_order": [False, True], "lossy": [False, True],
        "nonfinite": [False, True], "dtype": ["model", "file", "exact"],
        "prefix": [None, None, None, "module."], "adapt_input": [None, "repeat"],
        "resize_positions": [False, True], "drop": [(), (), "head"],
        "rename": [None, None, str.lower, {"head.bias": "head.bias"}],
    }  # fmt: skip
    return {name: rng.choice(options) for name, options in choices.items() if rng.random() < 0.5}


def run_states(cases, step=1):
    loaded = 0
    for seed in range(0, cases, step):
        rng = random.Random(seed)
        model = make(seed, classes=rng.choice([3, 3, 5]))
        before = snapshot(model)
        kinds = [(type(p), id(p), p.requires_grad) for p in model.parameters()]
        state = dict(make(seed + 1).state_dict())
        list(change(state, rng))
        source = {name: each.clone() if isinstance(each, torch.Tensor) else each
                  for name, each in state.items()}  # fmt: skip
        options = random_options(rng)
        try:
            report = load_weights(model, source, **options)
        except CourseError:
            assert untouched(model, before), (seed, options)
        else:
            loaded += 1
            check_report(model, before, state, report)
        assert kinds == [(type(p), id(p), p.requires_grad) for p in model.parameters()]
    return loaded


def check_report(model, before, state, report):
    """Every tensor is in exactly one class, and holds what the report says."""
    after = snapshot(model)
    loaded = {each.name: each for each in report.loaded}
    mismatched = {each.name for each in report.mismatched}
    classes = [set(loaded), set(report.missing), mismatched, set(report.kept), set(report.supplied)]
    assert sum(map(len, classes)) == len(set().union(*classes)) == len(after)
    while len(state) == 1 and isinstance(next(iter(state.values())), dict):
        state = next(iter(state.values()))
    for name, value in after.items():
        if name not in loaded:
            assert torch.equal(value.view(-1), before[name].view(-1))
        elif not (loaded[name].converted or loaded[name].adapted):
            torch.testing.assert_close(
                value, state[loaded[name].source], rtol=0, atol=0, equal_nan=True
            )
    accounted = {each.source for each in report.loaded} | {e.source for e in report.mismatched}
    assert accounted | set(report.unexpected) | set(report.ignored) == set(state)


def test_random_state_dicts():
    assert run_states(1200, step=12) > 10


@pytest.mark.slow
def test_random_state_dicts_all():
    assert run_states(1200) > 150


def test_the_fuzz_would_notice():
    """A model that did change is told apart."""
    model = nn.Linear(2, 2)
    before = snapshot(model)
    with torch.no_grad():
        model.bias[0] = -0.0 if before["bias"][0] == 0 else -before["bias"][0]
    assert not untouched(model, before)
