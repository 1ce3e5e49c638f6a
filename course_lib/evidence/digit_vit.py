"""The laboratory of chapter 09: a small vision transformer on scikit-learn's digits.

The pictures and parts are those of :mod:`course_lib.evidence.digits`. The network is timm's
``VisionTransformer`` with 16 patches of 2 x 2 pixels, tokens of 48 numbers and three blocks. It is
pretrained on the digits 0 to 4; the task is to tell 5 to 9 apart.
"""

import copy
from functools import lru_cache
from typing import TypeVar

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F

from course_lib.evidence import digits
from course_lib.profile import seeded_generator
from course_lib.strategies import adapters, lora, prompts, subsets

HEAD, WIDTH = "head", 48
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
WAYS = ("all layers", "head", "LoRA", "adapters", "biases", "norms", "prompts")
STEPS, SOURCE_STEPS, SOURCE_RATE = 150, 1000, 0.001


def new_vit(seed: int, classes: int = 5) -> VisionTransformer:
    """The network with weights drawn from the seed: (B, 1, 8, 8) to scores (B, classes)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VisionTransformer(
            img_size=8, patch_size=2, in_chans=1, num_classes=classes,
            embed_dim=WIDTH, depth=3, num_heads=4, mlp_ratio=2,
        )  # fmt: skip


@lru_cache(maxsize=16)
def _source(seed: int) -> VisionTransformer:
    part = digits._of_classes(0, 4)
    return fit(new_vit(3000 + seed), part, SOURCE_RATE, SOURCE_STEPS, seed=seed)


def pretrained(seed: int) -> VisionTransformer:
    """The network trained on the digits 0 to 4, with a new head for five classes."""
    model = copy.deepcopy(_source(seed))
    model.head = new_vit(4000 + seed).head
    return model


def prepare(model: VisionTransformer, way: str, seed: int) -> VisionTransformer:
    """Make ready for one way of training: put in what is added, freeze what doesn't train.

    Args:
        model: as :func:`pretrained` gives it; changed in place.
        way: one of ``WAYS``.
        seed: of the weights that are added.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8000 + seed)
        names = _to_train(model, way)
    if way != "all layers":
        subsets.train_only(model, names)
    return model


def _to_train(model: VisionTransformer, way: str) -> list[str]:
    if way == "LoRA":
        return [*lora.add(model, ["blocks.*.attn.qkv", "blocks.*.mlp.fc1"], rank=4), HEAD]
    if way == "adapters":
        places = ["blocks.*.attn.proj", "blocks.*.mlp.fc2"]
        return [*adapters.add(model, places, size=4), HEAD]
    if way == "biases":
        return [*(each for each in subsets.biases(model) if not each.startswith(HEAD)), HEAD]
    if way == "norms":
        return [*subsets.norms(model), HEAD]
    if way == "prompts":
        return [*prompts.add(model, "norm_pre", count=4, width=WIDTH), HEAD]
    return [HEAD]


Network = TypeVar("Network", bound=nn.Module)


def fit(
    model: Network, part: digits.Part, rate: float, steps: int = STEPS, *, seed: int
) -> Network:
    """Train by Adam on cross-entropy, in batches of 16 and an order that depends on the seed.

    Args:
        model: all of it that requires a gradient is trained.
        part: to train on.
        rate: learning rate.
        steps: how many.
        seed: of the order.
    """
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)
    stream = seeded_generator(6000 + seed)
    waiting: list[torch.Tensor] = []
    model.train()
    for _ in range(steps):
        waiting = waiting or list(torch.randperm(len(part), generator=stream).split(digits.BATCH))
        rows = waiting.pop(0)
        optimizer.zero_grad()
        F.cross_entropy(model(part.images[rows]), part.targets[rows]).backward()
        optimizer.step()
    return model.eval()
