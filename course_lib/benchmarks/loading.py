"""How long does loading weights take, and how much memory, next to what others do?

The ways take turns, round after round: cold (the file is dropped from the system's cache before)
and warm. A ratio is the median over the rounds, so that a machine that is slow for a while is slow
for all. Each time counts one load in a process of its own, as people load, with memory that the
system has to hand out; the libraries' code was used before. Two situations are measured: from
nothing to a model that is ready, and into a model that exists already. Memory is the process's
highest resident size, less what it was before, in units of the model's size; pages of the file that
are mapped into memory count.

Into a model that exists, ours copies straight from the file's pages, after every checksum was
compared and every number looked at.

    course bench loading
    course bench loading --models resnet18 --repeats 3
"""

import argparse
import gc
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from course_lib.benchmarks.throughput import torch_threads

MODELS = ("mobilenet_v3_large", "resnet18", "resnet50", "vit_b_16")  # torchvision's
WAYS = ("ours .pth", "torch.load", "timm", "ours .safetensors", "safetensors", "bytes")
SITUATIONS = ("new", "existing")
TINY = "tiny"
LIBRARIES = ("safetensors.torch", "timm.models", "course_lib.weights")
REPEATS = 4
THREADS = os.cpu_count() or 1  # for torch, as by default


@dataclass(frozen=True)
class Once:
    """One load: seconds, and the peak as a multiple of the model."""

    seconds: float
    peak: float


@dataclass(frozen=True)
class Measured:
    """One way in one situation: seconds by round, and the peak as a multiple of the model."""

    way: str
    situation: str
    model: str
    peak: float
    cold: list[float]
    warm: list[float]


def main(arguments: Sequence[str] = ()) -> None:
    """Measure, and print two tables: seconds and peak memory, side by side, with ratios."""
    parser = argparse.ArgumentParser(prog="loading", description=__doc__)
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=MODELS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    options = parser.parse_args(arguments)
    print(table(run(options.models, options.repeats)))


def run(models: list[str], repeats: int) -> list[Measured]:
    """All measurements, each in a fresh process."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            write_files(model, Path(folder))
            for situation in SITUATIONS:
                print(f"{model}, {situation}", file=sys.stderr, flush=True)
                results += in_turns(situation, model, Path(folder), repeats)
    return results


def in_turns(situation: str, model: str, folder: Path, repeats: int) -> list[Measured]:
    """Every way in one situation, round after round."""
    found: dict[str, dict[str, list[Once]]] = {way: {"cold": [], "warm": []} for way in WAYS}
    for kind in [*["cold"] * repeats, *["warm"] * repeats]:
        for way in WAYS:
            path = folder / f"{model}.{ending(way)}"
            drop_from_cache(path) if kind == "cold" else path.read_bytes()
            found[way][kind].append(in_fresh_process(once, way, situation, model, path))
    return [
        Measured(
            way, situation, model, max(each.peak for kind in rounds.values() for each in kind),
            **{kind: [each.seconds for each in of_kind] for kind, of_kind in rounds.items()},
        )
        for way, rounds in found.items()
    ]  # fmt: skip


def in_fresh_process(what: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives in a process of its own, forked from one that has the libraries."""
    kind = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(kind)
    context.set_forkserver_preload(["torchvision", *LIBRARIES])
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(what, *arguments).result()


def factory(model: str) -> Callable[[], Any]:
    """Builds a model with random weights."""
    import torchvision

    return getattr(torchvision.models, model)


def of_zeros(build: Callable[[], Any]) -> Any:
    """A model that exists, without the time that random numbers take."""
    import torch

    with torch.device("meta"):
        model = build()
    model.to_empty(device="cpu")
    for each in model.state_dict().values():
        each.zero_()
    return model


def tiny() -> Any:
    """A model of a few numbers, with the kinds of tensors that the others have."""
    from torch import nn

    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))


def write_files(model: str, folder: Path) -> None:
    """The same weights as ``torch.save`` and as safetensors write them; also of the tiny model."""
    import safetensors.torch
    import torch

    torch.manual_seed(0)
    for name, built in ((model, factory(model)()), (TINY, tiny())):
        torch.save(built.state_dict(), folder / f"{name}.pth")
        safetensors.torch.save_model(built, str(folder / f"{name}.safetensors"))


def ending(way: str) -> str:
    """Of the file that a way reads."""
    return "safetensors" if "safetensors" in way else "pth"


