"""Scores before training: on every space, by the row's function alone, and as others published them."""

import os
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch.nn import functional

from conformance import CELL_SPACES, SCRATCH_SPACES, TEXT_SCALE, generator, scale_of, toy_data, toy_table, toy_text
from enas import kernels
from enas.data import cifar10
from enas.errors import UserError
from enas.estimator import ZeroCost
from enas.estimator.rank import spearman
from enas.estimator.zero_cost import Proxy
from enas.randomness import derive_seed, seeded
from enas.space import Chain, EnasMicro, EnasRnn, NasBench201, Scale, SearchSpace
from enas.supernet import Child

DATA = toy_data()
IMAGE_SPACES = {name: space for name, space in {**CELL_SPACES, **SCRATCH_SPACES}.items() if space.reads == "images"}


def estimator(space: SearchSpace, proxy: Any, **settings: Any) -> ZeroCost:
    return ZeroCost(space, scale_of(space), DATA, proxy, **({"batch_size": 4} | settings))


@pytest.mark.parametrize("space", IMAGE_SPACES.values(), ids=IMAGE_SPACES.keys())
@pytest.mark.parametrize("proxy", get_args(Proxy))
def test_it_works_on_every_space_of_images(space: SearchSpace, proxy: str) -> None:
    rows = space.random(2, generator())
    found = estimator(space, proxy).estimate(rows)
    assert torch.isfinite(found.value).all()
    assert found.value.dtype == torch.float64
    assert torch.equal(found.metrics[proxy], found.value)
    assert torch.equal(found.error, torch.zeros(2))
    assert found.images == (0 if proxy == "parameters" else 4)


@pytest.mark.parametrize("proxy", get_args(Proxy))
def test_equal_functions_have_equal_scores(proxy: str) -> None:
    """On NAS-Bench-201 an edge into nowhere makes no difference."""
    rows = torch.tensor([[1, 0, 0, 2, 0, 0], [1, 3, 0, 2, 0, 0], [3, 0, 0, 3, 0, 3]])
    value = estimator(NasBench201(), proxy).estimate(rows).value
    assert value[0] == value[1]
    assert value[0] != value[2]


@pytest.mark.parametrize("proxy", get_args(Proxy))
def test_a_network_that_is_cut_through_is_the_worst(proxy: str) -> None:
    space = NasBench201()
    rows = torch.cat([torch.zeros(1, 6, dtype=torch.int64), space.random(3, generator())])
    value = estimator(space, proxy).estimate(rows).value
    assert torch.isfinite(value).all()
    assert (value[0] < value[1:]).all()


@pytest.mark.parametrize("proxy", ["synflow", "naswot", "jacobian_covariance"])
def test_the_seed_draws_weights_and_images_anew(proxy: str) -> None:
    space = EnasMicro(1)
    row = space.random(1, generator())
    scores = [estimator(space, proxy, seed=seed).estimate(row).value for seed in (0, 0, 1)]
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])


@pytest.mark.parametrize("proxy", ["synflow", "naswot", "jacobian_covariance"])
def test_the_kernels_in_use_are_no_matter(proxy: str) -> None:
    """Native ones would hide their ReLUs."""
    space = EnasMicro(1)
    row = space.random(1, generator())
    scores = []
    for choice in ("auto", "reference"):
        kernels.select(choice, torch.device("cpu"))
        before = kernels.in_use(torch.device("cpu"))
        scores.append(estimator(space, proxy).estimate(row).value)
        assert kernels.in_use(torch.device("cpu")) == before
    assert torch.equal(scores[0], scores[1])


def test_the_flow_is_that_of_a_network_without_batch_norm() -> None:
    space = Chain(1)
    canonical = space.canonical(space.random(1, generator()))
    row = canonical[0].tolist()
    scale = scale_of(space)
    child = Child(space, row, scale, seeded(derive_seed(0, f"row {row}"), "weights"))
    weights = {name.rpartition(".")[2]: each.detach().double().abs() for name, each in child.named_parameters()}
    kernel = weights["kernel"].permute(3, 2, 0, 1)
    padding = (kernel.shape[2] // 2, kernel.shape[3] // 2)
    ones = torch.ones(1, scale.channels, scale.height, scale.width, dtype=torch.float64)
    output = (functional.conv2d(ones, kernel, padding=padding).mean(dim=(2, 3)) @ weights["head"]).sum()
    assert estimator(space, "synflow").estimate(canonical).value.item() == pytest.approx((2 * output).log1p().item())


def test_parameters_are_those_of_the_network() -> None:
    space = EnasMicro(2)
    rows = space.canonical(space.random(3, generator()))
    for row, value in zip(rows.tolist(), estimator(space, "parameters").estimate(rows).value, strict=True):
        child = Child(space, row, scale_of(space), generator())
        assert value == sum(parameter.numel() for parameter in child.parameters())


def test_without_images_only_the_parameters_can_be_told() -> None:
    space, text = EnasRnn(2), toy_text()
    assert (ZeroCost(space, TEXT_SCALE, text, "parameters").estimate(space.random(2, generator())).value > 0).all()
    with pytest.raises(UserError, match=r"^estimator\.proxy=naswot: it looks at images, and the toy data has none"):
        ZeroCost(space, TEXT_SCALE, text, "naswot")
    table = toy_table()
    rows = NasBench201().random(2, generator())
    assert (ZeroCost(NasBench201(), table.scale, table, "parameters").estimate(rows).value > 0).all()
    with pytest.raises(UserError, match=r"^estimator\.proxy=synflow: it looks at images, and the toy table data"):
        ZeroCost(NasBench201(), table.scale, table, "synflow")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"proxy": "grasp"}, r"^estimator\.proxy=grasp: allowed are synflow, naswot, jacobian_covariance, parameters$"),
        ({"batch_size": 1}, r"^estimator\.batch_size=1: allowed is 2 or more"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        estimator(EnasMicro(1), **({"proxy": "naswot"} | settings))


@pytest.mark.slow
@pytest.mark.parametrize("proxy", ["synflow", "naswot"])
def test_scores_rank_as_published(proxy: Any) -> None:
    """ENAS_NASBENCH201 has nasbench201.npz and nasbench201_zerocost.npz, ENAS_CIFAR10 the images (some suffice)."""
    folders = [os.environ.get(name) for name in ("ENAS_NASBENCH201", "ENAS_CIFAR10")]
    if None in folders:
        pytest.skip("ENAS_NASBENCH201 and ENAS_CIFAR10 do not say where published scores and images are")
    tables, images = (Path(str(folder)) for folder in folders)
    with np.load(tables / "nasbench201.npz") as table, np.load(tables / "nasbench201_zerocost.npz") as scores:
        places = {tuple(row): place for place, row in enumerate(table["ops"].tolist())}
        published = scores[f"{proxy}_cifar10"]
    space = NasBench201()
    rows = space.random(100, generator())
    # The published networks also have the ReLUs of edges that lead nowhere, which canonical rows have not.
    rows = rows[(space.canonical(rows) == rows).all(dim=1)]
    own = ZeroCost(space, Scale(5, 16, 32, 32, 3, 10), cifar10(images), proxy, batch_size=32).estimate(rows).value
    other = np.array([published[places[tuple(row)]] for row in rows.tolist()])
    assert spearman(own.tolist(), np.nan_to_num(other, neginf=-1e9).tolist()).value > 0.97
