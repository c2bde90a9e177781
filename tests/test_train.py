"""Stacks trained through depth: draws, classes, curves, tests and options, each against its
definition."""

import json
import math
from pathlib import Path
from typing import Any

import naive_depth as naive
import naive_training
import numpy as np
import numpy.typing as npt
import pytest
from stacked import ORDER, TWO
from studies import seqlab_

import seqlab
from seqlab.errors import InputError
from seqlab.learning.batches import batch_of
from seqlab.learning.of_stacks import Stacks, measure
from seqlab.measure.randomness import Purpose, stream
from seqlab.measure.stack_networks import Networks
from seqlab.spec import kinds
from seqlab.spec.train import TrainSpec
from seqlab.tasks import of_classes

Array = npt.NDArray[Any]

# Of numbers of training against the naive ones, as in the courses of cells.
NEAR = 1e-9
ARCHS: dict[str, dict[str, Any]] = {
    "mlp": {"activation": "tanh", "batch": 25},
    "resnet": {"activation": "gelu", "norm": "layer", "alpha": "sqrt", "batch": 25},
    "densenet": {"activation": "elu", "init": "he", "batch": 25},
    "transformer": {"activation": "gelu", "heads": 2, "tokens": 3, "sequences": 25},
}


def small(arch: str = "mlp", **given: Any) -> TrainSpec:
    fields: dict[str, Any] = {
        "lengths": [2, 3],
        "hidden": 6,
        "networks": 2,
        "updates": 12,
        "seed": 3,
        "dtype": "float64",
        "clip": ["none", "norm:0.5x", "step-norm:0.05"],
        "optimizer": "sgd",
        "lr": 0.2,
        "momentum": 0.9,
        "solved": 0.01,
    }
    return TrainSpec.create(arch=arch, **fields | ARCHS[arch] | given)


def data(spec: TrainSpec) -> dict[str, Array]:
    return {name: one.data for name, one in measure(spec).variables.items()}


def parameters(spec: TrainSpec, m: int, depth: int) -> dict[str, Array]:
    """As `seqlab depth` draws them, by PyTorch's names, and the head."""
    stack, drawn = spec.of_depth(depth).stack, Networks(spec.of_depth(depth))
    found = {}
    for layer in range(depth):
        numbers, start = drawn.layer(m, layer), 0
        names = iter(ORDER.get(spec.arch, TWO))
        for one in stack.maps(layer):
            for shape in ((one.outputs, one.inputs), (one.outputs,)):
                size = math.prod(shape)
                found[f"{layer}.{next(names)}"] = numbers[start : start + size].reshape(shape)
                start += size
    head = stream(spec.seed, m, Purpose.READOUT).standard_normal((stack.units, 4))
    return {**found, "head": head / math.sqrt(stack.units)}


def naive_stack(spec: TrainSpec, depth: int) -> naive.Stack:
    alpha = 1 / math.sqrt(depth) if spec.alpha == "sqrt" else spec.alpha or 1.0
    of = spec.of_depth(depth).stack
    activation = of.activation.partition(":")[0]
    return naive.Stack(of.arch, activation, of.norm, of.place, of.outside, alpha, of.heads, of.eps)


def batch(spec: TrainSpec, m: int, update: int, purpose: Purpose = Purpose.TASK) -> Any:
    steps = spec.tokens or 1
    return batch_of(spec.trained_on, spec.seed, m, update, steps, spec.samples, purpose)


def naive_course(spec: TrainSpec, m: int, depth: int, clip: str) -> tuple[list[float], Any]:
    """One network's losses, and its parameters after all updates."""
    stack, params = naive_stack(spec, depth), parameters(spec, m, depth)
    change = naive_training.by_sgd(spec.lr[0], spec.momentum or 0.0)
    losses = []
    for update in range(spec.updates):
        x, classes, _ = batch(spec, m, update)
        loss = naive_training.cross_entropy(classes)
        value, found = naive_training.stack_gradients(stack, params, x, loss, clip)
        losses.append(value)
        params = {name: params[name] + step for name, step in change(found).items()}
    return losses, params


def first_norm(spec: TrainSpec, depth: int) -> float:
    """The median over networks of the norm of all gradients before the first update."""
    norms = []
    for m in range(spec.networks):
        x, classes, _ = batch(spec, m, 0)
        loss = naive_training.cross_entropy(classes)
        params, stack = parameters(spec, m, depth), naive_stack(spec, depth)
        found = naive_training.stack_gradients(stack, params, x, loss, "none")[1]
        norms.append(math.sqrt(sum(float((g**2).sum()) for g in found.values())))
    return float(np.median(norms))


