"""The checklist: every line stands and falls, on numbers made for it and on stacks."""

import json
import math
from typing import Any

import numpy as np
import pytest
from studies import refusal, seqlab_

import seqlab
from seqlab.errors import InputError
from seqlab.learning.checklist import checklist
from seqlab.learning.stacks import training_bytes
from seqlab.numbers.checklist import Seen, check
from seqlab.numbers.rules_of_thumb import Line
from seqlab.report.checklist import document, text
from seqlab.spec.stack import StackSpec

LN10 = math.log(10)
DROP, UPDATES, SPREAD, LOSS = (
    "gradient, first over last layer",
    "updates over weights",
    "updates, first over last layer",
    "last loss over a guess's",
)


def line(seen: Seen, name: str, of: str = "") -> Line:
    (found,) = (one for one in check(seen) if (one.name, one.of) == (name, of))
    return found


def decades(*values: float) -> np.ndarray:
    return np.array(values) * LN10


# Each line on either side of its thresholds: what is seen, the line, its number, its verdict.
CASES: list[tuple[Seen, str, float, str]] = [
    (Seen(log_gradient=decades(-2.9, -1, 0)), DROP, -2.9, "ok"),
    (Seen(log_gradient=decades(-3.1, -1, 0)), DROP, -3.1, "bad"),
    (Seen(log_gradient=decades(2.9, 1, 0)), DROP, 2.9, "ok"),
    (Seen(log_gradient=decades(3.1, 1, 0)), DROP, 3.1, "bad"),
    (Seen(log_gradient=decades(-math.inf, 1, 0)), DROP, -math.inf, "bad"),
    (Seen(log_gradient=decades(-math.inf, -math.inf)), DROP, math.nan, "bad"),
    (Seen(log_gradient=decades(-37.9, 0)), "smallest gradient of a layer", -37.9, "ok"),
    (Seen(log_gradient=decades(0, -38, 0)), "smallest gradient of a layer", -38, "look"),
    (Seen(log_gradient=decades(-44.8, 0)), "smallest gradient of a layer", -44.8, "look"),
    (Seen(log_gradient=decades(-44.9, 0)), "smallest gradient of a layer", -44.9, "bad"),
    (Seen(log_gradient=decades(0, -math.inf)), "smallest gradient of a layer", -math.inf, "bad"),
    (Seen(log_gradient=decades(0, math.nan)), "smallest gradient of a layer", math.nan, "bad"),
    (Seen(dead=np.array([0.4, 0.5]), always_on=np.array([0.4, 0.4])), "dead units", 0.45, "ok"),
    (Seen(dead=np.array([0.4, 0.5]), always_on=np.array([0.3, 0.3])), "dead units", 0.45, "look"),
    (Seen(dead=np.array([0.6]), always_on=np.array([0.05])), "dead units", 0.6, "bad"),
    (Seen(zero=np.array([0.5, 0.7])), "zero activations", 0.6, "ok"),
    (Seen(zero=np.array([0.9, 0.92])), "zero activations", 0.91, "look"),
    (Seen(cosine=np.array([0.99, 0.3, 0.94])), "cosine of two inputs", 0.94, "ok"),
    (Seen(cosine=np.array([0.0, 0.96, 0.3])), "cosine of two inputs", 0.96, "look"),
    (Seen(dead=np.zeros(1), always_on=np.array([0.89])), "units always on", 0.89, "ok"),
    (Seen(dead=np.zeros(1), always_on=np.array([0.91])), "units always on", 0.91, "look"),
    (Seen(saturated=np.array([0.4, 0.58])), "saturated activations", 0.49, "ok"),
    (Seen(saturated=np.array([0.4, 0.62])), "saturated activations", 0.51, "look"),
    (Seen(log_mean_square=2 * decades(0, 7, 0.9)), "activations, last over first", 0.9, "ok"),
    (Seen(log_mean_square=2 * decades(0, 7, -1.1)), "activations, last over first", -1.1, "look"),
    (Seen(log_mean_square=2 * decades(0, 7, 1.1)), "activations, last over first", 1.1, "look"),
    (Seen(batch=5), "inputs under the batch norm", 5, "ok"),
    (Seen(batch=4), "inputs under the batch norm", 4, "look"),
    (Seen(batch=2), "inputs under the batch norm", 2, "bad"),
    (Seen(batch=32, growth=np.array([0.04])), "growth under the batch norm", 0.04, "ok"),
    (Seen(batch=32, growth=np.array([0.06])), "growth under the batch norm", 0.06, "look"),
]


