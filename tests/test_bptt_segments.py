"""Time cut into segments: the same gradients, kept or computed again, in counted memory."""

import numpy as np
import pytest
from drawn import ARCHS, answers, draw, relative_errors, same_bits

from seqlab import rules
from seqlab.cells import CELLS, Sizes
from seqlab.engine import ensemble, tape
from seqlab.engine.backward import Sweep
from seqlab.kernels import backends, memory


def test_an_ensemble_is_its_networks_over_many_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """How much time a kernel call takes in must not depend on the number of networks."""
    monkeypatch.setattr(tape, "SEGMENT_BYTES", 40_000)
    for arch in ARCHS:
        run = draw(arch, hidden=16, state=4, steps=300, batch=1, networks=5)
        together = answers(run)
        alone = answers(run.network(2))
        assert same_bits({name: value[2] for name, value in together.items()}, alone), arch


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("clip", ["none", "step-norm:0.3"])
def test_segments_and_recomputation(arch: str, clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut into segments of 16 steps, the last one short: the chain has the same bits, sums over
    time are added in another order. Computed again instead of kept: the same bits throughout."""
    run = draw(arch, hidden=3, steps=37, batch=1)
    whole = answers(run, clip=clip)
    monkeypatch.setattr(tape, "SEGMENT_BYTES", 1)
    cut = answers(run, clip=clip)
    for name in ("output", "x", "initial_0"):
        assert np.array_equal(cut[name], whole[name]), name
    assert max(relative_errors(cut, whole).values()) < 1e-14
    monkeypatch.setattr(tape, "TRAJECTORY_BYTES", 0)
    for threads in ("1", "8"):  # with eight, others compute segments ahead
        monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
        assert same_bits(answers(run, clip=clip), cut)


@pytest.mark.tiny
def test_each_step_is_told_once_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks add up to the steps, whatever the segments and the losses that cut them."""
    monkeypatch.setattr(tape, "SEGMENT_BYTES", 1)
    run, ticks = draw("rnn", steps=37), []
    whole = ensemble.gather("rnn", run.params, run.x).tape("cpu")
    whole.run(lambda saved: None, lambda steps, rows: ticks.append(steps))
    assert ticks == [16, 16, 5]
    ticks.clear()
    sweep = Sweep(whole, [35, 20], rules.UNCLIPPED, record=False, gradients=False)
    sweep.run(
        lambda first, last: np.zeros((1, 0, 2, 2, 3)), lambda steps, rows: ticks.append(steps)
    )
    assert ticks == [3, 12, 4, 16]


def test_recomputation_uses_the_memory_of_one_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each full one lies where the last one lay."""
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")  # none to compute the next one meanwhile
    monkeypatch.setattr(tape, "SEGMENT_BYTES", 1)
    run = draw("lstm", steps=70)
    ensemble_of_one = ensemble.gather("lstm", run.params, run.x, run.initial)
    monkeypatch.setattr(tape, "TRAJECTORY_BYTES", 0)
    kept = ensemble_of_one.tape("cpu")
    places = []
    kept.run(lambda saved: places.append(saved.hidden.ctypes.data))
    assert not kept.keeps_all
    places += [kept.segment(index)[0].hidden.ctypes.data for index in range(4)]
    assert len(set(places[:4] + places[5:])) == 1
    assert kept.segment(4)[0].hidden.shape[1] == 70 - 64 + 1


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_a_trajectory_takes_the_room_that_is_counted(arch: str) -> None:
    """What a step saves, in numbers; the first state of a segment comes on top."""
    sizes, kernels = Sizes(16, 3, 5), backends.kernels("cpu", arch)
    saved = kernels.save((2, 32, 3), sizes, np.dtype(np.float64))
    width, numbers = kernels.saved_width(sizes), sum(array.size for array in saved)
    parts = len(CELLS[arch].parts)
    assert width <= numbers / (2 * 32 * 3) <= width + parts * sizes.hidden / 32
