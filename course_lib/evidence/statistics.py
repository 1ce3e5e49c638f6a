"""From numbers per seed to an interval and a verdict.

The arms of a seed share data and order, so they are compared in pairs: one difference a seed. The
interval is Student's t interval for the mean of these differences (for ratios: of the differences
of the logarithms). A claim with k contrasts has each of them at the level 1 - 0.05/k (Bonferroni),
so that all its intervals together are right 19 times out of 20.

That interval covers what the seed changes: the first weights, the order, the pictures drawn. The
draws come from one pool and overlap, so it would shrink to nothing with ever more seeds, as if the
pool were all pictures there are. Where an experiment keeps its answers picture by picture, seeds
and pictures are therefore both resampled (:func:`two_way_interval`; A. B. Owen, The pigeonhole
bootstrap, 2007), and the wider end of both counts. It says nothing about other data sets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from scipy import stats

from course_lib.evidence.design import LEVEL, Answers, Contrast, EvidenceError

HELD: Final = "held"
REFUTED: Final = "did not hold"
NO_DIFFERENCE: Final = "no difference that matters"
UNDECIDED: Final = "undecided"
Verdict = Literal["held", "did not hold", "no difference that matters", "undecided"]
RESAMPLES = 4000


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes:
        value: the mean over the seeds.
        low: lower end.
        high: upper end.
        seeds: how many pairs it rests on; 1 for an exact result, which is its own interval.
        level: 0.95 for a single contrast.
        pictures: how many test pictures were resampled with the seeds; 0: seeds alone.
    """

    value: float
    low: float
    high: float
    seeds: int
    level: float
    pictures: int = 0

    def text(self, digits: int = 2) -> str:
        """Such as ``"0.31 [0.20, 0.42]"``; of an exact result the value alone."""
        style = f"z.{digits}f"  # z: no "-0.00"
        if self.seeds == 1:
            return f"{self.value:{style}}"
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


def two_way_interval(
    treatment: Sequence[float | Answers], control: Sequence[float | Answers], contrasts: int = 1
) -> Interval:
    """treatment - control, with seeds and test pictures both resampled.

    Args:
        treatment: each seed's answers, picture by picture; or a number, such as a constant.
        control: likewise; in each seed at least one of the two has answers, and where both have
            them, for the same pictures.
        contrasts: how many are made in this experiment.

    Returns:
        The mean over the seeds; of the bootstrap's and Student's interval the wider end each.

    Raises:
        EvidenceError: fewer than two pairs, or the arms of a seed were asked about other pictures.
    """
    first, second = ([float(each) for each in arm] for arm in (treatment, control))
    plain = paired_interval(first, second, contrasts=contrasts)
    asked = [_asked(*pair) for pair in zip(treatment, control, strict=True)]
    pool = np.unique(np.concatenate(asked))
    rows = [np.searchsorted(pool, each) for each in asked]
    difference, there = np.zeros((len(asked), len(pool))), np.zeros((len(asked), len(pool)))
    for seed, pair in enumerate(zip(treatment, control, strict=True)):
        left, right = (np.asarray(a.right if isinstance(a, Answers) else a, float) for a in pair)
        difference[seed, rows[seed]], there[seed, rows[seed]] = left - right, 1
    stream = np.random.default_rng(0)
    weights = stream.multinomial(len(pool), np.full(len(pool), 1 / len(pool)), RESAMPLES)
    by_seed = (weights @ difference.T) / np.maximum(weights @ there.T, 1)
    seeds = len(asked)
    of_seeds = stream.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
    means = (by_seed * of_seeds).sum(1) / seeds
    tail = (1 - plain.level) / 2
    low, high = (float(each) for each in np.quantile(means, [tail, 1 - tail]))
    return Interval(
        plain.value, min(low, plain.low), max(high, plain.high), seeds, plain.level, len(pool)
    )


def _asked(first: float | Answers, second: float | Answers) -> Sequence[int]:
    asked = [each.places for each in (first, second) if isinstance(each, Answers)]
    if not asked or asked[0] != asked[-1]:
        raise EvidenceError(
            "Two arms of a seed can be compared picture by picture only if both were asked about "
            "the same pictures."
        )
    return asked[0]


