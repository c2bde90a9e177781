"""Figures of made-up runs for tests of plots, and what is seen on a page."""

import itertools

import matplotlib as mpl
import numpy as np
from synthetic import result

from seqlab.figures import Looks, Request, figure, plot


def spoil(log_norm, lag):
    """The second rule cuts at 100 steps; of the first, some networks overflow, some are nan."""
    log_norm[:, 1:, :, lag > 100] = -np.inf
    log_norm[0, 0, :, lag > 500] = np.inf
    log_norm[1, 0, :, lag > 500] = np.nan


def late(log_norm, lag):
    """No gradient has reached cell states at lag 0."""
    log_norm[:, :, 6:, :, lag == 0] = -np.inf


CELLS = {"rnn": -0.5, "lstm": -0.45, "gru": -0.4, "ssm": -0.004}
LAYERS = [f"layer {layer} {kind}" for kind in ("hidden", "cell") for layer in range(6)]
STORES = {
    "cells": [result(arch, rate) for arch, rate in CELLS.items()],
    "gains": [
        result("rnn", 0.05 * np.log(gain), gain=gain, init=init, activation=activation, seed=seed)
        for gain in (0.5, 0.8, 0.9, 1.0, 1.1, 1.25, 2.0)
        for init in ("normal", "orthogonal")
        for activation in ("tanh", "relu", "identity")
        for seed in (0, 1)
        if (gain, activation) != (1.1, "relu")
    ],
    "biases": [
        result("lstm", -0.5 / (1 + k), forget_bias=bias)
        for k, bias in enumerate((-1.0, 0.0, 1.0, 2.0, "chrono"))
    ],
    "one": [result(edit=spoil, clip=["none", "truncate:100"])],
    "one length": [result(steps=50, lengths=[50], clip=["none"])],
    "layers": [
        result(
            rate=-0.05,
            edit=late,
            own_parts={name: -0.5 * place for place, name in enumerate(LAYERS)},
            clip=["none"],
        )
    ],
    "one step": [result(steps=1, networks=1)],
}
WHOLE = [store for store in STORES if store != "layers"]
RATES = {"value": "decay_rate"}
FIGURES = [
    *((store, {"kind": "heatmap"}) for store in WHOLE),
    *((store, {"kind": "curves"}) for store in WHOLE),
    *((store, {"kind": "profile"}) for store in WHOLE if store not in ("gains", "biases")),
    *((store, {"kind": "distribution"}) for store in WHOLE),
    *((store, {"kind": "histogram"}) for store in WHOLE),
    ("cells", {"x": "lag", "y": "arch", "facet": "clip"}),
    ("gains", {"kind": "histogram", "y": "activation", "facet": "init"}),
    ("gains", {"x": "gain", "y": "activation", "facet": "init"}),
    ("gains", {"x": "init", "y": "gain"} | RATES),
    ("gains", {"kind": "curves", "x": "gain", "y": "activation"} | RATES),
    ("biases", {"kind": "curves", "x": "forget_bias", "value": "horizon_1e-3"}),
    ("one", {"kind": "distribution", "x": "length"}),
    ("layers", {"x": "lag", "y": "part"}),
    ("layers", {"kind": "curves", "y": "part"}),
    ("layers", {"kind": "profile", "facet": "part"}),
    ("layers", {"kind": "distribution", "x": "part"}),
    ("layers", {"kind": "histogram", "where": {"part": ["layer 0 cell"]}}),
]
WIDTHS = ("single", "double", "slide")


def drawn(monkeypatch, store, asked=None, **looks):
    """Draw a figure of a store and keep it: gives the figure and its data."""
    kept = []
    monkeypatch.setattr(figure, "save", lambda *parts: kept.append(parts[:2]))
    plot(STORES[store], "a.pdf", Request(**asked or {}), Looks(**looks))
    return kept[0]


def legible(page):
    """The texts of a figure that are on it, ticks beyond an axis left out."""
    page.draw_without_rendering()
    hidden = set()
    for axis in itertools.chain.from_iterable((ax.xaxis, ax.yaxis) for ax in page.axes):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:
                hidden |= {tick.label1, tick.label2}
    found = page.findobj(mpl.text.Text)
    return [t for t in found if t.get_visible() and t.get_text().strip() and t not in hidden]


def clashes(page):
    """Texts that lie on one another or leave the figure."""
    texts = legible(page)
    boxes = [text.get_window_extent().padded(-0.5) for text in texts]
    names = [text.get_text() for text in texts]
    within = page.bbox.padded(0.5)
    outside = [
        name
        for name, box in zip(names, boxes, strict=True)
        if not (within.contains(box.x0, box.y0) and within.contains(box.x1, box.y1))
    ]
    turned = [text.get_rotation() % 90 != 0 for text in texts]  # their boxes are mostly empty
    crossed = [
        {names[i], names[k]}
        for i, k in itertools.combinations(range(len(texts)), 2)
        if boxes[i].overlaps(boxes[k]) and not (turned[i] and turned[k])
    ]
    return outside + crossed
