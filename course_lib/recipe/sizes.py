"""The size of the pictures, chosen by measuring: what each size costs here, and what it gives."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from course_lib import backbones
from course_lib.features import Features
from course_lib.recipe.answers import Answers, Share
from course_lib.recipe.heads import ClassWeight, cross_validated
from course_lib.recipe.pictures import Pictures, length
from course_lib.text import counted, wrapped
from course_lib.training.errors import OutOfMemoryError
from course_lib.training.evaluation import model_device
from course_lib.training.memory import is_shortage

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
        penalty: of that head: the strongest within a standard error of the best.
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
    began: float = field(default_factory=lambda: time.perf_counter())

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

    def described(self, counts: tuple[int, int], seconds: float) -> str:
        """What it will take, in words, before it starts.

        Args:
            counts: pictures to learn from, and test pictures.
            seconds: that there are.
        """
        learned, tested = counts
        sizes = ", ".join(
            f"{each * learned:.0f} s" + (f" at {size} pixels" if size else "")
            for size, each in self.features.items()
        )
        least, most = min(self.features.values()), max(self.features.values())
        told = [
            f"Features of {counted(learned, 'picture')} to learn from take about {sizes}; passing "
            f"them all once to train the whole network, {least * learned * self.training:.0f} to "
            f"{most * learned * self.training:.0f} s. There are {seconds:.0f} s."
        ]
        if tested:
            told.append(
                f"At the end, {counted(tested, 'test picture')}: {least * tested:.0f} to "
                f"{most * tested:.0f} s."
            )
        if least * sum(counts) > seconds:
            told.append(
                "That is more than it was given. There is no faster way, so it starts all the "
                "same; Ctrl-C stops it."
            )
        return "\n".join(["Before it starts", *(wrapped(f"- {each}") for each in told)])


@dataclass(frozen=True)
class Looked:
    """The size that was chosen, with what was computed for it.

    Attributes:
        pictures: of that size.
        rows: features (N, D) of the training and then the validation pictures.
        unseen: what heads say about them without having seen them, for each penalty.
        trial: what it gave.
        extracting: seconds that the features took.
    """

    pictures: Pictures
    rows: Features
    unseen: dict[float, Answers]
    trial: SizeTrial
    extracting: float

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

    Returns:
        The costs of the sizes that there is memory for.
    """
    place, threads = model_device(model), torch.get_num_threads()
    trial = copy.deepcopy(model).eval()
    found: dict[int, float] = {}
    training = 1.0

    @torch.no_grad()
    def forward(batch: Tensor) -> None:
        trial(batch)

    for size in sizes:
        try:
            train = pictures.at(size).train
            places = range(0, length(train), max(1, length(train) // SAMPLE))[:SAMPLE]
            began = time.perf_counter()
            batch = torch.stack([train[each][0] for each in places])
            prepared = time.perf_counter() - began
            batch = batch.to(place)
            if pictures.workers:  # each computes with one thread, and all of them at once
                torch.set_num_threads(1)
            took = prepared + _seconds(partial(forward, batch))
            torch.set_num_threads(threads)
            found[size] = took / len(batch) / max(1, pictures.workers)
            if len(found) == 1:
                step = _seconds(partial(_step, trial, batch)) / len(batch)
                training = max(1.0, step / found[size])
        except Exception as error:
            torch.set_num_threads(threads)
            if not found or not is_shortage(error):
                raise
            break  # the larger ones take more
    return Costs(found, training)


def _step(model: nn.Module, batch: Tensor) -> None:
    model(batch).sum().backward()


def _seconds(work: Callable[[], object]) -> float:
    """What it takes, the first time aside: the shorter of two."""
    work()
    times = []
    for _ in range(2):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return max(min(times), 1e-9)


def affordable(prices: dict[int, float], room: float) -> tuple[int, ...]:
    """The sizes that fit into the time, ascending: the largest, and what fits beside it.

    On photographs a larger picture helped a linear head more than anything else that costs as
    much. So the largest comes first in the reckoning. Smaller ones are tried before it only if it
    would still fit when everything takes twice as long as expected.

    Args:
        prices: seconds that a size takes, to learn and to test.
        room: seconds that there are.
    """
    fitting = [size for size in sorted(prices) if prices[size] <= room]
    if not fitting:
        return ()
    *smaller, largest = fitting
    room -= 2 * prices[largest]
    chosen = [largest]
    for size in reversed(smaller):
        if prices[size] <= room:
            room -= prices[size]
            chosen.insert(0, size)
    return tuple(chosen)


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
        left = list(sizes)
        pace, fitting = 1.0, 0.0  # seconds over the expected ones; seconds to fit heads
        while left:
            size = left[0]
            if costs:
                every = sum(pictures.counts)
                prices = {each: pace * costs.features[each] * every + fitting for each in left}
                fits = affordable(prices, clock.left * (1 - RESERVED))
                if not fits and self.chosen:
                    self.reasons.append(
                        f"{size} pixels would take {prices[size]:.0f} s, and "
                        f"{max(clock.left, 0):.0f} s are left."
                    )
                    break
                size = fits[0] if fits else size
            left = [each for each in left if each > size]
            try:
                now = look(model, pictures.at(size), size, penalties, class_weight)
            except KeyboardInterrupt:
                if self.chosen is None:
                    raise
                self.interrupted = True
                break
            except OutOfMemoryError:
                if self.chosen is None:
                    raise
                self.reasons.append(f"{size} pixels take more memory than there is.")
                break
            self.trials.append(now.trial)
            if lowest and lowest.answers.gain(now.answers).low > 0:
                self.reasons.append(
                    f"{size} pixels are worse than {lowest.trial.size} by more than chance."
                )
                break
            if costs:
                fitting = now.trial.seconds - now.extracting
                pace = now.extracting / (costs.features[size] * pictures.counts[0])
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
    extracting = time.perf_counter() - began
    groups = pictures.groups
    unseen = cross_validated(rows, len(pictures.classes), penalties, class_weight, groups)
    lowest = min(unseen.values(), key=lambda each: each.loss)
    # The strongest penalty within a standard error of the best, picture by picture: the "one
    # standard error rule" (T. Hastie et al.: The Elements of Statistical Learning, 2009, 7.10).
    behind = {each: found.losses - lowest.losses for each, found in unseen.items()}
    penalty = max(each for each, d in behind.items() if d.mean() <= d.std() / len(d) ** 0.5)
    best = unseen[penalty]
    seconds = time.perf_counter() - began
    trial = SizeTrial(size, best.balanced_accuracy, best.loss, penalty, seconds)
    return Looked(pictures, rows, unseen, trial, extracting)
