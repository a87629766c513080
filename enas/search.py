"""The outer loop: Algorithm 1 of a weight-sharing search, for any space, sampler and estimator.

An epoch: train the shared weights on sampled children -> estimate what the strategy asks for -> tell it -> log ->
checkpoint. At the end: derive candidates, estimate the best again on all validation images, and treat as many random
rows in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from enas.architecture import Estimates
from enas.errors import UserError
from enas.estimator import Estimator
from enas.interruption import Interruption
from enas.plan import Limits, Plan
from enas.randomness import Randomness, seeded
from enas.report import Comparison, Contender, SearchReport
from enas.space import SearchSpace
from enas.strategy import Sampler, propose
from enas.train import SharedTraining

OPENED = 256
"""Rows asked for to see the strategy's choice of operations; a share is then known to about 0.03."""


class Search:
    """One search. It may be stopped after any step and continued; every bit is then as if it had not been."""

    PURPOSES = ("children", "strategy", "images", "watch", *SharedTraining.PURPOSES)
    """What `randomness` must have generators for."""

    def __init__(
        self,
        space: SearchSpace,
        strategy: Sampler,
        estimator: Estimator,
        training: SharedTraining,
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
        self.rejected = 0.0
        self.seconds = self._epoch_seconds = 0.0
        self.watched: Estimates | None = None

    def run(self) -> Comparison:
        """Search until the epochs or the time are used up, then compare with chance.

        Ctrl-C is answered between two steps: checkpoint, best so far, KeyboardInterrupt. Raises UserError where the
        loss is no longer finite; the last checkpoint is then the one before.
        """
        steps = self.training.steps + self.plan.updates
        done = self.epoch * steps + self.trained + self.updated
        with (
            Interruption() as interruption,
            tqdm(total=self.plan.epochs * steps, initial=done, disable=not self._progress, unit="step") as bar,
        ):
            while self.epoch < self.plan.epochs and not self._out_of_time():
                bar.set_description(f"epoch {self.epoch + 1}/{self.plan.epochs}")
                started = time.perf_counter()
                for _ in self._steps():
                    bar.update()
                    if interruption.requested:
                        self.seconds += time.perf_counter() - started
                        self._stop()
                self._epoch_seconds = time.perf_counter() - started
                best = float(self._end_epoch().value.max())
                bar.set_postfix_str(f"best candidate: {self.report.objective} {best:.4f}")
        return self._finish()

    def _steps(self) -> Iterator[None]:
        """The steps that are left of this epoch: first the weights', then the strategy's."""
        if self.trained == 0:
            draw = self.space.random if self.plan.chance_picks(self.epoch) else self.strategy.ask
            self.rows = self._propose(draw, self.training.steps, self.randomness["children"])
        rate = self.training.rate(self.epoch, self.plan.epochs)
        while self.trained < self.training.steps:
            self.training.step(self.rows[self.trained, None], rate)
            self.trained += 1
            if self.trained % self.plan.log_every == 0 and self.trained < self.training.steps:
                self._check_finite()
                self.report.scalars(self.training.metrics(), self.training.step_count)
            yield
        while self.updated < self.plan.updates and not self.plan.waits(self.epoch):
            rows = self._propose(self.strategy.ask, self.plan.samples, self.randomness["strategy"])
            estimates = self._estimate(rows, self.randomness["images"])
            metrics = {f"search/sampled_{name}": metric.mean() for name, metric in estimates.metrics.items()}
            reward = {
                "search/reward": estimates.value.mean(),
                "search/reward_std": estimates.value.std(unbiased=False),
            }
            self.told.append({**reward, **metrics, **self.strategy.tell(estimates)})
            self.updated += 1
            yield

    def _end_epoch(self) -> Estimates:
        """See what the strategy would derive now, log, and save."""
        self._check_finite()
        seed, device, step = self.randomness.seed, self.randomness.device, self.training.step_count
        rows = self._propose(self.strategy.derive, self.plan.watched, self.randomness["watch"])
        # The same images after every epoch, so that the curve moves only with what is searched.
        self.watched = self._estimate(rows, seeded(seed, "watched images", device))
        means = {tag: float(torch.stack([told[tag] for told in self.told]).mean()) for tag in next(iter(self.told), {})}
        opened = self.strategy.ask(OPENED, seeded(seed, "opened", device))
        images = self.trained * self.training.batches.batch_size
        values = {
            **self.training.metrics(),
            "weights/rate": self.training.rate(self.epoch, self.plan.epochs),
            **means,
            "search/candidates_mean": float(self.watched.value.mean()),
            "search/candidates_best": float(self.watched.value.max()),
            "search/rejected": self.rejected,
            **self.report.operation_shares(opened),
            **self.report.machine(images, self.trained + self.updated * self.plan.samples, self._epoch_seconds, device),
        }
        self.report.scalars(values, step)
        self.epoch += 1
        if self.epoch % self.report.draw_every == 0:
            self.report.draw(self.watched.top(1).choices[0].tolist(), f"best candidate of epoch {self.epoch}", step)
        self.seconds += self._epoch_seconds
        self.trained, self.updated, self.told = 0, 0, []
        if self.epoch % self.plan.checkpoint_every == 0 or self.epoch == self.plan.epochs:
            self.report.record.save_checkpoint(self.state_dict())
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
        row, supernet = comparison.best.choices, self.training.supernet
        child = supernet.extract(row[0].tolist())
        child.set_statistics(supernet.statistics(self.training.sample_inputs(), row))
        self.report.finish(comparison, child, self.seconds, self.training.step_count)
        return comparison

    def _stop(self) -> None:
        """The user wants to leave: save this very step, and write the best so far."""
        self._check_finite()
        self.report.record.save_checkpoint(self.state_dict())
        if self.watched is None:
            rows = self._propose(
                self.strategy.derive, 1, seeded(self.randomness.seed, "stopped", self.randomness.device)
            )
            self.watched = self._estimate(rows, self.randomness["watch"])
        self.report.best_so_far(self.watched, self.training.step_count)
        raise KeyboardInterrupt

    def _propose(
        self, draw: Callable[[int, torch.Generator], Tensor], count: int, generator: torch.Generator
    ) -> Tensor:
        rows, self.rejected = propose(
            lambda number: draw(number, generator), count, lambda drawn: self.limits.accept(self.space, drawn)
        )
        return rows

    def _estimate(self, rows: Tensor, generator: torch.Generator | None) -> Estimates:
        self.estimator.step = self.training.step_count
        return self.estimator.estimate(rows, generator)

    def _check_finite(self) -> None:
        if not bool(self.training.descent.finite):
            raise UserError(
                f"the loss became NaN or infinite in epoch {self.epoch + 1}, by step {self.training.step_count}; the "
                "last checkpoint is good: start again with a lower train.rate.maximum or with train.clip set"
            )

    def _out_of_time(self) -> bool:
        return self.plan.time_budget is not None and self.seconds >= self.plan.time_budget

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch, "trained": self.trained, "updated": self.updated, "rows": self.rows,
            "told": self.told, "rejected": self.rejected, "seconds": self.seconds,
            "strategy": self.strategy.state_dict(), "training": self.training.state_dict(),
            "randomness": self.randomness.state_dict(), "metrics_lines": self.report.record.metrics_lines,
            "next_step": self.training.step_count + (self.trained < self.training.steps),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("epoch", "trained", "updated", "rows", "told", "rejected", "seconds"):
            setattr(self, name, state[name])
        for name in ("strategy", "training", "randomness"):
            getattr(self, name).load_state_dict(state[name])