def layers_of(params: dict[str, Array], depth: int) -> list[dict[str, Array]]:
    return [
        {n.partition(".")[2]: a for n, a in params.items() if n.startswith(f"{layer}.")}
        for layer in range(depth)
    ]


def naive_curve(spec: TrainSpec, params: dict[str, Array], m: int, depth: int, clip: str) -> Array:
    """Relative to lag 0, of the readout of `seqlab depth`, on inputs that are held out."""
    drawn = Networks(spec.of_depth(depth))
    units, rows = drawn.stack.units, drawn.stack.rows
    readout = drawn.readouts(m, rows).reshape(units, rows).T
    x = batch(spec, m, 0, Purpose.HELD_OUT).x
    first = x[:, 0] if spec.arch == "transformer" else x[0]
    stack = naive_stack(spec, depth)
    path = naive.forward(first, stack, layers_of(params, depth))
    found = naive.adjoints(path, stack, readout, clip if clip.startswith("step-") else "none")
    return np.asarray(found.log_norm - found.log_norm[0])


@pytest.mark.parametrize("arch", ARCHS)
def test_a_run_is_the_naive_one(arch: str) -> None:
    """Losses, curves before and after, and how far layers moved, of every network, rule and depth;
    logs of curves to 1e-9, those of trained networks to 1e-7 as for cells."""
    spec = small(arch)
    found = data(spec)
    for m in range(spec.networks):
        for k, depth in enumerate(spec.lengths):
            drawn = parameters(spec, m, depth)
            for r, text in enumerate(spec.clip):
                clip = text
                if text.endswith("x"):
                    clip = f"norm:{0.5 * first_norm(spec, depth)!r}"
                    assert found["clip_threshold"][r, k] == pytest.approx(float(clip[5:]), rel=NEAR)
                losses, params = naive_course(spec, m, depth, clip)
                assert found["loss"][m, r, k] == pytest.approx(losses, rel=NEAR)
                assert found["final_loss"][m, r, k] == pytest.approx(np.mean(losses[-4:]), rel=NEAR)
                lags = slice(0, depth + 1)
                curve = naive_curve(spec, drawn, m, depth, clip)
                assert found["log_norm"][m, r, k, lags] == pytest.approx(curve, abs=1e-9)
                curve = naive_curve(spec, params, m, depth, clip)
                assert found["log_norm_trained"][m, r, k, lags] == pytest.approx(curve, abs=1e-7)
                moved = found["log_moved"][m, r, k]
                for layer in range(depth):
                    names = [n for n in drawn if n.startswith(f"{layer}.") and "weight" in n]
                    change = sum(float(((params[n] - drawn[n]) ** 2).sum()) for n in names)
                    size = sum(float((drawn[n] ** 2).sum()) for n in names)
                    want = 0.5 * math.log(change / size)
                    assert moved[depth - 1 - layer] == pytest.approx(want, rel=1e-7)
                assert np.isnan(moved[depth:]).all()


@pytest.mark.tiny
def test_the_test_is_on_a_thousand_inputs_that_training_never_saw() -> None:
    spec = small("mlp", lengths=[2], clip="none")
    found = data(spec)
    for m in range(spec.networks):
        _, params = naive_course(spec, m, 2, "none")
        costs, right = [], []
        for part in range(40):
            x, classes, _ = batch(spec, m, 1 + part, Purpose.HELD_OUT)
            path = naive.forward(x[0], naive_stack(spec, 2), layers_of(params, 2))
            y = path.states[-1] @ params["head"]
            costs.append(naive_training.cross_entropy(classes)(y[np.newaxis])[0])
            right.append((y.argmax(axis=1) == classes[0]).mean())
        assert found["test_loss"][m, 0, 0] == pytest.approx(np.mean(costs), rel=NEAR)
        assert found["test_accuracy"][m, 0, 0] == pytest.approx(np.mean(right), rel=NEAR)


