"""Figures of training: what is drawn where, how it is chosen, and what the files hold."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from matplotlib.collections import LineCollection
from naive_learn_statistics import fit, median, wilson
from plots import clashes, legible
from trained import LN1000, trained

from seqlab import figures
from seqlab.cli import main
from seqlab.errors import InputError
from seqlab.figures import (
    Looks,
    curves,
    figure,
    heatmap,
    plot,
    plot_reach,
    plot_results,
    resolve_request,
)
from seqlab.figures.choose import select

LENGTHS = [10, 20, 40, 80]
TWO = [trained("rnn", 12, 19.0, trace=50), trained("lstm", 33, 30.0, trace=50)]
MANY = [
    trained("rnn", 12, 20.0, init="normal"),
    trained("rnn", 40, 60.0, init="orthogonal"),
    trained("lstm", 33, 25.0, forget_bias=1.0),
    trained("lstm", None, 50.0, forget_bias="chrono"),
    trained("ssm", None, 500.0),
]
SOME_END = [trained("rnn", 12, 30.0, trace=20, diverged=(0, 1, 2), clip=["none"])]
ALONE = [trained("lstm", 12, 30.0, lengths=(20,), networks=1, clip=["none"], trace=50)]
STORES = {"two": TWO, "many": MANY, "end": SOME_END, "alone": ALONE}
FIGURES = [
    *((store, {}) for store in STORES),
    *((store, {"x": "relative_length"}) for store in STORES),
    *((store, {"value": "loss"}) for store in STORES),
    *((store, {"x": "update", "y": "lag"}) for store in ("two", "end", "alone")),
    ("two", {"value": "updates_to_solve"}),
    ("two", {"value": "log10_attenuation_trained", "where": {"length": ["80"]}}),
    ("many", {"kind": "heatmap"}),
    ("end", {"kind": "distribution", "value": "updates_to_solve"}),
    ("two", {"kind": "histogram", "value": "final_loss"}),
    ("two", {"kind": "heatmap", "value": "loss"}),
]


@pytest.fixture
def page(monkeypatch):
    """Draw a figure of a store and keep it: gives the figure and its data."""

    def draw(store, asked=None, **looks):
        kept = []
        monkeypatch.setattr(figure, "save", lambda *parts: kept.append(parts[:2]))
        plot(STORES[store], "a.pdf", resolve_request(STORES[store], **asked or {}), Looks(**looks))
        return kept[0]

    return draw


def of(result, name):
    return result.variables[name].data


def marks(ax, marker):
    """The places of marks of a shape."""
    found = [line.get_xydata() for line in ax.lines if line.get_marker() == marker]
    return np.concatenate(found) if found else np.empty((0, 2))


def named(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("width", ["single", pytest.param("double", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("store", "asked"), FIGURES)
def test_nothing_overlaps_nothing_is_cut_and_all_is_legible(store, asked, width, page):
    drawn, _ = page(store, asked, width=width)
    assert clashes(drawn) == []
    assert min(text.get_fontsize() for text in legible(drawn)) >= 7
    assert min(ax.bbox.height for ax in drawn.axes) > 0.5 * drawn.dpi  # no panel has collapsed


# What is drawn where nobody chose.


@pytest.mark.parametrize(
    ("store", "asked", "found"),
    [
        ("two", {}, ("curves", "solved_share", "length", "arch", None)),
        ("many", {}, ("curves", "solved_share", "length", "drawn", None)),
        ("alone", {}, ("curves", "loss", "update", None, None)),
        ("two", {"value": "loss"}, ("curves", "loss", "update", "arch", "length")),
        ("two", {"x": "update"}, ("curves", "loss", "update", "arch", "length")),
        (
            *("two", {"x": "relative_length"}),
            ("curves", "updates_to_solve", "relative_length", "arch", None),
        ),
        (
            *("two", {"x": "update", "y": "lag"}),
            ("heatmap", "log10_attenuation_traced", "update", "lag", "arch"),
        ),
        ("two", {"kind": "heatmap"}, ("heatmap", "solved_share", "length", "arch", None)),
        ("two", {"x": "lag"}, ("heatmap", "log10_attenuation", "lag", "arch", None)),
        ("end", {"value": "loss"}, ("curves", "loss", "update", None, "length")),
    ],
)
def test_what_tells_most_is_shown(store, asked, found):
    choice = select(STORES[store], resolve_request(STORES[store], **asked)).choice
    assert (choice.kind, choice.measure.name, choice.x, choice.y, choice.facet) == found


def test_a_store_of_other_runs_too_is_drawn_as_these():
    from synthetic import result

    asked = resolve_request([*TWO, result()])
    assert (asked.kind, asked.value) == ("heatmap", "log10_attenuation")


# Success against length.


def test_shares_have_wilsons_interval_and_lie_at_their_lengths():
    ax = curves(TWO[:1], value="solved_share", where={"clip": ["none"]})
    solved = (of(TWO[0], "solved_at")[:, 0] >= 0).sum(axis=0)
    assert solved.tolist() == [8, 3, 0, 0]
    line = next(
        line for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 4
    )
    np.testing.assert_allclose(line.get_xydata(), np.stack([LENGTHS, solved / 8], axis=1))
    [bars] = [c for c in ax.collections if isinstance(c, LineCollection)]
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [wilson(int(k), 8, 0.95) for k in solved], atol=1e-12)
    assert ax.get_xscale() == "log"
    assert "95% interval, 8 networks" in named(ax)


def test_horizons_stand_on_the_axis_and_learnable_lengths_at_one_half():
    ax = curves(TWO, value="solved_share", where={"clip": ["none"]})
    np.testing.assert_allclose(marks(ax, "^"), [[12, 0], [33, 0]])
    wins = [of(one, "solved_at")[:, 0] >= 0 for one in TWO]
    half = [fit(LENGTHS, won)[0] for won in wins]
    np.testing.assert_allclose(marks(ax, "D"), [[length, 0.5] for length in half], rtol=1e-3)
    assert {"horizon at initialisation", "half of them learn it"} <= set(named(ax))
    colors = [line.get_color() for line in ax.lines if line.get_marker() in ("^", "D")]
    assert len(set(colors)) == 2


def test_a_horizon_before_the_shortest_length_is_on_the_axis_too():
    ax = curves([trained("rnn", 3, 30.0)], value="solved_share")
    assert ax.get_xlim()[0] < 3


def test_what_is_not_there_has_no_mark():
    ax = curves([trained("ssm", None, 500.0)], value="solved_share")
    assert len(marks(ax, "^")) == len(marks(ax, "D")) == 0
    assert "horizon at initialisation" not in named(ax)


def test_pooled_seeds_are_one_ensemble():
    seeds = [trained("rnn", 12, half, seed=k, clip=["none"]) for k, half in enumerate((19.0, 60.0))]
    (one,) = {
        s.key["length"]: s
        for s in select(seeds, resolve_request(seeds)).series
        if s.key["length"] == 20
    }.values()
    low, high = wilson(11, 16, 0.95)
    assert (one.value[0], one.networks[0]) == (11 / 16, 16)
    assert (one.low[0], one.high[0]) == pytest.approx((low, high), abs=1e-12)


def test_cells_that_are_drawn_in_several_ways_have_a_line_each(page):
    _, data = page("many")
    assert data["drawn"].unique().tolist() == [
        *("rnn, init normal", "rnn, init orthogonal"),
        *("lstm, forget bias 1", "lstm, forget bias chrono", "ssm"),
    ]


def test_what_nobody_chose_is_in_no_name():
    plain, biased = trained("lstm", 12, 19.0), trained("lstm", 40, 60.0, forget_bias=3)
    kinds = [trained("rnn", 12, 19.0), trained("rnn", 60, 90.0, init="orthogonal")]
    found = [plain, biased, *kinds]
    told = dict.fromkeys(s.key["drawn"] for s in select(found, resolve_request(found)).series)
    assert [str(one) for one in told] == [
        *("lstm", "lstm, forget bias 3"),
        *("rnn, init pytorch", "rnn, init orthogonal, gain 1"),
    ]


# Updates to solve against length over horizon.


def test_medians_of_updates_are_kaplan_and_meiers(page):
    _, data = page("two", {"x": "relative_length"})
    for _, row in data.iterrows():
        result = TWO[row["arch"] == "lstm"]
        horizon = of(result, "horizon")[0, 1]
        place = LENGTHS.index(round(row["relative_length"] * horizon))
        at = of(result, "solved_at")[:, ["none", "norm:1"].index(row["clip"]), place]
        expected = median(np.where(at < 0, 400, at).tolist(), (at >= 0).tolist(), 0.95)[0]
        assert row["updates_to_solve"] == (np.inf if expected is None else expected)
        assert row["horizon_1e-3"] == horizon


def test_what_half_never_solve_is_hollow_on_the_upper_edge():
    ax = curves(TWO, x="relative_length", value="updates_to_solve", where={"clip": ["none"]})
    hollow = [
        line for line in ax.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())
    ]
    assert sum(len(line.get_xdata()) for line in hollow) == 3 + 2
    top = ax.get_ylim()[1]
    assert all((line.get_ydata() > 0.9 * top).all() for line in hollow)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert any((np.asarray(line.get_xdata()) == 1).all() for line in ax.lines)
    assert {"length = horizon", "not solved by half"} <= set(named(ax))


def test_a_horizon_that_is_not_reached_leaves_a_bound():
    runs = [trained("ssm", None, 500.0, clip=["none"])]
    ax = curves(runs, x="relative_length", value="updates_to_solve")
    assert "at most: no horizon" in named(ax)
    places = {tuple(x) for line in ax.lines if len(x := np.asarray(line.get_xdata())) == 4}
    assert places == {tuple(np.array(LENGTHS) / 80)}


def test_other_updates_are_not_pooled():
    runs = [trained("rnn", 12, 15.0, seed=k, updates=400 + k) for k in range(2)]
    with pytest.raises(InputError, match=r"^value: updates_to_solve of runs with other updates"):
        select(runs, resolve_request(runs, value="updates_to_solve", x="length", y="arch"))


# Losses.


def test_losses_have_a_panel_a_length_and_what_they_are_held_to(page):
    drawn, data = page("two", {"value": "loss"})
    assert [ax.get_title(loc="left") for ax in drawn.axes] == [f"length {n}" for n in LENGTHS]
    for ax in drawn.axes:
        flat = {line.get_ydata()[0] for line in ax.lines if set(line.get_xdata()) == {0, 1}}
        assert flat == {1.0, 0.1}
        assert ax.get_yscale() == "log"
    last = data[(data["arch"] == "lstm") & (data["length"] == 80) & (data["clip"] == "none")]
    assert last["update"].tolist() == of(TWO[1], "loss_update").tolist()
    first = data[(data["arch"] == "lstm") & (data["length"] == 10) & (data["clip"] == "none")]
    loss = np.median(of(TWO[1], "loss")[:, 0, 0], axis=0)
    np.testing.assert_allclose(first["loss"], loss[~np.isnan(loss)], rtol=1e-9)
    assert first["update"].max() < 60  # where all had solved it


def test_a_network_that_diverged_has_an_infinite_loss(page):
    _, data = page("end", {"value": "loss", "where": {"length": ["80"]}})
    late = data[data["update"] > 30]
    assert np.isposinf(late["loss_q75"]).all()  # 3 of 8
    assert np.isfinite(late["loss"]).all()
    assert (late["networks"] == 8).all()


# Reach against update.


def test_reach_has_a_cell_for_each_update_and_lag_and_the_horizon_of_each():
    ax = heatmap(TWO[:1], x="update", y="lag", value="log10_attenuation_traced")
    mesh = ax.collections[0].get_array()
    lags = of(TWO[0], "lag")[1:]
    slower = 1 / (1 + np.arange(0, 401, 50) / 400)
    expected = -LN1000 / 12 / np.log(10) * np.outer(lags + 1e-9, slower)
    np.testing.assert_allclose(mesh.reshape(lags.size, -1), expected, rtol=1e-6)
    line = ax.lines[0].get_xydata()
    first = [lags[(column < -3).argmax()] for column in expected.T]
    np.testing.assert_allclose(line[::3, 1], first)


def test_a_network_that_ended_is_in_no_median_from_there_on(page):
    drawn, data = page("end", {"x": "update", "y": "lag"})
    assert data[data["update"] == 20]["networks"].unique() == 8
    assert data[data["update"] == 40]["networks"].unique() == 5
    assert np.isfinite(data["log10_attenuation_traced"]).all()
    assert drawn.texts[0].get_text() == "rnn, clip none, median of 5 to 8 networks"
    drawn, _ = page("two", {"x": "update", "y": "lag"})
    assert drawn.texts[0].get_text() == "clip none, length 80, median of 8 networks"


def test_curves_after_training_have_their_own_horizon(page):
    asked = {"value": "log10_attenuation_trained", "y": "arch", "where": {"length": ["80"]}}
    _, data = page("two", {"kind": "heatmap"} | asked)
    found = data.groupby("arch")["horizon_1e-3"].first()
    assert found.to_dict() == {"lstm": 80, "rnn": 40}  # the first kept from 66, from 24


# Refused, and the command.


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"value": "solved_share", "x": "update"}, "x: update is no axis for solved_share, which"),
        ({"value": "log10_attenuation", "x": "update"}, "x: update is no axis for log10_att"),
        ({"value": "fired_share", "x": "lag"}, "x: lag is no axis for fired_share, which"),
        ({"kind": "profile", "value": "loss"}, "kind: 'profile' is not allowed; heatmap or curves"),
        ({"value": "loss", "y": "update"}, "y: update cannot tell curves apart"),
        ({"kind": "distribution", "x": "update"}, "x: a distribution is not drawn against update"),
        ({"value": "solved_share", "facet": "lag"}, "facet: lag cannot be spread over panels"),
        ({"value": "decay_rate", "where": {"length": ["10"]}}, "where: length is no field of runs"),
        ({"where": {"length": ["11"]}}, "where: length=11 is in no run; length is 10, 20, 40, 80"),
        ({"x": "relative_length", "value": "decay_rate"}, "x: relative_length is no axis for"),
    ],
)
def test_refused_in_one_line(asked, said):
    with pytest.raises(InputError) as refusal:
        select(TWO, resolve_request(TWO, **asked))
    assert str(refusal.value).startswith(said)
    assert "\n" not in str(refusal.value)


def test_a_store_without_traces_says_so():
    with pytest.raises(InputError, match="value: no run of this store has log10_attenuation_trac"):
        select(MANY, resolve_request(MANY, x="update", y="lag"))


def test_a_result_draws_itself(monkeypatch):
    drawn = []
    monkeypatch.setattr(figure, "plot", lambda results, path, asked, *looks: drawn.append(asked))
    plot_results(TWO, "a.pdf")
    plot_reach(ALONE, "a.pdf")
    assert [(one.kind, one.value) for one in drawn] == [
        ("curves", "solved_share"),
        ("curves", "loss"),
    ]


@pytest.mark.tiny
def test_the_command_draws_what_was_learned(here):
    words = ["learn", "--arch", "rnn", "--lengths", "2,4", "--updates", "20", "--networks", "4"]
    words += ["--hidden", "4", "--trace", "10", "--store", "results", "--plot", "a.png"]
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, done.stderr) == (0, "drawn: a.png, its data: a.csv\n"), done.output
    data = pd.read_csv("a.csv")
    assert data.columns.tolist()[:3] == ["figure", "length", "clip"]
    for extra in (
        [],
        ["--x", "relative_length"],
        ["--value", "loss"],
        ["--x", "update", "--y", "lag"],
    ):
        done = CliRunner().invoke(main, ["plot", "results", "-o", "b.png", *extra])
        assert (done.exit_code, done.output) == (0, "drawn: b.png, its data: b.csv\n")
        assert Path("b.csv").stat().st_size > 100
    assert figures.__all__ == sorted(figures.__all__, key=lambda n: (n[0].islower(), n))
