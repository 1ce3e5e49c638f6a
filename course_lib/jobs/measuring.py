"""Measure a network on a split, every picture once, however many processes share it."""

import heapq
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn import functional as F

from course_lib import backbones, profile
from course_lib.errors import DataError
from course_lib.jobs.config import JobConfig
from course_lib.jobs.data import Source, measuring_batches
from course_lib.jobs.ranks import Ranks
from course_lib.recipe.answers import balanced, wilson
from course_lib.text import few
from course_lib.training.evaluation import evaluation_mode
from course_lib.training.metrics import confusion_matrix

SIDE = 96  # of a thumbnail, in pixels


@dataclass(frozen=True, eq=False)
class Worst:
    """A picture that the network was wrong about: its loss, name, scores and a thumbnail (JPEG)."""

    loss: float
    name: str
    target: int
    predicted: int
    thumbnail: bytes


@dataclass(frozen=True, eq=False)
class Measured:
    """What a network says about a split.

    Attributes:
        logits: (N, C).
        targets: (N,).
        names: of each picture.
        worst: the wrong answers with the highest loss, that first.
    """

    logits: Tensor
    targets: Tensor
    names: tuple[str, ...]
    worst: tuple[Worst, ...] = ()

    @property
    def loss(self) -> float:
        """Mean log-loss."""
        return float(F.cross_entropy(self.logits.double(), self.targets))

    @property
    def confusion(self) -> Tensor:
        """(C, C) counts; rows are the true classes."""
        return confusion_matrix(self.logits.argmax(1), self.targets, self.logits.shape[1])

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.confusion.trace()) / len(self.targets)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        found = wilson(int(self.confusion.trace()), len(self.targets))
        return found.low, found.high

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the classes' accuracies."""
        table = self.confusion
        return balanced(table.diagonal().tolist(), table.sum(1).tolist()).value


def measure(
    model: nn.Module, source: Source, prepare: Callable[[Any], Any], config: JobConfig,
    place: Ranks, worst: int = 0,
) -> Measured:  # fmt: skip
    """Scores for every picture of a source, on each process the same.

    Args:
        model: not wrapped, as processes may have unequally many pictures. Where layers are shared
            out, one that has no more helps the others with a picture that isn't there.
        source: the pictures.
        prepare: what is done to each.
        config: batch size and workers.
        place: which part is this process's.
        worst: so many wrong answers come with their picture.

    Raises:
        DataError: scores that aren't finite.
    """
    logits, targets, names = [], [], list[str]()
    kept: list[tuple[float, int, Worst]] = []
    with evaluation_mode(model), torch.no_grad(), profile.own_streams(devices=[place.device]):
        place.same_buffers(model)
        batches = measuring_batches(source, prepare, config, place)
        shared = isinstance(model, FSDPModule)
        for batch in place.in_step(batches) if shared else batches:
            if batch is None:
                side = backbones.preprocessing(config.model, config.size or None).size
                model(torch.zeros(1, 3, side, side, device=place.device))
                continue
            images, truth, which = batch
            scores = model(images.to(place.device)).float().cpu()
            if worst:
                _keep(kept, worst, images, scores, truth, which)
            logits.append(scores)
            targets.append(truth)
            names += which
    own = (torch.cat(logits) if logits else None, torch.cat(targets) if targets else None,
           names, [each for *_, each in kept])  # fmt: skip
    parts = [each for each in place.gather(own) if each[0] is not None]
    if not parts:
        raise DataError(f"There is no picture in {few(source.paths)}.")
    every, truth = torch.cat([each[0] for each in parts]), torch.cat([each[1] for each in parts])
    called = [name for each in parts for name in each[2]]
    order = torch.tensor(sorted(range(len(called)), key=lambda i: called[i]))  # as one process has
    if not every.isfinite().all():
        name = called[int((~every.isfinite().all(1)).nonzero()[0])]
        raise DataError(f"The scores for {name} aren't finite. Look at the picture and the rates.")
    found = sorted((each for part in parts for each in part[3]), key=lambda each: -each.loss)
    return Measured(
        every[order], truth[order], tuple(called[i] for i in order), tuple(found[:worst])
    )


def _keep(
    kept: list[tuple[float, int, Worst]], limit: int, images: Tensor, scores: Tensor,
    targets: Tensor, names: list[str],
) -> None:  # fmt: skip
    """Note wrong answers with a higher loss than those that are kept."""
    losses = F.cross_entropy(scores, targets, reduction="none")
    predicted = scores.argmax(1)
    for row in (predicted != targets).nonzero().flatten().tolist():
        loss = float(losses[row])
        if len(kept) < limit or loss > kept[0][0]:
            picture = Worst(loss, names[row], int(targets[row]), int(predicted[row]),
                            _thumbnail(images[row]))  # fmt: skip
            heapq.heappush(kept, (loss, id(picture), picture))
            if len(kept) > limit:
                heapq.heappop(kept)


def _thumbnail(image: Tensor) -> bytes:
    """A small JPEG of a prepared picture (3, H, W), its values stretched to what can be seen."""
    low, high = image.min(), image.max()
    pixels = ((image - low) / (high - low).clamp(min=1e-6) * 255).byte().permute(1, 2, 0)
    small = Image.fromarray(pixels.cpu().numpy()).resize((SIDE, SIDE))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return out.getvalue()
