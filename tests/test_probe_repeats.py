"""What is no function of its input and state alone is refused before it is measured."""

from typing import Any

import numpy as np
import pytest

import seqlab
from seqlab.errors import InputError
from seqlab.probes.callables import of_cell, of_module
from seqlab.probes.steps import walk

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `torch`)")
nn = torch.nn

KEEPS = "module: 'another {} at its second call' is not allowed; equal calls must answer alike"
PAST = "module: 'an answer without a gradient of its state' is not allowed; the state must reach"


def zeros(*shape: int) -> Any:
    return torch.zeros(*shape, dtype=torch.float64)


def cell() -> Any:
    """At rest where input and state are zero."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.GRUCell(3, 6, bias=False).double()


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = cell()


def curve(net: Any, x: Any, h: Any) -> Any:
    return walk(of_cell(net), x, h, lambda y: y.sum(), [len(x)])


def refused(net: Any, x: Any, h: Any) -> str:
    with pytest.raises(InputError) as error:
        curve(net, x, h)
    return str(error.value)


class KeepsItsState(Cell):
    """Asks its first caller, and then itself."""

    h: Any = None

    def forward(self, x: Any, h: Any) -> Any:
        self.h = self.cell(x, h if self.h is None else self.h)
        return self.h


class KeepsItBeside(Cell):
    """The state that it returns is of no use."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("h", zeros(2, 6))

    def forward(self, x: Any, h: Any) -> Any:
        self.h.copy_(self.cell(x, self.h).detach())
        return self.h.clone(), h


class KeepsItsCell(nn.Module):
    """An LSTM's hidden state is outside, its cell state within."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.c = nn.LSTMCell(3, 6, dtype=torch.float64), zeros(2, 6)

    def forward(self, x: Any, h: Any) -> Any:
        h, c = self.cell(x, (h, self.c))
        self.c[:] = c.detach()
        return h


@pytest.mark.parametrize("rest", [True, False])
@pytest.mark.parametrize(
    ("kind", "what"), [(KeepsItsState, "state"), (KeepsItBeside, "output"), (KeepsItsCell, "state")]
)
def test_what_keeps_its_state_in_itself_is_refused(kind: Any, what: str, rest: bool) -> None:
    """At rest as well, where every call gives the same answer."""
    fill = 0.0 if rest else 0.3
    said = refused(kind(), zeros(9, 2, 3) + fill, zeros(2, 6) + fill)
    assert said.startswith(KEEPS.format(what))
    assert "\n" not in said


def test_a_cache_that_holds_a_copy_of_the_state_is_refused() -> None:
    """Equal calls answer alike, and the state's path is cut."""

    class Copies(Cell):
        def forward(self, x: Any, h: Any) -> Any:
            self.h = h.detach().clone()
            return self.cell(x, self.h)

    class Ungraded(Cell):
        @torch.no_grad()
        def forward(self, x: Any, h: Any) -> Any:
            return self.cell(x, h)

    for kind in (Copies, Ungraded):
        assert refused(kind(), zeros(9, 2, 3), zeros(2, 6)).startswith(PAST)


def test_running_statistics_are_refused_in_training() -> None:
    class Normed(Cell):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(6, dtype=torch.float64)

        def forward(self, x: Any, h: Any) -> Any:
            return self.norm(self.cell(x, h))

    net, x = Normed(), torch.linspace(-1, 1, 54, dtype=torch.float64).view(9, 2, 3)
    said = refused(net, x, zeros(2, 6))
    assert said.startswith("module: 'a buffer num_batches_tracked that changes at every call'")
    assert np.isfinite(curve(net.eval(), x, zeros(2, 6)).log_norm).all()


def test_what_is_only_written_down_is_no_state() -> None:
    """Nor is a table that the first call makes."""

    class Writes(Cell):
        last: Any = None
        calls = 0

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", None)

        def forward(self, x: Any, h: Any) -> Any:
            if self.table is None:
                self.table = torch.ones(6, dtype=torch.float64)
            self.last = self.cell(x, h) * self.table
            self.calls += 1
            return self.last

    net, x = Writes(), zeros(9, 2, 3) + 0.3
    np.testing.assert_array_equal(
        curve(net, x, zeros(2, 6)).log_norm, curve(net.cell, x, zeros(2, 6)).log_norm
    )


def test_what_has_no_memory_has_a_curve_of_zeros() -> None:
    """It is in order that no gradient comes back where no answer changes."""
    found = curve(lambda x, h: torch.tanh(x), zeros(9, 2, 6), zeros(2, 6))
    assert np.isneginf(found.log_norm[0, 1:]).all()


def test_a_state_of_nothing_is_refused_as_such() -> None:
    own = of_module(lambda x, state: (x, None))
    with pytest.raises(InputError, match="state: 'nothing' is not allowed"):
        walk(own, zeros(9, 2, 3), None, lambda y: y.sum(), [9])


class Looks(nn.Module):
    """Its output looks at all outputs of a call, or at its own state alone."""

    def __init__(self, look: Any) -> None:
        super().__init__()
        self.look, self.rnn = look, nn.GRU(3, 4, 2, dtype=torch.float64)

    def forward(self, x: Any, state: Any = None) -> Any:
        y, state = self.rnn(x, state)
        return self.look(y), state


def test_an_output_that_looks_at_earlier_steps_is_refused() -> None:
    """In chunks of another length it would have another curve."""
    x = torch.randn(20, 2, 3, dtype=torch.float64)
    said = "module: 'another answer to two steps at once than to one by one' is not allowed; "
    for look in (lambda y: torch.cumsum(y, 0), lambda y: y - y.mean(0)):
        with pytest.raises(InputError) as error:
            seqlab.probe(Looks(look), x)
        assert str(error.value).startswith(said)
    net = Looks(torch.tanh)
    single, chunks = seqlab.probe(net, x), seqlab.probe(net, x, every=10)
    np.testing.assert_allclose(chunks.log_norm, single.log_norm[..., ::10], rtol=0, atol=1e-12)
    one_step = seqlab.probe(Looks(lambda y: torch.cumsum(y, 0)), x[:1])
    assert np.isfinite(one_step.log_norm).all()


def test_sequences_that_are_taken_for_steps_are_refused() -> None:
    net, x = Looks(torch.tanh), torch.randn(5, 20, 3, dtype=torch.float64)
    with pytest.raises(InputError, match=r"axis 1 must be that of time \(time=\.\.\.\)"):
        seqlab.probe(net, x, time=1)
