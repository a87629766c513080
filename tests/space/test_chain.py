"""Chains: the published repair rules, the shared weights' blocks, costs, and rows whose shapes depend on them."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from conformance import generator, images, scale_of
from enas.errors import UserError
from enas.space import Chain, Noise, Scale
from enas.space.chain_network import ChainNetwork
from enas.supernet import Child, Supernet
from tolerances import assert_same

SPACE = Chain(4)
SCALE = scale_of(SPACE)
FIVE = scale_of(Chain(5))
ODD = Scale(layers=5, filters=3, height=9, width=7, channels=1, classes=3)


def row_of(space: Chain, **choices: str) -> list[int]:
    """A row by the names of its decisions (layer1_height); what is not named is the first alternative."""
    named = {decision.name.replace("/", "_"): decision for decision in space.decisions}
    assert choices.keys() <= named.keys()
    return [each.alternatives.index(choices.get(name, each.alternatives[0])) for name, each in named.items()]


def test_the_published_alternatives() -> None:
    alternatives = {decision.name: decision.alternatives for decision in Chain(2, strides=True).decisions}
    assert list(alternatives.items())[5:] == [
        ("layer1/height", ("1", "3", "5", "7")),
        ("layer1/width", ("1", "3", "5", "7")),
        ("layer1/stride_height", ("1", "2", "3")),
        ("layer1/stride_width", ("1", "2", "3")),
        ("layer1/filters", ("24", "36", "48", "64")),
        ("layer1/skip/layer0", ("absent", "layer0")),
    ]
    assert len(Chain().decisions) == 6 * 3 + 15


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"layers": 0}, r"space\.layers=0: allowed are 1 to 40"),
        ({"layers": 41}, r"space\.layers=41"),
        ({"layers": True}, r"space\.layers=True"),
        ({"strides": 1}, r"space\.strides=1: allowed are true and false"),
    ],
)
def test_arguments_that_are_not_allowed(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Chain(**arguments)


def test_a_layer_without_input_reads_the_image_and_what_nobody_reads_is_the_output() -> None:
    row = row_of(SPACE, layer2_skip_layer0="layer0", layer3_skip_layer0="layer0", layer3_skip_layer2="layer2")
    graph = SPACE.describe(row)
    assert [layer["inputs"] for layer in graph["layers"]] == [["image"], ["image"], ["layer0"], ["layer0", "layer2"]]
    assert graph["output"] == ["layer1", "layer3"]


def by_hand(child: Child, row: list[int], x: Tensor) -> Tensor:
    """The logits of a child written out: x [B, H, W, C] -> [B, K], with torch's own batch norm."""
    space, network = child.space, child.network
    assert isinstance(space, Chain)
    assert isinstance(network, ChainNetwork)
    results: dict[str, Tensor] = {"image": x.permute(0, 3, 1, 2)}

    def joined(names: list[str]) -> Tensor:
        height, width = (max(results[name].shape[axis] for name in names) for axis in (2, 3))
        blank = x.new_zeros(len(x), sum(results[name].shape[1] for name in names), height, width)
        first = 0
        for name in names:
            each = results[name]
            blank[:, first : first + each.shape[1], : each.shape[2], : each.shape[3]] = each
            first += each.shape[1]
        return blank

    graph = space.describe(row)
    for layer, own in zip(graph["layers"], network.layers, strict=True):
        assert own.kernel.shape[:2] == (layer["height"], layer["width"])
        padding, stride = (layer["height"] // 2, layer["width"] // 2), layer.get("strides", [1, 1])
        y = functional.conv2d(joined(layer["inputs"]), own.kernel.permute(3, 2, 0, 1), stride=stride, padding=padding)
        results[layer["name"]] = functional.batch_norm(y, None, None, own.gain, own.bias, training=True).relu()
    return joined(graph["output"]).mean(dim=(2, 3)) @ network.head


@pytest.mark.parametrize("scale", [FIVE, ODD])
@pytest.mark.parametrize("space", [Chain(5), Chain(5, strides=True)], ids=["plain", "strides"])
def test_a_child_computes_what_its_graph_says(space: Chain, scale: Scale) -> None:
    for row in space.random(6, generator()).tolist():
        child = Child(space, row, scale, generator(1)).double()
        for parameter in child.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator(2), dtype=torch.float64)
        x = images(batch=3, scale=scale).double()[0]
        assert_same(child(x), by_hand(child, row, x))


def counted(space: Chain, row: list[int], scale: Scale) -> tuple[int, int]:
    child = Child(space, row, scale, generator()).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        child(torch.zeros(1, scale.height, scale.width, scale.channels))
    return sum(parameter.numel() for parameter in child.parameters()), counter.get_total_flops() // 2


@pytest.mark.parametrize("scale", [FIVE, ODD])
@pytest.mark.parametrize("space", [Chain(5), Chain(5, strides=True)], ids=["plain", "strides"])
def test_the_cost_is_that_of_the_network(space: Chain, scale: Scale) -> None:
    rows = space.random(6, generator())
    cost = space.cost(rows, scale)
    for index, row in enumerate(rows.tolist()):
        assert (int(cost.params[index]), int(cost.macs[index])) == counted(space, row, scale)


