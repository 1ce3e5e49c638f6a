"""The recipe beside what it has to compete with, on a folder of photographs of your own.

One run, one split, the same cores and the same pretrained backbone for all of them:

* ``recipe.fit`` at its defaults;
* a linear head on frozen features at each size, its penalty chosen by cross-validation;
* fastai's ``fine_tune`` with its own head, transforms and rates, if fastai is installed.

Seconds are those of the whole way from the files to the predictions of the test pictures, with no
features kept from before. The recipe and the head learn from the training and the validation
pictures; fastai learns from the training pictures and watches the validation pictures.

With ``--draws``, small samples of the pictures to learn from are drawn, and the recipe is compared
with the head at the size that it chose, in pairs: the mean difference and its 95 % interval.

    course bench recipe my_pictures
    course bench recipe my_pictures --sizes 224 --draws 10 --per-class 10,25 --unequal 8,112
"""

import argparse
import copy
import multiprocessing
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

from course_lib import backbones, data, features, profile, recipe
from course_lib.benchmarks.peers.adapters import Fastai, version_of
from course_lib.benchmarks.throughput import torch_threads
from course_lib.data import ImageFolderDataset, LabelledSubset, balanced_subset
from course_lib.evidence.statistics import Interval, paired_interval
from course_lib.features import Features
from course_lib.recipe.heads import linear_heads
from course_lib.text import counted, few, ruled
from course_lib.training.evaluation import Evaluation
from course_lib.training.metrics import confusion_matrix

PENALTIES = tuple(10.0**power for power in range(-2, 4))
FOLDS = 5
PEER_SIZE, PEER_EPOCHS = 224, 3
PEER_BATCH = 64  # fastai's default
MISSING = f"not installed: pip install {Fastai.package}"


@dataclass(frozen=True)
class Trial:
    """A size that the recipe tried: balanced accuracy and log-loss are cross-validated."""

    size: int
    accuracy: float
    loss: float
    seconds: float


@dataclass(frozen=True)
class Row:
    """How one way did.

    Attributes:
        way: its name.
        size: side of the pictures, in pixels.
        pictures: that it learned from.
        test: on the test pictures; None if it could not run.
        seconds: from the files to the test predictions.
        cpu: seconds of all cores together.
        note: what else is to be said.
        trials: the sizes that the recipe tried.
    """

    way: str
    size: int
    pictures: int = 0
    test: Evaluation | None = None
    seconds: float = 0.0
    cpu: float = 0.0
    note: str = ""
    trials: tuple[Trial, ...] = ()


@dataclass(frozen=True)
class Draw:
    """Balanced accuracies on the test pictures after learning from one sample."""

    counts: tuple[int, ...]
    seed: int
    size: int
    recipe: float
    head: float
    seconds: float


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    options = _parsed(arguments)
    root = Path(options.data)
    chosen = usable_cores()[: options.threads]
    with using(chosen):
        print(machine(len(chosen)))
        pool, test = learning_and_test(root)
        for size in options.sizes:  # refuse now what would be refused after minutes
            backbones.preprocessing(profile.current().backbone, size)
        print(f"{root.name}: {_sizes(pool)} to learn from; {_sizes(test)} to test\n", flush=True)
        rows = [run_recipe(root, options.minutes)]
        rows += [run_head(root, size) for size in options.sizes]
        rows.append(run_fastai(root, PEER_SIZE, len(chosen)))
        print(table(rows), end="\n\n")
        print(tried(rows[0].trials), flush=True)
        if options.draws:
            wanted = [(each,) * len(pool.classes) for each in options.per_class]
            fitting, told = samples(pool, [*wanted, options.unequal])
            print("\n".join(["", *told]), flush=True)
            done = draws(root, fitting, options.draws, options.minutes, chosen, options.jobs)
            print(compared(done))


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="recipe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "data", metavar="DATA", help="a folder, as for course_lib.data.image_folder"
    )
    parser.add_argument("--sizes", type=_numbers, default=(96, 160, 224), help="of the head")
    parser.add_argument("--minutes", type=float, default=2, help="the recipe's budget")
    parser.add_argument("--draws", type=int, default=0, help="of each sample; two or more")
    parser.add_argument("--per-class", type=_numbers, default=(10, 25, 50), help="equal samples")
    parser.add_argument(
        "--unequal", type=_numbers, default=(8, 112), help="pictures of each class, in order"
    )
    parser.add_argument("--jobs", type=int, default=1, help="draws at once; they share the threads")
    most = len(usable_cores())
    parser.add_argument("--threads", type=int, default=most, help="by default all cores")
    options = parser.parse_args(arguments)
    if options.draws < 0 or options.draws == 1:
        parser.error("--draws must be two or more: one draw has no interval")
    if not 1 <= options.threads <= most:
        parser.error(f"--threads must be 1 to {most}, the cores that this process may use")
    if not 1 <= options.jobs <= options.threads:
        parser.error(f"--jobs must be 1 to {options.threads}, the threads")
    return options


