"""The parity cases: what goes in, and what is kept of what comes out.

`make_reference.py` runs them through PyTorch and keeps the digests in one file a kind; the tests
draw the same inputs again and compare digests. The loss is sum(output * grad_output).
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

KINDS = ("rnn_tanh", "rnn_relu", "lstm", "gru", "mingru", "lru", "deltanet", "slstm")
STEPS = (1, 2, 17, 300)
BATCHES = (1, 3)
INPUTS = (1, 5)
HIDDENS = (1, 7, 33, 64)
KEYS = 6  # entries of a key

WHOLE = 256  # arrays up to this size are kept whole
SAMPLES = 48
PROJECTIONS = 8


@dataclass(frozen=True)
class Case:
    """One kind of cell at one size."""

    kind: str
    steps: int
    batch: int
    inputs: int
    hidden: int

    @property
    def arch(self) -> str:
        return self.kind.partition("_")[0]

    @property
    def activation(self) -> str:
        return self.kind.partition("_")[2] or "tanh"

    @property
    def name(self) -> str:
        return f"{self.kind}-T{self.steps}-B{self.batch}-I{self.inputs}-H{self.hidden}"


class Draw(NamedTuple):
    """What goes in: parameters by PyTorch's names without `_l0`, or by the cell's; x (T, B, I), the
    parts of the initial state (B, H) each, of keys (B, H, K); grad_output (T, B, H)."""

    params: dict[str, Array]
    x: Array
    state: tuple[Array, ...]
    grad_output: Array


def cases() -> Iterator[Case]:
    """Every kind at every size."""
    for sizes in itertools.product(KINDS, STEPS, BATCHES, INPUTS, HIDDENS):
        yield Case(*sizes)


def draw(case: Case) -> Draw:
    """The inputs of a case.

    Recurrent blocks are orthogonal and gates lean open, so that over 300 steps the chain stays
    alive and the forward pass does not become chaotic, which would magnify rounding.
    """
    seed = (KINDS.index(case.kind), case.steps, case.batch, case.inputs, case.hidden)
    rng = np.random.default_rng(seed)

    def uniform(*shape: int) -> Array:
        return 2 * rng.random(shape) - 1

    hidden = case.hidden
    if case.kind == "mingru":
        params = {
            f"linear_{layer}_{name}": 0.4 * uniform(*shape)
            for layer in "zh"
            for name, shape in (("weight", (hidden, case.inputs)), ("bias", (hidden,)))
        }
        params["linear_z_bias"] -= 4.0
    elif case.kind == "lru":
        params = _linear(case, uniform)
    elif case.kind == "deltanet":
        rows = {"q": KEYS, "k": KEYS, "v": hidden, "a": 1, "b": 1}
        params = {
            f"{layer}_proj_weight": 0.8 * uniform(count, case.inputs)
            for layer, count in rows.items()
        }
        params["b_proj_weight"] /= 4.0
        params |= {"A_log": uniform(1) - 4.0, "dt_bias": uniform(1) - 1.0}
    else:
        params = _gated(case, uniform)
    x = 1.7 * uniform(case.steps, case.batch, case.inputs)
    part = (case.batch, hidden, KEYS) if case.arch == "deltanet" else (case.batch, hidden)
    count = {"lstm": 2, "lru": 2, "slstm": 3}.get(case.arch, 1)
    state = tuple(uniform(*part) for _ in range(count))
    if case.arch == "slstm":  # a normaliser is never negative
        state = (*state[:2], np.exp(state[2]))
    return Draw(params, x, state, uniform(case.steps, case.batch, hidden))


def _linear(case: Case, uniform: Callable[..., Array]) -> dict[str, Array]:
    """|lambda| from 0.98 to 0.999, with phases from 0.2 to 1.6."""
    hidden = case.hidden
    params = {
        "nu_log": uniform(hidden) * 1.3 - 5.4,
        "theta_log": uniform(hidden) - 0.5,
        "gamma_log": 0.5 * uniform(hidden) - 1.5,
    }
    params |= {name: 0.4 * uniform(hidden, case.inputs) for name in ("B_re", "B_im", "D")}
    return params | {name: uniform(hidden, hidden) / hidden**0.5 for name in ("C_re", "C_im")}


def _gated(case: Case, uniform: Callable[..., Array]) -> dict[str, Array]:
    """PyTorch's four parameters, or one bias of two."""
    hidden, gates = case.hidden, {"rnn": 1, "lstm": 4, "gru": 3, "slstm": 4}[case.arch]
    input_scale, gain = {
        "rnn_tanh": (0.2, 1.3),
        "rnn_relu": (0.2, 1.1),
        "lstm": (0.4, 0.5),
        "gru": (0.4, 0.5),
        "slstm": (0.4, 0.5),
    }[case.kind]
    blocks = [orthogonal(uniform(hidden, hidden)) for _ in range(gates)]
    params = {
        "weight_ih": input_scale * uniform(gates * hidden, case.inputs),
        "weight_hh": gain * np.concatenate(blocks),
        "bias_ih": 0.2 * uniform(gates * hidden),
        "bias_hh": 0.2 * uniform(gates * hidden),
    }
    if case.kind == "rnn_relu":
        params["bias_hh"] += 1.0  # else units die
    elif case.arch != "rnn":
        params["bias_hh"][hidden : 2 * hidden] += 3.0  # forget gate, or update gate
    if case.arch == "slstm":
        params["bias"] = params.pop("bias_ih") + params.pop("bias_hh")
    return params


