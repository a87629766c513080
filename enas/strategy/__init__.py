"""How to choose the next rows: one file a method."""

from enas.strategy.ant_colony import AntColony
from enas.strategy.base import Sampler, Strategy, propose
from enas.strategy.evolution import Evolution
from enas.strategy.hierarchical_evolution import HierarchicalEvolution
from enas.strategy.local_search import LocalSearch
from enas.strategy.pnas import ProgressiveSearch
from enas.strategy.ppo import Ppo
from enas.strategy.random import Random
from enas.strategy.reinforce import Reinforce

__all__ = [
    "AntColony",
    "Evolution",
    "HierarchicalEvolution",
    "LocalSearch",
    "Ppo",
    "ProgressiveSearch",
    "Random",
    "Reinforce",
    "Sampler",
    "Strategy",
    "propose",
]
