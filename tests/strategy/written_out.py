"""The controller written out for one row of two spaces: what `Controller` must say of them."""

import math

import torch
from torch import Tensor

from conformance import Growing
from enas.space import Decision
from enas.strategy.controller import Controller


def published_log_probability(made: Controller, row: list[int], nodes: int, bounds: dict[str, float]) -> float:
    """The authors' micro controller for one row, written out (algorithms.md, section 2.6)."""
    weight = {name: value.detach() for name, value in made.named_parameters()}
    hidden = made.hidden

    def lstm(given: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        gates = torch.cat([given, state[1]]) @ weight["recurrent"]
        i, f, o, g = (gates[at * hidden : (at + 1) * hidden] for at in range(4))
        c = f.sigmoid() * state[0] + i.sigmoid() * g.tanh()
        return c, o.sigmoid() * c.tanh()

    total = 0.0
    start = weight["start"][0]
    state = (torch.zeros(hidden, dtype=torch.float64),) * 2
    for cell in range(2):
        keys, anchors = [], []
        for _ in range(2):
            state = lstm(start, state)
            keys.append(state[1] @ weight["attention_key"])
            anchors.append(torch.zeros(hidden, dtype=torch.float64))
        for node in range(nodes):
            at = 4 * (cell * nodes + node)
            given = start
            for source in (row[at], row[at + 2]):
                state = lstm(given, state)
                query = state[1] @ weight["attention_query"]
                scores = torch.stack([torch.tanh(key + query) @ weight["attention_value"][:, 0] for key in keys])
                total += float((bounds["source"] * scores.tanh()).log_softmax(0)[source])
                given = anchors[source]
            for operation in (row[at + 1], row[at + 3]):
                state = lstm(given, state)
                logits = state[1] @ weight["softmax.operation"] + weight["bias.operation"]
                total += float((bounds["operation"] * logits.tanh()).log_softmax(0)[operation])
                given = weight["embedding.operation"][operation]
            state = lstm(given, state)
            keys.append(state[1] @ weight["attention_key"])
            anchors.append(state[1])
    return total


class Skipping(Growing):
    """Three layers, each with an operation and a skip from each earlier layer; all are always there."""

    conditional = False

    def __init__(self) -> None:
        self.decisions = tuple(
            decision
            for layer in range(3)
            for decision in (
                Decision(f"layer{layer}/operation", "operation", ("a", "b"), "operation", 2 * layer, f"layer{layer}"),
                *(
                    Decision(
                        f"layer{layer}/skip{earlier}",
                        "skip",
                        ("absent", f"layer{earlier}"),
                        "skip",
                        2 * layer + 1,
                        f"layer{layer}",
                    )
                    for earlier in range(layer)
                ),
            )
        )
        self.sampling_order = tuple(range(len(self.decisions)))

    def active(self, choices: Tensor) -> Tensor:
        return torch.ones_like(choices, dtype=torch.bool)


def skipping_scores(made: Controller, row: list[int], target: float) -> tuple[float, float]:
    """Log-probability of one row of Skipping, and its divergence from the target.

    The skips of a layer are sampled from one state, each from -+ its score, and what follows them is the sum of the
    chosen anchors over one more than their number.
    """
    weight = {name: value.detach() for name, value in made.named_parameters()}
    state = (torch.zeros(made.hidden, dtype=torch.float64),) * 2

    def lstm(given: Tensor) -> Tensor:
        nonlocal state
        i, f, o, g = (torch.cat([given, state[1]]) @ weight["recurrent"]).chunk(4)
        cell = f.sigmoid() * state[0] + i.sigmoid() * g.tanh()
        state = (cell, o.sigmoid() * cell.tanh())
        return state[1]

    anchors: list[Tensor] = []
    place, total, divergence = 0, 0.0, 0.0
    for layer in range(3):
        logits = lstm(weight["start"][0]) @ weight["softmax.operation"] + weight["bias.operation"]
        total += float(logits.log_softmax(0)[row[place]])
        given = weight["embedding.operation"][row[place]]
        if layer > 0:
            query = lstm(given) @ weight["attention_query"]
            chosen = []
            for skip, anchor in zip(row[place + 1 :], anchors, strict=False):
                key = anchor @ weight["attention_key"]
                score = torch.tanh(key + query) @ weight["attention_value"][:, 0]
                total += float(torch.stack([-score, score]).log_softmax(0)[skip])
                often = float(torch.sigmoid(2 * score))  # what a softmax of -+ the score says
                divergence += often * math.log(often / target)
                divergence += (1 - often) * math.log((1 - often) / (1 - target))
                chosen += [anchor] * skip
            given = sum(chosen, torch.zeros(made.hidden, dtype=torch.float64)) / (1 + len(chosen))
        place += 1 + layer
        anchors.append(lstm(given))
    return total, divergence
