"""Taps in a loop of one's own: the curve from one ordinary backward pass, and gradients as ever."""

import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from naive import Array

import seqlab
from seqlab.errors import InputError
from seqlab.probes.tap import tap, taps

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `torch`)")
nn = torch.nn

NEAR = 1e-10  # as in probing.py
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
DTYPES = {"float64": torch.float64, "float32": torch.float32}


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # two are slower by far where others work too
        yield
        torch.set_num_threads(threads)


def cell(dtype: Any = torch.float64) -> Any:
    """One that forgets: 411 decades in 800 steps."""
    net = nn.LSTMCell(3, 6).double()
    with torch.no_grad():
        net.bias_ih[6:12] -= 1.5
    return net.to(dtype)


def loop(net: Any, x: Any, tap: Callable[..., Any]) -> list[Any]:
    """The states of a loop, as it gave them on."""
    states = [tap(*(torch.zeros(x.shape[1], 6, dtype=x.dtype) for _ in range(2)))]
    for x_t in x:
        states.append(tap(*net(x_t, states[-1])))
    return states


def untapped(*state: Any) -> Any:
    return state


def gradients(net: Any) -> list[bytes]:
    return [p.grad.numpy().tobytes() for p in net.parameters()]


def by_kernels(net: Any, x: Any, readout: Array) -> Any:
    params = {name: getattr(net, name).detach().double().numpy() for name in NAMES}
    given = x.double().numpy(), [len(x)]
    return seqlab.attenuation("lstm", params, *given, readout=readout)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_backward_pass_has_the_curve_and_gradients_stay(dtype: str) -> None:
    net, x = cell(DTYPES[dtype]), torch.randn(800, 2, 3, dtype=DTYPES[dtype])
    loop(net, x, untapped)[-1][0].sum().backward()
    plain = gradients(net)
    net.zero_grad()
    with taps() as tapped:
        loop(net, x, tap)[-1][0].sum().backward()
    assert gradients(net) == plain
    found, wanted = tapped.walk(), by_kernels(net, x, np.ones(6))
    assert found.log_norm[0, -1] / math.log(10) < -411
    # float32: some 10 roundings of 6e-8 a step, of state and adjoint, all of one sign at worst.
    within = NEAR if dtype == "float64" else 800 * 10 * 6e-8
    whole = [found.log_norm[0], *(part[0] for part in found.parts.values())]
    for one, other in zip(
        whole, (wanted.log_norm, wanted.log_norm_hidden, wanted.log_norm_cell), strict=True
    ):
        np.testing.assert_allclose(one, other[0, 0], rtol=0, atol=within)
    assert list(found.parts) == ["state[0]", "state[1]"]
    assert found.lags.tolist() == list(range(801))


def test_ordinary_gradients_are_lost_where_taps_are_not() -> None:
    net, x = cell(), torch.randn(800, 1, 3, dtype=torch.float64)
    with taps() as tapped:
        states = loop(net, x, tap)
        start = states[0][0]
        start.retain_grad()
        states[-1][0].sum().backward()
    assert not start.grad.any()
    assert np.isfinite(tapped.walk().log_norm).all()


def test_an_adjoint_that_grows_is_carried_too() -> None:
    w = torch.eye(4, dtype=torch.float64) * 8
    h = torch.zeros(1, 4, dtype=torch.float64)
    with taps() as tapped:
        h = tap(h)
        for _ in range(500):
            h = tap(h @ w)
        h.sum().backward()
    wanted = math.log(2) + np.arange(501) * math.log(8)  # beyond 1e308 from lag 341 on
    np.testing.assert_allclose(tapped.walk().log_norm[0], wanted, rtol=0, atol=NEAR)


def test_losses_at_every_step_are_all_seen() -> None:
    net, x = cell(), torch.randn(40, 1, 3, dtype=torch.float64)
    with taps() as tapped:
        states = loop(net, x, tap)
        for state in states:
            for part in state:
                part.retain_grad()
        sum(h.square().sum() for h, _ in states).backward()
    wanted = []
    for state in reversed(states):
        found = [part.grad for part in state if part.grad is not None]
        wanted.append(math.log(math.hypot(*torch.cat(found).flatten().tolist())))
    np.testing.assert_allclose(tapped.walk().log_norm[0], wanted, rtol=0, atol=1e-12)


def test_a_loss_that_joins_where_another_has_faded_is_seen() -> None:
    net, x = cell(), torch.randn(800, 1, 3, dtype=torch.float64)
    curves = []
    for ends in ([100], [800, 100]):
        with taps() as tapped:
            states = loop(net, x, tap)
            sum(states[end][0].sum() for end in ends).backward()
        curves.append(tapped.walk().log_norm[0])
    alone, both = curves
    assert alone[700:].tobytes() == both[700:].tobytes()
    assert both[699] < math.log(2.0**-900)


