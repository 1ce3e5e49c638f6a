"""From numbers per seed to an interval and a verdict.

The arms of a seed share data and order, so they are compared in pairs: one difference a seed. The
interval is Student's t interval for the mean of these differences (for ratios: of the differences
of the logarithms). An experiment with k contrasts has each of them at the level 1 - 0.05/k
(Bonferroni), so that all its intervals together are right 19 times out of 20.

The interval covers what the seed changes: the first weights, the order, and, where an experiment
draws its data by the seed, the data. It says nothing about other data sets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from course_lib.evidence.design import LEVEL, Contrast, EvidenceError

HELD, REFUTED, UNDECIDED = "held", "did not hold", "undecided"
Verdict = Literal["held", "did not hold", "undecided"]


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes:
        value: the mean over the seeds.
        low: lower end.
        high: upper end.
        seeds: how many pairs it rests on.
        level: 0.95 for a single contrast.
    """

    value: float
    low: float
    high: float
    seeds: int
    level: float

    def text(self, digits: int = 2) -> str:
        """Such as ``"0.31 [0.20, 0.42]"``."""
        style = f"z.{digits}f"  # z: no "-0.00"
        return f"{self.value:{style}} [{self.low:{style}}, {self.high:{style}}]"


def paired_interval(
    treatment: Sequence[float], control: Sequence[float], ratio: bool = False, contrasts: int = 1
) -> Interval:
    """The mean of treatment - control (or treatment / control) with its interval.

    Args:
        treatment: one number a seed.
        control: likewise, seeds in the same order.
        ratio: by quotients: geometric mean, interval on the logarithms.
        contrasts: how many are made in this experiment.

    Raises:
        EvidenceError: fewer than two pairs, lists of unequal length, or a quotient of numbers
            that aren't positive.
    """
    first, second = np.asarray(treatment, float), np.asarray(control, float)
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise EvidenceError(
            f"An interval needs two pairs or more; got {len(first)} and {len(second)} numbers."
        )
    if ratio and not ((first > 0).all() and (second > 0).all()):
        raise EvidenceError("A ratio needs positive numbers on both sides.")
    pairs = np.log(first) - np.log(second) if ratio else first - second
    level = 1 - (1 - LEVEL) / contrasts
    mean = float(pairs.mean())
    # Not ttest_rel(...).confidence_interval: for equal pairs that gives nan and a warning.
    half = float(stats.t.ppf((1 + level) / 2, len(pairs) - 1) * stats.sem(pairs))
    ends = mean, mean - half, mean + half
    value, low, high = (math.exp(each) for each in ends) if ratio else ends
    return Interval(value, low, high, len(pairs), level)


def judge(contrast: Contrast, interval: Interval) -> Verdict:
    """What the interval says about what the contrast claims.

    ``held``: the whole interval is where the claim puts it. ``did not hold``: the whole interval
    is elsewhere. ``undecided``: it reaches over the border.
    """
    border = max(contrast.margin, 1.0) if contrast.ratio else contrast.margin
    low, high = interval.low, interval.high
    if contrast.claimed == "same":
        least = 1 / border if contrast.ratio else -border
        if least <= low and high <= border:
            return "held"
        return "did not hold" if high < least or low > border else "undecided"
    if contrast.claimed == "less":  # mirrored, so that "more" serves both
        low, high = (1 / high, 1 / low) if contrast.ratio else (-high, -low)
    if low > border:
        return "held"
    # Exactly at the border isn't beyond it: equal arms don't make "more" true.
    return "did not hold" if high < border or (low == high == border) else "undecided"


def overall(verdicts: Sequence[Verdict], whens: Sequence[str]) -> str:
    """One verdict from those of the contrasts.

    ``held`` if all held, ``did not hold`` if none did and not all are open; where some held,
    ``holds when ...`` with their conditions.
    """
    held = [when for verdict, when in zip(verdicts, whens, strict=True) if verdict == HELD]
    if len(held) == len(verdicts):
        return HELD
    if held:
        return "holds when " + "; ".join(when or "(see the table)" for when in held)
    return REFUTED if REFUTED in verdicts else UNDECIDED
