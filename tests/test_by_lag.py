"""What the parameters' gradient is made of, by lag: against plain loops, and what must hold."""

import math
from typing import Any

import naive_by_lag
import numpy as np
import numpy.typing as npt
import pytest
from clips import spelled
from drawn import ARCHS
from studies import seqlab_
from test_protocol import data, parts_of, small

import seqlab
from seqlab.engine import tape
from seqlab.measure import measure
from seqlab.measure.assemble import truncation_lag

Array = npt.NDArray[Any]

# Logs and cosines of sums of some hundred products, each rounded by 1.1e-16; what a sum of shares
# of both signs loses to cancellation is some tens of that here.
NEAR = 1e-11
T = 12


@pytest.mark.tiny
@pytest.mark.parametrize("segment", [None, 1])
@pytest.mark.parametrize("arch", ARCHS)
def test_shares_are_the_naive_ones(
    arch: str, segment: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all parameters and of each; also where the pass forward is kept in pieces."""
    if segment is not None:
        monkeypatch.setattr(tape, "SEGMENT_BYTES", segment)
    spec = small(arch, truncation=0.9)
    measured = measure(spec)
    have, names = data(measured), measured.variables["parameter"].data.tolist()
    for m in range(2):
        params, x, readout = parts_of(spec, m)
        shares = naive_by_lag.shares(arch, params, x, readout[np.newaxis], spec.activation or "")
        assert names == list(shares[0])
        for k, name in enumerate([None, *names]):
            place: Any = (m,) if name is None else (m, k - 1)
            behind = "" if name is None else "_parameter"
            each = [naive_by_lag.flat(one if name is None else {name: one[name]}) for one in shares]
            sums = np.cumsum(each, axis=0)
            whole = np.linalg.norm(sums[-1])
            for lag in range(T):
                share, so_far = (np.linalg.norm(v) / whole for v in (each[lag], sums[lag]))
                # A parameter's share may be the difference of two such as the others have.
                rounding = 1e-15 * np.linalg.norm(naive_by_lag.flat(shares[lag])) / whole
                for found, want, room in (("by", share, rounding), ("to", so_far, 0)):
                    log = have[f"log_gradient_{found}_lag{behind}"][place][lag]
                    assert math.exp(log) == pytest.approx(want, rel=NEAR, abs=room)
                if so_far:  # else there is no direction yet
                    cosine = have[f"cosine_to_lag{behind}"][place][lag]
                    want = naive_by_lag.cosine(sums[lag], sums[-1])
                    assert cosine == pytest.approx(want, abs=NEAR)
            for found in ("log_gradient_by_lag", "log_gradient_to_lag", "cosine_to_lag"):
                assert np.isnan(have[f"{found}{behind}"][place][T])
    assert have["log_gradient_to_lag"][:, T - 1] == pytest.approx(0, abs=NEAR)
    assert have["cosine_to_lag"][:, T - 1] == pytest.approx(1, abs=NEAR)


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_truncation_keeps_the_lags_up_to_its_own(arch: str) -> None:
    """The rule's own gradient has the norm of the sum of shares, and its cosine with the whole."""
    lags = (1, 4, 9)
    spec = small(arch, truncation=0.9, clip=[f"truncate:{k}" for k in lags])
    have = data(measure(spec))
    for rule, k in enumerate(lags):
        assert have["gradient_cosine"][:, rule] == pytest.approx(
            have["cosine_to_lag"][:, k], abs=1e-10
        )
        kept = have["log_param_grad_norm_after"] - have["log_param_grad_norm_before"]
        assert kept[:, rule] == pytest.approx(have["log_gradient_to_lag"][:, k], abs=1e-10)


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_the_cosine_under_each_rule_is_the_naive_one(arch: str) -> None:
    thresholds = {"step-norm": 0.5, "truncate": 3, "norm": 0.01, "value": 0.01, "step-value": 0.5}
    spec = small(arch, clip=("none", *spelled(thresholds)))
    have = data(measure(spec))["gradient_cosine"]
    for m in range(2):
        params, x, readout = parts_of(spec, m)
        start = seqlab.attenuation(arch, params, x, [T], readout=readout).log_norm[0, 0, 0]
        grad = np.zeros((T, 1, 3))
        grad[-1] = readout * math.exp(-start)
        trajectory = seqlab.forward(arch, params, x)
        plain = naive_by_lag.flat(dict(seqlab.backward(trajectory, grad).params))
        for rule, clip in enumerate(spec.clip):
            own = naive_by_lag.flat(dict(seqlab.backward(trajectory, grad, clip=clip).params))
            assert have[m, rule] == pytest.approx(naive_by_lag.cosine(own, plain), abs=NEAR)
    assert have[:, 0] == pytest.approx(1, abs=NEAR)
    assert (np.abs(have) <= 1).all()


def test_shares_far_beyond_the_range_of_floats_are_numbers() -> None:
    """h' = 0.01 Q h + W x, linear: a share falls by ln 0.01 a lag, but for the state's length."""
    spec = small("rnn", steps=400, lengths=[400], init="orthogonal", gain=0.01, truncation=0.5,
                 activation="identity", clip="none")  # fmt: skip
    have = data(measure(spec))
    lag = have["lag"][1:-1]
    slope = (have["log_gradient_by_lag"][:, 1:-1] - have["log_gradient_by_lag"][:, :1]) / lag
    assert slope[:, -1] == pytest.approx(math.log(0.01), abs=0.02)
    assert have["log_gradient_by_lag"][0, -2] < -1800
    assert (have["truncation_lag"] >= 0).all()


@pytest.mark.tiny
def test_the_lag_of_truncation() -> None:
    lags, none = np.array([0, 1, 2, 5, 9, 12]), math.nan
    for cosine, want in (
        ([0.5, 0.8, 0.95, 0.85, 0.99, none], 9),
        ([0.95, 0.95, 0.95, 0.95, 0.99, none], 1),
        ([0.5, 0.8, 0.95, 0.95, 0.99, none], 2),
        ([0.5, 0.8, 0.95, 0.95, 0.9, none], -1),
        ([none, none, 0.95, 0.95, 0.95, none], 2),
        ([none] * 6, -1),
    ):
        assert truncation_lag(lags, np.array(cosine), 0.9) == want


def test_it_is_said_in_the_table_and_drawn(here: Any) -> None:
    words = ("run", "--arch", "rnn", "--steps", 30, "--hidden", 4, "--networks", 3, "--store", "s")
    done = seqlab_(*words, "--truncation", 0.99)
    assert done.exit_code == 0
    lag = data(seqlab.run(arch="rnn", steps=30, hidden=4, networks=3, truncation=0.99))
    line = f"rnn: truncate:{lag['truncation_lag']} keeps a cosine of 0.99 with all parameters'"
    assert line in " ".join(done.stdout.split())
    drawn = seqlab_("plot", "s", "--kind", "curves", "--value", "gradient_by_lag", "-o", "f.svg")
    assert drawn.exit_code == 0, drawn.output
    assert (here / "f.svg").exists()
    refused = seqlab_(*words, "--truncation", 1)
    assert refused.exit_code == 2
    assert "truncation: 1.0 is not allowed; a cosine above 0 and below 1" in refused.stderr
