"""The outer loop: Algorithm 1 of a weight-sharing search, for any space, sampler and estimator.

An epoch: train the shared weights on sampled children -> estimate what the strategy asks for -> tell it -> log ->
checkpoint. At the end: derive, estimate the best again on all validation data, and treat as many random rows alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from enas.architecture import Estimates
from enas.estimator import Estimator
from enas.interruption import Interruption
from enas.plan import OPENED, Limits, Plan
from enas.progress import epoch_line, steps_bar
from enas.randomness import Randomness, seeded
from enas.record import throughput
from enas.report import Comparison, Contender, SearchReport
from enas.space import SearchSpace
from enas.strategy import Sampler, propose
from enas.weights import WeightTraining


class Search:
    """One search. It may be stopped after any step and continued; every bit is then as if it had not been."""

    PURPOSES = ("children", "strategy", "images", "watch", *WeightTraining.PURPOSES)
    """What `randomness` must have generators for."""

    def __init__(
        self,
        space: SearchSpace,
        strategy: Sampler,
        estimator: Estimator,
        training: WeightTraining,
        randomness: Randomness,
        plan: Plan,
        limits: Limits,
        report: SearchReport,
        progress: bool = True,
    ):
        self.space, self.strategy, self.estimator, self.training = space, strategy, estimator, training
        self.randomness, self.plan, self.limits, self.report = randomness, plan, limits, report
        self._progress = progress
        self.epoch = self.trained = self.updated = 0  # epochs done; steps of the weights, of the strategy in this one
        self.rows = torch.empty(0, len(space.decisions), dtype=torch.int64, device=randomness.device)
        self.told: list[dict[str, Tensor]] = []
        self.drawn = self.rejected = 0  # rows in this epoch, for the limits
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
                steps, updates = self.trained - trained, self.updated - updated
                unit, examples = self.training.unit, steps * self.training.examples
                work = {unit: examples, "children": steps * self.training.children + updates * self.plan.samples}
                seconds, left = time.perf_counter() - started, self.plan.epochs - self.epoch - 1
                machine = throughput(work, seconds, self.randomness.device, self.training.phases.shares(), left)
                best = float(self._end_epoch(machine).value.max())
                bar.set_postfix_str(epoch_line(machine, unit, self.report.objective, best))
                self.seconds += time.perf_counter() - started
                if self.epoch % self.plan.checkpoint_every == 0 or self.plan.over(self.epoch, self.seconds):
                    self.report.record.save_checkpoint(self.state_dict())
            if interruption.requested:
                self._stop()
        try:
            return self._finish()
        except KeyboardInterrupt:  # the last checkpoint is the end of the last epoch
            self._write_best()
            raise

    def _steps(self) -> Iterator[None]:
        """The steps that are left of this epoch: first the weights', then the strategy's."""
        if self.trained == 0:
            draw = self.space.random if self.plan.chance_picks(self.epoch) else self.strategy.ask
            count = self.training.steps * self.training.children
            self.rows = self._propose(draw, count, self.randomness["children"])
        rate = self.training.rate(self.epoch, self.plan.epochs)
        while self.trained < self.training.steps:
            first = self.trained * self.training.children
            self.training.step(self.rows[first : first + self.training.children], rate)
            self.trained += 1
            if self.trained % self.plan.log_every == 0 and self.trained < self.training.steps:
                self.training.check(self.epoch + 1)
                self.report.scalars(self.training.metrics(), self.training.step_count)
            yield
        self.training.check(self.epoch + 1)  # the strategy shall not learn from weights that are lost
        while self.updated < self.plan.updates and not self.plan.waits(self.epoch):
            rows = self._propose(self.strategy.ask, self.plan.samples, self.randomness["strategy"])
            estimates = self._estimate(rows, self.randomness["images"])
            self.training.phases.enter("strategy")
            metrics = {f"search/sampled_{name}": metric.mean() for name, metric in estimates.metrics.items()}
            metrics["search/reward"] = estimates.value.mean()
            metrics["search/reward_std"] = estimates.value.std(unbiased=False)
            self.told.append({**metrics, **self.strategy.tell(estimates)})
            self.updated += 1
            yield

    def _end_epoch(self, machine: dict[str, float]) -> Estimates:
        """See what the strategy would derive now, log, and turn to the next epoch."""
        self.training.check(self.epoch + 1)
        self.strategy.check(self.epoch + 1)
        seed, device, step = self.randomness.seed, self.randomness.device, self.training.step_count
        rows = self._propose(self.strategy.derive, self.plan.watched, self.randomness["watch"])
        # The same images after every epoch, so that the curve moves only with what is searched.
        self.watched = self._estimate(rows, seeded(seed, "watched images", device))
        opened = self.strategy.ask(OPENED, seeded(seed, "opened", device))
        values = {
            **self.training.metrics(),
            "weights/rate": self.training.rate(self.epoch, self.plan.epochs),
            "search/rejected": self.rejected / self.drawn,
        }
        self.report.epoch({**values, **machine}, self.told, self.watched, opened, step)
        self.epoch += 1
        if self.epoch % self.report.draw_every == 0:
            self.report.draw(self.watched.top(1).choices[0].tolist(), f"best candidate of epoch {self.epoch}", step)
        self.trained, self.updated, self.told, self.drawn, self.rejected = 0, 0, [], 0, 0
        return self.watched

    def _finish(self) -> Comparison:
        """Derive candidates; treat as many random rows in exactly the same way; write what was found."""
        seed, device = self.randomness.seed, self.randomness.device
        contenders = []
        for purpose, draw in (("derived", self.strategy.derive), ("baseline", self.space.random)):
            rows = self._propose(draw, self.plan.candidates, seeded(seed, purpose, device))
            sampled = self._estimate(rows, seeded(seed, "final images", device))
            best = sampled.top(len(sampled)).distinct(self.space.canonical)
            rescored = self._estimate(best.choices[: self.plan.rescored], None)
            contenders.append(Contender(sampled, rescored.top(len(rescored))))
        comparison = Comparison(*contenders)
        child = self.training.extract(comparison.best.choices)
        # One step after the last, which a resumed run purges.
        self.report.finish(comparison, child, self.seconds, self.training.step_count + 1)
        return comparison

    def _stop(self) -> None:
        """The user wants to leave: save this very step, and write the best so far."""
        self.training.check(self.epoch + 1)
        self.strategy.check(self.epoch + 1)
        self.report.record.save_checkpoint(self.state_dict())
        self._write_best()
        raise KeyboardInterrupt

    def _write_best(self) -> None:
        if self.watched is None:
            generator = seeded(self.randomness.seed, "stopped", self.randomness.device)
            self.watched = self._estimate(self._propose(self.strategy.derive, self.plan.watched, generator), generator)
        self.report.best_so_far(self.watched, self.training.step_count)

    def _propose(
        self, draw: Callable[[int, torch.Generator], Tensor], count: int, generator: torch.Generator
    ) -> Tensor:
        self.training.phases.enter("strategy")
        accept = partial(self.limits.accept, self.space) if self.limits.bind(self.space) else None
        rows, drawn, rejected = propose(lambda number: draw(number, generator), count, accept)
        self.drawn, self.rejected = self.drawn + drawn, self.rejected + rejected
        return rows

    def _estimate(self, rows: Tensor, generator: torch.Generator | None) -> Estimates:
        self.training.phases.enter("scoring")
        self.estimator.step = self.training.step_count
        return self.estimator.estimate(rows, generator)

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch, "trained": self.trained, "updated": self.updated, "rows": self.rows,
            "told": self.told, "drawn": self.drawn, "rejected": self.rejected, "seconds": self.seconds,
            "strategy": self.strategy.state_dict(), "training": self.training.state_dict(),
            "randomness": self.randomness.state_dict(), "metrics_lines": self.report.record.metrics_lines,
            "next_step": self.training.step_count + (self.trained < self.training.steps),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("epoch", "trained", "updated", "rows", "told", "drawn", "rejected", "seconds"):
            setattr(self, name, state[name])
        for name in ("strategy", "training", "randomness"):
            getattr(self, name).load_state_dict(state[name])
