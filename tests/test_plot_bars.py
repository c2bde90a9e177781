"""Histograms, and axes on which logarithms are numbers."""

import numpy as np
import pytest
from plots import STORES
from synthetic import result

from seqlab.errors import InputError
from seqlab.figures import Request, curves, distribution, histogram, select
from seqlab.figures.bars import BINS, bars

# That some runs are drawn as one is said in a note, which has a test of its own.
pytestmark = pytest.mark.filterwarnings("ignore:runs are drawn as one:seqlab.errors.Note")

LN10 = np.log(10)


def decades(one):
    """All that a result has at its longest length, log10."""
    return one.variables["log_norm"].data[:, 0, -1] / LN10


def outlines(ax):
    return [patch.get_data() for patch in ax.patches if hasattr(patch, "get_data")]


def test_bars_are_shares_of_all_networks_and_lags():
    """Counted anew, value by value: exact, but for the last digit of a share."""
    one = result(steps=100, clip=["none"])
    [found] = bars(select([one], Request("histogram")))
    values = decades(one).ravel()
    edges = np.linspace(values.min(), values.max(), BINS + 1)
    np.testing.assert_allclose(found.edges, edges, rtol=1e-12, atol=1e-12)
    place = np.clip(np.searchsorted(found.edges, values, side="right") - 1, 0, BINS - 1)
    np.testing.assert_allclose(
        found.shares, np.bincount(place, minlength=BINS) / values.size, rtol=1e-14
    )
    assert (found.zero, found.beyond, found.count) == (0, 0, values.size)


def test_what_is_no_number_is_counted_and_stands_aside():
    """Of 4 networks and the lags of 100 steps: of one -inf from lag 50 on, of two inf and nan."""

    def spoil(log_norm, lag):
        log_norm[0, :, :, lag >= 50] = -np.inf
        log_norm[1, :, :, lag >= 50] = np.inf
        log_norm[2, :, :, lag >= 50] = np.nan

    one = result(steps=100, networks=4, edit=spoil, clip=["none"])
    lags = one.variables["lag"].data
    late = np.mean(lags >= 50)
    [found] = bars(select([one], Request("histogram")))
    assert found.zero == pytest.approx(late / 4, rel=1e-14)
    assert found.beyond == pytest.approx(2 * late / 4, rel=1e-14)
    assert found.shares.sum() == pytest.approx(1 - 3 * late / 4, rel=1e-14)
    ax = histogram([one])
    _, zero, beyond = outlines(ax)
    assert zero.edges[1] < found.edges[0]
    assert beyond.edges[0] > found.edges[-1]
    low, high = ax.get_xlim()
    assert low < zero.edges[0]
    assert high > beyond.edges[1]
    assert [text.get_text() for text in ax.texts] == ["zero", "overflow or nan"]


def test_colours_and_panels_share_their_bins():
    runs = [
        result("rnn", -0.01 * gain, steps=100, gain=gain, init=init)
        for gain in (1.0, 2.0)
        for init in ("normal", "orthogonal")
    ]
    selection = select(runs, Request("histogram", y="gain", facet="init"))
    found = bars(selection)
    assert {(one.facet, one.y) for one in found} == {
        (init, gain) for init in ("normal", "orthogonal") for gain in (1.0, 2.0)
    }
    assert all(np.array_equal(one.edges, found[0].edges) for one in found)


def test_a_number_that_a_run_has_once_is_spread_over_networks_alone():
    """log10 of the parameters' gradient is -0.7 nat of every network."""
    one = result(networks=5, clip=["none"])
    [found] = bars(select([one], Request("histogram", value="log10_param_grad_norm_before")))
    assert found.count == 5
    assert found.shares.max() == 1
    assert found.edges[0] < -0.7 / LN10 < found.edges[-1]


def test_the_data_of_a_histogram_are_its_bars(drawn):
    _, data = drawn("one", {"kind": "histogram"})
    names = ["log10_attenuation_from", "log10_attenuation_to", "share", "zero", "overflow_or_nan"]
    assert data.columns.tolist() == ["figure", "clip", "length", *names, "values"]
    for _, rule in data.groupby("clip"):
        assert len(rule) == BINS
        whole = rule["share"].sum() + rule[["zero", "overflow_or_nan"]].iloc[0].sum()
        assert whole == pytest.approx(1, rel=1e-14)


