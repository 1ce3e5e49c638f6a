"""Building a model straight from its weights gives the same model as building and loading."""

import copy

import pytest
import timm
import torch
from torch import nn

from course_lib.weights import CheckpointError, LoadError, load_model, load_weights
from course_lib.weights.loading.build import _build_on_meta
from tests.weights.conftest import Small, Tied, make, same, snapshot


def test_the_same_model_without_a_random_start(pth, other):
    random = torch.get_rng_state()
    model, report = load_model(Small, pth)
    assert torch.equal(random, torch.get_rng_state())  # nothing was drawn: it was built on meta
    assert same(snapshot(model), snapshot(other))
    assert report.complete
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in model.parameters())
    assert all(p.is_leaf and p.device.type == "cpu" for p in model.parameters())
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(model.eval()(x), other.eval()(x))


def test_the_memory_is_its_own(pth, other):
    model, _ = load_model(Small, pth)
    pth.write_bytes(b"")
    model(torch.rand(2, 3, 8, 8)).sum().backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    twin, _ = copy.deepcopy(model), None
    assert same(snapshot(twin), snapshot(model))
    state = other.state_dict()
    model, _ = load_model(Small, state)
    with torch.no_grad():
        model.head.weight.zero_()
    assert other.head.weight.abs().sum() > 0


def test_saving_one_tensor_saves_no_other(pth, tmp_path):
    model, _ = load_model(Small, pth)
    torch.save(model.head.bias, tmp_path / "bias.pth")
    assert (tmp_path / "bias.pth").stat().st_size < 3000


def test_tied_weights_stay_tied(tmp_path):
    torch.save(make(2, Tied).state_dict(), tmp_path / "tied.pth")
    model, report = load_model(Tied, tmp_path / "tied.pth")
    assert model.out.weight is model.embed.weight
    assert report.tied
    model, _ = load_model(Tied, {"embed.weight": torch.ones(7, 5)})
    assert model.out.weight is model.embed.weight
    assert model.out.weight.sum() == 35


def test_attributes_flags_and_kinds_of_parameters_stay():
    class Marked(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.zeros(3), requires_grad=False)
            self.a.no_weight_decay = True
            self.register_buffer("b", torch.zeros(2))

    model, _ = load_model(Marked, {"a": torch.ones(3), "b": torch.ones(2)})
    assert model.a.no_weight_decay
    assert not model.a.requires_grad
    assert model.b.sum() == 2
    assert not isinstance(model.b, nn.Parameter)


class NotSaved(Small):
    def __init__(self):
        super().__init__()
        self.register_buffer("grid", torch.arange(4.0), persistent=False)


class Plain(Small):
    def __init__(self):
        super().__init__()
        self.anchors = [torch.arange(4.0)]


class Computes(Small):
    def __init__(self):
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 1, 3)]


@pytest.mark.parametrize("kind", [NotSaved, Plain, Computes])
def test_models_that_need_the_usual_way_get_it(pth, other, kind):
    assert _build_on_meta(kind) is None
    model, report = load_model(kind, pth)
    assert report.complete
    assert torch.equal(model.head.weight, other.head.weight)
    assert all(t.device.type == "cpu" for t in [*model.parameters(), *model.buffers()])
    extra = getattr(model, "grid", None)
    assert extra is None or extra.tolist() == [0, 1, 2, 3]


def test_a_new_head_is_initialised(pth, other):
    torch.manual_seed(7)
    model, report = load_model(lambda: Small(classes=9), pth, keep="head")
    assert report.kept
    assert 0 < model.head.weight.abs().max() < 1
    assert torch.equal(model.stem[0].weight, other.stem[0].weight)


def test_errors_are_those_of_load_weights(pth):
    with pytest.raises(LoadError, match="Shapes differ"):
        load_model(lambda: Small(classes=9), pth)
    pth.write_bytes(b"")
    with pytest.raises(CheckpointError, match="empty"):
        load_model(Small, pth)


def test_options_are_passed_on(pth):
    state = {f"x.{n}": t.double() for n, t in make(2).state_dict().items()}
    model, report = load_model(Small, state, dtype="file")
    assert model.head.weight.dtype == torch.float64
    assert "prefix 'x.'" in report.how


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "vit_tiny_patch16_224",
                                  "levit_128s"])  # fmt: skip
def test_networks_of_timm(tmp_path, name):
    def factory():
        return timm.create_model(name, num_classes=5)

    first = factory()
    torch.save(first.state_dict(), tmp_path / "m.pth")
    built, report = load_model(factory, tmp_path / "m.pth")
    assert report.complete
    assert same(snapshot(built), snapshot(first))
    for one, two in zip(first.named_buffers(), built.named_buffers(), strict=True):
        assert one[0] == two[0]
        assert torch.equal(one[1], two[1])
    usual = factory()
    load_weights(usual, tmp_path / "m.pth")
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(built.eval()(x), usual.eval()(x))


def test_an_option_that_does_not_exist_is_named_before_anything_is_built(pth):
    def factory():
        raise AssertionError

    with pytest.raises(
        TypeError, match=r"load_model\(\) has no option 'strickt'\. Did you mean 'strict'"
    ):
        load_model(factory, pth, strickt=False)
