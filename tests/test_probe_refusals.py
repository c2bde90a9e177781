"""What no probe can answer is refused in one line, and an interrupted probe leaves no trace."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from surroundings import surroundings

import seqlab
from seqlab.errors import InputError
from seqlab.probes.callables import of_cell, of_module, of_pytorch
from seqlab.probes.refusals import check
from seqlab.probes.steps import walk

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `torch`)")
nn = torch.nn

X = torch.ones(5, 2, 3)
CLASSES = {"state": "state", "input": "input", "layers": "layers", "names": ["0"]}


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        yield


def refused(net: Any, x: Any = X, state: Any = None, wrt: Any = "state", time: Any = 0) -> str:
    before = surroundings(net) if isinstance(net, nn.Module) else None
    with pytest.raises(InputError) as error:
        check(net, x, state, wrt, time)
    assert before is None or surroundings(net) == before
    assert "\n" not in str(error.value)
    return str(error.value)


# Modules in training mode.


class Inner(nn.Module):
    """A module within another, as a user has it."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.part = part

    def encode(self, x: Any) -> Any:
        return self.part(x)


def spectral(old: bool) -> Any:
    norms = nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm
    return norms[not old](nn.Linear(3, 3))


IN_TRAINING = {
    "dropout 0.5": [
        ("net", lambda: nn.Dropout(0.5)),
        ("net", lambda: nn.AlphaDropout(0.5)),
        ("net.0", lambda: nn.Sequential(nn.Dropout1d(0.5))),
        ("net", lambda: nn.LSTM(3, 4, 2, dropout=0.5)),
        ("net", lambda: nn.MultiheadAttention(4, 2, dropout=0.5)),
        ("net.layers.0.self_attn", lambda: encoder(0.5)),
        ("net.part", lambda: Inner(nn.GRU(3, 4, 2, dropout=0.5))),
    ],
    "batch norm": [
        ("net", lambda: nn.BatchNorm1d(3)),
        ("net", lambda: nn.SyncBatchNorm(3)),
        ("net.part.1", lambda: Inner(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm2d(3)))),
    ],
    "instance norm with running statistics": [
        ("net", lambda: nn.InstanceNorm1d(3, track_running_stats=True)),
    ],
    "spectral norm": [
        ("net", lambda: spectral(old=True)),
        ("net.parametrizations.weight.0", lambda: spectral(old=False)),
    ],
}


def encoder(dropout: float) -> Any:
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


@pytest.mark.parametrize("wrt", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize(
    ("what", "place", "make"),
    [(what, *case) for what, cases in IN_TRAINING.items() for case in cases],
)
def test_what_changes_in_training_mode_is_refused_there(
    what: str, place: str, make: Callable, wrt: Any
) -> None:
    net = make()
    said = refused(net, wrt=wrt)
    assert said.startswith(f"{place}: '{what} in training mode' is not allowed; ")
    assert "net.eval()" in said
    check(net.eval(), X, None, wrt, 0)


def test_what_answers_alike_in_training_mode_is_taken() -> None:
    for net in (
        nn.Dropout(0.0),
        nn.LSTM(3, 4, 2),
        nn.InstanceNorm1d(3),
        nn.LayerNorm(3),
        encoder(0.0),
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
        nn.LSTM(3, 4, proj_size=2),
    ):
        for wrt in CLASSES.values():
            check(net, X, None, wrt, 0)


def test_dropout_that_nothing_comes_after_is_taken() -> None:
    with pytest.warns(UserWarning, match="num_layers greater than 1"):  # PyTorch's own
        net = nn.LSTM(3, 4, dropout=0.5)
    check(net, X, None, "state", 0)


def test_the_mode_is_each_modules_own() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3)).train()
    net[1].eval()
    assert refused(net).startswith("net.2: 'batch norm in training mode'")


def test_a_modules_method_is_its_module() -> None:
    net = Inner(nn.Dropout(0.5))
    assert refused(net.encode).startswith("net.part: 'dropout 0.5 in training mode'")
    check(lambda x: net.encode(x), X, None, "input", 0)  # is not looked into
    check(torch.tanh, X, None, "input", 0)
    check(partial(torch.add, 1), X, None, "input", 0)


