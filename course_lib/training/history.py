"""What happened, epoch by epoch."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class EpochRecord:
    """One epoch.

    Attributes:
        epoch: its number, from 1.
        train_loss: mean over the epoch's examples, measured while the weights moved. Of a loss
            that is neither mean nor sum, such as one with class weights, the mean of its values on
            16 batches at a time.
        train_acc: likewise; so it may lie *below* the validation accuracy.
        lr: the learning rate of each parameter group during the epoch.
        seconds: for the training alone, waiting for the pictures included.
        images_per_second: training examples over ``seconds``.
        val_loss: mean over the validation examples after the epoch; None without validation data.
        val_acc: likewise.
        test_loss: mean over the test examples after the epoch; None without test data.
        test_acc: likewise.
    """

    epoch: int
    train_loss: float
    train_acc: float
    lr: tuple[float, ...]
    seconds: float
    images_per_second: float
    val_loss: float | None = None
    val_acc: float | None = None
    test_loss: float | None = None
    test_acc: float | None = None


_MEASURES = ("train_loss", "train_acc", "val_loss", "val_acc", "test_loss", "test_acc")


@dataclass(repr=False)
class History:
    """The epochs of a run, in order. ``history[-1]`` is the last one; ``print`` shows a table.

    Attributes:
        epochs: one record for each epoch that was finished.
        kept_epoch: the epoch whose weights the model holds after the run; 0 for those it came
            with.
        stopped: why the run ended early; empty if it didn't.
        interrupted: it ended early because you stopped it.
    """

    epochs: list[EpochRecord] = field(default_factory=list)
    kept_epoch: int = 0
    stopped: str = ""
    interrupted: bool = False

    def __len__(self) -> int:
        return len(self.epochs)

    def __iter__(self) -> Iterator[EpochRecord]:
        return iter(self.epochs)

    def __getitem__(self, index: int) -> EpochRecord:
        return self.epochs[index]

    @property
    def train_loss(self) -> list[float]:
        """The training loss of each epoch."""
        return [each.train_loss for each in self.epochs]

    @property
    def train_acc(self) -> list[float]:
        """The training accuracy of each epoch."""
        return [each.train_acc for each in self.epochs]

    @property
    def val_loss(self) -> list[float]:
        """The validation loss of each epoch; empty without validation data."""
        return [each.val_loss for each in self.epochs if each.val_loss is not None]

    @property
    def val_acc(self) -> list[float]:
        """The validation accuracy of each epoch; empty without validation data."""
        return [each.val_acc for each in self.epochs if each.val_acc is not None]

    @property
    def test_loss(self) -> list[float]:
        """The test loss of each epoch; empty without test data."""
        return [each.test_loss for each in self.epochs if each.test_loss is not None]

    @property
    def test_acc(self) -> list[float]:
        """The test accuracy of each epoch; empty without test data."""
        return [each.test_acc for each in self.epochs if each.test_acc is not None]

    @property
    def images_per_second(self) -> float:
        """Training examples a second over the whole run; nan before the first epoch."""
        seconds = sum(each.seconds for each in self.epochs)
        images = sum(each.images_per_second * each.seconds for each in self.epochs)
        return images / seconds if seconds else math.nan

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the highest validation accuracy; of equal ones that with the lower loss.

        If these are equal too, the first. None without validation data: the test set is for the
        last measurement, and choosing by it would make that measurement too good to be true.
        """
        judged = [each for each in self.epochs if each.val_acc is not None]
        if not judged:
            return None
        return min(judged, key=lambda each: (-(each.val_acc or 0.0), each.val_loss)).epoch

    def table(self, digits: int = 2, timings: bool = False) -> str:
        """The run as text, a line an epoch; columns without a number are left out.

        Args:
            digits: decimals of losses and accuracies. Two stay the same where the last digits
                of a sum depend on the processor.
            timings: with seconds and images a second, which differ at every run.
        """
        columns = ["epoch"] + [
            name
            for name in _MEASURES
            if any(getattr(each, name) is not None for each in self.epochs)
        ]
        rows = [[name.replace("_", " ") for name in columns] + ["learning rate"]]
        rows += [
            [str(each.epoch)]
            + [f"{getattr(each, name):.{digits}f}" for name in columns[1:]]
            + [" / ".join(f"{lr:.3g}" for lr in each.lr)]
            for each in self.epochs
        ]
        if timings:
            rows[0] += ["seconds", "images/s"]
            for row, each in zip(rows[1:], self.epochs, strict=True):
                row += [f"{each.seconds:.1f}", f"{each.images_per_second:.0f}"]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in rows
        ]
        return "\n".join(lines + self._remarks())

    def _remarks(self) -> list[str]:
        remarks = [f"stopped early: {self.stopped}"] if self.stopped else []
        if self.kept_epoch != len(self):
            kept = f"of epoch {self.kept_epoch}" if self.kept_epoch else "it came with"
            remarks.append(f"the model holds the weights {kept}")
        return remarks

    def __repr__(self) -> str:
        return self.table()
