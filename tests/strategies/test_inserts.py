"""What goes around a layer comes out again, and nothing is half done."""

import pytest
import torch
from torch import nn

from course_lib import freezing
from course_lib.errors import UnknownNameError
from course_lib.strategies import adapters, inserts, lora, prompts, subsets
from course_lib.strategies.inserts import StrategyError
from tests.strategies.conftest import copies, same, small_vit, train

ADDING = {
    "lora": lambda model: lora.add(model, ["blocks.*.attn.qkv", "blocks.*.mlp"], rank=2),
    "lora on pictures": lambda model: lora.add(model, "patch_embed.proj", rank=2),
    "adapters": lambda model: adapters.add(model, ["*.attn.proj", "*.mlp.fc2"], size=3),
    "prompts": lambda model: prompts.add(model, "norm_pre", count=2, width=16),
}


@pytest.fixture(params=ADDING)
def add(request):
    return ADDING[request.param]


def test_training_moves_what_was_added_and_no_bit_of_the_base(vit, batch, add):
    before, flags = copies(vit), [each.requires_grad for each in vit.parameters()]
    objects = dict(vit.named_parameters())
    added = add(vit)
    names = subsets.train_only(vit, [*added, "head"])
    assert all(name.startswith(("head.", *added)) for name in names)
    start = copies(vit)
    train(vit, batch)
    moved = {name for name, each in vit.state_dict().items() if not torch.equal(each, start[name])}
    assert moved == set(names)

    inserts.remove(vit)
    now = copies(vit)
    assert not torch.equal(now["head.weight"], before["head.weight"])
    now |= {name: before[name] for name in ("head.weight", "head.bias")}
    assert same(before, now)
    freezing.unfreeze(vit, "*")
    assert all(each is objects[name] for name, each in vit.named_parameters())
    assert [each.requires_grad for each in vit.parameters()] == flags
    assert all(module.training for module in vit.train().modules())


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_frozen_whatever_the_optimizer(vit, batch, add, kind):
    before = copies(vit)
    subsets.train_only(vit, add(vit))
    train(vit, batch, kind=kind)
    inserts.remove(vit)
    assert same(before, copies(vit))


def test_before_training_nothing_has_changed_but_for_prompts(vit, batch):
    before = vit.eval()(batch[0])
    for name, add in ADDING.items():
        model = small_vit().eval()
        add(model)
        assert not any(each.training for each in model.modules())
        assert torch.equal(model(batch[0]), before) != (name == "prompts")


def test_inserts_come_in_each_other_and_go_as_they_came(vit, batch):
    before, scores = copies(vit), vit.eval()(batch[0])
    adapters.add(vit, "blocks.0.mlp.fc2")
    assert inserts.remove(vit, lora.LoRA) == []
    lora.add(vit, "blocks.1.mlp.fc2")
    assert inserts.remove(vit, lora.LoRA) == ["blocks.1.mlp.fc2"]
    assert inserts.remove(vit) == ["blocks.0.mlp.fc2"]
    assert same(before, copies(vit))
    assert torch.equal(vit(batch[0]), scores)


def test_what_trains_is_all_that_has_to_be_saved(vit, batch, add):
    other = small_vit().eval()
    subsets.train_only(vit, [*add(vit), "head"])
    train(vit, batch)
    saved = inserts.trained_state(vit)
    add(other)
    missing = other.load_state_dict(saved, strict=False)
    assert missing.unexpected_keys == []
    assert torch.equal(other(batch[0]), vit(batch[0]))
    train(vit, batch)
    assert any(not torch.equal(each, vit.state_dict()[name]) for name, each in saved.items())


def test_gradients_of_the_added_parts_are_those_of_a_formula(vit, batch):
    """The adapter beside torch's own functions, the numbers taken from its parameters."""
    adapters.add(vit, "blocks.0.mlp.fc2", size=3)
    layer = vit.get_submodule("blocks.0.mlp.fc2")
    for each in layer.parameters():
        nn.init.normal_(each)
    x = torch.randn(5, layer.base.in_features)
    hidden = x @ layer.base.weight.T + layer.base.bias
    inner = hidden @ layer.down.weight.T + layer.down.bias
    gelu = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    expected = hidden + gelu @ layer.up.weight.T + layer.up.bias
    assert torch.allclose(layer(x), expected, atol=1e-5)


def test_prompts_stand_behind_the_picture_and_are_the_same_for_all(vit, batch):
    (name,) = prompts.add(vit, "norm_pre", count=3, width=16)
    assert name == "norm_pre.tokens"
    seen = torch.randn(2, 17, 16)
    out = vit.norm_pre(seen)
    assert out.shape == (2, 20, 16)
    assert torch.equal(out[:, :17], seen)
    assert torch.equal(out[0, 17:], vit.norm_pre.tokens)
    assert torch.equal(out[0, 17:], out[1, 17:])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: lora.add(m, "norm"), "No Linear or Conv2d layer"),
        (lambda m: lora.add(m, "head", rank=0), "rank is 0"),
        (lambda m: adapters.add(m, "patch_embed"), "No Linear layer"),
        (lambda m: adapters.add(m, "head", size=0), "size is 0"),
        (lambda m: prompts.add(m, "norm_pre", count=0, width=16), "0 tokens"),
        (lambda m: subsets.train_only(m, []), "nothing would train"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changed(vit, call, words):
    before = copies(vit)
    with pytest.raises(StrategyError, match=words):
        call(vit)
    assert same(before, copies(vit))
    assert freezing.frozen_names(vit) == []


def test_names_are_exact_and_a_failure_half_way_changes_nothing(vit):
    before = copies(vit)
    with pytest.raises(UnknownNameError, match="qkv"):
        lora.add(vit, ["blocks.0.attn.qkv", "blocks.0.attn.qvk"])
    groups = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(StrategyError, match="2 groups"):
        lora.add(groups, ["0", "1"])
    assert isinstance(groups[0], nn.Conv2d)
    assert same(before, copies(vit))


def test_no_layer_twice(vit):
    lora.add(vit, "blocks.0.attn.qkv")
    before = copies(vit)
    for names in ("blocks.0.attn.qkv", "blocks.0.attn.qkv.down", "blocks.0.attn"):
        with pytest.raises(StrategyError, match="part of an insert"):
            lora.add(vit, names)
    layer = nn.Linear(2, 2)
    with pytest.raises(StrategyError, match="two places"):
        lora.add(nn.Sequential(layer, layer), ["0", "1"])
    assert same(before, copies(vit))
