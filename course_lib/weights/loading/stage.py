"""Convert and check all values beside the model, before it changes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.parameter import is_lazy

from course_lib.freezing.bits import same_bits
from course_lib.text import counted
from course_lib.weights.errors import LoadError
from course_lib.weights.loading.convert import convert, count_nonfinite
from course_lib.weights.loading.look import Look
from course_lib.weights.loading.model_tensors import ModelTensors
from course_lib.weights.loading.plan import Item, Options, Plan
from course_lib.weights.loading.report import Loaded


@dataclass
class Staged:
    """A value that is ready, and what is to be said about it.

    Attributes:
        value: of the model's shape and the wanted type; still the file's own memory where nothing
            had to be changed.
        loaded: its line in the report.
    """

    value: torch.Tensor
    loaded: Loaded


def stage(plan: Plan, into: ModelTensors, options: Options, look: Look) -> list[Staged]:
    """Make every planned value ready; at the file's own numbers, ``look`` looked already.

    Raises:
        LoadError: numbers would be lost or aren't finite, or tied names differ in the file.
    """
    written = {_memory(each) for each in into.tensors.values()} - {0}
    staged = [_prepare(item, written, look) for item in plan.items]
    _check_losses(staged, options)
    _check_finite(staged, options)
    _check_ties(staged, into)
    return staged


def _prepare(item: Item, written: set[int], look: Look) -> Staged:
    converted, lossy = "", False
    value = item.value
    if _memory(value) in written:  # the model's own memory: a later copy would read what is new
        value = value.clone()
    if item.change is not None:
        value = item.change(value)
    if item.dtype != value.dtype:
        kinds = [str(each).removeprefix("torch.") for each in (value.dtype, item.dtype)]
        what = "by its module"
        if not item.own:
            value, cost = convert(value, item.dtype)
            what, lossy = cost.text, cost.destructive
        converted = f"{kinds[0]} -> {kinds[1]}: {what}"
    loaded = Loaded(
        name=item.name, source=item.source, shape=item.shape, parameter=item.parameter,
        converted=converted, lossy=lossy, adapted=item.adapted,
        nonfinite=0 if look.clears(value) else count_nonfinite(value),
    )  # fmt: skip
    return Staged(value, loaded)


def _memory(tensor: torch.Tensor) -> int:
    """Where the memory begins that a tensor is a part of; 0 where that can't be told."""
    if tensor.layout is not torch.strided or tensor.is_meta or is_lazy(tensor):
        return 0
    return tensor.untyped_storage().data_ptr()


def _check_ties(staged: Sequence[Staged], into: ModelTensors) -> None:
    first: dict[str, Staged] = {}
    for each in staged:
        one, other = first.setdefault(into.leader[each.loaded.name], each).loaded, each.loaded
        if one is not other and not same_bits(first[into.leader[one.name]].value, each.value):
            raise LoadError(
                f"{one.name!r} and {other.name!r} are one tensor in the model (tied), "
                "but differ in the file. The model is untouched. Leave one out with "
                f"drop={other.source!r}, or untie the model."
            )


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
