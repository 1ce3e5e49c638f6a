"""Intervals against scipy and by coverage; verdicts at and around the border."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from course_lib.evidence import Contrast, EvidenceError, paired_interval
from course_lib.evidence.design import Answers
from course_lib.evidence.rates import parabola
from course_lib.evidence.statistics import (
    Interval,
    judge,
    overall,
    survives,
    to_decide,
    two_way_interval,
)

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


def draws(answers_of, seeds=30, pool=200, asked=80):
    """For each seed the answers of two arms about pictures drawn from a pool."""
    stream = np.random.default_rng(1)
    for seed in range(seeds):
        places = tuple(sorted(stream.choice(pool, asked, replace=False).tolist()))
        yield [Answers(places, tuple(bool(r) for r in each))
               for each in answers_of(stream, np.array(places), seed)]  # fmt: skip


def test_with_the_pictures_resampled_an_interval_does_not_shrink_to_nothing():
    """One arm is right on the first 120 pictures of the pool and the other on the first 100, for
    every seed. What is left to chance is which pictures are in the pool: 20 of 200 differ, and by
    the binomial distribution their share has a standard error of sqrt(0.1 * 0.9 / 200) = 0.021."""
    found = list(draws(lambda _, at, seed: (at < 120, at < 100), seeds=200))
    interval = two_way_interval(*zip(*found, strict=True))
    alone = paired_interval(*([float(each) for each in arm] for arm in zip(*found, strict=True)))
    assert interval.value == alone.value == pytest.approx(0.1, abs=0.01)
    assert interval.pictures == 200
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 * 0.0212, rel=0.25)
    assert alone.high - alone.low < (interval.high - interval.low) / 3


def test_where_the_seeds_differ_most_it_is_no_narrower_than_students():
    def answers(stream, at, seed):
        better = 0.5 + 0.4 * stream.random()
        return stream.random(len(at)) < better, stream.random(len(at)) < 0.5

    first, second = zip(*draws(answers, seeds=6), strict=True)
    both = two_way_interval(first, second)
    alone = paired_interval([float(each) for each in first], [float(each) for each in second])
    assert both.low <= alone.low
    assert both.high >= alone.high


def test_a_constant_can_be_compared_with_answers():
    found = [arm for arm, _ in draws(lambda _, at, seed: (at < 120, at < 100))]
    interval = two_way_interval(found, [0.5] * len(found))
    assert interval.value == pytest.approx(0.1, abs=0.02)
    assert interval.low < 0.1 < interval.high


def test_answers_about_other_pictures_are_not_compared():
    one, other = Answers((1, 2), (True, False)), Answers((1, 3), (True, False))
    with pytest.raises(EvidenceError, match="the same pictures"):
        two_way_interval([one, one], [one, other])
    with pytest.raises(EvidenceError, match="2 and 1"):
        Answers((1, 2), (True,))


def test_how_many_draws_would_decide():
    """More draws make the interval narrower by the root of their number and by Student's quantile;
    with the number that is announced, the same mean is decided, and with a good deal fewer not."""
    contrast = Contrast("x", "b", "a", "m", "more")
    for mean in (-0.01, 0.004, 0.015, 0.05):
        seeds = 8
        interval = Interval(mean, mean - 0.09, mean + 0.09, seeds, 0.95)
        assert judge(contrast, interval) == "undecided"
        wanted = to_decide(contrast, interval)

        def at(number, mean=mean, seeds=seeds):
            wider = stats.t.ppf(0.975, number - 1) / stats.t.ppf(0.975, seeds - 1)
            half = 0.09 * (seeds / number) ** 0.5 * wider
            return judge(contrast, Interval(mean, mean - half, mean + half, number, 0.95))

        assert at(wanted + 1) != "undecided"
        assert at(int(wanted * 0.8)) == "undecided"


@pytest.mark.parametrize("ratio", [False, True])
def test_an_interval_widened_for_more_comparisons_is_the_one_made_for_them(ratio):
    """With many seeds, where Student's interval is a normal one."""
    stream = np.random.default_rng(0)
    first, second = np.exp(stream.normal(0.13, 1, 1000)), np.exp(stream.normal(0, 1, 1000))
    one = paired_interval(first, second, ratio)
    many = [k for k in range(1, 200) if paired_interval(first, second, ratio, k).low > ratio]
    contrast = Contrast("x", "b", "a", "m", "more", ratio=ratio)
    found = [k for k in range(1, 200) if survives(contrast, one, k)]
    assert len(many) * 0.9 <= len(found) <= len(many) * 1.1 + 1


