"""A head trained on features is the head that the frozen network would have got."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from course_lib import backbones, features
from course_lib.backbones import HeadError
from course_lib.features import FeaturesError, heads
from course_lib.training import finetune


def deep(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))


class Frozen(nn.Module):
    """A network whose body is frozen: no gradients, and in evaluation mode whatever happens."""

    def __init__(self, net):
        super().__init__()
        self.body = net
        self.head = net.fc
        net.fc = nn.Identity()
        net.requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, x):
        return self.head(self.body(x))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("batch_size", [3, 16])
def test_same_weights_as_on_the_frozen_network(net, data, optimizer, batch_size):
    settings = {
        "epochs": 4,
        "lr": 0.03,
        "optimizer": optimizer,
        "batch_size": batch_size,
        "seed": 7,
    }
    rows = features.extract(net, data, cache=False)
    head, history = features.train_head(rows, start=net.fc, **settings)
    whole = Frozen(copy.deepcopy(net))
    expected = finetune(whole, data, **settings)
    torch.testing.assert_close(head.weight, whole.head.weight, atol=1e-5, rtol=0)
    torch.testing.assert_close(head.bias, whole.head.bias, atol=1e-5, rtol=0)
    assert not torch.equal(head.weight, net.fc.weight)  # it did learn, and on a copy
    assert history[-1].train_loss == pytest.approx(expected[-1].train_loss, abs=1e-5)


def test_a_head_with_a_hidden_layer_learns_the_same_and_goes_into_its_network(net, data):
    rows = features.extract(net, data, cache=False)
    start = deep(6, 3).requires_grad_(False)
    head, _ = features.train_head(rows, start=start, epochs=4, lr=0.03, batch_size=3, seed=7)
    with_it = features.head_into(copy.deepcopy(net), start.requires_grad_())
    whole = Frozen(with_it)
    finetune(whole, data, epochs=4, lr=0.03, batch_size=3, seed=7, head="head")
    for name, value in whole.head.state_dict().items():
        torch.testing.assert_close(head.get_parameter(name), value, atol=1e-5, rtol=0)
        assert not torch.equal(value, start.state_dict()[name]), "it learned, and on a copy"
    features.head_into(net, head)
    assert net.fc is not head
    torch.testing.assert_close(net.eval()(data.tensors[0]), head(rows.values))


def test_however_many_rows_are_picked_at_a_time_the_batches_are_the_same(net, data, monkeypatch):
    rows = features.extract(net, data, cache=False)
    weights = []
    for at_a_time in (1, 7, 4096):
        monkeypatch.setattr(heads, "AT_A_TIME", at_a_time)
        head, _ = features.train_head(rows, epochs=2, lr=0.1, batch_size=3, seed=1)
        weights.append(head.weight)
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


def test_bit_for_bit_on_the_real_network():
    """On one machine at one thread, with whole batches, not one bit differs."""
    from course_lib import freezing

    drawn = torch.Generator().manual_seed(0)
    images = torch.rand(32, 3, 64, 64, generator=drawn) * 2 - 1
    pictures = TensorDataset(images, torch.arange(32) % 2)
    model = backbones.load("efficientnet_lite0", num_classes=2)
    rows = features.extract(model, pictures, cache=False, batch_size=8)
    settings = {"epochs": 3, "lr": 0.001, "batch_size": 8, "seed": 1}
    head, _ = features.train_head(rows, start=model.classifier, **settings)
    body = [name for name, _ in model.named_children() if name != "classifier"]
    freezing.freeze(model, body)
    finetune(model, pictures, **settings)
    assert torch.equal(head.weight, model.classifier.weight)
    assert torch.equal(head.bias, model.classifier.bias)


def test_a_new_head_starts_as_a_replaced_one_does(net, data):
    rows = features.extract(net, data, cache=False)
    head, _ = features.train_head(rows, 5, seed=4, epochs=1, lr=0.0)
    backbones.replace_head(net, 5, seed=4)
    assert torch.equal(head.weight, net.fc.weight)
    assert features.train_head(rows, epochs=1)[0].out_features == 3


def test_validation_and_test_rows_are_measured(net, data):
    rows = features.extract(net, data, cache=False)
    part = rows.subset([0, 1, 2])
    _, history = features.train_head(rows, epochs=2, test=part, val=part)
    assert history[-1].test_acc == history[-1].val_acc is not None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_classes": 2}, "num_classes is 2, and there is a class number 2"),
        ({"start": nn.Linear(5, 3)}, "takes 5 features .* expected 6 and 3"),
        ({"start": nn.Linear(6, 3), "num_classes": 4}, "expected 6 and 4"),
        ({"start": deep(5, 3)}, "can't take what the old one took, 6 features"),
        ({"start": deep(6, 2)}, "num_classes is 2, and there is a class number 2"),
        ({"start": deep(6, 3), "num_classes": 4}, "expected 6 and 4"),
    ],
)
def test_what_does_not_fit_is_refused(net, data, settings, said):
    rows = features.extract(net, data, cache=False)
    with pytest.raises(FeaturesError, match=said):
        features.train_head(rows, **settings)


def test_maps_are_refused(net, data):
    maps = features.extract(net, data, layer="body", pool=None, cache=False)
    with pytest.raises(FeaturesError, match="Extract them with pool='mean'"):
        features.train_head(maps)


def test_a_head_goes_back_into_its_network(net, data):
    rows = features.extract(net, data, cache=False)
    head, _ = features.train_head(rows, epochs=2)
    old = net.fc
    assert features.head_into(net, head) is net
    assert net.fc is old  # an optimizer that holds it still does
    assert torch.equal(net.fc.weight, head.weight)
    head.weight.data.zero_()
    assert net.fc.weight.abs().sum() > 0
    net.eval()
    scores = net(data.tensors[0])
    torch.testing.assert_close(scores, rows.values @ net.fc.weight.T + net.fc.bias)


@pytest.mark.parametrize(
    ("classes", "old_bias", "bias"), [(5, True, True), (5, True, False), (3, False, True)]
)
def test_a_head_of_another_form_replaces_the_old_one(net, classes, old_bias, bias):
    net.fc = nn.Linear(6, 3, bias=old_bias)
    head = nn.Linear(6, classes, bias=bias)
    expected = copy.deepcopy(head)
    features.head_into(net, head)
    assert net.fc is not head
    for tensor in head.parameters():
        tensor.data.zero_()
    assert torch.equal(net.fc.weight, expected.weight)
    assert (net.fc.bias is None) == (not bias)
    assert net.fc.bias is None or torch.equal(net.fc.bias, expected.bias)
    assert net(torch.zeros(2, 3, 8, 8)).shape == (2, classes)


def test_a_head_of_another_network_is_refused(net):
    before = net.fc.weight.clone()
    with pytest.raises(HeadError, match="takes 6 features and this one 7"):
        features.head_into(net, nn.Linear(7, 3))
    assert torch.equal(net.fc.weight, before)
