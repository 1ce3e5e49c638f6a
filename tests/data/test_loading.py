import multiprocessing
import pickle
import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset
from torchvision.transforms import v2

from course_lib import profile
from course_lib.data import ImageError, image_folder, loader
from course_lib.errors import DataError


class Noise(Dataset):
    """Items that draw from all three random streams, as augmentations do."""

    targets = [0, 1] * 5

    def __len__(self):
        return 10

    def __getitem__(self, index):
        drawn = [torch.rand(()), np.random.rand(), random.random()]
        return torch.tensor([float(value) for value in drawn], dtype=torch.float64), index


def epochs(count=2, **options):
    batches = loader(Noise(), **{"batch_size": 4, "shuffle": True, "seed": 3, **options})
    return [[(noise.tolist(), index.tolist()) for noise, index in batches] for _ in range(count)]


def test_order_and_augmentations_are_the_same_for_any_number_of_workers():
    alone = epochs(workers=0)
    assert epochs(workers=1) == alone
    assert epochs(workers=2) == alone


def test_they_dont_hang_on_the_global_streams_and_leave_them_alone():
    profile.seed_everything(1)
    first = epochs(workers=0)
    after = torch.rand(()), np.random.rand(), random.random()
    profile.seed_everything(1)
    assert (torch.rand(()), np.random.rand(), random.random()) == after
    profile.seed_everything(2)
    assert epochs(workers=0) == first


def test_global_streams_are_restored_when_an_item_fails():
    class Broken(Noise):
        def __getitem__(self, index):
            super().__getitem__(index)
            raise RuntimeError("broken")

    torch.manual_seed(5)
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="broken"):
        next(iter(loader(Broken(), workers=0)))
    assert torch.equal(torch.get_rng_state(), state)


def test_epochs_differ_and_so_do_seeds_and_items():
    first, second = epochs()
    assert first != second
    assert epochs(seed=4)[0] != first
    values = [value for noise, _ in first + second for item in noise for value in item]
    assert len(set(values)) == len(values)


def test_each_epoch_has_every_example_once_and_keeps_the_odd_batch():
    for epoch in epochs():
        assert [len(index) for _, index in epoch] == [4, 4, 2]
        assert sorted(i for _, index in epoch for i in index) == list(range(10))


def test_without_shuffling_the_order_is_that_of_the_data_set():
    for epoch in epochs(shuffle=False):
        assert [i for _, index in epoch for i in index] == list(range(10))


def test_numbers_come_from_the_profile_unless_given():
    batches = loader(Noise())
    chosen = profile.current()
    assert batches.batch_size == chosen.batch_size
    assert batches.num_workers == chosen.workers
    assert epochs(seed=None) == epochs(seed=chosen.seed)


def test_the_data_set_inside_is_still_seen():
    seen = loader(Noise()).dataset
    assert seen.targets == Noise.targets
    assert len(seen) == 10
    assert seen[3][1] == 3
    assert len(pickle.loads(pickle.dumps(seen))) == 10
    with pytest.raises(AttributeError, match="nonsense"):
        seen.nonsense  # noqa: B018


def test_random_crops_of_pictures_are_reproducible(make_folders, own_cache):
    root = make_folders({"train/a": 5, "train/b": 5, "test/a": 1, "test/b": 1})
    augment = v2.Compose([v2.ToImage(), v2.RandomResizedCrop(8), v2.RandomHorizontalFlip()])

    def pixels(workers):
        train = image_folder(root, transform=augment)
        return torch.cat([x for x, _ in loader(train, 3, shuffle=True, workers=workers)])

    alone = pixels(0)
    assert torch.equal(alone, pixels(0))
    assert torch.equal(alone, pixels(2))


def test_a_file_that_broke_meanwhile_is_named_also_by_a_worker(make_folders, own_cache):
    root = make_folders({"train/a": 3, "train/b": 3, "test/a": 1, "test/b": 1})
    train = image_folder(root, transform=v2.ToImage())
    train.paths[1].write_bytes(train.paths[1].read_bytes()[:99])
    for workers in (0, 1):
        with pytest.raises(ImageError, match=train.paths[1].name):
            list(loader(train, 2, workers=workers))


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"batch_size": -1}, {"batch_size": 2, "workers": -1}]
)
def test_impossible_numbers_are_refused(options):
    with pytest.raises(DataError, match=r"batch_size >= 1 and workers >= 0"):
        loader(Noise(), **options)


def test_an_empty_data_set_is_refused():
    with pytest.raises(DataError, match="empty"):
        loader([])


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_what_can_not_be_sent_to_workers_is_refused(monkeypatch, method):
    numbers = TensorDataset(torch.arange(4))
    numbers.transform = lambda x: x
    monkeypatch.setattr(multiprocessing, "get_context", lambda: SimpleNamespace(
        get_start_method=lambda: method))  # fmt: skip
    with pytest.raises(DataError, match=r"lambda.*as a def in a file.*workers=0"):
        loader(numbers, workers=1)
    assert len(loader(numbers, workers=0)) > 0
    numbers.transform = torch.relu
    assert len(loader(numbers, workers=1)) > 0

    def in_a_notebook(x):
        return x

    in_a_notebook.__module__, in_a_notebook.__qualname__ = "__main__", "mine"
    numbers.transform = in_a_notebook
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    with pytest.raises(DataError, match="mine is defined in the notebook"):
        loader(numbers, workers=1)
