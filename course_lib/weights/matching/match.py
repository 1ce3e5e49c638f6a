"""Which tensor of a file belongs to which tensor of a model?

Tried in this order: the same names; the same names but for one wrapper's prefix; and, only on
request, the same order and shapes. A rename table is applied to the file's names before all that.
Each step either has one answer or is an error.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from course_lib.errors import suggest
from course_lib.text import counted
from course_lib.weights.errors import LoadError
from course_lib.weights.matching.names import name_table

Shape = tuple[int, ...]
Rename = Mapping[str, str] | Callable[[str], str | None] | str

# Entries that count updates of an average or of the wrapper: no weights of the wrapped model.
_BOOKKEEPING = ("n_averaged",)

# Last parts of names with the same meaning in different frameworks.
_KINDS = {
    "weight": "weight", "kernel": "weight", "gamma": "weight", "scale": "weight",
    "depthwise_kernel": "weight", "pointwise_kernel": "weight", "embeddings": "weight",
    "bias": "bias", "beta": "bias", "offset": "bias",
    "running_mean": "mean", "moving_mean": "mean", "mean": "mean",
    "running_var": "variance", "moving_variance": "variance", "var": "variance",
    "variance": "variance", "num_batches_tracked": "count",
}  # fmt: skip


@dataclass(frozen=True)
class Matching:
    """Who belongs to whom.

    Attributes:
        pairs: model name -> file name.
        missing: model names without a partner.
        unexpected: file names without a partner.
        ignored: file names that were left out on purpose.
        how: what was done to the names, in words.
        rest: the unexpected once more: their names by now -> their names in the file.
    """

    pairs: dict[str, str]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    ignored: tuple[str, ...]
    how: str
    rest: dict[str, str]


@dataclass
class _Names:
    """The names of a file on their way to those of a model.

    Attributes:
        current: the name by now -> the name in the file.
        outside: names in the file that lack the prefix of all others: no model has these.
        ignored: names in the file that were left out on purpose.
        how: what was done, in words.
    """

    current: dict[str, str]
    outside: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    how: list[str] = field(default_factory=list)


def match(
    source: Mapping[str, Shape | None],
    model: Mapping[str, Shape | None],
    *,
    rename: Rename | None = None,
    prefix: str | None = None,
    by_order: bool = False,
    dropped: Collection[str] = (),
    kept: Collection[str] = (),
    as_they_are: bool = False,
) -> Matching:
    """Pair the tensors of a file with those of a model, by name.

    Args:
        source: the file's names and shapes, in order; None for what is no plain tensor.
        model: the model's names and shapes, in order; None likewise.
        rename: see :func:`load_weights`.
        prefix: see :func:`load_weights`.
        by_order: see :func:`load_weights`.
        dropped: file names to leave out.
        kept: model names that want no partner; a file entry of that name is left out.
        as_they_are: look for no prefix, and accept that no name fits: for models whose own loading
            code may know the names.

    Raises:
        LoadError: no tensor has a partner, or there are several ways and nothing to choose by.
        UnknownNameError: ``rename`` names a table that doesn't exist.
    """
    left_out = set(dropped)
    names = _Names({name: name for name in source if name not in left_out})
    names.ignored += sorted(left_out)
    if prefix is not None:
        _remove_prefix(names, prefix)
    if rename is not None:
        _rename(names, rename, model)
    if prefix is None and not as_they_are and not names.current.keys() & model.keys():
        _find_prefix(names, model)
    found = _pair(names, source, model, by_order, set(kept))
    if not found.pairs and not as_they_are:
        raise LoadError(_nothing_fits([*names.current, *names.outside], list(model)))
    return found


def _pair(
    names: _Names,
    source: Mapping[str, Shape | None],
    model: Mapping[str, Shape | None],
    by_order: bool,
    kept: set[str],
) -> Matching:
    """Pair equal names, and on request what is left by order."""
    same = {name: names.current[name] for name in model if name in names.current}
    if same and not names.how:
        names.how.append("the same names")
    names.ignored += [first for name, first in same.items() if name in kept]
    rest = {name: first for name, first in names.current.items() if name not in same}
    rest |= {first: first for first in names.outside}
    pairs = {name: first for name, first in same.items() if name not in kept}
    wanting = {
        name: shape for name, shape in model.items() if name not in pairs and name not in kept
    }
    if by_order and rest and wanting:
        sizes = {first: source[first] for first in rest.values()}
        pairs |= pair_by_order(_with_shape(sizes), _with_shape(wanting))
        names.how.append("order and shape")
    used = set(pairs.values())
    return Matching(
        pairs={name: pairs[name] for name in model if name in pairs},
        missing=tuple(name for name in wanting if name not in pairs),
        unexpected=tuple(first for first in rest.values() if first not in used),
        ignored=tuple(names.ignored),
        how=", ".join(names.how) or "the model's own loading code",
        rest={name: first for name, first in rest.items() if first not in used},
    )


def _with_shape(shapes: Mapping[str, Shape | None]) -> dict[str, Shape]:
    return {name: shape for name, shape in shapes.items() if shape is not None}


def _remove_prefix(names: _Names, prefix: str) -> None:
    kept = {name: first for name, first in names.current.items() if name.startswith(prefix)}
    if not kept:
        known = {start for name in names.current for start, _ in _splits(name)}
        raise LoadError(
            f"No name in the file begins with {prefix!r}.{suggest(prefix, sorted(known))}"
        )
    names.ignored += [first for name, first in names.current.items() if name not in kept]
    names.current = {name.removeprefix(prefix): first for name, first in kept.items()}
    if prefix:
        names.how.append(f"names without the prefix {prefix!r}")


def renaming(rename: Rename) -> Callable[[str], str | None]:
    """A table or its name as a function: a name that isn't in the table stays as it is.

    Raises:
        UnknownNameError: there is no table of that name.
    """
    table = name_table(rename) if isinstance(rename, str) else rename
    return (lambda name: table.get(name, name)) if isinstance(table, Mapping) else table


def _rename(names: _Names, rename: Rename, model: Collection[str]) -> None:
    if isinstance(rename, str):
        names.how.append(f"the name table {rename!r}")
        _check_table(name_table(rename), names, model, shipped=True)
    elif isinstance(rename, Mapping):
        names.how.append("a rename table")
        _check_table(rename, names, model)
    else:
        names.how.append("a rename function")
    change = renaming(rename)
    renamed: dict[str, str] = {}
    for name, first in names.current.items():
        new = change(name)
        if new is None:
            names.ignored.append(first)
        elif not isinstance(new, str):
            raise LoadError(
                f"rename({name!r}) gave {new!r}; expected a name, or None to leave out."
            )
        elif new in renamed:
            raise LoadError(
                f"Two names of the file become {new!r}: {renamed[new]!r} and {first!r}. "
                "A rename table must keep different names different."
            )
        else:
            renamed[new] = first
    names.current = renamed


def _check_table(
    table: Mapping[str, str], names: _Names, model: Collection[str], shipped: bool = False
) -> None:
    """A table that names what isn't there is a mistake (a shipped one has a head, for example)."""
    unknown = [name for name in table if name not in names.current]
    strangers = [name for name in table.values() if name not in model]
    if (unknown and not shipped) or len(unknown) == len(table):
        hint = suggest(unknown[0], names.current) if unknown else ""
        raise LoadError(
            f"The rename table has {len(unknown)} of {len(table)} names that are not in the "
            f"file, such as {[*unknown, ''][0]!r}.{hint}"
        )
    if len(strangers) == len(table):
        raise LoadError(
            f"The rename table leads to no name of the model, for example to "
            f"{strangers[0]!r}.{suggest(strangers[0], model)}"
        )


