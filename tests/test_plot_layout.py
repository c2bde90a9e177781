"""Whole figures: nothing overlaps, fields find their place, the data are what is drawn."""

import itertools
import warnings

import numpy as np
import pytest
from plots import FIGURES, RATES, STORES, WIDTHS, clashes, legible
from synthetic import result

from seqlab.errors import Note
from seqlab.figures import Request, select
from seqlab.figures.names import named

# That some runs are drawn as one is said in a note, which has a test of its own.
pytestmark = pytest.mark.filterwarnings("ignore:runs are drawn as one:seqlab.errors.Note")

LN10 = np.log(10)


@pytest.mark.parametrize(
    ("store", "asked", "width"),
    [
        pytest.param(*one, width, marks=[] if k % 2 else [pytest.mark.slow])
        for k, (one, width) in enumerate(zip(FIGURES, itertools.cycle(WIDTHS), strict=False))
    ],
)
def test_nothing_overlaps_nothing_is_cut_and_all_is_legible(store, asked, width, drawn):
    page, _ = drawn(store, asked, width=width)
    assert clashes(page) == []
    assert min(text.get_fontsize() for text in legible(page)) >= (14 if width == "slide" else 7)
    assert page.get_figwidth() == {"single": 3.5, "double": 7.0, "slide": 13.33}[width]
    assert page.get_figheight() == 7.5 or width != "slide"


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("store", "asked"), FIGURES)
def test_nothing_overlaps_at_any_width(store, asked, width, drawn):
    assert clashes(drawn(store, asked, width=width)[0]) == []


# Where fields go that nobody placed.


@pytest.mark.parametrize(
    ("store", "asked", "placed"),
    [
        ("cells", {}, ("length", "arch", None)),  # clipping tells nothing here
        ("gains", {}, ("length", "gain", None)),
        ("one", {}, ("length", "clip", None)),
        ("one length", {}, ("lag", "length", None)),
        ("cells", {"kind": "curves"}, ("lag", "arch", None)),
        ("one", {"kind": "curves"}, ("lag", "clip", None)),
        ("gains", {"kind": "curves"}, ("lag", "gain", None)),
        ("gains", {"kind": "curves"} | RATES, ("lag", "gain", None)),
        ("gains", {"kind": "curves", "value": "horizon_1e-3"}, ("gain", "clip", None)),
        ("one", {"kind": "profile"}, ("lag", "length", "clip")),
        ("cells", {"kind": "distribution"}, ("arch", "clip", None)),
        ("one length", {"kind": "distribution"}, ("length", None, None)),
    ],
)
def test_what_tells_most_is_shown(store, asked, placed):
    choice = select(STORES[store], Request(**asked)).choice
    assert (choice.x, choice.y, choice.facet) == placed


def test_a_field_that_tells_something_gets_panels():
    rates = {"normal": 1.0, "orthogonal": 0.5}
    runs = [
        result("rnn", -0.02 * gain * rate, gain=gain, init=init)
        for init, rate in rates.items()
        for gain in (0.5, 1.0, 2.0)
    ]
    assert select(runs, Request()).choice.facet == "init"
    heads = [head for head, _ in select(runs, Request()).panels()]
    assert heads == ["init normal", "init orthogonal"]


def test_the_title_says_what_is_pooled_and_left_out(drawn):
    page, _ = drawn("gains")
    title = page.texts[0].get_text()
    assert title.startswith("rnn, clip none, median of ")
    assert title.endswith("pooled over init, activation and seed")


