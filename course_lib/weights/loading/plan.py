"""What a load will do, settled before a tensor is read and long before the model is touched."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal

import torch

from course_lib.errors import suggest
from course_lib.freezing.names import below, matching, resolve, with_modules
from course_lib.text import counted, few
from course_lib.weights.errors import LoadError
from course_lib.weights.loading import adapt
from course_lib.weights.loading.model_tensors import ModelTensors
from course_lib.weights.loading.report import Mismatched
from course_lib.weights.matching.match import Matching, Rename, match
from course_lib.weights.reading.stored import Stored

Names = str | Collection[str]
Dtype = Literal["model", "file", "exact"]


@dataclass(frozen=True, kw_only=True)
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

    @classmethod
    def of_call(cls, call: str, given: Mapping[str, Any]) -> "Options":
        """The options that were given to a function.

        Args:
            call: the function's name, for the message.
            given: the options by name.

        Raises:
            TypeError: there is no such option; Python's own error would blame this class.
        """
        known = [each.name for each in fields(cls)]
        for name in given:
            if name not in known:
                raise TypeError(f"{call}() has no option {name!r}.{suggest(name, known)}")
        return cls(**given)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One tensor to load.

    Attributes:
        name: in the model.
        source: in the file.
        parameter: True for a parameter, False for a buffer.
        stored: where its values are.
        shape: in the model.
        dtype: the type that it gets in the model.
        change: makes a tensor of this shape from the one in the file; None where they agree.
        adapted: the same in words.
        input: whether it is the number of input channels that changes.
    """

    name: str
    source: str
    parameter: bool
    stored: Stored
    shape: tuple[int, ...]
    dtype: torch.dtype
    change: Callable[[torch.Tensor], torch.Tensor] | None = None
    adapted: str = ""
    input: bool = False


@dataclass(frozen=True)
class Plan:
    """Everything that a load will do."""

    items: tuple[Item, ...]
    matching: Matching
    mismatched: tuple[Mismatched, ...]
    missing: tuple[str, ...]
    kept: tuple[str, ...]


def make_plan(into: ModelTensors, stored: Mapping[str, Stored], options: Options) -> Plan:
    """Match, compare shapes and types, and refuse what can't be or isn't wanted.

    Raises:
        LoadError: weights and model don't fit under these options.
        UnknownNameError: an option names a tensor that doesn't exist.
    """
    _check_options(options)
    shapes = {name: tuple(tensor.shape) for name, tensor in into.tensors.items()}
    kept = _select(options.keep, shapes, "The model")
    strict = options.strict
    parts = set(shapes if isinstance(strict, bool) else _select(strict, shapes, "The model"))
    found = match(
        {name: each.shape for name, each in stored.items()}, shapes, rename=options.rename,
        prefix=options.prefix, by_order=options.by_order,
        dropped=_select(options.drop, stored, "The file"), kept=kept,
    )  # fmt: skip
    items: list[Item] = []
    mismatched: list[Mismatched] = []
    for name, source in found.pairs.items():
        item = _item(name, source, stored[source], into, options)
        if item is None:
            mismatched.append(Mismatched(name, source, stored[source].shape, shapes[name]))
        else:
            items.append(item)
    _check_shapes(mismatched, options)
    _check_one_input([item.name for item in items if item.input])
    missing = (*_without_tied(found.missing, items, into), *into.extra)
    _check_strict(missing, found, mismatched, options, parts)
    if not items:
        raise LoadError("Nothing would be loaded: every tensor that has a partner is left out.")
    _check_types(items, into, options)
    return Plan(tuple(items), found, tuple(mismatched), missing, kept)


def _select(wanted: Names, tensors: Collection[str], where: str) -> tuple[str, ...]:
    """The tensors that names, modules and patterns mean, in their order."""
    chosen: set[str] = set()
    known = with_modules(tensors) if wanted else {}
    for each in [wanted] if isinstance(wanted, str) else wanted:
        for name in resolve(each, known, where):
            chosen.update([name] if name in tensors else below(name, tensors))
    return tuple(name for name in tensors if name in chosen)


def _check_options(options: Options) -> None:
    choices = {
        "adapt_input": (options.adapt_input, (None, "repeat", "zeros")),
        "dtype": (options.dtype, ("model", "file", "exact")),
    }
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise LoadError(f"{name}={value!r}; expected {' or '.join(map(repr, allowed))}.")


