"""What a job will do: its stages, what each freezes, how fast each part learns, what it costs."""

import math
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from course_lib import backbones, data, freezing, profile, recipe, weights
from course_lib.backbones.transforms import Preprocessing
from course_lib.data.folders import DataWarning
from course_lib.errors import CourseError, UnknownNameError
from course_lib.freezing.costs import cost_of_step
from course_lib.freezing.select import select
from course_lib.jobs.config import JobConfig, StageConfig
from course_lib.jobs.data import Splits, find, steps_of, transforms
from course_lib.jobs.ranks import Ranks, ranks
from course_lib.recipe.facts import body_blocks
from course_lib.text import counted, few, ruled, wrapped
from course_lib.training.precision import Precision
from course_lib.training.staged import depth_rates, hold_statistics

SAMPLE = 400  # pictures that the recipe looks at to make a plan
ALL = "all"


@dataclass(frozen=True)
class Stage:
    """One stage, with the names that its config's patterns stand for.

    Attributes:
        config: as it was given.
        name: what it is called.
        frozen: names of the modules and parameters that are frozen.
        rates: name of a part that trains -> its learning rate; the head is among them.
        steps: training steps of an epoch.
    """

    config: StageConfig
    name: str
    frozen: tuple[str, ...]
    rates: dict[str, float]
    steps: int


def build(config: JobConfig, classes: tuple[str, ...]) -> nn.Module:
    """The network at the start: published weights, or a file's, with a new head.

    Raises:
        CourseError: no such backbone or file, or weights that aren't on this machine.
    """
    profile.seed_everything(config.seed)
    count = len(classes)
    model = backbones.load(config.model, count, config.pretrained and not config.weights)
    if config.weights:
        head = backbones.head_name(model)
        theirs = weights.read_checkpoint(config.weights).tensors
        fitting = theirs.get(f"{head}.weight")
        if fitting is None or len(fitting) == count:
            weights.load_weights(model, config.weights)
        else:  # of other classes: the body is taken, the head is new
            weights.load_weights(model, config.weights, keep=[head], drop=[f"{head}.*"])
    return model


def stages_of(config: JobConfig, splits: Splits, model: nn.Module) -> list[Stage]:
    """The stages of a config, by the parts of this network.

    Raises:
        UnknownNameError: a name or pattern that the network doesn't have.
    """
    head = backbones.head_name(model)
    blocks = body_blocks(model, head)
    chosen = config.stages or _ready_made(config, splits, blocks)
    steps = steps_of(splits.train, config.batch_size)
    made = []
    for number, each in enumerate(chosen, start=1):
        wanted = list(blocks) if ALL in each.thaw else list(each.thaw)
        trains = _trained(model, wanted, head, number)
        moving = [name for name in blocks if _holds(model, name, trains)]
        rates = depth_rates(tuple(moving), each.lr, each.depth_factor) | {head: each.lr}
        loose = trains - {n for part in rates for n in _parameters(model, part)}
        rates |= dict.fromkeys(sorted(loose), each.lr * each.depth_factor)
        parts = few(moving) if moving else "head"
        name = each.name or ("all layers" if len(moving) == len(blocks) and moving else parts)
        made.append(Stage(each, name, tuple(_frozen(model, trains)), rates, steps))
    return made


def parts_of(model: nn.Module) -> tuple[str, ...]:
    """Names of the blocks of the body, and of the head."""
    head = backbones.head_name(model)
    return (*body_blocks(model, head), head)


