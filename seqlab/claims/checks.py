"""Gradient checks and closed forms on the user's own machine: `seqlab verify`."""

import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab import measure as measuring
from seqlab.cells import ACTIVATIONS, CELLS, Draw, Parameters, Sizes, in_layers, rnn
from seqlab.cells.cell import ClosedForm
from seqlab.cells.draws import ZEROS
from seqlab.claims.differences import error_along
from seqlab.claims.stack_checks import stack_checks
from seqlab.engine import bptt
from seqlab.engine.ensemble import unwrapped
from seqlab.kernels.backends import STACKS
from seqlab.kernels.cpu.threads import thread_count
from seqlab.measure.lyapunov import frames, spectrum
from seqlab.spec.kinds import Progress
from seqlab.spec.run import RunSpec
from seqlab.study.attenuation import attenuation

LATCH = 25.0  # weight of a unit that stays where it is pushed
PATIENCE = 300  # seconds until a forked child is taken to hang
SIZES = Sizes(hidden=9, inputs=3, state=5)


@dataclass(frozen=True)
class Check:
    """One row: the largest error met, the error allowed, and the time it took."""

    name: str
    error: float
    tolerance: float
    seconds: float

    @property
    def passed(self) -> bool:
        """False for NaN too."""
        return self.error <= self.tolerance


def run_checks(
    report: Callable[[Check], None], backend: str = "auto", progress: Progress | None = None
) -> bool:
    """Run every check, report each when it is done; True if all passed."""
    passed, checks = True, list(_checks(backend))
    for place, (name, tolerance, measure) in enumerate(checks):
        if progress is not None:
            progress(place / len(checks), f"{place} of {len(checks)} checks; {name}")
        start = time.perf_counter()
        check = Check(name, float(measure(backend)), tolerance, time.perf_counter() - start)
        report(check)
        passed &= check.passed
    if progress is not None:
        progress(1.0, "done")
    return passed


def _checks(backend: str) -> Iterator[tuple[str, float, Callable[[str], float]]]:
    for arch in CELLS:
        chosen = "activation" in CELLS[arch].options
        for activation in ACTIVATIONS if chosen else ("tanh",):
            label = f"{arch} {activation}" if chosen else arch
            yield f"gradients, {label}", 1e-6, partial(_gradients, arch, activation, 1)
        yield f"gradients, {arch}, 2 layers", 1e-6, partial(_gradients, arch, "tanh", 2)
    for arch in CELLS:
        yield f"float32 against float64, {arch}", 1e-5, partial(_single, arch)
    for cell in CELLS.values():
        for form in cell.closed_forms:
            yield form.name, form.tolerance, partial(_closed_form, form)
    yield "rnn, sum of Lyapunov exponents", 1e-10, _exponent_sum
    yield "two linear layers, 0.9^k and 0.5^k", 3e-12, _two_layers
    yield "step-norm plateau on g Q", 1e-12, _plateau
    yield "truncate:k, zero beyond k", 0.0, _truncation
    for dtype in ("float64", "float32"):
        # The pre-activation is rounded, and the slope feels that 2 w times.
        tolerance = 4 * LATCH * float(np.finfo(dtype).eps) + 4e-16 * 50 * LATCH
        yield f"saturated units, both signs, {dtype}", tolerance, partial(_saturation, dtype)
    # A term is rounded a dozen times, at random, and a sum of terms of both signs may by chance be
    # three times smaller than they are wide.
    tolerance = 12 * 3 * 2.0**-24
    for arch in CELLS:
        yield f"float32 sums over 100,000 steps, {arch}", tolerance, partial(_long_sum, arch)
    if backend in ("auto", *STACKS):
        yield from stack_checks()
    if hasattr(os, "fork"):
        yield "a forked child computes the same bits", 0.0, _forked


@dataclass(frozen=True)
class _OnBackend:
    """The lab that closed forms are compared with."""

    backend: str

    def attenuation(
        self,
        arch: str,
        params: Parameters,
        x: NDArray,
        lengths: list[int],
        activation: str = "tanh",
    ) -> Any:
        return attenuation(arch, params, x, lengths, activation=activation, backend=self.backend)

    def backward(
        self, arch: str, params: Parameters, x: NDArray, initial: Any, grad_output: NDArray
    ) -> Any:
        trajectory = bptt.forward(arch, params, x, initial, backend=self.backend)
        return bptt.backward(trajectory, grad_output)


