"""Frozen means bit-identical, computing as in inference, and surviving what people do to models."""

import copy
import io
import pickle
import random

import pytest
import torch
from torch import nn

from course_lib.freezing import freeze, frozen_names, unfreeze
from tests.freezing.conftest import OPTIMIZERS, fingerprint, moved, snapshot, train

FROZEN_PART = ["conv", "bn", "drop", "mlp"]


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_only_the_head_moves(small, batch, optimizer, set_to_none):
    # All parameters are in the optimizer, moments and stale gradients in full swing.
    steps = OPTIMIZERS[optimizer](small.parameters())
    train(small, steps, batch, 2, set_to_none)
    small(batch).sum().backward()
    freeze(small, FROZEN_PART)
    before = snapshot(small)
    train(small, steps, batch, 3, set_to_none)
    assert moved(small, before) == ["head.weight", "head.bias"]


def test_without_freezing_everything_moves(small, batch):
    before = snapshot(small)
    train(small, OPTIMIZERS["adamw"](small.parameters()), batch, 3)
    assert moved(small, before) == list(before)


def test_negative_zero_and_nan_stay(small, batch):
    with torch.no_grad():
        small.conv.bias[0] = -0.0
        small.conv.bias[1] = float("nan")
    optimizer = OPTIMIZERS["adamw"](small.parameters())
    freeze(small, "conv")
    before = snapshot(small)
    train(small, optimizer, batch)
    assert "conv.bias" not in moved(small, before)


def test_no_stale_gradient_survives(small, batch):
    small(batch).sum().backward()
    freeze(small, "mlp")
    assert all(p.grad is None for p in small.mlp.parameters())
    assert small.head.weight.grad is not None


def test_freezing_mid_accumulation_keeps_the_others_gradient(small, batch):
    small.eval()
    expected = copy.deepcopy(small)
    for part in batch.split(3):
        expected(part).sum().backward()
    first, second = batch.split(3)
    small(first).sum().backward()
    freeze(small, "mlp")
    small(second).sum().backward()
    assert all(p.grad is None for p in small.mlp.parameters())
    assert torch.equal(small.head.weight.grad, expected.head.weight.grad)


def test_freezing_between_forward_and_backward(small, batch):
    loss = small(batch).sum()
    freeze(small, "mlp")
    loss.backward()
    assert all(p.grad is None for p in small.mlp.parameters())


def test_gradients_pass_through_to_what_lies_before(small, batch):
    small.eval()
    whole = copy.deepcopy(small)
    whole(batch).sum().backward()
    freeze(small, ["bn", "mlp", "head"])
    small(batch).sum().backward()
    assert torch.equal(small.conv.weight.grad, whole.conv.weight.grad)


def test_frozen_computes_as_in_inference_through_train(small, batch):
    expected = copy.deepcopy(small).eval()(batch)
    freeze(small, small)
    for _ in range(2):
        small.train()
        assert not any(module.training for module in small.modules())
        assert torch.equal(small(batch), expected)
        small.bn.train()
        small.mlp.train(True)


def test_only_what_is_named_is_in_inference_mode(small):
    freeze(small, "mlp")
    small.train()
    modes = {name: module.training for name, module in small.named_modules()}
    assert [name for name, mode in modes.items() if not mode] == ["mlp", "mlp.0", "mlp.1", "mlp.2"]


def test_a_parameter_on_its_own_leaves_the_module_in_training(small, batch):
    report = freeze(small, "bn.*t")  # weight, and num_batches_tracked doesn't match
    assert report.parameters == ("bn.weight",)
    freeze(small, "bn.bias")
    before = snapshot(small)
    train(small, OPTIMIZERS["momentum"](small.parameters()), batch)
    assert {"bn.weight", "bn.bias"}.isdisjoint(moved(small, before))
    assert "bn.running_mean" in moved(small, before)
    assert "running statistics move on" in repr(freeze(small, "bn.bias"))


def test_a_buffer_on_its_own_stops_the_statistics_but_not_the_parameters(small, batch):
    freeze(small, "bn.running_mean")
    before = snapshot(small)
    train(small, OPTIMIZERS["sgd"](small.parameters()), batch)
    changed = moved(small, before)
    assert not [name for name in changed if name in ("bn.running_mean", "bn.running_var")]
    assert "bn.weight" in changed
    unfreeze(small, "bn.running_mean")
    assert small.bn.training


def test_buffers_thaw_together(small, batch):
    freeze(small, "bn")
    report = unfreeze(small, ["bn.running_mean", "bn.running_var"])
    assert "bn.running_mean can't move before num_batches_tracked" in repr(report)
    assert not small.bn.training
    unfreeze(small, "bn.num_batches_tracked")
    assert small.bn.training
    assert frozen_names(small) == ["bn.weight", "bn.bias"]


def test_freezing_nothing(small):
    before = fingerprint(small)
    report = freeze(small, [])
    assert fingerprint(small) == before
    assert repr(report) == "Froze nothing."


def test_identity_and_type_stay(small):
    modules = [(id(module), type(module)) for module in small.modules()]
    tensors = [id(t) for t in (*small.parameters(), *small.buffers())]
    keys = list(small.state_dict())
    freeze(small, small)
    assert [(id(module), type(module)) for module in small.modules()] == modules
    assert [id(t) for t in (*small.parameters(), *small.buffers())] == tensors
    assert list(small.state_dict()) == keys
    assert small.bn._forward_hooks == {}
    assert small.bn._forward_pre_hooks == {}


def test_report_counts_and_reads_well(small):
    report = freeze(small, "bn")
    assert report.tensors == frozen_names_of(small, "bn")
    assert report.numbers == 4 * 4 + 1
    assert repr(report) == "Froze 2 parameters and 3 buffers (17 numbers) in 1 module."
    again = freeze(small, ["bn", "conv"])
    assert repr(again) == (
        "Froze 2 parameters and 0 buffers (112 numbers) in 1 module; 5 tensors already as asked."
    )


