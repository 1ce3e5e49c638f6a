"""The two-class head that starts from ImageNet's hot-dog row, on the bundled pictures."""

import copy

import pytest
import torch
import torchvision
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F

from course_lib import backbones
from course_lib.backbones import HOTDOG_CLASS, HeadError, calibrate, hotdog_head
from course_lib.errors import DataError
from course_lib.paths import data_dir

OTHERS = torch.arange(1000) != HOTDOG_CLASS


@pytest.fixture(scope="module")
def lite0():
    return backbones.load("efficientnet_lite0").eval()


@pytest.fixture
def model(lite0):
    return copy.deepcopy(lite0)


@torch.no_grad()
def features_of(model, split, size):
    """Features (N, 1280) and labels (N,) of a bundled split: 0 is a hot dog, as in its folders."""
    how = backbones.preprocessing("efficientnet_lite0", size)
    features, labels = [], []
    for label, folder in enumerate(["hotdog", "not-hotdog"]):
        files = sorted((data_dir() / "hotdog_rendered" / split / folder).iterdir())
        pictures = torch.stack([how.eval(Image.open(file).convert("RGB")) for file in files])
        for batch in pictures.split(8):
            features.append(model.forward_head(model.forward_features(batch), pre_logits=True))
        labels.append(torch.full((len(files),), label))
    return torch.cat(features), torch.cat(labels)


@pytest.fixture(scope="module")
def held_out_224(lite0):
    return features_of(lite0, "test", 224)


@pytest.fixture(scope="module")
def training_96(lite0):
    return features_of(lite0, "train", 96)


@pytest.fixture(scope="module")
def held_out_96(lite0):
    return features_of(lite0, "test", 96)


@torch.no_grad()
def test_the_second_network_knows_hot_dogs_too():
    """Its weights are in the right places: it tells hot dogs from other drawn foods at 224."""
    model = backbones.load("efficientnet_lite1").eval()
    features, labels = features_of(model, "test", 224)
    chances = model.classifier(features).softmax(1)[:, HOTDOG_CLASS]
    assert roc_auc_score(labels == 0, chances) > 0.95


@torch.no_grad()
def accuracy(model, pictures):
    features, labels = pictures
    return (model.classifier(features).argmax(1) == labels).float().mean().item()


@torch.no_grad()
def log_loss(model, pictures):
    features, labels = pictures
    return F.cross_entropy(model.classifier(features), labels).item()


# ---------------------------------------------------------------------------- on pictures


@torch.no_grad()
def test_the_network_recognises_hotdogs(lite0, held_out_224):
    """ImageNet's class 934 is the first choice for at least half of the bundled test hot dogs."""
    features, labels = held_out_224
    chosen = lite0.classifier(features).argmax(1) == HOTDOG_CLASS
    assert chosen[labels == 0].float().mean() >= 0.5


def test_untrained_and_far_above_chance(model, held_out_224):
    assert accuracy(hotdog_head(model), held_out_224) >= 0.75


def test_features_without_labels_move_the_bar(model, training_96, held_out_96):
    """At 96 pixels the scores are too high for the bar of 6.9: unlabelled pictures correct it."""
    plain = accuracy(hotdog_head(copy.deepcopy(model)), held_out_96)
    moved = accuracy(hotdog_head(model, features=training_96[0]), held_out_96)
    assert moved >= 0.7
    assert moved > plain


def test_calibration_lowers_the_loss_of_other_pictures(model, training_96, held_out_96):
    hotdog_head(model, features=training_96[0])
    before, accurate = log_loss(model, held_out_96), accuracy(model, held_out_96)
    row = model.classifier.weight[0].detach().clone()
    result = calibrate(model, *training_96)
    assert log_loss(model, held_out_96) < before
    assert log_loss(model, held_out_96) < 0.6
    assert accuracy(model, held_out_96) >= accurate - 0.05
    assert 0 < result.scale < 1  # too sure of itself before
    torch.testing.assert_close(model.classifier.weight[0], row * result.scale)


def test_a_random_second_row_is_no_start(model, lite0, held_out_224):
    """Row 934 over a random row: the bar is too low, and nearly everything is a hot dog."""
    backbones.replace_head(model, 2, seed=0)
    with torch.no_grad():
        model.classifier.weight[0] = lite0.classifier.weight[HOTDOG_CLASS]
    assert accuracy(model, held_out_224) < 0.6


# ---------------------------------------------------------------------------- the rows


