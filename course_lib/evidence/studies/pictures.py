"""C8, C9, C11, C12, C17: a real ImageNet network on the course's drawn pictures, at 96 pixels.

Common to all: EfficientNet-Lite0, the bundled hot-dog pictures without augmentation. The seed
draws which training pictures are used; validation and test pictures are always the same, so that
the intervals say nothing about other pictures.
"""

import copy
import time
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchvision.transforms import v2

from course_lib import backbones, data, features, freezing, training
from course_lib.evidence.design import Contrast, Measure, Outcome, experiment
from course_lib.paths import data_dir
from course_lib.profile import seeded_generator

NETWORK, SECOND, SIZE = "efficientnet_lite0", "efficientnet_lite1", 96
FILES = ("hotdog_rendered/manifest.json",)
ACCURACY = Measure("test_accuracy", digits=3)
PENALTIES = (0.01, 0.1, 1.0, 10.0)  # inverse strengths of the L2 penalty, tried for every arm

Rows = features.Features


def normalised(mean: Sequence[float], std: Sequence[float]) -> v2.Transform:
    """The network's preparation for testing, with other numbers in the last step."""
    steps = list(backbones.preprocessing(NETWORK, SIZE).eval.transforms)
    return v2.Compose([*steps[:-1], v2.Normalize(list(mean), list(std))])


OWN = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NONE = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
Numbers = tuple[tuple[float, ...], tuple[float, ...]]


def pictures(split: str, numbers: Numbers = OWN) -> data.ImageFolderDataset:
    """One split of the bundled pictures, prepared."""
    return data.hotdog(data_dir() / "hotdog_rendered", split, normalised(*numbers))


@cache
def network(weights: int | None = None, name: str = NETWORK) -> nn.Module:
    """A network with ImageNet's weights, or with new ones drawn from a seed."""
    if weights is None:
        return backbones.load(name).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights)
        return backbones.load(name, pretrained=False).eval()


@cache
def rows(
    split: str,
    numbers: Numbers = OWN,
    layer: str | None = None,
    weights: int | None = None,
    name: str = NETWORK,
) -> Rows:
    """Features of a split, kept on disk."""
    return features.extract(
        network(weights, name), pictures(split, numbers), layer=layer, batch_size=16, progress=False
    )


