"""Two tasks in a row: is a hop on the way worth it, where the head stands, what is forgotten.

The first group is on digits with the small network: the seed draws weights, order and which
pictures are in which part. The second group has EfficientNet-Lite0 with ImageNet's weights.
"""

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib import backbones, data, training
from course_lib.evidence import digits
from course_lib.evidence.design import Contrast, Measure, Outcome, experiment
from course_lib.evidence.photographs import folder
from course_lib.evidence.studies.steps import best_rate
from course_lib.features.classical import classifiers
from course_lib.profile import seeded_generator
from course_lib.strategies import averages

ACCURACY = Measure("test_accuracy", digits=3)
AMOUNTS = (10, 50, 200)
FAR = digits.turned_inverted_noisy


def over(seed: int, start: nn.Sequential) -> nn.Sequential:
    """A hop over the digits 0 to 4, all layers trained; then the new head that all arms have."""
    part = digits.first_task(seed).train
    digits.fit(start, part, digits.SOURCE_RATE, digits.SOURCE_STEPS, seed=seed + 700)
    start.fc = digits.pretrained(seed, FAR).fc
    return start


@experiment(
    "hops", seeds=34,
    arms=tuple(f"{way} {n}" for n in AMOUNTS for way in ("direct", "two hops", "near alone")),
    measures=(ACCURACY,),
    contrasts=(
        Contrast("few", "two hops 10", "direct 10", "test_accuracy", "more",
                 when="the target has 10 pictures"),
        Contrast("medium", "two hops 50", "direct 50", "test_accuracy", "more",
                 when="it has 50"),
        Contrast("many", "two hops 200", "direct 200", "test_accuracy", "more",
                 when="it has 200"),
        Contrast("first", "two hops 10", "near alone 10", "test_accuracy", "more",
                 when="the far source is compared with none, at 10 pictures"),
    ),
    minutes=14,
)  # fmt: skip
def two_hops(seed: int) -> Outcome:
    """Is a hop over a related task worth it?

    Data: 10, 50 and 200 pictures of the digits 5 to 9. Arms at each amount: direct, weights
    pretrained on the digits 0 to 4 turned, inverted and noisy; two hops, the same weights trained
    on for 800 steps on about 450 upright digits 0 to 4; near alone, new weights trained the same
    800 steps on those upright digits. All get the same new head; all layers are trained. Budget for
    the target: four learning rates, 200 steps each, the best by validation. (Two hops has had more
    steps and more pictures in all: that is what a hop is.) Measure: test accuracy. Prediction of
    the claim: two hops has more than direct at each amount, and more than near alone.
    """
    starts = {
        "direct": digits.pretrained(seed, FAR),
        "two hops": over(seed, digits.pretrained(seed, FAR)),
        "near alone": over(seed, digits.new_network(7000 + seed)),
    }
    found: dict[str, dict[str, float]] = {}
    for n in AMOUNTS:
        task = digits.target_task(seed, n)
        for way, start in starts.items():
            best = digits.tuned(lambda start=start: copy.deepcopy(start), task, seed)  # type: ignore[misc]
            found[f"{way} {n}"] = {"test_accuracy": best.test}
    return found


HEAD_RATES = (0.003, 0.01, 0.03, 0.1, 0.3)


def ten_classes(seed: int) -> nn.Sequential:
    """The small network trained on ten classes: the digits 0 to 4, upright and on their side."""
    part = digits.first_task(seed).train
    both = digits.Part(
        torch.cat([part.images, part.images.rot90(1, (2, 3))]),
        torch.cat([part.targets, part.targets + 5]),
    )
    model = digits.new_network(3000 + seed, classes=10)
    return digits.fit(model, both, digits.SOURCE_RATE, digits.SOURCE_STEPS, seed=seed)


@experiment(
    "logits", seeds=10,
    arms=tuple(f"{on} {n}" for n in (25, 100) for on in ("logits", "features")),
    measures=(ACCURACY,),
    contrasts=(
        Contrast("few", "features 25", "logits 25", "test_accuracy", "same", margin=0.02,
                 when="there are 25 pictures"),
        Contrast("more", "features 100", "logits 100", "test_accuracy", "same", margin=0.02,
                 when="there are 100"),
    ),
    minutes=1,
)  # fmt: skip
def head_on_logits(seed: int) -> Outcome:
    """What is lost when the new head stands on the old task's ten logits?

    Data: 25 and 100 pictures of the digits 5 to 9. The network was trained on ten classes, the
    digits 0 to 4 upright and on their side, and is frozen. Arms: a new linear layer on its 10
    logits, as in the text's example; one in the old head's place, on the 512 features. Budget: five
    learning rates, 200 steps each, the best by validation. Measure: test accuracy. Prediction of
    the claim: no difference larger than 0.02.
    """
    first = ten_classes(seed)
    found: dict[str, dict[str, float]] = {}
    for n in (25, 100):
        task = digits.target_task(seed, n)
        for on in ("logits", "features"):
            best = digits.best(
                digits.train_and_score(_with_head(first, on, seed), task, rate, seed=seed)
                for rate in HEAD_RATES
            )
            found[f"{on} {n}"] = {"test_accuracy": best.test}
    return found


