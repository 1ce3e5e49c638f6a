"""The stages of the recipe: one trial of training, and averages of networks."""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from course_lib import freezing
from course_lib.recipe.facts import body_blocks
from course_lib.recipe.plan import Plan, Stage
from course_lib.training.batches import Data
from course_lib.training.history import History
from course_lib.training.loop import finetune
from course_lib.training.snapshot import named_tensors
from course_lib.training.staged import depth_rates, hold_statistics, pull_to_start, warm_up_and_fall


def run_stage(
    model: nn.Module,
    stage: Stage,
    rate: float,
    plan: Plan,
    head: str,
    train: Data,
    weights: Tensor,
    *,
    seed: int,
    device: torch.device,
    progress: bool | None,
) -> tuple[nn.Module, History]:
    """One trial: a copy of the model, trained as the stage says.

    Args:
        model: where it starts, giving scores (B, C); it is left alone.
        stage: what trains, and how.
        rate: learning rate of the head.
        plan: the numbers that all stages share.
        head: dotted name of the head.
        train: pictures (B, ...) and class numbers (B,) to train on.
        weights: (C,) what a picture of each class counts in the loss.
        seed: of the order of the pictures.
        device: where to compute.
        progress: show a bar or not; None: where somebody is watching.

    Returns:
        The copy, with the weights of its last epoch and nothing frozen, and the history.

    Raises:
        NonFiniteLossError: the rate was too high.
        TrainingError: model and pictures don't fit each other.
        UnknownNameError: the model has no part of a name in ``stage.thaw``.
    """
    trial = copy.deepcopy(model)
    loose = [name for name, _ in trial.named_parameters(recurse=False)]  # such as a class token
    rest = [each for each in (*body_blocks(trial, head), *loose) if each not in stage.thaw]
    if rest:
        freezing.freeze(trial, rest)
    held = hold_statistics(trial) if plan.hold_statistics else []
    rates = depth_rates(stage.thaw, rate, stage.depth_factor) | {head: rate}
    optimizer = torch.optim.SGD(_groups(trial, rates), lr=rate, momentum=plan.momentum)
    release = pull_to_start(optimizer, plan.pull) if plan.pull else None
    curve = warm_up_and_fall(plan.warm_up, stage.epochs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # thawing for good, with no optimizer left
        history = finetune(
            trial, train, epochs=stage.epochs, optimizer=optimizer,
            loss=nn.CrossEntropyLoss(weight=weights.float().to(device)),
            scheduler=lambda each: LambdaLR(each, curve), on_interrupt="raise", device=device,
            seed=seed, progress=progress,
        )  # fmt: skip
        if release:
            release()
        if rest or held:
            freezing.unfreeze(trial, [*rest, *held])
    return trial, history


@torch.no_grad()
def between(start: nn.Module, end: nn.Module, share: float) -> nn.Module:
    """A network whose weights lie on the way from one to the other: 0 is the start, 1 the end.

    Averages of two networks work as networks if one was trained from the other (M. Wortsman et
    al.: Robust fine-tuning of zero-shot models, CVPR 2022, arXiv:2109.01903). Whole numbers, such
    as BatchNorm's count of batches, are the end's.

    Args:
        start: a network.
        end: one with parameters and buffers of the same names and shapes.
        share: how far to go.

    Raises:
        KeyError: the start lacks a tensor that the end has.
        RuntimeError: tensors of one name differ in shape.
    """
    made = copy.deepcopy(end)
    first = dict(named_tensors(start))
    for name, tensor in named_tensors(made):
        if tensor.is_floating_point():
            tensor.copy_(torch.lerp(first[name], tensor, share))
    return made


def _groups(model: nn.Module, rates: dict[str, float]) -> list[dict[str, Any]]:
    """One parameter group for each part that trains; shared parameters go to the first."""
    groups, seen = [], set()
    for name, rate in rates.items():
        params = [each for each in model.get_submodule(name).parameters() if each.requires_grad]
        params = [each for each in params if id(each) not in seen]
        seen |= {id(each) for each in params}
        if params:
            groups.append({"params": params, "lr": rate, "name": name})
    return groups
