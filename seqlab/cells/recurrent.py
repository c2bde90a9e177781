"""What theory, and a look at their gates, ask of the cells with PyTorch's recurrent parameters."""

import numpy as np
from numpy.typing import NDArray

from seqlab.cells.cell import Observed, Parameters


def biases(params: Parameters) -> tuple[NDArray, NDArray]:
    """The bias of the input's part and that of the recurrent one: PyTorch's two; a cell that has
    one alone has zeros besides."""
    if "bias" in params:
        return params["bias"], np.zeros_like(params["bias"])
    return params["bias_ih"], params["bias_hh"]


def sums(params: Parameters, x: NDArray, h: NDArray) -> tuple[NDArray, NDArray]:
    """W_ih x + b_ih and W_hh h + b_hh, (m, B, rows), of x (m, B, I) and h (m, B, H)."""
    into, within = (
        np.einsum("mbi,mgi->mbg", v, params[f"weight_{side}"]) + bias[:, np.newaxis]
        for v, side, bias in zip((x, h), ("ih", "hh"), biases(params), strict=True)
    )
    return into, within


def undriven(seen: Observed) -> bool:
    """Whether no input reaches a pre-activation: the drive or its weights are zero."""
    used = seen.x.any(axis=(0, 1))
    return not seen.params["weight_ih"][:, used].any()


def bias_of(params: Parameters) -> NDArray:
    """The sum of the two biases (rows,), float64."""
    total: NDArray = params["bias_ih"].astype(float) + params["bias_hh"]
    return total


def block(params: Parameters, gate: int) -> NDArray:
    """One gate's recurrent block (H, H), float64."""
    units = params["weight_hh"].shape[1]
    return params["weight_hh"][gate * units : (gate + 1) * units].astype(float)


def spread(params: Parameters, gate: int) -> float:
    """su = sqrt(H Var U) of one gate's recurrent block."""
    square = np.square(block(params, gate))
    return float(np.sqrt(len(square) * np.mean(square)))


def sigmoid(z: NDArray) -> NDArray:
    """1/(1 + e^-z)."""
    value: NDArray = np.exp(-np.logaddexp(0.0, -z))
    return value
