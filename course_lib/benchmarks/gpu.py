"""How fast this machine trains, by method: ``course bench gpu``; on a CPU with small numbers.

In one run, in turns: the plain loop with all layers; the same with mixed precision and with
channels last; a frozen body, frozen and held; the head on cached features. Then what comes before
the step: reading and decoding, augmenting, copying. Seconds a picture and ratios to the plain loop.
``--chapter`` also runs chapter 02 in the profile ``full``, from end to end.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib import backbones, data, freezing, profile
from course_lib.benchmarks.throughput import median_ratio, take_turns
from course_lib.data.layout import files_below
from course_lib.data.manifest import bundled_folder
from course_lib.paths import repo_root
from course_lib.text import ruled
from course_lib.training.precision import Precision

PLAIN = "all layers"


@dataclass(frozen=True)
class Way:
    """One way to train: what makes it from the same network."""

    frozen: bool = False
    amp: bool = False
    channels_last: bool = False
    cached: bool = False


WAYS = {
    PLAIN: Way(),
    "all layers, mixed precision": Way(amp=True),
    "all layers, channels last": Way(channels_last=True),
    "all layers, both": Way(amp=True, channels_last=True),
    "frozen body": Way(frozen=True),
    "frozen body, both": Way(frozen=True, amp=True, channels_last=True),
    "head on cached features": Way(cached=True),
}


def measure(
    backbone: str, size: int, batch: int, repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds a picture of each way's step, and of what comes before it, round by round."""
    stream = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, size, size, generator=stream)
    targets = (torch.arange(batch) % 2).to(device)
    steps = {name: _step(way, backbone, images.to(device), targets, device)
             for name, way in WAYS.items()}  # fmt: skip
    files = sorted(files_below(bundled_folder() / "train" / "hotdog")[0])[:batch]
    pictures = [data.open_image(each) for each in files]
    augment = backbones.preprocessing(backbone, size).train
    before: dict[str, Callable[[], Any]] = {
        "reading and decoding": lambda: [data.open_image(each) for each in files],
        "augmenting": lambda: [augment(each) for each in pictures],
        "copying": lambda: images.to(device, copy=True),
    }
    timed = {name: _waited(call, device) for name, call in {**steps, **before}.items()}
    seconds = take_turns(timed, repeats)
    counts = dict.fromkeys(before, len(files)) | {"copying": batch}
    return {n: [each / counts.get(n, batch) for each in found] for n, found in seconds.items()}


def _step(
    way: Way, backbone: str, images: Tensor, targets: Tensor, device: torch.device
) -> Callable[[], object]:
    with profile.own_streams(0):
        model = backbones.load(backbone, 2, pretrained=False)
    layout = torch.channels_last if way.channels_last else torch.contiguous_format
    model.to(device).to(memory_format=layout).train()
    head = backbones.head_name(model)
    images = images.to(memory_format=layout)
    if way.frozen:
        freezing.freeze(model, [n for n, _ in model.named_children() if n != head])
    if way.cached:
        images, model = _features(model, head, images)
    precision = Precision.choose(device, way.amp)
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        with precision.autocast():
            loss = F.cross_entropy(model(images).float(), targets)
        precision.step(loss, optimizer)

    return step


def _features(model: nn.Module, head: str, images: Tensor) -> tuple[Tensor, nn.Module]:
    layer, found = model.get_submodule(head), list[Tensor]()
    handle = layer.register_forward_pre_hook(lambda _, given: found.append(given[0].detach()))
    with torch.no_grad():
        model.eval()(images)
    handle.remove()
    return found[0], layer


def _waited(call: Callable[[], Any], device: torch.device) -> Callable[[], object]:
    """The call, and the wait until a GPU has done it."""

    def run() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def table(seconds: dict[str, list[float]]) -> str:
    """Pictures a second of each, and how many times as fast as the plain loop."""
    rows = [("", "pictures/s", "times the plain loop")]
    for name, found in seconds.items():
        fast = sorted(found)[len(found) // 2]
        ratio = median_ratio(seconds[PLAIN], found)
        rows.append(
            (name, f"{1 / fast:,.0f}", f"{ratio:,.2f}" if ratio < 1000 else f"{ratio:,.0f}")
        )
    return ruled(rows)


def chapter() -> float:
    """Seconds that chapter 02 takes in the profile ``full``, downloads and all."""
    began = time.perf_counter()
    source = repo_root() / "notebooks" / "02_hotdog.ipynb"
    run = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--stdout"]
    subprocess.run(
        [*run, str(source)], check=True, stdout=subprocess.DEVNULL, cwd=Path(source).parent,
        env={**os.environ, "COURSE_PROFILE": "full"},
    )  # fmt: skip
    return time.perf_counter() - began


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="course bench gpu", description=__doc__)
    device = torch.device(profile.best_device())
    large = device.type != "cpu"
    parser.add_argument("--model", default="resnet18" if large else "efficientnet_lite0")
    parser.add_argument("--size", type=int, default=224 if large else 96)
    parser.add_argument("--batch", type=int, default=128 if large else 8)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument(
        "--chapter", action="store_true", help="chapter 02 in the profile full, too"
    )
    options = parser.parse_args(arguments)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads; {options.model} "
          f"at {options.size} pixels, {options.batch} a batch")  # fmt: skip
    print(table(measure(options.model, options.size, options.batch, options.repeats, device)))
    if options.chapter:
        print(f"chapter 02, profile full: {chapter():.0f} s")
