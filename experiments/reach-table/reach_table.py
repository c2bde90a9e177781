"""What reaches 100 to 10,000 steps, cell by cell, and what the product of gates alone would say.

    python experiments/reach-table/reach_table.py STORE > experiments/reach-table/table.csv

A row for each cell and number of steps, "none" where no value does: the value of the option at
which 1e-3 of the gradient is left, its interval, the largest that the gradient is on the way, and,
at that value, the decades that the product of the gates that carry the state loses over as many
steps (forget gates of an LSTM or sLSTM, update gates of a GRU): log10 of the norm of r, the loss's
random direction, times the product.
"""

import csv
import sys
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit

import seqlab
from seqlab.cells import CELLS, Draw
from seqlab.measure.randomness import Purpose, stream, unit_readout
from seqlab.numbers.statistics import median
from seqlab.spec.run import RunSpec

STEPS = (100, 300, 1000, 3000, 10000)
CASES = (
    ("rnn", "gain", {"init": "orthogonal"}),
    ("rnn", "gain", {"init": "normal"}),
    ("lstm", "forget_bias", {}),
    ("gru", "forget_bias", {}),
    ("mingru", "input_scale", {}),
    ("ssm", "input_scale", {}),
    ("lru", "r_min", {}),
    ("deltanet", "input_scale", {}),
    ("deltanet", "input_scale", {"decay": "none"}),
    ("slstm", "forget_bias", {}),
)
CARRYING = {"lstm": 1, "gru": 1, "slstm": 1}  # the place of the gate among the rows of the weights
COLUMNS = (
    *("arch", "init", "decay", "steps", "vary", "value", "low", "high", "largest", "largest_lag"),
    *("horizon_1e-3", "left", "left_by_gates"),
)


def left_by_gates(spec: RunSpec) -> float:
    """Decades of a run's networks, the median; nan for cells without such a gate."""
    if spec.arch not in CARRYING:
        return float("nan")
    return float(median([_product(spec, m) for m in range(spec.networks)]))


def _product(spec: RunSpec, m: int) -> float:
    rng = stream(spec.seed, m, Purpose.PARAMETERS)
    params = CELLS[spec.arch].draw(rng, spec.sizes, Draw.of(spec))
    x = stream(spec.seed, m, Purpose.DRIVE).standard_normal((spec.steps, 1, spec.inputs))
    h = np.concatenate([np.zeros((1, 1, spec.hidden)), seqlab.forward(spec.arch, params, x).output])
    units = slice(CARRYING[spec.arch] * spec.hidden, (CARRYING[spec.arch] + 1) * spec.hidden)
    before = sum(
        v @ params[f"weight_{side}"][units].T + _bias(params, side)[units]
        for v, side in ((x, "ih"), (h[:-1], "hh"))
    )
    log: NDArray = log_expit(before).sum(axis=(0, 1)) + np.log(
        np.abs(unit_readout(spec.seed, m, spec.hidden))
    )
    return float(np.logaddexp.reduce(2 * log) / 2 / np.log(10))


def _bias(params: Mapping[str, NDArray], side: str) -> NDArray:
    """A cell's bias on one side: an sLSTM has one in all, which counts on the input's."""
    if f"bias_{side}" in params:
        return params[f"bias_{side}"]
    return params["bias"] if side == "ih" else np.zeros_like(params["bias"])


def _drawn(spec: RunSpec) -> tuple[str | None, ...]:
    return spec.arch, spec.init, spec.decay


def main(store: str) -> None:
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(COLUMNS)
    for arch, vary, more in CASES:
        for steps in STEPS:
            found = seqlab.reach(arch=arch, steps=steps, vary=vary, store=store, **more)
            for answer, one in zip(found.answers, found.to_json()["answers"], strict=True):
                numbers = (
                    *(one["value"], *one["interval"], one["log10_largest"], one["largest_lag"]),
                    *(one["horizon"]["1e-3"], one["log10_attenuation"]),
                    left_by_gates(answer.result.spec),
                )
                told = [f"{n:.6g}" if isinstance(n, float) else n for n in numbers]
                table.writerow([*_drawn(answer.result.spec), steps, vary, *told])
            if not found.answers:
                table.writerow([*_drawn(found.tried[0].spec), steps, vary, "none"])
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
