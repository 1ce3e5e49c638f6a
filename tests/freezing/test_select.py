"""Names are exact, nothing is selected by accident, nothing is ignored."""

import pytest
import torch
from torch import nn

from course_lib.errors import UnknownNameError
from course_lib.freezing import FreezingError, freeze, frozen_names
from course_lib.freezing.select import select
from tests.freezing.conftest import fingerprint, snapshot


def chosen(model, names):
    selection = select(model, names)
    return set(selection.modules), {*selection.parameters, *selection.buffers}


def test_a_module_name_brings_all_below_it(small):
    modules, tensors = chosen(small, "mlp")
    assert modules == {"mlp", "mlp.0", "mlp.1", "mlp.2"}
    assert tensors == {
        "mlp.0.weight",
        "mlp.0.bias",
        "mlp.1.weight",
        "mlp.1.bias",
        "mlp.1.running_mean",
        "mlp.1.running_var",
        "mlp.1.num_batches_tracked",
    }


@pytest.mark.parametrize(
    ("names", "modules", "tensors"),
    [
        ("mlp.0", {"mlp.0"}, {"mlp.0.weight", "mlp.0.bias"}),
        ("head.bias", set(), {"head.bias"}),
        ("bn.running_mean", set(), {"bn.running_mean"}),
        ("*.bias", set(), {"conv.bias", "bn.bias", "mlp.0.bias", "mlp.1.bias", "head.bias"}),
        ("[ch]*.bias", set(), {"conv.bias", "head.bias"}),
        ("?n.weight", set(), {"bn.weight"}),
        (["head", "head.bias"], {"head"}, {"head.weight", "head.bias"}),
        ([], set(), set()),
        ((), set(), set()),
    ],
)
def test_names_and_patterns(small, names, modules, tensors):
    assert chosen(small, names) == (modules, tensors)


def test_objects(small):
    assert chosen(small, small.mlp) == chosen(small, "mlp")
    assert chosen(small, small.head.bias) == (set(), {"head.bias"})
    assert chosen(small, small.bn.running_var) == (set(), {"bn.running_var"})
    assert chosen(small, small.head.parameters()) == (set(), {"head.weight", "head.bias"})


def test_star_is_everything_inside_and_the_object_is_the_model_too(small):
    everything = {*dict(small.named_parameters()), *dict(small.named_buffers())}
    modules = {name for name, _ in small.named_modules()}
    assert chosen(small, "*") == (modules - {""}, everything)
    assert chosen(small, small) == (modules, everything)


def test_a_string_is_one_name_never_a_substring():
    model = nn.ModuleDict({"e": nn.Linear(1, 1), "m": nn.Linear(1, 1), "em": nn.Linear(1, 1)})
    assert chosen(model, "em")[0] == {"em"}


def test_a_name_is_not_the_beginning_of_another():
    model = nn.ModuleDict({"fc1": nn.Linear(1, 1), "fc10": nn.Linear(1, 1)})
    assert chosen(model, "fc1") == ({"fc1"}, {"fc1.weight", "fc1.bias"})


def test_an_exact_name_wins_over_the_pattern_it_looks_like():
    model = nn.ModuleDict({"a*": nn.Linear(1, 1), "ab": nn.Linear(1, 1)})
    assert chosen(model, "a*")[0] == {"a*"}


def test_upper_and_lower_case_differ():
    model = nn.ModuleDict({"Fc": nn.Linear(1, 1), "fc": nn.Linear(1, 1)})
    assert chosen(model, "F*")[0] == {"Fc"}


@pytest.mark.parametrize(
    ("names", "error", "says"),
    [
        ("haed", UnknownNameError, "Did you mean 'head'"),
        ("head.weigth", UnknownNameError, "Did you mean 'head.weight'"),
        ("mlp.7", UnknownNameError, "named 'mlp.7'"),
        ("zzz", UnknownNameError, "top-level modules: conv, bn, drop, mlp, head"),
        ("layer*", UnknownNameError, "matches the pattern 'layer*'"),
        ("", FreezingError, "empty name"),
        ("  ", FreezingError, "empty name"),
        (["head", ""], FreezingError, "empty name"),
        (["head", "head"], FreezingError, "twice"),
        (["*.bias", "*.bias"], FreezingError, "twice"),
        (3, FreezingError, "not as int"),
        (None, FreezingError, "not as NoneType"),
        (b"head", FreezingError, "not as bytes"),
        ({"head": 1}, FreezingError, "not as dict"),
        (["head", 3], FreezingError, "freeze_by_idxs"),
        (["head", None], FreezingError, "NoneType"),
        ([["head"]], FreezingError, "list"),
        (nn.Linear(1, 1), UnknownNameError, "Linear given is not a part of this model"),
        (nn.Parameter(torch.zeros(2)), UnknownNameError, "shape (2,)"),
    ],
)
def test_bad_names_raise_and_change_nothing(small, names, error, says):
    small.head.weight.grad = torch.ones_like(small.head.weight)
    before, values = fingerprint(small), snapshot(small)
    with pytest.raises(error, match=None) as caught:
        freeze(small, names)
    assert says in str(caught.value)
    assert fingerprint(small) == before
    assert small.head.weight.grad is not None
    assert all(torch.equal(values[n], b) for n, b in snapshot(small).items())


def test_a_good_name_beside_a_bad_one_is_not_frozen(small):
    with pytest.raises(UnknownNameError):
        freeze(small, ["conv", "haed"])
    assert frozen_names(small) == []
    assert small.conv.weight.requires_grad


def test_module_given_twice_as_name_and_object(small):
    with pytest.raises(FreezingError, match="twice"):
        freeze(small, ["head", small.head])


def test_not_a_model():
    with pytest.raises(FreezingError, match=r"must be a torch\.nn\.Module"):
        freeze({"a": 1}, "a")


def test_parametrized_weight_points_to_its_parameters():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    with pytest.raises(UnknownNameError, match=r"0\.parametrizations\.weight"):
        freeze(model, "0.weight")


def test_lazy_modules_ask_for_a_batch_first():
    model = nn.Sequential(nn.Linear(2, 3), nn.LazyLinear(2), nn.LazyBatchNorm1d())
    with pytest.raises(FreezingError, match="Run one batch"):
        freeze(model, "*")
    assert model[0].weight.requires_grad
    model(torch.randn(4, 2))
    freeze(model, "*")
    assert len(frozen_names(model)) == 9
