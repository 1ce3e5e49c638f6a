"""A plan being followed: stage by stage; what beats the best so far by more than chance goes on."""

import copy
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from course_lib import backbones
from course_lib.features import Features
from course_lib.recipe.answers import Answers, weights_for
from course_lib.recipe.heads import folds, head_into, linear_heads
from course_lib.recipe.pictures import Learned, length
from course_lib.recipe.plan import UNTRAINED, Stage
from course_lib.recipe.report import RecipeRun, Step
from course_lib.recipe.sizes import Looked
from course_lib.recipe.stages import between, run_stage
from course_lib.training.errors import NonFiniteLossError, OutOfMemoryError
from course_lib.training.memory import told_when_full

SMALLER = (
    "What was best by then is kept. Give smaller pictures (size=...) or batches (batch_size=...)."
)

Split = tuple[Tensor, Tensor]  # rows to train on, rows to measure on


@dataclass(frozen=True)
class Setting:
    """How networks came about that may be kept.

    Attributes:
        stage: what trained.
        rate: learning rate of the head.
        share: how far from the first weights to the last.
        penalty: of the head that was fitted anew.
    """

    stage: Stage
    rate: float
    share: float
    penalty: float

    def __str__(self) -> str:
        way = "" if self.share == 1 else f", {self.share:g} of the way"
        return f"rate {self.rate:g}{way}, penalty {self.penalty:g}"


@dataclass(frozen=True)
class Winner:
    """Networks that may be kept, one for each split, and what they say about unseen pictures."""

    setting: Setting
    answers: Answers
    networks: list[nn.Module]


def _loss(answers: Answers) -> float:
    return answers.loss


