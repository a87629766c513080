"""The recurrent cell space of ENAS (Pham et al. 2018, section 2.1), as in the authors' corrected code for text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from enas.draw import Drawing, Part
from enas.errors import UserError
from enas.space.base import Cost, Decision, Resident, SearchSpace
from enas.space.enas_rnn_network import ACTIVATIONS, RecurrentNetwork, loose_ends
from enas.space.network import Network
from enas.space.scale import Scale

NOTES = {
    "all": "A node is a gate between its source and the activation; the output is the mean of all nodes but the first.",
    "loose_ends": "A node is a gate between its source and the activation; the output is the mean of the loose ends.",
}
INPUTS = {"node0": "tanh(word, state)"}
COMBINE = {"all": "mean of nodes", "loose_ends": "mean of loose ends"}
"""What a drawing says beside the names."""


class EnasRnn(SearchSpace):
    """One recurrent cell: `nodes` searched nodes behind a fixed first one; a node has a source and an activation.

    Node 0 reads the word and the cell's last output, through tanh. Node i = 1 .. `nodes` reads an earlier node s:
    s + sigmoid(t) * (activation(h) - s), where [h, t] are linear in s (highway form). A row is `source, activation`
    for each node 1 .. `nodes`, as the corrected code stores it; activations are tanh, relu, sigmoid, identity.

    `scale.filters` is the number of hidden units, which the embedding has too, `scale.classes` the vocabulary,
    `scale.layers` how many layers of the cell are stacked (1 as published, and by default); the other sizes are 1.

    output  "all": the mean of nodes 1 .. `nodes` (corrected code); "loose_ends": of those that no node reads (first
            code, and the cell of the paper)
    """

    name = "enas_rnn"
    static = False
    reads = "text"

    def __init__(self, nodes: int = 9, output: Literal["all", "loose_ends"] = "all"):
        if not isinstance(nodes, int) or isinstance(nodes, bool) or not 1 <= nodes <= 16:  # from a file, perhaps
            raise UserError(f"space.nodes={nodes}: allowed are 1 to 16 nodes a cell")
        if output not in ("all", "loose_ends"):
            raise UserError(f"space.output={output}: allowed are all and loose_ends")
        self.nodes, self.output = nodes, output
        decisions: list[Decision] = []
        for node in range(1, nodes + 1):
            owner, sources = f"recurrent/node{node}", tuple(f"recurrent/node{source}" for source in range(node))
            decisions.append(Decision(f"{owner}/source", "source", sources, "node", 2 * node, owner))
            decisions.append(
                Decision(f"{owner}/activation", "operation", ACTIVATIONS, "activation", 2 * node + 1, owner)
            )
        self.decisions = tuple(decisions)
        self.sampling_order = tuple(range(len(decisions)))

    @property
    def default_layers(self) -> int:
        return 1

    @property
    def arguments(self) -> dict[str, Any]:
        return {"nodes": self.nodes, "output": self.output}

    @cached_property
    def _first_rows(self) -> Resident:
        """int64 [nodes]: where the weight rows of each node begin; it has one for each source and activation."""
        return Resident(torch.arange(self.nodes) * torch.arange(1, self.nodes + 1) // 2 * len(ACTIVATIONS))

    def route(self, choices: Tensor) -> Tensor:
        """[M, 2 * nodes] -> [M, nodes, 3]: (source node, place in ACTIVATIONS, row of weights)."""
        source, activation = choices.reshape(-1, self.nodes, 2).unbind(dim=2)
        row = self._first_rows.on(choices.device) + source * len(ACTIVATIONS) + activation
        return torch.stack([source, activation, row], dim=2).to(torch.int32)

    def canonical(self, choices: Tensor) -> Tensor:
        """Exact: a cell is a tree whose nodes carry activations; nodes are numbered depth first, subtrees sorted.

        On the host: it is asked for when a search ends, for a few rows.
        """
        rows = [self._renumbered(row) for row in choices.tolist()]
        return torch.tensor(rows, dtype=choices.dtype, device=choices.device).reshape(choices.shape)

    def _renumbered(self, row: Sequence[int]) -> list[int]:
        readers: list[list[int]] = [[] for _ in range(self.nodes + 1)]
        for node, source in enumerate(row[::2], 1):
            readers[source].append(node)
        codes: list[tuple[Any, ...]] = [()] * (self.nodes + 1)
        for node in reversed(range(self.nodes + 1)):  # readers come after what they read
            readers[node].sort(key=lambda reader: codes[reader])
            activation = row[2 * node - 1] if node > 0 else 0
            codes[node] = (activation, tuple(codes[reader] for reader in readers[node]))
        renumbered: list[int] = []

        def visit(node: int, number: int) -> None:
            for reader in readers[node]:
                renumbered.extend((number, row[2 * reader - 1]))
                visit(reader, len(renumbered) // 2)

        visit(0, 0)
        return renumbered

    def describe(self, row: Sequence[int]) -> dict[str, Any]:
        nodes = [{"name": "node0", "source": "input", "activation": "tanh"}]
        for node, (source, activation) in enumerate(zip(row[::2], row[1::2], strict=True), 1):
            nodes.append({"name": f"node{node}", "source": f"node{source}", "activation": ACTIVATIONS[activation]})
        return {"nodes": nodes, "output": [f"node{node}" for node in self._read_by_output(row)], "combine": self.output}

    def _read_by_output(self, row: Sequence[int]) -> list[int]:
        return loose_ends(row[::2]) if self.output == "loose_ends" else list(range(1, self.nodes + 1))

    def text(self, row: Sequence[int]) -> str:
        graph = self.describe(row)
        lines = [f"  {node['name']} = {node['activation']}({node['source']})" for node in graph["nodes"]]
        return "\n".join(["recurrent cell:", *lines, f"  output = mean({', '.join(graph['output'])})"])

    def drawings(self, row: Sequence[int]) -> dict[str, Drawing]:
        graph = self.describe(row)
        nodes = {node["name"]: [Part("source", node["source"], node["activation"])] for node in graph["nodes"][1:]}
        drawing = Drawing("recurrent cell", NOTES[self.output], INPUTS, nodes, graph["output"], COMBINE[self.output])
        return {"recurrent": drawing}

    def cost(self, choices: Tensor, scale: Scale) -> Cost:
        """Multiply-adds are those for one word; every row of a size costs the same."""
        units, products = scale.filters, (2 + self.nodes) * 2 * scale.filters**2
        params = scale.classes * (units + 1) + scale.layers * products
        macs = scale.classes * units + scale.layers * products
        blank = choices.new_zeros(choices.shape[0])
        return Cost(blank + params, blank + macs)

    def blank(self, scale: Scale) -> Tensor:
        return torch.zeros(1, 2, 3, dtype=torch.int64)

    def network(
        self,
        scale: Scale,
        generator: torch.Generator,
        row: Sequence[int] | None = None,
        auxiliary: bool = False,
    ) -> Network:
        if auxiliary:
            raise UserError("space enas_rnn: its network has no auxiliary head; train it with train=language_final")
        rows = len(ACTIVATIONS) * self.nodes * (self.nodes + 1) // 2
        return RecurrentNetwork(scale, rows, self.routes_of(row), self.output, generator)

    def parse(self, text: str) -> list[int]:
        """A row from the published form, 2 * nodes integers separated by blanks. Raises UserError where it is none."""
        try:
            row = [int(word) for word in text.split()]
        except ValueError:
            raise UserError(f"the cell {text!r} must hold integers separated by blanks") from None
        self.check(row)
        return row

    def string(self, row: Sequence[int]) -> str:
        """The published form of a row."""
        return " ".join(map(str, row))
