"""Pools of pictures, from which each seed draws anew what is learned from, chosen by and tested on.

Near-duplicates stay together: what is learned from is never tested on in another file. The draws of
two seeds overlap, as there are only so many pictures; intervals resample the pictures, too
(:mod:`course_lib.evidence.statistics`).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn
from torchvision.transforms import v2

from course_lib import backbones, data, features
from course_lib.data.folders import DataWarning
from course_lib.data.likeness import alike, sketch
from course_lib.evidence.design import Answers
from course_lib.evidence.photographs import folder
from course_lib.paths import data_dir
from course_lib.profile import seeded_generator

NETWORK = "efficientnet_lite0"
SPLITS = ("train", "val", "test")
POOLS = ("drawn", "food_photographs", "many_drawn")
DRAWN = ("hotdog_rendered", "hotdog_more/more")  # folders in data/


@dataclass(frozen=True)
class Draw:
    """Places in a pool: to learn from, to choose by, to be tested on; no near-duplicate in two."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]


def pictures(pool: str, transform: v2.Transform | None = None) -> list[data.ImageFolderDataset]:
    """The pool's pictures, split by split; class 0 is the hot dog.

    ``pool`` is ``"drawn"`` (the course's own 320), ``"many_drawn"`` (these and 640 more) or
    ``"food_photographs"`` (992 of Food-101).
    """
    roots = {"drawn": DRAWN[:1], "many_drawn": DRAWN}.get(pool)
    places = [data_dir() / each for each in roots] if roots else [folder(pool)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # what isn't divided is used whole
        return [data.image_folder(place, split, transform) for place in places for split in SPLITS]


@cache
def targets(pool: str) -> Tensor:
    """Classes (N,) of a pool: 0 for hot dogs, 1 for others."""
    return torch.tensor([each for part in pictures(pool) for each in part.targets])


@cache
def groups(pool: str) -> tuple[int, ...]:
    """For each picture the number of its group; near-duplicates share one."""
    paths = [path for part in pictures(pool) for path in part.paths]
    sketches = [sketch(Image.open(path).convert("RGB")) for path in paths]
    pairs = np.array(alike(sketches), int).reshape(-1, 2)
    ones = np.ones(len(pairs))
    linked = coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(len(paths), len(paths)))
    return tuple(connected_components(linked, directed=False)[1].tolist())


def draw(pool: str, seed: int, train: int, val: int, test: int) -> Draw:
    """Draw from a pool, both classes equally often.

    The pictures of a smaller ``train`` of the same seed are among those of a larger one, and those
    to choose by and to be tested on don't depend on it.

    Args:
        pool: name of the pool.
        seed: of the draw.
        train, val, test: how many pictures; each even.
    """
    classes, together = targets(pool), torch.tensor(groups(pool))
    order = torch.randperm(int(together.max()) + 1, generator=seeded_generator(9000 + seed))
    by_group = torch.argsort(order[together], stable=True)
    parts: list[list[int]] = [[], [], []]  # test, val, train
    for target in (0, 1):
        rows = by_group[classes[by_group] == target].tolist()
        for part, size in zip(parts, (test, val, train), strict=True):
            part += rows[: size // 2]
            last = together[rows[size // 2 - 1]]
            # The rest of a group goes nowhere else.
            rows = [row for row in rows[size // 2 :] if together[row] != last]
    return Draw(*(tuple(sorted(part)) for part in reversed(parts)))


@cache
def images(pool: str, size: int) -> Tensor:
    """All pictures of a pool (N, 3, size, size), prepared for the network, without augmentation."""
    parts = pictures(pool, backbones.preprocessing(NETWORK, size).eval)
    return torch.stack([part[i][0] for part in parts for i in range(len(part))])


def rows(pool: str, transform: v2.Transform, model: nn.Module, layer: str | None = None) -> Tensor:
    """Features (N, D) of all pictures of a pool, in its order; kept on disk."""
    return torch.cat([
        features.extract(model, part, layer=layer, batch_size=16, progress=False).flat
        for part in pictures(pool, transform)
    ])  # fmt: skip


def answers(said: Tensor | np.ndarray, pool: str, places: Sequence[int]) -> Answers:
    """Which of the pictures in these places were named rightly by ``said`` (N,)."""
    right = torch.as_tensor(said) == targets(pool)[list(places)]
    return Answers(tuple(places), tuple(right.tolist()))
