"""What no route can probe, refused before any work.

What only a call can show, such as a second call that answers otherwise, is refused by the routes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from seqlab.probes.callables import modules_of
from seqlab.probes.states import Layout, State, Tensor, each, is_tensor, tensors_of
from seqlab.values import named
from seqlab.wording import one_of, refuse

WITH_RESPECT_TO = ("state", "input", "layers")


def check(
    net: Callable, x: Tensor, state: State, wrt: str | Sequence[str], time: int | None = None
) -> None:
    """Raises InputError for what would give a wrong curve or change the net, whatever the route.

    `wrt` is `state`, `input`, `layers` or a list of names of submodules, and `time` x's axis of
    time, None where none is told. A net that is no module, nor a module's method, is not looked
    into.
    """
    if wrt not in WITH_RESPECT_TO if isinstance(wrt, str) else not isinstance(wrt, list | tuple):
        allowed = one_of([*WITH_RESPECT_TO, "a list of names of submodules"])
        raise refuse("wrt", wrt, f"{allowed} is needed")
    _check_x(x, time)
    if wrt == "input" and not x.is_floating_point():
        raise refuse(
            "x",
            named(x.dtype),
            "whole numbers have no gradient; of embeddings probe the state (wrt='state'), or give "
            "the embedding's output",
        )
    if state is not None:
        each(state, lambda tensor: tensor)
        Layout(tensors_of(state), ())
    _check_devices(net, x, state)
    for place, module in _places(net):
        _check_module(place, module, wrt)


def _check_x(x: Tensor, time: int | None) -> None:
    from torch.nn.utils.rnn import PackedSequence

    if isinstance(x, PackedSequence) or getattr(x, "is_nested", False):
        raise refuse(
            "x",
            type(x).__name__,
            "one tensor is needed; probe sequences of one length at a time, unpacked",
        )
    if not is_tensor(x):
        raise refuse("x", type(x).__name__, "a PyTorch tensor is needed")
    if str(x.layout) != "torch.strided":
        raise refuse("x", named(x.layout), "x.to_dense() is needed")
    if x.is_complex():
        raise refuse("x", named(x.dtype), "real numbers are needed")
    if time is not None and (isinstance(time, bool) or not isinstance(time, int) or time < 0):
        raise refuse("time", time, "an axis of x, counted from 0")
    if x.dim() <= (time or 0):
        raise refuse("x", tuple(x.shape), f"axis {time or 0} must be its axis of time")
    if not x.numel():
        raise refuse("x", tuple(x.shape), "at least one step, sequence and feature is needed")
    if x.is_floating_point() and not (x.is_meta or bool(x.isfinite().all())):
        raise refuse("x", "NaN or infinity", "finite numbers are needed")


def _check_devices(net: Callable, x: Tensor, state: State) -> None:
    """Of parameters, x and state; the state's own tensors have been compared."""
    found = {
        "parameters": {str(p.device) for m in modules_of(net) for p in m.parameters(recurse=False)},
        "x": {str(x.device)},
        "state": {str(tensor.device) for tensor in tensors_of(state)},
    }
    if len(set.union(*found.values())) > 1:
        said = "; ".join(f"{name}: {', '.join(sorted(on))}" for name, on in found.items() if on)
        raise refuse("devices", said, "one device is needed: net.to(device), x.to(device)")
    if x.is_meta:
        raise refuse("devices", "meta", "a device that holds numbers is needed")


def _places(net: Callable) -> Iterator[tuple[str, Any]]:
    """Every module, and its place as Python spells it or nearly so: `net.rnn`, `net.blocks.0`."""
    if modules := modules_of(net):
        for name, module in modules[0].named_modules():
            yield f"net.{name}" if name else "net", module


def _check_module(place: str, module: Any, wrt: str | Sequence[str]) -> None:
    from torch import nn

    if wrt == "state" and isinstance(module, nn.RNNBase) and module.bidirectional:
        allowed = "its state of the other direction comes from the last step on; wrt='input'"
        raise refuse(place, "bidirectional", allowed)
    for parameter in module.parameters(recurse=False):
        if nn.parameter.is_lazy(parameter):
            raise refuse(place, "parameters without numbers", "net(x) once makes them")
        if parameter.is_inference():
            allowed = "they have no gradient; a copy of them, copy.deepcopy(net), has"
            raise refuse(place, "parameters made in inference mode", allowed)
    if not module.training:
        return
    if rate := _dropout(module):
        allowed = "equal calls must answer alike; net.eval() switches it off"
        raise refuse(place, f"dropout {rate:g} in training mode", allowed)
    if what := _changes(module):
        allowed = "it changes what it keeps at every call; net.eval() takes what it has kept"
        raise refuse(place, f"{what} in training mode", allowed)


def _dropout(module: Any) -> float:
    """The rate at which a module's own code drops, in training mode; F.dropout in another's shows
    at the second call."""
    from torch import nn

    if isinstance(module, nn.modules.dropout._DropoutNd):
        return float(module.p)
    if isinstance(module, nn.RNNBase):
        return float(module.dropout) if module.num_layers > 1 else 0.0
    return float(module.dropout) if isinstance(module, nn.MultiheadAttention) else 0.0


def _changes(module: Any) -> str:
    """What of a module, in training mode, would change its buffers or mix sequences; or nothing."""
    from torch import nn
    from torch.nn.utils.spectral_norm import SpectralNorm

    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return "batch norm"
    if isinstance(module, nn.modules.instancenorm._InstanceNorm) and module.track_running_stats:
        return "instance norm with running statistics"
    hooks = module._forward_pre_hooks.values()
    # The newer one is a parametrisation, a module whose class has no public name.
    if type(module).__name__ == "_SpectralNorm" or any(isinstance(h, SpectralNorm) for h in hooks):
        return "spectral norm"
    return ""
