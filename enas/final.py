"""Training one architecture from scratch: the network that a search is for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from enas.data import Batches, DataSet, Split
from enas.descent import Descent
from enas.errors import UserError
from enas.interruption import Interruption
from enas.phases import OTHER, Phases
from enas.randomness import Randomness
from enas.record import Record, throughput
from enas.schedule import Cosine
from enas.space import Noise
from enas.supernet import Child, load_child, save_child

METRICS = ("loss", "accuracy", "gradient_norm")
BEST, LAST = "best.pt", "last.pt"


class FinalTraining:
    """Trains `child` for `epochs`, validates after each, and measures the test split once, at the end.

    The weights that are tested are those of the best validated epoch, or the last ones where `merge` leaves nothing to
    validate on.

    merge            train on the training and the validation split together, as published final recipes do
    rate             learning rate by epoch
    weight_decay     twice the authors' l2 coefficient; see Descent
    dropout          in front of the classifier
    drop_path        probability at the last cell and the last epoch, linear in depth and in time before; 0 where the
                     network has no paths to drop
    auxiliary        weight of the auxiliary head's loss, 0 for no head; `child` must have been built with one
    label_smoothing  share of the target that is spread over all classes
    randomness       needs the purposes "order" and "augment"
    """

    PURPOSES = ("order", "augment")

    def __init__(
        self,
        child: Child,
        data: DataSet,
        randomness: Randomness,
        epochs: int,
        batch_size: int = 64,
        merge: bool = False,
        rate: Cosine | None = None,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 4e-4,
        decay_norms: bool = True,
        clip: float | None = 5.0,
        dropout: float = 0.1,
        drop_path: float = 0.0,
        auxiliary: float = 0.0,
        label_smoothing: float = 0.0,
        checkpoint_every: int = 1,
        progress: bool = True,
    ):
        if batch_size < 2:
            raise UserError(f"batch_size={batch_size}: allowed is 2 or more, batch norm needs several images")
        for key, value in (("epochs", epochs), ("checkpoint_every", checkpoint_every)):
            if value < 1:
                raise UserError(f"{key}={value}: allowed is 1 or more")
        for key, share in (("dropout", dropout), ("drop_path", drop_path), ("label_smoothing", label_smoothing)):
            if not 0 <= share < 1:
                raise UserError(f"train.{key}={share}: allowed is 0 to less than 1")
        if drop_path > 0 and not child.network.drops_paths:
            raise UserError(
                f"train.drop_path={drop_path}: a network of space {child.space.name} has no paths to drop; allowed is 0"
            )
        if auxiliary < 0:
            raise UserError(f"train.auxiliary={auxiliary}: allowed is 0, for no auxiliary head, or more")
        self.child, self.randomness = child, randomness
        self.data = replace(data, train=_union(data.train, data.valid)) if merge else data
        self.validates = not merge and len(data.valid) > 0
        self.epochs, self.checkpoint_every = epochs, checkpoint_every
        self.batches = Batches(len(self.data.train), batch_size, randomness["order"])
        self._rate = rate or Cosine()
        self._dropout, self._drop_path = dropout, drop_path
        self._auxiliary, self._label_smoothing, self._progress = auxiliary, label_smoothing, progress
        self.descent = Descent(child.named_parameters(), momentum, nesterov, weight_decay, decay_norms, clip)
        self.phases = Phases(randomness.device)
        self.epoch = self.trained = 0  # epochs done; steps done in this one
        self.best: dict[str, float] = {}
        self.seconds = 0.0
        self._sums = torch.zeros(len(METRICS), dtype=torch.float64, device=randomness.device)

    def run(
        self, record: Record, name: str = "training", after_step: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """Train what is left, test once, and return the result; KeyboardInterrupt after a clean stop on Ctrl-C.

        Raises UserError where the loss is no longer finite; the last checkpoint is then the one before.
        """
        steps = self.batches.steps
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
                        self.descent.check(self.epoch + 1)
                        self._save(record)
                        raise KeyboardInterrupt
                bar.set_postfix_str(self._end_epoch(record, time.perf_counter() - started))
        return self._test(record)

    def _steps(self) -> Iterator[None]:
        rate = self._rate.rate(self.epoch, self.epochs)
        self.child.train()
        while self.trained < self.batches.steps:
            self.phases.enter("data")
            inputs, labels = self.data.batch(self.data.train, self.batches.next(), self.randomness["augment"])
            self.phases.enter("forward")
            progress = (self.epoch + self.trained / self.batches.steps) / self.epochs
            noise = Noise(self.randomness["augment"], self._dropout, self._drop_path, progress)
            output = self.child.learn(inputs, noise)
            loss = self._loss(output.logits[0], labels)
            total = loss
            if output.auxiliary is not None:
                total = loss + self._auxiliary * self._loss(output.auxiliary[0], labels)
            self.phases.enter("backward")
            self.descent.differentiate(total)
            self.phases.enter("update")
            norm = self.descent.move(total, rate)
            accuracy = (output.logits[0].argmax(dim=1) == labels).double().mean()
            self._sums += torch.stack([loss.detach().double(), accuracy, norm.double()])
            self.phases.enter(OTHER)
            self.trained += 1
            yield

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels, label_smoothing=self._label_smoothing)

    def _end_epoch(self, record: Record, seconds: float) -> str:
        """Validate, log and save; returns a line for the progress bar."""
        shares = self.phases.shares()
        self.descent.check(self.epoch + 1)
        means = (self._sums / self.trained).tolist()
        values = {f"train/{name}": value for name, value in zip(METRICS, means, strict=True)}
        values["train/rate"] = self._rate.rate(self.epoch, self.epochs)
        line = f"train accuracy {values['train/accuracy']:.4f}"
        self.epoch += 1
        if self.validates:
            self.phases.enter("validation")
            valid = evaluate(self.child, self.data, self.data.valid, self.batches.batch_size)
            values |= {f"valid/{name}": value for name, value in valid.items()}
            line += f", valid {valid['accuracy']:.4f}"
            if (valid["accuracy"], -valid["loss"]) > (self.best.get("accuracy", -1.0), -self.best.get("loss", 0.0)):
                self.best = {**valid, "epoch": self.epoch}
                save_child(self.child, record.run_dir / BEST)
        work = {"images": self.trained * self.batches.batch_size}
        left = self.epochs - self.epoch
        machine = throughput(work, seconds, self.randomness.device, shares, left)
        record.scalars({**values, **machine}, self.epoch * self.batches.steps)
        self.seconds += seconds
        self.trained = 0
        self._sums.zero_()
        if self.epoch % self.checkpoint_every == 0 or self.epoch == self.epochs:
            self._save(record)
        return line

    def _test(self, record: Record) -> dict[str, Any]:
        save_child(self.child, record.run_dir / LAST)
        chosen = BEST if self.validates else LAST
        child = load_child(record.run_dir / chosen, self.randomness.device)
        test = evaluate(child, self.data, self.data.test, self.batches.batch_size)
        # One step after the last, which a resumed run purges.
        step = self.epoch * self.batches.steps + 1
        record.scalars({f"test/{name}": value for name, value in test.items()}, step)
        params = sum(parameter.numel() for parameter in child.parameters())
        return {
            "weights": chosen,
            "params": params,
            "valid": self.best,
            "test": {**test, "images": len(self.data.test)},
            "seconds": self.seconds,
        }

    def _save(self, record: Record) -> None:
        next_step = self.epoch * self.batches.steps + self.trained + 1
        record.save_checkpoint({**self.state_dict(), "next_step": next_step, "metrics_lines": record.metrics_lines})

    def state_dict(self) -> dict[str, Any]:
        return {
            "child": self.child.state_dict(),
            "descent": self.descent.state_dict(),
            "batches": self.batches.state_dict(),
            "randomness": self.randomness.state_dict(),
            "epoch": self.epoch,
            "trained": self.trained,
            "best": self.best,
            "seconds": self.seconds,
            "sums": self._sums,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("child", "descent", "batches", "randomness"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("epoch", "trained", "best", "seconds"):
            setattr(self, name, state[name])
        self._sums.copy_(state["sums"])


@torch.no_grad()
def evaluate(child: Child, data: DataSet, split: Split, batch_size: int) -> dict[str, float]:
    """Accuracy in 0..1 and mean loss in nats of `child` on `split`, by its running statistics."""
    child.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=split.labels.device)
    for indices in torch.split(torch.arange(len(split), device=split.labels.device), batch_size):
        inputs, labels = data.batch(split, indices, None)
        logits = child(inputs)
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        sums += torch.stack([(logits.argmax(dim=1) == labels).sum().double(), loss.double()])
    accuracy, loss_mean = (sums / len(split)).tolist()
    return {"accuracy": accuracy, "loss": loss_mean}


def _union(one: Split, other: Split) -> Split:
    return Split(torch.cat([one.images, other.images]), torch.cat([one.labels, other.labels]))
