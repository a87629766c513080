"""The recurrent cell space: published cells, the cell's formula, sharing, state, and what is the same function."""

import re
from itertools import product

import pytest
import torch
from torch import Tensor

from conformance import generator, words
from enas.draw import draw_graph
from enas.errors import UserError
from enas.space import EnasRnn, Noise, Scale
from enas.space.enas_rnn_network import ACTIVATIONS, RecurrentNetwork
from enas.supernet import Supernet
from tolerances import assert_same

PUBLISHED = "0 2 1 0 2 1 2 2 4 0 5 0 3 2 6 2"
"""Of the authors' corrected code: 56.1 and 57.3 test perplexity on Penn Treebank."""
PAPER = "0 0 1 0 1 1 3 0 3 0 3 1 4 1 7 1 8 1 8 1 8 1"
"""Of the ENAS paper, figure 6, as DARTS has it; its output is the mean of the loose ends."""
DARTS = "0 1 1 1 2 0 3 1 4 1 1 3 5 1 1 1"
"""The cell of DARTS (Liu et al. 2018), in the same space."""

SCALE = Scale(layers=1, filters=4, height=1, width=1, channels=1, classes=7)


def supernet(space: EnasRnn, scale: Scale = SCALE) -> Supernet:
    return Supernet(space, scale, generator(1)).double()


def test_the_published_cell() -> None:
    space = EnasRnn(8)
    row = space.parse(PUBLISHED)
    assert space.string(row) == PUBLISHED
    assert space.text(row).splitlines() == [
        "recurrent cell:",
        "  node0 = tanh(input)",
        "  node1 = sigmoid(node0)",
        "  node2 = tanh(node1)",
        "  node3 = relu(node2)",
        "  node4 = sigmoid(node2)",
        "  node5 = tanh(node4)",
        "  node6 = tanh(node5)",
        "  node7 = sigmoid(node3)",
        "  node8 = sigmoid(node6)",
        "  output = mean(node1, node2, node3, node4, node5, node6, node7, node8)",
    ]


def test_the_cell_of_the_paper_ends_in_its_loose_ends() -> None:
    space = EnasRnn(11, "loose_ends")
    graph = space.describe(space.parse(PAPER))
    assert graph["output"] == [f"node{node}" for node in (2, 5, 6, 9, 10, 11)]
    assert [node["activation"] for node in graph["nodes"]].count("relu") == 7
    assert graph["nodes"][8] == {"name": "node8", "source": "node7", "activation": "relu"}


def test_the_cell_of_darts() -> None:
    space = EnasRnn(8)
    nodes = space.describe(space.parse(DARTS))["nodes"]
    assert [(node["activation"], node["source"]) for node in nodes[1:]] == [
        ("relu", "node0"), ("relu", "node1"), ("tanh", "node2"), ("relu", "node3"), ("relu", "node4"),
        ("identity", "node1"), ("relu", "node5"), ("relu", "node1"),
    ]  # fmt: skip


def test_the_published_network_has_its_size() -> None:
    """850 units in the final network of DARTS: 23 million parameters with the embedding of 10,000 words."""
    scale = Scale(1, 850, 1, 1, 1, 10_000)
    params, macs = EnasRnn(8).cost(torch.tensor([EnasRnn(8).parse(DARTS)]), scale)
    assert int(params) == 10_000 * 851 + 10 * 2 * 850**2 == 22_960_000
    assert int(macs) == int(params) - 10_000


@pytest.mark.parametrize(("nodes", "layers"), [(1, 1), (3, 2)])
def test_the_cost_is_the_network_s(nodes: int, layers: int) -> None:
    space, scale = EnasRnn(nodes), Scale(layers, 5, 1, 1, 1, 9)
    row = space.random(1, generator())
    network = space.network(scale, generator(), row[0].tolist())
    assert sum(parameter.numel() for parameter in network.parameters()) == int(space.cost(row, scale).params)


@pytest.mark.parametrize("text", ["0 2 1", "0 2 2 0", "0 4 1 0", "0 2 x 0", "0 -1 0 0"])
def test_what_is_no_cell_is_refused(text: str) -> None:
    with pytest.raises(UserError) as caught:
        EnasRnn(2).parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("settings", "said"), [({"nodes": 0}, "1 to 16"), ({"output": "last"}, "all and loose_ends")])
def test_bad_arguments_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        EnasRnn(**settings)  # type: ignore[arg-type]


