"""What a load will do, settled before a tensor is read and long before the model is touched."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Literal

import torch

from course_lib.text import counted
from course_lib.weights.errors import LoadError
from course_lib.weights.loading import adapt
from course_lib.weights.loading.report import Mismatched, shorten
from course_lib.weights.loading.targets import Targets
from course_lib.weights.matching.match import Matching, Rename, match
from course_lib.weights.matching.select import Names, select
from course_lib.weights.reading.stored import Stored

Dtype = Literal["model", "file", "exact"]
Adaption = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Options:
    """How to load; each is explained at :func:`course_lib.weights.load_weights`."""

    rename: Rename | None = None
    prefix: str | None = None
    by_order: bool = False
    strict: bool | Names = True
    keep: Names = ()
    drop: Names = ()
    skip_mismatched: bool = False
    adapt_input: str | None = None
    resize_positions: bool = False
    dtype: Dtype = "model"
    lossy: bool = False
    nonfinite: bool = False


@dataclass(frozen=True)
class Item:
    """One tensor to load.

    Attributes:
        name: in the model.
        source: in the file.
        stored: where its values are.
        shape: in the model.
        dtype: the type it shall have in the model.
        adaption: changes its shape, or None.
        adapted: the same in words.
    """

    name: str
    source: str
    stored: Stored
    shape: tuple[int, ...]
    dtype: torch.dtype
    adaption: Adaption | None = None
    adapted: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything that a load will do."""

    items: tuple[Item, ...]
    matching: Matching
    mismatched: tuple[Mismatched, ...]
    missing: tuple[str, ...]
    kept: tuple[str, ...]


def make_plan(targets: Targets, stored: Mapping[str, Stored], options: Options) -> Plan:
    """Match, compare shapes and types, and refuse what can't be or isn't wanted.

    Raises:
        LoadError: weights and model don't fit under these options.
        UnknownNameError: an option names a tensor that doesn't exist.
    """
    _check_options(options)
    shapes = {name: tuple(tensor.shape) for name, tensor in targets.tensors.items()}
    kept = select(options.keep, shapes, "the model") if options.keep else ()
    strict = options.strict
    parts = set(shapes if isinstance(strict, bool) else select(strict, shapes, "the model"))
    matching = match(
        {name: each.shape for name, each in stored.items()},
        shapes,
        rename=options.rename,
        prefix=options.prefix,
        by_order=options.by_order,
        dropped=select(options.drop, stored, "the file") if options.drop else (),
        kept=kept,
    )
    items: list[Item] = []
    mismatched: list[Mismatched] = []
    for name, source in matching.pairs.items():
        item = _item(name, source, stored[source], targets.tensors[name], options)
        if item is None:
            mismatched.append(Mismatched(name, source, stored[source].shape, shapes[name]))
        else:
            items.append(item)
    _check_shapes(mismatched, options)
    _check_one_input([item for item in items if item.adapted.startswith("input")])
    missing = (*_without_tied(matching.missing, items, targets), *targets.extra)
    _check_strict(missing, matching, mismatched, options, parts)
    if not items:
        raise LoadError("Nothing would be loaded: every tensor that has a partner is left out.")
    _check_types(items, targets, options)
    return Plan(tuple(items), matching, tuple(mismatched), missing, kept)


def _check_options(options: Options) -> None:
    choices = {
        "adapt_input": (options.adapt_input, (None, "repeat", "zeros")),
        "dtype": (options.dtype, ("model", "file", "exact")),
    }
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise LoadError(f"{name}={value!r}; expected {' or '.join(map(repr, allowed))}.")


def _item(
    name: str, source: str, stored: Stored, target: torch.Tensor, options: Options
) -> Item | None:
    """The item for a pair, with its change of shape if one is allowed; None if shapes differ."""
    shape = tuple(target.shape)
    dtype = stored.dtype if options.dtype == "file" else target.dtype
    if stored.shape == shape:
        return Item(name, source, stored, shape, dtype)
    change: Adaption
    if options.resize_positions and adapt.is_position_embedding(name, stored.shape, shape):
        change = partial(adapt.resize_positions, count=shape[-2])
        how = f"positions {stored.shape[-2]} -> {shape[-2]}"
    elif options.adapt_input and adapt.fits_input(stored.shape, shape):
        change = partial(adapt.input_channels, channels=shape[1], how=options.adapt_input)
        how = f"input channels {stored.shape[1]} -> {shape[1]}"
    else:
        return None
    return Item(name, source, stored, shape, dtype, change, how)


