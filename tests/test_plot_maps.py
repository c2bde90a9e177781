"""Heatmaps, looked at structurally: which cell has which colour, and what is marked."""

import numpy as np
import pytest
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from plots import clashes
from synthetic import result

from seqlab.errors import InputError
from seqlab.figures import heatmap, profile
from seqlab.figures.colors import DECADES, PALETTE, colors
from seqlab.figures.colors import ZERO as ZERO_AT
from seqlab.figures.maps import MISSING, NEVER, OVERFLOW, UNDEFINED, ZERO, written
from seqlab.figures.names import MINUS, measure

# That some runs are drawn as one is said in a note, which has a test of its own.
pytestmark = pytest.mark.filterwarnings("ignore:runs are drawn as one:seqlab.errors.Note")

LN10 = np.log(10)
LENGTHS = [10, 32, 100, 316, 1000]


def grid(rates, arch="rnn", **fields):
    """A run for each gain, of another rate."""
    fields = {"clip": ["none"], "init": "normal", "lengths": LENGTHS} | fields
    return [result(arch, rate, gain=gain, **fields) for gain, rate in rates.items()]


def cells(ax):
    """What the mesh shows, rows from the bottom of the data up."""
    [mesh] = [each for each in ax.collections if hasattr(each, "_meshWidth") or "Quad" in str(each)]
    return np.ma.filled(mesh.get_array().reshape(mesh.get_coordinates().shape[0] - 1, -1), np.nan)