def _item(
    name: str, source: str, stored: Stored, into: ModelTensors, options: Options
) -> Item | None:
    """The item for a pair, with its change of shape if one is allowed; None if shapes differ."""
    shape = tuple(into.tensors[name].shape)
    item = Item(
        name=name, source=source, parameter=name in into.parameters, stored=stored, shape=shape,
        dtype=stored.dtype if options.dtype == "file" else into.tensors[name].dtype,
    )  # fmt: skip
    if stored.shape == shape:
        return item
    if options.resize_positions and adapt.is_position_embedding(name, stored.shape, shape):
        change = partial(adapt.resize_positions, count=shape[-2])
        how = f"positions {stored.shape[-2]} -> {shape[-2]}"
        return replace(item, change=change, adapted=how)
    if options.adapt_input and adapt.fits_input(stored.shape, shape):
        change = partial(adapt.input_channels, channels=shape[1], how=options.adapt_input)
        how = f"input channels {stored.shape[1]} -> {shape[1]}"
        return replace(item, change=change, adapted=how, input=True)
    return None


def _check_shapes(mismatched: list[Mismatched], options: Options) -> None:
    if not mismatched or options.skip_mismatched:
        return
    listed = [
        f"{each.name!r} is {each.in_file} in the file and {each.in_model} in the model"
        for each in mismatched
    ]
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
    raise LoadError(
        f"Shapes differ: {few(listed, 6, '; ')}. The model is untouched. {' '.join(hints)}"
    )


def _check_one_input(adapted: list[str]) -> None:
    if len(adapted) > 1:
        raise LoadError(
            "Several convolutions have another number of input channels: "
            f"{few(map(repr, adapted))}. Only the one "
            "that sees the picture can be adapted; this is another architecture."
        )


def _without_tied(
    missing: tuple[str, ...], items: list[Item], into: ModelTensors
) -> tuple[str, ...]:
    """A name is not missing when its memory gets its values under another name."""
    served = {into.leader[item.name] for item in items}
    return tuple(name for name in missing if into.leader[name] not in served)


def _check_strict(
    missing: tuple[str, ...],
    found: Matching,
    mismatched: list[Mismatched],
    options: Options,
    parts: set[str],
) -> None:
    """Refuse what is missing or unexpected: anywhere, or in the parts that were named."""
    strict = options.strict
    if strict is False:
        return
    unexpected = found.unexpected
    if strict is not True:
        left = {each.name for each in mismatched}
        missing = tuple(name for name in (*missing, *left) if name in parts)
        known = with_modules(unexpected)
        named = [strict] if isinstance(strict, str) else strict
        inside = {each for part in named for name in matching(part, known)
                  for each in below(name, unexpected)}  # fmt: skip
        unexpected = tuple(name for name in unexpected if name in inside)
    problems = []
    if missing:
        problems.append(f"the file has nothing for {len(missing)}: {few(missing, 3)}")
    if unexpected:
        problems.append(f"the model has no place for {len(unexpected)}: {few(unexpected, 3)}")
    if not problems:
        return
    hints = []
    if missing:
        hints.append(f"keep={_module(missing[0])!r} leaves a part of the model as it is")
    if unexpected:
        hints.append(f"drop={_module(unexpected[0])!r} leaves out a part of the file")
    raise LoadError(
        f"{counted(len(found.pairs), 'tensor fits', 'tensors fit')} (by {found.how}), but "
        f"{'; '.join(problems)}. The model is untouched. If that is meant: {'; '.join(hints)}; "
        "strict=False loads what fits and reports the rest."
    )


def _module(name: str) -> str:
    return name.rpartition(".")[0] or name


def _check_types(items: list[Item], into: ModelTensors, options: Options) -> None:
    changed = [item for item in items if item.stored.dtype != into.tensors[item.name].dtype]
    if options.dtype == "exact" and changed:
        first = changed[0]
        raise LoadError(
            f"{counted(len(changed), 'tensor has', 'tensors have')} another type in the file "
            f"than in the model, such as {first.name!r}: {first.stored.dtype} in the file, "
            f"{into.tensors[first.name].dtype} in the model. dtype='model' converts them and "
            "reports the cost; dtype='file' gives the model the file's types."
        )
    if options.dtype == "file":
        for item in changed:
            floating = item.dtype.is_floating_point or item.dtype.is_complex
            shared = [name for name, first in into.leader.items()
                      if first == into.leader[item.name]]  # fmt: skip
            one = len({id(into.tensors[name]) for name in shared}) == 1
            if not one or (item.name in into.parameters and not floating):
                raise LoadError(
                    f"{item.name!r} can't take the file's type {item.dtype}: "
                    f"{'it shares memory' if not one else 'parameters are floating-point'}. "
                    "Use dtype='model'."
                )
