"""What each cell is: equations, parameters, initial draws, and its algebra in plain Python.

A new cell is one file here and one row in `CELLS`.
"""

from seqlab.cells import gru, lstm, rnn, ssm
from seqlab.cells.cell import Cell, Cost, Draw, Observed, Parameters, Sizes
from seqlab.cells.draws import INITS
from seqlab.cells.rnn import ACTIVATIONS

CELLS: dict[str, Cell] = {cell.name: cell for cell in (rnn.CELL, lstm.CELL, gru.CELL, ssm.CELL)}

__all__ = [
    "ACTIVATIONS",
    "CELLS",
    "INITS",
    "Cell",
    "Cost",
    "Draw",
    "Observed",
    "Parameters",
    "Sizes",
]
