"""Results on disk: one CSV an experiment, a row for each seed and arm, the design's hash on top.

Where answers are kept picture by picture, a further column has them: the pictures asked and the
right ones, as bits in base64; ``=`` stands for the pictures of the row before.
"""

import base64
import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from course_lib.evidence.design import Answers, EvidenceError, Experiment, Outcome
from course_lib.paths import data_dir, write_file


def folder() -> Path:
    """Where the results are: ``data/evidence``."""
    return data_dir() / "evidence"


def path_of(id: str) -> Path:
    """The file with one experiment's results, by their name."""
    return folder() / f"{id}.csv"


BY_PICTURE = " by picture"
SEEDS = "; seeds "  # where not all were made with the same


@dataclass
class Results:
    """What an experiment has given so far.

    Attributes:
        id: of the experiment.
        design: hash of the design that the numbers were made with.
        made_with: torch's version and the processor, on which last digits may depend: of each seed
            that is added. Seeds that were read keep their own in ``made``.
        data: what photographs were used, with their hash; empty for the laboratory.
        outcomes: seed -> arm -> measure -> value.
        answers: seed -> arm -> measure -> answers, where they are kept picture by picture.
    """

    id: str
    design: str
    made_with: str = ""
    data: str = ""
    outcomes: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)
    answers: dict[int, dict[str, dict[str, Answers]]] = field(default_factory=dict)
    made: dict[int, str] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        """The seeds that have been run, ascending."""
        return sorted(self.outcomes)

    def add(self, seed: int, outcome: Outcome) -> None:
        """Enter a seed's numbers, rounded as the file keeps them."""
        self.outcomes[seed] = {
            arm: {name: float(_short(float(value))) for name, value in values.items()}
            for arm, values in outcome.items()
        }
        self.answers[seed] = {
            arm: {name: value for name, value in values.items() if isinstance(value, Answers)}
            for arm, values in outcome.items()
        }
        self.made[seed] = self.made_with

    def column(self, arm: str, measure: str) -> list[float]:
        """A measure of an arm, one number a seed."""
        return [self.outcomes[seed][arm][measure] for seed in self.seeds]

    def by_picture(self, arm: str, measure: str) -> list[float | Answers]:
        """The same, with the answers instead of their share where they are kept."""
        return [
            self.answers.get(seed, {}).get(arm, {}).get(measure, self.outcomes[seed][arm][measure])
            for seed in self.seeds
        ]


def read(id: str) -> Results | None:
    """The results of an experiment; None if it was never run.

    Raises:
        EvidenceError: the file is damaged.
    """
    path = path_of(id)
    if not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        head = dict(line[1:].strip().split(": ", 1) for line in lines if line.startswith("#"))
        results = Results(head["experiment"], head["design"], data=head.get("data", ""))
        made = _makers(lines)
        asked: dict[str, tuple[int, ...]] = {}
        for row in csv.DictReader(line for line in lines if not line.startswith("#")):
            seed, arm = int(row.pop("seed")), row.pop("arm")
            kept = {name: row.pop(name) for name in list(row) if name.endswith(BY_PICTURE)}
            values = {name: float(value) for name, value in row.items()}
            results.outcomes.setdefault(seed, {})[arm] = values
            results.made[seed] = made.get(seed, made[None])
            answers = results.answers.setdefault(seed, {}).setdefault(arm, {})
            for name, text in kept.items():
                if text:
                    answers[name.removesuffix(BY_PICTURE)] = _decoded(text, asked.get(name, ()))
                    asked[name] = answers[name.removesuffix(BY_PICTURE)].places
    except (LookupError, ValueError, TypeError, AttributeError, OSError, csv.Error) as error:
        raise EvidenceError(
            f"{path} can't be read ({error!r}). Delete it and run: course evidence run {id}"
        ) from error
    return results


def write(experiment: Experiment, results: Results) -> None:
    """Write the results: the old file stays until the new one is whole.

    Raises:
        EvidenceError: a full disk, no permission.
    """
    out = io.StringIO()
    out.write(f"# experiment: {results.id}\n# design: {results.design}\n")
    for maker in sorted(set(results.made.values())):
        those = [str(seed) for seed in results.seeds if results.made[seed] == maker]
        which = f"{SEEDS}{' '.join(those)}" if len(those) < len(results.seeds) else ""
        out.write(f"# made with: {maker}{which}\n")
    out.write(f"# data: {results.data}\n" * bool(results.data))
    names = [each.name for each in experiment.measures]
    kept = [name for name in names if any(
        name in found for arms in results.answers.values() for found in arms.values()
    )]  # fmt: skip
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["seed", "arm", *names, *(name + BY_PICTURE for name in kept)])
    asked: dict[str, tuple[int, ...]] = {}
    for seed in results.seeds:
        for arm in experiment.arms:
            values, answers = results.outcomes[seed][arm], results.answers.get(seed, {})
            row: list[object] = [seed, arm, *(_short(values[name]) for name in names)]
            for name in kept:
                found = answers.get(arm, {}).get(name)
                row.append(_encoded(found, asked.get(name, ())) if found else "")
                asked[name] = found.places if found else asked.get(name, ())
            rows.writerow(row)
    path = path_of(results.id)
    try:
        write_file(path, out.getvalue())
    except OSError as error:
        raise EvidenceError(
            f"{path} can't be written: {error.strerror or error}. The seeds before this one are "
            f"still there. Make room, and go on: course evidence run {results.id}"
        ) from error


def _makers(lines: Iterable[str]) -> dict[int | None, str]:
    """With what each seed was made; under None, with what those were that no line names."""
    made: dict[int | None, str] = {None: ""}
    for line in lines:
        if line.startswith("# made with: "):
            maker, _, those = line.removeprefix("# made with: ").partition(SEEDS)
            named: list[int | None] = [int(seed) for seed in those.split()] or [None]
            made |= dict.fromkeys(named, maker)
    return made


def _encoded(answers: Answers, before: tuple[int, ...]) -> str:
    places = "=" if answers.places == before else _bits(answers.places, answers.places[-1] + 1)
    right = np.flatnonzero(answers.right).tolist()
    return f"{places}.{_bits(right, len(answers.right))}"


def _decoded(text: str, before: tuple[int, ...]) -> Answers:
    places, right = text.split(".")
    asked = before if places == "=" else tuple(np.flatnonzero(_array(places)).tolist())
    return Answers(asked, tuple(bool(each) for each in _array(right)[: len(asked)]))


def _bits(set_: Iterable[int], length: int) -> str:
    row = np.zeros(length, np.uint8)
    row[list(set_)] = 1
    return base64.b64encode(np.packbits(row).tobytes()).decode()


def _array(text: str) -> np.ndarray:
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8))


def _short(value: float) -> str:
    return f"{value:.6g}"