# Directions, inputs, states and devices.


def test_a_bidirectional_state_is_refused() -> None:
    for place, net in (
        ("net", nn.LSTM(3, 4, bidirectional=True)),
        ("net.part", Inner(nn.GRU(3, 4, bidirectional=True).eval())),
    ):
        said = refused(net)
        assert said.startswith(f"{place}: 'bidirectional' is not allowed; ")
        assert said.endswith("wrt='input'")
        for wrt in ("input", "layers", ["part"]):
            check(net, X, None, wrt, 0)


def test_sequences_of_several_lengths_are_refused() -> None:
    packed = nn.utils.rnn.pack_padded_sequence(X, torch.tensor([5, 3]))
    rows = [torch.ones(5, 3), torch.ones(3, 3)]
    nested = torch.nested.nested_tensor(rows, layout=torch.jagged)
    for x, name in ((packed, "PackedSequence"), (nested, "NestedTensor")):
        said = refused(nn.LSTM(3, 4), x)
        assert said == (
            f"x: '{name}' is not allowed; one tensor is needed; probe sequences of one length at "
            "a time, unpacked"
        )


def test_they_are_refused_where_sequences_come_first() -> None:
    packed = nn.utils.rnn.pack_padded_sequence(X, torch.tensor([5, 3]))
    with pytest.raises(InputError, match=r"^x: 'PackedSequence' is not allowed"):
        seqlab.probe(nn.LSTM(3, 4, batch_first=True), packed)


