"""The benchmark's sides: our own, on the CPU and beside a GPU, and peers where there are any."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import seqlab
from seqlab.bench import (
    command,
    contests,
    peers,
    problems,
    runs,
)
from seqlab.bench.contests import Gradients, Stacks
from seqlab.bench.race import (
    Disagreement,
    Side,
    Timing,
    check,
)
from seqlab.cells import Sizes
from seqlab.cli import main
from seqlab.errors import InputError

TIMING = Timing(rounds=3, turn=0.0, settle=0.0, patience=1e6)
SIZES = Sizes(3, 2)


def test_our_study_is_the_gradient_of_the_last_output():
    study = problems.Study.draw("lstm", SIZES, 2, [2, 5], checked=5, dtype="float64")
    side = study.side()
    got = side.answer(side.run())
    assert len(got) == 4
    for m in range(2):
        params = {name: array[m] for name, array in study.params.items()}
        trajectory = seqlab.forward("lstm", params, study.x[m])
        loss = np.zeros_like(trajectory.output)
        loss[-1, 0] = study.readout[m]
        h, c = seqlab.backward(trajectory, loss).initial
        norm = np.hypot(np.linalg.norm(h), np.linalg.norm(c))
        assert got[f"network {m}, length 5"] == pytest.approx([norm], rel=1e-12)


def test_norms_of_gradients_too_small_to_square():
    study = problems.Study.draw("rnn", SIZES, 2, [1], checked=1, dtype="float64")
    tiny = np.array([[3.0, 4.0], [0.3, 0.4]]) * 1e-200
    got = study.gradients([tiny])
    assert list(got) == ["network 0, length 1", "network 1, length 1"]
    assert np.concatenate(list(got.values())) == pytest.approx([5e-200, 5e-201], rel=1e-12)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_our_gradients_have_the_names_that_peers_give(cell):
    problem = problems.Gradients.draw(cell, SIZES, steps=4, batch=2, dtype="float64")
    got = problem.side().answer(problem.side().run())
    names = {*problem.params, "x", "initial 0"} | ({"initial 1"} if cell == "lstm" else set())
    assert set(got) == names
    assert got["x"].shape == problem.x.shape
    assert got["initial 0"].shape == (2, 3)


def test_both_dtypes_have_the_same_numbers():
    double, single = (
        problems.Scan.draw(2, 3, 4, 5, dtype).inputs for dtype in ("float64", "float32")
    )
    assert all(np.array_equal(double[n].astype("float32"), single[n]) for n in double)


def test_stacks_are_checked_layer_by_layer_and_their_products_are_the_answer_s_own():
    problem = problems.Stacks.draw(networks=2, layers=3, width=4, batch=5, dtype="float64")
    ours, products = problem.side(), problem.products()
    shapes = {name: array.shape for name, array in ours.answer(ours.run()).items()}
    layers = range(3)
    assert shapes == {
        **{f"weight {layer}": (2, 4, 4) for layer in layers},
        **{f"bias {layer}": (2, 4) for layer in layers},
        "x": (2, 5, 4),
    }
    assert check(ours, [products]) < 1e-14  # sums of five and four numbers, in three layers
    assert (ours.work, products.work, products.whole) == (6, 6, False)
    single = problems.Stacks.draw(networks=2, layers=3, width=4, batch=5, dtype="float32")
    assert np.array_equal(problem.weight.astype("float32"), single.weight)
    assert np.array_equal(problem.x.astype("float32"), single.x)


@pytest.mark.parametrize("change", ["weight", "x", "readout"])
def test_stacks_of_other_numbers_are_seen(change):
    problem = problems.Stacks.draw(networks=2, layers=3, width=4, batch=5, dtype="float64")
    other = replace(problem, **{change: getattr(problem, change) * (1 + 1e-5)})
    with pytest.raises(Disagreement):
        check(problem.side(), [other.products()])


@pytest.mark.parametrize("name", ["torch", "jax", "mambapy"])
def test_a_missing_peer_is_refused_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    for module in peers.PEERS.values():
        monkeypatch.delitem(sys.modules, f"seqlab.bench.peers.{module}", raising=False)
    out = tmp_path / "out"
    done = CliRunner().invoke(main, ["bench", "--only", "scan", "--peers", name, "--out", str(out)])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"seqlab: error: peers: {name} needs ")
    assert done.stderr.endswith("pip install 'seqlab[peers]'\n")
    assert done.stderr.count("\n") == 1
    assert not out.exists()


def test_an_unknown_peer_is_refused():
    with pytest.raises(InputError, match="peers: 'mxnet' is unknown; allowed: torch, jax, mambapy"):
        peers.load(["mxnet"])


def test_peers_take_part_where_they_can():
    class Peer:
        @staticmethod
        def scan(problem):
            return [Side("fake", lambda: problem)]

    assert peers.sides([Peer], "study", 1) == []
    assert [side.name for side in peers.sides([Peer], "scan", 1)] == ["fake"]


def test_a_contest_with_a_peer_makes_rows():
    class Peer:
        @staticmethod
        def gradients(problem):
            side = problem.side()
            return [Side("fake", side.call, side.answer, side.work)]

    kind = Gradients(["gru"], [2], [1, 2], steps=3, inputs=2)
    [job] = kind.jobs()
    assert (job.name, job.peers) == ("gru-2", True)
    rows = job.measure(command.Context(TIMING, [Peer]))
    assert [(r.labels["B"], r.labels["dtype"]) for r in rows] == [
        (1, "float64"),
        (1, "float32"),
        (2, "float64"),
        (2, "float32"),
    ]
    assert rows[0].facts == {"difference": 0}
    assert set(rows[1].ratios) == {"fake / seqlab", "best / seqlab"}


def test_stacks_are_beside_their_peers_and_their_products():
    class Peer:
        @staticmethod
        def stacks(problem):
            side = problem.side()
            return [Side("fake", side.call, side.answer, side.work)]

    size = {"networks": 2, "layers": 3, "width": 4}
    [job] = Stacks([size], batch=2).jobs()
    assert (job.name, job.peers) == ("2x3x4", True)
    rows = job.measure(command.Context(TIMING, [Peer]))
    assert [row.labels for row in rows] == [
        {"M": 2, "L": 3, "n": 4, "dtype": dtype} for dtype in ("float64", "float32")
    ]
    assert set(rows[1].ratios) == {
        "fake / seqlab",
        "numpy products / seqlab",
        "best / seqlab",
    }
    assert rows[1].ratios["best / seqlab"] == rows[1].ratios["fake / seqlab"]


def test_whole_measurements_are_timed_by_what_they_measure():
    spec = {"arch": "mlp", "steps": 3, "hidden": 4, "networks": 2}
    [job] = runs.Runs([spec]).jobs()
    [row] = job.measure(command.Context(TIMING, []))
    assert row.labels == {"arch": "mlp", "steps": "3", "hidden": "4", "networks": "2"}
    assert len(row.times["seqlab"]) == 3


def test_on_a_gpu_our_own_cpu_is_a_peer(monkeypatch):
    """And what has an axis of time is there beforehand, as a peer's is."""
    problem, sent = problems.Gradients.draw("gru", SIZES, 4, 2, "float64"), []
    monkeypatch.setattr(problems.backends, "to_gpu", sent.append)
    [ours, cpu] = contests._sides(command.Context(TIMING, [], "cuda"), "gradients", problem)
    assert (ours.name, cpu.name) == ("seqlab", "cpu")
    assert list(map(id, sent)) == [id(problem.x), id(problem.grad_output)]
    [alone] = contests._sides(command.Context(TIMING, []), "gradients", problem)
    assert alone.name == "seqlab"
    assert check(alone, [cpu]) == 0


def test_an_ensemble_is_timed_by_the_steps_of_its_networks():
    together = problems.Gradients.draw("lstm", SIZES, 4, 2, "float64", networks=3)
    side = together.side()
    assert side.work == 12
    answer = side.answer(side.call())
    assert {name: array.shape for name, array in answer.items()} == {
        **{name: array.shape for name, array in together.params.items()},
        "x": (3, 4, 2, 2),
        "initial 0": (3, 2, 3),
        "initial 1": (3, 2, 3),
    }
