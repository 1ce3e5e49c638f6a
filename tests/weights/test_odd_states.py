"""State dicts with anything in them: an error of ours and the model as it was, or a load."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from course_lib.errors import CourseError
from course_lib.weights import LoadError, load_weights, to_torch_layout
from tests.weights.conftest import same, snapshot


class Patches(nn.Module):
    def __init__(self):
        super().__init__()
        self.img_size, self.patch_size = (8, 8), (2, 2)
        self.proj = nn.Conv2d(3, 4, 2, 2)


class Plain(nn.Module):
    """One of each kind of layer whose tensors can be adapted, moved or tied."""

    def __init__(self):
        super().__init__()
        self.patch = Patches()
        self.pos_embed = nn.Parameter(torch.zeros(1, 17, 4))
        self.words = nn.Embedding(5, 4)
        self.depth = nn.Conv2d(4, 4, 3, groups=4)
        self.up = nn.ConvTranspose1d(4, 2, 3)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 2)
        self.out = nn.Linear(4, 5)
        self.out.weight = self.words.weight


class WithCode(Plain):
    """The same, and modules with loading code of their own."""

    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(4, 2)
        self.scaled = weight_norm(nn.Linear(4, 3))


TYPES = (torch.float32, torch.float16, torch.float64, torch.complex64, torch.bool, torch.int8,
         torch.int64, torch.uint16, torch.float8_e4m3fn)  # fmt: skip
NO_TENSORS = {
    "sparse": lambda right: right.to_sparse(),
    "quantised": lambda right: torch.quantize_per_tensor(right, 0.1, 0, torch.qint8),
    "nested": lambda right: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
    "lazy": lambda right: nn.UninitializedParameter(),
    "array": lambda right: right.numpy(),
    "list": lambda right: [1],
    "None": lambda right: None,
    "text": lambda right: "x",
    "number": lambda right: 3,
    "dictionary": lambda right: {"w": right},
}
STRANGE = {
    **NO_TENSORS,
    "meta": lambda right: right.to("meta"),
    "expanded": lambda right: torch.zeros(()).expand(right.shape),
    "conjugate": lambda right: torch.conj(right.to(torch.complex64)),
    "not a number": lambda right: right * float("nan"),
}
OPTIONS = st.fixed_dictionaries({}, optional={
    "adapt_input": st.sampled_from(["repeat", "zeros"]),
    "resize_positions": st.sampled_from([True, (5, 5), ((1, 25), (4, 4)), (0, 5), (-2, -2)]),
    "dtype": st.sampled_from(["model", "file", "exact"]),
    **{name: st.booleans() for name in ("lossy", "nonfinite", "skip_mismatched", "strict",
                                        "by_order")},
})  # fmt: skip


@st.composite
def states(draw, kind):
    state = {name: each + 1 for name, each in kind().state_dict().items()}
    for name in draw(st.lists(st.sampled_from(sorted(state)), max_size=4, unique=True)):
        right = state.pop(name)
        if draw(st.booleans()):
            change = STRANGE[draw(st.sampled_from(sorted(STRANGE)))]
            state[name] = change(right.float())
        elif draw(st.integers(0, 4)):
            shape = list(right.shape)
            for _ in range(draw(st.integers(0, 2))):
                at = draw(st.integers(0, len(shape)))
                size = draw(st.sampled_from([0, 1, 2, 3, 5, 26]))
                shape = [*shape[:at], *draw(st.sampled_from([[], [size]])), *shape[at + 1 :]]
            state[name] = torch.ones(shape).to(draw(st.sampled_from(TYPES)))
    return state


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [Plain, WithCode])
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_anything_in_the_place_of_a_tensor(kind, data):
    model, state = kind(), data.draw(states(kind))
    before = snapshot(model)
    try:
        load_weights(model, state, **data.draw(OPTIONS))
    except CourseError:
        assert same(before, snapshot(model))


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(states(Plain))
def test_anything_in_the_place_of_an_array(state):
    model = Plain()
    try:
        moved = to_torch_layout(state, model)
    except CourseError:
        return
    shapes = {name: each.shape for name, each in model.state_dict().items()}
    assert all(each.shape == shapes[name] for name, each in moved.items())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [Plain, WithCode])
@pytest.mark.parametrize("what", NO_TENSORS)
def test_what_is_no_plain_tensor_is_named(kind, what):
    model = kind()
    state, before = model.state_dict(), snapshot(model)
    state["head.bias"] = NO_TENSORS[what](torch.ones(2))
    with pytest.raises(RuntimeError):
        model.load_state_dict(state)
    assert same(before, snapshot(model))  # nothing that torch copies before it fails differs
    with pytest.raises(LoadError, match=r"no plain tensor for 1: head\.bias \(") as told:
        load_weights(model, state)
    assert str(told.value).count("head.bias") >= 2  # and what to do
    wrapped = {f"module.{name}": each for name, each in state.items()}
    with pytest.raises(LoadError, match=r"no plain tensor for 1: head\.bias \("):
        load_weights(model, wrapped)
    report = load_weights(model, state, keep="head.bias")
    assert len(report.loaded) == len(state) - 1
    assert np.array_equal(model.head.bias.detach(), before["head.bias"])
