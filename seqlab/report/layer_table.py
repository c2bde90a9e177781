"""What is seen of a stack's layers, at a few of them: medians over networks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seqlab.numbers.quantity import LN10
from seqlab.numbers.statistics import median
from seqlab.report.measured import Measured
from seqlab.report.points import Data, arrays_of
from seqlab.report.text import Row, decimals, fill, grid, spread

MOST = 6  # columns
_STATES = {
    "log_mean_square": "log10 mean square",
    "cosine": "cosine of two rows",
}
_SHARES = {
    "zero_units": "zero share",
    "dead_units": "dead share",
    "always_on_units": "always on",
    "saturated_units": "saturated",
}
_OF_SEVERAL = ("dead_units", "always_on_units")  # of one input they say what its zeros do
_LEGEND = (
    "zero: slope exactly zero; dead: for every input; always on: for none; saturated: slope under "
    "5% of the steepest"
)
_GRADIENTS = {
    "log_weight_grad_norm": "log10 |dL/dW|",
    "log_bias_grad_norm": "log10 |dL/db|",
}


def layers_of(data: Data) -> NDArray:
    """The layers that a file keeps, from the inputs, which are 0, on."""
    return np.asarray(data["lag"][-1] - data["lag"][::-1])


def by_layer(data: Data) -> dict[str, NDArray]:
    """Each quantity's median over networks, as people read it, by the layers that are kept: those
    of the parameters' gradients (rules, layers), all others (layers,)."""
    names = [name for name in (*_STATES, *_SHARES, *_GRADIENTS) if name in data]
    found = {}
    for name in names:
        middle = median(data[name], axis=0)[..., ::-1]
        found[name] = middle / LN10 if name.startswith("log_") else middle
    return found


def layer_table(result: Measured, brief: bool = False) -> str:
    """The table of one result, under its first rule; empty where nothing was seen. A `brief` one is
    without its legend."""
    data = arrays_of(result)
    found, layers = by_layer(data), layers_of(data)
    if not found:
        return ""
    alone = np.isnan(found.get("cosine", np.nan)).all()
    shown = spread(range(len(layers)), MOST)
    rows: list[Row] = []
    for names, write in ((_STATES, _decimal), (_SHARES, _percent), (_GRADIENTS, _decimal)):
        for name in names:
            if name in found:
                values = found[name] if found[name].ndim == 1 else found[name][0]
                if not (np.isnan(values).all() or (alone and name in _OF_SEVERAL)):
                    rows.append((names[name], write(values[shown])))
    table = grid([[str(layers[k]) for k in shown]], rows)
    parts = ["by layer, 0 the input", table, *([] if brief else [fill(_LEGEND, 0)])]
    return "\n".join(parts)


def _decimal(values: NDArray) -> list[str]:
    return ["" if np.isnan(x) else decimals(2, [x])(x) for x in values.tolist()]


def _percent(values: NDArray) -> list[str]:
    return ["" if np.isnan(x) else f"{x:.1%}" for x in values.tolist()]


def document(data: Data, rules: Sequence[str]) -> dict[str, object]:
    """The same for `--json`: lists by layer, of gradients one for each rule."""
    found: dict[str, object] = {"layer": tuple(layers_of(data).tolist())}
    for name, values in by_layer(data).items():
        read = name.replace("log_", "log10_", 1)
        if values.ndim == 1:
            found[read] = tuple(values.tolist())
        else:
            found[read] = {rule: tuple(v.tolist()) for rule, v in zip(rules, values, strict=True)}
    return found
