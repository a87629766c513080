"""A weight-sharing search engine for neural architectures.

import enas

found = enas.find(enas.data.digits(), "runs/digits")
network, result = enas.fit("runs/digits/genotype.json", enas.data.digits(), "runs/digits-final")
"""

from enas import data
from enas.api import find, fit
from enas.errors import UserError
from enas.space import EnasMicro

__all__ = ["EnasMicro", "UserError", "data", "find", "fit"]
