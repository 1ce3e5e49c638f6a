"""What the recipe does with which data: facts that are measured, a plan with its reasons.

The plan is made of numbers that you can read and change; nothing is decided elsewhere.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

from course_lib.errors import UnknownNameError, suggest
from course_lib.recipe.facts import Facts
from course_lib.recipe.heads import ClassWeight
from course_lib.recipe.sizes import Climb, SizeTrial
from course_lib.text import counted, few, wrapped
from course_lib.training.errors import TrainingError

PENALTIES = (1.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Strengths of the head's L2 penalty. On photographs the best lay among them, from 10 to 500
training pictures a class."""

RATES = (0.001, 0.003, 0.01)
"""Learning rates of the head that are tried when all layers train; the middle one if only one can
be afforded."""

NEW_HEAD_RATES = (0.003, 0.01, 0.03)
"""The same for a head that is drawn anew, and so has farther to go."""

UNTRAINED = 3
"""So many pictures whose features are computed count like one that is trained on: the way back
through a network takes about twice as long as the way forth."""

MOST_EPOCHS, FEWEST_EPOCHS = 100, 2
ENOUGH_EPOCHS = 3  # with fewer for each rate, one rate has to do
AMPLE_EPOCHS = 8  # with so many for each rate, a new head is tried as well


@dataclass(frozen=True)
class Stage:
    """Training part of the body together with the head, from the best weights so far.

    Attributes:
        name: what it is called in the report.
        thaw: names of the body's parts that train; the others are frozen.
        rates: learning rates of the head; each is tried from the same weights, and the best by
            log-loss counts.
        depth_factor: the first of the network's parts learns at the head's rate times this, those
            in between at rates in between (in equal ratios).
        epochs: passes over the training pictures.
        new_head: start from the body as it came, with a head drawn anew, instead of from the best
            weights so far.
    """

    name: str
    thaw: tuple[str, ...]
    rates: tuple[float, ...]
    depth_factor: float
    epochs: int
    new_head: bool = False


@dataclass(frozen=True)
class Plan:
    """What will be done, and why.

    Attributes:
        sizes: the sizes of the pictures that were tried; the head is trained on the frozen
            features of ``size``.
        size: side of the pictures in pixels; 0: as the data sets give them.
        class_weight: ``"balanced"``: every class counts the same, in training and in choosing,
            however many pictures it has; None: every picture counts the same.
        penalties: strengths of the L2 penalty that are tried for a head.
        stages: what follows the head, in order; each is kept only if it beats what was best before
            by more than chance.
        folds: how they are compared: 1, by the validation pictures; more, by cross-validation.
        shares: how far to go from a stage's first weights (0) to its last (1): the averages that
            are tried, each with a head fitted anew on the features that come out.
        batch_size: of the stages.
        momentum: of SGD.
        pull: strength of the pull back to a stage's first weights (L2-SP); 0 for none.
        warm_up: epochs in which the learning rates rise; afterwards they fall along a cosine.
        hold_statistics: BatchNorm computes with its running statistics and leaves them.
        reasons: why, in sentences.
    """

    sizes: tuple[SizeTrial, ...]
    size: int
    class_weight: ClassWeight
    penalties: tuple[float, ...]
    stages: tuple[Stage, ...]
    folds: int
    shares: tuple[float, ...]
    batch_size: int
    momentum: float
    pull: float
    warm_up: int
    hold_statistics: bool
    reasons: tuple[str, ...]

    def passes(self, facts: Facts) -> int:
        """Pictures that pass through the network in the stages; see :data:`UNTRAINED`."""
        return sum(
            _passes(facts, self.folds, len(each.rates), each.epochs, len(self.shares))
            for each in self.stages
        )

    def changed(self, **changes: object) -> "Plan":
        """The same plan with other numbers.

        Raises:
            UnknownNameError: a plan has no such number.
            TrainingError: a number that makes no sense.
        """
        check_changes(changes)
        if changes and "reasons" not in changes:
            note = f"Set by hand, whatever is said above: {', '.join(changes)}."
            changes["reasons"] = (*self.reasons, note)
        made = replace(self, **changes)  # type: ignore[arg-type]
        check(made)
        return made

    def __str__(self) -> str:
        lines = [f"- {each}" for each in self.reasons]
        penalties = ", ".join(f"{each:g}" for each in self.penalties)
        side = f"of {self.size} pixels" if self.size else "as they come"
        weighted = "every class counts the same" if self.class_weight else "every picture does"
        lines.append(
            f"1. head: on frozen features of pictures {side}; {weighted} "
            f"(class_weight={self.class_weight!r}); L2 penalties tried: {penalties}"
        )
        for number, each in enumerate(self.stages, start=2):
            rates = ", ".join(f"{rate:g}" for rate in each.rates)
            lines.append(
                f"{number}. {each.name}: learning rate{'s' * (len(each.rates) > 1)} {rates} at the "
                f"head, times {each.depth_factor:g} at the first layer; "
                f"{counted(each.epochs, 'epoch')}"
            )
        return "\n".join(map(wrapped, lines))


