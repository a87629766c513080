"""The ENAS macro space: the authors' strings and sizes, skips, pooling points, the network, and its cost."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from conformance import MACRO_SPACES, SCALE, generator, images, scale_of, toy_data
from enas import kernels
from enas.errors import UserError
from enas.final import FinalTraining
from enas.randomness import Randomness
from enas.space import EnasMacro, Noise, Scale, SearchSpace
from enas.space.enas_macro_plan import OPERATIONS, place_layers, pooling_points
from enas.supernet import Child, Supernet
from tolerances import SAME, STORED_NETWORK, assert_same, assert_stored

SPACE = EnasMacro(6)
SIX = replace(SCALE, layers=6)
TEXT = "0 3 1 5 0 1 1 1 0 1 4 1 0 0 1 2 1 1 0 0 1"
ROW = SPACE.parse(TEXT)
PUBLISHED = Scale(layers=12, filters=36, height=32, width=32, channels=3, classes=10)
joins = pytest.mark.parametrize("skips", ["concat", "sum"])


def test_the_published_rows_have_78_and_300_integers() -> None:
    assert EnasMacro().layers == 12
    assert [len(EnasMacro(layers).decisions) for layers in (1, 12, 24)] == [1, 78, 300]


def test_the_authors_shared_model_has_070_million_parameters() -> None:
    """At 36 filters, which stay, and with skips that are added, as in their search."""
    supernet = Supernet(EnasMacro(12, "sum", doubling=False), PUBLISHED, generator())
    assert sum(parameter.numel() for parameter in supernet.parameters()) == 697_860


def test_the_final_network_of_24_layers_has_about_the_published_size() -> None:
    """21.3 million parameters; half of all skips, as random rows have them, make more of a concatenation."""
    space, scale = EnasMacro(24), replace(PUBLISHED, layers=24, filters=96)
    params = space.cost(space.random(200, generator()), scale).params
    assert 20e6 < float(params.double().median()) < 32e6


def test_pooling_points_and_filters_are_the_published_ones() -> None:
    assert pooling_points(12) == (3, 7)
    assert pooling_points(24) == (7, 15)
    assert pooling_points(3) == (0, 1)
    assert pooling_points(2) == ()
    scale = replace(PUBLISHED, layers=24, filters=96, height=31)
    placements = place_layers(scale, doubling=True)
    assert [placements[layer].filters for layer in (0, 7, 8, 15, 16, 23)] == [96, 96, 192, 192, 384, 384]
    assert [placements[layer].height for layer in (7, 8, 16)] == [31, 16, 8]
    assert {placement.filters for placement in place_layers(scale, doubling=False)} == {96}


def test_the_authors_strings_are_read_and_written() -> None:
    assert SPACE.string(ROW) == TEXT
    for row in SPACE.random(20, generator()).tolist():
        assert SPACE.parse(f" {SPACE.string(row)}\n") == row
        assert SPACE.parse(SPACE.string(row).replace(" ", "\n")) == row


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT + " 1", "21 decisions, the row has 22 integers"),
        ("6" + TEXT[1:], "choice 6 of decision layer0/operation is not in 0 to 5"),
        (TEXT[:-1] + "2", "choice 2 of decision layer5/skip/layer3"),
        (TEXT.replace("5", "max"), "must hold integers separated by blanks"),
    ],
)
def test_other_strings_are_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        SPACE.parse(text)


def test_one_convention_for_skips_in_row_file_text_and_drawing() -> None:
    """Bit 0 is the stem, bit j the output of layer j - 1; the layer before is the input and has no bit."""
    graph = SPACE.describe(ROW)
    assert [(layer["input"], layer["skips"]) for layer in graph["layers"]] == [
        ("stem", []),
        ("layer0", ["stem"]),
        ("layer1", ["layer0"]),
        ("layer2", ["stem", "layer1"]),
        ("layer3", ["stem", "layer2"]),
        ("layer4", ["stem", "layer0", "layer3"]),
    ]
    assert SPACE.text(ROW).splitlines()[3:] == [
        "layer3 = concat(separable_3x3(layer2), stem, layer1); then all is halved",
        "layer4 = concat(average_pool_3x3(layer3), stem, layer2)",
        "layer5 = concat(convolution_5x5(layer4), stem, layer0, layer3)",
    ]
    drawing = SPACE.drawings(ROW)["network"]
    assert drawing.joins == {layer["name"]: layer["skips"] for layer in graph["layers"]}
    chosen = [
        decision.alternatives[choice]
        for decision, choice in zip(SPACE.decisions, ROW, strict=True)
        if decision.kind == "skip" and choice
    ]
    assert chosen == [name for layer in graph["layers"] for name in layer["skips"]]


def reference(network: Any, skips: str, row: list[int], inputs: Tensor) -> Tensor:
    """The network of 6 layers in plain torch, written from the facts; one child, inputs [B, H, W, C]."""
    own = {name: value.detach() for name, value in network.named_parameters()}

    def norm(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2), unbiased=False)
        return (x - mean) / (variance + 1e-5).sqrt() * gain + bias

    def convolve(x: Tensor, kernel: Tensor, groups: int = 1) -> Tensor:
        weight = kernel.permute(3, 2, 0, 1)
        planes = x.permute(0, 3, 1, 2)
        return torch.conv2d(planes, weight, padding=weight.shape[-1] // 2, groups=groups).permute(0, 2, 3, 1)

    def pool(x: Tensor, function: Any, **settings: Any) -> Tensor:
        pooled: Tensor = function(x.permute(0, 3, 1, 2), 3, 1, 1, **settings).permute(0, 2, 3, 1)
        return pooled

    slots = [norm(convolve(inputs, own["stem"]), own["stem_gain"], own["stem_bias"])]
    first = 0
    for layer in range(6):
        code, bits = row[first], row[first + 1 : first + 1 + layer]
        first += 1 + layer
        at = f"layers.{layer}"
        x = slots[layer].relu() @ own[f"{at}.entry.weight"][code]
        x = norm(x, own[f"{at}.entry.gain"][code], own[f"{at}.entry.bias"][code]).relu()
        prefix = f"{at}.operations.{OPERATIONS[code]}."
        weights = {name.removeprefix(prefix): value for name, value in own.items() if name.startswith(prefix)}
        if OPERATIONS[code].startswith("convolution"):
            x = norm(convolve(x, weights["kernel"]), weights["gain"], weights["bias"])
        elif OPERATIONS[code].startswith("separable"):
            x = convolve(x, weights["depthwise"].unsqueeze(2), groups=x.shape[-1]) @ weights["pointwise"]
            x = norm(x, weights["gain"], weights["bias"])
        elif OPERATIONS[code].startswith("average"):
            x = pool(x, torch.nn.functional.avg_pool2d, count_include_pad=False)
        else:
            x = pool(x, torch.nn.functional.max_pool2d)
        if layer > 0:
            taken = [slot for slot, bit in enumerate(bits) if bit]
            if skips == "concat":
                weight = own[f"{at}.join.weight"]
                x = x.relu() @ weight[layer] + sum(slots[slot].relu() @ weight[slot] for slot in taken)
                x = norm(x, own[f"{at}.join.gain"][0], own[f"{at}.join.bias"][0])
            else:
                x = norm(x + sum(slots[slot] for slot in taken), own[f"{at}.join_gain"], own[f"{at}.join_bias"])
        slots.append(x)
        if layer in (1, 3):
            place = (1, 3).index(layer)
            weight = own[f"pools.{place}.reductions.weight"]
            half = weight.shape[2] // 2
            for slot, x in enumerate(slots):
                shifted = torch.zeros_like(x)
                shifted[:, :-1, :-1] = x[:, 1:, 1:]
                halves = [x[:, ::2, ::2] @ weight[slot, :, :half], shifted[:, ::2, ::2] @ weight[slot, :, half:]]
                gain, bias = own[f"pools.{place}.reductions.gain"][slot], own[f"pools.{place}.reductions.bias"][slot]
                slots[slot] = norm(torch.cat(halves, dim=-1), gain, bias)
    return slots[-1].mean((1, 2)) @ own["head"]


@joins
@pytest.mark.parametrize("doubling", [True, False])
def test_the_network_is_the_one_that_is_described(skips: Any, doubling: bool) -> None:
    space = EnasMacro(6, skips, doubling)
    supernet = Supernet(space, replace(SIX, height=13), generator(1)).double()
    inputs = torch.randn(1, 3, 13, 16, 3, generator=generator(2), dtype=torch.float64)
    for row in (ROW, *space.random(4, generator(3)).tolist()):
        assert_same(supernet(inputs, torch.tensor([row]))[0], reference(supernet.network, skips, row, inputs[0]))


@joins
def test_changing_any_operation_or_skip_changes_the_output(skips: Any) -> None:
    """In the supernet and in the stand-alone network; in the authors' search the operations have no effect."""
    space = EnasMacro(6, skips)
    supernet = Supernet(space, SIX, generator(1)).double()
    inputs = images(batch=2, seed=1).double()
    row = space.random(1, generator(7))[0]
    others = []
    for place, decision in enumerate(space.decisions):
        for choice in range(len(decision.alternatives)):
            if choice != row[place]:
                other = row.clone()
                other[place] = choice
                others.append(other)
    with torch.no_grad():
        logits = supernet(inputs, torch.stack([row, *others]))
    assert len(others) == 6 * 5 + 15
    assert ((logits[1:] - logits[0]).abs().flatten(1).amax(dim=1) > 1e3 * SAME[torch.float64].atol).all()


