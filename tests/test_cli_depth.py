"""`seqlab depth` and `seqlab.depth`: the words of depth, and that they mean what `run` measures."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stacks
from studies import RNN, refusal, seqlab_
from synthetic import made_result

import seqlab
from seqlab.errors import InputError
from seqlab.figures import Request, plot
from seqlab.figures.names import in_order, text
from seqlab.guard import baseline
from seqlab.report import run_table
from seqlab.spec.stack import StackSpec
from seqlab.spec.stack_table import STACK_TABLE
from seqlab.study import netcdf
from seqlab.study.result import Result
from seqlab.wording import in_links

DEPTH = ("depth", "--depth", 20, "--width", 8, "--networks", 4)


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> list[StackSpec]:
    return stacks.made_up(monkeypatch)


def only(found: list[StackSpec]) -> StackSpec:
    (spec,) = found
    return spec


# What the words mean.


def test_depth_measures_an_mlp_unless_told_otherwise(measured: list[Any], here: Path) -> None:
    done = seqlab_(*DEPTH, "--depths", "5,20")
    assert done.exit_code == 0, done.stderr
    spec = StackSpec.create(arch="mlp", steps=20, hidden=8, networks=4, lengths=[5, 20])
    assert measured == [spec]
    assert [file.name for file in (here / "seqlab-results").iterdir()] == [f"{spec.hash}.nc"]


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (("--activation", "elu"), {"activation": "elu:1"}),
        (("--init", "unit-normal", "--gain", 0.5), {"init": "unit-normal", "gain": 0.5}),
        (("--bias-scale", 0), {"bias_scale": 0.0}),
        (("--seed", 0, "--batch", 3), {"seed": 0, "batch": 3}),
        (("--inputs", 5, "--norm", "group:4"), {"inputs": 5, "norm": "group:4"}),
        (
            ("--arch", "resnet", "--order", "inside", "--alpha", "sqrt"),
            {"arch": "resnet", "order": "inside", "alpha": "sqrt"},
        ),
        (("--arch", "resnet", "--alpha", "0"), {"arch": "resnet", "alpha": 0.0}),
        (
            ("--arch", "transformer", "--tokens", 3, "--heads", 2, "--place", "post"),
            {"arch": "transformer", "tokens": 3, "heads": 2, "place": "post"},
        ),
        (("--arch", "densenet", "--readout", "last"), {"arch": "densenet", "readout": "last"}),
        (("--in-law",), {"in_law": True}),
        (("--clip", "none", "--clip", "norm:2.0"), {"clip": ("none", "norm:2")}),
        (("--spectrum", 2, "--dtype", "float32"), {"spectrum": 2, "dtype": "float32"}),
    ],
)
def test_options_are_the_fields_of_a_spec(
    words: tuple[Any, ...], given: dict[str, Any], measured: list[Any], here: Path
) -> None:
    done = seqlab_(*DEPTH, *words)
    assert done.exit_code == 0, done.stderr
    wanted = {"arch": "mlp", "steps": 20, "hidden": 8, "networks": 4} | given
    assert only(measured) == StackSpec.create(**wanted)


def test_ones_own_weights_give_depth_and_width(measured: list[Any], here: Path) -> None:
    np.savez("w.npz", *np.ones((3, 5, 5)))
    done = seqlab_("depth", "--params", "w.npz")
    assert done.exit_code == 0, done.stderr
    assert (only(measured).steps, only(measured).hidden) == (3, 5)
    assert refusal(seqlab_("depth", "--params", "w.npz", "--width", 6)) == (
        "width: 6 does not match the 5 of params w.npz"
    )
    assert refusal(seqlab_("depth", "--params", "w.npz", "--depth", 6)) == (
        "depth: 6 does not match the 3 of params w.npz"
    )


def test_run_and_python_mean_the_same(measured: list[Any], here: Path) -> None:
    assert seqlab_(*DEPTH, "--activation", "tanh").exit_code == 0
    words = ("--arch", "mlp", "--steps", 20, "--hidden", 8, "--networks", 4)
    assert seqlab_("run", *words, "--activation", "tanh").exit_code == 0
    found = seqlab.depth(depth=20, width=8, networks=4, activation="tanh", in_law=False)
    again = seqlab.run(arch="mlp", steps=20, hidden=8, networks=4, activation="tanh")
    assert len(measured) == 4
    assert len(set(measured)) == 1
    assert found.spec == again.spec == measured[0]


def test_python_keeps_and_tells_as_run_does(here: Path) -> None:
    result = seqlab.depth(arch="resnet", depth=20, depths=[5, 20], width=8, store="kept")
    assert result.path == Path("kept") / f"{result.spec.hash}.nc"
    assert Result.read(result.path).spec == result.spec
    assert result.spec.lengths == (5, 20)


def test_a_result_is_measured_again(measured: list[Any], here: Path) -> None:
    path = seqlab.depth(depth=20, width=8, store="kept").path
    assert seqlab_("depth", "--from", path).exit_code == 0
    assert seqlab_("run", "--from", path).exit_code == 0
    assert len(measured) == 3
    assert len(set(measured)) == 1


def test_json_has_the_fields_of_the_spec(here: Path) -> None:
    done = seqlab_(*DEPTH, "--json")
    document = json.loads(done.stdout)
    assert document["spec"]["steps"] == 20
    assert list(document["spec"]) == list(STACK_TABLE)
    assert [entry["clip"] for entry in document["curves"]] == ["none", "step-norm:1"]


# What is refused.

REFUSED = [
    ((), "depth: is needed; a whole number from 1 up"),
    (("--depth", 0), "depth: 0 is not allowed; a whole number from 1 up"),
    (("--depth", 9, "--width", 0), "width: 0 is not allowed; a whole number from 1 up"),
    (("--steps", 9), "No such option '--steps'."),
    (("--hidden", 9), "No such option '--hidden'."),
    (("--depth", "ten"), "Invalid value for '--depth': 'ten' is not a valid integer."),
    (("--depth", 9, "--depths", "5"), "depths: 5 is not allowed as the last; it must equal depth"),
    (("--depth", 9, "--depths", "9,5"), "depths: '9,5' is not allowed; a:b:n with 1 <= a <= b, or"),
    (("--depth", 9, "--arch", "rnn"), "arch: 'rnn' is not allowed; mlp, resnet, densenet or trans"),
    (
        ("--depth", 9, "--arch", "mlp", "--arch", "mlp"),
        "arch: 'mlp' is given twice; each architecture once",
    ),
    (
        ("--depth", 9, "--arch", "resnet", "--alpha", "sqrt", "--depths", "5,9"),
        "depths: 2 of them are not allowed beside alpha sqrt; every depth would have branches of",
    ),
    (("--depth", 9, "--in-law", "--batch", 2), "batch: 2 is not allowed; in_law takes a batch"),
    (("--depth", 9, "--arch", "densenet", "--in-law"), "in_law: True means nothing for densenet"),
    (("--depth", 9, "--backend", "cuda"), "backend: cuda has no mlp; it is on cpu"),
    (("--from", "none.nc"), "cannot read none.nc: No such file or directory"),
    (("--from", "none.nc", "--depth", 5), "depth: means nothing beside from, whose file says what"),
    (("--from", "none.nc", "--arch", "mlp"), "arch: means nothing beside from, whose file says"),
    (("--depth", 9, "--plot", "figure.gif"), "plot: 'figure.gif' has no known format"),
    (("--depth", 9, "--params", "steps.npz"), "params: cannot read steps.npz: No such file or dir"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_refused_before_any_work_in_the_words_of_depth(
    words: tuple[Any, ...], message: str, measured: list[Any], here: Path
) -> None:
    assert refusal(seqlab_("depth", *words)).startswith(message)
    assert measured == []
    assert list(here.iterdir()) == []


def test_what_does_not_fit_in_memory_is_refused_by_its_option(
    measured: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqlab.study.limits.available_memory", lambda: 2**30)
    for option in ("depth", "width"):
        said = refusal(seqlab_(*DEPTH, f"--{option}", 2**27))
        assert said.startswith(f"{option}: {2**27} is not allowed; the run would take about ")
        assert said.endswith(f"lower {option}")
    with pytest.raises(InputError, match=r"^depth: .* lower depth$"):
        seqlab.depth(depth=2**27)
    with pytest.raises(InputError, match=r"^steps: .* lower steps$"):
        seqlab.run(arch="mlp", steps=2**27)
    assert measured == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "depth: is needed"),
        ({"depth": 9, "depths": [3]}, "depths: 3 is not allowed as the last; it must equal depth"),
        ({"steps": 9}, "steps: no such option"),
        ({"depth": 9, "widht": 3}, "widht: no such option (did you mean width?)"),
        ({"depth": 9, "arch": "lstm"}, "arch: 'lstm' is not allowed; mlp, resnet"),
    ],
)
def test_python_refuses_in_the_words_of_depth(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        seqlab.depth(**given)
    assert str(caught.value).startswith(message)


def test_run_refuses_in_its_own_words() -> None:
    assert refusal(seqlab_("run", "--arch", "mlp")).startswith("steps: is needed")
    said = refusal(seqlab_("run", "--arch", "mlp", "--steps", 9, "--input", "x.npy"))
    assert said == "input: 'x.npy' means nothing for mlp"
    with pytest.raises(InputError, match=r"^norm: 'layer' means nothing for rnn$"):
        seqlab.run(arch="rnn", steps=9, norm="layer")
    with pytest.raises(InputError, match=r"^nrm: no such field \(did you mean norm\?\)$"):
        seqlab.run(arch="mlp", steps=9, nrm="layer")


# What is said.


def test_help_names_every_option_and_fits_in_80_columns() -> None:
    text = seqlab_("depth", "--help").stdout
    assert max(map(len, text.splitlines())) <= 80
    for name, word in STACK_TABLE.words.items():
        assert re.search(rf"^  --{word.replace('_', '-')}( |$)", text, re.MULTILINE), name
    for option in ("from", "backend", "store", "plot", "json"):
        assert f"--{option} " in text
    assert not re.search(r"^  --(steps|hidden|lengths|state|drive) ", text, re.MULTILINE)
    said = " ".join(text.split())
    assert "[default: mlp]" in said
    assert "L alone with --in-law or --alpha sqrt]" in said


def lines_of(text: str) -> list[str]:
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    return lines


def test_the_table_of_a_stack_speaks_of_layers(here: Path) -> None:
    done = seqlab_(*DEPTH, "--depths", "5,20", "--spectrum", 2)
    lines = lines_of(done.stdout)
    assert lines[0].startswith("mlp: depth 20, width 8, batch 32, networks 4, seed 0, dtype ")
    assert re.match(r" +decay rate, nat/layer  attenuation, decades$", lines[3])
    for line in (
        "attenuation by depth, decades",
        "attenuation    log10 of |dL/d state| T layers before the loss over that at lag 0",
        "> T            not within the T layers",
        "clipped        share of layers where the rule acted; norm, value: of networks",
    ):
        assert line in lines
    assert "Lyapunov exponents in nat/layer, the 2 largest of" in done.stdout
    assert "step-norm:1" in done.stdout
    without_rules = done.stdout.replace("step-norm", "")
    assert not re.search(r"\b(steps?|lengths?)\b", without_rules.split("stored:")[0])


def test_a_table_of_both_kinds_says_step_or_layer() -> None:
    results = [made_result("rnn", steps=20), made_result("mlp", steps=20)]
    text = run_table.table(results)
    lines = lines_of(text)
    assert lines[0].startswith("rnn, mlp: steps 20, hidden 64, networks 16, seed 0")
    assert "decay rate, nat/step or layer" in text
    assert "not within the T steps or layers" in text
    assert "attenuation by length or by depth, decades" in lines
    alone = lines_of(run_table.table(results[:1]))
    assert "> T            not within the T steps" in alone
    assert "layer" not in "\n".join(alone)


def test_the_table_of_a_store_speaks_of_its_kinds(here: Path) -> None:
    def title(*archs: str) -> str:
        for arch in archs:
            made_result(arch, steps=20).write("+".join(archs))
        return " ".join(seqlab_("table", "+".join(archs)).stdout.split("\n\n")[0].split())

    assert "|dL/d state| that many steps before the loss" in title("rnn")
    assert title("mlp").startswith(
        "attenuation by depth, decades: log10 of |dL/d state| that many la"
    )
    assert "by length or by depth" in title("rnn", "mlp")
    lines_of(seqlab_("table", "rnn+mlp").stdout)


def test_files_speak_of_layers(here: Path) -> None:
    for arch, link, title in (
        ("mlp", "layer", "seqlab: gradients through the layers of mlp, 20 layers"),
        ("rnn", "step", "seqlab: gradients through time of rnn, 20 steps"),
    ):
        path = made_result(arch, steps=20).write(here).path
        assert path is not None
        variables, attributes = netcdf.decode(path.read_bytes())
        assert attributes["title"] == title
        assert variables["lag"].units == variables["horizon"].units == link
        assert variables["lag"].long_name == f"{link}s between loss and state"
        assert variables["decay_rate"].units == f"nat/{link}"
        assert variables["underflow"].long_name.count(f"one {link}'s factor") == 1


@pytest.mark.filterwarnings("ignore:runs are drawn as one:seqlab.errors.Note")  # of both kinds
@pytest.mark.parametrize(
    ("archs", "lag", "length", "rate", "steps"),
    [
        (
            ["rnn"],
            *("lag (steps back from the loss)", "sequence length (steps)"),
            *("decay rate (nat/step)", "steps"),
        ),
        (
            ["mlp"],
            *("lag (layers back from the loss)", "depth (layers)"),
            *("decay rate (nat/layer)", "depth (layers)"),
        ),
        (
            ["rnn", "mlp"],
            "lag (steps or layers back from the loss)",
            "sequence length or depth (steps or layers)",
            *("decay rate (nat/step or layer)", "steps or depth (layers)"),
        ),
    ],
)  # fmt: skip
def test_figures_speak_of_the_kinds_drawn(
    archs: list[str], lag: str, length: str, rate: str, steps: str, here: Path
) -> None:
    results = [made_result(arch, steps=n) for arch in archs for n in (20, 40)]
    for asked, wanted in (
        (Request("curves", x="lag"), [lag]),
        (Request("curves", x="length", value="decay_rate"), [length, rate]),
        (Request("heatmap", x="length", y="arch", value="decay_rate"), [length, rate]),
        (Request("distribution", x="steps", value="decay_rate"), [steps, rate]),
    ):
        plot(results, "figure.svg", asked)
        text = " ".join(re.findall(r"<!-- (.*?) -->", Path("figure.svg").read_text()))
        for label in wanted:
            assert label in text, (asked.kind, text)


def test_the_guard_speaks_of_layers() -> None:
    for arch, link in (("mlp", "layer"), ("rnn", "step")):
        kept, found = (
            baseline.curves_of(made_result(arch, steps=20, rate=rate)) for rate in (-0.45, -0.2)
        )
        lines = baseline.compare(found, kept, 1e-6, 1e-6)
        assert any(f"rate -0.2 nat/{link}, was -0.45" in line for line in lines)


def test_words_of_links() -> None:
    text = "a step-norm rule at steps of a step: nat/step, by length"
    assert in_links(text, ["step"]) == text
    assert in_links(text, ["layer"]) == "a step-norm rule at layers of a layer: nat/layer, by depth"


# What was there before.


def test_runs_of_cells_are_as_they_were(here: Path) -> None:
    done = seqlab_(*RNN)
    assert done.exit_code == 0
    assert done.stdout.startswith("rnn: steps 20, hidden 3, inputs 2, networks 4, seed 0, dtype")
    assert refusal(seqlab_(*RNN, "--arch", "rnn")) == "arch: 'rnn' is given twice; each cell once"


def test_a_store_of_both_kinds_is_one_table(here: Path) -> None:
    for fields in (
        {"arch": "rnn"},
        {"arch": "mlp", "in_law": True},
        {"arch": "resnet", "alpha": "sqrt", "activation": "elu"},
        {"arch": "resnet", "alpha": 0.5, "inputs": 3, "norm": "layer", "place": "post"},
    ):
        made_result(steps=20, networks=3, **fields).write("both")
    table = seqlab.load("both")
    assert table["arch"].unique().tolist() == ["rnn", "mlp", "resnet"]
    (law,) = table.loc[table["in_law"].notna(), "arch"].unique()
    assert law == "mlp"
    assert set(table["alpha"].dropna()) == {0.5, "sqrt"}
    assert {str(table[name].dtype) for name in ("batch", "inputs", "tokens")} == {"Int64"}
    assert seqlab_("export", "both", "-o", "both.csv").exit_code == 0
    assert "in law yes" in " ".join(seqlab_("table", "both").stdout.split())
    for kind in ("heatmap", "curves", "distribution"):
        drawn = seqlab_("plot", "both", "-o", f"{kind}.svg", "--kind", kind)
        assert drawn.exit_code == 0, drawn.stderr


def test_axes_have_the_order_of_depth() -> None:
    for values in (
        ["none", "batch", "layer", "group:4", "group:16"],
        ["identity", "gelu", "leaky:0.01", "leaky:0.2", "elu:1"],
        ["pytorch", "orthogonal"],
        [None, 0.5, 1.0, "sqrt"],
    ):
        assert in_order(values[::-1]) == values
    assert (text(True), text(None), text("group:4")) == ("yes", "default", "group:4")
