from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset, TensorDataset

from course_lib.data.splits import LabelledSubset, balanced_subset, stratified_split
from course_lib.errors import DataError


def examples(counts):
    targets = [target for target, count in enumerate(counts) for _ in range(count)]
    return targets, [f"picture {i}" for i in range(len(targets))]


class Numbers(Dataset):
    classes = ("a", "b", "c")

    def __init__(self, targets):
        self.targets = targets

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return index * 10, self.targets[index]


@settings(max_examples=50)
@given(
    counts=st.lists(st.integers(2, 40), min_size=1, max_size=5),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(-5, 5),
)
def test_every_example_is_on_one_side_and_every_class_on_both(counts, fraction, seed):
    targets, keys = examples(counts)
    first, second = stratified_split(targets, keys, fraction, seed)
    assert sorted(first + second) == list(range(len(targets)))
    assert first == sorted(first)
    assert second == sorted(second)
    for target, count in enumerate(counts):
        drawn = sum(targets[i] == target for i in second)
        assert drawn == min(max(round(fraction * count), 1), count - 1)


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    targets, keys = examples([30, 30])
    splits = [stratified_split(targets, keys, 0.2, seed) for seed in (0, 0, 1)]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2]


def test_the_split_is_pinned():
    """It must never change between versions: results would silently change with it."""
    targets, keys = examples([10, 10])
    assert stratified_split(targets, keys, 0.2, 0)[1] == PINNED


PINNED = [3, 9, 13, 16]


def test_the_split_doesnt_hang_on_the_order_of_the_files():
    targets, keys = examples([20, 30])
    order = torch.randperm(50).tolist()
    expected = {keys[i] for i in stratified_split(targets, keys, 0.3, 7)[1]}
    shuffled = [targets[i] for i in order], [keys[i] for i in order]
    assert {shuffled[1][i] for i in stratified_split(*shuffled, 0.3, 7)[1]} == expected


@given(count=st.integers(3, 60))
def test_one_more_picture_moves_at_most_one_other(count):
    before = set(stratified_split([0] * count, examples([count])[1], 0.2, 0)[1])
    after = set(stratified_split([0] * (count + 1), examples([count + 1])[1], 0.2, 0)[1])
    assert len((before ^ after) - {count}) <= 1


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), min_size=1, max_size=60))
def test_copies_stay_together_even_across_classes(pairs):
    pairs = [(0, 100), (0, 101), (1, 102), (1, 103), *pairs]
    targets, keys = [t for t, _ in pairs], [str(k) for _, k in pairs]
    first, second = stratified_split(targets, keys, 0.3, 0)
    assert {keys[i] for i in first}.isdisjoint(keys[i] for i in second)
    assert sorted(first + second) == list(range(len(pairs)))


def test_strange_file_names_can_be_keys():
    names = ["a\udcff", "Käse", "香肠", ""]
    assert len(stratified_split([0] * 4, names, 0.5, 0)[1]) == 2


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2, float("nan")])
def test_a_fraction_outside_0_to_1_is_refused(fraction):
    with pytest.raises(DataError, match="between 0 and 1"):
        stratified_split(*examples([5, 5]), fraction, 0)


def test_a_class_with_one_picture_cant_be_divided():
    with pytest.raises(DataError, match="'cat' has 1 different picture"):
        stratified_split(["dog", "dog", "cat"], list("abc"), 0.5, 0)
    with pytest.raises(DataError, match="'cat' has 1 different picture"):
        stratified_split(["dog", "dog", "cat", "cat"], list("abcc"), 0.5, 0)


@settings(max_examples=40)
@given(n=st.integers(1, 30), seed=st.integers(0, 3))
def test_a_balanced_subset_is_balanced(n, seed):
    subset = balanced_subset(Numbers(examples([10, 14, 40])[0]), n, seed)
    assert len(subset) == n
    counts = Counter(subset.targets)
    assert max(counts[t] for t in range(3)) - min(counts[t] for t in range(3)) <= 1
    assert [subset[i] for i in range(n)] == [
        (index * 10, target) for index, target in zip(subset.indices, subset.targets, strict=True)
    ]
    assert list(subset.indices) == sorted(set(subset.indices))


def test_subsets_of_one_seed_are_nested():
    data = Numbers(examples([20, 20, 20])[0])
    chosen = [set(balanced_subset(data, n, seed=4).indices) for n in (3, 7, 20, 45)]
    assert all(small < large for small, large in pairwise(chosen))
    assert chosen[2] != set(balanced_subset(data, 20, seed=5).indices)


def test_a_subset_knows_what_the_whole_knew():
    data = Numbers(examples([4, 4])[0])
    data.paths = [f"{i}.jpg" for i in range(8)]
    subset = balanced_subset(data, 4)
    assert isinstance(subset, LabelledSubset)
    assert subset.classes == Numbers.classes
    assert subset.paths == [f"{i}.jpg" for i in subset.indices]
    again = balanced_subset(subset, 2)
    assert again.paths == [subset.paths[i] for i in again.indices]


def test_targets_may_be_a_tensor():
    data = Numbers(torch.tensor([0, 1, 0, 1]))
    assert sorted(balanced_subset(data, 2).targets) == [0, 1]


@pytest.mark.parametrize(
    ("n", "message"),
    [(0, "n must be >= 1"), (-3, "n must be >= 1"), (9, "need 5 of class 0, which has 3.*is 6")],
)
def test_a_subset_that_cant_be_had_is_refused(n, message):
    with pytest.raises(DataError, match=message):
        balanced_subset(Numbers([0, 0, 0, 1, 1, 1, 1, 1]), n)


def test_a_data_set_without_targets_is_refused():
    with pytest.raises(DataError, match=r"TensorDataset has no \.targets"):
        balanced_subset(TensorDataset(torch.zeros(3)), 2)
