"""What a load did, tensor by tensor: as data and as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import prod

from course_lib.text import counted, few, printable

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """One tensor of the model that got new values.

    Attributes:
        name: in the model.
        source: in the file.
        shape: in the model.
        parameter: True for a parameter, False for a buffer.
        converted: the change of type and its cost, such as ``float64 -> float32: exact``, or "".
        lossy: whether that lost more than rounding does: numbers became infinite, for example.
        adapted: how its shape was changed, or "".
        nonfinite: how many of its numbers are NaN or infinite.
    """

    name: str
    source: str
    shape: Shape
    parameter: bool
    converted: str = ""
    lossy: bool = False
    adapted: str = ""
    nonfinite: int = 0

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class Mismatched:
    """One tensor that has another shape in the file than in the model, and was left as it was."""

    name: str
    source: str
    in_file: Shape
    in_model: Shape


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What :func:`course_lib.weights.load_weights` did.

    Attributes:
        source: where the weights came from, in words.
        how: what was done to the names.
        loaded: the tensors that have new values.
        missing: names in the model that the file has nothing for.
        unexpected: names in the file that the model has no place for.
        mismatched: tensors left as they were because the shapes differ.
        kept: names in the model that were left as they were because you said so.
        ignored: names in the file that were left out on purpose.
        tied: names that are one memory in the model, in groups; the first was loaded, or all were
            and agree.
        total: number of entries in the model's state dict: tensors, mostly.
        total_numbers: number of elements in them.
        supplied: names in the model whose values come from the loading code of their modules: from
            entries under other names or, where an old file has none, from the model itself.
    """

    source: str
    how: str
    loaded: tuple[Loaded, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[Mismatched, ...]
    kept: tuple[str, ...]
    ignored: tuple[str, ...]
    tied: tuple[tuple[str, ...], ...]
    total: int
    total_numbers: int
    supplied: tuple[str, ...] = ()

    @property
    def converted(self) -> tuple[Loaded, ...]:
        """The loaded tensors whose type was changed."""
        return tuple(each for each in self.loaded if each.converted)

    @property
    def adapted(self) -> tuple[Loaded, ...]:
        """The loaded tensors whose shape was changed."""
        return tuple(each for each in self.loaded if each.adapted)

    @property
    def nonfinite(self) -> tuple[Loaded, ...]:
        """The loaded tensors with NaN or infinite numbers."""
        return tuple(each for each in self.loaded if each.nonfinite)

    @property
    def numbers(self) -> int:
        """How many elements were loaded; memory with several names counts once."""
        first = {name: group[0] for group in self.tied for name in group}
        return sum({first.get(each.name, each.name): each.numel for each in self.loaded}.values())

    @property
    def complete(self) -> bool:
        """Whether every tensor of the model was loaded and every one of the file was used."""
        return not (self.missing or self.unexpected or self.mismatched or self.kept)

    def rows(self) -> list[tuple[str, int, str]]:
        """The table: what, how many, and which (the first few)."""
        mismatched = [f"{each.name} {each.in_file} in the file, {each.in_model} in the model"
                      for each in self.mismatched]  # fmt: skip
        converted = [f"{each.name} {each.converted}" for each in self.converted]
        adapted = [f"{each.name} {each.adapted}" for each in self.adapted]
        nonfinite = [f"{each.name} {each.nonfinite:,}" for each in self.nonfinite]
        tied = [" = ".join(group) for group in self.tied]
        rows: list[tuple[str, Sequence[str]]] = [
            ("missing", self.missing), ("unexpected", self.unexpected), ("mismatched", mismatched),
            ("kept", self.kept), ("ignored", self.ignored), ("converted", converted),
            ("adapted", adapted), ("tied", tied), ("non-finite", nonfinite),
        ]  # fmt: skip
        if self.supplied:
            rows.append(("own code", self.supplied))
        return [
            ("loaded", len(self.loaded), f"{self.numbers:,} of {self.total_numbers:,} numbers")
        ] + [(what, len(names), few(names, 3)) for what, names in rows]

    def __str__(self) -> str:
        own = f", {len(self.supplied):,} set by modules' own code" if self.supplied else ""
        lines = [
            f"{len(self.loaded)} of {counted(self.total, 'tensor')} loaded from {self.source}, "
            f"matched by {self.how}{own}."
        ]
        lines += [
            f"  {what:<11} {count:>5}  {names}".rstrip() for what, count, names in self.rows()
        ]
        return "\n".join(map(printable, lines))

    def __repr__(self) -> str:
        return f"<LoadReport {str(self).splitlines()[0]}>"

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr><td>{what}</td><td>{count}</td>"
            f"<td style='text-align:left'>{escape(names)}</td></tr>"
            for what, count, names in self.rows()
        )
        return f"<p>{escape(str(self).splitlines()[0])}</p><table>{body}</table>"
