"""PyTorch's recurrent modules on the lab's own kernels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import suffix
from seqlab.engine.bptt import forward
from seqlab.engine.ensemble import unwrapped
from seqlab.errors import InputError
from seqlab.measure.attenuation import Norms, measure_norms
from seqlab.probes.layouts import from_torch, torch_class
from seqlab.probes.losses import Losses
from seqlab.probes.quiet import quiet
from seqlab.probes.states import State, Tensor, tensors_of
from seqlab.values import as_array, named

_HOOKS = ("forward", "forward_pre", "backward", "backward_pre")


def has_kernels(net: Any) -> bool:
    """Whether a module is an nn.RNN, nn.LSTM or nn.GRU of one direction, or a cell of theirs, in
    float64 or float32, that does nothing else."""
    from torch import nn

    try:
        torch_class(net)
    except InputError:
        return False
    hooks = [getattr(net, f"_{kind}_hooks") for kind in _HOOKS]
    of_all = nn.modules.module._has_any_global_hook()
    changed = any([of_all, *hooks]) or type(net).__call__ is not nn.Module.__call__
    if changed or getattr(net, "bidirectional", False) or getattr(net, "proj_size", 0):
        return False
    if getattr(net, "num_layers", 1) > 1 and net.dropout and net.training:
        return False
    return {named(parameter.dtype) for parameter in net.parameters()} in ({"float64"}, {"float32"})


def on_kernels(
    nets: Sequence[Any],
    x: Tensor,
    state: State,
    losses: Losses,
    lengths: Sequence[int],
    clip: str,
    like: Tensor,
) -> Norms:
    """Norms of dL/ds at every lag, an ensemble of modules of one class and size.

    x is as the modules take it, `like` an output as they make it. Raises InputError for modules of
    several sizes and as `seqlab.attenuation` does.
    """
    stacks = [from_torch(net) for net in nets]
    networks, layers, first = len(stacks), len(stacks[0]), stacks[0][0]
    drive = np.asarray(as_array("x", x))
    if first.batch_first and drive.ndim == 3:
        drive = drive.transpose(1, 0, 2)
    if drive.ndim == 2:  # one sequence
        drive = drive[:, None]
    sequences = drive.shape[1]
    units = first.params["weight_hh"].shape[1]

    def for_all(array: NDArray) -> NDArray:
        return np.broadcast_to(array, (networks, *array.shape))

    lead = (layers, sequences) if layers > 1 else (sequences,)
    states = tuple(
        for_all(np.asarray(as_array("state", part)).reshape(*lead, units))
        for part in tensors_of(state)
    )
    params = {
        f"{name}{suffix(k, layers)}": np.stack([stack[k].params[name] for stack in stacks])
        for k in range(layers)
        for name in first.params
    }
    given: dict[str, Any] = {"activation": first.activation}
    if states:
        given["initial"] = unwrapped(states)
    outputs = np.zeros((networks, len(lengths), sequences, units), drive.dtype)
    if losses.of_outputs:
        output = forward(first.arch, params, for_all(drive), **given).output
        outputs = output[:, np.asarray(lengths) - 1]
    with quiet(nets, x):
        seeds = np.stack([losses.seeds(m, outputs[m], like) for m in range(networks)])
    readout = seeds.reshape(outputs.shape)
    return measure_norms(first.arch, params, for_all(drive), lengths, clip, readout, **given)
