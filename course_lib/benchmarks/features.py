"""How long an epoch takes: the whole network trained, its body frozen, its features cached.

Run it with ``course bench features``. The three are timed in one run, in turn, with the same
pictures, batches and loop, and the best epoch of each counts, since other programs only ever slow
one down. Expect the third to be about three thousand times faster than the first at 224 pixels, and
a thousand times at 96: there, nine tenths of it is what PyTorch itself takes for a step.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import TensorDataset

from course_lib import backbones, features, freezing, profile, training
from course_lib.text import counted

PICTURES = 128
USUAL_SIZE = 224  # pixels, that of ImageNet networks; measured beside the profile's
ROUNDS = 3
CACHED_EPOCHS = 100  # of one call, so that its start doesn't count


@dataclass(frozen=True)
class Timing:
    """Seconds for one epoch, and how often it fits into one of full fine-tuning."""

    name: str
    seconds: float
    times: float


def measure(size: int | None = None, pictures: int = PICTURES) -> tuple[list[Timing], float]:
    """Time the three ways.

    Args:
        size: side of the pictures; by default the profile's.
        pictures: in an epoch.

    Returns:
        The timings, full fine-tuning first; and the seconds that extracting the features took,
        which is paid once.
    """
    chosen = profile.start()
    side = size or chosen.image_size
    drawn = torch.rand(pictures, 3, side, side, generator=profile.seeded_generator(0))
    data = TensorDataset(drawn * 2 - 1, torch.arange(pictures) % 2)
    whole = backbones.load(chosen.backbone, num_classes=2)
    frozen = backbones.load(chosen.backbone, num_classes=2)
    head = backbones.head_name(frozen)
    freezing.freeze(frozen, [name for name, _ in frozen.named_children() if name != head])
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        rows = features.extract(frozen, data, cache_dir=folder)
        extracting = time.perf_counter() - began
    ways: dict[str, Callable[[], float]] = {
        "all layers trained": lambda: _epoch(whole, data),
        "body frozen": lambda: _epoch(frozen, data),
        "cached features": lambda: _cached_epoch(rows),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, way in ways.items():
            best[name] = min(best[name], way())
    slowest = best["all layers trained"]
    return [Timing(name, each, slowest / each) for name, each in best.items()], extracting


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print a table."""
    argparse.ArgumentParser(prog="features", description=__doc__).parse_args(arguments)
    chosen = profile.current()
    for size in sorted({chosen.image_size, USUAL_SIZE}):
        timings, extracting = measure(size)
        print(
            f"{chosen.backbone}, {PICTURES} pictures of {size} pixels, batches of "
            f"{chosen.batch_size}, {chosen.device}, {counted(chosen.threads, 'thread')}"
        )
        print(f"{'':<20} {'s an epoch':>12} {'times faster':>14}")
        for each in timings:
            print(f"{each.name:<20} {each.seconds:>12.5f} {each.times:>14,.0f}")
        print(f"Extracting the features, once: {extracting:.2f} s.\n", flush=True)


def _epoch(model: nn.Module, data: TensorDataset) -> float:
    return training.finetune(model, data, epochs=1, lr=1e-3, seed=0)[-1].seconds


def _cached_epoch(rows: features.Features) -> float:
    _, history = features.train_head(rows, epochs=CACHED_EPOCHS, lr=1e-3)
    return min(each.seconds for each in history)
