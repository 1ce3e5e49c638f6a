"""A few pictures a class: the class means of a trained network's features, and how to test it.

* **Prototypes**, the mean of each class: J. Snell, K. Swersky, R. Zemel: Prototypical Networks for
  Few-shot Learning, NeurIPS 2017, arXiv:1703.05175. There the network is trained for it too; here
  it stays as it came.
* **Episodes**, small tasks drawn to test and to train on: O. Vinyals et al.: Matching Networks for
  One Shot Learning, NeurIPS 2016, arXiv:1606.04080.
"""

from typing import NamedTuple

import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from course_lib.errors import DataError, UnknownNameError
from course_lib.strategies.inserts import StrategyError
from course_lib.text import counted

DISTANCES = ("euclidean", "cosine")


def prototypes(features: Tensor, targets: Tensor) -> Tensor:
    """The mean of the features of each class: (N, D) and (N,) to (C, D), row c for class c.

    Raises:
        StrategyError: the two don't match, or a class between 0 and the largest has no picture.
    """
    _check(features, targets)
    classes = range(int(targets.max()) + 1)
    for each in classes:
        if not bool((targets == each).any()):
            raise StrategyError(
                f"Class {each} has no picture, so it has no mean. Give one or more of each class "
                f"from 0 to {classes[-1]}, or number the classes anew."
            )
    return torch.stack([features[targets == each].mean(0) for each in classes])


def nearest(features: Tensor, means: Tensor, distance: str = "euclidean") -> Tensor:
    """The class whose prototype is nearest: (N, D) and (C, D) to (N,) class numbers.

    Args:
        features: of the pictures to name.
        means: from :func:`prototypes`.
        distance: ``"euclidean"``, as in the paper, or ``"cosine"``, which leaves lengths out.

    Raises:
        UnknownNameError: another distance.
        StrategyError: the two have not as many numbers a row.
    """
    if distance not in DISTANCES:
        raise UnknownNameError(f"There is no distance {distance!r}; expected {DISTANCES}.")
    if features.ndim != 2 or means.ndim != 2 or features.shape[1] != means.shape[1]:
        raise StrategyError(
            f"Features {tuple(features.shape)} and means {tuple(means.shape)} don't match; "
            "expected (N, D) and (C, D). Take both from the same layer of the same network."
        )
    if distance == "cosine":
        features, means = (torch.nn.functional.normalize(each) for each in (features, means))
    return torch.cdist(features, means).argmin(1)


def nearest_pictures(features: Tensor, support: Tensor, targets: Tensor, k: int) -> Tensor:
    """The class that most of the ``k`` nearest support pictures have, by scikit-learn: (N,).

    Args:
        features: (N, D) of the pictures to name.
        support: (S, D) of those with labels.
        targets: (S,) their classes.
        k: how many are asked; of classes with equally many, the smallest number wins.

    Raises:
        StrategyError: support and targets don't match, or ``k`` isn't between 1 and S.
    """
    _check(support, targets)
    if not 1 <= k <= len(support):
        raise StrategyError(
            f"k is {k}; expected 1 to {len(support)}, as many as there are pictures with a label."
        )
    asked = KNeighborsClassifier(k).fit(support.cpu().numpy(), targets.cpu().numpy())
    return torch.as_tensor(asked.predict(features.cpu().numpy())).to(features.device)


class Episode(NamedTuple):
    """A small task: some classes, a few pictures of each to learn from, others to be tested on.

    Attributes:
        classes: (ways,) the drawn classes; class ``classes[c]`` is number c in the episode.
        support: (ways * shots,) rows of the pictures to learn from, class by class.
        queries: (ways * queries,) rows of the pictures to name, class by class.
        support_targets: (ways * shots,) their numbers in the episode, 0 to ways - 1.
        query_targets: (ways * queries,) likewise.
    """

    classes: Tensor
    support: Tensor
    queries: Tensor
    support_targets: Tensor
    query_targets: Tensor


def episode(
    targets: Tensor, ways: int, shots: int, queries: int, generator: torch.Generator
) -> Episode:
    """Draw an episode of ``ways`` classes, with no picture on both sides.

    With another number of shots and a generator in the same state, the classes and the queries are
    the same, and the smaller support is part of the larger.

    Args:
        targets: (N,) the classes of all pictures, from 0.
        ways: how many classes.
        shots: labelled pictures of each.
        queries: pictures of each to be named.
        generator: draws; the same state gives the same episode.

    Raises:
        DataError: fewer classes, or fewer pictures of a class, than the episode wants.
    """
    if min(ways, shots, queries) < 1:
        raise DataError(f"ways, shots, queries are {ways, shots, queries}; expected 1 or more.")
    targets = targets.cpu()
    present = targets.unique()
    if ways > len(present):
        raise DataError(
            f"{ways} ways need as many classes; there are {len(present)}. Ask for fewer ways."
        )
    classes = present[torch.randperm(len(present), generator=generator)[:ways]]
    support, asked = [], []
    for each in classes:
        rows = (targets == each).nonzero()[:, 0]
        if shots + queries > len(rows):
            raise DataError(
                f"Class {int(each)} has {counted(len(rows), 'picture')}; {shots} shots and "
                f"{queries} queries need {shots + queries}. Ask for fewer, or add pictures."
            )
        rows = rows[torch.randperm(len(rows), generator=generator)]
        asked.append(rows[:queries])
        support.append(rows[queries : queries + shots])
    numbers = torch.arange(ways)
    return Episode(
        classes, torch.cat(support), torch.cat(asked),
        numbers.repeat_interleave(shots), numbers.repeat_interleave(queries),
    )  # fmt: skip


def _check(features: Tensor, targets: Tensor) -> None:
    if features.ndim != 2 or targets.shape != features.shape[:1] or not len(targets):
        raise StrategyError(
            f"Features {tuple(features.shape)} and targets {tuple(targets.shape)} don't match; "
            "expected (N, D) and (N,), one class number a row."
        )
