"""The digits laboratory: parts that don't overlap, runs that repeat, budgets that are equal."""

import pytest
import torch
from torch.nn import functional as F

from course_lib.evidence import EvidenceError, digits


def rows_of(part):
    return {tuple(each.flatten().tolist()) for each in part.images}


def test_the_parts_share_no_picture_and_smaller_tasks_are_nested():
    task, smaller = digits.target_task(3, 100), digits.target_task(3, 25)
    parts = [task.train, task.val, task.test]
    assert [len(each) for each in parts] == [100, digits.VALIDATION, digits.TEST]
    for place, first in enumerate(parts):
        for second in parts[place + 1 :]:
            assert not rows_of(first) & rows_of(second)
    assert rows_of(smaller.train) <= rows_of(task.train)
    assert torch.equal(smaller.test.images, task.test.images)
    assert smaller.train.targets.bincount().tolist() == [5] * 5


def test_seeds_draw_other_pictures():
    first, second = digits.target_task(0, 25), digits.target_task(1, 25)
    assert rows_of(first.train) != rows_of(second.train)
    again = digits.target_task(0, 25)
    assert torch.equal(first.train.images, again.train.images)


@pytest.mark.parametrize("n", [7, 1000])
def test_amounts_that_can_not_be_had(n):
    with pytest.raises(EvidenceError, match="multiple of 5, at most 200"):
        digits.target_task(0, n)


@pytest.mark.parametrize("seed", range(8))
def test_every_seed_has_200_pictures_to_train_on(seed):
    assert len(digits.target_task(seed, 200).train) == 200


def test_changes_keep_the_pictures_labels():
    stream = torch.Generator().manual_seed(0)
    images = torch.rand(4, 1, 8, 8)
    shuffled = digits.shuffled_pixels(images, stream)
    assert torch.equal(shuffled.flatten(1).sort().values, images.flatten(1).sort().values)
    assert not torch.equal(shuffled, images)
    turned = digits.turned_inverted_noisy(images, stream)
    assert float((turned - (1 - images.rot90(1, (2, 3)))).std()) == pytest.approx(0.2, abs=0.05)


@pytest.fixture
def task(monkeypatch):
    monkeypatch.setattr(digits, "SOURCE_STEPS", 10)
    digits._source.cache_clear()
    yield digits.target_task(0, 25)
    digits._source.cache_clear()


def test_training_repeats_and_leaves_the_global_stream_alone(task):
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    first, second = (
        digits.fit(digits.pretrained(0), task.train, 0.03, 12, seed=4) for _ in range(2)
    )
    assert torch.equal(torch.rand(1), expected)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_frozen_layers_stay_and_reset_ones_are_new(task):
    start = digits.pretrained(0)
    model = digits.freeze(digits.pretrained(0), digits.BODY)
    digits.fit(model, task.train, 0.1, 5, seed=0)
    assert torch.equal(model.conv3.weight, start.conv3.weight)
    assert not torch.equal(model.fc.weight, start.fc.weight)
    anew = digits.reset(digits.pretrained(0), ("conv3", "fc"), 0)
    assert torch.equal(anew.conv2.weight, start.conv2.weight)
    assert not torch.equal(anew.conv3.weight, start.conv3.weight)


def test_rate_zero_in_the_body_moves_only_the_head(task):
    start, model = digits.pretrained(0), digits.pretrained(0)
    digits.fit(model, task.train, 0.1, 5, seed=0, body_factor=0.0)
    assert torch.equal(model.conv1.weight, start.conv1.weight)
    assert not torch.equal(model.fc.weight, start.fc.weight)


def test_a_sum_is_a_mean_at_a_larger_rate(task):
    part = digits.Part(task.train.images[:16], task.train.targets[:16])
    by_sum = digits.fit(digits.pretrained(0), part, 0.001, 3, seed=0, reduction="sum")
    by_mean = digits.fit(digits.pretrained(0), part, 0.016, 3, seed=0)
    torch.testing.assert_close(by_sum.fc.weight, by_mean.fc.weight, atol=1e-5, rtol=1e-4)


def test_the_best_is_chosen_by_validation_and_not_by_test():
    a, b, c = (
        digits.Score(val, loss, test, torch.nn.Sequential())
        for val, loss, test in [(0.8, 1.0, 0.99), (0.9, 1.0, 0.5), (0.9, 0.5, 0.4)]
    )
    assert digits.best([a, b, c]) is c


def test_steps_until_a_level():
    found = digits.Score(0, 0, 0, torch.nn.Sequential(), (0.2, 0.8, 0.7))
    assert digits.steps_until(found, 0.8) == 20
    assert digits.steps_until(found, 0.9) == 40


def test_tuning_tries_every_rate_from_the_same_start(task):
    starts = []

    def start():
        starts.append(digits.pretrained(0))
        return starts[-1]

    found = digits.tuned(start, task, 0, (0.01, 0.1), steps=20, watch=True)
    assert len(starts) == 2
    assert len(found.course) == 2
    expected = digits.look(found.model, task.test)[0]
    assert found.test == expected
    with torch.no_grad():
        scores = found.model(task.test.images)
        loss = float(F.cross_entropy(found.model(task.val.images), task.val.targets))
    assert float((scores.argmax(1) == task.test.targets).double().mean()) == expected
    assert digits.look(found.model, task.val)[1] == pytest.approx(loss)
