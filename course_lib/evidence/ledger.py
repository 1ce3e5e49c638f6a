"""What the results say: a verdict for each claim, and the numbers that prose may cite."""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from course_lib.errors import UnknownNameError, suggest
from course_lib.evidence import table
from course_lib.evidence.claims import CLAIMS, Claim, claim
from course_lib.evidence.design import Answers, Contrast, EvidenceError, Experiment
from course_lib.evidence.fingerprint import fingerprint
from course_lib.evidence.statistics import (
    HELD,
    REFUTED,
    UNDECIDED,
    Interval,
    Verdict,
    judge,
    overall,
    paired_interval,
    to_decide,
    two_way_interval,
)
from course_lib.evidence.studies import experiments, get
from course_lib.evidence.table import Results

NOT_RUN = "not run yet"


@dataclass(frozen=True)
class Effect:
    """One contrast with its interval and what that says about the claim."""

    contrast: Contrast
    interval: Interval
    verdict: Verdict
    digits: int

    @property
    def text(self) -> str:
        """The effect with its interval, such as ``"0.31 [0.20, 0.42]"``."""
        return self.interval.text(self.digits)

    @property
    def says(self) -> str:
        """The verdict; of an open one also about how many draws would decide it."""
        if self.verdict != UNDECIDED:
            return self.verdict
        draws = to_decide(self.contrast, self.interval)
        times = draws / self.interval.seeds
        if times > 100:
            return f"{UNDECIDED}; it lies on the border, so no number of draws would decide it"
        if self.interval.pictures:
            return f"{UNDECIDED}; {times:.1f} times as many draws and pictures would decide it"
        return f"{UNDECIDED}; about {draws} draws would decide it"

    def __str__(self) -> str:
        sign = "/" if self.contrast.ratio else "\N{MINUS SIGN}"
        arms = f"{self.contrast.treatment} {sign} {self.contrast.control}"
        return f"{self.contrast.measure.replace('_', ' ')}, {arms}: {self.text}"


@dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    Attributes:
        claim: what is claimed.
        effects: one for each contrast, the main one first; empty while nothing was run.
        seeds: how many were run.
    """

    claim: Claim
    effects: tuple[Effect, ...]
    seeds: int

    @property
    def verdict(self) -> str:
        """``held``, ``did not hold``, ``undecided``, ``holds when ...`` or ``not run yet``."""
        if not self.effects:
            return NOT_RUN
        verdicts = [each.verdict for each in self.effects]
        return overall(verdicts, [each.contrast.when for each in self.effects])

    @property
    def name(self) -> str:
        """The claim's id, the same on photographs and in the laboratory."""
        return self.claim.id.removesuffix("_photographs")

    @property
    def on_photographs(self) -> bool:
        """Whether it was decided on photographs."""
        return self.claim.id.endswith("_photographs")

    @property
    def measured_on(self) -> str:
        """On what and how often, such as ``"50 digits of 8 x 8 pixels ...; 8 draws"``."""
        if not self.seeds:
            return self.claim.on
        return f"{self.claim.on}; " + ("exact" if self.seeds == 1 else f"{self.seeds} draws")

    @property
    def decisive(self) -> tuple[Effect, ...]:
        """What the verdict rests on: the effects that held, else those that did not, else all."""
        for verdict in (HELD, REFUTED):
            if found := tuple(each for each in self.effects if each.verdict == verdict):
                return found
        return self.effects


@dataclass(frozen=True, repr=False)
class Ledger:
    """The claims with their verdicts; print it, or let a notebook show it as a table."""

    entries: tuple[Entry, ...]

    def __str__(self) -> str:
        lines = []
        for each in self.entries:
            lines += [f"{each.claim.id}: {each.verdict}", f"  {each.claim.text}"]
            lines += [f"  on {each.measured_on}"]
            lines += [f"  {item.contrast.name}: {item}: {item.says}" for item in each.effects]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        rows = [
            "| claim | what is said | on photographs | in the laboratory | chapters |",
            "|---|---|---|---|---|",
        ]
        for first, *others in self.pairs():
            both = (first, *others)
            on = [_cell(each for each in both if each.on_photographs is side)
                  for side in (True, False)]  # fmt: skip
            chapters = ", ".join(name[:2] for name in first.claim.chapters)
            said = f"{first.claim.text} *({first.claim.source})*"
            rows.append(f"| {first.name} | {said} | {on[0]} | {on[1]} | {chapters} |")
        return "\n".join(rows)

    def pairs(self) -> list[tuple[Entry, ...]]:
        """The entries with those on photographs beside their own of the laboratory."""
        together: dict[str, list[Entry]] = {}
        for each in self.entries:
            together.setdefault(each.name, []).append(each)
        return [tuple(each) for each in together.values()]


def _cell(entries: Iterable[Entry]) -> str:
    """One side of a claim in the table: verdicts, effects, on what."""
    said = []
    for each in entries:
        effects = "<br>".join(f"{item}: {item.says}" for item in each.effects)
        said.append(f"**{each.verdict}**<br>{effects}<br>*{each.measured_on}*")
    return "<br>".join(said) or "not measured"


