"""Results on disk: one CSV a claim, a row for each seed and arm, the design's hash on top."""

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

from course_lib.evidence.design import EvidenceError, Experiment, Outcome
from course_lib.paths import data_dir, write_file


def folder() -> Path:
    """Where the results are: ``data/evidence``."""
    return data_dir() / "evidence"


def path_of(id: str) -> Path:
    """The file with one experiment's results."""
    return folder() / f"{id}.csv"


@dataclass
class Results:
    """What an experiment has given so far.

    Attributes:
        id: of the experiment.
        design: hash of the design that the numbers were made with.
        made_with: torch's version and the processor's kind: other ones may differ in last digits.
        outcomes: seed -> arm -> measure -> value.
    """

    id: str
    design: str
    made_with: str = ""
    outcomes: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        """The seeds that have been run, ascending."""
        return sorted(self.outcomes)

    def add(self, seed: int, outcome: Outcome) -> None:
        """Enter a seed's numbers, rounded as the file keeps them."""
        self.outcomes[seed] = {
            arm: {name: float(_short(value)) for name, value in values.items()}
            for arm, values in outcome.items()
        }

    def column(self, arm: str, measure: str) -> list[float]:
        """A measure of an arm, one number a seed."""
        return [self.outcomes[seed][arm][measure] for seed in self.seeds]


def read(id: str) -> Results | None:
    """The results of an experiment; None if it was never run.

    Raises:
        EvidenceError: the file is damaged.
    """
    path = path_of(id)
    if not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        head = dict(line[1:].strip().split(": ", 1) for line in lines if line.startswith("#"))
        results = Results(head["experiment"], head["design"], head.get("made with", ""))
        for row in csv.DictReader(line for line in lines if not line.startswith("#")):
            seed, arm = int(row.pop("seed")), row.pop("arm")
            values = {name: float(value) for name, value in row.items()}
            results.outcomes.setdefault(seed, {})[arm] = values
    except (KeyError, ValueError, TypeError, UnicodeDecodeError) as error:
        raise EvidenceError(
            f"{path} can't be read ({error!r}). Delete it and run: course evidence run {id}"
        ) from error
    return results


def write(experiment: Experiment, results: Results) -> None:
    """Write the results: the old file stays until the new one is whole."""
    out = io.StringIO()
    out.write(f"# experiment: {results.id}\n# design: {results.design}\n")
    out.write(f"# made with: {results.made_with}\n")
    names = [each.name for each in experiment.measures]
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["seed", "arm", *names])
    for seed in results.seeds:
        for arm in experiment.arms:
            values = results.outcomes[seed][arm]
            rows.writerow([seed, arm, *(_short(values[name]) for name in names)])
    write_file(path_of(results.id), out.getvalue())


def _short(value: float) -> str:
    return f"{value:.6g}"
