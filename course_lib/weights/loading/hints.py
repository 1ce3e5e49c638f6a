"""What to write instead: each hint of an error does exactly what it says.

Following it loads every tensor that fits, and leaves alone only those that don't.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from course_lib.freezing.names import below, matching, with_modules
from course_lib.text import counted, few
from course_lib.weights.errors import LoadError
from course_lib.weights.loading import adapt
from course_lib.weights.loading.model_tensors import ModelTensors
from course_lib.weights.loading.plan import Names, Options, Plan
from course_lib.weights.loading.report import Mismatched
from course_lib.weights.matching.match import kind_of

_LISTED = 6  # names in a hint; a longer list helps nobody


@dataclass(frozen=True)
class Found:
    """What a load comes to, name by name.

    Attributes:
        missing: names of the model that get no values.
        unexpected: names of the file that find no place.
        supplied: names of the model whose values come from their modules' own loading code.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    supplied: tuple[str, ...]


def judge(plan: Plan, found: Found, into: ModelTensors, options: Options) -> None:
    """Refuse what is missing, unexpected or of another shape: anywhere, or in the named parts.

    Args:
        plan: what is to be loaded.
        found: what it comes to.
        into: the model.
        options: of the call.

    Raises:
        LoadError: with every reason, and what to do about all of them.
    """
    mismatched = [] if options.skip_mismatched else list(plan.mismatched)
    strict = options.strict
    absent, unexpected = list(found.missing), list(found.unexpected)
    if not isinstance(strict, bool):
        named = [strict] if isinstance(strict, str) else list(strict)
        left = [each.name for each in plan.mismatched] if options.skip_mismatched else []
        absent = _in_parts(named, [*absent, *left])
        unexpected = _in_parts(named, unexpected)
    elif not strict:
        absent, unexpected = [], []
    if not (mismatched or absent or unexpected):
        return
    problems = []
    if absent:
        shown = [_told(name, plan.odd) for name in absent[:3]]
        nothing = "nothing" if shown == absent[:3] else "no plain tensor"
        listed = few([*shown, *absent[3:]], 3)
        problems.append(f"the file has {nothing} for {len(absent)}: {listed}")
    if unexpected:
        problems.append(f"the model has no place for {len(unexpected)}: {few(unexpected, 3)}")
    rename, fixed = _renamed(plan, found, into)
    rest = [name for name in absent if name not in fixed.values()]
    over = [name for name in unexpected if name not in fixed]
    if mismatched:
        listed = few(map(_sizes, mismatched), 6, "; ")
        beside = f" Beside that, {'; '.join(problems)}." if problems else ""
        raise LoadError(
            f"Shapes differ: {listed}.{beside} The model is untouched. "
            + _hints(
                mismatched, into, rename, bool(rest or over),
                lambda stay: _ways(plan, stay, rest, over, into, options, found.supplied),
            )
        )  # fmt: skip
    ways = _ways(plan, [], rest, over, into, options, found.supplied)
    loose = "strict=False loads what fits and reports the rest"
    if not rename:
        told = f"If that is meant: {'; '.join([*ways, loose])}."
    elif rest or over:
        told = f"With {', '.join([rename, *map(_bare, ways or [loose])])} all that fits is loaded."
    else:
        told = f"The names differ by a piece: {rename} makes all of them fit."
    fits = counted(len(plan.items), "tensor fits", "tensors fit")
    raise LoadError(
        f"{fits} (by {plan.matching.how}), but {'; '.join(problems)}. The model is untouched. "
        f"{told}"
    )


def _told(name: str, odd: Mapping[str, Any]) -> str:
    """A name, and what the file has for it, a prefix aside, if that is no plain tensor."""
    for other, value in odd.items():
        if f".{other}".endswith(f".{name}") or f".{name}".endswith(f".{other}"):
            return f"{name} ({_kind(value)})"
    return name


def _kind(value: Any) -> str:
    if not isinstance(value, torch.Tensor) or is_lazy(value) or value.is_nested:
        return type(value).__name__
    if value.is_quantized:
        return "quantised; dequantize() makes it plain"
    return f"{str(value.layout).removeprefix('torch.')}; to_dense() makes it plain"


def _in_parts(named: Sequence[str], names: Sequence[str]) -> list[str]:
    known = with_modules(names)
    inside = {each for part in named for name in matching(part, known)
              for each in below(name, names)}  # fmt: skip
    return [name for name in names if name in inside]


