"""Features are what a forward hook sees, and the model comes back as it was."""

import random

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset
from torchvision.transforms import v2

from course_lib import data as course_data
from course_lib import features
from course_lib.errors import UnknownNameError
from course_lib.features import FeaturesError


def seen_by_a_hook(net, layer, images):
    caught = []
    handle = net.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: caught.append((inputs[0].clone(), output.clone()))
    )
    net.eval()
    with torch.no_grad():
        net(images)
    handle.remove()
    return caught[0]


def test_features_are_what_enters_the_head(net, data, cache_dir):
    found = features.extract(net, data, cache_dir=cache_dir)
    expected, _ = seen_by_a_hook(net, "fc", data.tensors[0])
    assert found.values.dtype == torch.float32
    torch.testing.assert_close(found.values, expected)
    assert torch.equal(found.targets, data.tensors[1])
    assert torch.equal(found.indices, torch.arange(11))
    assert (found.layer, found.paths) == ("before the head", None)
    assert str(found.values.shape) in "torch.Size([11, 6])"


@pytest.mark.parametrize("batch_size", [1, 3, 11, 50])
@pytest.mark.parametrize("layer", ["stem", "stem.0", "stem.1", "body.0", "drop", "fc"])
def test_any_layer_in_any_batches(net, data, layer, batch_size):
    found = features.extract(net, data, layer=layer, batch_size=batch_size, cache=False)
    _, expected = seen_by_a_hook(net, layer, data.tensors[0])
    if expected.ndim == 4:
        expected = expected.mean(dim=(2, 3))
    torch.testing.assert_close(found.values, expected)


def test_maps_can_be_kept(net, data):
    kept = features.extract(net, data, layer="body.0", pool=None, cache=False)
    assert kept.values.shape == (11, 6, 4, 4)
    assert kept.flat.shape == (11, 96)
    pooled = features.extract(net, data, layer="body.0", cache=False)
    torch.testing.assert_close(kept.values.mean(dim=(2, 3)), pooled.values)


def test_the_rest_of_the_network_is_not_computed(net, data):
    count = []
    net.fc.register_forward_hook(lambda *_: count.append(1))
    features.extract(net, data, layer="stem", batch_size=2, cache=False)
    assert len(count) == 1  # the first batch only, which makes sure that the layer is used once


def state(net):
    return {
        "modes": [module.training for module in net.modules()],
        "flags": [p.requires_grad for p in net.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in net.parameters()],
        "bits": [t.clone() for t in [*net.parameters(), *net.buffers()]],
        "objects": [id(t) for t in [*net.parameters(), *net.buffers()]],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in net.modules()],
    }


def same(first, second):
    for key in ("modes", "flags", "objects", "hooks"):
        assert first[key] == second[key], key
    for key in ("grads", "bits"):
        for a, b in zip(first[key], second[key], strict=True):
            assert (a is None and b is None) or torch.equal(a, b), key


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(net, data, fails):
    net.train()
    net.body.eval()
    net.stem[0].weight.requires_grad_(False)
    net(data.tensors[0]).sum().backward()
    if fails:
        data.tensors[0][7] = float("nan")
    before = state(net)
    if fails:
        with pytest.raises(FeaturesError, match=r"not a number, first of all example 7\."):
            features.extract(net, data, batch_size=4, cache=False)
    else:
        features.extract(net, data, cache=False)
    same(before, state(net))


def test_the_random_streams_are_left_alone(net, data, cache_dir):
    def drawn():
        return torch.rand(1).item(), random.random(), np.random.rand()

    def seed():
        torch.manual_seed(5), random.seed(5), np.random.seed(5)

    seed()
    expected = drawn()
    seed()
    features.extract(net, data, cache_dir=cache_dir)
    features.extract(net, data, cache_dir=cache_dir)
    assert drawn() == expected


def test_pictures_from_a_folder(net, pictures, cache_dir):
    steps = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    train = course_data.image_folder(pictures, "train", steps)
    found = features.extract(net, train, cache_dir=cache_dir)
    assert found.paths == tuple(train.paths)
    assert found.targets.tolist() == train.targets
    part = course_data.balanced_subset(train, 4)
    fewer = features.extract(net, part, cache=False)
    assert fewer.paths == tuple(part.paths)
    torch.testing.assert_close(fewer.values, found.values[torch.tensor(part.indices)])


