"""The real downloads of torchvision, from a server on loopback, with the hashes' real logic."""

import hashlib
import io
import json
import pickle
import tarfile

import numpy as np
import pytest
import torchvision
from PIL import Image

from course_lib import data
from course_lib.errors import OfflineError
from course_lib.evidence import fetching
from tests.data.loopback import Loopback


def packed(files):
    """A gzipped tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def photograph(stream, width, height):
    """A picture unlike all others, as JPEG with EXIF."""
    coarse = Image.fromarray(stream.integers(0, 255, (9, 9, 3), np.uint8))
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x010F] = "a maker of cameras"
    coarse.resize((width, height)).save(out, "JPEG", exif=exif)
    return out.getvalue()


def food():
    stream = np.random.default_rng(0)
    listed, files = {"train": {}, "test": {}}, {}
    for name in ("hot_dog", "pizza", "sushi"):
        first = photograph(stream, 512, 384)
        for number in range(8):
            split = "train" if number < 6 else "test"
            listed[split].setdefault(name, []).append(f"{name}/{number}")
            # Number 1 is number 0 once more.
            files[f"food-101/images/{name}/{number}.jpg"] = (
                first if number < 2 else photograph(stream, 512, 384)
            )
    for split, names in listed.items():
        files[f"food-101/meta/{split}.json"] = json.dumps(names).encode()
    return packed(files)


def cifar():
    stream = np.random.default_rng(0)
    names = [f"class {each}" for each in range(10)]
    files = {"batches.meta": pickle.dumps({"label_names": names})}
    for name in (*(f"data_batch_{each}" for each in range(1, 6)), "test_batch"):
        rows = stream.integers(0, 255, (10, 3072), np.uint8)
        files[name] = pickle.dumps({"data": rows, "labels": list(range(10))})
    lists = [[name, hashlib.md5(content).hexdigest()] for name, content in files.items()]
    whole = packed({f"cifar-10-batches-py/{name}": each for name, each in files.items()})
    return whole, lists


@pytest.fixture
def served(monkeypatch):
    """torchvision's own classes, with the addresses and hashes of two small archives."""
    meal, (pictures, lists) = food(), cifar()
    with Loopback(meal) as kitchen, Loopback(pictures) as gallery:
        kind = torchvision.datasets.Food101
        address = kitchen.url("good").replace("photos.zip", "food-101.tar.gz")
        monkeypatch.setattr(kind, "_URL", address)
        monkeypatch.setattr(kind, "_MD5", hashlib.md5(meal).hexdigest())
        kind = torchvision.datasets.CIFAR10
        monkeypatch.setattr(kind, "url", gallery.url("good"))
        monkeypatch.setattr(kind, "filename", "cifar.tar.gz")
        monkeypatch.setattr(kind, "tgz_md5", hashlib.md5(pictures).hexdigest())
        monkeypatch.setattr(kind, "train_list", lists[1:6])
        monkeypatch.setattr(kind, "test_list", lists[6:])
        meta = {**kind.meta, "filename": "batches.meta", "md5": lists[0][1]}
        monkeypatch.setattr(kind, "meta", meta)
        monkeypatch.setattr(fetching, "A_CLASS", 6)
        monkeypatch.setattr(fetching, "TRAIN", 4)
        yield


def test_both_sets_are_made_as_the_experiments_take_them(served, tmp_path):
    said = []
    fetching.fetch(tmp_path, said.append)
    for split, count in {"train": 8, "test": 4}.items():
        part = data.image_folder(tmp_path / "food_photographs", split)
        assert list(part.classes) == ["hotdog", "not-hotdog"]
        assert part.targets == sorted(part.targets)
        assert len(part) == count or split == "train"  # a part of train is split off as val
    every = sorted((tmp_path / "food_photographs").glob("*/*/*.jpg"))
    assert len(every) == 12
    assert len({path.read_bytes() for path in every}) == 12  # number 1 wasn't taken
    for path in every:
        with Image.open(path) as image:
            assert image.size == (288, 288)
            assert not image.getexif()
    small = list((tmp_path / "cifar10").glob("train/*/*.png"))
    assert len(small) == 50
    fetching.fetch(tmp_path, said.append)
    assert [line.split(" is ")[1] for line in said] == ["made."] * 2 + ["there already."] * 2


def test_an_archive_with_another_hash_makes_nothing(served, tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.Food101, "_MD5", "0" * 32)
    with pytest.raises(OfflineError, match="food_photographs could not be made"):
        fetching.fetch(tmp_path, lambda _: None)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == [
        "archives", "cifar10",
    ]  # fmt: skip
