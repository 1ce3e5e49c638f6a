"""Does a head with a hidden layer do better than a linear one? On drawn pictures and photographs.

Common to both: EfficientNet-Lite0 with ImageNet's weights, its 1,280 features computed once; draws
as in :mod:`course_lib.evidence.studies.heads`. Designed on draw 100.
"""

from typing import Any

import torch
from torch import nn

from course_lib.evidence import pools
from course_lib.evidence.design import Contrast, Outcome, experiment
from course_lib.evidence.digits import Part
from course_lib.evidence.studies import bodies, heads

RATES = (0.0003, 0.001, 0.003, 0.01)
STEPS, HIDDEN = 240, 256


def new_head(way: str, width: int, seed: int) -> nn.Sequential:
    """A head for two classes, drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if way == "linear":
            return nn.Sequential(nn.Linear(width, 2))
        return nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2))


def deeper(pool: str, amounts: tuple[int, ...], seed: int) -> Outcome:
    """The arms, at each amount of pictures."""
    values = heads.rows(pool)
    found: heads.Values = {}
    for n in amounts:
        places = heads.drawn(pool, seed, n)
        train, val = (
            Part(values[list(each)], pools.targets(pool)[list(each)])
            for each in (places.train, places.val)
        )
        for way in ("linear", "hidden"):
            chosen = bodies.best({
                rate: bodies.fit(new_head(way, values.shape[1], seed), train, rate, seed, STEPS)
                for rate in RATES
            }, val)  # fmt: skip
            said = bodies.scores(chosen.model, values[list(places.test)]).argmax(1)
            found[f"{way}, {n}"] = {
                "test_accuracy": pools.answers(said, pool, places.test), "rate": chosen.rate
            }  # fmt: skip
    return found


def design(amounts: dict[str, int]) -> dict[str, Any]:
    """Arms, measures and contrasts; amounts by the names of their contrasts."""
    return {
        "arms": tuple(f"{way}, {n}" for n in amounts.values() for way in ("linear", "hidden")),
        "measures": (heads.ACCURACY, bodies.RATE),
        "contrasts": tuple(
            Contrast(name, f"hidden, {n}", f"linear, {n}", "test_accuracy", "more",
                     when=f"it is trained on {n} pictures")
            for name, n in amounts.items()
        ),
    }  # fmt: skip


DRAWN, FOOD = {"few": 24, "more": 96}, {"few": 20, "from_100": 100, "more": 400}


@experiment("deeper_head", seeds=30, **design(DRAWN), files=heads.FILES, minutes=2.5)
def deeper_head_drawn(seed: int) -> Outcome:
    """Does a hidden layer in the head help, on drawn pictures?

    Data: 24 or 96 drawn pictures at 96 pixels to learn from, 40 to choose by, 400 to test. Arms: a
    linear head, and one with a hidden layer of 256 (ReLU), both new, on the frozen body's features.
    Budget: 240 steps of SGD with momentum in batches of 16 at each of four rates, the best by
    validation loss, recorded. Measure: test accuracy. Prediction of the claim: the hidden layer has
    more at every amount.
    """
    return deeper(heads.DRAWN, tuple(DRAWN.values()), seed)


@experiment("deeper_head_photographs", seeds=20, **design(FOOD), photographs=heads.FOOD, minutes=3)
def deeper_head_on_photographs(seed: int) -> Outcome:
    """The same on photographs: does a hidden layer in the head help?

    Data: 20, 100 or 400 photographs at 224 pixels to learn from, 100 to choose by, 400 to test.
    Arms: a linear head, and one with a hidden layer of 256 (ReLU), both new, on the frozen body's
    features. Budget: 240 steps of SGD with momentum in batches of 16 at each of four rates, the
    best by validation loss, recorded. Measure: test accuracy. Prediction of the claim: the hidden
    layer has more at every amount.
    """
    return deeper(heads.FOOD, tuple(FOOD.values()), seed)
