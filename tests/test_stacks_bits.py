"""Deep stacks are the same bits for any threads, segments, blocks and number of networks, and
again."""

import math
from typing import Any

import numpy as np
import pytest
import stacked
from naive_depth import Array, Stack
from stack_runs import create, measured
from stacked import Run, readout

from seqlab.engine import tape as tapes
from seqlab.kernels.cpu import threads
from seqlab.measure import stack_networks
from seqlab.measure.stack_networks import Networks

LN2 = math.log(2.0)
DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32])
WIDE = {
    "mlp": Stack("mlp", "relu", "layer"),
    "resnet": Stack("resnet", "relu", "batch", outside=False),
    "densenet": Stack("densenet", "relu"),
    "transformer": Stack("transformer", "relu", heads=4),
}


def bits(run: Run) -> list[Array]:
    """All that a run leaves."""
    depth = run.of.depth
    lengths = [depth // 2, depth]
    way = run.back([readout(run, length) for length in lengths], lengths)
    gradients = [part for pair in way.gradients for part in pair]
    looked = [np.concatenate([one[i] for one in run.looked], axis=1) for i in (1,)]
    states = [run.state(layer, m) for layer in (1, depth) for m in range(run.tape.networks)]
    return [*way.curves, *way.weights, *gradients, *way.last, *looked, *states]


def assert_same(have: list[Array], want: list[Array]) -> None:
    assert len(have) == len(want)
    for one, other in zip(have, want, strict=True):
        np.testing.assert_array_equal(one, other)


@DTYPES
@pytest.mark.parametrize("entries", [True, False], ids=["entries", "norms"])
@pytest.mark.parametrize("arch", WIDE)
def test_threads_and_repeats_change_nothing(
    arch: str, entries: bool, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So large that kernels are shared."""
    stack = WIDE[arch]
    layers, x = stacked.networks(stack, 2, 2, 160, "pytorch"), stacked.inputs(2, 64, 160)
    woken: list[int] = []
    start = threads.start

    def counted(*arguments: Any) -> Any:
        woken.append(1)
        return start(*arguments)

    monkeypatch.setattr(threads, "start", counted)
    found = []
    for count in (1, 2, 3, 2):
        monkeypatch.setenv("NUMBA_NUM_THREADS", str(count))
        found.append(bits(Run(stack, layers, x, dtype, entries)))
        assert bool(woken) == (count > 1)
    for other in found[1:]:
        assert_same(other, found[0])


@DTYPES
@pytest.mark.parametrize("entries", [True, False], ids=["entries", "norms"])
@pytest.mark.parametrize("arch", WIDE)
def test_a_network_does_not_know_the_others(arch: str, entries: bool, dtype: Any) -> None:
    """150 units: gradients in ten panels, whose squares are added up."""
    stack, width = WIDE[arch], 148
    layers, x = stacked.networks(stack, 5, 2, width), stacked.inputs(5, 3, width)
    whole = Run(stack, layers, x, dtype, entries)
    alone = Run(stack, layers[3:4], x[3:4], dtype, entries)
    seeded = readout(whole)
    together, own = whole.back([seeded]), alone.back([seeded[3:4]])
    np.testing.assert_array_equal(whole.state(2, 3), alone.state(2, 0))
    np.testing.assert_array_equal(together.curves[0][3:4], own.curves[0])
    np.testing.assert_array_equal(together.weights[0][3:4], own.weights[0])
    for (a, exponent), (b, other) in zip(together.gradients, own.gradients, strict=True):
        np.testing.assert_array_equal(a[3:4], b)
        np.testing.assert_array_equal(exponent[3:4], other)


@pytest.mark.parametrize("depth", [40, 48])
@pytest.mark.parametrize("arch", WIDE)
def test_segments_change_nothing(arch: str, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept or computed again, whole or in pieces of sixteen layers, the last one shorter or not."""
    stack = WIDE[arch]
    layers, x = stacked.networks(stack, 2, depth, 8), stacked.inputs(2, 5, 8)
    whole = bits(Run(stack, layers, x))
    assert_same(bits(Run(stack, layers, x, budget=0)), whole)
    monkeypatch.setattr(tapes, "SEGMENT_BYTES", 1)
    for budget in (1 << 30, 0):
        run = Run(stack, layers, x, budget=budget)
        assert len(run.tape.starts) == 3
        assert run.tape.keeps_all == bool(budget)
        assert_same(bits(run), whole)


@pytest.mark.parametrize("arch", WIDE)
def test_calls_of_one_layer_change_nothing(arch: str) -> None:
    run = Run(WIDE[arch], stacked.networks(WIDE[arch], 2, 5, 8), stacked.inputs(2, 5, 8))
    last = run.by_lag(readout(run))[-1]
    way = run.back([readout(run)])
    scale = np.rint(way.last[1][:, 0] / LN2).astype(int)
    np.testing.assert_array_equal(np.ldexp(way.last[0][:, 0], scale[:, None, None]), last)


# Of whole runs.


def assert_equal(have: dict[str, Array], want: dict[str, Array]) -> None:
    assert have.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_array_equal(have[name], value, err_msg=name)


RULES = ["none", "norm:0.1", "value:0.01", "step-norm:0.5", "step-value:0.05", "truncate:2"]
BITS = {
    "mlp": {"batch": 3, "norm": "batch", "clip": RULES, "steps": 40, "spectrum": 3},
    "densenet": {"arch": "densenet", "batch": 3, "clip": RULES, "steps": 40},
    "transformer": {"arch": "transformer", "tokens": 3, "heads": 2, "steps": 40},
}


@pytest.mark.parametrize("name", BITS)
def test_runs_are_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For any threads and blocks of networks; kept or drawn and computed again; and the first
    networks of more."""
    spec = create(**BITS[name], networks=4)
    want = measured(spec)
    for count in ("1", "2", "3"):
        monkeypatch.setenv("NUMBA_NUM_THREADS", count)
        assert_equal(measured(spec), want)
    drawn: list[int] = []
    layer = Networks.layer

    def counted(self: Networks, m: int, number: int) -> Array:
        drawn.append(number)
        return layer(self, m, number)

    monkeypatch.setattr(Networks, "layer", counted)
    monkeypatch.setattr("seqlab.engine.tape.SEGMENT_BYTES", 1)
    assert_equal(measured(spec), want)
    assert len(drawn) == 4 * 40
    drawn.clear()
    monkeypatch.setattr(stack_networks, "KEPT_BYTES", 0)
    assert_equal(measured(spec), want)
    assert len(drawn) >= 2 * 4 * 40
    alone = measured(create(**BITS[name], networks=1))
    for field in ("log_norm", "log_weight_grad_norm", "log_mean_square", "decay_rate"):
        np.testing.assert_array_equal(alone[field], want[field][:1])


@pytest.mark.parametrize("arch", ["mlp", "resnet", "densenet", "transformer"])
def test_a_deeper_stack_begins_like_a_shorter_one(arch: str) -> None:
    """Its layers, and what is seen of them: what lies so far from the inputs."""
    short, long = create(arch=arch, steps=5), create(arch=arch, steps=9)
    for layer in range(5):
        for m in range(2):
            numbers = Networks(short).layer(m, layer)
            np.testing.assert_array_equal(Networks(long).layer(m, layer), numbers)
    one, other = measured(short), measured(long)
    for name in ("log_mean_square", "zero_units", "always_on_units"):
        np.testing.assert_array_equal(other[name][:, -6:], one[name][:, -6:], err_msg=name)
