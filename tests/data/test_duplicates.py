import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder

from course_lib.data import (
    Duplicates,
    LabelledSubset,
    balanced_subset,
    duplicates,
    find_duplicates,
    image_folder,
    loader,
)

pytestmark = pytest.mark.usefixtures("own_cache")

GIVEN = {"train/ant": 6, "train/bee": 6, "val/ant": 3, "val/bee": 3, "test/ant": 4, "test/bee": 4}


@pytest.fixture
def folder(make_folders):
    """Given splits with two pictures of test in train, and one in two classes of train."""
    root = make_folders(GIVEN)
    shutil.copy(root / "train/ant/000.jpg", root / "test/ant/copy.jpg")
    shutil.copy(root / "train/bee/001.jpg", root / "test/bee/001.jpg")  # in the place of another
    shutil.copy(root / "train/ant/002.jpg", root / "train/bee/wrong.jpg")
    return root


def ours(root):
    return {split: image_folder(root, split) for split in ("train", "val", "test")}


def theirs(root):
    return {split: ImageFolder(root / split) for split in ("train", "val", "test")}


def names(groups):
    return [[each.name for each in group] for group in groups]


@pytest.mark.parametrize("read", [ours, theirs])
def test_copies_are_found_in_folders_with_count_and_names(folder, read):
    found = find_duplicates(read(folder))
    assert names(found.across) == [
        ["train/ant/000.jpg", "test/ant/copy.jpg"],
        ["train/bee/001.jpg", "test/bee/001.jpg"],
    ]
    assert names(found.in_two_classes) == [["train/ant/002.jpg", "train/bee/wrong.jpg"]]
    assert found.shared("train", "test") == 2
    assert found.shared("train", "val") == found.shared("val", "test") == 0
    assert found.unknown == ()
    text = str(found)
    assert "2 of the 9 pictures in test are in train as well" in text
    assert "test/ant/copy.jpg = train/ant/000.jpg" in text
    assert "1 picture is in two classes: train/ant/002.jpg = train/bee/wrong.jpg" in text


@pytest.mark.parametrize("read", [ours, theirs])
def test_clean_folders_say_nothing(make_folders, read):
    found = find_duplicates(read(make_folders(GIVEN)))
    assert not found
    assert str(found) == ""
    assert found.sizes == {"train": 12, "val": 6, "test": 8}


def test_the_same_files_in_train_and_test(make_folders):
    root = make_folders({"train/a": 5, "train/b": 5})
    shutil.copytree(root / "train", root / "test")
    found = find_duplicates(
        {"train": ImageFolder(root / "train"), "test": ImageFolder(root / "test")}
    )
    assert found.shared("train", "test") == 10
    text = str(found)
    assert "10 of the 10 pictures in test are in train as well" in text
    assert "and 6 more" in text
    assert not found.in_two_classes


def test_one_folder_that_isnt_divided(make_folders):
    root = make_folders({"a": 10, "b": 10})
    shutil.copy(root / "a/003.jpg", root / "b/again.jpg")
    whole = ImageFolder(root)
    found = find_duplicates({"pictures": whole})
    assert names(found.in_two_classes) == [["pictures/a/003.jpg", "pictures/b/again.jpg"]]
    assert not found.across
    with pytest.warns(match="is not divided"):
        drawn = find_duplicates(ours(root))
    assert names(drawn.in_two_classes) == names(found.in_two_classes)
    assert not drawn.across  # the draw keeps copies on one side


def test_a_copy_with_another_label_in_another_split_is_both(make_folders):
    root = make_folders({"train/a": 3, "train/b": 3, "test/a": 3, "test/b": 3})
    shutil.copy(root / "train/a/000.jpg", root / "test/b/000.jpg")
    found = find_duplicates({split: image_folder(root, split) for split in ("train", "test")})
    assert names(found.across) == names(found.in_two_classes)
    assert len(found.across) == 1 or found.across[0][0].split == "train"


def test_class_names_are_compared_and_not_their_numbers(make_folders):
    root = make_folders({"one/Red_fox": 3, "one/zebra": 3, "two/ape": 3, "two/red fox": 3})
    shutil.copy(root / "one/Red_fox/000.jpg", root / "two/red fox/000.jpg")
    found = find_duplicates({each: ImageFolder(root / each) for each in ("one", "two")})
    assert len(found.across) == 1
    assert not found.in_two_classes  # number 0 and number 1, and one class


def test_through_subsets_of_all_kinds(folder):
    sets = ours(folder)
    copy = names([[*find_duplicates(sets).across[0]]])
    at = [path.name for path in sets["test"].paths].index("copy.jpg")
    first = [path.name for path in image_folder(folder).paths].index("000.jpg")
    train = image_folder(folder)
    parts = [
        {"train": Subset(train, range(len(train))), "test": Subset(sets["test"], [at])},
        {
            "train": LabelledSubset(train, [first]),
            "test": ConcatDataset([sets["val"], sets["test"]]),
        },
        {"train": loader(train), "test": loader(Subset(Subset(sets["test"], [1, at]), [1]))},
        {"train": ConcatDataset([sets["val"], train]), "test": balanced_subset(sets["test"], 8)},
    ]
    for splits in parts:
        assert copy[0] in names(find_duplicates(splits).across), splits
    without = [index for index in range(len(train)) if train.paths[index].name != "000.jpg"]
    apart = find_duplicates({"train": Subset(train, without), "test": Subset(sets["test"], [at])})
    assert not apart.across


