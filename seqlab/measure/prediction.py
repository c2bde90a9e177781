"""The decay rate that theory predicts for the very networks that were measured."""

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Observed
from seqlab.engine.ensemble import Ensemble
from seqlab.kernels.contract import Saved


class Observer:
    """Gathers what the theory of the cell needs while the forward pass runs, from a zero state.

    `drawn` says that the weights were drawn, not given.
    """

    def __init__(self, ensemble: Ensemble, drawn: bool = True) -> None:
        self._ensemble, self._drawn, self._theory = ensemble, drawn, ensemble.cell.theory
        self._means: dict[str, NDArray] = dict.fromkeys(
            self._theory.means if self._theory else (), np.zeros(())
        )
        self._last = np.zeros((len(ensemble.x), 0))

    def observe(self, saved: Saved) -> None:
        """Add one segment of the coefficients that the theory takes the means of."""
        if self._theory is None or not self._means:
            return
        coefficients, names = saved.coefficients, self._ensemble.cell.coefficients
        last = [coefficients[:, -1, :, names.index(name)] for name in self._theory.last]
        if last:  # of the last segment in the end
            self._last = np.stack(last, axis=1)
        for name in self._means:
            one = coefficients[:, :, :, names.index(name)]
            if self._theory.of is not None:
                with np.errstate(divide="ignore"):  # a coefficient that left the dtype's range
                    one = self._theory.of(one.astype(float))
            kept = one if self._theory.each else one.mean(axis=(2, 3), dtype=float)
            self._means[name] = self._means[name] + kept.sum(axis=1, dtype=float)

    def rates(self, readout: NDArray) -> NDArray:
        """The predicted rate of each network (M,) with its readout (M, H), nat/step; nan where
        there is no theory."""
        ensemble, theory = self._ensemble, self._theory
        networks, steps = ensemble.x.shape[:2]
        if theory is None:
            return np.full(networks, np.nan)
        means = [total / steps for total in self._means.values()]
        with np.errstate(all="ignore"):  # overflow leaves no prediction
            rates = [
                theory.rate(
                    Observed(
                        {name: array[m] for name, array in ensemble.params.items()},
                        ensemble.x[m],
                        readout[m],
                        ensemble.activation,
                        np.array([mean[m] for mean in means]),
                        self._drawn,
                        self._last[m],
                    )
                )
                for m in range(networks)
            ]
        return np.where(np.isposinf(rates), np.nan, np.array(rates, dtype=float))
