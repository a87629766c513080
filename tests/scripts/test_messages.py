"""Hydra's errors in one sentence."""

from enas.scripts.messages import causes


def test_a_circular_chain_of_errors_ends() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert list(causes(one)) == [one, other]
