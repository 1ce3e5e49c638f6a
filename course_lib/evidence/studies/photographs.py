"""Chapter 09 on photographs: small parts, probes and averages of a real ImageNet network.

Common to both: EfficientNet-Lite0 with ImageNet's weights, pictures of 96 pixels, held in memory
and not augmented; five epochs of Adam in batches of 10, three learning rates for every arm that
trains, the best by validation loss. Designed on draw 0; results are from draws 20 on.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn
from torch.utils.data import TensorDataset

from course_lib import backbones, data, freezing, training
from course_lib.evidence import photographs
from course_lib.evidence.design import Contrast, Measure, Outcome, experiment
from course_lib.evidence.studies.pictures import (
    FILES,
    SIZE,
    drawn,
    in_memory,
    network,
    pictures,
)
from course_lib.strategies import averages, lora, subsets

FIRST_DRAW = 20
RATES = (0.0003, 0.001, 0.003)
HEAD_RATES = (0.001, 0.003, 0.01)  # on features that stand still, larger ones are better
EPOCHS, BATCH = 5, 10
ACCURACY = Measure("test_accuracy", digits=3)


@cache
def food(split: str) -> TensorDataset:
    """A split of the photographs of food, hot dogs and others, prepared: (N, 3, 96, 96)."""
    return prepared(photographs.food(split, SIZE))


def prepared(pictures: data.ImageFolderDataset) -> TensorDataset:
    """All of them in memory, with class 0 for hot dogs and 1 for others."""
    assert list(pictures.classes) == ["hotdog", "not-hotdog"]
    return in_memory(pictures)


def some(whole: TensorDataset, rows: Sequence[int]) -> TensorDataset:
    """The pictures in these rows."""
    return TensorDataset(*(each[rows] for each in whole.tensors))


@dataclass(frozen=True)
class Trained:
    """A network after one training.

    Attributes:
        model: in evaluation mode.
        loss: on the validation pictures; it chooses.
    """

    model: nn.Module
    loss: float


def trained(
    start: nn.Module, train: TensorDataset, val: TensorDataset, rate: float, seed: int
) -> Trained:
    """A copy of the network, trained at one rate in what requires a gradient."""
    model = copy.deepcopy(start)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)
    training.finetune(
        model, train, epochs=EPOCHS, optimizer=optimizer, batch_size=BATCH, device="cpu",
        amp=False, seed=seed, progress=False,
    )  # fmt: skip
    return Trained(model, training.evaluate(model, val).loss)


def best(tried: Iterable[Trained]) -> nn.Module:
    """The network with the smallest validation loss."""
    return min(tried, key=lambda each: each.loss).model


def accuracy(model: nn.Module, part: TensorDataset) -> float:
    """The share of right answers."""
    return training.evaluate(model, part).accuracy


def with_new_head(seed: int) -> nn.Module:
    """ImageNet's body and a head for two classes."""
    return backbones.replace_head(copy.deepcopy(network()), 2, seed=seed)