def test_that_other_runs_than_seeds_are_drawn_as_one_is_said_with_a_way_out():
    said = (
        r"differ in init normal, orthogonal; activation tanh, relu, identity: choose with --where "
        "init=normal, or tell them apart with --facet init"
    )
    with pytest.warns(Note, match=said):
        select(STORES["gains"], Request(x="length", y="gain"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", Note)
        select([result(seed=seed) for seed in range(3)], Request())


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"x": "arch", "y": "clip"}, {"length": 1000, "lag": 1000}),
        ({"kind": "curves", "x": "arch"}, {"length": 1000, "lag": 1000}),
        ({"kind": "curves"}, {"length": 1000}),
        ({"kind": "distribution"}, {"length": 1000, "lag": 1000}),
        ({"kind": "histogram"}, {"length": 1000}),
        ({"x": "arch", "y": "clip", "value": "horizon_1e-3"}, {"length": 1000}),
        ({}, {}),
        ({"kind": "profile", "where": {"arch": ["lstm"]}}, {}),
    ],
)
def test_figure_and_data_say_where_values_stand(asked, said, drawn):
    page, data = drawn("cells", asked)
    title = page.texts[0].get_text()
    for name, value in said.items():
        assert f"{name} {value}" in title
        assert set(data[name]) == {value}
    for name in {"length", "lag"} - {*said}:
        assert f"{name} 1000" not in title
        assert name not in data or data[name].nunique() > 1


def test_runs_of_other_lengths_say_from_where_to_where():
    runs = [result(steps=steps, lengths=[10, steps], init="normal") for steps in (100, 1000)]
    with pytest.warns(Note, match="steps 100, 1000"):
        one, *_ = select(runs, Request("curves", x="init", y="arch", panels=False)).series
    assert one.standing == {"length": "100 to 1000", "lag": "100 to 1000"}


def test_an_axis_of_steps_says_the_length():
    runs = [result(steps=steps, lengths=[10, steps]) for steps in (100, 1000)]
    for one in select(runs, Request(x="steps", y="arch", panels=False)).series:
        assert one.standing == {}


def test_a_stack_has_a_depth_where_a_cell_has_a_length():
    assert named("length", 8, ["mlp"]) == "depth 8"
    assert named("length", 8, ["lstm"]) == named("length", 8, ["lstm", "mlp"]) == "length 8"


def test_every_text_can_be_written_anew(drawn):
    words = {"title": "T", "xlabel": "X", "ylabel": "Y", "value_label": "V"}
    for asked in ({"facet": "clip"}, {}):
        page, _ = drawn("cells", asked, **words)
        assert set(words.values()) <= {text.get_text() for text in legible(page)}
    page, _ = drawn("cells", title="", xlabel="")
    assert not {"median of 5 networks", "sequence length (steps)"} & {
        text.get_text() for text in legible(page)
    }


def test_only_some_runs(drawn):
    _, data = drawn("gains", {"where": {"gain": ["0.5", "2"], "clip": ["step-norm:1"]}})
    assert sorted(set(data["gain"])) == [0.5, 2.0]


def test_a_range_of_values_is_kept(drawn):
    page, _ = drawn("cells", {"kind": "curves"}, value_range=(-5, 1))
    assert page.axes[0].get_ylim() == (-5, 1)
    page, _ = drawn("cells", value_range=(-5, 0))
    assert (page.axes[0].collections[0].norm.vmin, page.axes[0].collections[0].norm.vmax) == (-5, 0)


# The data beside a figure.


def test_the_data_are_what_is_drawn(drawn):
    _, data = drawn("cells")
    assert data.columns.tolist() == [
        *("figure", "arch", "length"),
        *(f"log10_attenuation{part}" for part in ("", "_q25", "_q75")),
        *("networks", "theory", "horizon_1e-3"),
    ]
    ssm = data[data["arch"] == "ssm"].iloc[-1]
    assert ssm["log10_attenuation"] == pytest.approx(-4 / LN10)
    assert (ssm["length"], ssm["networks"], ssm["horizon_1e-3"]) == (1000, 5, np.inf)
    assert ssm["theory"] == pytest.approx(-0.002)


def test_the_data_of_a_distribution_are_its_networks(drawn):
    _, data = drawn("one", {"kind": "distribution", "x": "length"})
    assert data.columns.tolist() == ["figure", "clip", "length", "network", "log10_attenuation"]
    assert len(data) == 2 * 13 * 5
    last = data[data["length"] == 1000].sort_values(["clip", "network"])["log10_attenuation"]
    assert np.isposinf(last.iloc[0])
    assert np.isnan(last.iloc[1])
    assert np.isneginf(last.iloc[5:]).all()
