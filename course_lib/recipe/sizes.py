"""The size of the pictures, chosen by measuring: what each size costs here, and what it gives."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from course_lib import backbones
from course_lib.features import Features
from course_lib.recipe.answers import Answers, Share
from course_lib.recipe.heads import ClassWeight, cross_validated
from course_lib.recipe.pictures import Pictures, length
from course_lib.text import counted
from course_lib.training.evaluation import model_device

USUAL = (96, 160, 224)
RESERVED = 0.2  # share of the time that isn't planned for: estimates are estimates
SAMPLE = 8  # pictures that are timed


@dataclass(frozen=True)
class SizeTrial:
    """What one size gave.

    Attributes:
        size: side of the pictures in pixels; 0: as the data sets give them.
        accuracy: balanced accuracy of a linear head on pictures it hasn't seen.
        loss: log-loss of the same.
        penalty: of that head: the best.
        seconds: that it took.
    """

    size: int
    accuracy: Share
    loss: float
    penalty: float
    seconds: float

    def __str__(self) -> str:
        side = f"{self.size} pixels" if self.size else "pictures as they come"
        return f"{side}: balanced accuracy {self.accuracy}, log-loss {self.loss:.3f}"


@dataclass
class Clock:
    """How much time there is.

    Attributes:
        seconds: in all; infinite without a limit.
    """

    seconds: float = math.inf
    began: float = field(default_factory=time.perf_counter)

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.began

    @property
    def left(self) -> float:
        """Seconds that remain."""
        return self.seconds - self.spent


@dataclass(frozen=True)
class Costs:
    """What a picture costs on this machine.

    Attributes:
        features: size -> seconds a picture, to prepare it and compute its features.
        training: seconds a picture to train on, over those to compute its features.
    """

    features: dict[int, float]
    training: float

    def described(self, counts: tuple[int, int], fitting: Sequence[int], seconds: float) -> str:
        """What it will take, in words, before it starts.

        Args:
            counts: pictures to learn from, and test pictures.
            fitting: the sizes that will be tried.
            seconds: that there are.
        """
        learned, tested = counts
        sizes = ", ".join(
            f"{each * learned:.0f} s" + (f" at {size} pixels" if size else "")
            for size, each in self.features.items()
        )
        last = self.features[fitting[-1]]
        told = [f"Features of {counted(learned, 'picture')} to learn from take about {sizes}."]
        if tested:
            told.append(f"Those of {counted(tested, 'test picture')}: {last * tested:.0f} s.")
        told.append(
            "Passing them all once to train the whole network: "
            f"{last * learned * self.training:.0f} s."
        )
        if last * sum(counts) > seconds:
            told.append(
                f"That is more than the {seconds:.0f} s it was given. There is no faster way, so "
                "it starts all the same; Ctrl-C stops it."
            )
        elif len(fitting) < len(self.features):
            told.append(f"So of the sizes, {' and '.join(map(str, fitting))} will be tried.")
        return "Before it starts\n" + "\n".join(f"- {each}" for each in told)


@dataclass(frozen=True)
class Looked:
    """The size that was chosen, with what was computed for it.

    Attributes:
        pictures: of that size.
        rows: features (N, D) of the training and then the validation pictures.
        unseen: what heads say about them without having seen them, for each penalty.
        trial: what it gave.
    """

    pictures: Pictures
    rows: Features
    unseen: dict[float, Answers]
    trial: SizeTrial

    @property
    def answers(self) -> Answers:
        """Those of the best penalty."""
        return self.unseen[self.trial.penalty]


def sizes_of(backbone: str) -> tuple[int, ...]:
    """The sizes that are worth a trial: the usual ones and the one the network was tested with."""
    card = backbones.card(backbone)
    if card.fixed_size:
        return (card.input_size,)
    return tuple(sorted(each for each in {*USUAL, card.input_size} if each >= card.min_size))


def measure_costs(model: nn.Module, pictures: Pictures, sizes: Sequence[int]) -> Costs:
    """Time a few pictures at each size; and a step of training, at the smallest.

    Args:
        model: the network; it is left alone.
        pictures: of any size.
        sizes: sides in pixels; 0: as the data sets give them.
    """
    found: dict[int, float] = {}
    some: Dataset[Any] | None = None
    for size in sizes:
        train = pictures.at(size).train
        places = range(0, length(train), max(1, length(train) // (SAMPLE * pictures.workers)))
        timed = Subset(train, places[: SAMPLE * pictures.workers])
        pictures.features(model, Subset(train, [0]), cache=False)  # the first time takes longer
        began = time.perf_counter()
        pictures.features(model, timed, cache=False)
        found[size] = (time.perf_counter() - began) / length(timed)
        some = some or timed
    assert some is not None
    batch = torch.stack([some[place][0] for place in range(min(length(some), SAMPLE))])
    batch = batch.to(model_device(model))
    trial = copy.deepcopy(model).eval()

    def forward() -> None:
        with torch.no_grad():
            trial(batch)

    def step() -> None:
        trial(batch).sum().backward()

    return Costs(found, max(1.0, _seconds(step) / _seconds(forward)))


def _seconds(work: Callable[[], object]) -> float:
    """What it takes the second time."""
    work()
    began = time.perf_counter()
    work()
    return max(time.perf_counter() - began, 1e-9)


def affordable(costs: Costs, counts: tuple[int, int], seconds: float) -> tuple[int, ...]:
    """The sizes to try, ascending: the largest that fits into the time, and what fits beside it.

    On photographs a larger picture helped a linear head more than anything else that costs as
    much. So the largest comes first in the reckoning, and smaller ones fill what is left.

    Args:
        costs: as measured.
        counts: pictures to learn from, and test pictures (these are needed at one size only).
        seconds: that may be spent.

    Returns:
        At least the smallest size, even if that takes longer.
    """
    learned, tested = counts
    room = seconds * (1 - RESERVED)
    chosen: list[int] = []
    for size in sorted(costs.features, reverse=True):
        price = costs.features[size] * (learned + (0 if chosen else tested))
        if price <= room:
            room -= price
            chosen.insert(0, size)
    return tuple(chosen) or (min(costs.features),)


@dataclass
class Climb:
    """The sizes tried, from the smallest on.

    Attributes:
        trials: what each gave.
        reasons: why it ended, in sentences.
        chosen: the largest size that isn't worse than a smaller one by more than chance.
        interrupted: you stopped it.
    """

    trials: list[SizeTrial] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    chosen: Looked | None = None
    interrupted: bool = False

    def go(
        self, model: nn.Module, pictures: Pictures, sizes: Sequence[int],
        penalties: Sequence[float], class_weight: ClassWeight, costs: Costs | None, clock: Clock,
    ) -> Looked:  # fmt: skip
        """Compute features and fit heads, size by size.

        Args:
            model: the frozen network.
            pictures: of any size.
            sizes: to try, ascending; 0: as the data sets give them.
            penalties: of the heads.
            class_weight: likewise.
            costs: what to expect; None: without a limit.
            clock: how much time there is.

        Raises:
            KeyboardInterrupt: you stopped it before the first size was done.
        """
        lowest: Looked | None = None
        pace = 1.0  # seconds over the expected ones, at the size before
        for size in sizes:
            expected = pace * costs.features[size] * sum(pictures.counts) if costs else 0.0
            if self.chosen and expected > clock.left:
                left = max(clock.left, 0)
                self.reasons.append(
                    f"{size} pixels would take {expected:.0f} s, and {left:.0f} s are left."
                )
                break
            try:
                now = look(model, pictures.at(size), size, penalties, class_weight)
            except KeyboardInterrupt:
                if self.chosen is None:
                    raise
                self.interrupted = True
                break
            self.trials.append(now.trial)
            if lowest and lowest.answers.gain(now.answers).low > 0:
                self.reasons.append(
                    f"{size} pixels are worse than {lowest.trial.size} by more than chance."
                )
                break
            if costs:
                learned = pictures.counts[0]
                pace = now.trial.seconds / (costs.features[size] * learned)
            self.chosen = now
            if lowest is None or now.trial.loss < lowest.trial.loss:
                lowest = now
        assert self.chosen is not None
        return self.chosen


def look(
    model: nn.Module, pictures: Pictures, size: int, penalties: Sequence[float],
    class_weight: ClassWeight,
) -> Looked:  # fmt: skip
    """Features of the pictures of one size, and what heads on them give."""
    began = time.perf_counter()
    rows = pictures.to_learn(model)
    unseen = cross_validated(rows, len(pictures.classes), penalties, class_weight)
    penalty = min(unseen, key=lambda each: unseen[each].loss)
    best = unseen[penalty]
    seconds = time.perf_counter() - began
    trial = SizeTrial(size, best.balanced_accuracy, best.loss, penalty, seconds)
    return Looked(pictures, rows, unseen, trial)
