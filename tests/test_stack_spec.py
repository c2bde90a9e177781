"""The spec of a deep stack: what is filled in, what is refused, and that runs keep their hashes."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stacks
from stack_specs import refusal, stack
from studies import seqlab_, toml

from seqlab.cells import CELLS, Sizes
from seqlab.errors import InputError
from seqlab.layers.draws import INITS
from seqlab.numbers import activations, spellings
from seqlab.spec import kinds
from seqlab.spec.run import RunSpec
from seqlab.spec.stack import StackSpec
from seqlab.spec.stack_table import STACK_TABLE, STACKS
from seqlab.spec.study import StudySpec
from seqlab.spec.table import TABLE

# The table.


def test_a_spec_has_the_fields_of_the_table_in_its_order() -> None:
    assert [field.name for field in fields(StackSpec)] == list(STACK_TABLE)
    for name in STACK_TABLE.keys() & TABLE.keys() - {"arch", "activation", "init"}:
        assert STACK_TABLE[name].parse is TABLE[name].parse, name


@pytest.mark.parametrize("name", STACK_TABLE.defaults)
def test_defaults_are_in_their_canonical_form(name: str) -> None:
    assert STACK_TABLE[name].parse(name, STACK_TABLE[name].default) == STACK_TABLE[name].default


ALWAYS = {"arch", "steps", "hidden", "networks", "seed", "activation", "init"} | {
    *("clip", "lengths", "dtype")
}
FILLED_IN = {
    "mlp": {"batch", "norm"},
    "resnet": {"batch", "norm", "order", "alpha"},
    "densenet": {"batch", "norm", "readout"},
    "transformer": {"tokens", "heads", "place", "alpha", "readout"},
}


@pytest.mark.parametrize("arch", STACKS)
def test_what_is_left_out_is_filled_in_and_what_is_idle_is_none(arch: str) -> None:
    spec = stack(arch=arch)
    known = {name: value for name, value in spec.to_dict().items() if value is not None}
    assert known.keys() == ALWAYS | FILLED_IN[arch]
    usual = STACK_TABLE.defaults | {
        "arch": arch,
        "steps": 12,
        "clip": ["none", "step-norm:1"],
        "lengths": [10, 11, 12],
    }
    assert known == {name: usual[name] for name in known}
    assert StackSpec.from_dict(spec.to_dict()) == spec
    assert spec.rows == 32


FOR_MLP = {"arch": "mlp"}
# A field and a value, beside what it means nothing, beside what it means something, and why.
IDLE: list[tuple[str, Any, dict[str, Any], dict[str, Any], str]] = [
    ("batch", 8, {"arch": "transformer"}, FOR_MLP, "for transformer; it is for mlp, resnet or de"),
    ("inputs", 8, {"arch": "transformer"}, FOR_MLP, "for transformer; it is for mlp or resnet"),
    ("inputs", 8, {"arch": "densenet"}, FOR_MLP, "for densenet; it is for mlp or resnet"),
    ("inputs", 8, {"in_law": True}, {"in_law": False}, "with in_law, whose input has the width"),
    ("tokens", 8, FOR_MLP, {"arch": "transformer"}, "for mlp; it is for transformer"),
    ("heads", 8, FOR_MLP, {"arch": "transformer"}, "for mlp; it is for transformer"),
    ("gain", 2.0, {"init": "pytorch"}, {"init": "he"}, "for init pytorch; it is for init xavier, "),
    ("bias_scale", 0.1, {"arch": "transformer"}, FOR_MLP, "for transformer; it is for mlp, resne"),
    ("norm", "layer", {"arch": "transformer"}, FOR_MLP, "for transformer; it is for mlp, resnet "),
    ("place", "post", FOR_MLP, {"arch": "transformer"}, "for mlp; it is for resnet or transforme"),
    (
        *("place", "post", {"arch": "resnet", "norm": "none"}),
        *({"arch": "resnet", "norm": "layer"}, "for norm none"),
    ),
    ("order", "inside", FOR_MLP, {"arch": "resnet"}, "for mlp; it is for resnet"),
    ("alpha", 0.5, FOR_MLP, {"arch": "resnet"}, "for mlp; it is for resnet or transformer"),
    ("alpha", 0.5, {"arch": "densenet"}, {"arch": "transformer"}, "for densenet; it is for resnet"),
    ("readout", "last", FOR_MLP, {"arch": "densenet"}, "for mlp; it is for densenet or transforme"),
    ("in_law", True, {"arch": "densenet"}, FOR_MLP, "for densenet; it is for mlp or resnet"),
    ("spectrum", 1, {"arch": "densenet"}, FOR_MLP, "for densenet; it is for mlp, resnet or trans"),
]


@pytest.mark.parametrize(("name", "value", "idle", "meant", "why"), IDLE)
def test_what_means_nothing_is_refused_and_left_out_of_studies(
    name: str, value: Any, idle: dict[str, Any], meant: dict[str, Any], why: str
) -> None:
    given = {name: value}
    assert refusal(**idle, **given).startswith(f"{name}: {value!r} means nothing {why}")
    assert getattr(stack(**meant, **given), name) == value
    fixed = {"steps": 12, **given} | ({} if "arch" in idle else FOR_MLP)
    columns = {key: [idle[key], meant[key]] for key in idle}
    study = StudySpec.create({"study": {"name": "idle"}, "fixed": fixed, "zip": columns})
    assert study.runs == (stack(**idle), stack(**meant, **given))
    (note,) = study.notes
    assert note.startswith(f"{name} means nothing {why.partition(';')[0]}")


def test_a_file_means_nothing_for_others_nor_a_module_without_one() -> None:
    assert refusal(arch="densenet", params="w.npz") == (
        "params: 'w.npz' means nothing for densenet; it is for mlp or resnet"
    )
    assert refusal(module="body").startswith("module: 'body' means nothing without params")


# One by one.


def test_every_name_is_that_of_an_activation() -> None:
    assert spellings.NAMES == activations.NAMES
    for name in spellings.NAMES:
        assert activations.find_activation(name).steepest > 0


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        *((name, name) for name in spellings.PLAIN),
        *(("leaky", "leaky:0.01"), ("prelu", "prelu:0.25"), ("elu", "elu:1")),
        *(("leaky:.20", "leaky:0.2"), ("elu:1.0", "elu:1"), ("prelu:-0.0", "prelu:0")),
        *(("leaky: 0.3", "leaky:0.3"), ("elu:1e-3", "elu:0.001")),
    ],
)
def test_activations_have_one_spelling(given: str, kept: str) -> None:
    spec = stack(activation=given)
    assert spec.activation == kept
    assert stack(activation=kept) == spec
    assert stack(activation=kept).hash == spec.hash
    slopes = [
        activations.find_activation(name).slope(np.array([-0.5, 2.0])) for name in (given, kept)
    ]
    assert np.array_equal(*slopes)


@pytest.mark.parametrize(
    ("norm", "kept"), [("none",) * 2, ("batch",) * 2, ("layer",) * 2, ("group:08", "group:8")]
)
def test_norms_have_one_spelling(norm: str, kept: str) -> None:
    assert stack(norm=norm).norm == kept


def test_a_flag_that_is_false_is_as_if_it_were_left_out() -> None:
    assert stack(in_law=False) == stack()
    assert stack(arch="transformer", in_law=False) == stack(arch="transformer")


def test_biases_are_pytorchs_none_or_of_a_scale() -> None:
    assert stack().bias_scale is None
    assert stack(bias_scale=0).bias_scale == 0
    for init in INITS[1:]:
        assert stack(init=init).bias_scale == 0
        assert stack(init=init) == stack(init=init, bias_scale=0)
    assert stack(init="he", bias_scale=0.5).bias_scale == 0.5


def test_a_branch_is_scaled_by_a_number_or_by_the_depth() -> None:
    assert stack(arch="resnet", alpha=2).branch_scale == 2.0
    assert stack(arch="resnet", steps=16, alpha="sqrt").branch_scale == 0.25
    assert stack(arch="resnet", steps=16, alpha="sqrt").alpha == "sqrt"
    assert stack().branch_scale is None


def test_depths_are_the_depth_alone_where_others_would_be_other_nets() -> None:
    assert stack(arch="resnet", alpha="sqrt").lengths == (12,)
    assert stack(in_law=True).lengths == (12,)
    assert stack(arch="resnet").lengths == (10, 11, 12)


def test_in_law_there_is_one_input_and_no_clipping() -> None:
    spec = stack(in_law=True)
    assert (spec.batch, spec.clip, spec.inputs) == (1, ("none",), None)
    assert spec == stack(in_law=True, batch=1, clip="none", lengths=[12])
    assert stack(arch="resnet", in_law=True, norm="layer", init="orthogonal").in_law is True


# What is refused.

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"arch": "rnn"}, "arch: 'rnn' is not allowed; mlp, resnet, densenet or transformer"),
    ({"arch": None}, "arch: is needed; mlp, resnet, densenet or transformer"),
    ({"steps": None}, "steps: is needed; a whole number from 1 up"),
    ({"steps": 0}, "steps: 0 is not allowed; a whole number from 1 up"),
    ({"batch": 0}, "batch: 0 is not allowed; a whole number from 1 up"),
    ({"activation": "rellu"}, "activation: 'rellu' is not allowed; identity, sigmoid, tanh, "),
    ({"activation": "elu:"}, "activation: 'elu:' is not allowed; elu:NUMBER with a finite"),
    ({"activation": "relu:1"}, "activation: 'relu:1' is not allowed; identity"),
    ({"activation": 1}, "activation: 1 is not allowed; identity"),
    ({"init": "ones"}, "init: 'ones' is not allowed; pytorch, xavier, he, normal, unit-normal or"),
    ({"init": "he", "gain": 0}, "gain: 0 is not allowed; a positive, finite number"),
    ({"bias_scale": -1}, "bias_scale: -1 is not allowed; a finite number from 0 up"),
    ({"norm": "group"}, "norm: 'group' is not allowed; none, batch, layer or group:G, G a whole"),
    ({"norm": "group:0"}, "norm: 'group:0' is not allowed; none, batch, layer or group:G"),
    ({"norm": "layer:2"}, "norm: 'layer:2' is not allowed; none, batch, layer or group:G"),
    ({"norm": 3}, "norm: 3 is not allowed; none, batch, layer or group:G"),
    ({"arch": "resnet", "place": "mid"}, "place: 'mid' is not allowed; pre or post"),
    ({"arch": "resnet", "order": "both"}, "order: 'both' is not allowed; outside or inside"),
    ({"arch": "resnet", "alpha": "root"}, "alpha: 'root' is not allowed; a finite number or sqrt"),
    ({"arch": "densenet", "readout": "one"}, "readout: 'one' is not allowed; last or all"),
    ({"in_law": 1}, "in_law: 1 is not allowed; true or false"),
    ({"state": 3}, "state: no such field"),
    ({"widht": 3}, "widht: no such field"),
]  # fmt: skip
TOGETHER: list[tuple[dict[str, Any], str]] = [
    ({"lengths": [5]}, "lengths: 5 is not allowed as the last; it must equal steps, 12"),
    (
        {"norm": "batch", "batch": 1},
        "batch: 1 is not allowed; batch norm needs 2 inputs at least; with 2 every gradient",
    ),
    ({"norm": "group:5"}, "norm: 'group:5' is not allowed; groups must divide the width, 64"),
    ({"arch": "transformer", "heads": 5}, "heads: 5 is not allowed; heads must divide the width"),
    ({"arch": "transformer", "hidden": 6}, "heads: 4 is not allowed; heads must divide the width"),
    ({"arch": "transformer", "init": "he"}, "init: 'he' is not allowed; transformer: pytorch or "),
    (
        {"arch": "resnet", "alpha": "sqrt", "lengths": [6, 12]},
        "lengths: 2 of them are not allowed beside alpha sqrt; every depth would have branch",
    ),
    ({"spectrum": 2049}, "spectrum: 2049 is not allowed; 1 to 2048, the size of the state"),
    (
        {"arch": "transformer", "hidden": 8, "tokens": 3, "spectrum": 25},
        "spectrum: 25 is not allowed; 1 to 24, the size of the state",
    ),
    ({"in_law": True, "norm": "batch"}, "norm: 'batch' is not allowed; in_law takes norm none or"),
    ({"in_law": True, "norm": "group:2"}, "norm: 'group:2' is not allowed; in_law takes norm"),
    ({"in_law": True, "batch": 2}, "batch: 2 is not allowed; in_law takes a batch of 1"),
    ({"in_law": True, "clip": ["none", "norm:1"]}, "clip: 'none+norm:1' is not allowed; in_law"),
    ({"in_law": True, "spectrum": 1}, "spectrum: 1 is not allowed; in_law takes no spectrum"),
]


@pytest.mark.parametrize(("given", "message"), WRONG + TOGETHER)
def test_what_is_refused(given: dict[str, Any], message: str) -> None:
    assert refusal(**given).startswith(message)


def test_what_stands_at_the_border_is_allowed() -> None:
    assert stack(norm="batch", batch=2).batch == 2
    assert stack(norm="group:64").norm == "group:64"
    assert stack(arch="transformer", heads=64).heads == 64
    assert stack(spectrum=2048).spectrum == 2048
    assert stack(arch="transformer", hidden=8, tokens=3, spectrum=24).spectrum == 24
    assert stack(arch="resnet", alpha="sqrt", lengths=[12]).lengths == (12,)


# Both kinds.

# As they were before there was a second kind: stores and studies of old have these names.
HASHES: list[tuple[dict[str, Any], str]] = [
    ({"arch": "rnn", "steps": 100}, "69827d7d12d49bc0"),
    (
        {"arch": "lstm", "steps": 1000, "forget_bias": "chrono", "clip": ["none", "norm:1.0"]},
        "1019ca9fa3ca5992",
    ),
    (
        {
            "arch": "gru",
            "steps": 50,
            "init": "orthogonal",
            "gain": 0.9,
            "spectrum": 3,
            "dtype": "float32",
            "lengths": "10:50:4",
        },
        "499e45f976f79c01",
    ),
    ({"arch": "ssm", "steps": 20, "networks": 3, "seed": 7}, "02d52a241c3585a0"),
    (
        {
            "arch": "rnn",
            "steps": 20,
            "activation": "relu",
            "init": "he",
            "input_scale": 0,
            "drive": "zeros",
            "hidden": 8,
        },
        "4bc22b559d732a27",
    ),
]


@pytest.mark.parametrize(("given", "known"), HASHES)
def test_runs_of_cells_keep_their_hashes(given: dict[str, Any], known: str) -> None:
    assert RunSpec.create(**given).hash == known


def test_a_run_of_ones_own_weights_keeps_its_hash(here: Path) -> None:
    shapes = CELLS["rnn"].shapes(Sizes(3, 2))
    np.savez("p.npz", **{name: np.full(shape, 0.5) for name, shape in shapes.items()})
    assert RunSpec.create(arch="rnn", steps=9, params="p.npz").hash == "fe3bc21e8fa7d036"


def test_stacks_have_hashes_that_stay() -> None:
    assert stack(steps=50).hash == "eee9e53373dca2bc"
    assert stack(steps=50, init="he").hash == "f26f242ce00d4c94"
    assert stack(steps=50, arch="transformer").hash != stack(steps=50, arch="resnet").hash


def test_an_architecture_has_its_kind() -> None:
    for arch in STACKS:
        assert kinds.of(arch).spec is StackSpec
        assert isinstance(kinds.create(arch=arch, steps=3), StackSpec)
    for arch in CELLS:
        assert kinds.of(arch).spec is RunSpec
    assert kinds.links(["rnn", "mlp", "lstm", "resnet"]) == ("step", "layer")
    assert not STACKS.keys() & CELLS.keys()


def test_a_study_has_cells_beside_stacks(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks.made_up(monkeypatch)
    content = {
        "study": {"name": "tied and untied"},
        "fixed": {"steps": 20, "networks": 3, "init": "xavier", "activation": "tanh"},
        "grid": {"arch": ["rnn", "mlp", "densenet"], "norm": ["none", "layer"]},
    }
    Path("study.toml").write_text(toml(content))
    done = seqlab_("sweep", "study.toml", "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert done.stderr.splitlines() == [
        "norm means nothing for rnn, and is left out there",
        "1 of 6 runs equal another, measured once for both",
    ]
    runs = StudySpec.read("study.toml").runs
    assert [(spec.arch, getattr(spec, "norm", None)) for spec in runs] == [
        *(("rnn", None), ("mlp", "none"), ("mlp", "layer")),
        *(("densenet", "none"), ("densenet", "layer")),
    ]


@pytest.mark.parametrize(
    ("fixed", "said"),
    [
        ({"arch": "rnn", "activation": "gelu"}, "fixed.activation: 'gelu' is not allowed; tanh, "),
        ({"arch": "mlp", "init": "ones"}, "fixed.init: 'ones' is not allowed; pytorch, xavier, he"),
        ({"arch": "rnn", "norm": "layer"}, "norm: means nothing for rnn: it serves no run"),
        ({"arch": "mlp", "norm": "group:3"}, "norm: 'group:3' is not allowed; groups must divide"),
        ({"arch": "mlp", "depth": 3}, "fixed.depth: no such field"),
    ],
)
def test_a_study_refuses_in_the_words_of_its_kinds(fixed: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        StudySpec.create({"study": {"name": "x"}, "fixed": {"steps": 20} | fixed})
    assert str(caught.value).startswith(said)
