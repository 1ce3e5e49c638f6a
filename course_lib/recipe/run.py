"""One call from a folder of pictures to a trained network: measure, plan, train, report.

::

    run = recipe.fit("my_pictures", save_to="mine.safetensors")

The head is trained first, on features that are computed once. Then parts of the body are let go,
with learning rates by depth, and after each trial the head is fitted anew on the features that came
out. Each stage has to win on validation pictures.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

from course_lib import backbones, profile
from course_lib.recipe.plan import Facts, Plan, Stage, body_blocks, check, make_plan
from course_lib.recipe.report import RecipeRun, Step
from course_lib.recipe.stages import (
    Candidate,
    Shuffled,
    between,
    linear_heads,
    run_stage,
    separated,
    stacked,
)
from course_lib.training.errors import NonFiniteLossError, TrainingError
from course_lib.training.evaluation import evaluate, predict
from course_lib.weights.saving.save import check_ending

BUDGET = 1000
"""Pictures to pass through the network in training: under a minute of a laptop's processor."""

IN_MEMORY = 2000  # validation pictures up to this number are prepared once and kept

LOOK_BATCH = 64

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
    data = _gather(train, val, test, augmented, model, size)
    network = _network(data, model).to(place)
    head = _head_name(network)
    rows = _features(network, data.train, cache, progress)
    facts = _measure(rows, network, head)
    chosen = _choose(make_plan(facts, settings.batch_size, budget or BUDGET), plan, changes)
    say(f"The plan\n{chosen}")
    run = RecipeRun(network, data.classes, facts, chosen)
    if not plan_only:
        _Follow(run, data, head, place, seed, progress).go(
            rows, _features(network, data.val, cache, progress)
        )
        run.test = None if data.test is None else evaluate(run.model, data.test, device=place)
        if save_to is not None:
            run.path = _save(run, Path(save_to), data)
        run.seconds = time.perf_counter() - began
        say(run.report())
    return run


@dataclass(frozen=True)
class _Pictures:
    """The data of a run."""

    train: Dataset[Any]
    augmented: Dataset[Any]
    val: Dataset[Any]
    test: Dataset[Any] | None
    classes: tuple[str, ...]
    backbone: str = ""


@dataclass
class _Follow:
    """A plan being followed."""

    run: RecipeRun
    data: _Pictures
    head: str
    place: torch.device
    seed: int
    progress: bool | None
    stopped: bool = False
    best: tuple[float, float] = (0.0, -math.inf)  # rank of the run's model

    def go(self, rows: Any, val_rows: Any) -> None:
        self.came_with = self.run.model
        self.val = _in_memory(self.data.val)
        self.batches: Any = self.data.augmented
        if self.data.augmented is self.data.train and len(rows) <= IN_MEMORY:
            size = self.run.plan.batch_size  # nothing changes from epoch to epoch but the order
            self.batches = Shuffled(*stacked(self.data.train), size)
        self.train_head(rows, val_rows)
        for stage in self.run.plan.stages:
            if self.stopped:
                break
            self.train_stage(stage)

    def train_head(self, rows: Any, val_rows: Any) -> None:
        began = time.perf_counter()
        best = max(self.heads(self.came_with, rows, val_rows), key=lambda each: each.rank)
        self.run.model, self.best = best.build(), best.rank
        self.run.val = evaluate(self.run.model, self.val, device=self.place)
        self.enter("head", best, True, began, 0)

    def heads(self, body: nn.Module, rows: Any, val_rows: Any) -> list[Candidate]:
        """A body with a head fitted on its features, for each penalty."""
        fitted = linear_heads(rows, len(self.data.classes), self.run.plan.penalties)
        return [
            Candidate(
                f"penalty {penalty:g}",
                layer(val_rows.values).detach(),
                val_rows.targets,
                partial(_with_head, body, layer, self.head),
            )
            for penalty, layer in fitted
        ]

    def train_stage(self, stage: Stage) -> None:
        """Try each rate from the stage's first weights; keep the best, if it wins."""
        began, start = time.perf_counter(), self.run.model
        if stage.new_head:
            start = copy.deepcopy(self.came_with)
            backbones.replace_head(start, len(self.data.classes), seed=self.seed, head=self.head)
        found: list[Candidate] = []
        passes = 0
        for rate in stage.rates:
            try:
                trial, history = run_stage(
                    start, stage, rate, self.run.plan, self.head, self.batches, self.val,
                    seed=self.seed, device=self.place, progress=self.progress,
                )  # fmt: skip
            except NonFiniteLossError as error:
                self.run.remarks.append(
                    f"{stage.name}: rate {rate:g} was too high (epoch {error.epoch})."
                )
                continue
            self.stopped = history.stopped.startswith("interrupted")
            refit = self.run.plan.refit and not self.stopped  # you wanted it to end
            passes += (len(history) + refit) * len(self.data.train)  # type: ignore[arg-type]
            outcomes = self.outcomes(start, trial, refit)
            found += [each.named(f"rate {rate:g}, ") for each in outcomes]
            if self.stopped:
                self.run.remarks.append("You stopped it; the best weights so far are kept.")
                break
        if not found:
            return
        winner = max(found, key=lambda each: each.rank)
        wins = winner.rank > self.best
        if wins:
            self.run.model, self.best = winner.build().eval(), winner.rank
            self.run.val = evaluate(self.run.model, self.val, device=self.place)
        self.enter(stage.name, winner, wins, began, passes)

    def outcomes(self, start: nn.Module, trial: nn.Module, refit: bool) -> list[Candidate]:
        """What a trial offers: averages with its start, itself, and itself with a fitted head."""
        found = []
        for share in self.run.plan.shares:
            mixed = trial if share == 1 else between(start, trial, share)
            seen = predict(mixed, self.val, device=self.place)
            words = "all of the way" if share == 1 else f"{share:g} of the way"
            build = partial(between, start, trial, share)
            found.append(Candidate(words, seen.logits, seen.targets, build))
        if refit:
            train, val = (
                _features(trial, part, False, self.progress)
                for part in (self.data.train, self.data.val)
            )
            found += [each.named("head fitted anew, ") for each in self.heads(trial, train, val)]
        return found

    def enter(self, name: str, what: Candidate, kept: bool, began: float, passes: int) -> None:
        seconds = time.perf_counter() - began
        accuracy, loss = what.rank[0], -what.rank[1]
        self.run.steps.append(Step(name, what.setting, accuracy, loss, kept, seconds, passes))


