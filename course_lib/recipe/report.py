"""What a run of the recipe did: each step, what was kept, and how good it is, with an interval."""

from dataclasses import dataclass, field
from pathlib import Path

from scipy.stats import binomtest
from torch import nn

from course_lib.recipe.facts import Facts
from course_lib.recipe.plan import Plan
from course_lib.training.evaluation import Evaluation


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval.

    Attributes:
        value: right over all.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def wilson(right: int, n: int) -> Share:
    """A share with Wilson's interval (E. B. Wilson, JASA 22, 1927).

    It stays between 0 and 1 and isn't empty when everything is right, as the usual formula is.

    >>> print(wilson(40, 40))
    1.00 [0.91, 1.00]

    Args:
        right: how many.
        n: of how many, at least 1.

    Raises:
        ValueError: more right than there are, or none at all.
    """
    interval = binomtest(right, n).proportion_ci(method="wilson")
    return Share(right / n, float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Step:
    """One step of the recipe.

    Attributes:
        name: ``"head"``, or the stage's.
        setting: what was best in it, in words.
        val: validation accuracy of its best.
        val_loss: validation loss of the same.
        kept: whether it won and its weights went on.
        seconds: that it took.
        passes: pictures that passed through the network in training.
    """

    name: str
    setting: str
    val: float
    val_loss: float
    kept: bool
    seconds: float
    passes: int


@dataclass(repr=False)
class RecipeRun:
    """What came out; ``print`` it for a report.

    Attributes:
        model: the network with the weights that won, in evaluation mode.
        classes: names of the classes.
        facts: what was measured beforehand.
        plan: what was to be done.
        steps: what was done.
        val: the model on the validation pictures; the choices were made by them.
        test: the model on the test pictures, measured once; None without them.
        seconds: what everything took.
        path: the file with the weights, if they were saved.
        remarks: what else happened.
    """

    model: nn.Module
    classes: tuple[str, ...]
    facts: Facts
    plan: Plan
    steps: list[Step] = field(default_factory=list)
    val: Evaluation | None = None
    test: Evaluation | None = None
    seconds: float = 0.0
    path: Path | None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def kept(self) -> str:
        """The step whose weights the model has."""
        return next((each.name for each in reversed(self.steps) if each.kept), "")

    @property
    def passes(self) -> int:
        """Pictures that passed through the network in training, all trials together."""
        return sum(each.passes for each in self.steps)

    def report(self, timings: bool = True) -> str:
        """The run as text.

        Args:
            timings: with the seconds, which differ at every run.
        """
        lines = ["What happened"]
        for each in self.steps:
            verdict = "kept" if each.kept else "dropped: not better on validation"
            took = f", {each.seconds:.0f} s" if timings else ""
            lines.append(
                f"  {each.name}: validation accuracy {each.val:.2f} ({each.setting}{took}): "
                f"{verdict}"
            )
        lines += [f"  {each}" for each in self.remarks]
        lines.append("Result")
        if self.test is not None:
            share = wilson(self.test.correct, self.test.n)
            lines.append(
                f"  test accuracy {share} (95 % interval), {self.test.correct} of {self.test.n}"
            )
            lines += [f"  {line}" for line in self._mistakes(self.test)]
        elif self.val is not None:
            lines.append(
                f"  validation accuracy {self.val.accuracy:.2f}, {self.val.correct} of "
                f"{self.val.n}; the choices were made by it, so expect a little less elsewhere"
            )
        if self.path is not None:
            lines.append(f"  saved: {self.path}")
        if timings:
            lines.append(f"  {self.seconds:.0f} s in all")
        return "\n".join(lines)

    def _mistakes(self, measured: Evaluation) -> list[str]:
        """The confusion matrix as text: a line a class."""
        width = max(len(each) for each in self.classes)
        found = []
        for name, row in zip(self.classes, measured.confusion.tolist(), strict=False):
            wrong = [
                f"{count} as {other}"
                for other, count in zip(self.classes, row, strict=False)
                if count and other != name
            ]
            right = row[self.classes.index(name)]
            found.append(
                f"{name:<{width}}  {right} of {sum(row)} right"
                + (f"; taken for another: {', '.join(wrong)}" if wrong else "")
            )
        return found

    def __repr__(self) -> str:
        return self.report()
