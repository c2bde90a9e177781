"""Means over one or two normal variables, of functions with kinks at zero.

Gauss-Legendre on panels that double in width away from zero, or on the arcs of a circle between the
kinks: what is integrated is analytic within each.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

Function = Callable[[NDArray], NDArray]

SPAN = 9.0  # standard deviations kept: 1e-18 lies beyond
_NODES = 24  # in each panel
_ARC, _RADIUS = 64, 96


@cache
def _legendre(count: int) -> tuple[NDArray, NDArray]:
    return np.polynomial.legendre.leggauss(count)


def _on(edges: NDArray, count: int) -> tuple[NDArray, NDArray]:
    """Nodes and weights for an integral over the panels between `edges`."""
    nodes, weights = _legendre(count)
    half = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + half * (nodes + 1)).ravel(), (half * weights).ravel()


def normal_mean(f: Function, q: float) -> float:
    """E[f(sqrt(q) z)] of a standard normal z; f(0) at q = 0, where that is its value from both
    sides."""
    if q == 0:
        return float(f(np.zeros(1))[0])
    scale = math.sqrt(q)
    # Of f's own width, which is one, or the normal's, whichever is narrower.
    finest = min(1.0, scale) / 4
    count = math.ceil(math.log2(SPAN * scale / finest))
    edges = np.concatenate([[0.0], SPAN * scale * 2.0 ** np.arange(-count, 1)])
    x, weight = _on(edges, _NODES)
    weight = weight * np.exp(-np.square(x / scale) / 2) / (math.sqrt(2 * math.pi) * scale)
    return float((f(x) + f(-x)) @ weight)


def _arcs(correlation: float) -> tuple[NDArray, NDArray, NDArray]:
    """Directions as two variables of unit variance with a correlation see them, u and v, and
    weights that add to one; neither changes sign within an arc."""
    across = math.sqrt(max(0.0, 1 - correlation**2))
    turn = math.atan2(-correlation, across)  # where the second is zero
    edges = np.sort(np.array([math.pi / 2, 3 * math.pi / 2, turn, turn + math.pi]) % (2 * math.pi))
    edges = np.concatenate([edges, edges[:1] + 2 * math.pi])
    angle, weight = _on(edges[np.concatenate([[True], np.diff(edges) > 1e-15])], _ARC)
    u = np.cos(angle)
    return u, correlation * u + across * np.sin(angle), weight / (2 * math.pi)


def pair_mean(f: Callable[[NDArray, NDArray], NDArray], q: float, correlation: float) -> float:
    """E[f(x, y)] of two normal variables with variance q and a correlation."""
    u, v, weight = _arcs(correlation)
    radius, along = _on(np.linspace(0, SPAN, 5), _RADIUS // 4)
    along = along * radius * np.exp(-np.square(radius) / 2)
    reach = math.sqrt(q) * radius
    return float(along @ f(np.outer(reach, u), np.outer(reach, v)) @ weight)


def batch_mean(f: Callable[[NDArray, NDArray], NDArray], size: int) -> float:
    """E[f(x, y)] of two entries of a random vector of `size` from 4 up, uniform among those with
    mean 0 and mean square 1: what batch norm makes of `size` samples."""
    u, v, weight = _arcs(-1 / (size - 1))
    # Two coordinates of a point on a sphere in size - 1 dimensions; r = sin t.
    t, along = _on(np.linspace(0, min(math.pi / 2, SPAN / math.sqrt(size - 3)), 5), _RADIUS // 4)
    along = along * (size - 3) * np.sin(t) * np.cos(t) ** (size - 4)
    reach = math.sqrt(size - 1) * np.sin(t)
    return float(along @ f(np.outer(reach, u), np.outer(reach, v)) @ weight)
