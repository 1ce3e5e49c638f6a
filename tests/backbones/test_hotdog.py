"""The two-class head that starts from ImageNet's hot-dog row, on the bundled pictures."""

import copy

import pytest
import torch
import torchvision
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import nn

from course_lib import backbones
from course_lib.backbones import HOTDOG_CLASS, HeadError, hotdog_head
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


def test_a_random_second_row_is_no_start(model, lite0, held_out_224):
    """Row 934 over a random row: the bar is too low, and nearly everything is a hot dog."""
    backbones.replace_head(model, 2, seed=0)
    with torch.no_grad():
        model.classifier.weight[0] = lite0.classifier.weight[HOTDOG_CLASS]
    assert accuracy(model, held_out_224) < 0.6


# ---------------------------------------------------------------------------- the rows


@pytest.mark.parametrize("index", [0, 1])
def test_the_rows_are_as_said(model, lite0, index):
    old = lite0.classifier
    assert hotdog_head(model, index) is model
    new = model.classifier
    assert torch.equal(new.weight[index], old.weight[HOTDOG_CLASS])
    assert torch.equal(new.bias[index], old.bias[HOTDOG_CLASS])
    shares = old.bias[OTHERS].softmax(0)
    rest = new.weight[1 - index]
    torch.testing.assert_close(rest, shares @ old.weight[OTHERS], rtol=0, atol=1e-6)
    torch.testing.assert_close(new.bias[1 - index], old.bias[OTHERS].logsumexp(0))
    assert 6.9 < new.bias[1 - index] < 6.92  # log(999) = 6.907


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


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7])
@torch.no_grad()
def test_the_share_above_the_bar_is_the_one_expected(model, share):
    f = torch.rand(100, 1280, generator=torch.Generator().manual_seed(1))
    hotdog_head(model, features=f, share=share)
    above = (model.classifier(f).softmax(1)[:, 0] > 0.5).float().mean().item()
    assert above == pytest.approx(share, abs=0.011)


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
        (net(), {"hotdog_index": 2}, HeadError, "from 0 to 1"),
        (net(), {"hotdog_index": -1}, HeadError, "from 0 to 1"),
        (net(), {"hotdog_index": True}, HeadError, "from 0 to 1"),
        (net(), {"features": torch.rand(3, 5)}, DataError, r"expected \(N, 6\)"),
        (net(), {"features": torch.rand(0, 6)}, DataError, r"expected \(N, 6\)"),
        (net(), {"features": torch.full((3, 6), torch.nan)}, DataError, "not finite"),
        (net(), {"share": 0.2}, HeadError, "hand them over"),
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