def _closed_form(form: ClosedForm, backend: str) -> float:
    return form.error(_OnBackend(backend))


def _draw(arch: str, sizes: Sizes, steps: int, sequences: int, layers: int = 1) -> tuple[Any, ...]:
    """Parameters, input, the parts of a first state and a loss, all at a fixed seed."""
    rng = np.random.default_rng(20)
    cell = in_layers(CELLS[arch], layers)
    how = Draw("normal") if cell.inits[:1] == (ZEROS,) else Draw()  # all there is to check
    params = cell.draw(rng, sizes, how)
    x = rng.standard_normal((steps, sequences, sizes.inputs))
    drawn = cell.unpack(rng.standard_normal((sequences, *cell.adjoint_shape(sizes))) / 2)
    state = tuple(
        np.abs(part) if name in cell.from_zero else part
        for name, part in zip(cell.parts, drawn, strict=True)
    )
    loss = rng.standard_normal((steps, sequences, sizes.hidden))
    return params, x, state, loss


def _first(arch: str, parts: list[NDArray]) -> Any:
    """A first state of these parts; those without an adjoint are zero."""
    return unwrapped((*parts, *(np.zeros_like(parts[0]) for _ in CELLS[arch].without_adjoint)))


def _arrays(gradients: bptt.Gradients) -> list[NDArray]:
    """Every gradient, parameters first."""
    return [*gradients.params.values(), gradients.x, *_tuple(gradients.initial)]


def _tuple(state: Any) -> tuple[NDArray, ...]:
    return state if isinstance(state, tuple) else (state,)


def _gradients(arch: str, activation: str, layers: int, backend: str) -> float:
    """Largest relative error of directional derivatives against central differences."""
    params, x, state, loss = _draw(arch, SIZES, steps=12, sequences=2, layers=layers)
    inputs = [*params.values(), x, *state]

    def run(arrays: list[NDArray]) -> bptt.Trajectory:
        named = dict(zip(params, arrays, strict=False))
        first = _first(arch, arrays[len(params) + 1 :])
        return bptt.forward(arch, named, arrays[len(params)], first, activation, backend)

    analytic = _arrays(bptt.backward(run(inputs), loss))
    rng = np.random.default_rng(21)

    def loss_with(index: int, array: NDArray) -> float:
        return float(np.sum(run([*inputs[:index], array, *inputs[index + 1 :]]).output * loss))

    return max(
        error_along(partial(loss_with, index), array, analytic[index], rng)
        for index, array in enumerate(inputs)
    )


def _single(arch: str, backend: str) -> float:
    """Largest error of float32 gradients, relative to each array's norm."""
    params, x, state, loss = _draw(arch, SIZES, steps=50, sequences=2)
    results = []
    for dtype in (np.float64, np.float32):
        first = _first(arch, [part.astype(dtype) for part in state])
        named = {name: array.astype(dtype) for name, array in params.items()}
        trajectory = bptt.forward(arch, named, x.astype(dtype), first, backend=backend)
        results.append(_arrays(bptt.backward(trajectory, loss.astype(dtype))))
    pairs = zip(*results, strict=True)
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(a)) for a, b in pairs)


def _curve(params: dict[str, NDArray], steps: int, backend: str, clip: str = "none") -> NDArray:
    """ln norm of the state's adjoint of a linear network at lags 0..steps, from norm 1."""
    x = np.zeros((steps, 1, 1))
    result = attenuation("rnn", params, x, [steps], clip, None, "identity", backend)
    return result.log_norm[0, 0]


