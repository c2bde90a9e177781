"""Matplotlib, whatever MPLBACKEND says; to be imported before anything that needs it.

Figures go straight to files. The backend, which shows them in windows and notebooks, is the user's:
one that is not here ends no import, and none is taken from whoever draws with it besides.
"""

import os
import sys
from contextlib import suppress

if "matplotlib" not in sys.modules:
    _backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if _backend is not None:
            os.environ["MPLBACKEND"] = _backend
    if _backend:
        with suppress(ValueError):  # there is no such backend
            matplotlib.rcParams["backend"] = _backend
