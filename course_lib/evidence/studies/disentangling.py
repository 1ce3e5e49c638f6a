"""Content and style apart: what can still be predicted of the one from the other's code."""

import torch
from torch import Tensor

from course_lib.evidence import digits
from course_lib.evidence.design import Contrast, Measure, Outcome, experiment
from course_lib.profile import seeded_generator
from course_lib.strategies import disentangling

FIRST_DRAW = 20
TRAIN, PROBED = 1000, 400  # pictures; the other 397 are to test the probes on
WAYS = {"plain": (0.0, 0.0), "swaps": (1.0, 0.0), "swaps and pairs": (1.0, 0.1)}
BEST = "swaps and pairs"


def both_codes(model: disentangling.TwoCodes, looks: Tensor) -> tuple[Tensor, Tensor]:
    """Content and style of pictures (looks, N, 1, 8, 8), a row for each: (looks * N, D)."""
    with torch.no_grad():
        return model.encode(looks.flatten(0, 1))


def readings(train: tuple[Tensor, ...], test: tuple[Tensor, ...]) -> dict[str, float]:
    """The best of the probes for each pair, and the line's for the class from the content.

    Args:
        train: content, style, number of the class, number of the look.
        test: likewise, of other pictures.
    """
    found = {}
    for code, place in (("content", 0), ("style", 1)):
        for what, number in (("class", 2), ("style", 3)):
            probed = disentangling.probe_codes(
                (train[place], train[number]), (test[place], test[number])
            )
            found[f"{what}_from_{code}"] = max(probed.values())
            if (what, code) == ("class", "content"):
                found["class_by_line"] = probed["logistic_regression"]
    return found


@experiment(
    "disentangling", seeds=8, arms=(*WAYS, "random codes"),
    measures=tuple(
        Measure(each, digits=3)
        for each in ("style_from_content", "class_from_content", "class_by_line",
                     "class_from_style", "style_from_style")
    ),
    contrasts=(
        Contrast("style", BEST, "plain", "style_from_content", "less",
                 when="the style is read from the content code"),
        Contrast("swaps", "swaps", "plain", "style_from_content", "less",
                 when="the same with swaps alone"),
        Contrast("kept", BEST, "plain", "class_from_content", "same", margin=0.03,
                 when="the class is read from the content code by the best probe"),
        Contrast("line", BEST, "plain", "class_by_line", "more",
                 when="the class is read from the content code by a line"),
        Contrast("leak", BEST, "random codes", "style_from_content", "same", margin=0.05,
                 when="the style read from the content code is compared with chance"),
        Contrast("other_leak", BEST, "random codes", "class_from_style", "same", margin=0.05,
                 when="the class read from the style code is compared with chance"),
    ),
    minutes=1,
)  # fmt: skip
def two_codes(seed: int) -> Outcome:
    """Are content and style apart, and what of the one is left in the other's code?

    Data: scikit-learn's digits in four looks (as they are, inverted, thick, slanted); 1,000
    pictures for the autoencoder, 400 others to train the probes on and 397 to test them on, all in
    all looks. Arms: an autoencoder with 16 numbers for the content and 4 for the style that only
    reconstructs (plain); with swaps; with swaps and pairs; and random codes of the same sizes,
    which show what the probes reach by chance. Budget: 600 steps of Adam at 0.002 for each; the
    pairs' weight of 0.1 was fixed on draws 0 and 1, of four, results are from draw 20 on. Measures:
    the best test accuracy of three probes (line, support vectors, neighbours), for class and look
    from each code; the class from the content by the line alone. Prediction of the claim: with
    swaps and pairs less of the style can be read from the content than plain, as with swaps alone;
    the class as well, to 0.03, and more by a line; and each factor from the other's code no better
    than from random codes, to 0.05.
    """
    draw = FIRST_DRAW + seed
    images, targets = digits._all()
    stream = seeded_generator(15000 + draw)
    order = torch.randperm(len(images), generator=stream)
    train, probed, test = order[:TRAIN], order[TRAIN:][:PROBED], order[TRAIN + PROBED :]
    looks = disentangling.in_all_looks(images)
    labels = [
        (targets[rows].repeat(len(looks)), torch.arange(len(looks)).repeat_interleave(len(rows)))
        for rows in (probed, test)
    ]
    found = {}
    for way, (swaps, pairs) in WAYS.items():
        model = disentangling.train_two_codes(looks[:, train], swaps=swaps, pairs=pairs, seed=draw)
        codes = (both_codes(model, looks[:, rows]) for rows in (probed, test))
        found[way] = readings(*(c + known for c, known in zip(codes, labels, strict=True)))
    drawn = [
        tuple(torch.randn(len(known[0]), size, generator=stream) for size in (16, 4)) + known
        for known in labels
    ]
    return found | {"random codes": readings(*drawn)}
