"""What a run of the recipe did: each step, what was kept, and how good it is, with an interval."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.recipe.answers import Answers, Share, balanced, wilson
from course_lib.recipe.calibration import bins_for, calibration_error
from course_lib.recipe.facts import Facts
from course_lib.recipe.plan import Plan
from course_lib.recipe.prediction import Prediction, Predictor
from course_lib.recipe.saved import save
from course_lib.text import counted, few, wrapped
from course_lib.training.errors import TrainingError
from course_lib.training.evaluation import Evaluation
from course_lib.training.metrics import confusion_matrix
from course_lib.weights import CheckpointError


@dataclass(frozen=True)
class Step:
    """One step of the recipe.

    Attributes:
        name: ``"head"``, or the stage's.
        setting: what was best in it, in words.
        accuracy: balanced accuracy of its best, on pictures it hadn't seen.
        loss: log-loss of the same.
        kept: whether it won and its weights went on.
        gain: by how much its log-loss is below the best before it; None for the first.
        seconds: that it took.
        passes: pictures that were trained on in it, and a third of those that were only measured.
    """

    name: str
    setting: str
    accuracy: Share
    loss: float
    kept: bool
    gain: Share | None
    seconds: float
    passes: int


@dataclass(frozen=True)
class Calibration:
    """How far the probabilities are from the shares of right answers.

    Attributes:
        temperature: by which the scores are divided.
        before: expected calibration error without it.
        after: and with it.
        on: which pictures that was measured on.
    """

    temperature: float
    before: float
    after: float
    on: str

    def __str__(self) -> str:
        return (
            f"temperature {self.temperature:.2f}; expected calibration error {self.before:.2f} "
            f"before, {self.after:.2f} after, on {self.on}"
        )


class NotSavedError(CheckpointError):
    """The network couldn't be saved.

    Attributes:
        run: what was trained; its ``save`` can be called again.
    """

    def __init__(self, message: str, run: "RecipeRun") -> None:
        super().__init__(message)
        self.run = run


@dataclass(repr=False)
class RecipeRun:
    """What came out; ``report`` tells of it, and ``predict`` asks it.

    Attributes:
        model: the network with the weights that won, in evaluation mode.
        classes: names of the classes.
        facts: what was measured beforehand.
        plan: what was to be done.
        steps: what was done.
        unseen: what was said about training and validation pictures that hadn't been learned
            from; the choices were made by it.
        val: the same in numbers.
        test: the test pictures, measured once; None without them.
        calibration: whether the probabilities can be taken at their word.
        predictor: answers about new pictures; None before the head is trained.
        threads: it was computed with so many; as many again give the same bits.
        seconds: what everything took.
        path: the file with the weights, if they were saved.
        interrupted: you stopped it.
        remarks: what else happened.
    """

    model: nn.Module
    classes: tuple[str, ...]
    facts: Facts
    plan: Plan
    steps: list[Step] = field(default_factory=list)
    unseen: Answers | None = None
    layer: nn.Linear | None = None
    val: Evaluation | None = None
    test: Evaluation | None = None
    calibration: Calibration | None = None
    predictor: Predictor | None = None
    threads: int = 1
    seconds: float = 0.0
    path: Path | None = None
    interrupted: bool = False
    remarks: list[str] = field(default_factory=list)

    @property
    def kept(self) -> str:
        """The step whose weights the model has."""
        return next((each.name for each in reversed(self.steps) if each.kept), "")

    @property
    def size(self) -> int:
        """Side of the pictures in pixels; 0: as the data sets give them."""
        return self.plan.size

    @property
    def passes(self) -> int:
        """Pictures that passed through the network in the stages, all trials together."""
        return sum(each.passes for each in self.steps)

    def predict(self, pictures: Any, **options: Any) -> Prediction | list[Prediction]:
        """What is on a picture, or on each of several: :meth:`course_lib.recipe.Predictor.predict`.

        Raises:
            TrainingError: nothing was trained (``plan_only``).
        """
        if self.predictor is None:
            raise TrainingError("Nothing was trained: this run only planned. Leave out plan_only.")
        return self.predictor.predict(pictures, **options)

    def save(self, path: str | Path) -> Path:
        """Save the network, to be opened again with :func:`course_lib.recipe.load`.

        Raises:
            NotSavedError: the file can't be written, or nothing was trained.
        """
        if self.predictor is None:
            raise NotSavedError("Nothing was trained: this run only planned.", self)
        metrics = {name: value for name, value in self.result().items() if name != "measured on"}
        what = f"{few(self.classes)}: the recipe, kept after {self.kept!r}"
        try:
            self.path = save(self.predictor, path, what=what, metrics=metrics)
        except OSError as error:
            raise NotSavedError(
                f"The network is trained, but {path} can't be written: {error.strerror or error}. "
                "It isn't lost: the error has the run. Save it elsewhere: error.run.save(path), "
                "or sys.last_value.run.save(path) in a notebook.",
                self,
            ) from error
        return self.path

    def result(self) -> dict[str, Any]:
        """The measured result, as it is written into the file."""
        measured = self.test or self.val
        assert measured is not None
        share = wilson(measured.correct, measured.n)
        return {
            "measured on": "test pictures" if self.test else UNSEEN,
            "pictures": measured.n, "accuracy": share.value, "low": share.low, "high": share.high,
            "balanced accuracy": _balanced(measured).value, "log-loss": measured.loss,
        }  # fmt: skip

    def report(self, timings: bool = True, plan: bool = True) -> str:
        """Plan, steps and result as text.

        Args:
            timings: with the seconds of each step, which differ from run to run.
            plan: with the plan.
        """
        lines = ["What was done"]
        for each in self.steps:
            took = f"; {each.seconds:.0f} s" if timings else ""
            lines.append(
                f"  {each.name}: balanced accuracy {each.accuracy}, log-loss {each.loss:.3f} "
                f"({each.setting}{took}){_verdict(each)}"
            )
        if len(self.steps) > 1 and self.kept == "head":
            lines.append(
                "  Nothing beat the head on frozen features by more than chance; with few pictures "
                "that is how it usually ends."
            )
        lines += [f"  {each}" for each in self.remarks]
        if self.val is not None:
            lines += ["Result", *(f"  {each}" for each in self._result())]
        if self.path is not None:
            lines.append(f"  saved: {self.path}")
        if timings:
            lines.append(
                f"  {self.seconds:.0f} s in all. With {counted(self.threads, 'thread')} and the "
                "same plan, the same bits come out again."
            )
        done = "\n".join(map(wrapped, lines))
        return f"The plan\n{self.plan}\n{done}" if plan else done

    def _result(self) -> list[str]:
        measured = self.test or self.val
        assert measured is not None
        counts = measured.confusion.sum(dim=1)
        most = int(counts.argmax())
        where = "test pictures" if self.test else UNSEEN
        found = [
            f"accuracy {wilson(measured.correct, measured.n)} (95 % interval): {measured.correct} "
            f"of {measured.n} {where}",
            f"always answering {self.classes[most]} would get {int(counts[most]) / measured.n:.2f}",
            f"balanced accuracy {_balanced(measured)}, log-loss {measured.loss:.3f}",
            *self._classes(measured),
        ]
        if self.test is None:
            found.append(
                "The choices were made by these pictures, so expect a little less elsewhere."
            )
        return [*found, *([f"calibration: {self.calibration}"] if self.calibration else [])]

    def _classes(self, measured: Evaluation) -> list[str]:
        """A line a class: its recall with an interval, and what it was taken for."""
        width = max(len(each) for each in self.classes)
        found = []
        for place, row in enumerate(measured.confusion.tolist()):
            wrong = ", ".join(
                f"{count} as {other}"
                for other, count in zip(self.classes, row, strict=True)
                if count and other != self.classes[place]
            )
            total = sum(row)
            recall = (
                f"recall {wilson(row[place], total)}, {row[place]} of {total}"
                if total
                else ("no picture to measure by")
            )
            taken = f"; taken for another: {wrong}" if wrong else ""
            found.append(f"  {self.classes[place]:<{width}}  {recall}{taken}")
        return found

    def __repr__(self) -> str:
        if self.predictor is None:
            return f"RecipeRun of {few(self.classes)}: a plan, nothing trained."
        measured = self.result()
        return (
            f"RecipeRun of {few(self.classes)}: accuracy {measured['accuracy']:.2f} "
            f"[{measured['low']:.2f}, {measured['high']:.2f}] on {measured['pictures']} "
            f"{measured['measured on']}. All of it: print(run.report())"
        )


UNSEEN = "pictures to learn from, each predicted by a network that hadn't seen it"


def evaluation(logits: Tensor, targets: Tensor, temperature: float) -> Evaluation:
    """Numbers about scores (N, C): the loss is that of the calibrated probabilities."""
    loss = float(F.cross_entropy(logits.double() / temperature, targets))
    confusion = confusion_matrix(logits.argmax(dim=1), targets, logits.shape[1])
    return Evaluation(loss, int(confusion.trace()) / len(targets), len(targets), confusion)


def calibrated(logits: Tensor, targets: Tensor, temperature: float, on: str) -> Calibration:
    """The calibration error of scores (N, C), before and after."""
    bins = bins_for(len(targets))
    before, after = (
        calibration_error((logits.double() / each).softmax(dim=1), targets, bins)
        for each in (1.0, temperature)
    )
    return Calibration(temperature, before, after, on)


def _balanced(measured: Evaluation) -> Share:
    table = measured.confusion
    return balanced(table.diagonal().tolist(), table.sum(dim=1).tolist())


def _verdict(step: Step) -> str:
    if step.gain is None:
        return ""
    gain = f"lower log-loss by {step.gain.value:.3f} [{step.gain.low:.3f}, {step.gain.high:.3f}]"
    return f": {'kept' if step.kept else 'dropped'}, {gain}"
