"""How to choose the next rows: one file a method."""

from enas.strategy.base import Sampler, Strategy, propose
from enas.strategy.random import Random
from enas.strategy.reinforce import Reinforce
from enas.strategy.successive_halving import SuccessiveHalving

__all__ = ["Random", "Reinforce", "Sampler", "Strategy", "SuccessiveHalving", "propose"]
