"""Decay curves, looked at structurally: what is drawn where, and what the files hold."""

import subprocess
import sys
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from seqlab.errors import InputError
from seqlab.figures import Request, check_path, curves, dots, figure, plot, plot_results
from seqlab.figures.labels import Label, fit, spacing, write
from seqlab.figures.scales import mark, measuring
from seqlab.figures.style import deep, pale
from seqlab.numbers.variables import Variable
from seqlab.spec.run import RunSpec

LN10 = np.log(10)


def result(arch="lstm", rates=(-0.45, -0.45), theory=-0.44, networks=5, steps=1000, edit=None):
    """A result whose curves fall by `rates` (nat/step), one a rule, networks 1% apart."""
    lag = np.unique(np.rint(np.geomspace(1, steps, 60)).astype(int))
    lag = np.concatenate([[0], lag])
    spread = 1 + 0.01 * np.linspace(-1, 1, networks) if networks > 1 else np.ones(1)
    log_norm = np.full((networks, len(rates), 2, lag.size), np.nan)
    log_norm[:, :, 1] = spread[:, None, None] * np.array(rates)[:, None] * lag
    log_norm[:, :, 0] = np.where(lag <= 10, log_norm[:, :, 1], np.nan)
    if edit is not None:
        edit(log_norm[:, :, 1], lag)
    rules = np.array(["none", "step-norm:1", "truncate:100"][: len(rates)])
    variables = {
        "log_norm": Variable(("network", "rule", "length", "lag"), log_norm, "nat", "norm"),
        "lag": Variable(("lag",), lag, "step", "lag"),
        "length": Variable(("length",), np.array([10, steps]), "step", "length"),
        "rule": Variable(("rule",), rules, "1", "clip rule"),
        "underflow": Variable(
            ("network", "rule", "length"), np.zeros((networks, len(rates), 2)), "1", "lost"
        ),
        "theory": Variable((), np.array(theory), "nat/step", "predicted rate"),
        "threshold": Variable(("threshold",), np.array([1e-3]), "1", "threshold"),
        "horizon": Variable(("rule", "threshold"), np.full((len(rates), 1), -1), "step", "lag"),
    }
    spec = RunSpec.create(arch="lstm", steps=steps, networks=networks)
    named = SimpleNamespace(**vars(spec) | {"arch": arch})  # there may be more cells than there are
    return SimpleNamespace(spec=named, variables=variables)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def data_lines(ax):
    """The medians: lines in data coordinates that are neither theory nor a zero level."""
    lines = [line for line in ax.lines if line.get_transform() == ax.transData]
    plain = [line for line in lines if not line.is_dashed() or line.get_linewidth() > 1]
    return [line for line in plain if len(set(to_rgb(line.get_color()))) > 1]


@pytest.mark.parametrize(("share", "most"), [("zero_share", 0.2), ("underflow_share", 0.4)])
def test_zeros_and_what_is_under_the_range_are_told_apart(share, most):
    """From lag 500 on three of five networks are -inf, two of them for want of range."""

    def lose(log_norm, lag):
        log_norm[:3, :, lag >= 500] = -np.inf

    one = result(rates=(-0.45,), edit=lose)
    one.variables["underflow"].data[:2] = 1
    [line] = data_lines(curves([one], value=share, xscale="linear"))
    lag, shares = line.get_data()
    assert np.array_equal(shares, np.where(lag >= 500, most, 0))


def test_medians_quartiles_and_theory_in_decades():
    ax = curves([result(rates=(-0.45,))], xscale="linear")
    [line] = data_lines(ax)
    lag, decades = line.get_data()
    np.testing.assert_allclose(decades, -0.45 * lag / LN10, atol=1e-9)
    [band] = ax.collections
    low, high = band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()
    assert (low, high) == pytest.approx((-0.45 * 1.005 * 1000 / LN10, 0.0), abs=1e-9)
    [theory] = [line for line in ax.lines if line.is_dashed()]
    np.testing.assert_allclose(theory.get_ydata(), -0.44 * lag / LN10, atol=1e-9)
    assert ax.get_xlim() == (0, 1000)
    assert "decades" in ax.get_ylabel()
    assert "steps" in ax.get_xlabel()


