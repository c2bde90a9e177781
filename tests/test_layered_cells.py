"""Several layers of a cell: against the naive reference, each other's kernels, and themselves."""

import math
from collections.abc import Iterator
from typing import Any

import clips
import naive
import naive_adjoint
import naive_layered
import numpy as np
import numpy.typing as npt
import pytest
from drawn import (
    ARCHS,
    MIXED,
    PARITY,
    Run,
    answers,
    draw_layered,
    parts,
    public,
    relative_errors,
    same_bits,
)
from reference.cases import named

import seqlab
from seqlab import rules
from seqlab.cells import CELLS, Draw, Sizes, in_layers, layer_sizes, part_names
from seqlab.engine import tape
from seqlab.engine.ensemble import gather
from seqlab.errors import InputError
from seqlab.measure.lyapunov import frames, spectrum

Array = npt.NDArray[Any]

LOG = 1e-10  # of a natural log against the naive reference, as for one layer
LAYERS = 3
# Of two workers the other is at test_bptt_parity.py meanwhile, which begins with the first cell:
# what one has compiled the other finds.
FROM_THE_LAST = ARCHS[::-1]


@pytest.fixture(autouse=True)
def _references(monkeypatch: pytest.MonkeyPatch) -> None:
    """The naive reference knows cells of several layers by these names."""
    for arch in ARCHS:
        for layers in (2, LAYERS):
            cell = naive_layered.stack(naive.CELLS[arch], layers)
            monkeypatch.setitem(naive.CELLS, f"{arch} x{layers}", cell)


def truth(run: Run, layers: int, clip: str = "none") -> dict[str, Array]:
    """The same from the naive reference, one network."""
    arch, state = f"{run.arch} x{layers}", tuple(p[k] for k in range(layers) for p in run.state)
    output = naive.forward(arch, run.params, run.x, state)["output"]
    g = naive.backward(arch, run.params, run.x, run.grad, state, clip=clip)
    count = len(run.state)
    initial = tuple(np.stack(g["initial"][i::count]) for i in range(count))
    return named(output, g["params"], g["x"], initial)


# The row of the registry.


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_the_row_of_several_layers(arch: str) -> None:
    """Shapes as the reference has them; sizes and states go there and back; one layer is itself."""
    cell = in_layers(CELLS[arch], LAYERS)
    sizes = Sizes(5, 2, 3)
    assert cell.shapes(sizes) == naive.CELLS[f"{arch} x{LAYERS}"].shapes(*sizes)
    params = {name: np.zeros((4, *shape)) for name, shape in cell.shapes(sizes).items()}
    of = cell.sizes(params)
    assert (of.hidden, of.inputs) == (5, 2)
    assert in_layers(CELLS[arch], 1) is CELLS[arch]
    state = np.random.default_rng(0).normal(size=(2, 4, *cell.state_shape(sizes)))
    whole = cell.unpack(state)
    assert all(part.shape[1:3] == (LAYERS, 4) for part in whole)
    assert np.array_equal(cell.pack(whole), state)
    assert part_names(("hidden", "cell"), 1) == ("hidden", "cell")
    assert part_names(("hidden", "cell"), 2)[1:3] == ("layer 1 hidden", "layer 0 cell")


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_the_first_layer_is_drawn_as_a_network_without_the_others(arch: str) -> None:
    sizes, how = Sizes(6, 2, 3), Draw()
    one = CELLS[arch].draw(np.random.default_rng(7), sizes, how)
    rng = np.random.default_rng(7)
    all_of_them = in_layers(CELLS[arch], LAYERS).draw(rng, sizes, how)
    for name, array in one.items():
        assert np.array_equal(all_of_them[f"{name}_l0"], array)
    again = np.random.default_rng(7)
    CELLS[arch].draw(again, sizes, how)
    upper = CELLS[arch].draw(again, layer_sizes(sizes, 1), how)
    assert all(np.array_equal(all_of_them[f"{name}_l1"], array) for name, array in upper.items())


