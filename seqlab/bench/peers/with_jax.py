"""JAX on the CPU, compiled by XLA on its own threads (all cores).

The input's share of the pre-activations is one product outside of the scan, and so are the sums of
the weight gradients: the scan itself carries nothing but the state. XLA flushes subnormal numbers.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from seqlab.bench.problems import Gradients, Scan, Study, named
from seqlab.bench.race import Answer, Side
from seqlab.cells import CELLS

jax.config.update("jax_enable_x64", True)

NAME = "jax"
UNROLL = 2  # steps of one turn of the loop: the fastest of 1, 2, 4 and 8 where this was written

State = tuple[Array, ...]


def _rnn(state: State, u: Array, m: Array) -> State:
    return (jnp.tanh(u + m),)


def _lstm(state: State, u: Array, m: Array) -> State:
    i, f, g, o = jnp.split(u + m, 4, -1)
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _gru(state: State, u: Array, m: Array) -> State:
    u_r, u_z, u_n = jnp.split(u, 3, -1)
    m_r, m_z, m_n = jnp.split(m, 3, -1)
    z = jax.nn.sigmoid(u_z + m_z)
    n = jnp.tanh(u_n + jax.nn.sigmoid(u_r + m_r) * m_n)
    return ((1 - z) * n + z * state[0],)


STEPS: dict[str, Callable[[State, Array, Array], State]] = {
    "rnn": _rnn,
    "lstm": _lstm,
    "gru": _gru,
}


def _device(arrays: Mapping[str, Any]) -> dict[str, Array]:
    return {name: jnp.asarray(array) for name, array in arrays.items()}


def _waiting(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """A compiled call that returns when its result is there."""
    compiled = jax.jit(function)
    return lambda: jax.block_until_ready(compiled(*arguments))


def gradients(problem: Gradients) -> list[Side]:
    """jit(value_and_grad(scan)), for all gradients."""
    step = STEPS[problem.cell]

    def all_gradients(params: dict[str, Array], x: Array, initial: State, g: Array) -> Any:
        transposed = params["weight_hh"].T

        def loss(u: Array, m: Array, initial: State) -> tuple[Array, Array]:
            def one(state: State, z: tuple[Array, Array]) -> tuple[State, Array]:
                state = step(state, z[0], state[0] @ transposed + z[1])
                return state, state[0]

            output = lax.scan(one, initial, (u, m), unroll=UNROLL)[1]
            return jnp.sum(output * g), output

        u = x @ params["weight_ih"].T + params["bias_ih"]
        m = jnp.broadcast_to(params["bias_hh"], u.shape)
        (value, output), (du, dm, dinitial) = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(
            u, m, initial
        )
        before = jnp.concatenate([initial[0][None], output[:-1]])
        dparams = {
            "weight_ih": jnp.einsum("tbj,tbk->jk", du, x),
            "weight_hh": jnp.einsum("tbj,tbk->jk", dm, before),
            "bias_ih": du.sum((0, 1)),
            "bias_hh": dm.sum((0, 1)),
        }
        return value, output, (dparams, du @ params["weight_ih"], dinitial)

    call = _waiting(
        all_gradients,
        _device(problem.params),
        jnp.asarray(problem.x),
        tuple(map(jnp.asarray, problem.initial)),
        jnp.asarray(problem.grad_output),
    )

    def answer(result: Any) -> Answer:
        dparams, dx, dinitial = jax.tree.map(np.asarray, result[2])
        return named(dparams, dx, dinitial)

    return [Side(NAME, call, answer, len(problem.x), compiles=True)]


def study(problem: Study) -> list[Side]:
    """jit(vmap(grad(scan))), compiled for each length."""
    step = STEPS[problem.cell]

    def loss(initial: State, params: dict[str, Array], x: Array, readout: Array) -> Array:
        transposed = params["weight_hh"].T

        def one(state: State, u: Array) -> tuple[State, None]:
            return step(state, u, state[0] @ transposed + params["bias_hh"]), None

        u = x @ params["weight_ih"].T + params["bias_ih"]
        return lax.scan(one, initial, u, unroll=UNROLL)[0][0] @ readout

    gradient = jax.jit(jax.vmap(jax.grad(loss)))
    params, readout = _device(problem.params), jnp.asarray(problem.readout)
    parts = len(CELLS[problem.cell].parts)
    initial = tuple(jnp.zeros_like(readout) for _ in range(parts))
    drives = [jnp.asarray(problem.x[:, :length, 0]) for length in problem.lengths]

    def call() -> list[State]:
        return jax.block_until_ready([gradient(initial, params, x, readout) for x in drives])

    def answer(result: list[State]) -> Answer:
        return problem.gradients([np.stack(parts, 1) for parts in result])

    return [Side(NAME, call, answer, compiles=True)]


def scan(problem: Scan) -> list[Side]:
    """The recurrence as a scan over time, and as an associative scan."""
    return [
        _scan_side(f"{NAME} scan", problem, _sequential),
        _scan_side(f"{NAME} associative", problem, _associative),
    ]


def _sequential(u: Array, delta: Array, A: Array, B: Array, C: Array) -> Array:
    """y without its D u; u, delta, y (L, B, D); B, C (L, B, N)."""

    def one(h: Array, at: tuple[Array, ...]) -> tuple[Array, Array]:
        u, delta, b, c = at
        h = jnp.exp(delta[..., None] * A) * h + (delta * u)[..., None] * b[:, None]
        return h, jnp.einsum("bdn,bn->bd", h, c)

    start = jnp.zeros((*u.shape[1:], A.shape[1]), u.dtype)
    return lax.scan(one, start, (u, delta, B, C), unroll=UNROLL)[1]


def _associative(u: Array, delta: Array, A: Array, B: Array, C: Array) -> Array:
    """The same as `_sequential`."""

    def join(first: tuple[Array, Array], then: tuple[Array, Array]) -> tuple[Array, Array]:
        return first[0] * then[0], then[0] * first[1] + then[1]

    decay, drive = jnp.exp(delta[..., None] * A), (delta * u)[..., None] * B[:, :, None]
    return jnp.einsum("lbdn,lbn->lbd", lax.associative_scan(join, (decay, drive))[1], C)


def _scan_side(name: str, problem: Scan, scan: Callable[..., Array]) -> Side:
    """A side around a scan; its arrays have time first, as XLA likes it, which is not timed."""

    def timed(array: np.ndarray) -> np.ndarray:
        return np.moveaxis(array, -1, 0) if array.ndim == 3 else array

    def loss(inputs: dict[str, Array], grad_y: Array) -> Array:
        skip = inputs["D"] * inputs["u"]
        rest = {key: array for key, array in inputs.items() if key != "D"}
        return jnp.sum((scan(**rest) + skip) * grad_y)

    inputs = _device({key: timed(array) for key, array in problem.inputs.items()})
    call = _waiting(jax.value_and_grad(loss), inputs, jnp.asarray(timed(problem.grad_y)))

    def answer(result: Any) -> Answer:
        arrays = {key: np.asarray(array) for key, array in result[1].items()}
        return {key: np.moveaxis(a, 0, -1) if a.ndim == 3 else a for key, a in arrays.items()}

    return Side(name, call, answer, problem.work, compiles=True)