def test_the_longest_length_is_drawn_without_what_lies_past_it():
    drawn = result(steps=100)
    drawn.variables["length"].data[:] = 10, 50
    ax = curves([drawn])
    assert ax.get_xlim() == (1, 50)
    assert np.isfinite(data_lines(ax)[0].get_ydata()).all()


def test_rules_that_do_the_same_are_drawn_once_and_named_together():
    ax = curves([result(rates=(-0.1, -0.1, -0.2))], xscale="linear")
    assert len(data_lines(ax)) == 2
    named = {text for text in texts(ax) if "lstm" in text}
    assert named == {"lstm, none = step-norm:1", "lstm, truncate:100"}
    nearly = (1 + 1e-12) * -0.1  # another order of rounding
    assert len(data_lines(curves([result(rates=(-0.1, nearly))]))) == 1
    assert len(data_lines(curves([result(rates=(-0.1, -0.1001))]))) == 2


def test_rules_that_do_the_same_in_one_cell_alone_stay_apart_and_visible():
    ax = curves([result("rnn", (-0.1, -0.1)), result("ssm", (0.1, 0.0))])
    first, second = data_lines(ax)[:2]
    np.testing.assert_array_equal(first.get_ydata(), second.get_ydata())
    assert first.get_linewidth() > 2 * second.get_linewidth()
    assert to_rgb(first.get_color()) != to_rgb(second.get_color())
    assert ax.lines.index(first) < ax.lines.index(second)
    assert len(ax.collections) == 3  # one band: twice the same would only be darker


def test_direct_labels_name_the_curves_in_their_colours_without_overlap():
    ax = curves([result(rates=(-0.45, -0.4501, -0.1))], xscale="linear")
    names = ["lstm, none", "lstm, step-norm:1", "lstm, truncate:100"]
    assert texts(ax)[-3:] == ["lstm, step-norm:1", "lstm, none", "lstm, truncate:100"]
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(ax.figure.bbox.containsx(box.x1) for box in boxes)
    by_name = {text.get_text(): text.get_color() for text in ax.texts}
    first, *others = [to_rgb(line.get_color()) for line in data_lines(ax)]
    assert pale(by_name[names[0]]) == pytest.approx(first)
    assert [by_name[name] for name in names[1:]] == others


def test_long_names_have_two_lines_that_keep_a_field_with_its_value():
    ax = curves([result()])
    names = [
        "sigmoid, depth 5, momentum, lr 0.1",
        "he",
        "leaky:0.25, depth 20, rate 0.0003",
        "relu",
    ]
    named = [Label(-100 - k / 10, name, (0, 0, 0)) for k, name in enumerate(names)]
    for old in list(ax.texts):
        old.remove()
    write(named, ax)
    ax.figure.draw_without_rendering()
    assert {text.replace("\n", " ") for text in texts(ax)} == {*names}
    long = [text for text in texts(ax) if "\n" in text]
    assert len(long) == 2
    for one, other in (text.split("\n") for text in long):
        assert one.endswith(",")
        assert len(one) < 2 * len(other) < 4 * len(one)
    uneven = Label(0, "order inside, alpha sqrt, relu, he", (0, 0, 0))
    assert uneven.lines == ["order inside,", "alpha sqrt, relu, he"]
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert [box.y0 for box in boxes] == sorted(box.y0 for box in boxes)
    most = int(0.9 * np.ptp(ax.get_ylim()) / spacing(ax))
    assert fit(most * named[1:2], ax)
    assert not fit(most * named[:1], ax)


def test_lags_are_counted_in_whole_numbers():
    ax = curves([result(steps=3)], xscale="linear")
    ticks = [tick for tick in ax.get_xticks() if 0 <= tick <= 3]
    assert ticks == [0, 1, 2, 3]


def test_a_logarithmic_axis_of_a_few_values_has_them_as_ticks():
    ax = Figure(figsize=(4, 2)).subplots()
    mark(ax, "x", measuring("hidden", [10, 30, 100, 300, 1000]))
    assert [text.get_text() for text in ax.get_xticklabels()] == ["10", "30", "100", "300", "1000"]


def test_on_a_logarithmic_axis_nothing_comes_from_lag_0():
    def edit(log_norm, lag):  # as of a probe that looks at every tenth step
        log_norm[..., (lag > 0) & (lag < 10)] = np.nan

    ax = curves([result(edit=edit)], xscale="log")
    for line in data_lines(ax):
        x = np.asarray(line.get_xdata(), float)[np.isfinite(line.get_ydata())]
        assert np.nanmin(x) >= 10