def test_an_output_taken_before_its_tap_has_no_lag_0() -> None:
    net, x = cell(), torch.randn(30, 1, 3, dtype=torch.float64)
    curves = []
    for before in (True, False):
        with taps() as tapped:
            h, c = (torch.zeros(1, 6, dtype=torch.float64) for _ in range(2))
            for x_t in x:
                y, c = net(x_t, (h, c))
                h, c = tap(y, c)
            (y if before else h).sum().backward()
        curves.append(tapped.walk().log_norm[0])
    early, late = curves
    assert np.isnan(early).tolist() == [True] + 29 * [False]
    np.testing.assert_allclose(early[1:], late[1:], rtol=0, atol=1e-12)


def test_outside_and_without_gradients_a_tap_does_nothing() -> None:
    h, c = torch.ones(2, 3, requires_grad=True), torch.ones(2, 3)
    assert tap(h) is h
    given = tap(h, c)
    assert given[0] is h
    assert given[1] is c
    with taps() as tapped, torch.no_grad():
        assert tap(h) is h
    with pytest.raises(InputError, match=r"^taps: 'no backward pass' is not allowed"):
        tapped.walk()


def test_the_last_backward_pass_is_told() -> None:
    net = cell()
    with taps() as tapped:
        for steps in (20, 10):
            x = torch.randn(steps, 1, 3, dtype=torch.float64)
            loop(net, x, tap)[-1][0].sum().backward()
            first = tapped.walk()
            assert first.lengths.tolist() == [steps]
        states = loop(net, x, tap)
        assert tapped.walk() is not first
        assert tapped.walk().log_norm.tobytes() == first.log_norm.tobytes()  # nothing came since
        states[4][0].sum().backward(retain_graph=True)
        assert np.isnan(tapped.walk().log_norm[0]).sum() == 6
        states[-1][0].sum().backward()
        assert tapped.walk().log_norm.tobytes() == first.log_norm.tobytes()


def test_a_cut_in_the_graph_ends_a_chain() -> None:
    net, x = cell(), torch.randn(8, 1, 3, dtype=torch.float64)
    with taps() as tapped:
        state = loop(net, x, tap)[-1]
        state = tap(*(part.detach() for part in state))
        for x_t in x[:3]:
            state = tap(*net(x_t, state))
        state[0].sum().backward()
    assert tapped.walk().lengths.tolist() == [3]


@pytest.mark.parametrize("left", ["cell", "layer"])
def test_a_gradient_that_can_go_by_a_tap_is_refused(left: str) -> None:
    net, x = cell(), torch.randn(8, 1, 3, dtype=torch.float64)
    above = nn.LSTMCell(6, 6).double()

    def run() -> None:
        h = c = torch.zeros(1, 6, dtype=torch.float64)
        upper = h, c
        for x_t in x:
            if left == "cell":
                h, c = net(x_t, (h, c))
                h = tap(h)
            else:
                h, c = tap(*net(x_t, (h, c)))
                upper = tap(*above(h, upper))

    with taps(), pytest.raises(InputError, match=r"^tap: .* a gradient goes by them to an earlier"):
        run()


def test_what_is_no_state_is_refused() -> None:
    h = torch.ones(2, 3, requires_grad=True)
    for given in ((), (None,), (torch.tensor(1),), ((h, h),)):
        with pytest.raises(InputError, match=r"^tap: "):
            tap(*given)
    with taps(), pytest.raises(InputError, match=r"^tap: .* the same shapes as at the taps before"):
        tap(tap(h)[:1])


def test_graphs_are_let_go() -> None:
    net, x = cell(), torch.randn(5, 1, 3, dtype=torch.float64)
    with taps() as tapped:
        states = loop(net, x, tap)
        last = states[-1][0].sum()
        last.backward()
    held = weakref.ref(states[2][0])
    del states, last
    assert held() is None
    assert np.isfinite(tapped.walk().log_norm).all()


def test_a_state_that_is_changed_in_place_after_its_tap_has_the_same_curve() -> None:
    weights = torch.randn(4, 4, dtype=torch.float64) * 1e-60  # past the dtype's range in 6 steps

    def curve(change: Callable[[Any], Any]) -> Array:
        with taps() as tapped:
            h = tap(torch.ones(1, 4, dtype=torch.float64))
            for _ in range(10):
                h = tap(change(h) @ weights)
            h.sum().backward()
        return tapped.walk().log_norm[0]

    in_place, apart = curve(lambda h: h.mul_(0.5)), curve(lambda h: h * 0.5)
    assert apart[-1] < -1900 * math.log(2)
    assert in_place.tobytes() == apart.tobytes()
