"""What one token gets of the gradient of another's output, against the number of tokens.

`python experiments/transformer/tokens.py` writes tokens.csv beside itself: for stacks of pre-norm
blocks as PyTorch draws them, log10 of the gradient of the last token's output (a random unit
vector's product with it) with respect to the last token's own input, to the first token's, and to
all others' as a root mean square; medians over networks.
"""

import csv
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seqlab.engine.backward import Sweep
from seqlab.kernels import backends
from seqlab.measure.stack_networks import Networks
from seqlab.rules import UNCLIPPED
from seqlab.spec import kinds

BACKEND = "cpu"
DEPTHS = (1, 6, 12)
TOKENS = (8, 16, 32, 64, 128, 256)
NETWORKS = 16
COLUMNS = ("depth", "tokens", "networks", "log10_own", "log10_first", "log10_others_rms")


def adjoint(depth: int, tokens: int) -> NDArray:
    """log10 norms of the adjoint of each token's input, (networks, tokens)."""
    spec = kinds.create(
        arch="transformer",
        steps=depth,
        tokens=tokens,
        networks=NETWORKS,
        readout="last",
        lengths=[depth],
        clip=["none"],
    )
    networks = Networks(spec)
    kernels = backends.stack_kernels(BACKEND, networks.stack, entries=False)
    tape, readout = networks.block(range(NETWORKS), BACKEND, kernels, 1)
    tape.run(lambda saved: None)
    sweep = Sweep(tape, [depth], UNCLIPPED, record=False, gradients=False)

    def loss(first: int, last: int) -> NDArray:
        end = int(last == depth)
        return readout[:, np.newaxis][:, :end]

    sweep.run(loss)
    adjoint, exponents = sweep.rows()
    found = adjoint.reshape(NETWORKS, networks.stack.width, -1)[..., :tokens]
    exponent = exponents.reshape(NETWORKS, 1)
    with np.errstate(divide="ignore"):
        return np.log10(np.linalg.norm(found, axis=1)) + exponent * math.log10(2)


def row(depth: int, tokens: int) -> list[object]:
    decades = adjoint(depth, tokens)
    others = np.log10(np.square(10.0 ** decades[:, :-1]).mean(axis=1)) / 2
    medians = (np.median(part) for part in (decades[:, -1], decades[:, 0], others))
    return [depth, tokens, NETWORKS, *(f"{value:.4f}" for value in medians)]


if __name__ == "__main__":
    with Path(__file__).with_name("tokens.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(row(depth, tokens) for depth in DEPTHS for tokens in TOKENS)
