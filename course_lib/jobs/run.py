"""Train: one path for a laptop and for many GPUs; stopped or killed, it goes on where it was.

Nothing of a run lives in memory alone for longer than a checkpoint takes. Every step's pictures and
random numbers follow from the seed and the step's number, so the steps after a resume are those of
a run that was never hurt, bit for bit.
"""

import contextlib
import json
import math
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from course_lib import backbones, profile
from course_lib.errors import CourseError
from course_lib.jobs import checkpoints, sharding
from course_lib.jobs.config import JobConfig, as_plain
from course_lib.jobs.data import Splits, find, training_batches, transforms
from course_lib.jobs.logs import Logs
from course_lib.jobs.measuring import Measured, measure
from course_lib.jobs.plan import (
    Stage,
    build,
    check_sizes,
    checkpoint_bytes,
    enter,
    layout_of,
    parts_of,
    precision_of,
    rate_factor,
    stages_of,
)
from course_lib.jobs.ranks import Ranks, ranks
from course_lib.jobs.report import write_report
from course_lib.paths import write_file
from course_lib.recipe.calibration import temperature
from course_lib.recipe.prediction import Predictor
from course_lib.recipe.saved import save
from course_lib.training.memory import is_shortage
from course_lib.training.precision import Precision
from course_lib.weights import CheckpointError, save_weights
from course_lib.weights.loading.load import load_weights

STOPPED = 75
"""Exit status of a job that was asked to stop, has saved, and goes on by the same command."""

NETWORK, REPORT, RESULT = "model.safetensors", "report.html", "result.json"

Say = Callable[[str], object]


@dataclass(frozen=True)
class JobResult:
    """What came of a job.

    Attributes:
        finished: it came to its end; otherwise it was stopped, and is saved.
        step: training steps that are done.
        folder: where everything is.
        result: what was measured at the end, by name.
    """

    finished: bool
    step: int
    folder: Path
    result: dict[str, Any] = field(default_factory=dict)