def test_a_parabola_finds_the_bottom_between_the_rates():
    rates = (0.001, 0.003, 0.01, 0.03, 0.1)
    losses = {rate: np.exp((np.log(rate) - np.log(0.006)) ** 2 / 20) for rate in rates}
    assert parabola(losses) == pytest.approx(0.006)
    assert parabola({**losses, 0.1: 1e9}) < 0.02  # a network that diverged moves it little
    assert parabola(dict(zip(rates, (5, 4, 3, 2, 1), strict=True))) == pytest.approx(0.1)


def verdict(low, high, claimed, margin=0.0, ratio=False):
    contrast = Contrast("x", "b", "a", "m", claimed, margin, ratio)
    return judge(contrast, Interval((low + high) / 2, low, high, 5, 0.95))


@pytest.mark.parametrize(
    ("low", "high", "claimed", "margin", "ratio", "expected"),
    [
        (0.1, 0.2, "more", 0, False, "held"),
        (-0.1, 0.2, "more", 0, False, "undecided"),
        (-0.2, -0.1, "more", 0, False, "did not hold"),
        (0.0, 0.0, "more", 0, False, "no difference that matters"),
        (0.1, 0.2, "more", 0.15, False, "undecided"),
        (0.1, 0.2, "more", 0.3, False, "did not hold"),
        (-0.2, -0.1, "less", 0, False, "held"),
        (0.0, 0.0, "less", 0, False, "no difference that matters"),
        (-0.02, 0.02, "more", 0, False, "no difference that matters"),
        (0.001, 0.019, "more", 0, False, "no difference that matters"),
        (-0.019, -0.001, "less", 0, False, "no difference that matters"),
        (0.001, 0.021, "more", 0, False, "held"),
        (-0.021, 0.019, "more", 0, False, "did not hold"),
        (-0.021, 0.021, "more", 0, False, "undecided"),
        (-0.019, 0.021, "less", 0, False, "did not hold"),
        (0.95, 1.09, "more", 0, True, "no difference that matters"),
        (0.8, 1.09, "more", 0, True, "did not hold"),
        (-0.04, 0.3, "not less", 0.05, False, "held"),
        (-0.06, 0.3, "not less", 0.05, False, "undecided"),
        (-0.3, -0.06, "not less", 0.05, False, "did not hold"),
        (0.85, 3.0, "not less", 1.2, True, "held"),
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


def test_an_exact_result_is_decided_without_an_interval():
    contrast = Contrast("x", "b", "a", "m", "more")
    for value, expected in ((0.01, "held"), (0.0, "did not hold"), (-0.5, "did not hold")):
        assert judge(contrast, Interval(value, value, value, 1, 1.0)) == expected


def test_the_verdict_over_all_contrasts():
    assert overall(["held", "held"], ["x", "y"]) == "held"
    assert overall(["held", "undecided"], ["few data", "y"]) == "holds when few data"
    assert overall(["did not hold", "undecided"], ["x", "y"]) == "did not hold"
    assert overall(["undecided", "undecided"], ["x", "y"]) == "undecided"
    none = "no difference that matters"
    assert overall([none, none], ["x", "y"]) == none
    assert overall([none, "undecided"], ["x", "y"]) == "undecided"
    assert overall([none, "did not hold"], ["x", "y"]) == "did not hold"


def test_no_negative_zero_is_printed():
    assert Interval(-0.001, -0.2, 0.2, 5, 0.95).text() == "0.00 [-0.20, 0.20]"