def test_all_six_operations_are_in_the_final_network() -> None:
    for code, name in enumerate(OPERATIONS):
        row = [code, code, 1]
        child = Child(EnasMacro(2), row, replace(SCALE, layers=2), generator(1))
        operations = child.network.layers[0].operations  # type: ignore[union-attr]
        assert list(operations) == ([] if "pool" in name else [name])
        assert torch.isfinite(child(images()[0])).all()


@pytest.mark.parametrize("space", MACRO_SPACES.values(), ids=MACRO_SPACES)
@pytest.mark.parametrize("size", [(16, 16), (7, 5), (2, 1)])
def test_the_cost_is_what_the_child_has_and_does(space: SearchSpace, size: tuple[int, int]) -> None:
    scale = replace(scale_of(space), height=size[0], width=size[1])
    kernels.select("reference", torch.device("cpu"))
    rows = space.random(4, generator(size[0]))
    params, macs = space.cost(rows, scale)
    for index, row in enumerate(rows.tolist()):
        child = Child(space, row, scale, generator()).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            child(torch.zeros(1, *size, scale.channels))
        assert int(params[index]) == sum(parameter.numel() for parameter in child.parameters())
        assert int(macs[index]) == counter.get_total_flops() // 2


@joins
def test_an_extracted_child_has_the_gradients_of_its_path(skips: Any) -> None:
    space = EnasMacro(6, skips)
    supernet = Supernet(space, SIX, generator(1)).double()
    row = space.random(1, generator(4))
    child = supernet.extract(row[0].tolist())
    inputs = images().double()
    supernet(inputs, row).square().sum().backward()
    child(inputs[0]).square().sum().backward()
    shared = dict(supernet.network.named_parameters())
    for name, parameter in child.network.named_parameters():
        assert parameter.grad is not None
        expected = shared[name].grad
        assert expected is not None
        assert_same(parameter.grad.square().sum(), expected.square().sum())


