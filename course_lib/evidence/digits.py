"""A laboratory small enough for thousands of trainings: scikit-learn's digits and a small network.

The 1,797 pictures (8 x 8 pixels, values 0 to 1) are divided by class: a network is pretrained on
the digits 0 to 4 (the source), and the task is to tell 5 to 9 apart (the target). Other sources
and targets are made from the same pictures: turned, inverted, noisy, with their pixels in another
order, with drawn labels.
"""

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.evidence.design import EvidenceError
from course_lib.profile import seeded_generator

LAYERS = ("conv1", "conv2", "conv3", "fc")
BODY = LAYERS[:-1]
RATES = (0.003, 0.01, 0.03, 0.1)
STEPS = 200  # the compute of every training, whatever the amount of data
BATCH = 16
LOOK_EVERY = 10  # steps between two looks at the validation part, where progress is measured
TEST, VALIDATION = 450, 150  # of about 900 pictures of the target classes; the rest is to train on
SOURCE_RATE, SOURCE_STEPS = 0.03, 800
FIRST_TEST = 300  # of the first task, where forgetting is measured

Change = Callable[[Tensor, torch.Generator], Tensor]
"""Pictures (N, 1, 8, 8) to as many of that shape; drawn from the stream where it draws."""


@dataclass(frozen=True)
class Part:
    """Pictures (N, 1, 8, 8) and their classes (N,), numbered from 0."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Task:
    """A target task: three parts that share no picture."""

    train: Part
    val: Part
    test: Part


@dataclass(frozen=True)
class Score:
    """How a trained network did.

    Attributes:
        val: validation accuracy.
        val_loss: cross-entropy on the validation part.
        test: test accuracy.
        model: the network.
        course: validation accuracy after every ten steps, if it was noted.
    """

    val: float
    val_loss: float
    test: float
    model: nn.Sequential
    course: tuple[float, ...] = ()

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is better: validation accuracy; of equal ones, the smaller loss."""
        return self.val, -self.val_loss


@cache
def _all() -> tuple[Tensor, Tensor]:
    data = load_digits()
    images = torch.tensor(data.images / 16, dtype=torch.float32).unsqueeze(1)
    return images, torch.tensor(data.target, dtype=torch.int64)


def _of_classes(first: int, last: int) -> Part:
    images, targets = _all()
    rows = (targets >= first) & (targets <= last)
    return Part(images[rows], targets[rows] - first)


def as_it_is(images: Tensor, _: torch.Generator) -> Tensor:
    """No change."""
    return images


def turned_inverted_noisy(images: Tensor, stream: torch.Generator) -> Tensor:
    """A quarter turn, dark for bright, and noise of standard deviation 0.2."""
    noise = 0.2 * torch.randn(images.shape, generator=stream)
    return 1 - images.rot90(1, (2, 3)) + noise


def shuffled_pixels(images: Tensor, stream: torch.Generator) -> Tensor:
    """All pixels in another order, the same for every picture: nothing local is left."""
    order = torch.randperm(64, generator=stream)
    return images.flatten(2)[..., order].reshape(images.shape)