@dataclass
class Following:
    """A plan being followed; the steps and the network go into the run.

    Attributes:
        run: with the network as it came, and the plan.
        looked: the pictures and their features.
        head: dotted name of the network's head.
        device: where to compute.
        seed: of the order of the pictures.
        kept: the settings that won, in order.
    """

    run: RecipeRun
    looked: Looked
    head: str
    device: torch.device
    seed: int
    kept: list[Setting] = field(default_factory=list)

    def go(self) -> None:
        """Follow the plan, as far as you let it; then fit the head on all pictures."""
        self.came_with, self.whole = self.run.model, torch.arange(len(self.looked.rows))
        trial = self.looked.trial
        self.penalty, self.run.unseen = trial.penalty, self.looked.answers
        self.run.steps.append(
            Step("head", f"penalty {trial.penalty:g}", trial.accuracy, trial.loss, True, None,
                 trial.seconds, 0)
        )  # fmt: skip
        self.networks: list[nn.Module] = []
        try:
            if self.run.plan.stages and not self.run.interrupted:
                with told_when_full("while a stage was tried", SMALLER):
                    self.compete()
        except (KeyboardInterrupt, OutOfMemoryError) as error:
            if isinstance(error, OutOfMemoryError):
                self.run.remarks.append(f"The stages ended early. {error}")
            else:
                self.run.interrupted = True
            if self.run.plan.folds > 1:  # no network has been trained on all pictures yet
                self.kept, self.penalty = [], trial.penalty
                self.run.unseen = self.looked.answers
        body, rows = self.came_with, self.looked.rows
        if self.kept:
            body, rows = self.networks[0], self.learned.features(self.networks[0])
        self.run.layer = self.fitted(rows, self.whole, self.penalty)
        self.run.model = head_into(copy.deepcopy(body), self.run.layer, self.head).eval()

    def compete(self) -> None:
        """Let each stage try to beat what was best before it."""
        rows, plan = self.looked.rows, self.run.plan
        self.learned = Learned(self.looked.pictures)
        train = length(self.looked.pictures.train)
        self.splits: list[Split] = [(self.whole[:train], self.whole[train:])]
        if plan.folds > 1:
            self.splits = list(folds(rows, plan.folds, self.looked.pictures.groups))
        first = self.looked.trial.penalty
        tables = [rows] * len(self.splits)
        self.networks = self.headed([self.came_with] * len(self.splits), tables, first)
        self.best = min((self.asked(tables, each) for each in plan.penalties), key=_loss)
        for stage in plan.stages:
            self.try_stage(stage)
        if self.kept and plan.folds > 1:  # once more, with all pictures
            self.splits = [(self.whole, self.whole)]
            self.networks = self.headed([self.came_with], [rows], first)
            for each in self.kept:
                trials = self.trained(each.stage, each.rate)
                mixed = self.mixed(each.stage, trials, each.share)
                self.networks = self.headed(mixed, [self.learned.features(mixed[0])], each.penalty)

    def try_stage(self, stage: Stage) -> None:
        """Try each rate from the stage's first weights; keep the best, if it wins."""
        began, winner, passes = time.perf_counter(), None, 0.0
        plan = self.run.plan
        for rate in stage.rates:
            try:
                trials = self.trained(stage, rate)
            except NonFiniteLossError as error:
                self.run.remarks.append(
                    f"{stage.name}: rate {rate:g} was too high (epoch {error.epoch})."
                )
                continue
            passes += sum(stage.epochs * len(fit_on) for fit_on, _ in self.splits)
            for share in plan.shares:
                mixed = self.mixed(stage, trials, share)
                tables = [self.learned.features(each) for each in mixed]
                passes += len(self.whole) * len(tables) / UNTRAINED
                for penalty in plan.penalties:
                    answers = self.asked(tables, penalty)
                    if winner is None or answers.loss < winner.answers.loss:
                        setting = Setting(stage, rate, share, penalty)
                        winner = Winner(setting, answers, self.headed(mixed, tables, penalty))
        if winner is None:
            return
        gain = winner.answers.gain(self.best)
        kept = bool(gain.low > 0)
        if kept:
            self.kept.append(winner.setting)
            self.networks, self.penalty = winner.networks, winner.setting.penalty
            self.best = self.run.unseen = winner.answers
        seconds = time.perf_counter() - began
        found = winner.answers
        self.run.steps.append(
            Step(stage.name, str(winner.setting), found.balanced_accuracy, found.loss, kept, gain,
                 seconds, round(passes))
        )  # fmt: skip

    def starts(self, stage: Stage) -> list[nn.Module]:
        """Where a stage starts, for each split: the best so far, or a new head."""
        if not stage.new_head:
            return self.networks
        made = copy.deepcopy(self.came_with)
        backbones.replace_head(made, len(self.run.classes), seed=self.seed, head=self.head)
        return [made] * len(self.splits)

    def trained(self, stage: Stage, rate: float) -> list[nn.Module]:
        """A trial of training for each split.

        Raises:
            NonFiniteLossError: the rate was too high.
        """
        plan, made = self.run.plan, []
        for start, (fit_on, _) in zip(self.starts(stage), self.splits, strict=True):
            targets = self.looked.rows.targets[fit_on]
            weights = torch.zeros(len(self.run.classes), dtype=torch.float64)
            weights[targets] = weights_for(targets, plan.class_weight)
            trial, _ = run_stage(
                start, stage, rate, plan, self.head,
                self.learned.batches(fit_on, plan.batch_size), weights,
                seed=self.seed, device=self.device, progress=self.looked.pictures.progress,
            )  # fmt: skip
            made.append(trial)
        return made

    def mixed(self, stage: Stage, trials: list[nn.Module], share: float) -> list[nn.Module]:
        """The networks so far between a stage's first weights and its last."""
        if share == 1:
            return trials
        pairs = zip(self.starts(stage), trials, strict=True)
        return [between(start, trial, share) for start, trial in pairs]

    def asked(self, tables: list[Features], penalty: float) -> Answers:
        """What heads say about the pictures that they weren't fitted on."""
        logits, targets = [], []
        for table, (fit_on, left_out) in zip(tables, self.splits, strict=True):
            layer = self.fitted(table, fit_on, penalty)
            logits.append(layer(table.values[left_out]).detach())
            targets.append(table.targets[left_out])
        truth = torch.cat(targets)
        return Answers(torch.cat(logits), truth, weights_for(truth, self.run.plan.class_weight))

    def headed(
        self, bodies: list[nn.Module], tables: list[Features], penalty: float
    ) -> list[nn.Module]:
        """Copies of bodies with heads fitted on the pictures that the split trains on."""
        return [
            head_into(copy.deepcopy(body), self.fitted(table, fit_on, penalty), self.head).eval()
            for body, table, (fit_on, _) in zip(bodies, tables, self.splits, strict=True)
        ]

    def fitted(self, rows: Features, fit_on: Tensor, penalty: float) -> nn.Linear:
        """A linear head for some of the features."""
        some, plan = rows.subset(fit_on), self.run.plan
        return linear_heads(some, len(self.run.classes), [penalty], plan.class_weight)[0][1]
