"""The golden traces: what the reference gave when they were written, in float64 and on one thread.

    python tests/golden/regenerate.py

writes them anew. Do so only when a change of results is meant, and say in the commit why they changed.

Weights and rewards are made of random integers and float64 uniforms, which are the same bits on every machine; torch's
normal and exponential draws are not. The trace of the controller is therefore told fixed rows.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from enas import kernels
from enas.architecture import Estimates
from enas.data import Augmentation, Split, assemble
from enas.estimator import Shared
from enas.randomness import Randomness
from enas.schedule import Cosine
from enas.space import EnasMicro, Scale
from enas.strategy import Reinforce
from enas.supernet import Supernet
from enas.train import SharedTraining

FOLDER = Path(__file__).parent
SCALE = Scale(layers=1, filters=4, height=9, width=8, channels=3, classes=3)
NORMAL, REDUCTION = "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1", "1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"


def integers(shape: tuple[int, ...] | torch.Size, seed: int) -> Tensor:
    """Numbers of three decimals from -1 to 1, float64."""
    return torch.randint(-1000, 1001, shape, generator=torch.Generator().manual_seed(seed)).double() / 1000


def set_weights(module: nn.Module) -> None:
    """Weights of every parameter from integers: gains near 1, the rest small."""
    with torch.no_grad():
        for seed, (name, parameter) in enumerate(module.named_parameters()):
            values = integers(parameter.shape, seed)
            parameter.copy_(1 + values / 4 if name.endswith("gain") else values / 2)


def cell_trace() -> dict[str, Any]:
    """Logits of the published cell and of two random rows, and the gradients' norms, for both outputs."""
    trace: dict[str, Any] = {}
    for output in ("project", "concat"):
        space = EnasMicro(output=output)  # type: ignore[arg-type]
        supernet = Supernet(space, SCALE, torch.Generator().manual_seed(0)).double()
        set_weights(supernet)
        rows = torch.cat(
            [torch.tensor([space.parse(NORMAL, REDUCTION)]), space.random(2, torch.Generator().manual_seed(1))]
        )
        logits = supernet(integers((1, 4, 9, 8, 3), 7), rows)
        logits.square().sum().backward()
        trace[output] = {
            "logits": logits.tolist(),
            "gradients": {
                name: parameter.grad.norm().item()
                for name, parameter in supernet.named_parameters()
                if parameter.grad is not None and parameter.numel() > 0
            },
        }
    return trace


def reinforce_trace() -> list[dict[str, Any]]:
    """Five updates of the published controller on fixed rows."""
    space = EnasMicro(2)
    strategy = Reinforce(
        space,
        hidden=8,
        bound={"operation": 0.44, "source": 1.10},
        initial_bias={"operation": [10, 10, 0, 0, 0]},
        prior={"normal/*/operation": [0.25, 0.25, -0.25, -0.25, -0.25]},
        entropy_weight=0.01,
        baseline_decay=0.9,
    )
    strategy.controller.double()
    set_weights(strategy.controller)
    trace = []
    for update in range(5):
        rows = space.random(3, torch.Generator().manual_seed(update))
        value = integers((3,), update) / 2 + 0.5
        metrics = strategy.tell(Estimates(rows, value, torch.zeros_like(value)))
        trace.append({"rows": rows.tolist(), **{tag: metric.item() for tag, metric in metrics.items()}})
    return trace


def training_trace() -> dict[str, Any]:
    """Five steps of the shared weights on made-up images, and what the estimator then says."""
    space = EnasMicro(2)
    pixels = torch.randint(0, 256, (60, 9, 8, 3), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    labels = torch.arange(60) % 3
    data = assemble("noise", Split(pixels, labels), ["a", "b", "c"], Augmentation(1, True, 3), valid=20, test=10)
    data = replace(data, mean=data.mean.double(), std=data.std.double())
    supernet = Supernet(space, SCALE, torch.Generator().manual_seed(0)).double()
    set_weights(supernet)
    randomness = Randomness(0, SharedTraining.PURPOSES, torch.device("cpu"))
    training = SharedTraining(supernet, data, randomness, batch_size=10, rate=Cosine(0.05, 0.0005, 10))
    steps = []
    for epoch, row in enumerate(space.random(5, torch.Generator().manual_seed(4))):
        training.step(row[None], training.rate(epoch, 5))
        steps.append(training.metrics())
    rows = space.random(4, torch.Generator().manual_seed(5))
    estimates = Shared(supernet, data, "loss", batch_size=10, images=10).estimate(rows)
    return {"steps": steps, "estimates": [estimates.entry(index) for index in range(len(rows))]}


TRACES: dict[str, Callable[[], Any]] = {
    "cell": cell_trace,
    "reinforce": reinforce_trace,
    "training": training_trace,
}


def main() -> None:
    torch.set_num_threads(1)
    kernels.select("reference", torch.device("cpu"))
    for name, trace in TRACES.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(trace(), indent=1) + "\n")


if __name__ == "__main__":
    main()
