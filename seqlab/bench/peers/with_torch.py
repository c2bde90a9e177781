"""PyTorch on the CPU.

Subnormal numbers are flushed to zero while it works. Small products run faster on one thread than
on several: where that is not plain, both are tried and the faster is timed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from seqlab.bench.problems import Gradients, Scan, Stacks, Study, named
from seqlab.bench.race import Answer, Side, turn
from seqlab.bench.training import Training
from seqlab.cells import CELLS
from seqlab.kernels.cpu.threads import thread_count
from seqlab.learning.networks import BIAS, WEIGHT

NAME = "torch"
TRIAL = 0.05  # seconds of calls on each number of threads

LAYERS: dict[str, Callable[..., nn.Module]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
State = tuple[Tensor, ...]


def _flushed(call: Callable[[], Any], threads: int) -> Callable[[], Any]:
    """`call` on so many threads, without subnormals; other sides keep theirs."""

    def flushed() -> Any:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
        try:
            return call()
        finally:
            torch.set_flush_denormal(False)

    return flushed


def _faster(call: Callable[[], Any]) -> tuple[Callable[[], Any], int]:
    """`call` on one thread or on all, and on how many: whichever took less after a warm-up."""
    choices = {threads: _flushed(call, threads) for threads in sorted({1, thread_count()})}
    choices[1]()
    best = min(choices, key=lambda threads: turn(choices[threads], TRIAL))
    return choices[best], best


def layer_of(cell: str, params: dict[str, Tensor]) -> nn.Module:
    """The layer with these parameters, which are copied."""
    units, inputs = params["weight_hh"].shape[1], params["weight_ih"].shape[1]
    layer = LAYERS[cell](inputs, units, dtype=params["weight_hh"].dtype)
    layer.load_state_dict({f"{name}_l0": value for name, value in params.items()})
    return layer


def run_layer(layer: nn.Module, x: Tensor, initial: State) -> Tensor:
    """The layer's output (T, B, H) from initial states (B, H)."""
    state = tuple(part[None] for part in initial)
    return layer(x, state if len(state) > 1 else state[0])[0]


def gradients(problem: Gradients) -> list[Side]:
    """`torch.nn`'s layer and autograd, for all gradients."""
    layer = layer_of(problem.cell, {n: torch.from_numpy(v) for n, v in problem.params.items()})
    x = torch.tensor(problem.x, requires_grad=True)
    initial = tuple(torch.tensor(part, requires_grad=True) for part in problem.initial)
    grad_output = torch.tensor(problem.grad_output)
    names = [name.removesuffix("_l0") for name, _ in layer.named_parameters()]
    leaves = [*layer.parameters(), x, *initial]

    def call() -> State:
        return torch.autograd.grad(run_layer(layer, x, initial), leaves, grad_output)

    def answer(result: State) -> Answer:
        arrays = [part.numpy() for part in result]
        params = dict(zip(names, arrays, strict=False))
        return named(params, arrays[len(names)], arrays[len(names) + 1 :])

    faster, threads = _faster(call)
    return [Side(NAME, faster, answer, len(problem.x), facts={"torch threads": threads})]


def study(problem: Study) -> list[Side]:
    """The fused layer, network by network, where there is one; else all networks in one loop."""
    fused = problem.cell == "lstm" and problem.x.dtype == "float32"
    call = _layers(problem) if fused else _together(problem)

    def answer(result: list[Tensor]) -> Answer:
        return problem.gradients([gradient.numpy() for gradient in result])

    return [Side(NAME, _flushed(call, 1), answer)]


def _layers(problem: Study) -> Callable[[], list[Tensor]]:
    """A layer for each network, run anew for each length; gradients (M, parts, H)."""
    params = {name: torch.from_numpy(array) for name, array in problem.params.items()}
    networks, units = problem.readout.shape
    layers = [
        layer_of(problem.cell, {name: array[m] for name, array in params.items()})
        for m in range(networks)
    ]
    for layer in layers:
        layer.requires_grad_(False)
    x, readout = torch.from_numpy(problem.x), torch.from_numpy(problem.readout)

    def one(m: int, length: int) -> Tensor:
        initial = tuple(torch.zeros(1, units, dtype=x.dtype, requires_grad=True) for _ in range(2))
        loss = run_layer(layers[m], x[m, :length], initial)[-1, 0] @ readout[m]
        return torch.cat(torch.autograd.grad(loss, initial))

    return lambda: [
        torch.stack([one(m, length) for m in range(networks)]) for length in problem.lengths
    ]


