"""Parameters from other frameworks that are refused, in one line."""

from collections.abc import Callable
from typing import Any

import pytest
from drawn import numbers

from seqlab import from_flax, from_keras, from_onnx, from_torch
from seqlab.errors import InputError


def test_what_of_pytorch_s_is_refused(torch: Any) -> None:
    nn = torch.nn

    class Own(nn.LSTM):
        def forward(self, x: Any) -> Any:
            return super().forward(2 * x)

    class Renamed(nn.LSTM):
        pass

    assert len(from_torch(Renamed(2, 3))) == 1
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.GRU(2, 3)))
    whole = "nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell or nn.GRUCell"
    patched = nn.GRU(2, 3)
    patched.forward = lambda x: x
    quantised = torch.ao.nn.quantizable.LSTM(2, 3)
    for module, said in [
        (nn.LSTM(2, 3, proj_size=1), "proj_size: 1 is not allowed; lstm has none; a module with"),
        (nn.LSTM(2, 3, dtype=torch.complex64), "weight_ih_l0: dtype complex64 is not allowed; fl"),
        (nn.LSTM(2, 3, dtype=torch.float16), "weight_ih_l0: dtype float16 is not allowed; float6"),
        (Own(2, 3), "module: 'Own' is not allowed; its forward is its own; a module that computes"),
        (patched, "module: 'GRU' is not allowed; its forward is its own; a module that computes"),
        (model, f"module: 'Sequential' is not allowed; name the part that is an {whole}, such as "),
        (nn.Linear(2, 2), f"module: 'Linear' is not allowed; name the part that is an {whole}"),
        (nn.LSTM, "module: 'type' is not allowed; name the part"),
        (quantised, f"module: 'LSTM' is not allowed; the {whole} before quantisation is needed"),
    ]:
        with pytest.raises(InputError) as error:
            from_torch(module)
        assert str(error.value).startswith(said)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"such as its 1\.0$"):
        from_torch(model)


def test_no_module_is_no_module() -> None:
    with pytest.raises(InputError, match=r"^module: 'dict' is not allowed; name the part that is"):
        from_torch({})


# What is refused, in one line.

K, R3, R4 = numbers(2, 9), numbers(3, 9), numbers(3, 12)
DENSE = {"kernel": numbers(2, 3)}
FLAX = {"i": DENSE, "h": {"kernel": numbers(3, 3)}}
W, R = numbers(1, 9, 2), numbers(1, 9, 3)
OTHER = "a gru that resets h before its matrix product is another cell; "
REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: from_keras([K, R3], "ssm"), "arch: 'ssm' is not allowed; rnn, lstm or gru"),
    (lambda: from_keras([K, R3], "gru", activation="relu"), "activation: 'relu' is not allowed; g"),
    (
        lambda: from_keras([K, R3], "gru", reset_after=False),
        f"reset_after: False is not allowed; {OTHER}",
    ),
    (lambda: from_keras([K, R3, numbers(9)], "gru"), f"weights[2]: (9,) is not allowed; {OTHER}"),
    (
        lambda: from_keras([K, R4], "lstm", reset_after=False),
        "reset_after: False is not allowed; it",
    ),
    (lambda: from_keras(K, "gru"), "weights: ndarray is not allowed; the list of get_weights()"),
    (
        lambda: from_keras([K], "gru"),
        "weights: list of 1 is not allowed; the list of get_weights()",
    ),
    (lambda: from_keras([K, R3], "lstm"), "weights[0]: shape (2, 9) is not allowed; (2, 12) is n"),
    (lambda: from_keras([K[0], R3], "gru"), "weights[0]: (9,) is not allowed; a matrix (inputs, "),
    (
        lambda: from_keras([K, R3, K[:, :8]], "gru"),
        "weights[2]: shape (2, 8) is not allowed; (2, 9)",
    ),
    (
        lambda: from_keras([K, R3.astype("f4")], "gru"),
        "weights[1]: dtype float32 is not allowed; f",
    ),
    (
        lambda: from_keras([K, 1j * R3], "gru"),
        "weights[1]: dtype complex128 is not allowed; float6",
    ),
    (
        lambda: from_flax([K], "gru"),
        "params: 'list of 1' is not allowed; the dictionary of one cell",
    ),
    (lambda: from_flax({}, "gru"), "params: ir of gru is missing; the dictionary of one cell is"),
    (
        lambda: from_flax({"params": FLAX}, "rnn"),
        "params: i of rnn is missing; the dictionary of o",
    ),
    (lambda: from_flax(FLAX | {"j": DENSE}, "rnn"), "params: 'j' is not of rnn; i, h are needed"),
    (
        lambda: from_flax(FLAX | {"i": {"kernel": numbers(0, 3)}}, "rnn"),
        "i: (0, 3) is not allowed; a matrix (inputs, gates times units) is needed",
    ),
    (lambda: from_flax(FLAX | {"i": K}, "rnn"), "i: 'ndarray' is not allowed; a dictionary of ker"),
    (lambda: from_flax(FLAX | {"h": DENSE}, "rnn"), "i: shape (2, 3) is not allowed; (2, 2) is ne"),
    (lambda: from_flax(FLAX | {"i": DENSE | {"bias": R3[0]}}, "rnn"), "i.bias: shape (9,) is not "),
    (
        lambda: from_flax(FLAX | {"i": DENSE | {"scale": 1}}, "rnn"),
        "i: 'dict of 2' is not allowed;",
    ),
    (lambda: from_onnx(W, R, None, "gru"), f"linear_before_reset: 0 is not allowed; {OTHER}"),
    (
        lambda: from_onnx(W, R, None, "lstm", linear_before_reset=1),
        "linear_before_reset: 1 is not a",
    ),
    (
        lambda: from_onnx(W, R, None, "rnn", direction="both"),
        "direction: 'both' is not allowed; fo",
    ),
    (lambda: from_onnx(W, R, None, "rnn", layout=2), "layout: 2 is not allowed; 0 or 1"),
    (
        lambda: from_onnx(W, R, None, "rnn", direction="bidirectional"),
        "W: (1, 9, 2) is not allowed;",
    ),
    (
        lambda: from_onnx(W[0], R, None, "rnn"),
        "W: (9, 2) is not allowed; (D, G H, I) and (D, G H, ",
    ),
    (
        lambda: from_onnx(W, R, None, "lstm"),
        "W: shape (1, 9, 2) is not allowed; (1, 12, 2) is need",
    ),
    (
        lambda: from_onnx(W, R, numbers(1, 9), "gru", linear_before_reset=1),
        "B: shape (1, 9) is not allowed; (1, 18) is needed",
    ),
]


@pytest.mark.parametrize(("call", "said"), REFUSED, ids=[said[:40] for _, said in REFUSED])
def test_what_is_refused(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
