"""C9, C11, C12, C17: heads on a real ImageNet network's features, drawn pictures and photographs.

Common to all: EfficientNet-Lite0 with ImageNet's weights, its features computed once. Each seed
draws anew what is learned from, chosen by and tested on: of 960 drawn pictures at 96 pixels (40 to
choose by, 400 to be tested on), or of 992 photographs of food at 224 pixels (100 and 400). Answers
are kept picture by picture.

At first there were 320 drawn pictures (120 to be tested on): too few to decide three contrasts of
C9, C12 and C17. Drawn in the same way, 640 more came after these results had been seen.
"""

import copy
from functools import cache
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from torch import Tensor, nn
from torchvision.transforms import v2

from course_lib import backbones, features
from course_lib.evidence import pools
from course_lib.evidence.design import Answers, Contrast, Measure, Outcome, experiment
from course_lib.evidence.digits import Part
from course_lib.evidence.studies import bodies, pictures
from course_lib.evidence.studies.pictures import network
from course_lib.recipe.heads import OneScale

_, FOOD, DRAWN = pools.POOLS
FILES = (*pictures.FILES, "hotdog_more/manifest.json")
SIZES = {DRAWN: 96, FOOD: 224}
CHOSEN_BY, TESTED = {DRAWN: 40, FOOD: 100}, {DRAWN: 400, FOOD: 400}
LEARNED = 96
AMOUNTS = {DRAWN: (8, 96), FOOD: (8, 20, 100, 400)}
ACCURACY = Measure("test_accuracy", digits=3)
PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)  # inverse strengths of the L2 penalty
SECOND = "efficientnet_lite1"

Values = dict[str, dict[str, float | Answers]]
Numbers = tuple[tuple[float, ...], tuple[float, ...]]
OWN: Numbers = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET: Numbers = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NONE: Numbers = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def normalised(size: int, numbers: Numbers) -> v2.Transform:
    """The network's preparation for testing, with other numbers in the last step."""
    steps = list(backbones.preprocessing(pools.NETWORK, size).eval.transforms)
    return v2.Compose([*steps[:-1], v2.Normalize(list(numbers[0]), list(numbers[1]))])


@cache
def rows(
    pool: str, numbers: Numbers = OWN, weights: int | None = None, name: str = pools.NETWORK
) -> Tensor:
    """Features (N, D) of a pool."""
    return pools.rows(pool, normalised(SIZES[pool], numbers), network(weights, name))


