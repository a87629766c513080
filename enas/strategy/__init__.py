"""How to choose next: one file a method. Samplers ask for rows, relaxations learn a mixture of all operations."""

from enas.strategy.ant_colony import AntColony
from enas.strategy.base import Sampler, Strategy, propose
from enas.strategy.bayesian import Bayesian
from enas.strategy.darts import Darts
from enas.strategy.evolution import Evolution
from enas.strategy.gdas import Gdas
from enas.strategy.hierarchical_evolution import HierarchicalEvolution
from enas.strategy.local_search import LocalSearch
from enas.strategy.pc_darts import PcDarts
from enas.strategy.pnas import ProgressiveSearch
from enas.strategy.ppo import Ppo
from enas.strategy.random import Random
from enas.strategy.reinforce import Reinforce
from enas.strategy.relaxation import Relaxation
from enas.strategy.snas import Snas
from enas.strategy.successive_halving import SuccessiveHalving

__all__ = [
    "AntColony",
    "Bayesian",
    "Darts",
    "Evolution",
    "Gdas",
    "HierarchicalEvolution",
    "LocalSearch",
    "PcDarts",
    "Ppo",
    "ProgressiveSearch",
    "Random",
    "Reinforce",
    "Relaxation",
    "Sampler",
    "Snas",
    "Strategy",
    "SuccessiveHalving",
    "propose",
]
