"""Norms of the adjoint of one's own networks on one's own drive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqlab import rules
from seqlab.cells import part_names
from seqlab.engine.ensemble import Ensemble, arrays_of, check_array, find_cell, gather, on_host
from seqlab.engine.rehearsal import compile_kernels
from seqlab.engine.tape import Tape
from seqlab.kernels import backends
from seqlab.measure.curves import sweep_curves
from seqlab.measure.randomness import unit_readout
from seqlab.spec.fields import check_lengths


@dataclass(frozen=True)
class Norms:
    """Absolute natural logs of norms, (M, lengths, max(lengths) + 1), nan past a length.

    `log_norm` is of the whole state, `parts` of each part that the cell's state has,
    `log_norm_input` of dL/dx; `underflow` (M, lengths) says where a zero is none; `fired`
    (M, lengths) is the share of steps x sequences at which a rule inside the chain acted.
    """

    log_norm: NDArray
    parts: dict[str, NDArray]
    log_norm_input: NDArray
    underflow: NDArray[np.bool_]
    fired: NDArray
    clip: str
    backend: str
    dtype: str


def measure_norms(
    arch: str,
    params: Mapping[str, ArrayLike],
    x: ArrayLike,
    lengths: Sequence[int],
    clip: str = "none",
    readout: ArrayLike | None = None,
    activation: str = "tanh",
    backend: str = "auto",
    initial: Any = None,
) -> Norms:
    """Norms of dL/ds_t at every lag, for the losses readout . y_T at each of `lengths`.

    See `seqlab.attenuation`; besides, a readout may be (M, lengths, B, H), one for each length.
    Raises InputError for bad names, lengths and arrays.
    """
    rule = rules.parse(clip)
    chosen = backends.resolve(backend, x, *arrays_of(params), arch=find_cell(arch).name)
    ensemble = gather(arch, params, x, initial, activation)
    longest = check_lengths(lengths, ensemble.x.shape[1])
    vectors = _readouts(ensemble, readout, len(lengths))
    compile_kernels(chosen, arch, str(ensemble.x.dtype))
    order = np.argsort(lengths)
    rising = [int(lengths[k]) for k in order]
    vectors = np.ascontiguousarray(np.moveaxis(vectors[:, order], 1, 2))  # (M, B, L, H)
    names = part_names(ensemble.cell.parts, ensemble.cell.layers)
    shape = (len(ensemble.x), len(lengths), longest + 1)
    tables = {
        name: np.full(shape, np.nan)
        for name in ("log_norm", "log_norm_input", *(f"log_norm_{part}" for part in names))
    }
    underflow, fired = np.zeros(shape[:2], bool), np.zeros(shape[:2])
    sequences = ensemble.x.shape[2]

    def measure(networks: range, tape: Tape) -> None:
        tape.run(lambda saved: None)
        block = slice(networks.start, networks.stop)
        curves = sweep_curves(tape, rising, vectors[block], rule)
        underflow[block, order] = curves.lost
        fired[block, order] = curves.fired / (np.array(rising) * sequences)
        for name, norms in curves.named.items():
            for k, norm in zip(order, norms, strict=True):
                tables[name][block, k, : norm.shape[1]] = norm

    ensemble.until(longest).over_tapes(chosen, measure)
    whole, inputs = tables.pop("log_norm"), tables.pop("log_norm_input")
    parts = {part: whole if len(names) == 1 else tables[f"log_norm_{part}"] for part in names}
    return Norms(whole, parts, inputs, underflow, fired, str(rule), chosen, str(ensemble.x.dtype))


def _readouts(ensemble: Ensemble, readout: ArrayLike | None, lengths: int) -> NDArray:
    """One vector for each network, length and sequence, (M, lengths, B, H)."""
    networks, _, sequences, _ = ensemble.x.shape
    units, dtype = ensemble.sizes.hidden, ensemble.x.dtype
    full = (networks, lengths, sequences, units)
    if readout is None:
        drawn = np.stack([unit_readout(0, m, units) for m in range(networks)])
        return np.broadcast_to(drawn[:, None, None], full)
    vectors = on_host("readout", readout)
    if vectors.ndim == 1:
        return np.broadcast_to(check_array("readout", vectors, (units,), dtype), full)
    if vectors.ndim == 4:
        return check_array("readout", vectors, full, dtype)
    shape = (sequences, units) if ensemble.single else (networks, sequences, units)
    checked = check_array("readout", vectors, shape, dtype)
    return np.broadcast_to(checked.reshape(networks, 1, sequences, units), full)
