"""Attenuation of one's own networks on one's own drive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqlab import rules
from seqlab.ensemble import Ensemble, check_array, gather
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
    """

    lengths: NDArray[np.int64]
    lags: NDArray[np.int64]
    log_norm: NDArray
    log_norm_hidden: NDArray | None
    log_norm_cell: NDArray | None
    log_norm_input: NDArray
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
    ensemble = gather(arch, params, x, activation=activation)
    longest = _check_lengths(lengths, ensemble.x.shape[1])
    vectors = _readouts(ensemble, readout)
    chosen = backends.resolve(backend)
    rising = sorted(lengths)
    blocks = []
    for networks, tape in ensemble.until(longest).tapes(chosen):
        tape.run(lambda saved: None)
        vector = vectors[networks.start : networks.stop, :, None]
        blocks.append(sweep_curves(tape, rising, np.repeat(vector, len(rising), axis=2), rule))
    order = [rising.index(length) for length in lengths]

    def table(curves: list[list[NDArray]]) -> NDArray:
        return _padded([[block[k] for block in curves] for k in order], longest)

    parts = {name: table([block.parts[name] for block in blocks]) for name in blocks[0].parts}
    state = table([block.state for block in blocks])
    return Attenuation(
        np.asarray(lengths, np.int64),
        np.arange(longest + 1),
        state,
        state if ensemble.cell.parts == ("hidden",) else parts.get("hidden"),
        parts.get("cell"),
        table([block.inputs for block in blocks]),
        str(rule),
        chosen,
    )


def _padded(curves: list[list[NDArray]], longest: int) -> NDArray:
    """Blocks of networks (m, T + 1) for each length -> (M, lengths, longest + 1), nan past T."""
    networks = sum(len(block) for block in curves[0])
    table = np.full((networks, len(curves), longest + 1), np.nan)
    for k, blocks in enumerate(curves):
        np.concatenate(blocks, out=table[:, k, : blocks[0].shape[1]])
    return table


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
    if np.ndim(readout) == 1:
        return np.broadcast_to(check_array("readout", readout, (units,), ensemble.x.dtype), full)
    shape = full[1:] if ensemble.single else full
    return check_array("readout", readout, shape, ensemble.x.dtype).reshape(full)
