"""Other names for the same network: propose who is who, and say what of it is certain."""

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from course_lib.paths import write_file
from course_lib.text import counted, few
from course_lib.weights.errors import LoadError
from course_lib.weights.matching.match import Shape, compatible, kind_of, pair_by_order
from course_lib.weights.reading.checkpoint import Checkpoint, open_catalogue

SAME_NAME, ONLY_SHAPE = "same name", "only pair of this shape"
ORDER, GUESS = "only pairing in this order", "similar name"


@dataclass(frozen=True)
class Pair:
    """One proposed pair.

    Attributes:
        source: name in the file.
        target: name in the model.
        shape: of both.
        why: what speaks for it.
        similarity: of the two names, from 0 to 1.
    """

    source: str
    target: str
    shape: Shape
    why: str
    similarity: float

    @property
    def certain(self) -> bool:
        """Whether no other pairing is possible, the order of both lists being given."""
        return self.why != GUESS


@dataclass(frozen=True)
class Proposal:
    """A proposed name table, with what is open.

    Attributes:
        pairs: in the file's order.
        open_source: names in the file without a proposal.
        open_model: names in the model without a proposal.
    """

    pairs: tuple[Pair, ...]
    open_source: tuple[str, ...]
    open_model: tuple[str, ...]

    @property
    def table(self) -> dict[str, str]:
        """File name -> model name, guesses included: for ``load_weights(..., rename=...)``."""
        return {pair.source: pair.target for pair in self.pairs}

    @property
    def certain(self) -> dict[str, str]:
        """The same without guesses."""
        return {pair.source: pair.target for pair in self.pairs if pair.certain}

    @property
    def complete(self) -> bool:
        """Whether every name of both sides has a certain partner."""
        return not (self.open_source or self.open_model) and len(self.certain) == len(self.pairs)

    def to_csv(self, path: str | Path) -> Path:
        """Write the table (columns ``source``, ``target``) to read, correct and keep as data."""
        lines = [["source", "target"], *([pair.source, pair.target] for pair in self.pairs)]
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(lines)
        write_file(path, out.getvalue())
        return Path(path)

    def __str__(self) -> str:
        count = Counter(pair.why for pair in self.pairs)
        kinds = (SAME_NAME, ONLY_SHAPE, ORDER, GUESS)
        reasons = ", ".join(f"{count[why]} by {why}" for why in kinds if count[why])
        sure = counted(len(self.certain), "is certain", "are certain")
        lines = [f"{counted(len(self.pairs), 'pair')} ({reasons or 'none'}); {sure}."]
        guesses = [pair for pair in self.pairs if not pair.certain]
        for pair in (guesses or list(self.pairs))[:8]:
            mark = " " if pair.certain else "?"
            lines.append(f" {mark} {pair.source}  ->  {pair.target}  {pair.shape}")
        if len(guesses or self.pairs) > 8:
            lines.append(f"   and {len(guesses or self.pairs) - 8} more")
        for side, names in (("file", self.open_source), ("model", self.open_model)):
            if names:
                lines.append(f"open in the {side}: {len(names)}: {few(names)}")
        return "\n".join(lines)


def propose_names(source: Any, model: nn.Module) -> Proposal:
    """Propose a name table for a file whose names aren't the model's.

    Four steps, each for what the ones before left open: equal names; the only two tensors of a
    shape and kind; the only way to pair two stretches in order with equal shapes; similar names
    among equal shapes. The first three are certain *if both sides list the same network in the
    same order*; the last is a guess. Equal outputs are the final proof.

    Args:
        source: a path, a :class:`Checkpoint`, or a state dict.
        model: the model.

    Returns:
        The proposal; print it, correct it as CSV, give its ``table`` to ``load_weights``.

    Raises:
        CheckpointError: the file can't be read.
    """
    entries = _shapes(source)
    targets = {name: tuple(each.shape) for name, each in model.state_dict().items()
               if isinstance(each, torch.Tensor)}  # fmt: skip
    found: dict[str, tuple[str, str]] = {
        name: (name, SAME_NAME) for name in entries if targets.get(name) == entries[name]
    }
    _by_only_shape(entries, targets, found)
    _by_order(entries, targets, found)
    _by_similarity(entries, targets, found)
    left, right = _left(entries, targets, found)
    pairs = (
        Pair(name, other, entries[name], why, round(_similarity(name, other), 2))
        for name, (other, why) in ((name, found[name]) for name in entries if name in found)
    )
    return Proposal(tuple(pairs), tuple(left), tuple(right))


