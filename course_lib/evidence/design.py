"""What an experiment is: its design, stated before the first number is known.

An experiment is one function from a seed to a table: for each arm (a way of doing the thing), a
number for each measure. All arms of a seed see the same data, so that they are compared in pairs::

    @experiment(
        "C18",
        seeds=5,
        arms=("scratch", "fine-tuned"),
        measures=(Measure("test_accuracy"),),
        contrasts=(Contrast("gain", "fine-tuned", "scratch", "test_accuracy", "more"),),
    )
    def few_examples(seed: int) -> Outcome:
        '''Data: ... Budget: ... Selection: ... Prediction: ...'''
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from course_lib.errors import CourseError
from course_lib.evidence.claims import claim

LEVEL = 0.95
MIN_SEEDS = 5
MATTERS, MATTERS_ON_PICTURES, MATTERS_RATIO = 0.02, 0.03, 1.1
"""The smallest effect that matters unless a contrast says otherwise: a difference (a larger one on
drawn pictures and photographs, of which there are fewer to test on than digits), a factor."""


class EvidenceError(CourseError):
    """An experiment, its results or a citation of them isn't as it should be."""


@dataclass(frozen=True)
class Answers:
    """Which pictures an arm answered rightly; as a number, the share of them.

    With these instead of an accuracy, an interval covers the test pictures as well as the seeds.

    Attributes:
        places: which pictures of the pool were asked, ascending.
        right: for each of them, whether the answer was right.
    """

    places: tuple[int, ...]
    right: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not self.places or len(self.places) != len(self.right):
            raise EvidenceError(
                f"Answers need as many places as answers, and at least one; got "
                f"{len(self.places)} and {len(self.right)}."
            )

    def __float__(self) -> float:
        return sum(self.right) / len(self.right)


Outcome: TypeAlias = Mapping[str, Mapping[str, float | Answers]]
"""Arm -> measure -> value, for one seed."""


@dataclass(frozen=True)
class Measure:
    """A number that is taken of every arm.

    Attributes:
        name: also the column in the results.
        digits: decimals when it is printed; the file keeps six significant digits.
        timing: it depends on the machine and the moment, so a rerun won't repeat it.
    """

    name: str
    digits: int = 2
    timing: bool = False


@dataclass(frozen=True)
class Contrast:
    """A comparison of two arms, and what the claim says about it.

    Attributes:
        name: one word, by which prose cites it.
        treatment: an arm.
        control: the arm that it is compared with.
        measure: by which.
        claimed: ``"more"``, ``"less"``, ``"same"`` or ``"not less"``: how the treatment compares
            with the control if the claim is right.
        margin: for ``"more"`` and ``"less"``, by how much at least (0 by default); for
            ``"same"``, the largest difference either way that counts as none; for ``"not less"``,
            the largest loss that counts as none (non-inferiority).
        ratio: compare by the quotient (geometric mean over seeds) instead of the difference; then
            ``margin`` is a factor of 1 or more (0, the default, means 1).
        when: the condition under which it is made, for "holds when ...".
        matters: the smallest effect that matters, where ``"more"`` or ``"less"`` is claimed: a
            difference (0.02 by default, 0.03 on pictures), or for a ratio a factor (1.1). With
            another measure than a share of right answers, say which and why.
    """

    name: str
    treatment: str
    control: str
    measure: str
    claimed: Literal["more", "less", "same", "not less"]
    margin: float = 0.0
    ratio: bool = False
    when: str = ""
    matters: float = 0.0

    def __post_init__(self) -> None:
        if not self.matters:
            object.__setattr__(self, "matters", MATTERS_RATIO if self.ratio else MATTERS)


@dataclass(frozen=True)
class Experiment:
    """An experiment: a design and the function that carries it out for one seed.

    Attributes:
        id: of the claim that it tests.
        run: from a seed to an :data:`Outcome`; its docstring states the design.
        seeds: how many (0, 1, 2, ...).
        arms: what is compared.
        measures: what is measured of each arm.
        contrasts: the comparisons that decide, the main one first.
        files: files under the data folder that the results depend on, such as a manifest.
        minutes: about how long all seeds take on one core.
        photographs: the folder of photographs that it needs, such as ``"food_photographs"``; empty
            for the laboratory, which runs from the checkout alone.
        exact: nothing in it is drawn, so that one run says all and there is no interval.
        results: name of the file with the results. Several claims may be decided by the same
            trainings; each is an experiment of its own, and they share one file.
    """

    id: str
    run: Callable[[int], Outcome] = field(repr=False)
    seeds: int
    arms: tuple[str, ...]
    measures: tuple[Measure, ...]
    contrasts: tuple[Contrast, ...]
    files: tuple[str, ...] = ()
    minutes: float = 1.0
    photographs: str = ""
    exact: bool = False
    results: str = ""

    @property
    def design(self) -> str:
        """The docstring: data, arms, budget, selection and prediction."""
        return self.run.__doc__ or ""

    def measure(self, name: str) -> Measure:
        """The measure of that name."""
        return next(each for each in self.measures if each.name == name)

    def check_outcome(self, outcome: Outcome) -> None:
        """Refuse an outcome that isn't what the design announced.

        Raises:
            EvidenceError: an arm or measure too many or too few, or a number that isn't one.
        """
        if set(outcome) != set(self.arms):
            raise EvidenceError(
                f"{self.id} announced the arms {', '.join(self.arms)} and gave "
                f"{', '.join(outcome) or 'none'}."
            )
        names = {each.name for each in self.measures}
        for arm, values in outcome.items():
            if set(values) != names:
                raise EvidenceError(
                    f"{self.id} announced the measures {', '.join(sorted(names))} and gave "
                    f"{', '.join(sorted(values)) or 'none'} for {arm!r}."
                )
            for name, value in values.items():
                if not math.isfinite(float(value)):
                    raise EvidenceError(f"{self.id}: {name} of {arm!r} is {value}; not a number.")


