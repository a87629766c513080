"""The outer loop: Algorithm 1 of a weight-sharing search, for any space, strategy and estimator.

An epoch: train the shared weights, if any, on sampled children -> estimate what the strategy asks for -> tell it ->
log -> checkpoint. At the end: derive, estimate the best again on all validation data, and treat random rows alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from enas.architecture import Estimates
from enas.archive import Archive
from enas.comparison import Comparison
from enas.contest import compare
from enas.estimator import Estimator
from enas.interruption import Interruption
from enas.plan import OPENED, Limits, Plan
from enas.progress import epoch_line, rewards, steps_bar, work_done
from enas.proposals import Proposals
from enas.randomness import Randomness
from enas.report import Report
from enas.space import SearchSpace
from enas.strategy import Sampler, Strategy
from enas.weights import Weights, WeightTraining


class Search:
    """One search. It may be stopped after any step and continued; every bit is then as if it had not been."""

    PURPOSES = ("children", "strategy", "images", "watch", *WeightTraining.PURPOSES)
    """What `randomness` must have generators for."""
    COUNTS = ("epoch", "trained", "updated", "rows", "told", "seconds")
    PARTS = ("strategy", "estimator", "training", "randomness", "archive", "proposals")
    """What its state consists of: its own, and what keeps a state for itself."""

    def __init__(
        self,
        space: SearchSpace,
        strategy: Strategy,
        estimator: Estimator,
        training: Weights,
        randomness: Randomness,
        plan: Plan,
        limits: Limits,
        report: Report,
        progress: bool = True,
    ):
        self.space, self.strategy, self.estimator, self.training = space, strategy, estimator, training
        self.randomness, self.plan, self.report, self._progress = randomness, plan, report, progress
        self.epoch = self.trained = self.updated = 0  # epochs done; steps of the weights, of the strategy in this one
        self.rows = torch.empty(0, len(space.decisions), dtype=torch.int64, device=randomness.device)
        self.told: list[dict[str, Tensor]] = []
        self.archive, self.proposals = Archive(), Proposals(space, limits, training.phases)
        strategy.accept = self.proposals.accept
        self.seconds = 0.0
        self.watched: Estimates | None = None

    def run(self, after_step: Callable[[], None] = lambda: None) -> Comparison:
        """Search until the epochs or the time are used up, then compare with chance.

        Ctrl-C is answered between two steps: checkpoint, best so far, KeyboardInterrupt. Raises UserError where the
        loss is no longer finite; the last checkpoint is then the one before.
        """
        bar = steps_bar(self.plan, self.training.steps, self.epoch, self.trained + self.updated, self._progress)
        with Interruption() as interruption, bar:
            while not self.plan.over(self.epoch, self.seconds):
                bar.set_description(f"epoch {self.epoch + 1}/{self.plan.epochs}")
                started, trained, updated = time.perf_counter(), self.trained, self.updated
                self.training.phases.shares()  # what the last epoch's end took is no part of this one
                for _ in self._steps():
                    bar.update()
                    after_step()
                    if interruption.requested:
                        self.seconds += time.perf_counter() - started
                        self._stop()
                steps, rows = self.trained - trained, (self.updated - updated) * self.plan.samples
                seconds, left = time.perf_counter() - started, self.plan.epochs - self.epoch - 1
                machine = work_done(self.training, steps, rows, seconds, left)
                bar.set_postfix_str(
                    epoch_line(self.report.objective, self._end_epoch(machine), self.training.unit, machine)
                )
                self.seconds += time.perf_counter() - started
                if self.epoch % self.plan.checkpoint_every == 0 or self.plan.over(self.epoch, self.seconds):
                    self.report.save(self.state_dict())
            if interruption.requested:
                self._stop()
        try:
            return self._finish()
        except KeyboardInterrupt:  # the last checkpoint is the end of the last epoch
            self._write_best()
            raise

    def _steps(self) -> Iterator[None]:
        """The steps that are left of this epoch: first the weights', then the strategy's."""
        if self.trained == 0 and self.training.steps:
            draw = self.space.random if self.plan.chance_picks(self.epoch) else self.strategy.ask
            self.rows = self.proposals.make(
                draw, self.training.steps * self.training.children, self.randomness["children"]
            )
        rate = self.training.rate(self.epoch, self.plan.epochs)
        self.training.begin(self.plan.chance_picks(self.epoch), not self.plan.waits(self.epoch))
        while self.trained < self.training.steps:
            first = self.trained * self.training.children
            self.training.step(self.rows[first : first + self.training.children], rate)
            self.trained += 1
            if self.trained % self.plan.log_every == 0 and self.trained < self.training.steps:
                self.training.check(self.epoch + 1)
                self.report.scalars(self.training.metrics(), self.step)
            yield
        self.training.check(self.epoch + 1)  # the strategy shall not learn from weights that are lost
        if not isinstance(self.strategy, Sampler) or self.plan.waits(self.epoch):
            return
        if self.training.steps and self.updated == 0 and len(rows := self.strategy.remembered()):
            self.strategy.refresh(self._estimate(rows, self.randomness["images"]))  # the weights have moved
        while self.updated < self.plan.updates:
            count = self.plan.asked(self.strategy.wanted)
            rows = self.proposals.make(self.strategy.ask, count, self.randomness["strategy"])
            estimates = self._estimate(rows, self.randomness["images"], self.strategy.budget)
            self.training.phases.enter("strategy")
            self.told.append({**rewards(estimates), **self.strategy.tell(estimates)})
            self.report.told(estimates)
            self.archive.add(estimates)
            self.updated += 1
            yield

    @property
    def step(self) -> int:
        """Where the log stands: at updates of the weights, or at estimated rows where there are none."""
        return self.training.step_count or len(self.archive)

    def _end_epoch(self, machine: dict[str, float]) -> Estimates:
        """See what the strategy would derive now, log, and turn to the next epoch."""
        self.training.check(self.epoch + 1)
        self.strategy.check(self.epoch + 1)
        # The same images after every epoch, so that the curve moves only with what is searched.
        images = self.randomness.fresh("watched images")
        self.watched = self._derived(self.plan.watched, self.randomness["watch"], images)
        opened = self.strategy.ask(OPENED, self.randomness.fresh("opened"))
        rate = {"weights/rate": self.training.rate(self.epoch, self.plan.epochs)} if self.training.steps else {}
        values = {**self.training.metrics(), **rate, **machine, "search/rejected": self.proposals.rejected}
        self.epoch += 1
        self.report.epoch(self.epoch, values, self.told, self.watched, opened, self.step)
        self.trained, self.updated, self.told = 0, 0, []
        self.proposals.restart()
        return self.watched

    def _finish(self) -> Comparison:
        """Derive candidates (all rows where estimates stay true), treat random rows alike, write what was found."""
        fresh, plan = self.randomness.fresh, self.plan
        ours = self.archive.full() or self._derived(plan.candidates, fresh("derived"), fresh("final images"))
        rows = self.proposals.make(self.space.random, plan.chances(self.archive.spent), fresh("baseline"))
        theirs = self._estimate(rows, fresh("final images"))
        comparison = compare(ours, theirs, plan.rescored, self.space, self.estimator)
        # One step after the last, which a resumed run purges.
        self.report.finish(comparison, self.training.extract(comparison.best.choices), self.seconds, self.step + 1)
        return comparison

    def _derived(self, count: int, generator: torch.Generator, images: torch.Generator) -> Estimates:
        """The best rows of all, where estimates stay true; else what the strategy derives now, estimated."""
        found = self.archive.best(count, self.space.canonical)
        return found or self._estimate(self.proposals.make(self.strategy.derive, count, generator), images)

    def _stop(self) -> None:
        """The user wants to leave: save this very step, and write the best so far."""
        self.training.check(self.epoch + 1)
        self.strategy.check(self.epoch + 1)
        self.report.save(self.state_dict())
        self._write_best()
        raise KeyboardInterrupt

    def _write_best(self) -> None:
        if self.watched is None:
            generator = self.randomness.fresh("stopped")
            self.watched = self._derived(self.plan.watched, generator, generator)
        self.report.best_so_far(self.watched, self.step)

    def _estimate(self, rows: Tensor, generator: torch.Generator | None, budget: float = 1.0) -> Estimates:
        self.training.phases.enter("scoring")
        self.estimator.step = self.training.step_count
        return self.estimator.estimate(rows, generator, budget)

    def state_dict(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in self.COUNTS}
        parts = {name: getattr(self, name).state_dict() for name in self.PARTS}
        next_step = self.step + (self.trained < self.training.steps or self.updated == 0)  # of the next entry
        log = {"metrics_lines": self.report.lines, "next_step": next_step, "warnings": self.report.warnings}
        return {**counts, **parts, **log}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self.COUNTS:
            setattr(self, name, state[name])
        for name in self.PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.report.warnings = list(state["warnings"])