class Around(nn.Module):
    """One that hands its input on, and does not itself say in which layout it is."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 4, 2, batch_first=True)

    def forward(self, x: Any, state: Any = None) -> Any:
        return self.rnn(x, state)


@pytest.mark.parametrize("wrt", ["state", "input"])
def test_the_layout_of_the_modules_within_is_taken(wrt: str) -> None:
    net, x = Around(), torch.rand(2, 9, 3)
    for probed, options in ((net, {}), (net, {"time": 1}), (net.forward, {})):
        found = seqlab.probe(probed, x, wrt=wrt, **options).log_norm
        alone = seqlab.probe(net.rnn, x, wrt=wrt).log_norm
        # One may go by autograd and the other by kernels: each of 9 steps rounds some 20 times.
        assert np.allclose(found, alone, rtol=0, atol=9 * 20 * 2.0**-24, equal_nan=True)
    net.batch_first = True
    assert np.array_equal(seqlab.probe(net, x, wrt=wrt).log_norm, found)
    assert seqlab.probe(Around(), x[0], wrt="input").lengths == [9]  # one sequence has one layout


def test_other_inputs_are_refused() -> None:
    net = nn.LSTM(3, 4)
    for x, name in ((X.numpy(), "ndarray"), ([X], "list"), (None, "NoneType")):
        assert refused(net, x) == f"x: '{name}' is not allowed; a PyTorch tensor is needed"
    said = "x: 'complex64' is not allowed; real numbers are needed"
    assert refused(net, X + 0j) == said
    for shape in ((0, 2, 3), (5, 0, 3), (5, 2, 0)):
        assert refused(net, torch.ones(shape)).startswith(f"x: {shape} is not allowed; at least")
    assert refused(net, X[0], time=2) == "x: (2, 3) is not allowed; axis 2 must be its axis of time"
    check(net, X[0, 0], None, "layers", None)


def test_whole_numbers_have_no_gradient() -> None:
    net, x = nn.Embedding(4, 3), torch.ones(5, 2, dtype=torch.int64)
    said = refused(net, x, wrt="input")
    assert said.startswith(
        "x: 'int64' is not allowed; whole numbers have no gradient; of embeddings"
    )
    assert refused(net, x > 0, wrt="input").startswith("x: 'bool' is not allowed")
    for wrt in ("state", "layers", ["0"]):
        check(net, x, None, wrt, 0)


def test_states_of_another_form_are_refused() -> None:
    net, h = nn.LSTM(3, 4), torch.ones(1, 2, 4)
    assert refused(net, X, object()).startswith("state: 'object' is not allowed; tensors are nee")
    assert refused(net, X, (h, [{"c": {1}}])).startswith("state: 'set' is not allowed; tensors are")
    said = refused(net, X, (h, h + 0j))
    assert said == "state[1]: 'complex64' is not allowed; a real state is needed"
    assert refused(net, X, (h, h.double())).startswith("state: 'float32, float64' is not allowed")
    assert refused(net, X, (h, h.to("meta"))).startswith("state: 'cpu, meta' is not allowed; one d")
    assert refused(net, X, [3]).startswith("state: 'nothing' is not allowed")
    check(net, X, (h, h), "state", 0)


def test_several_devices_are_refused() -> None:
    h = torch.ones(1, 2, 4)
    said = "devices: '{}' is not allowed; one device is needed: net.to(device), x.to(device)"
    net = nn.LSTM(3, 4)
    assert refused(net, X.to("meta")) == said.format("parameters: cpu; x: meta")
    assert refused(net, X, h.to("meta")) == said.format("parameters: cpu; x: cpu; state: meta")
    split = nn.Sequential(net, nn.Linear(4, 3, device="meta"))
    with pytest.raises(InputError) as error:
        check(split, X, None, "layers", 0)
    assert str(error.value) == said.format("parameters: cpu, meta; x: cpu")
    with pytest.raises(InputError) as error:
        check(lambda x: x, X.to("meta"), h.to("meta"), "state", 0)
    assert (
        str(error.value) == "devices: 'meta' is not allowed; a device that holds numbers is needed"
    )


def test_what_a_gradient_is_asked_for_is_one_of_four() -> None:
    said = refused(nn.LSTM(3, 4), wrt="inputs")
    assert said == (
        "wrt: 'inputs' is not allowed; state, input, layers or a list of names of submodules is "
        "needed"
    )


# What the walk leaves as it was where a user's own code fails (of inputs see their own tests).


class Interrupted(BaseException):
    pass


class Fails(nn.Module):
    """A module around another, whose n-th call fails, forward or on the way back."""

    def __init__(self, at: int, back: bool) -> None:
        super().__init__()
        self.at, self.back, self.calls = at, back, 0
        self.lstm = nn.LSTM(3, 4, 2).double()

    def fail(self, gradient: Any = None) -> Any:
        raise Interrupted

    def forward(self, x: Any, state: Any = None) -> Any:
        self.calls += 1
        torch.rand(2)
        y, state = self.lstm(x, state)
        if self.calls == self.at:
            if not self.back:
                self.fail()
            y.register_hook(self.fail)
        return y, state


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("at", "back"), [(1, False), (3, False), (7, False), (11, False), (15, False), (14, True)]
)
def test_a_walk_that_fails_in_a_users_code_leaves_no_trace(
    at: int, back: bool, training: bool
) -> None:
    """Five calls try one step and three try two; of 25 in fives five more go forward, and the next
    goes back, with a loss."""
    net, x = Fails(at, back).train(training), torch.randn(25, 2, 3, dtype=torch.float64)
    x.requires_grad_()
    for p in net.lstm.parameters():
        p.grad = torch.ones_like(p)
    net.lstm.weight_hh_l0.requires_grad_(False)
    net.lstm.register_forward_hook(lambda *given: None)
    zeros = torch.zeros(2, 2, 4, dtype=torch.float64)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    before = surroundings(net)
    with pytest.raises(Interrupted), torch.no_grad():
        walk(of_module(net), x, (zeros, zeros), lambda y: y.sum(), [25, 10], 5)
    assert net.calls == at
    assert surroundings(net) == before
    torch.set_num_threads(threads)
    assert (x.requires_grad, x.grad, zeros.requires_grad) == (True, None, False)


def test_a_walk_that_refuses_leaves_no_trace() -> None:
    net, x = nn.LSTM(3, 4, 2, dropout=0.5), torch.randn(9, 2, 3)
    before = surroundings(net)
    steps = of_pytorch(net, x)
    assert steps is not None
    with pytest.raises(InputError):
        walk(steps, x, None, lambda y: y.sum(), [9])
    with pytest.raises(InputError):
        walk(of_cell(net), x, None, lambda y: y.sum(), [9])
    assert surroundings(net) == before