def _find_prefix(names: _Names, model: Collection[str]) -> None:
    """Find the one prefix which, removed from or added to the file's names, makes them fit."""
    hits: Counter[tuple[str, str]] = Counter()
    for name in names.current:
        hits.update(("remove", start) for start, end in _splits(name) if end in model)
    for name in model:
        hits.update(("add", start) for start, end in _splits(name) if end in names.current)
    if not hits:
        return
    (best, count), *others = hits.most_common()
    if count * 2 < min(len(names.current), len(model)):
        return  # a few chance agreements are no match
    close = [other for other, number in others if number * 2 >= count]
    if close:
        fits = ", ".join(f"{kind} {start!r}" for kind, start in [best, *close][:4])
        advice = f"Say which part of the file you want: prefix={best[1]!r}, for example."
        if best[0] == "add":
            advice = "Load into the part you mean, as in load_weights(model.encoder, ...)."
        raise LoadError(
            f"The names fit in more than one way when a prefix is changed: {fits}. {advice}"
        )
    kind, start = best
    if kind == "add":
        names.current = {start + name: first for name, first in names.current.items()}
        names.how.append(f"the same names with the prefix {start!r} added")
        return
    for name, first in names.current.items():
        if not name.startswith(start):
            (names.ignored if name in _BOOKKEEPING else names.outside).append(first)
    inside = {n: first for n, first in names.current.items() if n.startswith(start)}
    names.current = {name.removeprefix(start): first for name, first in inside.items()}
    names.how.append(f"the same names without the prefix {start!r}")


