"""The peer's controller is ours: the same rows have the same log-probability, and learning moves it."""

import torch
from torch import Tensor

from conformance import generator
from enas.api import BOUND
from enas.bench.controller import Asked, PeerController, PeerReinforce
from enas.space import EnasMicro
from enas.strategy.controller import Controller
from tolerances import assert_same

SPACE = EnasMicro(nodes=3)


def both() -> tuple[Controller, PeerController]:
    ours = Controller(SPACE, 8, {}, BOUND, {"operation": [2.0, 0.0, 0.0, 1.0, 0.0]}, {}, generator()).double()
    peer = PeerController(SPACE.nodes, 8, BOUND).double()
    peer.copy_weights(ours)
    return ours, peer


def test_equal_rows_have_equal_probabilities() -> None:
    ours, peer = both()
    rows = SPACE.random(6, generator(1))
    policy, asked = ours.evaluate(rows), peer(6, given=rows)
    assert torch.equal(asked.rows, rows)
    assert_same(asked.log_probability, policy.log_probability)
    assert_same(asked.entropy, policy.entropy)


def test_what_it_samples_is_legal_and_has_its_probability() -> None:
    ours, peer = both()
    asked = peer(50, generator(2))
    assert bool(SPACE.legal(asked.rows).all())
    assert_same(asked.log_probability, ours.evaluate(asked.rows).log_probability)


def test_learning_makes_rows_of_high_reward_likelier() -> None:
    _, peer = both()
    strategy = PeerReinforce(peer, learning_rate=0.05)

    def pools(count: int, seed: int) -> tuple[Asked, Tensor]:
        asked = peer(count, generator(seed))
        return asked, (asked.rows[:, 1::2] == 2).double().mean(dim=1)

    before = pools(400, 3)[1].mean()
    for step in range(60):
        strategy.tell(*pools(10, 4 + step))
    assert pools(400, 3)[1].mean() > before + 0.1