def make_plan(
    facts: Facts,
    climb: Climb,
    class_weight: ClassWeight,
    penalties: tuple[float, ...],
    batch_size: int,
    budget: int,
    in_time: bool = False,
) -> Plan:
    """The plan for these facts, with the reason of each decision.

    Args:
        facts: what was measured.
        climb: the sizes of pictures that were tried, and the one that was chosen.
        class_weight: as in :class:`Plan`.
        penalties: likewise.
        batch_size: likewise.
        budget: pictures that may pass through the network in the stages, all trials together.
        in_time: the budget is what the time that is left allows.
    """
    shares = (0.5, 1.0)
    stages, about_stages = _stages(facts, budget, len(shares), in_time)
    reasons = [_about_amount(facts), *facts.warnings(), *_about_sizes(climb)]
    reasons += [_about_distance(facts), *about_stages]
    assert climb.chosen is not None
    if stages:
        reasons.append("BatchNorm, where there is some, keeps the statistics that it has.")
    return Plan(
        sizes=tuple(climb.trials), size=climb.chosen.trial.size, class_weight=class_weight,
        penalties=penalties, stages=stages, folds=facts.folds, shares=shares,
        batch_size=batch_size, momentum=0.9, pull=0.0, warm_up=1, hold_statistics=True,
        reasons=tuple(reasons),
    )  # fmt: skip


def _passes(facts: Facts, folds: int, rates: int, epochs: int, shares: int) -> int:
    """Pictures that pass through the network in one stage, as :attr:`Step.passes` counts them."""
    measured = shares * facts.pictures / UNTRAINED
    if folds == 1:
        return math.ceil(rates * (epochs * sum(facts.training) + measured))
    learned = facts.pictures * (folds - 1) / folds
    trials = rates * folds * (epochs * learned + measured)
    return math.ceil(trials + (epochs + 1 / UNTRAINED) * facts.pictures)  # once more, if it's kept


def _epochs(facts: Facts, budget: int, menu: Sequence[Stage], shares: int) -> int:
    """Epochs of each trial, if the budget is to last for all of them; below 1 if it doesn't."""
    none, one = (
        sum(_passes(facts, facts.folds, len(each.rates), epochs, shares) for each in menu)
        for epochs in (0, 1)
    )
    return (budget - none) // (one - none)