@pytest.mark.tiny
@pytest.mark.parametrize(("seen", "name", "number", "verdict"), CASES)
def test_each_line_stands_and_falls(seen: Seen, name: str, number: float, verdict: str) -> None:
    found = line(seen, name)
    assert found.number == pytest.approx(number, nan_ok=True)
    assert found.verdict == verdict


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("ratio", "typical", "spread"),
    [
        ([1e-3, 2e-3, 1e-3], "ok", "ok"),
        ([1e-3, 2e-5, 1e-5], "look", "look"),
        ([1e-1, 2e-2, 1e-5], "look", "bad"),
        ([2e-6, 1e-3, 1e-3], "ok", "look"),
        ([1e-8, 1e-3, 1e-3], "ok", "bad"),
        ([0.0, 1e-3, 1e-3], "ok", "bad"),
        ([0.0, 0.0, 0.0], "look", "bad"),
        ([math.nan] * 3, "look", "bad"),
    ],
)
def test_updates_stand_and_fall(ratio: list[float], typical: str, spread: str) -> None:
    seen = Seen(ratio={"SGD": np.array(ratio), "Adam": np.full(3, 1e-3)})
    assert line(seen, UPDATES, "SGD").verdict == typical
    assert line(seen, SPREAD, "SGD").verdict == spread
    assert line(seen, UPDATES, "Adam").verdict == line(seen, SPREAD, "Adam").verdict == "ok"


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("ratio", "note"),
    [
        (0.0, "the first layer does not move"),
        (2.0**-25, "the first layer's 10^-7.5 of its weights is lost when float32 adds it"),
        (2.0**-23, ""),
    ],
)
def test_what_a_number_format_does_to_an_update_is_said(ratio: float, note: str) -> None:
    assert line(Seen(ratio={"SGD": np.array([ratio, 1e-3])}), SPREAD, "SGD").note == note


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("loss", "guess", "number", "verdict"),
    [
        ([1.5, 1.2], 1.25, 0.96, "ok"),
        ([1.5, 1.245], 1.25, 0.996, "look"),
        ([1.5, 1.47], None, 0.98, "ok"),
        ([1.5, 1.495], None, 0.9967, "look"),
        ([1.5, 0.3], 0.0, 0.2, "ok"),  # one label, which needs no guess
        ([1.5, math.nan], 1.25, math.nan, "bad"),
        ([1.5, math.inf], 1.25, math.inf, "bad"),
    ],
)
def test_a_flat_loss_is_no_better_than_a_guess(
    loss: list[float], guess: float | None, number: float, verdict: str
) -> None:
    known = None if guess is None else np.array([guess])
    found = line(Seen(loss={"SGD": np.array(loss)}, guess=known), LOSS, "SGD")
    assert found.number == pytest.approx(number, rel=1e-4, nan_ok=True)
    assert found.verdict == verdict


@pytest.mark.tiny
def test_networks_are_joined_by_their_median_and_zeros_are_counted() -> None:
    first = decades(-math.inf, -1, -2)
    seen = Seen(log_gradient=np.stack([first, np.zeros(3)], axis=1))
    assert line(seen, DROP).number == pytest.approx(-2)
    found = line(seen, "smallest gradient of a layer")
    assert (found.verdict, found.note) == ("look", "exactly zero in 1 of 3 networks")


@pytest.mark.tiny
def test_a_network_without_a_cosine_is_left_out() -> None:
    cosine = np.array([[0, 0.5, 0.6], [0, 0.5, math.nan]])
    found = line(Seen(cosine=cosine), "cosine of two inputs")
    assert found.number == 0.6
    assert found.note == "in 1 of 2 networks an input has become zero: left out"


@pytest.mark.tiny
def test_what_is_not_known_has_no_line() -> None:
    assert check(Seen()) == []
    assert check(Seen(cosine=np.full(3, math.nan))) == []  # of one input
    assert [one.name for one in check(Seen(batch=2, growth=np.array([-math.inf])))] == [
        "inputs under the batch norm"
    ]