@cache
def pixels(pool: str) -> Tensor:
    """The pictures themselves as features: 24 x 24 pixels, three colours."""
    small = v2.Compose([v2.Resize((24, 24)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    return pools.rows(pool, small, nn.Sequential(nn.Flatten(), nn.Identity()), layer="1")


def drawn(pool: str, seed: int, n: int = LEARNED) -> pools.Draw:
    """A seed's pictures, ``n`` to learn from."""
    return pools.draw(pool, seed, n, CHOSEN_BY[pool], TESTED[pool])


def said_by(pipeline: Pipeline, values: Tensor, pool: str, places: pools.Draw) -> Answers:
    """The test answers of a classifier that has learned."""
    return pools.answers(pipeline.predict(values[list(places.test)].numpy()), pool, places.test)


def fitted(pipeline: Pipeline, values: Tensor, pool: str, places: pools.Draw) -> Pipeline:
    """A classifier after it has learned from the training pictures."""
    rows = list(places.train)
    return pipeline.fit(values[rows].numpy(), pools.targets(pool)[rows].numpy())


def best_linear(values: Tensor, pool: str, places: pools.Draw) -> dict[str, float | Answers]:
    """Logistic regression; its penalty is chosen by accuracy on the pictures to choose by."""
    val = list(places.val)
    tried = {
        penalty: fitted(
            make_pipeline(OneScale(), LogisticRegression(C=penalty, max_iter=2000)),
            values, pool, places,
        )
        for penalty in PENALTIES
    }  # fmt: skip
    chosen = max(
        tried,
        key=lambda penalty: tried[penalty].score(
            values[val].numpy(), pools.targets(pool)[val].numpy()
        ),
    )
    return {"test_accuracy": said_by(tried[chosen], values, pool, places), "penalty": chosen}


DRAWINGS = 4  # sets of new weights; the seeds take turns


def one_linear_layer(pool: str, seed: int) -> Values:
    """The arms of C12."""
    places = drawn(pool, seed)
    return {
        "trained network": best_linear(rows(pool), pool, places),
        "new network": best_linear(rows(pool, weights=seed % DRAWINGS), pool, places),
        "pixels": best_linear(pixels(pool), pool, places),
        "nine in ten": {"test_accuracy": 0.9, "penalty": 0.0},
    }


C12: dict[str, Any] = {
    "arms": ("trained network", "new network", "pixels", "nine in ten"),
    "measures": (ACCURACY, Measure("penalty", digits=3)),
    "contrasts": (
        Contrast("well", "trained network", "nine in ten", "test_accuracy", "more",
                 when="well means more than nine in ten"),
        Contrast("training", "trained network", "new network", "test_accuracy", "more",
                 when="compared with an untrained network's features"),
        Contrast("pixels", "trained network", "pixels", "test_accuracy", "more",
                 when="compared with a linear layer on the pixels"),
    ),
}  # fmt: skip


@experiment("C12", seeds=50, **C12, files=FILES, minutes=1.7)
def one_linear_layer_drawn(seed: int) -> Outcome:
    """Does one linear layer on a trained network's features separate a new problem's classes well?

    Data: 96 training pictures. Arms: a linear layer (logistic regression) on the 1,280 features of
    the trained network; on those of the same network with new weights (four sets, in turns); on 24
    x 24 pixels; and the constant 0.9, as what "well" means. Budget: five penalties for each, the
    best by validation, recorded. Measure: test accuracy. Prediction of the claim: the trained
    network's features give more than each of the other three.
    """
    return one_linear_layer(DRAWN, seed)


@experiment("C12_photographs", seeds=20, **C12, photographs=FOOD, minutes=12)
def one_linear_layer_on_photographs(seed: int) -> Outcome:
    """The same on photographs: does one linear layer separate hot dogs from other food well?

    Data: 96 photographs to learn from. Arms: a linear layer on the 1,280 features of the trained
    network; on those of the same network with new weights (four sets, in turns); on 24 x 24 pixels;
    and the constant 0.9. Budget: five penalties for each, the best by validation, recorded.
    Measure: test accuracy. Prediction of the claim: the trained network's features give more than
    each of the other three.
    """
    return one_linear_layer(FOOD, seed)


def normalisation(pool: str, seed: int) -> Values:
    """The arms of C11."""
    places = drawn(pool, seed)
    head = network().get_submodule(backbones.head_name(network()))
    hotdogs = [each for each in places.test if pools.targets(pool)[each] == 0]
    found: Values = {}
    for arm, numbers in {"its own": OWN, "ImageNet's": IMAGENET, "none": NONE}.items():
        values = rows(pool, numbers)
        with torch.no_grad():
            first = head(values[hotdogs]).argmax(1) == backbones.HOTDOG_CLASS
        recognised = Answers(tuple(hotdogs), tuple(first.tolist()))
        found[arm] = {**best_linear(values, pool, places), "recognised": recognised}
    return found


C11: dict[str, Any] = {
    "arms": ("its own", "ImageNet's", "none"),
    "measures": (ACCURACY, Measure("penalty", digits=3), Measure("recognised")),
    "contrasts": (
        Contrast("unlearned", "ImageNet's", "its own", "recognised", "less",
                 when="the network is used as it is"),
        Contrast("learned", "ImageNet's", "its own", "test_accuracy", "less",
                 when="a new head is trained with the same wrong numbers"),
        Contrast("none", "none", "its own", "recognised", "less",
                 when="pictures are not normalised at all"),
    ),
}  # fmt: skip


@experiment("C11", seeds=100, **C11, files=FILES, minutes=1.5)
def normalisation_drawn(seed: int) -> Outcome:
    """What do the wrong numbers for normalisation cost?

    Data: 96 training pictures. Arms: the network's own mean and std (0.5, 0.5); those that most
    networks want (0.485 ..., 0.229 ...); none, values from 0 to 1. Measures: the share of hot dogs
    among the test pictures whose first choice among ImageNet's thousand classes is the hot dog,
    with nothing trained; and test accuracy of a linear layer on the features, all pictures alike
    with those numbers. Budget: five penalties for each, the best by validation, recorded.
    Prediction of the claim: the wrong numbers have less of both.
    """
    return normalisation(DRAWN, seed)


@experiment("C11_photographs", seeds=50, **C11, photographs=FOOD, minutes=4)
def normalisation_on_photographs(seed: int) -> Outcome:
    """The same on photographs: what do the wrong numbers for normalisation cost?

    Data: 96 photographs to learn from. Arms: the network's own mean and std; those that most
    networks want; none. Measures: the share of hot dogs among the test photographs that are
    recognised with nothing trained; and test accuracy of a linear layer on the features. Budget:
    five penalties for each, the best by validation, recorded. Prediction of the claim: the wrong
    numbers have less of both.
    """
    return normalisation(FOOD, seed)


HEAD_RATES = (0.001, 0.003, 0.01)
HEAD_STEPS = 120


def hotdog_row(pool: str, seed: int) -> Values:
    """The arms of C9."""
    values, largest = rows(pool), drawn(pool, seed, max(AMOUNTS[pool]))
    test = values[list(largest.test)]
    found: Values = {}
    for n in (0, *AMOUNTS[pool]):
        places = drawn(pool, seed, n or max(AMOUNTS[pool]))
        train, val = (
            Part(values[list(each)], pools.targets(pool)[list(each)])
            for each in (places.train, places.val)
        )
        seen = copy.deepcopy(network())
        backbones.hotdog_head(seen, features=train.images)
        new = backbones.replace_head(copy.deepcopy(network()), 2, seed=seed)
        for way, model in {"random": new, "hot-dog row": seen}.items():
            head = bodies.OnlyHead(bodies.head_of(model))
            chosen = bodies.Chosen(head, 0.0, 0.0)
            if n:
                chosen = bodies.best({
                    rate: bodies.fit(copy.deepcopy(head), train, rate, seed, HEAD_STEPS)
                    for rate in HEAD_RATES
                }, val)  # fmt: skip
            said = bodies.scores(chosen.model, test).argmax(1)
            found[f"{way}, {n}"] = {
                "test_accuracy": pools.answers(said, pool, places.test), "rate": chosen.rate
            }  # fmt: skip
    return found


def hotdog_arms(pool: str) -> tuple[str, ...]:
    """The arms of C9 in a pool."""
    return tuple(f"{way}, {n}" for n in (0, *AMOUNTS[pool]) for way in ("random", "hot-dog row"))


def hotdog_contrasts(pool: str) -> tuple[Contrast, ...]:
    """One for each amount of pictures."""
    names = ("untrained", "few", *(f"from_{n}" for n in AMOUNTS[pool][1:-1]), "more")
    return tuple(
        Contrast(name, f"hot-dog row, {n}", f"random, {n}", "test_accuracy", "more",
                 when=f"it is trained on {n} pictures" if n else "the head is not trained")
        for name, n in zip(names, (0, *AMOUNTS[pool]), strict=True)
    )  # fmt: skip


@experiment(
    "C9", seeds=80, arms=hotdog_arms(DRAWN), measures=(ACCURACY, bodies.RATE),
    contrasts=hotdog_contrasts(DRAWN), files=FILES, minutes=2,
)  # fmt: skip
def hotdog_row_drawn(seed: int) -> Outcome:
    """Does a head that starts from ImageNet's hot-dog class do better than a random one?

    Data: 96 training pictures, or 8 of them. Arms: a random head, and the one of
    ``backbones.hotdog_head`` (which sees the features of those training pictures, not their
    classes), each untrained, trained on the 8 and on the 96. The body is frozen. Budget: three
    learning rates, 120 steps of SGD with momentum, the best by validation loss, recorded. Measure:
    test accuracy. Prediction of the claim: the hot-dog row has more at every amount.
    """
    return hotdog_row(DRAWN, seed)


@experiment(
    "C9_photographs", seeds=150, arms=hotdog_arms(FOOD), measures=(ACCURACY, bodies.RATE),
    contrasts=hotdog_contrasts(FOOD), photographs=FOOD, minutes=6,
)  # fmt: skip
def hotdog_row_on_photographs(seed: int) -> Outcome:
    """The same on photographs: is the hot-dog row a better first head than a random one?

    Data: 400 photographs to learn from, or 100, 20 or 8 of them. Arms: a random head, and the one
    of ``backbones.hotdog_head``, each untrained and trained on each amount. The body is frozen.
    Budget: three learning rates, 120 steps of SGD with momentum, the best by validation loss,
    recorded. Measure: test accuracy. Prediction of the claim: the hot-dog row has more at every
    amount.
    """
    return hotdog_row(FOOD, seed)


def classical(pool: str, seed: int) -> Values:
    """The arms of C17."""
    places, own = drawn(pool, seed), rows(pool)
    both = torch.cat([own, rows(pool, name=SECOND)], dim=1)
    pipelines = features.classifiers()
    pipelines["linear"] = pipelines.pop("logistic_regression")
    linear = features.classifiers()["logistic_regression"]
    ways = {name: (pipeline, own) for name, pipeline in pipelines.items()}
    ways |= {"joined": (linear, both), "second alone": (linear, rows(pool, name=SECOND))}
    ways |= {"pixels": (linear, pixels(pool))}
    return {
        arm: {"test_accuracy": said_by(fitted(way, values, pool, places), values, pool, places)}
        for arm, (way, values) in ways.items()
    }


C17: dict[str, Any] = {
    "arms": ("linear", "svm", "naive_bayes", "knn", "joined", "second alone", "pixels"),
    "measures": (ACCURACY,),
    "contrasts": (
        Contrast("svm", "svm", "linear", "test_accuracy", "not less", margin=0.03,
                 when="the classifier is an SVM: no worse than a linear layer"),
        Contrast("naive_bayes", "naive_bayes", "linear", "test_accuracy", "not less", margin=0.03,
                 when="the classifier is naive Bayes: no worse than a linear layer"),
        Contrast("joined", "joined", "linear", "test_accuracy", "more",
                 when="the features of two networks are joined: better than one's"),
    ),
}  # fmt: skip


@experiment("C17", seeds=100, **C17, files=FILES, minutes=1.4)
def classical_drawn(seed: int) -> Outcome:
    """Do classical classifiers work on a network's features, and do two networks do better?

    Data: 96 training pictures. Arms: logistic regression, an SVM with a Gaussian kernel, Gaussian
    naive Bayes and five nearest neighbours on the 1,280 features of the trained network, all with
    scikit-learn's usual settings; logistic regression on these joined with those of a second
    trained network, EfficientNet-Lite1, a deeper relative, and on the second's alone; logistic
    regression on 24 x 24 pixels. Budget: none is tuned. Measure: test accuracy. Prediction of the
    claim: SVM and naive Bayes have at most 0.03 less than the linear layer, the joined features
    more than the first network's.
    """
    return classical(DRAWN, seed)


@experiment("C17_photographs", seeds=50, **C17, photographs=FOOD, minutes=6)
def classical_on_photographs(seed: int) -> Outcome:
    """The same on photographs: do classical classifiers work, and do two networks do better?

    Data: 96 photographs to learn from. Arms: as on drawn pictures: logistic regression, SVM, naive
    Bayes and nearest neighbours on one network's features; logistic regression on two networks'
    features joined, on the second's alone, and on 24 x 24 pixels. Budget: none is tuned. Measure:
    test accuracy. Prediction of the claim: SVM and naive Bayes have at most 0.03 less than the
    linear layer, the joined features more than the first network's.
    """
    return classical(FOOD, seed)
