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
    training,
)
from seqlab.bench.contests import Gradients, Stacks, Training
from seqlab.bench.race import (
    Disagreement,
    Side,
    Timing,
    check,
)
from seqlab.cells import Sizes
from seqlab.cli import main
from seqlab.errors import InputError
from seqlab.tasks.task import Batch

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
    assert done.stderr.endswith("pip install 'seqlab[peers]', in a clone '.[peers]'\n")
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


def drawn_training(cell="lstm", networks=2, dtype="float64"):
    return training.Training.draw(cell, 3, networks, updates=3, steps=6, batch=4, dtype=dtype)


def test_networks_in_training_are_checked_by_the_numbers_of_each():
    problem = drawn_training()
    side = problem.side()
    assert side.work == 6
    answer = side.answer(side.run())
    names = {*problem.params, "loss"}
    assert set(answer) == {f"{name} {m}" for name in names for m in range(2)}
    assert answer["loss 1"].shape == (3,)
    assert answer["weight_hh 0"].shape == (12, 3)
    for m in range(2):
        alone = replace(
            problem,
            params={name: array[m : m + 1] for name, array in problem.params.items()},
            batches=[Batch(x[m : m + 1], y[m : m + 1], at) for x, y, at in problem.batches],
        ).side()
        found = alone.answer(alone.run())
        for name in names:
            assert np.array_equal(answer[f"{name} {m}"], found[f"{name} 0"])


def test_training_has_the_same_numbers_in_both_dtypes():
    double, single = drawn_training(), drawn_training(dtype="float32")
    for name, array in double.params.items():
        assert np.array_equal(array.astype("float32"), single.params[name])
    for one, other in zip(double.batches, single.batches, strict=True):
        assert (other.x.dtype, other.targets.dtype) == (np.float32, np.float32)
        assert np.array_equal(one.x.astype("float32"), other.x)
        assert np.array_equal(one.targets.astype("float32"), other.targets)


CHANGED = {
    "params": lambda own: {name: array * (1 + 1e-4) for name, array in own.items()},
    "batches": lambda own: [own[0], own[2], own[1]],
    "threshold": lambda threshold: threshold / 2,
    "rate": lambda rate: rate * 1.01,
}


@pytest.mark.parametrize("field", CHANGED)
def test_training_with_other_numbers_is_seen(field):
    problem = drawn_training()
    other = replace(problem, **{field: CHANGED[field](getattr(problem, field))})
    with pytest.raises(Disagreement):
        check(problem.side(), [replace(other.side(), name="other")])


def test_a_call_goes_on_training_from_the_one_before():
    problem = drawn_training()
    before = {name: array.copy() for name, array in problem.params.items()}
    twice, side = replace(problem, batches=2 * problem.batches).side(), problem.side()
    want = twice.answer(twice.run())
    side.run()
    have = side.answer(side.run())
    for name, array in want.items():
        assert np.array_equal(have[name], array[3:] if name.startswith("loss") else array)
    assert all(np.array_equal(problem.params[name], array) for name, array in before.items())


def test_training_in_which_a_network_ended_was_not_timed():
    problem = drawn_training()
    contests._still_trains(problem.side())
    problem.batches[1].x[1, 0, 0, 0] = np.nan  # its parameters stay what they were
    with pytest.raises(Disagreement, match=r"^loss 1: seqlab has trained to what is not finite$"):
        contests._still_trains(problem.side())


def test_training_is_beside_its_peers_alone_and_together():
    calls = []

    class Peer:
        @staticmethod
        def training(problem):
            side = problem.side()

            def call():
                calls.append(problem.work)
                return side.call()

            return [Side("fake", call, side.answer, side.work)]

    [job] = Training(["gru"], 3, batch=4, steps=6, networks=[1, 2], updates=3).jobs()
    assert (job.name, job.peers) == ("gru", True)
    rows = job.measure(command.Context(TIMING, [Peer]))
    assert [row.labels for row in rows] == [
        {"cell": "gru", "M": m, "dtype": dtype} for m in (1, 2) for dtype in ("float64", "float32")
    ]
    assert rows[0].facts == {"difference": 0}
    assert set(rows[3].ratios) == {"fake / seqlab", "best / seqlab"}
    # Of each dtype: a first call, three turns, and a look at how it ended.
    assert [calls.count(work) for work in (3, 6)] == [10, 10]


@pytest.mark.parametrize("networks", [1, 2])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_pytorch_trains_the_same(torch, cell, networks):
    from seqlab.bench.peers import with_torch

    problem = drawn_training(cell, networks)
    ours, [side] = problem.side(), with_torch.training(problem)
    assert (side.name, side.work, set(side.facts)) == ("torch", 3 * networks, {"torch threads"})
    for _ in range(2):  # as drawn, whatever was tried before; then from there on
        check(ours, [side])