def show(ids: Sequence[str] | None = None) -> Ledger:
    """The ledger as the files have it; nothing is run.

    Args:
        ids: of the claims; all by default.

    Raises:
        UnknownNameError: no such claim.
    """
    return Ledger(tuple(entry(each) for each in ids or [each.id for each in CLAIMS]))


def entry(id: str) -> Entry:
    """The ledger's line for one claim."""
    said = claim(id)
    experiment = experiments().get(id)
    path = table.path_of(experiment.results) if experiment else None
    if experiment is None or path is None or not path.is_file():
        return Entry(said, (), 0)
    return Entry(said, *_measured(experiment, path, path.stat().st_mtime_ns))


@functools.cache  # resampling takes a second; a page cites the same results many times
def _measured(experiment: Experiment, _path: Path, _changed: int) -> tuple[tuple[Effect, ...], int]:
    """The effects in a file as it is now, and of how many seeds."""
    results = table.read(experiment.results)
    if results is None or len(results.seeds) < (1 if experiment.exact else 2):
        return (), 0
    return effects(experiment, results), len(results.seeds)


def check(ids: Sequence[str] | None = None) -> list[str]:
    """Whether every experiment has results, complete and made with the code as it is now.

    Returns:
        One line for each problem; an empty list when all is well.
    """
    problems = []
    for each in experiments().values() if ids is None else map(get, ids):
        results, again = table.read(each.results), f"Run: course evidence run {each.id}"
        if results is None:
            problems.append(f"{each.id} was never run. {again}")
            continue
        if results.id != each.results:
            problems.append(f"{table.path_of(each.results)} holds results of {results.id}.")
        elif results.design != fingerprint(each):
            problems.append(f"{each.id} was changed after its results were made. {again}")
        elif results.seeds != list(range(each.seeds)):
            problems.append(
                f"{each.id} has {len(results.seeds)} of {each.seeds} seeds (0 to {each.seeds - 1} "
                f"are wanted). {again}"
            )
        else:
            try:
                for outcome in results.outcomes.values():
                    each.check_outcome(outcome)
            except EvidenceError as error:
                problems.append(f"{table.path_of(each.results)}: {error} {again}")
    if ids is None:
        known = {each.results for each in experiments().values()}
        strangers = sorted(p.name for p in table.folder().glob("*.csv") if p.stem not in known)
        problems += [f"data/evidence/{name} belongs to no experiment." for name in strangers]
    return problems


def quote(id: str, what: str = "effect") -> str:
    """A number from the results as prose has to cite it, such as ``"0.31 [0.20, 0.42]"``.

    Args:
        id: of the claim.
        what: ``"effect"`` (of the main contrast) or a contrast's name, each also with ``.low``,
            ``.high``, ``.value`` or ``.verdict``; ``"verdict"``; ``"on"`` (what it was measured on,
            and how often); ``"seeds"``; or ``"ARM.MEASURE"`` for a mean over the seeds.

    Raises:
        UnknownNameError: no such claim, or no such number.
        EvidenceError: not run yet.
    """
    line = entry(id)
    if not line.effects:
        raise EvidenceError(f"{id} has no results to cite. Run: course evidence run {id}")
    known = {"verdict": line.verdict, "seeds": str(line.seeds), "on": line.measured_on}
    for item in line.effects:
        for name in [item.contrast.name] + ["effect"] * (item is line.effects[0]):
            known[name] = item.text
            known[f"{name}.verdict"] = item.verdict
            for part in ("value", "low", "high"):
                known[f"{name}.{part}"] = f"{getattr(item.interval, part):.{item.digits}f}"
    experiment = get(id)
    results = table.read(experiment.results)
    assert results is not None
    for arm in experiment.arms:
        for measure in experiment.measures:
            mean = float(np.mean(results.column(arm, measure.name)))
            known[f"{arm}.{measure.name}"] = f"{mean:.{measure.digits}f}"
    if what not in known:
        raise UnknownNameError(
            f"{id} has no number {what!r}; there are {', '.join(known)}.{suggest(what, known)}"
        )
    return known[what]


def effects(experiment: Experiment, results: Results) -> tuple[Effect, ...]:
    """Each contrast of an experiment with its interval and verdict."""
    return tuple(_find(experiment, results, each) for each in experiment.contrasts)


def _find(experiment: Experiment, results: Results, contrast: Contrast) -> Effect:
    first, second = (
        results.by_picture(arm, contrast.measure) for arm in (contrast.treatment, contrast.control)
    )
    plain = [float(each) for each in first], [float(each) for each in second]
    if experiment.exact:
        value = plain[0][0] / plain[1][0] if contrast.ratio else plain[0][0] - plain[1][0]
        interval = Interval(value, value, value, 1, 1.0)
    elif any(isinstance(each, Answers) for each in (*first, *second)):
        interval = two_way_interval(first, second, len(experiment.contrasts))
    else:
        interval = paired_interval(*plain, contrast.ratio, len(experiment.contrasts))
    digits = experiment.measure(contrast.measure).digits
    if contrast.ratio:  # has no unit; one digit, and a small one isn't printed as 0
        digits = max(1, -math.floor(math.log10(interval.low)))
    return Effect(contrast, interval, judge(contrast, interval), digits)