def _check_shapes(mismatched: list[Mismatched], options: Options) -> None:
    if not mismatched or options.skip_mismatched:
        return
    listed = "; ".join(
        f"{each.name!r} is {each.in_file} in the file and {each.in_model} in the model"
        for each in mismatched[:6]
    )
    more = f" and {len(mismatched) - 6} more" if len(mismatched) > 6 else ""
    hints = []
    modules = {each.name.rpartition(".")[0] for each in mismatched}
    if all(each.in_file[1:] == each.in_model[1:] for each in mismatched) and len(modules) == 1:
        hints.append(f"A head for other classes stays as it is with keep={modules.pop()!r}.")
    if any(adapt.fits_input(each.in_file, each.in_model) for each in mismatched):
        hints.append("Another number of input channels: adapt_input='repeat'.")
    if any(adapt.is_position_embedding(each.name, each.in_file, each.in_model)
           for each in mismatched):  # fmt: skip
        hints.append("Another picture size: resize_positions=True.")
    hints.append("skip_mismatched=True leaves these tensors as they are.")
    raise LoadError(f"Shapes differ: {listed}{more}. The model is untouched. {' '.join(hints)}")


def _check_one_input(adapted: list[Item]) -> None:
    if len(adapted) > 1:
        names = ", ".join(repr(each.name) for each in adapted[:4])
        raise LoadError(
            f"Several convolutions have another number of input channels: {names}. Only the one "
            "that sees the picture can be adapted; this is another architecture."
        )


def _without_tied(missing: tuple[str, ...], items: list[Item], targets: Targets) -> tuple[str, ...]:
    """A name is not missing when its memory gets its values under another name."""
    served = {targets.leader[item.name] for item in items}
    return tuple(name for name in missing if targets.leader[name] not in served)


def _check_strict(
    missing: tuple[str, ...],
    matching: Matching,
    mismatched: list[Mismatched],
    options: Options,
    parts: set[str],
) -> None:
    """Refuse what is missing or unexpected: anywhere, or in the parts that were named."""
    strict = options.strict
    if strict is False:
        return
    unexpected = matching.unexpected
    if strict is not True:
        left = {each.name for each in mismatched}
        missing = tuple(name for name in (*missing, *left) if name in parts)
        named = [strict] if isinstance(strict, str) else list(strict)
        unexpected = tuple(
            name for name in unexpected
            if any(name == part or name.startswith(f"{part}.") for part in named)
        )  # fmt: skip
    problems = []
    if missing:
        problems.append(f"the file has nothing for {len(missing)}: {shorten(missing)}")
    if unexpected:
        problems.append(f"the model has no place for {len(unexpected)}: {shorten(unexpected)}")
    if not problems:
        return
    hints = []
    if missing:
        hints.append(f"keep={_module(missing[0])!r} leaves a part of the model as it is")
    if unexpected:
        hints.append(f"drop={_module(unexpected[0])!r} leaves out a part of the file")
    raise LoadError(
        f"{counted(len(matching.pairs), 'tensor fits', 'tensors fit')} (by {matching.how}), but "
        f"{'; '.join(problems)}. The model is untouched. If that is meant: {'; '.join(hints)}; "
        "strict=False loads what fits and reports the rest."
    )


def _module(name: str) -> str:
    return name.rpartition(".")[0] or name


def _check_types(items: list[Item], targets: Targets, options: Options) -> None:
    changed = [item for item in items if item.stored.dtype != targets.tensors[item.name].dtype]
    if options.dtype == "exact" and changed:
        first = changed[0]
        raise LoadError(
            f"{counted(len(changed), 'tensor has', 'tensors have')} another type in the file "
            f"than in the model, such as {first.name!r}: {first.stored.dtype} in the file, "
            f"{targets.tensors[first.name].dtype} in the model. dtype='model' converts them and "
            "reports the cost; dtype='file' gives the model the file's types."
        )
    if options.dtype == "file":
        for item in changed:
            floating = item.dtype.is_floating_point or item.dtype.is_complex
            shared = [name for name, first in targets.leader.items()
                      if first == targets.leader[item.name]]  # fmt: skip
            one = len({id(targets.tensors[name]) for name in shared}) == 1
            if not one or (item.name in targets.parameters and not floating):
                raise LoadError(
                    f"{item.name!r} can't take the file's type {item.dtype}: "
                    f"{'it shares memory' if not one else 'parameters are floating-point'}. "
                    "Use dtype='model'."
                )


def total_numbers(targets: Targets) -> int:
    """Number of elements in a model's tensors, memory with several names counted once."""
    return sum(
        prod(tensor.shape) for name, tensor in targets.tensors.items()
        if targets.leader[name] == name
    )  # fmt: skip
