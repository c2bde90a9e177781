"""Networks, inputs and bounds that tests of the probe share; `seeded` acts on every test of a file
that imports it."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import seqlab
from seqlab.probes.callables import Steps, of_pytorch
from seqlab.probes.steps import Walk, walk

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `torch`)")
nn = torch.nn

# Each step rounds the adjoint's entries some tens of times by 1.1e-16: 2,000 steps stay below
# 2,000 * 50 * 1.1e-16 = 1e-11 nats even if all errors had one sign. Promised:
NEAR = 1e-10
# Chunks only differ in where powers of two are taken out and in the order of a product's sums.
SAME = 1e-12
CLASSES = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
RULES = ["norm:0.1", "value:0.1", "step-norm:0.1", "step-value:0.03", "truncate:11"]


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        yield


def random(*shape: int) -> Any:
    return torch.randn(*shape, dtype=torch.float64)


def recurrent(arch: str, layers: int = 1, **options: Any) -> Any:
    return CLASSES[arch](3, 6, num_layers=layers, dtype=torch.float64, **options)


def lstm(layers: int = 1, **options: Any) -> Any:
    return nn.LSTM(3, 6, num_layers=layers, dtype=torch.float64, **options)


X = random(20, 2, 3)
ZEROS = torch.zeros(1, 2, 6, dtype=torch.float64)


def close(found: Any, wanted: Any, within: float) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=within)


def same(found: Any, wanted: Any, within: float) -> None:
    """Two measurements are one, whoever carried the adjoint."""
    close(found.log_norm, wanted.log_norm, within)
    assert list(found.parts) == list(wanted.parts)
    for name, part in found.parts.items():
        close(part, wanted.parts[name], within)
    np.testing.assert_array_equal(found.lengths, wanted.lengths)
    np.testing.assert_array_equal(found.lags, wanted.lags)
    np.testing.assert_array_equal(found.fired, wanted.fired)
    assert (found.clip, found.every, found.dtype) == (wanted.clip, wanted.every, wanted.dtype)


def reads(readout: Any) -> Callable[[Any], Any]:
    return lambda y: (y * readout).sum()


def known(net: Any, x: Any) -> Steps:
    steps = of_pytorch(net, x)
    assert steps is not None
    return steps


def probed(net: Any, x: Any, readout: Any, lengths: list[int], **options: Any) -> Walk:
    return walk(known(net, x), x, None, reads(readout), lengths, **options)


class Custom(nn.Module):
    """h' = tanh(W h + U x) * sigmoid(V h), a cell, or with `many` a module."""

    def __init__(self, many: bool = False) -> None:
        super().__init__()
        self.many = many
        self.w, self.u, self.v = (nn.Parameter(random(6, n) / 2) for n in (6, 3, 6))

    def cell(self, x: Any, h: Any) -> Any:
        return torch.tanh(h @ self.w.T + x @ self.u.T) * torch.sigmoid(h @ self.v.T)

    def forward(self, x: Any, h: Any) -> Any:
        if not self.many:
            return self.cell(x, h)
        ys = []
        for x_t in x:
            h = self.cell(x_t, h)
            ys.append(h)
        return torch.stack(ys), h


def routes() -> dict[str, Callable[..., Any]]:
    def blocks(**options: Any) -> Any:
        net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)).double()
        return net, lambda **given: seqlab.probe([net, net], X, wrt="layers", **given)

    def recurrent(layers: int, proj_size: int = 0, **options: Any) -> Any:
        net = lstm(layers, proj_size=proj_size).eval()
        return net, lambda **given: seqlab.probe([net, net], X, **options, **given)

    return {
        "kernels": lambda: recurrent(1, loss=lambda y: (y**2).sum() + torch.rand(1)[0] * 0),
        "autograd": lambda: recurrent(2, every=4, proj_size=2),
        "input": lambda: recurrent(2, wrt="input", lengths=[20, 3]),
        "layers": blocks,
    }
