"""Read, convert and check all values in memory of their own, before the model changes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from course_lib.freezing.bits import same_bits
from course_lib.text import counted
from course_lib.weights.errors import LoadError
from course_lib.weights.loading.convert import convert, count_nonfinite
from course_lib.weights.loading.model_tensors import ModelTensors
from course_lib.weights.loading.plan import Item, Options, Plan
from course_lib.weights.loading.report import Loaded
from course_lib.weights.reading.stored import Reader, Stamps
from course_lib.weights.reading.threads import read_in_threads


@dataclass
class Staged:
    """A value that is ready, and what is to be said about it.

    Attributes:
        value: CPU, contiguous, the model's shape, the wanted type.
        loaded: its line in the report.
    """

    value: torch.Tensor
    loaded: Loaded


def stage(plan: Plan, stamps: Stamps, options: Options) -> list[Staged]:
    """Read every planned tensor, in the order of the file.

    Raises:
        CheckpointError: the file is damaged.
        LoadError: numbers would be lost or aren't finite.
    """
    staged = read_in_threads([(item.stored, item) for item in plan.items], _prepare, stamps)
    _check_losses(staged, options)
    _check_finite(staged, options)
    return staged


def one_of_each_memory(staged: Sequence[Staged], into: ModelTensors) -> dict[str, Staged]:
    """The leader of each memory (see :class:`ModelTensors`) -> the value that it gets.

    Raises:
        LoadError: names that are tied in the model have different values in the file.
    """
    first: dict[str, Staged] = {}
    for each in staged:
        one, other = first.setdefault(into.leader[each.loaded.name], each).loaded, each.loaded
        if one is not other and not same_bits(first[into.leader[one.name]].value, each.value):
            raise LoadError(
                f"{one.name!r} and {other.name!r} are one tensor in the model (tied), "
                "but differ in the file. The model is untouched. Leave one out with "
                f"drop={other.source!r}, or untie the model."
            )
    return first


def _prepare(reader: Reader, item: Item) -> Staged:
    converted, lossy = "", False
    value = reader.read(item.stored)
    if item.change is not None:
        value = item.change(value).contiguous()
    if item.dtype != item.stored.dtype:
        value, cost = convert(value, item.dtype)
        kinds = [str(each).removeprefix("torch.") for each in (item.stored.dtype, item.dtype)]
        converted, lossy = f"{kinds[0]} -> {kinds[1]}: {cost.text}", cost.destructive
    loaded = Loaded(
        name=item.name, source=item.source, shape=item.shape, parameter=item.parameter,
        converted=converted, lossy=lossy, adapted=item.adapted, nonfinite=count_nonfinite(value),
    )  # fmt: skip
    return Staged(value, loaded)


def _check_losses(staged: Sequence[Staged], options: Options) -> None:
    lost = [each.loaded for each in staged if each.loaded.lossy]
    if lost and not options.lossy:
        raise LoadError(
            f"Converting would destroy numbers in {counted(len(lost), 'tensor')}, for example in "
            f"{lost[0].name!r}: {lost[0].converted}. The model is untouched. "
            "lossy=True does it all the same; dtype='file' gives the model the file's types."
        )


def _check_finite(staged: Sequence[Staged], options: Options) -> None:
    broken = [each.loaded for each in staged if each.loaded.nonfinite]
    if broken and not options.nonfinite and not options.lossy:
        raise LoadError(
            f"{counted(len(broken), 'tensor has', 'tensors have')} numbers that are NaN or "
            f"infinite, for example {broken[0].name!r}: {broken[0].nonfinite:,} of "
            f"{broken[0].numel:,}. Such weights are usually of a training run that "
            "failed. The model is untouched. nonfinite=True loads them and reports it."
        )