# Against the naive reference.


@pytest.mark.parametrize("arch", FROM_THE_LAST)
@pytest.mark.parametrize("clip", ["none", *clips.biting()])
@pytest.mark.parametrize("layers", [2, LAYERS])
def test_output_and_gradients(arch: str, clip: str, layers: int) -> None:
    run = draw_layered(arch, layers, hidden=7, inputs=2, state=3, steps=35, batch=3)
    errors = relative_errors(answers(run, clip=clip), truth(run, layers, clip))
    assert max(errors.values()) < PARITY, errors


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("clip", ["none", *clips.biting(rules.IN_CHAIN)])
def test_small_gradients(arch: str, clip: str) -> None:
    run = draw_layered(arch, LAYERS, steps=6, batch=2)
    errors = relative_errors(answers(run, clip=clip), truth(run, LAYERS, clip))
    assert max(errors.values()) < PARITY, errors


def assert_naive_curves(
    run: Run, layers: int, lengths: list[int], readout: Array, clip: str
) -> None:
    """The whole state's curve, each layer's, the input's; of every length, at every lag."""
    found = seqlab.attenuation(run.arch, run.params, run.x, lengths, readout=readout, clip=clip)
    assert tuple(found.parts) == part_names(CELLS[run.arch].parts, layers)
    for row, length in enumerate(lengths):
        want = naive_adjoint.adjoint_curve(
            f"{run.arch} x{layers}", run.params, run.x[:length], readout, clip=clip
        )
        have = {"log_norm": found.log_norm, "log_norm_input": found.log_norm_input}
        have |= {
            "log_norm_{2}_l{1}".format(*name.split()): part for name, part in found.parts.items()
        }
        assert have.keys() == want.keys()
        for name, curve in want.items():
            mine = have[name]
            assert mine is not None
            assert mine[0, row, : length + 1] == pytest.approx(
                curve, rel=0, abs=LOG, nan_ok=True
            ), (name, length)
            assert np.isnan(mine[0, row, length + 1 :]).all()


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("clip", ["none", *clips.biting(rules.IN_CHAIN)])
@pytest.mark.parametrize("batch", [1, 3])
def test_curves_of_a_bundle(arch: str, clip: str, batch: int) -> None:
    run = draw_layered(arch, 2, hidden=5, inputs=3, state=4, steps=37, batch=batch)
    readout = np.random.default_rng(5).normal(size=(batch, 5))
    assert_naive_curves(run, 2, [1, 2, 16, 17, 33, 37], readout, clip)


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("clip", ["none", *clips.biting(rules.IN_CHAIN)])
def test_small_curves(arch: str, clip: str) -> None:
    run = draw_layered(arch, LAYERS, steps=5, batch=2)
    assert_naive_curves(run, LAYERS, [3, 5], np.array([0.3, -1.2, 0.5]), clip)


def fade(arch: str, params: dict[str, Array]) -> None:
    """Make a layer of three units keep next to nothing from step to step, in place."""
    for _ in range(1 if arch == "lru" else 3):  # whose |lambda| is exp(-exp(nu_log))
        naive.CELLS[arch].fade(params)
        if arch in MIXED:
            params[naive.CELLS[arch].gate_bias][3:6] -= 3  # forget and update gates


