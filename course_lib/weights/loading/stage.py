"""Read and prepare all values in memory of their own, and look at them, before the model is met."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from course_lib.text import counted
from course_lib.weights.errors import LoadError
from course_lib.weights.loading.commit import same_bits
from course_lib.weights.loading.convert import convert, count_nonfinite
from course_lib.weights.loading.plan import Item, Options, Plan
from course_lib.weights.loading.report import Loaded, LoadReport
from course_lib.weights.loading.targets import Targets
from course_lib.weights.reading.stored import Reader, Stamps
from course_lib.weights.reading.threads import read_in_threads


@dataclass
class Staged:
    """A value that is ready, and what is to be said about it.

    Attributes:
        item: the tensor to load.
        value: its new value: CPU, contiguous, the model's shape, the wanted type.
        loaded: its line in the report.
    """

    item: Item
    value: torch.Tensor
    loaded: Loaded


def stage(plan: Plan, stamps: Stamps, targets: Targets, options: Options) -> list[Staged]:
    """Read every planned tensor, in the order of the file.

    Raises:
        CheckpointError: the file is damaged.
        LoadError: numbers would be lost, aren't finite, or disagree for tied names.
    """

    def job(item: Item) -> Callable[[Reader], Staged]:
        return lambda reader: _prepare(reader, item, item.name in targets.parameters)

    staged = read_in_threads(((item.stored, job(item)) for item in plan.items), stamps)
    _check_losses(staged, options)
    _check_finite(staged, options)
    return _one_a_memory(staged, targets)


def _prepare(reader: Reader, item: Item, parameter: bool) -> Staged:
    converted = ""
    value = reader.read(item.stored, item.stored.empty())
    if item.adaption is not None:
        value = item.adaption(value).contiguous()
    if item.dtype != item.stored.dtype:
        value, cost = convert(value, item.dtype)
        kinds = [str(each).removeprefix("torch.") for each in (item.stored.dtype, item.dtype)]
        converted = f"{kinds[0]} -> {kinds[1]}: {cost.text}"
        if cost.destructive:
            converted += "!"
    loaded = Loaded(
        name=item.name,
        source=item.source,
        shape=item.shape,
        parameter=parameter,
        converted=converted,
        adapted=item.adapted,
        nonfinite=count_nonfinite(value),
    )
    return Staged(item, value, loaded)


def _check_losses(staged: Sequence[Staged], options: Options) -> None:
    lost = [each.loaded for each in staged if each.loaded.converted.endswith("!")]
    if lost and not options.lossy:
        raise LoadError(
            f"Converting would destroy numbers in {counted(len(lost), 'tensor')}, for example in "
            f"{lost[0].name!r}: {lost[0].converted.rstrip('!')}. The model is untouched. "
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


def _one_a_memory(staged: list[Staged], targets: Targets) -> list[Staged]:
    """Values for tied names must agree; the report keeps all names, the model gets one value."""
    first: dict[str, Staged] = {}
    for each in staged:
        leader = targets.leader[each.item.name]
        other = first.setdefault(leader, each)
        if other is not each and not same_bits(other.value, each.value):
            raise LoadError(
                f"{other.item.name!r} and {each.item.name!r} are one tensor in the model (tied), "
                "but differ in the file. The model is untouched. Leave one out with "
                f"drop={each.item.source!r}, or untie the model."
            )
    return staged


def report(
    plan: Plan, staged: Sequence[Staged], targets: Targets, source: str, odd: Sequence[str]
) -> LoadReport:
    """The report of a load that has been made.

    Args:
        plan: what was planned.
        staged: what was loaded.
        targets: the model's tensors.
        source: where the weights came from.
        odd: entries among the weights that are no tensors.
    """
    order = {name: place for place, name in enumerate(targets.tensors)}
    loaded = sorted((each.loaded for each in staged), key=lambda each: order[each.name])
    names = {each.name for each in loaded}
    numbers = {
        name: tensor.numel() for name, tensor in targets.tensors.items()
        if targets.leader[name] == name
    }  # fmt: skip
    return LoadReport(
        source=source,
        how=plan.matching.how,
        loaded=tuple(loaded),
        missing=plan.missing,
        unexpected=plan.matching.unexpected,
        mismatched=plan.mismatched,
        kept=plan.kept,
        ignored=(*plan.matching.ignored, *odd),
        tied=tuple(group for group in targets.ties if names & set(group)),
        total=len(targets.tensors),
        total_numbers=sum(numbers.values()),
    )
