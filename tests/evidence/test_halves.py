"""CIFAR-10's halves: who sees which picture, and what a corruption does, counted by hand."""

import pytest
import torch
from PIL import Image

from course_lib.evidence.studies import halves


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    """Ten classes of 20 pictures to learn from and 8 to be tested on, each of one colour."""
    root = tmp_path_factory.mktemp("photographs")
    for split, each in (("train", 20), ("test", 8)):
        for label in range(10):
            folder = root / halves.CIFAR / split / f"class {label}"
            folder.mkdir(parents=True)
            for number in range(each):
                colour = (25 * label, 12 * number, 200 if split == "test" else 0)
                Image.new("RGB", (32, 32), colour).save(folder / f"{number:02}.png")
    return root


@pytest.fixture
def small(cifar, monkeypatch):
    monkeypatch.setenv("COURSE_PHOTOGRAPHS", str(cifar))
    for name, value in {"CHOSEN_BY": 10, "TESTED": 20, "MANY": 90, "STEPS": 4, "MANY_STEPS": 6,
                        "SOURCE_STEPS": 3}.items():  # fmt: skip
        monkeypatch.setattr(halves, name, value)
    cached = (halves.whole, halves.task, halves.source)
    for each in cached:
        each.cache_clear()
    yield
    for each in cached:
        each.cache_clear()


def seen(part):
    """Each picture's colour, which tells its class, number and split."""
    return {tuple(each[:, 0, 0].tolist()) for each in part.images}


def test_the_task_has_the_other_five_classes_and_no_picture_twice(small):
    fewer, more = halves.task(3, 25), halves.task(3, 50)
    assert seen(fewer.train) <= seen(more.train)
    for its in (fewer, more):
        parts = [seen(each) for each in (its.train, its.val, its.test)]
        assert [len(each) for each in parts] == [len(its.train), 10, 20]
        assert not parts[0] & parts[1]
        for part in (its.train, its.val, its.test):
            assert part.targets.bincount().tolist() == [len(part) // 5] * 5
            red = ((part.images[:, 0, 0, 0] / 2 + 0.5) * 255 / 25).round().long()
            assert torch.equal(red - 5, part.targets)
    assert torch.equal(halves.task(3, 25).train.images, fewer.train.images)
    assert seen(halves.task(4, 25).train) != seen(fewer.train)


def test_the_source_has_the_first_five_classes_only(small):
    places, targets = halves.half("train", 0)
    assert len(places) == 100
    red = ((halves.whole("train").images[places, 0, 0, 0] / 2 + 0.5) * 255 / 25).round().long()
    assert torch.equal(red, targets)


def test_shuffled_pixels_are_the_same_pixels_in_one_order_for_all():
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    made = halves.shuffled(images, torch.Generator().manual_seed(1))
    assert torch.equal(made.flatten(2).sort().values, images.flatten(2).sort().values)
    at = torch.arange(1024.0).reshape(1, 1, 32, 32).expand(2, 3, 32, 32)
    order = halves.shuffled(at, torch.Generator().manual_seed(1))
    assert torch.equal(order[0, 0], order[1, 2])
    assert (order[0, 0].flatten() == torch.arange(1024)).double().mean() < 0.02


def test_every_arm_is_measured_and_the_costs_add_up(small):
    for way in ("scratch", "as it is", "shuffled pixels", "drawn labels"):
        found = halves.measured(0, way, 25)
        cost = sum(found[each.name] for each in halves.LOST) / 3
        assert found["corrupted"] == pytest.approx(float(found["test_accuracy"]) - cost)
        assert len(found["test_accuracy"].places) == 20
        assert found["rate"] in halves.RATES


def test_what_the_corruptions_do():
    stream = torch.Generator().manual_seed(0)
    images = 0.3 + 0.4 * torch.rand(64, 3, 32, 32, generator=stream)
    for strength, rise in enumerate((0.1, 0.2, 0.3)):
        assert torch.allclose(halves.brightness(images, strength, stream), images + rise)
    for strength, spread in enumerate((0.04, 0.08, 0.16)):
        added = halves.noise(images, strength, stream) - images
        assert added.std() == pytest.approx(spread, rel=0.02)
        assert abs(float(added.mean())) < 0.002
    for strength, side in enumerate((24, 16, 12)):
        assert len(halves.pixels(images, strength, stream)[0, 0].unique(dim=0)) == side
    for strength, share in enumerate((0.7, 0.5, 0.3)):
        kept = halves.contrast(images, strength, stream).std() / images.std()
        assert kept == pytest.approx(share, abs=0.01)
    spreads = [halves.blur(images, strength, stream).std() for strength in range(3)]
    assert images.std() > spreads[0] > spreads[1] > spreads[2]
    for each in halves.CORRUPTIONS:
        spoiled = halves.corrupted(images * 2 - 1, each, 2)
        assert spoiled.min() >= -1
        assert spoiled.max() <= 1
        assert torch.equal(spoiled, halves.corrupted(images * 2 - 1, each, 2))
