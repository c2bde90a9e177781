"""What each cell is: equations, parameters, initial draws, and its algebra in plain Python.

A new cell is one file here and one row in `NAMES`.
"""

from importlib import import_module

from seqlab.cells.cell import Cell, Cost, Draw, Gates, Observed, Parameters, Sizes
from seqlab.cells.draws import DECAYS, INITS, SCALED
from seqlab.cells.layered import in_layers, layer_sizes, part_names, suffix
from seqlab.cells.rnn import ACTIVATIONS

# In the order of help texts, tables and figures.
NAMES = (
    "rnn",
    "lstm",
    "gru",
    "ssm",
    "mingru",
    "lru",
    "deltanet",
    "slstm",
)
CELLS: dict[str, Cell] = {name: import_module(f"seqlab.cells.{name}").CELL for name in NAMES}

__all__ = [
    "ACTIVATIONS",
    "CELLS",
    "DECAYS",
    "INITS",
    "SCALED",
    "Cell",
    "Cost",
    "Draw",
    "Gates",
    "Observed",
    "Parameters",
    "Sizes",
    "in_layers",
    "layer_sizes",
    "part_names",
    "suffix",
]
