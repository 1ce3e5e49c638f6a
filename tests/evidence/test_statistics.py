"""Intervals against scipy and by coverage; verdicts at and around the border."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from course_lib.evidence import Contrast, EvidenceError, paired_interval
from course_lib.evidence.statistics import Interval, judge, overall

numbers = st.floats(-10, 10, allow_nan=False).map(lambda x: round(x, 3))


@pytest.mark.filterwarnings("ignore:Precision loss")  # scipy's, when all pairs are alike
@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=12))
def test_differences_agree_with_scipy(pairs):
    first, second = zip(*pairs, strict=True)
    ours = paired_interval(first, second)
    theirs = stats.ttest_rel(first, second)
    assert ours.value == pytest.approx(np.mean(np.subtract(first, second)), abs=1e-12)
    if np.std(np.subtract(first, second)) > 1e-9:
        low, high = theirs.confidence_interval(0.95)
        assert (ours.low, ours.high) == pytest.approx((low, high), abs=1e-9)
        away_from_zero = ours.low > 1e-9 or ours.high < -1e-9
        assert away_from_zero == (theirs.pvalue < 0.05)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=12))
def test_ratios_are_differences_of_logarithms(pairs):
    first, second = zip(*pairs, strict=True)
    ours = paired_interval(np.exp(first), np.exp(second), ratio=True)
    logs = paired_interval(first, second)
    expected = np.exp([logs.value, logs.low, logs.high])
    assert [ours.value, ours.low, ours.high] == pytest.approx(expected, rel=1e-6)


def test_an_interval_of_95_percent_is_right_95_times_in_100():
    drawn = np.random.default_rng(0).normal(0.3, 2.0, (2000, 5))
    zeros = np.zeros(5)
    found = [paired_interval(row, zeros) for row in drawn]
    assert 0.935 < np.mean([each.low < 0.3 < each.high for each in found]) < 0.965


def test_more_contrasts_make_wider_intervals():
    one, three = (paired_interval([3, 4, 6], [1, 1, 2], contrasts=k) for k in (1, 3))
    assert three.high - three.low > one.high - one.low
    assert three.level == pytest.approx(1 - 0.05 / 3)


def test_what_can_not_be_compared_is_refused():
    with pytest.raises(EvidenceError, match="two pairs or more"):
        paired_interval([1], [2])
    with pytest.raises(EvidenceError, match="2 and 3 numbers"):
        paired_interval([1, 2], [1, 2, 3])
    with pytest.raises(EvidenceError, match="positive"):
        paired_interval([1, 2], [1, 0], ratio=True)


def verdict(low, high, claimed, margin=0.0, ratio=False):
    contrast = Contrast("x", "b", "a", "m", claimed, margin, ratio)
    return judge(contrast, Interval((low + high) / 2, low, high, 5, 0.95))


@pytest.mark.parametrize(
    ("low", "high", "claimed", "margin", "ratio", "expected"),
    [
        (0.1, 0.2, "more", 0, False, "held"),
        (-0.1, 0.2, "more", 0, False, "undecided"),
        (-0.2, -0.1, "more", 0, False, "did not hold"),
        (0.0, 0.0, "more", 0, False, "did not hold"),
        (0.1, 0.2, "more", 0.15, False, "undecided"),
        (0.1, 0.2, "more", 0.3, False, "did not hold"),
        (-0.2, -0.1, "less", 0, False, "held"),
        (0.0, 0.0, "less", 0, False, "did not hold"),
        (-0.2, -0.1, "less", 0.05, False, "held"),
        (-0.2, -0.1, "less", 0.3, False, "did not hold"),
        (0.1, 0.2, "less", 0, False, "did not hold"),
        (-0.01, 0.01, "same", 0.02, False, "held"),
        (0.0, 0.0, "same", 0, False, "held"),
        (-0.01, 0.03, "same", 0.02, False, "undecided"),
        (0.03, 0.05, "same", 0.02, False, "did not hold"),
        (-0.05, -0.03, "same", 0.02, False, "did not hold"),
        (1.2, 1.5, "more", 0, True, "held"),
        (1.2, 1.5, "more", 1.3, True, "undecided"),
        (0.9, 1.5, "more", 0, True, "undecided"),
        (0.5, 0.9, "more", 0, True, "did not hold"),
        (0.5, 0.9, "less", 0, True, "held"),
        (0.5, 0.9, "less", 2, True, "undecided"),
        (0.9, 1.05, "same", 1.2, True, "held"),
        (0.5, 0.7, "same", 1.2, True, "did not hold"),
    ],
)
def test_verdicts(low, high, claimed, margin, ratio, expected):
    assert verdict(low, high, claimed, margin, ratio) == expected


def test_the_verdict_over_all_contrasts():
    assert overall(["held", "held"], ["x", "y"]) == "held"
    assert overall(["held", "undecided"], ["few data", "y"]) == "holds when few data"
    assert overall(["did not hold", "undecided"], ["x", "y"]) == "did not hold"
    assert overall(["undecided", "undecided"], ["x", "y"]) == "undecided"


def test_no_negative_zero_is_printed():
    assert Interval(-0.001, -0.2, 0.2, 5, 0.95).text() == "0.00 [-0.20, 0.20]"