def _numbers(text: str) -> tuple[int, ...]:
    """The numbers in ``"96,160"``."""
    parts = text.split(",")
    if not all(each.strip().isdecimal() and int(each) for each in parts):
        raise argparse.ArgumentTypeError(f"expected numbers such as 96,160; got {text!r}")
    return tuple(map(int, parts))


def usable_cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@contextmanager
def using(cores: Sequence[int]) -> Iterator[None]:
    """Compute on these cores only, torch with a thread on each; afterwards as before.

    Where the system can't bind a process to cores, only the number of threads is set.
    """
    with ExitStack() as undo:
        if hasattr(os, "sched_setaffinity"):
            undo.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
            os.sched_setaffinity(0, cores)
        undo.enter_context(torch_threads(len(cores)))
        yield


def machine(threads: int) -> str:
    """Processor, threads, versions."""
    packages = ("torch", "timm", "sklearn")
    versions = [f"{each} {import_module(each).__version__}" for each in packages]
    peer = version_of(Fastai)
    versions += [f"fastai {peer}"] if peer else []
    kind = torch.backends.cpu.get_cpu_capability()
    used = profile.current()
    return (
        f"{_processor()} ({kind}), {counted(threads, 'thread')}; "
        f"{used.backbone} on {used.device}\n"
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def _processor() -> str:
    """The processor's name; Linux keeps it in a file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def learning_and_test(
    root: Path, size: int | None = None
) -> tuple[ImageFolderDataset, ImageFolderDataset]:
    """The pictures to learn from (training and validation together), and the test pictures.

    Args:
        root: the folder.
        size: prepare them for the backbone at this size; by default they stay pictures.
    """
    see = backbones.preprocessing(profile.current().backbone, size).eval if size else None
    train, val, test = (data.image_folder(root, split, see) for split in ("train", "val", "test"))
    pool = copy.copy(train)
    pool.paths, pool.targets = train.paths + val.paths, train.targets + val.targets
    return pool, test


def _sizes(part: ImageFolderDataset) -> str:
    counts = Counter(part.targets)
    found = [f"{counts[number]} {name}" for number, name in enumerate(part.classes)]
    return f"{counted(len(part), 'picture')} ({few(found)})"


def clocked(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """What a call returns, its seconds, and those of all cores, its processes' included."""
    began, before = time.perf_counter(), os.times()
    result = run()
    seconds, after = time.perf_counter() - began, os.times()
    return result, seconds, sum(after[:4]) - sum(before[:4])


def scored(logits: Tensor, targets: Tensor) -> Evaluation:
    """How scores (N, C) do against class numbers (N,)."""
    confusion = confusion_matrix(logits.argmax(dim=1), targets, logits.shape[1])
    loss = float(nn.functional.cross_entropy(logits, targets))
    return Evaluation(loss, int(confusion.trace()) / len(targets), len(targets), confusion)


def balanced_accuracy(test: Evaluation) -> float:
    """The mean, over the classes that have pictures, of the share that is right."""
    there = test.confusion.sum(dim=1)
    return float((test.confusion.diag()[there > 0] / there[there > 0]).mean())


# The recipe ---------------------------------------------------------------------------------------


def fit_recipe(root: Path, minutes: float, cache: bool) -> Row:
    """``recipe.fit`` at its defaults. All that is read from a run is read here."""

    def fit() -> recipe.RecipeRun:
        return recipe.fit(root, minutes=minutes, cache=cache, progress=False, say=lambda _: None)

    run, seconds, cpu = clocked(fit)
    trials = tuple(
        Trial(each.size, each.accuracy.value, each.loss, each.seconds) for each in run.plan.sizes
    )
    return Row("recipe", run.size, test=run.test, seconds=seconds, cpu=cpu, trials=trials)


def run_recipe(root: Path, minutes: float) -> Row:
    """The recipe on the whole folder, with no features kept from before."""
    return replace(fit_recipe(root, minutes, cache=False), pictures=len(learning_and_test(root)[0]))


# A linear head on frozen features -----------------------------------------------------------------


def run_head(root: Path, size: int) -> Row:
    """A linear head on features at one size, with no features kept from before."""

    def run() -> tuple[Features, Evaluation, float]:
        rows, test_rows, seconds = frozen_features(root, size, cache=False)
        return rows, head_test(rows, test_rows), seconds

    (rows, test, extracting), seconds, cpu = clocked(run)
    note = f"{extracting:.0f} s of it the features"
    return Row("linear head", size, len(rows), test, seconds, cpu, note)


def frozen_features(root: Path, size: int, cache: bool) -> tuple[Features, Features, float]:
    """Features to learn from, those of the test pictures, and the seconds that they took."""
    began = time.perf_counter()
    body = _backbone().to(memory_format=torch.channels_last)
    rows, test_rows = (
        features.extract(body, part, cache=cache, progress=False)
        for part in learning_and_test(root, size)
    )
    return rows, test_rows, time.perf_counter() - began


def _backbone(pretrained: bool = True) -> nn.Module:
    chosen = profile.current()
    return backbones.load(chosen.backbone, pretrained=pretrained).eval().to(chosen.device)


def head_test(rows: Features, test_rows: Features) -> Evaluation:
    """The head with the best penalty, on the test pictures."""
    classes = int(max(rows.targets.max(), test_rows.targets.max())) + 1
    [(_, head)] = linear_heads(rows, classes, [best_penalty(rows, classes)])
    with torch.no_grad():
        return scored(head(test_rows.values), test_rows.targets)


def best_penalty(rows: Features, classes: int) -> float:
    """The penalty with the lowest log-loss on pictures that its heads haven't seen.

    Every class has two pictures or more.
    """
    smallest = int(torch.bincount(rows.targets)[rows.targets.unique()].min())
    losses = dict.fromkeys(PENALTIES, 0.0)
    parts = StratifiedKFold(min(FOLDS, smallest), shuffle=True, random_state=0)
    for fitted, held in parts.split(rows.values, rows.targets):
        unseen = rows.subset(held)
        for penalty, head in linear_heads(rows.subset(fitted), classes, PENALTIES):
            with torch.no_grad():
                logits = head(unseen.values)
            losses[penalty] += float(
                nn.functional.cross_entropy(logits, unseen.targets, reduction="sum")
            )
    return min(losses, key=losses.__getitem__)


# fastai -------------------------------------------------------------------------------------------


def run_fastai(root: Path, size: int, threads: int) -> Row:
    """fastai's ``fine_tune`` on the same pictures and backbone, as its documentation says."""
    way = f"fastai fine_tune({PEER_EPOCHS})"
    if not version_of(Fastai):
        return Row(way, size, note=MISSING)
    parts = {split: data.image_folder(root, split) for split in ("train", "val", "test")}
    with profile.own_streams(seed=profile.current().seed):
        test, seconds, cpu = clocked(lambda: _fine_tune(parts, size, threads))
    return Row(way, size, len(parts["train"]), test, seconds, cpu)


def _fine_tune(parts: dict[str, ImageFolderDataset], size: int, threads: int) -> Evaluation:
    from fastai.vision.all import (
        CategoryBlock,
        DataBlock,
        ImageBlock,
        IndexSplitter,
        ItemGetter,
        Normalize,
        Resize,
        aug_transforms,
        vision_learner,
    )

    classes, used = parts["train"].classes, profile.current()
    card = backbones.card(used.backbone)
    items = {
        split: [
            (path, classes[target]) for path, target in zip(part.paths, part.targets, strict=True)
        ]
        for split, part in parts.items()
    }
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=classes, sort=False)),
        get_x=ItemGetter(0),
        get_y=ItemGetter(1),
        splitter=IndexSplitter(range(len(items["train"]), len(items["train"]) + len(items["val"]))),
        item_tfms=Resize(size),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(card.mean, card.std)],
    )
    loaders = block.dataloaders(
        items["train"] + items["val"],
        bs=min(PEER_BATCH, len(items["train"])),
        num_workers=threads if threads > 1 else 0,
        device=torch.device(used.device),
    )
    learner = vision_learner(loaders, _backbone, normalize=False)  # it is among the transforms
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(PEER_EPOCHS)
        shown = loaders.test_dl(items["test"], with_labels=True)
        logits, targets = learner.get_preds(dl=shown, act=nn.Identity())
    return scored(torch.as_tensor(logits), torch.as_tensor(targets))