def test_a_child_alone_and_among_others_has_the_same_bits() -> None:
    supernet = Supernet(SPACE, SIX, generator(1))
    rows, inputs = SPACE.random(4, generator(2)), images(batch=3)
    together = supernet(inputs, rows)
    for row, logits in zip(rows, together, strict=True):
        assert torch.equal(supernet(inputs, row[None])[0], logits)
    apart = images(4, 3, seed=5)
    for child, logits in enumerate(supernet(apart, rows)):
        assert torch.equal(supernet(apart[child, None], rows[child, None])[0], logits)


def test_statistics_of_a_child_are_used_and_unused_norms_have_none() -> None:
    supernet = Supernet(SPACE, SIX, generator(1)).double()
    row = torch.tensor([ROW])
    given = supernet.statistics([images(batch=8).double()], row)
    assert given["layer/2"].shape == (1, 3, 2, 8)
    assert given["layer/2"][0, 1].tolist() == [[0.0] * 8, [1.0] * 8]  # a max pool has no norm
    assert given["pool/1"].shape == (1, 5, 2, 16)
    assert given["pool/1"][0, 2].tolist() == [[0.0] * 16, [1.0] * 16]  # nobody reads layer 1 any more
    whole = images(batch=6, seed=5).double()
    one_by_one = torch.cat([supernet(whole[:, place, None], row, statistics=given) for place in range(6)], dim=1)
    assert_same(one_by_one, supernet(whole, row, statistics=given))
    child = supernet.extract(ROW)
    child.set_statistics(given)
    assert_same(child.eval()(whole[0]), one_by_one[0])
    several = supernet.statistics([images(batch=8).double()], torch.cat([row, SPACE.random(2, generator())]))
    assert_same(several["layer/2"][:1], given["layer/2"])


