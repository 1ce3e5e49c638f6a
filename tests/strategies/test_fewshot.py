"""Prototypes beside scikit-learn's, neighbours counted by hand, and episodes that share nothing."""

import pytest
import torch
from sklearn.neighbors import NearestCentroid

from course_lib.errors import DataError, UnknownNameError
from course_lib.strategies import fewshot
from course_lib.strategies.inserts import StrategyError


def unequal(seed=0, sizes=(2, 9, 5), width=6):
    """Features of classes of unequal size, in mixed order."""
    stream = torch.Generator().manual_seed(seed)
    targets = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    targets = targets[torch.randperm(len(targets), generator=stream)]
    middles = torch.randn(len(sizes), width, generator=stream)
    return middles[targets] + torch.randn(len(targets), width, generator=stream), targets


def test_means_by_hand():
    features = torch.tensor([[0.0, 2.0], [9.0, 1.0], [2.0, 4.0], [4.0, 0.0]])
    means = fewshot.prototypes(features, torch.tensor([0, 1, 0, 0]))
    assert torch.equal(means, torch.tensor([[2.0, 2.0], [9.0, 1.0]]))


@pytest.mark.parametrize("seed", range(3))
def test_nearest_is_scikit_learns_nearest_centroid(seed):
    features, targets = unequal(seed)
    queries = torch.randn(50, 6, generator=torch.Generator().manual_seed(100 + seed))
    theirs = NearestCentroid().fit(features.numpy(), targets.numpy())
    means = fewshot.prototypes(features, targets)
    assert torch.allclose(means, torch.as_tensor(theirs.centroids_).float(), atol=1e-6)
    ours = fewshot.nearest(queries, means)
    assert ours.tolist() == theirs.predict(queries.numpy()).tolist()
    assert len(ours.unique()) == 3


def test_cosine_leaves_lengths_out():
    means = torch.tensor([[1.0, 0.0], [0.0, 10.0]])
    query = torch.tensor([[1.0, 2.0]])
    assert fewshot.nearest(query, means).tolist() == [0]
    assert fewshot.nearest(query, means, "cosine").tolist() == [1]


def test_the_nearest_pictures_vote():
    support = torch.tensor([[0.0], [1.0], [1.2], [5.0]])
    targets = torch.tensor([0, 1, 1, 0])
    query = torch.tensor([[0.4]])
    assert fewshot.nearest_pictures(query, support, targets, 1).tolist() == [0]
    assert fewshot.nearest_pictures(query, support, targets, 3).tolist() == [1]


def drawn(seed=0, ways=3, shots=2, queries=4):
    targets = torch.arange(60) % 5
    stream = torch.Generator().manual_seed(seed)
    return targets, fewshot.episode(targets, ways, shots, queries, stream)


@pytest.mark.parametrize("seed", range(5))
def test_an_episode_has_its_counts_and_no_picture_twice(seed):
    targets, task = drawn(seed)
    rows = torch.cat([task.support, task.queries])
    assert len(rows.unique()) == len(rows) == 3 * (2 + 4)
    assert len(task.classes.unique()) == 3
    for part, numbers, each in (
        (task.support, task.support_targets, 2), (task.queries, task.query_targets, 4)
    ):  # fmt: skip
        assert torch.equal(targets[part], task.classes[numbers])
        assert torch.bincount(numbers).tolist() == [each] * 3


def test_a_seed_repeats_its_episode_and_another_gives_another():
    first, again, other = drawn(1)[1], drawn(1)[1], drawn(2)[1]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.support, other.support)


def test_more_shots_keep_the_queries_and_add_to_the_support():
    few, more = drawn(3, shots=1)[1], drawn(3, shots=5)[1]
    assert torch.equal(few.queries, more.queries)
    assert torch.equal(few.classes, more.classes)
    assert torch.equal(few.support, more.support[::5])


FEATURES, TARGETS = unequal()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: drawn(ways=6), DataError, "6 ways need as many classes; there are 5"),
        (lambda: drawn(shots=9), DataError, r"has 12 pictures; 9 shots and 4 queries need 13. Ask"),
        (lambda: drawn(shots=0), DataError, "expected 1 or more"),
        (lambda: fewshot.prototypes(FEATURES, TARGETS[:-1]), StrategyError, "don't match"),
        (
            lambda: fewshot.prototypes(FEATURES, TARGETS + (TARGETS > 0)),
            StrategyError, "Class 1 has no picture, .* number the classes anew",
        ),
        (
            lambda: fewshot.nearest(FEATURES, FEATURES[:2, :3]), StrategyError,
            "the same layer of the same network",
        ),
        (lambda: fewshot.nearest(FEATURES, FEATURES[:2], "manhattan"), UnknownNameError, "cosine"),
        (
            lambda: fewshot.nearest_pictures(FEATURES, FEATURES[:3], TARGETS[:3], 4),
            StrategyError, "k is 4; expected 1 to 3",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