REGISTRY: dict[str, Experiment] = {}
"""Every experiment whose module was imported; :func:`course_lib.evidence.experiments` has all."""


def sharing(one: Experiment) -> list[Experiment]:
    """The experiments that the same trainings decide, itself among them."""
    return [each for each in REGISTRY.values() if each.run is one.run] or [one]


def experiment(
    name: str,
    *,
    arms: tuple[str, ...],
    measures: tuple[Measure, ...],
    contrasts: tuple[Contrast, ...] | Mapping[str, tuple[Contrast, ...]],
    seeds: int = MIN_SEEDS,
    files: tuple[str, ...] = (),
    minutes: float = 1.0,
    photographs: str = "",
    exact: bool = False,
) -> Callable[[Callable[[int], Outcome]], Experiment]:
    """Make an :class:`Experiment` of the function below; arguments as there.

    Args:
        name: of the results; without a mapping in ``contrasts``, also the claim's id.
        contrasts: or, for trainings that decide several claims, id of each -> its contrasts.

    Returns:
        A decorator that gives the (first) experiment.

    Raises:
        UnknownNameError: no claim of that id.
        EvidenceError: the design is not sound: fewer than five seeds, no docstring, a contrast of
            arms or measures that don't exist, or a second experiment for one claim.
    """
    decides = contrasts if isinstance(contrasts, Mapping) else {name: contrasts}

    def register(function: Callable[[int], Outcome]) -> Experiment:
        for id, its in decides.items():
            if photographs or files:
                its = tuple(_on_pictures(each) for each in its)
            made = Experiment(
                id, function, seeds, arms, measures, its, files, minutes, photographs, exact, name
            )
            _check_design(made)
            before = REGISTRY.get(id)
            if before is not None and before.run.__module__ != function.__module__:
                raise EvidenceError(f"{id} has two experiments: {before.run} and {function}.")
            REGISTRY[id] = made
        return REGISTRY[next(iter(decides))]

    return register


def _on_pictures(contrast: Contrast) -> Contrast:
    matters = MATTERS_ON_PICTURES if contrast.matters == MATTERS else contrast.matters
    return replace(contrast, matters=matters)


def _check_design(made: Experiment) -> None:
    claim(made.id)
    names = {each.name for each in made.measures}
    problems = []
    if made.seeds != 1 if made.exact else made.seeds < MIN_SEEDS:
        wanted = "1, as nothing is drawn" if made.exact else f"at least {MIN_SEEDS}"
        problems.append(f"{made.seeds} seeds; expected {wanted}")
    if len(made.design.split()) < 20:
        problems.append("no design in its docstring: state data, arms, budget and prediction")
    if len(set(made.arms)) != len(made.arms) or len(names) != len(made.measures):
        problems.append("an arm or a measure twice")
    if not made.contrasts:
        problems.append("no contrast, so nothing would decide")
    for each in made.contrasts:
        if not each.name.isidentifier() or each.name in ("verdict", "seeds"):
            problems.append(f"the contrast name {each.name!r}; expected one word")
        for arm in (each.treatment, each.control):
            if arm not in made.arms:
                problems.append(f"{each.name} compares {arm!r}, which is no arm")
        if each.measure not in names:
            problems.append(f"{each.name} compares by {each.measure!r}, which is no measure")
        if each.margin < 0 or (each.ratio and 0 < each.margin < 1):
            problems.append(f"{each.name} has the margin {each.margin}")
        if each.matters <= (1 if each.ratio else 0):
            problems.append(f"{each.name} has {each.matters} as the smallest effect that matters")
    if problems:
        raise EvidenceError(f"The design of {made.id} is not sound: {'; '.join(problems)}.")
