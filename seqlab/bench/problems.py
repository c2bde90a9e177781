"""The arrays that all sides are given, and our own side of each contest."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

import seqlab
from seqlab.bench.machine import GPU
from seqlab.bench.race import OURS, Answer, Side
from seqlab.cells import CELLS, Draw, Sizes
from seqlab.kernels import backends
from seqlab.kernels.layout import on_gpu
from seqlab.layers import draws
from seqlab.layers.stack import Stack
from seqlab.measure.stack_gradients import StackGradients, backpropagate, drive_of

PRODUCTS = "numpy products"

Arrays = dict[str, NDArray]


def _on_backend(array: NDArray, backend: str) -> Any:
    """An array where a backend works; there beforehand, as a peer's are."""
    return backends.to_gpu(array) if backend == GPU else array


def _finished(call: Callable[[], Any], backend: str) -> Callable[[], Any]:
    """`call`, back when its work is done: a GPU goes on by itself."""

    def finished() -> Any:
        result = call()
        backends.wait_for_gpu()
        return result

    return finished if backend == GPU else call


def _on_host(array: Any) -> NDArray:
    """An answer's array on the host."""
    return backends.from_gpu(array) if on_gpu(array) else array


@dataclass(frozen=True)
class Gradients:
    """One network and a loss on all its outputs: everything's gradient is wanted.

    x (T, B, I), initial (B, H) each (lstm: h and c), loss = sum(grad_output * output); an ensemble
    has one more axis in front of everything.
    """

    cell: str
    params: Arrays
    x: NDArray
    initial: tuple[NDArray, ...]
    grad_output: NDArray

    @classmethod
    def draw(
        cls,
        cell: str,
        sizes: Sizes,
        steps: int,
        batch: int,
        dtype: DTypeLike,
        networks: int | None = None,
    ) -> "Gradients":
        """PyTorch's initialisation, white noise for the rest; the same numbers in both dtypes."""
        rng = np.random.default_rng(5)
        drawn = [CELLS[cell].draw(rng, sizes, Draw()) for _ in range(networks or 1)]
        params = {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}
        lead = () if networks is None else (networks,)
        wide = (*lead, batch, sizes.hidden)
        parts = [rng.standard_normal(wide) / 2 for _ in CELLS[cell].parts]
        return cls(
            cell,
            {n: (v if lead else v[0]).astype(dtype) for n, v in params.items()},
            rng.standard_normal((*lead, steps, batch, sizes.inputs)).astype(dtype),
            tuple(part.astype(dtype) for part in parts),
            rng.standard_normal((*lead, steps, batch, sizes.hidden)).astype(dtype),
        )

    @property
    def state(self) -> Any:
        """The initial state as seqlab takes it."""
        return self.initial if len(self.initial) > 1 else self.initial[0]

    @property
    def work(self) -> int:
        """Time steps in all: T, or M T."""
        return math.prod(self.x.shape[:-2])

    def side(self, backend: str = "cpu", name: str = OURS) -> Side:
        """`seqlab.forward` and `seqlab.backward`."""
        x, grad_output = (_on_backend(array, backend) for array in (self.x, self.grad_output))

        def call() -> Any:
            trajectory = seqlab.forward(self.cell, self.params, x, self.state, backend=backend)
            return seqlab.backward(trajectory, grad_output)

        def answer(result: Any) -> Answer:
            state = result.initial if isinstance(result.initial, tuple) else (result.initial,)
            return named(result.params, _on_host(result.x), state)

        return Side(name, _finished(call, backend), answer, self.work)


def named(params: Mapping[str, NDArray], x: NDArray, initial: Sequence[NDArray]) -> Answer:
    """All gradients under one set of names."""
    return {**params, "x": x, **{f"initial {i}": part for i, part in enumerate(initial)}}