@pytest.mark.parametrize("arch", FROM_THE_LAST)
@pytest.mark.parametrize(
    ("dtype", "clip"),
    [("float64", "none"), ("float64", "step-norm:1e-30"), ("float32", "none")],
)
def test_far_below_the_smallest_number(arch: str, dtype: str, clip: str) -> None:
    """Chains that fade keep their logs, in every layer, and what reaches the input its own."""
    run = draw_layered(arch, 2, steps=700, batch=1)
    for layer in range(2):
        fade(arch, naive_layered.layer_params(run.params, layer))
    own, readout = run.cast(dtype), np.array([0.3, -1.2, 0.5], dtype)
    found = seqlab.attenuation(arch, own.params, own.x, [700], readout=readout, clip=clip)
    exact = own.cast("float64")
    want = naive_adjoint.adjoint_curve(f"{arch} x2", exact.params, exact.x, readout, clip=clip)
    assert want["log_norm"][-1] < -745
    # Each of 700 steps of two layers rounds a few times.
    allowed = LOG if dtype == "float64" else 700 * 20 * 2.0**-24
    for have, name in ((found.log_norm, "log_norm"), (found.log_norm_input, "log_norm_input")):
        assert have[0, 0] == pytest.approx(want[name], rel=0, abs=allowed, nan_ok=True)


@pytest.mark.parametrize("arch", ARCHS)
def test_a_layer_that_fades_faster_keeps_its_digits(arch: str) -> None:
    """The last layer's part is that of the layer alone, driven by the one below: the others are not
    in its way, though it is soon below the smallest number beside them."""
    run = draw_layered(arch, 2, steps=600, batch=1)
    top = naive_layered.layer_params(run.params, 1)
    fade(arch, top)
    lower = naive_layered.layer_params(run.params, 0)
    readout = np.array([0.3, -1.2, 0.5])
    both = seqlab.attenuation(arch, run.params, run.x, [600], readout=readout)
    drive = seqlab.forward(arch, lower, run.x).output
    alone = seqlab.attenuation(arch, top, drive, [600], readout=readout)
    for part in CELLS[arch].parts:
        last, first = both.parts[f"layer 1 {part}"], both.parts[f"layer 0 {part}"]
        assert last[0, 0, -1] < first[0, 0, -1] - 745
        assert np.array_equal(last, alone.parts[part])


# Against themselves.


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("clip", ["none", "step-norm:0.3"])
def test_networks_of_an_ensemble_are_each_by_itself(arch: str, clip: str) -> None:
    run = draw_layered(arch, 2, steps=5, batch=2, networks=3)
    together = answers(run, clip=clip)
    for m in range(3):
        alone = answers(run.network(m), clip=clip)
        assert same_bits({name: value[m] for name, value in together.items()}, alone)


def variants() -> Iterator[tuple[str, int]]:
    yield "SEGMENT_BYTES", 1
    yield "TRAJECTORY_BYTES", 0


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("clip", ["none", *clips.biting(rules.IN_CHAIN)])
def test_segments_and_recomputation_change_no_curve(
    arch: str, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = draw_layered(arch, 2, steps=50, batch=2)
    readout = np.array([0.3, -1.2, 0.5])

    def measured() -> list[Array]:
        found = seqlab.attenuation(arch, run.params, run.x, [20, 50], readout=readout, clip=clip)
        return [found.log_norm, *found.parts.values(), found.fired]

    whole, gradients = measured(), answers(run, clip=clip)
    for name, value in variants():
        monkeypatch.setattr(tape, name, value)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(whole, measured(), strict=True))
    # Sums over time are added segment by segment.
    errors = relative_errors(answers(run, clip=clip), gradients)
    assert max(errors.values()) < 1e-13, errors


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_runs_go_on_where_others_ended(arch: str) -> None:
    """Two halves, with the state and its gradient handed over, are the whole."""
    run = draw_layered(arch, 2, steps=6, batch=2)
    first = seqlab.forward(arch, run.params, run.x[:4], run.initial)
    second = seqlab.forward(arch, run.params, run.x[4:], first.final)
    late = seqlab.backward(second, run.grad[4:])
    early = seqlab.backward(first, run.grad[:4], grad_final=late.initial)
    want = answers(run)
    have = named(
        np.concatenate([first.output, second.output]),
        {name: early.params[name] + late.params[name] for name in late.params},
        np.concatenate([early.x, late.x]),
        parts(early.initial),
    )
    errors = relative_errors(have, want)
    assert max(errors.values()) < 1e-13, errors


