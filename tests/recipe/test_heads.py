"""Linear heads: scikit-learn's, tried on pictures that they haven't seen, put into any network."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from torch import nn

from course_lib import backbones, features
from course_lib.features import Features
from course_lib.recipe.heads import cross_validated, folds, head_into, linear_heads
from course_lib.training import TrainingError


def rows_of(targets, noise=0.3, seed=0, width=6):
    stream = torch.Generator().manual_seed(seed)
    targets = torch.as_tensor(targets)
    values = torch.randn(len(targets), width, generator=stream) * noise + 3.0
    values[:, 0] += targets
    return Features(values, targets, torch.arange(len(targets)), None, "before the head", "test")


def sklearn_head(penalty, class_weight, x):
    """On features as they are: dividing them by one number is a penalty times its square."""
    return LogisticRegression(
        C=1 / (penalty * x.var(axis=0).mean()), class_weight=class_weight, max_iter=20_000, tol=1e-8
    )


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("class_weight", ["balanced", None])
def test_a_head_predicts_what_scikit_learn_predicts(classes, class_weight):
    rows = rows_of([0] * 20 + [1] * 7 + [classes - 1] * 5)
    (penalty, layer), _ = linear_heads(rows, classes, (0.5, 5.0), class_weight)
    x, y = rows.arrays()
    expected = sklearn_head(penalty, class_weight, x).fit(x, y).predict_proba(x)
    torch.testing.assert_close(
        layer(rows.values).softmax(1).double(),
        torch.tensor(expected).double(),
        atol=1e-3,
        rtol=1e-2,
    )


def test_a_class_without_a_picture_is_never_chosen():
    rows = rows_of([0, 1] * 10)
    [(_, layer)] = linear_heads(rows, 4, (1.0,))
    assert set(layer(rows.values).argmax(1).tolist()) <= {0, 1}
    with pytest.raises(TrainingError, match="two or more"):
        linear_heads(rows_of([0] * 20), 2, (1.0,))
    with pytest.raises(TrainingError, match="from 0 to 1"):
        linear_heads(rows_of([0, 1, 2] * 5), 2, (1.0,))


@pytest.mark.parametrize("class_weight", ["balanced", None])
def test_answers_are_those_of_cross_validation(class_weight):
    rows = rows_of([0] * 40 + [1] * 20)
    found = cross_validated(rows, 2, (2.0,), class_weight)[2.0]
    x, y = rows.arrays()
    expected = torch.zeros(60, 2).double()
    for fit_on, left_out in StratifiedKFold(5, shuffle=True, random_state=0).split(x, y):
        line = sklearn_head(2.0, class_weight, x[fit_on]).fit(x[fit_on], y[fit_on])
        expected[left_out] = torch.tensor(line.predict_proba(x[left_out])).double()
    torch.testing.assert_close(found.logits.softmax(1).double(), expected, atol=1e-3, rtol=1e-2)


def test_a_channel_that_fires_on_new_pictures_only_is_not_blown_up():
    rows = rows_of([0, 1] * 10)
    quiet = rows.values[:, :1] * 0 + 1e-6 * torch.randn(20, 1)
    wide = Features(torch.cat([rows.values, quiet], 1), rows.targets, rows.indices, None, "", "")
    [(_, layer)] = linear_heads(wide, 2, (1.0,))
    new = wide.values.clone()
    new[:, -1] = 1.0
    shift = (layer(new) - layer(wide.values)).abs().max()
    assert shift < 0.1, "one new value outweighs the features that were learned from"


def test_on_classes_without_meaning_the_answers_are_no_better_than_guessing():
    rows = rows_of([0, 1] * 60, noise=0.05)
    drawn = rows.targets[torch.randperm(120, generator=torch.Generator().manual_seed(1))]
    shuffled = Features(rows.values, drawn, rows.indices, None, "", "")
    assert cross_validated(rows, 2, (1.0,), "balanced")[1.0].balanced_accuracy.value == 1
    assert cross_validated(shuffled, 2, (1.0,), "balanced")[1.0].balanced_accuracy.value < 0.7


def test_copies_are_left_out_together():
    rows = rows_of([0, 1] * 10)
    copies = torch.cat([torch.arange(20), torch.arange(20)])
    doubled = rows.subset(copies)
    for fit_on, left_out in folds(doubled, 5, [*range(20), *range(20)]):
        assert not {i % 20 for i in fit_on.tolist()} & {i % 20 for i in left_out.tolist()}


@pytest.mark.parametrize("targets", [[0] * 9 + [1], [0, 1, 1], [0] * 30 + [1] * 2, [0, 1, 2, 2]])
def test_tiny_classes_give_numbers(targets):
    found = cross_validated(rows_of(targets), 3, (1.0,), "balanced")[1.0]
    assert found.logits.isfinite().all()
    assert 0 <= found.balanced_accuracy.low <= found.balanced_accuracy.high <= 1
    assert found.loss < float("inf")
    if targets.count(1) == 1:  # its head never saw one
        assert found.logits[targets.index(1)].argmax() != 1


@pytest.mark.parametrize("targets", [[0, 1], [0] * 8, [0]])
def test_too_few_pictures_are_refused(targets):
    with pytest.raises(TrainingError, match="Add pictures"):
        cross_validated(rows_of(targets), 2, (1.0,), "balanced")


@pytest.mark.parametrize("name", ["squeezenet1_1", "efficientnet_lite0", "resnet18", "vit_b_16"])
def test_a_network_with_a_fitted_head_says_what_the_head_says(name):
    torch.manual_seed(0)
    model = backbones.load(name, 3, pretrained=False).eval()
    size = backbones.card(name).input_size if name.startswith("vit") else 64
    pictures = [(torch.randn(3, size, size), i % 3) for i in range(9)]
    rows = features.extract(model, pictures, cache=False)
    [(_, layer)] = linear_heads(rows, 3, (1.0,))
    head_into(model, layer, backbones.head_name(model))
    with torch.no_grad():
        said = model(torch.stack([each for each, _ in pictures])).softmax(1)
    torch.testing.assert_close(said, layer(rows.values).detach().softmax(1), atol=2e-3, rtol=0)


def test_a_head_for_other_features_is_refused():
    model = backbones.load("squeezenet1_1", 3, pretrained=False)
    with pytest.raises(backbones.HeadError, match="512 maps"):
        head_into(model, nn.Linear(7, 3), backbones.head_name(model))