def made_ready(way: str, seed: int) -> nn.Module:
    """A new start in which only what belongs to the way requires a gradient."""
    model = with_new_head(seed)
    head = backbones.head_name(model)
    if way == "LoRA":
        pointwise = [n for n, m in model.named_modules() if getattr(m, "kernel_size", 0) == (1, 1)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            names = [*lora.add(model, pointwise, rank=4), head]
    else:
        inside = {"head": [], "norms": subsets.norms(model)}
        inside["last block"] = ["blocks.6", "conv_head", "bn2"]
        names = [*inside.get(way, ["*"]), head]
    if way != "all layers":
        subsets.train_only(model, names)
    return model


WAYS = ("all layers", "head", "last block", "norms", "LoRA")


@experiment(
    "adapters_photographs", seeds=5, arms=WAYS, measures=(ACCURACY,),
    contrasts=(
        Contrast("lora", "LoRA", "head", "test_accuracy", "more",
                 when="LoRA is set against the head alone"),
        Contrast("norms", "norms", "head", "test_accuracy", "more",
                 when="norms are set against the head alone"),
        Contrast("last", "last block", "head", "test_accuracy", "more",
                 when="the last block is set against the head alone"),
        Contrast("lora_all", "LoRA", "all layers", "test_accuracy", "same", margin=0.02,
                 when="LoRA is set against training everything"),
    ),
    photographs="food_photographs", minutes=12,
)  # fmt: skip
def small_parts(seed: int) -> Outcome:
    """Is it enough to train small parts of a convolutional network, on photographs?

    Data: 100 photographs of food to train on and 100 to choose by, half of them hot dogs, drawn by
    the seed; 400 to test on, the same for every seed. Arms: all layers, BatchNorm counting anew;
    the head; the head with the last block, with the norms' weights and biases, or with LoRA of rank
    4 beside every convolution of one pixel; what isn't trained is frozen, statistics included.
    Budget: five epochs at each of three rates, for the head alone 0.001, 0.003 and 0.01, else
    0.0003, 0.001 and 0.003. Prediction of the claim: each small part beats the head alone, and
    LoRA is within 0.02 of training everything.
    """
    draw = FIRST_DRAW + seed
    train, val = (
        some(food(split), drawn(draw, food(split).tensors[1], 100)) for split in ("train", "val")
    )
    found = {}
    for way in WAYS:
        start = made_ready(way, draw)
        rates = HEAD_RATES if way == "head" else RATES
        model = best(trained(start, train, val, rate, draw) for rate in rates)
        found[way] = {"test_accuracy": accuracy(model, food("test"))}
    return found


IN, OUT = Measure("in", digits=3), Measure("out", digits=3)


@experiment(
    "averages_photographs", seeds=5,
    arms=("probe", "all at once", "LP-FT", "half way", "soup"), measures=(IN, OUT),
    contrasts=(
        Contrast("lp_ft", "LP-FT", "all at once", "out", "more",
                 when="a probe comes first and photographs count"),
        Contrast("probe", "probe", "all at once", "out", "more",
                 when="the probe alone is set against all at once, and photographs count"),
        Contrast("wise", "half way", "LP-FT", "out", "more",
                 when="weights half way are taken and photographs count"),
        Contrast("wise_in", "half way", "LP-FT", "in", "same", margin=0.02,
                 when="weights half way are taken and drawn pictures count"),
        Contrast("soup", "soup", "LP-FT", "out", "more",
                 when="three runs are averaged and photographs count"),
        Contrast("soup_in", "soup", "LP-FT", "in", "more",
                 when="three runs are averaged and drawn pictures count"),
    ),
    files=FILES, photographs="food_photographs", minutes=8,
)  # fmt: skip
def drawn_to_photographs(seed: int) -> Outcome:
    """Trained on drawn pictures: what of it holds on photographs?

    Data: 96 of the bundled drawn pictures, hot dogs and other food, drawn by the seed; their
    validation part chooses. In: the drawn test pictures; out: 400 photographs of food, of which
    nothing was seen. Arms: a linear probe on the frozen body (rates 0.001, 0.003, 0.01); all layers
    at once from a new head (0.0003, 0.001, 0.003); LP-FT, all layers from the probe at the same
    three rates; half way between the probe and LP-FT (WiSE-FT); the mean of LP-FT's three runs
    (soup; LP-FT is the best of the three). Prediction of the claims: out, LP-FT and the probe beat
    all at once, half way and the soup beat LP-FT; in, half way is within 0.02 of LP-FT and the soup
    above it.
    """
    draw = FIRST_DRAW + seed
    whole = prepared(pictures("train"))
    train = some(whole, drawn(draw, whole.tensors[1], 96))
    val = prepared(pictures("val"))
    probe = best(trained(made_ready("head", draw), train, val, rate, draw) for rate in HEAD_RATES)
    open_probe = copy.deepcopy(probe)
    freezing.unfreeze(open_probe, "*")
    runs = [trained(open_probe, train, val, rate, draw) for rate in RATES]
    tuned = best(runs)
    found = {
        "probe": open_probe,
        "all at once": best(trained(with_new_head(draw), train, val, rate, draw) for rate in RATES),
        "LP-FT": tuned,
        "half way": averages.interpolate(open_probe, tuned, 0.5),
        "soup": averages.average([each.model for each in runs]),
    }
    ends = {"in": prepared(pictures("test")), "out": food("test")}
    return {
        arm: {name: accuracy(model, part) for name, part in ends.items()}
        for arm, model in found.items()
    }