@dataclass
class Position:
    """How far a job has come: it is what a checkpoint holds beside weights and moments.

    Attributes:
        stage: the one under way, counted from 0.
        epoch: finished epochs of it.
        step: finished steps of its epoch.
        total: finished steps of all.
        epochs: finished epochs of all.
        sums: loss, right answers and pictures of the epoch under way.
        best: epoch (of all) with the lowest validation loss; 0 before there is one.
        history: a row an epoch.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    total: int = 0
    epochs: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    best: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def checked_position(value: Any, path: Path) -> Position:
    """The position in a checkpoint.

    Raises:
        CheckpointError: it is none.
    """
    empty, names = vars(Position()), []
    if isinstance(value, Mapping) and value.keys() == empty.keys():
        names = [name for name, each in value.items() if type(each) is not type(empty[name])
                 or (isinstance(each, int) and not 0 <= each < 1 << 40)]  # fmt: skip
        sums, history = value["sums"], value["history"]
        whole = not names and len(sums) == 3 and all(type(each) is float for each in sums)
        if whole and all(isinstance(row, Mapping) and type(row.get("val_loss")) is float
                         and row.keys() == history[0].keys() for row in history):  # fmt: skip
            return Position(**value)
    raise CheckpointError(
        f"{path} holds no position of a job{f' ({names[0]})' if names else ''}. Remove it: the one "
        "before it is taken then."
    )


def train(config: JobConfig, say: Say = print) -> JobResult:
    """Do a job, from its start or from where it stopped.

    In ``config.out`` there are then ``checkpoints/``, ``epochs.csv``, ``steps.csv``, TensorBoard's
    files, and at the end ``model.safetensors`` (for ``course predict``), ``report.html`` and
    ``result.json``. Ctrl-C and SIGTERM let the step under way end, save, and return. Started by
    ``torchrun``, every process calls this.

    Args:
        config: what is to be done.
        say: gets each line of progress (on rank 0).

    Raises:
        ConfigError, DataError, CheckpointError, CourseError: something is in the way. What was
            saved before stays as it is.
    """
    with ranks(config.device) as place, _threads(config.threads):
        job = Job(config, place, say if place.first else lambda _: None)
        return job.go()


class Job:
    """A job under way, in one of its processes."""

    def __init__(self, config: JobConfig, place: Ranks, say: Say) -> None:
        self.config, self.place, self.say = config, place, say
        self.folder = Path(config.out)
        self.at = Position()
        if place.first:
            checkpoints.check_folder(self.folder)
        self.splits: Splits = place.tell(find(config) if place.first else None)
        check_sizes(config, self.splits, place)
        self.augment, self.prepare = transforms(config)
        model = build(config, self.splits.classes)
        self.stages: list[Stage] = place.tell(stages_of(config, self.splits, model)
                                              if place.first else None)  # fmt: skip
        if config.sync_batchnorm and place.world > 1:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.shared = config.shard and place.world > 1
        if self.shared:  # files are written from the whole network, and read into it
            self.whole, self.model = model, sharding.shared_out(model, parts_of(model), place)
        else:
            self.model = model.to(place.device).to(memory_format=layout_of(config, place.device))
            self.whole = self.model
        self.precision: Precision = precision_of(config, place.device)
        self.weights = self._class_weights()
        self.optimizer: Optimizer = enter(self.model, self.stages[0], config)
        self.wrapped = self.model
        if place.first:
            checkpoints.check_room(self.folder, checkpoint_bytes(model, config) * (config.keep + 1))
        self.logs = Logs(self.folder, config.tensorboard) if place.first else None
        self.saved_step = -1

    def go(self) -> JobResult:
        """Resume or start, train, and finish."""
        try:
            return self._go()
        except CourseError:
            raise
        except Exception as error:
            if is_shortage(error):
                self._out_of_memory(error, save=False)  # in the middle of a change, perhaps
            if not isinstance(error, OSError):
                raise
            raise checkpoints.NotWrittenError(
                f"The job can't go on: {error.strerror or error} ({error.filename}). "
                f"{self._kept()} The same command goes on from there."
            ) from error

    def _go(self) -> JobResult:
        self._resume()
        done = self.folder / RESULT
        if self.at.stage >= len(self.stages) and done.exists():
            self.say(f"This job is finished: {self.folder / REPORT}. For another one, name another "
                     "folder: out = ...")  # fmt: skip
            try:
                result = json.loads(done.read_bytes())
            except (ValueError, RecursionError) as error:
                raise CourseError(f"{done} is damaged: {error}. Delete it, and give the same "
                                  "command again.") from error  # fmt: skip
            return JobResult(True, self.at.total, self.folder, result)
        with _listening() as asked:
            while self.at.stage < len(self.stages):
                if not self._stage(asked):
                    self._save()
                    self.say(
                        f"Stopped and saved at step {self.at.total}. The same command goes on."
                    )
                    return JobResult(False, self.at.total, self.folder)
        return self._finish()

    def _stage(self, asked: Callable[[], bool]) -> bool:
        """Train the stage under way to its end; False if somebody wants it to stop."""
        stage = self.stages[self.at.stage]
        self.wrapped = self.model if self.shared else self.place.together(self.model)
        if not (self.at.epoch or self.at.step):
            trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
            self.say(f"Stage {self.at.stage + 1} of {len(self.stages)}, {stage.name}: "
                     f"{trained:,} numbers train.")  # fmt: skip
        while self.at.epoch < stage.config.epochs:
            if not self._epoch(stage, asked):
                return False
            self._end_epoch(stage)
            if self._early(stage):
                self.say(f"No epoch of {stage.name} was better for {self.config.patience} epochs.")
                break
            if self.at.epoch < stage.config.epochs:
                self._save()
        self.at.stage, self.at.epoch = self.at.stage + 1, 0
        if self.at.stage < len(self.stages):
            self.optimizer = enter(self.model, self.stages[self.at.stage], self.config)
        self._save()
        return True

    def _epoch(self, stage: Stage, asked: Callable[[], bool]) -> bool:
        """The steps of an epoch from where it is; False if somebody wants it to stop."""
        batches = training_batches(
            self.splits, self.augment, self.config, self.place, self.at.epochs, self.at.step
        )
        self.model.train()
        began, seen = time.perf_counter(), 0
        with contextlib.closing(batches):
            for images, targets, _ in batches:
                loss, stop = self._step(stage, images, targets, asked())
                seen += self.config.batch_size
                if self.at.total % self.config.log_every == 0:
                    if not math.isfinite(loss):
                        self._refuse(loss)
                    if self.logs:
                        rate = seen / (time.perf_counter() - began)
                        self.logs.step(self.at.total, loss, self._rates(), rate)
                if stop:
                    return False
                every = self.config.checkpoint_every
                if every and self.at.total % every == 0 and self.at.step < stage.steps:
                    self._save()
        return True

    def _step(
        self, stage: Stage, images: Tensor, targets: Tensor, asked: bool
    ) -> tuple[float, bool]:
        """One training step: its loss, and whether a process was asked to stop."""
        place, config = self.place, self.config
        # Random numbers of this step alone: dropout goes on right after a resume, on every rank.
        torch.manual_seed((config.seed * 1_000_003 + self.at.total) * 1009 + place.rank)
        factor = rate_factor(
            config, self.at.epoch * stage.steps + self.at.step, stage.config.epochs * stage.steps
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["full_lr"] * factor
        try:
            images = images.to(place.device, non_blocking=True, memory_format=layout_of(
                config, place.device))  # fmt: skip
            targets = targets.to(place.device, non_blocking=True)
            for parameter in self.model.parameters():
                parameter.grad = None
            # The batch's mean loss, over all processes: each sees the others' sum of weights.
            whole = torch.stack(
                (self.weights[targets].sum(), self.weights.new_tensor(float(asked)))
            )
            share, stop = place.sum(whole)
            with self.precision.autocast():
                logits = self.wrapped(images)
            value = self._loss(logits, targets) / share
            self.precision.scaler.scale(value * place.world).backward()
        except Exception as error:
            if not is_shortage(error):
                raise
            self._out_of_memory(error, save=True)
        if config.clip:
            self.precision.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(
                [p for group in self.optimizer.param_groups for p in group["params"]], config.clip
            )
        self.precision.scaler.step(self.optimizer)
        self.precision.scaler.update()
        right = (logits.argmax(1) == targets).sum()
        numbers = place.sum(torch.stack((value.detach(), right.float(),
                                         right.new_tensor(len(targets)).float())))  # fmt: skip
        loss, right_ones, pictures = numbers.tolist()
        self.at.sums = [self.at.sums[0] + loss * pictures, self.at.sums[1] + right_ones,
                        self.at.sums[2] + pictures]  # fmt: skip
        self.at.step, self.at.total = self.at.step + 1, self.at.total + 1
        return loss, bool(stop)

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The sum of this process's losses, each times the weight of its class."""
        return F.cross_entropy(
            logits.float(), targets, self.weights, reduction="sum",
            label_smoothing=self.config.label_smoothing,
        )  # fmt: skip

    def _end_epoch(self, stage: Stage) -> None:
        """Measure, enter the epoch into the history, keep its weights if they are the best."""
        loss, right, pictures = self.at.sums
        if not math.isfinite(loss):
            self._refuse(loss)
        val = measure(self.model, self.splits.val, self.prepare, self.config, self.place)
        row = {
            "epoch": self.at.epochs + 1, "stage": stage.name, "step": self.at.total,
            "train_loss": loss / pictures, "train_accuracy": right / pictures,
            "val_loss": val.loss, "val_accuracy": val.accuracy,
            "val_balanced_accuracy": val.balanced_accuracy,
        }  # fmt: skip
        self.at.epoch, self.at.step, self.at.epochs = self.at.epoch + 1, 0, self.at.epochs + 1
        self.at.sums = [0.0, 0.0, 0.0]
        before = min((each["val_loss"] for each in self.at.history), default=math.inf)
        self.at.history.append(row)
        if val.loss < before:
            self.at.best = self.at.epochs
            self._collect()
            if self.place.first:
                checkpoints.written(save_weights, self.whole, self._best())
        self.say(
            f"epoch {row['epoch']} ({stage.name}): loss {row['train_loss']:.3f}, validation loss "
            f"{val.loss:.3f}, accuracy {val.accuracy:.3f}"
        )
        if self.logs:
            self.logs.epochs(self.at.history)

    def _early(self, stage: Stage) -> bool:
        """Whether the stage's last epochs were no better than its best."""
        mine = [each["val_loss"] for each in self.at.history[-self.at.epoch :]]
        since = len(mine) - 1 - mine.index(min(mine))
        return bool(self.config.patience) and since >= self.config.patience

    def _finish(self) -> JobResult:
        """The best weights, measured once more; network, report and result are written."""
        load_weights(self.whole, self._best())
        if self.shared:
            sharding.spread(self.whole, self.model)
        val = measure(self.model, self.splits.val, self.prepare, self.config, self.place, worst=16)
        test = None
        if self.splits.test:
            test = measure(
                self.model, self.splits.test, self.prepare, self.config, self.place, worst=16
            )
        if not self.place.first:
            return JobResult(True, self.at.total, self.folder)
        cooled = temperature(val.logits, val.targets, prior=4.0)
        result = _result(test or val, "test" if test else "validation", cooled, self.at)
        predictor = Predictor(
            self.whole.cpu(), self.splits.classes,
            backbones.preprocessing(self.config.model, self.config.size or None), cooled,
            about={"backbone": self.config.model, "result": result,
                   "plan": "; ".join(each.name for each in self.stages)},
        )  # fmt: skip
        network = self.folder / NETWORK
        checkpoints.written(save, predictor, network, what="a job of the course")
        page = write_report(self.config, self.splits, self.stages, self.at.history, val, test,
                            cooled, self.at.best)  # fmt: skip
        checkpoints.written(write_file, self.folder / REPORT, page)
        checkpoints.written(write_file, self.folder / RESULT, json.dumps(result, indent=1))
        if self.logs:
            self.logs.close()
        self.say(f"{result['measured on']} accuracy {result['accuracy']:.3f} of "
                 f"{result['pictures']:,} pictures. {network}, {self.folder / REPORT}")  # fmt: skip
        return JobResult(True, self.at.total, self.folder, result)

    def _resume(self) -> None:
        """Go on from the newest whole checkpoint, if there is one."""
        found = self.place.tell(checkpoints.newest(self.folder) if self.place.first else None)
        if found is None:
            if self.logs:
                self.logs.rewind(0)  # what a run left that was killed before its first checkpoint
            return
        extra = checkpoints.about(found)
        other = self.config.differences(extra["config"])
        if other:
            raise CourseError(
                f"{self.folder} holds a run with another config: {', '.join(other)} differ. Name "
                "another folder (out = ...), or take the config of that run."
            )
        here = [self.place.world, self.config.workers]
        if self.splits.train.sharded and extra["processes"] != here:
            raise CourseError(
                f"{self.folder} was begun with {extra['processes'][0]} processes of "
                f"{extra['processes'][1]} workers; with shards their order depends on that. Go on "
                "with as many."
            )
        self.at = checked_position(extra["position"], found)
        self.optimizer = self._entered(self.model)
        whole_s = self._entered(self.whole) if self.shared else self.optimizer
        checkpoints.load(found, self.whole, whole_s, self.precision.scaler)
        if self.shared:
            sharding.spread(self.whole, self.model)
            sharding.spread_optimizer(whole_s, self.optimizer)
        if self.logs:
            self.logs.rewind(self.at.total)
        self.say(f"Going on from {found} (step {self.at.total}).")

    def _save(self) -> None:
        """A checkpoint of now, on rank 0; the others wait."""
        if self.saved_step == (now := (self.at.total, self.at.stage)):
            return
        if not all(map(math.isfinite, self.at.sums)):
            self._refuse(self.at.sums[0])
        optimizer = self._collect()
        if self.place.first:
            extra = {
                "config": as_plain(self.config), "position": vars(self.at),
                "processes": [self.place.world, self.config.workers],
            }  # fmt: skip
            checkpoints.save(
                self.folder, self.whole, optimizer, self.precision.scaler, extra,
                step=self.at.total, epoch=self.at.epochs, keep=self.config.keep,
            )  # fmt: skip
        self.place.tell(None)
        self.saved_step = now  # type: ignore[assignment]

    def _entered(self, model: nn.Module) -> Optimizer:
        """An optimizer for the stage under way; what that freezes is frozen."""
        return enter(model, self.stages[min(self.at.stage, len(self.stages) - 1)], self.config)

    def _collect(self) -> Optimizer:
        """Bring the whole network up to date, on every process; its optimizer."""
        if not self.shared:
            return self.optimizer
        whole_s = self._entered(self.whole)
        sharding.collect(self.model, self.optimizer, self.whole, whole_s)
        return whole_s

    def _best(self) -> Path:
        return checkpoints.best_path(self.folder, self.at.best)

    def _rates(self) -> dict[str, float]:
        return {group["name"]: group["lr"] for group in self.optimizer.param_groups}

    def _class_weights(self) -> Tensor:
        counts = torch.tensor(self.splits.train.counts, dtype=torch.float32)
        balanced = counts.sum() / (counts.clamp(min=1) * (counts > 0).sum())
        chosen = balanced if self.config.class_weight == "balanced" else torch.ones_like(counts)
        return chosen.to(self.place.device)

    def _refuse(self, loss: float) -> None:
        raise CourseError(
            f"The loss became {loss} by step {self.at.total} ({self.stages[self.at.stage].name}). "
            f"{self._kept()} Take rates ten times smaller (lr in [[stages]]), clip = 1.0, or "
            'amp = "off", in another folder (out = ...).'
        )

    def _out_of_memory(self, error: Exception, save: bool) -> NoReturn:
        for parameter in self.model.parameters():
            parameter.grad = None
        traceback.clear_frames(error.__traceback__)  # what the step computed
        if save:
            self._save_alone()
        half = max(self.place.world, self.config.batch_size // 2)
        raise CourseError(
            f"The memory is full at step {self.at.total} with batch_size = "
            f"{self.config.batch_size} at {self.place.device}. {self._kept()} Take batch_size = "
            f'{half} and another folder (out = ...), a smaller size, or amp = "float16"; more '
            "frozen layers need less memory, too."
        ) from error

    def _save_alone(self) -> None:
        """Weights and moments are as after the last step; with one process, they can be saved."""
        if self.place.world == 1:
            self._save()

    def _kept(self) -> str:
        found = checkpoints.newest(self.folder) if self.place.first else None
        return f"What was trained is in {found}." if found else "Nothing was saved before."


def _result(measured: Measured, on: str, cooled: float, at: Position) -> dict[str, Any]:
    low, high = measured.interval
    return {
        "measured on": on, "pictures": len(measured.targets), "accuracy": measured.accuracy,
        "low": low, "high": high, "balanced accuracy": measured.balanced_accuracy,
        "log-loss": measured.loss, "temperature": cooled, "best epoch": at.best,
        "steps": at.total,
    }  # fmt: skip


@contextlib.contextmanager
def _listening() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM only note a wish inside; a second Ctrl-C is as usual."""
    asked: list[int] = []

    def note(number: int, _: Any) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {each: signal.signal(each, note) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or profile.cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)