@pytest.mark.parametrize(
    "step",
    [
        v2.RandomHorizontalFlip(),
        v2.RandomHorizontalFlip(p=0.01),
        v2.ColorJitter(0.3),
        v2.Compose([v2.ToImage(), v2.Compose([v2.TrivialAugmentWide()])]),
        nn.Sequential(v2.RandomErasing()),
    ],
)
def test_a_random_transform_is_refused(net, pictures, step, cache_dir):
    train = course_data.image_folder(pictures, "train", step)
    with pytest.raises(FeaturesError, match=r"is random\. Give the data set the transform for"):
        features.extract(net, train, cache_dir=cache_dir)
    part = course_data.balanced_subset(train, 4)
    with pytest.raises(FeaturesError, match=r"is random\."):
        features.extract(net, part, cache_dir=cache_dir)
    assert not cache_dir.exists()


def test_several_random_transforms_are_named_together(net, pictures, cache_dir):
    both = v2.Compose([v2.RandomHorizontalFlip(), v2.ColorJitter(0.3)])
    train = course_data.image_folder(pictures, "train", both)
    with pytest.raises(FeaturesError, match=r"RandomHorizontalFlip, ColorJitter are random\."):
        features.extract(net, train, cache_dir=cache_dir)


class Changed(Dataset):
    def __init__(self, data, change):
        self.data, self.change = data, change

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        image, target = self.data[index]
        return self.change(image), target


@pytest.mark.parametrize(
    "source", [torch.rand, lambda _: np.random.rand(), lambda _: random.random()]
)
def test_random_numbers_of_ones_own_are_noticed(net, data, source, cache_dir):
    with pytest.raises(FeaturesError, match="came out in two ways"):
        features.extract(net, Changed(data, lambda x: x + float(source(1))), cache_dir=cache_dir)


def test_a_picture_that_is_random_late_in_the_data_is_noticed(net, data, cache_dir):
    ninth = data[9][0]

    def late(image):
        return image + torch.rand(1) if torch.equal(image, ninth) else image

    with pytest.raises(FeaturesError, match="came out in two ways"):
        features.extract(net, Changed(data, late), cache_dir=cache_dir)
    assert not cache_dir.exists()


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(1, 1)
        self.act = nn.ReLU()
        self.pair = nn.Identity()
        self.flatten = nn.Flatten(0)
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        self.pair((x, x))
        self.flatten(x)
        return self.fc(self.act(self.act(x).mean(dim=(2, 3))))


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("act", "is used 2 times for one batch"),
        ("unused", "is used not at all"),
        ("pair", "gives a tuple; expected a tensor"),
        ("flatten", "expected a row a picture"),
    ],
)
def test_layers_that_give_no_features(data, layer, said):
    net = Twice()
    with pytest.raises(FeaturesError, match=said):
        features.extract(net, data, layer=layer, cache=False)
    assert not net.get_submodule(layer)._forward_hooks


def test_an_unknown_layer_is_named(net, data):
    with pytest.raises(UnknownNameError, match=r"no layer 'stem\.O'\. Did you mean .*'stem\.0'"):
        features.extract(net, data, layer="stem.O")


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ([], "The data set is empty"),
        (Stream(), "without a length"),
        ([torch.zeros(3, 8, 8)], "Example 0 is a Tensor; expected a pair"),
        ([("picture", 0)], "The picture of example 0 is a str"),
        ([(torch.zeros(3, 8, 8), torch.zeros(2))], r"has the shape \(2,\); expected one number"),
        ([(torch.zeros(3, 8, 8 + i), 0) for i in range(2)], "differ in size"),
    ],
)
def test_data_that_can_not_be_used(net, dataset, said):
    with pytest.raises(FeaturesError, match=said):
        features.extract(net, dataset, cache=False)