def target_task(seed: int, n: int, change: Change = as_it_is) -> Task:
    """The digits 5 to 9: ``n`` to train on, every class equally often, and the other two parts.

    Which pictures go where depends on the seed. The ``n`` of a smaller task are among those of a
    larger one of the same seed.

    Raises:
        EvidenceError: ``n`` is no multiple of 5, or more than there are.
    """
    stream = seeded_generator(1000 + seed)
    whole = _of_classes(5, 9)
    images = change(whole.images, stream)
    order = torch.randperm(len(whole), generator=stream)
    test, val, pool = order[:TEST], order[TEST : TEST + VALIDATION], order[TEST + VALIDATION :]
    by_class = [pool[whole.targets[pool] == each][: n // 5] for each in range(5)]
    rows = torch.cat(by_class)
    if len(rows) != n or n % 5:
        raise EvidenceError(f"{n} pictures can't be had: expected a multiple of 5, at most 200.")
    parts = [Part(images[each], whole.targets[each]) for each in (rows, val, test)]
    return Task(*parts)


def first_task(seed: int) -> Task:
    """The digits 0 to 4: 300 to test, 150 to choose by, the rest, about 450, to train on.

    For what is measured on the first task after the second one was learned: unlike for
    :func:`pretrained`, not all pictures were trained on.
    """
    whole = _of_classes(0, 4)
    order = torch.randperm(len(whole), generator=seeded_generator(8000 + seed))
    rows = order[FIRST_TEST + VALIDATION :], order[FIRST_TEST:][:VALIDATION], order[:FIRST_TEST]
    return Task(*(Part(whole.images[each], whole.targets[each]) for each in rows))


def new_network(seed: int, classes: int = 5) -> nn.Sequential:
    """Three convolutions and a linear head, with weights drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(OrderedDict(
            conv1=nn.Conv2d(1, 16, 3, padding=1), relu1=nn.ReLU(),
            conv2=nn.Conv2d(16, 32, 3, stride=2, padding=1), relu2=nn.ReLU(),
            conv3=nn.Conv2d(32, 32, 3, padding=1), relu3=nn.ReLU(),
            flatten=nn.Flatten(), fc=nn.Linear(512, classes),
        ))  # fmt: skip


@cache
def _source(seed: int, change: Change, drawn_labels: bool) -> nn.Sequential:
    stream = seeded_generator(2000 + seed)
    part = _of_classes(0, 4)
    targets = part.targets
    if drawn_labels:
        targets = targets[torch.randperm(len(targets), generator=stream)]
    model = new_network(3000 + seed)
    fit(model, Part(change(part.images, stream), targets), SOURCE_RATE, SOURCE_STEPS, seed=seed)
    return model


def pretrained(seed: int, change: Change = as_it_is, drawn_labels: bool = False) -> nn.Sequential:
    """A network trained on the digits 0 to 4, with a new head for five classes."""
    model = copy.deepcopy(_source(seed, change, drawn_labels))
    model.fc = new_network(4000 + seed).fc
    return model


def reset(model: nn.Sequential, layers: Sequence[str], seed: int) -> nn.Sequential:
    """Give some layers new weights."""
    fresh = new_network(5000 + seed)
    for name in layers:
        setattr(model, name, fresh.get_submodule(name))
    return model


def freeze(model: nn.Sequential, layers: Sequence[str]) -> nn.Sequential:
    """Train everything but these layers (they have no statistics that could move)."""
    for name in layers:
        model.get_submodule(name).requires_grad_(False)
    return model


def fit(
    model: nn.Sequential,
    part: Part,
    rate: float,
    steps: int = STEPS,
    *,
    seed: int,
    body_factor: float = 1.0,
    optimizer: str = "sgd",
    reduction: str = "mean",
    after_step: Callable[[int], None] | None = None,
) -> nn.Sequential:
    """Train on cross-entropy, in batches of 16 and an order that depends on the seed.

    Args:
        model: all of it that requires a gradient is trained.
        part: to train on; it is gone through as often as the steps need.
        rate: learning rate of the head.
        steps: how many.
        seed: of the order.
        body_factor: the layers before the head learn at ``rate`` times this.
        optimizer: ``"sgd"`` (with momentum 0.9) or ``"adam"``.
        reduction: ``"mean"`` or ``"sum"`` of the losses of a batch.
        after_step: called with the number of each step.
    """
    layers = [(name, layer) for name, layer in model.named_children()]
    groups: list[dict[str, Any]] = [
        {
            "params": [each for each in layer.parameters() if each.requires_grad],
            "lr": rate * (1.0 if name == "fc" else body_factor),
        }
        for name, layer in layers
    ]
    groups = [each for each in groups if each["params"]]
    made: torch.optim.Optimizer
    made = (
        torch.optim.Adam(groups) if optimizer == "adam" else torch.optim.SGD(groups, momentum=0.9)
    )
    stream = seeded_generator(6000 + seed)
    model.train()
    waiting: list[Tensor] = []
    for step in range(1, steps + 1):
        waiting = waiting or list(torch.randperm(len(part), generator=stream).split(BATCH))
        rows = waiting.pop(0)
        made.zero_grad()
        loss = F.cross_entropy(model(part.images[rows]), part.targets[rows], reduction=reduction)
        loss.backward()
        made.step()
        if after_step:
            after_step(step)
    return model.eval()


@torch.no_grad()
def look(model: nn.Module, part: Part) -> tuple[float, float]:
    """Accuracy and mean cross-entropy on a part; a diverged network scores what it scores."""
    scores = model(part.images).nan_to_num()
    right = (scores.argmax(1) == part.targets).double().mean()
    return float(right), float(F.cross_entropy(scores, part.targets))


def score(model: nn.Sequential, task: Task, course: Sequence[float] = ()) -> Score:
    """Validation and test accuracy of a trained network."""
    val, loss = look(model, task.val)
    loss = loss if math.isfinite(loss) else math.inf
    return Score(val, loss, look(model, task.test)[0], model, tuple(course))


def train_and_score(
    model: nn.Sequential,
    task: Task,
    rate: float,
    *,
    seed: int,
    watch: bool = False,
    **settings: Any,
) -> Score:
    """Train on the training part; with ``watch``, note validation accuracy every ten steps."""
    noted: list[float] = []

    def note(step: int) -> None:
        if step % LOOK_EVERY == 0:
            noted.append(look(model, task.val)[0])

    fit(model, task.train, rate, seed=seed, after_step=note if watch else None, **settings)
    return score(model, task, noted)


def best(scores: Iterable[Score]) -> Score:
    """The best by validation; the test part has no say."""
    return max(scores, key=lambda each: each.rank)


def tuned(
    start: Callable[[], nn.Sequential],
    task: Task,
    seed: int,
    rates: Sequence[float] = RATES,
    **settings: Any,
) -> Score:
    """Train from the same start at every learning rate; the best by validation.

    Every arm of an experiment gets the same rates: an equal budget for tuning.
    """

    return best(train_and_score(start(), task, r, seed=seed, **settings) for r in rates)


def over_rates(
    start: Callable[[], nn.Sequential],
    task: Task,
    seed: int,
    rates: Sequence[float] = RATES,
    **settings: Any,
) -> dict[float, Score]:
    """What :func:`tuned` chooses from: rate -> how the network did that was trained at it."""
    return {rate: train_and_score(start(), task, rate, seed=seed, **settings) for rate in rates}


def told(scores: Mapping[float, Score]) -> dict[str, float]:
    """What an experiment records of an arm: the best's test accuracy, and its rate."""
    rate = max(scores, key=lambda each: scores[each].rank)
    return {"test_accuracy": scores[rate].test, "rate": rate}


def steps_until(score: Score, level: float) -> float:
    """Steps until validation accuracy is ``level``; ten more than there were if it never is."""
    reached = np.flatnonzero(np.asarray(score.course) >= level)
    place = int(reached[0]) if len(reached) else len(score.course)
    return float((place + 1) * LOOK_EVERY)