def orthogonal(matrix: Array) -> Array:
    """The orthogonal factor of a matrix, unique since the triangular one's diagonal is positive."""
    q, r = np.linalg.qr(matrix)
    return q * np.sign(np.diag(r))


def named(
    output: Array, params: Mapping[str, Array], x: Array, state: tuple[Array, ...]
) -> dict[str, Array]:
    """The output and the gradients under the names that the files use."""
    starts = {f"initial_{k}": part for k, part in enumerate(state)}
    return {"output": output, **params, "x": x, **starts}


def digest(array: Array) -> Array:
    """The norm, then a small array's entries, or of a large one samples and +-1 projections.

    A wrong entry anywhere moves every projection by its own size.
    """
    flat = np.asarray(array, np.float64).ravel()
    norm = [float(np.linalg.norm(flat))]
    if flat.size <= WHOLE:
        return np.concatenate([norm, flat])
    places, signs = sketch(flat.size)
    return np.concatenate([norm, flat[places], signs @ flat])


@cache
def sketch(size: int) -> tuple[npt.NDArray[np.int64], Array]:
    """Fixed sampled places and sign rows for arrays of this size."""
    rng = np.random.default_rng(size)
    places = (rng.random(SAMPLES) * size).astype(np.int64)
    return places, np.where(rng.random((PROJECTIONS, size)) < 0.5, -1.0, 1.0)


def checksum(drawn: Draw) -> Array:
    """One number for each input array: tells a changed generator from a wrong answer."""
    arrays = [*drawn.params.values(), drawn.x, *drawn.state, drawn.grad_output]
    return np.array([np.arange(1, a.size + 1) @ a.ravel() / a.size for a in arrays])


def path(kind: str) -> Path:
    return Path(__file__).with_name(f"{kind}.npz")


@cache
def stored(kind: str) -> dict[str, Array]:
    """Everything kept for a kind, by `case/array`."""
    with np.load(path(kind)) as archive:
        return dict(archive)


def relative_errors(case: Case, answers: Mapping[str, Array]) -> dict[str, float]:
    """The largest difference of each array's digest from PyTorch's, over the array's norm.

    Where PyTorch's array is zero (a dead relu unit), any difference counts as infinite. Raises
    ValueError when the names, or the size of an array, are not PyTorch's.
    """
    prefix = f"{case.name}/"
    kept = {
        key.removeprefix(prefix): value
        for key, value in stored(case.kind).items()
        if key.startswith(prefix) and key != f"{prefix}inputs"
    }
    if kept.keys() != answers.keys():
        raise ValueError(f"{case.name}: have {sorted(answers)}, want {sorted(kept)}")
    errors = {}
    for name, want in kept.items():
        have = digest(answers[name])
        if have.shape != want.shape:
            raise ValueError(f"{case.name}: {name} has the wrong size")
        difference, norm = float(np.abs(have - want).max()), float(want[0])
        if norm > 0:
            errors[name] = difference / norm
        else:
            errors[name] = 0.0 if difference == 0 else np.inf
    return errors
