"""Make the reference file of layouts with Keras, Flax and ONNX themselves, in float64.

Run from the folder `tests`, with keras, flax and onnx installed (3.15.1, 0.12.8 and 1.23.2 made the
file): `KERAS_BACKEND=numpy JAX_ENABLE_X64=1 python -m reference.make_layouts`.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen
import jax
import keras
import numpy as np
from flax import nnx
from keras.src.backend.common import dtypes
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from reference.layouts import PATH, Array, flat, write

STEPS, BATCH, INPUTS, HIDDEN = 4, 2, 2, 3
RNG = np.random.default_rng(15)
X = RNG.normal(size=(STEPS, BATCH, INPUTS))


def filled(shape: tuple[int, ...]) -> Array:
    """Numbers with nothing special about them, biases too, in few bits: the file is small."""
    return np.round(RNG.normal(size=shape) * 64) / 128


def of_keras() -> Iterator[tuple[str, dict[str, Any], Array]]:
    # Keras computes in float32 whatever the layer's dtype, but on TensorFlow.
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    classes = {
        "rnn": keras.layers.SimpleRNN,
        "lstm": keras.layers.LSTM,
        "gru": keras.layers.GRU,
    }
    for arch, make in classes.items():
        for kind, options in {"": {}, "-bias": {"use_bias": False}, "-both": {}}.items():
            layer = make(HIDDEN, return_sequences=True, dtype="float64", **options)
            if kind == "-both":
                layer = keras.layers.Bidirectional(layer, dtype="float64")
            layer.build((BATCH, STEPS, INPUTS))
            layer.set_weights([filled(one.shape) for one in layer.get_weights()])
            weights = dict(zip("012345", layer.get_weights(), strict=False))
            output = np.asarray(layer(X.swapaxes(0, 1))).swapaxes(0, 1)
            yield f"keras/{arch}{kind}", weights, output


def stepped(cell: Callable[[Any, Array], tuple[Any, Any]], start: Any) -> Array:
    outputs = []
    for x in X:
        start, output = cell(start, x)
        outputs.append(np.asarray(output))
    return np.stack(outputs)


def of_flax() -> Iterator[tuple[str, dict[str, Any], Array]]:
    zeros = np.zeros((BATCH, HIDDEN))
    linen, double = flax.linen, {"dtype": np.float64, "param_dtype": np.float64}
    for kind, make in {
        "rnn": linen.SimpleCell,
        "lstm": linen.LSTMCell,
        "lstm-optimized": linen.OptimizedLSTMCell,
        "gru": linen.GRUCell,
    }.items():
        start = (zeros, zeros) if kind.startswith("lstm") else zeros
        cell = make(HIDDEN, **double)
        tree = cell.init(jax.random.key(0), start, X[0])["params"]
        tree = jax.tree.map(lambda one: filled(one.shape), tree)

        def applied(carry: Any, x: Array, cell: Any = cell, tree: Any = tree) -> tuple[Any, Any]:
            return cell.apply({"params": tree}, carry, x)

        yield f"flax/{kind}", tree, stepped(applied, start)
    for kind, make in {
        "rnn": nnx.SimpleCell,
        "lstm": nnx.LSTMCell,
        "lstm-optimized": nnx.OptimizedLSTMCell,
        "gru": nnx.GRUCell,
    }.items():
        start = (zeros, zeros) if kind.startswith("lstm") else zeros
        cell = make(INPUTS, HIDDEN, rngs=nnx.Rngs(0), **double)
        state = jax.tree.map(lambda one: filled(one.shape), nnx.state(cell))
        nnx.update(cell, state)
        yield f"nnx/{kind}", nnx.to_pure_dict(nnx.state(cell)), stepped(cell, start)


def of_onnx() -> Iterator[tuple[str, dict[str, Any], Array]]:
    for arch, gates in {"rnn": 1, "lstm": 4, "gru": 3}.items():
        for direction in ("forward", "reverse", "bidirectional"):
            count = 2 if direction == "bidirectional" else 1
            inputs = {
                "W": filled((count, gates * HIDDEN, INPUTS)),
                "R": filled((count, gates * HIDDEN, HIDDEN)),
                "B": filled((count, 2 * gates * HIDDEN)),
            }
            attributes = {"linear_before_reset": 1} if arch == "gru" else {}
            if arch == "rnn":
                attributes["activations"] = ["Tanh"] * count
            node = helper.make_node(
                arch.upper(),
                ["X", *inputs],
                ["Y"],
                hidden_size=HIDDEN,
                direction=direction,
                **attributes,
            )
            of = [
                helper.make_tensor_value_info(name, TensorProto.DOUBLE, None)
                for name in ("X", *inputs, "Y")
            ]
            graph = helper.make_graph([node], "one", of[:-1], of[-1:])
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)])
            (output,) = ReferenceEvaluator(model).run(None, {"X": X, **inputs})
            output = np.concatenate(list(output.swapaxes(0, 1)), axis=-1)
            yield f"onnx/{arch}-{direction}", inputs, output


def main() -> None:
    kept: dict[str, Array] = {"x": X}
    for cases in (of_keras(), of_flax(), of_onnx()):
        for name, weights, output in cases:
            leaves: Mapping[str, Array] = flat(weights)
            kept |= {f"{name}/weights/{path}": np.asarray(leaf) for path, leaf in leaves.items()}
            kept[f"{name}/output"] = output
    assert {array.dtype for array in kept.values()} == {np.dtype(np.float64)}
    write(kept)
    sys.stdout.write(f"{len(kept)} arrays, {PATH.stat().st_size / 1e3:.1f} KB\n")


if __name__ == "__main__":
    main()
