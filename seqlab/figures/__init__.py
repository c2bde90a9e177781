"""Figures of results, as files or on axes of one's own; no global state is touched."""

from seqlab.figures.curves import curves, plot_results
from seqlab.figures.style import check_path

__all__ = ["check_path", "curves", "plot_results"]
