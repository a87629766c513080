"""NAS-Bench-201: the official string, the table's costs, the network, and rows that are the same function."""

from pathlib import Path

import numpy as np
import pytest
import torch

from conformance import SCALE, generator, images
from enas.errors import UserError
from enas.space import NasBench201, Noise, Scale
from enas.space.nasbench201 import NONE
from enas.supernet import Child, Supernet
from tolerances import assert_same

SPACE = NasBench201()
TABLE = Path(__file__).parents[3] / "shared" / "data" / "nasbench201" / "nasbench201.npz"
SETS = {"cifar10": (32, 10), "cifar100": (32, 100), "in16": (16, 120)}
"""Side of the images and classes, by the table's names."""
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
"""The cell with the best published test accuracy on CIFAR-10."""
PUBLISHED = {
    BEST: {"cifar10": (1_073_466, 153.273), "cifar100": (1_079_316, 153.279), "in16": (1_080_616, 38.326)},
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|": {
        "cifar10": (129_306, 15.647),
        "in16": (136_456, 3.919),
    },
}


def published(name: str) -> Scale:
    side, classes = SETS[name]
    return Scale(layers=5, filters=16, height=side, width=side, channels=3, classes=classes)


@pytest.mark.parametrize("text", PUBLISHED)
def test_costs_are_the_published_ones(text: str) -> None:
    row = torch.tensor([SPACE.parse(text)])
    for name, (params, millions) in PUBLISHED[text].items():
        cost = SPACE.cost(row, published(name))
        assert int(cost.params) == params
        assert int(cost.macs) / 1e6 == pytest.approx(millions, abs=5e-4)


@pytest.mark.skipif(not TABLE.is_file(), reason="the table is not beside the repository")
@pytest.mark.parametrize("name", SETS)
def test_costs_of_every_row_are_the_table_s(name: str) -> None:
    with np.load(TABLE) as table:
        rows = torch.tensor(table["ops"].astype(np.int64))
        params, millions = table[f"params_{name}"], table[f"mflops_{name}"]
    assert len(rows) == 5**6
    cost = SPACE.cost(rows, published(name))
    assert (cost.params.numpy() == params).all()
    assert np.abs(cost.macs.numpy() / 1e6 - millions).max() < 1e-5


def test_the_cost_is_that_of_the_network() -> None:
    for row in SPACE.random(5, generator()).tolist():
        child = Child(SPACE, row, SCALE, generator(1))
        params = sum(parameter.numel() for parameter in child.parameters())
        assert int(SPACE.cost(torch.tensor([row]), SCALE).params) == params


def test_the_official_string_is_read_and_written() -> None:
    assert SPACE.parse(BEST) == [3, 3, 3, 1, 3, 2]
    for row in SPACE.random(50, generator()).tolist():
        assert SPACE.parse(SPACE.text(row)) == row
        assert SPACE.parse(f" {SPACE.text(row)}\n") == row


@pytest.mark.parametrize(
    "text",
    [
        "",
        "|none~0|",
        BEST.replace("skip_connect", "skip"),
        BEST.replace("nor_conv_3x3~1", "nor_conv_3x3~0", 1),
        BEST + "|none~0|",
        BEST.replace("+", ""),
    ],
)
def test_other_strings_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no cell of NAS-Bench-201"):
        SPACE.parse(text)


def test_nothing_read_is_nothing_and_a_convolution_of_nothing_is_not() -> None:
    cases = {
        # Node 1 gives zeros, so a pool or identity of it does too; a convolution's batch norm adds its bias.
        "|none~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|skip_connect~1|nor_conv_1x1~2|": [0, 3, 0, 0, 0, 2],
        "|none~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|none~0|none~1|skip_connect~2|": [0, 3, 2, 0, 0, 1],
        # Nobody reads node 2.
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|none~0|skip_connect~1|none~2|": [3, 0, 0, 0, 1, 0],
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|none~0|none~1|none~2|": [NONE] * 6,
    }
    for text, expected in cases.items():
        assert SPACE.canonical(torch.tensor([SPACE.parse(text)]))[0].tolist() == expected, text


def test_a_row_and_its_canonical_one_are_the_same_function() -> None:
    supernet = Supernet(SPACE, SCALE, generator(1)).double()
    with torch.no_grad():
        for parameter in supernet.parameters():  # biases that are seen
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator(2), dtype=torch.float64)
    rows = SPACE.random(40, generator(3))
    canonical = SPACE.canonical(rows)
    assert (rows != canonical).any(dim=1).sum() > 3
    inputs = images(batch=2).double()
    assert_same(supernet(inputs, rows), supernet(inputs, canonical))


def test_a_child_alone_and_among_others_has_the_same_bits() -> None:
    supernet = Supernet(SPACE, SCALE, generator(1))
    rows, inputs = SPACE.random(4, generator(2)), images(batch=3)
    together = supernet(inputs, rows)
    for row, logits in zip(rows, together, strict=True):
        assert torch.equal(supernet(inputs, row[None])[0], logits)


def test_statistics_of_a_child_are_used_and_unused_edges_have_none() -> None:
    supernet = Supernet(SPACE, SCALE, generator(1))
    row = torch.tensor([SPACE.parse(BEST)])
    given = supernet.statistics([images(batch=8)], row)
    assert given["cell/1"].shape == (1, 6, 2, SCALE.filters)
    assert given["cell/1"][0, 3].tolist() == [[0.0] * SCALE.filters, [1.0] * SCALE.filters]
    whole = images(batch=8, seed=5)
    one_by_one = torch.cat([supernet(whole[:, place, None], row, statistics=given) for place in range(8)], dim=1)
    assert_same(one_by_one, supernet(whole, row, statistics=given))


@pytest.mark.parametrize("size", [(9, 8), (5, 7), (2, 1)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    scale = Scale(1, 4, *size, 3, 4)
    logits = Supernet(SPACE, scale, generator(1))(torch.randn(1, 4, *size, 3), SPACE.random(2, generator()))
    assert logits.shape == (2, 4, 4)
    assert torch.isfinite(logits).all()


def test_drop_path_drops_operations_but_no_identity() -> None:
    scale = Scale(1, 4, 8, 8, 3, 4)
    inputs = torch.randn(1, 64, 8, 8, 3, generator=generator(4))
    for text, dropped in (
        (BEST, True),
        (BEST.replace("nor_conv_3x3", "skip_connect").replace("nor_conv_1x1", "none"), False),
    ):
        network = SPACE.network(scale, generator(1), SPACE.parse(text))
        assert network.routes is not None
        noise = Noise(generator(5), drop_path=0.5)
        plain, noisy = (network(inputs, network.routes, noise=each).logits for each in (None, noise))
        assert torch.equal(plain, noisy) != dropped


def test_it_has_no_auxiliary_head() -> None:
    with pytest.raises(UserError, match=r"no auxiliary head, set train\.auxiliary=0"):
        SPACE.network(SCALE, generator(), [0] * 6, auxiliary=True)