@pytest.mark.tiny
def test_every_line_says_where_its_rule_misleads() -> None:
    found = {one.name: one for seen, *_ in CASES for one in check(seen)}
    assert len(found) == 10
    assert all(one.limit.endswith(".") for one in found.values())


# Real stacks.


def checks(**options: Any) -> dict[str, Line]:
    result = seqlab.depth(**{"networks": 8, **options})
    return {f"{one.of} {one.name}".strip(): one for one in result.checks()}


def test_deep_he_relu_has_no_dead_units_but_collinear_inputs() -> None:
    """Half of all activations are zero, which the usual threshold calls dying; a third of the units
    are off for the whole batch (theory for 32 inputs: 0.20 at layer 10, 0.41 at layer 50)."""
    found = checks(depth=50, init="he")
    zero, dead, cosine = (
        found[name] for name in ("zero activations", "dead units", "cosine of two inputs")
    )
    assert (zero.verdict, zero.shown) == ("ok", "50%")
    assert dead.verdict == "ok"
    assert dead.number > 0.2
    assert "no deaths, the inputs are few or nearly collinear" in dead.note
    assert (cosine.verdict, cosine.note) == ("look", "the inputs are nearly collinear")
    assert found[DROP].verdict == "ok"
    assert found[f"SGD {LOSS}"].verdict == found[f"Adam {LOSS}"].verdict == "ok"


def test_units_that_have_died_are_told_from_those(write: Any) -> None:
    """Biases of -50 for half of the units, ten times what 4 layers of weights of variance 2/n make
    of normal inputs: these are off for every input, and hardly one unit is always on."""
    rng, width = np.random.default_rng(0), 64
    arrays = {}
    for layer in range(4):
        arrays[f"{layer}.weight"] = rng.normal(size=(width, width)) * math.sqrt(2 / width)
        arrays[f"{layer}.bias"] = np.where(np.arange(width) % 2, -50.0, 0.0)
    dead = checks(params=write("dead.npz", arrays), networks=1)["dead units"]
    assert dead.verdict in ("look", "bad")
    assert dead.number > 0.5
    assert dead.note.endswith("are always on: units have died")


def test_sigmoid_as_pytorch_draws_it_vanishes() -> None:
    """-0.85 decades a layer."""
    found = checks(depth=12, activation="sigmoid")
    assert found[DROP].verdict == "bad"
    assert found[DROP].number < -8
    assert "zero activations" not in found  # which sigmoid has not
    assert found["saturated activations"].verdict == "ok"
    assert found["activations, last over first"].verdict == "ok"
    assert found[f"SGD {SPREAD}"].verdict == "bad"
    assert found[f"SGD {LOSS}"].verdict == found[f"Adam {LOSS}"].verdict == "look"


def test_adam_hides_vanishing_until_its_eps() -> None:
    """Five layers lose some three decades, which leaves gradients far above eps."""
    found = checks(depth=5, activation="sigmoid")
    assert found[f"SGD {SPREAD}"].number < -2
    assert abs(found[f"Adam {SPREAD}"].number) < 1


def test_saturated_tanh_explodes() -> None:
    """Weights of variance one: theory +0.27 decades a layer at width 64."""
    found = checks(depth=20, activation="tanh", init="unit-normal")
    assert found["saturated activations"].verdict == "look"
    assert found[DROP].verdict == "bad"
    assert found[DROP].number > 3


def test_a_batch_of_two_under_batch_norm_is_told() -> None:
    found = checks(depth=6, norm="batch", batch=2)
    assert found["inputs under the batch norm"].verdict == "bad"
    assert found["inputs under the batch norm"].note.endswith("is zero")
    assert found["smallest gradient of a layer"].shown == "0"
    assert found[f"SGD {UPDATES}"].number == -math.inf
    assert "growth under the batch norm" not in found


def test_batch_norm_s_own_growth_is_told() -> None:
    """0.19 nat a layer: half of ln of pi/(pi - 1) in a large batch, more in a small one."""
    found = checks(depth=20, norm="batch")
    assert found["inputs under the batch norm"].verdict == "ok"
    assert found["growth under the batch norm"].verdict == "look"
    assert 0.14 < found["growth under the batch norm"].number < 0.24
    sigmoid = checks(depth=20, norm="batch", activation="sigmoid")
    assert sigmoid["growth under the batch norm"].verdict == "ok"