def _stages(
    facts: Facts, budget: int, shares: int, in_time: bool
) -> tuple[tuple[Stage, ...], list[str]]:
    """The stages after the head that can be afforded, and why these."""
    if not facts.blocks:
        return (), ["There is nothing before the head to train, so the head is all."]
    far = facts.distance == "far"
    late = facts.blocks[-max(1, len(facts.blocks) // 3) :]
    depth_factor = 1.0 if far else 0.3
    everything = Stage("all layers", facts.blocks, RATES, depth_factor, 1)
    anew = Stage("all at once, new head", facts.blocks, NEW_HEAD_RATES, 1.0, 1, new_head=True)
    part = Stage("last third", late, RATES[1:2], depth_factor, 1)
    one_rate = replace(everything, rates=RATES[1:2])
    first = [] if far else [part]
    menus = (
        ([everything, anew], AMPLE_EPOCHS, "all layers train after the head, and once more from a "
         "new head, each at three rates"),
        ([*first, everything], ENOUGH_EPOCHS, "all layers train at three rates" if far else
         "the body is let go in two stages, the last third first"),
        ([*first, one_rate], FEWEST_EPOCHS, "one learning rate a stage has to do"),
        ([one_rate if far else part], FEWEST_EPOCHS, "one stage at one learning rate has to do"),
    )  # fmt: skip
    for menu, least, words in menus:
        epochs = min(_epochs(facts, budget, menu, shares), MOST_EPOCHS)
        if epochs >= least:
            about = _about_stages(facts, budget, menu, words)
            return tuple(replace(each, epochs=epochs) for each in menu), about
    return (), [_about_too_little(facts, budget, menus[-1][0], shares, in_time)]


def _about_stages(facts: Facts, budget: int, menu: Sequence[Stage], words: str) -> list[str]:
    compared = (
        f"on the {counted(sum(facts.validation), 'validation picture')}"
        if facts.folds == 1
        else f"in cross-validation with {facts.folds} folds"
    )
    room = f"There is room to pass {counted(budget, 'picture')} through the network: {words}."
    return [
        *([room] if budget < sys.maxsize else []),
        "The rates fall towards the first layer."
        if menu[0].depth_factor < 1
        else "The features have to change from the first layer on: one rate for all layers.",
        "After each trial the head is fitted anew on the features that came out.",
        f"Each stage has to beat what was best before by more than chance, {compared}, or its "
        "weights are dropped.",
    ]


def _about_too_little(
    facts: Facts, budget: int, menu: Sequence[Stage], shares: int, in_time: bool
) -> str:
    needed = sum(
        _passes(facts, facts.folds, len(each.rates), FEWEST_EPOCHS, shares) for each in menu
    )
    budget = max(budget, 0)
    told = (
        f"The body isn't trained: a fair trial of its last third passes {needed:,} pictures "
        f"through the network, and there is room for {budget:,}."
    )
    if in_time:
        told += " With few pictures it seldom beats the head; more minutes would let it try."
    return told


def _about_amount(facts: Facts) -> str:
    words = {"few": "few", "some": "a fair number", "many": "many"}
    classes = sum(1 for each in facts.counts if each)
    listed = few(f"{name} {n}" for name, n in zip(facts.classes, facts.counts, strict=True))
    return (
        f"{counted(facts.pictures, 'picture')} to learn from ({sum(facts.training)} training, "
        f"{sum(facts.validation)} validation) in {counted(classes, 'class', 'classes')}: {listed}. "
        f"Of the smallest class there are {words[facts.amount]}."
    )


def _about_sizes(climb: Climb) -> list[str]:
    assert climb.chosen is not None
    if not climb.chosen.trial.size:
        return []
    tried = [f"{each}; {each.seconds:.0f} s" for each in climb.trials]
    why = " Of sizes that can't be told apart, the largest is taken." if len(tried) > 1 else ""
    taken = f"The pictures are taken at {climb.chosen.trial.size} pixels.{why}"
    return [*tried, *climb.reasons, taken]


def _about_distance(facts: Facts) -> str:
    words = {
        "close": "the source is close to this task",
        "middling": "the source helps, and leaves something to learn",
        "far": "the source is far from this task",
        "unclear": "too few pictures to tell how close the source is to this task",
    }
    guess = 1 / sum(1 for each in facts.counts if each)
    return (
        f"A linear layer on the frozen features has a balanced accuracy of {facts.separated} on "
        f"pictures it hasn't seen (guessing: {guess:.2f}): {words[facts.distance]}."
    )


def check_changes(changes: Mapping[str, object]) -> None:
    """Refuse names that a plan hasn't, and penalties that make no sense.

    Raises:
        UnknownNameError, TrainingError: as :meth:`Plan.changed`.
    """
    known = [each.name for each in fields(Plan)]
    for name in changes:
        if name not in known:
            raise UnknownNameError(
                f"A plan has no {name!r}; it has {', '.join(known)}.{suggest(name, known)}"
            )
    penalties = changes.get("penalties", PENALTIES)
    if not isinstance(penalties, tuple | list) or not penalties or min(penalties) <= 0:
        raise TrainingError(f"penalties={penalties!r}; expected one or more numbers above 0.")


def check(plan: Plan) -> None:
    """Refuse a plan with numbers that make no sense.

    Raises:
        TrainingError: it has some; the message says which.
    """
    problems = []
    if not plan.penalties or min(plan.penalties) <= 0:
        problems.append(f"penalties={plan.penalties}; expected one or more above 0")
    if not plan.shares or min(plan.shares) <= 0 or max(plan.shares) > 1:
        problems.append(f"shares={plan.shares}; expected numbers above 0 and up to 1")
    if plan.class_weight not in ("balanced", None):
        problems.append(f"class_weight={plan.class_weight!r}; expected 'balanced' or None")
    for name, least in (("batch_size", 1), ("folds", 1), ("warm_up", 0)):
        if getattr(plan, name) < least:
            problems.append(f"{name}={getattr(plan, name)}; expected at least {least}")
    if plan.pull < 0 or not 0 <= plan.momentum < 1:
        problems.append(f"pull={plan.pull}, momentum={plan.momentum}")
    for each in plan.stages:
        if not each.rates or min(each.rates) <= 0 or each.epochs < 1 or each.depth_factor < 0:
            problems.append(f"{each}; expected rates above 0 and at least one epoch")
        if not each.thaw:
            problems.append(f"the stage {each.name!r} trains no part of the body")
    names = [each.name for each in plan.stages]
    if any(a == b for a, b in pairwise(sorted(names))):
        problems.append(f"two stages of one name: {', '.join(names)}")
    if problems:
        raise TrainingError(f"The plan can't be followed: {'; '.join(problems)}.")
