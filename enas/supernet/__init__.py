"""The shared weights: who shares what, which batch-norm statistics are used, and how a child is cut out."""

from enas.supernet.child import Child, load_child, save_child
from enas.supernet.supernet import Supernet, mean_statistics

__all__ = ["Child", "Supernet", "load_child", "mean_statistics", "save_child"]
