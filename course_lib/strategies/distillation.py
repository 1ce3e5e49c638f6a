"""Distillation: a small network, the student, learns the answers of a large one, the teacher.

The teacher's scores are softened by a temperature, so that the student also sees which wrong
classes the teacher held for possible. Soft answers need no labels: any picture will do.

Sources: G. Hinton, O. Vinyals, J. Dean: Distilling the Knowledge in a Neural Network, 2015,
arXiv:1503.02531; a student like its teacher: T. Furlanello et al.: Born Again Neural Networks,
ICML 2018, arXiv:1805.04770; teacher and student see the same view of a picture: L. Beyer et al.:
Knowledge Distillation: A Good Teacher Is Patient and Consistent, CVPR 2022, arXiv:2106.05237.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.profile import seeded_generator
from course_lib.strategies.inserts import StrategyError
from course_lib.training.evaluation import evaluation_mode

Student = TypeVar("Student", bound=nn.Module)
View = Callable[[Tensor, torch.Generator], Tensor]
"""Pictures (B, ...) to a changed view of them, drawn from the stream."""


def distillation_loss(
    student_scores: Tensor,
    teacher_scores: Tensor,
    targets: Tensor | None = None,
    temperature: float = 4.0,
    hard_share: float = 0.5,
) -> Tensor:
    """``hard_share`` of cross-entropy with the labels, the rest with the teacher's soft answers.

    The soft part is ``T² KL(softmax(teacher / T) || softmax(student / T))``, a mean over the batch.
    Its gradients shrink with 1/T²; the factor T² keeps the two parts in proportion.

    Args:
        student_scores: (B, K), before any softmax.
        teacher_scores: (B, K); no gradient goes into them.
        targets: class numbers (B,); they may be missing if ``hard_share`` is 0.
        temperature: T, above 0. At 1 the answers are as they are; higher is softer.
        hard_share: from 0 (the teacher alone) to 1 (plain cross-entropy).

    Raises:
        StrategyError: unequal shapes, a temperature or share out of range, or no labels for the
            hard part.
    """
    if student_scores.shape != teacher_scores.shape:
        raise StrategyError(
            f"The student's scores are {tuple(student_scores.shape)}, the teacher's "
            f"{tuple(teacher_scores.shape)}; expected one score a class from both, in one order."
        )
    if temperature <= 0 or not 0 <= hard_share <= 1:
        raise StrategyError(
            f"temperature is {temperature} and hard_share {hard_share}; expected a temperature "
            "above 0 and a share from 0 to 1."
        )
    if hard_share and targets is None:
        raise StrategyError("There are no labels for the hard part: give targets, or hard_share=0.")
    soft = temperature**2 * F.kl_div(
        F.log_softmax(student_scores / temperature, dim=1),
        F.log_softmax(teacher_scores.detach() / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    if targets is None or hard_share == 0:
        return soft
    return hard_share * F.cross_entropy(student_scores, targets) + (1 - hard_share) * soft


@torch.no_grad()
def answers(teacher: nn.Module, images: Tensor, batch_size: int = 64) -> Tensor:
    """The teacher's scores (N, K) for images (N, ...), in evaluation mode; it stays as it is."""
    with evaluation_mode(teacher):
        return torch.cat([teacher(each) for each in images.split(batch_size)])


def distil(
    student: Student,
    teacher: nn.Module | Tensor,
    images: Tensor,
    targets: Tensor | None = None,
    *,
    temperature: float = 4.0,
    hard_share: float = 0.5,
    rate: float = 0.03,
    steps: int = 200,
    batch_size: int = 16,
    view: View | None = None,
    seed: int = 0,
) -> Student:
    """Train a student by SGD with momentum 0.9 on :func:`distillation_loss`.

    Args:
        student: gives scores (B, K); trained in place.
        teacher: a network with the same K classes, asked about the very batch that the student
            sees; or its scores (N, K) for all pictures, computed once.
        images: (N, ...), with labels or without.
        targets: class numbers (N,); None if ``hard_share`` is 0.
        temperature: see :func:`distillation_loss`.
        hard_share: likewise.
        rate: learning rate.
        steps: how many.
        batch_size: pictures a step; the last batch of a pass may be smaller.
        view: changes a batch before teacher and student see it.
        seed: of the order and the views.

    Returns:
        The student, in evaluation mode.

    Raises:
        StrategyError: see :func:`distillation_loss`; no pictures; or a ``view`` with scores
            computed before it.
    """
    if isinstance(teacher, Tensor) and view is not None:
        raise StrategyError(
            "Scores computed once don't fit pictures that change: give the teacher itself."
        )
    if not len(images):
        raise StrategyError("There are no pictures to learn from.")
    optimizer = torch.optim.SGD(
        [each for each in student.parameters() if each.requires_grad], lr=rate, momentum=0.9
    )
    stream, waiting = seeded_generator(seed), list[Tensor]()
    student.train()
    for _ in range(steps):
        waiting = waiting or list(torch.randperm(len(images), generator=stream).split(batch_size))
        rows = waiting.pop(0)
        batch = view(images[rows], stream) if view else images[rows]
        soft = teacher[rows] if isinstance(teacher, Tensor) else answers(teacher, batch)
        hard = None if targets is None else targets[rows]
        loss = distillation_loss(student(batch), soft, hard, temperature, hard_share)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student.eval()
