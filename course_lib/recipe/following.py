"""A plan being followed: the head, then stage by stage; what wins on validation goes on."""

import copy
import time
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from course_lib import backbones, features
from course_lib.features import Features
from course_lib.recipe.heads import linear_heads
from course_lib.recipe.pictures import Pictures
from course_lib.recipe.plan import Stage
from course_lib.recipe.report import RecipeRun, Step
from course_lib.recipe.stages import Candidate, between, run_stage
from course_lib.training.batches import Data
from course_lib.training.errors import NonFiniteLossError
from course_lib.training.evaluation import evaluate, predict


@dataclass
class Following:
    """A plan being followed; the steps and the best network go into the run.

    Attributes:
        run: with the network to start from, and the plan.
        pictures: as they were handed over.
        batches: the training pictures of the stages.
        val: the validation pictures.
        head: dotted name of the network's head.
        device: where to compute.
        seed: of the order of the pictures.
        progress: show bars or not; None: where somebody is watching.
        interrupted: you stopped it, so nothing more is started.
        best: rank of the run's network.
    """

    run: RecipeRun
    pictures: Pictures
    batches: Data
    val: Data
    head: str
    device: torch.device
    seed: int
    progress: bool | None
    interrupted: bool = False
    best: tuple[float, float] = (-1.0, 0.0)  # below any that is measured

    def go(self, rows: Features, val_rows: Features) -> None:
        """Follow the plan, from the features of the network's training and validation pictures."""
        self.came_with = self.run.model
        began = time.perf_counter()
        heads = self.heads(self.came_with, rows, val_rows)
        self.enter("head", max(heads, key=lambda each: each.rank), began, 0)
        for stage in self.run.plan.stages:
            if not self.interrupted:
                self.train_stage(stage)

    def heads(self, body: nn.Module, rows: Features, val_rows: Features) -> list[Candidate]:
        """A body with a head fitted on its features, for each penalty."""
        fitted = linear_heads(rows, len(self.run.classes), self.run.plan.penalties)
        return [
            Candidate(
                f"penalty {penalty:g}",
                layer(val_rows.values).detach(),
                val_rows.targets,
                partial(_with_head, body, layer, self.head),
            )
            for penalty, layer in fitted
        ]

    def train_stage(self, stage: Stage) -> None:
        """Try each rate from the stage's first weights; keep the best, if it wins."""
        began, start = time.perf_counter(), self.run.model
        if stage.new_head:
            start = copy.deepcopy(self.came_with)
            backbones.replace_head(start, len(self.run.classes), seed=self.seed, head=self.head)
        found: list[Candidate] = []
        passes = 0
        for rate in stage.rates:
            try:
                trial, history = run_stage(
                    start, stage, rate, self.run.plan, self.head, self.batches, self.val,
                    seed=self.seed, device=self.device, progress=self.progress,
                )  # fmt: skip
            except NonFiniteLossError as error:
                self.run.remarks.append(
                    f"{stage.name}: rate {rate:g} was too high (epoch {error.epoch})."
                )
                continue
            self.interrupted = history.interrupted
            refit = self.run.plan.refit and not self.interrupted  # you wanted it to end
            passes += (len(history) + refit) * self.run.facts.pictures
            outcomes = self.outcomes(start, trial, refit)
            found += [replace(each, setting=f"rate {rate:g}, {each.setting}") for each in outcomes]
            if self.interrupted:
                self.run.remarks.append("You stopped it; the best weights so far are kept.")
                break
        if found:
            self.enter(stage.name, max(found, key=lambda each: each.rank), began, passes)

    def outcomes(self, start: nn.Module, trial: nn.Module, refit: bool) -> list[Candidate]:
        """What a trial offers: averages with its start, itself, and itself with a fitted head."""
        found = []
        for share in self.run.plan.shares:
            mixed = trial if share == 1 else between(start, trial, share)
            seen = predict(mixed, self.val, device=self.device)
            words = "all of the way" if share == 1 else f"{share:g} of the way"
            build = partial(between, start, trial, share)
            found.append(Candidate(words, seen.logits, seen.targets, build))
        if refit:
            train, val = (
                features.extract(trial, part, cache=False, progress=self.progress)
                for part in (self.pictures.train, self.pictures.val)
            )
            found += [
                replace(each, setting=f"head fitted anew, {each.setting}")
                for each in self.heads(trial, train, val)
            ]
        return found

    def enter(self, name: str, winner: Candidate, began: float, passes: int) -> None:
        """Note a step, and keep its network if it is better than the best before it."""
        kept = winner.rank > self.best
        if kept:
            self.run.model, self.best = winner.build().eval(), winner.rank
            self.run.val = evaluate(self.run.model, self.val, device=self.device)
        accuracy, loss = winner.rank[0], -winner.rank[1]
        seconds = time.perf_counter() - began
        self.run.steps.append(Step(name, winner.setting, accuracy, loss, kept, seconds, passes))


def _with_head(body: nn.Module, layer: nn.Linear, name: str) -> nn.Module:
    """A copy of a network that has this head instead of its own."""
    return features.head_into(copy.deepcopy(body), layer, name).eval()