@pytest.mark.parametrize(
    "options",
    [
        {"arch": "resnet", "norm": "layer", "depth": 8},
        {"arch": "densenet", "depth": 8, "width": 16},
        {"arch": "transformer", "depth": 3, "width": 32, "tokens": 8},
    ],
    ids=lambda options: options["arch"],
)
def test_sound_stacks_of_each_architecture(options: dict[str, Any]) -> None:
    found = checks(**options)
    assert {one.verdict for one in found.values()} <= {"ok", "look"}
    for name in (DROP, "dead units", f"SGD {SPREAD}", f"SGD {LOSS}", f"Adam {LOSS}"):
        assert found[name].verdict == "ok"


def test_the_rule_whose_curve_is_read_is_one_that_leaves_it() -> None:
    """step-norm:0.1 acts in the chain, and would cut what explodes."""
    options = {"depth": 10, "activation": "tanh", "init": "unit-normal"}
    clipped = checks(**options, clip=["step-norm:0.1", "norm:1"])
    assert clipped[DROP].number == checks(**options)[DROP].number


# The command.

TINY = ("--depth", 4, "--width", 8, "--networks", 2)


def test_the_checklist_stands_below_the_table_within_80_columns(here: Any) -> None:
    result = seqlab_("depth", "--arch", "mlp", "--arch", "resnet", "--norm", "batch", *TINY)
    checked = seqlab_(
        "depth", "--arch", "mlp", "--arch", "resnet", "--norm", "batch", *TINY, "--check"
    )
    assert (checked.exit_code, checked.stderr) == (0, "")
    assert "where the rules mislead" not in result.stdout
    above, below = checked.stdout.split("number    rule of thumb  verdict")
    assert "decay rate" in above
    assert max(map(len, checked.stdout.splitlines())) <= 80
    rows = below.splitlines()
    assert [row for row in rows if row in ("mlp", "resnet")] == ["mlp", "resnet"]
    assert sum(row.startswith("  Adam: last loss") for row in rows) == 2
    assert below.count("last loss over a guess's: A head") == 1
    assert "4 networks by SGD (rate 0.01) and by Adam (rate 0.001" in " ".join(below.split())


def test_json_has_the_checks(here: Any) -> None:
    result = seqlab_("depth", *TINY, "--norm", "batch", "--batch", 2, "--check", "--json")
    checks = json.loads(result.stdout)["checks"]
    by_name = {(one["of"], one["name"]): one for one in checks}
    assert by_name["", "smallest gradient of a layer"]["number"] == "-inf"
    assert by_name["", "inputs under the batch norm"]["verdict"] == "bad"
    assert set(checks[0]) == set(Line._fields)
    assert "checks" not in json.loads(seqlab_("depth", *TINY, "--json").stdout)


def test_bad_verdicts_are_no_failure(here: Any) -> None:
    words = (*TINY, "--activation", "sigmoid", "--depth", 9, "--check")
    result = seqlab_("depth", *words)
    assert "bad" in result.stdout
    assert result.exit_code == 0


def test_what_cannot_be_trained_is_refused(
    here: Any, made_up: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = refusal(seqlab_("depth", *TINY, "--in-law", "--check"))
    assert (
        told == "check: means nothing beside in_law, which draws no weights that could be trained"
    )
    seqlab_("run", "--arch", "rnn", "--steps", 5)
    (path,) = (here / "seqlab-results").iterdir()
    told = refusal(seqlab_("depth", "--from", path, "--check"))
    assert told == "check: rnn has no layers of its own; a deep stack is needed"
    spec = StackSpec.create(arch="mlp", steps=100)
    available = training_bytes(spec) - 1
    monkeypatch.setattr("seqlab.learning.checklist.available_memory", lambda: available)
    with pytest.raises(InputError, match=r"^check: training would take about .* GiB of memory"):
        checklist(spec, {})


def test_a_text_and_a_document_of_lines() -> None:
    lines = check(Seen(log_gradient=decades(-math.inf, 0)))
    shown = text({"mlp": lines})
    assert "gradient, first over last layer    -inf         within 3      bad" in shown
    assert [one["number"] for one in document(lines)] == ["-inf", "-inf"]