def test_dropout_comes_behind_the_pool_and_there_is_no_relu() -> None:
    network = SPACE.network(SIX, generator(1), ROW).double()
    assert network.routes is not None
    inputs = images(batch=400).double()
    plain = network(inputs, network.routes).logits
    noisy = network(inputs, network.routes, noise=Noise(generator(5), dropout=0.5)).logits
    assert not torch.equal(plain, noisy)
    with torch.no_grad():
        features = network.head.shape[0]
        network.head.copy_(torch.eye(features, SIX.classes, dtype=torch.float64))  # the classifier shows the features
        shown = network(inputs, network.routes).logits
        dropped = network(inputs, network.routes, noise=Noise(generator(5), dropout=0.5)).logits
    assert (shown < 0).any()
    assert float((dropped == 0).double().mean()) == pytest.approx(0.5, abs=0.05)
    assert_same(dropped[dropped != 0], 2 * shown[dropped != 0])


def test_images_of_half_precision_are_stored_only() -> None:
    supernet = Supernet(SPACE, SIX, generator(1))
    rows, inputs = SPACE.random(2, generator()), images(batch=4)
    logits = supernet(inputs.bfloat16(), rows)
    assert logits.dtype == torch.float32
    assert_stored(logits, supernet(inputs.bfloat16().float(), rows), STORED_NETWORK)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"layers": 0}, "space.layers=0: allowed are 1 to 48 layers"),
        ({"layers": 49}, "space.layers=49"),
        ({"layers": True}, "space.layers=True"),
        ({"layers": "12"}, "space.layers=12"),
        ({"skips": "mean"}, "space.skips=mean: allowed are concat and sum"),
        ({"doubling": 1}, "space.doubling=1: allowed are true and false"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        EnasMacro(**arguments)


def test_another_number_of_layers_is_refused() -> None:
    said = "network.layers=3: a row of this space enas_macro has 6 layers"
    with pytest.raises(UserError, match=said):
        Supernet(SPACE, replace(SIX, layers=3), generator())
    with pytest.raises(UserError, match=said):
        SPACE.cost(torch.tensor([ROW]), replace(SIX, layers=3))


def test_it_has_no_auxiliary_head_and_no_paths_to_drop() -> None:
    with pytest.raises(UserError, match=r"no auxiliary head, set train\.auxiliary=0"):
        SPACE.network(SIX, generator(), ROW, auxiliary=True)
    child = Child(SPACE, ROW, SIX, generator(1))
    randomness = Randomness(0, FinalTraining.PURPOSES, torch.device("cpu"))
    with pytest.raises(UserError, match=r"train\.drop_path=0\.1: a network of space enas_macro has no paths to drop"):
        FinalTraining(child, toy_data(), randomness, epochs=1, drop_path=0.1)


def test_it_has_no_state() -> None:
    with pytest.raises(ValueError, match="no state"):
        SPACE.network(SIX, generator(), ROW)(images(), SPACE.route(torch.tensor([ROW])), torch.zeros(1))