@pytest.mark.parametrize("arch", ARCHS)
def test_lyapunov_exponents(arch: str) -> None:
    """Of the joint state: QR of the product of the Jacobians, factor by factor."""
    cell = in_layers(CELLS[arch], 2)
    run = draw_layered(arch, 2, hidden=3, state=2, steps=24, batch=1)
    naive_cell = naive.CELLS[f"{arch} x2"]
    saved = naive.forward(f"{arch} x2", run.params, run.x)["saved"]
    size = math.prod(cell.adjoint_shape(Sizes(3, 2, 2)))
    first = frames(0, range(1), size, 3)
    forwards = gather(arch, run.params, run.x).tape("cpu")
    forwards.run(lambda _: None)
    have = spectrum(forwards, first)
    # The kernels' order of the state, in that of the reference.
    zero = naive.zero_state(f"{arch} x2", run.params, 1)
    starts = np.cumsum([0, *(part.size for part in zero)])
    numbered = [s + np.arange(p.size).reshape(p.shape) for s, p in zip(starts, zero, strict=False)]
    count = len(numbered) // 2
    order = cell.pack(tuple(np.stack(numbered[i::count]) for i in range(count))).ravel()
    vectors, logs = np.zeros_like(first[0]), np.zeros(3)
    vectors[order] = first[0]
    for jacobian in naive_layered.jacobians(naive_cell, run.params, saved, 3)[::-1]:
        vectors, r = np.linalg.qr(jacobian.T @ vectors)
        logs += np.log(np.abs(np.diag(r)))
    assert have[0] == pytest.approx(np.sort(logs / 24)[::-1], rel=0, abs=1e-8)


# What is given.


@pytest.mark.tiny
def test_layers_are_told_by_the_names_of_parameters() -> None:
    run = draw_layered("lstm", 2, steps=3)
    prefixed = {f"encoder.rnn.{name}": value for name, value in run.params.items()}
    backwards = dict(reversed(prefixed.items()))
    trajectory = seqlab.forward("lstm", backwards, run.x)
    assert trajectory.output.shape == (3, 2, 3)
    assert [part.shape for part in trajectory.final] == [(2, 2, 3), (2, 2, 3)]
    assert set(seqlab.backward(trajectory, run.grad).params) == set(prefixed)


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("_l1", "params: 'weight_ih_l2' is not allowed; one layer, or all from _l0 up"),
        ("weight_hh_l1", "params: lacks weight_hh_l1 of lstm; weight_ih_l1, weight_hh_l1"),
    ],
)
def test_a_layer_that_is_not_whole(without: str, said: str) -> None:
    run = draw_layered("lstm", 3, steps=3)
    params = {name: value for name, value in run.params.items() if not name.endswith(without)}
    with pytest.raises(InputError, match=said):
        seqlab.forward("lstm", params, run.x)


@pytest.mark.tiny
def test_a_layer_of_another_width() -> None:
    run = draw_layered("lstm", 2, steps=3)
    run.params["weight_ih_l1"] = run.params["weight_ih_l1"][:, :2]
    with pytest.raises(InputError, match=r"weight_ih_l1: shape \(12, 2\)"):
        seqlab.forward("lstm", run.params, run.x)
    run = draw_layered("lstm", 2, steps=3)
    of_one = public(tuple(part[0] for part in run.state))
    with pytest.raises(InputError, match=r"initial\[0\]: shape \(2, 3\)"):
        seqlab.forward("lstm", run.params, run.x, of_one)


@pytest.mark.tiny
def test_biases_may_be_left_out() -> None:
    run = draw_layered("gru", 2, steps=3)
    bare = {name: value for name, value in run.params.items() if "bias" not in name}
    zero = {name: value * ("bias" not in name) for name, value in run.params.items()}
    assert np.array_equal(
        seqlab.forward("gru", bare, run.x).output, seqlab.forward("gru", zero, run.x).output
    )
