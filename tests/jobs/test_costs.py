"""Costs by hand, and Young's interval against a simulation of failures."""

import math
import random

import pytest

from course_lib.jobs.costs import Machines, Method, all_reduce_seconds, cost, overhead, young

FULL = Method("all layers", 1.0, trained=10_000_000)
CACHED = Method("features", 0.0, trained=1000, once=1 / 3, reads=False)


def test_one_device_by_hand():
    """3,600,000 pictures x 2 epochs at 100 a second: 20 hours; 1,000 a second are prepared."""
    one = Machines("one", 1, 100, 1000, price=2.0)
    found = cost(3_600_000, 2, 32, one, FULL)
    assert (found.computing, found.preparing, found.exchanging, found.saving) == (20, 2, 0, 0)
    assert (found.hours, found.price, found.limit) == (20, 40, "computing")


def test_cached_features_are_computed_once():
    one = Machines("one", 1, 100, 50)
    found = cost(360_000, 10, 32, one, CACHED)
    assert found.computing == pytest.approx(360_000 / 3 / 100 / 3600)
    assert found.preparing == pytest.approx(2)  # 360,000 at 50 a second, once
    assert found.limit == "preparing"


def test_exchange_by_hand_and_as_the_limit():
    """4 devices: each sends 2 x 3/4 of 40 MB a step; at 60 MB a second that is a second."""
    assert all_reduce_seconds(40e6, 4, 60e6) == pytest.approx(1.0)
    assert all_reduce_seconds(40e6, 1, 60e6) == 0
    four = Machines("four", 4, 100, 1e9, bandwidth=60e6)
    found = cost(128_000, 1, 32, four, FULL)  # 1,000 steps of 128
    assert found.exchanging == pytest.approx(1000 / 3600)
    assert found.computing == pytest.approx(320 / 3600)
    assert found.limit == "exchanging"


def test_youngs_interval_is_the_lowest_point():
    best = young(10, 86_400)
    assert best == pytest.approx(math.sqrt(2 * 10 * 86_400))
    around = [overhead(best * factor, 10, 86_400, 60) for factor in (0.5, 0.9, 1, 1.1, 2)]
    assert min(around) == around[2]
    assert overhead(best, 10, math.inf) == 0


def test_the_overhead_is_what_a_simulation_loses():
    """Failures at random moments, work since the last checkpoint done again."""
    save, between, restart = 10.0, 20_000.0, 100.0
    interval, work = young(save, between), 3_000_000.0
    stream = random.Random(0)
    done, clock, failure = 0.0, 0.0, stream.expovariate(1 / between)
    while done < work:
        if clock + interval + save <= failure:
            done, clock = done + interval, clock + interval + save
        else:
            clock = failure + restart
            failure = clock + stream.expovariate(1 / between)
    lost = clock / done - 1
    assert lost == pytest.approx(overhead(interval, save, between, restart), rel=0.2)


def test_more_devices_fail_more_often():
    """64 devices of 1,000 hours each: the job fails every 15.6 hours."""
    machines = Machines("many", 64, 100, 1e9, hours_between_failures=1000)
    found = cost(10**9, 1, 32, machines, Method("x", 1.0, 0), save_seconds=30, restart_seconds=0)
    between = 1000 * 3600 / 64
    share = math.sqrt(2 * 30 / between)
    assert found.saving == pytest.approx(found.computing * share)
