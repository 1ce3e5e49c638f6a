"""The look at every number: what it clears is finite, as torch counts it, wherever it lies."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.weights import load_weights
from course_lib.weights.errors import LoadError
from course_lib.weights.loading.look import Look

SIZE = 1 << 20  # numbers; the threads look at as little as a quarter of them
STEPS = 32
BROKEN = (float("nan"), float("inf"), -float("inf"))


@st.composite
def tensors(draw):
    """Pieces of one memory, neighbours or with gaps or shared, in any order; others beside."""
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.float16, torch.int64]))
    memory = torch.ones(SIZE + 64, dtype=dtype)
    cuts = sorted(draw(st.sets(st.integers(1, STEPS - 1), max_size=6)) | {0, STEPS})
    pieces = [memory[a * SIZE // STEPS : b * SIZE // STEPS] for a, b in pairwise(cuts)]
    kept = [each for each in pieces if draw(st.integers(0, 4))]
    shared = [each[: len(each) // 2] for each in kept if draw(st.booleans())]
    odd = [torch.ones(2, 3).t(), torch.tensor([]), torch.ones(3, requires_grad=True)]
    return draw(st.permutations([*kept, *shared, *odd])), memory


@given(tensors(), st.sampled_from((1.0, *BROKEN)), st.integers(0, STEPS - 1))
def test_what_is_cleared_is_finite(drawn, value, place):
    each, memory = drawn
    memory[place * SIZE // STEPS] = value if memory.dtype.is_floating_point else 1
    with Look(each) as look:
        cleared = [look.clears(one) for one in each]
    finite = [bool(torch.isfinite(one).all()) for one in each]
    assert all(finite[n] for n, one in enumerate(cleared) if one)
    plain = sum(one.nbytes for one in each if one.dtype in (torch.float32, torch.float64))
    if all(finite) and plain >= 2 << 20:  # shared memory counts once
        assert cleared == [
            one.dtype in (torch.float32, torch.float64) and one.is_contiguous() and len(one) > 0
            for one in each
        ]


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("broken", BROKEN)
def test_one_number_of_a_large_file_is_found(tmp_path, ending, broken):
    from safetensors.torch import save_file

    model = torch.nn.Sequential(torch.nn.Linear(600, 600), torch.nn.Linear(600, 600))
    state = {name: each.detach().clone() for name, each in model.state_dict().items()}
    state["1.weight"][599, 599] = broken
    path = tmp_path / f"model.{ending}"
    torch.save(state, path) if ending == "pth" else save_file(state, path)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    with pytest.raises(LoadError, match=r"'1\.weight': 1 of 360,000"):
        load_weights(model, path)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    report = load_weights(model, path, nonfinite=True)
    assert [(each.name, each.nonfinite) for each in report.nonfinite] == [("1.weight", 1)]


def test_large_numbers_whose_sum_is_infinite_are_finite():
    model = torch.nn.Linear(600, 600)
    state = {name: torch.full_like(each, 3e38) for name, each in model.state_dict().items()}
    assert state["weight"].sum().isinf()
    assert not load_weights(model, state).nonfinite
