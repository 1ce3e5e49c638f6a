"""LoRA beside the formula, beside its merged self, and beside peft."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib import freezing
from course_lib.exercises.chapter_09 import ex9_4
from course_lib.strategies import inserts, lora, subsets
from tests.strategies.conftest import copies, same, small_vit, train

PLACES = ["blocks.0.attn.qkv", "blocks.1.attn.qkv", "blocks.0.mlp.fc1", "blocks.1.mlp.fc1"]
NORMS = r"norm|blocks\.\d\.norm[12]"


@pytest.mark.parametrize(("rank", "alpha", "scale"), [(4, 8, 2.0), (2, 1, 0.5), (3, 3, 1.0)])
def test_the_change_is_scaled_by_alpha_over_rank(rank, alpha, scale):
    layer = lora.LoRA(nn.Linear(5, 7), rank, alpha)
    nn.init.normal_(layer.up.weight)
    x = torch.randn(6, 5)
    weight = layer.base.weight + scale * layer.up.weight @ layer.down.weight
    assert torch.allclose(layer(x), F.linear(x, weight, layer.base.bias), atol=1e-5)
    assert torch.linalg.matrix_rank(layer.change()) == rank


def test_without_alpha_the_change_counts_twice(vit):
    lora.add(vit, "head", rank=8)
    assert vit.head.scale == 2


@pytest.mark.parametrize(
    "settings",
    [{"kernel_size": 1}, {"kernel_size": 3, "stride": 2, "padding": 1},
     {"kernel_size": (1, 3), "dilation": (1, 2), "padding_mode": "circular", "padding": 1}],
)  # fmt: skip
def test_a_convolution_merged_is_the_convolution_with_the_sum(settings):
    model = nn.Sequential(nn.Conv2d(4, 6, **settings))
    lora.add(model, "0", rank=2)
    nn.init.normal_(model[0].up.weight)
    x = torch.randn(2, 4, 9, 9)
    before = model(x)
    assert lora.merge(model) == ["0"]
    assert type(model[0]) is nn.Conv2d
    assert torch.allclose(model(x), before, atol=1e-4)


def test_merged_computes_the_same_and_costs_nothing_more(vit, batch):
    start, names = vit.eval()(batch[0]), list(vit.state_dict())
    subsets.train_only(vit, lora.add(vit, PLACES))
    train(vit, batch)
    trained = vit(batch[0])
    assert (trained - start).abs().max() > 0.1
    assert sorted(lora.merge(vit)) == sorted(PLACES)
    assert list(vit.state_dict()) == names
    assert torch.allclose(vit(batch[0]), trained, atol=1e-5)


def test_removed_gives_the_first_answers_back(vit, batch):
    start, before = vit.eval()(batch[0]), copies(vit)
    subsets.train_only(vit, lora.add(vit, PLACES))
    train(vit, batch)
    inserts.remove(vit, lora.LoRA)
    freezing.unfreeze(vit, "*")
    assert same(before, copies(vit))
    assert torch.equal(vit.eval()(batch[0]), start)


def test_the_audit_sees_only_the_change_train(vit, batch):
    added = lora.add(vit, PLACES)
    subsets.train_only(vit, added)
    for _, layer in inserts.inserts(vit, lora.LoRA):
        nn.init.normal_(layer.up.weight, std=0.1)  # with up at zero, down would have no gradient
    optimizer = torch.optim.SGD([p for p in vit.parameters() if p.requires_grad], lr=0.1)

    def step(model, optimizer):
        optimizer.zero_grad()
        F.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()

    report = freezing.audit(vit, optimizer, step)
    assert set(report.changed) == {f"{name}.weight" for name in added}
    assert report.ok


def beside_peft(**settings):
    """Our model and peft's with the same numbers in the same layers, and a way to read peft's."""
    peft = pytest.importorskip("peft")
    ours = small_vit()
    theirs = peft.get_peft_model(small_vit(), peft.LoraConfig(target_modules=PLACES, **settings))
    inner = theirs.base_model.model
    lora.add(ours, PLACES, rank=settings["r"], alpha=settings["lora_alpha"])
    for name, layer in inserts.inserts(ours, lora.LoRA):
        other = inner.get_submodule(name)
        nn.init.normal_(layer.up.weight, std=0.1)
        other.lora_A.default.weight.data.copy_(layer.down.weight)
        other.lora_B.default.weight.data.copy_(layer.up.weight)
    return ours, theirs, inner


@pytest.mark.parametrize(("rank", "alpha"), [(4, 8), (2, 1), (3, 30)])
def test_the_same_numbers_as_peft_before_in_and_after_training(rank, alpha, batch):
    ours, theirs, inner = beside_peft(r=rank, lora_alpha=alpha)
    subsets.train_only(ours, [name + ".down" for name in PLACES] + [n + ".up" for n in PLACES])
    assert inserts.count(p for p in ours.parameters() if p.requires_grad) == inserts.count(
        p for p in theirs.parameters() if p.requires_grad
    )
    assert torch.allclose(ours.eval()(batch[0]), theirs.eval()(batch[0]), rtol=0, atol=1e-6)
    for model in (ours, theirs):
        train(model, batch, steps=10, lr=0.01)
    for name, layer in inserts.inserts(ours, lora.LoRA):
        other = inner.get_submodule(name)
        assert torch.allclose(layer.down.weight, other.lora_A.default.weight, rtol=0, atol=1e-6)
        assert torch.allclose(layer.up.weight, other.lora_B.default.weight, rtol=0, atol=1e-6)
        assert torch.allclose(layer.change(), other.get_delta_weight("default"), rtol=0, atol=1e-6)
    assert torch.allclose(ours(batch[0]), theirs(batch[0]), rtol=0, atol=1e-6)
    lora.merge(ours)
    merged = theirs.merge_and_unload()
    for name, each in merged.named_parameters():
        assert torch.allclose(ours.get_parameter(name), each, rtol=0, atol=1e-6), name


def test_convolutions_as_in_peft():
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    ours, theirs = (nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    theirs = peft.get_peft_model(theirs, peft.LoraConfig(r=2, lora_alpha=6, target_modules=["0"]))
    lora.add(ours, "0", rank=2, alpha=6)
    nn.init.normal_(ours[0].up.weight)
    inner = theirs.base_model.model[0]
    inner.lora_A.default.weight.data.copy_(ours[0].down.weight)
    inner.lora_B.default.weight.data.copy_(ours[0].up.weight)
    x = torch.randn(2, 3, 8, 8)
    assert torch.allclose(ours(x), theirs(x), rtol=0, atol=1e-6)


def test_norm_only_as_in_peft(batch):
    peft = pytest.importorskip("peft")
    ours = small_vit()
    inner = small_vit()
    names = [name for name, each in inner.named_modules() if isinstance(each, nn.LayerNorm)]
    assert all(re.fullmatch(NORMS, name) for name in names)
    theirs = peft.get_peft_model(inner, peft.LNTuningConfig(target_modules=NORMS))
    assert subsets.train_only(ours, subsets.norms(ours)) == [
        f"{name}.{part}" for name in names for part in ("weight", "bias")
    ]
    for model in (ours, theirs):
        train(model, batch, steps=10, lr=0.01)
    assert torch.allclose(ours(batch[0]), theirs(batch[0]), rtol=0, atol=1e-6)


def test_the_exercise_on_dora_is_pefts():
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(7, 6))
    weight = base[0].weight.detach().clone()
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=["0"], use_dora=True)
    model = peft.get_peft_model(base, config)
    layer = model.base_model.model[0]
    size = layer.lora_magnitude_vector.default.weight
    nn.init.normal_(layer.lora_B.default.weight)
    with torch.no_grad():
        size.mul_(torch.rand(6) + 0.5)
    ours = ex9_4.answer_from(ex9_4.solution_code)(
        weight, layer.lora_A.default.weight, layer.lora_B.default.weight, 2.0, size
    )
    x = torch.randn(5, 7)
    assert torch.allclose(F.linear(x, ours, layer.base_layer.bias), model(x), rtol=0, atol=1e-6)