def marked(ax, mark):
    """How many rectangles are hatched like a mark."""
    patches = [p for p in ax.patches if isinstance(p, PathPatch) and p.get_hatch() == mark.hatch]
    return sum(len(patch.get_path().vertices) // 5 for patch in patches)


def key(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def bar(ax):
    """The axes of the colour bar."""
    [found] = [other for other in ax.figure.axes if other is not ax]
    return found


def test_each_cell_is_a_median_in_decades():
    ax = heatmap(grid({0.5: -0.03, 1.0: -0.01, 2.0: -0.02}), x="length", y="gain")
    expected = np.outer([-0.03, -0.01, -0.02], LENGTHS) / LN10
    np.testing.assert_allclose(cells(ax), expected, rtol=1e-12)
    assert ax.get_xscale() == "log"
    assert ax.get_xlim() == pytest.approx((10 / np.sqrt(3.2), 1000 * np.sqrt(1000 / 316)))
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0.5", "1", "2"]
    assert ax.get_xlabel() == "sequence length (steps)"
    assert ax.get_ylabel() == "recurrent gain"
    assert bar(ax).get_ylabel() == "log10 attenuation (decades), linear between ticks"


def test_rows_of_names_are_read_from_the_top():
    runs = [result(arch, clip=["none"]) for arch in ("ssm", "gru", "lstm", "rnn")]
    ax = heatmap(runs)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["rnn", "lstm", "gru", "ssm"]
    assert ax.yaxis_inverted()


def test_networks_of_runs_that_no_axis_tells_apart_are_pooled():
    runs = [result(rate=-0.01 * (1 + seed), seed=seed, clip=["none"]) for seed in range(3)]
    ax = heatmap(runs, x="length", y="arch")
    assert cells(ax)[0, -1] == pytest.approx(-0.02 * 1000 / LN10)


@pytest.mark.parametrize(
    ("rates", "sides"),
    [
        ((-0.02, -0.01), (-0.02, 0)),
        ((0.02, 0.01), (0, 0.02)),
        ((-0.02, 0.02), (-0.02, 0.02)),
        ((-0.02, 0.001), (-0.02, 0.004)),  # a side reaches at least a fifth of the other
        ((-0.02, 1e-9), (-0.02, 0)),  # rounding does not explode
        ((-1e-15, 1e-15), (-1, 0)),
    ],
)
def test_colours_of_rates_end_where_values_do_and_no_rate_is_grey(rates, sides):
    runs = grid({0.5: rates[0], 2.0: rates[1]})
    ax = heatmap(runs, x="gain", y="arch", value="decay_rate")
    norm = ax.collections[0].norm
    assert (norm.vmin, norm.vmax) == pytest.approx(sides, rel=1e-6)
    assert shown(ax, 0.0) == pytest.approx(PALETTE(ZERO_AT), abs=0.01)


def shown(ax, value):
    """The colour of a value."""
    mesh = ax.collections[0]
    return mesh.cmap(mesh.norm(value))


@pytest.mark.parametrize("rates", [(-0.9, -0.01), (-1e-4, -2e-4), (-0.02, 0.02), (0.9, 0.01)])
def test_decades_have_the_same_colours_in_every_figure(rates):
    ax = heatmap(grid({0.5: rates[0], 2.0: rates[1]}), x="gain", y="arch")
    for decades, place in ((-45, 0.0), (-25.5, 0.1), (-6, 0.2), (-3, 0.45), (0, ZERO_AT)):
        assert shown(ax, decades) == pytest.approx(PALETTE(place), abs=0.01)
    explodes = max(rates) > 0
    if explodes:
        assert shown(ax, 6) == pytest.approx(PALETTE(0.85), abs=0.01)
        assert shown(ax, 39) == pytest.approx(PALETTE(1.0), abs=0.01)
    ticks = [text.get_text().replace(MINUS, "-") for text in bar(ax).get_yticklabels()]
    assert ticks == ["-45", "-6", "-3", "0", *(["6", "39"] if explodes else [])]


def test_the_first_six_decades_have_half_of_the_scale():
    places = list(DECADES.values())
    assert np.diff(places).max() == DECADES[0.0] - DECADES[-6.0] == pytest.approx(0.5)


def test_more_is_lighter_in_grey_at_every_step_of_the_palette():
    """Relative luminance, as WCAG 2 has it from sRGB."""
    rgb = PALETTE(np.linspace(0, 1, PALETTE.N))[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > 0).all()
    assert luminance[0] < 0.01
    assert luminance[-1] > 0.8


def test_a_range_of_ones_own_is_linear():
    scale = colors(np.array([-300.0, 10.0]), measure("log10_attenuation"), (-100.0, 50.0))
    places = np.asarray(scale.norm(np.array([-100, -50, 0, 25, 50])))
    np.testing.assert_allclose(places, [0, 0.35, 0.7, 0.85, 1], rtol=1e-12)
    assert scale.extend == "min"
    assert scale.note == ""


def test_lags_have_log_colours_and_never_is_marked():
    runs = grid({0.5: -0.05, 1.0: -0.01, 2.0: 0.01})
    ax = heatmap(runs, x="gain", y="arch", value="horizon_1e-3")
    assert isinstance(ax.collections[0].norm, LogNorm)
    assert cells(ax)[0, :2] == pytest.approx([139, 691])
    assert marked(ax, NEVER) == 1
    assert key(ax) == ["never"]


def test_zero_in_float32_is_hatched_where_the_median_is_below():
    ax = heatmap(grid({0.5: -0.9, 1.0: -0.2, 2.0: -0.01}), x="length", y="gain")
    below = cells(ax) <= -149 * np.log10(2)
    assert below.sum(axis=1).tolist() == [2, 1, 0]
    assert marked(ax, ZERO) == 2  # neighbours in a row together
    assert "exactly zero in float32" in key(ax)


def spoilt(value, length):
    """Runs of two gains, the curves of the first spoilt for one length."""

    def edit(log_norm, lag):
        log_norm[:, :, LENGTHS.index(length)] = value

    fields = {"arch": "rnn", "init": "normal", "clip": ["none"], "lengths": LENGTHS}
    return [
        result(rate=-0.01, gain=0.5, edit=edit, **fields),
        result(rate=-0.01, gain=1.0, **fields),
    ]


@pytest.mark.parametrize(
    ("value", "mark", "label"),
    [
        (np.nan, UNDEFINED, "nan"),
        (np.inf, OVERFLOW, "overflow"),
        (-np.inf, ZERO, "exactly zero in float32"),
    ],
)
def test_what_no_colour_shows_is_marked_apart(value, mark, label):
    ax = heatmap(spoilt(value, 100), x="length", y="gain")
    assert marked(ax, mark) == 1
    assert label in key(ax)
    assert len({m.hatch + m.ink for m in (UNDEFINED, OVERFLOW, ZERO, NEVER, MISSING)}) == 5


def test_a_missing_run_is_seen():
    runs = [
        result(rate=-0.01, gain=gain, init=init, arch="rnn", clip=["none"])
        for gain in (0.5, 1.0, 2.0)
        for init in ("normal", "orthogonal")
    ]
    ax = heatmap(runs[:3] + runs[4:], x="gain", y="init")
    assert marked(ax, MISSING) == 1
    assert key(ax) == ["not measured"]
    assert np.isnan(cells(ax)).sum() == 1


def test_runs_measured_at_other_lengths_leave_no_holes_but_end_where_they_end():
    short = result("rnn", -0.01, steps=100, clip=["none"], lengths=[10, 50, 100])
    long = result("lstm", -0.02, clip=["none"], lengths=[20, 200, 1000])
    ax = heatmap([short, long], x="length", y="arch")
    rnn, lstm = cells(ax)
    assert np.isfinite(rnn).tolist() == [True] * 4 + [False] * 2
    assert np.isfinite(lstm).tolist() == [False] + [True] * 5
    assert marked(ax, MISSING) == 2


def test_the_horizon_crosses_each_row():
    ax = heatmap(grid({0.5: -0.05, 1.0: -0.01, 2.0: 0.01}), x="length", y="gain")
    [line] = ax.lines
    x, y = line.get_data()
    np.testing.assert_array_equal(x[:2], [139, 139])
    np.testing.assert_array_equal(x[3:5], [691, 691])
    assert np.isnan(x[6:]).all()  # it never comes
    np.testing.assert_array_equal(y[:2], [-0.5, 0.5])
    assert key(ax)[-1] == "horizon: median under 1e-3"


@pytest.mark.parametrize("axes", [("length", "gain"), ("gain", "length"), ("lag", "gain")])
def test_the_horizon_stands_across_whichever_axis_counts_steps(axes):
    ax = heatmap(grid({0.5: -0.05, 1.0: -0.01}), x=axes[0], y=axes[1])
    along = ax.lines[0].get_data()[axes.index("gain") - 1]
    assert np.nanmin(along) == 139


def test_a_listed_length_has_the_horizon_between_its_neighbours():
    runs = grid({0.5: -0.05, 1.0: -0.01}, lengths=[10, 100, 1000])
    ax = heatmap(runs, x="length", y="gain")
    assert ax.get_xscale() == "linear"
    assert ax.lines[0].get_xdata()[0] == pytest.approx(1 + np.log10(1.39))


def test_contours_on_request():
    runs = grid({0.5: -0.05, 1.0: -0.03, 2.0: -0.01})
    ax = heatmap(runs, x="length", y="gain", contours=True)
    assert key(ax)[-2:] == ["1e-6 is left", "1e-3 is left"]
    [drawn] = [each for each in ax.collections if hasattr(each, "levels")]
    assert drawn.levels.tolist() == [-6, -3]
    x, y = drawn.get_paths()[1].vertices.T
    assert np.interp(1.0, y, x) == pytest.approx(230, rel=0.05)  # 3 ln 10 / 0.03
    with pytest.raises(InputError, match="contours: they need decades over two axes of numbers"):
        heatmap([*runs, result("gru", clip=["none"])], x="length", y="arch", contours=True)


def test_a_profile_is_a_triangle_with_the_horizon():
    ax = profile([result(rate=-0.05)])
    values = cells(ax)
    lags = ax.collections[0].get_coordinates()[0, :, 0]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert np.isfinite(values[-1]).all()
    assert np.isfinite(values).sum(axis=1).tolist() == sorted(np.isfinite(values).sum(axis=1))
    assert np.isfinite(values[0]).sum() == np.sum(lags[1:] < 12)  # the shortest length: 10
    assert marked(ax, MISSING) == marked(ax, UNDEFINED) == 0  # what lies past a length is not
    x = ax.lines[0].get_xdata()
    assert np.nanmin(x) == pytest.approx(139, rel=0.2)


def test_a_profile_of_several_runs_says_how_to_choose():
    runs = [result(seed=seed) for seed in (3, 4)]
    with pytest.raises(InputError) as refusal:
        profile(runs)
    assert str(refusal.value) == (
        "profile: a panel shows one run, and 2 match; they differ in seed: choose with "
        "--where seed=3"
    )
    profile(runs, where={"seed": ["4"]})


def test_many_cells_are_one_picture_in_a_pdf():
    few, many = (
        heatmap([result(rate=-0.01, lengths=f"10:1000:{n}")], x="lag", y="length") for n in (3, 60)
    )
    assert not few.collections[0].get_rasterized()
    assert many.collections[0].get_rasterized()


def test_ones_own_axes_are_used():
    left, right = Figure(layout="constrained").subplots(1, 2)
    assert heatmap([result()], ax=right) is right
    assert not left.collections


# Numbers in cells.


def test_values_are_written_where_they_are_and_can_be_read(drawn):
    """Ink and cell: luma apart by half the range at least, black or white on any colour."""
    asked = {"x": "init", "y": "gain", "value": "decay_rate", "where": {"activation": ["tanh"]}}
    page, data = drawn("gains", asked, numbers=True)
    ax = page.axes[0]
    inits = [label.get_text() for label in ax.get_xticklabels()]
    gains = [float(label.get_text()) for label in ax.get_yticklabels()]
    found = {
        (inits[int(t.get_position()[0])], gains[int(t.get_position()[1])]): t for t in ax.texts
    }
    assert len(found) == len(data)
    [mesh] = (one for one in ax.collections if one.get_array() is not None)
    for _, row in data.iterrows():
        text = found[row["init"], row["gain"]]
        assert text.get_text() == written(row["decay_rate"])
        luma = np.dot(mesh.cmap(mesh.norm(row["decay_rate"]))[:3], (0.299, 0.587, 0.114))
        assert abs(luma - {"white": 1, "black": 0}[text.get_color()]) >= 0.5
    assert clashes(page) == []


def test_how_a_value_is_written():
    values = (-2681.4, -42.68, 1.04, 0.144, 0.2, -0.0253, 3e-17, -0.0, np.inf, -np.inf, np.nan)
    shown = [written(value) for value in values]
    minus = "\N{MINUS SIGN}"
    assert shown == [
        f"{minus}2681",
        f"{minus}42.7",
        "1.04",
        "0.14",
        "0.20",
        f"{minus}0.025",
        "0",
        "0",
        "",
        "",
        "",
    ]


def test_numbers_need_cells_that_are_large_enough():
    runs = [result("rnn", -0.1 * k, init="normal", gain=float(k)) for k in range(1, 12)]
    ax = heatmap(runs, x="init", y="gain", value="decay_rate", numbers=True)
    assert len(ax.texts) == 11
    with pytest.raises(InputError, match="numbers: 1 x 11 cells are too small for them"):
        heatmap(runs, x="gain", y="init", value="decay_rate", numbers=True)
