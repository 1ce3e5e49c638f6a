"""What the recipe does with which data: facts that are measured, a plan with its reasons.

The plan is made of numbers that you can read and change; nothing is decided elsewhere.
"""

from dataclasses import dataclass, fields, replace
from itertools import pairwise

from course_lib.errors import UnknownNameError, suggest
from course_lib.recipe.facts import Facts
from course_lib.training.errors import TrainingError

RATES = (0.001, 0.003, 0.01)
"""Learning rates of the head that are tried when all layers train; the middle one if only one can
be afforded."""

NEW_HEAD_RATES = (0.003, 0.01, 0.03)
"""The same for a head that is drawn anew, and so has farther to go."""

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
            validation counts.
        depth_factor: the first of the network's parts learns at the head's rate times this, those
            in between at rates in between (in equal ratios).
        epochs: the most; the one that is best by validation counts.
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
        penalties: strengths of the L2 penalty that are tried for the head on frozen features.
        stages: what follows the head, in order; each is kept only if it wins on validation.
        shares: how far to go from a stage's first weights (0) to its last (1): the averages that
            are tried.
        batch_size: of the stages.
        refit: after each trial, fit the head anew on the features of the trained body, with each
            penalty. That is one more pass over the training pictures.
        momentum: of SGD.
        pull: strength of the pull back to a stage's first weights (L2-SP); 0 for none.
        patience: a trial ends after so many epochs in a row without a better one.
        warm_up: epochs in which the learning rates rise; afterwards they fall along a cosine.
        hold_statistics: BatchNorm computes with its running statistics and leaves them.
        reasons: why, in sentences.
    """

    penalties: tuple[float, ...]
    stages: tuple[Stage, ...]
    shares: tuple[float, ...]
    refit: bool
    batch_size: int
    momentum: float
    pull: float
    patience: int
    warm_up: int
    hold_statistics: bool
    reasons: tuple[str, ...]

    def passes(self, pictures: int) -> int:
        """Pictures that pass through the network in training, if no trial ends early."""
        return pictures * sum(len(each.rates) * (each.epochs + self.refit) for each in self.stages)

    def changed(self, **changes: object) -> "Plan":
        """The same plan with other numbers.

        Raises:
            UnknownNameError: a plan has no such number.
            TrainingError: a number that makes no sense.
        """
        known = [each.name for each in fields(self)]
        for name in changes:
            if name not in known:
                raise UnknownNameError(
                    f"A plan has no {name!r}; it has {', '.join(known)}.{suggest(name, known)}"
                )
        made = replace(self, **changes)  # type: ignore[arg-type]
        check(made)
        return made

    def __str__(self) -> str:
        lines = [f"- {each}" for each in self.reasons]
        penalties = ", ".join(f"{each:g}" for each in self.penalties)
        lines.append(f"1. head: on frozen features; L2 penalties tried: {penalties}")
        for number, each in enumerate(self.stages, start=2):
            rates = ", ".join(f"{rate:g}" for rate in each.rates)
            epochs = f"{each.epochs} epoch{'' if each.epochs == 1 else 's'}"
            lines.append(
                f"{number}. {each.name}: learning rate{'s' * (len(each.rates) > 1)} {rates} at the "
                f"head, times {each.depth_factor:g} at the first layer; at most {epochs}"
            )
        return "\n".join(lines)


def make_plan(facts: Facts, batch_size: int, budget: int) -> Plan:
    """The plan for these facts, with the reason of each decision.

    Args:
        facts: what was measured.
        batch_size: of the stages.
        budget: pictures to pass through the network in training, all trials together.
    """
    stages, about_stages = _stages(facts, budget)
    epochs = max((each.epochs for each in stages), default=1)
    reasons = [_about_amount(facts), _about_distance(facts), *about_stages]
    if stages:
        reasons.append("BatchNorm, where there is some, keeps the statistics that it has.")
    return Plan(
        penalties=(1e-2, 1e-1, 1.0, 10.0, 100.0), stages=stages, shares=(0.25, 0.5, 0.75, 1.0),
        refit=True, batch_size=batch_size, momentum=0.9, pull=0.0, patience=max(3, epochs // 2),
        warm_up=1, hold_statistics=True, reasons=tuple(reasons),
    )  # fmt: skip


def _stages(facts: Facts, budget: int) -> tuple[tuple[Stage, ...], list[str]]:
    """The stages after the head that can be afforded, and why these."""
    if not facts.blocks:
        return (), ["There is nothing before the head to train, so the head is all."]
    far = facts.distance == "far"
    rounds = budget // facts.pictures  # passes over the data, if all went into one trial
    late = facts.blocks[-max(1, len(facts.blocks) // 3) :]
    depth_factor = 1.0 if far else 0.3
    everything = Stage("all layers", facts.blocks, RATES, depth_factor, 1)
    anew = Stage("all at once, new head", facts.blocks, NEW_HEAD_RATES, 1.0, 1, new_head=True)
    part = Stage("last third", late, RATES[1:2], depth_factor, 1)
    reasons = [
        "So the features have to change from the first layer on: one rate for all layers."
        if far
        else "So the rates fall towards the first layer."
    ]
    if _epochs(rounds, [everything, anew]) >= AMPLE_EPOCHS:
        menu = [everything, anew]
        reasons.append(
            f"The budget lets {facts.pictures} pictures pass {rounds} times. That is ample: all "
            "layers train after the head, and once more from a new head, each at three rates."
        )
    else:
        menu = [everything] if far else [part, everything]
        if not far:
            reasons.append("The body is let go in two stages, the last third first.")
        if _epochs(rounds, menu) < ENOUGH_EPOCHS:
            menu[-1] = replace(everything, rates=RATES[1:2])
            reasons.append(
                f"The budget lets {facts.pictures} pictures pass {rounds} times, which is enough "
                "for one learning rate a stage."
            )
    epochs = min(max(_epochs(rounds, menu), FEWEST_EPOCHS), MOST_EPOCHS)
    reasons.append("After each trial the head is fitted anew on the features that came out.")
    reasons.append("Each stage has to win on validation, or its weights are dropped.")
    return tuple(replace(each, epochs=epochs) for each in menu), reasons


def _epochs(rounds: int, menu: list[Stage]) -> int:
    """Epochs of each trial: an equal share of the rounds, less the one for fitting the head."""
    return rounds // sum(len(each.rates) for each in menu) - 1


def _about_amount(facts: Facts) -> str:
    words = {"few": "few", "some": "a fair number", "many": "many"}
    return (
        f"{facts.pictures} training pictures in {facts.classes} classes, {facts.smallest} in the "
        f"smallest: {words[facts.amount]}."
    )


def _about_distance(facts: Facts) -> str:
    words = {
        "close": "the source is close to this task",
        "middling": "the source helps, and leaves something to learn",
        "far": "the source is far from this task",
    }
    return (
        f"A linear layer on the frozen features gets {facts.separated:.0%} of unseen training "
        f"pictures right (guessing: {facts.largest_share:.0%}): {words[facts.distance]}."
    )


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
    for name, least in (("batch_size", 1), ("patience", 1), ("warm_up", 0)):
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
