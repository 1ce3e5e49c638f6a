"""What to write instead: each hint of an error does exactly what it says.

Following it loads every tensor that fits, and leaves alone only those that don't.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from course_lib.freezing.names import below, matching, with_modules
from course_lib.text import counted, few
from course_lib.weights.errors import LoadError
from course_lib.weights.loading import adapt
from course_lib.weights.loading.model_tensors import ModelTensors
from course_lib.weights.loading.plan import Names, Options, Plan
from course_lib.weights.loading.report import Mismatched

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
        problems.append(f"the file has nothing for {len(absent)}: {few(absent, 3)}")
    if unexpected:
        problems.append(f"the model has no place for {len(unexpected)}: {few(unexpected, 3)}")
    ways = _ways(plan, mismatched, absent, unexpected, into, options, found.supplied)
    if mismatched:
        listed = few(map(_sizes, mismatched), 6, "; ")
        beside = f" Beside that, {'; '.join(problems)}." if problems else ""
        raise LoadError(
            f"Shapes differ: {listed}.{beside} The model is untouched. "
            f"{_hints(plan, mismatched, into, ways, bool(problems))}"
        )
    fits = counted(len(plan.items), "tensor fits", "tensors fit")
    hints = [*ways, "strict=False loads what fits and reports the rest"]
    raise LoadError(
        f"{fits} (by {plan.matching.how}), but {'; '.join(problems)}. The model is untouched. "
        f"{_renamed(plan, found, into)}If that is meant: {'; '.join(hints)}."
    )


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
    for last in dict.fromkeys(name.rpartition(".")[2] for name in wanted):
        pattern = f"*.{last}"
        if len(target) > 2 and set(matching(pattern, with_modules(names))) == target:
            return [pattern]
    known, held = with_modules(names), [name for name in names if name not in free]
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


def _hints(
    plan: Plan, mismatched: Sequence[Mismatched], into: ModelTensors, ways: list[str], more: bool
) -> str:
    """What to do about other shapes, by the role of the tensors that have them."""
    hints = []
    owners = [into.owner(each.name) for each in mismatched]
    keep = next((way.split(" leaves")[0] for way in ways if way.startswith("keep")), "")
    rest = [way for way in ways if not way.startswith("keep")]
    also = f", {rest[0].split(' leaves')[0]}" if rest else ""
    same_inputs = all(each.in_file[1:] == each.in_model[1:] for each in mismatched)
    if keep and all(isinstance(each, nn.Embedding) for each in owners):
        hints.append(f"Another vocabulary stays as it is with {keep}{also}.")
    elif keep and same_inputs and len({id(each) for each in owners}) == 1:
        hints.append(f"A head for other classes stays as it is with {keep}{also}.")
    elif keep:
        hints.append(f"What doesn't fit stays as it is with {keep}{also}.")
    if not more and all(_adaptable(each, into) for each in mismatched):
        if any(adapt.fits_input(into, e.name, e.in_file, e.in_model) for e in mismatched):
            hints.append("Another number of input channels: adapt_input='repeat'.")
        if any(adapt.is_position_embedding(e.name, e.in_file, e.in_model) for e in mismatched):
            hints.append("Another picture size: resize_positions=True.")
    loose = "skip_mismatched=True, strict=False" if more else "skip_mismatched=True"
    hints.append(f"{loose} leaves these tensors as they are.")
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


def _renamed(plan: Plan, found: Found, into: ModelTensors) -> str:
    """The one piece of text whose replacement in the file's names makes all of them fit."""
    entries = {first: plan.others[name] for name, first in plan.matching.rest.items()}
    shapes = {name: tuple(getattr(entries[name], "shape", ())) for name in found.unexpected
              if name in entries}  # fmt: skip
    wanted = {name: into.shapes.get(name) for name in (*found.missing, *found.supplied)}
    change = replacement(shapes, wanted, found.missing, plan.matching.pairs.values())
    if change is None:
        return ""
    return (
        f"The names differ by one piece: rename=lambda name: name.replace({change[0]!r}, "
        f"{change[1]!r}) makes all of them fit. "
    )


def replacement(
    source: Mapping[str, tuple[int, ...]],
    model: Mapping[str, tuple[int, ...] | None],
    required: Collection[str],
    others: Collection[str],
) -> tuple[str, str] | None:
    """The text that, replaced by another in all of a file's names, gives the model's names.

    Args:
        source: names and shapes that the model doesn't have.
        model: names and shapes that the file doesn't have.
        required: those of the model that must get a partner.
        others: names of the file that fit as they are, and must stay so.

    Returns:
        Old and new, as for ``str.replace``; None if no single replacement makes all names fit.
    """
    edits: Counter[tuple[str, str]] = Counter()
    first = next((name for name in source if name.rpartition(".")[2] == "weight"), None)
    for name, other in model.items():
        if first is not None and other == source[first]:
            edits.update(_edits(first, name))
    for old, new in edits:
        renamed = {name.replace(old, new): each for name, each in source.items()}
        fits = all(name in model and model[name] == each for name, each in renamed.items())
        whole = renamed.keys() >= set(required) and len(renamed) == len(source)
        if fits and whole and all(name.replace(old, new) == name for name in others):
            return old, new
    return None


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
