"""The bare selective scan and its gradients: arrays in, arrays out, in mamba_ssm's shapes."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike, NDArray

from seqlab.engine.ensemble import check_gpu_array, received
from seqlab.errors import InputError
from seqlab.kernels import backends
from seqlab.wording import describe_array

OPTIONAL = ("D", "z", "delta_bias", "initial_state")


@dataclass(frozen=True, repr=False)
class ScanGradients:
    """Gradients with the names and shapes of what went in, None for what was not given."""

    u: NDArray
    delta: NDArray
    A: NDArray
    B: NDArray
    C: NDArray
    D: NDArray | None
    z: NDArray | None
    delta_bias: NDArray | None
    initial_state: NDArray | None

    def __repr__(self) -> str:
        given = {name: array for name, array in vars(self).items() if array is not None}
        return f"ScanGradients: {describe_array(given)}, {self.u.dtype}"


def selective_scan(
    u: ArrayLike,
    delta: ArrayLike,
    A: ArrayLike,
    B: ArrayLike,
    C: ArrayLike,
    D: ArrayLike | None = None,
    z: ArrayLike | None = None,
    delta_bias: ArrayLike | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    initial_state: ArrayLike | None = None,
    backend: str = "auto",
) -> Any:
    """y (batch, D, L) of the selective scan; with `return_last_state` the pair (y, h_L).

    With Delta = delta + delta_bias, or the softplus of that,

        h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t u_t
        y_t = (sum over states of C_t h_t + D u_t) silu(z_t)

    u, delta, z (batch, D, L); A (D, N); B, C (batch, N, L); D, delta_bias (D,); `initial_state` is
    h_0, zeros when left out, and shaped as h_L (batch, D, N): a sequence may be given in pieces,
    each from the last state of the one before. All are float64 or all float32. The softplus is
    exact, where mamba_ssm's gives its argument back above 20.

    Arrays that live on a GPU (`__cuda_array_interface__` or DLPack) are read there, without a copy,
    by backend cuda, which `auto` then means; the answer is a GPU's array if u is one.

    Raises InputError for arrays of the wrong shape, dtype, or with NaN or infinity, and for a
    backend that is unknown or not available.
    Source: Gu & Dao 2023, Algorithm 2; mamba_ssm, selective_scan_interface.py.
    """
    given: dict[str, Any] = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z}
    given |= {"delta_bias": delta_bias, "initial_state": initial_state}
    chosen = backends.resolve(backend, *given.values())
    kernels = backends.scan_kernels(chosen)
    y, last = kernels.forward(**_check(given), softplus=bool(delta_softplus))
    return (y, last) if return_last_state else y


def selective_scan_backward(
    grad_y: ArrayLike,
    u: ArrayLike,
    delta: ArrayLike,
    A: ArrayLike,
    B: ArrayLike,
    C: ArrayLike,
    D: ArrayLike | None = None,
    z: ArrayLike | None = None,
    delta_bias: ArrayLike | None = None,
    delta_softplus: bool = False,
    initial_state: ArrayLike | None = None,
    grad_last_state: ArrayLike | None = None,
    backend: str = "auto",
) -> ScanGradients:
    """Gradients of the loss whose gradient with respect to `selective_scan`'s y is grad_y.

    grad_y (batch, D, L); grad_last_state (batch, D, N), zero when left out, is the loss's gradient
    with respect to h_L, such as `initial_state` of the gradients of the piece that follows. The
    rest, and what is raised, as for `selective_scan`. States are computed again here, so nothing of
    the forward pass need be kept.

    Gradients are plain numbers: one that decays below the smallest number sticks there or is zero,
    in float32 from 1e-45 on. `seqlab.attenuation` follows it beyond.
    Source: the same recurrence, backwards: hand-written backpropagation through time.
    """
    given: dict[str, Any] = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z}
    given |= {"delta_bias": delta_bias, "initial_state": initial_state}
    chosen = backends.resolve(backend, grad_y, grad_last_state, *given.values())
    arrays = _check(given)
    (batch, channels, _), dtype = arrays["u"].shape, arrays["u"].dtype
    grad, last = check_gpu_array("grad_y", grad_y, arrays["u"].shape, dtype), None
    if grad_last_state is not None:
        shape = (batch, channels, arrays["A"].shape[1])
        last = check_gpu_array("grad_last_state", grad_last_state, shape, dtype)
    kernels = backends.scan_kernels(chosen)
    gradients = kernels.backward(grad, last, **arrays, softplus=bool(delta_softplus))
    asked = {name: gradients[name] for name, array in arrays.items() if array is not None}
    return ScanGradients(**{**dict.fromkeys(arrays), **asked})


def _check(given: dict[str, Any]) -> dict[str, Any]:
    """What was given as kernels take it, where it is, of the shapes that u and A imply."""
    arrays: dict[str, Any] = {
        name: None if value is None and name in OPTIONAL else received(name, value)
        for name, value in given.items()
    }
    u, a = arrays["u"], arrays["A"]
    if u.ndim != 3 or 0 in u.shape:
        raise InputError(f"u: shape {u.shape} is not allowed; (batch, D, L), none empty, is needed")
    if a.ndim != 2 or 0 in a.shape:
        raise InputError(f"A: shape {a.shape} is not allowed; (D, N), none empty, is needed")
    batch, channels, length = u.shape
    states = a.shape[1]
    shapes = {
        "u": u.shape,
        "delta": u.shape,
        "A": (channels, states),
        "B": (batch, states, length),
        "C": (batch, states, length),
        "D": (channels,),
        "z": u.shape,
        "delta_bias": (channels,),
        "initial_state": (batch, channels, states),
    }
    return {
        name: None if arrays[name] is None else check_gpu_array(name, arrays[name], shape, u.dtype)
        for name, shape in shapes.items()
    }