@pytest.mark.parametrize(("classes", "index"), [(2, 0), (2, 1), (5, 3)])
def test_the_rows_are_as_said(model, lite0, classes, index):
    old = lite0.classifier
    assert hotdog_head(model, classes, index) is model
    new = model.classifier
    assert torch.equal(new.weight[index], old.weight[HOTDOG_CLASS])
    assert torch.equal(new.bias[index], old.bias[HOTDOG_CLASS])
    rest = [k for k in range(classes) if k != index]
    shares = old.bias[OTHERS].softmax(0)
    for k in rest:
        torch.testing.assert_close(new.weight[k], shares @ old.weight[OTHERS], rtol=0, atol=1e-6)
        assert torch.equal(new.weight[k], new.weight[rest[0]])
    together = torch.logsumexp(new.bias[rest], 0)
    torch.testing.assert_close(together, old.bias[OTHERS].logsumexp(0))
    assert 6.9 < together < 6.92  # log(999) = 6.907


@torch.no_grad()
def test_it_is_the_thousand_way_softmax_where_it_touches(model, lite0):
    """At f = 0 the probability and its slope are exactly those of the softmax over 1,000."""
    hotdog_head(model)
    zero = torch.zeros(1, 1280)
    ours = model.classifier(zero).softmax(1)[:, 0]
    theirs = lite0.classifier(zero).softmax(1)[:, HOTDOG_CLASS]
    torch.testing.assert_close(ours, theirs)
    with torch.enable_grad():
        slopes = []
        for net, row in ((model, 0), (lite0, HOTDOG_CLASS)):
            f = zero.clone().requires_grad_()
            net.classifier(f).log_softmax(1)[0, row].backward()
            slopes.append(f.grad)
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_it_never_asks_more_of_a_hotdog_than_the_softmax(model, lite0):
    """A tangent lies below L everywhere, so p(hot dog) is at least the thousand-way one."""
    hotdog_head(model)
    f = torch.rand(50, 1280, generator=torch.Generator().manual_seed(0)) * 3
    ours = model.classifier(f).softmax(1)[:, 0]
    theirs = lite0.classifier(f).softmax(1)[:, HOTDOG_CLASS]
    assert (ours >= theirs - 1e-6).all()


@pytest.mark.parametrize(("classes", "share"), [(2, None), (2, 0.2), (5, None), (3, 0.7)])
@torch.no_grad()
def test_the_share_above_the_bar_is_the_one_expected(model, classes, share):
    f = torch.rand(100, 1280, generator=torch.Generator().manual_seed(1))
    hotdog_head(model, classes, features=f, share=share)
    above = (model.classifier(f).softmax(1)[:, 0] > 0.5).float().mean().item()
    assert above == pytest.approx(share or 1 / classes, abs=0.011)


def test_only_the_head_changes_and_properties_are_kept(model):
    model.classifier.weight.requires_grad_(False)
    model.double().train()
    model.classifier.eval()
    others = {n: t for n, t in model.named_parameters() if not n.startswith("classifier")}
    hotdog_head(model)
    parameters = dict(model.named_parameters())
    assert all(parameters[name] is tensor for name, tensor in others.items())
    assert model.classifier.weight.dtype == torch.float64
    assert not model.classifier.weight.requires_grad
    assert model.classifier.bias.requires_grad
    assert not model.classifier.training
    assert model.training
    assert model.num_classes == model.classifier.out_features == 2


@torch.no_grad()
def test_a_convolution_head_too():
    model = torchvision.models.squeezenet1_1().eval()
    old = model.classifier[1]
    row, bias = old.weight[HOTDOG_CLASS].clone(), old.bias[HOTDOG_CLASS].clone()
    hotdog_head(model)
    new = model.classifier[1]
    assert isinstance(new, nn.Conv2d)
    assert torch.equal(new.weight[0], row)
    assert torch.equal(new.bias[0], bias)
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 2)


