"""Outputs and states of every form on the way by steps, and what is refused there."""

import math
from typing import Any

import numpy as np
import pytest
from probing import SAME, Custom, close, known, probed, random, reads, recurrent
from probing import seeded as seeded  # it acts on every test

from seqlab import rules
from seqlab.errors import InputError
from seqlab.probes import trail as trail_module
from seqlab.probes.callables import Steps, of_cell, of_module
from seqlab.probes.states import rescaled
from seqlab.probes.steps import walk

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `torch`)")
nn = torch.nn


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
