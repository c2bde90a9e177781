"""The spec of training: what is refused and in which words, its dictionary, its kind, its study."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from studies import refusal, seqlab_, toml

from seqlab.cells import CELLS
from seqlab.errors import InputError
from seqlab.figures.names import in_order
from seqlab.learning.optimisers import OPTIMISERS
from seqlab.spec import kinds
from seqlab.spec.learn import LearnSpec
from seqlab.spec.learn_table import LEARN_TABLE, RATES, times_of
from seqlab.spec.run import RunSpec
from seqlab.spec.study import StudySpec
from seqlab.spec.table import TABLE
from seqlab.tasks import TASKS
from seqlab.wording import one_of

BIASED = one_of(cell.name for cell in CELLS.values() if "forget_bias" in cell.options)

pytestmark = pytest.mark.tiny

FULL: dict[str, Any] = {
    "arch": "lstm",
    "task": "teacher:0.990",
    "hidden": 5,
    "networks": 3,
    "seed": 2,
    "init": "he",
    "gain": 1.5,
    "forget_bias": "chrono",
    "optimizer": "sgd",
    "lr": [0.1, 0.01, 0.1],
    "momentum": 0.9,
    "schedule": "cosine",
    "updates": 30,
    "sequences": 4,
    "solved": 0.2,
    "trace": 10,
    "clip": ["none", "norm:0.10x", "norm:1.0"],
    "lengths": "5:20:3",
    "dtype": "float64",
}


def spec(**given: Any) -> LearnSpec:
    return LearnSpec.create(**{"arch": "rnn", "lengths": [10]} | given)


def test_a_spec_has_the_fields_of_the_table_in_its_order() -> None:
    assert [field.name for field in fields(LearnSpec)] == list(LEARN_TABLE)
    assert list(spec().to_dict()) == ["kind", *LEARN_TABLE]


def test_every_option_of_run_that_draws_networks_is_there() -> None:
    drawn = {name for cell in CELLS.values() for name in cell.options}
    assert drawn - {"inputs"} <= set(LEARN_TABLE)
    apart = {"inputs", "drive", "spectrum", "params", "module", "input", "truncation"} | {"layers"}
    assert set(TABLE) - set(LEARN_TABLE) == apart
    assert set(RATES) == set(OPTIMISERS)


def test_values_have_one_form() -> None:
    one = LearnSpec.create(**FULL)
    assert one.task == "teacher:0.99"
    assert one.lr == (0.1, 0.01)
    assert one.clip == ("none", "norm:0.1x", "norm:1")
    assert (one.lengths, one.steps) == ((5, 10, 20), 20)
    assert (one.inputs, one.sizes.inputs, one.how.steps) == (1, 1, 20)
    assert spec(optimizer="rmsprop").lr == (RATES["rmsprop"],)
    assert spec(lengths=None, steps=7).lengths == (7,)
    assert (spec().momentum, spec(optimizer="sgd").momentum) == (None, 0.0)
    assert [spec(task=name).inputs for name in TASKS] == [1, 2, 10, 6, 1, 1]


@pytest.mark.parametrize("given", [FULL, {"arch": "ssm", "lengths": [10]}])
def test_a_dictionary_gives_the_spec_back(given: dict[str, Any]) -> None:
    one = LearnSpec.create(**given)
    written = json.loads(json.dumps(one.to_dict(), allow_nan=False))
    assert written["kind"] == "learn"
    for read in (LearnSpec.from_dict, kinds.from_dict):
        assert read(written) == one
        assert read(written).hash == one.hash
    assert kinds.of_spec(one).spec is LearnSpec
    assert kinds.of_spec(RunSpec.create(arch="rnn", steps=9)).spec is RunSpec
    assert kinds.of("rnn").spec is RunSpec


def test_hashes_never_change() -> None:
    assert spec().hash == "83b234f817988f11"
    assert LearnSpec.create(**FULL).hash == "7e90d29ad62d6392"
    assert spec().hash != spec(lengths=[11]).hash != spec(lengths=[11], seed=1).hash


def test_the_kind_is_part_of_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = spec().hash
    monkeypatch.setattr(LearnSpec, "kind", "another")
    assert spec().hash != before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"task": "lach"},
            "task: 'lach' is not allowed; latch, adding, copy, temporal-order, parity or teacher (",
        ),
        ({"task": 3}, "task: 3 is not allowed; "),
        ({"arch": "mlp"}, f"arch: 'mlp' is not allowed; {one_of(CELLS)}"),
        ({"arch": None}, f"arch: is needed; {one_of(CELLS)}"),
        ({"lengths": None}, "lengths: is needed; such as 10:160:5, or 10,20,40"),
        ({"task": "adding", "lengths": "1,4"}, "lengths: 1 is not allowed; adding needs 2 or more"),
        ({"solved": 1.0}, "solved: 1.0 is not allowed; a share of the trivial loss, above 0 and"),
        ({"solved": 0}, "solved: 0 is not allowed; a share of the trivial loss, above 0 and below"),
        ({"steps": 9}, "lengths: 10 is not allowed as the last; it must equal steps, 9"),
        ({"inputs": 3}, "inputs: no such field"),
        ({"forget_bias": 1.0}, f"forget_bias: 1.0 means nothing for rnn; it is for {BIASED}"),
        (
            {"arch": "lstm", "forget_bias": "chrono", "lengths": [2]},
            "forget_bias: 'chrono' is not allowed; it needs steps from 3 up, not 2",
        ),
        ({"input_scale": 0.0}, "input_scale: 0.0 is not allowed; a finite number above 0"),
        ({"momentum": 0.5}, "momentum: 0.5 means nothing for optimizer adam; it is for sgd"),
        ({"optimizer": "sgd", "momentum": 1}, "momentum: 1 is not allowed; a number from 0 to"),
        ({"optimizer": "adamw"}, "optimizer: 'adamw' is not allowed; sgd, rmsprop or adam"),
        ({"lr": [0.1, 0]}, "lr: 0 is not allowed; a positive, finite number, or a list of them"),
        ({"lr": []}, "lr: [] is not allowed; a positive, finite number, or a list of them"),
        ({"lr": "0.1"}, "lr: '0.1' is not allowed; a positive, finite number, or a list of them"),
        ({"schedule": "step"}, "schedule: 'step' is not allowed; constant or cosine"),
        ({"trace": 2001}, "trace: 2001 is not allowed; 1 to 2000, the updates"),
        (
            {"updates": 6},
            "updates: 6 is not allowed; a loss is judged by 100 sequences: 7 updates of 16 or more",
        ),
        ({"clip": "norm:x"}, "clip: 'norm:x' has no positive, finite factor; such as norm:0.1x"),
        ({"clip": "norm:-1x"}, "clip: 'norm:-1x' has no positive, finite factor; such as norm:0.1"),
        ({"clip": "value:1x"}, "clip: 'value:1x' has no positive, finite threshold; allowed: none"),
        ({"clip": []}, "clip: [] is not allowed; a rule or a list of rules: none, norm:c"),
        ({"clip": ["none", 3]}, "clip: ['none', 3] is not allowed; a rule or a list of rules: "),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        spec(**given)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_rule_in_units_of_the_first_gradient() -> None:
    assert times_of("norm:0.1x") == 0.1
    assert [times_of(text) for text in ("norm:1", "none", "step-norm:1")] == [None] * 3
    rules = ["norm:10x", "norm:1", "none", "norm:0.1x"]
    assert in_order(rules) == ["none", "norm:0.1x", "norm:1", "norm:10x"]


def test_an_unknown_kind_is_refused() -> None:
    for wrong in ("lern", 3):
        with pytest.raises(InputError, match=r"^kind: .* is not allowed; learn or train$"):
            kinds.from_dict(spec().to_dict() | {"kind": wrong})
    with pytest.raises(InputError, match=r"^kind: no such field"):
        RunSpec.from_dict(RunSpec.create(arch="rnn", steps=9).to_dict() | {"kind": "learn"})


def test_training_is_not_among_the_options_of_a_run() -> None:
    with pytest.raises(InputError, match=r"^task: no such field$"):
        kinds.create(arch="rnn", steps=9, task="latch")


# Studies.

LEARN = {"name": "a study", "kind": "learn"}
FIXED = {"arch": "rnn", "lengths": [5], "hidden": 3, "networks": 2, "updates": 7}


def study(fixed: Any = (), grid: Any = (), name: Any = LEARN) -> StudySpec:
    return StudySpec.create({"study": name, "fixed": FIXED | dict(fixed), "grid": dict(grid)})


def test_a_study_of_training() -> None:
    grid = {"task": ["latch", "parity"], "clip": ["none", ["none", "norm:1x"]], "lr": [0.1, [1, 2]]}
    runs = study(grid=grid).runs
    assert len(runs) == 8
    assert all(isinstance(run, LearnSpec) for run in runs)
    last = LearnSpec.create(**FIXED, task="parity", clip=["none", "norm:1x"], lr=[1.0, 2.0])
    assert runs[-1] == last


def test_what_means_nothing_for_some_cells_is_left_out_there() -> None:
    fixed = {name: value for name, value in FIXED.items() if name != "arch"}
    tables = {"study": LEARN, "fixed": fixed | {"forget_bias": 1.0}}
    one = StudySpec.create(tables | {"grid": {"arch": ["rnn", "lstm"]}})
    assert [run.to_dict()["forget_bias"] for run in one.runs] == [None, 1.0]
    assert one.notes == ("forget_bias means nothing for rnn, and is left out there",)


@pytest.mark.parametrize(
    ("fixed", "name", "message"),
    [
        ({"drive": "white"}, LEARN, "fixed.drive: no such field"),
        ({"task": "lach"}, LEARN, "task: 'lach' is not allowed; "),
        ({"task": "latch"}, {"name": "a study"}, "fixed.task: no such field"),
        ({}, LEARN | {"kind": "lern"}, "study.kind: 'lern' is not allowed; learn"),
        ({"arch": "mlp"}, LEARN, f"fixed.arch: 'mlp' is not allowed; {one_of(CELLS)}"),
        ({"kind": "learn"}, {"name": "a study"}, "fixed.kind: no such field"),
    ],
)
def test_studies_are_refused(fixed: Any, name: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        study(fixed, name=name)
    assert str(caught.value).startswith(message)


def test_a_study_file_says_what_it_would_take(here: Path) -> None:
    content = {"study": LEARN, "fixed": FIXED, "grid": {"task": ["latch", "parity"]}}
    (here / "study.toml").write_text(toml(content))
    planned = seqlab_("sweep", "study.toml", "--store", "store", "--dry-run")
    assert planned.exit_code == 0, planned.stderr
    assert planned.stdout.startswith("a study: 2 runs, 0 of them in store\n")
    assert "task parity" in " ".join(planned.stdout.split())
    assert not (here / "store").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "lach"], "task: 'lach' is not allowed; "),
        (["--solved", 1], "solved: 1.0 is not allowed; "),
        (["--backend", "cuda"], "backend: cuda does not train; allowed: cpu"),
        (["--hidden", 10**6], "hidden: 1000000 is not allowed; the run would take about "),
        (["--networks", 10**9], "networks: 1000000000 is not allowed; "),
        (["--init", "he", "--gain", 1e39], "gain: 1e+39 is not allowed; weight_hh must stay in"),
        (["--plot", "a.doc"], "plot: 'a.doc' has no known format; "),
    ],
)
def test_the_command_refuses_before_any_work(here: Path, words: list[Any], message: str) -> None:
    said = refusal(seqlab_("learn", "--arch", "rnn", "--lengths", 10, *words))
    assert said.startswith(message)
    assert list(here.iterdir()) == []