# Samples ------------------------------------------------------------------------------------------


def samples(
    pool: ImageFolderDataset, wanted: Sequence[tuple[int, ...]]
) -> tuple[list[tuple[int, ...]], list[str]]:
    """The samples that can be drawn, and a line for each that can't."""
    have = [Counter(pool.targets)[number] for number in range(len(pool.classes))]
    fitting, told = [], []
    for counts in wanted:
        if len(counts) != len(have):
            told.append(f"Left out: {_name(counts)}, as there are {len(have)} classes.")
        elif min(counts) < 2 or any(n > most for n, most in zip(counts, have, strict=True)):
            told.append(f"Left out: {_name(counts)}; it takes 2 a class, and there are {have}.")
        else:
            fitting.append(counts)
    return fitting, told


def sample(pool: ImageFolderDataset, counts: Sequence[int], seed: int) -> LabelledSubset:
    """So many pictures of each class; those of one seed are nested."""
    rows: list[int] = []
    for number, count in enumerate(counts):
        own = [row for row, target in enumerate(pool.targets) if target == number]
        rows += [own[i] for i in balanced_subset(LabelledSubset(pool, own), count, seed).indices]
    return LabelledSubset(pool, rows)


def lay_out(part: LabelledSubset | ImageFolderDataset, folder: Path) -> None:
    """Copy pictures to a folder, class by class, as ``image_folder`` reads them."""
    for number, (path, target) in enumerate(zip(part.paths, part.targets, strict=True)):  # type: ignore[union-attr]
        to = folder / part.classes[target] / f"{number:06d}{path.suffix}"  # type: ignore[union-attr]
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)


