"""The adjoint of PyTorch's recurrences by steps and chunks, against the naive product of Jacobians
and our own kernels."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import naive_probe
import numpy as np
import pytest
from naive import Array
from surroundings import surroundings

import seqlab
from seqlab import rules
from seqlab.errors import InputError
from seqlab.probes import steps as steps_module
from seqlab.probes import trail as trail_module
from seqlab.probes.callables import Steps, of_cell, of_module, of_pytorch
from seqlab.probes.states import rescaled
from seqlab.probes.steps import Walk, walk

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `torch`)")
nn = torch.nn

# Each step rounds the adjoint's entries some tens of times by 1.1e-16: 2,000 steps stay below
# 2,000 * 50 * 1.1e-16 = 1e-11 nats even if all errors had one sign. Promised:
NEAR = 1e-10
# Chunks only differ in where powers of two are taken out and in the order of a product's sums.
SAME = 1e-12
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
CLASSES = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        yield


def numbers(net: Any, layer: int) -> dict[str, Array]:
    return {name: getattr(net, f"{name}_l{layer}").detach().numpy() for name in NAMES}


def random(*shape: int) -> Any:
    return torch.randn(*shape, dtype=torch.float64)


def recurrent(arch: str, layers: int = 1, **options: Any) -> Any:
    return CLASSES[arch](3, 6, num_layers=layers, dtype=torch.float64, **options)


def reads(readout: Any) -> Callable[[Any], Any]:
    return lambda y: (y * readout).sum()


def known(net: Any, x: Any) -> Steps:
    steps = of_pytorch(net, x)
    assert steps is not None
    return steps


def probed(net: Any, x: Any, readout: Any, lengths: list[int], **options: Any) -> Walk:
    return walk(known(net, x), x, None, reads(readout), lengths, **options)


def grown(net: Any, factor: float) -> Any:
    """The same network with greater recurrent weights, so that its adjoints grow."""
    with torch.no_grad():
        for name, weights in net.named_parameters():
            if name.startswith("weight_hh"):
                weights *= factor
    return net


def close(found: Array, wanted: Array, within: float) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=within)


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


# What the output is, and the forms of states.


class Wrapped(nn.Module):
    """An LSTM in a form of its own, with a layer behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(3, 6, 2).double(), nn.Linear(6, 4).double()

    def forward(self, x: Any, state: Any) -> Any:
        y, after = self.lstm(x, (state["h"], state["c"]))
        return self.out(y), {"h": after[0], "c": after[1], "steps": state["steps"] + len(x)}


@pytest.mark.parametrize("every", [1, 20])
def test_a_module_around_another_has_its_curve(every: int) -> None:
    net, x, readout = Wrapped(), random(200, 2, 3), random(4)
    zeros = torch.zeros(2, 2, 6, dtype=torch.float64)
    state = {"h": zeros, "c": zeros.clone(), "steps": torch.tensor(0)}
    found = walk(of_module(net), x, state, reads(readout), [200], every)
    inner = probed(net.lstm, x, readout @ net.out.weight, [200], every=every)
    close(found.log_norm, inner.log_norm, SAME)
    assert list(found.parts) == ["state['h']", "state['c']"]


def test_a_module_of_many_steps_is_its_cell() -> None:
    x, state, readout = random(100, 2, 3), random(2, 6), random(6)
    cell, many = Custom(), Custom(many=True)
    many.load_state_dict(cell.state_dict())
    by_cell = walk(of_cell(cell), x, state, reads(readout), [100], 10)
    by_module = walk(of_module(many), x, state, reads(readout), [100], 10)
    close(by_module.log_norm, by_cell.log_norm, SAME)

    def paired(x: Any, h: Any) -> Any:
        h = cell(x, h)
        return h, h

    close(walk(of_cell(paired), x, state, reads(readout), [100], 10).log_norm, by_cell.log_norm, 0)


@pytest.mark.parametrize("room", [2**28, 0])
@pytest.mark.parametrize("every", [1, 50])
def test_a_state_that_is_changed_in_place_is_a_state(
    every: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail_module, "_ROOM", room)
    x, state, readout = random(200, 1, 6), random(1, 6), random(6)

    def apart(x: Any, h: Any) -> Any:
        return h * 1e-10 + torch.tanh(x)  # chunks are halved

    def in_place(x: Any, h: Any) -> Any:
        return h.mul_(1e-10).add_(torch.tanh(x))

    given = x, state, reads(readout), [200], every
    wanted = walk(of_cell(apart), *given).log_norm
    close(walk(of_cell(in_place), *given).log_norm, wanted, SAME)
    assert wanted[0, -1] < -4000


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_smallest_and_greatest_numbers_are_rescaled(dtype: str) -> None:
    limits = torch.finfo(getattr(torch, dtype))
    for peak in (limits.smallest_normal * limits.eps, limits.max):
        vector, shift = rescaled(torch.tensor([peak], dtype=getattr(torch, dtype)), peak)
        assert 0.5 <= vector.item() < 1
        assert math.log2(peak) == pytest.approx(math.log2(vector.item()) + shift, abs=SAME)