def _shapes(source: Any) -> dict[str, Shape]:
    if isinstance(source, str | Path):
        return {name: each.shape for name, each in open_catalogue(source).stored.items()}
    tensors: Mapping[str, Any] = source.tensors if isinstance(source, Checkpoint) else source
    return {name: tuple(each.shape) for name, each in tensors.items()}


def _left(
    entries: dict[str, Shape], targets: dict[str, Shape], found: dict[str, tuple[str, str]]
) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """What has no partner yet, on both sides."""
    used = {target for target, _ in found.values()}
    return (
        {name: shape for name, shape in entries.items() if name not in found},
        {name: shape for name, shape in targets.items() if name not in used},
    )


def _by_only_shape(
    entries: dict[str, Shape], targets: dict[str, Shape], found: dict[str, tuple[str, str]]
) -> None:
    by_shape: list[dict[Shape, list[str]]] = [defaultdict(list), defaultdict(list)]
    for side, groups in zip(_left(entries, targets, found), by_shape, strict=True):
        for name, shape in side.items():
            groups[shape].append(name)
    for shape, names in by_shape[0].items():
        others = by_shape[1].get(shape, [])
        if len(names) == len(others) == 1 and compatible((names[0], shape), (others[0], shape)):
            found[names[0]] = (others[0], ONLY_SHAPE)


def _by_order(
    entries: dict[str, Shape], targets: dict[str, Shape], found: dict[str, tuple[str, str]]
) -> None:
    """Pair the stretches between tensors that are already paired (if these keep the order)."""
    place = {name: number for number, name in enumerate(targets)}
    fixed = [(name, found[name][0]) for name in entries if name in found]
    if not all(place[a[1]] < place[b[1]] for a, b in pairwise(fixed)):
        fixed = []
    sources, names = list(entries), list(targets)
    used = {target for target, _ in found.values()}
    ends = [(sources.index(a), place[b]) for a, b in fixed] + [(len(sources), len(names))]
    start, first = 0, 0
    for stop, last in ends:
        left = {name: entries[name] for name in sources[start:stop] if name not in found}
        right = {name: targets[name] for name in names[first:last] if name not in used}
        start, first = stop, last
        if not left or len(left) != len(right):
            continue  # with a different number, which one is too many is a guess
        try:
            pairs = pair_by_order(left, right)
        except LoadError:
            continue
        found.update({source: (target, ORDER) for target, source in pairs.items()})


def _by_similarity(
    entries: dict[str, Shape], targets: dict[str, Shape], found: dict[str, tuple[str, str]]
) -> None:
    """The most similar names first; nothing below a third of agreement."""
    left, right = _left(entries, targets, found)
    ranked = sorted(
        (-_similarity(name, other), name, other)
        for name, shape in left.items() for other, its in right.items()
        if shape == its and compatible((name, shape), (other, its))
    )  # fmt: skip
    for score, name, other in ranked:
        if -score >= 1 / 3 and name in left and other in right:
            found[name] = (other, GUESS)
            del left[name], right[other]


def _similarity(first: str, second: str) -> float:
    """How alike two names are, word by word and number by number: from 0 to 1.

    Last words that mean the same (``gamma`` and ``weight``) count as equal.
    """
    one, other = (
        [*re.findall(r"[a-z]+|\d+", name.lower())[:-1], kind_of(name) or name]
        for name in (first, second)
    )
    return SequenceMatcher(None, one, other, autojunk=False).ratio()