def _two_layers(backend: str) -> float:
    """h_t = a h_{t-1} + x_t, g_t = b g_{t-1} + h_t, one unit each, a = 0.9, b = 0.5.

    The adjoint of g is b^k at lag k, that of h what the steps in between have handed down: the sum
    of a^i b^(k-i) over i from 1 to k, a (a^k - b^k)/(a - b). In the end there are 766 decades
    between the two, more than one exponent would hold.
    """
    a, b, steps = 0.9, 0.5, 3000
    weights = {"weight_ih_l0": 1.0, "weight_hh_l0": a, "weight_ih_l1": 1.0, "weight_hh_l1": b}
    params = {name: np.full((1, 1), value) for name, value in weights.items()}
    found = attenuation(
        "rnn", params, np.zeros((steps, 1, 1)), [steps], "none", np.ones(1), "identity", backend
    )
    lag = np.arange(1.0, steps + 1)
    lower = np.log(a / (a - b)) + lag * np.log(a) + np.log1p(-np.exp(lag * np.log(b / a)))
    expected = {"layer 0 hidden": lower, "layer 1 hidden": lag * np.log(b)}
    return max(
        float(np.abs(found.parts[name][0, 0, 1:] - curve).max()) for name, curve in expected.items()
    )


def _plateau(backend: str) -> float:
    curve = _curve(rnn.orthogonal_network(16, 1.5), 50, backend, "step-norm:1")
    return float(np.abs(np.exp(curve[1:]) - 1).max())


def _truncation(backend: str) -> float:
    params = rnn.orthogonal_network(16, 0.9)
    free, cut = _curve(params, 50, backend), _curve(params, 50, backend, "truncate:20")
    return float(np.abs(free[:21] - cut[:21]).max() + np.count_nonzero(cut[21:] != -np.inf))


def _exponent_sum(backend: str) -> float:
    size, steps = 8, 300
    params, x, _, _ = _draw("rnn", Sizes(size, 3), steps, sequences=1)
    trajectory = bptt.forward("rnn", params, x, backend=backend)
    exponents = spectrum(trajectory.tape, frames(0, range(1), size, size))
    slopes = np.log1p(-(trajectory.output**2)).sum(axis=2).mean()
    return float(abs(exponents.sum() - np.linalg.slogdet(params["weight_hh"])[1] - slopes))


def _saturation(dtype: str, backend: str) -> float:
    """A latch h = tanh(25 h): ln(4 w) - 2 w a step on both sides, where 1 - h^2 is zero."""
    params = {"weight_ih": [[1.0]], "weight_hh": [[LATCH]], "bias_ih": [0.0], "bias_hh": [0.0]}
    arrays = {name: np.array(value, dtype) for name, value in params.items()}
    expected = np.log(4 * LATCH) - 2 * LATCH
    errors = []
    for sign in (1, -1):
        x = np.zeros((40, 1, 1), dtype)
        x[0] = sign
        curve = attenuation("rnn", arrays, x, [40], backend=backend).log_norm[0, 0, :30]
        errors.append(np.abs(np.diff(curve) - expected).max())
    return float(max(errors))


def _long_sum(arch: str, backend: str) -> float:
    """Largest error of float32's parameter gradients, each relative to its largest entry."""
    params, x, state, loss = _draw(arch, Sizes(4, 2, 2), 100_000, sequences=1)
    single = [array.astype(np.float32) for array in (x, loss, *params.values(), *state)]
    found = []
    for dtype in (np.float64, np.float32):
        drive, gradient, *rest = (array.astype(dtype) for array in single)
        named = dict(zip(params, rest, strict=False))
        first = _first(arch, rest[len(params) :])
        trajectory = bptt.forward(arch, named, drive, first, backend=backend)
        found.append(bptt.backward(trajectory, gradient).params)
    exact, rounded = found
    return max(
        float(np.abs(rounded[name] - value).max() / np.abs(value).max())
        for name, value in exact.items()
    )


def _forked(backend: str) -> float:
    """Whether a forked child's numbers differ, infinite where it has none. On the CPU whatever the
    backend: no child can use the GPU of its parent."""
    del backend
    spec = RunSpec.create(arch="lstm", steps=20, hidden=8, networks=thread_count())

    def bits() -> list[bytes]:
        variables = measuring.measure(spec, "cpu").variables
        return [variables[name].data.tobytes() for name in sorted(variables)]

    here = bits()  # every thread has worked, and has none in the child
    context = multiprocessing.get_context("fork")
    answers, answer = context.Pipe(duplex=False)
    child = context.Process(target=lambda: answer.send(bits()), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is what is checked
        child.start()
    answer.close()
    try:
        return float(answers.recv() != here) if answers.poll(PATIENCE) else np.inf
    except EOFError:
        return np.inf
    finally:
        child.kill()
        child.join()
        answers.close()