@pytest.mark.tiny
@pytest.mark.parametrize("steps", [1, 5])
def test_classes_are_a_linear_teacher_s_and_equally_likely(steps: int) -> None:
    """Of 40,000 inputs a share of a quarter has a standard error of 0.0022: within five."""
    task = of_classes(6)
    shares = np.zeros(4)
    for update in range(10):
        x, classes, at = batch_of(task, 1, 0, update, steps, 4000)
        assert x.shape == (steps, 4000, 6)
        assert at.tolist() == [steps - 1]
        shares += np.bincount(classes[0], minlength=4) / 40000
    assert shares == pytest.approx(np.full(4, 0.25), abs=5 * 0.0022)
    assert x.var() == pytest.approx(1, rel=0.1)
    teacher = task.shared(stream(1, 0, Purpose.TEACHER), steps, None)
    assert teacher @ teacher.T == pytest.approx(np.eye(4), abs=1e-12)
    assert (teacher @ x.mean(axis=0).T).argmax(axis=0).tolist() == classes[0].tolist()
    assert task.trivial(1) == math.log(4)


def test_the_best_rate_is_chosen_on_other_networks() -> None:
    """At a rate of 1e-6 nothing is learned, at 0.3 a shallow stack is."""
    spec = small(
        "mlp", lengths=[1], hidden=16, clip="none", lr=[1e-6, 0.3], updates=100, solved=0.5
    )
    found = data(spec)
    assert found["learning_rate"].tolist() == [[0.3]]
    assert (found["solved_at"] > 0).all()
    assert found["solved_share"].tolist() == [[1.0]]


@pytest.mark.tiny
def test_a_trace_has_the_curves_before_and_after() -> None:
    found = data(small("mlp", trace=6, clip="none"))
    assert found["update"].tolist() == [0, 6, 12]
    for look, name in ((0, "log_norm"), (2, "log_norm_trained")):
        same = np.array_equal(found["trace_log_norm"][:, :, :, look], found[name], equal_nan=True)
        assert same, name


@pytest.mark.tiny
def test_one_that_diverges_is_said_to_have() -> None:
    found = data(small("mlp", activation="identity", lr=1e9, dtype="float32", clip="none"))
    assert (found["diverged_at"] >= 0).any()
    ended = found["diverged_at"] >= 0
    assert np.isinf(found["test_loss"][ended]).all()
    assert (found["test_accuracy"][ended] == 0).all()
    assert np.isnan(found["log_moved"][ended]).all()


@pytest.mark.tiny
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_frozen_layers_stay_as_they_are_drawn_and_the_head_is_trained(optimizer: str) -> None:
    """By SGD the head is that of a logistic regression on their features."""
    momentum = {"momentum": 0.9 if optimizer == "sgd" else None}
    spec = small("mlp", frozen=True, lengths=[2], clip="none", optimizer=optimizer, **momentum)
    found = data(spec)
    assert np.isneginf(found["log_moved"][:, :, :, :2]).all()
    assert np.array_equal(found["log_norm"], found["log_norm_trained"], equal_nan=True)
    if optimizer == "sgd":
        for m in range(spec.networks):
            params, stack = parameters(spec, m, 2), naive_stack(spec, 2)
            change, losses = naive_training.by_sgd(0.2, 0.9), []
            for update in range(spec.updates):
                x, classes, _ = batch(spec, m, update)
                features = naive.forward(x[0], stack, layers_of(params, 2)).states[-1]
                y = (features @ params["head"])[np.newaxis]
                value, errors = naive_training.cross_entropy(classes)(y)
                losses.append(value)
                params["head"] = params["head"] + change({"head": features.T @ errors[0]})["head"]
            assert found["loss"][m, 0, 0] == pytest.approx(losses, rel=NEAR)