def _together(problem: Study) -> Callable[[], list[Tensor]]:
    """All networks in one loop over time, forward once, back once for each length.

    Gradients (M, parts, 1, H).
    """
    params = {name: torch.from_numpy(array) for name, array in problem.params.items()}
    recurrent, input_weight = (
        params[name].transpose(1, 2).contiguous() for name in ("weight_hh", "weight_ih")
    )
    bias_ih, bias_hh = params["bias_ih"][:, None], params["bias_hh"][:, None]
    x, readout = torch.from_numpy(problem.x), torch.from_numpy(problem.readout)
    networks, units = readout.shape
    parts, step = len(CELLS[problem.cell].parts), STEPS[problem.cell]
    ends = problem.lengths

    def call() -> list[Tensor]:
        u = torch.baddbmm(bias_ih, x[:, :, 0], input_weight).unbind(1)
        zeros = (torch.zeros(networks, 1, units, dtype=x.dtype) for _ in range(parts))
        state = initial = tuple(part.requires_grad_() for part in zeros)
        losses = []
        for t in range(ends[-1]):
            state = step(state, u[t][:, None], torch.baddbmm(bias_hh, state[0], recurrent))
            if t + 1 in ends:
                losses.append(torch.sum(state[0][:, 0] * readout))
        found = (torch.autograd.grad(loss, initial, retain_graph=True) for loss in losses)
        return [torch.stack(gradient, 1) for gradient in found]

    return call


def _rnn(state: State, u: Tensor, m: Tensor) -> State:
    return (torch.tanh(u + m),)


def _lstm(state: State, u: Tensor, m: Tensor) -> State:
    i, f, g, o = (u + m).chunk(4, -1)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru(state: State, u: Tensor, m: Tensor) -> State:
    u_r, u_z, u_n = u.chunk(3, -1)
    m_r, m_z, m_n = m.chunk(3, -1)
    n = torch.tanh(u_n + torch.sigmoid(u_r + m_r) * m_n)
    return (torch.lerp(n, state[0], torch.sigmoid(u_z + m_z)),)


STEPS: dict[str, Callable[[State, Tensor, Tensor], State]] = {
    "rnn": _rnn,
    "lstm": _lstm,
    "gru": _gru,
}


def scan(problem: Scan) -> list[Side]:
    """A loop over time, vectorised over the rest."""

    def loop(decay: Tensor, drive: Tensor) -> Tensor:
        h, states = torch.zeros_like(drive[:, 0]), []
        for a, b in zip(decay.unbind(1), drive.unbind(1), strict=True):
            h = torch.addcmul(b, a, h)
            states.append(h)
        return torch.stack(states, 1)

    return [scan_side(f"{NAME} loop", problem, loop)]


def scan_side(name: str, problem: Scan, scan: Callable[[Tensor, Tensor], Tensor]) -> Side:
    """A side around a scan h_t = decay_t h_{t-1} + drive_t, both (B, L, D, N).

    Its arrays have time before the channels, as `scan` likes them; that is not timed.
    """

    def ours(array: NDArray) -> NDArray:
        return array.swapaxes(1, 2) if array.ndim == 3 else array

    leaves = {
        name: torch.tensor(ours(array), requires_grad=True)
        for name, array in problem.inputs.items()
    }
    grad_y = torch.tensor(ours(problem.grad_y))
    u, delta, A, B, C, D = leaves.values()

    def call() -> State:
        decay = torch.exp(delta[..., None] * A)
        states = scan(decay, (delta * u)[..., None] * B[:, :, None])
        y = (states @ C[..., None])[..., 0] + D * u
        return torch.autograd.grad(y, list(leaves.values()), grad_y)

    def answer(result: State) -> Answer:
        return {key: ours(part.numpy()) for key, part in zip(leaves, result, strict=True)}

    faster, threads = _faster(call)
    return Side(name, faster, answer, problem.work, facts={f"{name} threads": threads})


def stacks(problem: Stacks) -> list[Side]:
    """A module for each network, one after the other; several networks also in one loop of batched
    products, which is what `torch.func.vmap` makes of them."""
    sides = [_modules(problem)]
    if len(problem.weight) > 1:
        sides.append(_batched(problem))
    return sides


def _modules(problem: Stacks) -> Side:
    leaves, modules = [], []
    for weights, biases, x in zip(problem.weight, problem.bias, problem.x, strict=True):
        layers = []
        for weight, bias in zip(weights, biases, strict=True):
            layer = nn.utils.skip_init(nn.Linear, *weight.shape)
            layer.weight, layer.bias = map(nn.Parameter, map(torch.from_numpy, (weight, bias)))
            layers += [layer, nn.ReLU()]
        modules.append(nn.Sequential(*layers))
        leaves.append([*modules[-1].parameters(), torch.tensor(x, requires_grad=True)])
    readouts = torch.from_numpy(problem.readout)

    def call() -> list[State]:
        return [
            torch.autograd.grad(module(own[-1]), own, readout)
            for module, own, readout in zip(modules, leaves, readouts, strict=True)
        ]

    def answer(result: list[State]) -> Answer:
        own = [torch.stack(parts).numpy() for parts in zip(*result, strict=True)]
        return _of_layers(problem, own)

    return _stacks_side(f"{NAME} modules", problem, call, answer)