def test_a_histogram_of_numbers():
    """The largest is lag 0, exactly 1; 10 to what is under log10(1/40) is in the first bin."""
    one = result(steps=100, clip=["none"])
    ax = histogram([one], xscale="linear")
    [shown] = outlines(ax)
    assert shown.edges[-1] == 1
    values = decades(one).ravel()
    first = np.mean(values < np.log10(shown.edges[1]))
    assert shown.values[0] == pytest.approx(first, rel=1e-14)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("attenuation", "share of networks and steps")


def test_curves_and_distributions_of_numbers():
    """Ten to the median: within a few roundings of the exponential, 1e-14 at 10 nat."""
    one = result(rate=-0.1, steps=100, networks=3, clip=["none"])
    ax = curves([one], xscale="linear", yscale="linear")
    lags = one.variables["lag"].data
    line, theory = (line for line in ax.lines if len(line.get_xdata()) == lags.size)
    lag, number = line.get_data()
    np.testing.assert_allclose(number, np.exp(-0.1 * lag), rtol=1e-13)
    np.testing.assert_allclose(theory.get_ydata(), np.exp(-0.098 * lag), rtol=1e-13)
    assert ax.get_ylabel() == "attenuation"
    assert ax.get_ylim()[0] < 0 < 1 < ax.get_ylim()[1]
    page = select([one], Request("distribution")).scaled("yscale", "linear")
    assert page.runs[0].values[:, -1] == pytest.approx(10 ** decades(one)[:, -1], rel=1e-14)
    assert distribution([one]).get_ylabel() == "log10 attenuation (decades)"


def test_exact_zeros_are_the_number_zero_and_too_much_is_out_of_range():
    def spoil(log_norm, lag):
        log_norm[..., lag == 50] = -np.inf
        log_norm[..., lag == 100] = 1000.0

    one = result(steps=100, edit=spoil, lengths=[10, 50, 100], clip=["none"])
    ax = curves([one], xscale="linear", yscale="linear")
    lag, number = ax.lines[0].get_data()
    assert number[lag == 50] == 0
    assert 1 < number[lag == 100] <= ax.get_ylim()[1]


def test_a_measure_that_is_no_logarithm_has_no_choice_of_scale():
    for scale in ("log", "linear"):
        with pytest.raises(InputError, match=f"yscale: '{scale}' is not allowed; logarithms alone"):
            curves([result()], value="decay_rate", yscale=scale)


def test_activations_are_in_the_order_of_their_table():
    found = select(
        [
            result("mlp", activation=name, steps=10, networks=2)
            for name in ("sigmoid", "gelu", "leaky:0.2", "tanh", "relu", "leaky:0.1", "elu")
        ],
        Request("distribution"),
    )
    order = [run.fields["activation"] for run in found.runs]
    assert sorted(order) != order  # what is given is in no order
    from seqlab.figures.names import in_order

    assert in_order(order) == ["tanh", "relu", "sigmoid", "gelu", "leaky:0.1", "leaky:0.2", "elu:1"]


@pytest.mark.parametrize("store", STORES)
def test_every_store_has_a_histogram(store, drawn):
    page, data = drawn(store, {"kind": "histogram"})
    assert page.axes[0].get_xlabel() or page.texts
    assert data["share"].max() > 0


def test_theory_of_a_stack_is_of_its_whole_depth():
    """The mean rate over 100 layers, at the 100th alone: shallower ones have other means."""
    one = result("mlp", steps=100, clip=["none"], lengths=[10, 100])
    for x in ("lag", "length"):
        ax = curves([one], x=x)
        [theory] = [line for line in ax.lines if np.isnan(line.get_ydata()).any()]
        at, decades = (part[np.isfinite(theory.get_ydata())] for part in theory.get_data())
        assert at.tolist() == [100]
        assert decades == pytest.approx([-0.448 * 100 / LN10], rel=1e-12)
        assert theory.get_marker() == "_"


def test_a_word_among_numbers_is_told_apart_in_grey():
    runs = [
        result("resnet", -0.01 * k, steps=20, lengths=[20], alpha=alpha, clip=["none"])
        for k, alpha in enumerate((0.1, 0.5, 1.0, "sqrt"))
    ]
    ax = curves(runs, y="alpha", where={"alpha": ["0.1", "0.5", "1", "sqrt"]})
    lines = [line for line in ax.lines if len(line.get_xdata()) > 5 and line.get_zorder() == 3]
    strokes = [line.get_linestyle() for line in lines]
    assert strokes[:3] == ["-"] * 3
    assert strokes[3] != "-"
