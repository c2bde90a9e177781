"""Networks of one's own in `seqlab.probe`: language models, modules around others, and cells."""

from typing import Any

import numpy as np
import pytest
from probing import NEAR, RULES, SAME, close, random, recurrent, same
from probing import seeded as seeded  # it acts on every test

import seqlab
from seqlab.errors import InputError

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `peers`)")
nn = torch.nn


class Words(nn.Module):
    """A language model as PyTorch's example word_language_model has it: with `flat`, a row for
    every step and sequence."""

    def __init__(self, flat: bool, batch_first: bool) -> None:
        super().__init__()
        self.flat = flat
        self.embedding = nn.Embedding(11, 3, dtype=torch.float64)
        self.rnn = recurrent("lstm", 2, batch_first=batch_first)
        self.decoder = nn.Linear(6, 11, dtype=torch.float64)

    def forward(self, tokens: Any, state: Any = None) -> Any:
        y, state = self.rnn(self.embedding(tokens), state)
        y = torch.log_softmax(self.decoder(y), -1)
        return y.reshape(-1, 11) if self.flat else y, state


@pytest.mark.parametrize(
    ("flat", "batch_first"), [(False, False), (False, True), (True, False), (True, True)]
)
def test_a_language_model_is_what_is_in_it(flat: bool, batch_first: bool) -> None:
    net, tokens, readout = Words(flat, batch_first), torch.randint(11, (15, 3)), random(11)
    given = tokens.T if batch_first else tokens
    wanted = seqlab.probe(
        net.rnn,
        net.embedding(given).detach(),
        loss=lambda h: (torch.log_softmax(net.decoder(h), -1) * readout).sum(),
        lengths=[15, 4],
    )
    zeros = tuple(torch.zeros(2, 3, 6, dtype=torch.float64) for _ in "hc")
    for state in (None, zeros):
        same(seqlab.probe(net, given, state, readout=readout, lengths=[15, 4]), wanted, NEAR)
        chunks = seqlab.probe(net, given, state, readout=readout, lengths=[15], every=5)
        close(chunks.log_norm[0, 0], wanted.log_norm[0, 0, ::5], NEAR)


@pytest.mark.parametrize("rule", RULES[2:])
def test_rules_act_on_each_sequence_of_tokens(rule: str) -> None:
    net, tokens, readout = Words(False, False), torch.randint(11, (15, 3)), random(11)
    together = seqlab.probe(net, tokens, readout=readout, clip=rule)
    alone = [seqlab.probe(net, tokens[:, b : b + 1], readout=readout, clip=rule) for b in range(3)]
    with np.errstate(invalid="ignore"):
        squares = np.logaddexp.reduce([2 * one.log_norm[0, 0] for one in alone])
    close(together.log_norm[0, 0], squares / 2, NEAR)
    close(together.fired, np.mean([one.fired for one in alone], axis=0), SAME)
    assert 0 < together.fired[0, 0] <= 1


def test_one_sequence_of_tokens_has_no_axis_of_sequences() -> None:
    net, tokens = Words(False, True), torch.randint(11, (15,))
    alone = seqlab.probe(net, tokens)
    assert alone.lags[-1] == 15
    close(alone.log_norm, seqlab.probe(net, tokens[None]).log_norm, NEAR)


def test_time_is_where_the_modules_within_have_it() -> None:
    """A batch of whole sequences taken for time would give some other curve without a word."""

    class Around(nn.Module):
        def __init__(self, *firsts: bool) -> None:
            super().__init__()
            self.rnns = nn.ModuleList(
                nn.GRU(6, 6, batch_first=first, dtype=torch.float64) for first in firsts
            )

        def forward(self, x: Any, state: Any = None) -> Any:
            return self.rnns[0](x, state)

    net, x = Around(True, True), random(4, 25, 6)
    found = seqlab.probe(net, x)
    assert found.lags[-1] == 25
    close(found.log_norm, seqlab.probe(net.rnns[0], x).log_norm, NEAR)
    by_input = seqlab.probe(net, x, wrt="input")
    assert by_input.lags[-1] == 24
    assert not by_input.underflow.any()
    odd = Around(True, False)
    with pytest.raises(InputError, match=r"^time: None is not allowed; 0 or 1 is needed"):
        seqlab.probe(odd, x)
    close(seqlab.probe(odd, x, time=1).log_norm, seqlab.probe(odd.rnns[0], x).log_norm, NEAR)


def test_a_cell_of_ones_own_has_its_time_anywhere() -> None:
    w, readout, state = random(6, 6) / 3, random(4), random(2, 6)
    v = random(6, 4)

    def cell(x: Any, h: Any) -> Any:
        return torch.tanh(h @ w + x)

    def contract(x: Any, h: Any) -> Any:  # `_, h = f(x, h)`
        h = cell(x, h)
        return h @ v, h

    x = random(30, 2, 6)
    options: dict[str, Any] = {"clip": "step-norm:0.2", "lengths": [30, 12]}
    wanted = seqlab.probe(cell, x, state, readout=v @ readout, **options)
    same(seqlab.probe(contract, x, state, readout=readout, **options), wanted, NEAR)
    for time in (1, 2):
        moved = x.movedim(0, time)
        same(seqlab.probe(cell, moved, state, readout=v @ readout, time=time, **options), wanted, 0)
    assert 0 < wanted.fired.min() <= wanted.fired.max() <= 1


class Begins(nn.Module):
    """It makes its first state itself."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.full((1, 1, 6), value, dtype=torch.float64))
        self.gru = nn.GRU(3, 6, dtype=torch.float64)

    def forward(self, x: Any, state: Any = None) -> Any:
        if state is None:
            state = self.first.expand(1, x.shape[1], 6).contiguous()
        return self.gru(x, state)


def test_a_first_state_that_a_network_makes_itself_is_zero_or_refused() -> None:
    x = random(20, 2, 3)
    zero = Begins(0.0)
    close(seqlab.probe(zero, x).log_norm, seqlab.probe(zero.gru, x).log_norm, NEAR)
    for net in (Begins(0.5), [zero, Begins(0.5)]):
        with pytest.raises(InputError, match=r"^state: None is not allowed; Begins does not start"):
            seqlab.probe(net, x)

    def greets(x: Any, state: Any) -> Any:  # with another output, not another state
        y, after = zero.gru(x, state)
        return (y + 1 if state is None else y), after

    with pytest.raises(InputError, match=r"^state: None is not allowed; greets does not start"):
        seqlab.probe(greets, x)


def test_whole_numbers_and_nothing_may_be_in_a_state() -> None:
    def cell(x: Any, state: Any) -> Any:
        nothing, h, count = state
        return nothing, torch.tanh(h / 2 + x), count + 1

    x, h = random(20, 2, 6), random(2, 6)
    state = torch.zeros(2, 0, dtype=torch.float64), h, torch.tensor(0)
    found = seqlab.probe(lambda x, s: (cell(x, s)[1], cell(x, s)), x, state, every=4)
    wanted = seqlab.probe(lambda x, h: torch.tanh(h / 2 + x), x, h, every=4)
    assert list(found.parts) == ["state[1]"]
    close(found.log_norm, wanted.log_norm, SAME)
