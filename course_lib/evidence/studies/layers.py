"""C3, C5: which layers to train, by the amount and the likeness of the data. On digits.

Common to both: 200 steps of SGD with momentum for every training, the same four learning rates
tried for every arm and the best taken by 150 validation pictures and recorded, accuracy on 450 test
pictures.
The seed draws weights, order and which pictures are in which part.
"""

from collections.abc import Callable

from torch import nn

from course_lib.evidence import digits
from course_lib.evidence.design import Contrast, Measure, Outcome, experiment

ACCURACY, RATE = Measure("test_accuracy", digits=3), Measure("rate", digits=4)
STRATEGIES = ("head only", "first two frozen", "all layers", "scratch")

# Cell: pictures, change of the target's pictures, what the rule recommends.
CELLS: dict[str, tuple[int, digits.Change, str]] = {
    "few similar": (25, digits.as_it_is, "head only"),
    "few dissimilar": (25, digits.turned_inverted_noisy, "first two frozen"),
    "many dissimilar": (200, digits.turned_inverted_noisy, "scratch"),
    "many similar": (200, digits.as_it_is, "all layers"),
}


def starts(seed: int) -> dict[str, Callable[[], nn.Sequential]]:
    """The four strategies: which weights to start from, which to train."""
    return {
        "head only": lambda: digits.freeze(digits.pretrained(seed), digits.BODY),
        "first two frozen": lambda: digits.freeze(digits.pretrained(seed), digits.BODY[:2]),
        "all layers": lambda: digits.pretrained(seed),
        "scratch": lambda: digits.new_network(7000 + seed),
    }


@experiment(
    "C3", seeds=23,
    arms=tuple(f"{cell}: {way}" for cell in CELLS for way in (*STRATEGIES, "best other")),
    measures=(ACCURACY, RATE),
    contrasts=tuple(
        Contrast(cell.replace(" ", "_"), f"{cell}: {recommended}", f"{cell}: best other",
                 "test_accuracy", "more", when=f"data are {cell.replace(' ', ' and ')}")
        for cell, (_, _, recommended) in CELLS.items()
    ),
    minutes=6,
)  # fmt: skip
def four_cases(seed: int) -> Outcome:
    """In each of the four cases, is the recommended strategy the best?

    Data: the digits 5 to 9; few: 25 pictures, many: 200; similar: as they are, dissimilar: turned
    by 90 degrees, inverted and noisy. The pretrained weights are of the digits 0 to 4. Arms in each
    case: train the head only; freeze the first two of four layers; train all layers; train new
    weights; and "best other", which of the three that the rule does not recommend has the best
    validation score. Budget: four learning rates, 200 steps each, the best by validation. Measure:
    test accuracy. Prediction of the claim: the recommended one has more than the best other.
    """
    found: dict[str, dict[str, float]] = {}
    for cell, (n, change, recommended) in CELLS.items():
        task = digits.target_task(seed, n, change)
        tried = {w: digits.over_rates(start, task, seed) for w, start in starts(seed).items()}
        ranks = {way: digits.best(scores.values()).rank for way, scores in tried.items()}
        other = max((way for way in tried if way != recommended), key=lambda way: ranks[way])
        for way, scores in {**tried, "best other": tried[other]}.items():
            found[f"{cell}: {way}"] = digits.told(scores)
    return found


BY_AMOUNT = {10: ("head only", "all layers"), 50: ("first two frozen", "all layers")}


@experiment(
    "C5", seeds=32,
    arms=(
        *(f"{n}: {way}" for n, ways in BY_AMOUNT.items() for way in ways),
        *(f"kept {k}" for k in (0, 1, 2, 3)),
    ),
    measures=(ACCURACY, RATE),
    contrasts=(
        Contrast("very_few", "10: head only", "10: all layers", "test_accuracy", "more",
                 when="there are very few data: the head only"),
        Contrast("medium", "50: first two frozen", "50: all layers", "test_accuracy", "more",
                 when="there are some data: the first layers frozen"),
        Contrast("general", "kept 1", "kept 0", "test_accuracy", "more",
                 when="first layers are said to be general: kept frozen, they beat new ones"),
    ),
    minutes=5.5,
)  # fmt: skip
def by_amount(seed: int) -> Outcome:
    """How many layers should stay frozen, and how general are the first ones?

    Data: the digits 5 to 9, 10 pictures (very few) or 50 (some); weights of the digits 0 to 4.
    Arms: train the head only, at 10; freeze the first two of four layers, at 50; train all, at
    both. And with 50 pictures, transferability by depth: keep and freeze the first 0, 1, 2 or 3
    pretrained layers and draw all later ones anew. Budget: four learning rates, 200 steps each, the
    best by validation. Measure: test accuracy. Prediction of the claim: at 10 the head only beats
    all layers; at 50 freezing two beats all layers; a first layer that is kept beats a new one.
    """
    found: dict[str, dict[str, float]] = {}
    for n, ways in BY_AMOUNT.items():
        task = digits.target_task(seed, n)
        for way in ways:
            scores = digits.over_rates(starts(seed)[way], task, seed)
            found[f"{n}: {way}"] = digits.told(scores)

    def kept(k: int) -> Callable[[], nn.Sequential]:
        return lambda: digits.freeze(
            digits.reset(digits.pretrained(seed), digits.LAYERS[k:], seed), digits.BODY[:k]
        )

    task = digits.target_task(seed, 50)
    for k in (0, 1, 2, 3):
        found[f"kept {k}"] = digits.told(digits.over_rates(kept(k), task, seed))
    return found