def size_of(model: str) -> int:
    """Bytes of a model's tensors."""
    import torch

    with torch.device("meta"):
        return sum(each.nbytes for each in factory(model)().state_dict().values())


def once(way: str, situation: str, model: str, path: Path) -> Once:
    """One load, in this process."""
    build = factory(model)
    for library in LIBRARIES:
        import_module(library)  # so that no way is charged with the libraries' own code
    with conditions():
        warm_up(way, path.parent)
        before = resident()
        reset_peak()
        existing = of_zeros(build) if situation == "existing" else None
        action = action_for(way, build, existing, path)
        start = time.perf_counter()
        result = action()
        seconds = time.perf_counter() - start
        peak = peak_resident() - before
        del result
    return Once(seconds, peak / size_of(model))


@contextmanager
def conditions() -> Iterator[None]:
    """All of torch's threads, as by default, and no garbage collection, as in timeit.

    A sweep of Python's garbage collector takes a tenth of a second and hits whom it hits.
    """
    gc.collect()
    gc.disable()
    try:
        with torch_threads(THREADS):
            yield
    finally:
        gc.enable()


def warm_up(way: str, folder: Path) -> None:
    """Load a model of a few numbers, so that the code of this way is in memory, too."""
    for existing in (None, tiny()):
        action_for(way, tiny, existing, folder / f"{TINY}.{ending(way)}")()


def action_for(way: str, build: Callable[[], Any], existing: Any, path: Path) -> Callable[[], Any]:
    """What is timed: in the situation ``existing`` without building the model."""
    import safetensors.torch
    import timm.models
    import torch

    from course_lib.weights import load_model, load_weights

    def into(load: Callable[[Any], object]) -> Callable[[], Any]:
        def action() -> Any:
            model = build() if existing is None else existing
            load(model)
            return model

        return action

    def plain(model: Any) -> None:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    whole, onto = partial(load_model, build, path), partial(load_weights, existing, path)
    ours = whole if existing is None else onto
    return {
        "ours .pth": ours,
        "ours .safetensors": ours,
        "torch.load": into(plain),
        "timm": into(lambda model: timm.models.load_checkpoint(model, str(path))),
        "safetensors": into(lambda model: safetensors.torch.load_model(model, path)),
        "bytes": path.read_bytes,
    }[way]


def drop_from_cache(path: Path) -> None:
    """Ask the system to forget the file, so that the next reading goes to the disk."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident() -> int:
    """Bytes of memory that the process has now."""
    if sys.platform == "linux":
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return peak_resident()


def reset_peak() -> None:
    """Let the peak begin anew, where the system can (Linux); else it is that since the start."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_resident() -> int:
    """The most bytes of memory that the process has had."""
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="ascii")
        line = next(each for each in status.splitlines() if each.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def ratio(row: Measured, rows: list[Measured], kind: str) -> float:
    """To the fastest of the others with the same file, round by round; the median."""
    others = ("safetensors",) if "safetensors" in row.way else ("torch.load", "timm")
    theirs = [getattr(each, kind) for each in rows if each.way in others]
    fastest = [min(of_round) for of_round in zip(*theirs, strict=True)]
    pairs = zip(getattr(row, kind), fastest, strict=True)
    return statistics.median(mine / best for mine, best in pairs)


def table(results: list[Measured]) -> str:
    """Seconds, their ratio to the best of the others with the same file, and peak memory."""
    lines = []
    titles = {"new": "From nothing to a ready model", "existing": "Into a model that exists"}
    for situation in SITUATIONS:
        lines += ["", titles[situation], f"{'':<46}{'cold s':>7}{'ratio':>7}{'warm s':>9}"
                  f"{'ratio':>7}{'peak/model':>12}"]  # fmt: skip
        for model in dict.fromkeys(each.model for each in results):
            rows = [r for r in results if r.model == model and r.situation == situation]
            for row in rows:
                name = f"{model} ({size_of(model) / 1e6:.0f} MB)" if row is rows[0] else ""
                lines.append(
                    f"{name:<28}{row.way:<18}"
                    f"{statistics.median(row.cold):>7.3f}{ratio(row, rows, 'cold'):>7.2f}"
                    f"{statistics.median(row.warm):>9.3f}{ratio(row, rows, 'warm'):>7.2f}"
                    f"{row.peak:>12.2f}"
                )
    end = "ratio: to the fastest of the others that read the same file; bytes: only reads it."
    return "\n".join([*lines[1:], "", end])
