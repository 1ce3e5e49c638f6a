"""Whoever looks at a model's memory in another way sees the loaded values there, too."""

import multiprocessing

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.weights import load_weights

NEW = torch.arange(12.0).reshape(3, 4)


def linear(trainable=True):
    model = nn.Linear(4, 3, bias=False)
    return model.requires_grad_(trainable)


ALIASES = {
    "detached": lambda model: model.weight.detach(),
    "data": lambda model: model.weight.data,
    "a row": lambda model: model.weight.detach()[1:2],
    "state dict": lambda model: model.state_dict()["weight"],
    "numpy": lambda model: model.weight.detach().numpy(),
    "numpy of a part": lambda model: model.weight.detach()[1:2].numpy(),
    "memory": lambda model: model.weight.untyped_storage(),
}
FROZEN = {
    "numpy": lambda model: model.weight.numpy(),
    "asarray": lambda model: np.asarray(model.weight),
    "dlpack": lambda model: np.from_dlpack(model.weight),
    "torch dlpack": lambda model: torch.from_dlpack(torch.utils.dlpack.to_dlpack(model.weight)),
    "memoryview": lambda model: memoryview(model.weight.numpy()),
}


def seen(alias):
    """The values that an alias shows, in one line."""
    if isinstance(alias, torch.UntypedStorage):
        return torch.tensor([], dtype=torch.float32).set_(alias).flatten()
    return torch.as_tensor(np.asarray(alias)).flatten()


@pytest.mark.parametrize(
    ("make", "trainable"),
    [(make, True) for make in ALIASES.values()] + [(make, False) for make in FROZEN.values()],
    ids=[*ALIASES, *(f"frozen: {name}" for name in FROZEN)],
)
def test_an_alias_sees_the_new_values(make, trainable):
    model = linear(trainable)
    alias = make(model)
    load_weights(model, {"weight": NEW})
    expected = NEW[1] if seen(alias).numel() == 4 else NEW.flatten()
    assert torch.equal(seen(alias), expected)
    assert torch.equal(model.weight, NEW)


def test_an_optimizer_goes_on_with_the_same_memory():
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    weight, place, version = model.weight, model.weight.data_ptr(), model.weight._version
    load_weights(model, {"weight": NEW})
    assert model.weight is weight
    assert weight.data_ptr() == place
    assert weight._version > version
    assert weight.requires_grad
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert torch.equal(model.weight, NEW - 1)


def test_values_that_are_the_models_own_change_places():
    """A copy from one to the other and back would have read what is new."""
    model = nn.ModuleDict({name: nn.Linear(4, 3, bias=False) for name in "ab"})
    a, b = (model[name].weight.detach().clone() for name in "ab")
    load_weights(model, {"a.weight": model["b"].weight, "b.weight": model["a"].weight})
    assert torch.equal(model["a"].weight, b)
    assert torch.equal(model["b"].weight, a)


def test_a_backward_pass_over_old_values_is_refused():
    """As after load_state_dict: gradients of values that are gone would be wrong."""
    model = linear()
    result = torch.ones(2, 4, requires_grad=True) @ model.weight.T
    load_weights(model, {"weight": NEW})
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()


def test_an_array_that_became_a_parameter_sees_the_new_values():
    model = linear()
    array = np.zeros((3, 4), dtype=np.float32)
    model.weight = nn.Parameter(torch.from_numpy(array))
    load_weights(model, {"weight": NEW})
    assert np.array_equal(array, NEW.numpy())


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_a_scripted_model_sees_the_new_values():
    model = linear()
    scripted = torch.jit.script(model)
    load_weights(model, {"weight": NEW})
    assert torch.equal(scripted(torch.ones(1, 4)), NEW.sum(1)[None])


def test_memory_of_several_processes_is_written_to():
    model = linear().share_memory()
    place = model.weight.data_ptr()
    load_weights(model, {"weight": NEW})
    assert model.weight.data_ptr() == place
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(torch.sum, (model.weight.detach(),)) == NEW.sum()


def test_other_layouts_are_written_to():
    model = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    other = nn.Conv2d(3, 8, 3)
    load_weights(model, other)
    assert model.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(model.weight, other.weight)


def test_two_parameters_on_one_memory_stay_on_it():
    model = nn.ModuleDict({"a": nn.Linear(4, 3, bias=False), "b": nn.Linear(4, 3, bias=False)})
    model["b"].weight = nn.Parameter(model["a"].weight.detach())
    load_weights(model, {"a.weight": NEW, "b.weight": NEW})
    assert model["a"].weight.data_ptr() == model["b"].weight.data_ptr()
    assert torch.equal(model["b"].weight, NEW)
