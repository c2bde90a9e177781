"""Parameters of other frameworks as the lab has them: PyTorch's names, layouts and gate orders.

Every function gives a `Layer` for each layer and direction; `seqlab.forward(layer.arch,
layer.params, x, activation=layer.activation)` is then what the framework computes, from a zero
state, with x (T, B, I). Arrays are copied in their own dtype. No framework is imported: an object
is looked at by its attributes and arrays.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqlab.cells import ACTIVATIONS, Parameters
from seqlab.errors import InputError
from seqlab.spec.naming import BIASES
from seqlab.values import as_array, check_form
from seqlab.wording import describe_array, one_of, refuse, short_repr

# PyTorch's gates by their letters; a plain cell has one block, without a letter.
_GATES = {"rnn": ("",), "lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n")}
# Where PyTorch's gates are among those of another framework.
_IN_KERAS = {"rnn": (0,), "lstm": (0, 1, 2, 3), "gru": (1, 0, 2)}  # i f c o; z r h
_IN_ONNX = {"rnn": (0,), "lstm": (0, 2, 3, 1), "gru": (1, 0, 2)}  # i o f c; z r h
_DIRECTIONS = ("forward", "reverse")
_ONNX_DIRECTIONS = {"forward": ("forward",), "reverse": ("reverse",), "bidirectional": _DIRECTIONS}
_FLAX_ARRAYS = {"kernel", "bias"}
_OTHER_GRU = "a gru that resets h before its matrix product is another cell; {} is needed"

_TORCH = "torch.nn.modules.rnn"
_TORCH_NAMES = ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")


class Layer(NamedTuple):
    """One layer in one direction.

    arch; params by the cell's names, without biases where the framework's layer has none; layer,
    from 0 up, whose input is the output of the layer below (both directions' side by side);
    direction: of `reverse` input and output run backwards in time, `x[::-1]`; activation, for
    `seqlab.forward`; batch_first: whether x there is (B, T, I), where the lab has (T, B, I).
    """

    arch: str
    params: Parameters
    layer: int
    direction: str
    activation: str
    batch_first: bool

    def __repr__(self) -> str:
        where = f"layer {self.layer} {self.direction}"
        return f"Layer of {self.arch}, {where}: {describe_array(self.params)}"


def from_torch(module: Any) -> list[Layer]:
    """The layers of an nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell or nn.GRUCell.

    By layer, forward before reverse. Weights are those that the module has now, parametrised ones
    as they are computed; dropout between layers is no parameter. Source of names and layouts:
    PyTorch 2.13, torch/nn/modules/rnn.py.
    Raises InputError for another module, for one whose `forward` is not PyTorch's, for quantised
    ones, proj_size, and weights neither float32 nor float64 (bfloat16 is taken as float32).
    """
    name = torch_class(module)
    arch = name.removesuffix("Cell").lower()
    if projection := getattr(module, "proj_size", 0):
        raise refuse("proj_size", projection, f"{arch} has none; a module without it is needed")
    own = ("weight_ih", "weight_hh", *(BIASES if module.bias else ()))

    def layer(number: int, direction: str, suffix: str) -> Layer:
        names = {each: each + suffix for each in own}
        params = {each: _copied(name, getattr(module, name)) for each, name in names.items()}
        activation = module.nonlinearity if arch == "rnn" else "tanh"
        first = bool(getattr(module, "batch_first", False))
        return Layer(arch, params, number, direction, activation, first)

    if name.endswith("Cell"):
        return [layer(0, "forward", "")]
    suffixes = {"forward": "", "reverse": "_reverse"} if module.bidirectional else {"forward": ""}
    return [
        layer(number, direction, f"_l{number}{suffix}")
        for number in range(module.num_layers)
        for direction, suffix in suffixes.items()
    ]


def torch_class(module: Any) -> str:
    """Which of PyTorch's recurrent classes a module is one of, and computes what that does.

    Raises InputError for others.
    """
    given = type(module).__name__
    for base in type(module).__mro__:
        if base.__module__ == _TORCH and base.__name__ in _TORCH_NAMES:
            if getattr(module.forward, "__func__", None) is not base.__dict__.get("forward"):
                needed = f"a module that computes what nn.{base.__name__} does is needed"
                raise refuse("module", given, f"its forward is its own; {needed}")
            return base.__name__
    needed = one_of(f"nn.{name}" for name in _TORCH_NAMES)
    if "quantiz" in type(module).__module__:
        raise refuse("module", given, f"the {needed} before quantisation is needed")
    named = None if isinstance(module, type) else getattr(module, "named_modules", None)
    inside: Iterable[tuple[str, Any]] = () if named is None else named()
    parts = [name for name, part in inside if any(c.__module__ == _TORCH for c in type(part).mro())]
    such = f", such as its {parts[0]}" if parts else ""
    raise refuse("module", given, f"name the part that is an {needed}{such}")


def from_keras(
    weights: Sequence[ArrayLike], arch: str, *, activation: str = "tanh", reset_after: bool = True
) -> list[Layer]:
    """A SimpleRNN, LSTM or GRU layer's `get_weights()`, or those of a Bidirectional one.

    kernel (I, G H), recurrent kernel (H, G H) and with use_bias a bias (G H,), of a GRU (2, 3 H):
    the input's and the recurrent one. Gates lie side by side, i f c o and z r h. A layer's one
    bias becomes `bias_ih`. `activation`, by the lab's names, is a SimpleRNN's; LSTM and GRU have
    Keras's defaults, sigmoid and tanh. `reset_after` is a GRU's.
    Source: Keras 3.15, keras/src/layers/rnn/{simple_rnn,lstm,gru}.py.
    Raises InputError for a GRU without reset_after, and for arrays that do not fit.
    """
    _check(arch, activation)
    if not reset_after:
        why = _OTHER_GRU.format("reset_after=True") if arch == "gru" else "it is for gru"
        raise refuse("reset_after", reset_after, why)
    if not isinstance(weights, list | tuple) or len(weights) not in (2, 3, 4, 6):
        raise InputError(
            f"weights: {_kind(weights)} is not allowed; the list of get_weights() is needed: "
            f"kernel, recurrent kernel, and bias if any, twice for Bidirectional"
        )
    each = len(weights) if len(weights) < 4 else len(weights) // 2
    names = [f"weights[{place}]" for place in range(len(weights))]
    arrays = list(map(as_array, names, weights))
    layers = []
    for start, direction in zip(range(0, len(weights), each), _DIRECTIONS, strict=False):
        kernel, recurrent, *bias = arrays[start : start + each]
        rows = _check_kernels(arch, names[start:], kernel, recurrent)
        if bias and arch == "gru":
            name, both = names[start + 2], bias[0]
            if both.ndim == 1:
                why = _OTHER_GRU.format("reset_after=True, with a bias (2, 3 H),")
                raise refuse(name, both.shape, why)
            check_form(name, both, (2, rows), kernel.dtype)
            bias = list(both)
        elif bias:
            check_form(names[start + 2], bias[0], (rows,), kernel.dtype)
        params = _params(_IN_KERAS[arch], kernel.T, recurrent.T, *bias)
        layers.append(Layer(arch, params, 0, direction, activation, True))
    return layers


def from_flax(params: Mapping[str, Any], arch: str, *, activation: str = "tanh") -> list[Layer]:
    """The parameters of a SimpleCell, LSTMCell, OptimizedLSTMCell or GRUCell, linen's or nnx's.

    linen (`variables["params"]`) has kernels (I, H) and (H, H) for each gate, `ii if ig io` and
    `hi hf hg ho`, `ir iz in` and `hr hz hn`, or `i` and `h`. nnx
    (`nnx.to_pure_dict(nnx.state(cell))`) has them in its LSTMCell, where `if` is `if_`; its other
    cells have all gates side by side in `dense_i` and `dense_h`. Gates without a bias have zeros,
    as nnx's GRU has no b_hn. `activation`, by the lab's names, is a SimpleCell's, which must be
    without `residual`.
    Source: Flax 0.12.8, flax/linen/recurrent.py and flax/nnx/nn/recurrent.py.
    Raises InputError for parameters that are not such a cell's, and for arrays that do not fit.
    """
    _check(arch, activation)
    if not isinstance(params, Mapping):
        raise refuse("params", _kind(params), "the dictionary of one cell is needed")
    names = {side: _flax_names(params, arch, side) for side in "ih"}
    known = [name for side in names.values() for name in side]
    if strange := [name for name in params if name not in known]:
        raise InputError(
            f"params: {short_repr(strange[0])} is not of {arch}; {', '.join(known)} are needed"
        )
    (kernel, bias_ih), (recurrent, bias_hh) = (_flax_side(params, names[side]) for side in "ih")
    _check_kernels(arch, [side[0] for side in names.values()], kernel, recurrent)
    made = _params(range(len(_GATES[arch])), kernel.T, recurrent.T, bias_ih, bias_hh)
    return [Layer(arch, made, 0, "forward", activation, True)]


def _flax_names(params: Mapping[str, Any], arch: str, side: str) -> list[str]:
    """Of the parts that act on the input (i) or on the state (h), by gate or all in one."""
    if (fused := f"dense_{side}") in params:
        return [fused]
    names = [f"{side}{gate}" for gate in _GATES[arch]]
    names = [f"{name}_" if f"{name}_" in params else name for name in names]
    for name in names:
        if name not in params:
            raise InputError(
                f"params: {name} of {arch} is missing; the dictionary of one cell is needed, with "
                f"{', '.join(names)} or {fused}, such as variables['params']"
            )
    return names


def _flax_side(params: Mapping[str, Any], names: Sequence[str]) -> tuple[NDArray, NDArray | None]:
    """The kernels of these parts side by side, (inputs, G H), and their biases, if any has one."""
    kernels, biases = [], []
    for name in names:
        part = params[name]
        if not isinstance(part, Mapping) or "kernel" not in part or part.keys() - _FLAX_ARRAYS:
            raise refuse(name, _kind(part), "a dictionary of kernel, and bias if any, is needed")
        kernel = as_array(f"{name}.kernel", part["kernel"])
        if kernel.ndim != 2:
            raise refuse(f"{name}.kernel", kernel.shape, "a matrix is needed")
        kernels.append(kernel)
        check_form(f"{name}.kernel", kernel, kernels[0].shape, kernels[0].dtype)
        bias = as_array(f"{name}.bias", part.get("bias", np.zeros(kernel.shape[1], kernel.dtype)))
        check_form(f"{name}.bias", bias, kernel.shape[1:], kernel.dtype)
        biases.append(bias)
    any_bias = any("bias" in params[name] for name in names)
    return np.concatenate(kernels, axis=1), np.concatenate(biases) if any_bias else None


def from_onnx(
    W: ArrayLike,
    R: ArrayLike,
    B: ArrayLike | None,
    arch: str,
    *,
    direction: str = "forward",
    linear_before_reset: int = 0,
    activation: str = "tanh",
    layout: int = 0,
) -> list[Layer]:
    """The inputs W, R and B of an RNN, LSTM or GRU node, beside the node's attributes.

    W (D, G H, I), R (D, G H, H), B = [Wb, Rb] (D, 2 G H) or None; D directions; gates i o f c and
    z r h. Attributes left out have ONNX's defaults, of which `linear_before_reset` 0 is not
    PyTorch's GRU. A node with peepholes, clip, input_forget or other activations than ONNX's
    defaults is another cell; `activation`, by the lab's names, is an RNN's.
    Source: ONNX 1.23, operators RNN, LSTM and GRU of opset 22 (docs/Operators.md).
    Raises InputError for a GRU without linear_before_reset, and for arrays that do not fit.
    """
    _check(arch, activation)
    if arch == "gru" and linear_before_reset != 1:
        why = _OTHER_GRU.format("linear_before_reset=1")
        raise refuse("linear_before_reset", linear_before_reset, why)
    if arch != "gru" and linear_before_reset != 0:
        raise refuse("linear_before_reset", linear_before_reset, "it is for gru")
    if direction not in _ONNX_DIRECTIONS:
        raise refuse("direction", direction, one_of(_ONNX_DIRECTIONS))
    if layout not in (0, 1):
        raise refuse("layout", layout, "0 or 1")
    directions = _ONNX_DIRECTIONS[direction]
    into, within = as_array("W", W), as_array("R", R)
    for name, array in (("W", into), ("R", within)):
        if array.ndim != 3 or array.size == 0:
            raise refuse(name, array.shape, "(D, G H, I) and (D, G H, H) are needed")
        if len(array) != len(directions):
            needed = f"direction {direction} needs {len(directions)} on its first axis"
            raise refuse(name, array.shape, needed)
    rows = len(_GATES[arch]) * within.shape[2]
    check_form("W", into, (len(directions), rows, into.shape[2]), into.dtype)
    check_form("R", within, (len(directions), rows, within.shape[2]), into.dtype)
    biases: list[list[NDArray]] = [[] for _ in directions]
    if B is not None:
        check_form("B", both := as_array("B", B), (len(directions), 2 * rows), into.dtype)
        biases = [np.split(each, 2) for each in both]
    return [
        Layer(arch, _params(_IN_ONNX[arch], w, r, *b), 0, each, activation, layout == 1)
        for w, r, b, each in zip(into, within, biases, directions, strict=True)
    ]


def _check(arch: str, activation: str) -> None:
    if arch not in _GATES:
        raise refuse("arch", arch, one_of(_GATES))
    allowed = ACTIVATIONS if arch == "rnn" else ("tanh",)
    if activation not in allowed:
        raise refuse("activation", activation, f"{arch} has {one_of(allowed)}")


def _check_kernels(arch: str, names: Sequence[str], kernel: NDArray, recurrent: NDArray) -> int:
    """The rows G H of kernels (I, G H) and (H, G H). Raises InputError for others."""
    for name, array in zip(names, (kernel, recurrent), strict=False):
        if array.ndim != 2 or array.size == 0:
            raise refuse(name, array.shape, "a matrix (inputs, gates times units) is needed")
    rows = len(_GATES[arch]) * len(recurrent)
    check_form(names[0], kernel, (len(kernel), rows), kernel.dtype)
    check_form(names[1], recurrent, (len(recurrent), rows), kernel.dtype)
    return rows


def _params(
    order: Sequence[int],
    into: NDArray,
    within: NDArray,
    bias_ih: NDArray | None = None,
    bias_hh: NDArray | None = None,
) -> Parameters:
    """Copies of W (G H, I), (G H, H) and the biases (G H,), the gates in PyTorch's order; beside
    one bias the other is zero."""
    given = {"weight_ih": into, "weight_hh": within}
    if bias_ih is not None or bias_hh is not None:
        zeros = np.zeros_like(within[:, 0])
        biases = (zeros if bias is None else bias for bias in (bias_ih, bias_hh))
        given |= dict(zip(BIASES, biases, strict=True))
    gates = {name: np.split(array, len(order)) for name, array in given.items()}
    return {
        name: np.ascontiguousarray(np.concatenate([blocks[place] for place in order]))
        for name, blocks in gates.items()
    }


def _copied(name: str, value: Any) -> NDArray:
    return np.array(as_array(name, value))


def _kind(value: Any) -> str:
    if isinstance(value, list | tuple | Mapping):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
