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
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from course_lib.errors import CourseError
from course_lib.evidence.claims import claim

Outcome: TypeAlias = Mapping[str, Mapping[str, float]]
"""Arm -> measure -> value, for one seed."""

LEVEL = 0.95
MIN_SEEDS = 5


class EvidenceError(CourseError):
    """An experiment, its results or a citation of them isn't as it should be."""


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
        claimed: ``"more"``, ``"less"`` or ``"same"``: how the treatment compares with the control
            if the claim is right.
        margin: for ``"more"`` and ``"less"``, by how much at least (0 by default); for
            ``"same"``, the largest difference either way that counts as none.
        ratio: compare by the quotient (geometric mean over seeds) instead of the difference; then
            ``margin`` is a factor of 1 or more (0, the default, means 1).
        when: the condition under which it is made, for "holds when ...".
    """

    name: str
    treatment: str
    control: str
    measure: str
    claimed: Literal["more", "less", "same"]
    margin: float = 0.0
    ratio: bool = False
    when: str = ""


@dataclass(frozen=True)
class Experiment:
    """An experiment: a design and the function that carries it out for one seed.

    Attributes:
        id: of the claim that it tests; also the name of the file with the results.
        run: from a seed to an :data:`Outcome`; its docstring states the design.
        seeds: how many (0, 1, 2, ...).
        arms: what is compared.
        measures: what is measured of each arm.
        contrasts: the comparisons that decide, the main one first.
        files: files under the data folder that the results depend on, such as a manifest.
        minutes: about how long all seeds take on one core.
    """

    id: str
    run: Callable[[int], Outcome] = field(repr=False)
    seeds: int
    arms: tuple[str, ...]
    measures: tuple[Measure, ...]
    contrasts: tuple[Contrast, ...]
    files: tuple[str, ...] = ()
    minutes: float = 1.0

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
                if not math.isfinite(value):
                    raise EvidenceError(f"{self.id}: {name} of {arm!r} is {value}; not a number.")


REGISTRY: dict[str, Experiment] = {}
"""Every experiment whose module was imported; :func:`course_lib.evidence.experiments` has all."""


def experiment(
    id: str,  # the field's word, and shadowing it does no harm here
    *,
    arms: tuple[str, ...],
    measures: tuple[Measure, ...],
    contrasts: tuple[Contrast, ...],
    seeds: int = MIN_SEEDS,
    files: tuple[str, ...] = (),
    minutes: float = 1.0,
) -> Callable[[Callable[[int], Outcome]], Experiment]:
    """Make an :class:`Experiment` of the function below; arguments as there.

    Raises:
        UnknownNameError: no claim of that id.
        EvidenceError: the design is not sound: fewer than five seeds, no docstring, a contrast of
            arms or measures that don't exist, or a second experiment for one claim.
    """

    def register(function: Callable[[int], Outcome]) -> Experiment:
        made = Experiment(id, function, seeds, arms, measures, contrasts, files, minutes)
        _check_design(made)
        before = REGISTRY.get(id)
        if before is not None and before.run.__module__ != function.__module__:
            raise EvidenceError(f"{id} has two experiments: {before.run} and {function}.")
        REGISTRY[id] = made
        return made

    return register


def _check_design(made: Experiment) -> None:
    claim(made.id)
    names = {each.name for each in made.measures}
    problems = []
    if made.seeds < MIN_SEEDS:
        problems.append(f"{made.seeds} seeds; expected at least {MIN_SEEDS}")
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
    if problems:
        raise EvidenceError(f"The design of {made.id} is not sound: {'; '.join(problems)}.")
