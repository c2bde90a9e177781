"""Figures of results, as files or on axes of one's own; no global state is touched."""

from seqlab.figures import _matplotlib as _matplotlib
from seqlab.figures.bars import histogram
from seqlab.figures.choose import select
from seqlab.figures.data import check_path
from seqlab.figures.dots import distribution
from seqlab.figures.figure import plot, plot_reach, plot_results
from seqlab.figures.lines import curves
from seqlab.figures.maps import heatmap, profile
from seqlab.figures.page import Looks
from seqlab.figures.request import Request, resolve_request

__all__ = [
    "Looks",
    "Request",
    "check_path",
    "curves",
    "distribution",
    "heatmap",
    "histogram",
    "plot",
    "plot_reach",
    "plot_results",
    "profile",
    "resolve_request",
    "select",
]