@dataclass(frozen=True)
class Study:
    """An ensemble, and the gradient of readout . y_T with respect to its initial state (zero), for
    the T of `lengths`, rising. Gradients are compared up to length `checked`: a float64 of a peer
    holds no longer ones.

    params (M, ...), x (M, T, 1, I), readout (M, H).
    """

    cell: str
    params: Arrays
    x: NDArray
    readout: NDArray
    lengths: Sequence[int]
    checked: int

    @classmethod
    def draw(
        cls,
        cell: str,
        sizes: Sizes,
        networks: int,
        lengths: Sequence[int],
        checked: int,
        dtype: DTypeLike,
    ) -> "Study":
        """PyTorch's initialisation, white noise, unit readouts; the same numbers in both dtypes."""
        rng = np.random.default_rng(6)
        drawn = [CELLS[cell].draw(rng, sizes, Draw()) for _ in range(networks)]
        readout = rng.standard_normal((networks, sizes.hidden))
        readout /= np.linalg.norm(readout, axis=1, keepdims=True)
        return cls(
            cell,
            {name: np.stack([one[name] for one in drawn]).astype(dtype) for name in drawn[0]},
            rng.standard_normal((networks, lengths[-1], 1, sizes.inputs)).astype(dtype),
            readout.astype(dtype),
            lengths,
            checked,
        )

    def side(self, backend: str = "cpu", name: str = OURS) -> Side:
        """`seqlab.attenuation`: one call, which gives every lag of every length too."""

        def call() -> Any:
            return seqlab.attenuation(
                self.cell,
                self.params,
                self.x,
                self.lengths,
                readout=self.readout[:, None],
                backend=backend,
            )

        def answer(result: Any) -> Answer:
            logs = [result.log_norm[:, k, length] for k, length in enumerate(self.lengths)]
            return self.norms([np.exp(log) for log in logs])

        return Side(name, call, answer)

    def norms(self, norms: Sequence[NDArray]) -> Answer:
        """Norms (M,) by length as an answer: every network's weighs as much as another's."""
        return {
            f"network {m}, length {length}": norm[m : m + 1]
            for length, norm in zip(self.lengths, norms, strict=True)
            if length <= self.checked
            for m in range(len(norm))
        }

    def gradients(self, gradients: Sequence[NDArray]) -> Answer:
        """Gradients (M, ...) by length as an answer."""
        return self.norms([_norm(gradient) for gradient in gradients])


