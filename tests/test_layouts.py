"""Parameters from other frameworks: what each computes with them, and the lab with the lab's.

Against answers of the frameworks themselves, which a file keeps; against their equations as their
documentation has them, on other sizes; and against PyTorch's modules where PyTorch is. One bound
for all: a step adds up some ten numbers of size one, an error of some 1e-15, and seven steps of
weights about one half magnify it at most some hundred times; a gate at another's place moves
outputs by a tenth.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from drawn import numbers
from reference import layouts

import seqlab
from seqlab import from_flax, from_keras, from_onnx, from_torch
from seqlab.probes.layouts import Layer

Array = npt.NDArray[Any]

SAME = 1e-12
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
STEPS, BATCH, INPUTS, HIDDEN = 7, 3, 4, 5


def run(layer: Layer, x: Array) -> Array:
    """One layer's output (T, B, H) in the order of time."""
    backwards = slice(None, None, -1 if layer.direction == "reverse" else 1)
    forward = seqlab.forward(layer.arch, layer.params, x[backwards], activation=layer.activation)
    return forward.output[backwards]


def run_all(layers: list[Layer], x: Array) -> Array:
    """The last layer's output, both directions' side by side, as every framework has them."""
    for number in range(layers[-1].layer + 1):
        x = np.concatenate([run(each, x) for each in layers if each.layer == number], axis=-1)
    return x


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


# What the frameworks themselves computed.


@pytest.mark.parametrize("name", layouts.cases())
def test_the_frameworks_own_answers(name: str) -> None:
    case = layouts.cases()[name]
    if case.framework == "keras":
        layers = from_keras(list(case.weights.values()), case.arch)
    elif case.framework == "onnx":
        reset = {"linear_before_reset": 1} if case.arch == "gru" else {}
        layers = from_onnx(**case.weights, arch=case.arch, direction=case.kind, **reset)
    else:
        layers = from_flax(case.weights, case.arch)
    assert run_all(layers, case.x) == pytest.approx(case.output, abs=SAME)
    assert {each.batch_first for each in layers} == {case.framework != "onnx"}
    assert {each.arch for each in layers} == {case.arch}


def test_a_layer_s_words_are_short() -> None:
    params = {"weight_ih": np.ones((5, 4)), "weight_hh": np.ones((5, 5))}
    layer = Layer("rnn", params, 1, "reverse", "tanh", False)
    assert repr(layer) == "Layer of rnn, layer 1 reverse: weight_ih (5, 4), weight_hh (5, 5)"


def test_every_layout_is_in_the_file() -> None:
    assert {(case.framework, case.arch) for case in layouts.cases().values()} == {
        (framework, arch) for framework in ("keras", "flax", "nnx", "onnx") for arch in GATES
    }
    assert len(layouts.cases()) == 3 * 3 + 2 * 4 + 3 * 3


# Equations as the documentation has them, a step each: from (h, c) to (h, c); c is the LSTM's.