@pytest.mark.parametrize(("eps", "far"), [(1e-8, False), (1e-30, True)])
def test_adam_s_eps_hides_what_is_far_below_it(eps: float, far: bool) -> None:
    """Twelve layers of a sigmoid leave some 1e-10 of the gradient for the first. A rate of 0.01 is
    what Adam moves a weight by in an update, of weights of about 0.2 some twentieth."""
    spec = small(
        "mlp",
        activation="sigmoid",
        optimizer="adam",
        momentum=None,
        lr=0.01,
        eps=eps,
        lengths=[12],
        clip="none",
        updates=4,
    )
    moved = data(spec)["log_moved"][:, 0, 0, 11]
    assert (moved > math.log(0.05)).all() if far else (moved < math.log(0.005)).all()


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"hidden": 3}, r"^hidden: 3 is not allowed; 4 or more, as many as there are classes$"),
        ({"updates": 3, "batch": 25}, r"^updates: 3 .* 100 inputs: 4 updates of 25 or more"),
        ({"trace": 13}, r"^trace: 13 is not allowed; 1 to 12, the updates$"),
        ({"eps": 1e-8}, r"^eps: 1e-08 means nothing for optimizer sgd; it is for the others$"),
        (
            {"optimizer": "adam", "momentum": None, "eps": 1e-320},
            r"^eps: 1e-320 is not allowed; 2\.2e-308 or more in float64$",
        ),
        ({"norm": "batch", "batch": 1, "updates": 100}, r"^batch: 1 is not allowed; batch norm"),
        ({"sequences": 4}, r"^sequences: 4 means nothing for mlp; it is for transformer$"),
        ({"frozen": True}, r"^clip: 'step-norm:0.05' is not allowed; nothing goes back through"),
        ({"readout": "last"}, r"^readout: no such field"),
        ({"lengths": None}, r"^lengths: is needed; such as 2:50:6, or 2,5,10$"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        small("mlp", **given)


@pytest.mark.tiny
def test_the_spec_survives_its_file_and_names_itself() -> None:
    spec = small("resnet")
    assert kinds.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.to_dict()["kind"] == "train"
    assert spec.hash != small("resnet", seed=4).hash
    assert small("mlp", init="he").bias_scale == 0.0
    assert small("mlp").bias_scale is None
    assert Stacks(small("resnet")).course(2).drawn_as.branch_scale == 2**-0.5


WORDS = ("train", "--activation", "tanh", "--depths", "1,2", "--width", "8", "--networks", "4")
WORDS += ("--updates", "40", "--lr", "0.03")


def run(*words: str) -> Any:
    return seqlab_(*WORDS, *words)


def test_the_command_s_table(tmp_path: Path) -> None:
    done = run("--store", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines())) <= 80
    assert "classes: trivial loss 1.386; solved under 0.6931, 0.5 of it" in done.output
    assert "learnable depth" in done.output
    assert "step" not in done.output
    frame = seqlab.load(tmp_path)
    assert set(frame["depth" if "depth" in frame else "length"]) == {1, 2}
    shown = seqlab_("table", str(tmp_path))
    assert "networks that learn the task, by depth" in shown.output
    assert max(map(len, shown.output.splitlines())) <= 80


def test_the_command_and_the_function_are_the_same(tmp_path: Path) -> None:
    done = run("--store", str(tmp_path), "--json", "--plot", str(tmp_path / "a.svg"))
    assert done.exit_code == 0, done.output
    one = seqlab.train(
        activation="tanh", depths=[1, 2], width=8, networks=4, updates=40, lr=0.03
    ).to_json()
    other = json.loads(done.stdout)
    assert one["spec"] == other["spec"]
    assert one["curves"] == other["curves"]
    assert (tmp_path / "a.svg").stat().st_size > 0
    [kept] = tmp_path.glob("*.nc")
    again = seqlab_("train", "--from", kept, "--json", "--store", tmp_path)
    assert json.loads(again.stdout)["curves"] == other["curves"]


@pytest.mark.tiny
def test_the_command_refuses_in_its_own_words(tmp_path: Path) -> None:
    for words, said in (
        (("--width", "2"), "width: 2 is not allowed; 4 or more, as many as there are classes"),
        (("--backend", "cuda"), "backend: cuda does not train; allowed: cpu"),
        (("--arch", "rnn"), "arch: 'rnn' is not allowed; mlp, resnet, densenet or transformer"),
    ):
        done = run(*words, "--store", str(tmp_path))
        assert done.exit_code == 2
        assert done.stderr.strip().endswith(said), done.stderr


@pytest.mark.tiny
def test_a_checklist_is_for_runs_of_depth(tmp_path: Path) -> None:
    found = seqlab.train(arch="mlp", depths=[1], width=8, networks=2, updates=4, batch=25)
    with pytest.raises(InputError, match=r"^check: looks at the first updates of a run of seqlab"):
        found.checks()


def test_a_study_sweeps_training_through_depth(tmp_path: Path) -> None:
    study = tmp_path / "a.toml"
    study.write_text(
        "[study]\nname = 'depths'\nkind = 'train'\n"
        "[fixed]\nlengths = [1, 2]\nhidden = 8\nnetworks = 4\nupdates = 8\n"
        "[grid]\narch = ['mlp', 'resnet']\nactivation = ['tanh', 'relu']\n"
    )
    store = tmp_path / "store"
    done = seqlab_("sweep", str(study), "--store", str(store))
    assert done.exit_code == 0, done.output
    assert len(list(store.glob("*.nc"))) == 4
    figure = tmp_path / "b.svg"
    done = seqlab_("plot", str(store), "--value", "solved_share", "-o", str(figure))
    assert done.exit_code == 0, done.output
