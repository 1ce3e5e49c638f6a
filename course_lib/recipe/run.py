"""One call from a folder of pictures to a trained network: measure, plan, train, report.

::

    run = recipe.fit("my_pictures", save_to="mine.safetensors")

A head is trained on features of the frozen network, at several sizes of the pictures. Then, if
there is time, parts of the body are let go, with learning rates by depth. Each stage has to beat
what was best before it by more than chance.
"""

import copy
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from course_lib import backbones, data, profile
from course_lib.recipe.calibration import temperature
from course_lib.recipe.facts import Facts, measure
from course_lib.recipe.following import Following
from course_lib.recipe.heads import ClassWeight
from course_lib.recipe.pictures import Pictures, gather, length
from course_lib.recipe.plan import PENALTIES, Plan, check, check_changes, make_plan
from course_lib.recipe.prediction import Predictor
from course_lib.recipe.report import UNSEEN, RecipeRun, calibrated, evaluation
from course_lib.recipe.saved import check_target
from course_lib.recipe.sizes import (
    RESERVED,
    Climb,
    Clock,
    Costs,
    Looked,
    look,
    measure_costs,
    sizes_of,
)
from course_lib.training.errors import OutOfMemoryError, TrainingError
from course_lib.training.memory import told_when_full

PRIOR = 4.0  # holds the temperature near 1 where few pictures tell; see calibration

SMALLER = "Give smaller pictures (size=...), or a smaller network (model=...)."

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
    minutes: float | None = 2,
    budget: int | None = None,
    class_weight: ClassWeight = "balanced",
    device: str | torch.device | None = None,
    seed: int | None = None,
    cache: bool = True,
    progress: bool | None = None,
    say: Say = print,
    plan_only: bool = False,
    **changes: Any,
) -> RecipeRun:
    """Fine-tune a network: measure the task, choose a plan, say why, follow it, report.

    The size of the pictures, the amount of data and the likeness of source and target are
    measured, not asked for. Every number of the plan can be changed: by name (``stages=()`` trains
    the head only), or the whole of it by ``plan``. Look at it first with ``plan_only=True``.

    All choices (size, penalty, rates, stages) are made by training and validation pictures. The
    test pictures are measured once, at the end. You may stop it (Ctrl-C): what was best by then is
    kept, reported and saved.

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
        save_to: a file for the network (``.safetensors`` or ``.pth``), to be opened again with
            :func:`course_lib.recipe.load`. Whether it can be written is tried at the start.
        size: side of the pictures in pixels, with a folder; by default several are tried.
        minutes: that it may take; None: as long as it takes. A few pictures are timed beforehand,
            and what won't fit isn't started. With very many pictures even the smallest size takes
            longer; that is said, and done.
        budget: instead, how many pictures may be trained on in the stages, all trials together
            (three whose features are only computed count like one). Then no clock is looked at, so
            that the same plan comes out everywhere.
        class_weight: ``"balanced"``: every class counts the same, in training and in choosing,
            however many pictures it has; None: every picture does.
        device: by default the profile's.
        seed: of the order of the pictures; by default the profile's.
        cache: keep the features on disk.
        progress: show bars or not; by default where somebody is watching.
        say: gets the plan, and at the end the result in a line; the run's ``report`` has the rest.
        plan_only: measure and plan, and train nothing.
        **changes: numbers of the plan, by their names in :class:`Plan`.

    Returns:
        The run, with the trained model.

    Raises:
        DataError: a folder that can't be used; see :func:`course_lib.data.image_folder`.
        UnknownNameError: no such backbone, or no such number in a plan.
        TrainingError: pictures, model and plan don't fit each other, no validation pictures, or
            too few to learn from.
        OutOfMemoryError: there is too little memory even for the smallest pictures.
        HeadError: the head can't be found.
        CheckpointError: ``save_to`` can't be written. Nothing was trained then.
        NotSavedError: it could be written at the start, and can't be at the end; the trained run
            is in the error's ``run``.
    """
    settings = profile.current()
    clock = Clock(math.inf if minutes is None or budget is not None else 60 * minutes)
    seed = settings.seed if seed is None else seed
    place = torch.device(settings.device if device is None else device)
    if isinstance(plan, Plan):
        size, class_weight = size or plan.size or None, plan.class_weight
        changes = {"penalties": plan.penalties} | changes
    penalties = tuple(changes.get("penalties", PENALTIES))
    _check_arguments(minutes, class_weight, changes)
    if save_to is not None:
        check_target(save_to)
    pictures = gather(train, val, test, augmented, model, size, cache, progress)
    copies = _copies(pictures)
    network = _network(pictures, model).to(place)
    head = backbones.head_name(network)
    if save_to is not None:
        check_target(save_to, sum(each.nbytes for each in network.state_dict().values()))
    with _threads(pictures.workers) as threads, told_when_full("in the recipe", SMALLER):
        costs, sizes = _prices(network, pictures, clock, say)
        climb = Climb()
        looked = climb.go(network, pictures, sizes, penalties, class_weight, costs, clock)
        affords = budget if budget is not None else _affords(looked, costs, clock)
        made = make_plan(
            facts_of(looked, network, head), climb, class_weight, penalties, settings.batch_size,
            affords, in_time=budget is None,
        )  # fmt: skip
        chosen = _choose(made, plan, changes)
        say(f"The plan\n{chosen}")
        if (chosen.size, chosen.class_weight, chosen.penalties) != (
            made.size, made.class_weight, made.penalties
        ):  # fmt: skip
            looked = look(
                network, pictures.at(chosen.size), chosen.size, chosen.penalties,
                chosen.class_weight,
            )  # fmt: skip
        facts = facts_of(looked, network, head)
        run = RecipeRun(network, pictures.classes, facts, chosen, threads=threads)
        run.interrupted = climb.interrupted
        run.remarks += copies
        if not plan_only:
            Following(run, looked, head, place, seed).go()
            _finish(run, looked.pictures, clock, save_to, say)
    return run


