"""What training one network from scratch is, whatever it reads."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from tqdm import tqdm

from enas.descent import Descent
from enas.errors import UserError
from enas.interruption import Interruption
from enas.phases import OTHER, Phases
from enas.randomness import Randomness
from enas.record import Record, throughput
from enas.schedule import Cosine
from enas.space import Material
from enas.supernet import Child, load_child, save_child

BEST, LAST = "best.pt", "last.pt"


class StandAloneTraining(ABC):
    """Trains `child` for `epochs`, validates after each, and measures the test split once, at the end.

    The weights that are tested are those of the best validated epoch, or the last ones where nothing is validated.
    Raises UserError for `epochs` or `checkpoint_every` below 1.
    """

    PURPOSES: ClassVar[tuple[str, ...]] = ("order", "augment")
    """What `randomness` must have generators for: what comes next, and what is changed at random in it."""
    METRICS: ClassVar[tuple[str, ...]]
    """What a step adds up."""
    MEASURES: ClassVar[tuple[str, ...]]
    """What validation and test give, the one that counts first."""
    higher_is_better: ClassVar[bool]
    """Whether more of that one is better."""
    unit: ClassVar[str]
    """What is trained on."""
    reads: ClassVar[Material]
    """What its networks read."""
    validates: bool
    goes_by_validation: bool = False
    """Whether validation after an epoch changes how the next ones train, so that no epoch may go without."""

    def __init__(
        self,
        child: Child,
        randomness: Randomness,
        descent: Descent,
        rate: Cosine,
        epochs: int,
        checkpoint_every: int,
        progress: bool,
    ):
        for key, value in (("epochs", epochs), ("checkpoint_every", checkpoint_every)):
            if value < 1:
                raise UserError(f"{key}={value}: allowed is 1 or more")
        self.child, self.randomness, self.descent = child, randomness, descent
        self.epochs, self.checkpoint_every = epochs, checkpoint_every
        self._rate, self._progress = rate, progress
        self.phases = Phases(randomness.device)
        self.epoch = self.trained = 0  # epochs done; steps done in this one
        self.best: dict[str, float] = {}
        self.seconds = 0.0
        self._sums = torch.zeros(len(self.METRICS), dtype=torch.float64, device=randomness.device)

    @property
    @abstractmethod
    def steps(self) -> int:
        """Steps of an epoch."""

    @property
    @abstractmethod
    def examples(self) -> int:
        """Images or words of a step."""

    @abstractmethod
    def _step(self, rate: float) -> None:
        """One step at the learning rate `rate`; adds to `_sums`."""

    @abstractmethod
    def _measure(self, child: Child, split: str) -> dict[str, float]:
        """MEASURES of `child` on "valid" or "test"."""

    @abstractmethod
    def _size(self, split: str) -> int:
        """Images or words of a split."""

    def _means(self, means: dict[str, float]) -> dict[str, float]:
        """What is logged of an epoch, of the means of METRICS."""
        return means

    def kept(self) -> AbstractContextManager[object]:
        """Within it `child` has the weights that are validated, saved and tested: those under training."""
        return nullcontext()

    def check(self, epoch: int) -> None:
        """Raise UserError where the weights were lost in `epoch`, counted from 1: a loss was not finite."""
        self.descent.check(epoch)

    def rate(self) -> float:
        """The learning rate of the epoch under way."""
        return self._rate.rate(self.epoch, self.epochs)

    def run(
        self, record: Record, name: str = "training", after_step: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """Train what is left, test once, and return the result; KeyboardInterrupt after a clean stop on Ctrl-C.

        Raises UserError where the loss is no longer finite; the last checkpoint is then the one before.
        """
        steps = self.steps
        with (
            Interruption() as interruption,
            tqdm(
                total=self.epochs * steps,
                initial=self.epoch * steps + self.trained,
                disable=not self._progress,
                unit="step",
                desc=name,
            ) as bar,
        ):
            while self.epoch < self.epochs:
                started = time.perf_counter()
                self.phases.shares()  # what validation took is no part of this epoch
                for _ in self._steps():
                    bar.update()
                    after_step()
                    if interruption.requested:
                        self.seconds += time.perf_counter() - started
                        self.check(self.epoch + 1)
                        self._save(record)
                        raise KeyboardInterrupt
                bar.set_postfix_str(self._end_epoch(record, time.perf_counter() - started))
        return self._test(record)

    def train(self) -> None:
        """Train what is left, for whoever wants the weights alone: nothing is logged, saved or tested.

        `child` has within `kept` what this gives. Raises UserError where the loss is no longer finite.
        """
        while self.epoch < self.epochs:
            for _ in self._steps():
                pass
            self.phases.shares()  # nobody asks for them, and on CUDA the marks of an epoch are many
            self.check(self.epoch + 1)
            self._turn()
            if self.goes_by_validation:
                with self.kept():
                    valid = self._measure(self.child, "valid")
                self._validated(valid)

    def _steps(self) -> Iterator[None]:
        rate = self.rate()
        self.child.train()
        while self.trained < self.steps:
            self._step(rate)
            self.phases.enter(OTHER)
            self.trained += 1
            yield

    def _end_epoch(self, record: Record, seconds: float) -> str:
        """Validate, log and save; returns a line for the progress bar."""
        work = {self.unit: self.trained * self.examples}
        shares = self.phases.shares()
        rate, main = self.rate(), self.MEASURES[0]
        self.check(self.epoch + 1)
        means = dict(zip(self.METRICS, (self._sums / self.trained).tolist(), strict=True))
        values = {f"train/{name}": value for name, value in self._means(means).items()}
        line = f"train {main} {values[f'train/{main}']:.4f}"
        values["train/rate"] = rate
        self._turn()
        if self.validates:
            self.phases.enter("validation")
            with self.kept():
                valid = self._measure(self.child, "valid")
                values |= {f"valid/{name}": value for name, value in valid.items()}
                line += f", valid {valid[main]:.4f}"
                if not self.best or self._rank(valid) > self._rank(self.best):
                    self.best = {**valid, "epoch": self.epoch}
                    save_child(self.child, record.run_dir / BEST)
            self._validated(valid)
        machine = throughput(work, seconds, self.randomness.device, shares, self.epochs - self.epoch)
        record.scalars({**values, **machine}, self.epoch * self.steps)
        self.seconds += seconds
        if self.epoch % self.checkpoint_every == 0 or self.epoch == self.epochs:
            self._save(record)
        return line

    def _turn(self) -> None:
        """The epoch is done: on to the next."""
        self.epoch += 1
        self.trained = 0
        self._sums.zero_()

    def _rank(self, valid: dict[str, float]) -> tuple[float, float]:
        """Compares epochs: the measure that counts, then the loss."""
        main = valid[self.MEASURES[0]]
        return main if self.higher_is_better else -main, -valid["loss"]

    def _validated(self, valid: dict[str, float]) -> None:  # noqa: B027 - a training that has nothing to learn from it
        """Called after each validation."""

    def _test(self, record: Record) -> dict[str, Any]:
        with self.kept():
            save_child(self.child, record.run_dir / LAST)
        chosen = BEST if self.validates else LAST
        child = load_child(record.run_dir / chosen, self.randomness.device)
        test = self._measure(child, "test")
        # One step after the last, which a resumed run purges.
        step = self.epoch * self.steps + 1
        record.scalars({f"test/{name}": value for name, value in test.items()}, step)
        params = sum(parameter.numel() for parameter in child.parameters())
        return {
            "weights": chosen,
            "params": params,
            "valid": self.best,
            "test": {**test, self.unit: self._size("test")},
            "seconds": self.seconds,
        }

    def _save(self, record: Record) -> None:
        next_step = self.epoch * self.steps + self.trained + 1
        record.save_checkpoint({**self.state_dict(), "next_step": next_step, "metrics_lines": record.metrics_lines})

    def state_dict(self) -> dict[str, Any]:
        return {
            "child": self.child.state_dict(),
            "descent": self.descent.state_dict(),
            "randomness": self.randomness.state_dict(),
            "epoch": self.epoch,
            "trained": self.trained,
            "best": self.best,
            "seconds": self.seconds,
            "sums": self._sums,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("child", "descent", "randomness"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("epoch", "trained", "best", "seconds"):
            setattr(self, name, state[name])
        self._sums.copy_(state["sums"])