@cache
def pixels(split: str) -> Rows:
    """The pictures themselves as features: 24 x 24 pixels, three colours."""
    small = v2.Compose([v2.Resize((24, 24)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    plain = data.hotdog(data_dir() / "hotdog_rendered", split, small)
    return features.extract(nn.Sequential(nn.Flatten(), nn.Identity()), plain, layer="1")


def drawn(seed: int, targets: Tensor, n: int) -> list[int]:
    """Places of ``n`` training pictures, half of each class, drawn by the seed.

    ``targets`` (N,) are the classes 0 and 1 of all that there are.
    """
    order = torch.randperm(len(targets), generator=seeded_generator(seed))
    chosen = [order[targets[order] == each][: n // 2] for each in (0, 1)]
    return sorted(torch.cat(chosen).tolist())


def best_linear(train: Rows, val: Rows, test: Rows) -> float:
    """Test accuracy of logistic regression, its penalty chosen by validation accuracy."""

    def fitted(penalty: float) -> Pipeline:
        steps = StandardScaler(), LogisticRegression(C=penalty, max_iter=2000)
        return make_pipeline(*steps).fit(*train.arrays())

    best = max((fitted(each) for each in PENALTIES), key=lambda each: each.score(*val.arrays()))
    return float(best.score(*test.arrays()))


@experiment(
    "C12", seeds=5, arms=("trained network", "new network", "pixels", "nine in ten"),
    measures=(ACCURACY,),
    contrasts=(
        Contrast("well", "trained network", "nine in ten", "test_accuracy", "more",
                 when="well means more than nine in ten"),
        Contrast("training", "trained network", "new network", "test_accuracy", "more",
                 when="compared with an untrained network's features"),
        Contrast("pixels", "trained network", "pixels", "test_accuracy", "more",
                 when="compared with a linear layer on the pixels"),
    ),
    files=FILES, minutes=1.5,
)  # fmt: skip
def one_linear_layer(seed: int) -> Outcome:
    """Does one linear layer on a trained network's features separate a new problem's classes well?

    Data: 96 training pictures drawn by the seed. Arms: a linear layer (logistic regression) on the
    1,280 features of the trained network; on those of the same network with new weights, drawn by
    the seed; on 24 x 24 pixels; and the constant 0.9, as what "well" means. Budget: four penalties
    for each, the best by validation. Measure: test accuracy. Prediction of the claim: the trained
    network's features give more than each of the other three.
    """
    sources: dict[str, Callable[[str], Rows]] = {
        "trained network": rows,
        "new network": lambda split: rows(split, weights=seed),
        "pixels": pixels,
    }
    found = {"nine in ten": {"test_accuracy": 0.9}}
    for arm, of in sources.items():
        train = of("train")
        some = train.subset(drawn(seed, train.targets, 96))
        found[arm] = {"test_accuracy": best_linear(some, of("val"), of("test"))}
    return found


@experiment(
    "C11", seeds=5, arms=("its own", "ImageNet's", "none"),
    measures=(ACCURACY, Measure("recognised")),
    contrasts=(
        Contrast("unlearned", "ImageNet's", "its own", "recognised", "less",
                 when="the network is used as it is"),
        Contrast("learned", "ImageNet's", "its own", "test_accuracy", "less",
                 when="a new head is trained with the same wrong numbers"),
        Contrast("none", "none", "its own", "recognised", "less",
                 when="pictures are not normalised at all"),
    ),
    files=FILES, minutes=1,
)  # fmt: skip
def normalisation(seed: int) -> Outcome:
    """What do the wrong numbers for normalisation cost?

    Data: 96 training pictures drawn by the seed. Arms: the network's own mean and std (0.5, 0.5);
    those that most networks want (0.485 ..., 0.229 ...); none, values from 0 to 1. Measures: the
    share of hot-dog pictures (half of all training ones, drawn by the seed) whose first choice
    among ImageNet's thousand classes is the hot dog, with nothing trained; and test accuracy of a
    linear layer on the features, training and test pictures alike with those numbers. Budget: four
    penalties for each, the best by validation. Prediction of the claim: the wrong numbers have less
    of both.
    """
    head = network().get_submodule(backbones.head_name(network()))
    found: dict[str, dict[str, float]] = {}
    for arm, numbers in {"its own": OWN, "ImageNet's": IMAGENET, "none": NONE}.items():
        train = rows("train", numbers)
        some = train.subset(drawn(seed, train.targets, 96))
        with torch.no_grad():
            first = head(some.values[some.targets == 0]).argmax(1)
        found[arm] = {
            "test_accuracy": best_linear(some, rows("val", numbers), rows("test", numbers)),
            "recognised": float((first == backbones.HOTDOG_CLASS).double().mean()),
        }
    return found


HEAD_RATES = (0.0001, 0.001, 0.01, 0.1)


def tuned_head(start: nn.Linear, train: Rows, seed: int, epochs: int) -> float:
    """Test accuracy of a head trained on features, its rate chosen by validation."""
    ranked = []
    for rate in HEAD_RATES:
        head, _ = features.train_head(
            train, start=start, epochs=epochs, lr=rate, head_lr_factor=1, momentum=0.9,
            batch_size=8, seed=seed, restore_best=False, progress=False,
        )  # fmt: skip
        ranked.append((head_accuracy(head, rows("val")), -rate, head_accuracy(head, rows("test"))))
    return max(ranked)[2]


@torch.no_grad()
def head_accuracy(head: nn.Linear, part: Rows) -> float:
    """Accuracy of a head on features."""
    return float((head(part.values).argmax(1) == part.targets).double().mean())


@experiment(
    "C9", seeds=5,
    arms=tuple(f"{way}, {n}" for n in (0, 8, 96) for way in ("random", "hot-dog row")),
    measures=(ACCURACY,),
    contrasts=(
        Contrast("untrained", "hot-dog row, 0", "random, 0", "test_accuracy", "more",
                 when="the head is not trained"),
        Contrast("few", "hot-dog row, 8", "random, 8", "test_accuracy", "more",
                 when="it is trained on 8 pictures"),
        Contrast("more", "hot-dog row, 96", "random, 96", "test_accuracy", "more",
                 when="it is trained on 96 pictures"),
    ),
    files=FILES, minutes=1,
)  # fmt: skip
def hotdog_row(seed: int) -> Outcome:
    """Does a head that starts from ImageNet's hot-dog class do better than a random one?

    Data: 96 training pictures drawn by the seed, or 8 of them. Arms: a random head, and the one of
    ``backbones.hotdog_head`` (which sees the features of those training pictures, not their
    classes), each untrained, trained on the 8 and on the 96. The body is frozen. Budget: four
    learning rates, ten epochs of SGD with momentum, the best by validation. Measure: test accuracy.
    Prediction of the claim: the hot-dog row has more at every amount.
    """
    train = rows("train")
    parts = {n: train.subset(drawn(seed, train.targets, n)) for n in (8, 96)}
    found: dict[str, dict[str, float]] = {}
    for n in (0, 8, 96):
        part = parts[n or 96]
        seen = copy.deepcopy(network())
        backbones.hotdog_head(seen, features=part.values)
        random = backbones.replace_head(copy.deepcopy(network()), 2, seed=seed)
        for way, model in {"random": random, "hot-dog row": seen}.items():
            head = model.get_submodule(backbones.head_name(model))
            assert isinstance(head, nn.Linear)
            test = tuned_head(head, part, seed, 10) if n else head_accuracy(head, rows("test"))
            found[f"{way}, {n}"] = {"test_accuracy": test}
    return found


@experiment(
    "C17", seeds=5, arms=("linear", "svm", "naive_bayes", "knn", "joined", "pixels"),
    measures=(ACCURACY,),
    contrasts=(
        Contrast("svm", "svm", "linear", "test_accuracy", "same", margin=0.05,
                 when="the classifier is an SVM: as good as a linear layer"),
        Contrast("naive_bayes", "naive_bayes", "linear", "test_accuracy", "same", margin=0.05,
                 when="the classifier is naive Bayes: as good as a linear layer"),
        Contrast("joined", "joined", "linear", "test_accuracy", "more",
                 when="the features of two networks are joined: better than one's"),
    ),
    files=FILES, minutes=1,
)  # fmt: skip
def classical(seed: int) -> Outcome:
    """Do classical classifiers work on a network's features, and do two networks do better?

    Data: 96 training pictures drawn by the seed. Arms: logistic regression, an SVM with a Gaussian
    kernel, Gaussian naive Bayes and five nearest neighbours on the 1,280 features of the trained
    network, all with scikit-learn's usual settings; logistic regression on these joined with those
    of a second trained network, EfficientNet-Lite1, a deeper relative; logistic regression on 24
    x 24 pixels. Budget: none is tuned. Measure: test accuracy. Prediction of the claim: SVM and
    naive Bayes are within 0.05 of the linear layer, the joined features better than one network's.
    """
    train, test = rows("train"), rows("test")
    chosen = drawn(seed, train.targets, 96)
    pipelines = features.classifiers()
    pipelines["linear"] = pipelines.pop("logistic_regression")
    found = {
        name: pipeline.fit(*train.subset(chosen).arrays()).score(*test.arrays())
        for name, pipeline in pipelines.items()
    }
    both = [features.join(rows(split), rows(split, name=SECOND)) for split in ("train", "test")]
    further = {"joined": both, "pixels": [pixels("train"), pixels("test")]}
    for name, (some, other) in further.items():
        linear = features.classifiers()["logistic_regression"]
        found[name] = linear.fit(*some.subset(chosen).arrays()).score(*other.arrays())
    return {arm: {"test_accuracy": float(each)} for arm, each in found.items()}


FINE_RATES = (0.0003, 0.001, 0.003)


@experiment(
    "C8", seeds=5, arms=("all layers", "head only"),
    measures=(ACCURACY, Measure("pictures_per_second", digits=1, timing=True)),
    contrasts=(
        Contrast("accuracy", "head only", "all layers", "test_accuracy", "same", margin=0.05,
                 when="accuracy counts: no more than 0.05 apart"),
        Contrast("speed", "head only", "all layers", "pictures_per_second", "more", margin=1.46,
                 ratio=True, when="speed counts: at least 1.46 times as fast"),
    ),
    files=FILES, minutes=8,
)  # fmt: skip
def freeze_all_but_the_head(seed: int) -> Outcome:
    """Does freezing all but the head cost little accuracy and make training 1.46 times as fast?

    Data: 96 training pictures drawn by the seed, without augmentation. Arms: all layers trained,
    the head ten times as fast as the body; the body frozen (``freezing.freeze``: no gradients, in
    inference mode). Budget: three learning rates (of the body: 0.0003, 0.001, 0.003; ten times as
    much for the head, in both arms), three epochs of SGD with momentum in batches of 8, the rate
    chosen by validation accuracy. Measures: test accuracy; and pictures a second of processor time
    in training, the best of three epochs at the first rate. Prediction of the claim: accuracies no
    more than 0.05 apart, and the frozen one at least 1.46 times as fast, as its reader measured on
    a GPU.
    """
    whole = pictures("train")
    chosen = drawn(seed, torch.tensor(whole.targets), 96)
    train = in_memory(whole, chosen)
    val, test = in_memory(pictures("val")), in_memory(pictures("test"))
    found: dict[str, dict[str, float]] = {}
    for arm in ("all layers", "head only"):
        ranked, speed = [], 0.0
        for rate in FINE_RATES:
            model = backbones.replace_head(copy.deepcopy(network()), 2, seed=seed)
            if arm == "head only":
                head = backbones.head_name(model)
                freezing.freeze(model, [name for name, _ in model.named_children() if name != head])
            ends = [time.process_time()]
            training.finetune(
                model, train, epochs=3, lr=rate, momentum=0.9, batch_size=8, device="cpu",
                amp=False, seed=seed, progress=False,
                on_epoch_end=lambda _: ends.append(time.process_time()),  # noqa: B023 - used at once
            )  # fmt: skip
            speed = speed or len(train) / float(np.diff(ends).min())
            scores = [training.evaluate(model, each).accuracy for each in (val, test)]
            ranked.append((scores[0], -rate, scores[1]))
        found[arm] = {"test_accuracy": max(ranked)[2], "pictures_per_second": speed}
    return found


def in_memory(
    dataset: data.ImageFolderDataset, places: Sequence[int] | None = None
) -> TensorDataset:
    """Pictures (N, 3, H, W), prepared once, with their classes (N,)."""
    items = [dataset[i] for i in (range(len(dataset)) if places is None else places)]
    return TensorDataset(torch.stack([x for x, _ in items]), torch.tensor([y for _, y in items]))
