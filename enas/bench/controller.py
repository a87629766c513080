"""The peer's controller: the policy of the ENAS cell search as a careful user of torch writes it.

The LSTM is torch's own cell. Rows that the policy will be told about are sampled with gradients, so that their
log-probabilities are there already, and nothing is read from the device but the rows, which choose the modules.
`copy_weights` gives it the weights of a `Controller`; the two then give equal rows equal log-probabilities
(tests/bench/test_controller.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from enas.space.enas_micro import CELLS, OPERATIONS
from enas.strategy.controller import Controller


class Asked(NamedTuple):
    """Rows [n, D], their log-probability [n] and the entropy [n] of the policy, in nats."""

    rows: Tensor
    log_probability: Tensor
    entropy: Tensor


class PeerController(nn.Module):
    """Samples rows of the ENAS cell space with `nodes` nodes; H = `hidden`.

    bound  "operation" and "source" -> their logits become bound * tanh(logits)
    """

    def __init__(self, nodes: int, hidden: int, bound: Mapping[str, float]):
        super().__init__()
        self.nodes, self.bound = nodes, dict(bound)
        self.recurrent = nn.LSTMCell(hidden, hidden, bias=False)
        self.start = nn.Parameter(torch.empty(1, hidden))
        self.attention_key = nn.Linear(hidden, hidden, bias=False)
        self.attention_query = nn.Linear(hidden, hidden, bias=False)
        self.attention_value = nn.Linear(hidden, 1, bias=False)
        self.embedding = nn.Embedding(len(OPERATIONS), hidden)
        self.softmax = nn.Linear(hidden, len(OPERATIONS))

    def forward(self, count: int, generator: torch.Generator | None = None, given: Tensor | None = None) -> Asked:
        """`count` rows from the policy, or what it thinks of `given` rows [count, D]."""
        start = self.start.expand(count, -1)
        state = (torch.zeros_like(start), torch.zeros_like(start))
        row: list[Tensor] = []
        gains, spreads = [], []
        for _ in CELLS:
            keys, anchors = [], []
            for _ in range(2):
                state = self.recurrent(start, state)
                keys.append(self.attention_key(state[0]))
                anchors.append(torch.zeros_like(start))
            for _ in range(self.nodes):
                drawn, inputs = [], start
                seen, offered = torch.stack(keys, dim=1), torch.stack(anchors, dim=1)
                for place in range(4):  # source, source, operation, operation
                    state = self.recurrent(inputs, state)
                    hidden = state[0]
                    if place < 2:
                        query = self.attention_query(hidden).unsqueeze(1)
                        logits = self.attention_value(torch.tanh(seen + query)).squeeze(2)
                    else:
                        logits = self.softmax(hidden)
                    bound = self.bound["source" if place < 2 else "operation"]
                    log_softmax = (bound * torch.tanh(logits)).log_softmax(dim=1)
                    probabilities = log_softmax.exp()
                    if given is None:
                        choice = torch.multinomial(probabilities.detach(), 1, generator=generator)
                    else:
                        choice = given[:, len(row) + (0, 2, 1, 3)[place], None]
                    drawn.append(choice)
                    gains.append(log_softmax.gather(1, choice))
                    spreads.append(-(probabilities * log_softmax).sum(dim=1, keepdim=True))
                    if place < 2:
                        inputs = offered.gather(1, choice.unsqueeze(2).expand(-1, 1, offered.shape[2])).squeeze(1)
                    else:
                        inputs = self.embedding(choice[:, 0])
                row += [drawn[0], drawn[2], drawn[1], drawn[3]]
                state = self.recurrent(inputs, state)
                keys.append(self.attention_key(state[0]))
                anchors.append(state[0])
        return Asked(torch.cat(row, dim=1), torch.cat(gains, dim=1).sum(dim=1), torch.cat(spreads, dim=1).sum(dim=1))

    @torch.no_grad()
    def copy_weights(self, controller: Controller) -> None:
        """Take the weights of a controller of the same space, sizes and bounds."""
        hidden = controller.hidden
        take, forget, show, content = controller.recurrent.chunk(4, dim=1)
        gates = torch.cat([take, forget, content, show], dim=1).T  # in the order of torch's cell
        self.recurrent.weight_ih.copy_(gates[:, :hidden])
        self.recurrent.weight_hh.copy_(gates[:, hidden:])
        self.start.copy_(controller.start)
        for own, other in (
            (self.attention_key, controller.attention_key),
            (self.attention_query, controller.attention_query),
            (self.attention_value, controller.attention_value),
            (self.softmax, controller.softmax["operation"]),
        ):
            own.weight.copy_(other.T)
        self.embedding.weight.copy_(controller.embedding["operation"])
        self.softmax.bias.copy_(controller.bias["operation"])


class PeerReinforce:
    """REINFORCE on a `PeerController`, as `enas.strategy.Reinforce` does it by default."""

    def __init__(self, controller: PeerController, learning_rate: float = 0.0035, entropy_weight: float = 1e-4):
        self.controller, self._entropy_weight = controller, entropy_weight
        self._optimiser = torch.optim.Adam(
            controller.parameters(), lr=learning_rate, betas=(0.0, 0.999), eps=1e-3, fused=True
        )
        self._baseline: Tensor | None = None

    def tell(self, asked: Asked, reward: Tensor) -> Tensor:
        """Move the policy towards rows of high `reward` [n]; returns the loss, which stays on the device."""
        reward = reward.to(asked.entropy.dtype)
        mean = reward.mean()
        self._baseline = mean if self._baseline is None else torch.lerp(mean, self._baseline, 0.99 ** len(reward))
        loss = -(asked.log_probability * (reward - self._baseline)).mean()
        loss = loss - self._entropy_weight * asked.entropy.mean()
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        return loss.detach()