def keras(arch: str, weights: list[Array], x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """keras.io, SimpleRNN, LSTM, GRU (reset_after, which Keras says is cuDNN's): z, r, h."""
    kernel, recurrent, *bias = weights
    into, within = x @ kernel, h @ recurrent
    if arch == "gru":
        if bias:
            into, within = into + bias[0][0], within + bias[0][1]
        (x_z, x_r, x_h), (h_z, h_r, h_h) = np.split(into, 3, -1), np.split(within, 3, -1)
        z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
        return z * h + (1 - z) * np.tanh(x_h + r * h_h), c
    pre = into + within + (bias[0] if bias else 0)
    if arch == "rnn":
        return np.tanh(pre), c
    i, f, candidate, o = np.split(pre, 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
    return sigmoid(o) * np.tanh(c), c


def onnx(arch: str, w: Array, r: Array, b: Array, x: Array, h: Array, c: Array) -> Any:
    """onnx.ai, RNN, LSTM, GRU with linear_before_reset != 0, of one direction."""
    w_bias, r_bias = np.split(b, 2)
    if arch == "rnn":
        return np.tanh(x @ w.T + h @ r.T + w_bias + r_bias), c
    if arch == "lstm":
        i, o, f, candidate = np.split(x @ w.T + h @ r.T + w_bias + r_bias, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
        return sigmoid(o) * np.tanh(c), c
    (w_z, w_r, w_h), (r_z, r_r, r_h) = np.split(w, 3), np.split(r, 3)
    (wb_z, wb_r, wb_h), (rb_z, rb_r, rb_h) = np.split(w_bias, 3), np.split(r_bias, 3)
    z = sigmoid(x @ w_z.T + h @ r_z.T + wb_z + rb_z)
    reset = sigmoid(x @ w_r.T + h @ r_r.T + wb_r + rb_r)
    candidate = np.tanh(x @ w_h.T + reset * (h @ r_h.T + rb_h) + wb_h)
    return (1 - z) * candidate + z * h, c


def linen(arch: str, p: dict[str, Any], x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """flax.readthedocs.io, linen's SimpleCell, LSTMCell, GRUCell: a Dense for each name."""

    def dense(name: str, at: Array) -> Array:
        return at @ p[name]["kernel"] + p[name].get("bias", 0)

    if arch == "rnn":
        return np.tanh(dense("i", x) + dense("h", h)), c
    if arch == "lstm":
        i, f, o = (sigmoid(dense(f"i{gate}", x) + dense(f"h{gate}", h)) for gate in "ifo")
        c = f * c + i * np.tanh(dense("ig", x) + dense("hg", h))
        return o * np.tanh(c), c
    r, z = (sigmoid(dense(f"i{gate}", x) + dense(f"h{gate}", h)) for gate in "rz")
    n = np.tanh(dense("in", x) + r * dense("hn", h))
    return (1 - z) * n + z * h, c


def nnx(arch: str, p: dict[str, Any], x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """flax.readthedocs.io, nnx's GRUCell, OptimizedLSTMCell, SimpleCell: a Linear for each side."""
    into = x @ p["dense_i"]["kernel"] + p["dense_i"].get("bias", 0)
    within = h @ p["dense_h"]["kernel"] + p["dense_h"].get("bias", 0)
    if arch == "rnn":
        return np.tanh(into + within), c
    if arch == "lstm":
        i, f, g, o = np.split(into + within, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    (x_r, x_z, x_n), (h_r, h_z, h_n) = np.split(into, 3, -1), np.split(within, 3, -1)
    z = sigmoid(x_z + h_z)
    return (1 - z) * np.tanh(x_n + sigmoid(x_r + h_r) * h_n) + z * h, c


def unrolled(step: Callable[[Array, Array, Array], Any], x: Array) -> Array:
    h = c = np.zeros((x.shape[1], HIDDEN))
    outputs = []
    for x_t in x:
        h, c = step(x_t, h, c)
        outputs.append(h)
    return np.stack(outputs)


X = numbers(STEPS, BATCH, INPUTS)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("arch", GATES)
def test_keras_s_equations(arch: str, bias: bool) -> None:
    rows = GATES[arch] * HIDDEN
    weights = [numbers(INPUTS, rows), numbers(HIDDEN, rows)]
    weights += [numbers(2, rows) if arch == "gru" else numbers(rows)] if bias else []
    (layer,) = from_keras(weights, arch)
    assert ("bias_ih" in layer.params) == ("bias_hh" in layer.params) == bias
    want = unrolled(lambda x, h, c: keras(arch, weights, x, h, c), X)
    assert run(layer, X) == pytest.approx(want, abs=SAME)


@pytest.mark.parametrize("arch", GATES)
def test_onnx_s_equations(arch: str) -> None:
    rows = GATES[arch] * HIDDEN
    w, r, b = numbers(2, rows, INPUTS), numbers(2, rows, HIDDEN), numbers(2, 2 * rows)
    options: dict[str, Any] = {"direction": "bidirectional", "layout": 1}
    options |= {"linear_before_reset": 1} if arch == "gru" else {}
    layers = from_onnx(w, r, b, arch, **options)
    assert [(each.direction, each.batch_first) for each in layers] == [
        *(("forward", True), ("reverse", True))
    ]
    there = unrolled(lambda x, h, c: onnx(arch, w[0], r[0], b[0], x, h, c), X)
    back = unrolled(lambda x, h, c: onnx(arch, w[1], r[1], b[1], x, h, c), X[::-1])[::-1]
    want = np.concatenate([there, back], axis=-1)
    assert run_all(layers, X) == pytest.approx(want, abs=SAME)
    silent = from_onnx(w, r, None, arch, **options)
    assert [sorted(each.params) for each in silent] == 2 * [["weight_hh", "weight_ih"]]
    zero = unrolled(lambda x, h, c: onnx(arch, w[0], r[0], 0 * b[0], x, h, c), X)
    assert run(silent[0], X) == pytest.approx(zero, abs=SAME)


@pytest.mark.parametrize("arch", GATES)
def test_flax_s_equations(arch: str) -> None:
    rows, letters = GATES[arch] * HIDDEN, {"rnn": [""], "lstm": [*"ifgo"], "gru": [*"rzn"]}[arch]
    biased = {"rnn": ["i"], "lstm": ["hi", "hf", "hg", "ho"], "gru": ["ir", "iz", "in", "hn"]}[arch]
    params = {
        side + gate: {"kernel": numbers(inputs, HIDDEN, ord(gate or "_"))[..., 0]}
        for side, inputs in (("i", INPUTS), ("h", HIDDEN))
        for gate in letters
    }
    params = {name: {"kernel": np.asarray(p["kernel"])} for name, p in params.items()}
    for place, name in enumerate(biased):
        params[name]["bias"] = numbers(HIDDEN, place + 1)[:, 0]
    (layer,) = from_flax(params, arch)
    want = unrolled(lambda x, h, c: linen(arch, params, x, h, c), X)
    assert run(layer, X) == pytest.approx(want, abs=SAME)
    fused = {"dense_i": {"kernel": numbers(INPUTS, rows)}, "dense_h": {"kernel": numbers(5, rows)}}
    fused["dense_h" if arch == "lstm" else "dense_i"]["bias"] = numbers(rows)
    (layer,) = from_flax(fused, arch)
    want = unrolled(lambda x, h, c: nnx(arch, fused, x, h, c), X)
    assert run(layer, X) == pytest.approx(want, abs=SAME)


@pytest.mark.parametrize("made", ["keras", "flax", "onnx"])
def test_an_activation_is_the_plain_cell_s(made: str) -> None:
    kernel, recurrent = numbers(INPUTS, HIDDEN), numbers(HIDDEN, HIDDEN)
    if made == "keras":
        (layer,) = from_keras([kernel, recurrent], "rnn", activation="relu")
    elif made == "onnx":
        (layer,) = from_onnx(kernel.T[None], recurrent.T[None], None, "rnn", activation="relu")
    else:
        flax = {"i": {"kernel": kernel}, "h": {"kernel": recurrent}}
        (layer,) = from_flax(flax, "rnn", activation="relu")
    want = unrolled(lambda x, h, c: (np.maximum(x @ kernel + h @ recurrent, 0), c), X)
    assert run(layer, X) == pytest.approx(want, abs=SAME)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_are_copies_of_their_dtype(dtype: type) -> None:
    kernel, recurrent = (numbers(n, HIDDEN).astype(dtype) for n in (INPUTS, HIDDEN))
    layers = [
        *from_keras([kernel, recurrent], "rnn"),
        *from_flax({"i": {"kernel": kernel}, "h": {"kernel": recurrent}}, "rnn"),
        *from_onnx(kernel.T[None], recurrent.T[None], None, "rnn"),
    ]
    for layer in layers:
        assert {array.dtype for array in layer.params.values()} == {np.dtype(dtype)}
        assert not any(np.shares_memory(array, kernel) for array in layer.params.values())
        assert not any(np.shares_memory(array, recurrent) for array in layer.params.values())


# PyTorch's modules, which are looked at without it.

MODULES = [
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu", "bidirectional": True}),
    ("RNN", {"num_layers": 3}),
    ("LSTM", {"bias": False}),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    ("GRU", {"num_layers": 2, "batch_first": True, "bias": False}),
    ("GRU", {"bidirectional": True, "num_layers": 2}),
]


@pytest.mark.parametrize(("name", "options"), MODULES, ids=str)
def test_pytorch_s_layers(torch: Any, name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(1)
    module = getattr(torch.nn, name)(INPUTS, HIDDEN, dtype=torch.float64, **options)
    layers = from_torch(module)
    directions = ("forward", "reverse")[: 1 + options.get("bidirectional", False)]
    assert [(each.layer, each.direction) for each in layers] == [
        (n, way) for n in range(options.get("num_layers", 1)) for way in directions
    ]
    first = options.get("batch_first", False)
    assert {each.batch_first for each in layers} == {first}
    assert all(("bias_ih" in each.params) == module.bias for each in layers)
    with torch.no_grad():
        x = torch.from_numpy(X)
        want = module(x.transpose(0, 1))[0].transpose(0, 1) if first else module(x)[0]
    assert run_all(layers, X) == pytest.approx(want.numpy(), abs=SAME)


@pytest.mark.parametrize("options", [{}, {"bias": False}], ids=str)
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell", "relu"])
def test_pytorch_s_cells(torch: Any, name: str, options: dict[str, Any]) -> None:
    options = options | ({"nonlinearity": "relu"} if name == "relu" else {})
    make = torch.nn.RNNCell if name == "relu" else getattr(torch.nn, name)
    cell = make(INPUTS, HIDDEN, dtype=torch.float64, **options)
    (layer,) = from_torch(cell)
    state, outputs = None, []
    with torch.no_grad():
        for x in torch.from_numpy(X):
            state = cell(x, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
    assert run(layer, X) == pytest.approx(torch.stack(outputs).numpy(), abs=SAME)
    assert layer[2:4] == (0, "forward")


def test_pytorch_s_weights_are_copied_in_their_dtype(torch: Any) -> None:
    module = torch.nn.GRU(2, 3)
    (layer,) = from_torch(module)
    before = {name: array.copy() for name, array in layer.params.items()}
    assert {array.dtype for array in before.values()} == {np.dtype(np.float32)}
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert all(np.array_equal(layer.params[name], array) for name, array in before.items())
    assert all(array.any() for array in before.values())


def test_pytorch_s_parametrised_weights_are_those_it_computes_with(torch: Any) -> None:
    module = torch.nn.LSTM(INPUTS, HIDDEN, dtype=torch.float64)
    torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    with torch.no_grad():
        module.parametrizations.weight_hh_l0.original0.mul_(1.5)
        want = module(torch.from_numpy(X))[0].numpy()
    (layer,) = from_torch(module)
    assert run(layer, X) == pytest.approx(want, abs=SAME)