def _with_head(first: nn.Sequential, on: str, seed: int) -> nn.Sequential:
    """A frozen copy with a new head for five classes, behind the old one or in its place."""
    model = copy.deepcopy(first).requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4000 + seed)
        if on == "logits":
            model.add_module("new", nn.Linear(10, 5))
        else:
            model.fc = nn.Linear(512, 5)
    return model


PULL = 0.03
WAYS = (
    "all layers", "frozen body", "a tenth of the rate", "first two frozen", "head first", "pull",
    "old examples", "averaged",
)  # fmt: skip
LESSER = WAYS[2:]


def _contrasts() -> tuple[Contrast, ...]:
    forgets = Contrast("forgets", "all layers", "frozen body", "old_accuracy", "less",
                       when="all layers learn: the first task is forgotten")  # fmt: skip
    pairs = [
        (
            Contrast(f"{way.split()[-1]}_old", way, "all layers", "old_accuracy", "more",
                     when=f"{way}: less is forgotten"),
            Contrast(f"{way.split()[-1]}_new", way, "all layers", "test_accuracy", "same",
                     margin=0.03, when=f"{way}: the second task is learned as well"),
        )
        for way in LESSER
    ]  # fmt: skip
    return (forgets, *(each for pair in pairs for each in pair))


def learn_on(
    model: nn.Sequential,
    part: digits.Part,
    rate: float,
    steps: int,
    seed: int,
    pull: float = 0.0,
    old: Callable[[nn.Sequential], Tensor] | None = None,
) -> nn.Sequential:
    """SGD with momentum; with a pull of the body to where it was, or old examples.

    Args:
        model: all of it that requires a gradient is trained.
        part: of the second task.
        rate: learning rate.
        steps: how many.
        seed: of the order.
        pull: half of this, times the squared distance of the body from its start, is added.
        old: gives a loss to add, from the model as it is.
    """
    start = [each.detach().clone() for each in model[:-1].parameters()]
    optimizer = torch.optim.SGD(
        [each for each in model.parameters() if each.requires_grad], lr=rate, momentum=0.9
    )
    stream = seeded_generator(9000 + seed)
    waiting: list[Tensor] = []
    for _ in range(steps):
        waiting = waiting or list(torch.randperm(len(part), generator=stream).split(digits.BATCH))
        rows = waiting.pop(0)
        loss = F.cross_entropy(model(part.images[rows]), part.targets[rows])
        if pull:
            pairs = zip(model[:-1].parameters(), start, strict=True)
            loss = loss + pull / 2 * torch.stack([(a - b).square().sum() for a, b in pairs]).sum()
        if old:
            loss = loss + old(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@experiment(
    "forgetting", seeds=80, arms=WAYS,
    measures=(ACCURACY, Measure("old_accuracy", digits=3)), contrasts=_contrasts(), minutes=12,
)  # fmt: skip
def forgetting(seed: int) -> Outcome:
    """How much of the first task is forgotten, and what lessens it?

    Data: the first task is the digits 0 to 4 (about 450 to train on, 300 to test). The second is
    100 pictures of 5 to 9, turned, inverted and noisy: with upright ones, a trial seed that is not
    among these forgot nearly nothing. Arms, 200 steps each, a new head: all layers; the body
    frozen; all layers at a tenth of the rate; the first two convolutions frozen; the head alone for
    100 steps, then all layers for 100; all layers with a pull of the body to its start (0.03); all
    layers with ten old examples, two a class, through the old head in each step; and the body half
    of the way from the start to where all layers took it, with their head (WiSE-FT, averaged).
    Budget: all layers had four learning rates, the best by validation on the second task alone; the
    others take that rate as it is, so that they differ in one thing. Measures: test accuracy on the
    second task; test accuracy of the old head, kept as it was, on the body as it is then.
    Prediction of the claim: with all layers the old accuracy is less than with the frozen body;
    each of the other six has more of it than all layers, with a second task as good to within 0.03.
    """
    first = digits.first_task(seed)
    source = digits.fit(
        digits.new_network(3000 + seed), first.train, digits.SOURCE_RATE, digits.SOURCE_STEPS,
        seed=seed,
    )  # fmt: skip
    task, old_head = digits.target_task(seed, 100, FAR), source[-1]
    kept = torch.cat([(first.train.targets == each).nonzero()[:2, 0] for each in range(5)])

    def of_old(model: nn.Sequential) -> Tensor:
        features = model[:-1](first.train.images[kept])
        return F.cross_entropy(old_head(features), first.train.targets[kept])

    old_head.requires_grad_(False)

    def begin() -> nn.Sequential:
        model = copy.deepcopy(source)
        model.fc = digits.new_network(4000 + seed).fc
        return model

    def learned(
        rate: float,
        frozen: Sequence[str] = (),
        head_steps: int = 0,
        pull: float = 0.0,
        old: Callable[[nn.Sequential], Tensor] | None = None,
    ) -> digits.Score:
        model = begin()
        if head_steps:
            learn_on(digits.freeze(model, digits.BODY), task.train, rate, head_steps, seed + 500)
            model.requires_grad_(True)
        digits.freeze(model, frozen)
        learn_on(model, task.train, rate, digits.STEPS - head_steps, seed, pull, old)
        return digits.score(model.eval(), task)

    tried = {rate: learned(rate) for rate in digits.RATES}
    rate = best_rate(tried)
    models = {
        "all layers": tried[rate].model,
        "frozen body": learned(rate, digits.BODY).model,
        "a tenth of the rate": learned(rate / 10).model,
        "first two frozen": learned(rate, ("conv1", "conv2")).model,
        "head first": learned(rate, head_steps=100).model,
        "pull": learned(rate, pull=PULL).model,
        "old examples": learned(rate, old=of_old).model,
    }
    halfway = averages.interpolate(begin(), models["all layers"], 0.5)
    halfway.fc = models["all layers"].fc
    models["averaged"] = halfway  # type: ignore[assignment]
    return {
        name: {
            "test_accuracy": digits.look(model, task.test)[0],
            "old_accuracy": digits.look(nn.Sequential(model[:-1], old_head), first.test)[0],
        }
        for name, model in models.items()
    }


SIDE = 48  # pixels; a digit of 8 by 8 is enlarged
PENALTIES = (0.01, 0.1, 1.0, 10.0)
HOP_RATE = 0.003


def lite(classes: int, seed: int) -> nn.Module:
    """EfficientNet-Lite0 with ImageNet's weights and a new head."""
    torch.manual_seed(seed)
    return backbones.load("efficientnet_lite0", num_classes=classes)


@torch.no_grad()
def rows_of(model: nn.Module, images: Tensor, on: str) -> Tensor:
    """Features (N, 1280) before the head, or its scores (N, K), of images (N, 3, H, W)."""
    name = backbones.head_name(model)
    seen: list[Tensor] = []
    hook = model.get_submodule(name).register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    scores = [model.eval()(each) for each in images.split(50)]
    hook.remove()
    return torch.cat(seen if on == "features" else scores)


def linear_head(train: digits.Part, val: digits.Part, test: digits.Part) -> float:
    """Test accuracy of logistic regression on rows (N, D); its penalty is chosen on ``val``."""
    best, found = -1.0, 0.0
    for penalty in PENALTIES:
        line = classifiers()["logistic_regression"].set_params(classify__C=1 / penalty)
        line.fit(train.images.numpy(), train.targets.numpy())
        reached = line.score(val.images.numpy(), val.targets.numpy())
        if reached > best:
            best, found = reached, line.score(test.images.numpy(), test.targets.numpy())
    return found


def frozen_arms(
    hopped: nn.Module, seed: int, tasks: Mapping[int, digits.Task]
) -> dict[str, dict[str, float]]:
    """A linear head for each amount of pictures, on ImageNet's body and on the one that hopped."""
    found = {}
    starts = {
        "direct": (lite(5, seed), "features"), "two hops": (hopped, "features"),
        "on logits": (hopped, "logits"),
    }  # fmt: skip
    largest = tasks[max(tasks)]
    for way, (model, on) in starts.items():
        val, test = (
            digits.Part(rows_of(model, part.images, on), part.targets)
            for part in (largest.val, largest.test)
        )
        for n, task in tasks.items():
            train = digits.Part(rows_of(model, task.train.images, on), task.train.targets)
            found[f"{way} {n}"] = {"test_accuracy": linear_head(train, val, test)}
    return found


def hop_over(part: digits.Part, epochs: int, seed: int) -> nn.Module:
    """The first hop: all layers of Lite0 learn a first task of five classes."""
    model = lite(5, seed)
    pictures = torch.utils.data.TensorDataset(part.images, part.targets)
    training.finetune(
        model, pictures, epochs=epochs, lr=HOP_RATE, momentum=0.9, batch_size=16, device="cpu",
        amp=False, seed=seed, progress=False,
    )  # fmt: skip
    return model


FROZEN_ARMS = tuple(f"{way} {n}" for n in AMOUNTS for way in ("direct", "two hops", "on logits"))


def frozen_contrasts() -> tuple[Contrast, ...]:
    """Two hops against direct at each amount, and its features against its logits at the middle."""
    names = dict(zip(AMOUNTS, ("few", "medium", "many"), strict=True))
    return (
        *(Contrast(names[n], f"two hops {n}", f"direct {n}", "test_accuracy", "more",
                   when=f"the target has {n} pictures") for n in AMOUNTS),
        Contrast("features", "two hops 50", "on logits 50", "test_accuracy", "more",
                 when="the head on the features is compared with one on the old logits"),
    )  # fmt: skip


def enlarged(part: digits.Part) -> digits.Part:
    """Digits as Lite0 takes them: (N, 3, 48, 48), from -1 to 1."""
    images = F.interpolate(part.images, size=(SIDE, SIDE), mode="bilinear").expand(-1, 3, -1, -1)
    return digits.Part(2 * images - 1, part.targets)


@experiment(
    "hops_imagenet", seeds=8, arms=FROZEN_ARMS, measures=(ACCURACY,),
    contrasts=frozen_contrasts(), minutes=4,
)  # fmt: skip
def over_digits(seed: int) -> Outcome:
    """Lite0 from ImageNet: does a hop over the digits 0 to 4 help with 5 to 9?

    Data: 10, 50 and 200 pictures of the digits 5 to 9, enlarged to 48 pixels. Arms at each amount:
    a linear head on the frozen body of ImageNet (direct); on the body after a hop, all layers
    trained for three epochs on about 450 pictures of the digits 0 to 4 (two hops); on that
    network's five logits (on logits). Budget: four penalties of the logistic regression, the best
    by 150 validation pictures; the hop has one setting, fixed beforehand; on a trial seed that
    is not among these it learned its own task to 0.96. Measure: test accuracy on 450 pictures.
    Prediction of the claim: two hops has more than direct at each amount, and the features more
    than the logits.
    """
    hopped = hop_over(enlarged(digits.first_task(seed).train), 3, seed)
    tasks = {}
    for n in AMOUNTS:
        task = digits.target_task(seed, n)
        tasks[n] = digits.Task(*(enlarged(each) for each in (task.train, task.val, task.test)))
    return frozen_arms(hopped, seed, tasks)


CIFAR_SIDE = 64


def photographs(split: str, classes: range, n: int, seed: int) -> digits.Part:
    """Pictures of CIFAR-10, every class equally often, as Lite0 takes them: (N, 3, 64, 64)."""
    see = backbones.preprocessing("efficientnet_lite0", size=CIFAR_SIDE)
    whole = data.image_folder(folder("cifar10"), split=split, transform=see.eval)
    rows = [i for i, target in enumerate(whole.targets) if target in classes]
    some = data.balanced_subset(data.LabelledSubset(whole, rows), n, seed)
    images = torch.stack([some[i][0] for i in range(n)])
    return digits.Part(images, torch.tensor(some.targets) - classes.start)


@experiment(
    "hops_photographs", seeds=5, arms=FROZEN_ARMS, measures=(ACCURACY,),
    contrasts=frozen_contrasts(), photographs="cifar10", minutes=9,
)  # fmt: skip
def over_photographs(seed: int) -> Outcome:
    """Lite0 from ImageNet: does a hop over five classes of CIFAR-10 help with the other five?

    Data: CIFAR-10 in a public copy as JPEG, whose pixels differ a little from the original's,
    enlarged to 64 pixels. The first task: 1,000 pictures of aeroplanes, cars, birds, cats and deer.
    The second: 10, 50 and 200 pictures of dogs, frogs, horses, ships and lorries. Arms and budget
    as for the digits, the hop of two epochs; 150 pictures to choose by, 500 of the test part to
    measure. Prediction of the claim: two hops has more than direct at each amount, and the features
    more than the logits.
    """
    hopped = hop_over(photographs("train", range(5), 1000, seed), 2, seed)
    test = photographs("test", range(5, 10), 500, seed)
    pool = photographs("train", range(5, 10), max(AMOUNTS) + digits.VALIDATION, seed)
    by_class = [(pool.targets == each).nonzero()[:, 0] for each in range(5)]
    held = torch.cat([rows[-digits.VALIDATION // 5 :] for rows in by_class])
    val = digits.Part(pool.images[held], pool.targets[held])
    tasks = {}
    for n in AMOUNTS:
        rows = torch.cat([each[: n // 5] for each in by_class])
        tasks[n] = digits.Task(digits.Part(pool.images[rows], pool.targets[rows]), val, test)
    return frozen_arms(hopped, seed, tasks)