def frozen_names_of(model, prefix):
    return tuple(name for name in frozen_names(model) if name.startswith(prefix))


def restored(model, how):
    if how == "deepcopy":
        return copy.deepcopy(model)
    if how == "pickle":
        return pickle.loads(pickle.dumps(model))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_copies_are_frozen_on_their_own(small, batch, how):
    freeze(small, ["conv", "bn"])
    before = snapshot(small)
    other = restored(small, how)
    assert frozen_names(other) == frozen_names(small)
    changed = moved_after_training(other, batch)
    assert changed == [name for name in before if not name.startswith(("conv", "bn."))]
    assert moved(small, before) == []

    unfreeze(other, "*")
    assert other.bn.training
    assert other.conv.weight.requires_grad
    small.train()
    assert not small.bn.training  # the original is still frozen


def moved_after_training(model, batch):
    before = snapshot(model)
    train(model, OPTIMIZERS["adamw"](model.parameters()), batch)
    return moved(model, before)


def test_state_dict_round_trip(small, batch):
    plain = copy.deepcopy(small)
    freeze(small, "*")
    plain.load_state_dict(small.state_dict())
    small.load_state_dict(plain.state_dict())
    assign = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    small.load_state_dict(assign, assign=True)
    assert moved_after_training_frozen(small, batch) == []
    unfreeze(small, "*")
    assert all(p.requires_grad for p in small.parameters())


def moved_after_training_frozen(model, batch):
    before = snapshot(model)
    model.train()
    assert not model(batch).requires_grad
    return moved(model, before)


def test_to_another_dtype_and_back(small, batch):
    freeze(small, ["conv", "bn"])
    small.double()
    before = snapshot(small)
    train(small, OPTIMIZERS["adam"](small.parameters()), batch.double())
    assert not [name for name in moved(small, before) if name.startswith(("conv", "bn."))]
    unfreeze(small, "*")
    assert small.conv.weight.requires_grad
    assert small.bn.training


def test_a_train_method_of_ones_own(batch):
    class KeepsNormInEval(nn.Sequential):
        def train(self, mode=True):
            super().train(mode)
            self[1].eval()
            return self

    model = nn.Sequential(
        KeepsNormInEval(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()), nn.Flatten()
    )
    freeze(model, "0")
    model.eval()
    model.train()
    assert not any(module.training for module in model[0].modules())
    unfreeze(model, "0")
    assert [module.training for module in model[0].modules()] == [True, True, False, True]


def test_a_train_put_on_the_instance_comes_back(small):
    def stay(mode=True):
        return small.bn

    small.bn.train = stay
    freeze(small, "bn")
    small.eval()
    unfreeze(small, "bn")
    assert small.bn.__dict__["train"] is stay
    assert small.bn.training


def test_mode_after_unfreezing_is_the_one_without_freezing(small):
    random.seed(0)
    other = copy.deepcopy(small)
    calls = [
        lambda m: m.eval(),
        lambda m: m.train(),
        lambda m: m.mlp.eval(),
        lambda m: m.bn.train(),
    ]
    for round_ in range(30):
        if round_ % 3 == 0:
            freeze(small, random.choice([small, "bn", "mlp", "*", "mlp.1"]))
        call = random.choice(calls)
        call(small)
        call(other)
        if round_ % 5 == 0:
            unfreeze(small, random.choice(["*", "mlp", "bn"]))
    unfreeze(small, small)
    assert [m.training for m in small.modules()] == [m.training for m in other.modules()]


def test_tied_weights_are_one_tensor_and_said():
    model = nn.ModuleDict({"enc": nn.Embedding(5, 3), "dec": nn.Linear(3, 5, bias=False)})
    model["dec"].weight = model["enc"].weight
    report = freeze(model, "enc")
    assert report.tied == (("enc.weight", ("dec.weight",)),)
    assert "dec.weight wasn't named" in repr(report)
    assert frozen_names(model) == ["enc.weight", "dec.weight"]
    report = unfreeze(model, "dec")
    assert "enc.weight" in repr(report)
    assert frozen_names(model) == []
    assert model["enc"].weight.requires_grad
    assert "_freezing" not in model["enc"].__dict__ or not model["enc"]._freezing.flags


def test_shared_module_is_one_module_and_said():
    block = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model = nn.ModuleDict({"a": block, "b": block, "c": nn.Linear(2, 2)})
    report = freeze(model, "b")
    assert ("b", ("a",)) in report.tied
    assert any("a wasn't named" in note for note in report.notes)
    assert len(report.tied) == 1
    model.train()
    assert not model["a"].training
    unfreeze(model, "a")
    assert frozen_names(model) == []


def test_hooks_of_the_user_stay_and_run(small, batch):
    calls = []
    small.bn.register_forward_hook(lambda *a: calls.append("hook"))
    small.bn.weight.register_hook(lambda grad: calls.append("grad"))
    freeze(small, "bn")
    small(batch).sum().backward()
    unfreeze(small, "bn")
    small(batch).sum().backward()
    assert calls == ["hook", "hook", "grad"]


def test_children_frozen_first_then_parent_then_partly_thawed(small):
    freeze(small, "mlp.0.weight")
    freeze(small, "mlp")
    freeze(small, "mlp.1")
    unfreeze(small, "mlp.0")
    assert small.mlp[0].weight.requires_grad
    assert frozen_names(small) == [
        f"mlp.1.{key}"
        for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    ]
    small.train()
    assert [m.training for m in small.mlp.modules()] == [False, True, False, False]