def test_cells_are_told_apart_by_colour_and_rules_by_stroke():
    cells = ["rnn", "lstm", "gru", "ssm"]
    rates = [-0.5, -0.4, -0.3, -0.01]
    ax = curves([result(a, (r, r), r) for a, r in zip(cells, rates, strict=True)])
    assert sorted(text for text in texts(ax) if "float" not in text) == sorted(cells)
    assert len({to_rgb(line.get_color()) for line in data_lines(ax)}) == 4
    assert key(ax) == ["clip none = step-norm:1", "quartiles of 5 networks", "theory"]
    # The theory of a cell is a darker dash of its colour.
    dashes = [line for line in ax.lines if line.is_dashed()]
    for line, dash in zip(data_lines(ax), dashes, strict=True):
        assert deep(to_rgb(line.get_color())) == pytest.approx(to_rgb(dash.get_color()))


def test_cells_without_theory_beside_others_are_named():
    runs = [result("rnn", (-0.1,)), result("gru", (-0.2,), np.nan), result("ssm", (-0.3,), np.nan)]
    assert "theory (none for gru, ssm)" in key(curves(runs))
    assert not any("theory" in text for text in key(curves(runs[1:])))


def key(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_no_two_labels_say_the_same():
    ax = curves([result("rnn", (0.05, 0.0)), result("ssm", (-0.02, -0.02), np.nan)])
    assert sorted(texts(ax)) == ["rnn, none", "rnn, step-norm:1", "ssm"]


def test_curves_that_end_beyond_a_range_of_ones_own_are_named_in_the_key(drawn):
    page, _ = drawn("cells", {"kind": "curves"}, value_range=(-5, 1))
    assert not {"rnn", "lstm", "gru", "ssm"} & {text.get_text() for text in page.axes[-1].texts}
    [legend] = page.legends
    assert {"rnn", "lstm", "gru", "ssm"} <= {text.get_text() for text in legend.get_texts()}


def test_what_matters_first_has_a_window_beside_the_whole(drawn):
    page, _ = drawn("cells", {"kind": "curves"})
    near, whole = page.axes
    assert near.get_xscale() == "log"
    bottom, top = near.get_ylim()
    assert bottom == pytest.approx(-12.48)
    assert 0 < top < 1
    assert whole.get_ylim()[0] < -500 / LN10
    page, _ = drawn("one length", {"kind": "curves"})  # 11 decades: there is no more to see
    assert page.axes[0].get_ylim() == page.axes[1].get_ylim()


def test_the_one_number_of_a_theory_is_cut_where_a_window_does_not_reach(monkeypatch):
    kept = []
    monkeypatch.setattr(figure, "save", lambda *parts: kept.append(parts[0]))
    plot([result("mlp", (-0.45,), steps=100)], "a.pdf", Request("curves"))
    near, whole = ([line for line in ax.lines if line.get_marker() == "_"] for ax in kept[0].axes)
    assert [line.get_clip_on() for line in (*near, *whole)] == [True, False]


def test_dots_stand_in_no_order():
    """Sorted side by side they would look like a trend; networks are alike, whatever they have."""
    values = np.random.default_rng(0).uniform(-1, -0.99, 64)
    ax = Figure().subplots()
    ax.set_ylim(-40, 0)
    dots._dots(ax, 0.0, values, 1.0, (0.0, 0.0, 0.0))
    x, y = ax.lines[0].get_data()
    assert sorted(y) == sorted(values)
    assert len(set(x)) == 64  # all in one row
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.3  # of 64 at random: 0.12 by standard deviation


def test_what_finds_no_room_beside_the_curves_goes_to_a_legend():
    ax = Figure(figsize=(3, 1)).subplots()
    curves([result(f"cell{i:02}", (-0.1 - i / 50,), np.nan) for i in range(12)], ax=ax)
    assert not any("cell" in text for text in texts(ax))
    key = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [text for text in key if "cell" in text] == [f"cell{i:02}" for i in range(12)]


def test_more_colours_than_can_be_told_apart_are_refused():
    with pytest.raises(InputError, match="y: arch has 13 values; 12 is the most"):
        curves([result(f"cell{i}") for i in range(13)], y="arch")


@pytest.mark.parametrize(
    ("rate", "named"),
    [(-0.05, []), (-0.45, ["float32"]), (-2.0, ["float32", "float64"]), (2.0, [])],
)
@pytest.mark.parametrize("xscale", ["log", "linear"])
def test_levels_below_which_floats_are_zero(rate, named, xscale):
    ax = curves([result(rates=(rate,), theory=np.nan)], xscale=xscale)
    key = [] if ax.get_legend() is None else ax.get_legend().get_texts()
    written = [*texts(ax), *(text.get_text() for text in key)]
    assert [text.split()[0] for text in written if "zero below" in text] == named
    levels = [line.get_ydata()[0] for line in ax.lines if line not in data_lines(ax)]
    expected = {"float32": -149 * np.log10(2), "float64": -1074 * np.log10(2)}
    assert [level for level in levels if level < -1][: len(named)] == [expected[n] for n in named]


def test_exact_zeros_run_along_the_lower_edge():
    def cut(log_norm, lag):
        log_norm[:, 2, lag > 100] = -np.inf

    ax = curves([result(rates=(-0.01,) * 3, edit=cut)])
    line = data_lines(ax)[1]
    lag, decades = line.get_data()
    bottom = ax.get_ylim()[0]
    finite = data_lines(ax)[0].get_ydata().min()
    assert np.all(decades[lag > 100] < finite)
    assert np.all(decades[lag > 100] > bottom)
    np.testing.assert_allclose(decades[lag <= 100], -0.01 * lag[lag <= 100] / LN10, atol=1e-9)
    assert "lstm, truncate:100 (zero)" in texts(ax)


def test_a_quartile_of_zeros_reaches_down_and_hides_no_median():
    def cut(log_norm, lag):
        log_norm[:2, :, lag > 100] = -np.inf

    ax = curves([result(rates=(-0.01,), edit=cut)])
    lag, decades = data_lines(ax)[0].get_data()
    np.testing.assert_allclose(decades[-1], -0.01 * 1.01 * lag[-1] / LN10)
    bottom, top = ax.get_ylim()
    lowest = ax.collections[0].get_paths()[0].vertices[:, 1].min()
    assert bottom < lowest < bottom + 0.02 * (top - bottom)


def test_overflow_and_nan_are_named():
    def spoil(log_norm, lag):
        log_norm[:, 0, lag > 100] = np.inf
        log_norm[:, 1] = np.nan

    assert {"lstm, none (overflow)", "lstm, step-norm:1 (nan)"} <= set(
        texts(curves([result(rates=(0.1, 0.1), edit=spoil)]))
    )


def test_one_network_has_no_quartiles_to_explain():
    ax = curves([result(networks=1, theory=np.nan)])
    assert ax.get_legend() is None


def test_ones_own_axes_and_settings_are_kept():
    before = dict(mpl.rcParams)
    figure = Figure()
    ax = figure.subplots()
    assert curves([result()], ax=ax) is ax
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("suffix", [".pdf", ".svg", ".png"])
@pytest.mark.parametrize("steps", [pytest.param(1, marks=pytest.mark.slow), 1000])
def test_files_are_the_same_bytes_each_time(tmp_path, suffix, steps):
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        plot_results([result(steps=steps)], path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].stat().st_size > 5000


def test_pdf_embeds_its_fonts_at_the_printed_size(tmp_path):
    plot_results([result()], tmp_path / "a.pdf")
    content = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert b"/MediaBox [ 0 0 504 " in content  # 7 inches
    assert b"CreationDate" not in content


def test_no_text_is_under_7_points():
    ax = curves([result()])
    ax.figure.draw_without_rendering()
    assert min(text.get_fontsize() for text in ax.findobj(mpl.text.Text)) >= 7


def test_what_cannot_be_plotted_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"plot: 'fig\.gif'.*\.pdf, \.svg, \.png"):
        check_path("fig.gif")
    with pytest.raises(InputError, match="plot: there is no result"):
        plot_results([], tmp_path / "a.pdf")
    with pytest.raises(InputError):
        plot_results([result()], tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_figures_do_not_load_numba():
    code = "import sys, seqlab.figures; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
