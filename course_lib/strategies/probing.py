"""LP-FT: a linear probe first, then fine-tuning of everything from there.

Source: A. Kumar et al.: Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution, ICLR 2022, arXiv:2202.10054.
"""

from typing import Any

from torch import nn

from course_lib import freezing, training
from course_lib.freezing.select import Names
from course_lib.strategies.subsets import train_only
from course_lib.training.batches import Data
from course_lib.training.history import History


def probe_then_tune(
    model: nn.Module,
    train: Data,
    head: Names,
    *,
    probe: dict[str, Any],
    tune: dict[str, Any],
    **both: Any,
) -> tuple[History, History]:
    """Train the head on the frozen body, then everything.

    Args:
        model: a pretrained body with a new head, giving scores (B, C); trained in place, and
            nothing is frozen afterwards that wasn't before.
        train: pictures (B, ...) and class numbers (B,).
        head: name of the head.
        probe: settings of :func:`course_lib.training.finetune` for the first stage.
        tune: likewise for the second; its rate is usually the smaller one.
        **both: settings of both, such as ``val`` and ``seed``.

    Returns:
        The histories of the two stages.

    Raises:
        UnknownNameError: no such head; nothing has been changed.
        TrainingError: model, pictures or settings don't fit each other.
    """
    train_only(model, head)
    try:
        first = training.finetune(model, train, **probe, **both)
    finally:
        freezing.unfreeze(model, "*")
    return first, training.finetune(model, train, **tune, **both)
