"""The naive selective scan, entry by entry and against complex steps."""

import itertools
import math
from typing import Any

import naive
import naive_scan
import numpy as np
import pytest
from naive import Params
from naive_runs import assert_close, complex_step, draw_run


def draw_scan(given: tuple[str, ...]) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    batch, channels, n, length = 2, 3, 2, 4
    shapes: dict[str, tuple[int, ...]] = {
        "u": (batch, channels, length),
        "delta": (batch, channels, length),
        "A": (channels, n),
        "B": (batch, n, length),
        "C": (batch, n, length),
        "D": (channels,),
        "z": (batch, channels, length),
        "delta_bias": (channels,),
        "initial_state": (batch, channels, n),
    }
    arrays: dict[str, Any] = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    arrays["A"] = -np.exp(arrays["A"])
    kept = {k: v for k, v in arrays.items() if k not in CHOICES or k in given}
    return kept | {"delta_softplus": "delta_softplus" in given}


CHOICES = ("D", "z", "delta_bias", "initial_state", "delta_softplus")
OPTIONS = [given for count in range(6) for given in itertools.combinations(CHOICES, count)]


@pytest.mark.parametrize("given", OPTIONS)
def test_selective_scan_entry_by_entry(given: tuple[str, ...]) -> None:
    """The recurrence of Gu & Dao 2023 with the options of its published layer, in scalars."""
    a = draw_scan(given)
    want = np.empty_like(a["u"])
    for b, d in np.ndindex(a["u"].shape[:2]):
        state = [*a["initial_state"][b, d]] if "initial_state" in given else [0.0] * 2
        for t in range(a["u"].shape[2]):
            step = a["delta"][b, d, t] + (a["delta_bias"][d] if "delta_bias" in given else 0)
            if a["delta_softplus"]:
                step = math.log(1 + math.exp(step))
            u = a["u"][b, d, t]
            y = a["D"][d] * u if "D" in given else 0.0
            for n in range(len(state)):
                state[n] = math.exp(step * a["A"][d, n]) * state[n] + step * a["B"][b, n, t] * u
                y += a["C"][b, n, t] * state[n]
            z = a["z"][b, d, t] if "z" in given else None
            want[b, d, t] = y if z is None else y * z / (1 + math.exp(-z))
    assert_close(naive_scan.selective_scan(**a), want)


@pytest.mark.parametrize("given", OPTIONS)
def test_selective_scan_backward_is_the_complex_step(given: tuple[str, ...]) -> None:
    arrays = draw_scan(given)
    gy = np.random.default_rng(6).normal(size=arrays["u"].shape)
    softplus = arrays.pop("delta_softplus")
    have = naive_scan.selective_scan_backward(gy, **arrays, delta_softplus=softplus)
    assert set(have) == {"u", "delta", "A", "B", "C", *CHOICES} - {"delta_softplus"}
    assert {name for name, gradient in have.items() if gradient is not None} == arrays.keys()

    def loss(a: Params) -> Any:
        return (gy * naive_scan.selective_scan(**a, delta_softplus=softplus)).sum()

    for name, want in complex_step(loss, arrays).items():
        assert_close(have[name], want)


def test_a_gradient_of_the_last_scan_state() -> None:
    arrays = draw_scan(("initial_state",))
    del arrays["delta_softplus"]
    last = np.random.default_rng(8).normal(size=arrays["initial_state"].shape)
    silence = np.zeros(arrays["u"].shape)
    have = naive_scan.selective_scan_backward(silence, **arrays, grad_last_state=last)

    def loss(a: Params) -> Any:
        return (last * naive_scan.scan_states(*a.values())[-1]).sum()

    given = {name: arrays[name] for name in ("u", "delta", "A", "B", "initial_state")}
    for name, want in complex_step(loss, given).items():
        assert_close(have[name], want)
    assert not np.any(have["C"])  # which the last state does not know


def test_the_ssm_cell_is_a_selective_scan() -> None:
    """The layer's projections into the scan, at a width where Delta has rank 2."""
    params, x, _, _ = draw_run("ssm", steps=6, batch=2, hidden=17, state=3)
    u = np.einsum("hi,tbi->bht", params["in_proj_weight"], x)
    projected = np.einsum("rh,bht->brt", params["x_proj_weight"], u)
    y = naive_scan.selective_scan(
        u,
        np.einsum("hr,brt->bht", params["dt_proj_weight"], projected[:, :2]),
        -np.exp(params["A_log"]),
        projected[:, 2:5],
        projected[:, 5:],
        params["D"],
        delta_bias=params["dt_proj_bias"],
        delta_softplus=True,
    )
    assert_close(naive.forward("ssm", params, x)["output"], y.transpose(2, 0, 1))
