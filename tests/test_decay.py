"""seqlab's own decay curves, held by the fixture that it offers (`pytest --decay-update`).

Contracting networks, and an exploding one whose adjoint does not depend on its trajectory: what
is chaotic depends on the last bit, and so on the machine.
"""

import pytest

import seqlab

CELLS = {
    "rnn": {"activation": "tanh", "init": "orthogonal", "gain": 0.95},
    "rnn-exploding": {"activation": "identity", "init": "orthogonal", "gain": 1.01},
    "lstm": {"forget_bias": 1.0},
    "gru": {"forget_bias": 1.0},
    "ssm": {},
}
RULES = ("none", "norm:1", "step-norm:0.5", "step-value:0.1", "truncate:1000")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("cell", CELLS)
def test_decay_from_10_to_10000_steps(decay_regression, cell, dtype):
    result = seqlab.run(
        arch=cell.split("-")[0],
        steps=10_000,
        lengths=[10, 32, 100, 316, 1000, 3162, 10_000],
        hidden=12,
        inputs=4,
        networks=4,
        clip=RULES,
        dtype=dtype,
        **CELLS[cell],
    )
    decay_regression.check(result)
