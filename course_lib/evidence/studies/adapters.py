"""Small parts trained in a frozen transformer, beside its head and beside all of it. On digits."""

from course_lib.evidence import digit_vit, digits
from course_lib.evidence.design import Contrast, Measure, Outcome, experiment

FIRST_DRAW = 20  # those before were looked at while the design was made

SMALL = ("LoRA", "adapters", "biases", "norms", "prompts")


def trained(seed: int, task: digits.Task, way: str, rate: float) -> digits.Score:
    """One training of the pretrained transformer in one way, and how it did."""
    model = digit_vit.prepare(digit_vit.pretrained(seed), way, seed)
    digit_vit.fit(model, task.train, rate, seed=seed)
    return digits.score(model, task)  # type: ignore[arg-type]  # any network will do


@experiment(
    "adapters", seeds=21, arms=("all layers", "head", *SMALL),
    measures=(Measure("test_accuracy", digits=3), Measure("best_rate", digits=4)),
    contrasts=(
        Contrast("lora_all", "LoRA", "all layers", "test_accuracy", "same", margin=0.02,
                 when="LoRA is set against training everything"),
        *(Contrast(way.lower(), way, "head", "test_accuracy", "more",
                   when=f"{way} {'is' if way == 'LoRA' else 'are'} set against the head alone")
          for way in SMALL),
        Contrast("rate", "LoRA", "all layers", "best_rate", "more", margin=3.16, ratio=True,
                 when="the best learning rate is asked for"),
    ),
    minutes=16,
)  # fmt: skip
def small_parts(seed: int) -> Outcome:
    """Is it enough to train small parts of a frozen transformer?

    Data: 50 pictures of the digits 5 to 9, a transformer pretrained on 0 to 4, a new head. Arms:
    all layers; the head; and the head together with LoRA of rank 4 on the query-key-value and the
    first MLP layers, with adapters of size 4 behind attention and MLP, with all biases, with the
    norms' weights and biases, with four prompt tokens. Budget: 150 steps of Adam at each of six
    rates from 0.0003 to 0.1 (a factor of about 3.2 apart), the best by validation, for every arm.
    Draws 20 to 27: on draws 0 and 1 the sizes were chosen. Measures: test accuracy; the rate that
    was best. Prediction of the claim: each small part beats the head alone, LoRA is within 0.02 of
    training everything, and wants at least 3.16 times its rate.
    """
    draw = FIRST_DRAW + seed
    task = digits.target_task(draw, 50)
    found = {}
    for way in digit_vit.WAYS:
        scores = {rate: trained(draw, task, way, rate) for rate in digit_vit.RATES}
        rate = max(scores, key=lambda each: scores[each].rank)
        found[way] = {"test_accuracy": scores[rate].test, "best_rate": rate}
    return found
