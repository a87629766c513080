"""How to choose the next rows: one file a method."""

from enas.strategy.base import Sampler, Strategy, propose
from enas.strategy.pnas import ProgressiveSearch
from enas.strategy.ppo import Ppo
from enas.strategy.random import Random
from enas.strategy.reinforce import Reinforce

__all__ = ["Ppo", "ProgressiveSearch", "Random", "Reinforce", "Sampler", "Strategy", "propose"]
