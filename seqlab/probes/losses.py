"""What is differentiated: a readout of the last output, or a loss of one's own."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.measure.randomness import unit_readout
from seqlab.probes.states import Tensor, is_tensor, on_host
from seqlab.probes.steps import Loss, gradient_of
from seqlab.values import as_array, named
from seqlab.wording import one_of, refuse


class Losses:
    """The losses of the last output y, (B, F) or (F,), one a network.

    `readout` is (F,) for all sequences, or of y's own shape; without it and without a `loss`, a
    random unit vector (F,) for each network, the one that `seqlab.attenuation` draws.
    Raises InputError for both together, and later for a readout of another shape than these.
    """

    def __init__(self, readout: Any, loss: Callable[[Tensor], Tensor] | None) -> None:
        if readout is not None and loss is not None:
            raise refuse("readout", "one", "readout or loss, not both")
        if loss is not None and not callable(loss):
            raise refuse("loss", type(loss).__name__, "a function from the last output to a number")
        self._loss, self._readout = loss, readout
        if is_tensor(readout):
            if not readout.is_floating_point() or readout.is_meta:
                what = f"{named(readout.dtype)} on {readout.device}"
                raise refuse("readout", what, "numbers of floating point are needed")
        elif readout is not None:
            self._readout = as_array("readout", readout)

    @property
    def of_outputs(self) -> bool:
        """Whether dL/dy depends on y."""
        return self._loss is not None

    def check(self, y: Tensor) -> None:
        """Refuse an output of this form, or a readout that does not fit it. Raises InputError."""
        if not (y.is_floating_point() and y.dim()):
            what = f"an output of dtype {named(y.dtype)} and shape {tuple(y.shape)}"
            raise refuse("net", what, "one with an axis of floating-point numbers")
        shapes = [(y.shape[-1],), tuple(y.shape)]
        if self._readout is not None and tuple(self._readout.shape) not in shapes:
            allowed = f"its shape must be {one_of(map(str, shapes))}"
            raise refuse("readout", tuple(self._readout.shape), allowed)

    def of(self, network: int) -> Loss:
        """The loss of a network's last output."""
        if self._loss is not None:
            return self._loss
        return lambda y: (self.readout(network, y) * y).sum()

    def readout(self, network: int, y: Tensor) -> Tensor:
        """The readout of an output, in its dtype. Raises InputError where they do not fit."""
        self.check(y)
        if self._readout is None:
            return y.new_tensor(unit_readout(0, network, y.shape[-1]))
        given = self._readout
        return given.detach().to(y) if is_tensor(given) else y.new_tensor(given)

    def seeds(self, network: int, outputs: NDArray, like: Tensor) -> NDArray:
        """dL/dy of a network's last outputs (lengths, ...), each as `like`."""
        if self._loss is None:
            vector = on_host(self.readout(network, like)).astype(outputs.dtype)
            return np.broadcast_to(vector, (len(outputs), *like.shape))
        found = []
        for output in outputs:
            seed = gradient_of(self._loss, like.new_tensor(output.reshape(tuple(like.shape))))
            found.append(np.zeros(tuple(like.shape)) if seed is None else on_host(seed))
        if not np.isfinite(found).all():
            raise refuse("loss", "a gradient of NaN or infinity", "finite numbers are needed")
        return np.stack(found).astype(outputs.dtype)