def _sizes(each: Mismatched) -> str:
    return f"{each.name!r} is {each.in_file} in the file and {each.in_model} in the model"


def _ways(
    plan: Plan,
    mismatched: Sequence[Mismatched],
    missing: Sequence[str],
    unexpected: Sequence[str],
    into: ModelTensors,
    options: Options,
    supplied: Sequence[str],
) -> list[str]:
    """``keep=`` and ``drop=`` for exactly the names in question, where that can be said shortly."""
    stay = [*(each.name for each in mismatched), *missing]
    keep = cover(stay, [*into.names, *missing], supplied)
    matching = plan.matching
    drop = cover(unexpected, [*matching.pairs.values(), *matching.unexpected, *matching.ignored])
    if keep is None or drop is None:
        return []
    ways = []
    if keep:
        ways.append(f"keep={_written(options.keep, keep)} leaves a part of the model as it is")
    if drop:
        ways.append(f"drop={_written(options.drop, drop)} leaves out a part of the file")
    return ways


def _written(given: Names, more: list[str]) -> str:
    """What was given already, and more."""
    names = [*([given] if isinstance(given, str) else given), *more]
    return repr(names[0] if len(names) == 1 else names)


def cover(
    wanted: Sequence[str], names: Collection[str], free: Collection[str] = ()
) -> list[str] | None:
    """A few names, modules or patterns that mean ``wanted`` and nothing else.

    Args:
        wanted: names of tensors.
        names: those of all tensors, ``wanted`` among them.
        free: names that may be meant as well.

    Returns:
        The selection; None where it would be too long to read.
    """
    if not wanted:
        return []
    target = set(wanted)
    known, held = with_modules(names), [name for name in names if name not in free]
    pattern, *others = {f"*.{name.rpartition('.')[2]}" for name in wanted}
    if len(target) > 2 and not others and set(matching(pattern, known)) == target:
        return [pattern]
    chosen: list[str] = []
    for name in names:
        if name not in target or any(name in below(each, names) for each in chosen):
            continue
        parts = name.split(".")
        modules = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
        whole = (each for each in modules if each in known and target.issuperset(below(each, held)))
        chosen.append(next(whole, name))
        if len(chosen) > _LISTED:
            return None
    return chosen


def _bare(way: str) -> str:
    return way.split(" leaves")[0].split(" loads")[0]


def _hints(
    mismatched: Sequence[Mismatched], into: ModelTensors, rename: str, more: bool,
    ways: Callable[[Sequence[Mismatched]], list[str]],
) -> str:  # fmt: skip
    """What to do about other shapes, by the role of the tensors that have them.

    Args:
        mismatched: the tensors.
        into: the model.
        rename: the option that brings other names in step, if there is one.
        more: whether something is missing or unexpected beside that.
        ways: ``keep=`` and ``drop=`` for tensors of another shape and all that is beside them.
    """
    hints = []
    renamed = [rename] if rename else []
    owners = [into.owner(each.name) for each in mismatched]
    same_inputs = all(each.in_file[1:] == each.in_model[1:] for each in mismatched)
    whole = [*renamed, *map(_bare, ways(mismatched))]
    what = "What doesn't fit"
    if all(isinstance(each, nn.Embedding) for each in owners):
        what = "Another vocabulary"
    elif same_inputs and len({id(each) for each in owners}) == 1:
        what = "A head for other classes"
    if any(each.startswith("keep") for each in whole):
        hints.append(f"{what} stays as it is with {', '.join(whole)}.")
    able = [each for each in mismatched if _adaptable(each, into)]
    stuck = [each for each in mismatched if each not in able]
    left = ways(stuck)
    if able and (left or not (stuck or more)):
        options = []
        if any(adapt.fits_input(into, e.name, e.in_file, e.in_model) for e in able):
            options.append("adapt_input='repeat'")
            what = "Another number of input channels"
        if any(adapt.is_position_embedding(e.name, e.in_file, e.in_model) for e in able):
            options.append("resize_positions=True")
            what = "Another picture size"
        what = "Both" if len(options) > 1 else what
        hints.append(
            f"{what} can be adapted: {', '.join([*renamed, *options, *map(_bare, left)])}."
        )
    loose = "skip_mismatched=True, strict=False" if more else "skip_mismatched=True"
    hints.append(f"{', '.join([*renamed, loose])} leaves these tensors as they are.")
    return " ".join(hints)