def facts_of(looked: Looked, network: nn.Module, head: str) -> Facts:
    """The facts about the pictures that were looked at."""
    parts = [length(looked.pictures.train), length(looked.pictures.val)]
    training, validation = looked.rows.targets.split(parts)
    return measure(looked.pictures.classes, training, validation, looked.answers, network, head)


def _check_arguments(
    minutes: float | None, class_weight: ClassWeight, changes: dict[str, Any]
) -> None:
    """Refuse what can be refused before anything is computed."""
    check_changes(changes)
    problems = []
    if minutes is not None and not minutes > 0:
        problems.append(f"minutes={minutes}; expected a number above 0, or None")
    if class_weight not in ("balanced", None):
        problems.append(f"class_weight={class_weight!r}; expected 'balanced' or None")
    if problems:
        raise TrainingError(f"The recipe can't start: {'; '.join(problems)}.")


def _copies(pictures: Pictures) -> list[str]:
    """A warning of pictures that are in two splits or two classes, if there are any."""
    parts = {"train": pictures.train, "val": pictures.val, "test": pictures.test}
    found = data.find_duplicates({name: each for name, each in parts.items() if each is not None})
    if not found:
        return []
    warnings.warn(str(found), data.DataWarning, stacklevel=3)
    return str(found).splitlines()


@contextmanager
def _threads(count: int) -> Iterator[int]:
    """torch's threads are so many inside; 0 leaves them. Gives how many there are."""
    before = torch.get_num_threads()
    try:
        if count:
            torch.set_num_threads(count)
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def _network(pictures: Pictures, model: str | nn.Module | None) -> nn.Module:
    """The network to start from, a copy of what was handed over."""
    if isinstance(model, nn.Module):
        return copy.deepcopy(model).eval()
    with profile.own_streams(seed=0):  # the head is replaced before it counts
        made = backbones.load(pictures.backbone, num_classes=len(pictures.classes))
    return made.eval().to(memory_format=torch.channels_last)


def _prices(
    network: nn.Module, pictures: Pictures, clock: Clock, say: Say
) -> tuple[Costs | None, tuple[int, ...]]:
    """What each size costs, said before it starts; and the sizes that may be tried."""
    own = pictures.preparation.size if pictures.preparation else 0
    sizes = (own,) if pictures.again is None else sizes_of(pictures.backbone)
    if clock.seconds == math.inf:
        return None, sizes
    costs = measure_costs(network, pictures, sizes)
    say(costs.described(pictures.counts, clock.seconds))
    return costs, tuple(costs.features)


def _affords(looked: Looked, costs: Costs | None, clock: Clock) -> int:
    """Pictures that can be trained on in the time that is left."""
    if costs is None:
        return sys.maxsize
    one = costs.features[looked.trial.size]
    tested = looked.pictures.counts[1]
    return int(max(0.0, (clock.left - tested * one) * (1 - RESERVED)) / (one * costs.training))


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


def _finish(
    run: RecipeRun, pictures: Pictures, clock: Clock, save_to: Folder | None, say: Say
) -> None:
    """Measure what came out, save it, report."""
    unseen, layer = run.unseen, run.layer
    assert unseen is not None
    assert layer is not None
    if run.interrupted:
        run.remarks.append("You stopped it; what was best by then is kept.")
    logits, targets, on = unseen.logits, unseen.targets, UNSEEN
    cooled = temperature(logits, targets, unseen.weights, prior=PRIOR)
    run.val = evaluation(logits, targets, cooled)
    if pictures.test is not None:
        try:
            rows = pictures.features(run.model, pictures.test)
            logits, targets, on = layer(rows.values).detach(), rows.targets, "the test pictures"
            run.test = evaluation(logits, targets, cooled)
        except KeyboardInterrupt:
            run.interrupted = True
            run.remarks.append("You stopped it before the test pictures were measured.")
        except OutOfMemoryError as error:
            run.remarks.append(f"The test pictures weren't measured. {error}")
    run.calibration = calibrated(logits, targets, cooled, on)
    about = {"backbone": pictures.backbone, "plan": str(run.plan), "result": run.result()}
    run.predictor = Predictor(
        run.model, run.classes, pictures.preparation, cooled, about=about
    )  # fmt: skip
    run.seconds = clock.spent
    try:
        if save_to is not None:
            run.save(save_to)
    finally:
        say(repr(run))
