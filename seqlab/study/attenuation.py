"""Attenuation of networks of one's own, with all that a result has."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqlab import rules
from seqlab.errors import InputError
from seqlab.measure.assemble import assemble, kept_lags
from seqlab.numbers.variables import Measurement, Variable
from seqlab.rules import Acts
from seqlab.spec.kinds import Spec
from seqlab.spec.probed import BY_LINK
from seqlab.study import files
from seqlab.study.face import Face
from seqlab.study.result import Result
from seqlab.wording import refuse

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Attenuation(Face):
    """Absolute natural logs of the adjoint's norm, (M, lengths, lags), M = 1 for one network.

    Entry [m, k, i] belongs to the loss of the output y_T, T = lengths[k], at lag tau = T - t =
    lags[i], summed in squares over batch and state; nan past a length. `parts` has the same of each
    named part of the state (of the one part that there is, the same numbers), among them
    `log_norm_hidden` and `log_norm_cell` (None where the state has no such part). `log_norm_input`
    is dL/dx_t's, which does not exist at lag T (nan), or None where it was not measured.

    `engine` says who carried the adjoint back: `kernels`, seqlab's own; `autograd`, PyTorch's, step
    by step; or `input`: nobody, and `log_norm` is that of dL/dx at the same lags, which end at T -
    1. `backend` is where that was computed. `every` is the distance of the lags.
    `fired` (M, lengths) is the share of steps x sequences at which a clip rule inside the chain
    acted. Through layers (`link`), `names` has what is differentiated by, a name a lag. `updates`
    of training came before, None where nobody counted.

    -inf is an exact zero, but where `underflow` (M, lengths) is true: there a single step's factor,
    such as a saturated unit's slope, or with engine `input` the gradient itself, is too small for
    the dtype; of PyTorch's slopes, which are rounded (1 - tanh^2 is 0 from 19 on), this is said of
    every zero that no clip rule made. An overflow of the state leaves nan. Where the output is no
    function of the state that comes with it, lag 0 holds the norm of dL/dy_T, and its parts nan.

    It may stand where a result does: in `seqlab.figures`, in the pytest fixture, and, once it is
    saved, in stores. There every curve is relative to the state's norm at lag 0 of its length, and
    so are the numbers of its clip rule: `attenuation["none"].decay_rate`, see
    `seqlab.report.numbers`.
    """

    lengths: NDArray[np.int64]
    lags: NDArray[np.int64]
    log_norm: NDArray
    log_norm_input: NDArray | None
    parts: Mapping[str, NDArray]
    underflow: NDArray[np.bool_]
    fired: NDArray
    clip: str
    backend: str
    name: str
    engine: str
    dtype: str
    created: datetime
    duration: float
    every: int = 1
    link: str = "step"
    names: tuple[str, ...] = ()
    updates: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def log_norm_hidden(self) -> NDArray | None:
        return self.parts.get("hidden")

    @property
    def log_norm_cell(self) -> NDArray | None:
        return self.parts.get("cell")

    @cached_property
    def result(self) -> Result:
        """The same as a result. Raises InputError where it has no lag but 0."""
        return together([self])

    # What reports and figures ask of a result.

    @property
    def spec(self) -> Spec:
        return self.result.spec

    @property
    def variables(self) -> Mapping[str, Variable]:
        return self.result.variables

    @property
    def path(self) -> Path | None:
        return None

    def __repr__(self) -> str:
        try:
            return super().__repr__()
        except InputError:  # no result
            return f"{type(self).__name__} of {self.name}: lag 0 alone"

    def to_json(self) -> dict[str, Any]:
        """The document that `seqlab probe --json` prints."""
        return self.result.to_json()

    def to_dataframe(self) -> "pd.DataFrame":
        """Tidy curves: a row for each network, rule, length and lag up to the length."""
        return self.result.to_dataframe()

    def save(self, store: str | PathLike[str] = "seqlab-results") -> Path:
        """Keep it as a result file, which `load`, `seqlab table` and `seqlab plot` read, in a
        folder; the file's path.

        Raises InputError where the folder cannot be written to, WriteError where the disk fails.
        """
        files.require_writable("store", Path(store) / self.result.file_name, 0)
        path = self.result.write(store).path
        assert path is not None
        return path


def attenuation(
    arch: str,
    params: Mapping[str, ArrayLike],
    x: ArrayLike,
    lengths: Sequence[int],
    clip: str = "none",
    readout: ArrayLike | None = None,
    activation: str = "tanh",
    backend: str = "auto",
    initial: Any = None,
) -> Attenuation:
    """Norms of dL/ds_t at every lag, for the losses readout . y_T at each of `lengths`.

    One forward pass serves all lengths, and their adjoints go back together. params, x and initial
    are as for `seqlab.forward`. `readout` is (H,) for all sequences, or (B, H), with M leading for
    an ensemble; left out, a random unit vector for each network. Clip rules act as in `backward`;
    `norm` and `value` leave curves alone. Raises InputError for bad names, lengths and arrays.
    """
    from seqlab.measure.attenuation import measure_norms

    created, start = datetime.now(UTC), time.perf_counter()
    found = measure_norms(arch, params, x, lengths, clip, readout, activation, backend, initial)
    return Attenuation(
        lengths=np.asarray(lengths, np.int64),
        lags=np.arange(found.log_norm.shape[2]),
        log_norm=found.log_norm,
        log_norm_input=found.log_norm_input,
        parts=found.parts,
        underflow=found.underflow,
        fired=found.fired,
        clip=found.clip,
        backend=found.backend,
        name=arch,
        engine="kernels",
        dtype=found.dtype,
        created=created,
        duration=time.perf_counter() - start,
    )


def together(measured: Sequence[Attenuation]) -> Result:
    """One result of what was measured under several rules, each once, of the same network."""
    first = measured[0]
    # From the first state on, or from the first input.
    links = first.lengths - (first.engine == "input")
    if links.min() < 1:
        raise refuse("lengths", int(first.lengths.min()), "a result needs a lag besides 0")
    order = np.argsort(links)
    place = {"log_norm": [one.log_norm for one in measured]}
    if first.log_norm_input is not None:
        place["log_norm_input"] = [
            one.log_norm_input for one in measured if one.log_norm_input is not None
        ]
    named = list(first.parts) if len(first.parts) > 1 else []
    if named:
        place["log_norm_part"] = [
            np.stack([one.parts[name] for name in named], axis=1) for one in measured
        ]
    start = np.stack([one.log_norm[:, :, :1] for one in measured], axis=1)
    stacked = {name: np.stack(found, axis=1) for name, found in place.items()}
    with np.errstate(invalid="ignore"):  # an exact zero at lag 0
        curves = {  # (M, rules, [parts,] lengths, lags)
            name: values - (start[:, :, None] if values.ndim > start.ndim else start)
            for name, values in stacked.items()
        }
    curves = {name: values[..., order, :] for name, values in curves.items()}  # ascending
    content = hashlib.sha256()
    for values in curves.values():
        content.update(np.ascontiguousarray(values).tobytes())
    spec = BY_LINK[first.link].of(
        name=first.name,
        steps=int(links[order[-1]]),
        networks=len(first.log_norm),
        clip=[one.clip for one in measured],
        lengths=links[order].tolist(),
        every=first.every if first.every > 1 else None,
        engine=first.engine,
        dtype=first.dtype,
        updates=first.updates,
        content=content.hexdigest(),
    )
    kept = kept_lags(spec, first.every)
    block = {name: values[..., kept // first.every] for name, values in curves.items()}
    block["longest"] = curves["log_norm"][:, :, -1, : spec.steps // first.every + 1]
    block["underflow"] = np.stack([one.underflow[:, order] for one in measured], 1).astype(float)
    block["clipped_fraction"] = np.stack([_clipped(one)[:, order[-1]] for one in measured], axis=1)
    block["predicted"] = np.full(spec.networks, np.nan)
    variables = assemble(spec, [block], named=named, every=first.every)
    result = Result.from_measurement(
        spec,
        Measurement(first.backend, variables),
        first.created,
        sum(one.duration for one in measured),
    )
    return replace(result, versions={**result.versions, **first.versions})


def _clipped(one: Attenuation) -> NDArray:
    """The share of steps at which its rule acted, nan where that is for parameter gradients."""
    rule = rules.parse(one.clip)
    return np.full_like(one.fired, np.nan) if rule.acts is Acts.AFTER else one.fired
