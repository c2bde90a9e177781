"""A probe leaves everything as it was: modes, gradients, inputs, modules; it holds few states."""

import gc
import math
import weakref
from typing import Any

import numpy as np
import pytest
from probing import NEAR, SAME, ZEROS, X, lstm, random, routes
from probing import seeded as seeded  # it acts on every test
from surroundings import surroundings

import seqlab
from seqlab.probes import trail as trail_module
from seqlab.probes.trail import Trail

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `peers`)")
nn = torch.nn


@pytest.mark.parametrize("route", routes())
@pytest.mark.parametrize("grad", [True, False])
def test_progress_rises_and_interrupts_leave_no_trace(route: str, grad: bool) -> None:
    net, probe = routes()[route]()
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    seen: list[float] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.set_grad_enabled(grad):
            before = surroundings(net)
            plain = probe()
            found = probe(progress=lambda fraction, what: seen.append(fraction))
            assert found.log_norm.tobytes() == plain.log_norm.tobytes()
            assert np.isfinite(found.log_norm[0, 0, 0])
            assert surroundings(net) == before
            assert seen == sorted(seen)
            assert seen[0] > 0
            assert seen[-1] == 1
            for at in sorted({0, len(seen) // 2, len(seen) - 1}):
                calls: list[str] = []

                def stop(fraction: float, what: str, at: int = at, calls: Any = calls) -> None:
                    calls.append(what)
                    if len(calls) > at:
                        raise KeyboardInterrupt

                with pytest.raises(KeyboardInterrupt):
                    probe(progress=stop)
                assert surroundings(net) == before
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_users_modes_change_no_number(layers: int) -> None:
    net = lstm(layers)
    options: dict[str, Any] = {"loss": lambda y: (y**3).sum(), "lengths": [20, 6]}
    wanted = seqlab.probe(net, X, **options).log_norm
    assert np.isfinite(wanted[0, 0]).all()
    with torch.no_grad():
        assert seqlab.probe(net, X, **options).log_norm.tobytes() == wanted.tobytes()
    with torch.inference_mode():
        made = X + 0
        assert seqlab.probe(net, made, **options).log_norm.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("wrt", ["state", "input"])
def test_tensors_that_ask_for_gradients_get_none(layers: int, wrt: str) -> None:
    net, x, readout = lstm(layers), X.clone().requires_grad_(), random(6).requires_grad_()
    state = None
    if wrt == "state":
        state = tuple(torch.zeros(layers, 2, 6, dtype=torch.float64).requires_grad_() for _ in "hc")
    for given in (x, x * 1.0):  # a leaf and what has a history
        seqlab.probe(net, given, state, readout=readout, wrt=wrt)
        assert given.requires_grad
    assert x.grad is None
    assert readout.grad is None
    assert all(part.grad is None and part.requires_grad for part in state or ())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_an_input_that_a_network_changes_in_place_stays() -> None:
    class Clips(nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.by, self.rnn = by, lstm(2)

        def forward(self, x: Any, state: Any = None) -> Any:
            return self.rnn(x.add_(self.by), state)

    def cell(x: Any, h: Any) -> Any:
        return torch.tanh(h + x.mul_(2))

    net, x = Clips(1.0), X.clone()
    found = seqlab.probe(net, x)
    assert torch.equal(x, X)
    wanted = seqlab.probe(net.rnn, X + 1)
    np.testing.assert_allclose(found.log_norm, wanted.log_norm, rtol=0, atol=SAME)
    by_cell = seqlab.probe(cell, x, ZEROS[0, :, :3])
    assert torch.equal(x, X)
    apart = seqlab.probe(lambda x, h: torch.tanh(h + 2 * x), x, ZEROS[0, :, :3])
    np.testing.assert_allclose(by_cell.log_norm, apart.log_norm, rtol=0, atol=SAME)


class Positions(nn.Module):
    """It holds a plain tensor, which `.to` does not know, and a weight that it has computed."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.randn(20, 1, 3)
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 3, padding=1))
        self.rnn = nn.utils.parametrizations.weight_norm(nn.GRU(4, 5), "weight_hh_l0")

    def forward(self, x: Any) -> Any:
        x = torch.stack([x_t + place for x_t, place in zip(x, self.table, strict=False)])
        return self.rnn(self.conv(x.movedim(0, 2)).movedim(2, 0))


def test_what_a_module_holds_besides_parameters_is_copied_too() -> None:
    net, x = Positions(), X.float()
    net(x)
    double = seqlab.probe(net, x, wrt="input")
    single = seqlab.probe(net, x, wrt="input", dtype="float32")
    assert (double.dtype, net.table.dtype) == ("float64", torch.float32)
    # 20 steps of float32's 6e-8, each with some tens of roundings.
    np.testing.assert_allclose(double.log_norm, single.log_norm, rtol=0, atol=20 * 50 * 6e-8)
    assert not np.array_equal(double.log_norm, single.log_norm)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
def test_weight_norm_by_hooks_is_copied_too() -> None:
    net = nn.utils.weight_norm(lstm(), "weight_hh_l0")
    net(X)
    found = seqlab.probe(net, X)
    plain = lstm()
    names = [name for name, _ in plain.named_parameters()]
    plain.load_state_dict({name: getattr(net, name).detach() for name in names})
    np.testing.assert_allclose(found.log_norm, seqlab.probe(plain, X).log_norm, rtol=0, atol=NEAR)
    single = seqlab.probe(net, X, dtype="float32")
    np.testing.assert_allclose(single.log_norm, found.log_norm, rtol=0, atol=20 * 50 * 6e-8)
    drawn = seqlab.probe(
        net, X, networks=2, reset=lambda one: [p.data.normal_() for p in one.parameters()]
    )
    assert len(drawn.log_norm) == 2


# Memory.


def test_states_of_a_hundred_thousand_steps_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """About two square roots of them at a time, whoever holds them."""
    monkeypatch.setattr(trail_module, "_ROOM", 0)
    steps, alive, most = 100_000, weakref.WeakSet(), 0
    keep = trail_module.kept

    class Held:
        pass

    def forward(begin: int, end: int, state: Any, first_time: bool = True) -> Any:
        return {"t": state["t"] + 1.0}

    def kept(state: Any) -> Any:
        copied = keep(state)
        alive.add(copied["t"])
        return copied

    monkeypatch.setattr(trail_module, "kept", kept)
    gc.collect()
    trail = Trail(forward, range(steps + 1), {"t": torch.zeros(1)})
    assert int(trail.run()["t"]) == steps
    for t in range(steps - 1, -1, -1):
        assert int(trail.at(t)["t"]) == t
        if t % 1000 == 0:
            most = max(most, len(alive))
    assert 0 < most <= 2 * math.isqrt(steps) + 4


def test_a_probe_lets_go_of_its_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail_module, "_ROOM", 0)
    alive, counts = weakref.WeakSet(), []

    class Cell(nn.Module):
        def forward(self, x: Any, h: Any) -> Any:
            h = torch.tanh(h / 2 + x)
            alive.add(h)
            counts.append(len(alive))
            return h

    seqlab.probe(Cell(), random(900, 1, 3), ZEROS[0, :1, :3])
    assert max(counts) < 30  # of steps that run; what is kept is a copy, which `Trail` counts
