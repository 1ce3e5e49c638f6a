"""The laboratories of distillation and of pretraining without labels: who sees which picture."""

import copy

import pytest
import torch

from course_lib.evidence import EvidenceError, digits
from course_lib.evidence.studies import distillation, hops, unlabelled


def rows_of(images):
    return {tuple(each.flatten().tolist()) for each in images}


def test_own_pictures_hold_the_labelled_ones_and_none_of_the_test():
    own = rows_of(unlabelled.own_pictures(3))
    task = digits.target_task(3, 50)
    assert rows_of(task.train.images) <= own
    assert not own & rows_of(task.val.images)
    assert not own & rows_of(task.test.images)
    assert 280 < len(own) < 310


def test_pretraining_moves_the_body_and_leaves_the_head_alone(monkeypatch):
    monkeypatch.setattr(unlabelled, "STEPS", 3)
    images = unlabelled.own_pictures(0)
    for way in (unlabelled.rotation, unlabelled.contrast):
        start = digits.new_network(0)
        made = way(copy.deepcopy(start), images, 0)
        assert torch.equal(made.fc.weight, start.fc.weight)
        for layer in digits.BODY:
            before, after = (each.get_submodule(layer).weight for each in (start, made))
            assert not torch.equal(before, after), (way, layer)


def test_every_start_has_a_probe_and_a_tuning_and_stays_as_it_was():
    starts = {"scratch": digits.new_network(0)}
    before = copy.deepcopy(starts["scratch"].state_dict())
    tasks = {n: digits.target_task(0, n) for n in (10, 25)}
    found = unlabelled.few_labels(starts, tasks, 0, (0.03,), 20)
    assert set(found) == set(unlabelled.all_arms(("scratch",), (10, 25)))
    after = starts["scratch"].state_dict()
    assert all(torch.equal(each, after[name]) for name, each in before.items())
    alone = digits.tuned(lambda: digits.new_network(0), tasks[10], 0, (0.03,), steps=20)
    assert found["scratch 10: tuned"]["test_accuracy"] == alone.test


def test_sizes_of_teacher_and_student():
    """Counted by hand from the widths, kernels and the 4 by 4 map in front of the head."""
    for width in (distillation.SMALL, distillation.LARGE):
        model = distillation.plain_network(width, 0)
        twice = 2 * width
        counted = (9 * width + width) + (9 * width * twice + twice) + (9 * twice**2 + twice)
        counted += 16 * twice * 10 + 10
        assert sum(each.numel() for each in model.parameters()) == counted
        assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert distillation.small_student(0)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_a_student_is_taught_by_answers_and_the_best_rate_is_chosen_by_validation(monkeypatch):
    """The teacher says 3 to everything: then so does the student, whatever the labels are."""
    monkeypatch.setattr(distillation, "STEPS", 30)
    monkeypatch.setattr(distillation, "RATES", (0.0, 0.003))
    images, labels, (_, *parts) = distillation.shift.ten_digits(0, per_class=2)
    task = digits.Task(*(digits.Part(images[each], labels[each]) for each in parts))
    scores = torch.zeros(20, 10).index_fill(1, torch.tensor([3]), 9.0)
    start = distillation.plain_network(distillation.SMALL, 0)
    threes = digits.Task(task.train, digits.Part(task.val.images, torch.full((200,), 3)), task.test)
    made = distillation.taught(start, scores, task.train.images, threes, 0)
    with torch.no_grad():
        assert set(made.model(task.test.images).argmax(1).tolist()) == {3}
    assert made.val == 1
    untouched = distillation.taught(start, -scores, task.train.images, threes, 0)  # 3 is the last
    assert untouched.val == digits.look(start, threes.val)[0]


def test_scores_of_a_linear_head_are_those_that_its_accuracy_comes_from():
    stream = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 6, generator=stream)

    def drawn(count):
        targets = torch.arange(count) % 4
        noise = torch.randn(count, 6, generator=stream)
        return digits.Part(centres[targets] + noise, targets)

    train, val, test = drawn(40), drawn(80), drawn(200)
    scores = distillation.linear_scores(train, val, test.images)
    assert scores.shape == (200, 4)
    right = float((scores.argmax(1) == test.targets).double().mean())
    assert right == pytest.approx(hops.linear_head(train, val, test))


def test_without_the_photographs_it_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    distillation.cifar10.cache_clear()
    with pytest.raises(EvidenceError, match=r"needs the photographs of .*cifar10"):
        distillation.photographs("train", range(5), 10, 0)
