"""The bare selective scan and its gradients: arrays in, arrays out, in mamba_ssm's shapes."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike, NDArray

from seqlab.ensemble import check_gpu_array, received
from seqlab.errors import InputError
from seqlab.kernels import backends

OPTIONAL = ("D", "z", "delta_bias")


@dataclass(frozen=True)
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
    backend: str = "auto",
) -> NDArray:
    """y (batch, D, L) of the selective scan, from a state of zeros.

    With Delta = delta + delta_bias, or the softplus of that,

        h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t u_t
        y_t = (sum over states of C_t h_t + D u_t) silu(z_t)

    u, delta, z (batch, D, L); A (D, N); B, C (batch, N, L); D, delta_bias (D,). All are float64 or
    all float32. The softplus is exact, where mamba_ssm's gives its argument back above 20.

    Arrays that live on a GPU (`__cuda_array_interface__` or DLPack) are read there, without a copy,
    by backend cuda, which `auto` then means; the answer is a GPU's array if u is one.

    Raises InputError for arrays of the wrong shape, dtype, or with NaN or infinity, and for a
    backend that is unknown or not available.
    Source: Gu & Dao 2023, Algorithm 2; mamba_ssm, selective_scan_interface.py.
    """
    given = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z}
    given["delta_bias"] = delta_bias
    chosen = backends.resolve(backend, *given.values())
    kernels = backends.kernels(chosen, "selective_scan")
    return kernels.forward(**_check(given), softplus=bool(delta_softplus))


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
    backend: str = "auto",
) -> ScanGradients:
    """Gradients of the loss whose gradient with respect to `selective_scan`'s y is grad_y.

    grad_y (batch, D, L); the rest, and what is raised, as for `selective_scan`. States are
    computed again here, so nothing of the forward pass need be kept.
    Source: the same recurrence, backwards: hand-written backpropagation through time.
    """
    given = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z}
    given["delta_bias"] = delta_bias
    chosen = backends.resolve(backend, grad_y, *given.values())
    arrays = _check(given)
    grad = check_gpu_array("grad_y", grad_y, arrays["u"].shape, arrays["u"].dtype)
    kernels = backends.kernels(chosen, "selective_scan")
    gradients = kernels.backward(grad, **arrays, softplus=bool(delta_softplus))
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
    }
    return {
        name: None if arrays[name] is None else check_gpu_array(name, arrays[name], shape, u.dtype)
        for name, shape in shapes.items()
    }