def _ready_made(
    config: JobConfig, splits: Splits, blocks: tuple[str, ...]
) -> tuple[StageConfig, ...]:
    head = StageConfig(epochs=2, lr=0.01, name="head")
    late = StageConfig(thaw=blocks[-max(1, len(blocks) // 3) :], epochs=2, name="last third")
    everything = StageConfig(thaw=(ALL,), epochs=3, lr=0.003)
    plans = {"head": (head,), "all": (everything,), "staged": (head, late, everything)}
    return plans[config.plan] if config.plan in plans else (head, *_recipes(config, splits))


def _recipes(config: JobConfig, splits: Splits) -> list[StageConfig]:
    """The recipe's plan for some of the pictures: stages with their middle rate."""
    if splits.train.sharded or splits.val.sharded:
        raise CourseError(
            'plan = "recipe" measures on files; for shards, write [[stages]], or take "staged".'
        )
    see = transforms(config)[1]
    parts = [
        _Sample(splits, source, see) for source in (splits.train, splits.val)
    ]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        run = recipe.fit(
            parts[0], parts[1], model=backbones.load(config.model, len(splits.classes),
            config.pretrained), budget=100 * len(parts[0]), seed=config.seed, plan_only=True,
            say=lambda _: None, cache=False,
        )  # fmt: skip
    rates = [sorted(each.rates)[len(each.rates) // 2] for each in run.plan.stages]
    return [
        StageConfig(each.thaw, each.epochs, rate, each.depth_factor, each.name)
        for each, rate in zip(run.plan.stages, rates, strict=True)
        if not each.new_head
    ]


class _Sample(torch.utils.data.Dataset[Any]):
    """The first pictures of each class, prepared."""

    def __init__(self, splits: Splits, source: Any, transform: Any) -> None:
        share = max(1, SAMPLE // len(splits.classes))
        kept, seen = [], dict[int, int]()
        for place, target in enumerate(source.targets):
            seen[target] = seen.get(target, 0) + 1
            if seen[target] <= share:
                kept.append(place)
        self.paths = [source.paths[i] for i in kept]
        self.targets = [source.targets[i] for i in kept]
        self.classes, self.transform = splits.classes, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(data.open_image(self.paths[index])), self.targets[index]


def _parameters(model: nn.Module, part: str) -> list[str]:
    return [n for n, _ in model.named_parameters() if n == part or n.startswith(f"{part}.")]


def _holds(model: nn.Module, part: str, trains: set[str]) -> bool:
    return any(name in trains for name in _parameters(model, part))


def _trained(model: nn.Module, thaw: list[str], head: str, number: int) -> set[str]:
    """Names of the parameters that train."""
    try:
        return set(select(model, [*thaw, head]).parameters)
    except CourseError as error:
        raise UnknownNameError(f"stages[{number - 1}].thaw: {error}") from error


def _frozen(model: nn.Module, trains: set[str]) -> list[str]:
    """The largest parts without a parameter that trains, first to last."""

    def walk(module: nn.Module, name: str) -> Iterable[str]:
        own = [n for n, _ in module.named_parameters()]
        full = [f"{name}.{n}".lstrip(".") for n in own]
        if not full:
            return
        if not trains.intersection(full):
            yield name
            return
        for key, _ in module.named_parameters(recurse=False):
            if (whole := f"{name}.{key}".lstrip(".")) not in trains:
                yield whole
        for key, child in module.named_children():
            yield from walk(child, f"{name}.{key}".lstrip("."))

    return list(walk(model, ""))


def enter(model: nn.Module, stage: Stage, config: JobConfig) -> Optimizer:
    """Freeze what a stage freezes, let go the rest, and build its optimizer.

    Args:
        model: not wrapped: freezing goes before wrapping.
        stage: whose turn it is.
        config: optimizer and BatchNorm.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # let go, with no optimizer to give them to
        loose = [n for n, _ in model.named_parameters(recurse=False)]  # such as a class token
        freezing.unfreeze(model, [*(n for n, _ in model.named_children()), *loose])
    if stage.frozen:
        freezing.freeze(model, list(stage.frozen))
    if config.hold_statistics:
        hold_statistics(model)
    groups: list[dict[str, Any]] = []
    seen: set[int] = set()
    named = dict(model.named_parameters())
    for part, rate in stage.rates.items():
        params = [named[n] for n in _parameters(model, part) if named[n].requires_grad]
        params = [each for each in params if id(each) not in seen]
        seen |= set(map(id, params))
        if params:
            groups.append({"params": params, "lr": rate, "name": part, "full_lr": rate})
    decay = config.weight_decay
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=decay)
    return torch.optim.SGD(groups, lr=stage.config.lr, momentum=0.9, weight_decay=decay)


def rate_factor(config: JobConfig, step: int, steps: int) -> float:
    """By which factor a step's learning rates are multiplied; steps count from 0 in each stage."""
    rising = round(config.warm_up * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def precision_of(config: JobConfig, device: torch.device) -> Precision:
    """Full precision, or mixed where the config or the device asks for it."""
    names = {"float16": torch.float16, "bfloat16": torch.bfloat16}
    wish = names.get(config.amp, config.amp == "auto" and device.type == "cuda")
    return Precision.choose(device, wish)


def layout_of(config: JobConfig, device: torch.device) -> torch.memory_format:
    """Channels last where the config or the device asks for it."""
    last = config.channels_last == "on" or (
        config.channels_last == "auto" and device.type == "cuda"
    )
    return torch.channels_last if last else torch.contiguous_format


def check_sizes(config: JobConfig, splits: Splits, place: Ranks) -> None:
    """Refuse a batch that can't be shared or filled, and shards too few to share.

    Raises:
        CourseError: it is so.
    """
    if config.batch_size % place.world:
        raise CourseError(
            f"batch_size = {config.batch_size} can't be shared by {place.world} processes; take a "
            f"multiple of {place.world}."
        )
    if config.batch_size > len(splits.train):
        raise CourseError(
            f"batch_size = {config.batch_size}, and there are {len(splits.train)} training "
            "pictures: no batch can be filled. Take a smaller one."
        )
    for name, each in (("data", splits.train), ("val", splits.val)):
        if each.sharded and len(each.paths) < place.world:
            raise CourseError(
                f"{name} has {counted(len(each.paths), 'shard')} for {place.world} processes; "
                "each needs one of its own."
            )


def dry_run(config: JobConfig) -> str:
    """What would be done, what it costs and what is frozen. Nothing is written.

    Raises:
        CourseError: as :func:`course_lib.jobs.train` would.
    """
    splits = find(config)
    with ranks(config.device) as place:
        check_sizes(config, splits, place)
        model = build(config, splits.classes).to(place.device)
        stages = stages_of(config, splits, model)
        costs = [_cost(model, each, config, place.device) for each in stages]
    head = ("stage", "trains", "frozen", "epochs", "steps", "GFLOP/step", "min")
    rows, minutes = [head], 0.0
    total = sum(p.numel() for p in model.parameters())
    for stage, (flops, seconds, trained) in zip(stages, costs, strict=True):
        steps = stage.steps * stage.config.epochs
        took = steps * seconds / 60
        minutes += took
        counts = (f"{trained:,}", f"{total - trained:,}", str(stage.config.epochs), str(steps))
        rows.append((stage.name, *counts, f"{flops / 1e9:.1f}", f"{took:.1f}"))
    see: Preprocessing = backbones.preprocessing(config.model, config.size or None)
    listed = ", ".join(
        f"{name} {n}" for name, n in zip(splits.classes, splits.train.counts, strict=True)
    )
    tested = f", {counted(len(splits.test), 'test picture')}" if splits.test else ""
    lines = [
        f"{counted(len(splits.train), 'picture')} to learn from ({listed}), "
        f"{len(splits.val):,} to choose by{tested}.",
        f"{config.model} at {see.size} pixels on {place.device.type}, {config.batch_size} a step; "
        f"a checkpoint takes about {checkpoint_bytes(model, config) / 1e6:.0f} MB in {config.out}.",
    ]
    frozen = [f"Frozen in {each.name!r}: {few(each.frozen, 8) or 'nothing'}." for each in stages]
    end = [
        f"About {minutes:.0f} minutes of computing, measured on one step of each stage, without "
        "reading pictures and measuring.",
        "Nothing was trained or written: this was --dry-run.",
    ]
    return "\n".join([*map(wrapped, lines), "", ruled(rows), "", *map(wrapped, [*frozen, *end])])


def checkpoint_bytes(model: nn.Module, config: JobConfig) -> int:
    """About what a checkpoint takes: weights, and the optimizer's moments of all of them."""
    size = sum(each.nbytes for each in model.state_dict().values())
    return size * (3 if config.optimizer == "adamw" else 2)


def _cost(
    model: nn.Module, stage: Stage, config: JobConfig, device: torch.device
) -> tuple[int, float, int]:
    """Operations and seconds of a step of a stage, and how many numbers train.

    Measured on a few pictures of noise with rates of 0, and multiplied.
    """
    optimizer = enter(model, stage, config)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    size = backbones.preprocessing(config.model, config.size or None).size
    pictures = min(4, config.batch_size)
    images = torch.randn(pictures, 3, size, size, device=device)
    precision = precision_of(config, device)
    model.train()

    def step() -> None:
        with precision.autocast():
            loss = model(images).float().logsumexp(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    with profile.own_streams(devices=[device]):
        flops = cost_of_step(model, optimizer, step, [images]).flops
        began = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - began
    trained = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    times = config.batch_size / pictures
    return round(flops * times), seconds * times, trained
