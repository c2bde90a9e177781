"""Curves of the adjoint's norm as the public call gives them, and what they are held to."""

from typing import Any

import naive_adjoint
import numpy as np
import numpy.typing as npt
import pytest
from drawn import Run

import seqlab
from seqlab.cells import CELLS
from seqlab.study.attenuation import Attenuation

Array = npt.NDArray[Any]

LOG = 1e-10  # of a natural log against the naive reference; seen: 5e-13
FAR = 10_000


def curves(att: Attenuation) -> dict[str, Array]:
    """The curves that there are, by name, (M, lengths, lags)."""
    assert att.log_norm_input is not None
    found = {"log_norm": att.log_norm, "log_norm_input": att.log_norm_input}
    assert att.log_norm_hidden is att.parts.get("hidden")
    assert att.log_norm_cell is att.parts.get("cell")
    return found | {f"log_norm_{part}": value for part, value in att.parts.items()}


def attenuate(run: Run, lengths: list[int], readout: Array, **options: Any) -> Attenuation:
    return seqlab.attenuation(run.arch, run.params, run.x, lengths, readout=readout, **options)


def linear(weight: Array, weight_ih: Array | None = None) -> dict[str, Array]:
    """A vanilla network without biases, for identity activation."""
    hidden = len(weight)
    into = np.ones((hidden, 1)) if weight_ih is None else weight_ih
    zero = np.zeros(hidden)
    return {"weight_ih": into, "weight_hh": weight, "bias_ih": zero, "bias_hh": zero}


def linear_curve(weight: Array, steps: int, clip: str = "none") -> Array:
    """ln of the adjoint's norm at lags 0..steps without input, from a unit readout."""
    att = seqlab.attenuation(
        "rnn", linear(weight), np.zeros((steps, 1, 1)), [steps], clip=clip, activation="identity"
    )
    curve: Array = att.log_norm[0, 0]
    return curve


def assert_equal_curves(have: dict[str, Array], want: dict[str, Array]) -> None:
    """The same names and the same bits."""
    assert have.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_array_equal(have[name], value, err_msg=name, strict=True)


def assert_naive(run: Run, att: Attenuation, readout: Array, activation: str, clip: str) -> None:
    """Every part, of every length, at every lag; nan past a length."""
    have = curves(att)
    for row, length in enumerate(att.lengths):
        want = naive_adjoint.adjoint_curve(
            run.arch, run.params, run.x[:length], readout, activation=activation, clip=clip
        )
        assert have.keys() == want.keys() | {f"log_norm_{part}" for part in CELLS[run.arch].parts}
        for name in want:
            curve = have[name][0, row]
            assert curve[: length + 1] == pytest.approx(want[name], rel=0, abs=LOG, nan_ok=True)
            assert np.isnan(curve[length + 1 :]).all()