def test_the_cost_of_one_layer_at_the_published_scale() -> None:
    row = row_of(Chain(1), layer0_height="3", layer0_width="5", layer0_filters="36")
    scale = Scale(layers=1, filters=24, height=32, width=32, channels=3, classes=10)
    cost = Chain(1).cost(torch.tensor([row]), scale)
    assert int(cost.params) == 3 * 5 * 3 * 36 + 2 * 36 + 36 * 10
    assert int(cost.macs) == 3 * 5 * 3 * 36 * 32 * 32 + 36 * 10


def test_a_path_equals_the_extracted_child_at_an_odd_size() -> None:
    supernet = Supernet(Chain(5), ODD, generator(1)).double()
    rows = Chain(5).random(4, generator(2))
    inputs = images(batch=2, scale=ODD).double()
    for row, expected in zip(rows.tolist(), supernet(inputs, rows), strict=True):
        assert_same(supernet.extract(row)(inputs[0]), expected)


def test_the_number_of_layers_belongs_to_the_row() -> None:
    for layers in (1, 5):
        with pytest.raises(UserError, match=f"network.layers={layers}: a row of this space chain has 4 layers"):
            Supernet(SPACE, replace(SCALE, layers=layers), generator())


def test_a_child_alone_and_among_others_has_the_same_bits() -> None:
    supernet = Supernet(SPACE, SCALE, generator(1))
    rows, inputs = SPACE.random(4, generator(2)), images(batch=3)
    together = supernet(inputs, rows)
    for row, logits in zip(rows, together, strict=True):
        assert torch.equal(supernet(inputs, row[None])[0], logits)


def test_a_child_uses_the_middle_of_the_kernel_the_first_filters_and_the_blocks_of_its_sources() -> None:
    supernet = Supernet(SPACE, SCALE, generator(1))
    row = row_of(
        SPACE,
        layer0_filters="36",
        layer2_filters="48",
        layer3_height="3",
        layer3_width="5",
        layer3_skip_layer0="layer0",
        layer3_skip_layer2="layer2",
    )
    supernet(images(), torch.tensor([row])).square().sum().backward()
    network = supernet.network
    assert isinstance(network, ChainNetwork)
    gradient = network.layers[3].kernel.grad
    used = torch.zeros(7, 7, SCALE.channels + 3 * 10, 10)
    assert gradient.shape == used.shape  # 64 filters at the published scale are 10 at this one
    used[2:5, 1:6, SCALE.channels : SCALE.channels + 6, :4] = 1  # layer0 has 6 filters
    used[2:5, 1:6, SCALE.channels + 20 : SCALE.channels + 28, :4] = 1  # layer2 has 8
    assert torch.equal((gradient != 0).float(), used)


def test_statistics_of_a_child_are_used() -> None:
    supernet = Supernet(SPACE, SCALE, generator(1)).double()
    rows = SPACE.random(4, generator(2))
    given = supernet.statistics([images(batch=8).double()], rows)
    filters = [(4, 6, 8, 10)[row[-4]] for row in rows.tolist()]  # of the last layer
    assert given["layer3"].shape == (4, 1, 2, max(filters))
    narrow = filters.index(min(filters))
    assert min(filters) < max(filters)
    assert given["layer3"][narrow, 0, :, min(filters) :].unique(dim=1).flatten().tolist() == [0.0, 1.0]
    whole = images(batch=6, seed=5).double()
    one_by_one = torch.cat([supernet(whole[:, place, None], rows, statistics=given) for place in range(6)], dim=1)
    assert_same(one_by_one, supernet(whole, rows, statistics=given))
    child = supernet.extract(rows[0].tolist()).eval()
    own = supernet.statistics([images(batch=8).double()], rows[:1])
    child.set_statistics(own)
    assert_same(child(whole[0]), supernet(whole, rows[:1], statistics=own)[0])


def test_drop_path_drops_connections_of_layers_that_have_several() -> None:
    several = row_of(SPACE, layer2_skip_layer0="layer0", layer2_skip_layer1="layer1")
    for row, dropped in ((several, True), (row_of(SPACE, layer1_skip_layer0="layer0"), False)):
        network = SPACE.network(SCALE, generator(1), row)
        assert network.routes is not None
        noise = Noise(generator(5), drop_path=0.5)
        plain, noisy = (network(images(), network.routes, noise=each).logits for each in (None, noise))
        assert torch.equal(plain, noisy) != dropped


def test_what_it_has_not() -> None:
    with pytest.raises(UserError, match=r"no auxiliary head, set train\.auxiliary=0"):
        SPACE.network(SCALE, generator(), [0] * len(SPACE.decisions), auxiliary=True)
    with pytest.raises(ValueError, match="no state"):
        Supernet(SPACE, SCALE, generator())(images(), SPACE.random(1, generator()), torch.zeros(1))
