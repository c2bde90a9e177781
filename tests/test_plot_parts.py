"""Figures of the parts of a state: which there are, in which order, and what is drawn of each."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure
from plots import LAYERS, clashes
from synthetic import made_result, result

from seqlab.cli import main
from seqlab.errors import InputError
from seqlab.figures import Looks, Request, curves, figure, heatmap, plot, plot_reach, select

LN10 = np.log(10)
FOUR = {"layer 0 hidden": -3.0, "layer 1 hidden": 0.0, "layer 0 cell": -4.0, "layer 1 cell": -1.0}
MAP = {"x": "lag", "y": "part"}


def layered(rate=-0.05, parts=None, **fields):
    return result("rnn", rate, own_parts=FOUR if parts is None else parts, clip=["none"], **fields)


def cells(ax):
    [mesh] = [each for each in ax.collections if "Quad" in str(each)]
    return np.ma.filled(mesh.get_array().reshape(mesh.get_coordinates().shape[0] - 1, -1), np.nan)


def rows(ax):
    """Names of rows from the bottom up."""
    ticks = [(ax.transData.transform((1, t.get_loc()))[1], t.label1) for t in ax.yaxis.majorTicks]
    return [label.get_text() for _, label in sorted(ticks, key=lambda tick: tick[0])]


def order(results):
    return [run.fields["part"] for run in select(results, Request(**MAP)).runs]


def test_a_map_has_a_row_for_each_part_in_the_order_of_the_file_from_the_bottom():
    made = layered()
    ax = heatmap([made], **MAP)
    assert rows(ax) == list(FOUR)
    assert (ax.get_xscale(), ax.get_ylabel()) == ("log", "part of the state")
    lag = made.variables["lag"].data
    # The middle of five networks is the third, whose curve is rate times lag, plus the offset.
    expected = (-0.05 * lag[lag > 0] + np.array(list(FOUR.values()))[:, np.newaxis]) / LN10
    shown = np.maximum(expected, -149 * np.log10(2))
    np.testing.assert_allclose(cells(ax), shown, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", [2, 1000])  # a few lags are listed, many measured
def test_the_horizon_of_each_part_is_on_its_row(steps):
    """Under 1e-3 before a gradient has come is no horizon; nor is that of a part it never reaches
    or never leaves."""
    parts = {"late": 0.0, "gone": -40.0, "stays": 900.0, "plain": -4.0}

    def edit(log_norm, lag):
        log_norm[:, :, 0, :, lag < 1] = -np.inf

    made = layered(-4.0 if steps == 2 else -0.5, parts, steps=steps, edit=edit)
    found = {run.fields["part"]: run.horizon for run in select([made], Request(**MAP)).runs}
    lag = made.variables["lag"].data
    for k, name in enumerate(parts):
        curve = np.sort(made.variables["log_norm_part"].data[:, 0, k, -1], axis=0)[2]
        arrived = next((i for i, value in enumerate(curve) if value >= np.log(1e-3)), 0)
        after = [at for i, at in enumerate(lag) if i >= arrived and curve[i] < np.log(1e-3)]
        assert found[name] == (after[0] if after else np.inf)
    assert found["gone"] == 0
    assert found["stays"] == np.inf
    assert found["late"] > 1
    [line] = heatmap([made], **MAP).lines
    x, y = line.get_data()
    assert [float(at) for at in x[[0, 3, 6, 9]] if np.isfinite(at)] == pytest.approx(
        [found["late"], found["plain"]] if steps == 1000 else [1.0, 0.0], abs=0
    )
    np.testing.assert_array_equal(y[:2], [-0.5, 0.5])


def test_an_lstm_has_a_hidden_and_a_cell_part_and_a_gru_its_state():
    ax = heatmap([result("lstm", -0.02, clip=["none"])], **MAP)
    assert rows(ax) == ["hidden", "cell"]
    assert cells(ax)[:, -1] == pytest.approx((-0.02 * 1000 - 2) / LN10)
    gru = result("gru", -0.02, clip=["none"])
    [run] = select([gru], Request(**MAP)).runs
    assert run.fields["part"] == "state"
    assert (run.theory, run.horizon) == (pytest.approx(-0.018), 346)  # as of the whole
    np.testing.assert_array_equal(
        run.values, select([gru], Request(x="lag", y="arch")).runs[0].values
    )


def test_theory_is_of_the_whole_state():
    alone, *several = (
        select([layered(parts=parts)], Request("curves", y="part")).series
        for parts in ({"hidden": 0.0}, FOUR)
    )
    assert alone[0].theory == pytest.approx(-0.048)
    assert all(np.isnan(one.theory) for one in several[0])


def test_parts_have_one_order_whatever_results_come_first():
    def stacked(layers):
        kinds = ("hidden", "cell")
        names = [f"layer {layer} {kind}" for kind in kinds for layer in range(layers)]
        return layered(parts=dict.fromkeys(names, 0.0), seed=layers)

    two, three = stacked(2), stacked(3)
    expected = [f"layer {layer} {kind}" for kind in ("hidden", "cell") for layer in range(3)]
    for runs in ([two, three], [three, two]):
        assert rows(heatmap(runs, **MAP)) == expected


def test_without_part_nothing_is_taken_apart(tmp_path):
    for kind in ("heatmap", "curves", "profile", "distribution", "histogram"):
        for name, made in (("whole", result("rnn", clip=["none"])), ("parts", layered(-0.45))):
            plot([made], tmp_path / f"{name}.svg", Request(kind))
        for suffix in ("svg", "csv"):
            drawn = [(tmp_path / f"{name}.{suffix}").read_bytes() for name in ("whole", "parts")]
            assert drawn[0] == drawn[1]


def test_where_chooses_parts_by_name_and_the_title_says_it(monkeypatch):
    kept = []
    monkeypatch.setattr(figure, "save", lambda *parts: kept.append(parts[:2]))
    plot([layered()], "a.pdf", Request("curves", where={"part": ["layer 1 cell"]}))
    page, data = kept[0]
    assert page.texts[0].get_text() == "rnn, layer 1 cell, clip none, length 1000"
    assert data["log10_attenuation"].iloc[0] == pytest.approx(-1 / LN10)
    two = ["layer 1 cell", "layer 0 hidden"]
    assert order([layered()]) == list(FOUR)
    [first, second] = select([layered()], Request(**MAP, where={"part": two})).series
    assert (first.key["part"], second.key["part"]) == ("layer 0 hidden", "layer 1 cell")


def test_panels_of_parts(monkeypatch):
    kept = []
    monkeypatch.setattr(figure, "save", lambda *parts: kept.append(parts[:2]))
    plot([layered()], "a.pdf", Request("profile", facet="part"))
    assert [ax.get_title(loc="left") for ax in kept[0][0].axes[:4]] == list(FOUR)


ODD = ["state[0]['h, \"c\"']", "encoder/layer/0", "$a$ and $b", "clip:2", "=", "h\u0303\N{SNOWMAN}"]


def test_any_name_is_drawn_as_it_is_and_kept_in_the_data(tmp_path):
    made = layered(parts=dict.fromkeys(ODD, 0.0))
    plot([made], tmp_path / "a.png", Request(**MAP))
    found = pd.read_csv(tmp_path / "a.csv")
    assert list(dict.fromkeys(found["part"])) == ODD
    assert rows(heatmap([made], **MAP))[1] == "encoder/layer/0"
    for name in ODD:
        [run] = select([made], Request(where={"part": [name]})).runs
        assert run.fields["part"] == name


@pytest.mark.parametrize("width", ["single", "double", "slide"])
def test_long_names_have_room(monkeypatch, width):
    kept = []
    monkeypatch.setattr(figure, "save", lambda *parts: kept.append(parts[:2]))
    names = {f"state[0]['encoder.layers.{k}'][1]": -float(k) for k in range(12)}
    for asked in (MAP, {"kind": "curves", "y": "part"}):
        plot([layered(parts=names)], "a.pdf", Request(**asked), Looks(width=width))
        assert clashes(kept[-1][0]) == []


def test_curves_of_parts_grow_lighter_and_do_not_rise_from_zero():
    def edit(log_norm, lag):
        log_norm[:, :, 1, :, lag < 1] = -np.inf

    ax = curves([layered(edit=edit)], y="part", xscale="linear")
    lines = [line for line in ax.lines if line.get_xdata()[0] == 0 and line.get_linestyle() == "-"]
    lumas = [np.dot(line.get_color(), (0.299, 0.587, 0.114)) for line in lines]
    assert len(lines) == 4
    assert np.diff(lumas).min() > 0.04  # ten of 256 greys
    gaps = [np.flatnonzero(np.isnan(line.get_ydata())).tolist() for line in lines]
    assert gaps == [[], [1], [], []]


def test_a_rule_that_cuts_is_still_joined_to_its_zeros():
    def edit(log_norm, lag):
        log_norm[..., lag > 100] = -np.inf

    ax = curves([result("rnn", edit=edit, clip=["none"])])
    assert not any(
        np.isnan(line.get_ydata()).any() for line in ax.lines if len(line.get_xdata()) > 2
    )


@pytest.mark.parametrize(
    ("parts", "kind"), [(FOUR, "heatmap"), ({"hidden": 0.0}, "curves"), (None, "curves")]
)
def test_reach_is_a_map_where_there_are_several_parts(parts, kind, tmp_path):
    made = result("rnn", clip=["none"], own_parts=parts)
    plot_reach([made], tmp_path / "a.svg", Looks(width="single"))
    found = pd.read_csv(tmp_path / "a.csv")
    assert set(found["figure"]) == {kind}
    assert ("part" in found) == (kind == "heatmap")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"y": "part", "value": "horizon_1e-3"},
            (
                "value: 'horizon_1e-3' is not allowed; log10_attenuation, decay_rate, zero_share, "
                "underflow_share or overflow_share beside part"
            ),
        ),
        (
            {"where": {"part": ["cell"]}, "value": "log10_attenuation_cell"},
            (
                "value: 'log10_attenuation_cell' is not allowed; log10_attenuation, decay_rate, "
                "zero_share, underflow_share or overflow_share beside part"
            ),
        ),
        (
            {"where": {"part": ["layer 2 cell"]}},
            (
                "where: part=layer 2 cell is in no run; part is layer 0 hidden, layer 1 hidden, "
                "layer 0 cell, layer 1 cell"
            ),
        ),
        (
            {"kind": "profile", "where": {"part": list(FOUR)[:2]}},
            (
                "profile: a panel shows one run, and 2 match; they differ in part: choose with "
                "--where 'part=layer 0 hidden'"
            ),
        ),
        ({"x": "part", "y": "part"}, "y: part is the field of x already"),
    ],
)
def test_refused_in_one_line(asked, said):
    # Curves that differ by rounding alone: no field tells anything, and none gets panels by itself.
    made = layered(parts=dict.fromkeys(FOUR, 0.0))
    with pytest.raises(InputError) as refusal:
        select([made], Request(**asked))
    assert str(refusal.value) == said


def test_more_colours_than_can_be_told_apart_are_refused():
    names = {f"layer {k}": 0.0 for k in range(13)}
    with pytest.raises(InputError, match="y: part has 13 values; 12 is the most"):
        select([layered(parts=names)], Request("curves", y="part"))
    assert len(rows(heatmap([layered(parts=names)], **MAP))) > 6  # rows of a map may be many


def test_rates_and_zeros_of_parts():
    def edit(log_norm, lag):
        log_norm[:2, :, 1, :, -1] = -np.inf

    found = {
        value: {
            one.key["part"]: one.value[-1]
            for one in select(
                [layered(edit=edit)], Request(x="length", y="part", value=value)
            ).series
        }
        for value in ("decay_rate", "zero_share")
    }
    for name, over in FOUR.items():
        zero = name == "layer 1 hidden"
        assert found["zero_share"][name] == (0.4 if zero else 0.0)
        rate = -np.inf if zero else -0.05 + over / 1000  # ln norm at lag T, over T
        assert found["decay_rate"][name] == pytest.approx(rate, rel=1e-12)


def test_the_command_takes_names_with_blanks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = {"part": np.array(list(FOUR)), "log_norm_part": np.zeros((2, 1, 4, 1, 3))}
    made = made_result("rnn", steps=2, lengths=[2], networks=2, clip=["none"], replaced=data)
    made.write("store")
    words = ["plot", "store", "-o", "a.png", "--where", "part=layer 1 hidden"]
    words += ["--where", "part=layer 0 cell", "--x", "lag", "--y", "part"]
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, done.output) == (0, "drawn: a.png, its data: a.csv\n")
    assert set(pd.read_csv("a.csv")["part"]) == {"layer 1 hidden", "layer 0 cell"}
    refused = CliRunner().invoke(main, ["plot", "store", "-o", "b.png", "--where", "part=cell"])
    assert refused.exit_code == 2
    assert refused.stderr.startswith(
        "seqlab: error: where: part=cell is in no run; part is layer 0"
    )


def test_a_dozen_rows_are_all_named():
    ax = Figure(figsize=(7, 3), layout="constrained").subplots()
    parts = dict.fromkeys(LAYERS, 0.0)
    assert rows(heatmap([layered(parts=parts)], ax, **MAP)) == LAYERS
