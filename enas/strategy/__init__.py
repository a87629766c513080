"""How to choose the next rows: one file a method."""

from enas.strategy.base import Sampler, Strategy, propose
from enas.strategy.bayesian import Bayesian
from enas.strategy.random import Random
from enas.strategy.reinforce import Reinforce

__all__ = ["Bayesian", "Random", "Reinforce", "Sampler", "Strategy", "propose"]