def net(classes=1000, bias=True):
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, classes, bias=bias))


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (net(999), {}, HeadError, "999 outputs; expected ImageNet's 1,000"),
        (net(bias=False), {}, HeadError, "has no bias"),
        (net().to("meta"), {}, HeadError, "meta device"),
        (nn.Sequential(nn.Conv2d(3, 1000, 3)), {}, HeadError, "larger than 1x1"),
        (net(), {"num_classes": 1}, HeadError, "make 2"),
        (net(), {"num_classes": True}, HeadError, "whole number"),
        (net(), {"hotdog_index": 2}, HeadError, "from 0 to 1"),
        (net(), {"hotdog_index": -1}, HeadError, "from 0 to 1"),
        (net(), {"hotdog_index": True}, HeadError, "from 0 to 1"),
        (net(), {"features": torch.rand(3, 5)}, DataError, r"expected \(N, 6\)"),
        (net(), {"features": torch.rand(0, 6)}, DataError, r"expected \(N, 6\)"),
        (net(), {"features": torch.full((3, 6), torch.nan)}, DataError, "not finite"),
        (net(), {"share": 0.5}, HeadError, "hand them over"),
        (net(), {"features": torch.rand(3, 6), "share": 1}, HeadError, "between 0 and 1"),
    ],
)
def test_what_does_not_fit_is_refused_and_left(model, options, error, message):
    last = model[-1]
    with pytest.raises(error, match=message):
        hotdog_head(model, **options)
    assert model[-1] is last


def test_several_heads_are_refused():
    with torch.device("meta"):
        model = torchvision.models.inception_v3(weights=None, init_weights=False)
    with pytest.raises(HeadError, match="several heads"):
        hotdog_head(model)


# ---------------------------------------------------------------------------- calibration


def overlapping(n=200):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    features = torch.randn(n, 6, generator=generator)
    features[:, 0] += 1.5 - 2.0 * labels
    return features.relu(), labels


def two_class_net(scale=20.0):
    model = net(2)
    with torch.no_grad():
        model[2].weight.zero_()
        model[2].weight[0, 0] = scale
        model[2].bias.copy_(torch.tensor([0.5, -3.0]))
    return model


def test_calibration_is_logistic_regression():
    """On many overlapping pictures, Platt's softened targets hardly differ from 0 and 1."""
    features, labels = overlapping(4000)
    model = two_class_net()
    with torch.no_grad():
        z = model[2](features)
    result = calibrate(model, features, labels)
    theirs = LogisticRegression(C=1e12).fit((z[:, :1] - z[:, 1:]).numpy(), (labels == 0).numpy())
    assert result.scale == pytest.approx(theirs.coef_.item(), rel=0.02)
    assert result.shift == pytest.approx(theirs.intercept_.item(), rel=0.02)
    new = model[2](features)
    difference = (new[:, 0] - new[:, 1]).detach()
    expected = result.scale * (z[:, 0] - z[:, 1]) + result.shift
    torch.testing.assert_close(difference, expected, rtol=1e-4, atol=1e-4)


def test_calibration_with_the_hotdog_second():
    features, labels = overlapping()
    first, second = two_class_net(), two_class_net()
    with torch.no_grad():
        second[2].weight.copy_(first[2].weight.flip(0))
        second[2].bias.copy_(first[2].bias.flip(0))
    one, other = calibrate(first, features, labels), calibrate(second, features, 1 - labels, 1)
    assert one == other
    assert torch.equal(first[2].weight, second[2].weight.flip(0))


def test_separated_pictures_keep_the_scale_finite():
    features = torch.zeros(20, 6)
    features[:10, 0] = 1
    model = two_class_net()
    result = calibrate(model, features, torch.arange(20) // 10)
    assert 0 < result.scale < 10
    p = model[2](features).softmax(1)[:, 0]
    torch.testing.assert_close(p[:10], torch.full((10,), 11 / 12))
    torch.testing.assert_close(p[10:], torch.full((10,), 1 / 12))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": torch.zeros(200, dtype=torch.long)}, DataError, "both of them"),
        ({"labels": torch.arange(200) % 3}, DataError, "both of them"),
        ({"labels": torch.zeros(3)}, DataError, r"expected \(200,\)"),
        ({"labels": 1 - overlapping()[1]}, DataError, "doesn't rise"),
        ({"features": torch.ones(200, 6)}, DataError, "doesn't rise"),
        ({"features": torch.ones(200, 5)}, DataError, r"expected \(N, 6\)"),
        ({"model": net(3)}, HeadError, "3 outputs; expected two"),
        ({"model": net(2, bias=False)}, HeadError, "with a bias"),
        ({"hotdog_index": 2}, HeadError, "from 0 to 1"),
    ],
)
def test_calibration_refuses_and_leaves(change, error, message):
    features, labels = overlapping()
    given = {"model": two_class_net(), "features": features, "labels": labels, **change}
    before = copy.deepcopy(given["model"].state_dict())
    with pytest.raises(error, match=message):
        calibrate(**given)
    after = given["model"].state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