def _gather(
    train: Folder | Dataset[Any],
    val: Dataset[Any] | None,
    test: Dataset[Any] | None,
    augmented: Dataset[Any] | None,
    model: str | nn.Module | None,
    size: int | None,
) -> _Pictures:
    """The data sets, and the names of the classes."""
    if isinstance(train, str | Path):
        if val is not None or augmented is not None:
            raise TrainingError("A folder brings its own splits: leave out val and augmented.")
        if isinstance(model, nn.Module):
            raise TrainingError(
                "With a folder, name the backbone, so that the pictures can be prepared for it: "
                "model='resnet18', say. With a network of your own, hand over data sets: "
                "data.image_folder(folder, split, transform)."
            )
        return _from_folder(Path(train), test, model, size)
    if val is None:
        raise TrainingError(
            "The recipe chooses by validation pictures: hand over val=..., apart from the test "
            "pictures, or a folder, which is divided by itself."
        )
    for name, part in (("training", train), ("validation", val), ("test", test)):
        if part is not None and len(part) == 0:  # type: ignore[arg-type]
            raise TrainingError(f"The {name} data set is empty; it needs at least one example.")
    backbone = "" if isinstance(model, nn.Module) else model or profile.current().backbone
    changing = train if augmented is None else augmented
    return _Pictures(train, changing, val, test, _classes_of(train), backbone)


def _classes_of(dataset: Any) -> tuple[str, ...]:
    """The names of the classes; their numbers, if the data set has no names."""
    if hasattr(dataset, "classes"):
        return tuple(map(str, dataset.classes))
    targets = getattr(dataset, "targets", None)
    if targets is None:
        targets = [dataset[place][1] for place in range(len(dataset))]
    return tuple(str(each) for each in range(int(max(targets)) + 1))


def _from_folder(
    root: Path, test: Dataset[Any] | None, model: str | None, size: int | None
) -> _Pictures:
    from course_lib import data

    name = model or profile.current().backbone
    see = backbones.preprocessing(name, size)
    plain = {split: data.image_folder(root, split, see.eval) for split in ("train", "val", "test")}
    mirrored = v2.Compose([v2.RandomHorizontalFlip(), see.eval])
    augmented = data.image_folder(root, "train", mirrored)
    return _Pictures(
        plain["train"],
        augmented,
        plain["val"],
        plain["test"] if test is None else test,
        plain["train"].classes,
        name,
    )


def _network(data: _Pictures, model: str | nn.Module | None) -> nn.Module:
    """The network to start from, a copy of what was handed over."""
    if isinstance(model, nn.Module):
        return copy.deepcopy(model).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the head is replaced before it counts
        made = backbones.load(data.backbone, num_classes=len(data.classes))
    return made.eval().to(memory_format=torch.channels_last)


def _head_name(model: nn.Module) -> str:
    return backbones.head_name(model)


def _features(model: nn.Module, part: Dataset[Any], cache: bool, progress: bool | None) -> Any:
    from course_lib import features  # here: that room builds on this one

    return features.extract(model, part, cache=cache, progress=progress)


def _measure(rows: Any, model: nn.Module, head: str) -> Facts:
    counts = torch.bincount(rows.targets)
    present = counts[counts > 0]
    return Facts(
        pictures=len(rows),
        classes=len(present),
        smallest=int(present.min()),
        separated=separated(rows),
        largest_share=float(present.max() / len(rows)),
        blocks=body_blocks(model, head),
    )


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


def _with_head(body: nn.Module, layer: nn.Linear, name: str) -> nn.Module:
    """A copy of a network that has this head instead of its own."""
    from course_lib import features

    model = copy.deepcopy(body)
    device = model.get_submodule(name).weight.device
    features.head_into(model, copy.deepcopy(layer).to(device), name)  # type: ignore[arg-type]
    return model.eval()


def _in_memory(part: Dataset[Any]) -> Any:
    """Batches that needn't be prepared again at every look."""
    if len(part) > IN_MEMORY:  # type: ignore[arg-type]
        return part
    images, targets = stacked(part)
    return list(zip(images.split(LOOK_BATCH), targets.split(LOOK_BATCH), strict=True))


def _save(run: RecipeRun, path: Path, data: _Pictures) -> Path:
    from course_lib.weights import save_weights

    assert run.val is not None
    metrics = {"validation accuracy": run.val.accuracy}
    if run.test is not None:
        metrics["test accuracy"] = run.test.accuracy
    return save_weights(
        run.model,
        path,
        what=f"{', '.join(run.classes)}: the recipe, kept after {run.kept!r}",
        source=data.backbone or type(run.model).__name__,
        metrics=metrics,
        extra={"classes": list(run.classes), "backbone": data.backbone, "plan": str(run.plan)},
    )