def _norm(gradient: NDArray) -> NDArray:
    """Norm over all axes but the first, of entries whose squares may underflow."""
    flat = gradient.reshape(len(gradient), -1)
    size = np.abs(flat).max(axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0 past what the dtype holds
        return size * np.linalg.norm(flat / size[:, None], axis=1)


@dataclass(frozen=True)
class Scan:
    """A selective scan in mamba_ssm's shapes, and a loss on all its outputs.

    u, delta, grad_y (B, D, L); A (D, N); B, C (B, N, L); D (D,).
    """

    u: NDArray
    delta: NDArray
    A: NDArray
    B: NDArray
    C: NDArray
    D: NDArray
    grad_y: NDArray

    @classmethod
    def draw(cls, batch: int, channels: int, states: int, steps: int, dtype: DTypeLike) -> "Scan":
        """Mamba's A and its range of steps, white noise for the rest."""
        rng = np.random.default_rng(7)
        wide, narrow = (batch, channels, steps), (batch, states, steps)
        arrays = (
            rng.standard_normal(wide),
            np.exp(rng.uniform(np.log(0.001), np.log(0.1), wide)),
            -np.tile(np.arange(1.0, states + 1.0), (channels, 1)),
            rng.standard_normal(narrow),
            rng.standard_normal(narrow),
            rng.standard_normal(channels),
            rng.standard_normal(wide),
        )
        return cls(*(array.astype(dtype) for array in arrays))

    @property
    def inputs(self) -> Arrays:
        """What has a gradient, by name."""
        return {name: getattr(self, name) for name in ("u", "delta", "A", "B", "C", "D")}

    @property
    def work(self) -> int:
        """States in all: B D L N."""
        return self.u.size * self.A.shape[1]

    def side(self, backend: str = "cpu", name: str = OURS) -> Side:
        """`seqlab.selective_scan` and `seqlab.selective_scan_backward`."""
        inputs = {given: _on_backend(array, backend) for given, array in self.inputs.items()}
        grad_y = _on_backend(self.grad_y, backend)

        def call() -> Any:
            y = seqlab.selective_scan(**inputs, backend=backend)
            return y, seqlab.selective_scan_backward(grad_y, **inputs, backend=backend)

        def answer(result: Any) -> Answer:
            return {given: _on_host(getattr(result[1], given)) for given in inputs}

        return Side(name, _finished(call, backend), answer, self.work)


@dataclass(frozen=True)
class Stacks:
    """Plain stacks of relu layers and the loss sum(readout * h_L): the gradients of every layer's
    weights and biases, and of the input, are wanted.

    weight (M, L, n, n), bias (M, L, n), x and readout (M, P, n).
    """

    weight: NDArray
    bias: NDArray
    x: NDArray
    readout: NDArray

    @classmethod
    def draw(cls, networks: int, layers: int, width: int, batch: int, dtype: DTypeLike) -> "Stacks":
        """He's initialisation, white noise, unit readouts; the same numbers in both dtypes."""
        rng, lead = np.random.default_rng(11), (networks, layers)
        stack = Stack("mlp", layers, width, batch, "relu")
        weight, bias = np.empty((*lead, width, width), dtype), np.empty((*lead, width), dtype)
        for m, layer in np.ndindex(lead):
            (of,) = stack.maps(layer)
            weight[m, layer], bias[m, layer] = draws.draw_map(rng, of, draws.Draw("he"))
        x, readout = rng.standard_normal((2, networks, batch, width))
        readout /= np.linalg.norm(readout, axis=(1, 2), keepdims=True)
        return cls(weight, bias, x.astype(dtype), readout.astype(dtype))

    @property
    def work(self) -> int:
        """Layers in all: M L."""
        return math.prod(self.weight.shape[:2])

    def side(self, backend: str = "cpu", name: str = OURS) -> Side:
        """`seqlab.measure.stack_gradients`, all stacks as one ensemble."""
        networks, layers, width, _ = self.weight.shape
        stack = Stack("mlp", layers, width, self.x.shape[1], "relu")
        flat = self.weight.reshape(networks, layers, -1)
        numbers = np.concatenate([flat, self.bias], axis=2)
        call = partial(
            backpropagate, stack, drive_of(numbers), self.x, self.readout, backend, numbers
        )

        def answer(found: StackGradients) -> Answer:
            weight, bias = np.split(found.layers, [width * width], axis=2)
            return self.named(weight.reshape(self.weight.shape), bias, found.x)

        return Side(name, call, answer, self.work)

    def named(self, weight: NDArray, bias: NDArray, x: NDArray) -> Answer:
        """Gradients shaped as what they belong to, layer by layer: one may be far larger than
        another."""
        layers = range(self.weight.shape[1])
        weights = {f"weight {layer}": weight[:, layer] for layer in layers}
        return {**weights, **{f"bias {layer}": bias[:, layer] for layer in layers}, "x": x}

    def products(self) -> Side:
        """What is left when everything but the products is free: h W^T, delta^T h and delta W by
        NumPy, of the states h and the adjoints delta that a pass has made before."""
        layers = range(self.weight.shape[1])
        by_layer = [self.weight[:, layer] for layer in layers]
        turned = [weight.swapaxes(1, 2) for weight in by_layer]
        states = [self.x]
        for layer in layers:
            z = states[-1] @ turned[layer] + self.bias[:, layer, None]
            states.append(np.maximum(z, 0))
        deltas, g = list(states[1:]), self.readout
        for layer in reversed(layers):
            deltas[layer] = g * (states[layer + 1] > 0)
            g = deltas[layer] @ by_layer[layer]
        adjoints = [delta.swapaxes(1, 2) for delta in deltas]
        found, room = np.empty_like(self.weight), np.empty_like(self.x)

        def call() -> None:
            for layer in layers:
                np.matmul(states[layer], turned[layer], out=room)
            for layer in reversed(layers):
                np.matmul(adjoints[layer], states[layer], out=found[:, layer])
                np.matmul(deltas[layer], by_layer[layer], out=room)

        def answer(_: None) -> Answer:
            return self.named(found, np.stack(deltas, 1).sum(2), room)

        return Side(PRODUCTS, call, answer, self.work, whole=False)