def test_known_hashes_are_used_and_only_files_of_equal_size_are_read(folder, monkeypatch):
    read = []
    real = duplicates.file_hash
    monkeypatch.setattr(duplicates, "file_hash", lambda path: read.append(path.name) or real(path))
    assert find_duplicates(ours(folder))
    assert read == []
    assert find_duplicates(theirs(folder))
    sizes = [path.stat().st_size for path in folder.rglob("*.jpg")]
    assert sorted(read) == sorted(
        path.name for path in folder.rglob("*.jpg") if sizes.count(path.stat().st_size) > 1
    )


def test_tensors_and_arrays_in_memory():
    pictures = torch.rand(10, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    train = TensorDataset(pictures[:6], torch.tensor([0, 1, 0, 1, 0, 1]))
    test = TensorDataset(pictures[4:].clone(), torch.tensor([0, 0, 0, 1, 0, 1]))
    found = find_duplicates({"train": train, "test": test})
    assert found.shared("train", "test") == 2
    assert names(found.in_two_classes) == [["number 5 of train", "number 1 of test"]]
    pairs = [(picture, 0) for picture in pictures]
    assert find_duplicates({"train": pairs[:5], "test": pairs[4:]}).shared("train", "test") == 1
    images = [(Image.fromarray(np.full((3, 3), level, np.uint8)), 0) for level in (1, 2, 1)]
    assert find_duplicates({"train": images[:2], "test": images[2:]}).shared("train", "test") == 1


def test_almost_equal_tensors_are_not_equal():
    one = torch.rand(1, 3, 40, 40)
    other = one.clone()
    other[0, 2, 39, 38] += 1e-4
    assert not find_duplicates({"train": TensorDataset(one), "test": TensorDataset(other)})
    half = TensorDataset(one.half())
    assert not find_duplicates({"train": TensorDataset(one.half().float()), "test": half})


class Odd(Dataset):
    def __init__(self, **attributes):
        self.__dict__ |= attributes

    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise RuntimeError("must not be asked for pictures: that may be slow, or random")


class Endless(IterableDataset):
    def __iter__(self):
        yield from ()


@pytest.mark.parametrize(
    "odd",
    [
        Odd(),
        Odd(paths=["a", "b"]),
        Odd(paths=[1, 2, 3]),
        Odd(paths=["/nowhere/a", "/nowhere/b", "/nowhere/c"], targets=[0, 0, 0]),
        Odd(samples=[("a",)] * 3),
        Odd(data=object()),
        Odd(data=torch.zeros(3, 5)),
        Endless(),
        Subset(Odd(), [99]),
        [1, 2, 3],
        ["a"],
        [],
        None,
        7,
        TensorDataset(torch.zeros(3, 2), torch.zeros(3)),
    ],
)
def test_about_other_data_sets_it_says_nothing(odd):
    found = find_duplicates({"train": odd, "test": odd})
    assert not found
    assert found.unknown == ("train", "test")
    assert found == Duplicates({"train": 0, "test": 0}, unknown=("train", "test"))


@pytest.mark.parametrize(
    "targets", [[None] * 3, ["x", "y", "x"], torch.eye(3), np.arange(3), [1.5] * 3]
)
def test_odd_labels_do_no_harm(tmp_path, save_picture, targets):
    paths = [os.fspath(save_picture(tmp_path / f"{n}.jpg", seed=n % 2)) for n in range(3)]
    found = find_duplicates({"train": Odd(paths=paths, targets=targets)})
    assert not found.across
    assert len(found.in_two_classes) == isinstance(targets, np.ndarray)  # numbers 0 and 2


def test_a_file_that_went_in_between_does_no_harm(folder):
    sets = theirs(folder)
    (folder / "test/ant/copy.jpg").unlink()
    assert find_duplicates(sets).unknown == ("test",)


def test_a_photograph_saved_again_at_another_size_is_told(make_folders):
    root = make_folders(GIVEN)
    levels = np.random.default_rng(5).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    photograph = Image.fromarray(levels).resize((300, 240))
    photograph.save(root / "train/ant/photograph.jpg", quality=92)
    photograph.resize((150, 120)).save(root / "test/ant/small.webp")
    photograph.resize((200, 160)).save(
        root / "train/ant/middle.jpg"
    )  # same split, same class: fine
    found = find_duplicates(ours(root))
    assert not found.across
    pairs = sorted(names(found.alike))
    assert pairs == [["train/ant/middle.jpg", "test/ant/small.webp"],
                     ["train/ant/photograph.jpg", "test/ant/small.webp"]]  # fmt: skip
    assert "2 pairs of pictures seem to be one photograph each" in str(found)