@pytest.mark.parametrize("settings", [{"pool": "max"}, {"batch_size": 0}])
def test_settings_that_can_not_be(net, data, settings):
    with pytest.raises(FeaturesError, match=next(iter(settings))):
        features.extract(net, data, cache=False, **settings)


def test_joined_features_stand_side_by_side(net, data):
    low = features.extract(net, data, layer="stem", cache=False)
    high = features.extract(net, data, cache=False)
    both = features.join(low, high)
    assert torch.equal(both.values, torch.cat([low.values, high.values], dim=1))
    assert torch.equal(both.targets, low.targets)
    assert both.layer == "stem + before the head"
    assert both.key not in (low.key, high.key)
    assert features.join(high, low).key != both.key
    with pytest.raises(FeaturesError, match="two or more"):
        features.join(low)
    with pytest.raises(FeaturesError, match="number 2 has 3"):
        features.join(low, high.subset([0, 1, 2]))
    with pytest.raises(FeaturesError, match="not the same pictures"):
        features.join(low, high.subset([*range(1, 11), 0]))


def test_subsets_keep_their_places(net, data):
    whole = features.extract(net, data, cache=False)
    part = whole.subset([3, 1])
    assert part.indices.tolist() == [3, 1]
    assert torch.equal(part.values, whole.values[[3, 1]])
    assert part.key != whole.key
    with pytest.raises(FeaturesError, match="rows 0 to 10"):
        whole.subset([11])


def test_every_classical_classifier_learns_what_can_be_learnt(net):
    targets = torch.arange(60) % 3
    images = torch.randn(60, 3, 8, 8) + targets.view(-1, 1, 1, 1) * 2
    rows = features.extract(net, TensorDataset(images, targets), cache=False)
    pipelines = features.classifiers()
    assert set(pipelines) == {"svm", "naive_bayes", "logistic_regression", "knn"}
    X, y = rows.subset(range(40)).arrays()
    for pipeline in pipelines.values():
        assert pipeline.fit(X, y).score(*rows.subset(range(40, 60)).arrays()) > 0.8
    assert features.classifiers()["svm"] is not pipelines["svm"]


def test_names_of_a_real_network(cache_dir):
    from course_lib import backbones

    model = backbones.load("efficientnet_lite0", num_classes=2)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    found = features.extract(model, TensorDataset(images, torch.arange(2)), cache_dir=cache_dir)
    assert found.values.shape == (2, 1280)
    model.eval()
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(images), pre_logits=True)
    torch.testing.assert_close(found.values, expected)


# --- features that hang on the other pictures of the batch ----------------------------------------


class ByBatch(nn.Module):
    """A normalisation of one's own, by the mean of the batch."""

    def forward(self, x):
        return x - x.mean(dim=0, keepdim=True)


class Functional(nn.Module):
    def forward(self, x):
        return nn.functional.batch_norm(x, None, None, training=True)


def bare_norm():
    norm = nn.BatchNorm2d(4)
    norm.running_mean = norm.running_var = None
    return norm


@pytest.mark.parametrize("batch_size", [None, 2, 3, 11])
@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: nn.BatchNorm2d(4, track_running_stats=False), True),
        (bare_norm, True),
        (Functional, False),
        (ByBatch, False),
    ],
)
def test_statistics_of_the_batch_are_refused(net, data, cache_dir, make, named, batch_size):
    net.stem[1] = make()
    with pytest.raises(FeaturesError, match="hang on the others in its batch") as caught:
        features.extract(net, data, batch_size=batch_size, cache_dir=cache_dir)
    assert ("stem.1: BatchNorm without running statistics." in str(caught.value)) == named
    assert not cache_dir.exists() or not list(cache_dir.iterdir())
    layer = features.extract(net, data, layer="stem.0", cache=False)  # before it, all is well
    assert layer.values.shape == (11, 4)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 11])
