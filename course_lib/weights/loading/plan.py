"""What a load will do, settled before a tensor is read and long before the model is touched."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch

from course_lib.errors import suggest
from course_lib.freezing.names import below, resolve, with_modules
from course_lib.text import counted, few
from course_lib.weights.errors import LoadError
from course_lib.weights.loading import adapt
from course_lib.weights.loading.model_tensors import ModelTensors
from course_lib.weights.loading.report import Mismatched
from course_lib.weights.matching.match import Matching, Rename, match
from course_lib.weights.reading.locate import Place

Names = str | Collection[str]
Dtype = Literal["model", "file", "exact"]
_LONGEST = 500  # characters of a name; to look for prefixes takes the square of them


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
    resize_positions: adapt.Grids = False
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


class Item(NamedTuple):
    """One tensor to load.

    Attributes:
        name: in the model.
        source: in the file.
        parameter: True for a parameter, False for a buffer.
        value: in the file.
        shape: in the model.
        dtype: the type that it gets in the model.
        own: whether its module's own loading code gets it, as it is.
        change: makes a tensor of this shape from the one in the file; None where they agree.
        adapted: the same in words.
        input: whether it is the number of input channels that changes.
    """

    name: str
    source: str
    parameter: bool
    value: torch.Tensor
    shape: tuple[int, ...]
    dtype: torch.dtype
    own: bool = False
    change: Callable[[torch.Tensor], torch.Tensor] | None = None
    adapted: str = ""
    input: bool = False


@dataclass(frozen=True)
class Plan:
    """Everything that a load will do.

    Attributes:
        items: the tensors that have a partner in the model.
        others: what modules' own loading code may know: name by now -> entry of the file.
        matching: who belongs to whom.
        mismatched: partners of other shapes.
        kept: names of the model that stay as they are.
        versions: of the modules, under the model's names.
        odd: entries of the file that aren't plain tensors, and that no loading code of the model's
            own has a use for.
        tensor_names: the file's names of plain tensors.
    """

    items: tuple[Item, ...]
    others: dict[str, Any]
    matching: Matching
    mismatched: tuple[Mismatched, ...]
    kept: tuple[str, ...]
    versions: dict[str, Any] | None
    odd: dict[str, Any]
    tensor_names: frozenset[str]


def make_plan(
    into: ModelTensors,
    place: Place,
    options: Options,
    *,
    as_they_are: bool = False,
    given_up: Collection[str] = (),
) -> Plan:
    """Match, compare shapes and types, and refuse what can't be.

    Args:
        into: the model's tensors.
        place: the file's weights.
        options: of the call.
        as_they_are: give all names to the model's own loading code, and guess no prefix.
        given_up: names of another shape that the model's own code couldn't use.

    Raises:
        LoadError: weights and model don't fit under these options.
        UnknownNameError: an option names a tensor that doesn't exist.
    """
    _check_options(options)
    longest = max(map(len, (*place.tensors, *place.odd)), default=0)
    if longest > _LONGEST:
        raise LoadError(
            f"A name in the source has {longest:,} characters. A tensor's name is a path through "
            "modules, such as 'layer1.0.conv1.weight': the source is damaged, or made to keep your "
            "computer busy. Get it again, from its author."
        )
    for name, tensor in place.tensors.items():
        if tensor.is_meta:
            raise LoadError(f"{name!r} of the source is on the meta device: it has no values.")
    kept = _select(options.keep, into.names, "The model")
    if not isinstance(options.strict, bool):
        _select(options.strict, into.names, "The model")  # names that don't exist are an error
    entries: dict[str, Any] = {**place.tensors, **(place.odd if into.own else {})}
    shapes = {name: tuple(each.shape) if name in place.tensors else None
              for name, each in entries.items()}  # fmt: skip
    found = match(
        shapes, into.shapes, rename=options.rename, prefix=options.prefix,
        by_order=options.by_order, dropped=_select(options.drop, entries, "The file"), kept=kept,
        as_they_are=as_they_are,
    )  # fmt: skip
    items: list[Item] = []
    mismatched: list[Mismatched] = []
    useless: set[str] = set()
    others = {name: entries[first] for name, first in found.rest.items()}
    for name, source in found.pairs.items():
        value, shape, own = entries[source], into.shapes[name], into.decides(name)
        item = None
        if shape is not None and shapes[source] is not None:
            item = _item(name, source, value, into, options, own)
        if item is not None:
            items.append(item)
        elif (own and name not in given_up) or shape is None:
            others[name] = value
        elif source in place.odd:
            useless.add(source)
        else:
            mismatched.append(Mismatched(name, source, tuple(value.shape), shape))
    if useless:  # as in a model without code of its own: no partner at all
        rest = {name: each for name, each in place.odd.items() if name not in useless}
        plan = make_plan(into, replace(place, odd=rest), options, as_they_are=as_they_are,
                         given_up=given_up)  # fmt: skip
        return replace(plan, odd=plan.odd | {name: place.odd[name] for name in sorted(useless)})
    _check_one_input([item.name for item in items if item.input])
    _check_types(items, into, options)
    versions = _renamed_versions(place.versions, found)
    odd = {name: each for name, each in place.odd.items() if name not in entries}
    return Plan(
        tuple(items), others, found, tuple(mismatched), kept, versions, odd,
        frozenset(place.tensors),
    )  # fmt: skip


def _renamed_versions(versions: Mapping[str, Any] | None, found: Matching) -> dict[str, Any] | None:
    """What the file notes about its modules, under the names that these have in the model."""
    if versions is None:
        return None
    moved = {new: old for new, old in (*found.pairs.items(), *found.rest.items()) if new != old}
    if not moved:
        return dict(versions)
    result: dict[str, Any] = {}
    for name, first in (*found.pairs.items(), *found.rest.items()):
        new, old = name.split("."), first.split(".")
        while new and old and new[-1] == old[-1]:
            new, old = new[:-1], old[:-1]
            if ".".join(old) in versions:
                result.setdefault(".".join(new), versions[".".join(old)])
    return result


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
    name: str, source: str, value: torch.Tensor, into: ModelTensors, options: Options, own: bool
) -> Item | None:
    """The item for a pair, with its change of shape if one is allowed; None if shapes differ."""
    shape, old = into.shapes[name], tuple(value.shape)
    assert shape is not None
    live = into.tensors.get(name)
    item = Item(
        name=name, source=source, parameter=name in into.parameters, value=value, shape=shape,
        dtype=value.dtype if live is None or options.dtype == "file" else live.dtype, own=own,
    )  # fmt: skip
    if old == shape:
        return item
    if shape == () and len(old) == 1 and value.numel() == 1:  # torch before 0.4 had no scalars
        return item._replace(change=partial(torch.reshape, shape=()), adapted="shape (1,) -> ()")
    if options.resize_positions and adapt.is_position_embedding(name, old, shape):
        grids = adapt.grids(into, name, old[-2], shape[-2], options.resize_positions)
        change = partial(adapt.resize_positions, old=grids[0], new=grids[1])
        how = "positions {}x{} -> {}x{}".format(*grids[0], *grids[1])
        return item._replace(change=change, adapted=how, own=False)
    if options.adapt_input and adapt.fits_input(into, name, old, shape):
        change = partial(adapt.input_channels, channels=shape[1], how=options.adapt_input)
        how = f"input channels {old[1]} -> {shape[1]}"
        return item._replace(change=change, adapted=how, input=True, own=False)
    return None


def _check_one_input(adapted: list[str]) -> None:
    if len(adapted) > 1:
        raise LoadError(
            "Several convolutions have another number of input channels: "
            f"{few(map(repr, adapted))}. Only the one "
            "that sees the picture can be adapted; this is another architecture."
        )


def _check_types(items: list[Item], into: ModelTensors, options: Options) -> None:
    changed = [
        item
        for item in items
        if item.name in into.tensors and item.value.dtype != into.tensors[item.name].dtype
    ]
    if options.dtype == "exact" and changed:
        first = changed[0]
        raise LoadError(
            f"{counted(len(changed), 'tensor has', 'tensors have')} another type in the file "
            f"than in the model, such as {first.name!r}: {first.value.dtype} in the file, "
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
