"""The same bits for any threads, segments, blocks and number of networks, and again."""

from typing import Any

import clips
import numpy as np
import numpy.typing as npt
import pytest
from adjoints import assert_equal_curves, attenuate, curves
from drawn import ARCHS, draw

import seqlab
from seqlab.engine import tape
from seqlab.measure import measure
from seqlab.numbers.variables import Measurement
from seqlab.spec.run import RunSpec

Array = npt.NDArray[Any]


def variables(result: Measurement) -> dict[str, Array]:
    return {name: variable.data for name, variable in result.variables.items()}


def assert_equal_measurements(have: Measurement, want: Measurement) -> None:
    assert_equal_curves(variables(have), variables(want))


def small_spec(arch: str, **changed: Any) -> RunSpec:
    """A run with a rule of every kind and a spectrum."""
    acting = {"step-norm": 0.5, "step-value": 0.1, "truncate": 7, "norm": 1, "value": 0.1}
    given = {"arch": arch, "steps": 100, "lengths": [1, 10, 64, 100]}
    given |= {"clip": ["none", *clips.spelled(acting)]}
    given |= {"hidden": 9, "inputs": 3, "networks": 8, "spectrum": 3}
    return RunSpec.create(**given | changed)


@pytest.mark.parametrize("arch", ARCHS)
def test_threads_and_repetition(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bits with one, two and three threads, and again."""
    run = draw(arch, hidden=9, steps=50, batch=6, networks=3)
    spec, readout = small_spec(arch), np.ones(9)
    seen = []
    for threads in ("1", "2", "3", "2"):
        monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
        g = seqlab.backward(seqlab.forward(arch, run.params, run.x, run.initial), run.grad)
        arrays = {**g.params, "x": g.x, "initial": np.asarray(g.initial)}
        arrays |= curves(attenuate(run, [7, 50], readout, clip="step-norm:0.5"))
        seen.append(arrays | variables(measure(spec)))
    for other in seen[1:]:
        assert_equal_curves(other, seen[0])


def first_networks(result: Measurement, count: int) -> dict[str, Array]:
    """What a measurement says of its first networks."""
    return {
        name: variable.data[:count]
        for name, variable in result.variables.items()
        if variable.dims[:1] == ("network",)
    }


@pytest.mark.parametrize("arch", ARCHS)
def test_a_network_does_not_depend_on_how_many_there_are(
    arch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks 0..7 of 16 are those of 8, over many segments too."""
    for segment in (tape.SEGMENT_BYTES, 1):
        monkeypatch.setattr(tape, "SEGMENT_BYTES", segment)
        many, few = (measure(small_spec(arch, networks=n)) for n in (16, 8))
        shared = first_networks(many, 8)
        assert len(shared) >= 7
        assert_equal_curves(shared, first_networks(few, 8))


@pytest.mark.parametrize("arch", ARCHS)
def test_blocks_of_networks_change_nothing(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four networks at a time: a last block of one, no number changed."""
    spec = small_spec(arch, networks=9)
    whole = measure(spec)
    monkeypatch.setattr("seqlab.kernels.cpu.BLOCK_BYTES", 1)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "4")
    assert_equal_measurements(measure(spec), whole)


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_segments_and_recomputation(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves keep their bits when time is cut, and when segments are computed again."""
    run, readout = draw(arch, steps=37, batch=1), np.ones(3)
    whole = curves(attenuate(run, [5, 20, 35], readout, clip="step-norm:0.3"))
    monkeypatch.setattr(tape, "SEGMENT_BYTES", 1)
    assert_equal_curves(curves(attenuate(run, [5, 20, 35], readout, clip="step-norm:0.3")), whole)
    monkeypatch.setattr(tape, "TRAJECTORY_BYTES", 0)
    assert_equal_curves(curves(attenuate(run, [5, 20, 35], readout, clip="step-norm:0.3")), whole)


@pytest.mark.parametrize("arch", ARCHS)
def test_a_longer_drive_begins_like_a_shorter_one(arch: str) -> None:
    """A run's curve at length 64 is that of a run of 64 steps, to rounding: fewer rows share it."""
    long = measure(small_spec(arch, spectrum=None))
    short = measure(small_spec(arch, steps=64, lengths=[1, 10, 64], spectrum=None))
    shared = np.intersect1d(long.variables["lag"].data, short.variables["lag"].data)
    assert len(shared) > 40
    for name in ("log_norm", "log_norm_input"):
        have, want = (
            result.variables[name].data[:, :, 2, np.isin(result.variables["lag"].data, shared)]
            for result in (long, short)
        )
        np.testing.assert_allclose(have, want, rtol=0, atol=1e-11)