def _adaptable(each: Mismatched, into: ModelTensors) -> bool:
    if adapt.fits_input(into, each.name, each.in_file, each.in_model):
        return True
    if not adapt.is_position_embedding(each.name, each.in_file, each.in_model):
        return False
    try:
        adapt.grids(into, each.name, each.in_file[-2], each.in_model[-2], True)
    except LoadError:
        return False
    return True


def _renamed(plan: Plan, found: Found, into: ModelTensors) -> tuple[str, dict[str, str]]:
    """The option that brings the file's names in step, and which of them then fit which."""
    entries = {first: plan.others[name] for name, first in plan.matching.rest.items()}
    shapes = {name: tuple(getattr(entries[name], "shape", ())) for name in found.unexpected
              if name in entries}  # fmt: skip
    wanted = {name: into.shapes.get(name) for name in (*found.missing, *found.supplied)}
    chain, fixed = replacements(shapes, wanted, found.missing, plan.matching.pairs.values())
    if not chain:
        return "", {}
    calls = "".join(f".replace({old!r}, {new!r})" for old, new in chain)
    return f"rename=lambda name: name{calls}", fixed


def replacements(
    source: Mapping[str, tuple[int, ...]],
    model: Mapping[str, tuple[int, ...] | None],
    required: Collection[str],
    others: Collection[str],
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Texts that, replaced by others in all of a file's names, give the model's names.

    Where not all names come to fit, only pieces that are too many or too few count, such as a
    wrapper's: which of two names means the same can't be told then.

    Args:
        source: names and shapes that the model doesn't have.
        model: names and shapes that the file doesn't have.
        required: those of the model that must get a partner.
        others: names of the file that fit as they are, and must stay so.

    Returns:
        Old and new, in turn, as for ``str.replace``, three at most; and which names fit then.
    """
    chain: list[tuple[str, str]] = []
    fixed: dict[str, str] = {}
    while len(chain) < 3 and len(fixed) < len(source):
        left = {name: _changed(name, chain) for name in source if name not in fixed}
        samples = {name.rpartition(".")[2]: name for name in reversed(left)}
        edits = Counter(
            edit for first in samples.values() for name, other in model.items()
            if other == source[first] and name not in fixed.values() and _same_role(first, name)
            for edit in _edits(left[first], name)
        )  # fmt: skip
        best = {**fixed}, ("", "")
        for edit, _ in edits.most_common(200):
            if any(edit[0] in name for name in others):
                continue
            new = _fitting(source, model, [*chain, edit])
            if len(new) > len(best[0]) and len(set(new.values())) == len(new):
                best = new, edit
        if best[0] == fixed:
            break
        fixed = best[0]
        chain.append(best[1])
    whole = len(fixed) == len(source) and set(fixed.values()) >= set(required)
    return (chain, fixed) if whole or all(map(_is_wrapper, chain)) else ([], {})


def _fitting(
    source: Mapping[str, tuple[int, ...]],
    model: Mapping[str, tuple[int, ...] | None],
    chain: Sequence[tuple[str, str]],
) -> dict[str, str]:
    names = {name: _changed(name, chain) for name in source}
    return {
        name: new
        for name, new in names.items()
        if new in model and model[new] == source[name] and _same_role(name, new)
    }


def _same_role(first: str, second: str) -> bool:
    """Whether both are weights, both biases, ...: a scale and a shift have the same shape."""
    kind = kind_of(first)
    ends = first.rpartition(".")[2] == second.rpartition(".")[2]
    return ends or (kind is not None and kind == kind_of(second))


def _changed(name: str, chain: Sequence[tuple[str, str]]) -> str:
    for old, new in chain:
        name = name.replace(old, new)
    return name


def _is_wrapper(edit: tuple[str, str]) -> bool:
    old, new = (set(filter(None, each.split("."))) for each in edit)
    return old < new or new < old


def _edits(source: str, model: str) -> list[tuple[str, str]]:
    """Replacements that turn one name into another, from the shortest to whole components."""
    one, other = source.split("."), model.split(".")
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    end = 0
    while end < min(len(one), len(other)) - start and one[-1 - end] == other[-1 - end]:
        end += 1
    old, new = one[start : len(one) - end], other[start : len(other) - end]
    found = []
    for before in (0, 1):
        for after in (0, 1):
            left, right = one[max(0, start - before) : start], one[len(one) - end :][:after]
            texts = [".".join([*left, *middle, *right]) for middle in (old, new)]
            if after == 0 and end:
                texts = [f"{text}." if text else "" for text in texts]
            if texts[0]:
                found.append((texts[0], texts[1]))
    return found