def _batched(problem: Stacks) -> Side:
    leaves = []
    for weight, bias in zip(*map(_by_layer, (problem.weight, problem.bias)), strict=True):
        leaves += [weight, bias]
    x, readout = torch.tensor(problem.x, requires_grad=True), torch.from_numpy(problem.readout)

    def call() -> State:
        h = x
        for weight, bias in zip(leaves[::2], leaves[1::2], strict=True):
            h = torch.relu(torch.baddbmm(bias[:, None], h, weight.transpose(1, 2)))
        return torch.autograd.grad(h, [*leaves, x], readout)

    def answer(result: State) -> Answer:
        return _of_layers(problem, [part.numpy() for part in result])

    return _stacks_side(f"{NAME} batched", problem, call, answer)


def _by_layer(array: NDArray) -> list[Tensor]:
    """(M, L, ...) as leaves (M, ...)."""
    return [torch.tensor(part, requires_grad=True) for part in array.swapaxes(0, 1)]


def _of_layers(problem: Stacks, parts: list[NDArray]) -> Answer:
    """Weight and bias of each layer in turn, then the input, (M, ...) each."""
    *layers, x = parts
    return problem.named(np.stack(layers[::2], 1), np.stack(layers[1::2], 1), x)


def _stacks_side(
    name: str, problem: Stacks, call: Callable[[], Any], answer: Callable[[Any], Answer]
) -> Side:
    faster, threads = _faster(call)
    return Side(name, faster, answer, problem.work, facts={f"{name} threads": threads})


class _Learner:
    """One network, its readout and its optimiser."""

    def __init__(self, cell: str, params: dict[str, Tensor], threshold: float, rate: float) -> None:
        own = {name: array for name, array in params.items() if name not in (WEIGHT, BIAS)}
        self._layer = layer_of(cell, own)
        self._readout = nn.utils.skip_init(nn.Linear, *params[WEIGHT].shape[::-1])
        self._readout.weight, self._readout.bias = (
            nn.Parameter(params[name].clone()) for name in (WEIGHT, BIAS)
        )
        self._leaves = [*self._layer.parameters(), *self._readout.parameters()]
        self._threshold = threshold
        self._optimiser = torch.optim.Adam(self._leaves, rate, fused=True)

    def update(self, x: Tensor, targets: Tensor, at: Tensor) -> Tensor:
        """One update; the loss before it."""
        self._optimiser.zero_grad()
        loss = mse_loss(self._readout(self._layer(x)[0][at]), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(self._leaves, self._threshold)
        self._optimiser.step()
        return loss.detach()

    def parameters(self) -> dict[str, NDArray]:
        """By seqlab's names."""
        names = [name.removesuffix("_l0") for name, _ in self._layer.named_parameters()]
        arrays = [leaf.detach().numpy() for leaf in self._leaves]
        return dict(zip([*names, WEIGHT, BIAS], arrays, strict=True))


def training(problem: Training) -> list[Side]:
    """A layer, a linear readout and the fused Adam for each network, one network after the other:
    no layer of `torch.nn` has weights for several, and `torch.func.vmap` undoes the fused LSTM."""
    params = {name: torch.from_numpy(array) for name, array in problem.params.items()}
    batches = [tuple(map(torch.from_numpy, batch)) for batch in problem.batches]
    networks = range(len(problem.params[BIAS]))

    def start() -> tuple[list[_Learner], Callable[[], Tensor]]:
        """Networks as they were drawn, and a call that goes on training them."""
        learners = [
            _Learner(
                problem.cell,
                {name: array[m] for name, array in params.items()},
                problem.threshold,
                problem.rate,
            )
            for m in networks
        ]

        def call() -> Tensor:
            losses = [
                [learner.update(x[m], targets[m], at) for x, targets, at in batches]
                for m, learner in enumerate(learners)
            ]
            return torch.stack([torch.stack(own) for own in losses], 1)

        return learners, call

    _, threads = _faster(start()[1])
    learners, call = start()

    def answer(losses: Tensor) -> Answer:
        own = [learner.parameters() for learner in learners]
        found = {name: np.stack([one[name] for one in own]) for name in own[0]}
        return problem.trained(found, losses.numpy().astype(np.float64))

    facts = {"torch threads": threads}
    return [Side(NAME, _flushed(call, threads), answer, problem.work, facts=facts)]