def draw(root: Path, counts: tuple[int, ...], seed: int, minutes: float) -> Draw:
    """Learn from one sample, by the recipe and by the head at the recipe's size."""
    pool, test = learning_and_test(root)
    part = sample(pool, counts, seed)
    with tempfile.TemporaryDirectory() as folder:
        lay_out(part, Path(folder) / "train")
        lay_out(test, Path(folder) / "test")
        ours = fit_recipe(Path(folder), minutes, cache=True)
    rows, test_rows, _ = frozen_features(root, ours.size, cache=True)
    head = head_test(rows.subset(part.indices), test_rows)
    assert ours.test is not None
    return Draw(
        counts, seed, ours.size, balanced_accuracy(ours.test), balanced_accuracy(head), ours.seconds
    )


def draws(
    root: Path,
    wanted: Sequence[tuple[int, ...]],
    seeds: int,
    minutes: float,
    cores: Sequence[int],
    jobs: int,
) -> list[Draw]:
    """All draws of all samples; with several jobs, each has its share of the cores."""
    todo = [(root, counts, seed, minutes) for counts in wanted for seed in range(seeds)]
    if jobs == 1:
        return [draw(*each) for each in todo]
    fresh = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads
    shares = fresh.Queue()
    for number in range(jobs):
        shares.put(list(cores)[number::jobs])
    with ProcessPoolExecutor(jobs, fresh, _take_cores, (shares,)) as pool:
        return list(pool.map(draw, *zip(*todo, strict=True)))


def _take_cores(shares: Any) -> None:
    """For as long as this process lives."""
    using(shares.get()).__enter__()


# What is printed ----------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    """Each way beside the others."""
    heads = "way,size,learned from,right,accuracy,balanced,log-loss,seconds,CPU s,".split(",")
    lines = [heads]
    for row in rows:
        found = [""] * 7
        if row.test is not None:
            found = [
                str(row.pictures),
                f"{row.test.correct} of {row.test.n}",
                f"{row.test.accuracy:.4f}",
                f"{balanced_accuracy(row.test):.4f}",
                f"{row.test.loss:.3f}",
                f"{row.seconds:.0f}",
                f"{row.cpu:.0f}",
            ]
        lines.append([row.way, f"{row.size} px", *found, row.note])
    return ruled(lines)


def tried(trials: Sequence[Trial]) -> str:
    """The sizes that the recipe tried."""
    lines = [["the recipe tried", "balanced, cross-validated", "log-loss", "seconds"]]
    lines += [
        [f"{each.size} px", f"{each.accuracy:.3f}", f"{each.loss:.3f}", f"{each.seconds:.0f}"]
        for each in trials
    ]
    return ruled(lines)


def compared(done: Sequence[Draw]) -> str:
    """A line a sample: means of the balanced accuracies, and of the differences."""
    heads = "pictures a class,draws,recipe,head,recipe - head,95 % interval,sizes,seconds"
    lines = [heads.split(",")]
    for counts in dict.fromkeys(each.counts for each in done):
        own = [each for each in done if each.counts == counts]
        ours, theirs = [each.recipe for each in own], [each.head for each in own]
        gap = difference(own)
        sizes = Counter(each.size for each in own).most_common()
        lines.append(
            [
                _name(counts),
                str(len(own)),
                f"{statistics.mean(ours):.3f}",
                f"{statistics.mean(theirs):.3f}",
                f"{gap.value:+.3f}",
                f"{gap.low:+.3f} to {gap.high:+.3f}",
                ", ".join(f"{size} px x {times}" for size, times in sizes),
                f"{statistics.mean(each.seconds for each in own):.0f}",
            ]
        )
    return ruled(lines)


def difference(own: Sequence[Draw]) -> Interval:
    """The recipe's balanced accuracy less the head's, in pairs."""
    return paired_interval([each.recipe for each in own], [each.head for each in own])


def _name(counts: tuple[int, ...]) -> str:
    return str(counts[0]) if len(set(counts)) == 1 else " against ".join(map(str, counts))