def _splits(name: str) -> list[tuple[str, str]]:
    """All ways to cut a dotted name in two: ``a.b.c`` gives (a., b.c) and (a.b., c)."""
    return [(name[: at + 1], name[at + 1 :]) for at, sign in enumerate(name) if sign == "."]


def kind_of(name: str) -> str | None:
    """What the last part of a name says: ``weight``, ``bias``, ``mean``, ``variance``, ``count``.

    None when it says nothing that is known.
    """
    last = name.replace("/", ".").rsplit(".", 1)[-1].split(":")[0]
    return _KINDS.get(last)


def compatible(first: tuple[str, Shape], second: tuple[str, Shape]) -> bool:
    """Equal shapes, and names whose last parts don't contradict each other."""
    kinds = kind_of(first[0]), kind_of(second[0])
    return first[1] == second[1] and (None in kinds or kinds[0] == kinds[1])


def pair_by_order(source: Mapping[str, Shape], model: Mapping[str, Shape]) -> dict[str, str]:
    """Pair by order and shape, with a proof that there is only one way.

    Every entry of the shorter list gets a partner in the longer one, order kept. Take for each the
    earliest partner possible, then for each the latest possible: any other way lies between these
    two. If they agree, there is no other.

    Returns:
        Model name -> file name.

    Raises:
        LoadError: there is no such pairing, or more than one.
    """
    entries, targets = list(source.items()), list(model.items())
    flipped = len(entries) > len(targets)
    short, long = (targets, entries) if flipped else (entries, targets)
    early = _earliest(short, long)
    if len(early) < len(short):
        name, shape = short[len(early)]
        side, other = ("model", "file") if flipped else ("file", "model")
        raise LoadError(
            f"Order and shape don't fit: {name!r} of the {side}, shape {shape}, has no partner in "
            f"the {other} after those of the {counted(len(early), 'entry', 'entries')} before it. "
            "See propose_names(source, model) for what does fit, or give rename= a table."
        )
    late = [len(long) - 1 - at for at in reversed(_earliest(short[::-1], long[::-1]))]
    unsure = [at for at, (low, high) in enumerate(zip(early, late, strict=True)) if low != high]
    if unsure:
        at = unsure[0]
        raise LoadError(
            f"Order and shape leave {len(unsure)} of {counted(len(short), 'entry', 'entries')} "
            f"open: {short[at][0]!r} could be {long[early[at]][0]!r} or {long[late[at]][0]!r}. "
            "Leave out what has no partner with drop= and keep=, or give rename= a table "
            "(propose_names helps)."
        )
    joined = [(short[at][0], long[position][0]) for at, position in enumerate(early)]
    return dict(joined) if flipped else {target: entry for entry, target in joined}


def _earliest(short: Sequence[tuple[str, Shape]], long: Sequence[tuple[str, Shape]]) -> list[int]:
    """For each entry of ``short`` its earliest possible position in ``long``, as far as it goes."""
    positions: list[int] = []
    for position, candidate in enumerate(long):
        if len(positions) < len(short) and compatible(short[len(positions)], candidate):
            positions.append(position)
    return positions


def _nothing_fits(source: list[str], model: list[str]) -> str:
    theirs = ", ".join(map(repr, source[:3])) or "nothing left"
    ours = ", ".join(map(repr, model[:3])) or "nothing that wants weights"
    return (
        f"Not one of the file's {len(source)} names is in the model, nor with a prefix added or "
        f"removed. The file has {theirs} ...; the model has {ours} .... Other names: give "
        "rename= a table (propose_names helps) or a function, or by_order=True. Another "
        "architecture: no loader can help."
    )
