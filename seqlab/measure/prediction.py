"""The decay rate that theory predicts for the very networks that were measured."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import gru, lstm
from seqlab.engine.ensemble import Ensemble
from seqlab.numbers import theory


class Observer:
    """Gathers what the prediction needs while the forward pass runs."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        self._names = _GATE_MEANS.get(ensemble.cell.name, ())
        self._sums = np.zeros((len(self._names), len(ensemble.x)))
        self._steps = 0

    def see(self, saved: Any) -> None:
        """Add one segment: means over sequences and units of the coefficients that matter."""
        if self._names:
            coefficients = saved.coefficients
            means = [coefficients[:, :, :, i].mean(axis=(2, 3), dtype=float) for i in self._names]
            self._sums += np.stack([mean.sum(axis=1) for mean in means])
            self._steps += coefficients.shape[1]

    def rates(self) -> NDArray:
        """The predicted rate of each network (M,), nat/step; nan where there is no theory."""
        params = self.ensemble.params
        networks = len(self.ensemble.x)
        predict = _PREDICTIONS.get(self.ensemble.cell.name)
        if predict is None:
            return np.full(networks, np.nan)
        means = self._sums / max(1, self._steps)
        one = ({name: array[m] for name, array in params.items()} for m in range(networks))
        with np.errstate(all="ignore"):  # overflow leaves no prediction
            rates = [predict(self.ensemble, m, p, means[:, m]) for m, p in enumerate(one)]
        return np.where(np.isposinf(rates), np.nan, np.array(rates, dtype=float))


def _rnn(ensemble: Ensemble, network: int, params: dict[str, NDArray], means: NDArray) -> float:
    """ln of the spectral radius for a linear network, else mean field with measured variances;
    nan where one is beyond the range of floats."""
    weight = params["weight_hh"].astype(float)
    if ensemble.activation == "identity":
        return theory.linear_rate(weight[None])
    params = {name: array.astype(float) for name, array in params.items()}
    bias = params["bias_ih"] + params["bias_hh"]
    driven = ensemble.x[network] @ params["weight_ih"].T + bias
    sw2 = float(np.mean(np.square(weight)) * len(weight))
    s02 = float(np.mean(np.square(driven)))
    if not (math.isfinite(sw2) and math.isfinite(s02)):
        return np.nan
    field = theory.mean_field(ensemble.activation or "tanh", sw2, s02)
    return np.nan if field is None else field.rate


def _scale(params: dict[str, NDArray], gate: int) -> float:
    """sqrt(H Var U) of one gate's recurrent block."""
    units = params["weight_hh"].shape[1]
    block = params["weight_hh"][gate * units : (gate + 1) * units]
    return float(np.sqrt(units * np.mean(np.square(block.astype(float)))))


def _lstm(ensemble: Ensemble, network: int, params: dict[str, NDArray], means: NDArray) -> float:
    forget, candidate, output = means
    return theory.lstm_rate(forget, _scale(params, lstm.CANDIDATE), candidate, output)


def _gru(ensemble: Ensemble, network: int, params: dict[str, NDArray], means: NDArray) -> float:
    return theory.gru_rate(means[0], _scale(params, gru.CANDIDATE), means[1])


_PREDICTIONS: dict[str, Callable[..., float]] = {"rnn": _rnn, "lstm": _lstm, "gru": _gru}
# Which of a gated cell's coefficients the formula takes the means of.
_GATE_MEANS = {
    "lstm": tuple(lstm.COEFFICIENTS.index(n) for n in ("carry", "candidate", "output_slope")),
    "gru": tuple(gru.COEFFICIENTS.index(n) for n in ("carry", "hidden_candidate")),
}