def test_lag_0_has_the_outputs_gradient_where_that_is_no_function_of_the_state() -> None:
    def shifted(x: Any, h: Any) -> Any:
        return h.sum(dim=1), torch.tanh(h + x)

    found = walk(of_cell(shifted), random(5, 1, 6), random(1, 6), reads(3.0), [5])
    assert np.isnan(found.parts["state"][0]).tolist() == [True] + 5 * [False]
    assert found.log_norm[0, 0] == pytest.approx(math.log(3), abs=SAME)
    assert found.log_norm[0, 1] == pytest.approx(math.log(3) + math.log(6) / 2, abs=SAME)


def test_zeros_are_minus_infinity_and_overflows_are_nan() -> None:
    def dies(x: Any, h: Any) -> Any:
        return h * (x > 0)

    x = torch.ones(9, 1, 6, dtype=torch.float64)
    x[5] = 0
    for every, dead in ((1, 5), (3, 1)):
        found = walk(of_cell(dies), x, random(1, 6), reads(1.0), [9, 2], every)
        assert np.isneginf(found.log_norm[0]).tolist() == [
            lag * every >= 4 for lag in range(len(found.lags))
        ]
        assert np.isfinite(found.log_norm[1, 0])
        assert np.isneginf(found.log_norm[0]).sum() >= dead

    def bursts(x: Any, h: Any) -> Any:
        return h * 1e200 * 1e200

    zeros = torch.zeros(1, 6, dtype=torch.float64)
    found = walk(of_cell(bursts), x, zeros, reads(1.0), [9])
    assert np.isnan(found.log_norm[0]).tolist() == [False] + 9 * [True]


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


# Refusals.


def refused(*given: Any, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        walk(*given, **options)
    return str(error.value)


def test_wrong_lengths_and_chunks_are_refused() -> None:
    net, x = recurrent("gru"), random(20, 1, 3)
    given = (known(net, x), x, None, reads(1.0))
    for lengths in ([], [0], [21], [5, 5], [2.0], [True]):
        assert refused(*given, lengths).startswith("lengths: ")
    for every in (0, 1.5, True):
        assert refused(*given, [20], every).startswith("every: ")
    said = refused(*given, [20], 5, rules.parse("step-norm:1"))
    assert said == "every: 5 is not allowed; 1 beside clip step-norm:1, which acts at every step"
    assert walk(*given, [20], 5, rules.parse("value:1")).fired.tolist() == [0]


def test_what_answers_otherwise_at_a_second_call_is_refused() -> None:
    x = random(20, 1, 3)
    net = recurrent("lstm", 2, dropout=0.5)
    said = refused(known(net, x), x, None, reads(1.0), [20])
    assert said.startswith("module: 'another state at its second call' is not allowed; equal calls")
    probed(net.eval(), x, 1.0, [20])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x, h: h, "module: 'an answer of type Tensor' is not allowed"),
        (
            lambda x, h: (h[None].repeat(len(x) + 1, 1, 1), h),
            "module: 'an output of shape (2, 1, 6",
        ),
        (lambda x, h: (h, h, h), "module: 'an answer of type tuple' is not allowed"),
    ],
)
def test_modules_of_another_form_are_refused(answer: Any, said: str) -> None:
    given = random(5, 1, 6), random(1, 6), reads(1.0), [5], 5
    assert refused(of_module(answer), *given).startswith(said)


def test_cells_and_states_of_another_form_are_refused() -> None:
    x, h = random(5, 1, 6), random(1, 6)
    cell = of_cell(lambda x, h: h)

    def said(state: Any, steps: Steps = cell, **options: Any) -> str:
        return refused(steps, x, state, reads(1.0), [5], **options)

    assert said(h, of_cell(lambda x, h: (h, h, h))).startswith("cell: 'an answer of type tuple'")
    assert said(None).startswith("state: None is not allowed; a cell of one's own needs")
    assert said([object()]).startswith("state: 'object' is not allowed; tensors are needed")
    assert said(h + 0j).startswith("state: 'complex128' is not allowed; a real state")
    assert said((h, h.float())).startswith("state: 'float32, float64' is not allowed; one dtype")
    assert said(h.half()).startswith("state: 'float16' is not allowed")
    assert said(torch.tensor(3)).startswith("state: 'nothing' is not allowed")


def test_a_rule_that_cannot_tell_sequences_apart_is_refused() -> None:
    x, h = random(5, 6, 6), random(6, 6)
    rule = rules.parse("step-norm:1")
    said = refused(of_cell(lambda x, h: h), x, h, reads(1.0), [5], rule=rule)
    assert said.startswith("clip: 'step-norm:1' is not allowed; it acts on each sequence, and a st")
    walk(of_cell(lambda x, h: h), x[:, :2], h[:2], reads(1.0), [5], rule=rule)


def test_a_loss_is_one_number() -> None:
    net, x = recurrent("gru"), random(5, 1, 3)
    said = refused(known(net, x), x, None, lambda y: y, [5])
    assert said.startswith("loss: ")
    assert said.endswith("it must return one number, a tensor")


def test_a_module_of_ones_own_may_begin_without_a_state() -> None:
    net, x, readout = recurrent("lstm"), random(30, 2, 3), random(6)
    found = walk(of_module(net), x, None, reads(readout), [30])
    close(found.log_norm[0, :-1], probed(net, x, readout, [30]).log_norm[0, :-1], 0)
    assert np.isnan(found.log_norm[0, -1])  # the state that it began with is not known
