"""One call from a folder of pictures to a trained network: measure, plan, train, report.

::

    run = recipe.fit("my_pictures", save_to="mine.safetensors")

The head is trained first, on features that are computed once. Then parts of the body are let go,
with learning rates by depth, and after each trial the head is fitted anew on the features that came
out. Each stage has to win on validation pictures.
"""

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from course_lib import backbones, features, profile
from course_lib.recipe.facts import measure
from course_lib.recipe.following import Following
from course_lib.recipe.pictures import Pictures, for_measuring, for_training, gather
from course_lib.recipe.plan import Plan, check, make_plan
from course_lib.recipe.report import RecipeRun
from course_lib.training.errors import TrainingError
from course_lib.training.evaluation import evaluate
from course_lib.weights import save_weights
from course_lib.weights.saving.save import check_ending

BUDGET = 1000
"""Pictures to pass through the network in training: under a minute of a laptop's processor."""

Say = Callable[[str], object]
Folder = str | Path


def fit(
    train: Folder | Dataset[Any],
    val: Dataset[Any] | None = None,
    test: Dataset[Any] | None = None,
    *,
    model: str | nn.Module | None = None,
    augmented: Dataset[Any] | None = None,
    plan: Plan | Callable[[Plan], Plan] | None = None,
    save_to: Folder | None = None,
    size: int | None = None,
    budget: int | None = None,
    device: str | torch.device | None = None,
    seed: int | None = None,
    cache: bool = True,
    progress: bool | None = None,
    say: Say = print,
    plan_only: bool = False,
    **changes: Any,
) -> RecipeRun:
    """Fine-tune a network: measure the task, choose a plan, say why, follow it, report.

    The amount of data and the likeness of source and target are measured, not asked for. Every
    number of the plan can be changed: by name (``stages=()`` trains the head only), or the whole
    of it by ``plan``. Look at it first with ``plan_only=True``.

    All choices (penalty, rates, epoch, stage) are made by the validation pictures. The test
    pictures are looked at once, at the end.

    Args:
        train: a folder (see :func:`course_lib.data.image_folder`; what isn't divided is divided),
            or a Dataset whose pictures come out the same every time.
        val: Dataset to choose by; with a folder, its own.
        test: Dataset to measure by once; with a folder, its own. May be left out.
        model: name of a backbone, or a network with a head for as many classes (it is left
            alone); by default the profile's backbone.
        augmented: the training pictures with random changes, for the stages that train the body.
            With a folder: mirrored every other time.
        plan: the plan to follow, or a function from the recipe's plan to yours.
        save_to: a file for the weights (``.safetensors`` or ``.pth``), with classes and results.
        size: side of the pictures in pixels, with a folder; by default the profile's.
        budget: how many pictures may pass through the network in training, all trials together;
            by default :data:`BUDGET`, or three passes over the data for each stage if that is more.
        device: by default the profile's.
        seed: of the order of the pictures; by default the profile's.
        cache: keep the features on disk.
        progress: show bars or not; by default where somebody is watching.
        say: gets the plan and the report as text.
        plan_only: measure and plan, and train nothing.
        **changes: numbers of the plan, by their names in :class:`Plan`.

    Returns:
        The run, with the trained model.

    Raises:
        DataError: a folder that can't be used; see :func:`course_lib.data.image_folder`.
        UnknownNameError: no such backbone, or no such number in a plan.
        TrainingError: pictures, model and plan don't fit each other, or no validation pictures.
        HeadError: the head can't be found.
        CheckpointError: ``save_to`` has another ending. Nothing was trained then.
    """
    began = time.perf_counter()
    settings = profile.current()
    seed = settings.seed if seed is None else seed
    place = torch.device(settings.device if device is None else device)
    if save_to is not None:
        check_ending(Path(save_to))
    pictures = gather(train, val, test, augmented, model, size)
    network = _network(pictures, model).to(place)
    head = backbones.head_name(network)
    rows = features.extract(network, pictures.train, cache=cache, progress=progress)
    facts = measure(rows, network, head)
    chosen = _choose(make_plan(facts, settings.batch_size, budget or BUDGET), plan, changes)
    say(f"The plan\n{chosen}")
    run = RecipeRun(network, pictures.classes, facts, chosen)
    if not plan_only:
        val_rows = features.extract(network, pictures.val, cache=cache, progress=progress)
        measured = for_measuring(pictures.val)
        batches = for_training(pictures, chosen.batch_size)
        Following(run, pictures, batches, measured, head, place, seed, progress).go(rows, val_rows)
        if pictures.test is not None:
            run.test = evaluate(run.model, pictures.test, device=place)
        if save_to is not None:
            run.path = _save(run, Path(save_to), pictures.backbone)
        run.seconds = time.perf_counter() - began
        say(run.report())
    return run


def _network(pictures: Pictures, model: str | nn.Module | None) -> nn.Module:
    """The network to start from, a copy of what was handed over."""
    if isinstance(model, nn.Module):
        return copy.deepcopy(model).eval()
    with profile.own_streams(seed=0):  # the head is replaced before it counts
        made = backbones.load(pictures.backbone, num_classes=len(pictures.classes))
    return made.eval().to(memory_format=torch.channels_last)


def _choose(
    made: Plan, plan: Plan | Callable[[Plan], Plan] | None, changes: dict[str, Any]
) -> Plan:
    """The recipe's plan, or yours, with the changes."""
    chosen = plan if isinstance(plan, Plan) else made if plan is None else plan(made)
    if not isinstance(chosen, Plan):
        raise TrainingError(
            f"plan must be a Plan, or a function from a plan to one; got {type(chosen).__name__}."
        )
    check(chosen)
    return chosen.changed(**changes)


def _save(run: RecipeRun, path: Path, backbone: str) -> Path:
    assert run.val is not None
    metrics = {"validation accuracy": run.val.accuracy}
    if run.test is not None:
        metrics["test accuracy"] = run.test.accuracy
    return save_weights(
        run.model,
        path,
        what=f"{', '.join(run.classes)}: the recipe, kept after {run.kept!r}",
        source=backbone or type(run.model).__name__,
        metrics=metrics,
        extra={"classes": list(run.classes), "backbone": backbone, "plan": str(run.plan)},
    )