def test_one_picture_is_no_way_out_where_it_cannot_be_normalised(data, batch_size):
    """BatchNorm1d has one value a channel then, and torch refuses."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(3, track_running_stats=False)
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), norm, nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(FeaturesError, match="without running statistics") as caught:
        features.extract(net, data, batch_size=batch_size, layer="2", cache=False)
    assert "batch_size=1" not in str(caught.value)


def test_one_by_one_they_are_the_pictures_own(net, data, cache_dir):
    net.stem[1] = nn.BatchNorm2d(4, track_running_stats=False)
    net.stem[1].weight.data.uniform_(0.5, 1.5)
    found = features.extract(net, data, batch_size=1, cache_dir=cache_dir)
    with torch.no_grad():
        net.eval()
        alone = [net[:-1](image[None])[0] for image in data.tensors[0]]
    torch.testing.assert_close(found.values, torch.stack(alone))
    order = torch.randperm(11)
    turned = TensorDataset(*(each[order] for each in data.tensors))
    again = features.extract(net, turned, batch_size=1, cache=False)
    torch.testing.assert_close(again.values, found.values[order])


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_rounding_is_no_dependence(net, kind):
    images = torch.randn(9, 3, 8, 8).to(kind)
    data = TensorDataset(images, torch.zeros(9, dtype=torch.long))
    assert features.extract(net.to(kind), data, cache=False).values.shape == (9, 6)
    net.body[1] = nn.InstanceNorm2d(6, affine=True).to(kind)  # by picture, not by batch
    assert features.extract(net, data, cache=False).values.shape == (9, 6)


class Moving(nn.Module):
    """What ``given`` gives has its axes in an order of your choice."""

    def __init__(self, order, flat=False):
        super().__init__()
        self.order, self.flat = order, flat
        self.see = nn.Conv2d(3, 8, 1)
        self.given = nn.Identity()
        self.fc = nn.Linear(8, 2)

    def forward(self, images):
        seen = self.see(images)
        seen = seen.flatten(2) if self.flat else seen
        self.given(seen.permute(self.order))
        return self.fc(seen.flatten(2).mean(dim=2))


@pytest.mark.parametrize(
    ("order", "flat"),
    [((0, 1, 2, 3), False), ((0, 2, 3, 1), False), ((0, 2, 1), True), ((0, 1, 2), True)],
)
def test_maps_and_tokens_are_averaged_over_their_places(data, order, flat):
    net = Moving(order, flat)
    found = features.extract(net, data, layer="given", cache=False)
    expected = net.see(data.tensors[0]).mean(dim=(2, 3)).detach()
    torch.testing.assert_close(found.values, expected)


def test_swin_gives_a_number_a_channel(cache_dir):
    net = torchvision.models.swin_t(weights=None)
    pictures = TensorDataset(torch.randn(2, 3, 64, 64), torch.arange(2))
    found = features.extract(net, pictures, layer="features.7", cache=False)
    net.eval()
    with torch.no_grad():
        maps = net.features(pictures.tensors[0])  # (B, H, W, C)
    torch.testing.assert_close(found.values, maps.mean(dim=(1, 2)))


def test_axes_that_can_not_be_told_are_refused(data):
    net = Moving((0, 1, 2, 3))
    net.forward = lambda images: (
        net.given(images.sum(dim=(1, 2, 3))[:, None, None, None].expand(-1, 5, 6, 7)),
        net.fc(net.see(images).mean(dim=(2, 3))),
    )[1]
    with pytest.raises(FeaturesError, match="can't be told"):
        features.extract(net, data, layer="given", cache=False)
    assert features.extract(net, data, layer="given", pool=None, cache=False).values.ndim == 4


@pytest.mark.parametrize("n", [1, 4])
def test_neighbours_need_rows(n):
    rows, classes = np.zeros((n, 3)), np.arange(n) % 2
    knn = features.classifiers()["knn"]
    with pytest.raises(FeaturesError, match=f"only {n} rows? to fit.*classify__n_neighbors"):
        knn.fit(rows, classes)
    knn.set_params(classify__n_neighbors=max(1, n - 1)).fit(rows, classes).predict(rows)


def test_a_support_vector_machine_has_no_probabilities():
    rows, classes = np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 2
    svm = features.classifiers()["svm"].fit(rows, classes)
    for ask in (svm.predict_proba, svm.predict_log_proba):
        with pytest.raises(FeaturesError, match="decision_function"):
            ask(rows)
    assert svm.decision_function(rows).shape == (12,)