def judge(contrast: Contrast, interval: Interval) -> Verdict:
    """What the interval says about what the contrast claims.

    ``held``: the whole interval is where the claim puts it. ``did not hold``: the whole interval
    is elsewhere; where more (or less) is claimed, all of it lies below the smallest effect that
    matters. ``no difference that matters``: the whole interval is that close to none.
    ``undecided``: it reaches over the border.
    """
    low, high = interval.low, interval.high
    margin, matters = contrast.margin, contrast.matters
    if contrast.ratio:  # on logarithms a ratio is a difference
        low, high = math.log(low), math.log(high)
        margin, matters = math.log(max(margin, 1.0)), math.log(matters)
    if contrast.claimed in ("same", "not less"):
        if -margin <= low and (high <= margin or contrast.claimed == "not less"):
            return HELD
        above = low > margin and contrast.claimed == "same"
        return REFUTED if high < -margin or above else UNDECIDED
    exact = interval.seeds == 1
    if not margin and not exact and -matters <= low and high <= matters:
        return NO_DIFFERENCE
    if contrast.claimed == "less":  # mirrored, so that "more" serves both
        low, high = -high, -low
    if low > margin:
        return HELD
    # An exact result has no smallest effect that matters: equal is not more.
    return REFUTED if exact or high < (margin or matters) else UNDECIDED


def survives(contrast: Contrast, interval: Interval, comparisons: int) -> bool:
    """Whether a contrast that held still would, widened for that many comparisons.

    The interval's ends are moved outwards as a normal distribution's would be.
    """
    now, wide = (stats.norm.ppf(1 - (1 - level) / 2) for level in (
        interval.level, 1 - (1 - LEVEL) / comparisons))  # fmt: skip
    factor = max(1.0, float(wide / now))
    value, low, high = interval.value, interval.low, interval.high
    if contrast.ratio:
        low, high = value * (low / value) ** factor, value * (high / value) ** factor
    else:
        low, high = value + (low - value) * factor, value + (high - value) * factor
    return judge(contrast, replace(interval, low=low, high=high)) == HELD


def to_decide(contrast: Contrast, interval: Interval) -> int:
    """About how many seeds would decide it, if the mean stayed where it is and the rest as it is.

    The interval's half-width falls with the square root of the seeds, and with Student's quantile
    for that many; the nearest verdict is the one whose border is farthest from the mean.
    """
    value, low, high = interval.value, interval.low, interval.high
    margin, matters = contrast.margin, contrast.matters
    if contrast.ratio:
        value, low, high = (math.log(each) for each in (value, low, high))
        margin, matters = math.log(max(margin, 1.0)), math.log(matters)
    if contrast.claimed == "less":
        value, low, high = -value, -high, -low
    if contrast.claimed in ("same", "not less"):
        room = max(value + margin, -margin - value) if contrast.claimed == "not less" else abs(
            margin - abs(value))  # fmt: skip
    else:
        room = max(value - margin, (margin or matters) - value)
    tail = (1 + interval.level) / 2
    spread = (high - low) / 2 * math.sqrt(interval.seeds) / stats.t.ppf(tail, interval.seeds - 1)
    seeds = max(2, math.ceil((spread * stats.norm.ppf(tail) / max(room, 1e-6)) ** 2))
    while spread / math.sqrt(seeds) * stats.t.ppf(tail, seeds - 1) > max(room, 1e-6):
        seeds += 1 + seeds // 100
    return seeds


def overall(verdicts: Sequence[Verdict], whens: Sequence[str]) -> str:
    """One verdict from those of the contrasts.

    ``held`` if all held; where some held, ``holds when ...`` with their conditions; ``did not
    hold`` if one did not and none held; else ``no difference that matters`` if none is open.
    """
    held = [when for verdict, when in zip(verdicts, whens, strict=True) if verdict == HELD]
    if len(held) == len(verdicts):
        return HELD
    if held:
        return "holds when " + "; ".join(when or "(see the table)" for when in held)
    for each in (REFUTED, UNDECIDED, NO_DIFFERENCE):
        if each in verdicts:
            return each
    raise EvidenceError("There is no verdict to sum up.")
