"""Runs of deep stacks, and what they drew, for the naive stacks."""

import math
from typing import Any, NamedTuple

import naive_depth as naive
import numpy as np
import stacked
from naive_depth import Array

from seqlab.kernels import backends
from seqlab.measure.stack_networks import Networks
from seqlab.measure.stacks import measure
from seqlab.spec.stack import StackSpec


def create(**given: Any) -> StackSpec:
    """A small spec."""
    small = {"arch": "mlp", "steps": 6, "hidden": 8, "networks": 2, "clip": ["none"]}
    return StackSpec.create(**small | given)


def measured(spec: StackSpec) -> dict[str, Array]:
    return {name: np.asarray(v.data) for name, v in measure(spec).variables.items()}


class Taken(NamedTuple):
    """What a spec draws, as the naive stacks have it: by network the layers and the inputs (rows,
    units), and by network and length the loss's readout (rows, units)."""

    stack: naive.Stack
    layers: list[stacked.Network]
    x: list[Array]
    readouts: list[list[Array]]


def taken(spec: StackSpec) -> Taken:
    of, networks = spec.stack, Networks(spec)
    layers = []
    for m in range(spec.networks):
        network = []
        for layer in range(spec.steps):
            numbers, start, parts = networks.layer(m, layer), 0, {}
            names = iter(stacked.ORDER.get(spec.arch, stacked.TWO))
            for one in of.maps(layer):
                for shape in ((one.outputs, one.inputs), (one.outputs,)):
                    size = math.prod(shape)
                    parts[next(names)] = numbers[start : start + size].reshape(shape)
                    start += size
            assert start == len(numbers)
            network.append(parts)
        layers.append(network)
    kernels = backends.stack_kernels("cpu", of)
    block = networks.block(range(spec.networks), "cpu", kernels, 1)
    columns, rows = kernels.columns(np.dtype(spec.dtype)), of.rows
    state = block.tape.state.reshape(spec.networks, of.units, columns)
    readout = block.readout.reshape(spec.networks, len(spec.lengths), of.units, columns)
    assert not readout[..., rows:].any()
    readouts = []
    for m in range(spec.networks):
        born = [of.width * (n + 1) if of.grows else of.units for n in spec.lengths]
        readouts.append([readout[m, k, :n, :rows].T for k, n in enumerate(born)])
        assert not any(readout[m, k, n:].any() for k, n in enumerate(born))
    stack = naive.Stack(
        of.arch, of.activation, of.norm, of.place, of.outside, of.alpha, of.heads, of.eps
    )
    return Taken(stack, layers, [s[: of.width, :rows].T for s in state], readouts)


def joined(parts: list[Array]) -> float:
    """ln of the norm of vectors of which the logs of all entries are given."""
    logs = 2 * np.concatenate([part.ravel() for part in parts])
    largest = logs.max()
    if np.isneginf(largest):
        return -math.inf
    return float(largest + math.log(np.exp(logs - largest).sum())) / 2


def logs_of(scale: float, grads: naive.Gradients) -> list[Array]:
    with np.errstate(divide="ignore"):
        return [scale + np.log(np.abs(g)) for g in grads.values()]


def slopes(path: naive.Path, stack: naive.Stack, layers: stacked.Network) -> list[Array]:
    """phi'(z) of every block's activation (rows, units), from what goes into it."""
    slope, found = naive.ACTIVATIONS[stack.activation][1], []

    def normed(h: Array) -> Array:
        kind = "layer" if stack.arch == "transformer" else stack.norm
        return h if kind == "none" else naive.norm(h, kind, stack.eps)[0]

    for h, params in zip(path.states, layers, strict=False):
        if stack.arch == "transformer":
            inner = {k.removeprefix("self_attn."): v for k, v in params.items()}
            pre = stack.place == "pre"
            seen = naive.attention(normed(h) if pre else h, inner, stack.heads)[0]
            h = h + stack.alpha * seen
            z = normed(h) @ params["linear1.weight"].T + params["linear1.bias"]
        elif stack.arch == "resnet":
            h = normed(h) if stack.place == "pre" else h
            z = h @ params["weight"].T + params["bias"] if stack.outside else h
        else:
            z = normed(h @ params["weight"].T + params["bias"])
        found.append(slope(z))
    return found
