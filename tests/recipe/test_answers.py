"""Answers about unseen pictures: intervals, weights, and when one network beats another."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.utils.class_weight import compute_sample_weight
from torch.nn import functional as F

from course_lib.recipe.answers import Answers, balanced, weights_for, wilson


def answers(n=60, sure=1.0, noise=1.0, seed=0, classes=3, class_weight="balanced"):
    stream = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % classes
    logits = F.one_hot(targets, classes) * 2.0 + noise * torch.randn(n, classes, generator=stream)
    return Answers(logits * sure, targets, weights_for(targets, class_weight))


def test_wilson_stays_inside_and_is_never_empty():
    assert str(wilson(40, 40)) == "1.00 [0.91, 1.00]"
    assert str(wilson(0, 10)) == "0.00 [0.00, 0.28]"
    for right in range(11):
        found = wilson(right, 10)
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.high - found.low > 0.2


def test_balanced_accuracy_is_scikit_learns():
    stream = np.random.default_rng(0)
    truth, said = stream.integers(0, 4, 50), stream.integers(0, 4, 50)
    right = [int(((truth == each) & (said == each)).sum()) for each in range(5)]
    counts = [int((truth == each).sum()) for each in range(5)]  # of class 4 there is none
    found = balanced(right, counts)
    assert found.value == pytest.approx(balanced_accuracy_score(truth, said))
    assert found.low < found.value < found.high


def test_one_right_picture_is_no_certainty():
    found = balanced([1, 100], [1, 100])
    assert found.value == found.high == 1.0
    assert found.low < 0.85
    assert balanced([100, 100], [100, 100]).low > 0.95


@pytest.mark.parametrize("counts", [(5, 95), (1, 1), (10, 20, 70)])
def test_weights_are_scikit_learns(counts):
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    expected = compute_sample_weight("balanced", targets.numpy())
    torch.testing.assert_close(weights_for(targets, "balanced"), torch.tensor(expected))
    assert weights_for(targets, None).tolist() == [1.0] * sum(counts)


@pytest.mark.parametrize("class_weight", ["balanced", None])
def test_the_loss_is_scikit_learns(class_weight):
    found = answers(n=50, class_weight=class_weight)  # 17, 17, 16
    shares = found.logits.double().softmax(1).numpy()
    expected = log_loss(found.targets, shares, sample_weight=found.weights.numpy())
    assert found.loss == pytest.approx(expected)


def test_the_gain_is_the_paired_interval():
    better, worse = answers(noise=0.5), answers(noise=1.5, seed=1)
    gain = better.gain(worse)
    difference = (worse.losses - better.losses).numpy()
    expected = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    assert (gain.low, gain.high) == pytest.approx((expected.low, expected.high))
    assert gain.low > 0
    assert worse.gain(better).high < 0
    same = better.gain(answers(noise=0.5))
    assert same.value == same.low == same.high == 0


def test_one_picture_decides_nothing():
    one = Answers(torch.tensor([[9.0, 0.0]]), torch.tensor([0]), torch.ones(1))
    other = Answers(torch.tensor([[0.0, 9.0]]), torch.tensor([0]), torch.ones(1))
    assert one.gain(other).low == -math.inf
