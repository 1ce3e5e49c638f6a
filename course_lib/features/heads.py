"""Train a head on features, and put it into the network that gave them."""

import copy
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from course_lib import backbones
from course_lib.backbones.heads import (
    HeadError,
    head_weights,
    install,
    like,
    outputs_of,
    swappable,
)
from course_lib.data import check_same_classes, class_names, loader
from course_lib.data.classes import carry
from course_lib.features.containers import Features, FeaturesError
from course_lib.text import counted
from course_lib.training import History, finetune

NAME = "head"
AT_A_TIME = 4096  # rows that are picked in one go: 20 MB of 1,280 features


def train_head(
    features: Features,
    num_classes: int | None = None,
    *,
    start: nn.Module | None = None,
    test: Features | None = None,
    val: Features | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    **settings: Any,
) -> tuple[nn.Module, History]:
    """A head, trained on features alone: a linear layer, or a module of yours.

    It is trained by the same loop as a whole network, so with the same seed, settings and first
    weights it ends with the weights that it would have got on the frozen network: that one would
    compute these very features again in every epoch.

    Args:
        features: (N, D), to train on.
        num_classes: outputs; by default one more than the largest class number.
        start: the head to start from (it is left alone); by default a linear one, drawn from
            ``seed`` as :func:`course_lib.backbones.replace_head` does. It may have hidden layers:
            ``nn.Sequential(nn.Linear(1280, 256), nn.ReLU(), nn.Linear(256, 2))``.
        test: measured after each epoch.
        val: likewise; it decides which epoch's weights are kept.
        batch_size: by default the profile's.
        seed: of the first weights and of the order of the examples.
        settings: everything else that :func:`course_lib.training.finetune` takes, such as
            ``epochs``, ``lr``, ``head_lr_factor``, ``optimizer``. As there, the head learns at
            ``lr * head_lr_factor``.

    Returns:
        The head and the history of its training.

    Raises:
        DataError: their classes have other names, or another order.
        FeaturesError: maps instead of rows, or a head, classes and features that don't fit.
        TrainingError, UnknownNameError: see :func:`course_lib.training.finetune`.
    """
    for each in (features, test, val):
        if each is not None and each.values.ndim != 2:
            raise FeaturesError(
                f"A linear head needs rows (N, D); these features are {tuple(each.values.shape)}. "
                "Extract them with pool='mean'."
            )
    check_same_classes({"training": features, "validation": val, "test": test})
    width, most = features.values.shape[1], int(features.targets.max()) + 1
    net = nn.Sequential(OrderedDict({NAME: nn.Linear(width, 1)}))
    told = most if start is None else _classes(start, width, num_classes)
    outputs = told if num_classes is None else num_classes
    if outputs < most:
        raise FeaturesError(f"num_classes is {outputs}, and there is a class number {most - 1}.")
    new = None if isinstance(start, nn.Linear) else copy.deepcopy(start)
    given = outputs if new is None else new
    backbones.replace_head(net, given, seed=seed, head=NAME)
    head = net.get_submodule(NAME).requires_grad_()
    if isinstance(start, nn.Linear) and isinstance(head, nn.Linear):
        _copy(start, head)
    history = finetune(
        net, _Batches(features, batch_size, seed), _whole(test), val=_whole(val), seed=seed,
        head=NAME, **settings,
    )  # fmt: skip
    carry(head, features.classes)
    return head, history


def _classes(start: nn.Module, width: int, wanted: int | None) -> int:
    """How many classes a head tells apart, checked to be the number wanted."""
    if isinstance(start, nn.Linear):
        takes, told = start.in_features, start.out_features
    else:
        try:
            takes, told = width, outputs_of(start, nn.Linear(width, 1))
        except HeadError as error:
            raise FeaturesError(str(error)) from error
    expected = told if wanted is None else wanted
    if (takes, told) != (width, expected):
        raise FeaturesError(
            f"The head takes {takes} features and tells {counted(told, 'class', 'classes')} apart; "
            f"expected {width} and {expected}."
        )
    return told


def head_into(model: nn.Module, head: nn.Module, name: str | None = None) -> nn.Module:
    """Give a network this head, in place.

    A linear head of equal size takes over the numbers and stays the same object, so that an
    optimizer knows it still; another one is replaced. One with hidden layers takes its place.

    Args:
        model: the network.
        head: its weights are copied; it is left alone.
        name: dotted name of the model's head, where it can't be found by itself.

    Returns:
        The same model.

    Raises:
        HeadError: the model's head can't be found, or isn't linear, or takes another number of
            features. The model is unchanged.
    """
    name = name or backbones.head_name(model)
    if not isinstance(head, nn.Linear):
        return backbones.replace_head(model, copy.deepcopy(head), head=name)
    old = swappable(model, name)
    if not isinstance(old, nn.Linear) or old.in_features != head.in_features:
        told = old.in_features if isinstance(old, nn.Linear) else f"maps of {old.in_channels}"
        raise HeadError(
            f"The model's head {name!r} takes {told} features and this one {head.in_features}. Was "
            "it trained on another network, or on another layer?"
        )
    fits = old.out_features == head.out_features and (old.bias is None) == (head.bias is None)
    new = old if fits else like(old, head.out_features)
    assert isinstance(new, nn.Linear)
    if (new.bias is None) != (head.bias is None):
        bias = None if head.bias is None else nn.Parameter(new.weight.new_empty(head.out_features))
        new.register_parameter("bias", bias)
    _copy(head, new)
    carry(new, class_names(head))
    if not fits:
        install(model, {name: new})
    return model


class _Batches:
    """Batches of rows, in the very order in which the course's loader gives pictures.

    A loader fetches example by example, which takes longer than training on a row of numbers.
    """

    def __init__(self, features: Features, batch_size: int | None, seed: int) -> None:
        self.features = features
        self.order = loader(features.dataset(), batch_size, shuffle=True, seed=seed, workers=0)
        self.sampler = self.order.sampler  # finetune looks here to start its stream anew

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        assert self.order.batch_sampler is not None
        batches = iter(self.order.batch_sampler)
        # Many at a time: picking the rows of one small batch takes as long as those of a hundred.
        count = max(1, AT_A_TIME // (self.order.batch_size or AT_A_TIME))
        while some := list(islice(batches, count)):
            rows = torch.tensor([index for pairs in some for index, _ in pairs])
            sizes = [len(pairs) for pairs in some]
            # Four times as fast as values[rows].
            values = self.features.values.index_select(0, rows)
            targets = self.features.targets.index_select(0, rows)
            yield from zip(values.split(sizes), targets.split(sizes), strict=True)


def _whole(features: Features | None) -> list[tuple[Tensor, Tensor]] | None:
    """All rows as one batch."""
    return None if features is None else [(features.values, features.targets)]


@torch.no_grad()
def _copy(source: nn.Linear, target: nn.Linear) -> None:
    rows, bias = head_weights(source)
    target.weight.copy_(rows)
    if target.bias is not None:
        target.bias.copy_(bias)
