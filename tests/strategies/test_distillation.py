"""Distillation beside torch's own divergence, a formula by hand, and what it leaves alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.strategies import distillation
from course_lib.strategies.inserts import StrategyError
from tests.strategies.conftest import copies, same


@pytest.fixture
def scores():
    stream = torch.Generator().manual_seed(0)
    student = torch.randn(6, 5, generator=stream, requires_grad=True)
    return student, 3 * torch.randn(6, 5, generator=stream), torch.arange(6) % 5


def network(seed, width=4):
    """With everything that a mode changes: running statistics and dropout."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.5),
        nn.Flatten(), nn.Linear(36 * width, 3),
    )  # fmt: skip


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_soft_loss_is_torchs_divergence(scores, temperature):
    student, teacher, _ = scores
    found = distillation.distillation_loss(student, teacher, None, temperature, 0.0)
    divergence = nn.KLDivLoss(reduction="batchmean")
    expected = divergence(
        (student / temperature).log_softmax(1), (teacher / temperature).softmax(1)
    )
    torch.testing.assert_close(found, temperature**2 * expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_its_gradient_is_t_times_the_difference_of_the_answers(scores, temperature):
    student, teacher, _ = scores
    distillation.distillation_loss(student, teacher, None, temperature, 0.0).backward()
    soft = [(each.detach() / temperature).softmax(1) for each in (student, teacher)]
    torch.testing.assert_close(student.grad, temperature * (soft[0] - soft[1]) / len(student))


def test_at_a_high_temperature_it_matches_scores_whatever_the_temperature(scores):
    """Hinton and others, section 2.1: the gradient tends to the difference of centred scores."""
    student, teacher = (each.detach().double() for each in scores[:2])
    student.requires_grad_(True)
    distillation.distillation_loss(student, teacher, None, 1e5, 0.0).backward()
    centred = [each.detach() - each.detach().mean(1, keepdim=True) for each in (student, teacher)]
    expected = (centred[0] - centred[1]) / 5 / len(student)
    torch.testing.assert_close(student.grad, expected, atol=1e-4, rtol=0.02)


def test_all_hard_is_cross_entropy_and_half_is_half(scores):
    student, teacher, targets = scores
    hard, half, soft = (
        distillation.distillation_loss(student, teacher, targets, 3.0, share)
        for share in (1.0, 0.5, 0.0)
    )
    torch.testing.assert_close(hard, F.cross_entropy(student, targets))
    torch.testing.assert_close(half, (hard + soft) / 2)


def test_no_gradient_goes_into_the_teacher(scores):
    student, teacher, targets = scores
    teacher.requires_grad_(True)
    distillation.distillation_loss(student, teacher, targets).backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("mode", [True, False])
def test_the_teacher_stays_as_it_is_and_answers_in_evaluation_mode(mode):
    teacher, images = network(0).train(mode), torch.randn(20, 1, 8, 8)
    before = copies(teacher)
    twin = network(0).eval()
    with torch.no_grad():
        expected = twin(images)
    torch.testing.assert_close(distillation.answers(teacher, images, batch_size=7), expected)
    student = network(1, width=2)
    start = copies(student)
    distillation.distil(student, teacher, images, torch.arange(20) % 3, steps=5)
    assert same(before, copies(teacher))
    assert all(each.training == mode for each in teacher.modules())
    assert all(each.grad is None for each in teacher.parameters())
    assert not student.training
    assert not same(start, copies(student))


def test_scores_computed_once_train_the_same_student():
    teacher, images = network(0), torch.randn(20, 1, 8, 8)
    ready = distillation.answers(teacher, images)
    students = []
    for given in (teacher, ready):
        torch.manual_seed(3)  # dropout of the student
        students.append(distillation.distil(network(1), given, images, hard_share=0.0, steps=6))
    for one, other in zip(*(each.parameters() for each in students), strict=True):
        torch.testing.assert_close(one, other)


def test_a_view_is_what_both_see():
    seen = {"teacher": [], "student": []}
    models = {name: network(0) for name in seen}
    for name, model in models.items():
        model.register_forward_pre_hook(lambda _, x, name=name: seen[name].append(x[0].clone()))
    images = torch.randn(9, 1, 8, 8)

    def view(batch, stream):
        return batch + torch.randn(batch.shape, generator=stream)

    distillation.distil(
        models["student"], models["teacher"], images, hard_share=0.0, steps=3, batch_size=9,
        view=view,
    )  # fmt: skip
    assert len(seen["student"]) == 3
    for one, other in zip(seen["student"], seen["teacher"], strict=True):
        assert torch.equal(one, other)
        assert not any(torch.equal(one[0], each) for each in images)


def test_soft_answers_alone_bring_the_student_to_the_teacher():
    torch.manual_seed(0)
    teacher, student, images = nn.Linear(4, 3), nn.Linear(4, 3), torch.randn(64, 4)

    def apart():
        return float((distillation.answers(teacher, images).softmax(1)
                      - distillation.answers(student, images).softmax(1)).abs().max())  # fmt: skip

    before = apart()
    distillation.distil(student, teacher, images, hard_share=0.0, rate=0.1, steps=300)
    assert apart() < 0.05 * before


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": 0.0}, "above 0"),
        ({"hard_share": 1.5}, "from 0 to 1"),
        ({"targets": None}, "no labels"),
        ({"teacher_scores": torch.zeros(6, 4)}, "one score a class"),
    ],
)
def test_what_is_refused(scores, settings, words):
    student, teacher, targets = scores
    given = {"teacher_scores": teacher, "targets": targets} | settings
    with pytest.raises(StrategyError, match=words):
        distillation.distillation_loss(student, **given)


def test_scores_of_other_pictures_are_refused():
    with pytest.raises(StrategyError, match="the teacher itself"):
        distillation.distil(
            network(0), torch.zeros(4, 3), torch.zeros(4, 1, 8, 8), view=lambda batch, _: batch
        )


def test_no_pictures_are_refused():
    with pytest.raises(StrategyError, match="no pictures"):
        distillation.distil(torch.nn.Linear(3, 2), torch.zeros(0, 2), torch.zeros(0, 3))