def written_out(
    network: RecurrentNetwork,
    row: list[int],
    words: Tensor,
    state: Tensor,
    ends: list[int],
    masks: tuple[Tensor | float, list[Tensor] | list[float]] | None = None,
) -> Tensor:
    """The logits [B, T, V] of one child of a supernet, word by word, as the formula has it.

    `masks` are factors of the word's features [B, H], and of what each node reads, [B, H] each.
    """
    [layer] = network.layers
    of_input, of_nodes = masks or (1.0, [1.0] * (len(row) // 2 + 1))
    functions = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid, "identity": lambda x: x}
    sizes = [node * len(ACTIVATIONS) for node in range(1, len(row) // 2 + 1)]
    logits = []
    for word in words.unbind(dim=1):
        product = network.embedding[word] * of_input @ layer.input + state * of_nodes[0] @ layer.hidden
        h, t = product.chunk(2, dim=1)
        nodes = [state + t.sigmoid() * (h.tanh() - state)]
        for node, (source, code) in enumerate(zip(row[::2], row[1::2], strict=True)):
            weight = layer.nodes[sum(sizes[:node]) + source * len(ACTIVATIONS) + code]
            h, t = (nodes[source] * of_nodes[node + 1] @ weight).chunk(2, dim=1)
            nodes.append(nodes[source] + t.sigmoid() * (functions[ACTIVATIONS[code]](h) - nodes[source]))
        state = torch.stack([nodes[end] for end in ends]).mean(dim=0)
        logits.append(state @ network.embedding.T + network.bias)
    return torch.stack(logits, dim=1)


def test_dropout_of_inputs_and_nodes_is_a_factor_for_all_times() -> None:
    """The masks are drawn as the network draws them: the input's, then one for each node, the first one's included."""
    space, row = EnasRnn(3), [0, 2, 1, 3, 1, 1]
    net, read = supernet(space), words(scale=SCALE)[0]
    drawn = generator(8)
    shapes = ((1, 3, 4), (1, 4, 3, 4))
    of_input, of_nodes = (
        (torch.rand(shape, generator=drawn, dtype=torch.float64) < 0.5).double() / 0.5 for shape in shapes
    )
    state = torch.randn(3, 4, generator=generator(3), dtype=torch.float64)
    masks = (of_input[0], list(of_nodes[0]))
    expected = written_out(net.network, row, read, state, [1, 2, 3], masks)  # type: ignore[arg-type]
    noise = Noise(generator(8), input=0.5, layer=0.5)
    assert_same(net.read(read[None], torch.tensor([row]), state[None, None], noise).logits[0], expected)


@pytest.mark.parametrize("output", ["all", "loose_ends"])
def test_the_network_is_its_formula(output: str) -> None:
    space = EnasRnn(3, output)  # type: ignore[arg-type]
    net = supernet(space)
    row = [0, 2, 1, 3, 1, 1]
    read, state = words(scale=SCALE)[0], torch.randn(3, 4, generator=generator(3), dtype=torch.float64)
    expected = written_out(net.network, row, read, state, [1, 2, 3] if output == "all" else [2, 3])  # type: ignore[arg-type]
    assert_same(net.read(read[None], torch.tensor([row]), state[None, None]).logits[0], expected)


def test_every_source_and_every_activation_changes_the_function() -> None:
    space = EnasRnn(2)
    net, read = supernet(space), words(scale=SCALE)
    rows = torch.tensor([[0, one, source, two] for one, source, two in product(range(4), range(2), range(4))])
    logits = net(read, rows).flatten(1)
    assert (torch.cdist(logits, logits) + torch.eye(len(rows)) > 1e-6).all()


@pytest.mark.parametrize("layers", [1, 2])
def test_a_text_in_two_parts_is_the_text(layers: int) -> None:
    """The state carries all there is from one window to the next."""
    space, scale = EnasRnn(3), Scale(layers, 4, 1, 1, 1, 7)
    net, rows = supernet(space, scale), space.random(2, generator())
    read = words(2, length=7, scale=scale)
    whole = net.read(read, rows)
    first = net.read(read[..., :4], rows)
    second = net.read(read[..., 4:], rows, first.state)
    assert_same(torch.cat([first.logits, second.logits], dim=2), whole.logits)
    assert_same(second.state, whole.state)  # type: ignore[arg-type]
    assert not torch.allclose(net.read(read[..., 4:], rows).logits, second.logits)
    child = net.extract(rows[1].tolist())
    assert_same(child.read(read[1], whole.state[:, 1, None]).logits[0], net.read(read, rows, whole.state).logits[1])  # type: ignore[index]


def test_a_child_s_bits_do_not_depend_on_the_others() -> None:
    space = EnasRnn(4)
    net = Supernet(space, SCALE, generator(1))
    rows, read = space.random(4, generator()), words(4, scale=SCALE)
    together = net.read(read, rows)
    for index in range(4):
        alone = net.read(read[index, None], rows[index, None])
        assert torch.equal(alone.logits[0], together.logits[index])
        assert torch.equal(alone.state[:, 0], together.state[:, index])  # type: ignore[index]


def test_changing_one_child_leaves_the_others_gradients_alone() -> None:
    space = EnasRnn(3)
    net, rows, read = Supernet(space, SCALE, generator(1)), space.random(3, generator()), words(3, scale=SCALE)

    def gradients() -> list[Tensor]:
        net.zero_grad()
        net(read, rows)[[0, 2]].square().sum().backward()
        return [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]

    before = gradients()
    read[1] = words(scale=SCALE, seed=9)[0]
    rows[1] = space.random(1, generator(9))[0]
    for one, other in zip(before, gradients(), strict=True):
        assert torch.equal(one, other)


def test_unsampled_weights_get_exactly_zero_gradient_and_are_not_computed() -> None:
    space = EnasRnn(3)
    net = supernet(space)
    row = space.random(1, generator(3))
    used = set(space.route(row)[0, :, 2].tolist())
    with torch.no_grad():  # what is not sampled may be anything
        for place in set(range(24)) - used:
            net.network.layers[0].nodes[place] = float("nan")
    logits = net(words(scale=SCALE), row)
    assert torch.isfinite(logits).all()
    logits.square().sum().backward()
    gradient = net.network.layers[0].nodes.grad.flatten(1).abs().sum(dim=1)
    assert set(gradient.nonzero().flatten().tolist()) == used


def test_dropout_stays_the_same_over_time_and_repeated_words_share_theirs() -> None:
    space = EnasRnn(1)
    net = supernet(space, Scale(1, 64, 1, 1, 1, 7)).network
    for name, rate in (("word", 0.5), ("embedding", 0.5)):
        mask = net._word_mask(Noise(generator(), **{name: rate}))
        assert set(mask.unique().tolist()) == {0.0, 2.0}
        assert mask.shape == (7, 1 if name == "word" else 64)
    read = torch.zeros(1, 1, 1, dtype=torch.int64).expand(1, 1, 9)
    row = torch.tensor([[0, 0]])
    with torch.no_grad():
        for parameter in net.layers[0].parameters():
            parameter.zero_()
        net.layers[0].input.fill_(0.05)
    for rates in ({"word": 0.4}, {"embedding": 0.5}, {"input": 0.5}):
        hidden = net(read, space.route(row), noise=Noise(generator(2), **rates)).hidden[0, 0]  # [T, H]
        # One word over and over with one mask is a fixed point iteration: each step is smaller than the last.
        steps = hidden.diff(dim=0).abs().sum(dim=1)
        assert (steps[1:] <= steps[:-1] + 1e-12).all()


@pytest.mark.parametrize("name", ["word", "embedding", "input", "layer", "dropout"])
def test_every_kind_of_dropout_acts_and_zero_is_none(name: str) -> None:
    space = EnasRnn(2)
    net, row, read = supernet(space), space.random(1, generator()), words(scale=SCALE)
    plain = net(read, row)
    assert torch.equal(net(read, row, noise=Noise(generator())), plain)
    noisy = net(read, row, noise=Noise(generator(), **{name: 0.5}))  # type: ignore[arg-type]
    assert not torch.allclose(noisy, plain)
    assert torch.equal(net(read, row, noise=Noise(generator(), **{name: 0.5})), noisy)  # type: ignore[arg-type]


def test_the_same_tree_in_another_order_is_the_same_architecture() -> None:
    space = EnasRnn(3)
    #     0 -> a(tanh) -> c(relu),  0 -> b(sigmoid): b may stand before a, after it, or last.
    rows = torch.tensor([[0, 0, 0, 2, 1, 1], [0, 2, 0, 0, 2, 1], [0, 0, 1, 1, 0, 2], [0, 2, 0, 0, 1, 1]])
    canonical = space.canonical(rows)
    assert torch.equal(canonical[0], canonical[1])
    assert torch.equal(canonical[0], canonical[2])
    assert not torch.equal(canonical[0], canonical[3])


@pytest.mark.parametrize("output", ["all", "loose_ends"])
def test_canonical_rows_are_the_same_function(output: str) -> None:
    """With one matrix for all nodes of an activation, so that only the graph is left."""
    space = EnasRnn(4, output)  # type: ignore[arg-type]
    net, read = supernet(space), words(scale=SCALE)
    with torch.no_grad():
        table = net.network.layers[0].nodes
        table.copy_(table[:4].repeat(len(table) // 4, 1, 1))
    rows = space.random(50, generator())
    assert (space.canonical(rows) != rows).any(dim=1).float().mean() > 0.3
    assert_same(net(read, space.canonical(rows)), net(read, rows))


def test_an_auxiliary_head_and_another_supernet_are_refused() -> None:
    space = EnasRnn(2)
    with pytest.raises(UserError, match="no auxiliary head"):
        space.network(SCALE, generator(), [0, 0, 0, 0], auxiliary=True)
    with pytest.raises(ValueError, match="own space and scale"):
        space.network(SCALE, generator(), [0, 0, 0, 0]).inherit(supernet(space, Scale(1, 5, 1, 1, 1, 7)).network)


def test_the_published_cell_is_drawn() -> None:
    space = EnasRnn(8)
    [(name, drawing)] = space.drawings(space.parse(PUBLISHED)).items()
    assert name == "recurrent"
    figure = draw_graph(drawing, "published")
    said = {text.get_text() for text in figure.axes[0].texts}
    assert {f"node{node}" for node in range(9)} | {"sigmoid", "tanh", "relu", "output", "mean of nodes"} <= said
    assert any(re.search("published", text) for text in said)
