"""Domain-adversarial training against the source alone and against the target's statistics.

The ways differ in one thing each. All pass each domain through BatchNorm by itself while they
train, for 300 steps of Adam at 0.001; the reversal's strength is 0 for source only and target
statistics, and 0.3 for the adversarial one. For the test, BatchNorm takes the statistics of the
source's pictures (source only) or of the target's (the others). Nothing is chosen on the draws of
the results, and no target label is used there but to measure. The designs were made on draws 0 to
2, and 0.3 was fixed there by looking at target accuracy: at the paper's 1, digits did as well,
while the photographs fell to 0.46 and 0.54 on two of three draws. So strength 1 is an arm of its
own. Results are from draw 20 on.
"""

from course_lib.evidence import digits, photographs
from course_lib.evidence.design import Contrast, Measure, Outcome, experiment
from course_lib.strategies import adversarial, domain_data

FIRST_DRAW, STRENGTH, STRONG = 20, 0.3, 1.0
WAYS = ("source only", "target statistics", "adversarial")
ARMS = (*WAYS, "strength 1", *(f"{way}, other shares" for way in WAYS))
ACCURACY = Measure("test_accuracy", digits=3)
OTHER = "nine in ten of the target's pictures are of one half of the classes"
CONTRASTS = (
    Contrast("gain", "adversarial", "source only", "test_accuracy", "more",
             when="the domains have the same class shares"),
    Contrast("rival", "adversarial", "target statistics", "test_accuracy", "more",
             when="it is set against the target's statistics, and the shares are the same"),
    Contrast("strong", "strength 1", "adversarial", "test_accuracy", "same", margin=0.03,
             when="the strength is 1 instead of 0.3"),
    Contrast("shifted", "adversarial, other shares", "source only, other shares",
             "test_accuracy", "more", when=OTHER),
    Contrast("shifted_rival", "adversarial, other shares", "target statistics, other shares",
             "test_accuracy", "more",
             when=f"it is set against the target's statistics, and {OTHER}"),
)  # fmt: skip


def ways(domains: domain_data.Domains, seed: int, *strengths: float) -> dict[str, float]:
    """Target accuracy without a reversal, with two statistics, and with each of the strengths."""
    source, target = domains.source, domains.target[0]
    found = {}
    for strength in (0.0, *strengths):
        networks = domain_data.new_networks(domains, seed)
        model = adversarial.train_adversarial(
            *networks, source, target, strength=strength, seed=seed
        )
        if strength == 0:
            found["source only"] = adversarial.statistics_of(model, source[0])
        name = {0.0: "target statistics", STRENGTH: "adversarial", STRONG: "strength 1"}[strength]
        found[name] = adversarial.statistics_of(model, target)
    test = digits.Part(*domains.test)
    return {way: digits.look(model, test)[0] for way, model in found.items()}


def with_both_shares(domains: domain_data.Domains, seed: int) -> Outcome:
    """The ways with equal class shares in both domains, and with others in the target."""
    shifted = ways(domain_data.with_other_shares(domains), seed, STRENGTH)
    found = ways(domains, seed, STRENGTH, STRONG)
    found |= {f"{way}, other shares": value for way, value in shifted.items()}
    return {arm: {"test_accuracy": value} for arm, value in found.items()}


@experiment(
    "adversarial", seeds=8, arms=ARMS, measures=(ACCURACY,), contrasts=CONTRASTS, minutes=1.5,
)  # fmt: skip
def on_digits(seed: int) -> Outcome:
    """Upright digits with labels, slanted ones without: does the reversal help?

    Data: 700 upright digits with their labels (source), 600 others slanted and without (target),
    497 more slanted ones to test on. With other shares: the target's pictures, those to test on
    too, are cut so that nine in ten are of the digits 5 to 9. Arms: source only, target statistics,
    adversarial, each with both shares, and strength 1; budget and settings as above. Prediction of
    the claim: the adversarial one has more than the first two, whatever the target's shares, and
    strength 1 does as well, to 0.03. (On draws 0 to 2 looks that differ more, inverted or outlined,
    were at chance in every way.)
    """
    draw = FIRST_DRAW + seed
    return with_both_shares(domain_data.two_domains("digits", draw), draw)


@experiment(
    "adversarial_photographs", seeds=70, arms=ARMS, measures=(ACCURACY,), contrasts=CONTRASTS,
    photographs="food_photographs", minutes=13.5,
)  # fmt: skip
def on_photographs(seed: int) -> Outcome:
    """Labelled drawings, photographs without labels: does the reversal help?

    Data: 150 drawn pictures of hot dogs and other food with labels (source), 400 photographs
    without (target), 300 of the photographs' test part to test on; features of the frozen
    EfficientNet-Lite0 at 96 pixels, and a linear layer with BatchNorm is the body. With other
    shares: in the target, for the test too, one hot dog is left to nine pictures of other food.
    Arms: source only, target statistics, adversarial, each with both shares, and strength 1; budget
    and settings as above. Prediction of the claim: the adversarial one has more than the first two,
    whatever the target's shares, and strength 1 does as well, to 0.03. (On draws 0 to 2, 200 steps
    instead of 300 gave more, about 0.8; the steps are those of the digits, and stay.)
    """
    draw = FIRST_DRAW + seed
    there = photographs.folder("food_photographs")
    return with_both_shares(domain_data.two_domains("hotdogs", draw, there), draw)
