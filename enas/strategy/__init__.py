"""How to choose the next rows: one file a method."""

from enas.strategy.ant_colony import AntColony
from enas.strategy.base import Sampler, Strategy, propose
from enas.strategy.evolution import Evolution
from enas.strategy.hierarchical_evolution import HierarchicalEvolution
from enas.strategy.local_search import LocalSearch
from enas.strategy.random import Random
from enas.strategy.reinforce import Reinforce
from enas.strategy.successive_halving import SuccessiveHalving

__all__ = [
    "AntColony",
    "Evolution",
    "HierarchicalEvolution",
    "LocalSearch",
    "Random",
    "Reinforce",
    "Sampler",
    "Strategy",
    "SuccessiveHalving",
    "propose",
]
