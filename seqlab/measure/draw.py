"""The networks and drives that a spec names, drawn or read."""

import re

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import CELLS, Draw, Parameters
from seqlab.engine.ensemble import Ensemble, gather
from seqlab.measure.randomness import Purpose, stream, unit_readout
from seqlab.spec.arrays import load_input, load_params
from seqlab.spec.kinds import Spec
from seqlab.spec.run import RunSpec
from seqlab.wording import refuse

# Which option scales a parameter, of those that may scale it at will; else input_scale does.
_SCALES = {
    "weight_hh": "gain",
    "bias_ih": "forget_bias",
    "bias_hh": "forget_bias",
    "bias": "forget_bias",
}


def check_drawn(spec: Spec, params: Parameters) -> None:
    """Refuse drawn parameters that the dtype cannot hold, by the option that made them so.

    Raises InputError.
    """
    for name, array in params.items():
        if not np.isfinite(array).all():
            option = _SCALES.get(re.sub(r"_l\d+$", "", name), "input_scale")
            allowed = f"{name} must stay in the range of {spec.dtype}"
            raise refuse(option, getattr(spec, option), allowed)


class Source:
    """Networks of one spec by number; one's own arrays are read once."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec, self.cell = spec, spec.cell
        self._params = self._drive = None
        if spec.params is not None:
            file = spec.params
            self._params = load_params(CELLS[spec.arch], file.source, file.sha256, spec.module)
        if spec.input is not None:
            self._drive = load_input(spec.input.source, spec.input.sha256)

    def ensemble(self, networks: range) -> Ensemble:
        """Some of the spec's networks with their drive, in the spec's dtype."""
        dtype = np.dtype(self.spec.dtype)
        drawn = [self._network(m) for m in networks]
        with np.errstate(over="ignore"):  # refused below
            params = {name: np.stack([p[name] for p in drawn]).astype(dtype) for name in drawn[0]}
        check_drawn(self.spec, params)
        x = np.stack([self._sequence(m) for m in networks]).astype(dtype)
        activation = self.spec.activation or "tanh"
        return gather(self.spec.arch, params, x, activation=activation)

    def readout(self, networks: range) -> NDArray:
        """Unit vectors (M, H) of the losses."""
        spec = self.spec
        return np.stack([unit_readout(spec.seed, m, spec.hidden) for m in networks])

    def _network(self, m: int) -> Parameters:
        spec = self.spec
        if self._params is None:
            rng = stream(spec.seed, m, Purpose.PARAMETERS)
            return self.cell.draw(rng, spec.sizes, Draw.of(spec))
        axes = {name: len(shape) for name, shape in self.cell.shapes(spec.sizes).items()}
        return {n: a[m] if a.ndim > axes[n] else a for n, a in self._params.items()}

    def _sequence(self, m: int) -> NDArray:
        spec = self.spec
        if self._drive is not None:
            return self._drive[m] if self._drive.ndim == 4 else self._drive
        shape = (spec.steps, 1, spec.inputs)
        if spec.drive == "zeros":
            return np.zeros(shape)
        return stream(spec.seed, m, Purpose.DRIVE).standard_normal(shape)
