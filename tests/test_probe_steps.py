"""The adjoint of PyTorch's recurrences by steps and chunks, against the naive product of Jacobians
and our own kernels."""

import math
from typing import Any

import naive_probe
import numpy as np
import pytest
from naive import Array
from probing import CLASSES, NEAR, SAME, Custom, close, known, probed, random, reads, recurrent
from probing import seeded as seeded  # it acts on every test
from surroundings import surroundings

import seqlab
from seqlab import rules
from seqlab.probes import steps as steps_module
from seqlab.probes import trail as trail_module
from seqlab.probes.callables import of_cell
from seqlab.probes.steps import walk

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `torch`)")
nn = torch.nn
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def numbers(net: Any, layer: int) -> dict[str, Array]:
    return {name: getattr(net, f"{name}_l{layer}").detach().numpy() for name in NAMES}


def grown(net: Any, factor: float) -> Any:
    """The same network with greater recurrent weights, so that its adjoints grow."""
    with torch.no_grad():
        for name, weights in net.named_parameters():
            if name.startswith("weight_hh"):
                weights *= factor
    return net


# Against the product of Jacobians.


@pytest.mark.parametrize("arch", ["lstm", "gru"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_two_layers_are_the_product_of_their_jacobians(arch: str, batch_first: bool) -> None:
    net = recurrent(arch, 2, batch_first=batch_first)
    x, readout = random(500, 1, 3), random(6)
    found = probed(net, x.transpose(0, 1) if batch_first else x, readout, [500])
    parts = 4 if arch == "lstm" else 2
    gradient = np.zeros(6 * parts)
    gradient[6:12] = readout.numpy()  # the last layer's hidden state
    step = naive_probe.stacked(arch, [numbers(net, 0), numbers(net, 1)])
    wanted = naive_probe.curves(step, x[:, 0].numpy(), np.zeros(6 * parts), gradient, [6] * parts)
    names = [f"layer {n} {kind}" for kind in ("hidden", "cell")[: parts // 2] for n in (0, 1)]
    assert list(found.parts) == names
    close(np.concatenate([found.log_norm, *found.parts.values()]), wanted, NEAR)
    assert wanted[0, -1] < -100


@pytest.mark.parametrize("every", [1, 10])
def test_a_projected_lstm_is_the_product_of_its_jacobians(every: int) -> None:
    """Its hidden state, of 2 units, is smaller than its cell state, of 6."""
    net, x, readout = recurrent("lstm", 2, proj_size=2), random(300, 1, 3), random(2)
    layers = [
        numbers(net, layer) | {"weight_hr": getattr(net, f"weight_hr_l{layer}").detach().numpy()}
        for layer in (0, 1)
    ]
    gradient = np.zeros(16)
    gradient[2:4] = readout.numpy()
    step = naive_probe.projected(layers)
    wanted = naive_probe.curves(step, x[:, 0].numpy(), np.zeros(16), gradient, [2, 2, 6, 6])
    found = probed(net, x, readout, [300], every=every)
    assert list(found.parts) == [f"layer {n} {kind}" for kind in ("hidden", "cell") for n in (0, 1)]
    close(np.concatenate([found.log_norm, *found.parts.values()]), wanted[:, ::every], NEAR)
    assert wanted[0, -1] < -100


@pytest.mark.parametrize("clip", ["none", "step-norm:0.5", "step-value:0.1", "truncate:60"])
def test_a_custom_cell_is_the_product_of_its_jacobians(clip: str) -> None:
    net = Custom()
    x, state, readout = random(400, 1, 3), random(1, 6), random(6)
    kind = of_cell(net)
    found = walk(kind, x, state, reads(readout), [400], rule=rules.parse(clip))
    step = naive_probe.custom(*(p.detach().numpy() for p in (net.w, net.u, net.v)))
    given = x[:, 0].numpy(), state[0].numpy(), readout.numpy()
    wanted = naive_probe.curves(step, *given, [6], clip)
    close(found.log_norm[0], wanted[0], NEAR)
    close(found.parts["state"][0], wanted[1], NEAR)
    assert (found.fired[0] > 0) == (clip != "none")
    assert np.isneginf(found.log_norm).any() == clip.startswith("truncate")


def test_all_tensors_of_a_state_must_share_one_exponent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rescaling each tensor by itself, as a hook on each would, is wrong by nats."""
    net, x, readout = recurrent("lstm"), random(300, 1, 3), random(6)
    truth = probed(net, x, readout, [300])
    one = steps_module.rescaled

    def each(vector: Any, peak: float) -> Any:
        h, c = vector.split(6) if len(vector) == 12 else (vector, vector[:0])
        (h, shift), others = one(h, float(h.abs().max())), [c]
        if len(c):
            others = [one(c, float(c.abs().max()))[0]]
        return torch.cat([h, *others]), shift

    monkeypatch.setattr(steps_module, "rescaled", each)
    wrong = probed(net, x, readout, [300])
    assert np.abs(wrong.log_norm - truth.log_norm).max() > 1


# Against the kernels.


@pytest.mark.parametrize("arch", CLASSES)
def test_one_layer_is_what_the_kernels_find(arch: str) -> None:
    net, x, readout = recurrent(arch), random(2000, 2, 3), random(6)
    lengths = [700, 2000, 1]
    found = probed(net, x, readout, lengths)
    wanted = seqlab.attenuation(arch, numbers(net, 0), x.numpy(), lengths, readout=readout.numpy())
    close(found.log_norm, wanted.log_norm[0], NEAR)
    close(found.parts["hidden"], wanted.log_norm_hidden[0], NEAR)
    if arch == "lstm":
        close(found.parts["cell"], wanted.log_norm_cell[0], NEAR)
    assert found.lags.tolist() == list(range(2001))
    assert found.log_norm[1, -1] < -745  # below what float64 can hold


@pytest.mark.parametrize("clip", ["step-norm:0.5", "step-value:0.3", "truncate:70", "norm:0.1"])
def test_clip_rules_act_on_each_sequence_as_in_the_kernels(clip: str) -> None:
    net, x, readout = grown(recurrent("lstm"), 4), random(300, 3, 3), random(6)
    found = probed(net, x, readout, [300, 90], rule=rules.parse(clip))
    wanted = seqlab.attenuation(
        "lstm", numbers(net, 0), x.numpy(), [300, 90], clip, readout.numpy()
    )
    close(found.log_norm, wanted.log_norm[0], NEAR)
    assert (found.fired > 0).all() == (clip != "norm:0.1")


def test_an_adjoint_that_grows_beyond_floats_is_carried() -> None:
    net, x, readout = grown(recurrent("rnn"), 6), random(2000, 1, 3) / 100, random(6)
    found = probed(net, x, readout, [2000])
    wanted = seqlab.attenuation("rnn", numbers(net, 0), x.numpy(), [2000], readout=readout.numpy())
    # Growth is chaos: the two trajectories part from each other, and norms with them.
    close(found.log_norm[0, :20], wanted.log_norm[0, 0, :20], NEAR)


@pytest.mark.parametrize("arch", CLASSES)
def test_cells_are_their_modules(arch: str) -> None:
    net, x, readout = recurrent(arch), random(200, 2, 3), random(6)
    cell = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}[arch](3, 6).double()
    cell.load_state_dict({name: getattr(net, f"{name}_l0") for name in NAMES})
    whole, single = (probed(each, x, readout, [200]) for each in (net, cell))
    close(single.log_norm, whole.log_norm, NEAR)
    assert list(single.parts) == list(whole.parts)
    alone = probed(net, x[:, 0], readout, [200])  # without an axis of sequences
    again = probed(cell, x[:, 0], readout, [200])
    close(again.log_norm, alone.log_norm, NEAR)


# Chunks.


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_chunks_are_steps(layers: int) -> None:
    net, x, readout = recurrent("lstm", layers), random(1000, 2, 3), random(6)
    lengths = [1000, 317, 25]
    single = probed(net, x, readout, lengths)
    chunks = probed(net, x, readout, lengths, every=25)
    assert chunks.lags.tolist() == list(range(0, 1001, 25))
    close(chunks.log_norm, single.log_norm[:, ::25], SAME)
    for name, part in chunks.parts.items():
        close(part, single.parts[name][:, ::25], SAME)
    assert np.isfinite(chunks.log_norm).sum(axis=1).tolist() == [41, 13, 2]


def test_a_chunk_that_loses_the_range_is_halved() -> None:
    net, x, readout = grown(recurrent("rnn"), 0.05), random(600, 1, 3), random(6)
    single = probed(net, x, readout, [600])
    chunk = probed(net, x, readout, [600], every=300)
    assert single.log_norm[0, 300] < -1000  # one chunk's gradient would be zero
    close(chunk.log_norm, single.log_norm[:, ::300], SAME)


def test_states_computed_again_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, readout = recurrent("gru", 2), random(400, 1, 3), random(6)
    whole = probed(net, x, readout, [400, 131])
    again = probed(net, x, readout, [400, 131])
    assert whole.log_norm.tobytes() == again.log_norm.tobytes()
    held = []
    keep = trail_module.Trail.at

    def at(self: Any, i: int) -> Any:
        state = keep(self, i)
        held.append(len(self._anchors) + len(self._near))
        return state

    monkeypatch.setattr(trail_module, "_ROOM", 0)
    monkeypatch.setattr(trail_module.Trail, "at", at)
    bounded = probed(net, x, readout, [400, 131])
    assert bounded.log_norm.tobytes() == whole.log_norm.tobytes()
    assert max(held) <= 2 * math.isqrt(400)


# What is left as it was.


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("failing", ["", "forward", "backward", "loss"])
def test_everything_is_as_before(training: bool, grad: bool, failing: str) -> None:
    net, x, readout = recurrent("lstm", 2), random(50, 1, 3), random(6)
    net.train(training)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    threads = torch.get_num_threads()
    seen = []

    def progress(fraction: float, what: str) -> None:
        torch.rand(3)  # as a module might
        seen.append((fraction, what, torch.get_num_threads()))
        if what == failing:
            raise Interrupted

    def loss(y: Any) -> Any:
        if failing == "loss":
            raise Interrupted
        return (y * readout).sum()

    torch.set_num_threads(2)
    before = surroundings(net)
    with torch.set_grad_enabled(grad):
        try:
            walk(known(net, x), x, None, loss, [50, 20], progress=progress)
            assert not failing
        except Interrupted:
            assert failing
    assert surroundings(net) == before
    torch.set_num_threads(threads)
    fractions = [fraction for fraction, _, _ in seen]
    assert fractions == sorted(fractions)
    assert (fractions[-1] == 1) == (not failing)
    assert {count for _, _, count in seen} == {1}


def test_inference_mode_is_no_obstacle() -> None:
    net, x, readout = recurrent("gru"), random(20, 1, 3), random(6)
    wanted = probed(net, x, readout, [20])
    with torch.inference_mode():
        close(probed(net, x.clone(), readout, [20]).log_norm, wanted.log_norm, 0)
        assert torch.is_inference_mode_enabled()
