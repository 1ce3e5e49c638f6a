"""Which learning rate is best: the lowest point of a parabola, not the best of a few."""

import math
from collections.abc import Mapping

import numpy as np

WORST = 3.0
"""Losses are cut at this multiple of the smallest: how far a network diverged says nothing."""


def parabola(losses: Mapping[float, float]) -> float:
    """The rate at the lowest point of a parabola through the losses over the rates' logarithms.

    The best of seven rates jumps by a factor of three from seed to seed where two are level; the
    parabola uses all of them.

    Args:
        losses: rate -> loss on pictures to choose by; at least three.

    Returns:
        The lowest point, within the rates tried; the best rate itself where the parabola has none.
    """
    smallest = min(losses.values())
    place = [math.log(rate) for rate in losses]
    height = [math.log(min(loss, WORST * smallest)) for loss in losses.values()]
    curve = np.polynomial.Polynomial.fit(place, height, 2).convert()
    _, slope, bend = curve.coef
    if bend <= 0:  # type: ignore[operator]
        return min(losses, key=lambda rate: losses[rate])
    return math.exp(min(max(-slope / (2 * bend), min(place)), max(place)))  # type: ignore[operator]
