"""Attenuation of one's own networks on one's own drive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqlab import rules
from seqlab.engine.ensemble import Ensemble, arrays_of, check_array, find_cell, gather, on_host
from seqlab.engine.rehearsal import compile_kernels
from seqlab.engine.tape import Tape
from seqlab.errors import InputError
from seqlab.kernels import backends
from seqlab.measure.curves import sweep_curves
from seqlab.measure.randomness import unit_readout


@dataclass(frozen=True)
class Attenuation:
    """Absolute natural logs of the adjoint's norm, (M, lengths, lags), M = 1 for one network.

    Entry [m, k, tau] belongs to the loss readout . y_T, T = lengths[k], at lag tau = T - t, summed
    in squares over batch and state; nan past a length. `log_norm_hidden` and `log_norm_cell` are
    parts of the state where the cell has them (else None); `log_norm_input` is dL/dx_t's, which
    does not exist at lag T (nan).

    -inf is an exact zero, but where `underflow` (M, lengths) is true: there it came from a factor
    of a single step, such as a saturated unit's slope, that is too small for the dtype. An
    overflow of the state leaves nan.
    """

    lengths: NDArray[np.int64]
    lags: NDArray[np.int64]
    log_norm: NDArray
    log_norm_hidden: NDArray | None
    log_norm_cell: NDArray | None
    log_norm_input: NDArray
    underflow: NDArray[np.bool_]
    clip: str
    backend: str


def attenuation(
    arch: str,
    params: Mapping[str, ArrayLike],
    x: ArrayLike,
    lengths: Sequence[int],
    clip: str = "none",
    readout: ArrayLike | None = None,
    activation: str = "tanh",
    backend: str = "auto",
) -> Attenuation:
    """Norms of dL/ds_t at every lag, for the losses readout . y_T at each of `lengths`.

    One forward pass serves all lengths, and their adjoints go back together. params and x are as
    for `seqlab.forward`. `readout` is (H,) for all sequences, or (B, H), with M leading for an
    ensemble; left out, a random unit vector for each network. Clip rules act as in `backward`;
    `norm` and `value` leave curves alone. Raises InputError for bad names, lengths and arrays.
    """
    rule = rules.parse(clip)
    chosen = backends.resolve(backend, x, *arrays_of(params), arch=find_cell(arch).name)
    ensemble = gather(arch, params, x, activation=activation)
    longest = _check_lengths(lengths, ensemble.x.shape[1])
    vectors = _readouts(ensemble, readout)
    compile_kernels(chosen, arch, str(ensemble.x.dtype))
    rising = sorted(lengths)
    parts = ensemble.cell.parts
    names = ["", "_input", *(f"_{part}" for part in parts if len(parts) > 1)]
    shape = (len(ensemble.x), len(lengths), longest + 1)
    tables = {f"log_norm{name}": np.empty(shape) for name in names}
    underflow = np.zeros(shape[:2], bool)

    def measure(networks: range, tape: Tape) -> None:
        tape.run(lambda saved: None)
        block = slice(networks.start, networks.stop)
        vector = np.repeat(vectors[block, :, None], len(rising), axis=2)
        curves = sweep_curves(tape, rising, vector, rule)
        underflow[block] = curves.lost[:, [rising.index(length) for length in lengths]]
        for name, norms in curves.named.items():
            for k, length in enumerate(lengths):
                tables[name][block, k, : length + 1] = norms[rising.index(length)]
                tables[name][block, k, length + 1 :] = np.nan

    ensemble.until(longest).over_tapes(chosen, measure)
    return Attenuation(
        np.asarray(lengths, np.int64),
        np.arange(longest + 1),
        tables["log_norm"],
        tables["log_norm"] if parts == ("hidden",) else tables.get("log_norm_hidden"),
        tables.get("log_norm_cell"),
        tables["log_norm_input"],
        underflow,
        str(rule),
        chosen,
    )


def _check_lengths(lengths: Sequence[int], steps: int) -> int:
    """The longest; InputError unless they are distinct whole numbers from 1 to `steps`."""
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in lengths)
    if not (len(lengths) and whole and min(lengths) >= 1 and max(lengths) <= steps):
        raise InputError(f"lengths: {lengths!r} is not allowed; whole numbers from 1 to {steps}")
    if len(set(lengths)) < len(lengths):
        raise InputError(f"lengths: {lengths!r} is not allowed; each length once")
    return int(max(lengths))


def _readouts(ensemble: Ensemble, readout: ArrayLike | None) -> NDArray:
    """One vector for each network and sequence, (M, B, H)."""
    networks, _, sequences, _ = ensemble.x.shape
    units = ensemble.sizes.hidden
    full = (networks, sequences, units)
    if readout is None:
        drawn = np.stack([unit_readout(0, m, units) for m in range(networks)])
        return np.broadcast_to(drawn[:, None], full)
    vectors = on_host("readout", readout)
    if vectors.ndim == 1:
        return np.broadcast_to(check_array("readout", vectors, (units,), ensemble.x.dtype), full)
    shape = full[1:] if ensemble.single else full
    return check_array("readout", vectors, shape, ensemble.x.dtype).reshape(full)
